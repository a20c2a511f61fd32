/*
 * Inverted residual blocks on AMX.
 *
 * What makes such a block slow layer by layer is its middle: six times wider than the
 * ends, written to memory and read again twice. Here it never leaves the cache. For 32 middle channels
 * at a time, rows of the input are expanded into a ring of as many rows as the depthwise kernel is
 * high; each row of the depthwise result goes, in bf16, to where the projection reads its factors, which
 * runs once all channels are there:
 *
 *     for 32 channels c of the middle
 *         for each output row y
 *             expand the input rows that y needs and the ring has not   [tiles, f32]
 *             depthwise row y of the channels c                          [f32 -> bf16]
 *     project                                                            [tiles, f32 -> bf16]
 *
 * The ring has columns of zeros for the padding, so the depthwise part knows no borders. A
 * tile of pixels that would reach over the end of its row begins earlier instead, and some pixels are
 * computed twice.
 * Source: Intel Architecture Instruction Set Extensions Programming Reference, chapter 3 (AMX).
 */
#include "nn/block.h"

#include "base/alloc.h"
#include "kernel/kernel.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__linux__)

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FOR_AMX __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16,fma")))
#define INLINE static inline __attribute__((always_inline))

#define GROUP 32 /* middle channels at a time: two tiles */
#define TILE 16  /* rows of a tile, and floats in one */
#define MAX_KERNEL 7

typedef struct limits {
    float low, high;
} limits;

struct myr_block {
    myr_block_options shape; /* its pointers are NULL: weights are packed below */
    bool expands;            /* has a first convolution */
    int n_groups;            /* of GROUP middle channels */
    int k_step, n_k_steps;   /* input channels a tile product takes, and how many products */
    int k;                   /* input channels, and zeros that make the steps equal and even */
    int n_out_pairs;         /* pairs of tiles of output channels */
    int ring_width;          /* columns of a ring row, padding included */
    limits after_expand, after_depthwise, after_project;
    uint16_t *expand;   /* [owned] (group, k step, tile of 2, k_step / 2, 16, 2) */
    float *expand_bias; /* [owned] (n_groups * GROUP), as the next two padded with zeros */
    float *depthwise;   /* [owned] (group, kernel * kernel, GROUP) */
    float *depthwise_bias;
    uint16_t *project; /* [owned] (pair, k step of 32, tile of 2, 16, 16, 2) */
    float *project_bias;
};

/* ---- What the processor has ---- */

#define REQUEST_PERMISSION 0x1023
#define TILE_DATA 18

static bool has_amx(void)
{
    static int known; /* 0 not asked, 1 yes, 2 no; asking twice does no harm */
    int answer = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (answer == 0) {
        unsigned eax = 7, ebx, ecx = 0, edx;
        __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
        bool has = __builtin_cpu_supports("avx512bf16") && (edx & (1u << 22)) && (edx & (1u << 24)) &&
                   myr_cpu_may_use("avx2") && myr_cpu_may_use("avx512") && myr_cpu_may_use("amx") &&
                   syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
        answer = has ? 1 : 2;
        __atomic_store_n(&known, answer, __ATOMIC_RELAXED);
    }
    return answer == 1;
}

bool myr_block_has_processor(void)
{
    return has_amx();
}

bool myr_block_is_possible(const myr_block_options *options)
{
    int k = options->kernel, s = options->stride;
    bool is_known = (k == 3 || k == 5 || k == 7) && (s == 1 || s == 2);
    return is_known && options->n_in >= 1 && options->n_in <= 4096 && options->n_middle <= 16384 &&
           options->n_out <= 4096 && options->width >= 4 && options->height >= 1 && options->pad_left < k &&
           options->pad_top < k && (options->out_width - 1) * s - options->pad_left < options->width &&
           (options->out_height - 1) * s - options->pad_top < options->height &&
           (options->expand || options->n_in == options->n_middle) && (options->expand || options->n_in % GROUP == 0) &&
           (!options->adds_input || (options->n_in == options->n_out && options->height == options->out_height &&
                                     options->width == options->out_width)) &&
           has_amx();
}

/* ---- Packing ---- */

static uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* One tile of the right factor: rows of pairs of k, 16 columns n. from: (n, k) row-major; zeros beyond its ends. */
static void pack_tile(uint16_t *to, const float *from, int n_first, int n_end, int k_first, int k_last, int k_end)
{
    for (int k = k_first; k < k_last; k += 2)
        for (int n = n_first; n < n_first + TILE; n++)
            for (int i = 0; i < 2; i++)
                *to++ = n < n_end && k + i < k_end ? to_bf16(from[(size_t)n * (size_t)k_end + (size_t)(k + i)]) : 0;
}

static limits limits_of(const myr_activation *activation)
{
    return activation->kind == MYR_ACTIVATION_RELU   ? (limits){0, FLT_MAX}
           : activation->kind == MYR_ACTIVATION_CLIP ? (limits){activation->low, activation->high}
                                                     : (limits){-FLT_MAX, FLT_MAX};
}

static float *padded(const float *from, int n, int n_padded)
{
    float *to = myr_alloc((size_t)n_padded, sizeof *to);
    if (to && from)
        memcpy(to, from, (size_t)n * sizeof *to);
    return to;
}

static void pack(myr_block *self)
{
    const myr_block_options *shape = &self->shape;
    uint16_t *to = self->expand;
    for (int g = 0; shape->expand && g < self->n_groups; g++)
        for (int step = 0; step < self->n_k_steps; step++)
            for (int half = 0; half < 2; half++, to += self->k_step * TILE)
                pack_tile(to, shape->expand, g * GROUP + half * TILE, shape->n_middle, step * self->k_step,
                          (step + 1) * self->k_step, shape->n_in);
    to = self->project;
    for (int pair = 0; pair < self->n_out_pairs; pair++)
        for (int g = 0; g < self->n_groups; g++)
            for (int half = 0; half < 2; half++, to += GROUP * TILE)
                pack_tile(to, shape->project, pair * 2 * TILE + half * TILE, shape->n_out, g * GROUP, (g + 1) * GROUP,
                          shape->n_middle);
    int n_taps = shape->kernel * shape->kernel;
    for (int c = 0; c < shape->n_middle; c++)
        for (int tap = 0; tap < n_taps; tap++)
            self->depthwise[(c / GROUP * n_taps + tap) * GROUP + c % GROUP] = shape->depthwise[c * n_taps + tap];
}

myr_status myr_block_create(const myr_block_options *options, myr_block **out)
{
    *out = NULL;
    if (!myr_block_is_possible(options))
        return myr_fail(MYR_ERR_UNSUPPORTED, "no fast block for this shape on this processor");
    myr_block *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a block");
    *self = (myr_block){.shape = *options,
                        .n_groups = (options->n_middle + GROUP - 1) / GROUP,
                        .n_k_steps = (options->n_in + 31) / 32,
                        .n_out_pairs = (options->n_out + 2 * TILE - 1) / (2 * TILE),
                        .after_expand = limits_of(&options->after_expand),
                        .after_depthwise = limits_of(&options->after_depthwise),
                        .after_project = limits_of(&options->after_project)};
    self->k_step = (options->n_in + 2 * self->n_k_steps - 1) / (2 * self->n_k_steps) * 2;
    self->k = self->k_step * self->n_k_steps;
    int reach = (options->out_width - 1) * options->stride + options->kernel;
    self->ring_width = reach > options->width + options->pad_left ? reach : options->width + options->pad_left;
    int n_middle = self->n_groups * GROUP, n_out = self->n_out_pairs * 2 * TILE;
    self->expand = myr_alloc((size_t)n_middle * (size_t)self->k, sizeof *self->expand);
    self->project = myr_alloc((size_t)n_middle * (size_t)n_out, sizeof *self->project);
    self->depthwise = myr_alloc((size_t)n_middle * (size_t)(options->kernel * options->kernel), sizeof(float));
    self->expand_bias = padded(options->expand_bias, options->n_middle, n_middle);
    self->depthwise_bias = padded(options->depthwise_bias, options->n_middle, n_middle);
    self->project_bias = padded(options->project_bias, options->n_out, n_out);
    if (!self->expand || !self->project || !self->depthwise || !self->expand_bias || !self->depthwise_bias ||
        !self->project_bias) {
        myr_block_free(self);
        return myr_fail(MYR_ERR_NOMEM, "no memory for a block's weights");
    }
    pack(self);
    self->expands = options->expand != NULL;
    self->shape.expand = self->shape.depthwise = self->shape.project = NULL; /* borrowed until here */
    self->shape.expand_bias = self->shape.depthwise_bias = self->shape.project_bias = NULL;
    *out = self;
    return MYR_OK;
}

