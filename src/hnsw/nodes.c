/*
 * Rows into nodes: equal rows are found by hash and comparison, each distinct one is
 * quantised, measured against what its codes stand for, and kept beside them where they say less than it: in 16 bits
 * a value where these say all, else as it is.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"
#include "base/checksum.h"
#include "kernel/half.h"

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
    uint16_t *halves;
    uint8_t *codes;
    double *longest;  /* (n_threads) squared: a maximum has no order */
    bool *is_rounded; /* (n_threads) codes that stand for other values than the vector's were met */
    bool *is_long;    /* (n_threads) values were met that 16 bits do not hold */
} job;

static myr_status no_memory(const myr_hnsw *graph)
{
    return myr_fail(MYR_ERR_NOMEM, "hnsw: no memory for %zu vectors of %zu values", graph->n, graph->dim);
}

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

/* Whether the codes say all of a vector, the sign of zeros too. */
static bool is_whole(const myr_hnsw *graph, size_t node, const float *vector)
{
    float again[MOST_SPARED];
    if (graph->is_float)
        return true;
    if (graph->dim > MOST_SPARED || graph->n_axes > 0)
        return false;
    myr_dequantise(&graph->scale, codes_of(graph, (uint32_t)node), graph->dim, again);
    return memcmp(again, vector, graph->dim * sizeof *again) == 0;
}

/* Whether 16 bits say all of each value, the sign of zeros too. */
static bool is_half(const float *vector, size_t dim)
{
    for (size_t i = 0; i < dim; i++) {
        float again = myr_half_to_float(myr_half_from_float(vector[i]));
        if (memcmp(&again, &vector[i], sizeof again) != 0)
            return false;
    }
    return true;
}

void myr_hnsw_round(float *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float rounded = myr_half_to_float(myr_half_from_float(values[i]));
        values[i] = isfinite(rounded) ? rounded : values[i];
    }
}

/* Of up to BEAMS nodes from first on. */
static void place_nodes(const job *all, size_t first, size_t last, hnsw_places *places)
{
    const float *vectors[BEAMS];
    size_t n = last - first < BEAMS ? last - first : BEAMS;
    for (size_t i = 0; i < n; i++)
        vectors[i] = all->rows[all->alias_row[all->alias_first[first + i]]];
    hnsw_place(all->graph, vectors, n, places);
}

static myr_status code_task(void *context, size_t first, size_t last, int thread)
{
    job *all = context;
    myr_hnsw *graph = all->graph;
    hnsw_places places;
    for (size_t node = first; node < last; node++) {
        size_t row = all->alias_row[all->alias_first[node]], at = (node - first) % BEAMS;
        const float *vector = all->rows[row];
        if (at == 0)
            place_nodes(all, node, last, &places);
        double squared = graph->kernel->dot(vector, vector, graph->dim);
        bool is_exact;
        if (!hnsw_code_vector(graph, vector, hnsw_place_of(graph, &places, at), squared,
                              all->codes + node * graph->n_code_bytes, &all->residuals[node], &is_exact))
            return myr_fail(MYR_ERR_ARG, "hnsw: vector %zu holds a value that is not finite", row);
        all->longest[thread] = squared > all->longest[thread] ? squared : all->longest[thread];
        if (!all->is_rounded[thread])
            all->is_rounded[thread] = !(is_exact && is_whole(graph, node, vector));
        if (!all->is_long[thread])
            all->is_long[thread] = !is_half(vector, graph->dim);
    }
    return MYR_OK;
}

static myr_status copy_task(void *context, size_t first, size_t last, int thread)
{
    job *all = context;
    size_t dim = all->graph->dim;
    (void)thread;
    for (size_t node = first; node < last; node++) {
        const float *vector = all->rows[all->alias_row[all->alias_first[node]]];
        if (all->vectors)
            memcpy(all->vectors + node * dim, vector, dim * sizeof *vector);
        for (size_t i = 0; all->halves && i < dim; i++)
            all->halves[node * dim + i] = myr_half_from_float(vector[i]);
    }
    return MYR_OK;
}

static bool any(const bool *flags, int n)
{
    for (int i = 0; i < n; i++)
        if (flags[i])
            return true;
    return false;
}

/* Vectors are kept only where codes do not say all of each. dim is at most MYR_CODE_MAX_DIM. */
static myr_status keep_vectors(job *all, myr_pool *pool)
{
    myr_hnsw *graph = all->graph;
    int n_threads = myr_pool_n_threads(pool);
    if (!any(all->is_rounded, n_threads))
        return MYR_OK;
    if (any(all->is_long, n_threads) || graph->dim > MOST_SPARED)
        graph->vectors = all->vectors = myr_alloc_huge(graph->n_nodes, graph->dim * sizeof *all->vectors);
    else
        graph->halves = all->halves = myr_alloc_huge(graph->n_nodes, graph->dim * sizeof *all->halves);
    return all->vectors || all->halves ? myr_pool_for(pool, graph->n_nodes, GRAIN, copy_task, all) : no_memory(graph);
}

static float longest_of(const job *all, int n_threads)
{
    double squared = 0;
    for (int i = 0; i < n_threads; i++)
        squared = all->longest[i] > squared ? all->longest[i] : squared;
    return nextafterf((float)(sqrt(squared) * (1 + 1e-7)), INFINITY);
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

    graph->alias_first = all.alias_first = myr_alloc(graph->n_nodes + 1, sizeof *all.alias_first);
    graph->codes = all.codes = myr_alloc_huge(graph->n_nodes, graph->n_code_bytes);
    graph->residuals = all.residuals = myr_alloc(graph->n_nodes, sizeof *all.residuals);
    all.longest = myr_alloc((size_t)n_threads, sizeof *all.longest);
    all.is_rounded = myr_alloc((size_t)n_threads, sizeof *all.is_rounded);
    all.is_long = myr_alloc((size_t)n_threads, sizeof *all.is_long);
    if (all.alias_first && all.codes && all.residuals && all.longest && all.is_rounded && all.is_long) {
        list_aliases(&all);
        status = myr_pool_for(pool, graph->n_nodes, GRAIN, code_task, &all);
        graph->longest = longest_of(&all, n_threads);
        if (status == MYR_OK)
            status = keep_vectors(&all, pool);
    } else {
        status = no_memory(graph);
    }
    free(all.longest);
    free(all.is_rounded);
    free(all.is_long);
    return status;
}
