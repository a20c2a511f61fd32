/*
 * Update: a new graph from an old one, with rows removed or added.
 *
 * The old graph stays as it was, so that others go on searching it. A node that stays keeps its level and its links.
 * One that has lost links selects anew, level by level, among those it still has and those of its lost neighbours that
 * stay: the ways through a removed node are closed from both of its sides. All read the old graph only, so the outcome
 * does not depend on the threads. New nodes are then linked as in a build (batch.c).
 *
 * After Singh et al. 2021, FreshDiskANN, Algorithm 4, with the selection of HNSW.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

enum { GRAIN = 64 };

typedef struct update {
    const myr_hnsw *old;
    myr_hnsw *graph;
    size_t n; /* rows of the graph to be */
    int64_t *ids;
    const float **rows;
    float *decoded;    /* (old n_nodes, dim) where the old graph keeps no vectors */
    uint32_t *row_old; /* (n) the node of the old graph, NONE = added */
    uint32_t *old_of;  /* (n_nodes) the node of the old graph, NONE = new */
    uint32_t *new_of;  /* (old n_nodes) the node of the new, NONE = gone */
    uint64_t *keys;    /* (n_threads, n_keys) */
    uint32_t *near;    /* (n_threads, n_keys) */
    size_t n_keys;
} update;

/* Rows to take away from the old ones, and rows to put to them; ids ascend in both. */
typedef struct change {
    const int64_t *removed;
    size_t n_removed;
    const int64_t *added;
    size_t n_added;
    const float *vectors; /* (n_added, dim) */
} change;

/* ---- rows ---- */

static void keep_row(update *all, size_t row)
{
    const myr_hnsw *old = all->old;
    uint32_t node = old->row_node[row];
    all->ids[all->n] = old->ids[row];
    all->rows[all->n] = all->decoded ? all->decoded + node * old->dim : floats_of(old, node);
    all->row_old[all->n++] = node;
}

static void add_row(update *all, const change *asked, size_t i)
{
    all->ids[all->n] = asked->added[i];
    all->rows[all->n] = asked->vectors + i * all->old->dim;
    all->row_old[all->n++] = NONE;
}

static myr_status merge_rows(update *all, const change *asked)
{
    const myr_hnsw *old = all->old;
    size_t gone = 0, added = 0;
    for (size_t row = 0; row < old->n; row++) {
        int64_t id = old->ids[row];
        while (added < asked->n_added && asked->added[added] < id)
            add_row(all, asked, added++);
        if (added < asked->n_added && asked->added[added] == id)
            return myr_fail(MYR_ERR_ARG, "hnsw: id %lld is in the graph already; remove it first", (long long)id);
        if (gone < asked->n_removed && asked->removed[gone] < id)
            break; /* passed, and not there */
        if (gone < asked->n_removed && asked->removed[gone] == id)
            gone++;
        else
            keep_row(all, row);
    }
    if (gone < asked->n_removed)
        return myr_fail(MYR_ERR_NOT_FOUND, "hnsw: id %lld is not in the graph", (long long)asked->removed[gone]);
    while (added < asked->n_added)
        add_row(all, asked, added++);
    return MYR_OK;
}

static bool decode(update *all)
{
    const myr_hnsw *old = all->old;
    size_t row_bytes = old->dim * sizeof *all->decoded;
    if (old->vectors || old->is_float)
        return true;
    all->decoded = myr_alloc_huge(old->n_nodes, row_bytes);
    for (size_t i = 0; all->decoded && i < old->n_nodes; i++)
        hnsw_copy_vector(old, (uint32_t)i, all->decoded + i * old->dim);
    return all->decoded;
}

static myr_status gather_rows(update *all, const change *asked)
{
    size_t most = all->old->n + asked->n_added;
    if (most >= (size_t)1 << 31)
        return myr_fail(MYR_ERR_LIMIT, "hnsw: %zu vectors; one graph holds fewer than 2^31: use more shards", most);
    all->ids = myr_alloc(most, sizeof *all->ids);
    all->rows = myr_alloc(most, sizeof *all->rows);
    all->row_old = myr_alloc(most, sizeof *all->row_old);
    if (!all->ids || !all->rows || !all->row_old || !decode(all))
        return MYR_ERR_NOMEM;
    return merge_rows(all, asked);
}

/* ---- nodes ---- */

