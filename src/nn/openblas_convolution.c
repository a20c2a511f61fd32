/*
 * Convolutions, by pixel.
 *
 * Results are computed in blocks of pixels that fit the second cache: products of matrices are added up in
 * it, bias, residual and activation follow while it is still there. The products are OpenBLAS's, or, where the kernels
 * have one for this CPU, those of a kernel that takes the weights in panels arranged once, not in every call. The left
 * matrix is the input itself (1x1), or the windows of the block's pixels laid out as its rows, as many columns at a
 * time as one product takes (im2col; Chellapilla et al. 2006). Convolutions of single channels go row by row.
 */
#include "base/alloc.h"
#include "nn/openblas.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Columns of a product: no more than OpenBLAS adds up at once, so that an element's rounding does not depend on the
 * block it is in; and short sums round less. */
#define MAX_COLUMNS 320
/* Floats of a block, results and windows together: half of a small second cache. */
#define BLOCK_FLOATS (1 << 17)
/* Fewer pixels than this, and OpenBLAS spends its time on rearranging the weights. */
#define MIN_PIXELS 384
/* Rows of a kernel that goes row by row. */
#define MAX_ROWS 32

typedef struct convolution {
    const myr_openblas_kernels *kernels;
    myr_window window;
    int64_t batch, n_groups, n_in, n_out; /* channels of a group */
    size_t n_panels;                      /* floats of a group's weights in panels; 0 = not in panels */
    float *weights;                       /* [owned] (n_groups, kernel y, kernel x, n_in, n_out), or in panels */
    float *bias;                          /* [owned] (n_groups * n_out) and zeros for the last panel */
    myr_activation activation;
    int in, out, residual;       /* buffers; residual may be -1 */
    bool is_pointwise;           /* 1x1, stride 1, no padding: the input is the matrix already */
    int64_t n_pixels, n_columns; /* of a block */
    int64_t line_stride;         /* floats between the lines of neighbours; 0 = laid out one behind the other */
} convolution;

static void free_convolution(void *memory)
{
    convolution *self = memory;
    if (self) {
        free(self->weights);
        free(self->bias);
    }
    free(self);
}

static int64_t all_in(const convolution *self)
{
    return self->n_groups * self->n_in;
}

static int64_t all_out(const convolution *self)
{
    return self->n_groups * self->n_out;
}

