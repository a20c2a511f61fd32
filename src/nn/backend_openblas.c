/*
 * The OpenBLAS backend: convolutions as products of matrices (im2col; Chellapilla et al.
 * 2006), depthwise ones row by row, all else by the reference implementations.
 */
#include "base/alloc.h"
#include "nn/backend.h"
#include "nn/operator.h"

#include <cblas.h>
#include <stdlib.h>
#include <string.h>

/* ---- Conv ---- */

typedef struct convolution {
    myr_window window;
    int64_t batch, n_groups, n_in, n_out; /* channels of a group */
    const float *weights, *bias;          /* [borrowed] from the graph; bias may be NULL */
    myr_activation activation;
    int in, out, residual; /* buffers; residual may be -1 */
    bool is_pointwise;     /* 1x1, stride 1, no padding: the input is the matrix already */
} convolution;

static int64_t in_plane(const convolution *self)
{
    return self->window.in[0] * self->window.in[1];
}

static int64_t out_plane(const convolution *self)
{
    return self->window.out[0] * self->window.out[1];
}

/* Output columns [first, last) whose input column lies inside, for one column of the kernel. */
static void column_range(const myr_window *window, int64_t kx, int64_t *first, int64_t *last)
{
    int64_t shift = kx * window->dilation[1] - window->pad_begin[1], stride = window->stride[1];
    *first = shift >= 0 ? 0 : (-shift + stride - 1) / stride;
    *last = window->in[1] - 1 - shift < 0 ? 0 : (window->in[1] - 1 - shift) / stride + 1;
    *last = *last < window->out[1] ? *last : window->out[1];
    *first = *first < *last ? *first : *last;
}

/* Rows of `columns`: one for each channel and kernel cell, one value for each output cell. */
static void unroll(const convolution *self, const float *in, float *columns)
{
    const myr_window *window = &self->window;
    for (int64_t c = 0; c < self->n_in; c++, in += in_plane(self)) {
        for (int64_t k = 0; k < window->kernel[0] * window->kernel[1]; k++) {
            int64_t ky = k / window->kernel[1], kx = k % window->kernel[1], first, last;
            column_range(window, kx, &first, &last);
            for (int64_t y = 0; y < window->out[0]; y++, columns += window->out[1]) {
                int64_t iy = y * window->stride[0] + ky * window->dilation[0] - window->pad_begin[0];
                memset(columns, 0, (size_t)window->out[1] * sizeof *columns);
                if (iy < 0 || iy >= window->in[0])
                    continue;
                const float *row = in + iy * window->in[1] + kx * window->dilation[1] - window->pad_begin[1];
                for (int64_t x = first; x < last; x++)
                    columns[x] = row[x * window->stride[1]];
            }
        }
    }
}

/* One channel under its own kernel. */
static void convolve_plane(const myr_window *window, const float *in, const float *kernel, float *out)
{
    memset(out, 0, (size_t)(window->out[0] * window->out[1]) * sizeof *out);
    for (int64_t y = 0; y < window->out[0]; y++, out += window->out[1]) {
        for (int64_t k = 0; k < window->kernel[0] * window->kernel[1]; k++) {
            int64_t ky = k / window->kernel[1], kx = k % window->kernel[1], first, last;
            int64_t iy = y * window->stride[0] + ky * window->dilation[0] - window->pad_begin[0];
            if (iy < 0 || iy >= window->in[0])
                continue;
            column_range(window, kx, &first, &last);
            const float *row = in + iy * window->in[1] + kx * window->dilation[1] - window->pad_begin[1];
            float weight = kernel[k];
            if (window->stride[1] == 1)
                for (int64_t x = first; x < last; x++)
                    out[x] += weight * row[x];
            else
                for (int64_t x = first; x < last; x++)
                    out[x] += weight * row[x * window->stride[1]];
        }
    }
}

static void convolve_group(const convolution *self, const float *in, const float *weights, float *out, float *columns)
{
    int64_t depth = self->n_in * self->window.kernel[0] * self->window.kernel[1], cells = out_plane(self);
    if (self->n_in == 1) {
        for (int64_t o = 0; o < self->n_out; o++)
            convolve_plane(&self->window, in, weights + o * depth, out + o * cells);
        return;
    }
    if (!self->is_pointwise)
        unroll(self, in, columns);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)self->n_out, (int)cells, (int)depth, 1, weights,
                (int)depth, self->is_pointwise ? in : columns, (int)cells, 0, out, (int)cells);
}

