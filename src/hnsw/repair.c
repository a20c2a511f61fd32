/*
 * Repair: at every level each node is to be reached from the entry point.
 *
 * A breadth-first walk gives a tree over what is reached. Each orphan is then linked from
 * the nearest reached node that has a free place or a link that is no edge of the tree (the
 * farthest such link makes room), and with it comes all that it reaches. Tree edges are
 * never removed, so what was reached stays so, and each step reaches more: it ends. There
 * is always a node with room, since m reached nodes have at least 2 m places at level 0 (M
 * m above it) and only m - 1 of them hold tree edges.
 *
 * Orphans search for their neighbours in parallel, in rounds over a graph that stands
 * still; the links are set one after another in the order of nodes.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

enum { ROUND = 1024, N_NEAR = 32, GRAIN = 4 };

typedef struct repair {
    const myr_hnsw *graph;
    hnsw_beam *beams; /* (n_threads) */
    size_t ef;
    int level;
    uint32_t *parent;  /* (n_nodes) in the tree; NONE = not reached; the entry point's is itself */
    uint32_t *reached; /* (n_nodes) in the order they were reached */
    size_t n_reached;
    size_t n_full;                /* the first of reached that are known to have no room */
    uint32_t orphans[ROUND];      /* of this round */
    uint32_t near[ROUND][N_NEAR]; /* their nearest, NONE behind the last */
} repair;

/* The node and all that can be reached through it join the tree. */
static void reach(repair *all, uint32_t node, uint32_t parent)
{
    size_t room = room_at(all->graph, all->level), at = all->n_reached;
    all->parent[node] = parent;
    all->reached[all->n_reached++] = node;
    for (; at < all->n_reached; at++) {
        uint32_t from = all->reached[at];
        const uint32_t *links = links_at(all->graph, from, all->level);
        for (size_t i = 0; i < room && links[i] != NONE; i++) {
            if (all->parent[links[i]] != NONE)
                continue;
            all->parent[links[i]] = from;
            all->reached[all->n_reached++] = links[i];
        }
    }
}

/* The place among a node's links that a new one may take: a free one, or the farthest off the tree; room if none. */
static size_t place_for(const repair *all, uint32_t node)
{
    const myr_hnsw *graph = all->graph;
    const uint32_t *links = links_at(graph, node, all->level);
    size_t room = room_at(graph, all->level), n = count_links(links, room), place = room;
    uint64_t keys[MAX_LINKS];
    if (n < room)
        return n;
    hnsw_measure(graph, node, links, n, keys);
    for (size_t i = 0; i < n; i++)
        if (all->parent[links[i]] != node && (place == room || keys[i] > keys[place]))
            place = i;
    return place;
}

static bool try_link(repair *all, uint32_t from, uint32_t orphan)
{
    if (all->parent[from] == NONE)
        return false; /* found by way of the levels above */
    size_t place = place_for(all, from);
    if (place == room_at(all->graph, all->level))
        return false;
    own_links(all->graph, from, all->level)[place] = orphan;
    reach(all, orphan, from);
    return true;
}

static void adopt(repair *all, size_t i)
{
    uint32_t orphan = all->orphans[i];
    if (all->parent[orphan] != NONE)
        return; /* reached through another by now */
    for (size_t j = 0; j < N_NEAR && all->near[i][j] != NONE; j++)
        if (try_link(all, all->near[i][j], orphan))
            return;
    while (!try_link(all, all->reached[all->n_full], orphan))
        all->n_full++; /* room does not come back */
}

static myr_status search_task(void *context, size_t first, size_t last, int thread)
{
    repair *all = context;
    const myr_hnsw *graph = all->graph;
    hnsw_beam *beam = &all->beams[thread];
    for (size_t i = first; i < last; i++) {
        /* Tail and all, where there are tails (codes.c): short rows, of whom half may be orphans, then hang on rows
         * like themselves and not on the longest, whose links every search needs. */
        const uint8_t *codes = codes_of(graph, all->orphans[i]);
        uint32_t start = hnsw_beam_descend(beam, graph, codes, all->level);
        hnsw_beam_search(beam, graph, codes, all->level, start, all->ef);
        size_t n = 0;
        for (size_t j = 0; j < beam->n && n < N_NEAR; j++)
            if (all->parent[key_node(beam->pool[j])] != NONE)
                all->near[i][n++] = key_node(beam->pool[j]);
        if (n < N_NEAR)
            all->near[i][n] = NONE;
    }
    return MYR_OK;
}

static myr_status repair_level(repair *all, myr_pool *pool)
{
    const myr_hnsw *graph = all->graph;
    memset(all->parent, 0xff, graph->n_nodes * sizeof *all->parent);
    all->n_reached = all->n_full = 0;
    reach(all, graph->entry, graph->entry);
    myr_status status = MYR_OK;
    for (size_t node = 0; status == MYR_OK && node < graph->n_nodes;) {
        size_t n = 0;
        for (; node < graph->n_nodes && n < ROUND; node++)
            if (graph->levels[node] >= all->level && all->parent[node] == NONE)
                all->orphans[n++] = (uint32_t)node;
        status = myr_pool_for(pool, n, GRAIN, search_task, all);
        for (size_t i = 0; status == MYR_OK && i < n; i++)
            adopt(all, i);
    }
    return status;
}

static myr_status repair_all(repair *all, myr_pool *pool)
{
    const myr_hnsw *graph = all->graph;
    myr_status status = MYR_OK;
    for (int i = 0; status == MYR_OK && i < myr_pool_n_threads(pool); i++)
        status = hnsw_beam_init(&all->beams[i], graph, all->ef);
    for (all->level = graph->n_levels - 1; status == MYR_OK && all->level >= 0; all->level--)
        status = repair_level(all, pool);
    return status;
}

myr_status hnsw_repair(const myr_hnsw *graph, myr_pool *pool)
{
    int n_threads = myr_pool_n_threads(pool);
    repair *all = myr_alloc(1, sizeof *all);
    if (!all)
        return MYR_ERR_NOMEM;
    all->graph = graph;
    all->ef = hnsw_build_ef(graph);
    all->parent = myr_alloc(graph->n_nodes, sizeof *all->parent);
    all->reached = myr_alloc(graph->n_nodes, sizeof *all->reached);
    all->beams = myr_alloc((size_t)n_threads, sizeof *all->beams);
    myr_status status = all->parent && all->reached && all->beams ? repair_all(all, pool) : MYR_ERR_NOMEM;
    for (int i = 0; all->beams && i < n_threads; i++)
        hnsw_beam_fini(&all->beams[i]);
    free(all->beams);
    free(all->parent);
    free(all->reached);
    free(all);
    return status;
}
