/*
 * The inner loops, compiled once for each kind of CPU: MYR_VARIANT is the table's name,
 * MYR_LANES the floats of a vector register. Most loops are left to the compiler; the
 * depthwise convolution says which values stay in registers.
 *
 * This file is compiled with fused multiply-add allowed, and nothing outside it may call its functions but through
 * the table: they may use instructions other CPUs lack.
 */
#include "nn/openblas_kernels.h"

#include <math.h>
#include <string.h>

#ifndef MYR_VARIANT
#define MYR_VARIANT myr_openblas_kernels_portable
#define MYR_LANES 4
#endif
#define TEXT_OF(name) #name
#define NAME_OF(name) TEXT_OF(name)
#define ALWAYS_INLINE static inline __attribute__((always_inline))

typedef float vector __attribute__((vector_size(4 * MYR_LANES)));

ALWAYS_INLINE vector load(const float *from)
{
    vector value;
    memcpy(&value, from, sizeof value);
    return value;
}

ALWAYS_INLINE void store(float *to, vector value)
{
    memcpy(to, &value, sizeof value);
}

ALWAYS_INLINE float limit(float x, float low, float high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}

/* ---- Products ---- */

#if MYR_LANES > 4
#define PANEL_WIDTH (2 * MYR_LANES)
#define MOST_ROWS (MYR_LANES == 16 ? 14 : 6) /* their sums, of two vectors each, fill the registers */

/* Sums of n_rows rows and n_vectors vectors of columns, all in registers; both are constants where this is inlined. */
ALWAYS_INLINE void multiply_tile(const myr_rows_by_panels *self, const float *left, const float *panel,
                                 const float *bias, float *out, size_t out_stride, int n_rows, int n_vectors)
{
    vector sums[MOST_ROWS][2];
    size_t n = self->last - self->first, left_stride = self->left_stride;
    for (int i = 0; i < n_rows; i++)
        for (int v = 0; v < n_vectors; v++)
            sums[i][v] = self->first > 0 ? (vector){0} : load(bias + v * MYR_LANES);
    for (size_t k = 0; k < n; k++, panel += n_vectors * MYR_LANES) {
        vector columns[2];
#pragma GCC unroll 2
        for (int v = 0; v < n_vectors; v++)
            columns[v] = load(panel + v * MYR_LANES);
#pragma GCC unroll 14
        for (int i = 0; i < n_rows; i++) {
            float factor = left[(size_t)i * left_stride + k];
#pragma GCC unroll 2
            for (int v = 0; v < n_vectors; v++)
                sums[i][v] += factor * columns[v];
        }
    }
    /* What is there already is added last: short sums round less than one long one. */
    for (int i = 0; i < n_rows; i++)
        for (int v = 0; v < n_vectors; v++) {
            float *to = out + (size_t)i * out_stride + v * MYR_LANES;
            store(to, self->first > 0 ? load(to) + sums[i][v] : sums[i][v]);
        }
}

#define TILE_OF(n_rows)                                                                                                \
    case n_rows:                                                                                                       \
        if (is_wide)                                                                                                   \
            multiply_tile(self, left, panel, bias, out, out_stride, n_rows, 2);                                        \
        else                                                                                                           \
            multiply_tile(self, left, panel, bias, out, out_stride, n_rows, 1);                                        \
        break

static void choose_tile(const myr_rows_by_panels *self, const float *left, const float *panel, const float *bias,
                        float *out, size_t out_stride, size_t n_rows, bool is_wide)
{
    switch (n_rows) {
#if MYR_LANES == 16
        TILE_OF(14);
        TILE_OF(7);
#else
        TILE_OF(6);
#endif
        TILE_OF(3);
        TILE_OF(2);
        TILE_OF(1);
    }
}

static size_t tile_height(size_t n_rows)
{
    size_t heights[] = {14, 7, 6, 3, 2};
    for (size_t i = MYR_LANES == 16 ? 0 : 2; i < 5; i++)
        if (n_rows >= heights[i] && (heights[i] != 6 || MYR_LANES != 16))
            return heights[i];
    return 1;
}

