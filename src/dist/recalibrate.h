/*
 * A router whose index changes: its counts follow, and the items are chosen with which it is calibrated again.
 */
#ifndef MYR_DIST_RECALIBRATE_H
#define MYR_DIST_RECALIBRATE_H

#include "dist/exchange.h"
#include "dist/shard.h"

/* Whether a router is one that is calibrated: trained, of several shards. */
bool myr_router_is_calibrated(const myr_router *router);

/* Whether an item of an index of n_items is one of the queries: enough of them, chosen by id alone. */
bool myr_trial_takes(int64_t id, int64_t n_items);
/* The item's row {id, vector} behind the others: of a graph, */
myr_status myr_trial_put(const myr_hnsw *graph, int64_t row, int64_t id, myr_buffer *sample);
/* or of new rows. */
myr_status myr_trial_put_row(const myr_shard_rows *rows, int64_t row, myr_buffer *sample);

/* Items that come to a part of a router, or to the copies of it in another shard, or go. */
typedef struct myr_recount {
    myr_buffer entries; /* [owned] release with myr_buffer_free */
} myr_recount;

/* myr_recount_plan - the rows of a plan come. Local. Nothing where there is no plan. */
myr_status myr_recount_plan(myr_recount *recount, const myr_router *router, const myr_shard_plan *plan);
/* myr_recount_gone - the marked rows (n) of a shard go. Local. */
myr_status myr_recount_gone(myr_recount *recount, const myr_router *router, const myr_shard *shard, size_t shard_number,
                            const bool *marks, myr_pool *pool);
/* myr_recount_apply - what all ranks have noted changes rank 0's router, which is replaced. Collective. */
myr_status myr_recount_apply(const myr_comm *comm, const myr_recount *recount, myr_router **router);

#endif
