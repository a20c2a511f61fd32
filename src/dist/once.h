/*
 * Items once, where shards overlap: of the rows of an item that lies in two, which one speaks for it.
 */
#ifndef MYR_DIST_ONCE_H
#define MYR_DIST_ONCE_H

#include "dist/cluster.h"

typedef struct myr_once {
    size_t n_shards;
    uint8_t *
        *speaks; /* (n_shards) of shards open here, (n rows) [owned]; NULL where nothing overlaps: every row does */
} myr_once;

/* Of rows [first, last) of a shard that this rank keeps: how little each has to say for its item. */
typedef myr_status (*myr_once_weigh)(void *context, size_t shard, int64_t first, int64_t last, uint32_t *weights);

/*
 * myr_once_find - choose the row of the least weight for each item, of equal ones that of the lower shard.
 *
 * Collective. Shards that are asked about later must have been verified (myr_shard_verify) by the ranks that ask. The
 * choice is the same for any number of ranks where weights are.
 *
 *  weigh  NULL = all rows alike
 *  once   [out]  release with myr_once_free, also after an error
 *
 * Memory:   a byte for each row of the shards open here, and 8 MB.
 * Returns:  MYR_OK | MYR_ERR_NOMEM | MYR_ERR_STOPPED | what weigh returns, the same on every rank
 */
myr_status myr_once_find(const myr_cluster *cluster, myr_once_weigh weigh, void *context, myr_once *once);
void myr_once_free(myr_once *once);

static inline bool myr_once_speaks(const myr_once *once, size_t shard, int64_t row)
{
    return !once->speaks || once->speaks[shard][row];
}

#endif
