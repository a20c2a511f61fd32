/*
 * What does a filter cost, and what is found through it?
 *
 *   bench_filters BASE QUERIES [EF]      files of vectors; EF 100
 *
 * One graph over the base, all threads; then for each share of the rows, drawn by a hash of their ids, 200 filtered
 * searches one by one on one thread, beside exact search over the rows that are accepted. "scan" is how many of the
 * searches went through the accepted rows in place of the graph.
 */
#include "base/alloc.h"
#include "base/pool.h"
#include "base/progress.h"
#include "base/rng.h"
#include "myriops/exact.h"
#include "myriops/hnsw.h"
#include "myriops/vectors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_QUERIES = 200, K = 10, SEED = 7 };

typedef struct floats {
    float *values; /* (n, dim) */
    size_t n, dim;
} floats;

static bool read_floats(const char *path, floats *read)
{
    myr_vectors file;
    if (myr_vectors_read(path, NULL, &file) != MYR_OK)
        return false;
    *read = (floats){.values = myr_alloc_huge(file.n * file.dim, sizeof(float)), .n = file.n, .dim = file.dim};
    bool done = read->values && myr_vectors_to_f32(&file, 0, file.n, read->values) == MYR_OK;
    myr_vectors_clear(&file);
    return done;
}

/* Context: the greatest hash that is accepted. */
static bool accept_share(const void *context, int64_t id)
{
    return myr_hash64((uint64_t)id, SEED) <= *(const uint64_t *)context;
}

/* The accepted rows, one behind the other. */
static size_t take_accepted(const floats *base, const myr_row_filter *filter, float *rows, int64_t *ids)
{
    size_t n = 0;
    for (size_t i = 0; i < base->n; i++)
        if (filter->accepts(filter->context, (int64_t)i)) {
            memcpy(rows + n * base->dim, base->values + i * base->dim, base->dim * sizeof *rows);
            ids[n++] = (int64_t)i;
        }
    return n;
}

static bool measure(const myr_hnsw *graph, const floats *base, const floats *queries, double share, size_t ef)
{
    uint64_t most = (uint64_t)(share * 0x1p64);
    myr_row_filter filter = {accept_share, &most};
    float *rows = myr_alloc_huge(base->n * base->dim, sizeof *rows);
    int64_t *ids = myr_alloc(base->n, sizeof *ids);
    myr_exact *set = NULL;
    myr_hnsw_searcher *searcher = NULL;
    static myr_hit truth[N_QUERIES * K], hits[N_QUERIES * K];
    size_t n = rows && ids ? take_accepted(base, &filter, rows, ids) : 0, n_queries = N_QUERIES, n_scans = 0;
    n_queries = queries->n < n_queries ? queries->n : n_queries;
    bool done = rows && ids && myr_exact_create(rows, n, base->dim, ids, MYR_METRIC_L2, NULL, &set) == MYR_OK &&
                myr_exact_search(set, NULL, queries->values, n_queries, K, truth) == MYR_OK &&
                myr_hnsw_searcher_create(graph, &searcher) == MYR_OK;
    double start_s = myr_now_s();
    for (size_t q = 0; done && q < n_queries; q++) {
        myr_hnsw_stats stats = {0};
        done = myr_hnsw_search_filtered(searcher, queries->values + q * base->dim, K, ef, &filter, hits + q * K,
                                        &stats) == MYR_OK;
        n_scans += stats.n_hops == 0;
    }
    double took_s = myr_now_s() - start_s;
    size_t n_found = 0, n_true = 0;
    for (size_t i = 0; done && i < n_queries * K; i++) {
        n_true += truth[i].id >= 0;
        n_found += hits[i].id >= 0 && hits[i].distance <= truth[i / K * K + K - 1].distance;
    }
    if (done)
        printf("%8.3f %% %10zu %10.4f %12.0f %10zu\n", share * 100, n, (double)n_found / (double)n_true,
               took_s / (double)n_queries * 1e6, n_scans);
    myr_hnsw_searcher_free(searcher);
    myr_exact_free(set);
    free(rows);
    free(ids);
    return done;
}

static bool run(const floats *base, const floats *queries, size_t ef)
{
    static const double shares[] = {0.5, 0.1, 0.01, 0.001};
    myr_pool *pool = NULL;
    myr_hnsw *graph = NULL;
    int64_t *ids = myr_alloc(base->n, sizeof *ids);
    myr_hnsw_options options = {.metric = MYR_METRIC_L2};
    for (size_t i = 0; ids && i < base->n; i++)
        ids[i] = (int64_t)i;
    bool done = ids && myr_pool_create(myr_usable_cpus(), &pool) == MYR_OK &&
                myr_hnsw_build(base->values, base->n, base->dim, ids, &options, pool, &graph) == MYR_OK;
    if (done)
        printf("%10s %10s %10s %12s %10s\n", "share", "rows", "recall@10", "us a query", "scans");
    for (size_t i = 0; done && i < sizeof shares / sizeof *shares; i++)
        done = measure(graph, base, queries, shares[i], ef);
    myr_hnsw_free(graph);
    myr_pool_free(pool);
    free(ids);
    return done;
}

int main(int argc, char **argv)
{
    floats base = {0}, queries = {0};
    size_t ef = argc == 4 ? strtoul(argv[3], NULL, 10) : 100;
    if (argc < 3 || argc > 4 || ef < K) {
        fprintf(stderr, "usage: bench_filters BASE QUERIES [EF]\n");
        return 2;
    }
    bool done = read_floats(argv[1], &base) && read_floats(argv[2], &queries) && base.dim == queries.dim &&
                run(&base, &queries, ef);
    if (!done)
        fprintf(stderr, "bench_filters: %s\n",
                *myr_error_detail() ? myr_error_detail() : "the files do not fit together");
    free(base.values);
    free(queries.values);
    return done ? 0 : 1;
}
