/*
 * Recall on what takes graphs apart: tight clusters, copies, few and many dimensions. Each floor lies a little below
 * what was measured; queries are held out of the same set.
 */
#include "data.h"

enum { K = 10, QUERIES = 200 };

typedef struct set {
    const char *name;
    size_t n, dim, n_clusters; /* clusters of Gaussians; 0 = one Gaussian */
    double spread;             /* of a cluster, where the centres' is 1 */
    double copied;             /* share of rows that are copies of others */
    size_t n_alike;            /* rows, at first, that are all one vector */
    double lengths;            /* how far the logarithms of lengths spread */
    size_t ef;
    double floor;
} set;

static float gauss(myr_rng *rng)
{
    double u = 1 - myr_rng_unit(rng), v = myr_rng_unit(rng);
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

/* (n + QUERIES, dim), the queries last. */
static float *make_set(const set *wanted)
{
    size_t dim = wanted->dim, n_all = wanted->n + QUERIES, n_centres = wanted->n_clusters ? wanted->n_clusters : 1;
    float *rows = malloc(n_all * dim * sizeof *rows), *centres = calloc(n_centres * dim, sizeof *centres);
    float spread = wanted->n_clusters ? (float)wanted->spread : 1;
    myr_rng rng;
    assert_non_null(rows);
    assert_non_null(centres);
    myr_rng_seed(&rng, 41);
    for (size_t i = 0; wanted->n_clusters && i < n_centres * dim; i++)
        centres[i] = gauss(&rng);
    for (size_t row = 0; row < n_all; row++) {
        const float *centre = centres + myr_rng_below(&rng, n_centres) * dim;
        for (size_t i = 0; i < dim; i++)
            rows[row * dim + i] = centre[i] + spread * gauss(&rng);
        float length = wanted->lengths > 0 ? expf((float)wanted->lengths * gauss(&rng)) : 1;
        for (size_t i = 0; i < dim; i++)
            rows[row * dim + i] *= length;
        bool is_copy = row > 0 && row < wanted->n && myr_rng_unit(&rng) < wanted->copied;
        size_t from = row < wanted->n_alike ? 0 : is_copy ? myr_rng_below(&rng, row) : row;
        memmove(rows + row * dim, rows + from * dim, dim * sizeof *rows);
    }
    free(centres);
    return rows;
}

static void check_floor(const set *wanted, myr_metric metric)
{
    float *rows = make_set(wanted), *queries = rows + wanted->n * wanted->dim;
    myr_hnsw_options options = {.metric = metric};
    myr_hit *found = malloc(QUERIES * K * sizeof *found), *truth = malloc(QUERIES * K * sizeof *truth);
    myr_hnsw_searcher *searcher;
    myr_pool *pool;
    size_t n_found = 0;
    if (metric == MYR_METRIC_COSINE)
        normalise(rows, wanted->n + QUERIES, wanted->dim);
    myr_hnsw *graph = make_graph(rows, wanted->n, wanted->dim, &options, 2);
    assert_sound(graph, wanted->name); /* every node is reached */
    assert_int_equal(myr_pool_create(2, &pool), MYR_OK);
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    assert_int_equal(myr_hnsw_search_exact(graph, pool, queries, QUERIES, K, truth), MYR_OK);
    assert_int_equal(myr_hnsw_search_batch(searcher, queries, QUERIES, K, wanted->ef, found, NULL), MYR_OK);
    for (size_t i = 0; i < QUERIES * K; i++)
        n_found += found[i].id >= 0 && found[i].distance <= truth[i / K * K + K - 1].distance;
    double recall = (double)n_found / (QUERIES * K);
    print_message("%s, %s: recall@%d %.4f at ef %zu\n", wanted->name, myr_metric_name(metric), K, recall, wanted->ef);
    if (recall < wanted->floor)
        fail_msg("%s: recall %.4f is below %.4f", wanted->name, recall, wanted->floor);
    myr_hnsw_searcher_free(searcher);
    myr_pool_free(pool);
    myr_hnsw_free(graph);
    free(rows);
    free(found);
    free(truth);
}

static void recall_stays_above_its_floor(void **state)
{
    (void)state;
    static const set sets[] = {
        {.name = "1,000 tight clusters",
         .n = 30000,
         .dim = 32,
         .n_clusters = 1000,
         .spread = 0.02,
         .ef = 100,
         .floor = 0.99},
        {.name = "30 % copies", .n = 20000, .dim = 24, .copied = 0.3, .ef = 100, .floor = 0.99},
        {.name = "10,000 copies of one", .n = 20000, .dim = 24, .n_alike = 10000, .ef = 100, .floor = 0.99},
        /* 256 codes: a hundred values share each in the middle, and the walk must take them all along */
        {.name = "1 dimension", .n = 10000, .dim = 1, .ef = 400, .floor = 0.96},
        {.name = "2 dimensions", .n = 20000, .dim = 2, .ef = 50, .floor = 0.93},
        {.name = "3 dimensions", .n = 20000, .dim = 3, .ef = 50, .floor = 0.99},
        {.name = "17 dimensions", .n = 20000, .dim = 17, .ef = 100, .floor = 0.99},
        {.name = "many lengths", .n = 20000, .dim = 17, .lengths = 0.5, .ef = 100, .floor = 0.97},
        {.name = "1,000 dimensions", .n = 5000, .dim = 1000, .n_clusters = 50, .spread = 0.7, .ef = 100, .floor = 0.99},
        {.name = "4,096 dimensions", .n = 2000, .dim = 4096, .n_clusters = 20, .spread = 0.7, .ef = 100, .floor = 0.99},
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        check_floor(&sets[i], MYR_METRIC_L2);
        if (sets[i].dim > 1)
            check_floor(&sets[i], MYR_METRIC_COSINE);
        check_floor(&sets[i], MYR_METRIC_IP);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(recall_stays_above_its_floor)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
