/*
 * Nodes that only say which of a value's elements are wanted, in which order: what they give is described by strides
 * and not copied.
 */
#include "nn/onednn.h"

#include "base/alloc.h"
#include "nn/operator.h"

#include <stdlib.h>
#include <string.h>

/* A value's parts, and before which of them each of its dimensions ends. */
typedef struct viewed {
    int value, buffer;
    dnnl_data_type_t type;
    myr_parts parts;
    int ends[MYR_TENSOR_MAX_RANK];
    const myr_shape *shape;
} viewed;

static int first_part(const viewed *from, int dimension)
{
    return dimension > 0 ? from->ends[dimension - 1] : 0;
}

/* A copy of a value that lies in blocks; pictures channels last, which is what a reader of a view most likely asks for.
 */
static myr_status unblock(myr_onednn_builder *build, viewed *from)
{
    dnnl_memory_desc_t layout;
    const myr_shape *shape = from->shape;
    if (shape->rank == 4 ? !myr_onednn_set_layout(&layout, dnnl_f32, 4, shape->dims, dnnl_nhwc)
                         : !myr_onednn_plain_layout(shape, &layout))
        return myr_fail(MYR_ERR_INTERNAL, "'%s': no plain layout", build->graph->values[from->value].name);
    layout.data_type = from->type = build->type;
    myr_parts_read(&layout, &from->parts);
    return myr_onednn_bring(build, from->value, &layout, 1, &from->buffer);
}

/* What is viewed. *found is false where that is no value of floats, or where a copy is as good as a view. */
static myr_status find(myr_onednn_builder *build, const myr_node *node, viewed *from, bool *found)
{
    const myr_value *known = &build->graph->values[node->inputs[0]];
    *found = false;
    *from = (viewed){.value = node->inputs[0], .shape = &known->shape};
    if (known->constant || known->type != MYR_TYPE_F32 || known->shape.rank < 1 || myr_shape_count(&known->shape) == 0)
        return MYR_OK;
    *found = myr_onednn_parts_of(build, from->value, &from->buffer, &from->parts, &from->type);
    if (*found || build->places[from->value].buffer < 0 || node->op->kind == MYR_KIND_RESHAPE)
        return MYR_OK;
    *found = true;
    return unblock(build, from);
}

/* The parts cut at the value's dimensions, or at those of a plain copy where they cannot be. */
static myr_status group(myr_onednn_builder *build, viewed *from)
{
    const myr_shape *shape = from->shape;
    myr_parts parts = from->parts;
    dnnl_memory_desc_t plain;
    if (myr_parts_group(&parts, shape->rank, shape->dims, from->ends)) {
        from->parts = parts;
        return MYR_OK;
    }
    if (!myr_onednn_plain_layout(shape, &plain) || !myr_parts_of_shape(shape, &from->parts) ||
        !myr_parts_group(&from->parts, shape->rank, shape->dims, from->ends))
        return myr_fail(MYR_ERR_INTERNAL, "'%s': no plain layout", build->graph->values[from->value].name);
    plain.data_type = from->type;
    return myr_onednn_bring(build, from->value, &plain, 1, &from->buffer);
}

static myr_status settle(myr_onednn_builder *build, const viewed *from, int result, myr_parts parts)
{
    myr_parts_join(&parts);
    build->shared[from->value] = build->shared[result] = true;
    return myr_onednn_place_view(build, result, from->buffer, &parts, from->type);
}

static myr_status transpose(myr_onednn_builder *build, viewed *from, const myr_node *node)
{
    const myr_attribute *order = myr_node_attribute(node, "perm");
    int rank = from->shape->rank;
    myr_parts parts = {0};
    myr_status status = group(build, from);
    if (status != MYR_OK)
        return status;
    parts.offset = from->parts.offset;
    for (int d = 0; d < rank; d++) {
        int dimension = order ? (int)order->numbers[d] : rank - 1 - d;
        for (int i = first_part(from, dimension); i < from->ends[dimension]; i++) {
            parts.size[parts.n] = from->parts.size[i];
            parts.stride[parts.n++] = from->parts.stride[i];
        }
    }
    return settle(build, from, node->outputs[0], parts);
}

/* The elements [start, start + n) of a dimension; false where more than one stride is needed. */
static bool cut_dimension(viewed *from, int dimension, int64_t start, int64_t n)
{
    int first = first_part(from, dimension), end = from->ends[dimension];
    if (n == from->shape->dims[dimension])
        return true;
    if (n < 1)
        return false;
    if (n == 1) { /* its digits in the parts; parts of one element are dropped when they are joined */
        for (int i = end - 1; i >= first; i--) {
            from->parts.offset += start % from->parts.size[i] * from->parts.stride[i];
            start /= from->parts.size[i];
            from->parts.size[i] = 1;
        }
        return true;
    }
    if (end - first != 1)
        return false;
    from->parts.offset += start * from->parts.stride[first];
    from->parts.size[first] = n;
    return true;
}

