/*
 * Build: Algorithm 1, in an order and in batches that do not depend on the threads.
 *
 * Nodes come in a fixed shuffled order, higher levels first: the upper levels are complete
 * before the many nodes of level 0 come, the entry point is the first of all and never
 * moves, and a corpus sorted by class does not put a whole class into one batch (batch.c).
 * At last repair.c joins what came apart.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STANDARD_M = 16, STANDARD_EF = 200 };

/* ---- levels and order ---- */

/* floor(-ln(u) / ln(M)) by comparing integers, the same on every machine: each level holds 1/M of the one below. */
static uint8_t level_of(const myr_hnsw *graph, size_t node)
{
    int64_t id = graph->ids[graph->alias_row[graph->alias_first[node]]];
    uint64_t draw = myr_hash64((uint64_t)id, graph->seed), limit = UINT64_MAX / (uint64_t)graph->M;
    uint8_t level = 0;
    for (; level < MAX_LEVEL && draw < limit; limit /= (uint64_t)graph->M)
        level++;
    return level;
}

typedef struct turn {
    uint64_t draw;
    uint32_t node;
    uint8_t level;
} turn;

static int by_turn(const void *a, const void *b)
{
    const turn *x = a, *y = b;
    if (x->level != y->level)
        return y->level - x->level;
    if (x->draw != y->draw)
        return x->draw < y->draw ? -1 : 1;
    return x->node < y->node ? -1 : 1;
}

myr_status hnsw_make_order(const myr_hnsw *graph, const uint32_t *old_of, uint32_t **order, size_t *n)
{
    turn *turns = myr_alloc(graph->n_nodes, sizeof *turns);
    uint32_t *nodes = myr_alloc(graph->n_nodes, sizeof *nodes);
    size_t n_new = 0;
    *order = NULL;
    *n = 0;
    if (!turns || !nodes) {
        free(turns);
        free(nodes);
        return MYR_ERR_NOMEM;
    }
    for (size_t i = 0; i < graph->n_nodes; i++) {
        if (old_of && old_of[i] != NONE)
            continue;
        int64_t id = graph->ids[graph->alias_row[graph->alias_first[i]]];
        turns[n_new++] =
            (turn){.draw = myr_hash64((uint64_t)id, ~graph->seed), .node = (uint32_t)i, .level = graph->levels[i]};
    }
    if (n_new > 0)
        qsort(turns, n_new, sizeof *turns, by_turn);
    for (size_t i = 0; i < n_new; i++)
        nodes[i] = turns[i].node;
    free(turns);
    *order = nodes;
    *n = n_new;
    return MYR_OK;
}

myr_status hnsw_make_levels(myr_hnsw *graph, const myr_hnsw *old, const uint32_t *old_of)
{
    uint8_t *levels = myr_alloc(graph->n_nodes, sizeof *levels);
    uint32_t *first = myr_alloc(graph->n_nodes + 1, sizeof *first);
    graph->levels = levels;
    graph->upper_first = first;
    if (!levels || !first)
        return MYR_ERR_NOMEM;
    uint64_t sum = 0;
    for (size_t i = 0; i < graph->n_nodes; i++) {
        levels[i] = old_of && old_of[i] != NONE ? old->levels[old_of[i]] : level_of(graph, i);
        sum += levels[i];
        if (sum >= NONE)
            return myr_fail(MYR_ERR_LIMIT, "hnsw: M = %d gives too many upper levels; use a greater M", graph->M);
        first[i + 1] = (uint32_t)sum;
    }
    graph->n_upper = sum;
    size_t M = (size_t)graph->M, room_bytes = M * sizeof(uint32_t);
    uint32_t *links = myr_alloc_huge(graph->n_nodes, 2 * room_bytes);
    uint32_t *upper_links = myr_alloc_huge(graph->n_upper, room_bytes);
    graph->links = links;
    graph->upper_links = upper_links;
    if (!links || !upper_links)
        return MYR_ERR_NOMEM;
    memset(links, 0xff, graph->n_nodes * 2 * room_bytes);
    memset(upper_links, 0xff, graph->n_upper * room_bytes);
    return MYR_OK;
}

