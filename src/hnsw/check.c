/*
 * The invariants. What a search relies on to stay within its arrays is checked of every
 * file that is opened; reachability only where somebody asks.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

myr_status hnsw_check_numbers(const myr_hnsw *graph)
{
    if (graph->n >= (size_t)1 << 31 || graph->n_nodes > graph->n || (graph->n > 0 && graph->n_nodes == 0))
        return myr_fail(MYR_ERR_FORMAT, "hnsw: %zu nodes for %zu rows", graph->n_nodes, graph->n);
    if (graph->n_axes % MYR_PANEL != 0 || graph->n_axes > MOST_AXES ||
        (graph->n_axes > 0 && (graph->is_float || graph->metric == MYR_METRIC_IP)))
        return myr_fail(MYR_ERR_FORMAT, "hnsw: %zu axes", graph->n_axes);
    size_t n_values = graph->dim + graph->n_tail;
    if (graph->dim < 1 || n_values > MYR_CODE_MAX_DIM || graph->n_code_bytes != myr_code_bytes(coded_bytes(graph)))
        return myr_fail(MYR_ERR_FORMAT, "hnsw: dimension %zu", graph->dim);
    if (graph->M < 2 || graph->M > MAX_M || graph->ef_construction < 1)
        return myr_fail(MYR_ERR_FORMAT, "hnsw: M = %d, ef_construction = %d", graph->M, graph->ef_construction);
    if (graph->n_levels < 0 || graph->n_levels > MAX_LEVEL + 1 || (graph->n_levels == 0) != (graph->n_nodes == 0) ||
        (graph->n_nodes == 0 ? graph->entry != NONE : graph->entry >= graph->n_nodes))
        return myr_fail(MYR_ERR_FORMAT, "hnsw: %d levels with node %u of %zu as the entry point", graph->n_levels,
                        graph->entry, graph->n_nodes);
    if (!(graph->code_min <= graph->code_max))
        return myr_fail(MYR_ERR_FORMAT, "hnsw: codes range from %g to %g", (double)graph->code_min,
                        (double)graph->code_max);
    return MYR_OK;
}

/* Rows and nodes name each other; the first rows of the nodes ascend. */
static myr_status check_aliases(const myr_hnsw *graph)
{
    const uint32_t *first = graph->alias_first, *rows = graph->alias_row;
    if (first[0] != 0 || first[graph->n_nodes] != graph->n)
        return myr_fail(MYR_ERR_FORMAT, "hnsw: aliases do not cover the %zu rows", graph->n);
    for (size_t node = 0; node < graph->n_nodes; node++) {
        if (first[node + 1] <= first[node] || first[node + 1] > graph->n)
            return myr_fail(MYR_ERR_FORMAT, "hnsw: node %zu has no rows", node);
        for (uint32_t i = first[node]; i < first[node + 1]; i++)
            if (rows[i] >= graph->n || graph->row_node[rows[i]] != node || (i > first[node] && rows[i] <= rows[i - 1]))
                return myr_fail(MYR_ERR_FORMAT, "hnsw: node %zu has row %u among its aliases, wrongly", node, rows[i]);
        if (node > 0 && rows[first[node]] <= rows[first[node - 1]])
            return myr_fail(MYR_ERR_FORMAT, "hnsw: node %zu is out of order", node);
    }
    for (size_t row = 0; row < graph->n; row++) {
        if (graph->row_node[row] >= graph->n_nodes)
            return myr_fail(MYR_ERR_FORMAT, "hnsw: row %zu belongs to node %u of %zu", row, graph->row_node[row],
                            graph->n_nodes);
        if (graph->ids[row] < 0 || (row > 0 && graph->ids[row] <= graph->ids[row - 1]))
            return myr_fail(MYR_ERR_FORMAT, "hnsw: id %lld of row %zu does not ascend", (long long)graph->ids[row],
                            row);
    }
    return MYR_OK;
}

static myr_status check_levels(const myr_hnsw *graph)
{
    uint64_t sum = 0;
    int top = -1;
    for (size_t node = 0; node < graph->n_nodes; node++) {
        if (graph->levels[node] > MAX_LEVEL)
            return myr_fail(MYR_ERR_FORMAT, "hnsw: node %zu is on level %d", node, graph->levels[node]);
        if (graph->upper_first[node] != sum)
            return myr_fail(MYR_ERR_FORMAT, "hnsw: the upper links of node %zu are at another place", node);
        sum += graph->levels[node];
        top = graph->levels[node] > top ? graph->levels[node] : top;
    }
    if (graph->upper_first[graph->n_nodes] != sum || graph->n_upper != sum)
        return myr_fail(MYR_ERR_FORMAT, "hnsw: there are %zu upper links, not %llu", graph->n_upper,
                        (unsigned long long)sum);
    if (graph->n_levels != top + 1)
        return myr_fail(MYR_ERR_FORMAT, "hnsw: there are %d levels, not %d", top + 1, graph->n_levels);
    if (graph->n_nodes == 0 ? graph->entry != NONE
                            : graph->entry >= graph->n_nodes || graph->levels[graph->entry] != top)
        return myr_fail(MYR_ERR_FORMAT, "hnsw: the entry point, node %u, is not on the top level", graph->entry);
    return MYR_OK;
}

