/*
 * Finding operators, and what their implementations share.
 */
#include "nn/operator.h"

#include <string.h>

static const myr_operator *const families[] = {
    myr_convolution_operators, myr_pool_operators,   myr_matrix_operators, myr_elementwise_operators,
    myr_normalise_operators,   myr_layout_operators, myr_select_operators,
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

/* Two whole numbers of an attribute, or 1, 1. */
static bool take_pair(const myr_node *node, const char *name, int64_t pair[2])
{
    const myr_attribute *attribute = myr_node_attribute(node, name);
    pair[0] = pair[1] = 1;
    if (!attribute)
        return true;
    if (attribute->type != MYR_ATTRIBUTE_INTS || attribute->n != 2)
        return false;
    for (int i = 0; i < 2; i++) {
        pair[i] = attribute->numbers[i];
        if (pair[i] < 1 || pair[i] > INT32_MAX)
            return false;
    }
    return true;
}

static bool take_pads(const myr_node *node, myr_window *window)
{
    const myr_attribute *attribute = myr_node_attribute(node, "pads");
    if (!attribute)
        return true;
    if (attribute->type != MYR_ATTRIBUTE_INTS || attribute->n != 4)
        return false;
    for (int i = 0; i < 2; i++) {
        window->pad_begin[i] = attribute->numbers[i];
        window->pad_end[i] = attribute->numbers[i + 2];
        if (window->pad_begin[i] < 0 || window->pad_end[i] < 0 || window->pad_begin[i] > INT32_MAX ||
            window->pad_end[i] > INT32_MAX)
            return false;
    }
    return true;
}

/* auto_pad SAME: as many outputs as strides fit into the input, the odd cell at the end (UPPER) or the beginning. */
static void pad_same(myr_window *window, bool upper)
{
    for (int i = 0; i < 2; i++) {
        int64_t n = (window->in[i] + window->stride[i] - 1) / window->stride[i];
        int64_t total = (n - 1) * window->stride[i] + (window->kernel[i] - 1) * window->dilation[i] + 1 - window->in[i];
        total = total > 0 ? total : 0;
        window->pad_begin[i] = upper ? total / 2 : total - total / 2;
        window->pad_end[i] = total - window->pad_begin[i];
    }
}

myr_status myr_window_resolve(const myr_node *node, const myr_shape *input, const int64_t kernel[2], myr_window *window)
{
    const char *auto_pad = myr_node_text(node, "auto_pad", "NOTSET");
    bool ceil_mode = myr_node_int(node, "ceil_mode", 0) != 0;
    *window = (myr_window){0};
    if (input->rank != 4)
        return myr_fail(MYR_ERR_UNSUPPORTED,
                        "node '%s' (%s): the input has rank %d; windows over two dimensions (rank 4) are supported",
                        node->name, node->op->name, input->rank);
    bool sane = take_pair(node, "strides", window->stride) && take_pair(node, "dilations", window->dilation);
    for (int i = 0; i < 2; i++) {
        window->kernel[i] = kernel[i];
        window->in[i] = input->dims[i + 2];
        sane = sane && kernel[i] >= 1 && kernel[i] <= INT32_MAX && window->in[i] <= INT32_MAX;
    }
    if (sane && strncmp(auto_pad, "SAME_", 5) == 0)
        pad_same(window, strcmp(auto_pad, "SAME_UPPER") == 0);
    else if (sane && strcmp(auto_pad, "VALID") != 0)
        sane = take_pads(node, window);
    for (int i = 0; i < 2 && sane; i++) {
        int64_t span = window->in[i] + window->pad_begin[i] + window->pad_end[i] -
                       (window->kernel[i] - 1) * window->dilation[i] - 1;
        if (span < 0) {
            sane = false;
            break;
        }
        window->out[i] = (ceil_mode ? span + window->stride[i] - 1 : span) / window->stride[i] + 1;
        /* The last window must begin inside the input or its padding in front. */
        if (ceil_mode && (window->out[i] - 1) * window->stride[i] >= window->in[i] + window->pad_begin[i])
            window->out[i]--;
    }
    if (!sane)
        return myr_fail(MYR_ERR_FORMAT, "node '%s' (%s): kernel, strides, pads and input do not fit together",
                        node->name, node->op->name);
    return MYR_OK;
}
