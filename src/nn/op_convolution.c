/*
 * Conv: the plain implementation, summed in double.
 */
#include "nn/operator.h"

#include <string.h>

static const char *refuse(const myr_node *node, int64_t opset)
{
    (void)opset;
    const char *auto_pad = myr_node_text(node, "auto_pad", "NOTSET");
    if (strcmp(auto_pad, "NOTSET") != 0 && strcmp(auto_pad, "VALID") != 0 && strcmp(auto_pad, "SAME_UPPER") != 0 &&
        strcmp(auto_pad, "SAME_LOWER") != 0)
        return "auto_pad is none of NOTSET, VALID, SAME_UPPER, SAME_LOWER";
    return NULL;
}

static myr_status infer(const myr_operation *operation)
{
    const myr_tensor *input = operation->in[0], *weights = operation->in[1], *bias = myr_operation_input(operation, 2);
    int64_t group = myr_node_int(operation->node, "group", 1);
    myr_window window;
    if (input->type != MYR_TYPE_F32 || weights->type != MYR_TYPE_F32 || (bias && bias->type != MYR_TYPE_F32))
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "only 32-bit floats can be convolved");
    if (input->shape.rank != 4 || weights->shape.rank != 4)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED,
                                  "only convolutions over two dimensions are supported");
    myr_status status = myr_window_resolve(operation->node, &input->shape, weights->shape.dims + 2, &window);
    if (status != MYR_OK)
        return status;
    const myr_attribute *kernel = myr_node_attribute(operation->node, "kernel_shape");
    if (kernel && (kernel->n != 2 || kernel->numbers[0] != window.kernel[0] || kernel->numbers[1] != window.kernel[1]))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "kernel_shape is not the shape of the weights");
    int64_t n_out = weights->shape.dims[0];
    if (group < 1 || group > INT32_MAX || weights->shape.dims[1] > INT32_MAX || n_out % group != 0 ||
        input->shape.dims[1] != weights->shape.dims[1] * group ||
        (bias && (bias->shape.rank != 1 || bias->shape.dims[0] != n_out)))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "channels of input, weights and bias do not fit together");
    myr_operation_shape(operation, 0, MYR_TYPE_F32,
                        &(myr_shape){.rank = 4, .dims = {input->shape.dims[0], n_out, window.out[0], window.out[1]}});
    return MYR_OK;
}

/* One output cell: all input channels of the group under the window at (y, x). */
static double cell(const float *input, const float *weights, int64_t n_channels, const myr_window *window, int64_t y,
                   int64_t x)
{
    double sum = 0;
    for (int64_t c = 0; c < n_channels; c++) {
        for (int64_t ky = 0; ky < window->kernel[0]; ky++) {
            int64_t iy = y * window->stride[0] + ky * window->dilation[0] - window->pad_begin[0];
            if (iy < 0 || iy >= window->in[0])
                continue;
            for (int64_t kx = 0; kx < window->kernel[1]; kx++) {
                int64_t ix = x * window->stride[1] + kx * window->dilation[1] - window->pad_begin[1];
                if (ix >= 0 && ix < window->in[1])
                    sum += (double)input[(c * window->in[0] + iy) * window->in[1] + ix] *
                           (double)weights[(c * window->kernel[0] + ky) * window->kernel[1] + kx];
            }
        }
    }
    return sum;
}

static myr_status compute(const myr_operation *operation)
{
    const myr_tensor *input = operation->in[0], *weights = operation->in[1], *bias = myr_operation_input(operation, 2);
    const myr_shape *shape = &operation->out[0].shape;
    int64_t group = myr_node_int(operation->node, "group", 1);
    int64_t n_in = weights->shape.dims[1], n_out = shape->dims[1], out_a_group = n_out / group;
    myr_window window;
    myr_status status = myr_window_resolve(operation->node, &input->shape, weights->shape.dims + 2, &window);
    if (status != MYR_OK)
        return status;
    int64_t in_plane = window.in[0] * window.in[1], kernel_size = n_in * window.kernel[0] * window.kernel[1];
    float *out = operation->out[0].data;
    for (int64_t n = 0; n < shape->dims[0]; n++) {
        for (int64_t o = 0; o < n_out; o++) {
            const float *channels =
                (const float *)input->data + (n * input->shape.dims[1] + o / out_a_group * n_in) * in_plane;
            const float *kernel = (const float *)weights->data + o * kernel_size;
            double offset = bias ? (double)((const float *)bias->data)[o] : 0;
            for (int64_t y = 0; y < window.out[0]; y++)
                for (int64_t x = 0; x < window.out[1]; x++)
                    *out++ = (float)(cell(channels, kernel, n_in, &window, y, x) + offset);
        }
    }
    return MYR_OK;
}

const myr_operator myr_convolution_operators[] = {
    {"Conv", MYR_KIND_CONV, 2, 3, 1, "auto_pad:text dilations:ints group:int kernel_shape:ints pads:ints strides:ints ",
     refuse, infer, compute},
    {0},
};
