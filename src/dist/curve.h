/*
 * The curve of recall that an index is built with: what its shards find at several ef, added up.
 */
#ifndef MYR_DIST_CURVE_H
#define MYR_DIST_CURVE_H

#include "dist/comm.h"
#include "dist/index_manifest.h"
#include "myriops/hnsw.h"

/* myr_curve_add - measures the graph of a shard of an index of n_items and adds it to sum. Local. */
myr_status myr_curve_add(const myr_hnsw *graph, int64_t n_items, myr_pool *pool, myr_hnsw_curve *sum);

/* myr_curve_gather - all ranks' sums as the index's curve, on all ranks. Collective. */
void myr_curve_gather(const myr_comm *comm, const myr_hnsw_curve *mine, myr_index_curve *curve);

#endif
