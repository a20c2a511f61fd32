/*
 * Blocks with a middle in floats, for block_floats.c and block_halves.c, which define before they include this
 *
 *     factor_type, PER_DOT, dot(sums, left, right), as block_dots.h has them
 *     narrow(value)           a factor
 *     store_factors(to, v)    16 of them
 *
 * Sums are floats and begin with the bias.
 */
typedef struct channels {
    __m512i start;
} channels;

INLINE channels expand_channels(const myr_block *self, int c)
{
    return (channels){.start = _mm512_loadu_si512(self->expand_bias + c)};
}

INLINE channels project_channels(const myr_block *self, int c)
{
    return (channels){.start = _mm512_loadu_si512(self->project_bias + c)};
}

INLINE __m512 projected(const channels *of, __m512i sums)
{
    (void)of;
    return (__m512)sums;
}

#include "nn/block_dots.h"

/* ---- Weights ---- */

/* Rows n of (n, k) as 32 columns of right factors; zeros beyond the ends. */
static void pack_columns(factor_type *to, const float *from, int n_first, int n_end, int k_padded, int k_end)
{
    for (int k = 0; k < k_padded; k += PER_DOT)
        for (int n = n_first; n < n_first + 2 * TILE; n++)
            for (int i = k; i < k + PER_DOT; i++)
                *to++ = n < n_end && i < k_end ? narrow(from[(size_t)n * (size_t)k_end + (size_t)i]) : 0;
}

static void pack(myr_block *self)
{
    const myr_block_options *shape = &self->shape;
    factor_type *expand = self->expand, *projection = self->project;
    int n_middle = myr_block_middle_channels(self);
    for (int group = 0; shape->expand && group < self->n_groups; group++)
        pack_columns(expand + (size_t)(group * GROUP) * (size_t)self->k, shape->expand, group * GROUP, shape->n_middle,
                     self->k, shape->n_in);
    for (int pair = 0; pair < self->n_out_pairs; pair++)
        pack_columns(projection + (size_t)(pair * 2 * TILE) * (size_t)n_middle, shape->project, pair * 2 * TILE,
                     shape->n_out, n_middle, shape->n_middle);
    myr_block_pack_floats(self);
}

/* ---- Pictures ---- */

static void take_input(const myr_block *self, const void *in, void *to, float *scales)
{
    (void)scales;
    int n_in = self->shape.n_in;
    size_t n_pixels = (size_t)self->shape.height * (size_t)self->shape.width;
    factor_type *factors = to;
    for (int c = 0; c < n_in; c += TILE)
        for (size_t p = 0; p < n_pixels; p++, factors += TILE)
            store_factors(factors, load_input(self, in, p * (size_t)n_in + (size_t)c, first_lanes(n_in - c)));
}

INLINE void expand_turn(const myr_block *self, const void *factors, int first, int group, float *to, int n_pixels)
{
    channels of[2] = {expand_channels(self, group * GROUP), expand_channels(self, group * GROUP + TILE)};
    __m512i sums[2][MOST_PIXELS];
    expand_pixels(self, factors, first, group, of, sums, n_pixels);
#pragma GCC unroll 14
    for (int i = 0; i < n_pixels; i++) {
        _mm512_storeu_ps(to + i * GROUP, clip((__m512)sums[0][i], self->after_expand));
        _mm512_storeu_ps(to + i * GROUP + TILE, clip((__m512)sums[1][i], self->after_expand));
    }
}

static void expand_row(const myr_block *self, const void *factors, const float *scales, int group, int y, void *row)
{
    (void)scales;
    int width = self->shape.width, first;
    float *to = (float *)row + self->shape.pad_left * GROUP;
    for (int x = 0; x < width;) {
        int n = turn_of(x, width, &first), pixel = y * width + first;
        if (n == MOST_PIXELS)
            expand_turn(self, factors, pixel, group, to + first * GROUP, MOST_PIXELS);
        else if (n > 1)
            expand_turn(self, factors, pixel, group, to + first * GROUP, MOST_PIXELS / 2);
        else
            expand_turn(self, factors, pixel, group, to + first * GROUP, 1);
        x = first + n;
    }
}

static void depthwise_row(const myr_block *self, void *const *rows, int group, int y, void *middle, float *spare)
{
    int width = self->shape.out_width;
    size_t plane = (size_t)self->shape.out_height * (size_t)width * TILE;
    factor_type *left = (factor_type *)middle + 2 * (size_t)group * plane + (size_t)(y * width) * TILE,
                *right = left + plane;
    myr_block_depthwise_floats(self, rows, group, spare);
    for (int x = 0; x < width; x++, spare += GROUP, left += TILE, right += TILE) {
        store_factors(left, _mm512_loadu_ps(spare));
        store_factors(right, _mm512_loadu_ps(spare + TILE));
    }
}
