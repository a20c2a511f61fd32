/*
 * Search against exact search, and exact search against the naive oracle, hit for hit and
 * bit for bit.
 */
#include "data.h"

enum { N = 1500, DIM = 20, N_QUERIES = 40, K = 12 };

static const myr_hnsw_options usual = {.M = 8, .ef_construction = 80, .seed = 3, .code_min = 0, .code_max = 1};

static void compare_exact(const float *vectors, size_t n, size_t dim, const myr_hnsw_options *options,
                          const float *queries, size_t n_queries, size_t k, const char *what)
{
    myr_hnsw *graph = make_graph(vectors, n, dim, options, 1);
    myr_hit *right = malloc(n_queries * k * sizeof *right), *got = malloc(n_queries * k * sizeof *got);
    for (size_t q = 0; q < n_queries; q++)
        naive_search(vectors, n, dim, options->metric, queries + q * dim, k, right + q * k);
    for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
        myr_pool *pool = NULL;
        assert_int_equal(myr_pool_create(n_threads, &pool), MYR_OK);
        memset(got, 0, n_queries * k * sizeof *got);
        assert_int_equal(myr_hnsw_search_exact(graph, pool, queries, n_queries, k, got), MYR_OK);
        assert_same_hits(got, right, n_queries * k, what);
        assert_int_equal(myr_hnsw_search_exact(graph, pool, queries, 1, k, got), MYR_OK);
        assert_same_hits(got, right, k, what);
        myr_pool_free(pool);
    }
    /* With room for every node a search is exact: all are reached, and no bound leaves out what it should not. */
    myr_hnsw_searcher *searcher = NULL;
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    for (size_t q = 0; q < n_queries; q++) {
        assert_int_equal(myr_hnsw_search(searcher, queries + q * dim, k, n > k ? n : k, got, NULL), MYR_OK);
        assert_same_hits(got, right + q * k, k, what);
    }
    myr_hnsw_searcher_free(searcher);
    myr_hnsw_free(graph);
    free(right);
    free(got);
}

static void test_exact(void **state)
{
    (void)state;
    for (int kind = 0; kind < N_SHAPES; kind++)
        for (int metric = 0; metric < 3; metric++) {
            myr_hnsw_options options = usual;
            options.metric = (myr_metric)metric;
            float *vectors = make_vectors((shape)kind, N, DIM, 1);
            float *queries = make_vectors((shape)kind, N_QUERIES, DIM, 2);
            memcpy(queries, vectors + 5 * DIM, DIM * sizeof *queries); /* one is among them */
            if (options.metric == MYR_METRIC_COSINE) {
                normalise(vectors, N, DIM);
                normalise(queries, N_QUERIES, DIM);
            }
            compare_exact(vectors, N, DIM, &options, queries, N_QUERIES, K, shape_name((shape)kind));
            options.code_min = options.code_max = 2; /* codes that say nothing */
            compare_exact(vectors, N, DIM, &options, queries, 3, K, "no codes");
            free(vectors);
            free(queries);
        }
}

static void test_small(void **state)
{
    (void)state;
    static const size_t dims[] = {1, 3, 128, 1280};
    for (size_t d = 0; d < 4; d++)
        for (size_t n = 0; n <= 5; n++)
            for (size_t k = 1; k <= 8; k += 3) {
                float *vectors = make_vectors(SHAPE_UNIFORM, n, dims[d], 3);
                float *queries = make_vectors(SHAPE_UNIFORM, 4, dims[d], 4);
                myr_hnsw_options product = usual;
                product.metric = MYR_METRIC_IP;
                compare_exact(vectors, n, dims[d], &usual, queries, 4, k, "small");
                compare_exact(vectors, n, dims[d], &product, queries, 4, k, "small, by product");
                free(vectors);
                free(queries);
            }
}

