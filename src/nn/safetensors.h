/*
 * Weights in the safetensors format, for graphs whose file holds none.
 */
#ifndef MYR_NN_SAFETENSORS_H
#define MYR_NN_SAFETENSORS_H

#include "nn/graph.h"

/*
 * myr_safetensors_load - inputs of the graph that have the name of a tensor in the file become constants.
 *
 *  graph    [in, out]  not bound yet; as it was where the file is refused
 *  n_taken  [out]      how many inputs that were
 *
 * The whole header is checked, also what is said of tensors no input has the name of; only the others are read.
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND | MYR_ERR_IO | MYR_ERR_FORMAT (damaged, or a tensor that does not fit its input)
 *           | MYR_ERR_UNSUPPORTED (element type) | MYR_ERR_LIMIT (header over 100 MB) | MYR_ERR_NOMEM
 * Source:   huggingface.co/docs/safetensors, "Format".
 */
myr_status myr_safetensors_load(const char *path, myr_graph *graph, size_t *n_taken);

/* myr_safetensors_parse - the same from memory; name is for messages. */
myr_status myr_safetensors_parse(const char *name, const void *bytes, size_t n_bytes, myr_graph *graph,
                                 size_t *n_taken);

#endif
