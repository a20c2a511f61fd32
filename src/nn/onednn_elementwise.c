/*
 * Functions of one element, and pairs of values element by element, on oneDNN.
 */
#include "nn/onednn.h"

#include "nn/operator.h"

#include <float.h>
#include <string.h>

/* ---- Functions ---- */

static myr_status add_function(myr_onednn_builder *build, const myr_node *node, int value, dnnl_alg_kind_t kind,
                               float alpha, float beta, bool *taken)
{
    dnnl_eltwise_desc_t descriptor;
    dnnl_primitive_desc_t planned;
    myr_onednn_source source = {.name = DNNL_ARG_SRC};
    *taken = false;
    if (!myr_onednn_bring_floats(build, value, &source.buffer, &source.layout) ||
        dnnl_eltwise_forward_desc_init(&descriptor, dnnl_forward_inference, kind, &source.layout, alpha, beta) !=
            dnnl_success)
        return MYR_OK;
    planned = myr_onednn_plan(build, &descriptor, myr_onednn_new_attributes());
    if (!planned)
        return MYR_OK;
    *taken = true;
    return myr_onednn_add_maker(build, node->name, node->outputs[0], planned, 1, &source);
}

/* Relu, Clip and others that could not be fused. */
myr_status myr_onednn_function(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    const myr_tensor *low = myr_node_constant(build->graph, node, 1), *high = myr_node_constant(build->graph, node, 2);
    float first = 0, second = 0;
    dnnl_alg_kind_t kind;
    *taken = false;
    for (int i = 1; i < node->n_inputs; i++)
        if (node->inputs[i] >= 0 && !myr_node_constant(build->graph, node, i)) /* bounds that are computed */
            return MYR_OK;
    switch (node->op->kind) {
    case MYR_KIND_RELU:
        kind = dnnl_eltwise_relu;
        break;
    case MYR_KIND_CLIP:
        kind = dnnl_eltwise_clip;
        first = low ? *(const float *)low->data : myr_node_float(node, "min", -FLT_MAX);
        second = high ? *(const float *)high->data : myr_node_float(node, "max", FLT_MAX);
        /* Bounds that cross or are no numbers, and those that no finite range holds, are the reference's. */
        if (!(first <= second && first <= FLT_MAX && second >= -FLT_MAX))
            return MYR_OK;
        break;
    case MYR_KIND_HARD_SWISH:
        kind = dnnl_eltwise_hardswish;
        break;
    case MYR_KIND_SIGMOID:
        kind = dnnl_eltwise_logistic;
        break;
    case MYR_KIND_TANH:
        kind = dnnl_eltwise_tanh;
        break;
    case MYR_KIND_SQRT:
        kind = dnnl_eltwise_sqrt;
        break;
    case MYR_KIND_SWISH:
        kind = dnnl_eltwise_swish;
        first = myr_node_float(node, "alpha", 1);
        break;
    case MYR_KIND_GELU:
        kind = strcmp(myr_node_text(node, "approximate", "none"), "tanh") == 0 ? dnnl_eltwise_gelu_tanh
                                                                               : dnnl_eltwise_gelu_erf;
        break;
    default:
        return MYR_OK;
    }
    return add_function(build, node, node->inputs[0], kind, first, second, taken);
}

/* ---- A value and a constant ---- */

/* value (operator) number, or number (operator) value, as a line; false where it is none. */
static bool as_line(myr_kind kind, bool constant_first, float number, float *slope, float *offset)
{
    *slope = 1;
    *offset = 0;
    if (kind == MYR_KIND_ADD)
        *offset = number;
    else if (kind == MYR_KIND_MUL)
        *slope = number;
    else if (kind == MYR_KIND_SUB && constant_first) {
        *slope = -1;
        *offset = number;
    } else if (kind == MYR_KIND_SUB)
        *offset = -number;
    else if (kind == MYR_KIND_DIV && !constant_first)
        *slope = 1 / number;
    else
        return false;
    return true;
}

/* Whether a constant is the same for all but the last dimensions of a shape; how many elements those have. */
static bool is_row(const myr_shape *constant, const myr_shape *shape, int64_t *length)
{
    int first = 0;
    *length = 1;
    while (first < constant->rank && constant->dims[first] == 1)
        first++;
    if (constant->rank > shape->rank)
        return false;
    for (int d = first; d < constant->rank; d++) {
        if (constant->dims[d] != shape->dims[shape->rank - constant->rank + d])
            return false;
        *length *= constant->dims[d];
    }
    return *length > 1;
}