static int64_t depth_of(const convolution *self)
{
    return self->window.kernel[0] * self->window.kernel[1] * self->n_in;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- Windows as rows ---- */

/* Columns [begin, end) of a row are cut into lines, each a run of input cells next to each other in memory. */
typedef struct unrolling {
    int64_t n_cells; /* of the kernel in a line */
    int64_t n_line;  /* columns of a line */
    int64_t begin, end;
    int64_t ky, kx, offset; /* where `begin` is */
} unrolling;

static unrolling plan_unrolling(const convolution *self, int64_t begin, int64_t end)
{
    bool runs = self->n_groups == 1 && self->window.dilation[1] == 1;
    int64_t n_cells = runs ? self->window.kernel[1] : 1;
    int64_t n_line = n_cells * self->n_in, line = begin / n_line, lines_a_row = self->window.kernel[1] / n_cells;
    return (unrolling){.n_cells = n_cells,
                       .n_line = n_line,
                       .begin = begin,
                       .end = end,
                       .ky = line / lines_a_row,
                       .kx = line % lines_a_row * n_cells,
                       .offset = begin - line * n_line};
}

/* n floats, four at a time, the last four over again where n is no multiple: lines are short. */
static inline void copy_line(const float *from, float *to, int64_t n)
{
    if (n < 4) {
        for (int64_t i = 0; i < n; i++)
            to[i] = from[i];
        return;
    }
    for (int64_t i = 0; i + 4 <= n; i += 4)
        memcpy(to + i, from + i, 4 * sizeof *to);
    memcpy(to + n - 4, from + n - 4, 4 * sizeof *to);
}

/* to[i] = from[i] for i in [first, last), 0 elsewhere in [0, n). */
static void copy_between(const float *from, int64_t first, int64_t last, float *to, int64_t n)
{
    if (first <= 0 && last >= n) {
        copy_line(from, to, n);
        return;
    }
    first = first > 0 ? smaller(first, n) : 0;
    last = larger(first, smaller(last, n));
    for (int64_t i = 0; i < first; i++)
        to[i] = 0;
    for (int64_t i = first; i < last; i++)
        to[i] = from[i];
    for (int64_t i = last; i < n; i++)
        to[i] = 0;
}

/* One pixel's columns. picture: the group's first channel of the picture's first pixel. */
static void unroll_pixel(const convolution *self, const unrolling *plan, const float *picture, int64_t y, int64_t x,
                         float *columns)
{
    const myr_window *window = &self->window;
    int64_t n_channels = all_in(self), ky = plan->ky, kx = plan->kx, offset = plan->offset;
    for (int64_t at = plan->begin; at < plan->end;) {
        int64_t n = smaller(plan->n_line - offset, plan->end - at);
        int64_t iy = y * window->stride[0] + ky * window->dilation[0] - window->pad_begin[0];
        int64_t ix = x * window->stride[1] + kx * window->dilation[1] - window->pad_begin[1];
        int64_t first = -ix * self->n_in, last = (window->in[1] - ix) * self->n_in;
        if (iy < 0 || iy >= window->in[0] || last <= 0 || first >= plan->n_line)
            memset(columns, 0, (size_t)n * sizeof *columns);
        else
            copy_between(picture + (iy * window->in[1] + ix) * n_channels + offset, first - offset, last - offset,
                         columns, n);
        columns += n;
        at += n;
        offset = 0;
        kx += plan->n_cells;
        if (kx == window->kernel[1]) {
            kx = 0;
            ky++;
        }
    }
}

/* Columns of the pixels [first, first + n) of all pictures. */
static void unroll(const convolution *self, const unrolling *plan, const float *in, int64_t first, int64_t n,
                   float *columns)
{
    const myr_window *window = &self->window;
    int64_t plane = window->out[0] * window->out[1], in_picture = window->in[0] * window->in[1] * all_in(self);
    int64_t picture = first / plane, y = first % plane / window->out[1], x = first % window->out[1];
    for (int64_t i = 0; i < n; i++, columns += plan->end - plan->begin) {
        unroll_pixel(self, plan, in + picture * in_picture, y, x, columns);
        if (++x == window->out[1]) {
            x = 0;
            if (++y == window->out[0]) {
                y = 0;
                picture++;
            }
        }
    }
}

/* ---- By products ---- */

/* The columns [begin, end) of one group, by our own kernel; bias, residual and bounds too. */
static void multiply_panels(const convolution *self, int64_t group, int64_t begin, int64_t end, int64_t n,
                            const float *left, const float *residual, float *block)
{
    const myr_activation *activation = &self->activation;
    bool clips = activation->kind == MYR_ACTIVATION_CLIP, cuts = activation->kind == MYR_ACTIVATION_RELU;
    int64_t place = group * self->n_out;
    self->kernels->multiply(&(myr_rows_by_panels){.n_rows = (size_t)n,
                                                  .n_out = (size_t)self->n_out,
                                                  .first = (size_t)begin,
                                                  .last = (size_t)end,
                                                  .depth = (size_t)depth_of(self),
                                                  .left = left,
                                                  .left_stride = (size_t)(self->line_stride    ? self->line_stride
                                                                          : self->is_pointwise ? all_in(self)
                                                                                               : end - begin),
                                                  .panels = self->weights + (size_t)group * self->n_panels,
                                                  .bias = self->bias + place,
                                                  .residual = residual ? residual + place : NULL,
                                                  .out = block + place,
                                                  .out_stride = (size_t)all_out(self),
                                                  .low = clips  ? activation->low
                                                         : cuts ? 0
                                                                : -INFINITY,
                                                  .high = clips ? activation->high : INFINITY});
}

/* Adds one group's product to the block of n pixels from `first`. */
static void add_product(const convolution *self, const float *in, int64_t group, int64_t first, int64_t n,
                        const float *residual, float *block, float *columns)
{
    int64_t depth = depth_of(self), n_channels = all_in(self);
    const float *weights = self->weights + group * depth * self->n_out;
    for (int64_t begin = 0; begin < depth; begin += self->n_columns) {
        int64_t n_columns = smaller(self->n_columns, depth - begin);
        const float *left = in + first * n_channels + group * self->n_in + begin;
        if (!self->is_pointwise) {
            unrolling plan = plan_unrolling(self, begin, begin + n_columns);
            unroll(self, &plan, in + group * self->n_in, first, n, columns);
            left = columns;
        }
        if (self->n_panels > 0)
            multiply_panels(self, group, begin, begin + n_columns, n, left, residual, block);
        else
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)self->n_out, (int)n_columns, 1, left,
                        (int)(self->is_pointwise ? n_channels : n_columns), weights + begin * self->n_out,
                        (int)self->n_out, begin > 0 ? 1 : 0, block + group * self->n_out, (int)all_out(self));
    }
}

