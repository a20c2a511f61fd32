/*
 * A shard: the vectors, ids, keys, labels and sources gathered for it while an index is
 * built, and the same as a mapped file while it is served.
 */
#ifndef MYR_DIST_SHARD_H
#define MYR_DIST_SHARD_H

#include "base/pool.h"
#include "dist/source.h"
#include "myriops/hnsw.h"

/* Rows of one shard on their way into its graph. */
typedef struct myr_shard_rows {
    int64_t n, capacity;
    int dim;
    float *vectors; /* (capacity, dim) */
    int64_t *id;
    int32_t *label;
    char **key, **source;
} myr_shard_rows;

myr_status myr_shard_rows_create(myr_shard_rows *rows, int64_t capacity, int dim);
void myr_shard_rows_free(myr_shard_rows *rows);
/* Append one row; the texts are copied, vector may be NULL where dim is 0. MYR_ERR_INTERNAL when full. */
myr_status myr_shard_rows_add(myr_shard_rows *rows, const float *vector, int64_t id, int32_t label, const char *key,
                              const char *source);
/* Ascending id, in place, so that the order of arrival leaves no trace. */
myr_status myr_shard_rows_sort(myr_shard_rows *rows);

/* Write a graph and its rows' texts as one file, whole or not at all. */
myr_status myr_shard_write(const char *path, const myr_hnsw *graph, const myr_shard_rows *rows);

/* A shard being served. Rows ascend by id. */
typedef struct myr_shard {
    myr_sections *file;
    myr_hnsw *graph;
    int64_t n;
    const int64_t *id; /* (n), mapped */
    const int32_t *label;
    myr_text_table key, source;
    bool is_guarded;   /* a large file, of which only what is read was checked */
    uint64_t n_visits; /* while it is */
} myr_shard;

/* checksum: what index.json says of the file; NULL = nothing yet. A large file opens guarded: only the functions below
 * and searches of the graph are for it before it is verified. */
myr_status myr_shard_open(const char *path, const uint64_t *checksum, myr_shard *shard);
void myr_shard_close(myr_shard *shard);
/* Checks all of it, on all threads, unless that was done. */
myr_status myr_shard_verify(myr_shard *shard, myr_pool *pool);
/* Called before that many searches: verifies where that is cheaper than to check what each of them reads. */
myr_status myr_shard_visited(myr_shard *shard, uint64_t n_visits, myr_pool *pool);
/* *row of an id, or -1. MYR_ERR_FORMAT where the file is damaged. */
myr_status myr_shard_find(const myr_shard *shard, int64_t id, int64_t *row);
/* The first row whose id is not below; n where there is none. Of a verified shard. */
int64_t myr_shard_first_row(const myr_shard *shard, int64_t id);
/* What is known of a row's item; the texts are [borrowed] until close. */
myr_status myr_shard_item(const myr_shard *shard, int64_t row, int32_t *label, const char **key, const char **source);

#endif
