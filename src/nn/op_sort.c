/*
 * Operators that order elements or keep some of them: TopK, Unique, NonZero, Compress.
 *
 * How many elements the last three keep is known only with their input; they work where it
 * is constant and are refused elsewhere.
 */
#include "nn/operator.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- TopK ---- */

static myr_status find_k(const myr_operation *operation, int64_t length, int64_t *k)
{
    const myr_tensor *input = myr_operation_input(operation, 1);
    *k = myr_node_int(operation->node, "k", -1);
    if (input) {
        myr_status status = myr_operation_known(operation, 1, "k");
        if (status != MYR_OK)
            return status;
        *k = myr_shape_count(&input->shape) == 1 ? *(const int64_t *)input->data : -1;
    }
    if (*k < 0 || *k > length)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "k is out of range");
    return MYR_OK;
}

static myr_status infer_top(const myr_operation *operation)
{
    int axis;
    myr_shape shape = operation->in[0]->shape;
    myr_status status = myr_operation_axis(operation, -1, shape.rank, &axis);
    if (status == MYR_OK)
        status = find_k(operation, shape.dims[axis], &shape.dims[axis]);
    myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    myr_operation_shape(operation, 1, MYR_TYPE_I64, &shape);
    return status;
}

typedef struct ranked {
    double real;
    int64_t number, place;
} ranked;

/* Among equals the first comes first, in both orders. */
static int by_place(const ranked *x, const ranked *y)
{
    return x->place < y->place ? -1 : 1;
}

static int upwards(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (isnan(x->real) || isnan(y->real)) /* larger than all numbers */
        return isnan(x->real) && isnan(y->real) ? by_place(x, y) : isnan(y->real) ? -1 : 1;
    if (x->real != y->real)
        return x->real < y->real ? -1 : 1;
    return x->number != y->number ? (x->number < y->number ? -1 : 1) : by_place(x, y);
}

static int downwards(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    bool equal = (x->real == y->real || (isnan(x->real) && isnan(y->real))) && x->number == y->number;
    return equal ? by_place(x, y) : upwards(b, a);
}

static ranked rank_element(const myr_tensor *in, size_t i, size_t place)
{
    bool is_float = in->type == MYR_TYPE_F32;
    return (ranked){.real = is_float ? myr_tensor_real(in, i) : 0,
                    .number = is_float ? 0 : myr_tensor_number(in, i),
                    .place = (int64_t)place};
}

static myr_status compute_top(const myr_operation *operation)
{
    int axis;
    const myr_tensor *in = operation->in[0];
    size_t outer, length, inner, k, size = myr_type_bytes(in->type);
    bool largest = myr_node_int(operation->node, "largest", 1) != 0;
    myr_status status = myr_operation_axis(operation, -1, in->shape.rank, &axis);
    if (status != MYR_OK)
        return status;
    myr_shape_split(&in->shape, axis, axis + 1, &outer, &length, &inner);
    k = (size_t)operation->out[0].shape.dims[axis];
    ranked *row = myr_alloc(length, sizeof *row);
    if (!row)
        return myr_operation_fail(operation, MYR_ERR_NOMEM, "no memory to sort");
    for (size_t r = 0; r < outer * inner; r++) {
        size_t first = r / inner * length * inner + r % inner, to = r / inner * k * inner + r % inner;
        for (size_t i = 0; i < length; i++)
            row[i] = rank_element(in, first + i * inner, i);
        qsort(row, length, sizeof *row, largest ? downwards : upwards);
        for (size_t i = 0; i < k; i++, to += inner) {
            memcpy((char *)operation->out[0].data + to * size,
                   (const char *)in->data + (first + (size_t)row[i].place * inner) * size, size);
            if (myr_operation_wants(operation, 1))
                ((int64_t *)operation->out[1].data)[to] = row[i].place;
        }
    }
    free(row);
    return MYR_OK;
}

/* ---- NonZero, Compress ---- */

static myr_status must_be_known(const myr_operation *operation, int i)
{
    if (operation->in[i]->data)
        return MYR_OK;
    return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED,
                              "the size of its result depends on the picture; it must be constant");
}

static size_t count_nonzero(const myr_tensor *in, size_t n)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        found += myr_tensor_real(in, i) != 0;
    return found;
}

