/*
 * Which items lie in a second shard, too.
 */
#ifndef MYR_DIST_OVERLAP_H
#define MYR_DIST_OVERLAP_H

#include "dist/exchange.h"

/*
 * myr_overlap_choose - give a share of all items, those nearest to a boundary, a second shard.
 *
 * Collective. Reads this rank's blocks once more. No shard gets more than 1.05 of its share of all rows, copies among
 * them, so that fewer than the share may have one. Rank 0's router then knows the rule and the counts; the same for any
 * number of ranks.
 *
 *  share  in [0, 1]
 *  plan   [in, out] of myr_plan_shards
 */
myr_status myr_overlap_choose(const myr_comm *comm, const myr_source *source, myr_router *router, size_t n_shards,
                              double share, myr_pool *pool, myr_shard_plan *plan);

/* myr_overlap_follow - give items a second shard by the rule that the router has; none where it has none. Likewise. */
myr_status myr_overlap_follow(const myr_comm *comm, const myr_source *source, const myr_router *router, size_t n_shards,
                              myr_pool *pool, myr_shard_plan *plan);

#endif
