/*
 * How near is exact search to what the core can multiply?
 *
 *   bench_exact [DIM...]      default 128 1280
 *
 * For each dimension: 1,024 queries against 512 MiB of random vectors, k = 10, one thread; beside it one large product
 * of the same library, which is the limit. Medians of five turns, in turn.
 */
#include "base/alloc.h"
#include "base/progress.h"
#include "base/rng.h"
#include "myriops/exact.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>

enum { TURNS = 5, N_QUERIES = 1024, K = 10, SIZE = 2048, N_VALUES = 128 << 20 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of one product of SIZE^3; values are of no account. */
static double time_product(const float *values, float *product)
{
    double start_s = myr_now_s();
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, SIZE, SIZE, SIZE, 1, values, SIZE,
                values + (size_t)SIZE * SIZE, SIZE, 0, product, SIZE);
    return myr_now_s() - start_s;
}

static int measure(const float *values, size_t dim, float *product, const int64_t *ids, myr_hit *hits)
{
    size_t n = N_VALUES / dim - N_QUERIES;
    double limits[TURNS], rates[TURNS];
    myr_exact *set;
    if (myr_exact_create(values, n, dim, ids, MYR_METRIC_L2, NULL, &set) != MYR_OK) {
        fprintf(stderr, "bench_exact: %s\n", myr_error_detail());
        return 1;
    }
    for (int turn = 0; turn < TURNS; turn++) {
        limits[turn] = 2.0 * SIZE * SIZE * SIZE / time_product(values, product) / 1e9;
        double start_s = myr_now_s();
        if (myr_exact_search(set, NULL, values + n * dim, N_QUERIES, K, hits) != MYR_OK)
            return 1;
        rates[turn] = 2.0 * (double)n * (double)dim * N_QUERIES / (myr_now_s() - start_s) / 1e9;
    }
    myr_exact_free(set);
    qsort(limits, TURNS, sizeof *limits, by_value);
    qsort(rates, TURNS, sizeof *rates, by_value);
    printf("%6zu %10zu %12.0f %12.1f %12.1f %8.2f\n", dim, n, rates[TURNS / 2] * 1e9 / (2.0 * (double)n * (double)dim),
           rates[TURNS / 2], limits[TURNS / 2], rates[TURNS / 2] / limits[TURNS / 2]);
    return 0;
}

int main(int argc, char **argv)
{
    static const size_t usual[] = {128, 1280};
    int n_dims = argc > 1 ? argc - 1 : (int)(sizeof usual / sizeof *usual), failed = 0;
    float *values = myr_alloc_huge(N_VALUES, sizeof *values), *product = myr_alloc(SIZE, SIZE * sizeof *product);
    int64_t *ids = myr_alloc(N_VALUES, sizeof *ids);
    myr_hit *hits = myr_alloc(N_QUERIES, K * sizeof *hits);
    myr_rng rng;
    if (!values || !product || !ids || !hits) {
        fprintf(stderr, "bench_exact: no memory\n");
        return 1;
    }
    openblas_set_num_threads(1);
    myr_rng_seed(&rng, 1);
    for (size_t i = 0; i < N_VALUES; i++)
        values[i] = (float)myr_rng_unit(&rng);
    for (size_t i = 0; i < N_VALUES; i++)
        ids[i] = (int64_t)i;
    printf("%6s %10s %12s %12s %12s %8s\n", "dim", "vectors", "queries/s", "GFLOP/s", "limit", "share");
    for (int i = 0; i < n_dims && !failed; i++) {
        size_t dim = argc > 1 ? strtoul(argv[i + 1], NULL, 10) : usual[i];
        if (dim < 1 || dim > 65536) {
            fprintf(stderr, "usage: bench_exact [DIM...]      1 to 65536\n");
            failed = 2;
        } else {
            failed = measure(values, dim, product, ids, hits);
        }
    }
    free(values);
    free(product);
    free(ids);
    free(hits);
    return failed;
}
