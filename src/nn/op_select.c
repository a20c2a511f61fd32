/*
 * Operators that exporters leave around shapes: Shape, Gather, Slice, Cast, Constant,
 * ConstantOfShape. Nearly all of them fold away.
 */
#include "nn/operator.h"

#include <math.h>
#include <string.h>

static int64_t clamp(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* The dimensions asked for, [first, last). */
static void shape_part(const myr_operation *operation, int64_t *first, int64_t *last)
{
    int64_t rank = operation->in[0]->shape.rank;
    *first = myr_node_int(operation->node, "start", 0);
    *last = myr_node_int(operation->node, "end", rank);
    *first = clamp(*first < 0 ? *first + rank : *first, 0, rank);
    *last = clamp(*last < 0 ? *last + rank : *last, *first, rank);
}

static myr_status infer_shape(const myr_operation *operation)
{
    int64_t first, last;
    shape_part(operation, &first, &last);
    myr_operation_shape(operation, 0, MYR_TYPE_I64, &(myr_shape){.rank = 1, .dims = {last - first}});
    return MYR_OK;
}

static myr_status compute_shape(const myr_operation *operation)
{
    int64_t first, last;
    shape_part(operation, &first, &last);
    memcpy(operation->out[0].data, operation->in[0]->shape.dims + first, (size_t)(last - first) * sizeof(int64_t));
    return MYR_OK;
}

static const char *refuse_constant(const myr_node *node, int64_t opset)
{
    (void)opset;
    const myr_attribute *value = myr_node_attribute(node, "value");
    if (value && value->type == MYR_ATTRIBUTE_TENSOR)
        return NULL;
    return node->n_attributes == 1 && !value ? NULL : "a value that is not a dense tensor of numbers";
}

static myr_status infer_constant(const myr_operation *operation)
{
    const myr_attribute *given = &operation->node->attributes[0];
    if (given->type == MYR_ATTRIBUTE_TENSOR)
        myr_operation_shape(operation, 0, given->tensor->type, &given->tensor->shape);
    else if (given->type == MYR_ATTRIBUTE_INT || given->type == MYR_ATTRIBUTE_FLOAT)
        myr_operation_shape(operation, 0, given->type == MYR_ATTRIBUTE_INT ? MYR_TYPE_I64 : MYR_TYPE_F32,
                            &(myr_shape){0});
    else if (given->type == MYR_ATTRIBUTE_INTS || given->type == MYR_ATTRIBUTE_FLOATS)
        myr_operation_shape(operation, 0, given->type == MYR_ATTRIBUTE_INTS ? MYR_TYPE_I64 : MYR_TYPE_F32,
                            &(myr_shape){.rank = 1, .dims = {(int64_t)given->n}});
    else
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "its value is no tensor of numbers");
    return MYR_OK;
}

static myr_status compute_constant(const myr_operation *operation)
{
    const myr_attribute *given = &operation->node->attributes[0];
    const void *from = given->type == MYR_ATTRIBUTE_TENSOR  ? given->tensor->data
                       : given->type == MYR_ATTRIBUTE_INT   ? (const void *)&given->number
                       : given->type == MYR_ATTRIBUTE_FLOAT ? (const void *)&given->real
                       : given->type == MYR_ATTRIBUTE_INTS  ? (const void *)given->numbers
                                                            : (const void *)given->reals;
    size_t n_bytes = myr_tensor_bytes(&operation->out[0]);
    if (n_bytes > 0)
        memcpy(operation->out[0].data, from, n_bytes);
    return MYR_OK;
}

static myr_status infer_filled(const myr_operation *operation)
{
    bool known;
    size_t n;
    const int64_t *dims = myr_operation_list(operation, "", 0, &n, &known);
    const myr_attribute *value = myr_node_attribute(operation->node, "value");
    myr_shape shape = {.rank = (int)n};
    if (!known)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "the shape must be a constant");
    if (n > MYR_TENSOR_MAX_RANK ||
        (value && (value->type != MYR_ATTRIBUTE_TENSOR || myr_shape_count(&value->tensor->shape) != 1)))
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED,
                                  "more than 8 dimensions, or a value that is not one number");
    for (size_t i = 0; i < n; i++)
        shape.dims[i] = dims[i];
    myr_operation_shape(operation, 0, value ? value->tensor->type : MYR_TYPE_F32, &shape);
    return MYR_OK;
}

static myr_status compute_filled(const myr_operation *operation)
{
    const myr_attribute *value = myr_node_attribute(operation->node, "value");
    size_t n = myr_shape_count(&operation->out[0].shape), size = myr_type_bytes(operation->out[0].type);
    for (size_t i = 0; i < n && value; i++)
        memcpy((char *)operation->out[0].data + i * size, value->tensor->data, size);
    return MYR_OK;
}

static const char *refuse_cast(const myr_node *node, int64_t opset)
{
    myr_type type;
    (void)opset;
    return myr_type_of_file(myr_node_int(node, "to", 0), &type)
               ? NULL
               : "a type other than float, half, double, bool and whole numbers";
}

