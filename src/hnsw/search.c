/*
 * Search: down the levels, a walk at level 0, and the nodes found measured again on their full vectors.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"
#include "base/pool.h"

#include <math.h>
#include <stdlib.h>

enum { EF_AT_FIRST = 128, LINE = 64, MAX_LINES = 16, GRAIN = 16 };

struct myr_hnsw_searcher {
    const myr_hnsw *graph;
    hnsw_beam beams[BEAMS];
};

myr_status myr_hnsw_searcher_create(const myr_hnsw *graph, myr_hnsw_searcher **out)
{
    *out = NULL;
    myr_hnsw_searcher *searcher = myr_alloc(1, sizeof *searcher);
    if (!searcher)
        return myr_fail(MYR_ERR_NOMEM, "hnsw: no memory for a searcher");
    searcher->graph = graph;
    for (size_t i = 0; i < BEAMS; i++) {
        myr_status status = hnsw_beam_init(&searcher->beams[i], graph, EF_AT_FIRST);
        if (status != MYR_OK) {
            myr_hnsw_searcher_free(searcher);
            return status;
        }
    }
    *out = searcher;
    return MYR_OK;
}

void myr_hnsw_searcher_free(myr_hnsw_searcher *searcher)
{
    if (!searcher)
        return;
    for (size_t i = 0; i < BEAMS; i++)
        hnsw_beam_fini(&searcher->beams[i]);
    free(searcher);
}

hnsw_beam *hnsw_searcher_beam(myr_hnsw_searcher *searcher)
{
    return searcher->beams;
}

const myr_hnsw *hnsw_searcher_graph(const myr_hnsw_searcher *searcher)
{
    return searcher->graph;
}

static void fetch(const myr_hnsw *graph, uint32_t node)
{
    const char *vector = NULL;
    size_t n_bytes = 0;
    if (graph->vectors) {
        vector = (const char *)(graph->vectors + node * graph->dim);
        n_bytes = graph->dim * sizeof *graph->vectors;
    } else if (graph->halves) {
        vector = (const char *)(graph->halves + node * graph->dim);
        n_bytes = graph->dim * sizeof *graph->halves;
    } /* else the codes, read just now */
    for (size_t i = 0; i < (n_bytes + LINE - 1) / LINE && i < MAX_LINES; i++)
        __builtin_prefetch(vector + i * LINE);
    __builtin_prefetch(graph->alias_first + node);
}

/* The k best of the pool by their full vectors. */
static myr_status rerank(const hnsw_beam *beam, const myr_hnsw *graph, const float *query, const hnsw_query *facts,
                         myr_topk *top)
{
    float bound = INFINITY;
    double reach = INFINITY;
    for (size_t i = 0; i < beam->n && i < AHEAD; i++)
        fetch(graph, key_node(beam->pool[i]));
    for (size_t i = 0; i < beam->n; i++) {
        uint32_t node = key_node(beam->pool[i]);
        if (i + AHEAD < beam->n) {
            uint64_t ahead = beam->pool[i + AHEAD];
            if (!is_beyond(graph, key_node(ahead), key_distance(ahead), reach))
                fetch(graph, key_node(ahead));
        }
        if (is_guarded(graph)) {
            myr_status status = hnsw_guard_node(graph, node, top->k);
            if (status != MYR_OK)
                return status;
        }
        if (is_beyond(graph, node, key_distance(beam->pool[i]), reach))
            continue;
        hnsw_push(graph, query, facts, node, key_distance(beam->pool[i]), top);
        if (myr_topk_bound(top) < bound) {
            bound = myr_topk_bound(top);
            reach = hnsw_reach(graph, facts, bound);
        }
    }
    return MYR_OK;
}