/* ---- the whole ---- */

static myr_status make_links(myr_hnsw *graph, myr_pool *pool)
{
    uint32_t *order = NULL;
    size_t n;
    myr_status status = hnsw_make_levels(graph, NULL, NULL);
    if (status == MYR_OK)
        status = hnsw_make_order(graph, NULL, &order, &n);
    if (status == MYR_OK)
        status = hnsw_link_nodes(graph, order, n, pool);
    free(order);
    if (status == MYR_ERR_NOMEM)
        return myr_fail(MYR_ERR_NOMEM, "hnsw: no memory for the links of %zu nodes", graph->n_nodes);
    return status;
}

myr_status hnsw_check_ids(const int64_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (i > 0 && ids[i] <= ids[i - 1]))
            return myr_fail(MYR_ERR_ARG, "hnsw: id %lld of row %zu is negative or does not ascend", (long long)ids[i],
                            i);
    return MYR_OK;
}

void myr_hnsw_fit_codes(bool all_whole, float *code_min, float *code_max)
{
    const float most = 1 << 23; /* below it a float and 255 more are whole numbers, too */
    bool is_byte = *code_min >= 0 && *code_max <= 255;
    if (!all_whole || (!is_byte && !(*code_min >= -most && *code_max <= most && *code_max - *code_min <= 255)))
        return;
    *code_min = is_byte ? 0 : *code_min;
    *code_max = *code_min + 255;
}

/* The range of n values. One that is not finite is found later, when it gets its code. */
static void measure_codes(const float *values, size_t n, float *code_min, float *code_max)
{
    float least = INFINITY, most = -INFINITY;
    bool all_whole = true;
    for (size_t i = 0; i < n; i++) {
        float value = values[i];
        bool is_finite = value - value == 0;
        least = is_finite && value < least ? value : least;
        most = is_finite && value > most ? value : most;
        all_whole = all_whole && value == truncf(value);
    }
    bool is_any = least <= most;
    *code_min = is_any ? least : 0;
    *code_max = is_any ? most : 0;
    myr_hnsw_fit_codes(all_whole, code_min, code_max);
}

/* Codes of such a range stand for whole numbers, one for each: what is gained by axes would be lost by keeping vectors.
 */
static bool are_whole(const myr_hnsw *graph)
{
    return graph->code_max - graph->code_min == 255 && graph->code_min == truncf(graph->code_min);
}

/* The length of the longest vector; again, one that is not finite is found later. */
static myr_status measure_radius(myr_hnsw *graph, const float *vectors)
{
    double longest = 0;
    for (size_t i = 0; i < graph->n; i++) {
        const float *vector = vectors + i * graph->dim;
        double squared = graph->kernel->dot(vector, vector, graph->dim);
        longest = isfinite(squared) && squared > longest ? squared : longest;
    }
    graph->radius = nextafterf((float)(sqrt(longest) * (1 + 1e-7)), INFINITY);
    hnsw_widen_codes(graph);
    if (!isfinite(graph->radius) || !isfinite(graph->code_max))
        return myr_fail(MYR_ERR_LIMIT, "hnsw: vectors of length %g are too long for inner products", sqrt(longest));
    return MYR_OK;
}