static myr_status infer_cast(const myr_operation *operation)
{
    myr_type type;
    if (!myr_type_of_file(myr_node_int(operation->node, "to", 0), &type))
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "a type that is not supported");
    myr_operation_shape(operation, 0, type, &operation->in[0]->shape);
    return MYR_OK;
}

/* What is left of a number in a type of so many bits, of which the first is a sign or not. */
static int64_t wrap(int64_t x, int bits, bool is_signed)
{
    uint64_t mask = ((uint64_t)1 << bits) - 1, low = (uint64_t)x & mask;
    return is_signed && low >> (bits - 1) ? (int64_t)(low | ~mask) : (int64_t)low;
}

static int64_t narrow_number(int64_t to, int64_t x)
{
    switch (to) {
    case MYR_ONNX_BOOL:
        return x != 0;
    case MYR_ONNX_UINT8:
    case MYR_ONNX_INT8:
        return wrap(x, 8, to == MYR_ONNX_INT8);
    case MYR_ONNX_UINT16:
    case MYR_ONNX_INT16:
        return wrap(x, 16, to == MYR_ONNX_INT16);
    case MYR_ONNX_UINT32:
    case MYR_ONNX_INT32:
        return wrap(x, 32, to == MYR_ONNX_INT32);
    default:
        return x;
    }
}

/* The nearest half-precision number; ties go to the even one. */
static float narrow_real(int64_t to, float x)
{
    int exponent;
    if (to != MYR_ONNX_HALF || x == 0 || !isfinite(x))
        return x;
    frexpf(x, &exponent);
    float unit = ldexpf(1, (exponent < -13 ? -13 : exponent) - 11), rounded = nearbyintf(x / unit) * unit;
    return fabsf(rounded) > 65504 ? copysignf(INFINITY, x) : rounded;
}

static myr_status compute_cast(const myr_operation *operation)
{
    const myr_tensor *in = operation->in[0];
    int64_t to = myr_node_int(operation->node, "to", 0);
    size_t n = myr_shape_count(&in->shape);
    for (size_t i = 0; i < n; i++) {
        if (operation->out[0].type == MYR_TYPE_F32)
            ((float *)operation->out[0].data)[i] = narrow_real(to, (float)myr_tensor_real(in, i));
        else if (to == MYR_ONNX_BOOL) /* half is true as well */
            ((int64_t *)operation->out[0].data)[i] = myr_tensor_real(in, i) != 0;
        else
            ((int64_t *)operation->out[0].data)[i] = narrow_number(to, myr_tensor_number(in, i));
    }
    return MYR_OK;
}

static myr_status infer_gather(const myr_operation *operation)
{
    int axis;
    const myr_shape *in = &operation->in[0]->shape, *places = &operation->in[1]->shape;
    if (operation->in[1]->type != MYR_TYPE_I64)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "indices must be whole numbers");
    if (!myr_axis_resolve(myr_node_int(operation->node, "axis", 0), in->rank, &axis))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "axis is out of range");
    if (in->rank - 1 + places->rank > MYR_TENSOR_MAX_RANK)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "more than 8 dimensions");
    myr_shape shape = {0};
    for (int i = 0; i < axis; i++)
        shape.dims[shape.rank++] = in->dims[i];
    for (int i = 0; i < places->rank; i++)
        shape.dims[shape.rank++] = places->dims[i];
    for (int i = axis + 1; i < in->rank; i++)
        shape.dims[shape.rank++] = in->dims[i];
    myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    return MYR_OK;
}

static myr_status compute_gather(const myr_operation *operation)
{
    int axis;
    const myr_shape *in = &operation->in[0]->shape;
    if (!myr_axis_resolve(myr_node_int(operation->node, "axis", 0), in->rank, &axis))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "axis is out of range");
    size_t outer = 1, inner = myr_type_bytes(operation->in[0]->type),
           n_places = myr_shape_count(&operation->in[1]->shape);
    for (int i = 0; i < in->rank; i++)
        *(i < axis ? &outer : &inner) *= i == axis ? 1 : (size_t)in->dims[i];
    const int64_t *places = operation->in[1]->data;
    char *to = operation->out[0].data;
    for (size_t row = 0; row < outer; row++) {
        for (size_t i = 0; i < n_places; i++) {
            int64_t place = places[i] < 0 ? places[i] + in->dims[axis] : places[i];
            if (place < 0 || place >= in->dims[axis])
                return myr_operation_fail(operation, MYR_ERR_FORMAT, "an index is out of range");
            memcpy(to, (const char *)operation->in[0]->data + (row * (size_t)in->dims[axis] + (size_t)place) * inner,
                   inner);
            to += inner;
        }
    }
    return MYR_OK;
}

/* For each dimension the first index, the step and how many: attributes before operator set 10, inputs since. */
typedef struct cut {
    int64_t start[MYR_TENSOR_MAX_RANK], step[MYR_TENSOR_MAX_RANK];
    myr_shape shape;
} cut;

