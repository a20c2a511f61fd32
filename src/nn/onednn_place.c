/*
 * Where values are: each in the layout its maker gave it, or as a view of another's bytes, and copied into another
 * layout, type or order only where a reader cannot take it as it is.
 */
#include "nn/onednn.h"

#include "base/alloc.h"

#include <string.h>

bool myr_onednn_plain_layout(const myr_shape *shape, dnnl_memory_desc_t *layout)
{
    myr_parts parts;
    return myr_parts_of_shape(shape, &parts) && myr_parts_shape(&parts, shape->rank, shape->dims, dnnl_f32, layout);
}

static const myr_value *value_of(const myr_onednn_builder *build, int value)
{
    return &build->graph->values[value];
}

/* Where the value is as its maker left it. */
static myr_status find_stored(const myr_onednn_builder *build, int value, int *buffer, dnnl_memory_desc_t *layout,
                              float *scale)
{
    const myr_onednn_place *where = &build->places[value];
    *buffer = where->buffer >= 0 ? where->buffer : build->compiler->buffer[value];
    *scale = where->buffer >= 0 && where->scale > 0 ? where->scale : 1;
    if (where->buffer >= 0)
        *layout = where->layout;
    else if (*buffer < 0 || !myr_onednn_plain_layout(&value_of(build, value)->shape, layout))
        return myr_fail(MYR_ERR_INTERNAL, "'%s' is nowhere", value_of(build, value)->name);
    return MYR_OK;
}

static bool has_dims(const dnnl_memory_desc_t *layout, int rank, const int64_t *dims)
{
    return layout->ndims == rank && memcmp(layout->dims, dims, (size_t)rank * sizeof *dims) == 0;
}

/* Both layouts in the same dimensions; false where one has blocks in others. */
static bool share_dims(dnnl_memory_desc_t *a, dnnl_memory_desc_t *b)
{
    dnnl_memory_desc_t shaped;
    myr_parts x, y;
    if (has_dims(a, b->ndims, b->dims))
        return true;
    if (!myr_parts_read(a, &x))
        return false;
    if (myr_parts_shape(&x, b->ndims, b->dims, a->data_type, &shaped)) {
        *a = shaped;
        return true;
    }
    return myr_parts_read(b, &y) && myr_parts_align(&x, &y) && myr_parts_write(&x, a->data_type, a) &&
           myr_parts_write(&y, b->data_type, b);
}

/* A step from one layout of a value into another, by way of the plain one where they share no dimensions. */
static myr_status add_copy(myr_onednn_builder *build, int value, int from, const dnnl_memory_desc_t *from_layout,
                           int to, const dnnl_memory_desc_t *to_layout, float factor)
{
    const myr_value *known = value_of(build, value);
    dnnl_memory_desc_t source = *from_layout, target = *to_layout, plain;
    int between;
    if (share_dims(&source, &target))
        return myr_onednn_add_reorder(build, known->name, from, &source, to, &target, factor);
    if (!myr_onednn_plain_layout(&known->shape, &plain) || dnnl_memory_desc_equal(&plain, from_layout))
        return myr_fail(MYR_ERR_INTERNAL, "'%s': no way into its layout", known->name);
    myr_status status = myr_program_add_buffer(build->compiler->program, dnnl_memory_desc_get_size(&plain), &between);
    if (status == MYR_OK)
        status = add_copy(build, value, from, from_layout, between, &plain, factor);
    return status == MYR_OK ? add_copy(build, value, between, &plain, to, to_layout, 1) : status;
}

/* Whether two layouts, in whatever dimensions, put the same elements in the same order into the same places. */
static bool are_alike(const dnnl_memory_desc_t *a, const dnnl_memory_desc_t *b)
{
    dnnl_memory_desc_t x = *a, y = *b;
    return a->data_type == b->data_type && share_dims(&x, &y) && x.offset0 == y.offset0 &&
           dnnl_memory_desc_equal(&x, &y);
}

