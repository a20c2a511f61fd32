/*
 * Shards that overlap: which items lie in a second shard, and in which.
 *
 * Of two items as near to two centroids each, the one that lies among clusters of another shard is found by more
 * queries that would not visit its own. So it is the masses of the shards at the item's place that tell what a copy is
 * worth, by the rule that routes queries (route.c), not the distances of two centroids. On SIFT with 32 shards, before
 * packings were refined (refine.c), and a copy of every tenth item, a query visits 3.1 of them for 0.95 of its
 * neighbours, where copies by the ratio of distances leave 3.5, and none 3.8.
 */
#include "partition/router.h"

#include "base/alloc.h"

#include <cblas.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* To the spread. On SIFT best is 0.26 to 0.4, more than for queries (calibrate.c): an item stands for the queries
 * around it. */
#define SOFTNESS 0.26f
#define FAR 8.0f /* softnesses beyond which a cluster has no mass: e^-8 */

enum {
    MOST_ROWS = 256,      /* items of one GEMM, */
    VALUES = 1024 * 1024, /* fewer where centroids are many */
};

typedef struct seconds {
    const myr_router *router;
    const float *vectors;
    const int64_t *ids;
    const uint32_t *home;
    size_t n_rows;
    float *away;    /* (n_threads, n_rows, n_clusters) */
    double *masses; /* (n_threads, n_shards) */
    uint32_t *second;
    uint64_t *nearness;
} seconds;

static void weigh_shards(const myr_router *router, const float *away, double *masses)
{
    float softness = SOFTNESS * router->spread, least = INFINITY;
    memset(masses, 0, router->n_shards * sizeof *masses);
    for (size_t c = 0; c < router->n_clusters; c++)
        least = away[c] < least ? away[c] : least;
    for (size_t c = 0; c < router->n_clusters; c++) {
        float beyond = away[c] - least;
        if (beyond > FAR * softness)
            continue;
        double weight = beyond > 0 ? exp(-(double)beyond / (double)softness) : 1;
        for (uint32_t p = router->part_first[c]; p < router->part_first[c + 1]; p++)
            masses[router->part_shard[p]] += weight * (double)router->part_items[p];
    }
}

/* As 32 bits that rise with it. */
static uint32_t rank_of(double ratio)
{
    float value = ratio < FLT_MAX ? (float)ratio : FLT_MAX;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void find_second(const seconds *all, size_t row, const double *masses)
{
    uint32_t home = all->home[row], best = UINT32_MAX;
    for (uint32_t s = 0; s < all->router->n_shards; s++)
        if (s != home && masses[s] > 0 && (best == UINT32_MAX || masses[s] > masses[best]))
            best = s;
    all->second[row] = best;
    all->nearness[row] = 0;
    if (best == UINT32_MAX)
        return;
    uint32_t chance = (uint32_t)(((uint64_t)all->ids[row] * UINT64_C(0x9E3779B97F4A7C15)) >> 32);
    double ratio = masses[home] > 0 ? masses[best] / masses[home] : FLT_MAX;
    all->nearness[row] = (uint64_t)rank_of(ratio) << 32 | chance;
}

static myr_status second_task(void *context, size_t first, size_t last, int thread)
{
    const seconds *all = context;
    const myr_router *router = all->router;
    size_t n_clusters = router->n_clusters, dim = router->dim;
    float *away = all->away + (size_t)thread * all->n_rows * n_clusters;
    double *masses = all->masses + (size_t)thread * router->n_shards;
    for (size_t row = first; row < last; row++) {
        float unused;
        myr_status status = myr_partition_length(all->vectors, row, dim, &unused);
        if (status != MYR_OK)
            return status;
        if (all->home[row] >= router->n_shards)
            return myr_fail(MYR_ERR_ARG, "partition: second: item %zu is said to lie in shard %u of %zu", row,
                            all->home[row], router->n_shards);
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)(last - first), (blasint)n_clusters, (blasint)dim,
                -2.0f, all->vectors + first * dim, (blasint)dim, router->centroids, (blasint)dim, 0.0f, away,
                (blasint)n_clusters);
    for (size_t row = first; row < last; row++) {
        float *line = away + (row - first) * n_clusters;
        for (size_t c = 0; c < n_clusters; c++)
            line[c] += router->norms[c];
        weigh_shards(router, line, masses);
        find_second(all, row, masses);
    }
    return MYR_OK;
}

myr_status myr_router_second(const myr_router *router, const float *vectors, const int64_t *ids, size_t n,
                             const uint32_t *home, myr_pool *pool, uint32_t *second, uint64_t *nearness)
{
    seconds all = {
        .router = router, .vectors = vectors, .ids = ids, .home = home, .second = second, .nearness = nearness};
    size_t n_threads = (size_t)myr_pool_n_threads(pool), n_values;
    if (router == NULL || router->n_parts == 0)
        return myr_fail(MYR_ERR_ARG, "partition: second: a trained and packed router is needed");
    if (n > 0 && (vectors == NULL || ids == NULL || home == NULL || second == NULL || nearness == NULL))
        return myr_fail(MYR_ERR_ARG, "partition: second: items and room for the answer are needed");
    myr_partition_blas_init();
    all.n_rows = router->n_clusters < VALUES ? VALUES / router->n_clusters : 1;
    all.n_rows = all.n_rows < MOST_ROWS ? all.n_rows : MOST_ROWS;
    all.away =
        myr_mul(all.n_rows, router->n_clusters, &n_values) ? myr_alloc(n_threads, n_values * sizeof *all.away) : NULL;
    all.masses = myr_alloc(n_threads, router->n_shards * sizeof *all.masses);
    myr_status status = all.away && all.masses
                            ? myr_pool_for(pool, n, all.n_rows, second_task, &all)
                            : myr_fail(MYR_ERR_NOMEM, "partition: second: no memory for %zu items", n);
    free(all.away);
    free(all.masses);
    return status;
}

