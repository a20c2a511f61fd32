/*
 * Changing an index that is there: items added, replaced, taken out.
 */
#ifndef MYR_DIST_CHANGE_H
#define MYR_DIST_CHANGE_H

#include "dist/comm.h"
#include "dist/index_manifest.h"

typedef struct myr_change_options {
    const char *folder;          /* of the index */
    const char *const *operands; /* to add: embedding folders, or one vector file; readable by every rank */
    size_t n_operands;           /* 0 = nothing */
    const char *removed;         /* file of keys to take out, one a line, readable by rank 0; NULL = none */
    int n_threads;
    bool progress;
} myr_change_options;

typedef struct myr_change_report {
    int64_t n_items; /* now */
    int64_t n_rows;  /* of all shards: items, and copies of them */
    int64_t n_added, n_replaced, n_removed;
    int64_t n_unknown;          /* keys to take out that are not there */
    int64_t largest_shard;      /* rows */
    size_t n_shards, n_changed; /* shards */
    char digest[MYR_SHA256_TEXT];
    double wall_s;
} myr_change_report;

/*
 * myr_change - take items out of an index and add others.
 *
 * Collective over comm. options must match on all ranks. Items to take out go first. An added item whose key the index
 * holds takes the place of the older one; bare vectors have no keys of their own: they go behind those that are there,
 * and their numbers are their keys. New items go where the router sends them, which was trained on the first ones, into
 * two shards where they overlap: the shards do not stay as even as they were built. The router's counts follow, and its
 * curve is measured anew with items that stay and come; where none is left it stays as it was.
 *
 *  report  [out] the same on every rank
 *
 * The outcome is the same for any number of ranks and threads. Shards without a change keep their files. The index as
 * it was stays in force until the new one is whole.
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND (no index, no list) | MYR_ERR_CONTRACT (inputs of another contract, metric or
 *           dimension) | what the parts return
 */
myr_status myr_change(const myr_comm *comm, const myr_change_options *options, myr_change_report *report);

#endif
