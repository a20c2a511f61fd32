/*
 * The graph: its invariants on friendly and hostile data, the same bytes for any number of
 * threads and any instruction set, arguments that are refused.
 */
#include "data.h"

static const myr_hnsw_options usual = {.M = 8, .ef_construction = 60, .seed = 5, .code_min = 0, .code_max = 1};

static void test_shapes(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 5, 17, 100, 3000};
    static const int Ms[] = {2, 8, 16};
    for (int kind = 0; kind < N_SHAPES; kind++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (size_t m = 0; m < sizeof Ms / sizeof *Ms; m++) {
                myr_hnsw_options options = usual;
                options.M = Ms[m];
                float *vectors = make_vectors((shape)kind, sizes[s], 12, 1);
                myr_hnsw *graph = make_graph(vectors, sizes[s], 12, &options, 2);
                assert_sound(graph, shape_name((shape)kind));
                for (size_t row = 0; row < sizes[s]; row++)
                    assert_vector(graph, row, vectors + row * 12, 12);
                myr_hnsw_free(graph);
                free(vectors);
            }
}

static void test_dimensions(void **state)
{
    (void)state;
    static const size_t dims[] = {1, 3, 64, 65, 128, 1280};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        float *vectors = make_vectors(SHAPE_UNIFORM, 500, dims[d], 2);
        myr_hnsw *graph = make_graph(vectors, 500, dims[d], &usual, 1);
        assert_sound(graph, "dimensions");
        myr_hnsw_free(graph);
        free(vectors);
    }
}

static void test_most_links(void **state)
{
    (void)state;
    myr_hnsw_options options = usual;
    options.M = MAX_M;
    float *vectors = make_vectors(SHAPE_ONE_CODE, 1300, 12, 2);
    myr_hnsw *graph = make_graph(vectors, 1300, 12, &options, 2);
    assert_sound(graph, "most links");
    myr_hnsw_free(graph);
    free(vectors);
}

static void test_empty(void **state)
{
    (void)state;
    myr_hnsw *graph = NULL;
    assert_int_equal(myr_hnsw_build(NULL, 0, 4, NULL, &usual, NULL, &graph), MYR_OK);
    assert_sound(graph, "empty");
    myr_hnsw_facts facts;
    char digest[65];
    myr_hnsw_describe(graph, &facts);
    assert_true(facts.n == 0 && facts.n_nodes == 0 && facts.n_levels == 0 && facts.dim == 4);
    myr_hnsw_digest(graph, digest);
    assert_int_equal(strlen(digest), 64);
    myr_hnsw_free(graph);
    myr_hnsw_free(NULL);
}

static void test_facts(void **state)
{
    (void)state;
    float *vectors = make_vectors(SHAPE_DUPLICATES, 1000, 6, 3);
    myr_hnsw_options options = {.seed = 9, .code_max = 1};
    myr_hnsw *graph = make_graph(vectors, 1000, 6, &options, 1);
    myr_hnsw_facts facts;
    myr_hnsw_describe(graph, &facts);
    assert_int_equal(facts.n, 1000);
    assert_int_equal(facts.n_nodes, 101); /* a hundred of their own, and one for the other nine hundred */
    assert_int_equal(facts.M, 16);
    assert_int_equal(facts.ef_construction, 200);
    assert_int_equal(facts.seed, 9);
    assert_true(facts.mean_links >= 5 && facts.mean_links <= 32 && facts.n_levels >= 1);
    myr_hnsw_free(graph);
    free(vectors);
}

static void test_options_matter(void **state)
{
    (void)state;
    float *vectors = make_vectors(SHAPE_UNIFORM, 400, 8, 4);
    myr_hnsw_options all[5] = {usual, usual, usual, usual, usual};
    char digests[5][65];
    all[1].seed++;
    all[2].M++;
    all[3].code_max = 2;
    all[4].is_float = true;
    for (int i = 0; i < 5; i++) {
        myr_hnsw *graph = make_graph(vectors, 400, 8, &all[i], 1);
        myr_hnsw_digest(graph, digests[i]);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(digests[i], digests[j]);
        myr_hnsw_free(graph);
    }
    free(vectors);
}

static void test_refusals(void **state)
{
    (void)state;
    float vectors[] = {0, 1, 2, 3};
    int64_t ids[] = {0, 1}, same[] = {4, 4}, negative[] = {-1, 0};
    myr_hnsw *graph;
    myr_hnsw_options bad = usual;
    assert_int_equal(myr_hnsw_build(vectors, 2, 2, same, &usual, NULL, &graph), MYR_ERR_ARG);
    assert_int_equal(myr_hnsw_build(vectors, 2, 2, negative, &usual, NULL, &graph), MYR_ERR_ARG);
    assert_int_equal(myr_hnsw_build(vectors, 2, 0, ids, &usual, NULL, &graph), MYR_ERR_ARG);
    assert_int_equal(myr_hnsw_build(NULL, 2, 2, ids, &usual, NULL, &graph), MYR_ERR_ARG);
    assert_int_equal(myr_hnsw_build(vectors, 2, MYR_CODE_MAX_DIM + 1, ids, &usual, NULL, &graph), MYR_ERR_LIMIT);
    assert_int_equal(myr_hnsw_build(vectors, (size_t)1 << 31, 2, ids, &usual, NULL, &graph), MYR_ERR_LIMIT);
    bad.M = 1;
    assert_int_equal(myr_hnsw_build(vectors, 2, 2, ids, &bad, NULL, &graph), MYR_ERR_ARG);
    bad.M = 513;
    assert_int_equal(myr_hnsw_build(vectors, 2, 2, ids, &bad, NULL, &graph), MYR_ERR_ARG);
    bad = usual;
    bad.code_max = -1;
    assert_int_equal(myr_hnsw_build(vectors, 2, 2, ids, &bad, NULL, &graph), MYR_ERR_ARG);
    bad.code_max = NAN;
    assert_int_equal(myr_hnsw_build(vectors, 2, 2, ids, &bad, NULL, &graph), MYR_ERR_ARG);
    bad = usual;
    bad.is_float = true;
    vectors[3] = 1e19f; /* whose square no float holds */
    assert_int_equal(myr_hnsw_build(vectors, 2, 2, ids, &bad, NULL, &graph), MYR_ERR_ARG);
    bad.metric = MYR_METRIC_IP;
    vectors[3] = 3;
    assert_int_equal(myr_hnsw_build(vectors, 2, 2, ids, &bad, NULL, &graph), MYR_ERR_ARG);
    vectors[3] = INFINITY;
    assert_int_equal(myr_hnsw_build(vectors, 2, 2, ids, &usual, NULL, &graph), MYR_ERR_ARG);
    assert_null(graph);
    assert_non_null(strstr(myr_error_detail(), "vector 1"));
}

