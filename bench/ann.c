/*
 * How fast is an HNSW graph built and searched, at which recall? One thread searches.
 *
 *   ann BASE QUERIES TRUTH THREADS [EF...]
 *
 * Vector files of any format Myriops reads; TRUTH holds squared Euclidean distances (big-ann's layout). Recall is
 * checked before a speed is printed: a distance within the true tenth counts. Each speed is the median of five rounds.
 * Output: "build SECONDS", then "ef RECALL QPS" a line, as the peers' programs print it.
 */
#include "base/alloc.h"
#include "base/pool.h"
#include "base/progress.h"
#include "myriops/hnsw.h"
#include "myriops/vectors.h"

#include <stdio.h>
#include <stdlib.h>

#define K 10
#define ROUNDS 5

static void give_up(void)
{
    fprintf(stderr, "ann: %s\n", myr_error_detail());
    exit(1);
}

static float *load(const char *path, size_t *n, size_t *dim)
{
    myr_vectors file;
    if (myr_vectors_read(path, NULL, &file) != MYR_OK)
        give_up();
    *n = file.n;
    *dim = file.dim;
    float *rows = myr_alloc(file.n * file.dim, sizeof *rows);
    if (!rows || myr_vectors_to_f32(&file, 0, file.n, rows) != MYR_OK)
        give_up();
    myr_vectors_clear(&file);
    return rows;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double recall(const myr_hit *hits, const myr_truth *truth, size_t n)
{
    size_t n_found = 0;
    for (size_t q = 0; q < n; q++)
        for (size_t i = 0; i < K; i++) {
            double distance = (double)hits[q * K + i].distance;
            n_found += distance * distance <= (double)truth->distances[q * truth->k + K - 1] * (1 + 1e-6);
        }
    return (double)n_found / (double)(n * K);
}

int main(int argc, char **argv)
{
    size_t n, dim, n_queries, query_dim;
    myr_pool *pool;
    myr_hnsw *graph;
    myr_hnsw_searcher *searcher;
    myr_truth truth;
    if (argc < 6) {
        fprintf(stderr, "usage: ann BASE QUERIES TRUTH THREADS EF...\n");
        return 2;
    }
    float *base = load(argv[1], &n, &dim), *queries = load(argv[2], &n_queries, &query_dim);
    int64_t *ids = myr_alloc(n, sizeof *ids);
    myr_hit *hits = myr_alloc(n_queries * K, sizeof *hits);
    if (!ids || !hits || dim != query_dim || myr_truth_read(argv[3], &truth) != MYR_OK || truth.n != n_queries ||
        truth.k < K || !truth.distances || myr_pool_create(atoi(argv[4]), &pool) != MYR_OK)
        give_up();
    for (size_t i = 0; i < n; i++)
        ids[i] = (int64_t)i;
    double start_s = myr_now_s();
    if (myr_hnsw_build(base, n, dim, ids, &(myr_hnsw_options){.code_max = 255}, pool, &graph) != MYR_OK)
        give_up();
    printf("build %.1f\n", myr_now_s() - start_s);
    if (myr_hnsw_check(graph) != MYR_OK || myr_hnsw_searcher_create(graph, &searcher) != MYR_OK)
        give_up();
    for (int a = 5; a < argc; a++) {
        double seconds[ROUNDS];
        size_t ef = strtoul(argv[a], NULL, 10);
        for (int round = 0; round < ROUNDS; round++) {
            start_s = myr_now_s();
            for (size_t q = 0; q < n_queries; q++)
                if (myr_hnsw_search(searcher, queries + q * dim, K, ef, hits + q * K, NULL) != MYR_OK)
                    give_up();
            seconds[round] = myr_now_s() - start_s;
        }
        qsort(seconds, ROUNDS, sizeof *seconds, ascending);
        printf("%zu %.4f %.0f\n", ef, recall(hits, &truth, n_queries), (double)n_queries / seconds[ROUNDS / 2]);
        fflush(stdout);
    }
    myr_hnsw_searcher_free(searcher);
    myr_hnsw_free(graph);
    myr_pool_free(pool);
    myr_truth_clear(&truth);
    free(base);
    free(queries);
    free(ids);
    free(hits);
    return 0;
}
