/*
 * A matrix in somebody's HDF5 file, read some rows at a time, so that memory does not grow with the file.
 */
#ifndef MYR_STORE_HDF5_ROWS_H
#define MYR_STORE_HDF5_ROWS_H

#include "myriops/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct myr_hdf5_rows {
    size_t n, dim;
    bool is_half;  /* floats of 16 bits */
    char *dataset; /* [owned] its name */
} myr_hdf5_rows;

/*
 * myr_hdf5_rows_look - find the matrix and its shape.
 *
 *  dataset  NULL = "train", "embedding", or the only matrix of numbers at the root
 *  rows     [out] release with myr_hdf5_rows_clear
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND | MYR_ERR_FORMAT | MYR_ERR_LIMIT (says it is larger than the file can hold) |
 *           MYR_ERR_NOMEM
 */
myr_status myr_hdf5_rows_look(const char *path, const char *dataset, myr_hdf5_rows *rows);
/* Rows [first, first + n) as f32 into (n, dim); what does not fit becomes infinite. n >= 1, within what look found. */
myr_status myr_hdf5_rows_read(const char *path, const myr_hdf5_rows *rows, size_t first, size_t n, float *out);
void myr_hdf5_rows_clear(myr_hdf5_rows *rows);

#endif
