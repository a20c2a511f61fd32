/*
 * What the OpenBLAS backend builds its operators from.
 *
 * Pictures lie in one of two orders: plain, as ONNX has them, (n, c, h, w), or by pixel, (n, h, w, c). By pixel a
 * convolution is a product of matrices whose rows are pixels, and loops over channels are long and even at the borders
 * too, so that operators on pictures work by pixel and all else plainly; a value is brought into the other order only
 * where somebody needs it.
 */
#ifndef MYR_NN_OPENBLAS_H
#define MYR_NN_OPENBLAS_H

#include "nn/backend.h"
#include "nn/openblas_kernels.h"
#include "nn/operator.h"

typedef struct myr_openblas_builder {
    myr_compiler *compiler;
    const myr_graph *graph;
    const myr_openblas_kernels *kernels;
    int *pixels; /* (n_values) buffer of a value by pixel, or -1; where the orders are the same, the plain one */
} myr_openblas_builder;

/* An operator's compiler: *taken stays false where it has nothing better than the reference. Nodes it is given have
 * one output of floats that is not empty. */
typedef myr_status (*myr_openblas_compile)(myr_openblas_builder *build, const myr_node *node, bool *taken);

myr_status myr_openblas_convolution(myr_openblas_builder *build, const myr_node *node, bool *taken);
/* The same where its windows are 3x3 next to each other and there are enough of them. */
myr_status myr_openblas_winograd(myr_openblas_builder *build, const myr_node *node, const myr_window *window,
                                 bool *taken);
myr_status myr_openblas_product(myr_openblas_builder *build, const myr_node *node, bool *taken);
myr_status myr_openblas_stack_product(myr_openblas_builder *build, const myr_node *node, bool *taken);
myr_status myr_openblas_pool(myr_openblas_builder *build, const myr_node *node, bool *taken);
myr_status myr_openblas_mean(myr_openblas_builder *build, const myr_node *node, bool *taken);
myr_status myr_openblas_function(myr_openblas_builder *build, const myr_node *node, bool *taken);
myr_status myr_openblas_pair(myr_openblas_builder *build, const myr_node *node, bool *taken);
myr_status myr_openblas_concat(myr_openblas_builder *build, const myr_node *node, bool *taken);
myr_status myr_openblas_batch_normalization(myr_openblas_builder *build, const myr_node *node, bool *taken);
myr_status myr_openblas_row_operator(myr_openblas_builder *build, const myr_node *node, bool *taken);

/* Input i is there at run time, is of floats and not empty. */
bool myr_openblas_is_computed(const myr_openblas_builder *build, const myr_node *node, int i);
/* The shape of a value, or of the constant it is: those of the file have none of their own. */
const myr_shape *myr_openblas_shape(const myr_openblas_builder *build, int value);
/* A value whose orders differ, and that is there by pixel. */
bool myr_openblas_is_by_pixel(const myr_openblas_builder *build, int value);
/* The value in one of the orders; its buffer in *buffer. By pixel: rank 4 only. */
myr_status myr_openblas_bring_plain(myr_openblas_builder *build, int value, int *buffer);
myr_status myr_openblas_bring_pixels(myr_openblas_builder *build, int value, int *buffer);
/* A buffer for a value that is about to be made in one of the orders. */
myr_status myr_openblas_settle_plain(myr_openblas_builder *build, int value, int *buffer);
myr_status myr_openblas_settle_pixels(myr_openblas_builder *build, int value, int *buffer);
/* "no memory to compile", naming the node. */
myr_status myr_openblas_no_memory(const myr_node *node);
/* What is fused behind a node, in place; residual sums are the caller's. */
void myr_openblas_activate(const myr_openblas_kernels *kernels, const myr_activation *activation, float *y, size_t n);

/* Residual (n_rows, n) and bias (n), either may be NULL, and the activation, on rows of products. */
void myr_openblas_finish(const myr_openblas_kernels *kernels, const myr_activation *activation, const float *residual,
                         const float *bias, float *rows, size_t n_rows, size_t n);

#endif
