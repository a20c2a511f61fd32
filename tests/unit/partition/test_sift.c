/*
 * Real descriptors with published exact neighbours: the shards the router picks must hold them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/pool.h"
#include "myriops/partition.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { N_SHARDS = 8, K = 10, BLOCK = 8192, SAMPLE = 20000 };

static const char *data;

/* big-ann layout: u32 n, u32 dim, then rows. */
static FILE *open_bin(const char *name, uint32_t *n, uint32_t *dim)
{
    char path[4096];
    uint32_t head[2];
    FILE *file;

    snprintf(path, sizeof(path), "%s/sift/%s", data, name);
    file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(head, sizeof(*head), 2, file), 2);
    *n = head[0];
    *dim = head[1];
    return file;
}

static size_t read_rows(FILE *file, size_t n, size_t dim, uint8_t *bytes, float *rows)
{
    size_t got = fread(bytes, dim, n, file);

    for (size_t i = 0; i < got * dim; i++)
        rows[i] = bytes[i];
    return got;
}

static void test_probes_hold_neighbours(void **state)
{
    uint32_t n, dim, n_queries, query_dim, n_truth_rows, k_truth;
    FILE *base = open_bin("base.u8bin", &n, &dim), *query = open_bin("query.u8bin", &n_queries, &query_dim);
    FILE *truth = open_bin("groundtruth.bin", &n_truth_rows, &k_truth);
    uint8_t *bytes = malloc((size_t)SAMPLE * dim);
    float *rows = malloc((size_t)SAMPLE * dim * sizeof(*rows));
    uint32_t *cluster = malloc(n * sizeof(*cluster)), *shards, *ids;
    int64_t *counts, load[N_SHARDS] = {0};
    size_t n_clusters = myr_router_n_clusters(SAMPLE, N_SHARDS), right[2] = {0}, *n_found;
    myr_router *router = NULL;
    myr_pool *pool = NULL;

    (void)state;
    assert_true(bytes != NULL && rows != NULL && cluster != NULL && query_dim == dim && k_truth >= K);
    assert_int_equal(myr_pool_create(2, &pool), MYR_OK);
    assert_int_equal(read_rows(base, SAMPLE, dim, bytes, rows), SAMPLE);
    assert_int_equal(myr_router_train(rows, SAMPLE, dim, n_clusters, 1, pool, &router), MYR_OK);
    counts = calloc(n_clusters, sizeof(*counts));
    assert_non_null(counts);
    fseek(base, 8, SEEK_SET);
    for (size_t at = 0, got; at < n; at += got) {
        got = read_rows(base, n - at < BLOCK ? n - at : BLOCK, dim, bytes, rows);
        assert_true(got > 0);
        assert_int_equal(myr_router_assign(router, rows, got, pool, cluster + at, NULL), MYR_OK);
        for (size_t i = at; i < at + got; i++)
            counts[cluster[i]]++;
    }
    assert_int_equal(myr_router_pack(router, counts, N_SHARDS), MYR_OK);
    for (size_t i = 0; i < n; i++)
        load[myr_router_shard_of(router, cluster[i], (int64_t)i)]++;
    for (size_t s = 0; s < N_SHARDS; s++)
        assert_true((double)load[s] <= 1.05 * n / N_SHARDS);

    n_queries = n_queries < 1000 ? n_queries : 1000;
    shards = malloc(n_queries * N_SHARDS * sizeof(*shards));
    n_found = malloc(n_queries * sizeof(*n_found));
    ids = malloc(k_truth * sizeof(*ids));
    assert_true(shards != NULL && n_found != NULL && ids != NULL);
    assert_int_equal(read_rows(query, n_queries, dim, bytes, rows), n_queries);
    assert_int_equal(myr_router_route(router, rows, n_queries, 4, -1, pool, shards, NULL, n_found), MYR_OK);
    for (size_t q = 0; q < n_queries; q++) {
        assert_int_equal(fread(ids, sizeof(*ids), k_truth, truth), k_truth);
        for (size_t i = 0; i < K; i++) {
            uint32_t home = myr_router_shard_of(router, cluster[ids[i]], ids[i]);

            for (size_t p = 0; p < n_found[q]; p++) {
                right[0] += p < 2 && shards[q * N_SHARDS + p] == home;
                right[1] += shards[q * N_SHARDS + p] == home;
            }
        }
    }
    print_message("10 nearest within 2 of 8 shards: %.4f, 4 of 8: %.4f\n", (double)right[0] / (n_queries * K),
                  (double)right[1] / (n_queries * K));
    assert_true((double)right[0] / (n_queries * K) > 0.92);  /* chance is 0.25; without refine.c it was 0.910 */
    assert_true((double)right[1] / (n_queries * K) > 0.995); /* chance is 0.50; 0.994 */
    fclose(base);
    fclose(query);
    fclose(truth);
    free(bytes);
    free(rows);
    free(cluster);
    free(counts);
    free(shards);
    free(n_found);
    free(ids);
    myr_router_free(router);
    myr_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_probes_hold_neighbours)};
    char path[4096];

    data = getenv("MYRIOPS_DATA");
    snprintf(path, sizeof(path), "%s/sift/base.u8bin", data != NULL ? data : "");
    if (data == NULL || access(path, R_OK) != 0) {
        printf("skipped: MYRIOPS_DATA names no folder with sift/base.u8bin\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
