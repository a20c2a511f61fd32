/*
 * Operators that move elements without changing them.
 */
#include "nn/operator.h"

#include <string.h>

static myr_status copy_input(const myr_operation *operation)
{
    memcpy(operation->out[0].data, operation->in[0]->data, myr_tensor_bytes(operation->in[0]));
    return MYR_OK;
}

static myr_status infer_same(const myr_operation *operation)
{
    myr_operation_shape(operation, 0, operation->in[0]->type, &operation->in[0]->shape);
    return MYR_OK;
}

static const char *refuse_dropout(const myr_node *node, int64_t opset)
{
    (void)opset;
    return node->n_outputs > 1 && node->outputs[1] >= 0 ? "the output mask" : NULL;
}

/* A constant that holds this one number. */
static bool is_constant(const myr_tensor *tensor, double number)
{
    if (!tensor || !tensor->data || myr_shape_count(&tensor->shape) != 1)
        return false;
    return tensor->type == MYR_TYPE_F32
               ? *(const float *)tensor->data == (float)number
               : tensor->type == MYR_TYPE_I64 && (double)*(const int64_t *)tensor->data == number;
}

/* Dropout does nothing outside training, nor where it drops nothing, as some exporters write it. */
static myr_status infer_dropout(const myr_operation *operation)
{
    const myr_tensor *ratio = myr_operation_input(operation, 1), *training = myr_operation_input(operation, 2);
    if (training && !is_constant(training, 0) && !is_constant(ratio, 0))
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED,
                                  "neither training_mode nor the ratio is a constant 0");
    return infer_same(operation);
}

static myr_status infer_flatten(const myr_operation *operation)
{
    const myr_shape *in = &operation->in[0]->shape;
    int64_t axis = myr_node_int(operation->node, "axis", 1);
    if (axis < -in->rank || axis > in->rank)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "axis is out of range");
    axis = axis < 0 ? axis + in->rank : axis;
    myr_shape shape = {.rank = 2, .dims = {1, 1}};
    for (int i = 0; i < in->rank; i++)
        shape.dims[i < axis ? 0 : 1] *= in->dims[i];
    myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    return MYR_OK;
}

static myr_status infer_reshape(const myr_operation *operation)
{
    const myr_shape *in = &operation->in[0]->shape;
    bool known, keep_zero = myr_node_int(operation->node, "allowzero", 0) != 0;
    size_t n;
    const int64_t *wanted = myr_operation_list(operation, "shape", 1, &n, &known);
    if (!known)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "the shape must be a constant");
    if (n > MYR_TENSOR_MAX_RANK)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "more than 8 dimensions");
    myr_shape shape = {.rank = (int)n};
    int open = -1;
    for (int i = 0; i < shape.rank; i++) {
        shape.dims[i] = wanted[i] == 0 && !keep_zero && i < in->rank ? in->dims[i] : wanted[i];
        if (wanted[i] == -1 && open < 0) {
            open = i;
            shape.dims[i] = 1;
        }
    }
    /* A file exported for a fixed batch has it written into its shapes. */
    bool bound = operation->batch > 0 && operation->file_batch > 0 && operation->batch != operation->file_batch;
    if (bound && shape.rank > 0 && in->rank > 0 && in->dims[0] == operation->batch &&
        wanted[0] == operation->file_batch)
        shape.dims[0] = operation->batch;
    if (!myr_shape_is_sane(&shape))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the shape makes no sense");
    size_t n_in = myr_shape_count(in), n_rest = myr_shape_count(&shape);
    if (open >= 0 && n_rest > 0)
        shape.dims[open] = (int64_t)(n_in / n_rest);
    if (myr_shape_count(&shape) != n_in) {
        char from[96], to[96];
        return myr_fail(MYR_ERR_FORMAT, "node '%s' (Reshape): %s cannot become %s%s", operation->node->name,
                        myr_shape_text(in, from, sizeof from), myr_shape_text(&shape, to, sizeof to),
                        bound ? "; the file was exported for another batch: export it with its batch left open" : "");
    }
    myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    return MYR_OK;
}