/* What `--digest THREADS` prints: a digest over graphs of several shapes. */
static int print_digest(int n_threads)
{
    for (int i = 0; i < 3 * N_SHAPES; i++) {
        myr_hnsw_options options = usual;
        options.metric = i % 3 == 1 ? MYR_METRIC_IP : MYR_METRIC_L2;
        options.is_float = i % 3 == 2;
        float *vectors = make_vectors((shape)(i / 3), 4000, 40, 6);
        myr_hnsw *graph = make_graph(vectors, 4000, 40, &options, n_threads);
        char digest[65];
        myr_hnsw_digest(graph, digest);
        printf("%.16s", digest);
        myr_hnsw_free(graph);
        free(vectors);
    }
    printf("\n");
    return 0;
}

static void test_same_everywhere(void **state)
{
    (void)state;
    static const char *const disabled[] = {"", "avx512", "avx2"};
    static const int n_threads[] = {1, 2, 3, 7};
    char right[512], got[512];
    digest_of("", 1, right, sizeof right);
    assert_int_equal(strlen(right), 16 * 3 * N_SHAPES + 1);
    for (size_t d = 0; d < 3; d++)
        for (size_t t = 0; t < 4; t++) {
            digest_of(disabled[d], n_threads[t], got, sizeof got);
            assert_string_equal(got, right);
        }
}

/* A planted fault and a word of its complaint. */
static void assert_fault(const myr_hnsw *graph, const char *word)
{
    assert_int_equal(myr_hnsw_check(graph), MYR_ERR_FORMAT);
    if (!strstr(myr_error_detail(), word))
        fail_msg("'%s' does not say '%s'", myr_error_detail(), word);
}

static void test_check_finds(void **state)
{
    (void)state;
    enum { N = 600 };
    float *vectors = make_vectors(SHAPE_UNIFORM, N, 8, 7);
    myr_hnsw *graph = make_graph(vectors, N, 8, &usual, 1);
    uint32_t *links = (uint32_t *)(uintptr_t)graph->links, *upper = (uint32_t *)(uintptr_t)graph->upper_links;
    uint32_t *alias = (uint32_t *)(uintptr_t)graph->alias_row, *row_node = (uint32_t *)(uintptr_t)graph->row_node;
    uint8_t *levels = (uint8_t *)(uintptr_t)graph->levels, *codes = (uint8_t *)(uintptr_t)graph->codes;
    int64_t *ids = (int64_t *)(uintptr_t)graph->ids;
    size_t room = room_at(graph, 0);
    assert_sound(graph, "before");

#define PLANT(place, value, word)                                                                                      \
    do {                                                                                                               \
        __typeof__(place) kept = place;                                                                                \
        place = value;                                                                                                 \
        assert_fault(graph, word);                                                                                     \
        place = kept;                                                                                                  \
        assert_sound(graph, word);                                                                                     \
    } while (0)
    PLANT(links[room * 5], N, "node 5 links to node 600");
    PLANT(links[room * 5], 5, "itself");
    PLANT(links[room * 5 + 1], links[room * 5], "twice");
    PLANT(links[room * 5], NONE, "behind its last");
    PLANT(upper[0], N + 7, "at level 1");
    PLANT(levels[3], 16, "on level 16");
    PLANT(levels[graph->entry], 0, "another place");
    PLANT(graph->entry, NONE, "entry point");
    PLANT(graph->n_levels, graph->n_levels + 1, "levels");
    PLANT(alias[9], 10, "aliases");
    PLANT(row_node[4], 5, "aliases");
    PLANT(ids[8], ids[7], "ascend");
    PLANT(codes[64 + 8], 1, "codes of node 1");
#undef PLANT

    /* Nobody links to node 11 any more. */
    uint32_t victim = graph->entry == 11 ? 12 : 11;
    for (size_t node = 0; node < N; node++) {
        uint32_t *row = links + node * room;
        size_t n = count_links(row, room);
        for (size_t i = 0; i < n; i++)
            if (row[i] == victim) {
                row[i] = row[n - 1];
                row[n - 1] = NONE;
                break;
            }
    }
    assert_fault(graph, "not reached");
    myr_hnsw_free(graph);
    free(vectors);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--digest") == 0)
        return print_digest(atoi(argv[2]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),   cmocka_unit_test(test_dimensions),      cmocka_unit_test(test_most_links),
        cmocka_unit_test(test_empty),    cmocka_unit_test(test_facts),           cmocka_unit_test(test_options_matter),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_same_everywhere), cmocka_unit_test(test_check_finds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
