/*
 * The graph's facts, its digest, its end.
 */
#include "hnsw/graph.h"

#include "base/checksum.h"

#include <stdlib.h>
#include <string.h>

static void release(const void *array)
{
    free((void *)(uintptr_t)array);
}

void myr_hnsw_free(myr_hnsw *graph)
{
    if (!graph)
        return;
    if (!graph->borrows) {
        release(graph->ids);
        release(graph->row_node);
        release(graph->alias_first);
        release(graph->alias_row);
        release(graph->vectors);
        release(graph->halves);
        release(graph->codes);
        release(graph->axes);
        release(graph->offsets);
        release(graph->residuals);
        release(graph->levels);
        release(graph->upper_first);
        release(graph->links);
        release(graph->upper_links);
    }
    hnsw_guard_free(graph->guard);
    free(graph);
}

/* Of all arrays. */
static size_t bytes_of(const myr_hnsw *graph)
{
    size_t row = sizeof *graph->ids + sizeof *graph->row_node + sizeof *graph->alias_row;
    size_t node = sizeof *graph->alias_first + sizeof *graph->residuals + sizeof *graph->levels +
                  sizeof *graph->upper_first + graph->n_code_bytes + room_at(graph, 0) * sizeof *graph->links;
    node += graph->vectors ? graph->dim * sizeof *graph->vectors : 0;
    node += graph->halves ? graph->dim * sizeof *graph->halves : 0;
    return graph->n_axes * (graph->dim + 1) * sizeof *graph->axes + graph->n * row + graph->n_nodes * node +
           graph->n_upper * room_at(graph, 1) * sizeof *graph->upper_links;
}

void myr_hnsw_describe(const myr_hnsw *graph, myr_hnsw_facts *facts)
{
    size_t n_links = 0, room = room_at(graph, 0);
    for (size_t i = 0; i < graph->n_nodes && !is_guarded(graph); i++)
        n_links += count_links(links_at(graph, (uint32_t)i, 0), room);
    *facts = (myr_hnsw_facts){.n = graph->n,
                              .dim = graph->dim,
                              .n_axes = graph->n_axes,
                              .M = graph->M,
                              .ef_construction = graph->ef_construction,
                              .n_levels = graph->n_levels,
                              .seed = graph->seed,
                              .metric = graph->metric,
                              .n_nodes = graph->n_nodes,
                              .n_bytes = bytes_of(graph),
                              .mean_links = graph->n_nodes ? (double)n_links / (double)graph->n_nodes : 0};
}

void hnsw_copy_vector(const myr_hnsw *graph, uint32_t node, float *vector)
{
    const float *floats = floats_of(graph, node);
    if (floats)
        memcpy(vector, floats, graph->dim * sizeof *vector);
    else if (graph->halves)
        graph->kernel->widen(graph->halves + node * graph->dim, graph->dim, vector);
    else
        myr_dequantise(&graph->scale, codes_of(graph, node), graph->dim, vector);
}

myr_status myr_hnsw_vector(const myr_hnsw *graph, size_t row, float *vector)
{
    myr_status status = is_guarded(graph) ? hnsw_guard_row(graph, row) : MYR_OK;
    if (status != MYR_OK)
        return status;
    hnsw_copy_vector(graph, graph->row_node[row], vector);
    return MYR_OK;
}

myr_status myr_hnsw_first_equal(const myr_hnsw *graph, size_t row, size_t *first)
{
    myr_status status = myr_hnsw_verify(graph, NULL);
    if (status == MYR_OK)
        *first = graph->alias_row[graph->alias_first[graph->row_node[row]]];
    return status;
}

static void add_number(myr_sha256 *hash, uint64_t value)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(value >> 8 * i);
    myr_sha256_update(hash, bytes, sizeof bytes);
}

static void add_float(myr_sha256 *hash, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    add_number(hash, bits);
}

void myr_hnsw_digest(const myr_hnsw *graph, char text[65])
{
    size_t M = (size_t)graph->M;
    myr_sha256 *hash = myr_hnsw_verify(graph, NULL) == MYR_OK ? myr_sha256_create() : NULL;
    if (!hash) {
        strcpy(text, "");
        return;
    }
    add_number(hash, graph->n);
    add_number(hash, graph->dim);
    add_number(hash, graph->n_nodes);
    add_number(hash, M);
    add_number(hash, (uint64_t)graph->ef_construction);
    add_number(hash, graph->seed);
    add_number(hash, (uint64_t)graph->metric);
    add_float(hash, graph->code_min);
    add_float(hash, graph->code_max);
    if (graph->metric == MYR_METRIC_IP)
        add_float(hash, graph->radius);
    if (graph->is_float)
        add_number(hash, 1);
    if (graph->n_axes > 0) {
        add_number(hash, graph->n_axes);
        myr_sha256_update(hash, graph->axes, graph->n_axes * graph->dim * sizeof *graph->axes);
        myr_sha256_update(hash, graph->offsets, graph->n_axes * sizeof *graph->offsets);
    }
    add_number(hash, graph->entry);
    myr_sha256_update(hash, graph->ids, graph->n * sizeof *graph->ids);
    myr_sha256_update(hash, graph->row_node, graph->n * sizeof *graph->row_node);
    myr_sha256_update(hash, graph->codes, graph->n_nodes * graph->n_code_bytes);
    myr_sha256_update(hash, graph->levels, graph->n_nodes * sizeof *graph->levels);
    myr_sha256_update(hash, graph->links, graph->n_nodes * 2 * M * sizeof *graph->links);
    myr_sha256_update(hash, graph->upper_links, graph->n_upper * M * sizeof *graph->upper_links);
    myr_sha256_finish(hash, text);
}
