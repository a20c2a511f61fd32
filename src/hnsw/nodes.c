/*
 * Rows into nodes: equal rows are found by hash and comparison, each distinct one is
 * copied, quantised, and measured against what its codes stand for.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"
#include "base/checksum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GRAIN = 256 };

typedef struct job {
    myr_hnsw *graph;
    const float *const *rows; /* (n) of dim values each, as given */
    uint64_t *hashes;         /* (n) */
    uint32_t *row_node, *alias_first, *alias_row;
    float *vectors, *residuals;
    uint8_t *codes;
    double *longest; /* (n_threads) squared: a maximum has no order */
} job;

static myr_status hash_task(void *context, size_t first, size_t last, int thread)
{
    job *all = context;
    size_t dim = all->graph->dim;
    (void)thread;
    for (size_t row = first; row < last; row++)
        all->hashes[row] = myr_checksum64(all->rows[row], dim * sizeof **all->rows);
    return MYR_OK;
}

/* Fills row_node and alias_row, the latter with the first row of each node for now. slots: a power of two, all NONE. */
static void find_equal(job *all, uint32_t *slots, size_t n_slots)
{
    myr_hnsw *graph = all->graph;
    size_t row_bytes = graph->dim * sizeof **all->rows;
    for (size_t row = 0; row < graph->n; row++) {
        size_t at = all->hashes[row] & (n_slots - 1);
        for (; slots[at] != NONE; at = (at + 1) & (n_slots - 1)) {
            uint32_t other = all->alias_row[slots[at]];
            if (all->hashes[other] == all->hashes[row] && memcmp(all->rows[other], all->rows[row], row_bytes) == 0)
                break;
        }
        if (slots[at] == NONE) {
            slots[at] = (uint32_t)graph->n_nodes;
            all->alias_row[graph->n_nodes++] = (uint32_t)row;
        }
        all->row_node[row] = slots[at];
    }
}

static myr_status group_rows(job *all, myr_pool *pool)
{
    size_t n_slots = 16, n = all->graph->n;
    while (n_slots < 2 * n)
        n_slots *= 2;
    uint32_t *slots = myr_alloc_huge(n_slots, sizeof *slots);
    all->hashes = myr_alloc(n, sizeof *all->hashes);
    myr_status status = slots && all->hashes ? myr_pool_for(pool, n, GRAIN, hash_task, all) : MYR_ERR_NOMEM;
    if (status == MYR_OK) {
        memset(slots, 0xff, n_slots * sizeof *slots);
        find_equal(all, slots, n_slots);
    }
    free(slots);
    free(all->hashes);
    return status;
}

/* Counts into alias_first, then rows in order: ascending in each node. */
static void list_aliases(job *all)
{
    size_t n = all->graph->n, n_nodes = all->graph->n_nodes;
    uint32_t *first = all->alias_first, sum = 0;
    for (size_t row = 0; row < n; row++)
        first[all->row_node[row] + 1]++;
    for (size_t node = 0; node < n_nodes; node++) { /* first[node + 1] = where the next row of node goes */
        uint32_t count = first[node + 1];
        first[node + 1] = sum;
        sum += count;
    }
    for (size_t row = 0; row < n; row++)
        all->alias_row[first[all->row_node[row] + 1]++] = (uint32_t)row;
}

static myr_status code_task(void *context, size_t first, size_t last, int thread)
{
    job *all = context;
    myr_hnsw *graph = all->graph;
    for (size_t node = first; node < last; node++) {
        size_t row = all->alias_row[all->alias_first[node]];
        float *vector = all->vectors + node * graph->dim;
        memcpy(vector, all->rows[row], graph->dim * sizeof *vector);
        if (!myr_quantise(&graph->scale, vector, graph->dim, all->codes + node * graph->n_code_bytes,
                          &all->residuals[node]))
            return myr_fail(MYR_ERR_ARG, "hnsw: vector %zu holds a value that is not finite", row);
        double squared = graph->kernel->dot(vector, vector, graph->dim);
        all->longest[thread] = squared > all->longest[thread] ? squared : all->longest[thread];
    }
    return MYR_OK;
}

static float longest_of(const job *all, int n_threads)
{
    double squared = 0;
    for (int i = 0; i < n_threads; i++)
        squared = all->longest[i] > squared ? all->longest[i] : squared;
    return nextafterf((float)(sqrt(squared) * (1 + 1e-7)), INFINITY);
}

static myr_status no_memory(const myr_hnsw *graph)
{
    return myr_fail(MYR_ERR_NOMEM, "hnsw: no memory for %zu vectors of %zu values", graph->n, graph->dim);
}

myr_status hnsw_make_nodes(myr_hnsw *graph, const float *const *rows, myr_pool *pool)
{
    size_t n = graph->n;
    int n_threads = myr_pool_n_threads(pool);
    job all = {.graph = graph, .rows = rows};
    graph->n_nodes = 0;
    graph->row_node = all.row_node = myr_alloc(n, sizeof *all.row_node);
    graph->alias_row = all.alias_row = myr_alloc(n, sizeof *all.alias_row);
    myr_status status = all.row_node && all.alias_row ? group_rows(&all, pool) : MYR_ERR_NOMEM;
    if (status != MYR_OK)
        return no_memory(graph);

    size_t vector_bytes;
    bool fits = myr_mul(graph->dim, sizeof *all.vectors, &vector_bytes);
    graph->alias_first = all.alias_first = myr_alloc(graph->n_nodes + 1, sizeof *all.alias_first);
    graph->vectors = all.vectors = fits ? myr_alloc_huge(graph->n_nodes, vector_bytes) : NULL;
    graph->codes = all.codes = myr_alloc_huge(graph->n_nodes, graph->n_code_bytes);
    graph->residuals = all.residuals = myr_alloc(graph->n_nodes, sizeof *all.residuals);
    all.longest = myr_alloc((size_t)n_threads, sizeof *all.longest);
    if (all.alias_first && all.vectors && all.codes && all.residuals && all.longest) {
        list_aliases(&all);
        status = myr_pool_for(pool, graph->n_nodes, GRAIN, code_task, &all);
        graph->longest = longest_of(&all, n_threads);
    } else {
        status = no_memory(graph);
    }
    free(all.longest);
    return status;
}
