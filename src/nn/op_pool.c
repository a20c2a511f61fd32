/*
 * Pooling: MaxPool, AveragePool, LpPool, their global forms, and MaxUnpool.
 *
 * A window over fewer than three dimensions is taken as one over three (myr_window_deepen).
 */
#include "nn/operator.h"

#include <math.h>
#include <string.h>

static const char *refuse(const myr_node *node, int64_t opset)
{
    (void)opset;
    if (!myr_node_attribute(node, "kernel_shape"))
        return "no kernel_shape";
    return NULL;
}

static myr_status resolve(const myr_operation *operation, myr_window *window)
{
    const myr_attribute *kernel = myr_node_attribute(operation->node, "kernel_shape");
    int rank = operation->in[0]->shape.rank;
    if (kernel->type != MYR_ATTRIBUTE_INTS || rank < 3 || kernel->n != (size_t)rank - 2)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "kernel_shape does not fit the input");
    return myr_window_resolve(operation->node, &operation->in[0]->shape, kernel->numbers, window);
}

static myr_status infer(const myr_operation *operation)
{
    const myr_tensor *input = operation->in[0];
    myr_window window;
    if (input->type != MYR_TYPE_F32 && operation->node->op->kind != MYR_KIND_MAX_POOL)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "only floats are supported");
    myr_status status = resolve(operation, &window);
    if (status != MYR_OK)
        return status;
    myr_shape shape = input->shape;
    memcpy(shape.dims + 2, window.out, (size_t)window.n * sizeof *window.out);
    myr_operation_shape(operation, 0, input->type, &shape);
    myr_operation_shape(operation, 1, MYR_TYPE_I64, &shape);
    return MYR_OK;
}

/* What one window sees: its cells inside the input, one after the other. */
typedef struct view {
    const myr_window *window;
    const int64_t *place; /* (3) of the output cell */
    myr_shape kernel;     /* (3) */
    int64_t cell[3];      /* of the kernel */
    size_t n_left;
    int64_t n_padding; /* cells passed that lie in the padding, but not beyond it (ceil_mode) */
} view;

static view look(const myr_window *window, const int64_t *place)
{
    view self = {.window = window, .place = place, .kernel = {.rank = 3}};
    memcpy(self.kernel.dims, window->kernel, sizeof window->kernel);
    self.n_left = myr_shape_count(&self.kernel);
    return self;
}

/* The input cell of the next kernel cell that lies inside, or -1 when there are no more. */
static int64_t next_cell(view *self)
{
    const myr_window *window = self->window;
    for (; self->n_left > 0; self->n_left--) {
        int64_t at = 0;
        bool inside = true, padding = true;
        for (int d = 0; d < 3; d++) {
            int64_t i = self->place[d] * window->stride[d] + self->cell[d] * window->dilation[d] - window->pad_begin[d];
            inside = inside && i >= 0 && i < window->in[d];
            padding = padding && i < window->in[d] + window->pad_end[d];
            at = at * window->in[d] + i;
        }
        myr_shape_next(&self->kernel, self->cell);
        if (inside) {
            self->n_left--;
            return at;
        }
        self->n_padding += padding;
    }
    return -1;
}

/* The place of the largest element under a window; 0 where there is none. NaN is larger than all. */
static int64_t largest(const myr_tensor *input, size_t plane, view cells)
{
    int64_t best = -1;
    for (int64_t at; (at = next_cell(&cells)) >= 0;) {
        if (best < 0)
            best = at;
        else if (input->type == MYR_TYPE_F32) {
            const float *values = (const float *)input->data + plane;
            best = values[at] > values[best] || (isnan(values[at]) && !isnan(values[best])) ? at : best;
        } else {
            const int64_t *values = (const int64_t *)input->data + plane;
            best = values[at] > values[best] ? at : best;
        }
    }
    return best;
}

static double mean(const float *plane, view cells, bool count_pads)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t at; (at = next_cell(&cells)) >= 0; n++)
        sum += (double)plane[at];
    n += count_pads ? cells.n_padding : 0;
    return sum / (double)(n > 0 ? n : 1);
}

