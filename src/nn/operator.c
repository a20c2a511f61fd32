/*
 * Finding operators, and what their implementations share.
 */
#include "nn/operator.h"

#include <string.h>

static const myr_operator *const families[] = {
    myr_convolution_operators, myr_pool_operators,       myr_matrix_operators, myr_elementwise_operators,
    myr_normalise_operators,   myr_layout_operators,     myr_select_operators, myr_channel_operators,
    myr_compare_operators,     myr_detect_operators,     myr_einsum_operators, myr_arrange_operators,
    myr_function_operators,    myr_index_operators,      myr_reduce_operators, myr_resize_operators,
    myr_sort_operators,        myr_transposed_operators,
};

const myr_operator *myr_operator_find(const char *name)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        for (const myr_operator *op = families[i]; op->name; op++)
            if (strcmp(op->name, name) == 0)
                return op;
    return NULL;
}

const myr_tensor *myr_operation_input(const myr_operation *operation, int i)
{
    return i < operation->node->n_inputs ? operation->in[i] : NULL;
}

void myr_operation_shape(const myr_operation *operation, int i, myr_type type, const myr_shape *shape)
{
    if (i < operation->node->n_outputs) {
        operation->out[i].type = type;
        operation->out[i].shape = *shape;
    }
}

myr_status myr_operation_fail(const myr_operation *operation, myr_status status, const char *what)
{
    return myr_fail(status, "node '%s' (%s): %s", operation->node->name, operation->node->op->name, what);
}

const int64_t *myr_operation_list(const myr_operation *operation, const char *attribute, int i, size_t *n, bool *known)
{
    const myr_attribute *given = myr_node_attribute(operation->node, attribute);
    const myr_tensor *input = myr_operation_input(operation, i);
    *known = true;
    *n = 0;
    if (given && given->type == MYR_ATTRIBUTE_INTS) {
        *n = given->n;
        return given->numbers;
    }
    if (!input)
        return NULL;
    if (!input->data || input->type != MYR_TYPE_I64) {
        *known = false;
        return NULL;
    }
    *n = myr_shape_count(&input->shape);
    return input->data;
}

myr_status myr_operation_constants(const myr_operation *operation, const char *attribute, int i, const char *what,
                                   const int64_t **list, size_t *n)
{
    bool known;
    *list = myr_operation_list(operation, attribute, i, n, &known);
    return known ? MYR_OK : myr_operation_known(operation, i, what);
}

myr_status myr_operation_known(const myr_operation *operation, int i, const char *what)
{
    const myr_tensor *input = myr_operation_input(operation, i);
    if (!input || input->data)
        return input && input->type != MYR_TYPE_I64
                   ? myr_fail(MYR_ERR_FORMAT, "node '%s' (%s): %s must be whole numbers", operation->node->name,
                              operation->node->op->name, what)
                   : MYR_OK;
    return myr_fail(MYR_ERR_UNSUPPORTED, "node '%s' (%s): %s must be constant", operation->node->name,
                    operation->node->op->name, what);
}

myr_status myr_operation_axis(const myr_operation *operation, int64_t standard, int rank, int *axis)
{
    if (myr_axis_resolve(myr_node_int(operation->node, "axis", standard), rank, axis))
        return MYR_OK;
    return myr_operation_fail(operation, MYR_ERR_FORMAT, "axis is out of range");
}

myr_status myr_operation_floats(const myr_operation *operation, int n)
{
    for (int i = 0; i < n; i++) {
        const myr_tensor *input = myr_operation_input(operation, i);
        if (input && input->type != MYR_TYPE_F32)
            return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "only floats are supported");
    }
    return MYR_OK;
}

bool myr_type_of_file(int64_t number, myr_type *type)
{
    bool is_float = number == MYR_ONNX_FLOAT || number == MYR_ONNX_HALF || number == MYR_ONNX_DOUBLE;
    *type = is_float ? MYR_TYPE_F32 : MYR_TYPE_I64;
    return is_float || (number >= MYR_ONNX_UINT8 && number <= MYR_ONNX_INT64) || number == MYR_ONNX_BOOL ||
           number == MYR_ONNX_UINT32 || number == MYR_ONNX_UINT64;
}

bool myr_operation_wants(const myr_operation *operation, int i)
{
    return i < operation->node->n_outputs && operation->node->outputs[i] >= 0;
}

void myr_walk_begin(myr_walk *walk, const myr_shape *shape)
{
    *walk = (myr_walk){.shape = shape};
}

void myr_walk_add(myr_walk *walk, const myr_shape *tensor)
{
    size_t stride = 1;
    for (int i = 1; i <= walk->shape->rank; i++) {
        int64_t dim = i <= tensor->rank ? tensor->dims[tensor->rank - i] : 1;
        walk->strides[walk->n][walk->shape->rank - i] = dim == 1 ? 0 : stride;
        stride *= (size_t)dim;
    }
    walk->n++;
}

void myr_walk_step(myr_walk *walk)
{
    for (int d = walk->shape->rank - 1; d >= 0; d--) {
        bool wraps = ++walk->place[d] == walk->shape->dims[d];
        for (int k = 0; k < walk->n; k++)
            walk->at[k] +=
                wraps ? walk->strides[k][d] - walk->strides[k][d] * (size_t)walk->shape->dims[d] : walk->strides[k][d];
        if (!wraps)
            return;
        walk->place[d] = 0;
    }
}

