/*
 * Making a bound graph smaller without changing what it computes.
 */
#ifndef MYR_NN_FUSE_H
#define MYR_NN_FUSE_H

#include "nn/graph.h"

/*
 * myr_graph_fuse - batch normalisation, zero padding and residual sums into Conv; Gelu, Swish and LayerNormalization
 * that are written as several nodes into one; rows and factors into MatMul; activations into Conv, Gemm, MatMul and
 * Add. Nodes that do nothing disappear.
 *
 * Results differ from the unfused graph's by rounding only.
 */
myr_status myr_graph_fuse(myr_graph *graph);

#endif