/* A curve ends at all that is there, and does not depend on the threads. */
static void test_curve(void **state)
{
    (void)state;
    static const size_t efs[] = {12, 40, N};
    float *vectors = make_vectors(SHAPE_DUPLICATES, N, DIM, 9);
    for (size_t i = 0; i < N * DIM / 2; i++)
        vectors[i] += (float)(i % 97) * 0.001f;
    myr_hnsw *graph = make_graph(vectors, N, DIM, &usual, 2);
    myr_hnsw_curve one, other;
    myr_pool *pool;
    assert_int_equal(myr_pool_create(3, &pool), MYR_OK);
    assert_int_equal(myr_hnsw_measure(graph, NULL, 1, efs, 3, &one), MYR_OK);
    assert_int_equal(myr_hnsw_measure(graph, pool, 1, efs, 3, &other), MYR_OK);
    assert_memory_equal(&one, &other, sizeof one);
    assert_int_equal(one.n_queries, N);
    assert_int_equal(one.n_true, N * MYR_CURVE_K);
    assert_true(one.n_found[0] > 0 && one.n_found[0] <= one.n_found[1]);
    assert_int_equal(one.n_found[2], one.n_true);
    assert_int_equal(myr_hnsw_measure(graph, pool, 0.1, efs, 3, &other), MYR_OK);
    assert_true(other.n_queries > N / 20 && other.n_queries < N / 5);
    assert_int_equal(myr_hnsw_measure(graph, pool, 0, efs, 3, &other), MYR_OK);
    assert_int_equal(other.n_queries, 0);
    assert_int_equal(myr_hnsw_measure(graph, pool, -1, efs, 3, &other), MYR_ERR_ARG);
    myr_pool_free(pool);
    myr_hnsw_free(graph);
    graph = make_graph(vectors, 4, DIM, &usual, 1); /* fewer than K */
    assert_int_equal(myr_hnsw_measure(graph, NULL, 1, efs, 3, &one), MYR_OK);
    assert_int_equal(one.n_true, 12);
    assert_int_equal(one.n_found[0], 12);
    myr_hnsw_free(graph);
    free(vectors);
}

static void round_values(float *values, size_t n, float least, float width)
{
    for (size_t i = 0; i < n; i++)
        values[i] = least + roundf(values[i] * width);
}

static void test_range_of_codes(void **state)
{
    (void)state;
    static const struct {
        bool all_whole;
        float least, most, right_least, right_most;
    } cases[] = {{true, 3, 200, 0, 255},
                 {true, 0, 255, 0, 255},
                 {false, 3, 200, 3, 200},
                 {true, -128, 127, -128, 127},
                 {true, -100, 90, -100, 155},
                 {true, -1, 255, -1, 255},
                 {true, 1000, 1255, 1000, 1255},
                 {true, 1e9f, 1e9f, 1e9f, 1e9f},
                 {true, -1e30f, 1e30f, -1e30f, 1e30f},
                 {true, 7, 7, 0, 255},
                 {true, INFINITY, -INFINITY, 0, 255}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        float least = cases[c].least, most = cases[c].most;
        myr_hnsw_fit_codes(cases[c].all_whole, &least, &most);
        if (least != cases[c].right_least || most != cases[c].right_most)
            fail_msg("case %zu: %g..%g", c, (double)least, (double)most);
    }
}

/* Vectors whose values 16 bits hold are kept so: the same answers, from less memory. Queries need not be. */
static void test_halves(void **state)
{
    (void)state;
    static const size_t dims[] = {1, 7, DIM, 100};
    for (size_t c = 0; c < 3 * sizeof dims / sizeof *dims; c++) {
        size_t dim = dims[c / 3];
        myr_hnsw_options options = usual;
        options.metric = (myr_metric)(c % 3);
        float *vectors = make_vectors(SHAPE_UNIFORM, N, dim, 7), *queries = make_vectors(SHAPE_UNIFORM, 20, dim, 8);
        if (options.metric == MYR_METRIC_COSINE) {
            normalise(vectors, N, dim);
            normalise(queries, 20, dim);
        }
        myr_hnsw_round(vectors, N * dim);
        compare_exact(vectors, N, dim, &options, queries, 20, K, "halves");
        myr_hnsw *graph = make_graph(vectors, N, dim, &options, 2);
        if (!graph->halves && graph->vectors)
            fail_msg("dim %zu: 32 bits a value", dim);
        for (size_t row = 0; row < N; row++)
            assert_vector(graph, row, vectors + row * dim, dim);
        myr_hnsw_free(graph);
        vectors[N / 2] = 65504 * 2.0f; /* more than 16 bits hold */
        options.metric = MYR_METRIC_L2;
        compare_exact(vectors, N, dim, &options, queries, 5, K, "one long");
        graph = make_graph(vectors, N, dim, &options, 1);
        assert_true(graph->vectors && !graph->halves);
        myr_hnsw_free(graph);
        free(vectors);
        free(queries);
    }
}