/* Up to BEAMS queries at once; ef at most the number of nodes. */
static myr_status search_group(myr_hnsw_searcher *searcher, const float *queries, size_t n, size_t k, size_t ef,
                               myr_hit *hits, myr_hnsw_stats *stats)
{
    const myr_hnsw *graph = searcher->graph;
    hnsw_beam *beams = searcher->beams;
    hnsw_query facts[BEAMS];
    const uint8_t *targets[BEAMS];
    uint32_t starts[BEAMS] = {0};
    const float *vectors[BEAMS];
    hnsw_places places;
    for (size_t i = 0; i < n; i++)
        vectors[i] = queries + i * graph->dim;
    hnsw_place(graph, vectors, n, &places);
    for (size_t i = 0; i < n; i++) {
        targets[i] = beams[i].codes;
        if (!hnsw_query_of(graph, vectors[i], hnsw_place_of(graph, &places, i), beams[i].codes, &facts[i]))
            return myr_fail(MYR_ERR_ARG, "hnsw: a query holds a value that is not finite");
        myr_status status = hnsw_beam_reserve(&beams[i], ef);
        if (status != MYR_OK)
            return status;
        beams[i].stats = (myr_hnsw_stats){0};
        if (graph->n_nodes > 0)
            starts[i] = hnsw_beam_descend(&beams[i], graph, targets[i], 0);
        if (beams[i].status != MYR_OK)
            return beams[i].status;
    }
    if (graph->n_nodes > 0)
        hnsw_beams_search(beams, n, graph, targets, starts, ef);
    for (size_t i = 0; i < n; i++) {
        myr_topk top;
        myr_status status = beams[i].status;
        myr_topk_init(&top, hits + i * k, k);
        if (graph->n_nodes > 0 && status == MYR_OK)
            status = rerank(&beams[i], graph, vectors[i], &facts[i], &top);
        if (status != MYR_OK)
            return status;
        myr_topk_finish(&top);
        if (stats) {
            stats->n_hops += beams[i].stats.n_hops;
            stats->n_distances += beams[i].stats.n_distances;
        }
    }
    return MYR_OK;
}

myr_status myr_hnsw_search_batch(myr_hnsw_searcher *searcher, const float *queries, size_t n_queries, size_t k,
                                 size_t ef, myr_hit *hits, myr_hnsw_stats *stats)
{
    if (!searcher || (n_queries > 0 && (!queries || !hits)) || k < 1 || k > ef)
        return myr_fail(MYR_ERR_ARG, "hnsw: a search needs a searcher, queries, room for hits and 1 <= k <= ef");
    const myr_hnsw *graph = searcher->graph;
    myr_status status = MYR_OK;
    ef = ef < graph->n_nodes ? ef : graph->n_nodes;
    for (size_t q = 0; q < n_queries && status == MYR_OK; q += BEAMS) {
        size_t n = n_queries - q < BEAMS ? n_queries - q : BEAMS;
        status = search_group(searcher, queries + q * graph->dim, n, k, ef, hits + q * k, stats);
    }
    return status;
}

myr_status myr_hnsw_search(myr_hnsw_searcher *searcher, const float *query, size_t k, size_t ef, myr_hit *hits,
                           myr_hnsw_stats *stats)
{
    return myr_hnsw_search_batch(searcher, query, 1, k, ef, hits, stats);
}

typedef struct crowd {
    const myr_hnsw *graph;
    const float *queries;
    size_t k, ef;
    myr_hit *hits;
    myr_hnsw_searcher **searchers; /* (n_threads) made on first use */
} crowd;

static myr_status search_task(void *context, size_t first, size_t last, int thread)
{
    const crowd *all = context;
    myr_hnsw_searcher **searcher = &all->searchers[thread];
    myr_status status = *searcher ? MYR_OK : myr_hnsw_searcher_create(all->graph, searcher);
    if (status != MYR_OK)
        return status;
    return myr_hnsw_search_batch(*searcher, all->queries + first * all->graph->dim, last - first, all->k, all->ef,
                                 all->hits + first * all->k, NULL);
}

myr_status myr_hnsw_search_all(const myr_hnsw *graph, myr_pool *pool, const float *queries, size_t n_queries, size_t k,
                               size_t ef, myr_hit *hits)
{
    if (!graph || (n_queries > 0 && (!queries || !hits)) || k < 1 || k > ef)
        return myr_fail(MYR_ERR_ARG, "hnsw: a search needs a graph, queries, room for hits and 1 <= k <= ef");
    myr_status status = myr_hnsw_verify(graph, pool); /* many queries touch everything */
    if (status != MYR_OK)
        return status;
    size_t n_threads = (size_t)myr_pool_n_threads(pool);
    crowd all = {.graph = graph,
                 .queries = queries,
                 .k = k,
                 .ef = ef,
                 .hits = hits,
                 .searchers = myr_alloc(n_threads, sizeof(myr_hnsw_searcher *))};
    status = all.searchers ? myr_pool_for(pool, n_queries, GRAIN, search_task, &all)
                           : myr_fail(MYR_ERR_NOMEM, "hnsw: no memory for %zu searchers", n_threads);
    for (size_t i = 0; all.searchers && i < n_threads; i++)
        myr_hnsw_searcher_free(all.searchers[i]);
    free(all.searchers);
    return status;
}