static double norm(const float *plane, view cells, double p)
{
    double sum = 0;
    for (int64_t at; (at = next_cell(&cells)) >= 0;)
        sum += pow(fabs((double)plane[at]), p);
    return pow(sum, 1 / p);
}

/* Where an element lies when the last dimensions are counted column by column (storage_order 1). */
static int64_t by_columns(const myr_window *window, int64_t at)
{
    int64_t x = at % window->in[2], y = at / window->in[2] % window->in[1], z = at / window->in[2] / window->in[1];
    return (x * window->in[1] + y) * window->in[0] + z;
}

static void pool_maximum(const myr_operation *operation, const myr_window *window, size_t cell, size_t plane,
                         const int64_t *place)
{
    int64_t at = largest(operation->in[0], plane, look(window, place));
    myr_tensor *out = &operation->out[0];
    if (out->type == MYR_TYPE_F32)
        ((float *)out->data)[cell] = at < 0 ? -INFINITY : ((const float *)operation->in[0]->data)[plane + (size_t)at];
    else
        ((int64_t *)out->data)[cell] = at < 0 ? 0 : ((const int64_t *)operation->in[0]->data)[plane + (size_t)at];
    bool columns = myr_node_int(operation->node, "storage_order", 0) != 0;
    if (myr_operation_wants(operation, 1))
        ((int64_t *)operation->out[1].data)[cell] = (int64_t)plane + (columns && at >= 0 ? by_columns(window, at)
                                                                      : at < 0           ? 0
                                                                                         : at);
}

static myr_status compute(const myr_operation *operation)
{
    const myr_node *node = operation->node;
    bool maximum = node->op->kind == MYR_KIND_MAX_POOL, average = node->op->kind == MYR_KIND_AVERAGE_POOL;
    bool count_pads = myr_node_int(node, "count_include_pad", 0) != 0;
    double p = (double)myr_node_int(node, "p", 2);
    myr_window window;
    myr_status status = resolve(operation, &window);
    if (status != MYR_OK)
        return status;
    window = myr_window_deepen(&window);
    size_t plane_size = (size_t)(window.in[0] * window.in[1] * window.in[2]);
    const myr_shape cells = {.rank = 3, .dims = {window.out[0], window.out[1], window.out[2]}};
    size_t n_cells = myr_shape_count(&cells), n = myr_shape_count(&operation->out[0].shape);
    int64_t place[3] = {0};
    for (size_t i = 0; i < n; i++, myr_shape_next(&cells, place)) {
        size_t plane = i / n_cells * plane_size;
        const float *values = (const float *)operation->in[0]->data + plane;
        if (maximum)
            pool_maximum(operation, &window, i, plane, place);
        else
            ((float *)operation->out[0].data)[i] = (float)(average ? mean(values, look(&window, place), count_pads)
                                                                   : norm(values, look(&window, place), p));
    }
    return MYR_OK;
}

static myr_status infer_global(const myr_operation *operation)
{
    const myr_tensor *input = operation->in[0];
    myr_shape shape = input->shape;
    if (input->type != MYR_TYPE_F32 || shape.rank < 3)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "global pooling takes floats of rank 3 or more");
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
    const char *name = operation->node->op->name;
    bool maximum = strcmp(name, "GlobalMaxPool") == 0, lp = strcmp(name, "GlobalLpPool") == 0;
    double p = (double)myr_node_int(operation->node, "p", 2);
    const float *in = operation->in[0]->data;
    float *out = operation->out[0].data;
    for (size_t i = 0; i < n_planes; i++, in += plane) {
        double sum = 0;
        float best = -INFINITY;
        for (size_t j = 0; j < plane; j++) {
            sum += lp ? pow(fabs((double)in[j]), p) : (double)in[j];
            best = in[j] > best ? in[j] : best;
        }
        out[i] = maximum ? best : (float)(lp ? pow(sum, 1 / p) : sum / (double)plane);
    }
    return MYR_OK;
}

/* ---- MaxUnpool ---- */

