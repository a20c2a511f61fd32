/*
 * Blocks in 8 bits by AVX-512 VNNI and VBMI: factors are bytes, four a dot, sums 32 bits.
 *
 * Left factors have no sign, right ones have. Each pixel of the input has a scale of its own, from its largest
 * magnitude, and is stored 128 too large; what that adds to a sum is known from the weights, and sums begin without it.
 * Behind the expansion and behind the depthwise part, values lie between 0 and the largest that calibration saw, which
 * is stored as 255: what is beyond is cut as it is packed, which does the activation's work, too. Weights have a scale
 * a channel. Input and output of the block are floats.
 *
 * A row of the ring is two planes of 16 channels, (half, column, 16): 64 bytes of a plane are four columns, which one
 * permutation turns into 16 dots of four taps beside each other.
 * Source: Intel Architecture Instruction Set Extensions Programming Reference, VPDPBUSD; one scale a pixel: Dettmers
 * et al. 2022, arXiv:2208.07339, section 3.1; the rest: Krishnamoorthi 2018, arXiv:1806.08342.
 */
#include "nn/block_lanes.h"

#include <math.h>
#include <string.h>

typedef uint8_t factor_type;
#define PER_DOT 4
#define ZERO 128 /* what zero is stored as, in the input */
#define MOST_WITH_SIGN 127
#define MOST_WITHOUT 255

INLINE __m512i dot(__m512i sums, __m512i left, __m512i right)
{
    return _mm512_dpbusd_epi32(sums, left, right);
}

typedef struct channels {
    __m512i start;
    __m512 scale, bias;
} channels;

INLINE channels expand_channels(const myr_block *self, int c)
{
    return (channels){.start = _mm512_loadu_si512(self->expand_offset + c),
                      .scale = _mm512_loadu_ps(self->expand_scale + c),
                      .bias = _mm512_loadu_ps(self->expand_bias + c)};
}

INLINE channels project_channels(const myr_block *self, int c)
{
    return (channels){.start = _mm512_setzero_si512(),
                      .scale = _mm512_loadu_ps(self->project_scale + c),
                      .bias = _mm512_loadu_ps(self->project_bias + c)};
}

INLINE __m512 projected(const channels *of, __m512i sums)
{
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), of->scale, of->bias);
}

#include "nn/block_dots.h"

#define COLUMN_BYTES TILE /* of a plane of the ring */
#define AT_ONCE 4         /* columns of a dot, and pixels that are packed together */

/* ---- Weights ---- */

static float step_of(float most, const myr_block_limits *after)
{
    return fminf(most, after->high) / MOST_WITHOUT;
}

static float ring_step(const myr_block *self)
{
    return self->expands ? step_of(self->shape.expand_most, &self->after_expand)
                         : self->shape.expand_most / MOST_WITHOUT;
}

static float middle_step(const myr_block *self)
{
    return step_of(self->shape.depthwise_most, &self->after_depthwise);
}

/* What a row of weights is divided by; 0 where all are zero. */
static float scale_of(const float *row, int n)
{
    float most = 0;
    for (int i = 0; i < n; i++)
        most = fmaxf(most, fabsf(row[i]));
    return most / MOST_WITH_SIGN;
}

static int8_t narrowed(float value, float scale)
{
    return scale > 0 ? (int8_t)lrintf(fminf(fmaxf(value / scale, -MOST_WITH_SIGN), MOST_WITH_SIGN)) : 0;
}

/* Rows n of (n, k) as 32 columns of right factors; zeros beyond the ends. scales: (n_end), set. */
static void pack_columns(int8_t *to, const float *from, int n_first, int n_end, int k_padded, int k_end, float *scales)
{
    for (int n = n_first; n < n_end && n < n_first + 2 * TILE; n++)
        scales[n] = scale_of(from + (size_t)n * (size_t)k_end, k_end);
    for (int k = 0; k < k_padded; k += PER_DOT)
        for (int n = n_first; n < n_first + 2 * TILE; n++)
            for (int i = k; i < k + PER_DOT; i++)
                *to++ = n < n_end && i < k_end ? narrowed(from[(size_t)n * (size_t)k_end + (size_t)i], scales[n]) : 0;
}

