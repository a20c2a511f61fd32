/*
 * A rank's desk: queries come in, each with its visits to shards that this rank hosts, and a row of hits goes back for
 * each.
 *
 * What lies on the desk is sorted by shard, whoever sent it, so that a shard's queries are searched together by all
 * threads; a query's hits in several shards are merged by (distance, id).
 */
#ifndef MYR_DIST_DESK_H
#define MYR_DIST_DESK_H

#include "dist/cluster.h"

/* A query's visit to a shard. Those of a query follow each other. */
typedef struct myr_visit {
    uint32_t query; /* among those of its job */
    uint32_t shard;
} myr_visit;

/* Queries of one coordinator. All is [borrowed]. */
typedef struct myr_job {
    const myr_visit *visits;
    size_t n_visits, n_queries;
    const float *vectors;   /* (n_queries, dim), or more, where */
    const uint32_t *places; /* (n_queries) tells the row of each; NULL = in order */
    myr_hit *rows;          /* [out] (n_queries, k) */
} myr_job;

typedef struct myr_desk {
    myr_cluster *cluster;              /* [borrowed] */
    const myr_search_options *options; /* [borrowed] */
    size_t dim;
    void (*between)(void *context); /* called by the caller's thread between searches, so that messages move on */
    void *context;
    const myr_job *jobs; /* of this call */
    size_t n_jobs, n_visits;
    myr_buffer next;       /* (n_shards + 1) size_t */
    myr_buffer order;      /* (n_visits) places of visits, by shard */
    myr_buffer first;      /* (n_jobs) size_t: visits of the jobs before */
    myr_buffer groups;     /* visits that are searched together */
    myr_buffer found;      /* (n_visits, k) hits, in the order of jobs and their visits */
    float *group_vectors;  /* (n_threads, group, dim) */
    myr_hit *group_hits;   /* (n_threads, group, k) */
    myr_hnsw_stats *stats; /* (n_threads) of all calls */
} myr_desk;

myr_status myr_desk_init(myr_cluster *cluster, const myr_search_options *options, myr_desk *desk);
void myr_desk_fini(myr_desk *desk);
/* Fills the rows of all jobs. Local. MYR_ERR_STOPPED after a signal. */
myr_status myr_desk_serve(myr_desk *desk, const myr_job *jobs, size_t n_jobs);

/* Room for n bytes, whose old contents do not matter. */
bool myr_reserve(myr_buffer *buffer, size_t n_bytes);

#endif