static myr_status infer_squeeze(const myr_operation *operation)
{
    const myr_shape *in = &operation->in[0]->shape;
    bool known, dropped[MYR_TENSOR_MAX_RANK] = {false};
    size_t n;
    const int64_t *axes = myr_operation_list(operation, "axes", 1, &n, &known);
    if (!known)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "axes must be constants");
    for (int i = 0; i < in->rank && !axes; i++)
        dropped[i] = in->dims[i] == 1;
    for (size_t i = 0; i < n; i++) {
        int axis;
        if (!myr_axis_resolve(axes[i], in->rank, &axis) || in->dims[axis] != 1)
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "an axis is out of range, or longer than 1");
        dropped[axis] = true;
    }
    myr_shape shape = {0};
    for (int i = 0; i < in->rank; i++)
        if (!dropped[i])
            shape.dims[shape.rank++] = in->dims[i];
    myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    return MYR_OK;
}

static myr_status infer_unsqueeze(const myr_operation *operation)
{
    const myr_shape *in = &operation->in[0]->shape;
    bool known, added[MYR_TENSOR_MAX_RANK] = {false};
    size_t n;
    const int64_t *axes = myr_operation_list(operation, "axes", 1, &n, &known);
    if (!known)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "axes must be constants");
    if ((size_t)in->rank + n > MYR_TENSOR_MAX_RANK)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "more than 8 dimensions");
    myr_shape shape = {.rank = in->rank + (int)n};
    for (size_t i = 0; i < n; i++) {
        int axis;
        if (!myr_axis_resolve(axes[i], shape.rank, &axis) || added[axis])
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "an axis is out of range, or given twice");
        added[axis] = true;
    }
    for (int i = 0, from = 0; i < shape.rank; i++)
        shape.dims[i] = added[i] ? 1 : in->dims[from++];
    myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    return MYR_OK;
}

/* Which input dimension each output dimension is; reversed where perm is not given. */
static bool permutation(const myr_operation *operation, int *order)
{
    const myr_attribute *given = myr_node_attribute(operation->node, "perm");
    int rank = operation->in[0]->shape.rank;
    bool seen[MYR_TENSOR_MAX_RANK] = {false};
    if (given && given->n != (size_t)rank)
        return false;
    for (int i = 0; i < rank; i++) {
        int64_t from = given ? given->numbers[i] : rank - 1 - i;
        if (from < 0 || from >= rank || seen[from])
            return false;
        seen[from] = true;
        order[i] = (int)from;
    }
    return true;
}

static myr_status infer_transpose(const myr_operation *operation)
{
    int order[MYR_TENSOR_MAX_RANK];
    const myr_shape *in = &operation->in[0]->shape;
    myr_shape shape = {.rank = in->rank};
    if (!permutation(operation, order))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "perm is no permutation of the dimensions");
    for (int i = 0; i < in->rank; i++)
        shape.dims[i] = in->dims[order[i]];
    myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    return MYR_OK;
}

static myr_status compute_transpose(const myr_operation *operation)
{
    int order[MYR_TENSOR_MAX_RANK];
    const myr_shape *in = &operation->in[0]->shape, *out = &operation->out[0].shape;
    size_t size = myr_type_bytes(operation->in[0]->type), strides[MYR_TENSOR_MAX_RANK], stride = 1,
           n = myr_shape_count(out), at = 0;
    int64_t place[MYR_TENSOR_MAX_RANK] = {0};
    const char *from = operation->in[0]->data;
    char *to = operation->out[0].data;
    if (!permutation(operation, order))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "perm is no permutation");
    for (int i = in->rank - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= (size_t)in->dims[i];
    }
    for (size_t i = 0; i < n; i++) {
        memcpy(to + i * size, from + at * size, size);
        for (int d = out->rank - 1; d >= 0; d--) {
            at += strides[order[d]];
            if (++place[d] < out->dims[d])
                break;
            at -= strides[order[d]] * (size_t)out->dims[d];
            place[d] = 0;
        }
    }
    return MYR_OK;
}

