/*
 * What a block is made of: sizes and packed weights (block.c), the way from the input to the output (block_middle.c),
 * and what works on values, which differs by precision and processor: products by AMX (block_tiles.c) or by dot
 * products (block_dots.h) of floats or bf16 (block_wide.h: block_floats.c, block_halves.c), all with a depthwise part
 * in floats (block_depthwise.c), or all in 8 bits (block_bytes.c).
 */
#ifndef MYR_NN_BLOCK_PARTS_H
#define MYR_NN_BLOCK_PARTS_H

#include "nn/block.h"

#define MYR_BLOCK_GROUP 32 /* middle channels at a time */
#define MYR_BLOCK_TILE 16  /* channels of a vector */
#define MYR_BLOCK_MAX_KERNEL 7

typedef struct myr_block_limits {
    float low, high;
} myr_block_limits;

/* How a block computes. Factors of products are as narrow as it needs them, and so are rows of the ring. */
typedef struct myr_block_products {
    size_t factor_bytes, ring_bytes; /* of a value */
    int ring_margin;                 /* columns of the ring that are read, but do not count */
    /* k, and what else depends on n_in. */
    void (*set_steps)(myr_block *self);
    void (*pack)(myr_block *self);
    /* The whole input as the expansion's left factors; scales: one a pixel, of 8 bits only. */
    void (*take_input)(const myr_block *self, const void *in, void *factors, float *scales);
    /* Before any row is expanded, and after all is done; NULL = nothing to do. */
    void (*begin)(const myr_block *self);
    void (*end)(void);
    /* Row y of the input for one group of channels, with bias and activation, behind the padding of a ring row. */
    void (*expand_row)(const myr_block *self, const void *factors, const float *scales, int group, int y, void *row);
    /* The same without expansion: the input's own channels. */
    void (*copy_row)(const myr_block *self, const void *in, int group, int y, void *row);
    /* Row y of the depthwise result, with bias and activation, as left factors of the projection. spare: (out_width,
     * GROUP) floats. */
    void (*depthwise_row)(const myr_block *self, void *const *rows, int group, int y, void *middle, float *spare);
    /* (out pixels, n_out), with bias, residual and activation. */
    void (*project)(const myr_block *self, const void *middle, const void *in, float *out);
} myr_block_products;

extern const myr_block_products myr_block_tiles, myr_block_floats, myr_block_halves, myr_block_bytes;

struct myr_block {
    myr_block_options shape; /* its pointers are good while packing only */
    const myr_block_products *products;
    bool expands;          /* has a first convolution */
    int n_groups;          /* of GROUP middle channels */
    int k;                 /* input channels, and zeros that fill the last step */
    int k_step, n_k_steps; /* of tiles: input channels a product takes, and how many products */
    int n_out_pairs;       /* pairs of vectors of output channels */
    int ring_width;        /* columns of a ring row, padding and margin included */
    myr_block_limits after_expand, after_depthwise, after_project;
    void *expand;       /* [owned] as the products want it, as project */
    float *expand_bias; /* [owned] (n_groups * GROUP), as the next two padded with zeros */
    void *depthwise;    /* [owned] floats: (group, kernel * kernel, GROUP) */
    float *depthwise_bias;
    void *project;
    float *project_bias; /* [owned] (n_out_pairs * 2 * TILE) */
    /* Of 8 bits only, [owned], for each channel; in units of what the result is stored in: */
    float *expand_scale, *depthwise_scale, *project_scale; /* a value is sum * scale (* scale of its pixel) + bias */
    int32_t *expand_offset; /* where sums begin, since factors of the input are stored 128 too large */
};

static inline int myr_block_middle_channels(const myr_block *self)
{
    return self->n_groups * MYR_BLOCK_GROUP;
}

static inline int myr_block_out_channels(const myr_block *self)
{
    return self->n_out_pairs * 2 * MYR_BLOCK_TILE;
}

/* In floats, for AVX-512 (block_depthwise.c): weights, rows of the ring, the depthwise part of one row: (out_width,
 * GROUP). */
void myr_block_pack_floats(myr_block *self);
void myr_block_copy_floats(const myr_block *self, const void *in, int group, int y, void *row);
void myr_block_depthwise_floats(const myr_block *self, void *const *rows, int group, float *to);

#endif
