/*
 * Near duplicates: groups of items that are linked by pairs within a distance, and which of each to keep.
 */
#ifndef MYR_DIST_DEDUP_H
#define MYR_DIST_DEDUP_H

#include "dist/cluster.h"

typedef struct myr_dedup_options {
    float threshold;  /* distance up to which two items are near duplicates, as the metric has it; under cosine at least
                         1e-6, since equal vectors may be that far apart by rounding */
    bool exact;       /* every vector of the shards that can hold a near one is looked at */
    size_t ef;        /* else as myr_hnsw_search_range has it */
    int64_t n_sample; /* items, about, for which what walks found is compared with what there is */
    bool progress;
} myr_dedup_options;

/* An item of a group. Texts are borrowed for the call. */
typedef struct myr_dedup_row {
    int64_t group; /* from 1, the largest group first */
    int64_t size;  /* items of the group */
    int64_t id;
    bool keep;      /* the one to keep: the least id, which was given first. It comes first in its group */
    float distance; /* to the one kept; may be above the threshold, where others lie between */
    int32_t label;
    const char *key, *source;
} myr_dedup_row;

typedef myr_status (*myr_dedup_take)(void *context, const myr_dedup_row *row);

typedef struct myr_dedup_report {
    int64_t n_items, n_groups, n_dropped;
    int64_t n_copies; /* of those dropped, items whose vector another of their shard has (of one of their shards) */
    int64_t largest;  /* items of the largest group */
    double probes_per_query;
    int64_t n_sampled_pairs, n_sampled_found; /* pairs within the threshold of sampled items; those found by walks */
    double search_s, wall_s;
} myr_dedup_report;

/*
 * myr_dedup - find all pairs within a threshold, and their connected components.
 *
 * Collective. take is called on the root, for each item that has a near duplicate.
 *
 * Every item is asked with in every shard that can hold one as near (myr_router_reach): none is left out that may have
 * some. In a shard, walks find nearly all of what is within the distance (n_sampled_found of n_sampled_pairs tells), or
 * `exact` all. Items with the same vector are linked one to the next, so that a million of them make no more than a
 * million links. Groups are the same for any number of ranks and threads.
 *
 *  report  [out]  on the root
 *
 * Memory:   of a rank, beside its shards, some 30 bytes for each item that it finds a near duplicate of; of the root,
 *           for each that has one at all.
 * Returns:  MYR_OK | MYR_ERR_UNSUPPORTED (inner product: it is no distance) | MYR_ERR_ARG | MYR_ERR_STOPPED |
 *           MYR_ERR_NOMEM | what take returns
 */
myr_status myr_dedup(myr_cluster *cluster, const myr_dedup_options *options, myr_dedup_take take, void *context,
                     myr_dedup_report *report);

#endif
