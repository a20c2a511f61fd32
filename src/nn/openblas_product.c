/*
 * Products of matrices: Gemm and MatMul by a constant matrix, in blocks of rows whose bias and activation are applied
 * while they are in the cache; MatMul of two computed stacks of matrices.
 */
#include "base/alloc.h"
#include "nn/openblas.h"

#include <cblas.h>
#include <stdlib.h>

/* Rows of a block: enough that OpenBLAS's rearranging of the constant matrix is paid back. */
#define BLOCK_ROWS 512

typedef struct product {
    const myr_openblas_kernels *kernels;
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
    const float *in = (const float *)address[self->in];
    float *out = (float *)address[self->out];
    for (int first = 0; first < self->m; first += BLOCK_ROWS) {
        int n_rows = self->m - first < BLOCK_ROWS ? self->m - first : BLOCK_ROWS;
        float *block = out + (size_t)first * (size_t)self->n;
        cblas_sgemm(CblasRowMajor, self->trans_a ? CblasTrans : CblasNoTrans, self->trans_b ? CblasTrans : CblasNoTrans,
                    n_rows, self->n, self->k, self->alpha,
                    in + (self->trans_a ? (size_t)first : (size_t)first * (size_t)self->k),
                    self->trans_a ? self->m : self->k, self->b, self->trans_b ? self->k : self->n, 0, block, self->n);
        myr_openblas_finish(self->kernels, &self->activation, NULL, self->bias, block, (size_t)n_rows, (size_t)self->n);
    }
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

myr_status myr_openblas_product(myr_openblas_builder *build, const myr_node *node, bool *taken)
{
    const myr_graph *graph = build->graph;
    const myr_shape *a = myr_openblas_shape(build, node->inputs[0]);
    const myr_tensor *b = myr_node_constant(graph, node, 1), *bias = myr_node_constant(graph, node, 2);
    bool trans_a = myr_node_int(node, "transA", 0) != 0, trans_b = myr_node_int(node, "transB", 0) != 0;
    if (!b || b->shape.rank != 2 || a->rank < 2 || (node->n_inputs > 2 && node->inputs[2] >= 0 && !bias) ||
        !myr_openblas_is_computed(build, node, 0) || node->residual >= 0)
        return MYR_OK;
    int64_t k = b->shape.dims[trans_b ? 1 : 0], n = b->shape.dims[trans_b ? 0 : 1];
    int64_t m = k > 0 ? (int64_t)myr_shape_count(a) / k : 0;
    size_t n_bias = bias ? myr_shape_count(&bias->shape) : 1;
    if (m < 1 || n < 1 || m > INT32_MAX - BLOCK_ROWS || n > INT32_MAX || k > INT32_MAX ||
        (n_bias != 1 && n_bias != (size_t)n) || (bias && bias->shape.rank == 2 && bias->shape.dims[0] != 1))
        return MYR_OK;
    product *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_openblas_no_memory(node);
    *self = (product){.kernels = build->kernels,
                      .m = (int)m,
                      .n = (int)n,
                      .k = (int)k,
                      .trans_a = trans_a,
                      .trans_b = trans_b,
                      .alpha = myr_node_float(node, "alpha", 1),
                      .b = b->data,
                      .activation = node->activation,
                      .bias = bias ? row_bias(node, bias, n) : NULL};
    myr_status status = bias && !self->bias ? myr_openblas_no_memory(node) : MYR_OK;
    if (status == MYR_OK)
        status = myr_openblas_bring_plain(build, node->inputs[0], &self->in);
    if (status == MYR_OK)
        status = myr_openblas_settle_plain(build, node->outputs[0], &self->out);
    if (status != MYR_OK) {
        free_product(self);
        return status;
    }
    *taken = true;
    status = myr_program_add_step(build->compiler->program, &product_step, node->name, self,
                                  (int[]){self->in, self->out}, 2, 0);
    if (status == MYR_OK)
        myr_compiler_keep(build->compiler, node->inputs[1]);
    return status;
}

/* ---- Stacks of matrices ---- */

typedef struct stack_product {
    const myr_openblas_kernels *kernels;
    int m, n, k;
    float alpha;
    int rank;                               /* of the stack: dimensions but the last two */
    int64_t dims[MYR_TENSOR_MAX_RANK];      /* of the stack */
    size_t strides[2][MYR_TENSOR_MAX_RANK]; /* floats from one matrix to the next; 0 where stretched */
    const float *constants[2];              /* [borrowed] NULL where computed */
    myr_activation activation;
    int in[2], out;
} stack_product;

static myr_status run_stack_product(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    (void)scratch;
    const stack_product *self = step->state;
    int64_t place[MYR_TENSOR_MAX_RANK] = {0};
    const float *at[2];
    float *out = (float *)address[self->out];
    size_t n_out = (size_t)self->m * (size_t)self->n, n_stack = 1;
    for (int d = 0; d < self->rank; d++)
        n_stack *= (size_t)self->dims[d];
    for (size_t i = 0; i < n_stack; i++, out += n_out) {
        for (int side = 0; side < 2; side++) {
            at[side] = self->constants[side] ? self->constants[side] : (const float *)address[self->in[side]];
            for (int d = 0; d < self->rank; d++)
                at[side] += (size_t)place[d] * self->strides[side][d];
        }
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, self->m, self->n, self->k, self->alpha, at[0], self->k,
                    at[1], self->n, 0, out, self->n);
        myr_openblas_activate(self->kernels, &self->activation, out, n_out);
        for (int d = self->rank - 1; d >= 0 && ++place[d] == self->dims[d]; d--)
            place[d] = 0;
    }
    return MYR_OK;
}