static void test_round(void **state)
{
    (void)state;
    float values[] = {1.0f + 0x1p-12f, 65504, 65519, 65520, 1e30f, -0.0f, 0x1p-25f, 0x1.8p-25f};
    const float right[] = {1, 65504, 65504, 65520, 1e30f, -0.0f, 0, 0x1p-24f};
    myr_hnsw_round(values, sizeof values / sizeof *values);
    assert_memory_equal(values, right, sizeof values);
}

/* Vectors that their codes say all of are not kept: the same answers, from less memory. */
static void test_whole(void **state)
{
    (void)state;
    static const struct {
        float least, width;
        myr_metric metric;
    } cases[] = {{0, 255, MYR_METRIC_L2},    {-128, 255, MYR_METRIC_L2}, {0.5f, 255, MYR_METRIC_L2},
                 {1e6f, 255, MYR_METRIC_L2}, {0, 1, MYR_METRIC_L2},      {0, 1, MYR_METRIC_COSINE},
                 {0, 255, MYR_METRIC_IP},    {-128, 255, MYR_METRIC_IP}, {0, 1, MYR_METRIC_IP}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        float least = cases[c].least, width = cases[c].width;
        myr_hnsw_options options = usual;
        myr_hnsw_facts facts;
        float *vectors = make_vectors(SHAPE_UNIFORM, N, DIM, 7), *queries = make_vectors(SHAPE_UNIFORM, 20, DIM, 8);
        options.code_min = least;
        options.code_max = least + width;
        options.metric = cases[c].metric;
        round_values(vectors, N * DIM, least, width);
        round_values(queries, 10 * DIM, least, width); /* the others lie between */
        compare_exact(vectors, N, DIM, &options, queries, 20, K, "whole");
        myr_hnsw *graph = make_graph(vectors, N, DIM, &options, 2);
        assert_null(graph->vectors);
        for (size_t row = 0; row < N; row++)
            assert_vector(graph, row, vectors + row * DIM, DIM);
        myr_hnsw_describe(graph, &facts);
        size_t n_spared = facts.n_bytes;
        if (options.metric != MYR_METRIC_COSINE && width == 255) { /* the range is found, too */
            char given[65], found[65];
            myr_hnsw_digest(graph, given);
            options.code_min = options.code_max = 0;
            myr_hnsw *other = make_graph(vectors, N, DIM, &options, 1);
            myr_hnsw_digest(other, found);
            assert_string_equal(given, found);
            myr_hnsw_free(other);
            options.code_min = least;
            options.code_max = least + width;
        }
        myr_hnsw_free(graph);
        vectors[0] = least == 0 ? -0.0f : least + 0.25f; /* one that no code stands for */
        graph = make_graph(vectors, N, DIM, &options, 2);
        assert_true(graph->vectors || graph->halves);
        assert_vector(graph, 0, vectors, DIM);
        myr_hnsw_describe(graph, &facts);
        assert_true(facts.n_bytes >= n_spared + facts.n_nodes * DIM * sizeof(uint16_t));
        myr_hnsw_free(graph);
        free(vectors);
        free(queries);
    }
}