myr_status myr_onednn_make_plain(myr_onednn_builder *build, int value)
{
    myr_onednn_place *where = &build->places[value];
    const myr_value *known = value_of(build, value);
    dnnl_memory_desc_t plain;
    int buffer;
    if (where->buffer < 0 || build->compiler->buffer[value] >= 0)
        return MYR_OK;
    if (!myr_onednn_plain_layout(&known->shape, &plain))
        return myr_fail(MYR_ERR_INTERNAL, "'%s': no plain layout", known->name);
    if (are_alike(&plain, &where->layout)) {
        build->compiler->buffer[value] = where->buffer;
        return MYR_OK;
    }
    myr_status status = myr_compiler_buffer(build->compiler, value, &buffer);
    return status == MYR_OK ? myr_onednn_copy(build, value, &plain, 1, buffer) : status;
}

/* The value's layout in its own dimensions, if it has one without gaps. */
static bool shape_layout(const myr_onednn_builder *build, int value, const dnnl_memory_desc_t *from,
                         dnnl_memory_desc_t *layout)
{
    const myr_shape *shape = &value_of(build, value)->shape;
    myr_parts parts;
    *layout = *from;
    if (!build->places[value].is_view)
        return true;
    return myr_parts_read(from, &parts) && myr_parts_are_dense(&parts) &&
           myr_parts_shape(&parts, shape->rank, shape->dims, from->data_type, layout);
}

/* A value of another type, or one without a layout in its own dimensions, once more in the network's floats. */
static bool convert(myr_onednn_builder *build, int value)
{
    myr_onednn_place *where = &build->places[value];
    if (where->floats >= 0)
        return true;
    if (!shape_layout(build, value, &where->layout, &where->floats_layout) &&
        !myr_onednn_plain_layout(&value_of(build, value)->shape, &where->floats_layout))
        return false;
    where->floats_layout.data_type = build->type;
    return myr_program_add_buffer(build->compiler->program, dnnl_memory_desc_get_size(&where->floats_layout),
                                  &where->floats) == MYR_OK &&
           myr_onednn_copy(build, value, &where->floats_layout, 1, where->floats) == MYR_OK;
}

bool myr_onednn_bring_floats(myr_onednn_builder *build, int value, int *buffer, dnnl_memory_desc_t *layout)
{
    const myr_onednn_place *where = &build->places[value];
    if (where->buffer < 0) {
        *buffer = build->compiler->buffer[value];
        return *buffer >= 0 && value_of(build, value)->type == MYR_TYPE_F32 &&
               myr_onednn_plain_layout(&value_of(build, value)->shape, layout);
    }
    *buffer = where->buffer;
    if (where->layout.data_type == build->type && shape_layout(build, value, &where->layout, layout))
        return true;
    if (!convert(build, value))
        return false;
    *buffer = where->floats;
    *layout = where->floats_layout;
    return true;
}

myr_status myr_onednn_copy(myr_onednn_builder *build, int value, const dnnl_memory_desc_t *wanted, float scale,
                           int buffer)
{
    dnnl_memory_desc_t layout;
    float stored;
    int from;
    myr_status status = find_stored(build, value, &from, &layout, &stored);
    return status == MYR_OK ? add_copy(build, value, from, &layout, buffer, wanted, stored / scale) : status;
}

myr_status myr_onednn_bring(myr_onednn_builder *build, int value, const dnnl_memory_desc_t *wanted, float scale,
                            int *buffer)
{
    dnnl_memory_desc_t layout;
    float stored;
    myr_status status = find_stored(build, value, buffer, &layout, &stored);
    if (status != MYR_OK || (are_alike(&layout, wanted) && stored == scale))
        return status;
    status = myr_program_add_buffer(build->compiler->program, dnnl_memory_desc_get_size(wanted), buffer);
    return status == MYR_OK ? myr_onednn_copy(build, value, wanted, scale, *buffer) : status;
}

/* ---- Rows in any order ---- */

/* The rows' part of a layout whose rows have no gaps, strides counted in rows. */
static bool find_rows(const dnnl_memory_desc_t *layout, int64_t n_rows, int64_t length, myr_parts *order)
{
    const int64_t dims[2] = {n_rows, length};
    myr_parts parts;
    int ends[2];
    if (!myr_parts_read(layout, &parts) || !myr_parts_are_dense(&parts) || !myr_parts_group(&parts, 2, dims, ends))
        return false;
    int64_t stride = 1;
    for (int i = parts.n - 1; i >= ends[0]; stride *= parts.size[i--])
        if (parts.stride[i] != stride)
            return false;
    parts.n = ends[0];
    for (int i = 0; i < parts.n; i++)
        parts.stride[i] /= length;
    *order = parts;
    return true;
}

