/*
 * Graphs of vectors in any type: f16, u8, i8 and the others, widened to f32, which holds all of their values.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"
#include "myriops/vectors.h"

#include <stdlib.h>

static myr_status widen(const myr_vectors *vectors, float **rows)
{
    size_t n_values;
    *rows = NULL;
    if (!vectors || (vectors->n > 0 && !vectors->rows))
        return myr_fail(MYR_ERR_ARG, "hnsw: no vectors");
    if (!myr_mul(vectors->n, vectors->dim, &n_values) || !(*rows = myr_alloc_huge(n_values, sizeof **rows)))
        return myr_fail(MYR_ERR_NOMEM, "hnsw: no memory for %zu vectors of %zu values", vectors->n, vectors->dim);
    return myr_vectors_to_f32(vectors, 0, vectors->n, *rows);
}

myr_status myr_hnsw_build_rows(const myr_vectors *vectors, const int64_t *ids, const myr_hnsw_options *options,
                               myr_pool *pool, myr_hnsw **graph)
{
    float *rows;
    *graph = NULL;
    myr_status status = widen(vectors, &rows);
    if (status == MYR_OK)
        status = myr_hnsw_build(rows, vectors->n, vectors->dim, ids, options, pool, graph);
    free(rows);
    return status;
}

myr_status myr_hnsw_add_rows(const myr_hnsw *graph, const myr_vectors *vectors, const int64_t *ids, myr_pool *pool,
                             myr_hnsw **updated)
{
    float *rows;
    *updated = NULL;
    if (graph && vectors && vectors->dim != graph->dim)
        return myr_fail(MYR_ERR_ARG, "hnsw: vectors of %zu values for a graph of %zu", vectors->dim, graph->dim);
    myr_status status = widen(vectors, &rows);
    if (status == MYR_OK)
        status = myr_hnsw_add(graph, rows, vectors->n, ids, pool, updated);
    free(rows);
    return status;
}