static myr_status run_products(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    const convolution *self = step->state;
    const float *residual = self->residual >= 0 ? (const float *)address[self->residual] : NULL;
    int64_t n_all = self->batch * self->window.out[0] * self->window.out[1], n_channels = all_out(self);
    myr_activation_kind kind = self->activation.kind;
    bool is_other = kind != MYR_ACTIVATION_NONE && kind != MYR_ACTIVATION_RELU && kind != MYR_ACTIVATION_CLIP;
    for (int64_t first = 0; first < n_all; first += self->n_pixels) {
        int64_t n = smaller(self->n_pixels, n_all - first);
        float *block = (float *)address[self->out] + first * n_channels;
        const float *added = residual ? residual + first * n_channels : NULL;
        for (int64_t g = 0; g < self->n_groups; g++)
            add_product(self, (const float *)address[self->in], g, first, n, added, block, (float *)scratch);
        if (self->n_panels == 0)
            myr_openblas_finish(self->kernels, &self->activation, added, self->bias, block, (size_t)n,
                                (size_t)n_channels);
        else if (is_other)
            myr_openblas_activate(self->kernels, &self->activation, block, (size_t)(n * n_channels));
    }
    return MYR_OK;
}

static const myr_step_kind product_step = {.name = "OpenBLAS", .run = run_products, .free = free_convolution};

/* ---- Few input channels ---- */

/* Up to so many, laying windows out as rows costs as much as the product: the first layer. */
#define MAX_FEW_CHANNELS 8

/* Columns of the weights [ky, ky + 1) for n pixels, whose lines begin at `left`, `stride` floats apart. */
static void add_lines(const convolution *self, int64_t ky, const float *left, int64_t stride, int64_t n,
                      const float *residual, float *out)
{
    int64_t n_line = self->window.kernel[1] * self->n_in;
    convolution strided = *self;
    strided.line_stride = stride;
    multiply_panels(&strided, 0, ky * n_line, (ky + 1) * n_line, n, left, residual, out);
}

/* One row of results. The lines of neighbouring pixels overlap in the input, which is the left matrix as it is; a line
 * that reaches over an edge is laid out. zeros: a row of the input. */
static void run_row(const convolution *self, const float *picture, int64_t y, const float *zeros, float *line,
                    const float *residual, float *out)
{
    const myr_window *window = &self->window;
    int64_t n_line = window->kernel[1] * self->n_in, step = window->stride[1];
    int64_t first = smaller((window->pad_begin[1] + step - 1) / step, window->out[1]);
    int64_t reach = window->in[1] + window->pad_begin[1] - window->kernel[1];
    int64_t last = reach < 0 ? first : larger(first, smaller(reach / step + 1, window->out[1]));
    for (int64_t ky = 0; ky < window->kernel[0]; ky++) {
        int64_t iy = y * window->stride[0] + ky * window->dilation[0] - window->pad_begin[0];
        const float *row = iy < 0 || iy >= window->in[0] ? zeros : picture + iy * window->in[1] * self->n_in;
        for (int64_t x = 0; x < window->out[1]; x++) {
            if (x == first && first < last) {
                add_lines(self, ky, row + (x * step - window->pad_begin[1]) * self->n_in, step * self->n_in,
                          last - first, residual ? residual + x * self->n_out : NULL, out + x * self->n_out);
                x = last - 1;
                continue;
            }
            int64_t ix = x * step - window->pad_begin[1];
            copy_between(row + ix * self->n_in, -ix * self->n_in, (window->in[1] - ix) * self->n_in, line, n_line);
            add_lines(self, ky, line, n_line, 1, residual ? residual + x * self->n_out : NULL, out + x * self->n_out);
        }
    }
}

static myr_status run_few(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    const convolution *self = step->state;
    const myr_window *window = &self->window;
    const float *in = (const float *)address[self->in];
    const float *residual = self->residual >= 0 ? (const float *)address[self->residual] : NULL;
    float *out = (float *)address[self->out], *zeros = (float *)scratch;
    int64_t in_picture = window->in[0] * window->in[1] * self->n_in, out_row = window->out[1] * self->n_out;
    myr_activation_kind kind = self->activation.kind;
    memset(zeros, 0, (size_t)(window->in[1] * self->n_in) * sizeof *zeros);
    for (int64_t i = 0; i < self->batch * window->out[0]; i++, out += out_row) {
        run_row(self, in + i / window->out[0] * in_picture, i % window->out[0], zeros,
                zeros + window->in[1] * self->n_in, residual ? residual + i * out_row : NULL, out);
        if (kind != MYR_ACTIVATION_NONE && kind != MYR_ACTIVATION_RELU && kind != MYR_ACTIVATION_CLIP)
            myr_openblas_activate(self->kernels, &self->activation, out, (size_t)out_row);
    }
    return MYR_OK;
}

