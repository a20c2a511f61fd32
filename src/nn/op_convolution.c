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
    if (weights->shape.rank != input->shape.rank)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "input and weights differ in rank");
    myr_status status = myr_window_resolve(operation->node, &input->shape, weights->shape.dims + 2, &window);
    if (status != MYR_OK)
        return status;
    const myr_attribute *kernel = myr_node_attribute(operation->node, "kernel_shape");
    if (kernel && (kernel->n != (size_t)window.n ||
                   memcmp(kernel->numbers, window.kernel, kernel->n * sizeof *kernel->numbers) != 0))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "kernel_shape is not the shape of the weights");
    int64_t n_out = weights->shape.dims[0];
    if (group < 1 || group > INT32_MAX || weights->shape.dims[1] > INT32_MAX || n_out % group != 0 ||
        input->shape.dims[1] != weights->shape.dims[1] * group ||
        (bias && (bias->shape.rank != 1 || bias->shape.dims[0] != n_out)))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "channels of input, weights and bias do not fit together");
    myr_shape shape = {.rank = input->shape.rank, .dims = {input->shape.dims[0], n_out}};
    memcpy(shape.dims + 2, window.out, (size_t)window.n * sizeof *window.out);
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &shape);
    return MYR_OK;
}

/* The input's place along dimension d for an output's and a kernel's; false outside. */
static bool source_place(const myr_window *window, int d, int64_t out, int64_t kernel, int64_t *in)
{
    *in = out * window->stride[d] + kernel * window->dilation[d] - window->pad_begin[d];
    return *in >= 0 && *in < window->in[d];
}

/* One output cell: all input channels of the group under the window (three dimensions) at place. */
static double cell(const float *input, const float *weights, int64_t n_channels, const myr_window *window,
                   const int64_t place[3])
{
    double sum = 0;
    int64_t iz, iy, ix;
    for (int64_t row = 0; row < n_channels * window->kernel[0] * window->kernel[1]; row++) {
        int64_t c = row / (window->kernel[0] * window->kernel[1]), kz = row / window->kernel[1] % window->kernel[0];
        if (!source_place(window, 0, place[0], kz, &iz) ||
            !source_place(window, 1, place[1], row % window->kernel[1], &iy))
            continue;
        const float *line = input + ((c * window->in[0] + iz) * window->in[1] + iy) * window->in[2];
        for (int64_t kx = 0; kx < window->kernel[2]; kx++)
            if (source_place(window, 2, place[2], kx, &ix))
                sum += (double)line[ix] * (double)weights[row * window->kernel[2] + kx];
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
    window = myr_window_deepen(&window);
    int64_t in_plane = window.in[0] * window.in[1] * window.in[2],
            kernel_size = n_in * window.kernel[0] * window.kernel[1] * window.kernel[2];
    const myr_shape cells = {.rank = 3, .dims = {window.out[0], window.out[1], window.out[2]}};
    size_t n_cells = myr_shape_count(&cells);
    float *out = operation->out[0].data;
    for (int64_t n = 0; n < shape->dims[0]; n++) {
        for (int64_t o = 0; o < n_out; o++) {
            const float *channels =
                (const float *)input->data + (n * input->shape.dims[1] + o / out_a_group * n_in) * in_plane;
            const float *kernel = (const float *)weights->data + o * kernel_size;
            double offset = bias ? (double)((const float *)bias->data)[o] : 0;
            int64_t place[3] = {0};
            for (size_t i = 0; i < n_cells; i++, myr_shape_next(&cells, place))
                *out++ = (float)(cell(channels, kernel, n_in, &window, place) + offset);
        }
    }
    return MYR_OK;
}

const myr_operator myr_convolution_operators[] = {
    {"Conv", MYR_KIND_CONV, 2, 3, 1, "auto_pad:text dilations:ints group:int kernel_shape:ints pads:ints strides:ints ",
     refuse, infer, compute},
    {0},
};
