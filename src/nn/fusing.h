/*
 * What the passes over a graph share: who makes a value, how often it is read, and how one node takes over another.
 */
#ifndef MYR_NN_FUSING_H
#define MYR_NN_FUSING_H

#include "nn/graph.h"
#include "nn/operator.h"

typedef struct myr_fusing {
    myr_graph *graph;
    int *uses;       /* (n_values) */
    int *producer;   /* (n_values) */
    size_t n_values; /* when the arrays were made; values added since are constants */
} myr_fusing;

/* MYR_KIND_OTHER for nodes that are gone. */
myr_kind myr_fusing_kind(const myr_node *node);
/* The node behind input i if that input has no other use and the node is of this kind; else NULL. */
myr_node *myr_fusing_sole_producer(const myr_fusing *fuse, const myr_node *node, int i, myr_kind kind);
/* `kept` takes over the output of `dropped`. */
void myr_fusing_absorb(myr_fusing *fuse, myr_node *kept, myr_node *dropped);
/* Nothing is fused behind it. */
bool myr_fusing_is_plain(const myr_node *node);
/* A new constant of this shape, whose numbers are written to *data before anyone shares it. The graph's values may
 * move. */
myr_status myr_fusing_add_constant(myr_graph *graph, const char *name, const myr_shape *shape, int *value,
                                   float **data);
/* Relu, Clip, HardSwish, Gelu and Swish into the node that makes their input. */
void myr_fusing_activation(myr_fusing *fuse, myr_node *node);

/* ---- What exporters write as several nodes (fuse_sequence.c) ---- */

/* Gelu and Swish, at the last Mul of what they are written as. */
myr_status myr_fusing_gate(myr_fusing *fuse, myr_node *multiply);
/* LayerNormalization, at the Div by the standard deviation. */
myr_status myr_fusing_layer_normalization(myr_fusing *fuse, myr_node *divide);
/* Add of a row behind MatMul or LayerNormalization. */
myr_status myr_fusing_row(myr_fusing *fuse, myr_node *add);
/* Mul or Div by numbers or rows behind MatMul, behind its Transpose, and behind LayerNormalization. */
myr_status myr_fusing_factor(myr_fusing *fuse, myr_node *node);
/* Mul or Div by a number in front of MatMul. */
myr_status myr_fusing_scaled_sides(myr_fusing *fuse, myr_node *matmul);

#endif