static void pack_expansion(myr_block *self)
{
    const myr_block_options *shape = &self->shape;
    for (int group = 0; group < self->n_groups; group++)
        pack_columns((int8_t *)self->expand + (size_t)(group * GROUP) * (size_t)self->k, shape->expand, group * GROUP,
                     shape->n_middle, self->k, shape->n_in, self->expand_scale);
    float step = ring_step(self);
    for (int c = 0; c < shape->n_middle; c++) {
        for (int i = 0; i < shape->n_in; i++)
            self->expand_offset[c] -=
                ZERO * narrowed(shape->expand[(size_t)c * (size_t)shape->n_in + (size_t)i], self->expand_scale[c]);
        self->expand_scale[c] /= step;
        self->expand_bias[c] /= step;
    }
}

static int n_dots(int kernel)
{
    return (kernel + AT_ONCE - 1) / AT_ONCE;
}

/* (group, half, kernel row, dot, 16, 4). */
static void pack_depthwise(myr_block *self)
{
    const myr_block_options *shape = &self->shape;
    int kernel = shape->kernel, row_bytes = n_dots(kernel) * TILE * AT_ONCE;
    float factor = ring_step(self) / middle_step(self);
    int8_t *to = self->depthwise;
    for (int c = 0; c < shape->n_middle; c++) {
        const float *taps = shape->depthwise + (size_t)c * (size_t)(kernel * kernel);
        float scale = scale_of(taps, kernel * kernel);
        for (int ky = 0; ky < kernel; ky++)
            for (int kx = 0; kx < kernel; kx++)
                to[(c / TILE * kernel + ky) * row_bytes + (kx / AT_ONCE * TILE + c % TILE) * AT_ONCE + kx % AT_ONCE] =
                    narrowed(taps[ky * kernel + kx], scale);
        self->depthwise_scale[c] = scale * factor;
        self->depthwise_bias[c] /= middle_step(self);
    }
}

static void pack_projection(myr_block *self)
{
    const myr_block_options *shape = &self->shape;
    int n_middle = myr_block_middle_channels(self);
    for (int pair = 0; pair < self->n_out_pairs; pair++)
        pack_columns((int8_t *)self->project + (size_t)(pair * 2 * TILE) * (size_t)n_middle, shape->project,
                     pair * 2 * TILE, shape->n_out, n_middle, shape->n_middle, self->project_scale);
    for (int o = 0; o < shape->n_out; o++)
        self->project_scale[o] *= middle_step(self);
}

static void pack(myr_block *self)
{
    if (self->expands)
        pack_expansion(self);
    pack_depthwise(self);
    pack_projection(self);
}

/* ---- The input ---- */

/* One pixel in planes of 16 channels. Returns its scale. */
static float narrow_pixel(const myr_block *self, const void *in, size_t at, uint8_t *to, size_t plane_bytes)
{
    int n_in = self->shape.n_in;
    __m512 most = _mm512_setzero_ps();
    for (int c = 0; c < n_in; c += TILE)
        most = _mm512_max_ps(most, _mm512_abs_ps(load_input(self, in, at + (size_t)c, first_lanes(n_in - c))));
    float scale = _mm512_reduce_max_ps(most) / MOST_WITH_SIGN;
    __m512 per_value = _mm512_set1_ps(scale > 0 ? 1 / scale : 0);
    for (int c = 0; c < n_in; c += TILE, to += plane_bytes) {
        __m512 value = load_input(self, in, at + (size_t)c, first_lanes(n_in - c));
        __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(value, per_value));
        _mm_storeu_si128((__m128i *)(void *)to, _mm512_cvtepi32_epi8(_mm512_add_epi32(whole, _mm512_set1_epi32(ZERO))));
    }
    return scale;
}

static void take_input(const myr_block *self, const void *in, void *to, float *scales)
{
    size_t n_pixels = (size_t)self->shape.height * (size_t)self->shape.width;
    for (size_t p = 0; p < n_pixels; p++)
        scales[p] = narrow_pixel(self, in, p * (size_t)self->shape.n_in, (uint8_t *)to + p * PIXEL_BYTES,
                                 n_pixels * PIXEL_BYTES);
}

/* ---- Rows of the ring ---- */

/* 16 channels each of n <= 4 pixels beside each other, cut to bytes. */
INLINE void store_bytes(uint8_t *to, __m512i a, __m512i b, __m512i c, __m512i d, int n)
{
    const __m512i by_pixel = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
    bytes = _mm512_permutexvar_epi32(by_pixel, bytes);
    if (n == AT_ONCE)
        _mm512_storeu_si512(to, bytes);
    else
        _mm512_mask_storeu_epi32(to, (__mmask16)((1u << (4 * n)) - 1), bytes);
}

