/*
 * Shapes and tensors in host memory: weights, folded constants, and what the
 * reference operators read and write. Row-major, 64-byte aligned.
 */
#ifndef MYR_NN_TENSOR_H
#define MYR_NN_TENSOR_H

#include "myriops/model.h"

#include <stdbool.h>

/* Element types a graph computes with. Files may hold others, which are widened to these: all floats to the first,
 * truth values and whole numbers to the second. Cast narrows as ONNX has it; sums and products do not wrap at a
 * narrower width.
 */
typedef enum myr_type { MYR_TYPE_F32, MYR_TYPE_I64 } myr_type;

typedef struct myr_shape {
    int rank;
    int64_t dims[MYR_TENSOR_MAX_RANK];
} myr_shape;

typedef struct myr_tensor {
    myr_type type;
    myr_shape shape;
    void *data; /* NULL while only the shape is known */
} myr_tensor;

/* Elements of a shape that myr_shape_is_sane accepted. */
size_t myr_shape_count(const myr_shape *shape);
/* No negative dimension, and not more than 2^36 elements. */
bool myr_shape_is_sane(const myr_shape *shape);
bool myr_shape_equal(const myr_shape *a, const myr_shape *b);
/* "[8, 3, 224, 224]" into text, at most size bytes. Returns text. */
const char *myr_shape_text(const myr_shape *shape, char *text, size_t size);

/* Stretch *into to what it and `other` become together; false where they do not fit. */
bool myr_shape_broadcast(const myr_shape *other, myr_shape *into);
/* The shape as (outer, length, inner) around the dimensions [first, last). */
void myr_shape_split(const myr_shape *shape, int first, int last, size_t *outer, size_t *length, size_t *inner);
/* The next place in row-major order; back to the first one after the last. */
void myr_shape_next(const myr_shape *shape, int64_t *place);

size_t myr_type_bytes(myr_type type);
size_t myr_tensor_bytes(const myr_tensor *tensor);

/* myr_tensor_create - zeros. [owned by caller] MYR_ERR_NOMEM | MYR_ERR_LIMIT. */
myr_status myr_tensor_create(myr_type type, const myr_shape *shape, myr_tensor **tensor);
/*
 * myr_tensor_share - one holder more of a tensor made by myr_tensor_create; each holder frees it once.
 *
 * Returns:  the same tensor, [owned by caller], never NULL; from now on nobody may write to it.
 * Threads:  sharing and freeing are safe from any thread, as long as the caller's own hold lasts.
 */
const myr_tensor *myr_tensor_share(const myr_tensor *tensor);
/* Gives up one hold; the last one releases the memory. NULL is ignored. */
void myr_tensor_free(const myr_tensor *tensor);
/* Bytes of all tensors that somebody holds now: for tests, and for looking at who holds weights. */
size_t myr_tensor_live_bytes(void);

/* Element i as a real or a whole number, whatever its type; floats are cut towards 0, and held within 64 bits. */
double myr_tensor_real(const myr_tensor *tensor, size_t i);
int64_t myr_tensor_number(const myr_tensor *tensor, size_t i);
void myr_tensor_put_real(myr_tensor *tensor, size_t i, double value);

/* An axis in [-rank, rank) as one in [0, rank); false outside. */
bool myr_axis_resolve(int64_t axis, int rank, int *resolved);

#endif
