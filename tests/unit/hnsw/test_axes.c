/*
 * Codes along axes: wide vectors of few directions are found as they are with codes of all values, what is reported is
 * exact, the graph is the same for any threads and kernels, and survives a file and changes.
 */
#include "data.h"

#include "myriops/store.h"

enum { N = 2500, DIM = 320, RANK = 30, K = 10, N_QUERIES = 40 };

static const myr_hnsw_options with_axes = {.seed = 2, .n_axes = 64};

/* Vectors of RANK directions in hundred clusters, and a little of all others. */
static float *make_wide(size_t n, uint64_t seed)
{
    myr_rng rng;
    float *vectors = malloc((n * DIM + 1) * sizeof *vectors), *directions = malloc(RANK * DIM * sizeof *directions);
    assert_non_null(vectors);
    assert_non_null(directions);
    myr_rng_seed(&rng, 99); /* the directions of all seeds */
    for (size_t i = 0; i < RANK * DIM; i++)
        directions[i] = noise(&rng) - 0.5f;
    myr_rng_seed(&rng, seed);
    for (size_t row = 0; row < n; row++) {
        float *vector = vectors + row * DIM;
        for (size_t i = 0; i < DIM; i++)
            vector[i] = 3 + 0.02f * (noise(&rng) - 0.5f);
        for (size_t r = 0; r < RANK; r++) {
            float share = noise(&rng) + (float)(myr_hash64(row % 100, r) % 3);
            for (size_t i = 0; i < DIM; i++)
                vector[i] += share * directions[r * DIM + i];
        }
    }
    free(directions);
    return vectors;
}

static size_t n_axes_of(const myr_hnsw *graph)
{
    myr_hnsw_facts facts;
    myr_hnsw_describe(graph, &facts);
    return facts.n_axes;
}

/* With room for every node a walk is exact, and so is a scan: no bound leaves out what it should not. */
static void assert_exact(const myr_hnsw *graph, const float *vectors, size_t n, const float *queries, size_t n_queries,
                         const char *what)
{
    myr_hnsw_facts facts;
    myr_hnsw_searcher *searcher;
    myr_hit right[K], got[N_QUERIES * K];
    myr_hnsw_describe(graph, &facts);
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    assert_int_equal(myr_hnsw_search_batch(searcher, queries, n_queries, K, n > K ? n : K, got, NULL), MYR_OK);
    for (size_t q = 0; q < n_queries; q++) {
        naive_search(vectors, n, DIM, facts.metric, queries + q * DIM, K, right);
        assert_same_hits(got + q * K, right, K, what);
    }
    assert_int_equal(myr_hnsw_search_exact(graph, NULL, queries, n_queries, K, got), MYR_OK);
    for (size_t q = 0; q < n_queries; q++) {
        naive_search(vectors, n, DIM, facts.metric, queries + q * DIM, K, right);
        assert_same_hits(got + q * K, right, K, what);
    }
    myr_hnsw_searcher_free(searcher);
}

static double recall_of(const myr_hnsw *graph, const float *queries, size_t ef)
{
    myr_hnsw_searcher *searcher;
    myr_hit right[N_QUERIES * K], got[N_QUERIES * K];
    size_t n_right = 0;
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    assert_int_equal(myr_hnsw_search_exact(graph, NULL, queries, N_QUERIES, K, right), MYR_OK);
    assert_int_equal(myr_hnsw_search_batch(searcher, queries, N_QUERIES, K, ef, got, NULL), MYR_OK);
    for (size_t i = 0; i < N_QUERIES * K; i++)
        n_right += got[i].distance <= right[i / K * K + K - 1].distance;
    myr_hnsw_searcher_free(searcher);
    return (double)n_right / (N_QUERIES * K);
}

static void test_search(void **state)
{
    (void)state;
    float *vectors = make_wide(N, 1), *queries = make_wide(N_QUERIES, 2);
    for (int kind = 0; kind < 3; kind++) {
        myr_hnsw_options options = with_axes, plain = {.seed = 2};
        if (kind == 1) {
            normalise(vectors, N, DIM);
            normalise(queries, N_QUERIES, DIM);
        } else if (kind == 2) {
            myr_hnsw_round(vectors, N * DIM); /* kept in halves */
        }
        plain.metric = options.metric = kind == 0 ? MYR_METRIC_L2 : MYR_METRIC_COSINE;
        myr_hnsw *graph = make_graph(vectors, N, DIM, &options, 2), *other = make_graph(vectors, N, DIM, &plain, 2);
        assert_sound(graph, "axes");
        assert_int_equal(n_axes_of(graph), 64);
        assert_int_equal(graph->n_code_bytes, 64);
        assert_true(kind == 2 ? graph->halves && !graph->vectors : graph->vectors && !graph->halves);
        assert_exact(graph, vectors, N, queries, N_QUERIES, "axes");
        double along = recall_of(graph, queries, 40), all = recall_of(other, queries, 40);
        if (along < 0.95 || along < all - 0.02)
            fail_msg("recall %.4f along axes, %.4f without", along, all);
        myr_hnsw_free(graph);
        myr_hnsw_free(other);
    }
    free(vectors);
    free(queries);
}

