/*
 * Normalisation over channels and their neighbours: InstanceNormalization, GroupNormalization,
 * MeanVarianceNormalization, LpNormalization, LRN. Everything is summed in double.
 */
#include "nn/operator.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>

/* ---- InstanceNormalization, GroupNormalization ---- */

/* Channels that share their statistics. */
static int64_t group_size(const myr_operation *operation)
{
    int64_t n_groups = myr_node_int(operation->node, "num_groups", 0);
    return n_groups > 0 ? operation->in[0]->shape.dims[1] / n_groups : 1;
}

static const char *refuse_group(const myr_node *node, int64_t opset)
{
    (void)opset;
    int64_t n_groups = myr_node_int(node, "num_groups", 0);
    return n_groups < 1 || n_groups > INT32_MAX ? "no num_groups" : NULL;
}

static myr_status infer_instance(const myr_operation *operation)
{
    const myr_shape *shape = &operation->in[0]->shape;
    int64_t n_groups = myr_node_int(operation->node, "num_groups", 0);
    myr_operation_shape(operation, 0, MYR_TYPE_F32, shape);
    if (shape->rank < 2 || (n_groups > 0 && shape->dims[1] % n_groups != 0))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the input has no channels, or they fall into no groups");
    /* Before operator set 21, GroupNormalization scaled its groups. */
    for (int i = 1; i < 3; i++) {
        const myr_shape *scale = &operation->in[i]->shape;
        if (scale->rank != 1 || (scale->dims[0] != shape->dims[1] && (n_groups == 0 || scale->dims[0] != n_groups)))
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "scales and channels differ in number");
    }
    return myr_operation_floats(operation, 3);
}

static myr_status compute_instance(const myr_operation *operation)
{
    const myr_shape *shape = &operation->in[0]->shape;
    size_t n = myr_shape_count(shape), n_channels = (size_t)shape->dims[1], together = (size_t)group_size(operation);
    size_t plane = n > 0 ? n / n_channels / (size_t)shape->dims[0] : 0, length = plane * together;
    const float *in = operation->in[0]->data;
    const myr_tensor *scale = operation->in[1], *bias = operation->in[2];
    bool by_group = (size_t)scale->shape.dims[0] != n_channels,
         bias_by_group = (size_t)bias->shape.dims[0] != n_channels;
    double epsilon = (double)myr_node_float(operation->node, "epsilon", 1e-5f);
    for (size_t first = 0; first < n; first += length) {
        double mean = 0, variance = 0;
        for (size_t i = first; i < first + length; i++)
            mean += (double)in[i];
        mean /= (double)length;
        for (size_t i = first; i < first + length; i++)
            variance += ((double)in[i] - mean) * ((double)in[i] - mean);
        double factor = 1 / sqrt(variance / (double)length + epsilon);
        for (size_t i = first; i < first + length; i++) {
            size_t channel = i / plane % n_channels;
            double by = (double)((const float *)scale->data)[by_group ? channel / together : channel];
            double add = (double)((const float *)bias->data)[bias_by_group ? channel / together : channel];
            ((float *)operation->out[0].data)[i] = (float)(((double)in[i] - mean) * factor * by + add);
        }
    }
    return MYR_OK;
}

/* ---- MeanVarianceNormalization ---- */

/* The input's shape with 1 where statistics are taken over a dimension. */
static bool statistics_shape(const myr_operation *operation, myr_shape *kept)
{
    static const int64_t standard[] = {0, 2, 3};
    const myr_attribute *given = myr_node_attribute(operation->node, "axes");
    size_t n = given ? given->n : 3;
    *kept = operation->in[0]->shape;
    for (size_t i = 0; i < n; i++) {
        int axis;
        if (!myr_axis_resolve(given ? given->numbers[i] : standard[i], kept->rank, &axis))
            return false;
        kept->dims[axis] = 1;
    }
    return true;
}

static myr_status infer_variance(const myr_operation *operation)
{
    myr_shape kept;
    if (!statistics_shape(operation, &kept))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "an axis is out of range");
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &operation->in[0]->shape);
    return myr_operation_floats(operation, 1);
}

static myr_status compute_variance(const myr_operation *operation)
{
    myr_shape kept;
    if (!statistics_shape(operation, &kept))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "an axis is out of range");
    size_t n = myr_shape_count(&operation->in[0]->shape), n_cells = myr_shape_count(&kept);
    double *sum = myr_alloc(n_cells, 2 * sizeof *sum), count = (double)n / (double)(n_cells ? n_cells : 1);
    if (!sum)
        return myr_operation_fail(operation, MYR_ERR_NOMEM, "no memory for its sums");
    double *square = sum + n_cells;
    const float *in = operation->in[0]->data;
    myr_walk walk;
    myr_walk_begin(&walk, &operation->in[0]->shape);
    myr_walk_add(&walk, &kept);
    for (size_t i = 0; i < n; i++, myr_walk_step(&walk)) {
        sum[walk.at[0]] += (double)in[i];
        square[walk.at[0]] += (double)in[i] * (double)in[i];
    }
    /* A whole walk ends where it began. The small number is the one of ONNX's definition. */
    for (size_t i = 0; i < n; i++, myr_walk_step(&walk)) {
        double mean = sum[walk.at[0]] / count, variance = square[walk.at[0]] / count - mean * mean;
        ((float *)operation->out[0].data)[i] = (float)(((double)in[i] - mean) / (sqrt(fmax(variance, 0)) + 1e-9));
    }
    free(sum);
    return MYR_OK;
}

