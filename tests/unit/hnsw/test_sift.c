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
        myr_hnsw_searcher *searcher = NULL;
        size_t n_right = 0;
        assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
        for (size_t q = 0; q < N_QUERIES; q++) {
            assert_int_equal(myr_hnsw_search(searcher, queries + q * DIM, K, efs[e], hits, NULL), MYR_OK);
            for (size_t i = 0; i < K; i++)
                n_right += hits[i].distance <= truth[q * K + K - 1].distance;
        }
        double recall = (double)n_right / (N_QUERIES * K);
        print_message("recall@%d at ef %zu: %.4f\n", K, efs[e], recall);
        assert_true(recall >= floors[e]);
        myr_hnsw_searcher_free(searcher);
    }
    myr_pool_free(pool);
    myr_hnsw_free(graph);
    free(base);
    free(queries);
    free(truth);
}

int main(void)
{
    if (access(MYRIOPS_SOURCE_DIR "/../shared/data/sift/base.u8bin", R_OK) != 0) {
        printf("skipped: %s is not there\n", MYRIOPS_SOURCE_DIR "/../shared/data/sift");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recall)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
