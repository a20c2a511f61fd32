/*
 * Products of matrices on oneDNN: rows by a constant matrix, and stacks of matrices by each other.
 *
 * Rows may lie in any order, and the result's lie in the same: the transpositions that transformers put around their
 * products then cost nothing.
 */
#include "nn/onednn.h"

#include "base/alloc.h"
#include "nn/operator.h"

#include <stdlib.h>
#include <string.h>

/* Outputs are floats of full width. */
static dnnl_data_type_t result_type(const myr_onednn_builder *build, const myr_node *node)
{
    return build->compiler->last_use[node->outputs[0]] == INT32_MAX ? dnnl_f32 : build->type;
}

/* ---- Rows by a constant matrix ---- */

/* What rows are multiplied by, with alpha and beta applied. */
typedef struct factors {
    int64_t m, n, k;
    float *weights;  /* [owned] as in the file, (k, n) or (n, k) */
    float *bias;     /* [owned] (n) or NULL */
    bool transposed; /* (n, k) */
} factors;

/* Whether the node is a product of rows by a constant matrix and a constant row; its sizes. */
static bool has_factors(const myr_graph *graph, const myr_node *node, factors *found)
{
    const myr_tensor *b = myr_node_constant(graph, node, 1), *bias = myr_node_constant(graph, node, 2);
    const myr_shape *a = &graph->values[node->inputs[0]].shape;
    *found = (factors){.transposed = myr_node_int(node, "transB", 0) != 0};
    if (!b || b->shape.rank != 2 || a->rank < 2 || graph->values[node->inputs[0]].constant ||
        myr_node_int(node, "transA", 0) != 0 || (node->n_inputs > 2 && node->inputs[2] >= 0 && !bias))
        return false;
    found->k = b->shape.dims[found->transposed ? 1 : 0];
    found->n = b->shape.dims[found->transposed ? 0 : 1];
    found->m = found->k > 0 ? (int64_t)myr_shape_count(a) / found->k : 0;
    size_t n_bias = bias ? myr_shape_count(&bias->shape) : 1;
    return found->m > 0 && found->n > 0 && (n_bias == 1 || n_bias == (size_t)found->n) &&
           !(bias && bias->shape.rank == 2 && bias->shape.dims[0] != 1);
}

static myr_status make_factors(const myr_graph *graph, const myr_node *node, factors *self)
{
    const myr_tensor *b = myr_node_constant(graph, node, 1), *bias = myr_node_constant(graph, node, 2);
    float alpha = myr_node_float(node, "alpha", 1), beta = myr_node_float(node, "beta", 1);
    size_t count = (size_t)(self->n * self->k), n_bias = bias ? myr_shape_count(&bias->shape) : 0;
    self->weights = myr_alloc(count, sizeof(float));
    self->bias = bias ? myr_alloc((size_t)self->n, sizeof(float)) : NULL;
    if (!self->weights || (bias && !self->bias))
        return myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", node->name);
    for (size_t i = 0; i < count; i++)
        self->weights[i] = alpha * ((const float *)b->data)[i];
    for (int64_t i = 0; bias && i < self->n; i++)
        self->bias[i] = beta * ((const float *)bias->data)[n_bias == 1 ? 0 : i];
    return MYR_OK;
}

static myr_status add_product(myr_onednn_builder *build, const myr_node *node, const factors *all, bool *taken)
{
    const int64_t source_dims[2] = {all->m, all->k}, weight_dims[2] = {all->k, all->n}, bias_dims[2] = {1, all->n},
                  result_dims[2] = {all->m, all->n};
    dnnl_data_type_t type = result_type(build, node);
    myr_onednn_source sources[3] = {{.name = DNNL_ARG_SRC},
                                    {.name = DNNL_ARG_WEIGHTS, .constant = all->weights},
                                    {.name = DNNL_ARG_BIAS, .constant = all->bias}};
    dnnl_memory_desc_t weights, *bias = &sources[2].layout, result;
    dnnl_matmul_desc_t descriptor;
    int to;
    *taken = false;
    if (!myr_onednn_set_layout(&sources[0].layout, build->type, 2, source_dims, dnnl_ab) ||
        !myr_onednn_set_layout(&weights, build->type, 2, weight_dims, dnnl_format_tag_any) ||
        !myr_onednn_set_layout(&sources[1].constant_layout, dnnl_f32, 2, weight_dims,
                               all->transposed ? dnnl_ba : dnnl_ab) ||
        !myr_onednn_set_layout(bias, dnnl_f32, 2, bias_dims, dnnl_ab) ||
        !myr_onednn_set_layout(&result, type, 2, result_dims, dnnl_ab) ||
        dnnl_matmul_desc_init(&descriptor, &sources[0].layout, &weights, all->bias ? bias : NULL, &result) !=
            dnnl_success)
        return MYR_OK;
    sources[2].constant_layout = *bias;
    dnnl_primitive_desc_t planned =
        myr_onednn_plan(build, &descriptor, myr_onednn_fused_attributes(&node->activation, NULL));
    if (!planned)
        return MYR_OK;
    *taken = true;
    sources[1].layout = *myr_onednn_layout_of(planned, dnnl_query_weights_md, 0);
    myr_parts order;
    myr_status status = myr_onednn_bring_rows(build, node->inputs[0], all->k, &sources[0].buffer, &order);
    if (status == MYR_OK)
        status = myr_onednn_settle_rows(build, node->outputs[0], &order, all->n, type, &to);
    if (status == MYR_OK)
        return myr_onednn_add_writer(build, node->name, to, &result, planned, all->bias ? 3 : 2, sources);
    dnnl_primitive_desc_destroy(planned);
    return status;
}

