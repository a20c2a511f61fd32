/*
 * The table of hosts.
 */
#include "dist/hosts.h"

#include "base/alloc.h"

#include <stdlib.h>

/* The shard of which each rank beyond the first n_shards hosts a copy: time and again the one with the most visits a
 * host. Source: D'Hondt's method of apportionment. */
static void deal_copies(size_t n_shards, size_t n_ranks, const uint64_t *visits, size_t *n_hosts, size_t *shard_of)
{
    for (size_t s = 0; s < n_shards; s++)
        n_hosts[s] = 1;
    for (size_t r = n_shards; r < n_ranks; r++) {
        size_t busiest = 0;
        double most = -1;
        for (size_t s = 0; s < n_shards; s++) {
            double load = ((double)(visits ? visits[s] : 0) + 1) / (double)n_hosts[s];
            if (load > most) {
                most = load;
                busiest = s;
            }
        }
        shard_of[r] = busiest;
        n_hosts[busiest]++;
    }
}

myr_status myr_hosts_create(size_t n_shards, int n_ranks, const uint64_t *visits, myr_hosts *hosts)
{
    size_t n = (size_t)n_ranks > n_shards ? (size_t)n_ranks : n_shards;
    size_t *shard_of = myr_alloc(n, sizeof *shard_of), *n_hosts = myr_alloc(n_shards + 1, sizeof *n_hosts);
    *hosts = (myr_hosts){.n_shards = n_shards,
                         .first = myr_alloc(n_shards + 2, sizeof *hosts->first),
                         .rank = myr_alloc(n, sizeof *hosts->rank)};
    if (!hosts->first || !hosts->rank || !shard_of || !n_hosts) {
        myr_hosts_free(hosts);
        free(shard_of);
        free(n_hosts);
        return myr_fail(MYR_ERR_NOMEM, "no memory for the hosts of %zu shards", n_shards);
    }
    for (size_t s = 0; s < n_shards; s++)
        shard_of[s] = s;
    deal_copies(n_shards, (size_t)n_ranks, visits, n_hosts, shard_of);
    size_t *next = hosts->first + 1; /* while it is filled: where the next host of a shard goes */
    for (size_t s = 0; s < n_shards; s++)
        next[s + 1] = next[s] + n_hosts[s];
    for (size_t i = 0; i < n; i++)
        hosts->rank[next[shard_of[i]]++] = (int)(i % (size_t)n_ranks);
    free(shard_of);
    free(n_hosts);
    return MYR_OK;
}

/* The hosts of a shard, then the others of their nodes, to where `to` points; returns how many. */
static size_t list_neighbours(const myr_hosts *hosts, size_t shard, int n_ranks, const int *node, bool *is_serving,
                              int *to)
{
    size_t first = hosts->first[shard], n = myr_hosts_count(hosts, shard), n_all = n;
    for (int r = 0; r < n_ranks; r++)
        is_serving[r] = false; /* a node's number is that of one of its ranks */
    for (size_t i = 0; i < n; i++) {
        is_serving[node[hosts->rank[first + i]]] = true;
        to[i] = hosts->rank[first + i];
    }
    for (int r = 0; r < n_ranks; r++)
        if (is_serving[node[r]] && !myr_hosts_has(hosts, shard, r))
            to[n_all++] = r;
    return n_all;
}

myr_status myr_hosts_share(myr_hosts *hosts, int n_ranks, const int *node)
{
    size_t n_most;
    if (!myr_mul(hosts->n_shards, (size_t)n_ranks, &n_most))
        return myr_fail(MYR_ERR_LIMIT, "%zu shards on %d ranks are too many", hosts->n_shards, n_ranks);
    myr_hosts all = {.n_shards = hosts->n_shards,
                     .first = myr_alloc(hosts->n_shards + 2, sizeof *all.first),
                     .rank = myr_alloc(n_most, sizeof *all.rank)};
    bool *is_serving = myr_alloc((size_t)n_ranks, sizeof *is_serving);
    bool whole = all.first && all.rank && is_serving;
    for (size_t s = 0; whole && s < hosts->n_shards; s++)
        all.first[s + 1] = all.first[s] + list_neighbours(hosts, s, n_ranks, node, is_serving, all.rank + all.first[s]);
    free(is_serving);
    myr_hosts_free(whole ? hosts : &all);
    if (!whole)
        return myr_fail(MYR_ERR_NOMEM, "no memory for the hosts of %zu shards", hosts->n_shards);
    *hosts = all;
    return MYR_OK;
}

void myr_hosts_free(myr_hosts *hosts)
{
    free(hosts->first);
    free(hosts->rank);
    *hosts = (myr_hosts){0};
}
