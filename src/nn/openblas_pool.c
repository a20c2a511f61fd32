/*
 * Pooling by pixel: all channels of a cell at once.
 */
#include "base/alloc.h"
#include "nn/openblas.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct pool {
    const myr_openblas_kernels *kernels;
    myr_window window;
    int64_t batch;
    size_t n_channels;
    bool is_maximum, count_pads;
    myr_activation activation;
    int in, out;
} pool;

/* Cells [*first, *last) of a kernel's n that lie inside [low, high), from a window's begin. */
static void cut_window(int64_t begin, int64_t dilation, int64_t low, int64_t high, int64_t n, int64_t *first,
                       int64_t *last)
{
    *first = begin < low ? (low - begin + dilation - 1) / dilation : 0;
    *last = begin < high ? (high - begin + dilation - 1) / dilation : 0;
    *last = *last < n ? *last : n;
    *first = *first < *last ? *first : *last;
}

/* Cells of a window at (begin) that an average is over, those in the padding too where they count. */
static int64_t count_cells(const pool *self, const int64_t begin[2])
{
    const myr_window *window = &self->window;
    int64_t n = 1;
    for (int i = 0; i < 2; i++) {
        int64_t first, last, low = self->count_pads ? INT64_MIN / 4 : 0;
        int64_t high = window->in[i] + (self->count_pads ? window->pad_end[i] : 0);
        cut_window(begin[i], window->dilation[i], low, high, window->kernel[i], &first, &last);
        n *= last - first;
    }
    return n;
}

static void pool_cell(const pool *self, const float *picture, const int64_t begin[2], float *out)
{
    const myr_window *window = &self->window;
    int64_t first[2], last[2], n;
    for (int i = 0; i < 2; i++)
        cut_window(begin[i], window->dilation[i], 0, window->in[i], window->kernel[i], &first[i], &last[i]);
    for (size_t c = 0; c < self->n_channels; c++)
        out[c] = self->is_maximum ? -INFINITY : 0;
    for (int64_t ky = first[0]; ky < last[0]; ky++) {
        for (int64_t kx = first[1]; kx < last[1]; kx++) {
            int64_t iy = begin[0] + ky * window->dilation[0], ix = begin[1] + kx * window->dilation[1];
            const float *from = picture + (size_t)(iy * window->in[1] + ix) * self->n_channels;
            if (self->is_maximum)
                self->kernels->raise(from, out, self->n_channels);
            else
                self->kernels->pair(MYR_PAIRING_ADD, out, 1, from, 1, out, self->n_channels);
        }
    }
    if (self->is_maximum)
        return;
    n = count_cells(self, begin);
    float divisor = (float)(n > 0 ? n : 1);
    self->kernels->pair(MYR_PAIRING_DIVIDE, out, 1, &divisor, 0, out, self->n_channels);
}

static myr_status run_pool(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    (void)scratch;
    const pool *self = step->state;
    const myr_window *window = &self->window;
    const float *picture = (const float *)address[self->in];
    float *out = (float *)address[self->out];
    for (int64_t i = 0; i < self->batch; i++) {
        for (int64_t y = 0; y < window->out[0]; y++) {
            float *row = out;
            for (int64_t x = 0; x < window->out[1]; x++, out += self->n_channels) {
                int64_t begin[2] = {y * window->stride[0] - window->pad_begin[0],
                                    x * window->stride[1] - window->pad_begin[1]};
                pool_cell(self, picture, begin, out);
            }
            myr_openblas_activate(self->kernels, &self->activation, row, (size_t)window->out[1] * self->n_channels);
        }
        picture += (size_t)(window->in[0] * window->in[1]) * self->n_channels;
    }
    return MYR_OK;
}

static const myr_step_kind pool_step = {.name = "OpenBLAS", .run = run_pool, .free = free};

/* plain_result: the result has other dimensions than (n, c, 1, 1), but its bytes. */
static myr_status add_pool(myr_openblas_builder *build, const myr_node *node, const myr_window *window,
                           bool plain_result)
{
    const myr_shape *in = &build->graph->values[node->inputs[0]].shape;
    pool *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_openblas_no_memory(node);
    *self = (pool){.kernels = build->kernels,
                   .window = *window,
                   .batch = in->dims[0],
                   .n_channels = (size_t)in->dims[1],
                   .is_maximum = node->op->kind == MYR_KIND_MAX_POOL,
                   .count_pads = myr_node_int(node, "count_include_pad", 0) != 0,
                   .activation = node->activation};
    myr_status status = myr_openblas_bring_pixels(build, node->inputs[0], &self->in);
    if (status == MYR_OK)
        status = plain_result ? myr_openblas_settle_plain(build, node->outputs[0], &self->out)
                              : myr_openblas_settle_pixels(build, node->outputs[0], &self->out);
    if (status != MYR_OK) {
        free(self);
        return status;
    }
    return myr_program_add_step(build->compiler->program, &pool_step, node->name, self, (int[]){self->in, self->out}, 2,
                                0);
}

