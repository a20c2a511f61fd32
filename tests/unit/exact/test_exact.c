/*
 * Exact search by products against the naive loop, hit for hit and bit for bit: also where single precision cannot
 * tell vectors apart, overflows, or underflows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/pool.h"
#include "base/rng.h"
#include "base/topk.h"
#include "kernel/kernel.h"
#include "myriops/exact.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_K = 40 };

typedef enum shape {
    SHAPE_NORMAL,
    SHAPE_FAR,    /* small differences far from the origin: products lose them */
    SHAPE_COPIES, /* few distinct vectors */
    SHAPE_HUGE,   /* squares overflow a float */
    SHAPE_TINY,   /* products underflow */
    N_SHAPES
} shape;

static float *make_rows(shape kind, size_t n, size_t dim, bool is_unit, uint64_t seed)
{
    myr_rng rng;
    myr_rng_seed(&rng, seed);
    float *rows = malloc((n * dim + 1) * sizeof *rows);
    assert_non_null(rows);
    for (size_t row = 0; row < n; row++) {
        double squared = 0;
        for (size_t i = 0; i < dim; i++) {
            float value = (float)myr_rng_unit(&rng) - 0.5f;
            if (kind == SHAPE_COPIES)
                value = row % 7 == 0 ? value : (float)(row % 3 + i % 2);
            else if (kind == SHAPE_FAR)
                value = 1000 + value * 0.01f;
            else if (kind == SHAPE_HUGE)
                value *= row % 5 == 0 ? 3e18f : 1e20f;
            else if (kind == SHAPE_TINY)
                value *= 1e-21f;
            rows[row * dim + i] = value;
            squared += (double)value * (double)value;
        }
        for (size_t i = 0; i < dim && is_unit && squared > 0; i++)
            rows[row * dim + i] = (float)((double)rows[row * dim + i] / sqrt(squared));
    }
    return rows;
}

static int by_hit(const void *a, const void *b)
{
    const myr_hit *x = a, *y = b;
    return myr_hit_before(*x, *y) ? -1 : myr_hit_before(*y, *x);
}

static void search_naively(const float *rows, size_t n, size_t dim, const int64_t *ids, myr_metric metric,
                           const float *query, size_t k, myr_hit *hits)
{
    const myr_kernel *reference = myr_kernel_variant(0);
    myr_hit *all = malloc((n + 1) * sizeof *all);
    for (size_t i = 0; i < n; i++) {
        const float *row = rows + i * dim;
        double product = reference->dot(query, row, dim);
        double away = metric == MYR_METRIC_L2 ? sqrt(reference->squared_l2(query, row, dim)) : 1 - product;
        if (metric == MYR_METRIC_IP)
            away = fmin(fmax(0 - product, -(double)FLT_MAX), (double)FLT_MAX);
        else if (!(away > 0))
            away = 0;
        all[i] = (myr_hit){.id = ids[i], .distance = (float)away};
    }
    qsort(all, n, sizeof *all, by_hit);
    for (size_t i = 0; i < k; i++)
        hits[i] = i < n ? all[i] : (myr_hit){.id = -1, .distance = INFINITY};
    free(all);
}

static void assert_same(const myr_hit *got, const myr_hit *right, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (got[i].id != right[i].id || got[i].distance != right[i].distance)
            fail_msg("hit %zu is (%lld, %.9g), not (%lld, %.9g)", i, (long long)got[i].id, (double)got[i].distance,
                     (long long)right[i].id, (double)right[i].distance);
}

