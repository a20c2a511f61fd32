/*
 * Operators that find elements by numbers in another tensor: GatherElements, GatherND,
 * ScatterElements, ScatterND, OneHot, ReverseSequence.
 *
 * Indices are data: each is checked before it is used.
 */
#include "nn/operator.h"

#include <string.h>

/* An index of a dimension, counted from its end where it is negative; false outside. */
static bool find_index(int64_t given, int64_t dim, size_t *index)
{
    if (given < -dim || given >= dim)
        return false;
    *index = (size_t)(given < 0 ? given + dim : given);
    return true;
}

static myr_status out_of_range(const myr_operation *operation)
{
    return myr_operation_fail(operation, MYR_ERR_FORMAT, "an index is out of range");
}

/* ---- GatherElements, ScatterElements ---- */

/* The shape of the indices fits into the data's along all dimensions but the axis. */
static bool fits_beside(const myr_shape *data, const myr_shape *indices, int axis)
{
    bool fits = data->rank == indices->rank;
    for (int i = 0; i < data->rank && fits; i++)
        fits = i == axis || indices->dims[i] <= data->dims[i];
    return fits;
}

/* Element of the data that belongs to a place among the indices. */
static bool element_at(const myr_shape *data, const int64_t *place, int axis, int64_t index, size_t *element)
{
    size_t along;
    if (!find_index(index, data->dims[axis], &along))
        return false;
    *element = 0;
    for (int d = 0; d < data->rank; d++)
        *element = *element * (size_t)data->dims[d] + (d == axis ? along : (size_t)place[d]);
    return true;
}

static myr_status infer_gather_elements(const myr_operation *operation)
{
    int axis;
    const myr_tensor *data = operation->in[0], *indices = operation->in[1];
    myr_status status = myr_operation_axis(operation, 0, data->shape.rank, &axis);
    if (status != MYR_OK)
        return status;
    if (indices->type != MYR_TYPE_I64 || !fits_beside(&data->shape, &indices->shape, axis))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the indices do not fit the data");
    myr_operation_shape(operation, 0, data->type, &indices->shape);
    return MYR_OK;
}

static myr_status compute_gather_elements(const myr_operation *operation)
{
    int axis;
    const myr_tensor *data = operation->in[0], *indices = operation->in[1];
    int64_t place[MYR_TENSOR_MAX_RANK] = {0};
    size_t n = myr_shape_count(&indices->shape), size = myr_type_bytes(data->type), from;
    myr_status status = myr_operation_axis(operation, 0, data->shape.rank, &axis);
    for (size_t i = 0; i < n && status == MYR_OK; i++, myr_shape_next(&indices->shape, place)) {
        if (!element_at(&data->shape, place, axis, ((const int64_t *)indices->data)[i], &from))
            return out_of_range(operation);
        memcpy((char *)operation->out[0].data + i * size, (const char *)data->data + from * size, size);
    }
    return status;
}

typedef enum joining { REPLACE, ADD, MULTIPLY, LARGER, SMALLER, NO_JOINING } joining;

static joining find_joining(const myr_node *node)
{
    static const char *const names[] = {"none", "add", "mul", "max", "min"};
    joining how = REPLACE;
    while (how < NO_JOINING && strcmp(names[how], myr_node_text(node, "reduction", "none")) != 0)
        how++;
    return how;
}

static const char *refuse_scatter(const myr_node *node, int64_t opset)
{
    (void)opset;
    return find_joining(node) == NO_JOINING ? "a reduction other than none, add, mul, max, min" : NULL;
}

