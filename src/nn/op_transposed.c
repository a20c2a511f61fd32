/*
 * ConvTranspose: each output cell sums the input cells whose window reaches it, in double. Col2Im
 * does the same with windows that are laid out in columns already.
 */
#include "nn/operator.h"

#include <string.h>

/* Sizes and pads, where output_shape or auto_pad give the size and pads follow. */
static bool resolve(const myr_operation *operation, myr_window *window)
{
    const myr_node *node = operation->node;
    const char *auto_pad = myr_node_text(node, "auto_pad", "NOTSET");
    const myr_attribute *more = myr_node_attribute(node, "output_padding"),
                        *wanted = myr_node_attribute(node, "output_shape");
    const myr_shape *in = &operation->in[0]->shape;
    if (!myr_window_take(node, in, operation->in[1]->shape.dims + 2, window))
        return false;
    /* Some files give the whole shape, batch and channels too. */
    size_t n = (size_t)window->n, skip = wanted && wanted->n == n + 2 ? 2 : 0;
    if ((more && more->n != n) || (wanted && wanted->n != n + skip))
        return false;
    bool same = strncmp(auto_pad, "SAME_", 5) == 0, upper = strcmp(auto_pad, "SAME_UPPER") == 0;
    for (size_t i = 0; i < n; i++) {
        int64_t extra = more ? more->numbers[i] : 0;
        bool sane = extra >= 0 && extra <= INT32_MAX && window->in[i] >= 1 &&
                    (!wanted || (wanted->numbers[i + skip] >= 1 && wanted->numbers[i + skip] <= INT32_MAX));
        if (!sane)
            return false;
        int64_t whole =
            window->stride[i] * (window->in[i] - 1) + (window->kernel[i] - 1) * window->dilation[i] + 1 + extra;
        if (!wanted && !same) {
            window->out[i] = whole - window->pad_begin[i] - window->pad_end[i];
        } else {
            window->out[i] = wanted ? wanted->numbers[i + skip] : window->in[i] * window->stride[i];
            int64_t cut = window->out[i] < whole ? whole - window->out[i] : 0;
            window->pad_begin[i] = upper ? cut / 2 : cut - cut / 2;
        }
        if (window->out[i] < 1 || window->out[i] > INT32_MAX)
            return false;
    }
    return true;
}

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
    const myr_shape *in = &operation->in[0]->shape, *weights = &operation->in[1]->shape;
    const myr_tensor *bias = myr_operation_input(operation, 2);
    int64_t group = myr_node_int(operation->node, "group", 1);
    myr_window window;
    myr_status status = myr_operation_floats(operation, 3);
    if (status != MYR_OK)
        return status;
    if (in->rank < 3 || in->rank > 2 + MYR_WINDOW_DIMS || weights->rank != in->rank)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "windows over one to three dimensions are supported");
    if (group < 1 || in->dims[1] != weights->dims[0] || in->dims[1] % group != 0 ||
        weights->dims[1] > INT32_MAX / group ||
        (bias && (bias->shape.rank != 1 || bias->shape.dims[0] != weights->dims[1] * group)))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "channels of input, weights and bias do not fit together");
    if (!resolve(operation, &window))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "kernel, strides, pads and input do not fit together");
    myr_shape shape = {.rank = in->rank, .dims = {in->dims[0], weights->dims[1] * group}};
    memcpy(shape.dims + 2, window.out, (size_t)window.n * sizeof *window.out);
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &shape);
    return MYR_OK;
}

/* Channels around one output channel. */
typedef struct channels {
    const float *in, *weights; /* first plane of the group, first kernel for this output channel */
    int64_t n_in;              /* of the group */
    size_t in_step, weight_step;
} channels;

static double cell(const channels *all, const myr_window *window, const int64_t *place)
{
    const myr_shape kernel = {.rank = 3, .dims = {window->kernel[0], window->kernel[1], window->kernel[2]}};
    size_t n = myr_shape_count(&kernel);
    int64_t k[3] = {0};
    double sum = 0;
    for (size_t i = 0; i < n; i++, myr_shape_next(&kernel, k)) {
        size_t at = 0;
        bool inside = true;
        for (int d = 0; d < 3 && inside; d++) {
            int64_t reach = place[d] + window->pad_begin[d] - k[d] * window->dilation[d];
            inside = reach >= 0 && reach % window->stride[d] == 0 && reach / window->stride[d] < window->in[d];
            at = inside ? at * (size_t)window->in[d] + (size_t)(reach / window->stride[d]) : 0;
        }
        for (int64_t c = 0; c < all->n_in && inside; c++)
            sum +=
                (double)all->in[(size_t)c * all->in_step + at] * (double)all->weights[(size_t)c * all->weight_step + i];
    }
    return sum;
}

