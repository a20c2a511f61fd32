/*
 * Operators that look at more than one element to scale one: BatchNormalization,
 * LayerNormalization, Softmax, LogSoftmax, Hardmax.
 */
#include "nn/operator.h"

#include <math.h>

static const char *refuse_training(const myr_node *node, int64_t opset)
{
    if (opset < 7 && myr_node_int(node, "is_test", 0) == 0)
        return "is_test 0";
    if (myr_node_int(node, "training_mode", 0) != 0)
        return "training_mode 1";
    if (myr_node_int(node, "spatial", 1) != 1)
        return "spatial 0";
    for (int i = 1; i < node->n_outputs; i++)
        if (node->outputs[i] >= 0)
            return "outputs for training";
    return NULL;
}

static myr_status infer_batch(const myr_operation *operation)
{
    const myr_shape *shape = &operation->in[0]->shape;
    for (int i = 0; i < 5; i++)
        if (!operation->in[i] || operation->in[i]->type != MYR_TYPE_F32)
            return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "all five inputs must be 32-bit floats");
    if (shape->rank < 2)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the input has no channels");
    for (int i = 1; i < 5; i++)
        if (operation->in[i]->shape.rank != 1 || operation->in[i]->shape.dims[0] != shape->dims[1])
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "statistics and channels differ in number");
    myr_operation_shape(operation, 0, MYR_TYPE_F32, shape);
    return MYR_OK;
}

static myr_status compute_batch(const myr_operation *operation)
{
    const myr_shape *shape = &operation->out[0].shape;
    const float *scale = operation->in[1]->data, *offset = operation->in[2]->data;
    const float *mean = operation->in[3]->data, *variance = operation->in[4]->data;
    double epsilon = (double)myr_node_float(operation->node, "epsilon", 1e-5f);
    size_t n_channels = (size_t)shape->dims[1], n = myr_shape_count(shape);
    size_t plane = n_channels && shape->dims[0] ? n / (n_channels * (size_t)shape->dims[0]) : 0;
    for (size_t i = 0; i < n; i++) {
        size_t c = i / plane % n_channels;
        double x = ((double)((const float *)operation->in[0]->data)[i] - (double)mean[c]) /
                   sqrt((double)variance[c] + epsilon);
        ((float *)operation->out[0].data)[i] = (float)(x * (double)scale[c] + (double)offset[c]);
    }
    return MYR_OK;
}

/* Before operator set 13 the axis and all behind it are one row; since, the axis alone. */
static bool softmax_axes(const myr_operation *operation, int *first, int *last)
{
    int rank = operation->in[0]->shape.rank;
    bool rows = operation->opset < 13;
    if (!myr_axis_resolve(myr_node_int(operation->node, "axis", rows ? 1 : -1), rank, first))
        return false;
    *last = rows ? rank : *first + 1;
    return true;
}

static myr_status infer_softmax(const myr_operation *operation)
{
    int first, last;
    if (operation->in[0]->type != MYR_TYPE_F32)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "only 32-bit floats are supported");
    if (!softmax_axes(operation, &first, &last))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "axis is out of range");
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &operation->in[0]->shape);
    return MYR_OK;
}

static myr_status compute_softmax(const myr_operation *operation)
{
    int first, last;
    size_t outer, length, inner;
    bool logarithm = operation->node->op->kind != MYR_KIND_SOFTMAX;
    if (!softmax_axes(operation, &first, &last))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "axis is out of range");
    myr_shape_split(&operation->out[0].shape, first, last, &outer, &length, &inner);
    for (size_t row = 0; row < outer * inner; row++) {
        size_t at = row / inner * length * inner + row % inner;
        const float *in = (const float *)operation->in[0]->data + at;
        float *out = (float *)operation->out[0].data + at, highest = -INFINITY;
        double sum = 0;
        for (size_t i = 0; i < length; i++)
            highest = in[i * inner] > highest ? in[i * inner] : highest;
        for (size_t i = 0; i < length; i++)
            sum += exp((double)in[i * inner] - (double)highest);
        for (size_t i = 0; i < length; i++) {
            double x = (double)in[i * inner] - (double)highest;
            out[i * inner] = (float)(logarithm ? x - log(sum) : exp(x) / sum);
        }
    }
    return MYR_OK;
}