/* n values, four at a time. */
INLINE void store_all(uint8_t *to, const __m512i *values, int n)
{
#pragma GCC unroll 4
    for (int i = 0; i < n; i += AT_ONCE) {
        int left = n - i < AT_ONCE ? n - i : AT_ONCE;
        store_bytes(to + i * TILE, values[i], values[left > 1 ? i + 1 : i], values[left > 2 ? i + 2 : i],
                    values[left > 3 ? i + 3 : i], left);
    }
}

INLINE void expand_turn(const myr_block *self, const void *factors, const float *scales, int first, int group,
                        uint8_t *to, int n_pixels)
{
    channels of[2] = {expand_channels(self, group * GROUP), expand_channels(self, group * GROUP + TILE)};
    __m512i sums[2][MOST_PIXELS];
    expand_pixels(self, factors, first, group, of, sums, n_pixels);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        __m512i values[MOST_PIXELS];
#pragma GCC unroll 14
        for (int i = 0; i < n_pixels; i++)
            values[i] =
                _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums[half][i]), of[half].scale),
                                                   _mm512_set1_ps(scales[first + i]), of[half].bias));
        store_all(to + (size_t)(half * self->ring_width) * COLUMN_BYTES, values, n_pixels);
    }
}

static void expand_row(const myr_block *self, const void *factors, const float *scales, int group, int y, void *row)
{
    int width = self->shape.width, first;
    uint8_t *to = (uint8_t *)row + self->shape.pad_left * COLUMN_BYTES;
    for (int x = 0; x < width;) {
        int n = turn_of(x, width, &first), pixel = y * width + first;
        if (n == MOST_PIXELS)
            expand_turn(self, factors, scales, pixel, group, to + first * COLUMN_BYTES, MOST_PIXELS);
        else if (n > 1)
            expand_turn(self, factors, scales, pixel, group, to + first * COLUMN_BYTES, MOST_PIXELS / 2);
        else
            expand_turn(self, factors, scales, pixel, group, to + first * COLUMN_BYTES, 1);
        x = first + n;
    }
}

static void copy_row(const myr_block *self, const void *in, int group, int y, void *row)
{
    const myr_block_options *shape = &self->shape;
    __m512 per_value = _mm512_set1_ps(1 / ring_step(self));
    size_t from = (size_t)y * (size_t)shape->width * (size_t)shape->n_in + (size_t)(group * GROUP);
    uint8_t *to = (uint8_t *)row + shape->pad_left * COLUMN_BYTES;
    for (int x = 0; x < shape->width; x += AT_ONCE, to += AT_ONCE * COLUMN_BYTES) {
        int n = shape->width - x < AT_ONCE ? shape->width - x : AT_ONCE;
        for (int half = 0; half < 2; half++) {
            __m512i values[AT_ONCE];
            for (int i = 0; i < AT_ONCE; i++)
                values[i] = _mm512_cvtps_epi32(_mm512_mul_ps(
                    load_input(self, in,
                               from + (size_t)(x + (i < n ? i : 0)) * (size_t)shape->n_in + (size_t)(half * TILE),
                               0xffff),
                    per_value));
            store_bytes(to + (size_t)(half * self->ring_width) * COLUMN_BYTES, values[0], values[1], values[2],
                        values[3], n);
        }
    }
}

/* ---- The depthwise part ---- */

