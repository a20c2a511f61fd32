/*
 * Search: down the levels, a walk at level 0, and the nodes found measured again on their full vectors.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>

enum { EF_AT_FIRST = 128, LINE = 64, MAX_LINES = 16 };

struct myr_hnsw_searcher {
    const myr_hnsw *graph;
    hnsw_beam beam;
};

myr_status myr_hnsw_searcher_create(const myr_hnsw *graph, myr_hnsw_searcher **out)
{
    *out = NULL;
    myr_hnsw_searcher *searcher = myr_alloc(1, sizeof *searcher);
    if (!searcher)
        return myr_fail(MYR_ERR_NOMEM, "hnsw: no memory for a searcher");
    searcher->graph = graph;
    myr_status status = hnsw_beam_init(&searcher->beam, graph, EF_AT_FIRST);
    if (status != MYR_OK)
        free(searcher);
    else
        *out = searcher;
    return status;
}

void myr_hnsw_searcher_free(myr_hnsw_searcher *searcher)
{
    if (!searcher)
        return;
    hnsw_beam_fini(&searcher->beam);
    free(searcher);
}

static void fetch(const myr_hnsw *graph, uint32_t node)
{
    const char *vector = (const char *)(graph->vectors + node * graph->dim);
    size_t n_lines = graph->dim * sizeof(float) / LINE + 1;
    for (size_t i = 0; i < n_lines && i < MAX_LINES; i++)
        __builtin_prefetch(vector + i * LINE);
    __builtin_prefetch(graph->alias_first + node);
}

/* The k best of the pool by their full vectors. */
static void rerank(const hnsw_beam *beam, const myr_hnsw *graph, const float *query, const hnsw_query *facts,
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
        if (is_beyond(graph, node, key_distance(beam->pool[i]), reach))
            continue;
        hnsw_push(graph, query, node, top);
        if (myr_topk_bound(top) < bound) {
            bound = myr_topk_bound(top);
            reach = hnsw_reach(graph, facts, bound);
        }
    }
}

myr_status myr_hnsw_search(myr_hnsw_searcher *searcher, const float *query, size_t k, size_t ef, myr_hit *hits,
                           myr_hnsw_stats *stats)
{
    if (!searcher || !query || !hits || k < 1 || k > ef)
        return myr_fail(MYR_ERR_ARG, "hnsw: a search needs a searcher, a query, room for hits and 1 <= k <= ef");
    const myr_hnsw *graph = searcher->graph;
    hnsw_beam *beam = &searcher->beam;
    hnsw_query facts;
    myr_topk top;
    myr_topk_init(&top, hits, k);
    if (!hnsw_query_of(graph, query, beam->codes, &facts))
        return myr_fail(MYR_ERR_ARG, "hnsw: the query holds a value that is not finite");
    if (graph->n_nodes > 0) {
        ef = ef < graph->n_nodes ? ef : graph->n_nodes;
        myr_status status = hnsw_beam_reserve(beam, ef);
        if (status != MYR_OK)
            return status;
        beam->stats = (myr_hnsw_stats){0};
        uint32_t start = hnsw_beam_descend(beam, graph, beam->codes, 0);
        hnsw_beam_search(beam, graph, beam->codes, 0, start, ef);
        rerank(beam, graph, query, &facts, &top);
        if (stats) {
            stats->n_hops += beam->stats.n_hops;
            stats->n_distances += beam->stats.n_distances;
        }
    }
    myr_topk_finish(&top);
    return MYR_OK;
}
