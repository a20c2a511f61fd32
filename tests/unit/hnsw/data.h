/*
 * Vectors for the tests: random ones, and those that take graphs apart.
 */
#ifndef TEST_HNSW_DATA_H
#define TEST_HNSW_DATA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "hnsw/graph.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum shape {
    SHAPE_UNIFORM,
    SHAPE_FAR_CLUSTERS, /* two, with nothing between, one behind the other in the order of rows */
    SHAPE_TIGHT,        /* a hundred clusters of near-duplicates, sorted */
    SHAPE_LINE,         /* collinear, in order */
    SHAPE_ONE_CODE,     /* all codes equal, all vectors different */
    SHAPE_DUPLICATES,   /* nine in ten rows are one vector */
    SHAPE_OUTLIERS,     /* one value in fifty is far outside the range of the codes */
    N_SHAPES
} shape;

static inline const char *shape_name(shape kind)
{
    static const char *const names[] = {"uniform",  "far clusters", "tight",   "line",
                                        "one code", "duplicates",   "outliers"};
    return names[kind];
}

static inline float noise(myr_rng *rng)
{
    return (float)myr_rng_unit(rng);
}

/* Codes are meant to range over [0, 1]. Release with free(). */
static inline float *make_vectors(shape kind, size_t n, size_t dim, uint64_t seed)
{
    myr_rng rng;
    myr_rng_seed(&rng, seed);
    float *vectors = malloc((n * dim + 1) * sizeof *vectors), centre[2048];
    assert_non_null(vectors);
    for (size_t row = 0; row < n; row++) {
        if (kind == SHAPE_TIGHT && row % (n / 100 + 1) == 0)
            for (size_t i = 0; i < dim; i++)
                centre[i] = noise(&rng);
        for (size_t i = 0; i < dim; i++) {
            float value = noise(&rng), *place = &vectors[row * dim + i];
            *place = value;
            if (kind == SHAPE_FAR_CLUSTERS)
                *place = row < n / 3 ? value * 0.05f : 0.95f + value * 0.05f;
            else if (kind == SHAPE_TIGHT)
                *place = centre[i] + value * 0.01f;
            else if (kind == SHAPE_LINE)
                *place = (float)row / (float)n;
            else if (kind == SHAPE_ONE_CODE)
                *place = value * 1e-4f;
            else if (kind == SHAPE_DUPLICATES && row % 10 != 3)
                *place = 0.5f;
            else if (kind == SHAPE_OUTLIERS && myr_rng_below(&rng, 50) == 0)
                *place = value * 100 - 50;
        }
    }
    return vectors;
}

static inline void normalise(float *vectors, size_t n, size_t dim)
{
    for (size_t row = 0; row < n; row++) {
        double sum = 0;
        for (size_t i = 0; i < dim; i++)
            sum += (double)vectors[row * dim + i] * vectors[row * dim + i];
        for (size_t i = 0; i < dim && sum > 0; i++)
            vectors[row * dim + i] = (float)(vectors[row * dim + i] / sqrt(sum));
    }
}

/* Ids with gaps: 7, 10, 13, ... */
static inline int64_t *make_ids(size_t n)
{
    if (n > UINT32_MAX)
        abort();
    int64_t *ids = malloc((n + 1) * sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int64_t)(7 + 3 * i);
    return ids;
}

static inline myr_hnsw *make_graph(const float *vectors, size_t n, size_t dim, const myr_hnsw_options *options,
                                   int n_threads)
{
    int64_t *ids = make_ids(n);
    myr_pool *pool = NULL;
    myr_hnsw *graph = NULL;
    assert_int_equal(myr_pool_create(n_threads, &pool), MYR_OK);
    myr_status status = myr_hnsw_build(vectors, n, dim, ids, options, pool, &graph);
    if (status != MYR_OK)
        fail_msg("%s", myr_error_detail());
    myr_pool_free(pool);
    free(ids);
    return graph;
}

static inline void assert_sound(const myr_hnsw *graph, const char *what)
{
    if (myr_hnsw_check(graph) != MYR_OK)
        fail_msg("%s: %s", what, myr_error_detail());
}

static inline int by_hit(const void *a, const void *b)
{
    const myr_hit *x = a, *y = b;
    return myr_hit_before(*x, *y) ? -1 : myr_hit_before(*y, *x);
}

static inline void assert_vector(const myr_hnsw *graph, size_t row, const float *right, size_t dim)
{
    float vector[2048];
    assert_int_equal(myr_hnsw_vector(graph, row, vector), MYR_OK);
    assert_memory_equal(vector, right, dim * sizeof *vector);
}

/* The oracle: every row, the reference kernel, a sort. */
static inline void naive_search(const float *vectors, size_t n, size_t dim, myr_metric metric, const float *query,
                                size_t k, myr_hit *hits)
{
    const myr_kernel *reference = myr_kernel_variant(0);
    myr_hit *all = malloc((n + 1) * sizeof *all);
    for (size_t row = 0; row < n; row++) {
        const float *vector = vectors + row * dim;
        double product = reference->dot(query, vector, dim);
        double away = metric == MYR_METRIC_L2 ? sqrt(reference->squared_l2(query, vector, dim)) : 1 - product;
        if (metric == MYR_METRIC_IP)
            away = fmin(fmax(0 - product, -(double)FLT_MAX), (double)FLT_MAX);
        else if (!(away > 0))
            away = 0;
        all[row] = (myr_hit){.id = (int64_t)(7 + 3 * row), .distance = (float)away};
    }
    qsort(all, n, sizeof *all, by_hit);
    for (size_t i = 0; i < k; i++)
        hits[i] = i < n ? all[i] : (myr_hit){.id = -1, .distance = INFINITY};
    free(all);
}

static inline void assert_same_hits(const myr_hit *got, const myr_hit *right, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (got[i].id != right[i].id || got[i].distance != right[i].distance)
            fail_msg("%s: hit %zu is (%lld, %.9g), not (%lld, %.9g)", what, i, (long long)got[i].id,
                     (double)got[i].distance, (long long)right[i].id, (double)right[i].distance);
}

/* What this program prints when called with --digest THREADS: a process of its own, since kernels are chosen once. */
static inline void digest_of(const char *disabled, int n_threads, char *text, size_t size)
{
    char command[512];
    snprintf(command, sizeof command, "MYRIOPS_DISABLE_CPU='%s' /proc/%d/exe --digest %d", disabled, (int)getpid(),
             n_threads);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_non_null(fgets(text, (int)size, pipe));
    assert_int_equal(pclose(pipe), 0);
}

#endif