myr_status myr_onednn_bring_rows(myr_onednn_builder *build, int value, int64_t length, int *buffer, myr_parts *order)
{
    int64_t dims[2] = {(int64_t)myr_shape_count(&value_of(build, value)->shape) / length, length};
    dnnl_memory_desc_t layout;
    float scale;
    if (find_stored(build, value, buffer, &layout, &scale) == MYR_OK && layout.data_type == build->type &&
        find_rows(&layout, dims[0], length, order))
        return MYR_OK;
    if (myr_onednn_bring_floats(build, value, buffer, &layout) && layout.data_type == build->type &&
        find_rows(&layout, dims[0], length, order))
        return MYR_OK;
    if (!myr_onednn_set_layout(&layout, build->type, 2, dims, dnnl_ab) || !find_rows(&layout, dims[0], length, order))
        return myr_fail(MYR_ERR_INTERNAL, "'%s': no rows", value_of(build, value)->name);
    return myr_onednn_bring(build, value, &layout, 1, buffer);
}

myr_status myr_onednn_settle(myr_onednn_builder *build, int value, const dnnl_memory_desc_t *layout, int *buffer)
{
    myr_status status = myr_program_add_buffer(build->compiler->program, dnnl_memory_desc_get_size(layout), buffer);
    build->places[value] = (myr_onednn_place){.buffer = *buffer, .layout = *layout, .floats = -1};
    return status;
}

myr_status myr_onednn_settle_rows(myr_onednn_builder *build, int value, const myr_parts *order, int64_t length,
                                  dnnl_data_type_t type, int *buffer)
{
    const myr_shape *shape = &value_of(build, value)->shape;
    myr_parts parts = *order;
    for (int i = 0; i < parts.n; i++)
        parts.stride[i] *= length;
    if (length > 1) {
        if (parts.n == DNNL_MAX_NDIMS)
            return myr_fail(MYR_ERR_INTERNAL, "'%s': too many parts", value_of(build, value)->name);
        parts.size[parts.n] = length;
        parts.stride[parts.n++] = 1;
    }
    myr_status status =
        myr_program_add_buffer(build->compiler->program, myr_shape_count(shape) * dnnl_data_type_size(type), buffer);
    return status == MYR_OK ? myr_onednn_place_view(build, value, *buffer, &parts, type) : status;
}

/* ---- Views ---- */

bool myr_onednn_parts_of(const myr_onednn_builder *build, int value, int *buffer, myr_parts *parts,
                         dnnl_data_type_t *type)
{
    const myr_onednn_place *where = &build->places[value];
    const myr_value *known = value_of(build, value);
    *buffer = where->buffer >= 0 ? where->buffer : build->compiler->buffer[value];
    *type = where->buffer >= 0 ? where->layout.data_type : dnnl_f32;
    if (*buffer < 0 || known->type != MYR_TYPE_F32 || (where->buffer >= 0 && where->scale > 0))
        return false;
    return where->buffer >= 0 ? myr_parts_read(&where->layout, parts) : myr_parts_of_shape(&known->shape, parts);
}

myr_status myr_onednn_place_view(myr_onednn_builder *build, int value, int buffer, const myr_parts *parts,
                                 dnnl_data_type_t type)
{
    const myr_shape *shape = &value_of(build, value)->shape;
    myr_onednn_place place = {.buffer = buffer, .floats = -1};
    /* Without gaps and in its own dimensions it is a layout as any other. */
    place.is_view =
        !myr_parts_are_dense(parts) || !myr_parts_shape(parts, shape->rank, shape->dims, type, &place.layout);
    if (place.is_view && !myr_parts_write(parts, type, &place.layout))
        return myr_fail(MYR_ERR_INTERNAL, "'%s': no layout for a view", value_of(build, value)->name);
    build->places[value] = place;
    return MYR_OK;
}
