/*
 * A rank's desk in a round: queries come in from all coordinators, each with its visits to shards that this rank hosts,
 * and a row of hits goes back for each.
 *
 * What comes in is sorted by shard, so that a shard's queries are searched together by all threads; a query's hits in
 * several shards are merged by (distance, id).
 */
#ifndef MYR_DIST_DESK_H
#define MYR_DIST_DESK_H

#include "dist/cluster.h"

/* A query's visit to a shard. Those of a query follow each other. */
typedef struct myr_visit {
    uint32_t query; /* among the queries sent from a rank to another */
    uint32_t shard;
} myr_visit;

typedef struct myr_desk {
    myr_cluster *cluster;              /* [borrowed] */
    const myr_search_options *options; /* [borrowed] */
    size_t dim, n_ranks;
    int (*counts)[2];           /* (n_ranks) queries and visits that each rank sends */
    size_t n_queries, n_visits; /* of all */
    myr_buffer visits;          /* (n_visits) by rank */
    myr_buffer vectors;         /* (n_queries, dim) f32 by rank */
    myr_buffer replies;         /* (n_queries, k) hits */
    myr_buffer order;           /* (n_visits) size_t places of visits, by shard */
    myr_buffer groups;
    myr_buffer found;      /* (n_visits, k) hits, by place */
    float *group_vectors;  /* (n_threads, group, dim) */
    myr_hit *group_hits;   /* (n_threads, group, k) */
    myr_hnsw_stats *stats; /* (n_threads) of all rounds */
} myr_desk;

myr_status myr_desk_init(myr_cluster *cluster, const myr_search_options *options, myr_desk *desk);
void myr_desk_fini(myr_desk *desk);
/* Room for what counts tell. Local. */
myr_status myr_desk_expect(myr_desk *desk);
/* Fills replies by visits and vectors. Local. MYR_ERR_STOPPED after a signal. */
myr_status myr_desk_serve(myr_desk *desk);

/* Room for n bytes, whose old contents do not matter. */
bool myr_reserve(myr_buffer *buffer, size_t n_bytes);

#endif