void myr_partition_clear_copies(myr_router *router)
{
    free(router->copy_first);
    free(router->copy_shard);
    free(router->copy_items);
    free(router->copy_bound);
    free(router->pair_first);
    free(router->pairs);
    router->n_copies = 0;
    router->copy_first = router->copy_shard = NULL;
    router->copy_items = NULL;
    router->copy_bound = NULL;
    router->pair_first = NULL;
    router->pairs = NULL;
}

static myr_status check_copies(const myr_router *router, uint32_t n_copies, const uint32_t *first,
                               const uint32_t *shard, const int64_t *items)
{
    if (first[0] != 0 || first[router->n_parts] != n_copies)
        return myr_fail(MYR_ERR_FORMAT, "router: corrupted: the copies do not cover 0 to %u", n_copies);
    for (size_t p = 0; p < router->n_parts; p++) {
        if (first[p] > first[p + 1] || first[p + 1] > n_copies)
            return myr_fail(MYR_ERR_FORMAT, "router: corrupted: part %zu has copies %u to %u of %u", p, first[p],
                            first[p + 1], n_copies);
        for (uint32_t i = first[p]; i < first[p + 1]; i++)
            if (shard[i] >= router->n_shards || shard[i] == router->part_shard[p] || items[i] < 0 ||
                (i > first[p] && shard[i] <= shard[i - 1]))
                return myr_fail(MYR_ERR_FORMAT, "router: corrupted: part %zu has %lld copies in shard %u of %zu", p,
                                (long long)items[i], shard[i], router->n_shards);
    }
    return MYR_OK;
}

/* Each copy under the shard that has it and under the item's own, by counting. */
static void list_pairs(myr_router *router)
{
    size_t *next = router->pair_first;
    memset(next, 0, (router->n_shards + 1) * sizeof *next);
    for (size_t p = 0; p < router->n_parts; p++)
        for (uint32_t i = router->copy_first[p]; i < router->copy_first[p + 1]; i++) {
            next[router->part_shard[p] + 1]++;
            next[router->copy_shard[i] + 1]++;
        }
    for (size_t s = 0; s < router->n_shards; s++)
        next[s + 1] += next[s];
    for (uint32_t c = 0; c < router->n_clusters; c++)
        for (uint32_t p = router->part_first[c]; p < router->part_first[c + 1]; p++)
            for (uint32_t i = router->copy_first[p]; i < router->copy_first[p + 1]; i++) {
                uint32_t home = router->part_shard[p], other = router->copy_shard[i];
                router->pairs[next[home]++] = (router_pair){c, other, router->copy_items[i]};
                router->pairs[next[other]++] = (router_pair){c, home, router->copy_items[i]};
            }
    memmove(next + 1, next, router->n_shards * sizeof *next); /* they have moved to their ends */
    next[0] = 0;
}

myr_status myr_router_overlap(myr_router *router, const uint64_t *bound, uint32_t n_copies, const uint32_t *copy_first,
                              const uint32_t *copy_shard, const int64_t *copy_items)
{
    if (router == NULL || router->n_parts == 0 || bound == NULL || copy_first == NULL ||
        (n_copies > 0 && (copy_shard == NULL || copy_items == NULL)))
        return myr_fail(MYR_ERR_ARG, "partition: overlap: a packed router and what lies in it twice are needed");
    myr_status status = check_copies(router, n_copies, copy_first, copy_shard, copy_items);
    if (status != MYR_OK)
        return status;
    size_t n_first = router->n_parts + 1;
    myr_partition_clear_copies(router);
    router->copy_first = myr_alloc(n_first, sizeof *copy_first);
    router->copy_shard = myr_alloc(n_copies, sizeof *copy_shard);
    router->copy_items = myr_alloc(n_copies, sizeof *copy_items);
    router->copy_bound = myr_alloc(router->n_shards, sizeof *bound);
    router->pair_first = myr_alloc(router->n_shards + 1, sizeof *router->pair_first);
    router->pairs = myr_alloc(n_copies, 2 * sizeof *router->pairs);
    if (!router->copy_first || !router->copy_shard || !router->copy_items || !router->copy_bound ||
        !router->pair_first || !router->pairs) {
        myr_partition_clear_copies(router);
        return myr_fail(MYR_ERR_NOMEM, "partition: overlap: no memory for %u copies", n_copies);
    }
    router->n_copies = n_copies;
    memcpy(router->copy_first, copy_first, n_first * sizeof *copy_first);
    memcpy(router->copy_bound, bound, router->n_shards * sizeof *bound);
    if (n_copies > 0) {
        memcpy(router->copy_shard, copy_shard, n_copies * sizeof *copy_shard);
        memcpy(router->copy_items, copy_items, n_copies * sizeof *copy_items);
    }
    list_pairs(router);
    return MYR_OK;
}
