/*
 * Reductions: many elements become one. Sums are kept in double, those of whole numbers
 * in 64 bits. ArgMax, ArgMin and CumSum, which also run along an axis, are here too.
 */
#include "nn/operator.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum reduction { SUM, MEAN, PROD, MAX, MIN, L1, L2, LOG_SUM, LOG_SUM_EXP, SUM_SQUARE, NO_REDUCTION } reduction;

static const char *const names[] = {"ReduceSum", "ReduceMean", "ReduceProd",   "ReduceMax",       "ReduceMin",
                                    "ReduceL1",  "ReduceL2",   "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"};

static reduction find_reduction(const char *name)
{
    reduction which = SUM;
    while (which < NO_REDUCTION && strcmp(names[which], name) != 0)
        which++;
    return which;
}

/* reduced[i]: dimension i goes away. */
static myr_status reduced_axes(const myr_operation *operation, bool reduced[MYR_TENSOR_MAX_RANK])
{
    size_t n;
    const int64_t *axes;
    int rank = operation->in[0]->shape.rank;
    myr_status status = myr_operation_constants(operation, "axes", 1, "axes", &axes, &n);
    if (status != MYR_OK)
        return status;
    bool all = n == 0 && myr_node_int(operation->node, "noop_with_empty_axes", 0) == 0;
    for (int i = 0; i < rank; i++)
        reduced[i] = all;
    for (size_t i = 0; i < n; i++) {
        int axis;
        if (!myr_axis_resolve(axes[i], rank, &axis))
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "an axis is out of range");
        reduced[axis] = true;
    }
    return MYR_OK;
}

static myr_status infer(const myr_operation *operation)
{
    bool reduced[MYR_TENSOR_MAX_RANK], keep = myr_node_int(operation->node, "keepdims", 1) != 0;
    const myr_tensor *in = operation->in[0];
    reduction which = find_reduction(operation->node->op->name);
    myr_shape shape = {0};
    bool fits_numbers =
        which == SUM || which == PROD || which == MAX || which == MIN || which == L1 || which == SUM_SQUARE;
    if (in->type != MYR_TYPE_F32 && !fits_numbers)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "only floats are supported");
    myr_status status = reduced_axes(operation, reduced);
    for (int i = 0; i < in->shape.rank && status == MYR_OK; i++) {
        bool has_least = in->type == MYR_TYPE_F32 || (which != MAX && which != MIN);
        if (reduced[i] && in->shape.dims[i] == 0 && (which == MEAN || !has_least))
            return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "there is nothing to reduce");
        if (!reduced[i] || keep)
            shape.dims[shape.rank++] = reduced[i] ? 1 : in->shape.dims[i];
    }
    myr_operation_shape(operation, 0, in->type, &shape);
    return status;
}

static double join(reduction which, double sofar, double x)
{
    switch (which) {
    case PROD:
        return sofar * x;
    case MAX:
        return x > sofar || isnan(x) ? x : sofar;
    case MIN:
        return x < sofar || isnan(x) ? x : sofar;
    case L1:
        return sofar + fabs(x);
    case L2:
    case SUM_SQUARE:
        return sofar + x * x;
    default:
        return sofar + x;
    }
}

static double finish(reduction which, double value, double n)
{
    return which == MEAN ? value / n : which == L2 ? sqrt(value) : which == LOG_SUM ? log(value) : value;
}

static double first_value(reduction which)
{
    return which == PROD ? 1 : which == MAX || which == LOG_SUM_EXP ? -INFINITY : which == MIN ? INFINITY : 0;
}

/* What is reduced to one cell: the elements from `first` on that the walk steps to. */
static double reduce_cell(reduction which, const float *first, const myr_shape *shape, const myr_shape *gone, size_t n)
{
    double value = first_value(which), highest = 0;
    myr_walk walk;
    for (int pass = which == LOG_SUM_EXP ? 0 : 1; pass < 2; pass++) {
        if (which == LOG_SUM_EXP && pass == 1) { /* the exponentials beside the largest, which do not overflow */
            highest = isfinite(value) ? value : 0;
            value = 0;
        }
        myr_walk_begin(&walk, gone);
        myr_walk_add(&walk, shape);
        for (size_t i = 0; i < n; i++, myr_walk_step(&walk)) {
            double x = (double)first[walk.at[0]];
            value = pass == 0              ? join(MAX, value, x)
                    : which == LOG_SUM_EXP ? value + exp(x - highest)
                                           : join(which, value, x);
        }
    }
    return which == LOG_SUM_EXP ? log(value) + highest : finish(which, value, (double)n);
}

