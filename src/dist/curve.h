/*
 * The curves that an index is built with: what its shards find at several ef, added up; and what is found where queries
 * visit some of its shards only.
 */
#ifndef MYR_DIST_CURVE_H
#define MYR_DIST_CURVE_H

#include "dist/comm.h"
#include "dist/index_manifest.h"
#include "myriops/hnsw.h"
#include "myriops/partition.h"

/* myr_curve_add - measures the graph of a shard of an index of n_items and adds it to sum. Local. */
myr_status myr_curve_add(const myr_hnsw *graph, int64_t n_items, myr_pool *pool, myr_hnsw_curve *sum);

/* myr_curve_gather - all ranks' sums as the index's curve, on all ranks. Collective. */
void myr_curve_gather(const myr_comm *comm, const myr_hnsw_curve *mine, myr_index_curve *curve);

/*
 * Queries to calibrate the router with: some of the items, whose nearest neighbours are searched in every shard as it
 * is built.
 */
typedef struct myr_route_trial {
    size_t n;                    /* 0 = nothing to calibrate */
    float *queries;              /* (n, dim) */
    int64_t *ids;                /* (n) */
    struct myr_housed_hit *hits; /* (n, depth) nearest so far, with their shards */
} myr_route_trial;

/* myr_route_trial_begin - shares n of rank 0's sample rows, {id, vector} each, with all ranks. Collective. */
myr_status myr_route_trial_begin(const myr_comm *comm, const myr_buffer *sample, size_t dim, myr_route_trial *trial);
/* The neighbours that a shard holds. Local. */
myr_status myr_route_trial_add(myr_route_trial *trial, const myr_hnsw *graph, size_t shard, myr_pool *pool);
/* Calibrates rank 0's router by the shards of all ranks. Collective. */
myr_status myr_route_trial_end(const myr_comm *comm, myr_route_trial *trial, myr_router *router, myr_pool *pool,
                               myr_route_curve *curve);
void myr_route_trial_free(myr_route_trial *trial);

#endif
