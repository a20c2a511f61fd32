/*
 * Binding a graph to a batch: every shape becomes known, every constant is computed.
 */
#ifndef MYR_NN_BIND_H
#define MYR_NN_BIND_H

#include "nn/graph.h"

/*
 * myr_graph_bind - set the first dimension of all inputs to batch, infer all shapes, fold constants, drop what
 * the outputs do not need.
 *
 * Returns:  MYR_OK | MYR_ERR_UNSUPPORTED (a shape that is known only at run time) | MYR_ERR_FORMAT (also: a weight
 *           that is NaN or infinite where a sum runs over it) | MYR_ERR_LIMIT | MYR_ERR_NOMEM
 */
myr_status myr_graph_bind(myr_graph *graph, int64_t batch);

/* myr_graph_infer - the same for a graph whose inputs have their shapes, or are constants. */
myr_status myr_graph_infer(myr_graph *graph);

#endif