void myr_block_free(void *block)
{
    myr_block *self = block;
    if (!self)
        return;
    free(self->expand);
    free(self->expand_bias);
    free(self->depthwise);
    free(self->depthwise_bias);
    free(self->project);
    free(self->project_bias);
    free(self);
}

/* Scratch: the ring, the projection's left factors, the expansion's. */
static size_t ring_floats(const myr_block *self)
{
    return (size_t)self->shape.kernel * (size_t)self->ring_width * GROUP;
}

static size_t middle_values(const myr_block *self)
{
    return (size_t)self->shape.out_height * (size_t)self->shape.out_width * (size_t)(self->n_groups * GROUP);
}

size_t myr_block_scratch_bytes(const myr_block *self)
{
    size_t n_factors = (size_t)self->shape.height * (size_t)self->shape.width * (size_t)self->k;
    return ring_floats(self) * sizeof(float) +
           (middle_values(self) + (self->expands ? n_factors : 0)) * sizeof(uint16_t);
}

size_t myr_block_weight_bytes(const myr_block *self)
{
    size_t n_middle = (size_t)(self->n_groups * GROUP), n_out = (size_t)(self->n_out_pairs * 2 * TILE);
    size_t n_taps = (size_t)self->shape.kernel * (size_t)self->shape.kernel;
    return n_middle * ((self->expands ? (size_t)self->k : 0) + n_out) * sizeof *self->project +
           (n_middle * (n_taps + 2) + n_out) * sizeof(float);
}

/* ---- Tiles ---- */

/* Palette 1. Tiles 0 to 3 are sums, 4 and 5 left factors, 6 and 7 right factors. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

FOR_AMX static void set_tiles(int n_pixels, int k)
{
    tile_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.rows[i] = (uint8_t)(i < 6 ? n_pixels : k / 2);
        config.row_bytes[i] = (uint16_t)(i < 4 || i > 5 ? 64 : k * 2);
    }
    _tile_loadconfig(&config);
}

/* ---- The input ---- */

/* 16 values of the input, or as many as the mask has. */
FOR_AMX INLINE __m512 load_input(const myr_block *self, const void *in, size_t at, __mmask16 mask)
{
    if (self->shape.reads_floats)
        return _mm512_maskz_loadu_ps(mask, (const float *)in + at);
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)in + at)), 16));
}

INLINE __mmask16 first_lanes(int n)
{
    return (__mmask16)(n >= TILE ? 0xffff : (1u << n) - 1);
}

/* The whole input as the expansion's left factors: bf16, each pixel followed by zeros. */
FOR_AMX static void narrow_input(const myr_block *self, const void *in, uint16_t *factors)
{
    size_t n_pixels = (size_t)self->shape.height * (size_t)self->shape.width, n_in = (size_t)self->shape.n_in;
    for (size_t p = 0; p < n_pixels; p++, factors += self->k)
        for (int c = 0; c < self->k; c += TILE)
            _mm256_mask_storeu_epi16(
                factors + c, first_lanes(self->k - c),
                (__m256i)_mm512_cvtneps_pbh(load_input(self, in, p * n_in + (size_t)c,
                                                       c < self->shape.n_in ? first_lanes(self->shape.n_in - c) : 0)));
}

/* ---- Expanding one row ---- */

/* Two tiles of pixels times the group's two tiles of channels, into the ring in floats. Where the input is narrow, one
 * step is all, and its right factors are in tiles 6 and 7 already. */
FOR_AMX INLINE void expand_pixels(const myr_block *self, const uint16_t *first, const uint16_t *second,
                                  const uint16_t *weights, float *to_first, float *to_second, bool one_step)
{
    size_t stride = (size_t)self->k * sizeof(uint16_t);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int step = 0; step < (one_step ? 1 : self->n_k_steps); step++, weights += 2 * self->k_step * TILE) {
        if (!one_step) {
            _tile_loadd(6, weights, 64);
            _tile_loadd(7, weights + self->k_step * TILE, 64);
        }
        _tile_loadd(4, first + step * self->k_step, stride);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, second + step * self->k_step, stride);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, to_first, GROUP * sizeof(float));
    _tile_stored(1, to_first + TILE, GROUP * sizeof(float));
    _tile_stored(2, to_second, GROUP * sizeof(float));
    _tile_stored(3, to_second + TILE, GROUP * sizeof(float));
}

