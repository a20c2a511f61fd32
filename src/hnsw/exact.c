/*
 * Exact search: every node against every query by codes, which are small and quick, and
 * on full vectors wherever the codes cannot rule a node out (distance.c).
 *
 * A task is a block of queries and a part of the nodes; parts are one unless queries are
 * few. Nodes pass in tiles that stay in the cache while the block's queries take turns.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 16, TILE = 256, TASKS_A_THREAD = 4 };

typedef struct scan {
    const myr_hnsw *graph;
    const float *queries;
    size_t n_queries, k;
    size_t n_parts;
    myr_hit *hits;  /* (n_queries, n_parts, k) */
    uint8_t *codes; /* (n_threads, BLOCK, n_code_bytes) */
} scan;

/* One query of a block. */
typedef struct seeker {
    const float *query;
    const uint8_t *codes;
    hnsw_query facts;
    myr_topk top;
    float bound;
    double reach;
} seeker;

static void scan_tile(const myr_hnsw *graph, seeker *one, size_t first, const uint8_t *const *rows, size_t n)
{
    uint32_t distances[TILE];
    graph->kernel->code_distances(one->codes, rows, n, graph->n_code_bytes, distances);
    for (size_t i = 0; i < n; i++) {
        uint32_t node = (uint32_t)(first + i);
        if (is_beyond(graph, node, distances[i], one->reach))
            continue;
        hnsw_push(graph, one->query, &one->facts, node, distances[i], &one->top);
        if (myr_topk_bound(&one->top) < one->bound) {
            one->bound = myr_topk_bound(&one->top);
            one->reach = hnsw_reach(graph, &one->facts, one->bound);
        }
    }
}

static myr_status scan_part(const scan *all, size_t block, size_t part, uint8_t *codes)
{
    const myr_hnsw *graph = all->graph;
    seeker seekers[BLOCK];
    const uint8_t *rows[TILE];
    size_t first_query = block * BLOCK;
    size_t n = all->n_queries - first_query < BLOCK ? all->n_queries - first_query : BLOCK;
    for (size_t i = 0; i < n; i++) {
        size_t query = first_query + i;
        seekers[i] = (seeker){.query = all->queries + query * graph->dim,
                              .codes = codes + i * graph->n_code_bytes,
                              .bound = INFINITY,
                              .reach = INFINITY};
        myr_topk_init(&seekers[i].top, all->hits + (query * all->n_parts + part) * all->k, all->k);
        if (!hnsw_query_of(graph, seekers[i].query, NULL, codes + i * graph->n_code_bytes, &seekers[i].facts))
            return myr_fail(MYR_ERR_ARG, "hnsw: query %zu holds a value that is not finite", query);
    }
    /* n_nodes < 2^31 and n_parts is small: no overflow */
    size_t first = graph->n_nodes * part / all->n_parts, last = graph->n_nodes * (part + 1) / all->n_parts;
    for (size_t from = first; from < last; from += TILE) {
        size_t n_rows = last - from < TILE ? last - from : TILE;
        for (size_t i = 0; i < n_rows; i++)
            rows[i] = codes_of(graph, (uint32_t)(from + i));
        for (size_t i = 0; i < n; i++)
            scan_tile(graph, &seekers[i], from, rows, n_rows);
    }
    for (size_t i = 0; i < n; i++)
        myr_topk_finish(&seekers[i].top);
    return MYR_OK;
}

static myr_status scan_task(void *context, size_t first, size_t last, int thread)
{
    const scan *all = context;
    uint8_t *codes = all->codes + (size_t)thread * BLOCK * all->graph->n_code_bytes;
    myr_status status = MYR_OK;
    for (size_t task = first; status == MYR_OK && task < last; task++)
        status = scan_part(all, task / all->n_parts, task % all->n_parts, codes);
    return status;
}

myr_status myr_hnsw_search_exact(const myr_hnsw *graph, myr_pool *pool, const float *queries, size_t n_queries,
                                 size_t k, myr_hit *hits)
{
    if (!graph || k < 1 || (n_queries > 0 && (!queries || !hits)))
        return myr_fail(MYR_ERR_ARG, "hnsw: an exact search needs a graph, queries, room for hits and k >= 1");
    size_t n_threads = (size_t)myr_pool_n_threads(pool), n_blocks = (n_queries + BLOCK - 1) / BLOCK;
    scan all = {.graph = graph, .queries = queries, .n_queries = n_queries, .k = k, .n_parts = 1, .hits = hits};
    if (n_threads > 1 && n_blocks < n_threads * TASKS_A_THREAD && graph->n_nodes > TILE)
        all.n_parts = n_threads;
    size_t n_hits, block_bytes;
    bool fits = myr_mul(n_queries, all.n_parts, &n_hits) && myr_mul(n_hits, k, &n_hits) &&
                myr_mul(graph->n_code_bytes, BLOCK, &block_bytes);
    if (all.n_parts > 1)
        all.hits = fits ? myr_alloc(n_hits, sizeof *all.hits) : NULL;
    all.codes = fits ? myr_alloc(n_threads, block_bytes) : NULL;
    myr_status status = myr_hnsw_verify(graph, pool);
    if (status == MYR_OK && ((n_queries > 0 && !all.hits) || !all.codes))
        status = myr_fail(MYR_ERR_NOMEM, "hnsw: no memory for %zu queries of %zu hits", n_queries, k);
    if (status == MYR_OK)
        status = myr_pool_for(pool, n_blocks * all.n_parts, 1, scan_task, &all);
    if (status == MYR_OK && all.n_parts > 1)
        myr_topk_join(all.hits, n_queries, all.n_parts, k, hits);
    if (all.n_parts > 1)
        free(all.hits);
    free(all.codes);
    return status;
}