/* seen: (n_nodes) the last node that linked there at this level, plus one. */
static myr_status check_links(const myr_hnsw *graph, uint32_t node, int level, uint32_t *seen)
{
    const uint32_t *links = links_at(graph, node, level);
    size_t room = room_at(graph, level), n = count_links(links, room);
    for (size_t i = 0; i < n; i++) {
        if (links[i] >= graph->n_nodes)
            return myr_fail(MYR_ERR_FORMAT, "hnsw: node %u links to node %u of %zu at level %d", node, links[i],
                            graph->n_nodes, level);
        if (links[i] == node)
            return myr_fail(MYR_ERR_FORMAT, "hnsw: node %u links to itself at level %d", node, level);
        if (graph->levels[links[i]] < level)
            return myr_fail(MYR_ERR_FORMAT, "hnsw: node %u links to node %u at level %d, which is not there", node,
                            links[i], level);
        if (seen[links[i]] == node + 1)
            return myr_fail(MYR_ERR_FORMAT, "hnsw: node %u links to node %u twice at level %d", node, links[i], level);
        seen[links[i]] = node + 1;
    }
    for (size_t i = n; i < room; i++)
        if (links[i] != NONE)
            return myr_fail(MYR_ERR_FORMAT, "hnsw: node %u has a link behind its last at level %d", node, level);
    return MYR_OK;
}

static myr_status check_all_links(const myr_hnsw *graph)
{
    uint32_t *seen = myr_alloc_huge(graph->n_nodes, sizeof *seen);
    if (!seen)
        return myr_fail(MYR_ERR_NOMEM, "hnsw: no memory to check %zu nodes", graph->n_nodes);
    myr_status status = MYR_OK;
    for (int level = 0; status == MYR_OK && level < graph->n_levels; level++) {
        memset(seen, 0, graph->n_nodes * sizeof *seen);
        for (size_t node = 0; status == MYR_OK && node < graph->n_nodes; node++)
            if (graph->levels[node] >= level)
                status = check_links(graph, (uint32_t)node, level, seen);
    }
    free(seen);
    return status;
}

/* Bytes behind the values would add to every distance. */
static myr_status check_codes(const myr_hnsw *graph)
{
    static const uint8_t zeros[MYR_CODE_ALIGNMENT];
    size_t n_bytes = coded_bytes(graph);
    for (size_t node = 0; node < graph->n_nodes; node++)
        if (memcmp(codes_of(graph, (uint32_t)node) + n_bytes, zeros, graph->n_code_bytes - n_bytes) != 0)
            return myr_fail(MYR_ERR_FORMAT, "hnsw: the codes of node %zu go on behind the last", node);
    return MYR_OK;
}

myr_status hnsw_check_shape(const myr_hnsw *graph)
{
    myr_status status = hnsw_check_numbers(graph);
    if (status == MYR_OK)
        status = check_aliases(graph);
    if (status == MYR_OK)
        status = check_levels(graph);
    if (status == MYR_OK)
        status = check_all_links(graph);
    if (status == MYR_OK)
        status = check_codes(graph);
    return status;
}

static myr_status check_reached(const myr_hnsw *graph)
{
    uint8_t *reached = myr_alloc(graph->n_nodes, sizeof *reached);
    uint32_t *queue = myr_alloc(graph->n_nodes, sizeof *queue);
    size_t n = 0, room = room_at(graph, 0);
    myr_status status = MYR_OK;
    if (!reached || !queue) {
        status = myr_fail(MYR_ERR_NOMEM, "hnsw: no memory to check %zu nodes", graph->n_nodes);
        goto done;
    }
    queue[n++] = graph->entry;
    reached[graph->entry] = 1;
    for (size_t at = 0; at < n; at++) {
        const uint32_t *links = links_at(graph, queue[at], 0);
        for (size_t i = 0; i < room && links[i] != NONE; i++) {
            if (reached[links[i]])
                continue;
            reached[links[i]] = 1;
            queue[n++] = links[i];
        }
    }
    for (size_t node = 0; status == MYR_OK && node < graph->n_nodes; node++)
        if (!reached[node])
            status = myr_fail(MYR_ERR_FORMAT, "hnsw: node %zu is not reached from the entry point, nor are %zu more",
                              node, graph->n_nodes - n - 1);
done:
    free(reached);
    free(queue);
    return status;
}

myr_status myr_hnsw_check(const myr_hnsw *graph)
{
    myr_status status = is_guarded(graph) ? myr_hnsw_verify(graph, NULL) : hnsw_check_shape(graph);
    return status == MYR_OK && graph->n_nodes > 0 ? check_reached(graph) : status;
}