/* 1 at the first of the largest, 0 elsewhere. */
static myr_status compute_hardmax(const myr_operation *operation)
{
    int first, last;
    size_t outer, length, inner;
    if (!softmax_axes(operation, &first, &last))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "axis is out of range");
    myr_shape_split(&operation->out[0].shape, first, last, &outer, &length, &inner);
    for (size_t row = 0; row < outer * inner; row++) {
        size_t at = row / inner * length * inner + row % inner, best = 0;
        const float *in = (const float *)operation->in[0]->data + at;
        for (size_t i = 1; i < length; i++)
            best = in[i * inner] > in[best * inner] ? i : best;
        for (size_t i = 0; i < length; i++)
            ((float *)operation->out[0].data)[at + i * inner] = i == best;
    }
    return MYR_OK;
}

static myr_status infer_layer(const myr_operation *operation)
{
    int axis;
    const myr_shape *shape = &operation->in[0]->shape;
    if (!myr_axis_resolve(myr_node_int(operation->node, "axis", -1), shape->rank, &axis))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "axis is out of range");
    size_t outer, length, inner;
    myr_shape_split(shape, axis, shape->rank, &outer, &length, &inner);
    for (int i = 0; i < operation->node->n_inputs; i++) {
        const myr_tensor *input = operation->in[i];
        if (input && input->type != MYR_TYPE_F32)
            return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "only 32-bit floats are supported");
        if (input && i > 0 && myr_shape_count(&input->shape) != length)
            return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED,
                                      "scale and bias must have the shape of what is normalised");
    }
    myr_shape statistics = *shape;
    for (int i = axis; i < shape->rank; i++)
        statistics.dims[i] = 1;
    myr_operation_shape(operation, 0, MYR_TYPE_F32, shape);
    myr_operation_shape(operation, 1, MYR_TYPE_F32, &statistics);
    myr_operation_shape(operation, 2, MYR_TYPE_F32, &statistics);
    return MYR_OK;
}

/* One of the outputs Mean and InvStdDev, where the node has it. */
static void keep_statistic(const myr_operation *operation, int i, size_t row, double value)
{
    if (i < operation->node->n_outputs && operation->node->outputs[i] >= 0)
        ((float *)operation->out[i].data)[row] = (float)value;
}

static myr_status compute_layer(const myr_operation *operation)
{
    int axis;
    size_t outer, length, inner;
    const myr_tensor *bias = myr_operation_input(operation, 2);
    const float *in = operation->in[0]->data, *scale = operation->in[1]->data;
    float *out = operation->out[0].data;
    double epsilon = (double)myr_node_float(operation->node, "epsilon", 1e-5f);
    if (!myr_axis_resolve(myr_node_int(operation->node, "axis", -1), operation->in[0]->shape.rank, &axis))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "axis is out of range");
    myr_shape_split(&operation->in[0]->shape, axis, operation->in[0]->shape.rank, &outer, &length, &inner);
    for (size_t row = 0; row < outer; row++, in += length, out += length) {
        double mean = 0, variance = 0;
        for (size_t i = 0; i < length; i++)
            mean += (double)in[i];
        mean /= (double)length;
        for (size_t i = 0; i < length; i++)
            variance += ((double)in[i] - mean) * ((double)in[i] - mean);
        double factor = 1 / sqrt(variance / (double)length + epsilon);
        keep_statistic(operation, 1, row, mean);
        keep_statistic(operation, 2, row, factor);
        for (size_t i = 0; i < length; i++)
            out[i] = (float)(((double)in[i] - mean) * factor * (double)scale[i] +
                             (bias ? (double)((const float *)bias->data)[i] : 0));
    }
    return MYR_OK;
}

const myr_operator myr_normalise_operators[] = {
    {"BatchNormalization", MYR_KIND_BATCH_NORMALIZATION, 5, 5, 5,
     "epsilon:float is_test:int momentum:float spatial:int training_mode:int ", refuse_training, infer_batch,
     compute_batch},
    {"LayerNormalization", MYR_KIND_LAYER_NORMALIZATION, 2, 3, 3, "axis:int epsilon:float stash_type:int ", NULL, infer_layer,
     compute_layer},
    {"Softmax", MYR_KIND_SOFTMAX, 1, 1, 1, "axis:int ", NULL, infer_softmax, compute_softmax},
    {"LogSoftmax", MYR_KIND_OTHER, 1, 1, 1, "axis:int ", NULL, infer_softmax, compute_softmax},
    {"Hardmax", MYR_KIND_OTHER, 1, 1, 1, "axis:int ", NULL, infer_softmax, compute_hardmax},
    {0},
};
