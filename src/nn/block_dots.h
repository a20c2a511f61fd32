/*
 * A block's products by dot products of 4 bytes: loops over pixels and channels, for block_halves.c and block_bytes.c,
 * which define before they include this
 *
 *     factor_type             of left factors, of sizeof(factor_type) bytes
 *     PER_DOT                 factors of a dot
 *     dot(sums, left, right)  16 sums + left (of one pixel, in every lane) * right (of 16 channels)
 *     channels, expand_channels(self, c), project_channels(self, c)
 *                             what 16 channels from c on need besides: .start, where their sums begin
 *     projected(channels, sums)
 *                             sums as values with bias
 *
 * Left factors lie in planes of 16 channels: (plane, pixel, 16). Right ones: (group of 32 columns, step, 2, 16,
 * PER_DOT). Sums of 14 pixels and 32 columns stay in registers: each left factor is loaded once for two vectors of
 * columns, each vector of right ones once for 14 pixels. Pixels that do not fill a turn are computed with some of those
 * before them once more.
 */
#include "nn/block_lanes.h"

#include <string.h>

#define GROUP MYR_BLOCK_GROUP
#define TILE MYR_BLOCK_TILE
#define DOT_BYTES 4
#define STEP_BYTES (2 * TILE * DOT_BYTES)
#define PIXEL_BYTES (TILE * sizeof(factor_type)) /* in a plane */
#define PLANE_STEPS (TILE / PER_DOT)
#define MOST_PIXELS 14

/* Each of the most pixels. Their sums have names, not places in an array: compilers keep arrays in memory here. */
#define EACH_PIXEL(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13)

/* Sums of n_pixels, from .start on, to sums[half][pixel]. */
INLINE void add_dots(__m512i sums[2][MOST_PIXELS], const channels *first, const channels *second, const uint8_t *pixels,
                     size_t plane_bytes, const uint8_t *weights, int n_steps, int n_pixels, int n_halves)
{
#define BEGIN(i) __m512i left_##i = first->start, right_##i = second->start;
#define ADD(i)                                                                                                         \
    if (i < n_pixels) {                                                                                                \
        int32_t factors;                                                                                               \
        memcpy(&factors, at + i * PIXEL_BYTES, DOT_BYTES);                                                             \
        __m512i factor = _mm512_set1_epi32(factors);                                                                   \
        left_##i = dot(left_##i, factor, left);                                                                        \
        if (n_halves > 1)                                                                                              \
            right_##i = dot(right_##i, factor, right);                                                                 \
    }
#define END(i)                                                                                                         \
    if (i < n_pixels) {                                                                                                \
        sums[0][i] = left_##i;                                                                                         \
        if (n_halves > 1)                                                                                              \
            sums[1][i] = right_##i;                                                                                    \
    }
    EACH_PIXEL(BEGIN)
    for (; n_steps > 0; n_steps -= PLANE_STEPS, pixels += plane_bytes) {
        const uint8_t *at = pixels;
        for (int step = n_steps < PLANE_STEPS ? n_steps : PLANE_STEPS; step > 0; step--) {
            __m512i left = _mm512_loadu_si512(weights), right = n_halves > 1 ? _mm512_loadu_si512(weights + 64) : left;
            EACH_PIXEL(ADD)
            at += DOT_BYTES;
            weights += STEP_BYTES;
        }
    }
    EACH_PIXEL(END)
    /* In memory from here on: what follows needs registers, which the loop above should not have to share. */
    __asm__ volatile("" : : "r"(sums) : "memory");
#undef BEGIN
#undef ADD
#undef END
}

/* The 32 columns of a group of the middle, before scale and bias. first: pixel of the input. */
INLINE void expand_pixels(const myr_block *self, const uint8_t *factors, int first, int group, const channels of[2],
                          __m512i sums[2][MOST_PIXELS], int n_pixels)
{
    size_t plane_bytes = (size_t)self->shape.height * (size_t)self->shape.width * PIXEL_BYTES;
    add_dots(sums, &of[0], &of[1], factors + (size_t)first * PIXEL_BYTES, plane_bytes,
             (const uint8_t *)self->expand + (size_t)(group * self->k) * GROUP * sizeof(factor_type), self->k / PER_DOT,
             n_pixels, 2);
}

/* Where the turn that does pixel x of n begins, and of how many pixels it is: 14, 7 or 1. */
INLINE int turn_of(int x, int n, int *first)
{
    int many = n >= MOST_PIXELS && n - x > MOST_PIXELS / 2 ? MOST_PIXELS : n >= MOST_PIXELS / 2 ? MOST_PIXELS / 2 : 1;
    *first = n - x < many ? n - many : x;
    return many;
}

/* ---- Projecting ---- */

INLINE void finish_projected(const myr_block *self, __m512 value, const void *in, float *out, size_t at, __mmask16 mask)
{
    if (self->shape.adds_input)
        value = _mm512_add_ps(value, load_input(self, in, at, mask));
    _mm512_mask_storeu_ps(out + at, mask, clip(value, self->after_project));
}

INLINE void project_pixels(const myr_block *self, const uint8_t *middle, const void *in, float *out, int first,
                           int pair, int n_pixels, int n_halves)
{
    int n_middle = myr_block_middle_channels(self), channel = pair * 2 * TILE;
    size_t n_out = (size_t)self->shape.n_out,
           plane_bytes = (size_t)self->shape.out_height * (size_t)self->shape.out_width * PIXEL_BYTES;
    __mmask16 in_left = first_lanes(self->shape.n_out - channel),
              in_right = n_halves > 1 ? first_lanes(self->shape.n_out - channel - TILE) : 0;
    channels left = project_channels(self, channel),
             right = n_halves > 1 ? project_channels(self, channel + TILE) : left;
    __m512i sums[2][MOST_PIXELS];
    add_dots(sums, &left, &right, middle + (size_t)first * PIXEL_BYTES, plane_bytes,
             (const uint8_t *)self->project + (size_t)(pair * n_middle) * 2 * TILE * sizeof(factor_type),
             n_middle / PER_DOT, n_pixels, n_halves);
    size_t at = (size_t)first * n_out + (size_t)channel;
#pragma GCC unroll 14
    for (int i = 0; i < n_pixels; i++, at += n_out) {
        finish_projected(self, projected(&left, sums[0][i]), in, out, at, in_left);
        if (n_halves > 1)
            finish_projected(self, projected(&right, sums[1][i]), in, out, at + TILE, in_right);
    }
}

static void project(const myr_block *self, const void *middle, const void *in, float *out)
{
    int n_pixels = self->shape.out_height * self->shape.out_width, first;
    for (int pair = 0; pair < self->n_out_pairs; pair++) {
        bool both = self->shape.n_out - pair * 2 * TILE > TILE;
        for (int x = 0; x < n_pixels;) {
            int n = turn_of(x, n_pixels, &first);
            if (n == MOST_PIXELS && both)
                project_pixels(self, middle, in, out, first, pair, MOST_PIXELS, 2);
            else if (n == MOST_PIXELS)
                project_pixels(self, middle, in, out, first, pair, MOST_PIXELS, 1);
            else if (n > 1)
                project_pixels(self, middle, in, out, first, pair, MOST_PIXELS / 2, both ? 2 : 1);
            else
                project_pixels(self, middle, in, out, first, pair, 1, both ? 2 : 1);
            x = first + n;
        }
    }
}

static void set_steps(myr_block *self)
{
    self->k = (self->shape.n_in + PER_DOT - 1) / PER_DOT * PER_DOT;
}
