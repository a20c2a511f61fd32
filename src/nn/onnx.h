/*
 * ONNX files into graphs. The only part that knows protobuf.
 */
#ifndef MYR_NN_ONNX_H
#define MYR_NN_ONNX_H

#include "nn/graph.h"

/*
 * myr_onnx_read - a model file as a graph, checked: every operator, attribute and type is supported, every value is
 * made once and, the nodes put into order, before it is used.
 *
 *  producer  [out, owned by caller]  "" where the file names none
 *
 * Floats of any width are f32 in the graph. Weights kept in other files are read from the folder of this one.
 * Shapes of inputs and outputs are as declared, -1 where open; is_shaped is not set.
 */
myr_status myr_onnx_read(const char *path, myr_graph **graph, char **producer);

/* myr_onnx_parse - the same from memory; name is for messages. Weights in other files are refused. */
myr_status myr_onnx_parse(const char *name, const void *bytes, size_t n_bytes, myr_graph **graph, char **producer);

/* myr_onnx_read_tensor - a single tensor from a file (TensorProto), as ONNX's own test data has them. */
myr_status myr_onnx_read_tensor(const char *path, myr_tensor **tensor);

#endif