static myr_status run_convolution(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    const convolution *self = step->state;
    const float *in = (const float *)address[self->in];
    float *out = (float *)address[self->out];
    int64_t depth = self->n_in * self->window.kernel[0] * self->window.kernel[1], cells = out_plane(self);
    for (int64_t i = 0; i < self->batch * self->n_groups; i++) {
        int64_t g = i % self->n_groups;
        convolve_group(self, in + i * self->n_in * in_plane(self), self->weights + g * self->n_out * depth,
                       out + i * self->n_out * cells, (float *)scratch);
    }
    for (int64_t i = 0; i < self->batch * self->n_groups * self->n_out && self->bias; i++) {
        float offset = self->bias[i % (self->n_groups * self->n_out)], *plane = out + i * cells;
        for (int64_t x = 0; x < cells; x++)
            plane[x] += offset;
    }
    myr_apply_fused(&self->activation, self->residual >= 0 ? (const float *)address[self->residual] : NULL, out,
                    (size_t)(self->batch * self->n_groups * self->n_out * cells));
    return MYR_OK;
}

static const myr_step_kind convolution_step = {.name = "OpenBLAS", .run = run_convolution, .free = free};

/* *taken is false where this backend has nothing better than the reference. */
static myr_status compile_convolution(myr_compiler *compiler, const myr_node *node, bool *taken)
{
    const myr_graph *graph = compiler->graph;
    const myr_tensor *weights = myr_node_constant(graph, node, 1), *bias = myr_node_constant(graph, node, 2);
    const myr_shape *in = &graph->values[node->inputs[0]].shape;
    *taken = weights && in->rank == 4 && (bias || node->n_inputs < 3 || node->inputs[2] < 0);
    if (!*taken)
        return MYR_OK;
    convolution *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", node->name);
    int64_t n_groups = myr_node_int(node, "group", 1);
    *self = (convolution){.batch = in->dims[0],
                          .n_groups = n_groups,
                          .n_in = weights->shape.dims[1],
                          .n_out = weights->shape.dims[0] / n_groups,
                          .weights = weights->data,
                          .bias = bias ? bias->data : NULL,
                          .activation = node->activation,
                          .residual = -1};
    myr_status status = myr_window_resolve(node, in, weights->shape.dims + 2, &self->window);
    const myr_window *window = &self->window;
    int64_t columns = self->n_in * window->kernel[0] * window->kernel[1] * window->out[0] * window->out[1];
    self->is_pointwise = window->kernel[0] == 1 && window->kernel[1] == 1 && window->stride[0] == 1 &&
                         window->stride[1] == 1 && window->out[0] == window->in[0] && window->out[1] == window->in[1] &&
                         window->pad_begin[0] == 0 && window->pad_begin[1] == 0;
    if (status == MYR_OK && (columns > INT32_MAX || self->n_out > INT32_MAX))
        status = myr_fail(MYR_ERR_LIMIT, "node '%s' is too large for this backend", node->name);
    if (status == MYR_OK)
        status = myr_compiler_buffer(compiler, node->inputs[0], &self->in);
    if (status == MYR_OK)
        status = myr_compiler_buffer(compiler, node->outputs[0], &self->out);
    if (status == MYR_OK && node->residual >= 0)
        status = myr_compiler_buffer(compiler, node->residual, &self->residual);
    if (status != MYR_OK) {
        free(self);
        return status;
    }
    bool unrolls = self->n_in > 1 && !self->is_pointwise;
    return myr_program_add_step(compiler->program, &convolution_step, node->name, self,
                                (int[]){self->in, self->out, self->residual}, self->residual >= 0 ? 3 : 2,
                                unrolls ? (size_t)columns * sizeof(float) : 0);
}

/* ---- Gemm, and MatMul by one matrix ---- */

typedef struct product {
    int m, n, k;
    bool trans_a, trans_b;
    float alpha;
    const float *b; /* [borrowed] (n, k) or (k, n) */
    float *bias;    /* [owned] (n), beta applied; or NULL */
    myr_activation activation;
    int in, out;
} product;

static void free_product(void *memory)
{
    product *self = memory;
    if (self)
        free(self->bias);
    free(self);
}

