/*
 * Files of vectors whose size is known before their rows: made with their headers first, so that several processes can
 * write rows to their places.
 */
#ifndef MYR_STORE_LAYOUT_H
#define MYR_STORE_LAYOUT_H

#include "myriops/store.h"

typedef struct myr_layout {
    uint64_t rows; /* byte at which the first row lies; rows follow each other without gaps */
} myr_layout;

/* NumPy's .npy, (n, dim) f32 or f16. path is made or replaced. */
myr_status myr_layout_npy(const char *path, uint64_t n, size_t dim, myr_storage storage, myr_layout *layout);
/* big-ann's .fbin. MYR_ERR_LIMIT for 2^32 rows. */
myr_status myr_layout_fbin(const char *path, uint64_t n, size_t dim, myr_layout *layout);

typedef struct myr_ann_layout {
    uint64_t n_train, n_test, dim, k;
    uint64_t train, test, neighbors, distances; /* bytes at which they lie: f32, f32, i32, f32 */
} myr_ann_layout;

/*
 * myr_layout_ann - ann-benchmarks' HDF5.
 *
 *  distance  "euclidean" or "angular"
 *  layout    [in] the counts, n_train and n_test at least 1 [out] the places
 */
myr_status myr_layout_ann(const char *path, const char *distance, myr_ann_layout *layout);

/* All bytes to a place in an open file. */
myr_status myr_layout_put(int file, const char *path, const void *bytes, size_t n_bytes, uint64_t at);

#endif
