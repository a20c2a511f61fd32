/*
 * The index job: vectors partitioned into S shards, one HNSW graph a shard.
 */
#ifndef MYR_DIST_BUILD_H
#define MYR_DIST_BUILD_H

#include "dist/comm.h"
#include "dist/index_manifest.h"

typedef struct myr_build_options {
    const char *const *operands; /* embedding folders, or one vector file; readable by every rank */
    size_t n_operands;
    const char *folder; /* output */
    const char *metric; /* for a vector file: "l2" | "cosine" | "ip" */
    bool hash;          /* partition by id instead of k-means */
    double overlap;     /* share of the items that lie in a second shard, too; 0 to 1, not with hash */
    myr_quantize quantize;
    int n_axes; /* of codes, as of myr_hnsw_options */
    size_t n_shards;
    double rank_bytes; /* memory that a rank may use; 0 = what its host has */
    int M, ef_construction;
    int64_t seed;
    int n_threads;
    bool progress;
} myr_build_options;

typedef struct myr_build_report {
    int64_t n_items;
    int64_t n_rows; /* of all shards: items, and copies of them */
    size_t n_shards;
    int64_t largest_shard; /* rows */
    size_t n_kept;         /* shards that a run before this one had finished */
    char digest[MYR_SHA256_TEXT];
    double partition_s, exchange_s, graph_s, write_s, wall_s; /* of the slowest rank */
    double imbalance;  /* seconds in which the slowest rank built and wrote to the mean rank's */
    double sent_bytes; /* of the sample and of rows, by all ranks to others */
} myr_build_report;

/* The longest sample that rank 0 trains the router with: 256 MiB; tests take less. Alike on all ranks. */
extern size_t myr_sample_bytes;

/*
 * myr_build - build an index.
 *
 * Collective over comm. options must match on all ranks.
 *
 *  report  [out] the same on every rank
 *
 * Shard s is built by rank s modulo the number of ranks. The index is the same for any number of
 * ranks and threads. An index already in the folder stays in force until the new one is whole. Shards that an
 * unfinished run of the same command left are kept. A rank holds its shards' rows and one of their graphs; beside that
 * at most 1 GiB: the sample, twice, then the rounds of the exchange (tests/mpi/test_memory.c).
 *
 * Returns:  MYR_OK | MYR_ERR_CONTRACT (inputs of different contracts) | MYR_ERR_NOMEM (there is not memory enough, told
 *           before it is taken) | what the parts return
 */
myr_status myr_build(const myr_comm *comm, const myr_build_options *options, myr_build_report *report);

#endif