static void join(joining how, myr_tensor *out, size_t to, const myr_tensor *updates, size_t from)
{
    if (out->type == MYR_TYPE_F32) {
        float *value = (float *)out->data + to, x = ((const float *)updates->data)[from];
        *value = how == REPLACE                    ? x
                 : how == ADD                      ? *value + x
                 : how == MULTIPLY                 ? *value * x
                 : (how == LARGER) == (x > *value) ? x
                                                   : *value;
        return;
    }
    int64_t *value = (int64_t *)out->data + to, x = ((const int64_t *)updates->data)[from];
    *value = how == REPLACE                    ? x
             : how == ADD                      ? (int64_t)((uint64_t)*value + (uint64_t)x)
             : how == MULTIPLY                 ? (int64_t)((uint64_t)*value * (uint64_t)x)
             : (how == LARGER) == (x > *value) ? x
                                               : *value;
}

static myr_status infer_scatter_elements(const myr_operation *operation)
{
    int axis;
    const myr_tensor *data = operation->in[0], *indices = operation->in[1], *updates = operation->in[2];
    myr_status status = myr_operation_axis(operation, 0, data->shape.rank, &axis);
    if (status != MYR_OK)
        return status;
    if (indices->type != MYR_TYPE_I64 || updates->type != data->type ||
        !myr_shape_equal(&indices->shape, &updates->shape) || !fits_beside(&data->shape, &indices->shape, axis))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "indices, updates and data do not fit together");
    myr_operation_shape(operation, 0, data->type, &data->shape);
    return MYR_OK;
}

static myr_status compute_scatter_elements(const myr_operation *operation)
{
    int axis;
    const myr_tensor *data = operation->in[0], *indices = operation->in[1];
    int64_t place[MYR_TENSOR_MAX_RANK] = {0};
    size_t n = myr_shape_count(&indices->shape), to;
    myr_status status = myr_operation_axis(operation, 0, data->shape.rank, &axis);
    memcpy(operation->out[0].data, data->data, myr_tensor_bytes(data));
    for (size_t i = 0; i < n && status == MYR_OK; i++, myr_shape_next(&indices->shape, place)) {
        if (!element_at(&data->shape, place, axis, ((const int64_t *)indices->data)[i], &to))
            return out_of_range(operation);
        join(find_joining(operation->node), &operation->out[0], to, operation->in[2], i);
    }
    return status;
}

/* ---- GatherND, ScatterND ---- */

/* Rows of the last dimension of the indices name slices of the data: how many numbers a row has, how many elements a
 * slice. b: leading dimensions that both share. */
typedef struct slices {
    int b, depth;
    size_t n_rows, size, rows_a_batch, batch_size;
} slices;

static bool find_slices(const myr_operation *operation, slices *found)
{
    const myr_shape *data = &operation->in[0]->shape, *indices = &operation->in[1]->shape;
    int64_t b = myr_node_int(operation->node, "batch_dims", 0);
    if (operation->in[1]->type != MYR_TYPE_I64 || data->rank < 1 || indices->rank < 1 || b < 0 || b >= indices->rank ||
        b >= data->rank)
        return false;
    int64_t depth = indices->dims[indices->rank - 1];
    if (depth < 0 || depth > data->rank - b)
        return false;
    *found = (slices){.b = (int)b, .depth = (int)depth, .n_rows = 1, .size = 1, .rows_a_batch = 1, .batch_size = 1};
    for (int i = 0; i < b; i++)
        if (data->dims[i] != indices->dims[i])
            return false;
    for (int i = 0; i < indices->rank - 1; i++) {
        found->n_rows *= (size_t)indices->dims[i];
        found->rows_a_batch *= i < b ? 1 : (size_t)indices->dims[i];
    }
    for (int i = (int)b; i < data->rank; i++) {
        found->batch_size *= (size_t)data->dims[i];
        found->size *= i < b + depth ? 1 : (size_t)data->dims[i];
    }
    return true;
}