/* Bias and activation of n_pixels sums, in place. */
FOR_AMX INLINE void finish_pixels(float *sums, int n_pixels, const float *bias, limits limit)
{
    __m512 low = _mm512_set1_ps(limit.low), high = _mm512_set1_ps(limit.high);
    __m512 left = _mm512_loadu_ps(bias), right = _mm512_loadu_ps(bias + TILE);
    for (int i = 0; i < n_pixels; i++, sums += GROUP) {
        __m512 a = _mm512_add_ps(_mm512_loadu_ps(sums), left), b = _mm512_add_ps(_mm512_loadu_ps(sums + TILE), right);
        _mm512_storeu_ps(sums, _mm512_min_ps(_mm512_max_ps(a, low), high));
        _mm512_storeu_ps(sums + TILE, _mm512_min_ps(_mm512_max_ps(b, low), high));
    }
}

/* Row y of the input for one group of channels, into a row of the ring behind its left padding. */
FOR_AMX static void expand_row(const myr_block *self, const uint16_t *factors, int group, int y, float *row)
{
    const myr_block_options *shape = &self->shape;
    int width = shape->width, n_rows = width < TILE ? width : TILE, last = width - n_rows;
    size_t k = (size_t)self->k;
    const uint16_t *pixels = factors + (size_t)y * (size_t)width * k;
    const uint16_t *weights = self->expand + (size_t)group * GROUP * k;
    float *to = row + shape->pad_left * GROUP;
    bool one_step = self->n_k_steps == 1;
    if (one_step) {
        _tile_loadd(6, weights, 64);
        _tile_loadd(7, weights + self->k_step * TILE, 64);
    }
    for (int x = 0; x < width; x += 2 * n_rows) {
        int a = x < last ? x : last, b = x + n_rows < last ? x + n_rows : last;
        if (one_step)
            expand_pixels(self, pixels + (size_t)a * k, pixels + (size_t)b * k, weights, to + a * GROUP, to + b * GROUP,
                          true);
        else
            expand_pixels(self, pixels + (size_t)a * k, pixels + (size_t)b * k, weights, to + a * GROUP, to + b * GROUP,
                          false);
    }
    finish_pixels(to, width, self->expand_bias + group * GROUP, self->after_expand);
}

/* Without expansion: the input's own channels. */
FOR_AMX static void copy_row(const myr_block *self, const void *in, int group, int y, float *row)
{
    const myr_block_options *shape = &self->shape;
    float *to = row + shape->pad_left * GROUP;
    size_t from = (size_t)y * (size_t)shape->width * (size_t)shape->n_in + (size_t)(group * GROUP);
    for (int x = 0; x < shape->width; x++, from += (size_t)shape->n_in, to += GROUP) {
        _mm512_storeu_ps(to, load_input(self, in, from, 0xffff));
        _mm512_storeu_ps(to + TILE, load_input(self, in, from + TILE, 0xffff));
    }
}

/* ---- The depthwise part ---- */

/* n_pixels outputs beside each other, all channels of the group. Each loaded value is used by all its taps at once. */
FOR_AMX INLINE void depthwise_pixels(const float *const *rows, const float *weights, const float *bias, limits limit,
                                     uint16_t *to, size_t to_stride, int kernel, int stride, int n_pixels)
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
    __m512 low = _mm512_set1_ps(limit.low), high = _mm512_set1_ps(limit.high);
#pragma GCC unroll 8
    for (int i = 0; i < n_pixels; i++) {
        __m512 left = _mm512_min_ps(_mm512_max_ps(sums[0][i], low), high),
               right = _mm512_min_ps(_mm512_max_ps(sums[1][i], low), high);
        _mm512_storeu_si512(to + (size_t)i * to_stride, (__m512i)_mm512_cvtne2ps_pbh(right, left));
    }
}

