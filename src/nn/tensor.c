/*
 * Shapes and tensors.
 */
#include "nn/tensor.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ELEMENTS ((int64_t)1 << 36)

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
    myr_tensor *tensor = myr_alloc(1, sizeof *tensor);
    if (tensor) {
        *tensor = (myr_tensor){.type = type, .shape = *shape};
        tensor->data = myr_alloc(myr_shape_count(shape), myr_type_bytes(type));
    }
    if (!tensor || !tensor->data) {
        free(tensor);
        return myr_fail(MYR_ERR_NOMEM, "no memory for a tensor of shape %s", myr_shape_text(shape, text, sizeof text));
    }
    *out = tensor;
    return MYR_OK;
}

myr_status myr_tensor_copy(const myr_tensor *tensor, myr_tensor **copy)
{
    myr_status status = myr_tensor_create(tensor->type, &tensor->shape, copy);
    if (status == MYR_OK)
        memcpy((*copy)->data, tensor->data, myr_tensor_bytes(tensor));
    return status;
}

void myr_tensor_free(myr_tensor *tensor)
{
    if (!tensor)
        return;
    free(tensor->data);
    free(tensor);
}

bool myr_axis_resolve(int64_t axis, int rank, int *resolved)
{
    if (axis < -(int64_t)rank || axis >= rank)
        return false;
    *resolved = (int)(axis < 0 ? axis + rank : axis);
    return true;
}