static myr_status infer_concat(const myr_operation *operation)
{
    int axis, n = operation->node->n_inputs;
    myr_shape shape = operation->in[0]->shape;
    if (!myr_axis_resolve(myr_node_int(operation->node, "axis", 1), shape.rank, &axis))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "axis is out of range");
    for (int i = 1; i < n; i++) {
        const myr_tensor *input = operation->in[i];
        if (input->type != operation->in[0]->type || input->shape.rank != shape.rank)
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "inputs differ in type or rank");
        for (int d = 0; d < shape.rank; d++)
            if (d != axis && input->shape.dims[d] != shape.dims[d])
                return myr_operation_fail(operation, MYR_ERR_FORMAT, "inputs do not fit together");
        shape.dims[axis] += input->shape.dims[axis];
    }
    myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    return MYR_OK;
}

static myr_status compute_concat(const myr_operation *operation)
{
    int axis, rank = operation->out[0].shape.rank;
    if (!myr_axis_resolve(myr_node_int(operation->node, "axis", 1), rank, &axis))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "axis is out of range");
    size_t outer = 1, inner = myr_type_bytes(operation->out[0].type);
    for (int d = 0; d < rank; d++)
        *(d < axis ? &outer : &inner) *= d == axis ? 1 : (size_t)operation->out[0].shape.dims[d];
    char *to = operation->out[0].data;
    for (size_t row = 0; row < outer; row++) {
        for (int i = 0; i < operation->node->n_inputs; i++) {
            size_t n_bytes = (size_t)operation->in[i]->shape.dims[axis] * inner;
            memcpy(to, (const char *)operation->in[i]->data + row * n_bytes, n_bytes);
            to += n_bytes;
        }
    }
    return MYR_OK;
}

static const char *refuse_pad(const myr_node *node, int64_t opset)
{
    (void)opset;
    const char *mode = myr_node_text(node, "mode", "constant");
    if (strcmp(mode, "constant") != 0 && strcmp(mode, "reflect") != 0 && strcmp(mode, "edge") != 0 &&
        strcmp(mode, "wrap") != 0)
        return "a mode other than constant, reflect, edge, wrap";
    return NULL;
}

/* Cells before (rank) and after (rank) each dimension; negative ones cut. */
static myr_status find_pads(const myr_operation *operation, int64_t *pads)
{
    int rank = operation->in[0]->shape.rank;
    const int64_t *given, *axes;
    size_t n, n_axes;
    myr_status status = myr_operation_constants(operation, "pads", 1, "pads", &given, &n);
    if (status == MYR_OK)
        status = myr_operation_constants(operation, "", 3, "axes", &axes, &n_axes);
    if (status != MYR_OK)
        return status;
    n_axes = axes ? n_axes : (size_t)rank;
    memset(pads, 0, 2 * (size_t)rank * sizeof *pads);
    bool fits = given && n == 2 * n_axes;
    for (size_t i = 0; i < n_axes && fits; i++) {
        int axis;
        fits = myr_axis_resolve(axes ? axes[i] : (int64_t)i, rank, &axis);
        for (int side = 0; side < 2 && fits; side++) {
            int64_t cells = given[i + (size_t)side * n_axes];
            fits = cells > -INT32_MAX && cells < INT32_MAX;
            pads[axis + side * rank] = cells;
        }
    }
    return fits ? MYR_OK : myr_operation_fail(operation, MYR_ERR_FORMAT, "pads are missing or do not fit the input");
}

