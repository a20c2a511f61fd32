/*
 * Shapes and tensors.
 */
#include "nn/tensor.h"

#include "base/alloc.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ELEMENTS ((int64_t)1 << 36)

/* What myr_tensor_create makes. Views of an arena are plain myr_tensor, which nobody holds. */
typedef struct held_tensor {
    myr_tensor tensor; /* first, so that a pointer to it is one to the whole */
    atomic_size_t n_holders;
} held_tensor;

static atomic_size_t live_bytes;

size_t myr_tensor_live_bytes(void)
{
    return atomic_load_explicit(&live_bytes, memory_order_relaxed);
}

size_t myr_shape_count(const myr_shape *shape)
{
    size_t n = 1;
    for (int i = 0; i < shape->rank; i++)
        n *= (size_t)shape->dims[i];
    return n;
}

bool myr_shape_is_sane(const myr_shape *shape)
{
    int64_t n = 1;
    if (shape->rank < 0 || shape->rank > MYR_TENSOR_MAX_RANK)
        return false;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dims[i] < 0 || shape->dims[i] > MAX_ELEMENTS)
            return false;
        /* A zero elsewhere must not hide a product that overflows. */
        int64_t dim = shape->dims[i] > 0 ? shape->dims[i] : 1;
        if (n > MAX_ELEMENTS / dim)
            return false;
        n *= dim;
    }
    return true;
}

bool myr_shape_equal(const myr_shape *a, const myr_shape *b)
{
    return a->rank == b->rank && memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims) == 0;
}

const char *myr_shape_text(const myr_shape *shape, char *text, size_t size)
{
    size_t at = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < shape->rank && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%lld", i ? ", " : "", (long long)shape->dims[i]);
    if (at < size)
        snprintf(text + at, size - at, "]");
    return text;
}

bool myr_shape_broadcast(const myr_shape *other, myr_shape *into)
{
    myr_shape joined = {.rank = other->rank > into->rank ? other->rank : into->rank};
    for (int i = 1; i <= joined.rank; i++) {
        int64_t x = i <= other->rank ? other->dims[other->rank - i] : 1;
        int64_t y = i <= into->rank ? into->dims[into->rank - i] : 1;
        if (x != y && x != 1 && y != 1)
            return false;
        joined.dims[joined.rank - i] = x == 1 ? y : x;
    }
    *into = joined;
    return true;
}

void myr_shape_split(const myr_shape *shape, int first, int last, size_t *outer, size_t *length, size_t *inner)
{
    *outer = *length = *inner = 1;
    for (int i = 0; i < shape->rank; i++) {
        size_t *part = i < first ? outer : i < last ? length : inner;
        *part *= (size_t)shape->dims[i];
    }
}

void myr_shape_next(const myr_shape *shape, int64_t *place)
{
    for (int d = shape->rank - 1; d >= 0; d--) {
        if (++place[d] < shape->dims[d])
            return;
        place[d] = 0;
    }
}

size_t myr_type_bytes(myr_type type)
{
    return type == MYR_TYPE_F32 ? sizeof(float) : sizeof(int64_t);
}

size_t myr_tensor_bytes(const myr_tensor *tensor)
{
    return myr_shape_count(&tensor->shape) * myr_type_bytes(tensor->type);
}

myr_status myr_tensor_create(myr_type type, const myr_shape *shape, myr_tensor **out)
{
    char text[128];
    *out = NULL;
    if (!myr_shape_is_sane(shape))
        return myr_fail(MYR_ERR_LIMIT, "a tensor of shape %s is too large", myr_shape_text(shape, text, sizeof text));
    held_tensor *made = myr_alloc(1, sizeof *made);
    if (made) {
        made->tensor = (myr_tensor){.type = type, .shape = *shape};
        made->tensor.data = myr_alloc(myr_shape_count(shape), myr_type_bytes(type));
        atomic_init(&made->n_holders, 1);
    }
    if (!made || !made->tensor.data) {
        free(made);
        return myr_fail(MYR_ERR_NOMEM, "no memory for a tensor of shape %s", myr_shape_text(shape, text, sizeof text));
    }
    atomic_fetch_add_explicit(&live_bytes, myr_tensor_bytes(&made->tensor), memory_order_relaxed);
    *out = &made->tensor;
    return MYR_OK;
}

const myr_tensor *myr_tensor_share(const myr_tensor *tensor)
{
    atomic_fetch_add_explicit(&((held_tensor *)tensor)->n_holders, 1, memory_order_relaxed);
    return tensor;
}

void myr_tensor_free(const myr_tensor *tensor)
{
    held_tensor *held = (held_tensor *)tensor;
    /* The last holder must see all that the others did before they let go. */
    if (!held || atomic_fetch_sub_explicit(&held->n_holders, 1, memory_order_acq_rel) > 1)
        return;
    atomic_fetch_sub_explicit(&live_bytes, myr_tensor_bytes(&held->tensor), memory_order_relaxed);
    free(held->tensor.data);
    free(held);
}

double myr_tensor_real(const myr_tensor *tensor, size_t i)
{
    return tensor->type == MYR_TYPE_F32 ? (double)((const float *)tensor->data)[i]
                                        : (double)((const int64_t *)tensor->data)[i];
}

static int64_t as_whole(double x)
{
    if (!(x > -0x1p63))
        return INT64_MIN;
    return x < 0x1p63 ? (int64_t)x : INT64_MAX;
}

int64_t myr_tensor_number(const myr_tensor *tensor, size_t i)
{
    return tensor->type == MYR_TYPE_I64 ? ((const int64_t *)tensor->data)[i]
                                        : as_whole((double)((const float *)tensor->data)[i]);
}

void myr_tensor_put_real(myr_tensor *tensor, size_t i, double value)
{
    if (tensor->type == MYR_TYPE_F32)
        ((float *)tensor->data)[i] = (float)value;
    else
        ((int64_t *)tensor->data)[i] = as_whole(value);
}

bool myr_axis_resolve(int64_t axis, int rank, int *resolved)
{
    if (axis < -(int64_t)rank || axis >= rank)
        return false;
    *resolved = (int)(axis < 0 ? axis + rank : axis);
    return true;
}