/* Residual and bounds, once the sums are complete. */
static void finish_tile(const myr_rows_by_panels *self, size_t row, size_t column, size_t n_rows, size_t n)
{
    float low = self->low, high = self->high;
    for (size_t i = row; i < row + n_rows; i++) {
        float *out = self->out + i * self->out_stride + column;
        const float *residual = self->residual + (self->residual ? i * self->out_stride + column : 0);
        if (self->residual)
            for (size_t j = 0; j < n; j++)
                out[j] = limit(out[j] + residual[j], low, high);
        else
            for (size_t j = 0; j < n; j++)
                out[j] = limit(out[j], low, high);
    }
}

/* A tile at the right edge: computed apart, so that nothing is written behind the columns there are. */
static void multiply_edge(const myr_rows_by_panels *self, const float *left, const float *panel, const float *bias,
                          float *out, size_t n_rows, size_t n, bool is_wide)
{
    float apart[14 * 2 * MYR_LANES] = {0};
    for (size_t i = 0; i < n_rows && self->first > 0; i++)
        memcpy(apart + i * PANEL_WIDTH, out + i * self->out_stride, n * sizeof *out);
    choose_tile(self, left, panel, bias, apart, PANEL_WIDTH, n_rows, is_wide);
    for (size_t i = 0; i < n_rows; i++)
        memcpy(out + i * self->out_stride, apart + i * PANEL_WIDTH, n * sizeof *out);
}

static void multiply_all(const myr_rows_by_panels *self)
{
    bool ends = self->last == self->depth && (self->residual || self->low > -INFINITY || self->high < INFINITY);
    for (size_t column = 0; column < self->n_out; column += PANEL_WIDTH) {
        size_t n = self->n_out - column < PANEL_WIDTH ? self->n_out - column : PANEL_WIDTH;
        bool is_wide = n > MYR_LANES, is_whole = n == PANEL_WIDTH || n == MYR_LANES;
        const float *panel = self->panels + column * self->depth + self->first * (is_wide ? PANEL_WIDTH : MYR_LANES);
        for (size_t row = 0, height; row < self->n_rows; row += height) {
            height = tile_height(self->n_rows - row);
            const float *left = self->left + row * self->left_stride;
            float *out = self->out + row * self->out_stride + column;
            if (is_whole)
                choose_tile(self, left, panel, self->bias + column, out, self->out_stride, height, is_wide);
            else
                multiply_edge(self, left, panel, self->bias + column, out, height, n, is_wide);
            if (ends)
                finish_tile(self, row, column, height, n);
        }
    }
}
#else
#define PANEL_WIDTH 0
#define multiply_all NULL
#endif

/* ---- Depthwise convolution ---- */

/* One cell whose window may stick out at the sides: channels [c, n) of it. */
static void border_cell(const myr_depthwise *self, const float *const *rows, int64_t x, float *out)
{
    int64_t n = self->n_channels, begin = x * self->stride - self->pad, c = 0;
    for (; c + MYR_LANES <= n || (c < n && n >= MYR_LANES); c += MYR_LANES) {
        c = c + MYR_LANES <= n ? c : n - MYR_LANES; /* the last vector overlaps the one before */
        vector sum = load(self->bias + c);
        const float *weights = self->weights + c;
        for (int64_t ky = 0; ky < self->kernel[0]; ky++) {
            for (int64_t kx = 0; kx < self->kernel[1]; kx++, weights += n) {
                int64_t ix = begin + kx * self->dilation;
                if (ix >= 0 && ix < self->n_in)
                    sum += load(weights) * load(rows[ky] + ix * n + c);
            }
        }
        store(out + c, sum);
    }
    for (; c < n; c++) {
        float sum = self->bias[c];
        for (int64_t k = 0; k < self->kernel[0] * self->kernel[1]; k++) {
            int64_t ix = begin + k % self->kernel[1] * self->dilation;
            if (ix >= 0 && ix < self->n_in)
                sum += self->weights[k * n + c] * rows[k / self->kernel[1]][ix * n + c];
        }
        out[c] = sum;
    }
}

/* A vector of channels of cells [first, last), whose windows lie inside; the weights stay in registers. size: a
 * constant where this is inlined, so that the loops over the kernel unroll. */
