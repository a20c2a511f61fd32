/*
 * The inverted residual block of mobile networks in one piece: a 1x1 convolution that
 * expands, a depthwise one, a 1x1 convolution that projects, and the block's input added
 * where shapes allow (Sandler et al. 2018, arXiv:1801.04381).
 */
#ifndef MYR_NN_BLOCK_H
#define MYR_NN_BLOCK_H

#include "myriops/model.h"
#include "nn/graph.h"

typedef struct myr_block_options {
    int height, width, n_in, n_middle, n_out; /* of the input; channels. n_middle == n_in without expand */
    int out_height, out_width, kernel, stride, pad_top, pad_left;
    const float *expand, *expand_bias; /* (n_middle, n_in), (n_middle); expand NULL = none; any bias may be NULL */
    const float *depthwise, *depthwise_bias;                     /* (n_middle, kernel, kernel), (n_middle) */
    const float *project, *project_bias;                         /* (n_out, n_middle), (n_out) */
    myr_activation after_expand, after_depthwise, after_project; /* the last one behind the residual */
    bool adds_input;
    bool reads_floats;       /* the input is f32, else bf16 */
    myr_precision precision; /* what it computes in */
    /* INT8: the largest values behind the expansion, or of the input without one, and behind the depthwise part.
     * More is cut, as what is below zero: both have to be behind such activations. */
    float expand_most, depthwise_most;
} myr_block_options;

typedef struct myr_block myr_block;

/* Whether this processor has blocks at all in a precision. */
bool myr_block_has_processor(myr_precision precision);
/* Whether its blocks in bf16 are as fast as those in 8 bits: it has AMX. */
bool myr_block_prefers_halves(void);
/* Whether this processor and shape have a fast block. */
bool myr_block_is_possible(const myr_block_options *options);

/*
 * myr_block_create - pack the weights.
 *
 * Returns:  MYR_OK | MYR_ERR_UNSUPPORTED (where myr_block_is_possible is false) | MYR_ERR_NOMEM
 */
myr_status myr_block_create(const myr_block_options *options, myr_block **block);
void myr_block_free(void *block); /* NULL is fine */
size_t myr_block_scratch_bytes(const myr_block *block);
size_t myr_block_weight_bytes(const myr_block *block); /* as packed */

/*
 * myr_block_run - one picture.
 *
 *  in       (height, width, n_in) f32 or bf16
 *  out      (out_height, out_width, n_out) f32; must not overlap in
 *  scratch  myr_block_scratch_bytes, aligned to 64
 *
 * In BF16 only factors of the products are narrow; in INT8 also what lies between, sums being 32 bits.
 * Threads:  a block is read only.
 */
void myr_block_run(const myr_block *block, const void *in, float *out, void *scratch);

#endif
