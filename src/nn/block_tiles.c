/*
 * A block's products on AMX, of bf16.
 *
 * A tile of pixels that would reach over the end of its row begins earlier instead, and some pixels are computed twice.
 * Source: Intel Architecture Instruction Set Extensions Programming Reference, chapter 3 (AMX).
 */
#include "nn/block_lanes.h"

#include <string.h>

#define GROUP MYR_BLOCK_GROUP /* two tiles */
#define TILE MYR_BLOCK_TILE   /* rows of a tile, and floats in one */

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

static void set_steps(myr_block *self)
{
    int n_in = self->shape.n_in;
    self->n_k_steps = (n_in + 31) / 32;
    self->k_step = (n_in + 2 * self->n_k_steps - 1) / (2 * self->n_k_steps) * 2;
    self->k = self->k_step * self->n_k_steps;
}

/* expand: (group, k step, tile of 2, k_step / 2, 16, 2); project: (pair, k step of 32, tile of 2, 16, 16, 2). */
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
    myr_block_pack_floats(self);
}

/* ---- Tiles ---- */

/* Palette 1. Tiles 0 to 3 are sums, 4 and 5 left factors, 6 and 7 right factors. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

static void set_tiles(int n_pixels, int k)
{
    tile_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.rows[i] = (uint8_t)(i < 6 ? n_pixels : k / 2);
        config.row_bytes[i] = (uint16_t)(i < 4 || i > 5 ? 64 : k * 2);
    }
    _tile_loadconfig(&config);
}

/* ---- The input ---- */

/* The whole input as the expansion's left factors: bf16, each pixel followed by zeros. */
static void take_input(const myr_block *self, const void *in, void *to, float *scales)
{
    (void)scales;
    uint16_t *factors = to;
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
INLINE void expand_pixels(const myr_block *self, const uint16_t *first, const uint16_t *second, const uint16_t *weights,
                          float *to_first, float *to_second, bool one_step)
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
INLINE void finish_pixels(float *sums, int n_pixels, const float *bias, myr_block_limits limit)
{
    __m512 low = _mm512_set1_ps(limit.low), high = _mm512_set1_ps(limit.high);
    __m512 left = _mm512_loadu_ps(bias), right = _mm512_loadu_ps(bias + TILE);
    for (int i = 0; i < n_pixels; i++, sums += GROUP) {
        __m512 a = _mm512_add_ps(_mm512_loadu_ps(sums), left), b = _mm512_add_ps(_mm512_loadu_ps(sums + TILE), right);
        _mm512_storeu_ps(sums, _mm512_min_ps(_mm512_max_ps(a, low), high));
        _mm512_storeu_ps(sums + TILE, _mm512_min_ps(_mm512_max_ps(b, low), high));
    }
}

static void expand_row(const myr_block *self, const void *factors, const float *scales, int group, int y, void *row)
{
    (void)scales;
    const myr_block_options *shape = &self->shape;
    float *to = (float *)row + shape->pad_left * GROUP;
    int width = shape->width, n_rows = width < TILE ? width : TILE, last = width - n_rows;
    size_t k = (size_t)self->k;
    const uint16_t *pixels = (const uint16_t *)factors + (size_t)y * (size_t)width * k;
    const uint16_t *weights = (const uint16_t *)self->expand + (size_t)group * GROUP * k;
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

/* ---- The middle ---- */

static void depthwise_row(const myr_block *self, void *const *rows, int group, int y, void *middle, float *spare)
{
    int n_middle = myr_block_middle_channels(self), width = self->shape.out_width;
    uint16_t *to = (uint16_t *)middle + (size_t)y * (size_t)width * (size_t)n_middle + group * GROUP;
    myr_block_depthwise_floats(self, rows, group, spare);
    for (int x = 0; x < width; x++, spare += GROUP, to += n_middle)
        _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(spare + TILE), _mm512_loadu_ps(spare)));
}

/* ---- Projecting ---- */

/* Sums of one tile from value `at` of the output on, with bias, residual and activation. */
INLINE void finish_tile(const myr_block *self, const float *sums, const float *bias, const void *in, float *out,
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
INLINE void project_pixels(const myr_block *self, const uint16_t *middle, const void *in, float *out,
                           const int pixels[2], int n_rows, int pair, bool both)
{
    size_t k = (size_t)(self->n_groups * GROUP), n_out = (size_t)self->shape.n_out;
    const uint16_t *weights = (const uint16_t *)self->project + (size_t)pair * k * 2 * TILE;
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

static void project(const myr_block *self, const void *middle, const void *in, float *out)
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

static void begin(const myr_block *self)
{
    set_tiles(self->shape.width < TILE ? self->shape.width : TILE, self->k_step);
}

static void end(void)
{
    _tile_release();
}

const myr_block_products myr_block_tiles = {.factor_bytes = sizeof(uint16_t),
                                            .ring_bytes = sizeof(float),
                                            .set_steps = set_steps,
                                            .pack = pack,
                                            .take_input = take_input,
                                            .begin = begin,
                                            .end = end,
                                            .expand_row = expand_row,
                                            .copy_row = myr_block_copy_floats,
                                            .depthwise_row = depthwise_row,
                                            .project = project};