/* Where the slice that row i names begins. */
static bool slice_at(const myr_operation *operation, const slices *parts, size_t i, size_t *element)
{
    const myr_shape *data = &operation->in[0]->shape;
    const int64_t *row = (const int64_t *)operation->in[1]->data + i * (size_t)parts->depth;
    size_t at = 0;
    for (int d = 0; d < parts->depth; d++) {
        size_t along;
        if (!find_index(row[d], data->dims[parts->b + d], &along))
            return false;
        at = at * (size_t)data->dims[parts->b + d] + along;
    }
    *element = i / parts->rows_a_batch * parts->batch_size + at * parts->size;
    return true;
}

static myr_status infer_gather_nd(const myr_operation *operation)
{
    const myr_shape *data = &operation->in[0]->shape, *indices = &operation->in[1]->shape;
    slices parts;
    if (!find_slices(operation, &parts))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the indices do not fit the data");
    if (indices->rank - 1 + data->rank - parts.b - parts.depth > MYR_TENSOR_MAX_RANK)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "more than 8 dimensions");
    myr_shape shape = {.rank = indices->rank - 1};
    memcpy(shape.dims, indices->dims, (size_t)shape.rank * sizeof *shape.dims);
    for (int i = parts.b + parts.depth; i < data->rank; i++)
        shape.dims[shape.rank++] = data->dims[i];
    myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    return MYR_OK;
}

static myr_status compute_gather_nd(const myr_operation *operation)
{
    slices parts;
    size_t size = myr_type_bytes(operation->in[0]->type), from;
    if (!find_slices(operation, &parts))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "the indices do not fit the data");
    for (size_t i = 0; i < parts.n_rows; i++) {
        if (!slice_at(operation, &parts, i, &from))
            return out_of_range(operation);
        memcpy((char *)operation->out[0].data + i * parts.size * size,
               (const char *)operation->in[0]->data + from * size, parts.size * size);
    }
    return MYR_OK;
}

static myr_status infer_scatter_nd(const myr_operation *operation)
{
    slices parts;
    if (!find_slices(operation, &parts) || operation->in[2]->type != operation->in[0]->type ||
        myr_shape_count(&operation->in[2]->shape) != parts.n_rows * parts.size)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "indices, updates and data do not fit together");
    myr_operation_shape(operation, 0, operation->in[0]->type, &operation->in[0]->shape);
    return MYR_OK;
}

static myr_status compute_scatter_nd(const myr_operation *operation)
{
    slices parts;
    size_t to;
    if (!find_slices(operation, &parts))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "the indices do not fit the data");
    memcpy(operation->out[0].data, operation->in[0]->data, myr_tensor_bytes(operation->in[0]));
    for (size_t i = 0; i < parts.n_rows; i++) {
        if (!slice_at(operation, &parts, i, &to))
            return out_of_range(operation);
        for (size_t j = 0; j < parts.size; j++)
            join(find_joining(operation->node), &operation->out[0], to + j, operation->in[2], i * parts.size + j);
    }
    return MYR_OK;
}

/* ---- OneHot ---- */

static myr_status infer_one_hot(const myr_operation *operation)
{
    const myr_tensor *indices = operation->in[0], *depth = operation->in[1], *values = operation->in[2];
    int axis;
    myr_shape shape = {.rank = indices->shape.rank + 1};
    if (!depth->data)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "depth must be constant");
    if (shape.rank > MYR_TENSOR_MAX_RANK)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "more than 8 dimensions");
    if (myr_shape_count(&depth->shape) != 1 || myr_shape_count(&values->shape) != 2 ||
        !myr_axis_resolve(myr_node_int(operation->node, "axis", -1), shape.rank, &axis))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "depth, values or axis make no sense");
    for (int i = 0, from = 0; i < shape.rank; i++)
        shape.dims[i] = i == axis ? myr_tensor_number(depth, 0) : indices->shape.dims[from++];
    myr_operation_shape(operation, 0, values->type, &shape);
    return MYR_OK;
}

