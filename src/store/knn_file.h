/*
 * A graph of nearest neighbours as an HDF5 file, written in pieces, whole or not at all.
 *
 *   /ids         [n] i64     ascending
 *   /neighbours  [n, k] i64  ids, nearest first; -1 where there are fewer
 *   /distances   [n, k] f32  infinite there
 *   /key         [n] vlen string, where items have keys
 *   attributes of /: schema_version i64 = 1, k i64, metric, model, contract, index_digest (strings; "" = none)
 */
#ifndef MYR_STORE_KNN_FILE_H
#define MYR_STORE_KNN_FILE_H

#include "myriops/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct myr_knn_file myr_knn_file;

typedef struct myr_knn_facts {
    size_t n, k;
    bool has_keys;
    const char *metric, *model, *contract, *index_digest; /* NULL = none */
} myr_knn_facts;

/* Local. Close with commit or abandon, whichever happens. */
myr_status myr_knn_file_create(const char *path, const myr_knn_facts *facts, myr_knn_file **file);
/* The next n rows. keys: (n), or NULL where the file has none. MYR_ERR_ARG beyond the last. */
myr_status myr_knn_file_append(myr_knn_file *file, size_t n, const int64_t *ids, const int64_t *neighbours,
                               const float *distances, const char *const *keys);
/* fsync, rename into place; freed also on failure. MYR_ERR_INTERNAL where rows are missing. */
myr_status myr_knn_file_commit(myr_knn_file *file);
void myr_knn_file_abandon(myr_knn_file *file); /* NULL is fine */

#endif