static myr_status run_product(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    (void)scratch;
    const product *self = step->state;
    float *out = (float *)address[self->out];
    cblas_sgemm(CblasRowMajor, self->trans_a ? CblasTrans : CblasNoTrans, self->trans_b ? CblasTrans : CblasNoTrans,
                self->m, self->n, self->k, self->alpha, (const float *)address[self->in],
                self->trans_a ? self->m : self->k, self->b, self->trans_b ? self->k : self->n, 0, out, self->n);
    for (int i = 0; i < self->m && self->bias; i++)
        for (int j = 0; j < self->n; j++)
            out[(size_t)i * (size_t)self->n + (size_t)j] += self->bias[j];
    myr_apply_fused(&self->activation, NULL, out, (size_t)self->m * (size_t)self->n);
    return MYR_OK;
}

static const myr_step_kind product_step = {.name = "OpenBLAS", .run = run_product, .free = free_product};

/* A bias that is the same for every row, stretched to (n) and multiplied by beta. */
static float *row_bias(const myr_node *node, const myr_tensor *bias, int64_t n)
{
    float beta = myr_node_float(node, "beta", 1), *values = myr_alloc((size_t)n, sizeof *values);
    size_t count = myr_shape_count(&bias->shape);
    for (int64_t i = 0; values && i < n; i++)
        values[i] = beta * ((const float *)bias->data)[count == 1 ? 0 : i];
    return values;
}

static myr_status compile_product(myr_compiler *compiler, const myr_node *node, bool *taken)
{
    const myr_graph *graph = compiler->graph;
    const myr_shape *a = &graph->values[node->inputs[0]].shape;
    const myr_tensor *b = myr_node_constant(graph, node, 1), *bias = myr_node_constant(graph, node, 2);
    bool trans_a = myr_node_int(node, "transA", 0) != 0, trans_b = myr_node_int(node, "transB", 0) != 0;
    *taken = false;
    if (!b || b->shape.rank != 2 || a->rank < 2 || (node->n_inputs > 2 && node->inputs[2] >= 0 && !bias))
        return MYR_OK;
    int64_t k = b->shape.dims[trans_b ? 1 : 0], n = b->shape.dims[trans_b ? 0 : 1];
    int64_t m = k > 0 ? (int64_t)myr_shape_count(a) / k : 0;
    size_t n_bias = bias ? myr_shape_count(&bias->shape) : 1;
    if (m < 1 || n < 1 || m > INT32_MAX || n > INT32_MAX || k > INT32_MAX || (n_bias != 1 && n_bias != (size_t)n) ||
        (bias && bias->shape.rank == 2 && bias->shape.dims[0] != 1))
        return MYR_OK;
    product *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", node->name);
    *self = (product){.m = (int)m,
                      .n = (int)n,
                      .k = (int)k,
                      .trans_a = trans_a,
                      .trans_b = trans_b,
                      .alpha = myr_node_float(node, "alpha", 1),
                      .b = b->data,
                      .activation = node->activation,
                      .bias = bias ? row_bias(node, bias, n) : NULL};
    myr_status status = bias && !self->bias ? myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", node->name) : MYR_OK;
    if (status == MYR_OK)
        status = myr_compiler_buffer(compiler, node->inputs[0], &self->in);
    if (status == MYR_OK)
        status = myr_compiler_buffer(compiler, node->outputs[0], &self->out);
    if (status != MYR_OK) {
        free_product(self);
        return status;
    }
    *taken = true;
    return myr_program_add_step(compiler->program, &product_step, node->name, self, (int[]){self->in, self->out}, 2, 0);
}

/* ---- The backend ---- */

static myr_status compile_node(myr_compiler *compiler, const myr_node *node)
{
    bool taken = false;
    myr_status status = MYR_OK;
    switch (node->op->kind) {
    case MYR_KIND_RESHAPE:
        return myr_compiler_alias(compiler, node->inputs[0], node->outputs[0]);
    case MYR_KIND_CONV:
        status = compile_convolution(compiler, node, &taken);
        break;
    case MYR_KIND_GEMM:
    case MYR_KIND_MATMUL:
        status = compile_product(compiler, node, &taken);
        break;
    default:
        break;
    }
    return status != MYR_OK || taken ? status : myr_reference_add(compiler, node);
}

static myr_status compile(myr_compiler *compiler)
{
    myr_status status = MYR_OK;
    for (size_t i = 0; i < compiler->graph->n_nodes && status == MYR_OK; i++)
        status = compile_node(compiler, &compiler->graph->nodes[i]);
    return status;
}

/* Sessions run one to a core: OpenBLAS must not start threads of its own. */
static void enter_thread(void)
{
    openblas_set_num_threads(1);
}

const myr_backend myr_backend_openblas = {.name = "openblas", .compile = compile, .enter_thread = enter_thread};
