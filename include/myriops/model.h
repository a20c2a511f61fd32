/*
 * Networks: an ONNX file, compiled for a batch, run by threads.
 *
 * A model is what the file says. A network is the model made ready for one
 * backend and batch size: constants folded, layers fused, memory laid out. A session is one
 * thread's memory for running it.
 */
#ifndef MYRIOPS_MODEL_H
#define MYRIOPS_MODEL_H

#include "myriops/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MYR_TENSOR_MAX_RANK 8

/* An input or output as the file declares it. */
typedef struct myr_tensor_info {
    const char *name; /* [borrowed] from the model */
    int rank;
    int64_t dims[MYR_TENSOR_MAX_RANK]; /* -1 = named or not given, such as the batch */
} myr_tensor_info;

/* What the layers of a network are computed in. Inputs and outputs are always f32. */
typedef enum myr_precision {
    MYR_PRECISION_F32,
    MYR_PRECISION_BF16, /* values of 16 bits, sums of 32 */
    MYR_PRECISION_INT8  /* values of 8 bits, sums of 32; layers that lose too much stay wider */
} myr_precision;

/* "f32" | "bf16" | "int8" */
MYR_API const char *myr_precision_name(myr_precision precision);

typedef struct myr_model myr_model;
typedef struct myr_calibration myr_calibration; /* see calibration.h */
typedef struct myr_network myr_network;
typedef struct myr_session myr_session;

/*
 * myr_model_load - read an ONNX file.
 *
 * Local. Reads the file whole (at most 2 GiB, protobuf's limit). Weights may stand in other files (external data)
 * in its folder or below; a path that leaves the folder, also through a link, is refused. Floats of 16 and 64 bits
 * are widened or rounded to f32, and graphs that compute in them are computed in f32.
 *
 *  model  [out, owned]  release with myr_model_free
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND | MYR_ERR_IO | MYR_ERR_FORMAT (damaged) | MYR_ERR_UNSUPPORTED (names every
 *           operator, attribute and element type that is not supported, at once) | MYR_ERR_LIMIT (nested too deep)
 *           | MYR_ERR_NOMEM
 * Source:   ONNX IR specification, version 3 to 10; operator sets 1 to 21 of the default domain.
 */
MYR_API myr_status myr_model_load(const char *path, myr_model **model);
MYR_API void myr_model_free(myr_model *model); /* NULL is fine */

/*
 * myr_model_load_weights - the weights of a model whose ONNX file holds the graph only, from a safetensors file.
 *
 * Local. Inputs of the model with the name of a tensor in the file become constants; tensors of other names are
 * checked, not read. May be called once more for a second file. On error the model is as it was.
 *
 *  path  a .safetensors file: F32, F16, BF16, F64 for inputs of floats; I64, I32, BOOL for those of whole numbers
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND (no such file; no tensor with the name of an input) | MYR_ERR_IO
 *           | MYR_ERR_FORMAT (damaged: overlapping, out of range, wrong size, twice the same name; a shape other than
 *           the input's; no input left for the picture) | MYR_ERR_UNSUPPORTED (element type) | MYR_ERR_LIMIT (header
 *           over 100 MB) | MYR_ERR_NOMEM
 * Threads:  not while another thread uses the model; networks made before keep what they had.
 * Source:   huggingface.co/docs/safetensors, "Format".
 */
MYR_API myr_status myr_model_load_weights(myr_model *model, const char *path);

/*
 * myr_model_set_size - say height and width of the picture inputs that the file leaves open.
 *
 * Those that the file gives stay. Before networks are made of the model.
 *
 * Returns:  MYR_OK | MYR_ERR_ARG (size < 1)
 */
MYR_API myr_status myr_model_set_size(myr_model *model, int size);

MYR_API size_t myr_model_n_inputs(const myr_model *model); /* weights are no inputs */
MYR_API size_t myr_model_n_outputs(const myr_model *model);
MYR_API const myr_tensor_info *myr_model_input(const myr_model *model, size_t i);  /* NULL out of range */
MYR_API const myr_tensor_info *myr_model_output(const myr_model *model, size_t i); /* NULL out of range */
MYR_API int64_t myr_model_opset(const myr_model *model);
MYR_API const char *myr_model_producer(const myr_model *model); /* "" where the file names none */
/* 64 hex digits over the weights that an ONNX file keeps in other files; "" where it keeps none there. [borrowed] */
MYR_API const char *myr_model_external_sha256(const myr_model *model);
MYR_API uint64_t myr_model_n_parameters(const myr_model *model);
/* Multiply-adds of one picture, times two; 0 where a shape is not known. */
MYR_API uint64_t myr_model_flops(const myr_model *model);
/* Operators by name, sorted: the i-th name and how often it occurs; NULL out of range. */
MYR_API const char *myr_model_operator(const myr_model *model, size_t i, size_t *n);

/* Names of the backends built in, the fastest first; NULL ends. */
MYR_API const char *const *myr_backend_names(void);
/* What a backend (NULL = the first) computes in on this processor where `asked` is asked for: that, or wider. */
MYR_API myr_precision myr_backend_precision(const char *name, myr_precision asked);

typedef struct myr_network_options {
    const char *backend; /* one of myr_backend_names, NULL = the first */
    int batch;           /* pictures a run; 0 = 1 */
    myr_precision precision;
    const myr_calibration *calibration; /* [borrowed] needed for INT8; may be freed once the network is made */
} myr_network_options;

/*
 * myr_network_create - compile a model.
 *
 * Local. The model may be freed afterwards.
 *
 *  options    [in]  zeros = the fastest backend, one picture a run, f32
 *  outputs    [in]  n_outputs names of outputs or inner tensors; the rest of the graph is dropped
 *  network    [out, owned]
 *
 * Returns:  MYR_OK | MYR_ERR_ARG (no such backend; INT8 without a calibration)
 *           | MYR_ERR_NOT_FOUND (no such output; lists them)
 *           | MYR_ERR_UNSUPPORTED | MYR_ERR_FORMAT (shapes that do not fit; a weight of a convolution, product or
 *           normalisation that is NaN or infinite) | MYR_ERR_LIMIT | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_network_create(const myr_model *model, const myr_network_options *options,
                                      const char *const *outputs, size_t n_outputs, myr_network **network);
MYR_API void myr_network_free(myr_network *network); /* after its sessions */
MYR_API const char *myr_network_backend(const myr_network *network);
/* The one asked for, or the next wider one that backend and processor have. */
MYR_API myr_precision myr_network_precision(const myr_network *network);
MYR_API size_t myr_network_n_nodes(const myr_network *network);     /* after fusing */
MYR_API size_t myr_network_arena_bytes(const myr_network *network); /* memory of one session */
/* Weights as the steps read them, once for all sessions. */
MYR_API size_t myr_network_weight_bytes(const myr_network *network);

/* myr_session_create - one thread's memory. Any number of sessions run at once, each on one core. */
MYR_API myr_status myr_session_create(const myr_network *network, myr_session **session);
MYR_API void myr_session_free(myr_session *session); /* NULL is fine */

/* The input to fill before each run: (batch, ...) f32 as the model declares. [borrowed] */
MYR_API float *myr_session_input(myr_session *session);

/* myr_session_run - all outputs from the input. A slot's result does not depend on the other slots. */
MYR_API myr_status myr_session_run(myr_session *session);

/* The i-th output asked for: (batch, n_per_image) f32, valid until the next run; its length is known before the first.
 * [borrowed] NULL out of range. */
MYR_API const float *myr_session_output(const myr_session *session, size_t i, size_t *n_per_image);

#ifdef __cplusplus
}
#endif
#endif
