/*
 * Making a bound graph smaller without changing what it computes.
 */
#ifndef MYR_NN_FUSE_H
#define MYR_NN_FUSE_H

#include "nn/graph.h"

/*
 * myr_graph_fuse - batch normalisation and zero padding into Conv, residual sums into Conv, Relu, Clip, HardSwish and x
 * * Sigmoid(x) into Conv, Gemm and Add; nodes that do nothing disappear.
 *
 * Results differ from the unfused graph's by rounding only.
 */
myr_status myr_graph_fuse(myr_graph *graph);

#endif