/* Queries far away, and such as lie off all axes. */
static void test_strange_queries(void **state)
{
    (void)state;
    float *vectors = make_wide(N, 1), *queries = make_vectors(SHAPE_OUTLIERS, N_QUERIES, DIM, 3);
    myr_hnsw *graph = make_graph(vectors, N, DIM, &with_axes, 1);
    memcpy(queries, vectors, DIM * sizeof *queries);
    for (size_t i = 0; i < DIM; i++) {
        queries[DIM + i] = 0;
        queries[2 * DIM + i] = 1e6f;
    }
    assert_exact(graph, vectors, N, queries, N_QUERIES, "strange queries");
    myr_hnsw_searcher *searcher;
    myr_hit hits[K];
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    queries[5] = NAN;
    assert_int_equal(myr_hnsw_search(searcher, queries, K, 20, hits, NULL), MYR_ERR_ARG);
    queries[5] = INFINITY;
    assert_int_equal(myr_hnsw_search(searcher, queries, K, 20, hits, NULL), MYR_ERR_ARG);
    myr_hnsw_searcher_free(searcher);
    myr_hnsw_free(graph);
    free(vectors);
    free(queries);
}

/* Asked to choose: axes where few directions say most, none where all say as much, or codes lose nothing. */
static void test_choice(void **state)
{
    (void)state;
    float *wide = make_wide(N, 1), *even = make_vectors(SHAPE_UNIFORM, N, DIM, 4);
    myr_hnsw_options options = {.seed = 2, .n_axes = MYR_HNSW_AXES_BY_DATA};
    const struct {
        const float *vectors;
        size_t n, dim, n_axes;
    } cases[] = {{wide, N, DIM, 128}, {wide, N, 255, 0}, {wide, 255, DIM, 0}, {even, N, DIM, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        myr_hnsw *graph = make_graph(cases[i].vectors, cases[i].n, cases[i].dim, &options, 2);
        assert_int_equal(n_axes_of(graph), cases[i].n_axes);
        myr_hnsw_free(graph);
    }
    for (size_t i = 0; i < N * DIM; i++)
        wide[i] = roundf(fminf(fmaxf(10 * wide[i], 0), 255)); /* bytes */
    myr_hnsw *graph = make_graph(wide, N, DIM, &options, 2);
    assert_int_equal(n_axes_of(graph), 0);
    assert_null(graph->vectors);
    myr_hnsw_free(graph);
    free(wide);
    free(even);
}

/* Fewer directions than axes, none, and vectors too long for products in float. */
static void test_degenerate(void **state)
{
    (void)state;
    static const shape kinds[] = {SHAPE_LINE, SHAPE_ONE_CODE, SHAPE_DUPLICATES, SHAPE_TIGHT};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        float *vectors = make_vectors(kinds[i], 600, DIM, 5);
        myr_hnsw *graph = make_graph(vectors, 600, DIM, &with_axes, 1);
        assert_int_equal(n_axes_of(graph), 64);
        assert_sound(graph, shape_name(kinds[i]));
        assert_exact(graph, vectors, 600, vectors, 10, shape_name(kinds[i]));
        myr_hnsw_free(graph);
        free(vectors);
    }
    float *vectors = make_vectors(SHAPE_UNIFORM, 600, DIM, 5);
    for (size_t i = 0; i < 600 * DIM; i++)
        vectors[i] = 0.25f;
    myr_hnsw *same = make_graph(vectors, 600, DIM, &with_axes, 1);
    assert_exact(same, vectors, 600, vectors, 2, "one vector");
    myr_hnsw_free(same);
    vectors[7] = 1e18f;
    myr_hnsw *graph = make_graph(vectors, 600, DIM, &with_axes, 1);
    assert_int_equal(n_axes_of(graph), 0);
    myr_hnsw_free(graph);
    free(vectors);
}

static void test_refusals(void **state)
{
    (void)state;
    float *vectors = make_wide(300, 1);
    int64_t *ids = make_ids(300);
    const myr_hnsw_options wrong[] = {
        {.n_axes = -2}, {.n_axes = 1025}, {.n_axes = 64, .is_float = true}, {.n_axes = 64, .metric = MYR_METRIC_IP}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        myr_hnsw *graph;
        assert_int_equal(myr_hnsw_build(vectors, 300, DIM, ids, &wrong[i], NULL, &graph), MYR_ERR_ARG);
        assert_null(graph);
    }
    free(vectors);
    free(ids);
}