static const myr_step_kind few_step = {.name = "OpenBLAS", .run = run_few, .free = free_convolution};

static bool has_few_channels(const convolution *self)
{
    return self->n_groups == 1 && self->n_in <= MAX_FEW_CHANNELS && self->window.dilation[1] == 1 &&
           self->kernels->panel_width > 0 && !self->is_pointwise;
}

/* Blocks of about the same size, so that the last one is not a narrow rest. */
static void plan_blocks(convolution *self)
{
    int64_t depth = depth_of(self), n_all = self->batch * self->window.out[0] * self->window.out[1];
    int64_t parts = (depth + MAX_COLUMNS - 1) / MAX_COLUMNS;
    self->n_columns = (depth + parts - 1) / parts;
    int64_t most = larger(BLOCK_FLOATS / (self->n_columns + all_out(self)), MIN_PIXELS);
    int64_t n_blocks = (n_all + most - 1) / most;
    self->n_pixels = (n_all + n_blocks - 1) / n_blocks;
}

/* ---- Row by row ---- */

static myr_status run_rows(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    const convolution *self = step->state;
    const myr_window *window = &self->window;
    int64_t n_channels = all_in(self), in_row = window->in[1] * n_channels, out_row = window->out[1] * n_channels;
    const float *in = (const float *)address[self->in], *rows[MAX_ROWS];
    const float *residual = self->residual >= 0 ? (const float *)address[self->residual] : NULL;
    float *out = (float *)address[self->out];
    myr_depthwise row = {.n_channels = n_channels,
                         .kernel = {window->kernel[0], window->kernel[1]},
                         .stride = window->stride[1],
                         .dilation = window->dilation[1],
                         .pad = window->pad_begin[1],
                         .n_in = window->in[1],
                         .n_out = window->out[1],
                         .weights = self->weights,
                         .bias = self->bias};
    memset(scratch, 0, (size_t)in_row * sizeof(float)); /* the rows above and below the picture */
    for (int64_t i = 0; i < self->batch * window->out[0]; i++, out += out_row) {
        const float *picture = in + i / window->out[0] * window->in[0] * in_row;
        for (int64_t ky = 0; ky < window->kernel[0]; ky++) {
            int64_t iy = i % window->out[0] * window->stride[0] + ky * window->dilation[0] - window->pad_begin[0];
            rows[ky] = iy < 0 || iy >= window->in[0] ? (const float *)scratch : picture + iy * in_row;
        }
        self->kernels->depthwise_row(&row, rows, out);
        if (residual)
            self->kernels->pair(MYR_PAIRING_ADD, out, 1, residual + i * out_row, 1, out, (size_t)out_row);
        myr_openblas_activate(self->kernels, &self->activation, out, (size_t)out_row);
    }
    return MYR_OK;
}

static const myr_step_kind row_step = {.name = "OpenBLAS", .run = run_rows, .free = free_convolution};

/* ---- Compiling ---- */

/* Where the weight of output o at a place of the windows' columns lies. */
static size_t find_weight(const convolution *self, bool by_rows, int64_t o, int64_t cell, int64_t channel)
{
    size_t depth = (size_t)depth_of(self), n_out = (size_t)self->n_out, width = self->kernels->panel_width;
    size_t group = (size_t)o / n_out, column = (size_t)o % n_out, place = (size_t)(cell * self->n_in + channel);
    if (by_rows) /* (cells, channels) */
        return (size_t)cell * (size_t)self->n_groups + (size_t)o;
    if (self->n_panels == 0)
        return (group * depth + place) * n_out + column;
    size_t first = column / width * width, own_width = n_out - first > width / 2 ? width : width / 2;
    return group * self->n_panels + first * depth + place * own_width + column % width;
}

/* Weights (o, c, ky, kx) in the order they are used in, and the bias. */
static bool take_constants(convolution *self, const myr_tensor *weights, const myr_tensor *bias, bool by_rows)
{
    int64_t cells = self->window.kernel[0] * self->window.kernel[1];
    size_t width = self->kernels->panel_width, n_out = (size_t)self->n_out, n_weights, n_all;
    const float *from = weights->data;
    if (width > 0 && !by_rows) {
        size_t half = width / 2;
        if (!myr_mul((n_out + half - 1) / half * half, (size_t)depth_of(self), &self->n_panels))
            return false;
    }
    if (!myr_mul(self->n_panels, (size_t)self->n_groups, &n_all))
        return false;
    n_weights = self->n_panels > 0 ? n_all : myr_shape_count(&weights->shape);
    self->weights = myr_alloc_huge(n_weights, sizeof(float));
    self->bias = myr_alloc((size_t)all_out(self) + width, sizeof(float));
    if (!self->weights || !self->bias)
        return false;
    for (int64_t o = 0; o < all_out(self); o++)
        for (int64_t c = 0; c < self->n_in; c++)
            for (int64_t k = 0; k < cells; k++)
                self->weights[find_weight(self, by_rows, o, k, c)] = *from++;
    if (bias)
        memcpy(self->bias, bias->data, (size_t)all_out(self) * sizeof(float));
    return true;
}

