/*
 * Algorithm 4: a candidate becomes a link only if it is nearer to the node than to every
 * link chosen before, so that links point in different directions; clusters stay joined.
 */
#include "hnsw/graph.h"

#include <stdlib.h>

enum { FEW = 256 }; /* sorted by insertion: most lists are nearly in order */

static int by_key(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void hnsw_sort_keys(uint64_t *keys, size_t n)
{
    if (n > FEW) {
        qsort(keys, n, sizeof *keys, by_key);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        uint64_t key = keys[i];
        size_t at = i;
        for (; at > 0 && keys[at - 1] > key; at--)
            keys[at] = keys[at - 1];
        keys[at] = key;
    }
}

/* Whether one of the chosen is nearer to the candidate than `distance`. */
static bool is_hidden(const myr_hnsw *graph, uint32_t candidate, uint64_t distance, const uint8_t *const *chosen,
                      size_t n_chosen)
{
    _Alignas(MYR_CODE_ALIGNMENT) uint8_t target[MYR_CODE_MAX_DIM];
    const uint8_t *row = hnsw_target(graph, candidate, target);
    uint32_t away[4];
    for (size_t i = 0; i < n_chosen; i += 4) {
        size_t n = n_chosen - i < 4 ? n_chosen - i : 4;
        graph->kernel->code_distances(row, chosen + i, n, graph->n_code_bytes, away);
        for (size_t j = 0; j < n; j++)
            if (away[j] < distance)
                return true;
    }
    return false;
}

void hnsw_select(const myr_hnsw *graph, uint32_t node, const uint64_t *keys, size_t n, uint32_t *links, size_t room,
                 size_t n_kept)
{
    const uint8_t *chosen[MAX_LINKS];
    size_t n_chosen = n_kept;
    for (size_t i = 0; i < n_kept; i++)
        chosen[i] = codes_of(graph, links[i]);
    for (size_t i = 0; i < n && n_chosen < room; i++) {
        uint32_t candidate = key_node(keys[i]);
        /* The node's distance from the candidate; the key has the candidate's from the node. */
        uint64_t distance = (uint64_t)key_distance(keys[i]) - hnsw_tail(graph, candidate) + hnsw_tail(graph, node);
        if (is_hidden(graph, candidate, distance, chosen, n_chosen))
            continue;
        chosen[n_chosen] = codes_of(graph, candidate);
        links[n_chosen++] = candidate;
    }
    for (size_t i = n_chosen; i < room; i++)
        links[i] = NONE;
}

void hnsw_measure(const myr_hnsw *graph, uint32_t from, const uint32_t *nodes, size_t n, uint64_t *keys)
{
    _Alignas(MYR_CODE_ALIGNMENT) uint8_t room[MYR_CODE_MAX_DIM];
    const uint8_t *target = hnsw_target(graph, from, room), *rows[4];
    uint32_t distances[4];
    for (size_t i = 0; i < n; i += 4) {
        size_t n_now = n - i < 4 ? n - i : 4;
        for (size_t j = 0; j < n_now; j++)
            rows[j] = codes_of(graph, nodes[i + j]);
        graph->kernel->code_distances(target, rows, n_now, graph->n_code_bytes, distances);
        for (size_t j = 0; j < n_now; j++)
            keys[i + j] = key_of(distances[j], nodes[i + j]);
    }
}
