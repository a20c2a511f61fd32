/*
 * The depthwise part of a block in floats, for AVX-512, and what else fills rows of the ring with floats.
 */
#include "nn/block_lanes.h"

#define GROUP MYR_BLOCK_GROUP
#define TILE MYR_BLOCK_TILE
#define MAX_KERNEL MYR_BLOCK_MAX_KERNEL

void myr_block_pack_floats(myr_block *self)
{
    int n_taps = self->shape.kernel * self->shape.kernel;
    float *to = self->depthwise;
    for (int c = 0; c < self->shape.n_middle; c++)
        for (int tap = 0; tap < n_taps; tap++)
            to[(c / GROUP * n_taps + tap) * GROUP + c % GROUP] = self->shape.depthwise[c * n_taps + tap];
}

void myr_block_copy_floats(const myr_block *self, const void *in, int group, int y, void *row)
{
    const myr_block_options *shape = &self->shape;
    float *to = (float *)row + shape->pad_left * GROUP;
    size_t from = (size_t)y * (size_t)shape->width * (size_t)shape->n_in + (size_t)(group * GROUP);
    for (int x = 0; x < shape->width; x++, from += (size_t)shape->n_in, to += GROUP) {
        _mm512_storeu_ps(to, load_input(self, in, from, 0xffff));
        _mm512_storeu_ps(to + TILE, load_input(self, in, from + TILE, 0xffff));
    }
}

/* n_pixels outputs beside each other, all channels of the group. Each loaded value is used by all its taps at once. */
INLINE void depthwise_pixels(const float *const *rows, const float *weights, const float *bias, myr_block_limits limits,
                             float *to, int kernel, int stride, int n_pixels)
{
    __m512 sums[2][8];
#pragma GCC unroll 8
    for (int i = 0; i < n_pixels; i++) {
        sums[0][i] = _mm512_loadu_ps(bias);
        sums[1][i] = _mm512_loadu_ps(bias + TILE);
    }
    for (int ky = 0; ky < kernel; ky++, weights += kernel * GROUP) {
        const float *from = rows[ky];
        __m512 taps[2][MAX_KERNEL];
#pragma GCC unroll 7
        for (int kx = 0; kx < kernel; kx++) {
            taps[0][kx] = _mm512_loadu_ps(weights + kx * GROUP);
            taps[1][kx] = _mm512_loadu_ps(weights + kx * GROUP + TILE);
        }
#pragma GCC unroll 32
        for (int x = 0; x < (n_pixels - 1) * stride + kernel; x++) {
            __m512 left = _mm512_loadu_ps(from + x * GROUP), right = _mm512_loadu_ps(from + x * GROUP + TILE);
            __asm__("" : "+v"(left), "+v"(right)); /* loaded once, not with every use */
#pragma GCC unroll 8
            for (int i = 0; i < n_pixels; i++) {
                if (x - i * stride >= 0 && x - i * stride < kernel) {
                    sums[0][i] = _mm512_fmadd_ps(left, taps[0][x - i * stride], sums[0][i]);
                    sums[1][i] = _mm512_fmadd_ps(right, taps[1][x - i * stride], sums[1][i]);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < n_pixels; i++) {
        _mm512_storeu_ps(to + i * GROUP, clip(sums[0][i], limits));
        _mm512_storeu_ps(to + i * GROUP + TILE, clip(sums[1][i], limits));
    }
}

#define WIDE 7 /* pixels at a time: the widths of networks for 224 pixels are multiples */

INLINE void depthwise_row(const myr_block *self, void *const *rows, int group, float *to, int kernel, int stride)
{
    const float *weights = (const float *)self->depthwise + (size_t)group * (size_t)(kernel * kernel) * GROUP;
    const float *bias = self->depthwise_bias + group * GROUP, *shifted[MAX_KERNEL];
    int x = 0;
    for (; x + WIDE <= self->shape.out_width; x += WIDE) {
        for (int ky = 0; ky < kernel; ky++)
            shifted[ky] = (const float *)rows[ky] + (size_t)(x * stride) * GROUP;
        depthwise_pixels(shifted, weights, bias, self->after_depthwise, to + (size_t)x * GROUP, kernel, stride, WIDE);
    }
    for (; x < self->shape.out_width; x++) {
        for (int ky = 0; ky < kernel; ky++)
            shifted[ky] = (const float *)rows[ky] + (size_t)(x * stride) * GROUP;
        depthwise_pixels(shifted, weights, bias, self->after_depthwise, to + (size_t)x * GROUP, kernel, stride, 1);
    }
}

/* The same with what the compiler must know. */
#define DEPTHWISE(kernel, stride)                                                                                      \
    static void depthwise_##kernel##_##stride(const myr_block *self, void *const *rows, int group, float *to)          \
    {                                                                                                                  \
        depthwise_row(self, rows, group, to, kernel, stride);                                                          \
    }
DEPTHWISE(3, 1)
DEPTHWISE(3, 2)
DEPTHWISE(5, 1)
DEPTHWISE(5, 2)
DEPTHWISE(7, 1)
DEPTHWISE(7, 2)

void myr_block_depthwise_floats(const myr_block *self, void *const *rows, int group, float *to)
{
    static void (*const table[3][2])(const myr_block *, void *const *, int, float *) = {
        {depthwise_3_1, depthwise_3_2}, {depthwise_5_1, depthwise_5_2}, {depthwise_7_1, depthwise_7_2}};
    table[(self->shape.kernel - 3) / 2][self->shape.stride - 1](self, rows, group, to);
}
