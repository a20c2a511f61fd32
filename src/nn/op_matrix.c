/*
 * Products of matrices: Gemm and MatMul, summed in double.
 */
#include "nn/operator.h"

#include <string.h>

/* Whether a shape, aligned at its last dimension, can be stretched to another. */
static bool stretches(const myr_shape *from, const myr_shape *to)
{
    for (int i = 1; i <= from->rank; i++) {
        int64_t dim = from->dims[from->rank - i];
        if (i > to->rank ? dim != 1 : dim != 1 && dim != to->dims[to->rank - i])
            return false;
    }
    return from->rank <= to->rank;
}

static void gemm_sizes(const myr_operation *operation, int64_t *m, int64_t *n, int64_t *k, int64_t *inner)
{
    const myr_shape *a = &operation->in[0]->shape, *b = &operation->in[1]->shape;
    bool trans_a = myr_node_int(operation->node, "transA", 0) != 0,
         trans_b = myr_node_int(operation->node, "transB", 0) != 0;
    *m = a->dims[trans_a ? 1 : 0];
    *k = a->dims[trans_a ? 0 : 1];
    *n = b->dims[trans_b ? 0 : 1];
    *inner = b->dims[trans_b ? 1 : 0];
}

static myr_status infer_gemm(const myr_operation *operation)
{
    const myr_tensor *bias = myr_operation_input(operation, 2);
    int64_t m, n, k, inner;
    if (operation->in[0]->type != MYR_TYPE_F32 || operation->in[1]->type != MYR_TYPE_F32 ||
        (bias && bias->type != MYR_TYPE_F32))
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "only 32-bit floats can be multiplied");
    if (operation->in[0]->shape.rank != 2 || operation->in[1]->shape.rank != 2)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "both factors must be matrices");
    gemm_sizes(operation, &m, &n, &k, &inner);
    myr_shape shape = {.rank = 2, .dims = {m, n}};
    if (k != inner || (bias && !stretches(&bias->shape, &shape)))
        return myr_operation_fail(operation, MYR_ERR_FORMAT,
                                  "the shapes of the factors and the bias do not fit together");
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &shape);
    return MYR_OK;
}

/* Element (i, j) of a bias stretched to a matrix. */
static float bias_at(const myr_tensor *bias, int64_t i, int64_t j)
{
    const float *values = bias->data;
    int rank = bias->shape.rank;
    int64_t columns = rank > 0 ? bias->shape.dims[rank - 1] : 1, rows = rank > 1 ? bias->shape.dims[0] : 1;
    return values[(rows > 1 ? i : 0) * columns + (columns > 1 ? j : 0)];
}

static myr_status compute_gemm(const myr_operation *operation)
{
    const float *a = operation->in[0]->data, *b = operation->in[1]->data;
    const myr_tensor *bias = myr_operation_input(operation, 2);
    bool trans_a = myr_node_int(operation->node, "transA", 0) != 0,
         trans_b = myr_node_int(operation->node, "transB", 0) != 0;
    double alpha = (double)myr_node_float(operation->node, "alpha", 1),
           beta = (double)myr_node_float(operation->node, "beta", 1);
    float *out = operation->out[0].data;
    int64_t m, n, k, inner;
    gemm_sizes(operation, &m, &n, &k, &inner);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum += (double)a[trans_a ? l * m + i : i * k + l] * (double)b[trans_b ? j * k + l : l * n + j];
            *out++ = (float)(alpha * sum + (bias ? beta * (double)bias_at(bias, i, j) : 0));
        }
    }
    return MYR_OK;
}

/* A factor of MatMul with rank 2 at least: vectors become a row (first) or a column (second). */
static myr_shape as_matrices(const myr_shape *shape, bool first)
{
    if (shape->rank != 1)
        return *shape;
    return first ? (myr_shape){.rank = 2, .dims = {1, shape->dims[0]}}
                 : (myr_shape){.rank = 2, .dims = {shape->dims[0], 1}};
}