static myr_status find_cut(const myr_operation *operation, cut *result)
{
    const myr_shape *in = &operation->in[0]->shape;
    size_t n_starts, n_ends, n_axes, n_steps;
    bool known[4];
    const int64_t *starts = myr_operation_list(operation, "starts", 1, &n_starts, &known[0]);
    const int64_t *ends = myr_operation_list(operation, "ends", 2, &n_ends, &known[1]);
    const int64_t *axes = myr_operation_list(operation, "axes", 3, &n_axes, &known[2]);
    const int64_t *steps = myr_operation_list(operation, "", 4, &n_steps, &known[3]);
    if (!known[0] || !known[1] || !known[2] || !known[3])
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "starts, ends, axes and steps must be constants");
    if (!starts || !ends || n_starts != n_ends || (axes && n_axes != n_starts) || (steps && n_steps != n_starts))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "starts, ends, axes and steps do not fit together");
    result->shape = *in;
    for (int i = 0; i < in->rank; i++) {
        result->start[i] = 0;
        result->step[i] = 1;
    }
    for (size_t i = 0; i < n_starts; i++) {
        int axis;
        int64_t step = steps ? steps[i] : 1;
        if (!myr_axis_resolve(axes ? axes[i] : (int64_t)i, in->rank, &axis) || step == 0 || step < -INT32_MAX ||
            step > INT32_MAX)
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "an axis or step is out of range");
        int64_t dim = in->dims[axis], start = starts[i] < 0 ? starts[i] + dim : starts[i],
                end = ends[i] < 0 ? ends[i] + dim : ends[i];
        start = clamp(start, 0, step > 0 ? dim : dim - 1);
        end = clamp(end, step > 0 ? 0 : -1, dim);
        int64_t span = step > 0 ? end - start : start - end, stride = step > 0 ? step : -step;
        result->start[axis] = start;
        result->step[axis] = step;
        result->shape.dims[axis] = span > 0 && dim > 0 ? (span + stride - 1) / stride : 0;
    }
    return MYR_OK;
}

bool myr_slice_starts(const myr_graph *graph, const myr_node *node, int64_t *start)
{
    const myr_tensor *in[5] = {NULL};
    myr_tensor tensors[5];
    cut part;
    for (int i = 0; i < node->n_inputs; i++) {
        const myr_value *value = node->inputs[i] >= 0 ? &graph->values[node->inputs[i]] : NULL;
        if (!value)
            continue;
        tensors[i] = (myr_tensor){.type = value->type, .shape = value->shape};
        in[i] = value->constant ? value->constant : &tensors[i];
    }
    myr_operation operation = {.node = node, .opset = graph->opset, .in = in};
    if (find_cut(&operation, &part) != MYR_OK)
        return false;
    for (int d = 0; d < part.shape.rank; d++) {
        start[d] = part.start[d];
        if (part.step[d] != 1)
            return false;
    }
    return true;
}

static myr_status infer_slice(const myr_operation *operation)
{
    cut part;
    myr_status status = find_cut(operation, &part);
    if (status == MYR_OK)
        myr_operation_shape(operation, 0, operation->in[0]->type, &part.shape);
    return status;
}

static myr_status compute_slice(const myr_operation *operation)
{
    cut part;
    myr_status status = find_cut(operation, &part);
    if (status != MYR_OK)
        return status;
    const myr_shape *in = &operation->in[0]->shape;
    size_t size = myr_type_bytes(operation->in[0]->type), n = myr_shape_count(&part.shape);
    int64_t place[MYR_TENSOR_MAX_RANK] = {0};
    for (size_t i = 0; i < n; i++) {
        int64_t at = 0;
        for (int d = 0; d < in->rank; d++)
            at = at * in->dims[d] + part.start[d] + place[d] * part.step[d];
        memcpy((char *)operation->out[0].data + i * size, (const char *)operation->in[0]->data + (size_t)at * size,
               size);
        for (int d = in->rank - 1; d >= 0 && ++place[d] == part.shape.dims[d]; d--)
            place[d] = 0;
    }
    return MYR_OK;
}

const myr_operator myr_select_operators[] = {
    {"Shape", MYR_KIND_SHAPE, 1, 1, 1, "start:int end:int ", NULL, infer_shape, compute_shape},
    {"Constant", MYR_KIND_CONSTANT, 0, 0, 1,
     "value:tensor value_float:float value_floats:floats value_int:int value_ints:ints ", refuse_constant,
     infer_constant, compute_constant},
    {"ConstantOfShape", MYR_KIND_OTHER, 1, 1, 1, "value:tensor ", NULL, infer_filled, compute_filled},
    {"Cast", MYR_KIND_OTHER, 1, 1, 1, "to:int saturate:int ", refuse_cast, infer_cast, compute_cast},
    {"Gather", MYR_KIND_GATHER, 2, 2, 1, "axis:int ", NULL, infer_gather, compute_gather},
    {"Slice", MYR_KIND_SLICE, 1, 5, 1, "axes:ints ends:ints starts:ints ", NULL, infer_slice, compute_slice},
    {0},
};