/* n_pixels outputs beside each other, 16 channels. Each permuted load is used by all its dots at once. */
INLINE void depthwise_pixels(const uint8_t *const *columns, const int8_t *weights, __m512 scale, __m512 bias,
                             uint8_t *to, int kernel, int stride, int n_pixels)
{
    const __m512i by_channel = _mm512_set_epi32(0x3f2f1f0f, 0x3e2e1e0e, 0x3d2d1d0d, 0x3c2c1c0c, 0x3b2b1b0b, 0x3a2a1a0a,
                                                0x39291909, 0x38281808, 0x37271707, 0x36261606, 0x35251505, 0x34241404,
                                                0x33231303, 0x32221202, 0x31211101, 0x30201000);
    __m512i sums[MOST_PIXELS / 2];
#pragma GCC unroll 7
    for (int i = 0; i < n_pixels; i++)
        sums[i] = _mm512_setzero_si512();
#pragma GCC unroll 7
    for (int ky = 0; ky < kernel; ky++) {
        const int n = n_dots(kernel);
        __m512i taps[2] = {_mm512_loadu_si512(weights + ky * n * 64),
                           _mm512_loadu_si512(weights + (ky * n + n - 1) * 64)};
#pragma GCC unroll 20
        for (int x = 0; x < (n_pixels - 1) * stride + AT_ONCE * (n - 1) + 1; x++) {
            bool is_first = x % stride == 0 && x / stride<n_pixels, is_second = n> 1 && x >= AT_ONCE &&
                            (x - AT_ONCE) % stride == 0 && (x - AT_ONCE) / stride < n_pixels;
            if (!is_first && !is_second)
                continue;
            __m512i four =
                _mm512_permutexvar_epi8(by_channel, _mm512_loadu_si512(columns[ky] + (size_t)x * COLUMN_BYTES));
            __asm__("" : "+v"(four)); /* permuted once, not with every use */
            if (is_first)
                sums[x / stride] = dot(sums[x / stride], four, taps[0]);
            if (is_second)
                sums[(x - AT_ONCE) / stride] = dot(sums[(x - AT_ONCE) / stride], four, taps[1]);
        }
    }
#pragma GCC unroll 7
    for (int i = 0; i < n_pixels; i++)
        sums[i] = _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[i]), scale, bias));
    store_all(to, sums, n_pixels);
}

INLINE void depthwise_half(const myr_block *self, void *const *rows, int group, int half, uint8_t *to, int kernel,
                           int stride)
{
    int width = self->shape.out_width, channel = group * GROUP + half * TILE;
    const int8_t *weights =
        (const int8_t *)self->depthwise + (size_t)(channel / TILE * kernel * n_dots(kernel)) * TILE * AT_ONCE;
    __m512 scale = _mm512_loadu_ps(self->depthwise_scale + channel),
           bias = _mm512_loadu_ps(self->depthwise_bias + channel);
    for (int x = 0, n; x < width; x += n) {
        const uint8_t *columns[MYR_BLOCK_MAX_KERNEL];
        n = width >= MOST_PIXELS / 2 ? MOST_PIXELS / 2 : 1;
        if (width - x < n)
            x = width - n; /* some of those before once more */
        for (int ky = 0; ky < kernel; ky++)
            columns[ky] = (const uint8_t *)rows[ky] + (size_t)(half * self->ring_width + x * stride) * COLUMN_BYTES;
        if (n > 1)
            depthwise_pixels(columns, weights, scale, bias, to + x * TILE, kernel, stride, MOST_PIXELS / 2);
        else
            depthwise_pixels(columns, weights, scale, bias, to + x * TILE, kernel, stride, 1);
    }
}

/* The same with what the compiler must know. */
#define DEPTHWISE(kernel, stride)                                                                                      \
    static void depthwise_##kernel##_##stride(const myr_block *self, void *const *rows, int group, int half,           \
                                              uint8_t *to)                                                             \
    {                                                                                                                  \
        depthwise_half(self, rows, group, half, to, kernel, stride);                                                   \
    }
DEPTHWISE(3, 1)
DEPTHWISE(3, 2)
DEPTHWISE(5, 1)
DEPTHWISE(5, 2)
DEPTHWISE(7, 1)
DEPTHWISE(7, 2)

static void depthwise_row(const myr_block *self, void *const *rows, int group, int y, void *middle, float *spare)
{
    static void (*const table[3][2])(const myr_block *, void *const *, int, int, uint8_t *) = {
        {depthwise_3_1, depthwise_3_2}, {depthwise_5_1, depthwise_5_2}, {depthwise_7_1, depthwise_7_2}};
    (void)spare;
    size_t width = (size_t)self->shape.out_width, plane = (size_t)self->shape.out_height * width * PIXEL_BYTES;
    uint8_t *to = (uint8_t *)middle + 2 * (size_t)group * plane + (size_t)y * width * PIXEL_BYTES;
    for (int half = 0; half < 2; half++, to += plane)
        table[(self->shape.kernel - 3) / 2][self->shape.stride - 1](self, rows, group, half, to);
}

const myr_block_products myr_block_bytes = {.factor_bytes = sizeof(factor_type),
                                            .ring_bytes = sizeof(uint8_t),
                                            .ring_margin = AT_ONCE - 1,
                                            .set_steps = set_steps,
                                            .pack = pack,
                                            .take_input = take_input,
                                            .expand_row = expand_row,
                                            .copy_row = copy_row,
                                            .depthwise_row = depthwise_row,
                                            .project = project};