#define WIDE 7 /* pixels at a time: the widths of networks for 224 pixels are multiples */

FOR_AMX INLINE void depthwise_row(const myr_block *self, const float *const *rows, int group, uint16_t *to, int kernel,
                                  int stride)
{
    size_t to_stride = (size_t)(self->n_groups * GROUP);
    const float *weights = self->depthwise + (size_t)group * (size_t)(kernel * kernel) * GROUP;
    const float *bias = self->depthwise_bias + group * GROUP, *shifted[MAX_KERNEL];
    int x = 0;
    for (; x + WIDE <= self->shape.out_width; x += WIDE) {
        for (int ky = 0; ky < kernel; ky++)
            shifted[ky] = rows[ky] + (size_t)(x * stride) * GROUP;
        depthwise_pixels(shifted, weights, bias, self->after_depthwise, to + (size_t)x * to_stride, to_stride, kernel,
                         stride, WIDE);
    }
    for (; x < self->shape.out_width; x++) {
        for (int ky = 0; ky < kernel; ky++)
            shifted[ky] = rows[ky] + (size_t)(x * stride) * GROUP;
        depthwise_pixels(shifted, weights, bias, self->after_depthwise, to + (size_t)x * to_stride, to_stride, kernel,
                         stride, 1);
    }
}

/* The same with what the compiler must know. */
#define DEPTHWISE(kernel, stride)                                                                                      \
    FOR_AMX static void depthwise_##kernel##_##stride(const myr_block *self, const float *const *rows, int group,      \
                                                      uint16_t *to)                                                    \
    {                                                                                                                  \
        depthwise_row(self, rows, group, to, kernel, stride);                                                          \
    }
DEPTHWISE(3, 1)
DEPTHWISE(3, 2)
DEPTHWISE(5, 1)
DEPTHWISE(5, 2)
DEPTHWISE(7, 1)
DEPTHWISE(7, 2)

typedef void depthwise_function(const myr_block *self, const float *const *rows, int group, uint16_t *to);

static depthwise_function *find_depthwise(int kernel, int stride)
{
    static depthwise_function *const table[3][2] = {
        {depthwise_3_1, depthwise_3_2}, {depthwise_5_1, depthwise_5_2}, {depthwise_7_1, depthwise_7_2}};
    return table[(kernel - 3) / 2][stride - 1];
}

/* ---- One group of middle channels ---- */

/* Rows of the ring that lie above or below the input are zeros; all of a row's padding stays zero. */
static void fill_middle(const myr_block *self, const void *in, const uint16_t *factors, int group, float *ring,
                        uint16_t *middle)
{
    const myr_block_options *shape = &self->shape;
    depthwise_function *depthwise = find_depthwise(shape->kernel, shape->stride);
    size_t row_floats = (size_t)self->ring_width * GROUP, stride = (size_t)(self->n_groups * GROUP);
    int next = -shape->pad_top; /* the first input row that the ring has not had */
    memset(ring, 0, ring_floats(self) * sizeof *ring);
    for (int y = 0; y < shape->out_height; y++) {
        const float *rows[MAX_KERNEL];
        int first = y * shape->stride - shape->pad_top;
        for (; next < first + shape->kernel; next++) {
            float *row = ring + (size_t)((next + shape->pad_top) % shape->kernel) * row_floats;
            if (next < first)
                continue;
            if (next < 0 || next >= shape->height)
                memset(row, 0, row_floats * sizeof *row);
            else if (self->expands)
                expand_row(self, factors, group, next, row);
            else
                copy_row(self, in, group, next, row);
        }
        for (int ky = 0; ky < shape->kernel; ky++)
            rows[ky] = ring + (size_t)((first + ky + shape->pad_top) % shape->kernel) * row_floats;
        depthwise(self, rows, group, middle + (size_t)y * (size_t)shape->out_width * stride + group * GROUP);
    }
}

/* ---- Projecting ---- */