static const myr_step_kind stack_step = {.name = "OpenBLAS", .run = run_stack_product, .free = free};

/* Sizes and strides; false where a side is a vector or too large. */
static bool plan_stack(stack_product *self, const myr_shape *sides[2], const myr_shape *out)
{
    if (sides[0]->rank < 2 || sides[1]->rank < 2 || out->rank < 2)
        return false;
    int64_t m = sides[0]->dims[sides[0]->rank - 2], k = sides[0]->dims[sides[0]->rank - 1];
    int64_t n = sides[1]->dims[sides[1]->rank - 1];
    if (m < 1 || n < 1 || k < 1 || m > INT32_MAX || n > INT32_MAX || k > INT32_MAX)
        return false;
    self->m = (int)m;
    self->n = (int)n;
    self->k = (int)k;
    self->rank = out->rank - 2;
    for (int d = 0; d < self->rank; d++)
        self->dims[d] = out->dims[d];
    for (int side = 0; side < 2; side++) {
        size_t stride = side ? (size_t)k * (size_t)n : (size_t)m * (size_t)k;
        for (int i = 1; i <= self->rank; i++) {
            int own = sides[side]->rank - 2 - i;
            int64_t dim = own >= 0 ? sides[side]->dims[own] : 1;
            self->strides[side][self->rank - i] = dim == 1 ? 0 : stride;
            stride *= (size_t)dim;
        }
    }
    return true;
}

myr_status myr_openblas_stack_product(myr_openblas_builder *build, const myr_node *node, bool *taken)
{
    const myr_value *values = build->graph->values;
    myr_status status = myr_openblas_product(build, node, taken);
    if (status != MYR_OK || *taken || node->residual >= 0)
        return status;
    const myr_shape *sides[2] = {myr_openblas_shape(build, node->inputs[0]),
                                 myr_openblas_shape(build, node->inputs[1])};
    stack_product *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_openblas_no_memory(node);
    *self = (stack_product){
        .kernels = build->kernels, .alpha = myr_node_float(node, "alpha", 1), .activation = node->activation};
    if (!plan_stack(self, sides, &values[node->outputs[0]].shape)) {
        free(self);
        return MYR_OK;
    }
    int buffers[3], n_buffers = 0;
    for (int side = 0; side < 2 && status == MYR_OK; side++) {
        const myr_tensor *constant = values[node->inputs[side]].constant;
        self->constants[side] = constant ? constant->data : NULL;
        if (!constant)
            status = myr_openblas_bring_plain(build, node->inputs[side], &self->in[side]);
        if (!constant)
            buffers[n_buffers++] = self->in[side];
    }
    if (status == MYR_OK)
        status = myr_openblas_settle_plain(build, node->outputs[0], &self->out);
    if (status != MYR_OK) {
        free(self);
        return status;
    }
    *taken = true;
    buffers[n_buffers++] = self->out;
    status = myr_program_add_step(build->compiler->program, &stack_step, node->name, self, buffers, n_buffers, 0);
    for (int side = 0; side < 2 && status == MYR_OK; side++)
        myr_compiler_keep(build->compiler, node->inputs[side]);
    return status;
}