ALWAYS_INLINE void inner_cells(const myr_depthwise *self, const float *const *rows, int64_t c, int64_t first,
                               int64_t last, float *out, int size)
{
    vector weights[25];
    const float *at[5];
    int64_t n = self->n_channels, step = self->dilation * n;
    vector bias = load(self->bias + c);
#pragma GCC unroll 25
    for (int k = 0; k < size * size; k++)
        weights[k] = load(self->weights + k * n + c);
#pragma GCC unroll 5
    for (int ky = 0; ky < size; ky++)
        at[ky] = rows[ky] + (first * self->stride - self->pad) * n + c;
    out += first * n + c;
    for (int64_t x = first; x < last; x++, out += n) {
        vector sum = bias;
#pragma GCC unroll 5
        for (int ky = 0; ky < size; ky++) {
#pragma GCC unroll 5
            for (int kx = 0; kx < size; kx++)
                sum += weights[ky * size + kx] * load(at[ky] + kx * step);
            at[ky] += self->stride * n;
        }
        store(out, sum);
    }
}

static void inner_3(const myr_depthwise *self, const float *const *rows, int64_t c, int64_t first, int64_t last,
                    float *out)
{
    inner_cells(self, rows, c, first, last, out, 3);
}

static void inner_5(const myr_depthwise *self, const float *const *rows, int64_t c, int64_t first, int64_t last,
                    float *out)
{
    inner_cells(self, rows, c, first, last, out, 5);
}

static void depthwise_row(const myr_depthwise *self, const float *const *rows, float *out)
{
    int64_t n = self->n_channels, reach = (self->kernel[1] - 1) * self->dilation;
    int64_t first = (self->pad + self->stride - 1) / self->stride;
    int64_t last = self->n_in - 1 - reach + self->pad < 0 ? 0 : (self->n_in - 1 - reach + self->pad) / self->stride + 1;
    bool is_3 = self->kernel[0] == 3 && self->kernel[1] == 3, is_5 = self->kernel[0] == 5 && self->kernel[1] == 5;
    last = last < self->n_out ? last : self->n_out;
    if (first >= last || n < MYR_LANES || (!is_3 && !is_5))
        first = last = self->n_out;
    for (int64_t x = 0; x < first; x++)
        border_cell(self, rows, x, out + x * n);
    for (int64_t x = last; x < self->n_out; x++)
        border_cell(self, rows, x, out + x * n);
    for (int64_t c = 0; c < n && first < last; c += MYR_LANES) {
        int64_t from = c + MYR_LANES <= n ? c : n - MYR_LANES;
        if (is_3)
            inner_3(self, rows, from, first, last, out);
        else
            inner_5(self, rows, from, first, last, out);
    }
}

/* ---- Functions of single elements ---- */