static myr_status infer_pad(const myr_operation *operation)
{
    const myr_tensor *in = operation->in[0], *filling = myr_operation_input(operation, 2);
    int64_t pads[2 * MYR_TENSOR_MAX_RANK];
    bool reflect = strcmp(myr_node_text(operation->node, "mode", "constant"), "reflect") == 0;
    bool wraps = myr_node_text(operation->node, "mode", "constant")[0] != 'c';
    myr_shape shape = {.rank = in->shape.rank};
    myr_status status = find_pads(operation, pads);
    if (status != MYR_OK)
        return status;
    if (filling && (filling->type != in->type || myr_shape_count(&filling->shape) != 1))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the value is not one number of the input's type");
    for (int i = 0; i < shape.rank; i++) {
        int64_t before = pads[i], after = pads[i + shape.rank], dim = in->shape.dims[i];
        shape.dims[i] = dim + before + after;
        bool fits = shape.dims[i] >= 0 && (!reflect || (before < dim && after < dim)) &&
                    (!wraps || dim > 0 || shape.dims[i] == 0);
        if (!fits)
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "pads make no sense for the input");
    }
    myr_operation_shape(operation, 0, in->type, &shape);
    return MYR_OK;
}

/* The input cell behind output cell i of a dimension, or -1 for the filling. */
static int64_t pad_source(int64_t i, int64_t before, int64_t length, char mode)
{
    int64_t from = i - before;
    if (from >= 0 && from < length)
        return from;
    if (mode == 'c' || length == 0)
        return -1;
    if (mode == 'w')
        return (from % length + length) % length;
    if (mode == 'e')
        return from < 0 ? 0 : length - 1;
    return from < 0 ? -from : 2 * (length - 1) - from;
}

static myr_status compute_pad(const myr_operation *operation)
{
    const myr_shape *in = &operation->in[0]->shape, *out = &operation->out[0].shape;
    const myr_tensor *filling = myr_operation_input(operation, 2);
    int64_t place[MYR_TENSOR_MAX_RANK] = {0}, pads[2 * MYR_TENSOR_MAX_RANK], number = 0;
    float real = myr_node_float(operation->node, "value", 0);
    char mode = myr_node_text(operation->node, "mode", "constant")[0];
    size_t n = myr_shape_count(out), size = myr_type_bytes(operation->out[0].type);
    const void *value = filling                                  ? filling->data
                        : operation->out[0].type == MYR_TYPE_F32 ? (const void *)&real
                                                                 : (const void *)&number;
    myr_status status = find_pads(operation, pads);
    for (size_t i = 0; i < n && status == MYR_OK; i++, myr_shape_next(out, place)) {
        int64_t at = 0;
        for (int d = 0; d < out->rank && at >= 0; d++) {
            int64_t from = pad_source(place[d], pads[d], in->dims[d], mode);
            at = from < 0 ? -1 : at * in->dims[d] + from;
        }
        memcpy((char *)operation->out[0].data + i * size,
               at < 0 ? value : (const char *)operation->in[0]->data + (size_t)at * size, size);
    }
    return status;
}

const myr_operator myr_layout_operators[] = {
    {"Identity", MYR_KIND_RESHAPE, 1, 1, 1, "", NULL, infer_same, copy_input},
    {"Dropout", MYR_KIND_RESHAPE, 1, 3, 2, "ratio:float seed:int is_test:int ", refuse_dropout, infer_dropout,
     copy_input},
    {"Flatten", MYR_KIND_RESHAPE, 1, 1, 1, "axis:int ", NULL, infer_flatten, copy_input},
    {"Reshape", MYR_KIND_RESHAPE, 1, 2, 1, "shape:ints allowzero:int ", NULL, infer_reshape, copy_input},
    {"Squeeze", MYR_KIND_RESHAPE, 1, 2, 1, "axes:ints ", NULL, infer_squeeze, copy_input},
    {"Unsqueeze", MYR_KIND_RESHAPE, 1, 2, 1, "axes:ints ", NULL, infer_unsqueeze, copy_input},
    {"Transpose", MYR_KIND_TRANSPOSE, 1, 1, 1, "perm:ints ", NULL, infer_transpose, compute_transpose},
    {"Concat", MYR_KIND_CONCAT, 1, INT32_MAX, 1, "axis:int ", NULL, infer_concat, compute_concat},
    {"Pad", MYR_KIND_PAD, 1, 4, 1, "mode:text pads:ints value:float ", refuse_pad, infer_pad, compute_pad},
    {0},
};
