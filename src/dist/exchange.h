/*
 * Which row goes to which shard, and the journey there.
 */
#ifndef MYR_DIST_EXCHANGE_H
#define MYR_DIST_EXCHANGE_H

#include "dist/comm.h"
#include "dist/shard.h"
#include "myriops/partition.h"

/* The shards of every row of this rank's blocks (block % size == rank), in the order they are read. */
typedef struct myr_shard_plan {
    int64_t first_id; /* [in] the source's ids are counted from there */
    int64_t n_rows;
    uint32_t *part;       /* (n_rows) of the router's arrays; 0 for a hash router */
    uint32_t *shard;      /* (n_rows) */
    uint32_t *copy;       /* (n_rows) the second shard, UINT32_MAX = none; NULL where nothing overlaps (overlap.h) */
    int64_t n_items;      /* over all ranks */
    int64_t *shard_items; /* (n_shards) over all ranks, copies among them */
} myr_shard_plan;

/* myr_plan_shards - assign all rows; pack the router by the counts of all ranks where it is not packed. Collective. */
myr_status myr_plan_shards(const myr_comm *comm, const myr_source *source, myr_router *router, size_t n_shards,
                           myr_pool *pool, myr_shard_plan *plan);
void myr_shard_plan_free(myr_shard_plan *plan);

/*
 * myr_exchange_rows - send every row to the ranks of its shards (shard % size).
 *
 * Collective. Rounds are bounded: no rank receives more than about 256 MiB in one.
 *
 *  shards      [in, out] (n_shards) this rank's are created and filled; release with myr_shard_rows_free
 *  sent_bytes  [in, out] what this rank sends to others is added; NULL = not counted
 */
myr_status myr_exchange_rows(const myr_comm *comm, const myr_source *source, const myr_shard_plan *plan,
                             size_t n_shards, bool progress, myr_shard_rows *shards, double *sent_bytes);

/* myr_gather_bytes - every rank's bytes, by rank, to rank 0. Collective. In pieces below 2^31. */
myr_status myr_gather_bytes(const myr_comm *comm, const myr_buffer *mine, myr_buffer *all);

/* myr_sort_by_id - rows that begin with an id of 64 bits, in its order; of equal ids one stays. Returns how many do. */
size_t myr_sort_by_id(myr_buffer *rows, size_t row_bytes);

#endif