static void compare(shape kind, size_t n, size_t dim, size_t n_queries, size_t k, myr_metric metric)
{
    float *rows = make_rows(kind, n, dim, metric == MYR_METRIC_COSINE, 1);
    float *queries = make_rows(kind, n_queries, dim, metric == MYR_METRIC_COSINE, 2);
    int64_t *ids = malloc((n + 1) * sizeof *ids);
    myr_hit *right = malloc(n_queries * k * sizeof *right), *got = malloc(n_queries * k * sizeof *got);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int64_t)((n - i) * 3); /* in no order of rows */
    if (n > 0)
        memcpy(queries, rows + n / 2 * dim, dim * sizeof *queries); /* one is among them */
    for (size_t q = 0; q < n_queries; q++)
        search_naively(rows, n, dim, ids, metric, queries + q * dim, k, right + q * k);
    for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
        myr_pool *pool;
        myr_exact *set;
        assert_int_equal(myr_pool_create(n_threads, &pool), MYR_OK);
        assert_int_equal(myr_exact_create(rows, n, dim, ids, metric, pool, &set), MYR_OK);
        memset(got, 0, n_queries * k * sizeof *got);
        assert_int_equal(myr_exact_search(set, pool, queries, n_queries, k, got), MYR_OK);
        assert_same(got, right, n_queries * k);
        memset(got, 0, n_queries * k * sizeof *got);
        assert_int_equal(myr_exact_search(set, pool, queries, 1, k, got), MYR_OK); /* not a product of matrices */
        assert_same(got, right, k);
        myr_exact_free(set);
        myr_pool_free(pool);
    }
    free(rows);
    free(queries);
    free(ids);
    free(right);
    free(got);
}

static void hits_are_those_of_the_naive_loop(void **state)
{
    (void)state;
    for (int kind = 0; kind < N_SHAPES; kind++) {
        compare((shape)kind, 2500, 24, 40, 10, MYR_METRIC_L2);
        compare((shape)kind, 1100, 100, 7, MAX_K, MYR_METRIC_L2);
        compare((shape)kind, 2500, 24, 40, 10, MYR_METRIC_IP);
        compare((shape)kind, 1100, 100, 7, MAX_K, MYR_METRIC_IP);
    }
    compare(SHAPE_NORMAL, 2500, 24, 40, 10, MYR_METRIC_COSINE);
    compare(SHAPE_COPIES, 2500, 24, 40, 10, MYR_METRIC_COSINE);
    compare(SHAPE_FAR, 1100, 100, 7, MAX_K, MYR_METRIC_COSINE);
}

static void sizes_have_no_edges(void **state)
{
    (void)state;
    static const size_t numbers[] = {0, 1, 15, 17, 1023, 1024, 1025, 2049}, dims[] = {1, 3, 1280};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        for (size_t d = 0; d < 3; d++)
            compare(SHAPE_NORMAL, numbers[i], dims[d], 2, 3, MYR_METRIC_L2);
    compare(SHAPE_NORMAL, 300, 8, 257, 1, MYR_METRIC_L2);
    compare(SHAPE_NORMAL, 20, 8, 3, MAX_K, MYR_METRIC_COSINE);
    compare(SHAPE_NORMAL, 20, 8, 3, MAX_K, MYR_METRIC_IP);
}

static void what_is_not_finite_is_refused(void **state)
{
    (void)state;
    float rows[4] = {1, 2, 3, NAN}, query[2] = {INFINITY, 0};
    int64_t ids[2] = {0, 1};
    myr_exact *set;
    myr_hit hit;
    assert_int_equal(myr_exact_create(rows, 2, 2, ids, MYR_METRIC_L2, NULL, &set), MYR_ERR_ARG);
    assert_null(set);
    assert_int_equal(myr_exact_create(rows, 2, 0, ids, MYR_METRIC_L2, NULL, &set), MYR_ERR_ARG);
    assert_int_equal(myr_exact_create(rows, 1, (size_t)1 << 24, ids, MYR_METRIC_L2, NULL, &set), MYR_ERR_LIMIT);
    assert_int_equal(myr_exact_create(rows, 1, 2, ids, (myr_metric)9, NULL, &set), MYR_ERR_ARG);
    assert_int_equal(myr_exact_create(rows, 1, 2, ids, MYR_METRIC_L2, NULL, &set), MYR_OK);
    assert_int_equal(myr_exact_search(set, NULL, query, 1, 1, &hit), MYR_ERR_ARG);
    assert_int_equal(myr_exact_search(set, NULL, rows, 1, 0, &hit), MYR_ERR_ARG);
    assert_int_equal(myr_exact_search(set, NULL, rows, 0, 1, NULL), MYR_OK);
    assert_int_equal(myr_exact_search(set, NULL, rows, 1, 1, &hit), MYR_OK);
    assert_int_equal(hit.id, 0);
    assert_true(hit.distance == 0);
    myr_exact_free(set);
    myr_exact_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hits_are_those_of_the_naive_loop),
        cmocka_unit_test(sizes_have_no_edges),
        cmocka_unit_test(what_is_not_finite_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
