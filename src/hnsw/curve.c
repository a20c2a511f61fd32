/*
 * What a graph finds: recall at several ef, asked with rows of its own.
 *
 * Each row is left out of its own answer. Rows are in the graph and so somewhat easier to answer than pictures it has
 * not seen; who chooses an ef by the curve should leave room for that.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <stdlib.h>

enum { K = MYR_CURVE_K, GROUP = 16, MOST_QUERIES = 1 << 16 };

#define SEED UINT64_C(0x7265636c)

typedef struct trial {
    const myr_hnsw *graph;
    size_t n, ef;
    float *queries;               /* (n, dim) */
    int64_t *ids;                 /* (n) */
    float *bounds;                /* (n) distance of the last true neighbour */
    size_t *n_true;               /* (n) true neighbours, K at most */
    myr_hit *hits;                /* (n, K + 1) */
    myr_hnsw_searcher **searcher; /* (n_threads) */
} trial;

static bool is_drawn(int64_t id, double share)
{
    return (double)(myr_hash64((uint64_t)id, SEED) >> 11) * 0x1p-53 < share;
}

static myr_status draw(trial *all, double share)
{
    const myr_hnsw *graph = all->graph;
    for (size_t row = 0; row < graph->n && all->n < MOST_QUERIES; row++)
        all->n += is_drawn(graph->ids[row], share);
    all->queries = myr_alloc(all->n, graph->dim * sizeof *all->queries);
    all->ids = myr_alloc(all->n, sizeof *all->ids);
    all->bounds = myr_alloc(all->n, sizeof *all->bounds);
    all->n_true = myr_alloc(all->n, sizeof *all->n_true);
    all->hits = myr_alloc(all->n, (K + 1) * sizeof *all->hits);
    if (!all->queries || !all->ids || !all->bounds || !all->n_true || !all->hits)
        return MYR_ERR_NOMEM;
    for (size_t row = 0, at = 0; at < all->n; row++) {
        if (!is_drawn(graph->ids[row], share))
            continue;
        hnsw_copy_vector(graph, graph->row_node[row], all->queries + at * graph->dim);
        all->ids[at++] = graph->ids[row];
    }
    return MYR_OK;
}

/* Of the hits of a query, how many others than itself lie within its bound; K at most. */
static size_t count(const trial *all, size_t query, float bound)
{
    const myr_hit *hits = all->hits + query * (K + 1);
    size_t n = 0;
    for (size_t i = 0; i < K + 1 && n < K; i++)
        n += hits[i].id >= 0 && hits[i].id != all->ids[query] && hits[i].distance <= bound;
    return n;
}

static myr_status find_truth(trial *all, myr_pool *pool)
{
    myr_status status = myr_hnsw_search_exact(all->graph, pool, all->queries, all->n, K + 1, all->hits);
    for (size_t q = 0; status == MYR_OK && q < all->n; q++) {
        const myr_hit *hits = all->hits + q * (K + 1);
        all->n_true[q] = count(all, q, (float)1e38);
        size_t n = 0;
        for (size_t i = 0; n < all->n_true[q]; i++) {
            if (hits[i].id == all->ids[q])
                continue;
            all->bounds[q] = hits[i].distance;
            n++;
        }
    }
    return status;
}

static myr_status search_task(void *context, size_t first, size_t last, int thread)
{
    trial *all = context;
    myr_hnsw_searcher **searcher = &all->searcher[thread];
    myr_status status = *searcher ? MYR_OK : myr_hnsw_searcher_create(all->graph, searcher);
    if (status != MYR_OK)
        return status;
    return myr_hnsw_search_batch(*searcher, all->queries + first * all->graph->dim, last - first, K + 1, all->ef,
                                 all->hits + first * (K + 1), NULL);
}

static myr_status measure(trial *all, myr_pool *pool, double share, const size_t *efs, size_t n_efs,
                          myr_hnsw_curve *curve)
{
    myr_status status = myr_hnsw_verify(all->graph, pool);
    if (status == MYR_OK)
        status = draw(all, share);
    if (status == MYR_OK)
        status = find_truth(all, pool);
    for (size_t q = 0; status == MYR_OK && q < all->n; q++)
        curve->n_true += all->n_true[q];
    for (size_t e = 0; status == MYR_OK && e < n_efs; e++) {
        all->ef = efs[e] > K ? efs[e] : K + 1;
        status = myr_pool_for(pool, all->n, GROUP, search_task, all);
        for (size_t q = 0; status == MYR_OK && q < all->n; q++) {
            size_t n = count(all, q, all->bounds[q]);
            curve->n_found[e] += n < all->n_true[q] ? n : all->n_true[q];
        }
    }
    curve->n_queries = all->n;
    return status;
}

myr_status myr_hnsw_measure(const myr_hnsw *graph, myr_pool *pool, double share, const size_t *efs, size_t n_efs,
                            myr_hnsw_curve *curve)
{
    *curve = (myr_hnsw_curve){0};
    if (!graph || !(share >= 0) || n_efs > MYR_CURVE_POINTS || (n_efs > 0 && !efs))
        return myr_fail(MYR_ERR_ARG, "hnsw: to measure needs a graph, a share of its rows and at most %d ef",
                        MYR_CURVE_POINTS);
    int n_threads = myr_pool_n_threads(pool);
    trial all = {.graph = graph, .searcher = myr_alloc((size_t)n_threads, sizeof *all.searcher)};
    myr_status status = all.searcher ? measure(&all, pool, share, efs, n_efs, curve) : MYR_ERR_NOMEM;
    for (int i = 0; all.searcher && i < n_threads; i++)
        myr_hnsw_searcher_free(all.searcher[i]);
    free(all.searcher);
    free(all.queries);
    free(all.ids);
    free(all.bounds);
    free(all.n_true);
    free(all.hits);
    return status == MYR_ERR_NOMEM ? myr_fail(MYR_ERR_NOMEM, "hnsw: no memory to measure %zu queries", all.n) : status;
}