static myr_status infer_unpool(const myr_operation *operation)
{
    const myr_shape *in = &operation->in[0]->shape;
    const myr_attribute *kernel = myr_node_attribute(operation->node, "kernel_shape");
    const int64_t *wanted;
    size_t n;
    myr_window window;
    myr_status status = myr_operation_constants(operation, "", 2, "output_shape", &wanted, &n);
    if (status != MYR_OK)
        return status;
    if (operation->in[0]->type != MYR_TYPE_F32 || operation->in[1]->type != MYR_TYPE_I64 ||
        !myr_shape_equal(in, &operation->in[1]->shape) || in->rank < 3 || in->rank > 2 + MYR_WINDOW_DIMS ||
        kernel->n != (size_t)in->rank - 2 || !myr_window_take(operation->node, in, kernel->numbers, &window) ||
        (wanted && n != (size_t)in->rank))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "its inputs do not fit together");
    myr_shape shape = *in;
    for (int i = 0; i < window.n; i++)
        shape.dims[i + 2] =
            (in->dims[i + 2] - 1) * window.stride[i] + window.kernel[i] - window.pad_begin[i] - window.pad_end[i];
    for (int i = 0; i < in->rank && wanted; i++)
        shape.dims[i] = wanted[i];
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &shape);
    return MYR_OK;
}

/* Indices count in the tensor that was pooled, which a wanted shape may be larger than. */
static size_t moved(size_t place, const myr_shape *from, const myr_shape *to)
{
    size_t at[MYR_TENSOR_MAX_RANK], moved_to = 0;
    for (int d = from->rank - 1; d >= 0; d--) {
        at[d] = place % (size_t)from->dims[d];
        place /= (size_t)from->dims[d];
    }
    for (int d = 0; d < from->rank; d++)
        moved_to = moved_to * (size_t)to->dims[d] + at[d];
    return moved_to;
}

static myr_status compute_unpool(const myr_operation *operation)
{
    const myr_tensor *places = operation->in[1];
    const myr_attribute *kernel = myr_node_attribute(operation->node, "kernel_shape");
    myr_tensor *out = &operation->out[0];
    myr_shape pooled = operation->in[0]->shape;
    myr_window window;
    if (!myr_window_take(operation->node, &pooled, kernel->numbers, &window))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "its window makes no sense");
    for (int i = 0; i < window.n; i++)
        pooled.dims[i + 2] =
            (pooled.dims[i + 2] - 1) * window.stride[i] + window.kernel[i] - window.pad_begin[i] - window.pad_end[i];
    if (!myr_shape_is_sane(&pooled))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "its window makes no sense");
    size_t n = myr_shape_count(&places->shape), n_out = myr_shape_count(&out->shape),
           n_pooled = myr_shape_count(&pooled);
    memset(out->data, 0, myr_tensor_bytes(out));
    for (size_t i = 0; i < n; i++) {
        int64_t place = ((const int64_t *)places->data)[i];
        if (place < 0 || (size_t)place >= n_pooled)
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "an index is out of range");
        size_t to = moved((size_t)place, &pooled, &out->shape);
        if (to >= n_out)
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "an index is out of range");
        ((float *)out->data)[to] = ((const float *)operation->in[0]->data)[i];
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
    {"LpPool", MYR_KIND_OTHER, 1, 1, 1,
     "auto_pad:text ceil_mode:int dilations:ints kernel_shape:ints p:int pads:ints strides:ints ", refuse, infer,
     compute},
    {"MaxUnpool", MYR_KIND_OTHER, 2, 3, 1, "kernel_shape:ints pads:ints strides:ints ", refuse, infer_unpool,
     compute_unpool},
    {"GlobalAveragePool", MYR_KIND_GLOBAL_AVERAGE_POOL, 1, 1, 1, "", NULL, infer_global, compute_global},
    {"GlobalMaxPool", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_global, compute_global},
    {"GlobalLpPool", MYR_KIND_OTHER, 1, 1, 1, "p:int ", NULL, infer_global, compute_global},
    {0},
};