/* A tenth goes, as many come; the axes stay. */
static void test_change(void **state)
{
    (void)state;
    float *vectors = make_wide(N, 1), *queries = make_wide(N_QUERIES, 2);
    int64_t *ids = make_ids(N);
    myr_hnsw *graph = make_graph(vectors, N - N / 10, DIM, &with_axes, 2), *more = NULL, *less = NULL, *again = NULL;
    assert_int_equal(myr_hnsw_add(graph, vectors + (N - N / 10) * DIM, N / 10, ids + N - N / 10, NULL, &more), MYR_OK);
    assert_sound(more, "added to");
    assert_int_equal(n_axes_of(more), 64);
    assert_exact(more, vectors, N, queries, 5, "added to");
    if (recall_of(more, queries, 60) < 0.95)
        fail_msg("recall %.4f after adding", recall_of(more, queries, 60));
    assert_int_equal(myr_hnsw_remove(more, ids + N - N / 10, N / 10, NULL, &less), MYR_OK);
    assert_exact(less, vectors, N - N / 10, queries, 5, "removed from");
    assert_int_equal(myr_hnsw_remove(less, ids, N - N / 10, NULL, &again), MYR_OK); /* nothing is left */
    assert_int_equal(n_axes_of(again), 64);
    myr_hnsw_free(graph);
    myr_hnsw_free(more);
    myr_hnsw_free(less);
    myr_hnsw_free(again);
    free(vectors);
    free(queries);
    free(ids);
}

static void write_file(const myr_hnsw *graph, const char *name, uint64_t *checksum)
{
    myr_sections_writer *writer;
    assert_int_equal(myr_sections_create(name, &writer), MYR_OK);
    assert_int_equal(myr_hnsw_save(graph, writer), MYR_OK);
    assert_int_equal(myr_sections_commit(writer), MYR_OK);
    assert_int_equal(myr_sections_checksum(name, checksum), MYR_OK);
}

static void test_file(void **state)
{
    (void)state;
    float *vectors = make_wide(N, 1), *queries = make_wide(N_QUERIES, 2);
    myr_hnsw *graph = make_graph(vectors, N, DIM, &with_axes, 2), *opened;
    char name[] = "/tmp/myriops-axes-XXXXXX", before[65], after[65];
    uint64_t checksum;
    int file = mkstemp(name);
    assert_true(file >= 0);
    close(file);
    write_file(graph, name, &checksum);
    myr_hnsw_digest(graph, before);
    for (int is_lazy = 0; is_lazy < 2; is_lazy++) {
        myr_sections *sections;
        myr_sections_eager_bytes = is_lazy ? 0 : (size_t)16 << 20;
        assert_int_equal(myr_sections_open(name, &checksum, &sections), MYR_OK);
        assert_int_equal(myr_hnsw_open(sections, &opened), MYR_OK);
        assert_int_equal(is_guarded(opened), is_lazy);
        assert_exact(opened, vectors, N, queries, 5, "from a file");
        myr_hnsw_digest(opened, after);
        assert_string_equal(before, after);
        myr_hnsw_free(opened);
        myr_sections_close(sections);
    }
    unlink(name);
    myr_hnsw_free(graph);
    free(vectors);
    free(queries);
}

static int print_digest(int n_threads)
{
    float *vectors = make_wide(N, 1);
    for (int i = 0; i < 2; i++) {
        myr_hnsw_options options = with_axes;
        char digest[65];
        options.n_axes = i == 0 ? 64 : MYR_HNSW_AXES_BY_DATA;
        myr_hnsw *graph = make_graph(vectors, 700, DIM, &options, n_threads);
        myr_hnsw_digest(graph, digest);
        printf("%.16s", digest);
        myr_hnsw_free(graph);
    }
    free(vectors);
    printf("\n");
    return 0;
}

static void test_same_everywhere(void **state)
{
    (void)state;
    static const char *const disabled[] = {"", "avx512", "avx2"};
    char right[64], got[64];
    digest_of("", 1, right, sizeof right);
    assert_int_equal(strlen(right), 33);
    assert_true(memcmp(right, right + 16, 16) != 0);
    for (size_t d = 0; d < 3; d++)
        for (int n_threads = 1; n_threads <= 5; n_threads += 2) {
            digest_of(disabled[d], n_threads, got, sizeof got);
            assert_string_equal(got, right);
        }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--digest") == 0)
        return print_digest(atoi(argv[2]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search),     cmocka_unit_test(test_strange_queries), cmocka_unit_test(test_choice),
        cmocka_unit_test(test_degenerate), cmocka_unit_test(test_refusals),        cmocka_unit_test(test_change),
        cmocka_unit_test(test_file),       cmocka_unit_test(test_same_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
