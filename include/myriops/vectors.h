/*
 * Interchange files of vectors and neighbours: what other programs write and read.
 *
 *   .fbin .u8bin .i8bin .ibin    big-ann-benchmarks: u32 n, u32 dim, then rows
 *   .fvecs .bvecs .ivecs         TEXMEX: for each row u32 dim, then the values
 *   .npy                         NumPy, C order, two dimensions
 *   .hdf5 .h5                    ann-benchmarks: datasets train, test, neighbors, distances
 */
#ifndef MYRIOPS_VECTORS_H
#define MYRIOPS_VECTORS_H

#include "myriops/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum myr_element { MYR_ELEMENT_F32, MYR_ELEMENT_F16, MYR_ELEMENT_F64, MYR_ELEMENT_U8, MYR_ELEMENT_I8, MYR_ELEMENT_I32 } myr_element;

/* A file of vectors, open. Members are for reading only. */
typedef struct myr_vectors {
    size_t n, dim;
    myr_element element;
    const uint8_t *rows; /* first value of row 0; rows are row_bytes apart, values little-endian and perhaps not aligned */
    size_t row_bytes;
    void *mapping; /* [owned] released by myr_vectors_clear */
    size_t mapping_bytes;
    void *memory; /* [owned] where the file cannot be mapped */
} myr_vectors;

/*
 * myr_vectors_read - open a file of vectors; its name's end tells the format.
 *
 * Local. Mapped where the format allows, so that nothing is read before it is used.
 *
 *  dataset  [in]   for HDF5: the dataset, NULL = "train"; ignored elsewhere
 *  vectors  [out]  release with myr_vectors_clear; zeros on error
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND | MYR_ERR_IO | MYR_ERR_FORMAT (size and header disagree; ragged rows)
 *           | MYR_ERR_UNSUPPORTED (element type, end of name) | MYR_ERR_LIMIT | MYR_ERR_NOMEM
 * Source:   big-ann-benchmarks README; corpus-texmex.irisa.fr; NumPy NEP 1; ann-benchmarks README.
 */
MYR_API myr_status myr_vectors_read(const char *path, const char *dataset, myr_vectors *vectors);
MYR_API void myr_vectors_clear(myr_vectors *vectors);

/*
 * myr_vectors_to_f32 - rows [first, first + n) as f32.
 *
 *  out  [out]  (n, dim)
 *
 * Returns:  MYR_OK | MYR_ERR_ARG (out of range)
 */
MYR_API myr_status myr_vectors_to_f32(const myr_vectors *vectors, size_t first, size_t n, float *out);

/*
 * myr_vectors_write - rows to .fbin, .u8bin, .i8bin, .fvecs, .bvecs or .npy (f32), whole or not at all.
 *
 *  rows  [in]  (n, dim) f32; integer formats round to nearest and refuse values out of range (MYR_ERR_ARG)
 */
MYR_API myr_status myr_vectors_write(const char *path, const float *rows, size_t n, size_t dim);

/* Exact neighbours, nearest first. */
typedef struct myr_truth {
    size_t n, k;
    int32_t *ids;     /* [owned] (n, k) */
    float *distances; /* [owned] (n, k), or NULL where the file has none; on the file's own scale */
} myr_truth;

/*
 * myr_truth_read - neighbours from .ivecs, .hdf5 (neighbors, distances), or big-ann's layout: u32 n, u32 k,
 * (n, k) u32 ids, then (n, k) f32 distances if the file is that long.
 *
 *  truth  [out]  release with myr_truth_clear
 */
MYR_API myr_status myr_truth_read(const char *path, myr_truth *truth);
MYR_API void myr_truth_clear(myr_truth *truth);

/*
 * myr_hits_write_hdf5 - answers as ann-benchmarks stores them: datasets "neighbors" (n, k) i32 where ids fit,
 * else i64, and "distances" (n, k) f32. Whole or not at all.
 *
 *  ids, distances  [in]  (n, k); -1 and infinity end a short row
 */
MYR_API myr_status myr_hits_write_hdf5(const char *path, size_t n, size_t k, const int64_t *ids, const float *distances);

#ifdef __cplusplus
}
#endif
#endif