/* Sums of one tile from value `at` of the output on, with bias, residual and activation. */
FOR_AMX INLINE void finish_tile(const myr_block *self, const float *sums, const float *bias, const void *in, float *out,
                                size_t at, int n_rows, int n_columns)
{
    __m512 low = _mm512_set1_ps(self->after_project.low), high = _mm512_set1_ps(self->after_project.high);
    __m512 offset = _mm512_loadu_ps(bias);
    __mmask16 mask = first_lanes(n_columns);
    for (int i = 0; i < n_rows; i++, at += (size_t)self->shape.n_out) {
        __m512 value = _mm512_add_ps(_mm512_load_ps(sums + i * TILE), offset);
        if (self->shape.adds_input)
            value = _mm512_add_ps(value, load_input(self, in, at, mask));
        _mm512_mask_storeu_ps(out + at, mask, _mm512_min_ps(_mm512_max_ps(value, low), high));
    }
}

/* Two tiles of pixels times two of output channels, or one. */
FOR_AMX INLINE void project_pixels(const myr_block *self, const uint16_t *middle, const void *in, float *out,
                                   const int pixels[2], int n_rows, int pair, bool both)
{
    size_t k = (size_t)(self->n_groups * GROUP), n_out = (size_t)self->shape.n_out;
    const uint16_t *weights = self->project + (size_t)pair * k * 2 * TILE;
    const uint16_t *first = middle + (size_t)pixels[0] * k, *second = middle + (size_t)pixels[1] * k;
    float sums[4][TILE * TILE] __attribute__((aligned(64)));
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int g = 0; g < self->n_groups; g++, weights += 2 * GROUP * TILE) {
        _tile_loadd(6, weights, 64);
        _tile_loadd(4, first + g * GROUP, k * sizeof(uint16_t));
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, second + g * GROUP, k * sizeof(uint16_t));
        _tile_dpbf16ps(2, 5, 6);
        if (both) {
            _tile_loadd(7, weights + GROUP * TILE, 64);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums[0], 64);
    _tile_stored(2, sums[2], 64);
    if (both) {
        _tile_stored(1, sums[1], 64);
        _tile_stored(3, sums[3], 64);
    }
    for (int i = 0; i < 4; i += both ? 1 : 2) {
        int channel = pair * 2 * TILE + i % 2 * TILE;
        finish_tile(self, sums[i], self->project_bias + channel, in, out,
                    (size_t)pixels[i / 2] * n_out + (size_t)channel, n_rows, self->shape.n_out - channel);
    }
}

FOR_AMX static void project(const myr_block *self, const uint16_t *middle, const void *in, float *out)
{
    int n_pixels = self->shape.out_height * self->shape.out_width, n_rows = n_pixels < TILE ? n_pixels : TILE;
    set_tiles(n_rows, GROUP);
    for (int pair = 0; pair < self->n_out_pairs; pair++) {
        for (int x = 0; x < n_pixels; x += 2 * n_rows) {
            int last = n_pixels - n_rows, a = x < last ? x : last, b = x + n_rows < last ? x + n_rows : last;
            if (self->shape.n_out - pair * 2 * TILE > TILE)
                project_pixels(self, middle, in, out, (int[]){a, b}, n_rows, pair, true);
            else
                project_pixels(self, middle, in, out, (int[]){a, b}, n_rows, pair, false);
        }
    }
}

FOR_AMX void myr_block_run(const myr_block *self, const void *in, float *out, void *scratch)
{
    float *ring = scratch;
    uint16_t *middle = (uint16_t *)(ring + ring_floats(self)), *factors = middle + middle_values(self);
    if (self->expands)
        narrow_input(self, in, factors);
    set_tiles(self->shape.width < TILE ? self->shape.width : TILE, self->k_step);
    for (int group = 0; group < self->n_groups; group++)
        fill_middle(self, in, factors, group, ring, middle);
    project(self, middle, in, out);
    _tile_release();
}

#else

bool myr_block_has_processor(void)
{
    return false;
}

bool myr_block_is_possible(const myr_block_options *options)
{
    (void)options;
    return false;
}

myr_status myr_block_create(const myr_block_options *options, myr_block **block)
{
    (void)options;
    *block = NULL;
    return myr_fail(MYR_ERR_UNSUPPORTED, "no fast block on this processor");
}

void myr_block_free(void *block)
{
    (void)block;
}

size_t myr_block_scratch_bytes(const myr_block *block)
{
    (void)block;
    return 0;
}

void myr_block_run(const myr_block *block, const void *in, float *out, void *scratch)
{
    (void)block, (void)in, (void)out, (void)scratch;
}

#endif