static size_t packed_bytes(const convolution *self, const myr_shape *weights)
{
    size_t n = self->n_panels > 0 ? self->n_panels * (size_t)self->n_groups : myr_shape_count(weights);
    return (n + (size_t)all_out(self)) * sizeof(float);
}

static bool is_pointwise(const myr_window *window)
{
    for (int i = 0; i < 2; i++)
        if (window->kernel[i] != 1 || window->stride[i] != 1 || window->pad_begin[i] != 0 ||
            window->out[i] != window->in[i])
            return false;
    return true;
}

/* Sizes that OpenBLAS's 32-bit arguments and our own arithmetic hold. */
static bool is_small_enough(const convolution *self)
{
    return all_in(self) <= INT32_MAX && all_out(self) <= INT32_MAX &&
           self->window.kernel[0] * self->window.kernel[1] <= INT32_MAX;
}

static myr_status bring_buffers(myr_openblas_builder *build, const myr_node *node, convolution *self)
{
    myr_status status = myr_openblas_bring_pixels(build, node->inputs[0], &self->in);
    if (status == MYR_OK && node->residual >= 0)
        status = myr_openblas_bring_pixels(build, node->residual, &self->residual);
    return status != MYR_OK ? status : myr_openblas_settle_pixels(build, node->outputs[0], &self->out);
}

myr_status myr_openblas_convolution(myr_openblas_builder *build, const myr_node *node, bool *taken)
{
    const myr_graph *graph = build->graph;
    const myr_tensor *weights = myr_node_constant(graph, node, 1), *bias = myr_node_constant(graph, node, 2);
    const myr_shape *in = &graph->values[node->inputs[0]].shape;
    bool fits = weights && in->rank == 4 && (bias || node->n_inputs < 3 || node->inputs[2] < 0) &&
                myr_openblas_is_computed(build, node, 0) && myr_shape_count(&weights->shape) > 0 &&
                (node->residual < 0 || !graph->values[node->residual].constant);
    if (!fits)
        return MYR_OK;
    convolution *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_openblas_no_memory(node);
    int64_t n_groups = myr_node_int(node, "group", 1);
    *self = (convolution){.kernels = build->kernels,
                          .batch = in->dims[0],
                          .n_groups = n_groups,
                          .n_in = weights->shape.dims[1],
                          .n_out = weights->shape.dims[0] / n_groups,
                          .activation = node->activation,
                          .residual = -1};
    myr_status status = myr_window_resolve(node, in, weights->shape.dims + 2, &self->window);
    if (status == MYR_OK)
        status = myr_openblas_winograd(build, node, &self->window, taken);
    if (status != MYR_OK || *taken || !is_small_enough(self)) {
        free_convolution(self);
        return status;
    }
    *taken = true;
    bool by_rows = self->n_in == 1 && self->n_out == 1 && self->window.kernel[0] <= MAX_ROWS;
    self->is_pointwise = is_pointwise(&self->window);
    plan_blocks(self);
    if (!take_constants(self, weights, bias, by_rows))
        status = myr_openblas_no_memory(node);
    if (status == MYR_OK)
        status = bring_buffers(build, node, self);
    if (status != MYR_OK) {
        free_convolution(self);
        return status;
    }
    bool is_few = !by_rows && has_few_channels(self);
    size_t scratch = by_rows              ? (size_t)(self->window.in[1] * all_in(self))
                     : is_few             ? (size_t)((self->window.in[1] + self->window.kernel[1]) * self->n_in)
                     : self->is_pointwise ? 0
                                          : (size_t)(self->n_pixels * self->n_columns);
    status = myr_program_add_step(build->compiler->program,
                                  by_rows  ? &row_step
                                  : is_few ? &few_step
                                           : &product_step,
                                  node->name, self, (int[]){self->in, self->out, self->residual},
                                  self->residual >= 0 ? 3 : 2, scratch * sizeof(float));
    if (status == MYR_OK)
        myr_program_add_packed(build->compiler->program, packed_bytes(self, &weights->shape));
    return status;
}
