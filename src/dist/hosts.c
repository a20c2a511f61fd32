/*
 * The table of hosts.
 */
#include "dist/hosts.h"

#include "base/alloc.h"

#include <stdlib.h>

/* The shard that a rank hosts where ranks are more than shards. */
static size_t shard_of(size_t n_shards, size_t rank, const uint32_t *by_heat)
{
    size_t copy = rank % n_shards;
    return rank < n_shards || !by_heat ? copy : by_heat[copy];
}

myr_status myr_hosts_create(size_t n_shards, int n_ranks, const uint32_t *by_heat, myr_hosts *hosts)
{
    size_t n = (size_t)n_ranks > n_shards ? (size_t)n_ranks : n_shards;
    *hosts = (myr_hosts){.n_shards = n_shards,
                         .first = myr_alloc(n_shards + 2, sizeof *hosts->first),
                         .rank = myr_alloc(n, sizeof *hosts->rank)};
    if (!hosts->first || !hosts->rank) {
        myr_hosts_free(hosts);
        return myr_fail(MYR_ERR_NOMEM, "no memory for the hosts of %zu shards", n_shards);
    }
    size_t *next = hosts->first + 1; /* while it is filled: where the next host of a shard goes */
    bool has_copies = (size_t)n_ranks > n_shards;
    for (size_t i = 0; i < n; i++)
        next[(has_copies ? shard_of(n_shards, i, by_heat) : i) + 1]++;
    for (size_t s = 0; s < n_shards; s++)
        next[s + 1] += next[s];
    for (size_t i = 0; i < n; i++) {
        size_t shard = has_copies ? shard_of(n_shards, i, by_heat) : i;
        hosts->rank[next[shard]++] = (int)(has_copies ? i : i % (size_t)n_ranks);
    }
    return MYR_OK;
}

void myr_hosts_free(myr_hosts *hosts)
{
    free(hosts->first);
    free(hosts->rank);
    *hosts = (myr_hosts){0};
}