static myr_status matmul_shape(const myr_operation *operation, myr_shape *full)
{
    myr_shape a = as_matrices(&operation->in[0]->shape, true), b = as_matrices(&operation->in[1]->shape, false);
    if (a.rank < 2 || b.rank < 2 || a.dims[a.rank - 1] != b.dims[b.rank - 2])
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the factors do not fit together");
    full->rank = a.rank > b.rank ? a.rank : b.rank;
    for (int i = 3; i <= full->rank; i++) {
        int64_t x = i <= a.rank ? a.dims[a.rank - i] : 1, y = i <= b.rank ? b.dims[b.rank - i] : 1;
        if (x != y && x != 1 && y != 1)
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "the stacks of matrices do not fit together");
        full->dims[full->rank - i] = x == 1 ? y : x;
    }
    full->dims[full->rank - 2] = a.dims[a.rank - 2];
    full->dims[full->rank - 1] = b.dims[b.rank - 1];
    return MYR_OK;
}

static myr_status infer_matmul(const myr_operation *operation)
{
    myr_shape shape;
    if (operation->in[0]->type != MYR_TYPE_F32 || operation->in[1]->type != MYR_TYPE_F32)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "only 32-bit floats can be multiplied");
    myr_status status = matmul_shape(operation, &shape);
    if (status != MYR_OK)
        return status;
    if (operation->in[1]->shape.rank == 1)
        shape.rank--;
    if (operation->in[0]->shape.rank == 1) {
        if (operation->in[1]->shape.rank != 1)
            shape.dims[shape.rank - 2] = shape.dims[shape.rank - 1];
        shape.rank--;
    }
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &shape);
    return MYR_OK;
}

/* Where the matrix for a place in the output's stack begins. */
static size_t matrix_offset(const myr_shape *shape, const myr_shape *full, const int64_t *place)
{
    size_t offset = 0;
    for (int i = 0; i < shape->rank - 2; i++) {
        int64_t at = shape->dims[i] == 1 ? 0 : place[full->rank - shape->rank + i];
        offset = offset * (size_t)shape->dims[i] + (size_t)at;
    }
    return offset * (size_t)(shape->dims[shape->rank - 2] * shape->dims[shape->rank - 1]);
}

static myr_status compute_matmul(const myr_operation *operation)
{
    myr_shape a = as_matrices(&operation->in[0]->shape, true), b = as_matrices(&operation->in[1]->shape, false), full;
    myr_status status = matmul_shape(operation, &full);
    if (status != MYR_OK)
        return status;
    int64_t place[MYR_TENSOR_MAX_RANK] = {0};
    int64_t m = a.dims[a.rank - 2], k = a.dims[a.rank - 1], n = b.dims[b.rank - 1];
    size_t n_all = myr_shape_count(&full), n_stack = m * n > 0 ? n_all / (size_t)(m * n) : 0;
    float *out = operation->out[0].data;
    const myr_tensor *row = myr_operation_input(operation, 2);
    double alpha = (double)myr_node_float(operation->node, "alpha", 1);
    for (size_t s = 0; s < n_stack; s++) {
        const float *x = (const float *)operation->in[0]->data + matrix_offset(&a, &full, place);
        const float *y = (const float *)operation->in[1]->data + matrix_offset(&b, &full, place);
        for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j < n; j++) {
                double sum = 0;
                for (int64_t l = 0; l < k; l++)
                    sum += (double)x[i * k + l] * (double)y[l * n + j];
                *out++ = (float)(alpha * sum + (row ? (double)((const float *)row->data)[j] : 0));
            }
        }
        for (int d = full.rank - 3; d >= 0 && ++place[d] == full.dims[d]; d--)
            place[d] = 0;
    }
    return MYR_OK;
}

const myr_operator myr_matrix_operators[] = {
    {"Gemm", MYR_KIND_GEMM, 2, 3, 1, "alpha:float beta:float broadcast:int transA:int transB:int ", NULL, infer_gemm,
     compute_gemm},
    {"MatMul", MYR_KIND_MATMUL, 2, 2, 1, "", NULL, infer_matmul, compute_matmul},
    {0},
};