static myr_status make_graph(update *all, myr_pool *pool)
{
    const myr_hnsw *old = all->old;
    myr_hnsw *graph = all->graph = myr_alloc(1, sizeof *graph);
    if (!graph)
        return MYR_ERR_NOMEM;
    *graph = (myr_hnsw){.n = all->n,
                        .dim = old->dim,
                        .n_tail = old->n_tail,
                        .n_code_bytes = old->n_code_bytes,
                        .M = old->M,
                        .ef_construction = old->ef_construction,
                        .entry = NONE,
                        .seed = old->seed,
                        .metric = old->metric,
                        .code_min = old->code_min,
                        .code_max = old->code_max,
                        .radius = old->radius,
                        .scale = old->scale,
                        .is_float = old->is_float,
                        .kernel = old->kernel,
                        .ids = all->ids};
    all->ids = NULL; /* the graph's now */
    if (hnsw_copy_axes(old, graph) != MYR_OK)
        return MYR_ERR_NOMEM;
    return hnsw_make_nodes(graph, all->rows, pool);
}

/* Nodes are numbered by their first rows, and which row is first may have changed: the map has no order. */
static myr_status map_nodes(update *all)
{
    const myr_hnsw *graph = all->graph;
    all->old_of = myr_alloc(graph->n_nodes, sizeof *all->old_of);
    all->new_of = myr_alloc(all->old->n_nodes, sizeof *all->new_of);
    if (!all->old_of || !all->new_of)
        return MYR_ERR_NOMEM;
    if (graph->n_nodes > 0)
        memset(all->old_of, 0xff, graph->n_nodes * sizeof *all->old_of);
    if (all->old->n_nodes > 0)
        memset(all->new_of, 0xff, all->old->n_nodes * sizeof *all->new_of);
    for (size_t row = 0; row < graph->n; row++) {
        uint32_t before = all->row_old[row], *place = &all->old_of[graph->row_node[row]];
        if (before == NONE)
            continue;
        if (*place != NONE && *place != before) /* only a damaged file; their levels need not agree */
            return myr_fail(MYR_ERR_FORMAT, "hnsw: nodes %u and %u are one vector; build the index again", *place,
                            before);
        *place = before;
        all->new_of[all->row_old[row]] = graph->row_node[row];
    }
    return MYR_OK;
}

/* The entry point stays, or gives way to the first of the highest nodes that do. */
static void choose_entry(update *all)
{
    const myr_hnsw *old = all->old;
    myr_hnsw *graph = all->graph;
    graph->entry = old->entry == NONE ? NONE : all->new_of[old->entry];
    bool stays = graph->entry != NONE;
    for (size_t i = 0; i < graph->n_nodes && !stays; i++)
        if (all->old_of[i] != NONE && (graph->entry == NONE || graph->levels[i] > graph->levels[graph->entry]))
            graph->entry = (uint32_t)i;
    graph->n_levels = graph->entry == NONE ? 0 : graph->levels[graph->entry] + 1;
}

/* ---- links ---- */

/* The links of an old node that lead to nodes that stay, as those, without one of them. Returns how many. */
static size_t live_links(const update *all, uint32_t old_node, int level, uint32_t except, uint32_t *links)
{
    const uint32_t *from = links_at(all->old, old_node, level);
    size_t room = room_at(all->old, level), n = 0;
    for (size_t i = 0; i < room && from[i] != NONE; i++) {
        links[n] = all->new_of[from[i]];
        n += links[n] != NONE && links[n] != except;
    }
    return n;
}

static bool is_among(const uint32_t *links, size_t n, uint32_t node)
{
    for (size_t i = 0; i < n; i++)
        if (links[i] == node)
            return true;
    return false;
}

/* The links that are left, and in the places of the lost ones a choice of those that the lost ones had. */
static void relink(const update *all, uint32_t node, int level, uint32_t *near, uint64_t *keys)
{
    const myr_hnsw *graph = all->graph;
    const uint32_t *from = links_at(all->old, all->old_of[node], level);
    uint32_t *links = own_links(graph, node, level);
    size_t room = room_at(graph, level), n_kept = live_links(all, all->old_of[node], level, node, links);
    size_t n = 0, n_distinct = 0;
    for (size_t i = 0; i < room && from[i] != NONE; i++)
        if (all->new_of[from[i]] == NONE)
            n += live_links(all, from[i], level, node, near + n);
    hnsw_measure(graph, node, near, n, keys);
    hnsw_sort_keys(keys, n);
    for (size_t i = 0; i < n; i++)
        if ((i == 0 || keys[i] != keys[i - 1]) && !is_among(links, n_kept, key_node(keys[i])))
            keys[n_distinct++] = keys[i];
    hnsw_select(graph, node, keys, n_distinct, links, room, n_kept);
}

