/*
 * What a corpus will take: time, memory and disk, before any of it is spent.
 */
#ifndef MYRIOPS_PLAN_H
#define MYRIOPS_PLAN_H

#include "myriops/status.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Seconds of one thread. What grows with the logarithm of a graph's size is given at two sizes. */
typedef struct myr_plan_rates {
    double picture_s;   /* from file to vector */
    double insert_s[2]; /* a vector into a graph of n_small, n_large */
    double search_s[2]; /* a query in a graph of these sizes */
    double n_small, n_large;
    double assign_s; /* a vector against one centroid */
} myr_plan_rates;

typedef struct myr_plan_request {
    double n_items; /* up to 1e15 */
    size_t dim;
    int M;
    size_t ranks, threads;        /* threads of a rank */
    size_t shards;                /* 0 = chosen */
    size_t code_bytes;            /* of what walks measure of a vector: its codes, or itself */
    double overlap;               /* share of the items that lie in a second shard, too: 0 to 1 */
    size_t kept_value_bytes;      /* of vectors kept beside the codes: 4, 2, or 0 where codes say all */
    size_t embedding_value_bytes; /* as embeddings are stored: 4 or 2 */
    double node_bytes;            /* of a vector in its graph; 0 = reckoned */
    double rank_bytes;            /* memory that a rank may use; 0 = any */
    myr_plan_rates rates;
} myr_plan_request;

typedef struct myr_plan {
    size_t shards;
    double shard_items;                                                 /* rows of a shard, copies among them */
    double embed_s, partition_s, exchange_s, graph_s, write_s, index_s; /* index_s: the last four together */
    double embeddings_bytes, index_bytes;
    double build_rank_bytes, serve_rank_bytes; /* memory of the fullest rank */
    double visits;                             /* shards a query, at --probe auto */
    double routed_qps, scattered_qps;          /* queries a second, by all ranks */
    size_t least_ranks;                        /* whose memory suffices; 0 = no bound was given */
} myr_plan;

/*
 * myr_plan_make - the plan of a request.
 *
 * Local. Times are those of a machine with nothing else to do, where reading and the network keep up; the constants are
 * told in plan.c.
 *
 * Returns:  MYR_OK | MYR_ERR_ARG (a number that is not positive)
 */
MYR_API myr_status myr_plan_make(const myr_plan_request *request, myr_plan *plan);

#ifdef __cplusplus
}
#endif
#endif