/* n whole numbers of an attribute, 1 where it is not given. */
static bool take_numbers(const myr_node *node, const char *name, int n, int64_t *numbers)
{
    const myr_attribute *attribute = myr_node_attribute(node, name);
    for (int i = 0; i < n; i++)
        numbers[i] = 1;
    if (!attribute)
        return true;
    if (attribute->type != MYR_ATTRIBUTE_INTS || attribute->n != (size_t)n)
        return false;
    for (int i = 0; i < n; i++) {
        numbers[i] = attribute->numbers[i];
        if (numbers[i] < 1 || numbers[i] > INT32_MAX)
            return false;
    }
    return true;
}

static bool take_pads(const myr_node *node, myr_window *window)
{
    const myr_attribute *attribute = myr_node_attribute(node, "pads");
    if (!attribute)
        return true;
    if (attribute->type != MYR_ATTRIBUTE_INTS || attribute->n != 2 * (size_t)window->n)
        return false;
    for (int i = 0; i < window->n; i++) {
        window->pad_begin[i] = attribute->numbers[i];
        window->pad_end[i] = attribute->numbers[i + window->n];
        if (window->pad_begin[i] < 0 || window->pad_end[i] < 0 || window->pad_begin[i] > INT32_MAX ||
            window->pad_end[i] > INT32_MAX)
            return false;
    }
    return true;
}

/* auto_pad SAME: as many outputs as strides fit into the input, the odd cell at the end (UPPER) or the beginning. */
static void pad_same(myr_window *window, bool upper)
{
    for (int i = 0; i < window->n; i++) {
        int64_t n = (window->in[i] + window->stride[i] - 1) / window->stride[i];
        int64_t total = (n - 1) * window->stride[i] + (window->kernel[i] - 1) * window->dilation[i] + 1 - window->in[i];
        total = total > 0 ? total : 0;
        window->pad_begin[i] = upper ? total / 2 : total - total / 2;
        window->pad_end[i] = total - window->pad_begin[i];
    }
}

/* More cells than any real window has, so that a small file cannot ask for years of work. */
#define MAX_WINDOW_CELLS ((int64_t)1 << 22)

bool myr_window_take(const myr_node *node, const myr_shape *input, const int64_t *kernel, myr_window *window)
{
    int64_t n_cells = 1;
    *window = (myr_window){.n = input->rank - 2};
    bool sane = take_numbers(node, "strides", window->n, window->stride) &&
                take_numbers(node, "dilations", window->n, window->dilation) && take_pads(node, window);
    for (int i = 0; i < window->n; i++) {
        window->kernel[i] = kernel[i];
        window->in[i] = input->dims[i + 2];
        sane = sane && kernel[i] >= 1 && kernel[i] <= MAX_WINDOW_CELLS / n_cells && window->in[i] <= INT32_MAX;
        n_cells *= sane ? kernel[i] : 1;
    }
    return sane;
}

/* Cells along each dimension of the output; false where no window fits. */
static bool count_cells(myr_window *window, bool ceil_mode)
{
    for (int i = 0; i < window->n; i++) {
        int64_t span = window->in[i] + window->pad_begin[i] + window->pad_end[i] -
                       (window->kernel[i] - 1) * window->dilation[i] - 1;
        if (span < 0)
            return false;
        window->out[i] = (ceil_mode ? span + window->stride[i] - 1 : span) / window->stride[i] + 1;
        /* The last window must begin inside the input or its padding in front. */
        if (ceil_mode && (window->out[i] - 1) * window->stride[i] >= window->in[i] + window->pad_begin[i])
            window->out[i]--;
    }
    return true;
}

myr_status myr_window_resolve(const myr_node *node, const myr_shape *input, const int64_t *kernel, myr_window *window)
{
    const char *auto_pad = myr_node_text(node, "auto_pad", "NOTSET");
    if (input->rank < 3 || input->rank > 2 + MYR_WINDOW_DIMS)
        return myr_fail(MYR_ERR_UNSUPPORTED,
                        "node '%s' (%s): the input has rank %d; windows over one to three dimensions are supported",
                        node->name, node->op->name, input->rank);
    bool sane = myr_window_take(node, input, kernel, window);
    for (int i = 0; i < window->n && strcmp(auto_pad, "NOTSET") != 0; i++)
        window->pad_begin[i] = window->pad_end[i] = 0;
    if (sane && strncmp(auto_pad, "SAME_", 5) == 0)
        pad_same(window, strcmp(auto_pad, "SAME_UPPER") == 0);
    if (!sane || !count_cells(window, myr_node_int(node, "ceil_mode", 0) != 0))
        return myr_fail(MYR_ERR_FORMAT, "node '%s' (%s): kernel, strides, pads and input do not fit together",
                        node->name, node->op->name);
    return MYR_OK;
}

/* One list of a window over n dimensions, moved behind ones or zeros. */
static void deepen(const int64_t *from, int n, int64_t standard, int64_t *to)
{
    for (int i = 0; i < MYR_WINDOW_DIMS; i++) {
        int source = i - (MYR_WINDOW_DIMS - n);
        to[i] = source < 0 ? standard : from[source];
    }
}

myr_window myr_window_deepen(const myr_window *window)
{
    myr_window deep = {.n = MYR_WINDOW_DIMS};
    deepen(window->kernel, window->n, 1, deep.kernel);
    deepen(window->stride, window->n, 1, deep.stride);
    deepen(window->dilation, window->n, 1, deep.dilation);
    deepen(window->pad_begin, window->n, 0, deep.pad_begin);
    deepen(window->pad_end, window->n, 0, deep.pad_end);
    deepen(window->in, window->n, 1, deep.in);
    deepen(window->out, window->n, 1, deep.out);
    return deep;
}
