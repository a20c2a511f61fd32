/*
 * Vectors made elsewhere: files of them one behind the other, as one run of rows.
 */
#ifndef MYR_DIST_OUTSIDE_H
#define MYR_DIST_OUTSIDE_H

#include "base/checksum.h"
#include "myriops/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct myr_outside {
    size_t n_files;
    struct myr_outside_file *files; /* [owned] */
    int64_t n;
    int dim;
    bool is_half;                 /* every value is of 16 bits */
    char digest[MYR_SHA256_TEXT]; /* shapes, types and sizes of the files in order, and samples of their bytes */
} myr_outside;

/*
 * myr_outside_open - Local.
 *
 *  operands  vector files (vectors.h), or folders: their .npy files, or those of img_emb/ in them (clip-retrieval), by
 *            the number in their names
 *  dataset   of HDF5 files; NULL = found by its name or shape
 *  outside   [out] release with myr_outside_close
 *
 * Nothing is read but headers and samples: files are mapped, those of HDF5 read by blocks.
 *
 * Returns:  MYR_OK | MYR_ERR_CONTRACT (dimensions differ) | what the readers return
 */
myr_status myr_outside_open(const char *const *operands, size_t n_operands, const char *dataset, myr_outside *outside);
void myr_outside_close(myr_outside *outside);
/* Rows [first, first + n) into (n, dim) f32, and into file (n) the path [borrowed] of each row's file. Local. */
myr_status myr_outside_read(const myr_outside *outside, int64_t first, int64_t n, float *rows, const char **file);

#endif
