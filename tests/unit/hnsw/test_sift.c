/*
 * Recall on real descriptors, with the defaults. Skipped where they are not beside the project.
 */
#include "data.h"

#include <unistd.h>

enum { N = 50000, N_QUERIES = 500, DIM = 128, K = 10 };

/* big-ann layout: u32 n, u32 dim, then rows of u8. */
static float *read_rows(const char *name, size_t n)
{
    char path[4096];
    uint32_t head[2];
    uint8_t *bytes = malloc(n * DIM);
    float *rows = malloc(n * DIM * sizeof *rows);
    snprintf(path, sizeof path, "%s/../shared/data/sift/%s", MYRIOPS_SOURCE_DIR, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_true(fread(head, sizeof *head, 2, file) == 2 && head[0] >= n && head[1] == DIM);
    assert_int_equal(fread(bytes, DIM, n, file), n);
    fclose(file);
    for (size_t i = 0; i < n * DIM; i++)
        rows[i] = bytes[i];
    free(bytes);
    return rows;
}

static double recall_of(const myr_hnsw *graph, const float *queries, const myr_hit *truth, size_t ef)
{
    myr_hnsw_searcher *searcher;
    myr_hit *hits = malloc(N_QUERIES * K * sizeof *hits);
    size_t n_right = 0;
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    assert_int_equal(myr_hnsw_search_batch(searcher, queries, N_QUERIES, K, ef, hits, NULL), MYR_OK);
    for (size_t i = 0; i < N_QUERIES * K; i++)
        n_right += hits[i].distance <= truth[i / K * K + K - 1].distance;
    myr_hnsw_searcher_free(searcher);
    free(hits);
    return (double)n_right / (N_QUERIES * K);
}

static void test_recall(void **state)
{
    (void)state;
    float *base = read_rows("base.u8bin", N), *queries = read_rows("query.u8bin", N_QUERIES);
    myr_hnsw_options options = {.code_min = 0, .code_max = 255}; /* M = 16, ef_construction = 200 */
    myr_hnsw *graph = make_graph(base, N, DIM, &options, 2);
    assert_sound(graph, "sift");

    myr_pool *pool = NULL;
    myr_hit *truth = malloc(N_QUERIES * K * sizeof *truth), hits[K];
    assert_int_equal(myr_pool_create(2, &pool), MYR_OK);
    assert_int_equal(myr_hnsw_search_exact(graph, pool, queries, N_QUERIES, K, truth), MYR_OK);
    for (size_t q = 0; q < 5; q++) {
        naive_search(base, N, DIM, MYR_METRIC_L2, queries + q * DIM, K, hits);
        assert_same_hits(truth + q * K, hits, K, "sift, exact");
    }

    static const size_t efs[] = {50, 100};
    static const double floors[] = {0.97, 0.99}; /* measured: 0.985 and 0.997 */
    for (size_t e = 0; e < 2; e++) {
        double recall = recall_of(graph, queries, truth, efs[e]);
        print_message("recall@%d at ef %zu: %.4f\n", K, efs[e], recall);
        assert_true(recall >= floors[e]);
    }
    myr_pool_free(pool);
    myr_hnsw_free(graph);
    free(base);
    free(queries);
    free(truth);
}

static void replace(myr_hnsw **graph, myr_hnsw *updated)
{
    assert_sound(updated, "sift, changed");
    myr_hnsw_free(*graph);
    *graph = updated;
}

/* Five rounds: a random 30 % of the rows go, as many new ones come. */
static void test_rounds(void **state)
{
    (void)state;
    enum { MOST = 2 * N, ROUNDS = 5 };
    float *base = read_rows("base.u8bin", MOST + N), *queries = read_rows("query.u8bin", N_QUERIES);
    float *rows = malloc((size_t)MOST * DIM * sizeof *rows);
    int64_t *ids = malloc(MOST * sizeof *ids), *gone = malloc(MOST * sizeof *gone), next = N;
    myr_hnsw_options options = {.code_min = 0, .code_max = 255};
    myr_pool *pool = NULL;
    myr_hnsw *graph, *fresh, *updated;
    myr_hit *truth = malloc(N_QUERIES * K * sizeof *truth);
    myr_rng rng;
    myr_rng_seed(&rng, 17);
    assert_int_equal(myr_pool_create(2, &pool), MYR_OK);
    for (int64_t i = 0; i < N; i++)
        ids[i] = i;
    assert_int_equal(myr_hnsw_build(base, N, DIM, ids, &options, pool, &graph), MYR_OK);
    for (int round = 0; round < ROUNDS; round++) {
        size_t n_gone = 0, n_kept = 0;
        for (size_t i = 0; i < N; i++)
            if (myr_rng_unit(&rng) < 0.3)
                gone[n_gone++] = ids[i];
            else
                ids[n_kept++] = ids[i];
        assert_int_equal(myr_hnsw_remove(graph, gone, n_gone, pool, &updated), MYR_OK);
        replace(&graph, updated);
        for (size_t i = 0; i < n_gone; i++)
            ids[n_kept + i] = next++;
        assert_true(next <= MOST + N);
        assert_int_equal(myr_hnsw_add(graph, base + ids[n_kept] * DIM, n_gone, ids + n_kept, pool, &updated), MYR_OK);
        replace(&graph, updated);
    }
    for (size_t i = 0; i < N; i++)
        memcpy(rows + i * DIM, base + ids[i] * DIM, DIM * sizeof *rows);
    assert_int_equal(myr_hnsw_build(rows, N, DIM, ids, &options, pool, &fresh), MYR_OK);
    assert_int_equal(myr_hnsw_search_exact(fresh, pool, queries, N_QUERIES, K, truth), MYR_OK);
    static const size_t efs[] = {20, 50, 100};
    for (size_t e = 0; e < 3; e++) {
        double kept = recall_of(graph, queries, truth, efs[e]), right = recall_of(fresh, queries, truth, efs[e]);
        print_message("after five rounds, ef %zu: recall %.4f, built anew %.4f\n", efs[e], kept, right);
        assert_true(kept >= right - 0.01);
    }
    myr_hnsw_free(graph);
    myr_hnsw_free(fresh);
    myr_pool_free(pool);
    free(base);
    free(queries);
    free(rows);
    free(ids);
    free(gone);
    free(truth);
}

int main(void)
{
    if (access(MYRIOPS_SOURCE_DIR "/../shared/data/sift/base.u8bin", R_OK) != 0) {
        printf("skipped: %s is not there\n", MYRIOPS_SOURCE_DIR "/../shared/data/sift");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recall), cmocka_unit_test(test_rounds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