/* ---- Stacks of matrices ---- */

/* Whether the columns of a value's matrices lie as rows: then they are brought and read so, which is faster than to
 * transpose them. */
static bool lies_transposed(const myr_onednn_builder *build, int value)
{
    const myr_shape *shape = &build->graph->values[value].shape;
    int ends[MYR_TENSOR_MAX_RANK], buffer, rank = shape->rank;
    dnnl_data_type_t type;
    myr_parts parts;
    return myr_onednn_parts_of(build, value, &buffer, &parts, &type) &&
           myr_parts_group(&parts, rank, shape->dims, ends) && ends[rank - 2] > 0 &&
           parts.stride[ends[rank - 2] - 1] == 1;
}

/* One stack of dense matrices. */
static bool set_stack(dnnl_memory_desc_t *layout, dnnl_data_type_t type, int64_t n, int64_t height, int64_t width,
                      bool transposed)
{
    const int64_t dims[3] = {n, height, width};
    return myr_onednn_set_layout(layout, type, 3, dims, transposed ? dnnl_acb : dnnl_abc);
}

static bool have_one_stack(const myr_shape *a, const myr_shape *b)
{
    return a->rank == b->rank && a->rank >= 2 && memcmp(a->dims, b->dims, (size_t)(a->rank - 2) * sizeof *a->dims) == 0;
}

static myr_status add_stack_product(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    const myr_value *values = build->graph->values;
    const myr_shape *a = &values[node->inputs[0]].shape, *b = &values[node->inputs[1]].shape;
    int64_t m = a->dims[a->rank - 2], k = a->dims[a->rank - 1], n = b->dims[b->rank - 1];
    int64_t n_stack = (int64_t)myr_shape_count(a) / (m * k);
    float alpha = myr_node_float(node, "alpha", 1);
    myr_onednn_source sources[2] = {{.name = DNNL_ARG_SRC}, {.name = DNNL_ARG_WEIGHTS}};
    dnnl_memory_desc_t result, plain;
    dnnl_matmul_desc_t descriptor;
    int to;
    if (!set_stack(&sources[0].layout, build->type, n_stack, m, k, false) ||
        !set_stack(&sources[1].layout, build->type, n_stack, k, n, lies_transposed(build, node->inputs[1])) ||
        !set_stack(&result, result_type(build, node), n_stack, m, n, false) ||
        !myr_onednn_plain_layout(&values[node->outputs[0]].shape, &plain) ||
        dnnl_matmul_desc_init(&descriptor, &sources[0].layout, &sources[1].layout, NULL, &result) != dnnl_success)
        return MYR_OK;
    dnnl_primitive_attr_t attributes = myr_onednn_fused_attributes(&node->activation, NULL);
    if (attributes && alpha != 1)
        dnnl_primitive_attr_set_output_scales(attributes, 1, 0, &alpha);
    dnnl_primitive_desc_t planned = myr_onednn_plan(build, &descriptor, attributes);
    if (!planned)
        return MYR_OK;
    *taken = true;
    plain.data_type = result.data_type;
    myr_status status = MYR_OK;
    for (int side = 0; side < 2 && status == MYR_OK; side++)
        status = myr_onednn_bring(build, node->inputs[side], &sources[side].layout, 1, &sources[side].buffer);
    if (status == MYR_OK)
        status = myr_onednn_settle(build, node->outputs[0], &plain, &to);
    if (status == MYR_OK)
        return myr_onednn_add_writer(build, node->name, to, &result, planned, 2, sources);
    dnnl_primitive_desc_destroy(planned);
    return status;
}

myr_status myr_onednn_product(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    const myr_value *values = build->graph->values;
    factors all;
    *taken = false;
    if (node->residual >= 0)
        return MYR_OK;
    if (has_factors(build->graph, node, &all)) {
        myr_status status = make_factors(build->graph, node, &all);
        if (status == MYR_OK)
            status = add_product(build, node, &all, taken);
        free(all.weights);
        free(all.bias);
        return status;
    }
    bool are_stacks = node->op->kind == MYR_KIND_MATMUL && node->n_inputs == 2 && !values[node->inputs[0]].constant &&
                      !values[node->inputs[1]].constant &&
                      have_one_stack(&values[node->inputs[0]].shape, &values[node->inputs[1]].shape) &&
                      myr_shape_count(&values[node->inputs[0]].shape) > 0;
    return are_stacks ? add_stack_product(build, node, taken) : MYR_OK;
}