ALWAYS_INLINE float bits_as_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* e^x to a few units in the last place (Cephes' polynomial); 2^n is applied in halves, so that it never overflows
 * before the result does. */
ALWAYS_INLINE float exponential(float x)
{
    x = x < -104 ? -104 : x;
    x = x > 89 ? 89 : x;
    float shifted = x * 1.44269504f + 12582912.0f, whole = shifted - 12582912.0f;
    float rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    float sum = 1.9875691500e-4f;
    sum = sum * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    int32_t power = (int32_t)(bits - 0x4b400000u), half = power >> 1; /* 0x4b400000 is 12582912 */
    return sum * bits_as_float((uint32_t)(half + 127) << 23) * bits_as_float((uint32_t)(power - half + 127) << 23);
}

/* Abramowitz and Stegun 1964, 7.1.26: off by 1.5e-7 at most. */
ALWAYS_INLINE float error_function(float x)
{
    float size = fabsf(x), t = 1 / (1 + 0.3275911f * size);
    float sum = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    return copysignf(1 - sum * exponential(-size * size), x);
}

#define FOR_EACH(expression)                                                                                           \
    for (size_t i = 0; i < n; i++) {                                                                                   \
        float v = x[i];                                                                                                \
        y[i] = expression;                                                                                             \
    }                                                                                                                  \
    break

static void apply(myr_function function, float a, float b, const float *x, float *y, size_t n)
{
    switch (function) {
    case MYR_FUNCTION_CLIP:
        FOR_EACH(limit(v, a, b));
    case MYR_FUNCTION_SIGMOID:
        FOR_EACH(1 / (1 + exponential(-v)));
    case MYR_FUNCTION_TANH:
        FOR_EACH(1 - 2 / (exponential(2 * v) + 1));
    case MYR_FUNCTION_ERF:
        FOR_EACH(error_function(v));
    case MYR_FUNCTION_EXP:
        FOR_EACH(exponential(v));
    case MYR_FUNCTION_SQRT:
        FOR_EACH(sqrtf(v));
    case MYR_FUNCTION_HARD_SIGMOID:
        FOR_EACH(limit(a * v + b, 0, 1));
    case MYR_FUNCTION_HARD_SWISH:
        FOR_EACH(v * limit(v / 6 + 0.5f, 0, 1));
    case MYR_FUNCTION_LEAKY_RELU:
        FOR_EACH(v < 0 ? a * v : v);
    case MYR_FUNCTION_SWISH:
        FOR_EACH(v / (1 + exponential(-a * v)));
    case MYR_FUNCTION_GELU:
        FOR_EACH(0.5f * v * (1 + error_function(v * 0.70710678f)));
    case MYR_FUNCTION_GELU_TANH: /* (1 + tanh(u)) / 2 = 1 - 1 / (exp(2 u) + 1) */
        FOR_EACH(v * (1 - 1 / (exponential(1.5957691f * (v + 0.044715f * v * v * v)) + 1)));
    }
}

/* ---- Winograd's transforms, a vector of channels at a time ---- */

/* B^T d for six values `step` apart. */
ALWAYS_INLINE void transform_six(const vector *d, int step, vector *to)
{
    vector a = d[4 * step] - 4 * d[2 * step], b = d[3 * step] - 4 * d[step];
    vector c = d[4 * step] - d[2 * step], e = 2 * (d[3 * step] - d[step]);
    to[0] = 4 * d[0] - 5 * d[2 * step] + d[4 * step];
    to[step] = a + b;
    to[2 * step] = a - b;
    to[3 * step] = c + e;
    to[4 * step] = c - e;
    to[5 * step] = 4 * d[step] - 5 * d[3 * step] + d[5 * step];
}

static void winograd_in(const float *const cells[MYR_WINOGRAD_PLACES], size_t n_channels, float *to, size_t stride)
{
    for (size_t c = 0; c < n_channels; c += MYR_LANES) {
        vector d[36], half[36];
        for (int p = 0; p < 36; p++)
            d[p] = load(cells[p] + c);
        for (int x = 0; x < 6; x++)
            transform_six(d + x, 6, half + x);
        for (int y = 0; y < 6; y++)
            transform_six(half + 6 * y, 1, d + 6 * y);
        for (int p = 0; p < 36; p++)
            store(to + (size_t)p * stride + c, d[p]);
    }
}

/* A^T m for six values `step` apart into four. */
ALWAYS_INLINE void transform_back(const vector *m, int step, vector *to, int to_step)
{
    vector a = m[step] + m[2 * step], b = m[step] - m[2 * step];
    vector c = m[3 * step] + m[4 * step], e = m[3 * step] - m[4 * step];
    to[0] = m[0] + a + c;
    to[to_step] = b + 2 * e;
    to[2 * to_step] = a + 4 * c;
    to[3 * to_step] = b + 8 * e + m[5 * step];
}

static void winograd_out(const myr_winograd_result *result, const float *from)
{
    for (size_t c = 0; c < result->n_channels; c += MYR_LANES) {
        vector m[36], half[24], y[16], bias = load(result->bias + c);
        for (int p = 0; p < 36; p++)
            m[p] = load(from + (size_t)p * result->stride + c);
        for (int x = 0; x < 6; x++)
            transform_back(m + x, 6, half + x, 6);
        for (int i = 0; i < 4; i++)
            transform_back(half + 6 * i, 1, y + 4 * i, 1);
        for (int p = 0; p < 16; p++) {
            if (!result->out[p])
                continue;
            vector value = y[p] + bias;
            if (result->residual[p])
                value += load(result->residual[p] + c);
            for (int lane = 0; lane < MYR_LANES; lane++)
                value[lane] = limit(value[lane], result->low, result->high);
            store(result->out[p] + c, value);
        }
    }
}

/* ---- Pairs ---- */

#define PAIR_BY(operator)                                                                                              \
    if (x_stride && z_stride)                                                                                          \
        for (size_t i = 0; i < n; i++)                                                                                 \
            y[i] = x[i] operator z[i];                                                                                 \
    else if (x_stride)                                                                                                 \
        for (size_t i = 0; i < n; i++)                                                                                 \
            y[i] = x[i] operator first_z;                                                                              \
    else                                                                                                               \
        for (size_t i = 0; i < n; i++)                                                                                 \
            y[i] = first_x operator(z_stride ? z[i] : first_z);                                                        \
    break

static void pair(myr_pairing pairing, const float *x, int x_stride, const float *z, int z_stride, float *y, size_t n)
{
    if (n == 0)
        return;
    float first_x = x[0], first_z = z[0];
    switch (pairing) {
    case MYR_PAIRING_ADD:
        PAIR_BY(+);
    case MYR_PAIRING_SUBTRACT:
        PAIR_BY(-);
    case MYR_PAIRING_MULTIPLY:
        PAIR_BY(*);
    case MYR_PAIRING_DIVIDE:
        PAIR_BY(/);
    }
}

static void scale(const float *x, const float *factor, const float *offset, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * factor[i] + offset[i];
}

static void raise(const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] > y[i] ? x[i] : y[i];
}

