/*
 * Which ranks host which shards of an index.
 *
 * With no more ranks than shards, shard s lies on rank s modulo their number. With more, each of the first ranks hosts
 * one shard, and each of the others a copy of one, so that shards have hosts in proportion to their visits.
 *
 * Ranks of one node map the same files and share their pages: whatever one of them hosts the others may host as well,
 * at no cost but the memory of their searches, and can take over from it what is too much for it.
 */
#ifndef MYR_DIST_HOSTS_H
#define MYR_DIST_HOSTS_H

#include "myriops/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct myr_hosts {
    size_t n_shards;
    size_t *first; /* (n_shards + 1) into rank */
    int *rank;     /* of each shard: the first is its keeper, who speaks for it where one is enough */
} myr_hosts;

/* visits: (n_shards) NULL = as many to each. Local; alike on all ranks. */
myr_status myr_hosts_create(size_t n_shards, int n_ranks, const uint64_t *visits, myr_hosts *hosts);
/* Adds, behind the hosts of each shard, the others of their nodes. node: (n_ranks) alike on all ranks. Local. */
myr_status myr_hosts_share(myr_hosts *hosts, int n_ranks, const int *node);
void myr_hosts_free(myr_hosts *hosts);

static inline size_t myr_hosts_count(const myr_hosts *hosts, size_t shard)
{
    return hosts->first[shard + 1] - hosts->first[shard];
}

static inline bool myr_hosts_keeps(const myr_hosts *hosts, size_t shard, int rank)
{
    return hosts->rank[hosts->first[shard]] == rank;
}

static inline bool myr_hosts_has(const myr_hosts *hosts, size_t shard, int rank)
{
    for (size_t i = hosts->first[shard]; i < hosts->first[shard + 1]; i++)
        if (hosts->rank[i] == rank)
            return true;
    return false;
}

#endif
