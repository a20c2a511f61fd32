#include "nn/onednn_parts.h"

#include <string.h>

static bool append(myr_parts *parts, int64_t size, int64_t stride)
{
    if (size == 1)
        return true;
    if (parts->n == DNNL_MAX_NDIMS)
        return false;
    parts->size[parts->n] = size;
    parts->stride[parts->n++] = stride;
    return true;
}

void myr_parts_join(myr_parts *parts)
{
    myr_parts joined = {.offset = parts->offset};
    for (int i = 0; i < parts->n; i++) {
        int last = joined.n - 1;
        if (last >= 0 && joined.stride[last] == parts->size[i] * parts->stride[i]) {
            joined.size[last] *= parts->size[i];
            joined.stride[last] = parts->stride[i];
        } else {
            append(&joined, parts->size[i], parts->stride[i]);
        }
    }
    *parts = joined;
}

bool myr_parts_read(const dnnl_memory_desc_t *layout, myr_parts *parts)
{
    const dnnl_blocking_desc_t *blocking = &layout->format_desc.blocking;
    *parts = (myr_parts){.offset = layout->offset0};
    if (layout->format_kind != dnnl_blocked || blocking->inner_nblks != 0)
        return false;
    for (int i = 0; i < layout->ndims; i++)
        if (layout->dims[i] < 1 || layout->padded_dims[i] != layout->dims[i] ||
            !append(parts, layout->dims[i], blocking->strides[i]))
            return false;
    myr_parts_join(parts);
    return true;
}

bool myr_parts_of_shape(const myr_shape *shape, myr_parts *parts)
{
    int64_t n = (int64_t)myr_shape_count(shape);
    *parts = (myr_parts){0};
    return n > 0 && append(parts, n, 1);
}

bool myr_parts_write(const myr_parts *parts, dnnl_data_type_t type, dnnl_memory_desc_t *layout)
{
    dnnl_dims_t dims = {1}, strides = {1};
    memcpy(dims, parts->size, (size_t)parts->n * sizeof *dims);
    memcpy(strides, parts->stride, (size_t)parts->n * sizeof *strides);
    if (dnnl_memory_desc_init_by_strides(layout, parts->n ? parts->n : 1, dims, type, strides) != dnnl_success)
        return false;
    layout->offset0 = parts->offset;
    return true;
}

/* The first `size` of part i become a part of their own in front of the rest; false where they do not divide it. */
static bool cut(myr_parts *parts, int i, int64_t rest)
{
    if (parts->size[i] % rest != 0 || parts->n == DNNL_MAX_NDIMS)
        return false;
    for (int j = parts->n; j > i + 1; j--) {
        parts->size[j] = parts->size[j - 1];
        parts->stride[j] = parts->stride[j - 1];
    }
    parts->n++;
    parts->size[i + 1] = rest;
    parts->stride[i + 1] = parts->stride[i];
    parts->stride[i] *= rest;
    parts->size[i] /= rest;
    return true;
}

bool myr_parts_group(myr_parts *parts, int rank, const int64_t *dims, int *ends)
{
    int at = 0;
    for (int d = 0; d < rank; d++) {
        int64_t left = dims[d];
        while (left > 1 && at < parts->n) {
            if (parts->size[at] > left && !cut(parts, at, parts->size[at] / left))
                return false;
            if (left % parts->size[at] != 0)
                return false;
            left /= parts->size[at++];
        }
        if (left != 1)
            return false;
        ends[d] = at;
    }
    return at == parts->n;
}

bool myr_parts_shape(const myr_parts *from, int rank, const int64_t *dims, dnnl_data_type_t type,
                     dnnl_memory_desc_t *layout)
{
    myr_parts parts = *from;
    int ends[DNNL_MAX_NDIMS];
    dnnl_dims_t full = {0}, strides = {0};
    int64_t dense = 1; /* stride of a dimension of one element: as if it lay around those behind it */
    if (rank < 1 || rank > DNNL_MAX_NDIMS || !myr_parts_group(&parts, rank, dims, ends))
        return false;
    for (int d = rank - 1; d >= 0; d--) {
        int first = d > 0 ? ends[d - 1] : 0, n = ends[d] - first;
        full[d] = dims[d];
        strides[d] = dense;
        if (n == 0)
            continue;
        strides[d] = parts.stride[ends[d] - 1];
        for (int i = first; i + 1 < ends[d]; i++)
            if (parts.stride[i] != parts.stride[i + 1] * parts.size[i + 1])
                return false;
        dense = strides[d] * dims[d];
    }
    if (dnnl_memory_desc_init_by_strides(layout, rank, full, type, strides) != dnnl_success)
        return false;
    layout->offset0 = parts.offset;
    return true;
}

bool myr_parts_align(myr_parts *a, myr_parts *b)
{
    for (int i = 0; i < a->n && i < b->n; i++) {
        myr_parts *longer = a->size[i] > b->size[i] ? a : b, *other = longer == a ? b : a;
        if (longer->size[i] != other->size[i] &&
            (longer->size[i] % other->size[i] != 0 || !cut(longer, i, longer->size[i] / other->size[i])))
            return false;
    }
    return a->n == b->n;
}

bool myr_parts_are_dense(const myr_parts *parts)
{
    bool is_seen[DNNL_MAX_NDIMS] = {false};
    int64_t wanted = 1;
    for (int found = 0; found < parts->n; found++) {
        int next = -1;
        for (int i = 0; i < parts->n; i++)
            if (!is_seen[i] && parts->stride[i] == wanted)
                next = i;
        if (next < 0)
            return false;
        is_seen[next] = true;
        wanted *= parts->size[next];
    }
    return parts->offset == 0;
}
