/*
 * Where the elements of a value lie, as a list of parts: (size, stride) pairs whose mixed-radix number, in row-major
 * order, is the place of an element.
 *
 * A reshape changes only where the parts are cut into dimensions, so the same list describes the value in any shape;
 * a transposed stack of matrices that is reshaped has one, where a stride for each dimension would not do.
 */
#ifndef MYR_NN_ONEDNN_PARTS_H
#define MYR_NN_ONEDNN_PARTS_H

#include "nn/tensor.h"

#include <oneapi/dnnl/dnnl.h>

typedef struct myr_parts {
    int n;                                                /* 0 = one element */
    int64_t size[DNNL_MAX_NDIMS], stride[DNNL_MAX_NDIMS]; /* (n) sizes > 1; strides in elements */
    int64_t offset;                                       /* of the first element */
} myr_parts;

/* The parts of a layout without blocks; false for others, and for those with gaps filled up or no elements. */
bool myr_parts_read(const dnnl_memory_desc_t *layout, myr_parts *parts);
/* Those of a dense row-major shape. */
bool myr_parts_of_shape(const myr_shape *shape, myr_parts *parts);
/* A layout with a dimension for each part, at least one. */
bool myr_parts_write(const myr_parts *parts, dnnl_data_type_t type, dnnl_memory_desc_t *layout);
/* A layout in these dimensions; false where one of them takes more than one stride. */
bool myr_parts_shape(const myr_parts *parts, int rank, const int64_t *dims, dnnl_data_type_t type,
                     dnnl_memory_desc_t *layout);
/* Cuts parts until each dimension is a run of whole ones: dimension i ends before part ends[i]. False where sizes do
 * not divide. */
bool myr_parts_group(myr_parts *parts, int rank, const int64_t *dims, int *ends);
/* Cuts two lists for as many elements until their sizes are the same. */
bool myr_parts_align(myr_parts *a, myr_parts *b);
/* Whether the elements lie without gaps, in whatever order, from offset 0. */
bool myr_parts_are_dense(const myr_parts *parts);
/* Joins neighbours that one stride describes. */
void myr_parts_join(myr_parts *parts);

#endif