/* Large offsets, tiny and huge values: where the bounds could go wrong by rounding. */
static void test_extremes(void **state)
{
    (void)state;
    static const float scales[] = {1e-38f, 1e-20f, 1e6f, 1e18f, 1e30f};
    static const float offsets[] = {0, 0, 1e6f, 0, -1e30f};
    for (size_t s = 0; s < 5; s++) {
        float *vectors = make_vectors(SHAPE_UNIFORM, 400, DIM, 5), *queries = make_vectors(SHAPE_UNIFORM, 6, DIM, 6);
        for (size_t i = 0; i < 400 * DIM; i++)
            vectors[i] = vectors[i] * scales[s] + offsets[s];
        for (size_t i = 0; i < 6 * DIM; i++)
            queries[i] = queries[i] * scales[s] + offsets[s];
        myr_hnsw_options options = usual;
        options.code_min = offsets[s];
        options.code_max = offsets[s] + scales[s];
        compare_exact(vectors, 400, DIM, &options, queries, 6, K, "extremes");
        options.metric = MYR_METRIC_IP;
        compare_exact(vectors, 400, DIM, &options, queries, 6, K, "extremes, by product");
        free(vectors);
        free(queries);
    }
}

static double recall_of(const float *vectors, size_t n, const float *queries, const myr_hnsw_options *options,
                        size_t ef)
{
    myr_hnsw *graph = make_graph(vectors, n, DIM, options, 2);
    myr_hnsw_searcher *searcher = NULL;
    myr_hit right[K], got[K];
    size_t n_right = 0;
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    for (size_t q = 0; q < N_QUERIES; q++) {
        assert_int_equal(myr_hnsw_search_exact(graph, NULL, queries + q * DIM, 1, K, right), MYR_OK);
        assert_int_equal(myr_hnsw_search(searcher, queries + q * DIM, K, ef, got, NULL), MYR_OK);
        for (size_t i = 0; i < K; i++)
            n_right += got[i].distance <= right[K - 1].distance;
    }
    myr_hnsw_searcher_free(searcher);
    myr_hnsw_free(graph);
    return (double)n_right / (N_QUERIES * K);
}

/* Whatever is searched together, each query has the hits and the steps that it has alone. */
static void test_batch(void **state)
{
    (void)state;
    enum { N_ROWS = 3000, N_BATCH = 23 };
    myr_hnsw_options options = {.seed = 5, .code_max = 1};
    float *vectors = make_vectors(SHAPE_UNIFORM, N_ROWS, DIM, 3),
          *queries = make_vectors(SHAPE_UNIFORM, N_BATCH, DIM, 4);
    myr_hnsw *graph = make_graph(vectors, N_ROWS, DIM, &options, 2);
    myr_hnsw_searcher *searcher = NULL;
    myr_hit alone[K], together[N_BATCH * K];
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    for (size_t n = 0; n <= N_BATCH; n += n < 6 ? 1 : 17) {
        myr_hnsw_stats once = {0}, sum = {0};
        assert_int_equal(myr_hnsw_search_batch(searcher, queries, n, K, 40, together, &once), MYR_OK);
        for (size_t q = 0; q < n; q++) {
            assert_int_equal(myr_hnsw_search(searcher, queries + q * DIM, K, 40, alone, &sum), MYR_OK);
            assert_memory_equal(alone, together + q * K, sizeof alone);
        }
        assert_int_equal(once.n_hops, sum.n_hops);
        assert_int_equal(once.n_distances, sum.n_distances);
    }
    for (int n_threads = 0; n_threads <= 3; n_threads++) {
        myr_hit all[N_BATCH * K];
        myr_pool *pool = NULL;
        if (n_threads > 0)
            assert_int_equal(myr_pool_create(n_threads, &pool), MYR_OK);
        assert_int_equal(myr_hnsw_search_all(graph, pool, queries, N_BATCH, K, 40, all), MYR_OK);
        assert_memory_equal(all, together, sizeof all);
        assert_int_equal(myr_hnsw_search_all(graph, pool, queries, 0, K, 40, NULL), MYR_OK);
        assert_int_equal(myr_hnsw_search_all(graph, pool, queries, N_BATCH, K, K - 1, all), MYR_ERR_ARG);
        myr_pool_free(pool);
    }
    queries[9 * DIM] = NAN;
    assert_int_equal(myr_hnsw_search_batch(searcher, queries, N_BATCH, K, 40, together, NULL), MYR_ERR_ARG);
    assert_int_equal(myr_hnsw_search_all(graph, NULL, queries, N_BATCH, K, 40, together), MYR_ERR_ARG);
    myr_hnsw_searcher_free(searcher);
    myr_hnsw_free(graph);
    free(vectors);
    free(queries);
}

