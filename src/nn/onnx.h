/*
 * ONNX files into graphs. The only part that knows protobuf.
 */
#ifndef MYR_NN_ONNX_H
#define MYR_NN_ONNX_H

#include "nn/graph.h"

/*
 * myr_onnx_read - a model file as a graph, checked: every operator, attribute and type is supported, every value is
 * made before it is used and once.
 *
 *  producer  [out, owned by caller]  "" where the file names none
 *
 * Shapes of inputs and outputs are as declared, -1 where open; is_shaped is not set.
 */
myr_status myr_onnx_read(const char *path, myr_graph **graph, char **producer);

/* myr_onnx_read_tensor - a single tensor from a file (TensorProto), as ONNX's own test data has them. */
myr_status myr_onnx_read_tensor(const char *path, myr_tensor **tensor);

#endif