/* ---- LpNormalization ---- */

static const char *refuse_norm(const myr_node *node, int64_t opset)
{
    (void)opset;
    int64_t p = myr_node_int(node, "p", 2);
    return p == 1 || p == 2 ? NULL : "p other than 1, 2";
}

static myr_status infer_norm(const myr_operation *operation)
{
    int axis;
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &operation->in[0]->shape);
    myr_status status = myr_operation_axis(operation, -1, operation->in[0]->shape.rank, &axis);
    return status == MYR_OK ? myr_operation_floats(operation, 1) : status;
}

static myr_status compute_norm(const myr_operation *operation)
{
    int axis;
    size_t outer, length, inner;
    bool squares = myr_node_int(operation->node, "p", 2) == 2;
    myr_status status = myr_operation_axis(operation, -1, operation->in[0]->shape.rank, &axis);
    if (status != MYR_OK)
        return status;
    myr_shape_split(&operation->in[0]->shape, axis, axis + 1, &outer, &length, &inner);
    for (size_t row = 0; row < outer * inner; row++) {
        size_t at = row / inner * length * inner + row % inner;
        const float *in = (const float *)operation->in[0]->data + at;
        double sum = 0;
        for (size_t i = 0; i < length; i++)
            sum += squares ? (double)in[i * inner] * (double)in[i * inner] : fabs((double)in[i * inner]);
        sum = squares ? sqrt(sum) : sum;
        for (size_t i = 0; i < length; i++)
            ((float *)operation->out[0].data)[at + i * inner] = (float)(sum > 0 ? (double)in[i * inner] / sum : 0);
    }
    return MYR_OK;
}

/* ---- LRN ---- */

static const char *refuse_local(const myr_node *node, int64_t opset)
{
    (void)opset;
    int64_t size = myr_node_int(node, "size", 0);
    return size < 1 || size > INT32_MAX ? "no size" : NULL;
}

static myr_status infer_local(const myr_operation *operation)
{
    if (operation->in[0]->shape.rank < 2)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the input has no channels");
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &operation->in[0]->shape);
    return myr_operation_floats(operation, 1);
}

static myr_status compute_local(const myr_operation *operation)
{
    const myr_node *node = operation->node;
    double alpha = (double)myr_node_float(node, "alpha", 1e-4f), beta = (double)myr_node_float(node, "beta", 0.75f),
           bias = (double)myr_node_float(node, "bias", 1);
    int64_t size = myr_node_int(node, "size", 1);
    size_t outer, length, inner;
    myr_shape_split(&operation->in[0]->shape, 1, 2, &outer, &length, &inner);
    for (size_t row = 0; row < outer * inner; row++) {
        size_t at = row / inner * length * inner + row % inner;
        const float *in = (const float *)operation->in[0]->data + at;
        for (int64_t c = 0; c < (int64_t)length; c++) {
            int64_t first = c - (size - 1) / 2, last = c + size / 2;
            double sum = 0;
            for (int64_t i = first > 0 ? first : 0; i <= last && i < (int64_t)length; i++)
                sum += (double)in[(size_t)i * inner] * (double)in[(size_t)i * inner];
            ((float *)operation->out[0].data)[at + (size_t)c * inner] =
                (float)((double)in[(size_t)c * inner] / pow(bias + alpha / (double)size * sum, beta));
        }
    }
    return MYR_OK;
}

const myr_operator myr_channel_operators[] = {
    {"InstanceNormalization", MYR_KIND_OTHER, 3, 3, 1, "epsilon:float ", NULL, infer_instance, compute_instance},
    {"GroupNormalization", MYR_KIND_OTHER, 3, 3, 1, "epsilon:float num_groups:int stash_type:int ", refuse_group,
     infer_instance, compute_instance},
    {"MeanVarianceNormalization", MYR_KIND_OTHER, 1, 1, 1, "axes:ints ", NULL, infer_variance, compute_variance},
    {"LpNormalization", MYR_KIND_OTHER, 1, 1, 1, "axis:int p:int ", refuse_norm, infer_norm, compute_norm},
    {"LRN", MYR_KIND_OTHER, 1, 1, 1, "alpha:float beta:float bias:float size:int ", refuse_local, infer_local,
     compute_local},
    {0},
};