static myr_status infer_nonzero(const myr_operation *operation)
{
    const myr_tensor *in = operation->in[0];
    myr_status status = must_be_known(operation, 0);
    if (status != MYR_OK)
        return status;
    int64_t n = (int64_t)count_nonzero(in, myr_shape_count(&in->shape));
    myr_operation_shape(operation, 0, MYR_TYPE_I64, &(myr_shape){.rank = 2, .dims = {in->shape.rank, n}});
    return MYR_OK;
}

static myr_status compute_nonzero(const myr_operation *operation)
{
    const myr_tensor *in = operation->in[0];
    size_t n = myr_shape_count(&in->shape), n_found = (size_t)operation->out[0].shape.dims[1], found = 0;
    int64_t place[MYR_TENSOR_MAX_RANK] = {0};
    for (size_t i = 0; i < n && found < n_found; i++, myr_shape_next(&in->shape, place)) {
        if (myr_tensor_real(in, i) == 0)
            continue;
        for (int d = 0; d < in->shape.rank; d++)
            ((int64_t *)operation->out[0].data)[(size_t)d * n_found + found] = place[d];
        found++;
    }
    return MYR_OK;
}

/* The input as rows along an axis, or flat where none is given. */
static myr_status find_rows(const myr_operation *operation, int *axis, size_t *outer, size_t *length, size_t *inner)
{
    const myr_shape *shape = &operation->in[0]->shape;
    *axis = -1;
    *outer = *inner = 1;
    *length = myr_shape_count(shape);
    if (!myr_node_attribute(operation->node, "axis"))
        return MYR_OK;
    myr_status status = myr_operation_axis(operation, 0, shape->rank, axis);
    if (status == MYR_OK)
        myr_shape_split(shape, *axis, *axis + 1, outer, length, inner);
    return status;
}

static myr_status infer_compress(const myr_operation *operation)
{
    int axis;
    size_t outer, length, inner;
    const myr_tensor *wanted = operation->in[1];
    myr_status status = must_be_known(operation, 1);
    if (status == MYR_OK)
        status = find_rows(operation, &axis, &outer, &length, &inner);
    if (status != MYR_OK)
        return status;
    if (wanted->shape.rank != 1 || (size_t)wanted->shape.dims[0] > length)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the condition is longer than the input");
    int64_t n = (int64_t)count_nonzero(wanted, myr_shape_count(&wanted->shape));
    myr_shape shape = operation->in[0]->shape;
    if (axis < 0)
        shape = (myr_shape){.rank = 1};
    shape.dims[axis < 0 ? 0 : axis] = n;
    myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    return MYR_OK;
}

static myr_status compute_compress(const myr_operation *operation)
{
    int axis;
    size_t outer, length, inner, n = (size_t)operation->in[1]->shape.dims[0];
    myr_status status = find_rows(operation, &axis, &outer, &length, &inner);
    if (status != MYR_OK)
        return status;
    inner *= myr_type_bytes(operation->in[0]->type);
    char *to = operation->out[0].data;
    for (size_t row = 0; row < outer; row++) {
        for (size_t i = 0; i < n; i++) {
            if (myr_tensor_real(operation->in[1], i) == 0)
                continue;
            memcpy(to, (const char *)operation->in[0]->data + (row * length + i) * inner, inner);
            to += inner;
        }
    }
    return MYR_OK;
}

/* ---- Unique ---- */

/* Rows of the input that are the same, gathered: for each row its group, for each group its first row and its size. */
typedef struct groups {
    size_t n, *group, *first, *size;
} groups;

static void free_groups(groups *all)
{
    free(all->group);
    free(all->first);
    free(all->size);
}

/* -1, 0, 1 as row a comes before, is, or comes after row b. */
static int compare_rows(const myr_tensor *in, size_t a, size_t b, size_t outer, size_t length, size_t inner)
{
    for (size_t o = 0; o < outer; o++) {
        for (size_t i = 0; i < inner; i++) {
            ranked x = rank_element(in, (o * length + a) * inner + i, 0),
                   y = rank_element(in, (o * length + b) * inner + i, 1);
            if (x.real != y.real || x.number != y.number)
                return upwards(&x, &y);
        }
    }
    return 0;
}