static myr_status carry_task(void *context, size_t first, size_t last, int thread)
{
    const update *all = context;
    const myr_hnsw *graph = all->graph;
    uint32_t *near = all->near + (size_t)thread * all->n_keys;
    uint64_t *keys = all->keys + (size_t)thread * all->n_keys;
    for (uint32_t node = (uint32_t)first; node < last; node++) {
        if (all->old_of[node] == NONE)
            continue;
        for (int level = 0; level <= graph->levels[node]; level++) {
            const uint32_t *from = links_at(all->old, all->old_of[node], level);
            size_t n = live_links(all, all->old_of[node], level, NONE, near);
            if (n == count_links(from, room_at(graph, level)))
                memcpy(own_links(graph, node, level), near, n * sizeof *near);
            else
                relink(all, node, level, near, keys);
        }
    }
    return MYR_OK;
}

static myr_status carry_links(update *all, myr_pool *pool)
{
    size_t room = room_at(all->graph, 0), n_threads = (size_t)myr_pool_n_threads(pool);
    all->n_keys = room * (room + 1); /* own links and those of each; at most 1024 * 1025 */
    all->keys = myr_alloc(n_threads, all->n_keys * sizeof *all->keys);
    all->near = myr_alloc(n_threads, all->n_keys * sizeof *all->near);
    if (!all->keys || !all->near)
        return MYR_ERR_NOMEM;
    return myr_pool_for(pool, all->graph->n_nodes, GRAIN, carry_task, all);
}

/* ---- the whole ---- */

static myr_status link_new(update *all, myr_pool *pool)
{
    uint32_t *order;
    size_t n;
    myr_status status = hnsw_make_order(all->graph, all->old_of, &order, &n);
    if (status == MYR_OK)
        status = hnsw_link_nodes(all->graph, order, n, pool);
    free(order);
    return status;
}

static myr_status run(update *all, const change *asked, myr_pool *pool)
{
    myr_status status = gather_rows(all, asked);
    if (status == MYR_OK)
        status = make_graph(all, pool);
    if (status == MYR_OK)
        status = map_nodes(all);
    if (status == MYR_OK)
        status = hnsw_make_levels(all->graph, all->old, all->old_of);
    if (status != MYR_OK)
        return status;
    choose_entry(all);
    status = carry_links(all, pool);
    if (status == MYR_OK && asked->n_removed > 0 && all->graph->n_nodes > 0)
        status = hnsw_repair(all->graph, pool);
    return status == MYR_OK && asked->n_added > 0 ? link_new(all, pool) : status;
}

static myr_status change_graph(const myr_hnsw *old, const change *asked, myr_pool *pool, myr_hnsw **out)
{
    update all = {.old = old};
    myr_status status = run(&all, asked, pool);
    free(all.ids);
    free(all.rows);
    free(all.decoded);
    free(all.row_old);
    free(all.old_of);
    free(all.new_of);
    free(all.keys);
    free(all.near);
    if (status == MYR_OK)
        *out = all.graph;
    else
        myr_hnsw_free(all.graph);
    return status == MYR_ERR_NOMEM ? myr_fail(MYR_ERR_NOMEM, "hnsw: no memory to change a graph of %zu vectors", old->n)
                                   : status;
}

myr_status myr_hnsw_add(const myr_hnsw *graph, const float *vectors, size_t n, const int64_t *ids, myr_pool *pool,
                        myr_hnsw **out)
{
    *out = NULL;
    if (!graph || (n > 0 && (!vectors || !ids)))
        return myr_fail(MYR_ERR_ARG, "hnsw: to add needs a graph, vectors and their ids");
    myr_status status = hnsw_check_ids(ids, n);
    if (status == MYR_OK)
        status = myr_hnsw_verify(graph, pool);
    change asked = {.added = ids, .n_added = n, .vectors = vectors};
    return status == MYR_OK ? change_graph(graph, &asked, pool, out) : status;
}

myr_status myr_hnsw_remove(const myr_hnsw *graph, const int64_t *ids, size_t n, myr_pool *pool, myr_hnsw **out)
{
    *out = NULL;
    if (!graph || (n > 0 && !ids))
        return myr_fail(MYR_ERR_ARG, "hnsw: to remove needs a graph and ids");
    myr_status status = hnsw_check_ids(ids, n);
    if (status == MYR_OK)
        status = myr_hnsw_verify(graph, pool);
    change asked = {.removed = ids, .n_removed = n};
    return status == MYR_OK ? change_graph(graph, &asked, pool, out) : status;
}
