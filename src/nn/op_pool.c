/*
 * Pooling: MaxPool, AveragePool and their global forms.
 */
#include "nn/operator.h"

#include <math.h>
#include <string.h>

static const char *refuse(const myr_node *node, int64_t opset)
{
    (void)opset;
    if (myr_node_int(node, "storage_order", 0) != 0)
        return "storage_order 1";
    if (node->n_outputs > 1 && node->outputs[1] >= 0)
        return "the output Indices";
    if (!myr_node_attribute(node, "kernel_shape"))
        return "no kernel_shape";
    return NULL;
}

static myr_status resolve(const myr_operation *operation, myr_window *window)
{
    const myr_attribute *kernel = myr_node_attribute(operation->node, "kernel_shape");
    if (kernel->type != MYR_ATTRIBUTE_INTS || kernel->n != 2)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "only windows over two dimensions are supported");
    return myr_window_resolve(operation->node, &operation->in[0]->shape, kernel->numbers, window);
}

static myr_status infer(const myr_operation *operation)
{
    const myr_tensor *input = operation->in[0];
    myr_window window;
    if (input->type != MYR_TYPE_F32)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "only 32-bit floats can be pooled");
    myr_status status = resolve(operation, &window);
    if (status != MYR_OK)
        return status;
    myr_operation_shape(
        operation, 0, MYR_TYPE_F32,
        &(myr_shape){.rank = 4, .dims = {input->shape.dims[0], input->shape.dims[1], window.out[0], window.out[1]}});
    return MYR_OK;
}

static float largest(const float *plane, const myr_window *window, int64_t y, int64_t x)
{
    float best = -INFINITY;
    for (int64_t ky = 0; ky < window->kernel[0]; ky++) {
        int64_t iy = y * window->stride[0] + ky * window->dilation[0] - window->pad_begin[0];
        for (int64_t kx = 0; kx < window->kernel[1] && iy >= 0 && iy < window->in[0]; kx++) {
            int64_t ix = x * window->stride[1] + kx * window->dilation[1] - window->pad_begin[1];
            if (ix >= 0 && ix < window->in[1] && plane[iy * window->in[1] + ix] > best)
                best = plane[iy * window->in[1] + ix];
        }
    }
    return best;
}

/* Cells in the padding count when asked for, those beyond it (ceil_mode) never. */
static float average(const float *plane, const myr_window *window, bool count_pads, int64_t y, int64_t x)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t ky = 0; ky < window->kernel[0]; ky++) {
        int64_t iy = y * window->stride[0] + ky * window->dilation[0] - window->pad_begin[0];
        for (int64_t kx = 0; kx < window->kernel[1]; kx++) {
            int64_t ix = x * window->stride[1] + kx * window->dilation[1] - window->pad_begin[1];
            bool inside = iy >= 0 && iy < window->in[0] && ix >= 0 && ix < window->in[1];
            bool padding = iy < window->in[0] + window->pad_end[0] && ix < window->in[1] + window->pad_end[1];
            if (inside)
                sum += (double)plane[iy * window->in[1] + ix];
            n += inside || (count_pads && padding);
        }
    }
    return (float)(sum / (double)(n > 0 ? n : 1));
}

static myr_status compute(const myr_operation *operation)
{
    const myr_shape *shape = &operation->out[0].shape;
    bool maximum = operation->node->op->kind == MYR_KIND_MAX_POOL;
    bool count_pads = myr_node_int(operation->node, "count_include_pad", 0) != 0;
    myr_window window;
    myr_status status = resolve(operation, &window);
    const float *plane = operation->in[0]->data;
    float *out = operation->out[0].data;
    for (int64_t i = 0; i < shape->dims[0] * shape->dims[1] && status == MYR_OK; i++) {
        for (int64_t y = 0; y < window.out[0]; y++)
            for (int64_t x = 0; x < window.out[1]; x++)
                *out++ = maximum ? largest(plane, &window, y, x) : average(plane, &window, count_pads, y, x);
        plane += window.in[0] * window.in[1];
    }
    return status;
}

static myr_status infer_global(const myr_operation *operation)
{
    const myr_tensor *input = operation->in[0];
    myr_shape shape = input->shape;
    if (input->type != MYR_TYPE_F32 || shape.rank < 3)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED,
                                  "global pooling takes 32-bit floats of rank 3 or more");
    for (int i = 2; i < shape.rank; i++) {
        if (shape.dims[i] == 0)
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "there is nothing to pool");
        shape.dims[i] = 1;
    }
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &shape);
    return MYR_OK;
}

static myr_status compute_global(const myr_operation *operation)
{
    size_t n_planes = myr_shape_count(&operation->out[0].shape);
    size_t plane = n_planes ? myr_shape_count(&operation->in[0]->shape) / n_planes : 0;
    bool maximum = strcmp(operation->node->op->name, "GlobalMaxPool") == 0;
    const float *in = operation->in[0]->data;
    float *out = operation->out[0].data;
    for (size_t i = 0; i < n_planes; i++, in += plane) {
        double sum = 0;
        float best = -INFINITY;
        for (size_t j = 0; j < plane; j++) {
            sum += (double)in[j];
            best = in[j] > best ? in[j] : best;
        }
        out[i] = maximum ? best : (float)(sum / (double)plane);
    }
    return MYR_OK;
}

const myr_operator myr_pool_operators[] = {
    {"MaxPool", MYR_KIND_MAX_POOL, 1, 1, 2,
     "auto_pad:text ceil_mode:int dilations:ints kernel_shape:ints pads:ints storage_order:int strides:ints ", refuse,
     infer, compute},
    {"AveragePool", MYR_KIND_AVERAGE_POOL, 1, 1, 1,
     "auto_pad:text ceil_mode:int count_include_pad:int dilations:ints kernel_shape:ints pads:ints strides:ints ",
     refuse, infer, compute},
    {"GlobalAveragePool", MYR_KIND_GLOBAL_AVERAGE_POOL, 1, 1, 1, "", NULL, infer_global, compute_global},
    {"GlobalMaxPool", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_global, compute_global},
    {0},
};