static myr_status find_groups(const myr_operation *operation, groups *all)
{
    int axis;
    size_t outer, length, inner;
    bool sorted = myr_node_int(operation->node, "sorted", 1) != 0;
    const myr_tensor *in = operation->in[0];
    *all = (groups){0};
    myr_status status = find_rows(operation, &axis, &outer, &length, &inner);
    if (status != MYR_OK)
        return status;
    if (length > INT16_MAX)
        return myr_operation_fail(operation, MYR_ERR_LIMIT, "more than 32767 rows");
    *all = (groups){.group = myr_alloc(length, sizeof(size_t)),
                    .first = myr_alloc(length, sizeof(size_t)),
                    .size = myr_alloc(length, sizeof(size_t))};
    if (!all->group || !all->first || !all->size) {
        free_groups(all);
        return myr_operation_fail(operation, MYR_ERR_NOMEM, "no memory to sort");
    }
    for (size_t row = 0; row < length; row++) {
        size_t g = 0;
        int order = 1;
        for (; g < all->n; g++) {
            order = compare_rows(in, row, all->first[g], outer, length, inner);
            if (order == 0 || (sorted && order < 0))
                break;
        }
        if (g == all->n || order != 0) { /* a new group, before group g */
            memmove(all->first + g + 1, all->first + g, (all->n - g) * sizeof(size_t));
            memmove(all->size + g + 1, all->size + g, (all->n - g) * sizeof(size_t));
            for (size_t i = 0; i < row; i++)
                all->group[i] += all->group[i] >= g;
            all->first[g] = row;
            all->size[g] = 0;
            all->n++;
        }
        all->group[row] = g;
        all->size[g]++;
    }
    return MYR_OK;
}

static myr_status infer_unique(const myr_operation *operation)
{
    groups all;
    int axis;
    size_t outer, length, inner;
    myr_status status = must_be_known(operation, 0);
    if (status == MYR_OK)
        status = find_rows(operation, &axis, &outer, &length, &inner);
    if (status == MYR_OK)
        status = find_groups(operation, &all);
    if (status != MYR_OK)
        return status;
    myr_shape shape = operation->in[0]->shape, list = {.rank = 1, .dims = {(int64_t)all.n}};
    if (axis >= 0)
        shape.dims[axis] = (int64_t)all.n;
    myr_operation_shape(operation, 0, operation->in[0]->type, axis < 0 ? &list : &shape);
    myr_operation_shape(operation, 1, MYR_TYPE_I64, &list);
    myr_operation_shape(operation, 2, MYR_TYPE_I64, &(myr_shape){.rank = 1, .dims = {(int64_t)length}});
    myr_operation_shape(operation, 3, MYR_TYPE_I64, &list);
    free_groups(&all);
    return MYR_OK;
}

/* A list as output i, where it is asked for. */
static void put_list(const myr_operation *operation, int i, const size_t *list, size_t n)
{
    for (size_t j = 0; j < n && myr_operation_wants(operation, i); j++)
        ((int64_t *)operation->out[i].data)[j] = (int64_t)list[j];
}

static myr_status compute_unique(const myr_operation *operation)
{
    groups all;
    int axis;
    size_t outer, length, inner;
    myr_status status = find_rows(operation, &axis, &outer, &length, &inner);
    if (status == MYR_OK)
        status = find_groups(operation, &all);
    if (status != MYR_OK)
        return status;
    size_t bytes = inner * myr_type_bytes(operation->in[0]->type);
    for (size_t o = 0; o < outer; o++)
        for (size_t g = 0; g < all.n; g++)
            memcpy((char *)operation->out[0].data + (o * all.n + g) * bytes,
                   (const char *)operation->in[0]->data + (o * length + all.first[g]) * bytes, bytes);
    put_list(operation, 1, all.first, all.n);
    put_list(operation, 2, all.group, length);
    put_list(operation, 3, all.size, all.n);
    free_groups(&all);
    return MYR_OK;
}

const myr_operator myr_sort_operators[] = {
    {"TopK", MYR_KIND_OTHER, 1, 2, 2, "axis:int k:int largest:int sorted:int ", NULL, infer_top, compute_top},
    {"NonZero", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_nonzero, compute_nonzero},
    {"Compress", MYR_KIND_OTHER, 2, 2, 1, "axis:int ", NULL, infer_compress, compute_compress},
    {"Unique", MYR_KIND_OTHER, 1, 1, 4, "axis:int sorted:int ", NULL, infer_unique, compute_unique},
    {0},
};