static void test_recall(void **state)
{
    (void)state;
    static const shape kinds[] = {SHAPE_UNIFORM, SHAPE_FAR_CLUSTERS, SHAPE_TIGHT, SHAPE_LINE, SHAPE_DUPLICATES};
    myr_hnsw_options options = {.seed = 3, .code_max = 1};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        float *vectors = make_vectors(kinds[i], 5000, DIM, 7), *queries = make_vectors(kinds[i], N_QUERIES, DIM, 8);
        /* Every other query lies by a row. All do where clusters are tight: far from all of them, the nearest is a
         * guess. */
        for (size_t q = 0; q < N_QUERIES; q += kinds[i] == SHAPE_TIGHT ? 1 : 2)
            for (size_t j = 0; j < DIM; j++)
                queries[q * DIM + j] = vectors[q * 121 * DIM + j] + 0.003f * (queries[q * DIM + j] - 0.5f);
        double recall = recall_of(vectors, 5000, queries, &options, 100);
        if (recall < 0.95)
            fail_msg("%s: recall %.4f", shape_name(kinds[i]), recall);
        free(vectors);
        free(queries);
    }
}

/* One value in fifty is far outside: 256 steps say little of the others, the vectors themselves say all. */
static void test_floats(void **state)
{
    (void)state;
    float *vectors = make_vectors(SHAPE_OUTLIERS, 5000, DIM, 7),
          *queries = make_vectors(SHAPE_UNIFORM, N_QUERIES, DIM, 8);
    for (size_t i = 0; i < N_QUERIES * DIM; i++) /* each query lies by a row */
        queries[i] = vectors[i / DIM * 121 * DIM + i % DIM] + 0.3f * (queries[i] - 0.5f);
    const myr_hnsw_options codes = {.seed = 3}, floats = {.seed = 3, .is_float = true};
    double coarse = recall_of(vectors, 5000, queries, &codes, 80),
           fine = recall_of(vectors, 5000, queries, &floats, 80);
    if (!(fine >= 0.95 && fine > coarse + 0.1))
        fail_msg("outliers: recall %.4f with codes, %.4f without", coarse, fine);
    compare_exact(vectors, 400, DIM, &floats, queries, 6, K, "floats");
    normalise(vectors, 5000, DIM);
    normalise(queries, N_QUERIES, DIM);
    myr_hnsw_options cosine = floats;
    cosine.metric = MYR_METRIC_COSINE;
    fine = recall_of(vectors, 5000, queries, &cosine, 80);
    if (fine < 0.95)
        fail_msg("outliers: recall by cosine %.4f", fine);
    compare_exact(vectors, 400, DIM, &cosine, queries, 6, K, "floats, by cosine");
    free(vectors);
    free(queries);
}

