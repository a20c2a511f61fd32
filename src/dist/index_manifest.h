/*
 * index.json: what an index is, and the file of each shard. It is written last, so an
 * index whose manifest stands is whole.
 */
#ifndef MYR_DIST_INDEX_MANIFEST_H
#define MYR_DIST_INDEX_MANIFEST_H

#include "base/buffer.h"
#include "base/checksum.h"

typedef struct myr_shard_entry {
    char file[64]; /* inside the index folder */
    char digest[MYR_SHA256_TEXT];
    int64_t n_items;
    uint64_t checksum; /* XXH3 of the whole file */
} myr_shard_entry;

typedef struct myr_index_manifest {
    int64_t n_items;
    int dim, M, ef_construction;
    int64_t seed;
    char *metric, *contract, *model, *partition; /* contract and model NULL for bare vectors */
    char router_file[64];
    uint64_t router_checksum;
    char digest[MYR_SHA256_TEXT]; /* over the shards' digests */
    char **classes;
    size_t n_classes, n_shards;
    myr_shard_entry *shards; /* [owned] (n_shards) */
} myr_index_manifest;

/* myr_index_manifest_write - atomically to folder/index.json. */
myr_status myr_index_manifest_write(const char *folder, const myr_index_manifest *manifest);
/* myr_index_manifest_parse - from the file's text; every field is checked. path is for the error. */
myr_status myr_index_manifest_parse(const char *path, const char *text, size_t n_bytes, myr_index_manifest *manifest);
/* myr_index_manifest_read - parse folder/index.json. */
myr_status myr_index_manifest_read(const char *folder, myr_index_manifest *manifest);
void myr_index_manifest_clear(myr_index_manifest *manifest);

#endif
