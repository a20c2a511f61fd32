/*
 * Tensors of ONNX files: in the file itself, or in one beside it.
 */
#ifndef MYR_NN_ONNX_TENSOR_H
#define MYR_NN_ONNX_TENSOR_H

#include "base/checksum.h"
#include "nn/tensor.h"
#include "onnx.pb-c.h"

/* Where the bytes of a model come from. */
typedef struct myr_onnx_origin {
    const char *path;     /* of the file, or a name for messages */
    bool is_file;         /* false: from memory, so that no file is beside it */
    myr_sha256 *external; /* [owned] over the tensors read from other files; NULL while there is none */
} myr_onnx_origin;

/*
 * myr_onnx_take_tensor - a tensor with its elements widened.
 *
 *  tensor   [out, owned by caller]  NULL, with a sentence in *problem, where the tensor is of a kind not supported
 *  problem  [out]                   static text, or NULL
 *
 * Data in another file (data_location = EXTERNAL) is read from the model's own folder or below, by a relative path
 * that does not leave it, also not through a link.
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT | MYR_ERR_NOT_FOUND (no such file) | MYR_ERR_IO | MYR_ERR_NOMEM; names the tensor
 */
myr_status myr_onnx_take_tensor(myr_onnx_origin *origin, const Onnx__TensorProto *from, myr_tensor **tensor,
                                const char **problem);

#endif