/* Ten thousand copies of one picture among others: they share a node, come out by id, and hide nobody. */
static void test_copies(void **state)
{
    (void)state;
    enum { N_COPIES = 10000, N_OTHERS = 1000, N_ALL = N_COPIES + N_OTHERS };
    float *vectors = make_vectors(SHAPE_UNIFORM, N_ALL, DIM, 9);
    for (size_t row = 0; row < N_ALL; row++)
        if (row % 11 != 0)
            memcpy(vectors + row * DIM, vectors + DIM, DIM * sizeof *vectors);
    myr_hnsw *graph = make_graph(vectors, N_ALL, DIM, &usual, 2);
    assert_sound(graph, "copies");
    myr_hnsw_facts facts;
    myr_hnsw_describe(graph, &facts);
    assert_int_equal(facts.n_nodes, N_OTHERS + 1);

    enum { MANY = N_COPIES + 20 };
    myr_hnsw_searcher *searcher = NULL;
    myr_hit *right = malloc(MANY * sizeof *right), *got = malloc(MANY * sizeof *got);
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    static const size_t ks[] = {1, 5, 50, MANY};
    for (size_t i = 0; i < 4; i++) {
        const float *query = vectors + DIM;
        naive_search(vectors, N_ALL, DIM, MYR_METRIC_L2, query, ks[i], right);
        assert_int_equal(myr_hnsw_search(searcher, query, ks[i], ks[i] < 100 ? 100 : ks[i], got, NULL), MYR_OK);
        assert_same_hits(got, right, ks[i], "copies");
        assert_int_equal(myr_hnsw_search_exact(graph, NULL, query, 1, ks[i], got), MYR_OK);
        assert_same_hits(got, right, ks[i], "copies, exact");
    }
    myr_hnsw_searcher_free(searcher);
    myr_hnsw_free(graph);
    free(vectors);
    free(right);
    free(got);
}

static void test_stats_and_refusals(void **state)
{
    (void)state;
    float *vectors = make_vectors(SHAPE_UNIFORM, N, DIM, 10), query[DIM] = {0};
    myr_hnsw *graph = make_graph(vectors, N, DIM, &usual, 1);
    myr_hnsw_searcher *searcher = NULL;
    myr_hit hits[K];
    myr_hnsw_stats once = {0}, twice = {0};
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    assert_int_equal(myr_hnsw_search(searcher, query, K, 50, hits, &once), MYR_OK);
    assert_true(once.n_hops >= 50 && once.n_hops < N && once.n_distances > once.n_hops && once.n_distances < N);
    assert_int_equal(myr_hnsw_search(searcher, query, K, 50, hits, &twice), MYR_OK);
    assert_int_equal(myr_hnsw_search(searcher, query, K, 50, hits, &twice), MYR_OK);
    assert_true(twice.n_hops == 2 * once.n_hops && twice.n_distances == 2 * once.n_distances);

    assert_int_equal(myr_hnsw_search(searcher, query, 0, 50, hits, NULL), MYR_ERR_ARG);
    assert_int_equal(myr_hnsw_search(searcher, query, K, K - 1, hits, NULL), MYR_ERR_ARG);
    query[DIM - 1] = NAN;
    assert_int_equal(myr_hnsw_search(searcher, query, K, 50, hits, NULL), MYR_ERR_ARG);
    assert_int_equal(myr_hnsw_search_exact(graph, NULL, query, 1, K, hits), MYR_ERR_ARG);
    assert_int_equal(myr_hnsw_search_exact(graph, NULL, query, 1, 0, hits), MYR_ERR_ARG);
    myr_hnsw_searcher_free(searcher);
    myr_hnsw_searcher_free(NULL);
    myr_hnsw_free(graph);
    free(vectors);
}

/* The marks of visited nodes are 16 bits wide and come round. */
static void test_many_searches(void **state)
{
    (void)state;
    float *vectors = make_vectors(SHAPE_UNIFORM, 50, 4, 11);
    myr_hnsw *graph = make_graph(vectors, 50, 4, &usual, 1);
    myr_hnsw_searcher *searcher = NULL;
    myr_hit first[5], hits[5];
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    assert_int_equal(myr_hnsw_search(searcher, vectors, 5, 20, first, NULL), MYR_OK);
    for (int i = 0; i < 70000; i++) {
        assert_int_equal(myr_hnsw_search(searcher, vectors, 5, 20, hits, NULL), MYR_OK);
        assert_same_hits(hits, first, 5, "again");
    }
    myr_hnsw_searcher_free(searcher);
    myr_hnsw_free(graph);
    free(vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_curve),
        cmocka_unit_test(test_range_of_codes),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_round),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_recall),
        cmocka_unit_test(test_floats),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_stats_and_refusals),
        cmocka_unit_test(test_many_searches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