/* The part of the value that begins at start[] and has as many elements as the result, which may lack dimensions of
 * one element. kept: (rank) elements of each dimension. */
static myr_status take_part(myr_onednn_builder *build, const viewed *from, int result, const int64_t *start,
                            const int64_t *kept, bool *taken)
{
    viewed part = *from;
    *taken = true;
    for (int d = 0; d < from->shape->rank && *taken; d++)
        *taken = cut_dimension(&part, d, start[d], kept[d]);
    return *taken ? settle(build, &part, result, part.parts) : MYR_OK;
}

static myr_status slice(myr_onednn_builder *build, viewed *from, const myr_node *node, bool *taken)
{
    const myr_shape *out = &build->graph->values[node->outputs[0]].shape;
    int64_t start[MYR_TENSOR_MAX_RANK];
    if (!myr_slice_starts(build->graph, node, start))
        return MYR_OK;
    myr_status status = group(build, from);
    return status == MYR_OK ? take_part(build, from, node->outputs[0], start, out->dims, taken) : status;
}

static myr_status split(myr_onednn_builder *build, viewed *from, const myr_node *node, bool *taken)
{
    int axis;
    int64_t start[MYR_TENSOR_MAX_RANK] = {0};
    myr_status status = group(build, from);
    if (status != MYR_OK || !myr_axis_resolve(myr_node_int(node, "axis", 0), from->shape->rank, &axis) ||
        (from->ends[axis] - first_part(from, axis) != 1 && node->n_outputs > 1))
        return status;
    for (int i = 0; i < node->n_outputs; i++) /* how long one is that nobody asked for is not known */
        if (node->outputs[i] < 0 || build->graph->values[node->outputs[i]].shape.dims[axis] < 1)
            return MYR_OK;
    for (int i = 0; i < node->n_outputs && status == MYR_OK; i++) {
        const myr_shape *out = &build->graph->values[node->outputs[i]].shape;
        status = take_part(build, from, node->outputs[i], start, out->dims, taken);
        start[axis] += out->dims[axis];
    }
    return status;
}

/* Gather of one place along an axis. */
static myr_status gather(myr_onednn_builder *build, viewed *from, const myr_node *node, bool *taken)
{
    const myr_tensor *indices = myr_node_constant(build->graph, node, 1);
    int rank = from->shape->rank, axis;
    int64_t start[MYR_TENSOR_MAX_RANK] = {0}, kept[MYR_TENSOR_MAX_RANK];
    if (!indices || myr_shape_count(&indices->shape) != 1 ||
        !myr_axis_resolve(myr_node_int(node, "axis", 0), rank, &axis))
        return MYR_OK;
    int64_t index = myr_tensor_number(indices, 0), length = from->shape->dims[axis];
    start[axis] = index < 0 ? index + length : index;
    if (start[axis] < 0 || start[axis] >= length)
        return MYR_OK;
    memcpy(kept, from->shape->dims, (size_t)rank * sizeof *kept);
    kept[axis] = 1;
    myr_status status = group(build, from);
    return status == MYR_OK ? take_part(build, from, node->outputs[0], start, kept, taken) : status;
}

myr_status myr_onednn_view(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    viewed from;
    *taken = false;
    bool is_view = node->op->kind == MYR_KIND_RESHAPE || node->op->kind == MYR_KIND_TRANSPOSE ||
                   node->op->kind == MYR_KIND_SLICE || node->op->kind == MYR_KIND_SPLIT ||
                   node->op->kind == MYR_KIND_GATHER;
    if (!is_view || node->residual >= 0 || (node->op->kind != MYR_KIND_SPLIT && !myr_node_has_one_output(node)))
        return MYR_OK;
    myr_status status = find(build, node, &from, taken);
    if (status != MYR_OK || !*taken)
        return status;
    *taken = false;
    switch (node->op->kind) {
    case MYR_KIND_RESHAPE:
        *taken = true;
        return settle(build, &from, node->outputs[0], from.parts);
    case MYR_KIND_TRANSPOSE:
        *taken = true;
        return transpose(build, &from, node);
    case MYR_KIND_SLICE:
        return slice(build, &from, node, taken);
    case MYR_KIND_SPLIT:
        return split(build, &from, node, taken);
    default:
        return gather(build, &from, node, taken);
    }
}
