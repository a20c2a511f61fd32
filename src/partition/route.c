/*
 * Which shards a query must visit.
 *
 * A query's neighbours lie in clusters about as near to it as the nearest one, and the more of them in a cluster the
 * more items it has. So each cluster is given the mass items * exp(-(d - d_least) / softness), d its centroid's squared
 * distance, and a shard the masses of its clusters. The share of all mass tells what share of the neighbours a shard
 * can be expected to hold: shards are visited from the greatest on, until what is left is small enough. How soft, and
 * how small, is measured with queries whose neighbours are known (calibrate.c).
 *
 * Measured on SIFT with 32 shards, before packings were refined (refine.c): 3.8 visits find 0.95 of the ten nearest,
 * where the order and the ratios of the nearest centroids take 4.2 to 4.5, and a fixed number of visits 5.1.
 *
 * Where shards overlap (overlap.c), a shard's mass is that of all items in it, and what lies in a visited one no longer
 * counts for the others.
 */
#include "partition/router.h"

#include "base/alloc.h"

#include <cblas.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_ROWS = 256,      /* queries of one GEMM, */
    VALUES = 1024 * 1024, /* fewer where centroids are many: the products of a thread */
};

/* Clusters farther than this many times the softness have no mass worth adding: e^-30 of the nearest one's. */
#define FAR 30.0

typedef struct candidate {
    double mass;
    float nearest; /* of its centroids */
    uint32_t shard;
} candidate;

typedef struct routing {
    const myr_router *router;
    const float *queries;
    size_t n_rows; /* of a GEMM */
    size_t n_wanted;
    float enough;
    float *away;       /* (n_threads, n_rows, n_clusters) */
    candidate *shards; /* (n_threads, 2, n_shards) */
    uint32_t *order;   /* (n_queries, n_shards) */
    float *left;       /* (n_queries, n_shards) or NULL */
    size_t *n_found;   /* (n_queries) */
} routing;

static int by_mass(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->mass != y->mass)
        return x->mass > y->mass ? -1 : 1;
    if (x->nearest != y->nearest)
        return x->nearest < y->nearest ? -1 : 1;
    return x->shard < y->shard ? -1 : x->shard > y->shard;
}

/* Gives the shards their masses, each the items of which it is the own shard; returns the sum. away: (n_clusters)
 * squared distances, but for a constant; then weights, where shards overlap. */
static double weigh(const myr_router *router, float *away, candidate *shards)
{
    float least = INFINITY;
    double sum = 0;
    for (size_t s = 0; s < router->n_shards; s++)
        shards[s] = (candidate){.nearest = INFINITY, .shard = (uint32_t)s};
    for (size_t c = 0; c < router->n_clusters; c++)
        least = away[c] < least ? away[c] : least;
    for (size_t c = 0; c < router->n_clusters; c++) {
        double beyond = (double)away[c] - (double)least;
        double weight =
            beyond <= FAR * (double)router->softness ? exp(beyond > 0 ? -beyond / (double)router->softness : 0) : 0;
        if (router->copy_bound)
            weight = away[c] = (float)weight; /* taken away again, it must leave nothing */
        for (uint32_t p = router->part_first[c]; p < router->part_first[c + 1]; p++) {
            candidate *shard = &shards[router->part_shard[p]];
            shard->nearest = away[c] < shard->nearest ? away[c] : shard->nearest;
            shard->mass += weight * (double)router->part_items[p];
            sum += weight * (double)router->part_items[p];
        }
    }
    return sum;
}

/* ---- shards that overlap ---- */

static void add_copies(const myr_router *router, const float *weights, candidate *shards)
{
    for (size_t c = 0; c < router->n_clusters; c++) {
        if (weights[c] <= 0)
            continue;
        uint32_t first = router->part_first[c], last = router->part_first[c + 1];
        for (uint32_t i = router->copy_first[first]; i < router->copy_first[last]; i++)
            shards[router->copy_shard[i]].mass += (double)weights[c] * (double)router->copy_items[i];
    }
}

/* What lies in a visited shard is nothing to look for in others. */
static void take_away(const myr_router *router, const float *weights, uint32_t visited, candidate *shards)
{
    for (size_t i = router->pair_first[visited]; i < router->pair_first[visited + 1]; i++) {
        const router_pair *one = &router->pairs[i];
        shards[one->other].mass -= (double)weights[one->cluster] * (double)one->n_items;
    }
}

/* The best of the shards [from, n), moved to `from`; false where none has mass, or clusters where those do. */
static bool move_best(candidate *shards, size_t from, size_t n, bool others)
{
    size_t best = n;
    for (size_t s = from; s < n; s++)
        if ((shards[s].mass > 0 || (others && !isinf(shards[s].nearest))) &&
            (best == n || by_mass(&shards[s], &shards[best]) < 0))
            best = s;
    if (best == n)
        return false;
    candidate held = shards[from];
    shards[from] = shards[best];
    shards[best] = held;
    return true;
}

/* As below, but the mass of a shard is of items that are in none of those before it. ordered: (n_shards) room; the
 * masses are by shard in `shards`. */
static void route_overlapping(const routing *all, size_t query, const float *weights, double sum, candidate *shards,
                              candidate *ordered)
{
    const myr_router *router = all->router;
    size_t n_shards = router->n_shards, i = 0;
    bool others = all->enough < 0 || !(sum > 0);
    double before = 0;
    add_copies(router, weights, shards);
    for (size_t s = 0; s < n_shards; s++)
        ordered[s].shard = (uint32_t)s;
    for (; i < n_shards && i < all->n_wanted; i++) {
        float left = (float)(sum > 0 ? fmax(1 - before / sum, 0) : 1);
        for (size_t s = i; s < n_shards; s++) {
            const candidate *now = &shards[ordered[s].shard];
            ordered[s] = (candidate){.mass = fmax(now->mass, 0), .nearest = now->nearest, .shard = now->shard};
        }
        if ((i > 0 && left <= all->enough) || !move_best(ordered, i, n_shards, others))
            break;
        all->order[query * n_shards + i] = ordered[i].shard;
        if (all->left)
            all->left[query * n_shards + i] = left;
        before += ordered[i].mass;
        take_away(router, weights, ordered[i].shard, shards);
    }
    all->n_found[query] = i;
}