myr_status myr_openblas_pool(myr_openblas_builder *build, const myr_node *node, bool *taken)
{
    const myr_shape *in = &build->graph->values[node->inputs[0]].shape;
    const myr_attribute *kernel = myr_node_attribute(node, "kernel_shape");
    myr_window window;
    if (!myr_openblas_is_computed(build, node, 0) || in->rank != 4 || node->residual >= 0 || !kernel || kernel->n != 2)
        return MYR_OK;
    myr_status status = myr_window_resolve(node, in, kernel->numbers, &window);
    *taken = status == MYR_OK;
    return *taken ? add_pool(build, node, &window, false) : status;
}

/* A mean over height and width, whatever becomes of the two dimensions. */
static bool is_plane_mean(const myr_graph *graph, const myr_node *node)
{
    const myr_attribute *given = myr_node_attribute(node, "axes");
    const myr_tensor *input = myr_node_constant(graph, node, 1);
    const int64_t *axes = given ? given->numbers : input && input->type == MYR_TYPE_I64 ? input->data : NULL;
    size_t n = given ? given->n : input ? myr_shape_count(&input->shape) : 0;
    int first, second;
    return axes && n == 2 && myr_axis_resolve(axes[0], 4, &first) && myr_axis_resolve(axes[1], 4, &second) &&
           first + second == 5 && (first == 2 || first == 3);
}

/* ---- Means of rows ---- */

typedef struct row_mean {
    const myr_openblas_kernels *kernels;
    size_t n_rows, n;
    myr_activation activation;
    int in, out;
} row_mean;

static myr_status run_row_mean(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    (void)scratch;
    const row_mean *self = step->state;
    const float *in = (const float *)address[self->in];
    float *out = (float *)address[self->out];
    for (size_t i = 0; i < self->n_rows; i++, in += self->n) {
        double sum = 0;
        for (size_t j = 0; j < self->n; j++)
            sum += (double)in[j];
        out[i] = (float)(sum / (double)self->n);
    }
    myr_openblas_activate(self->kernels, &self->activation, out, self->n_rows);
    return MYR_OK;
}

static const myr_step_kind row_mean_step = {.name = "OpenBLAS", .run = run_row_mean, .free = free};

/* Over the last axis, as layer normalisations written out in nodes have it. */
static bool is_row_mean(const myr_graph *graph, const myr_node *node, int rank)
{
    const myr_attribute *given = myr_node_attribute(node, "axes");
    const myr_tensor *input = myr_node_constant(graph, node, 1);
    const int64_t *axes = given ? given->numbers : input && input->type == MYR_TYPE_I64 ? input->data : NULL;
    size_t n = given ? given->n : input ? myr_shape_count(&input->shape) : 0;
    int axis;
    return axes && n == 1 && myr_axis_resolve(axes[0], rank, &axis) && axis == rank - 1;
}

static myr_status add_row_mean(myr_openblas_builder *build, const myr_node *node)
{
    const myr_shape *in = &build->graph->values[node->inputs[0]].shape;
    row_mean *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_openblas_no_memory(node);
    size_t n = (size_t)in->dims[in->rank - 1];
    *self = (row_mean){
        .kernels = build->kernels, .n_rows = myr_shape_count(in) / n, .n = n, .activation = node->activation};
    myr_status status = myr_openblas_bring_plain(build, node->inputs[0], &self->in);
    if (status == MYR_OK)
        status = myr_openblas_settle_plain(build, node->outputs[0], &self->out);
    if (status != MYR_OK) {
        free(self);
        return status;
    }
    return myr_program_add_step(build->compiler->program, &row_mean_step, node->name, self,
                                (int[]){self->in, self->out}, 2, 0);
}

myr_status myr_openblas_mean(myr_openblas_builder *build, const myr_node *node, bool *taken)
{
    const myr_graph *graph = build->graph;
    const myr_shape *in = &graph->values[node->inputs[0]].shape;
    bool is_pool = node->op->kind == MYR_KIND_GLOBAL_AVERAGE_POOL;
    if (!myr_openblas_is_computed(build, node, 0) || node->residual >= 0)
        return MYR_OK;
    if (!is_pool && is_row_mean(graph, node, in->rank)) {
        *taken = true;
        return add_row_mean(build, node);
    }
    if (in->rank != 4 || (!is_pool && !is_plane_mean(graph, node)))
        return MYR_OK;
    myr_window window = {.kernel = {in->dims[2], in->dims[3]},
                         .stride = {1, 1},
                         .dilation = {1, 1},
                         .in = {in->dims[2], in->dims[3]},
                         .out = {1, 1}};
    *taken = true;
    return add_pool(build, node, &window, graph->values[node->outputs[0]].shape.rank != 4);
}
