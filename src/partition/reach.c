/*
 * Which shards may hold something within a distance.
 *
 * An item v of cluster c is no farther from centroid c than from any other, a say. Where |q - v| <= r, the plane
 * halfway between a and c is at most r from q on c's far side: (|q - c|^2 - |q - a|^2) / (2 |c - a|) <= r. With a the
 * nearest of q, few clusters pass. Products are rounded, when items are assigned and here: the margin is above what
 * that can do.
 */
#include "partition/router.h"

#include "base/alloc.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_ROWS = 256,      /* queries of one GEMM, */
    VALUES = 1024 * 1024, /* fewer where centroids are many */
};

typedef struct reaching {
    const myr_router *router;
    const float *queries;
    double radius, rounding;
    size_t n_rows;    /* of a GEMM */
    float *away;      /* (n_threads, n_rows, n_clusters) squared distances, less the query's squared length */
    uint8_t *reached; /* (n_queries, n_shards) */
} reaching;

static void mark(const myr_router *router, size_t cluster, uint8_t *reached)
{
    for (uint32_t p = router->part_first[cluster]; p < router->part_first[cluster + 1]; p++)
        reached[router->part_shard[p]] = 1;
}

static void reach_one(const reaching *all, double squared, const float *away, uint8_t *reached)
{
    const myr_router *router = all->router;
    size_t nearest = 0, dim = router->dim;
    for (size_t c = 1; c < router->n_clusters; c++)
        nearest = away[c] < away[nearest] ? c : nearest;
    const float *home = router->centroids + nearest * dim;
    double length = sqrt(squared), radius = all->radius + all->rounding * (2 * length + all->radius);
    double largest = (length + radius) * (length + radius), home_away = sqrt(fmax(away[nearest] + squared, 0));
    for (size_t c = 0; c < router->n_clusters; c++) {
        double beyond = (double)away[c] - (double)away[nearest];
        double margin = (double)(dim + 8) * 0x1p-22 * (largest + router->norms[c] + router->norms[nearest]);
        double between = home_away + sqrt(fmax(away[c] + squared, 0)); /* no less than |c - a| */
        if (beyond > 2 * radius * between + 2 * margin + 4 * radius * sqrt(margin))
            continue;
        between = sqrt((double)myr_partition_distance(router->centroids + c * dim, home, dim));
        if (c == nearest || beyond <= 2 * radius * between * (1 + 1e-5) + margin)
            mark(router, c, reached);
    }
}

static myr_status reach_task(void *context, size_t first, size_t last, int thread)
{
    const reaching *all = context;
    const myr_router *router = all->router;
    size_t n_clusters = router->n_clusters, dim = router->dim;
    float *away = all->away + (size_t)thread * all->n_rows * n_clusters;
    float squared[MOST_ROWS];
    for (size_t row = first; row < last; row++) {
        myr_status status = myr_partition_length(all->queries, row, dim, &squared[row - first]);
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
        reach_one(all, (double)squared[row - first], line, all->reached + row * router->n_shards);
    }
    return MYR_OK;
}

myr_status myr_router_reach(const myr_router *router, const float *queries, size_t n_queries, float radius,
                            float rounding, myr_pool *pool, uint8_t *reached)
{
    reaching all = {.router = router, .queries = queries, .radius = radius, .rounding = rounding, .reached = reached};
    size_t n_threads = (size_t)myr_pool_n_threads(pool), n_values;
    if (router == NULL || router->n_shards == 0)
        return myr_fail(MYR_ERR_ARG, "partition: reach: the router is not packed into shards yet");
    if (!(radius >= 0) || !(rounding >= 0) || (n_queries > 0 && (queries == NULL || reached == NULL)))
        return myr_fail(MYR_ERR_ARG, "partition: reach: queries, room and a distance that is not negative are needed");
    memset(reached, router_is_hash(router), n_queries * router->n_shards);
    if (router_is_hash(router) || n_queries == 0)
        return MYR_OK;
    myr_partition_blas_init();
    all.n_rows = router->n_clusters < VALUES ? VALUES / router->n_clusters : 1;
    all.n_rows = all.n_rows < MOST_ROWS ? all.n_rows : MOST_ROWS;
    all.away =
        myr_mul(all.n_rows, router->n_clusters, &n_values) ? myr_alloc(n_threads, n_values * sizeof *all.away) : NULL;
    myr_status status = all.away ? myr_pool_for(pool, n_queries, all.n_rows, reach_task, &all)
                                 : myr_fail(MYR_ERR_NOMEM, "partition: reach: no memory for %zu queries", n_queries);
    free(all.away);
    return status;
}