/* kept: the input's shape with 1 where it is reduced, which has as many cells as the output. gone: the other way
 * round. */
static void reduce_floats(const myr_operation *operation, reduction which, const myr_shape *kept, const myr_shape *gone)
{
    const myr_tensor *in = operation->in[0];
    size_t n_cells = myr_shape_count(kept), n_each = myr_shape_count(gone);
    myr_walk walk;
    myr_walk_begin(&walk, kept);
    myr_walk_add(&walk, &in->shape);
    for (size_t i = 0; i < n_cells; i++, myr_walk_step(&walk))
        ((float *)operation->out[0].data)[i] =
            (float)reduce_cell(which, (const float *)in->data + walk.at[0], &in->shape, gone, n_each);
}

static int64_t join_numbers(reduction which, int64_t sofar, int64_t x)
{
    switch (which) {
    case PROD:
        return (int64_t)((uint64_t)sofar * (uint64_t)x);
    case MAX:
        return x > sofar ? x : sofar;
    case MIN:
        return x < sofar ? x : sofar;
    case L1:
        return (int64_t)((uint64_t)sofar + (x < 0 ? 0 - (uint64_t)x : (uint64_t)x));
    case SUM_SQUARE:
        return (int64_t)((uint64_t)sofar + (uint64_t)x * (uint64_t)x);
    default:
        return (int64_t)((uint64_t)sofar + (uint64_t)x);
    }
}

static void reduce_numbers(const myr_operation *operation, reduction which, const myr_shape *kept)
{
    const myr_tensor *in = operation->in[0];
    size_t n_in = myr_shape_count(&in->shape), n_out = myr_shape_count(kept);
    int64_t *cells = operation->out[0].data;
    myr_walk walk;
    for (size_t i = 0; i < n_out; i++)
        cells[i] = which == PROD ? 1 : which == MAX ? INT64_MIN : which == MIN ? INT64_MAX : 0;
    myr_walk_begin(&walk, &in->shape);
    myr_walk_add(&walk, kept);
    for (size_t i = 0; i < n_in; i++, myr_walk_step(&walk))
        cells[walk.at[0]] = join_numbers(which, cells[walk.at[0]], ((const int64_t *)in->data)[i]);
}

static myr_status compute(const myr_operation *operation)
{
    bool reduced[MYR_TENSOR_MAX_RANK];
    reduction which = find_reduction(operation->node->op->name);
    myr_shape kept = operation->in[0]->shape;
    myr_status status = reduced_axes(operation, reduced);
    if (status != MYR_OK)
        return status;
    myr_shape gone = kept;
    for (int i = 0; i < kept.rank; i++)
        *(reduced[i] ? &kept.dims[i] : &gone.dims[i]) = 1;
    if (operation->in[0]->type == MYR_TYPE_F32)
        reduce_floats(operation, which, &kept, &gone);
    else
        reduce_numbers(operation, which, &kept);
    return MYR_OK;
}

/* ---- ArgMax, ArgMin ---- */

static myr_status infer_place(const myr_operation *operation)
{
    int axis;
    myr_shape shape = operation->in[0]->shape;
    bool keep = myr_node_int(operation->node, "keepdims", 1) != 0;
    myr_status status = myr_operation_axis(operation, 0, shape.rank, &axis);
    if (status != MYR_OK)
        return status;
    if (shape.dims[axis] == 0)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "there is nothing to compare");
    shape.dims[axis] = 1;
    if (!keep) {
        memmove(shape.dims + axis, shape.dims + axis + 1, (size_t)(shape.rank - axis - 1) * sizeof *shape.dims);
        shape.rank--;
    }
    myr_operation_shape(operation, 0, MYR_TYPE_I64, &shape);
    return MYR_OK;
}

/* Whether element a comes before b in the order asked for. */
static bool is_before(const myr_tensor *in, size_t a, size_t b, bool largest)
{
    if (in->type == MYR_TYPE_F32) {
        float x = ((const float *)in->data)[a], y = ((const float *)in->data)[b];
        return largest ? x > y : x < y;
    }
    int64_t x = ((const int64_t *)in->data)[a], y = ((const int64_t *)in->data)[b];
    return largest ? x > y : x < y;
}

