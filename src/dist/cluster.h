/*
 * A cluster: the ranks that host an index's shards, and questions put to it.
 *
 * Which ranks host which shards is told in hosts.h; how they are searched, in search.c.
 */
#ifndef MYR_DIST_CLUSTER_H
#define MYR_DIST_CLUSTER_H

#include "base/topk.h"
#include "dist/comm.h"
#include "dist/hosts.h"
#include "dist/index_manifest.h"
#include "dist/shard.h"
#include "myriops/partition.h"

typedef struct myr_cluster {
    const myr_comm *comm; /* [borrowed] */
    myr_index_manifest manifest;
    myr_router *router;
    myr_hosts hosts;
    myr_shard *shards;                     /* (n_shards), those of this rank open */
    myr_pool *pool;                        /* this rank's threads */
    uint64_t *visits;                      /* (n_shards) that this rank's queries made */
    struct myr_hnsw_searcher ***searchers; /* (n_shards)(n_threads), made on first use */
} myr_cluster;

/*
 * myr_cluster_open - map the shards of an index on their ranks.
 *
 * Collective. Every rank opens the router and the shards that it hosts, and checks their checksums.
 *
 *  traffic  file of visits to shards (traffic.h), by which those are chosen that several ranks host; NULL = none
 */
myr_status myr_cluster_open(const myr_comm *comm, const char *folder, int n_threads, const char *traffic,
                            myr_cluster *cluster);
/*
 * myr_cluster_check_memory - whether there is memory to search the shards, before it is taken.
 *
 * Collective. Shards are mapped files, which ranks of a host share and the system reads again where it must: they count
 * against rank_bytes, but where the host's memory is the limit they may be larger, and rank 0 warns of it.
 *
 *  rank_bytes  bytes that a rank may take; 0 = what the host has
 *
 * Returns:  MYR_OK | MYR_ERR_NOMEM, the same on every rank.
 */
myr_status myr_cluster_check_memory(const myr_cluster *cluster, double rank_bytes);
void myr_cluster_close(myr_cluster *cluster);

typedef struct myr_search_options {
    size_t k, ef;   /* 1 <= k <= ef */
    size_t n_probe; /* shards a query visits; 0 = all, */
    bool routed;    /* or while more than `left` of its neighbours is expected in the others */
    float left;
    bool exact;   /* scan all vectors instead of the graph */
    size_t batch; /* queries that are under way together, of one rank after the other; 0 = hundreds of every rank */
} myr_search_options;

/* Seconds of a rank. */
typedef struct myr_search_phases {
    double route_s;    /* choosing shards, making parcels */
    double exchange_s; /* messages */
    double search_s;
    double merge_s;
    double wait_s; /* without anything to do: for answers, and for the slowest rank in the end */
} myr_search_phases;

typedef struct myr_search_report {
    double probes_per_query;
    double hops_per_query;      /* nodes whose links were followed, in all shards; 0 where search is exact */
    double distances_per_query; /* code distances measured, likewise */
    double wall_s;
    size_t n_rounds;                 /* batches */
    myr_search_phases phases;        /* means over the ranks */
    double imbalance;                /* search_s of the slowest rank to the mean */
    double sent_bytes;               /* by all ranks to others */
    double round_p50_s, round_p99_s; /* from a batch's first parcel to its last answer: half of the batches took no
                                        longer, and 99 in 100 */
} myr_search_report;

/*
 * myr_cluster_search - k nearest items for a batch of queries.
 *
 * Collective. n_queries and options must match on all ranks.
 *
 *  queries  [in, root]   (n_queries, dim) f32 row-major, of length 1 where the metric is cosine
 *  hits     [out, root]  (n_queries, k) ascending (distance, id); short rows end in id -1
 *  report   [out, root]
 *
 * Units:    distance as the metric has it (hit.h)
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM | MYR_ERR_STOPPED | MYR_ERR_UNSUPPORTED (some shards only, under inner
 *           product), the same on every rank.
 *           Hits are the same for any number of ranks and threads and any batch, where all shards are visited.
 */
myr_status myr_cluster_search(myr_cluster *cluster, const float *queries, size_t n_queries,
                              const myr_search_options *options, myr_hit *hits, myr_search_report *report);

/*
 * myr_cluster_search_own - the same, where every rank has queries of its own.
 *
 * Collective. Each rank coordinates its own queries, whose number is its own affair; options match on all ranks.
 *
 *  queries  [in]         (n_queries, dim)
 *  hits     [out]        (n_queries, k)
 *  report   [out, root]  of all ranks
 */
myr_status myr_cluster_search_own(myr_cluster *cluster, const float *queries, size_t n_queries,
                                  const myr_search_options *options, myr_hit *hits, myr_search_report *report);

/* This rank's slice of n rows that all ranks share, contiguous, by rank. Local. */
void myr_cluster_slice(const myr_comm *comm, size_t n, size_t *first, size_t *n_own);
/* Hits of the slices, (n_own, k), to the root: (n, k). Collective, in pieces. */
void myr_cluster_gather(const myr_comm *comm, const myr_hit *mine, size_t n, size_t k, myr_hit *hits);

/* The least id of the index from `from` on; INT64_MAX where there is none. Collective; shards must have been verified
 * by the ranks that keep them. */
int64_t myr_cluster_next_id(const myr_cluster *cluster, int64_t from);

/* Visits to the shards, of all ranks and searches: (n_shards) on the root. Collective. */
void myr_cluster_visits(const myr_cluster *cluster, uint64_t *visits);

/* What is known of an item. Texts are borrowed from `texts`. */
typedef struct myr_item_facts {
    const char *key, *source;
    int32_t label;
} myr_item_facts;

/*
 * myr_cluster_describe - key, source and label of items.
 *
 * Collective. n must match on all ranks.
 *
 *  ids    [in, root]   (n); -1 and unknown ids give key NULL
 *  texts  [out, root]  holds the texts; release with myr_buffer_free
 *  facts  [out, root]  (n)
 */
myr_status myr_cluster_describe(myr_cluster *cluster, const int64_t *ids, size_t n, myr_buffer *texts,
                                myr_item_facts *facts);

/*
 * myr_cluster_sample - vectors of items spread evenly over the shards, to be used as queries.
 *
 * Collective. By id, each once. Which items are taken does not depend on the number of ranks.
 *
 *  vectors  [out, root]  (n, dim) f32, ids (n); [owned by caller] release with free
 */
myr_status myr_cluster_sample(myr_cluster *cluster, size_t n_wanted, float **vectors, int64_t **ids, size_t *n);

#endif