static dnnl_alg_kind_t algorithm_of(myr_kind kind)
{
    return kind == MYR_KIND_ADD   ? dnnl_binary_add
           : kind == MYR_KIND_SUB ? dnnl_binary_sub
           : kind == MYR_KIND_DIV ? dnnl_binary_div
                                  : dnnl_binary_mul;
}

static myr_status pair_with_row(myr_onednn_builder *build, const myr_node *node, int value, const myr_tensor *constant,
                                int64_t length, bool *taken)
{
    const int64_t n = (int64_t)myr_shape_count(&build->graph->values[value].shape) / length;
    myr_onednn_source sources[2] = {{.name = DNNL_ARG_SRC_0}, {.name = DNNL_ARG_SRC_1, .constant = constant->data}};
    dnnl_memory_desc_t *rows = &sources[0].layout, *row = &sources[1].layout;
    dnnl_binary_desc_t descriptor;
    myr_parts order;
    int to;
    if (!myr_onednn_set_layout(rows, build->type, 2, (int64_t[]){n, length}, dnnl_ab) ||
        !myr_onednn_set_layout(row, dnnl_f32, 2, (int64_t[]){1, length}, dnnl_ab))
        return MYR_OK;
    sources[1].constant_layout = *row;
    row->data_type = build->type;
    if (dnnl_binary_desc_init(&descriptor, algorithm_of(node->op->kind), rows, row, rows) != dnnl_success)
        return MYR_OK;
    dnnl_primitive_desc_t planned =
        myr_onednn_plan(build, &descriptor, myr_onednn_fused_attributes(&node->activation, NULL));
    if (!planned)
        return MYR_OK;
    *taken = true;
    myr_status status = myr_onednn_bring_rows(build, value, length, &sources[0].buffer, &order);
    if (status == MYR_OK)
        status = myr_onednn_settle_rows(build, node->outputs[0], &order, length, build->type, &to);
    if (status == MYR_OK)
        return myr_onednn_add_writer(build, node->name, to, rows, planned, 2, sources);
    dnnl_primitive_desc_destroy(planned);
    return status;
}

static myr_status pair_with_constant(myr_onednn_builder *build, const myr_node *node, int constant_side, bool *taken)
{
    const myr_value *values = build->graph->values;
    const myr_tensor *constant = values[node->inputs[constant_side]].constant;
    int value = node->inputs[1 - constant_side];
    int64_t length;
    float slope, offset;
    bool commutes = node->op->kind == MYR_KIND_ADD || node->op->kind == MYR_KIND_MUL;
    if (values[value].constant || values[value].type != MYR_TYPE_F32 || constant->type != MYR_TYPE_F32 ||
        !myr_shape_equal(&values[value].shape, &values[node->outputs[0]].shape))
        return MYR_OK;
    if (myr_shape_count(&constant->shape) == 1)
        return node->activation.kind == MYR_ACTIVATION_NONE &&
                       as_line(node->op->kind, constant_side == 0, *(const float *)constant->data, &slope, &offset)
                   ? add_function(build, node, value, dnnl_eltwise_linear, slope, offset, taken)
                   : MYR_OK;
    if ((commutes || constant_side == 1) && is_row(&constant->shape, &values[value].shape, &length))
        return pair_with_row(build, node, value, constant, length, taken);
    return MYR_OK;
}

/* ---- Two values ---- */

/* Blocks of fewer channels than a vector register holds. oneDNN 2.6's binary primitive computes wrong values in
 * such layouts when an activation is fused behind it. */
static bool has_small_blocks(const dnnl_memory_desc_t *layout)
{
    const dnnl_blocking_desc_t *blocking = &layout->format_desc.blocking;
    return blocking->inner_nblks > 0 && blocking->inner_blks[0] < 8;
}

/* Two values that lie alike, without blocks: their order is nobody's concern. */
static bool flatten(const dnnl_memory_desc_t *layout, dnnl_memory_desc_t *flat)
{
    myr_parts parts;
    int64_t n = 1;
    if (!myr_parts_read(layout, &parts) || !myr_parts_are_dense(&parts))
        return false;
    for (int i = 0; i < parts.n; i++)
        n *= parts.size[i];
    return myr_onednn_set_layout(flat, layout->data_type, 1, &n, dnnl_a);
}