static myr_status compute_place(const myr_operation *operation)
{
    int axis;
    size_t outer, length, inner;
    const myr_tensor *in = operation->in[0];
    bool largest = strcmp(operation->node->op->name, "ArgMax") == 0;
    bool last = myr_node_int(operation->node, "select_last_index", 0) != 0;
    myr_status status = myr_operation_axis(operation, 0, in->shape.rank, &axis);
    if (status != MYR_OK)
        return status;
    myr_shape_split(&in->shape, axis, axis + 1, &outer, &length, &inner);
    for (size_t row = 0; row < outer * inner; row++) {
        size_t first = row / inner * length * inner + row % inner, best = 0;
        for (size_t i = 1; i < length; i++) {
            bool better = is_before(in, first + i * inner, first + best * inner, largest);
            bool worse = is_before(in, first + best * inner, first + i * inner, largest);
            if (better || (last && !worse))
                best = i;
        }
        ((int64_t *)operation->out[0].data)[row] = (int64_t)best;
    }
    return MYR_OK;
}

/* ---- CumSum ---- */

static myr_status sum_axis(const myr_operation *operation, int *axis)
{
    const myr_tensor *given = operation->in[1];
    myr_status status = myr_operation_known(operation, 1, "axis");
    if (status != MYR_OK)
        return status;
    if (myr_shape_count(&given->shape) != 1 ||
        !myr_axis_resolve(*(const int64_t *)given->data, operation->in[0]->shape.rank, axis))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "axis is out of range");
    return MYR_OK;
}

static myr_status infer_sum(const myr_operation *operation)
{
    int axis;
    myr_operation_shape(operation, 0, operation->in[0]->type, &operation->in[0]->shape);
    return sum_axis(operation, &axis);
}

static myr_status compute_sum(const myr_operation *operation)
{
    int axis;
    size_t outer, length, inner;
    const myr_tensor *in = operation->in[0];
    bool exclusive = myr_node_int(operation->node, "exclusive", 0) != 0,
         reverse = myr_node_int(operation->node, "reverse", 0) != 0;
    myr_status status = sum_axis(operation, &axis);
    if (status != MYR_OK)
        return status;
    myr_shape_split(&in->shape, axis, axis + 1, &outer, &length, &inner);
    for (size_t row = 0; row < outer * inner; row++) {
        size_t first = row / inner * length * inner + row % inner;
        double real = 0;
        uint64_t number = 0;
        for (size_t i = 0; i < length; i++) {
            size_t at = first + (reverse ? length - 1 - i : i) * inner;
            double next = real;
            uint64_t next_number = number;
            if (in->type == MYR_TYPE_F32)
                next += (double)((const float *)in->data)[at];
            else
                next_number += (uint64_t)((const int64_t *)in->data)[at];
            if (in->type == MYR_TYPE_F32)
                ((float *)operation->out[0].data)[at] = (float)(exclusive ? real : next);
            else
                ((int64_t *)operation->out[0].data)[at] = (int64_t)(exclusive ? number : next_number);
            real = next;
            number = next_number;
        }
    }
    return MYR_OK;
}

#define REDUCTION(name, kind)                                                                                          \
    {                                                                                                                  \
        name, kind, 1, 2, 1, "axes:ints keepdims:int noop_with_empty_axes:int ", NULL, infer, compute                  \
    }

const myr_operator myr_reduce_operators[] = {
    REDUCTION("ReduceSum", MYR_KIND_OTHER),
    REDUCTION("ReduceMean", MYR_KIND_REDUCE_MEAN),
    REDUCTION("ReduceProd", MYR_KIND_OTHER),
    REDUCTION("ReduceMax", MYR_KIND_OTHER),
    REDUCTION("ReduceMin", MYR_KIND_OTHER),
    REDUCTION("ReduceL1", MYR_KIND_OTHER),
    REDUCTION("ReduceL2", MYR_KIND_OTHER),
    REDUCTION("ReduceLogSum", MYR_KIND_OTHER),
    REDUCTION("ReduceLogSumExp", MYR_KIND_OTHER),
    REDUCTION("ReduceSumSquare", MYR_KIND_OTHER),
    {"ArgMax", MYR_KIND_OTHER, 1, 1, 1, "axis:int keepdims:int select_last_index:int ", NULL, infer_place,
     compute_place},
    {"ArgMin", MYR_KIND_OTHER, 1, 1, 1, "axis:int keepdims:int select_last_index:int ", NULL, infer_place,
     compute_place},
    {"CumSum", MYR_KIND_OTHER, 2, 2, 1, "exclusive:int reverse:int ", NULL, infer_sum, compute_sum},
    {0},
};