static myr_status compute(const myr_operation *operation)
{
    const myr_tensor *bias = myr_operation_input(operation, 2);
    const myr_shape *shape = &operation->out[0].shape;
    int64_t group = myr_node_int(operation->node, "group", 1), n_in = operation->in[0]->shape.dims[1] / group,
            n_out = operation->in[1]->shape.dims[1];
    myr_window window;
    if (!resolve(operation, &window))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "its window makes no sense");
    window = myr_window_deepen(&window);
    size_t plane = (size_t)(window.in[0] * window.in[1] * window.in[2]),
           kernel = (size_t)(window.kernel[0] * window.kernel[1] * window.kernel[2]);
    const myr_shape cells = {.rank = 3, .dims = {window.out[0], window.out[1], window.out[2]}};
    size_t n_cells = myr_shape_count(&cells);
    float *out = operation->out[0].data;
    for (int64_t i = 0; i < shape->dims[0] * shape->dims[1]; i++) {
        int64_t n = i / shape->dims[1], o = i % shape->dims[1], g = o / n_out;
        channels all = {.in = (const float *)operation->in[0]->data + (size_t)((n * group + g) * n_in) * plane,
                        .weights =
                            (const float *)operation->in[1]->data + (size_t)(g * n_in * n_out + o % n_out) * kernel,
                        .n_in = n_in,
                        .in_step = plane,
                        .weight_step = (size_t)n_out * kernel};
        double offset = bias ? (double)((const float *)bias->data)[o] : 0;
        int64_t place[3] = {0};
        for (size_t c = 0; c < n_cells; c++, myr_shape_next(&cells, place))
            *out++ = (float)(cell(&all, &window, place) + offset);
    }
    return MYR_OK;
}

/* ---- Col2Im ---- */

/* The window that was moved over the image, whose dimensions become those of the output. */
static myr_status find_blocks(const myr_operation *operation, myr_shape *image, myr_window *window)
{
    const int64_t *sizes, *block;
    size_t n, n_block;
    myr_status status = myr_operation_constants(operation, "", 1, "image_shape", &sizes, &n);
    if (status == MYR_OK)
        status = myr_operation_constants(operation, "", 2, "block_shape", &block, &n_block);
    if (status != MYR_OK)
        return status;
    const myr_shape *in = &operation->in[0]->shape;
    if (n < 1 || n > MYR_WINDOW_DIMS || n_block != n || in->rank != 3)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "images of one to three dimensions are supported");
    *image = (myr_shape){.rank = (int)n + 2, .dims = {in->dims[0], 1}};
    for (size_t i = 0; i < n; i++)
        image->dims[i + 2] = sizes[i];
    if (!myr_shape_is_sane(image))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "image_shape makes no sense");
    status = myr_window_resolve(operation->node, image, block, window);
    if (status != MYR_OK)
        return status;
    *window = myr_window_deepen(window);
    int64_t n_cells = window->kernel[0] * window->kernel[1] * window->kernel[2];
    const myr_shape places = {.rank = 3, .dims = {window->out[0], window->out[1], window->out[2]}};
    if (in->dims[1] % n_cells != 0 || !myr_shape_is_sane(&places) || in->dims[2] != (int64_t)myr_shape_count(&places))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the columns do not fit the image");
    image->dims[1] = in->dims[1] / n_cells;
    return MYR_OK;
}

static myr_status infer_columns(const myr_operation *operation)
{
    myr_shape image;
    myr_window window;
    myr_status status = myr_operation_floats(operation, 1);
    if (status == MYR_OK)
        status = find_blocks(operation, &image, &window);
    if (status == MYR_OK)
        myr_operation_shape(operation, 0, MYR_TYPE_F32, &image);
    return status;
}

/* Adds one row of the columns, all places of one cell of the window, to its plane. */
static void add_row(const myr_window *window, const int64_t *cell, const float *row, float *plane)
{
    const myr_shape places = {.rank = 3, .dims = {window->out[0], window->out[1], window->out[2]}};
    size_t n = myr_shape_count(&places);
    int64_t place[3] = {0};
    for (size_t i = 0; i < n; i++, myr_shape_next(&places, place)) {
        int64_t at = 0;
        for (int d = 0; d < 3 && at >= 0; d++) {
            int64_t x = place[d] * window->stride[d] + cell[d] * window->dilation[d] - window->pad_begin[d];
            at = x >= 0 && x < window->in[d] ? at * window->in[d] + x : -1;
        }
        if (at >= 0)
            plane[at] += row[i];
    }
}

static myr_status compute_columns(const myr_operation *operation)
{
    myr_shape image;
    myr_window window;
    myr_status status = find_blocks(operation, &image, &window);
    if (status != MYR_OK)
        return status;
    const myr_shape kernel = {.rank = 3, .dims = {window.kernel[0], window.kernel[1], window.kernel[2]}};
    size_t n_rows = (size_t)(operation->in[0]->shape.dims[0] * operation->in[0]->shape.dims[1]),
           n_places = (size_t)operation->in[0]->shape.dims[2], n_cells = myr_shape_count(&kernel),
           plane = (size_t)(window.in[0] * window.in[1] * window.in[2]);
    int64_t cell[3] = {0};
    memset(operation->out[0].data, 0, myr_tensor_bytes(&operation->out[0]));
    for (size_t i = 0; i < n_rows; i++, myr_shape_next(&kernel, cell))
        add_row(&window, cell, (const float *)operation->in[0]->data + i * n_places,
                (float *)operation->out[0].data + i / n_cells * plane);
    return MYR_OK;
}

const myr_operator myr_transposed_operators[] = {
    {"Col2Im", MYR_KIND_OTHER, 3, 3, 1, "dilations:ints pads:ints strides:ints ", NULL, infer_columns, compute_columns},
    {"ConvTranspose", MYR_KIND_OTHER, 2, 3, 1,
     "auto_pad:text dilations:ints group:int kernel_shape:ints output_padding:ints output_shape:ints pads:ints "
     "strides:ints ",
     refuse, infer, compute},
    {0},
};