/* ---- Rows ---- */

/* Sums in lanes, then over the lanes: the compiler may not reorder sums by itself. */
#define SUM_OF(total, expression)                                                                                      \
    do {                                                                                                               \
        float lanes[16] = {0};                                                                                         \
        size_t i = 0;                                                                                                  \
        for (; i + 16 <= n; i += 16)                                                                                   \
            for (size_t l = 0; l < 16; l++) {                                                                          \
                size_t at = i + l;                                                                                     \
                lanes[l] += expression;                                                                                \
            }                                                                                                          \
        for (size_t at = i; at < n; at++)                                                                              \
            lanes[at - i] += expression;                                                                               \
        for (size_t l = 0; l < 16; l++)                                                                                \
            total += lanes[l];                                                                                         \
    } while (0)

static void softmax_row(const float *x, float *y, size_t n)
{
    float highest = -INFINITY, total = 0;
    for (size_t i = 0; i < n; i++)
        highest = x[i] > highest ? x[i] : highest;
    for (size_t i = 0; i < n; i++)
        y[i] = exponential(x[i] - highest);
    SUM_OF(total, y[at]);
    for (size_t i = 0; i < n; i++)
        y[i] /= total;
}

static void normalise_row(const float *x, const float *factors, const float *bias, float epsilon, float *y, size_t n)
{
    float sum = 0, squares = 0;
    SUM_OF(sum, x[at]);
    float mean = sum / (float)n;
    SUM_OF(squares, (x[at] - mean) * (x[at] - mean));
    float factor = 1 / sqrtf(squares / (float)n + epsilon);
    if (bias)
        for (size_t i = 0; i < n; i++)
            y[i] = (x[i] - mean) * factor * factors[i] + bias[i];
    else
        for (size_t i = 0; i < n; i++)
            y[i] = (x[i] - mean) * factor * factors[i];
}

static void finish_rows(float *rows, const float *residual, const float *bias, float low, float high, size_t n_rows,
                        size_t n)
{
    for (size_t i = 0; i < n_rows; i++, rows += n) {
        const float *added = residual ? residual + i * n : NULL;
        if (added && bias)
            for (size_t j = 0; j < n; j++)
                rows[j] = limit(rows[j] + bias[j] + added[j], low, high);
        else if (added || bias)
            for (size_t j = 0; j < n; j++)
                rows[j] = limit(rows[j] + (bias ? bias : added)[j], low, high);
        else
            for (size_t j = 0; j < n; j++)
                rows[j] = limit(rows[j], low, high);
    }
}

/* ---- Layout ---- */

#define TILE 16 /* floats of a cache line */

static void transpose(const float *in, size_t n_rows, size_t n_columns, float *out)
{
    for (size_t column = 0; column < n_columns; column += TILE) {
        size_t end = column + TILE < n_columns ? column + TILE : n_columns;
        for (size_t row = 0; row < n_rows; row += TILE) {
            size_t bottom = row + TILE < n_rows ? row + TILE : n_rows;
            for (size_t j = column; j < end; j++)
                for (size_t i = row; i < bottom; i++)
                    out[j * n_rows + i] = in[i * n_columns + j];
        }
    }
}

const myr_openblas_kernels MYR_VARIANT = {.name = NAME_OF(MYR_VARIANT),
                                          .panel_width = PANEL_WIDTH,
                                          .multiply = multiply_all,
                                          .finish_rows = finish_rows,
                                          .depthwise_row = depthwise_row,
                                          .winograd_in = winograd_in,
                                          .winograd_out = winograd_out,
                                          .apply = apply,
                                          .pair = pair,
                                          .scale = scale,
                                          .raise = raise,
                                          .softmax_row = softmax_row,
                                          .normalise_row = normalise_row,
                                          .transpose = transpose};