/* Both values where they lie alike or can be read together; false where oneDNN has no layout. */
static myr_status bring_pair(myr_onednn_builder *build, const int sides[2], const myr_activation *activation,
                             myr_onednn_source *sources, bool *found)
{
    const myr_shape *a = &build->graph->values[sides[0]].shape, *b = &build->graph->values[sides[1]].shape;
    dnnl_memory_desc_t *left = &sources[0].layout, *right = &sources[1].layout;
    myr_status status = MYR_OK;
    *found = myr_onednn_bring_floats(build, sides[0], &sources[0].buffer, left) &&
             myr_onednn_bring_floats(build, sides[1], &sources[1].buffer, right);
    if (!*found)
        return MYR_OK;
    if (activation->kind != MYR_ACTIVATION_NONE && has_small_blocks(left) && myr_onednn_plain_layout(a, left))
        status = myr_onednn_bring(build, sides[0], left, 1, &sources[0].buffer);
    if (status != MYR_OK || (!myr_shape_equal(a, b) && !has_small_blocks(right)))
        return status;
    *right = *left;
    *found = myr_shape_equal(a, b) || myr_onednn_plain_layout(b, right);
    return *found ? myr_onednn_bring(build, sides[1], right, 1, &sources[1].buffer) : MYR_OK;
}

myr_status myr_onednn_binary(myr_onednn_builder *build, const char *label, const int sides[2], int result,
                             dnnl_alg_kind_t kind, const myr_activation *activation, bool *taken)
{
    const myr_graph *graph = build->graph;
    const myr_shape *a = &graph->values[sides[0]].shape, *b = &graph->values[sides[1]].shape,
                    *out = &graph->values[result].shape;
    myr_onednn_source sources[2] = {{.name = DNNL_ARG_SRC_0}, {.name = DNNL_ARG_SRC_1}};
    dnnl_memory_desc_t target, settled, flat;
    dnnl_binary_desc_t descriptor;
    bool found;
    int to;
    *taken = false;
    if (a->rank != out->rank || b->rank != out->rank || !myr_shape_equal(a, out))
        return MYR_OK;
    myr_status status = bring_pair(build, sides, activation, sources, &found);
    if (status != MYR_OK || !found ||
        !myr_onednn_set_layout(&target, build->type, out->rank, out->dims, dnnl_format_tag_any))
        return status;
    bool is_flat = myr_shape_equal(a, b) && sources[0].layout.data_type == build->type &&
                   dnnl_memory_desc_equal(&sources[0].layout, &sources[1].layout) && flatten(&sources[0].layout, &flat);
    if (is_flat) {
        settled = sources[0].layout;
        sources[0].layout = sources[1].layout = target = flat;
    }
    if (dnnl_binary_desc_init(&descriptor, kind, &sources[0].layout, &sources[1].layout, &target) != dnnl_success)
        return MYR_OK;
    dnnl_primitive_desc_t planned = myr_onednn_plan(build, &descriptor, myr_onednn_fused_attributes(activation, NULL));
    if (!planned)
        return MYR_OK;
    *taken = true;
    if (!is_flat)
        return myr_onednn_add_maker(build, label, result, planned, 2, sources);
    status = myr_onednn_settle(build, result, &settled, &to);
    if (status == MYR_OK)
        return myr_onednn_add_writer(build, label, to, &flat, planned, 2, sources);
    dnnl_primitive_desc_destroy(planned);
    return status;
}

myr_status myr_onednn_pair(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    const myr_value *values = build->graph->values;
    int sides[2] = {node->inputs[0], node->inputs[1]};
    myr_kind kind = node->op->kind;
    *taken = false;
    if (node->residual >= 0)
        return MYR_OK;
    for (int side = 0; side < 2; side++)
        if (values[sides[side]].constant)
            return pair_with_constant(build, node, side, taken);
    if ((kind == MYR_KIND_ADD || kind == MYR_KIND_MUL) &&
        !myr_shape_equal(&values[sides[0]].shape, &values[node->outputs[0]].shape)) {
        sides[0] = node->inputs[1];
        sides[1] = node->inputs[0];
    }
    if (kind == MYR_KIND_MUL && node->activation.kind == MYR_ACTIVATION_NONE) {
        myr_status status = myr_onednn_scale_channels(build, node->name, sides[0], sides[1], node->outputs[0], taken);
        if (status != MYR_OK || *taken)
            return status;
    }
    return myr_onednn_binary(build, node->name, sides, node->outputs[0], algorithm_of(kind), &node->activation, taken);
}