static myr_status check_arguments(const float *vectors, size_t n, size_t dim, const int64_t *ids,
                                  const myr_hnsw_options *options)
{
    if (dim == 0 || (n > 0 && (!vectors || !ids)))
        return myr_fail(MYR_ERR_ARG, "hnsw: vectors, their ids and at least one dimension are needed");
    size_t most = options->metric == MYR_METRIC_IP ? MOST_OF_PRODUCT : MYR_CODE_MAX_DIM;
    if (n >= (size_t)1 << 31 || dim > most)
        return myr_fail(MYR_ERR_LIMIT,
                        "hnsw: %zu vectors of %zu values; one graph holds fewer than 2^31 of at most %zu: use more "
                        "shards",
                        n, dim, most);
    if (options->M != 0 && (options->M < 2 || options->M > MAX_M))
        return myr_fail(MYR_ERR_ARG, "hnsw: M = %d is not in 2..%d", options->M, MAX_M);
    if (options->ef_construction < 0)
        return myr_fail(MYR_ERR_ARG, "hnsw: ef_construction = %d is negative", options->ef_construction);
    if (!myr_metric_name(options->metric))
        return myr_fail(MYR_ERR_ARG, "hnsw: there is no metric %d", (int)options->metric);
    if (options->is_float && options->metric == MYR_METRIC_IP)
        return myr_fail(MYR_ERR_ARG, "hnsw: inner products are measured on codes; floats are for l2 and cosine");
    if (options->n_axes < MYR_HNSW_AXES_BY_DATA || options->n_axes > MOST_AXES)
        return myr_fail(MYR_ERR_ARG, "hnsw: %d axes; there may be up to %d", options->n_axes, MOST_AXES);
    if (options->n_axes > 0 && (options->is_float || options->metric == MYR_METRIC_IP))
        return myr_fail(MYR_ERR_ARG, "hnsw: axes are for codes under l2 and cosine");
    if (!isfinite(options->code_min) || !isfinite(options->code_max) || options->code_max < options->code_min)
        return myr_fail(MYR_ERR_ARG, "hnsw: codes cannot range from %g to %g", (double)options->code_min,
                        (double)options->code_max);
    return hnsw_check_ids(ids, n);
}

myr_status myr_hnsw_build(const float *vectors, size_t n, size_t dim, const int64_t *ids,
                          const myr_hnsw_options *options, myr_pool *pool, myr_hnsw **out)
{
    *out = NULL;
    myr_status status = check_arguments(vectors, n, dim, ids, options);
    if (status != MYR_OK)
        return status;
    myr_hnsw *graph = myr_alloc(1, sizeof *graph);
    int64_t *copy = myr_alloc(n, sizeof *copy);
    const float **rows = myr_alloc(n, sizeof *rows);
    if (!graph || !copy || !rows) {
        free(graph);
        free(copy);
        free(rows);
        return myr_fail(MYR_ERR_NOMEM, "hnsw: no memory for %zu ids", n);
    }
    if (n > 0)
        memcpy(copy, ids, n * sizeof *copy);
    for (size_t i = 0; i < n; i++)
        rows[i] = vectors + i * dim;
    *graph = (myr_hnsw){.n = n,
                        .dim = dim,
                        .M = options->M ? options->M : STANDARD_M,
                        .ef_construction = options->ef_construction ? options->ef_construction : STANDARD_EF,
                        .entry = NONE,
                        .seed = options->seed,
                        .metric = options->metric,
                        .code_min = options->code_min,
                        .code_max = options->code_max,
                        .is_float = options->is_float,
                        .kernel = myr_kernel_get(),
                        .ids = copy};
    if (options->code_min == 0 && options->code_max == 0)
        measure_codes(vectors, n * dim, &graph->code_min, &graph->code_max);
    if (graph->metric == MYR_METRIC_IP)
        status = measure_radius(graph, vectors);
    else if (!graph->is_float && !(are_whole(graph) && options->n_axes < 0))
        status = hnsw_make_axes(graph, rows, options->n_axes, pool);
    hnsw_fit_codes(graph);
    if (status == MYR_OK)
        status = hnsw_make_nodes(graph, rows, pool);
    free(rows);
    if (status == MYR_OK)
        status = make_links(graph, pool);
    if (status != MYR_OK)
        myr_hnsw_free(graph);
    else
        *out = graph;
    return status;
}