static myr_status compute_one_hot(const myr_operation *operation)
{
    int axis;
    size_t outer, depth, inner, size = myr_type_bytes(operation->out[0].type);
    myr_status status = myr_operation_axis(operation, -1, operation->out[0].shape.rank, &axis);
    if (status != MYR_OK)
        return status;
    myr_shape_split(&operation->out[0].shape, axis, axis + 1, &outer, &depth, &inner);
    for (size_t i = 0; i < outer * depth * inner; i++) {
        int64_t index = myr_tensor_number(operation->in[0], i / (depth * inner) * inner + i % inner);
        index += index < 0 ? (int64_t)depth : 0;
        bool hot = index == (int64_t)(i / inner % depth);
        memcpy((char *)operation->out[0].data + i * size, (const char *)operation->in[2]->data + (hot ? size : 0),
               size);
    }
    return MYR_OK;
}

/* ---- ReverseSequence ---- */

static bool sequence_axes(const myr_operation *operation, int *time, int *batch)
{
    int64_t t = myr_node_int(operation->node, "time_axis", 0), b = myr_node_int(operation->node, "batch_axis", 1);
    *time = (int)t;
    *batch = (int)b;
    return (t == 0 && b == 1) || (t == 1 && b == 0);
}

static myr_status infer_reversed(const myr_operation *operation)
{
    int time, batch;
    const myr_tensor *in = operation->in[0], *lengths = operation->in[1];
    if (!sequence_axes(operation, &time, &batch) || in->shape.rank < 2 || lengths->type != MYR_TYPE_I64 ||
        lengths->shape.rank != 1 || lengths->shape.dims[0] != in->shape.dims[batch])
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "axes, lengths and input do not fit together");
    myr_operation_shape(operation, 0, in->type, &in->shape);
    return MYR_OK;
}

static myr_status compute_reversed(const myr_operation *operation)
{
    int time, batch;
    const myr_tensor *in = operation->in[0];
    const int64_t *lengths = operation->in[1]->data;
    if (!sequence_axes(operation, &time, &batch))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "axes make no sense");
    int64_t rows = in->shape.dims[0], columns = in->shape.dims[1];
    size_t outer, length, inner;
    myr_shape_split(&in->shape, 0, 2, &outer, &length, &inner);
    inner *= myr_type_bytes(in->type);
    for (int64_t i = 0; i < rows * columns; i++) {
        int64_t place[2] = {i / columns, i % columns}, n = lengths[place[batch]];
        if (n < 0 || n > in->shape.dims[time])
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "a length is out of range");
        if (place[time] < n)
            place[time] = n - 1 - place[time];
        memcpy((char *)operation->out[0].data + (size_t)i * inner,
               (const char *)in->data + (size_t)(place[0] * columns + place[1]) * inner, inner);
    }
    return MYR_OK;
}

const myr_operator myr_index_operators[] = {
    {"GatherElements", MYR_KIND_OTHER, 2, 2, 1, "axis:int ", NULL, infer_gather_elements, compute_gather_elements},
    {"GatherND", MYR_KIND_OTHER, 2, 2, 1, "batch_dims:int ", NULL, infer_gather_nd, compute_gather_nd},
    {"Scatter", MYR_KIND_OTHER, 3, 3, 1, "axis:int ", NULL, infer_scatter_elements, compute_scatter_elements},
    {"ScatterElements", MYR_KIND_OTHER, 3, 3, 1, "axis:int reduction:text ", refuse_scatter, infer_scatter_elements,
     compute_scatter_elements},
    {"ScatterND", MYR_KIND_OTHER, 3, 3, 1, "reduction:text ", refuse_scatter, infer_scatter_nd, compute_scatter_nd},
    {"OneHot", MYR_KIND_OTHER, 3, 3, 1, "axis:int ", NULL, infer_one_hot, compute_one_hot},
    {"ReverseSequence", MYR_KIND_OTHER, 2, 2, 1, "batch_axis:int time_axis:int ", NULL, infer_reversed,
     compute_reversed},
    {0},
};
