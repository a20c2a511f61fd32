/*
 * index.json: what an index is, and the file of each shard. It is written last, so an
 * index whose manifest stands is whole.
 */
#ifndef MYR_DIST_INDEX_MANIFEST_H
#define MYR_DIST_INDEX_MANIFEST_H

#include "base/buffer.h"
#include "base/checksum.h"
#include "myriops/partition.h"

typedef struct myr_shard_entry {
    char file[64]; /* inside the index folder */
    char digest[MYR_SHA256_TEXT];
    int64_t n_items;   /* its rows */
    uint64_t checksum; /* XXH3 of the whole file */
} myr_shard_entry;

/* What walks measure, and what is kept beside that; as --quantize and index.json name it. */
typedef enum myr_quantize {
    MYR_QUANTIZE_SQ8,     /* codes of 8 bits; vectors as they are */
    MYR_QUANTIZE_SQ8_F16, /* the same; vectors rounded to f16 */
    MYR_QUANTIZE_NONE     /* the vectors */
} myr_quantize;

const char *myr_quantize_name(myr_quantize quantize);
bool myr_quantize_of(const char *name, myr_quantize *quantize); /* false where there is none of that name */

/* Recall@10 of the items' own vectors, each left out of its own answer and asked in the shard it lies in. */
typedef struct myr_index_curve {
    int64_t n_queries;
    size_t n_points; /* 0 = never measured */
    struct {
        size_t ef;
        double recall;
    } points[16]; /* ef ascending */
} myr_index_curve;

typedef struct myr_index_manifest {
    int64_t n_items;  /* each counted once */
    int64_t n_copies; /* rows of the shards beside these: items that lie in a second shard */
    double overlap;   /* the share of items that was to lie in two when it was built */
    int dim, M, ef_construction;
    int64_t seed;
    char *metric, *contract, *model, *partition; /* contract and model NULL for bare vectors */
    myr_quantize quantize;
    char router_file[64];
    uint64_t router_checksum;
    char digest[MYR_SHA256_TEXT]; /* over the shards' digests */
    char **classes;
    size_t n_classes, n_shards;
    myr_shard_entry *shards; /* [owned] (n_shards) */
    myr_index_curve curve;
    myr_route_curve route; /* of items as queries, each without itself; no points = never measured */
} myr_index_manifest;

/* myr_index_manifest_write - atomically to folder/index.json. */
myr_status myr_index_manifest_write(const char *folder, const myr_index_manifest *manifest);
/* myr_index_manifest_seal - the index's digest, over its shards'. */
void myr_index_manifest_seal(myr_index_manifest *manifest);
/* myr_index_manifest_sweep - removes the shards and routers in the folder that the manifest does not name. */
void myr_index_manifest_sweep(const char *folder, const myr_index_manifest *manifest);
/* myr_index_manifest_parse - from the file's text; every field is checked. path is for the error. */
myr_status myr_index_manifest_parse(const char *path, const char *text, size_t n_bytes, myr_index_manifest *manifest);
/* myr_index_manifest_read - parse folder/index.json. */
myr_status myr_index_manifest_read(const char *folder, myr_index_manifest *manifest);

/*
 * myr_index_ef_for - an ef for a recall, by the curve, for k neighbours.
 *
 * Reached is a recall whose 95 % interval lies above the wish. The curve is of items that the graph holds, which are
 * found sooner than what it has not seen: on SIFT, with half as many candidates. So twice as many are taken; where k is
 * greater than 10, as many times more again.
 *
 *  ef      [out]
 *  recall  [in, out] the wish; then what was measured at that ef
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND (no curve). Where the curve ends below the wish, its last point.
 */
myr_status myr_index_ef_for(const myr_index_manifest *manifest, size_t k, double *recall, size_t *ef);
/*
 * myr_index_left_for - what may be left of a query's neighbours when it stops to visit shards, for a recall.
 *
 *  left    [out]
 *  recall  [in, out] the wish; then what was measured, where it is less
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND (no curve). Where the curve ends below the wish, 0: all shards of any promise.
 */
myr_status myr_index_left_for(const myr_index_manifest *manifest, double *recall, float *left);
void myr_index_manifest_clear(myr_index_manifest *manifest);

#endif