/* The n_wanted first shards in order: those that have mass, then, where others are wanted too, those that have
 * clusters; the rest hold nothing. Returns how many there are. */
static size_t sort_shards(candidate *shards, size_t n, size_t n_wanted, bool others)
{
    size_t n_massive = 0, n_filled = 0;
    for (size_t s = 0; s < n; s++) {
        if (isinf(shards[s].nearest))
            continue;
        candidate held = shards[s];
        shards[s] = shards[n_filled];
        shards[n_filled] = held;
        if (held.mass > 0) {
            shards[n_filled] = shards[n_massive];
            shards[n_massive++] = held;
        }
        n_filled++;
    }
    qsort(shards, n_massive, sizeof *shards, by_mass);
    if (others && n_wanted > n_massive)
        qsort(shards + n_massive, n_filled - n_massive, sizeof *shards, by_mass);
    n = others ? n_filled : n_massive;
    return n < n_wanted ? n : n_wanted;
}

static void route_one(const routing *all, size_t query, float *away, candidate *shards)
{
    size_t n_shards = all->router->n_shards;
    double sum = weigh(all->router, away, shards), before = 0;
    if (all->router->copy_bound) {
        route_overlapping(all, query, away, sum, shards, shards + n_shards);
        return;
    }
    bool others = all->enough < 0 || !(sum > 0);
    size_t n = sort_shards(shards, n_shards, all->n_wanted, others), i = 0;
    for (; i < n; i++) {
        float left = (float)(sum > 0 ? fmax(1 - before / sum, 0) : 1);
        if (i > 0 && left <= all->enough)
            break;
        all->order[query * n_shards + i] = shards[i].shard;
        if (all->left)
            all->left[query * n_shards + i] = left;
        before += shards[i].mass;
    }
    all->n_found[query] = i;
}

static myr_status route_task(void *context, size_t first, size_t last, int thread)
{
    const routing *all = context;
    const myr_router *router = all->router;
    size_t n_clusters = router->n_clusters, dim = router->dim;
    float *away = all->away + (size_t)thread * all->n_rows * n_clusters;
    for (size_t row = first; row < last; row++) {
        float unused;
        myr_status status = myr_partition_length(all->queries, row, dim, &unused);
        if (status != MYR_OK)
            return status;
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)(last - first), (blasint)n_clusters, (blasint)dim,
                -2.0f, all->queries + first * dim, (blasint)dim, router->centroids, (blasint)dim, 0.0f, away,
                (blasint)n_clusters);
    for (size_t row = first; row < last; row++) {
        float *line = away + (row - first) * n_clusters;
        for (size_t c = 0; c < n_clusters; c++)
            line[c] += router->norms[c];
        route_one(all, row, line, all->shards + (size_t)thread * 2 * router->n_shards);
    }
    return MYR_OK;
}

static void route_evenly(const routing *all, size_t n_queries)
{
    size_t n_shards = all->router->n_shards;
    for (size_t q = 0; q < n_queries; q++) {
        for (size_t s = 0; s < n_shards; s++) {
            all->order[q * n_shards + s] = (uint32_t)s;
            if (all->left)
                all->left[q * n_shards + s] = 1 - (float)s / (float)n_shards;
        }
        all->n_found[q] = n_shards;
    }
}

myr_status myr_router_route(const myr_router *router, const float *queries, size_t n_queries, size_t n_wanted,
                            float enough, myr_pool *pool, uint32_t *shards, float *left, size_t *n_found)
{
    routing all = {.router = router,
                   .queries = queries,
                   .n_wanted = n_wanted,
                   .enough = enough,
                   .order = shards,
                   .left = left,
                   .n_found = n_found};
    size_t n_threads = (size_t)myr_pool_n_threads(pool), n_values;
    if (router == NULL || router->n_shards == 0)
        return myr_fail(MYR_ERR_ARG, "partition: route: the router is not packed into shards yet");
    if (n_wanted == 0 || (n_queries > 0 && (shards == NULL || n_found == NULL)))
        return myr_fail(MYR_ERR_ARG, "partition: route: at least one shard and room for the answer are needed");
    if (router_is_hash(router)) {
        route_evenly(&all, n_queries);
        return MYR_OK;
    }
    if (n_queries > 0 && queries == NULL)
        return myr_fail(MYR_ERR_ARG, "partition: route: there are no queries");
    myr_partition_blas_init();
    all.n_rows = router->n_clusters < VALUES ? VALUES / router->n_clusters : 1;
    all.n_rows = all.n_rows < MOST_ROWS ? all.n_rows : MOST_ROWS;
    all.away =
        myr_mul(all.n_rows, router->n_clusters, &n_values) ? myr_alloc(n_threads, n_values * sizeof *all.away) : NULL;
    all.shards = myr_alloc(n_threads, 2 * router->n_shards * sizeof *all.shards);
    myr_status status = all.away && all.shards
                            ? myr_pool_for(pool, n_queries, all.n_rows, route_task, &all)
                            : myr_fail(MYR_ERR_NOMEM, "partition: route: no memory for %zu queries", n_queries);
    free(all.away);
    free(all.shards);
    return status;
}
