/*
 * A graph in a large file, searched before all of it was checked.
 *
 * What a search is about to read is checked first: the file's blocks by their checksums, and the numbers in them for
 * staying within the arrays, since a hostile file has its checksums right. So a walk over a damaged graph ends in an
 * error, or finds what it would have found. Everything but a search wants the whole graph checked, once; from then on,
 * and in graphs that are made in memory, nothing is asked any more.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"
#include "myriops/store.h"

#include <stdlib.h>
#include <string.h>

enum { GRAIN_BYTES = 1 << 20 };

myr_status hnsw_guard_create(const myr_sections *file, hnsw_guard **out)
{
    hnsw_guard *guard = *out = myr_alloc(1, sizeof *guard);
    if (!guard)
        return myr_fail(MYR_ERR_NOMEM, "hnsw: no memory for a graph");
    guard->file = file;
    pthread_mutex_init(&guard->lock, NULL);
    atomic_init(&guard->is_known, false);
    return MYR_OK;
}

void hnsw_guard_free(hnsw_guard *guard)
{
    if (guard)
        pthread_mutex_destroy(&guard->lock);
    free(guard);
}

static myr_status touch(const myr_hnsw *graph, const void *data, size_t n_bytes)
{
    return graph->guard->file ? myr_sections_touch(graph->guard->file, data, n_bytes) : MYR_OK;
}

/* ---- what a search reads ---- */

static myr_status check_level(const myr_hnsw *graph, uint32_t node, int level)
{
    myr_status status = touch(graph, graph->levels + node, sizeof *graph->levels);
    if (status == MYR_OK)
        status = touch(graph, graph->upper_first + node, sizeof *graph->upper_first);
    if (status != MYR_OK)
        return status;
    if (graph->levels[node] < level || (size_t)graph->upper_first[node] + (size_t)level > graph->n_upper)
        return myr_fail(MYR_ERR_FORMAT, "hnsw: node %u has no links at level %d, where others link to it", node, level);
    return MYR_OK;
}

myr_status hnsw_guard_links(const myr_hnsw *graph, uint32_t node, int level)
{
    size_t room = room_at(graph, level);
    myr_status status = level > 0 ? check_level(graph, node, level) : MYR_OK;
    const uint32_t *links = status == MYR_OK ? links_at(graph, node, level) : NULL;
    if (status == MYR_OK)
        status = touch(graph, links, room * sizeof *links);
    for (size_t i = 0; status == MYR_OK && i < room && links[i] != NONE; i++)
        if (links[i] >= graph->n_nodes)
            status = myr_fail(MYR_ERR_FORMAT, "hnsw: node %u links to node %u of %zu at level %d", node, links[i],
                              graph->n_nodes, level);
    return status;
}

myr_status hnsw_guard_axes(const myr_hnsw *graph)
{
    myr_status status = touch(graph, graph->axes, graph->n_axes * graph->dim * sizeof *graph->axes);
    return status == MYR_OK ? touch(graph, graph->offsets, graph->n_axes * sizeof *graph->offsets) : status;
}

myr_status hnsw_guard_codes(const myr_hnsw *graph, uint32_t node)
{
    static const uint8_t zeros[MYR_CODE_ALIGNMENT];
    const uint8_t *codes = codes_of(graph, node);
    size_t n_bytes = coded_bytes(graph);
    myr_status status = touch(graph, codes, graph->n_code_bytes);
    if (status == MYR_OK && memcmp(codes + n_bytes, zeros, graph->n_code_bytes - n_bytes) != 0)
        status = myr_fail(MYR_ERR_FORMAT, "hnsw: the codes of node %u go on behind the last", node);
    return status;
}

/* Of a node, its rows, and the first n ids. */
static myr_status check_rows(const myr_hnsw *graph, uint32_t node, size_t n)
{
    const uint32_t *first = graph->alias_first + node;
    myr_status status = touch(graph, first, 2 * sizeof *first);
    if (status == MYR_OK && (first[0] >= first[1] || first[1] > graph->n))
        status = myr_fail(MYR_ERR_FORMAT, "hnsw: node %u has no rows", node);
    for (size_t i = first[0]; status == MYR_OK && i < first[1] && i - first[0] < n; i++) {
        uint32_t row = 0;
        status = touch(graph, graph->alias_row + i, sizeof *graph->alias_row);
        if (status == MYR_OK && (row = graph->alias_row[i]) >= graph->n)
            status = myr_fail(MYR_ERR_FORMAT, "hnsw: node %u has row %u of %zu", node, row, graph->n);
        if (status == MYR_OK)
            status = touch(graph, graph->ids + row, sizeof *graph->ids);
    }
    return status;
}

static myr_status check_vector(const myr_hnsw *graph, uint32_t node)
{
    if (graph->vectors)
        return touch(graph, graph->vectors + node * graph->dim, graph->dim * sizeof *graph->vectors);
    if (graph->halves)
        return touch(graph, graph->halves + node * graph->dim, graph->dim * sizeof *graph->halves);
    return hnsw_guard_codes(graph, node);
}

myr_status hnsw_guard_node(const myr_hnsw *graph, uint32_t node, size_t n_rows)
{
    myr_status status = touch(graph, graph->residuals + node, sizeof *graph->residuals);
    if (status == MYR_OK)
        status = check_vector(graph, node);
    return status == MYR_OK ? check_rows(graph, node, n_rows) : status;
}

myr_status hnsw_guard_row(const myr_hnsw *graph, size_t row)
{
    myr_status status = touch(graph, graph->row_node + row, sizeof *graph->row_node);
    if (status == MYR_OK && graph->row_node[row] >= graph->n_nodes)
        status = myr_fail(MYR_ERR_FORMAT, "hnsw: row %zu belongs to node %u of %zu", row, graph->row_node[row],
                          graph->n_nodes);
    return status == MYR_OK ? check_vector(graph, graph->row_node[row]) : status;
}

/* ---- the whole ---- */

static myr_status touch_task(void *context, size_t first, size_t last, int thread)
{
    (void)thread;
    const myr_sections *file = context;
    size_t n_bytes;
    const unsigned char *bytes = myr_sections_bytes(file, &n_bytes);
    for (size_t i = first; i < last; i++) {
        size_t at = i * GRAIN_BYTES, left = n_bytes - at;
        myr_status status = myr_sections_touch(file, bytes + at, left < GRAIN_BYTES ? left : GRAIN_BYTES);
        if (status != MYR_OK)
            return status;
    }
    return MYR_OK;
}

static myr_status check_all(const myr_hnsw *graph, myr_pool *pool)
{
    myr_status status = MYR_OK;
    if (graph->guard->file) {
        size_t n_bytes;
        myr_sections_bytes(graph->guard->file, &n_bytes);
        status = myr_pool_for(pool, (n_bytes + GRAIN_BYTES - 1) / GRAIN_BYTES, 1, touch_task,
                              (void *)(uintptr_t)graph->guard->file);
    }
    return status == MYR_OK ? hnsw_check_shape(graph) : status;
}

myr_status myr_hnsw_verify(const myr_hnsw *graph, myr_pool *pool)
{
    myr_status status = MYR_OK;
    if (!is_guarded(graph))
        return MYR_OK;
    pthread_mutex_lock(&graph->guard->lock);
    if (is_guarded(graph))
        status = check_all(graph, pool);
    if (status == MYR_OK)
        atomic_store_explicit(&graph->guard->is_known, true, memory_order_release);
    pthread_mutex_unlock(&graph->guard->lock);
    return status;
}
