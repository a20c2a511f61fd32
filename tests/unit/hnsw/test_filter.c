/*
 * Filtered and range searches against scans of every row: recall at each share of accepted rows, filters that have
 * nothing to do with the data and filters that follow it, aliases, answers shorter than k.
 */
#include "data.h"

#define DIM 24
#define K 10
#define EF 100
#define N_QUERIES 40

typedef struct setting {
    size_t n;
    float *vectors, *queries;
    myr_hnsw *graph;
    myr_hnsw_searcher *searcher;
} setting;

static setting make_setting(shape kind, size_t n)
{
    myr_hnsw_options options = {.seed = 3, .code_max = 1};
    setting all = {.n = n, .vectors = make_vectors(kind, n, DIM, 7), .queries = make_vectors(kind, N_QUERIES, DIM, 8)};
    for (size_t q = 0; q < N_QUERIES; q++) { /* by a row, so that there is something to find */
        const float *row = all.vectors + (q * 7919 % n) * DIM;
        for (size_t d = 0; d < DIM; d++)
            all.queries[q * DIM + d] = row[d] + 0.05f * (all.queries[q * DIM + d] - 0.5f);
    }
    all.graph = make_graph(all.vectors, n, DIM, &options, 2);
    assert_int_equal(myr_hnsw_searcher_create(all.graph, &all.searcher), MYR_OK);
    return all;
}

static void free_setting(setting *all)
{
    myr_hnsw_searcher_free(all->searcher);
    myr_hnsw_free(all->graph);
    free(all->vectors);
    free(all->queries);
}

/* The oracle: every row by naive_search, those not accepted left out. Returns how many there are, at most k. */
static size_t naive_filtered(const setting *all, const float *query, const myr_row_filter *filter, size_t k,
                             myr_hit *hits)
{
    myr_hit *every = malloc(all->n * sizeof *every);
    size_t n = 0;
    naive_search(all->vectors, all->n, DIM, MYR_METRIC_L2, query, all->n, every);
    for (size_t i = 0; i < all->n && n < k; i++)
        if (filter->accepts(filter->context, every[i].id))
            hits[n++] = every[i];
    free(every);
    return n;
}

static double recall_of(setting *all, const myr_row_filter *filter)
{
    myr_hit got[K], right[K];
    size_t n_right = 0, n_wanted = 0;
    for (size_t q = 0; q < N_QUERIES; q++) {
        const float *query = all->queries + q * DIM;
        size_t n = naive_filtered(all, query, filter, K, right);
        assert_int_equal(myr_hnsw_search_filtered(all->searcher, query, K, EF, filter, got, NULL), MYR_OK);
        n_wanted += n;
        for (size_t i = 0; i < K; i++) {
            if (got[i].id < 0)
                continue;
            assert_true(filter->accepts(filter->context, got[i].id));
            assert_true(i == 0 || myr_hit_before(got[i - 1], got[i]));
            n_right += n > 0 && got[i].distance <= right[n - 1].distance;
        }
    }
    return n_wanted ? (double)n_right / (double)n_wanted : 1;
}

typedef struct draw {
    uint64_t below; /* of 2^20 */
} draw;

static bool is_drawn(const void *context, int64_t id)
{
    return (myr_hash64((uint64_t)id, 99) & 0xfffff) < ((const draw *)context)->below;
}

typedef struct span {
    int64_t first, last;
} span;

static bool is_between(const void *context, int64_t id)
{
    const span *ids = context;
    return id >= ids->first && id < ids->last;
}

static void test_recall_by_share(void **state)
{
    (void)state;
    static const shape kinds[] = {SHAPE_UNIFORM, SHAPE_TIGHT, SHAPE_FAR_CLUSTERS, SHAPE_DUPLICATES};
    static const double shares[] = {0.5, 0.1, 0.01, 0.001};
    for (size_t s = 0; s < sizeof kinds / sizeof *kinds; s++) {
        setting all = make_setting(kinds[s], 20000);
        for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
            draw some = {.below = (uint64_t)(shares[i] * (1 << 20))};
            double at_random = recall_of(&all, &(myr_row_filter){is_drawn, &some});
            /* Rows in a run are a cluster, or a part of one; half of the queries are far from it. */
            span run = {.first = 7, .last = 7 + (int64_t)(3 * 20000 * shares[i])};
            double in_a_run = recall_of(&all, &(myr_row_filter){is_between, &run});
            print_message("%s, %g accepted: recall %.4f at random, %.4f in a run\n", shape_name(kinds[s]), shares[i],
                          at_random, in_a_run);
            assert_true(at_random >= 0.95 && in_a_run >= 0.95);
        }
        free_setting(&all);
    }
}

static void test_sets(void **state)
{
    (void)state;
    setting all = make_setting(SHAPE_UNIFORM, 3000);
    int64_t ids[400];
    uint64_t bits[(7 + 3 * 3000) / 64 + 1] = {0};
    int32_t *labels = calloc(7 + 3 * 3000, sizeof *labels), wanted[] = {5, 9};
    for (size_t i = 0; i < 400; i++) {
        ids[i] = (int64_t)(7 + 3 * (7 * i));
        bits[ids[i] / 64] |= (uint64_t)1 << ids[i] % 64;
        labels[ids[i]] = i % 2 ? 5 : 9;
    }
    myr_id_set set = {ids, 400};
    myr_id_bitmap map = {bits, 7 + 3 * 3000};
    myr_label_set marked = {labels, 7 + 3 * 3000, wanted, 2};
    for (size_t q = 0; q < 5; q++) {
        const float *query = all.queries + q * DIM;
        myr_hit right[K], got[K];
        assert_int_equal(naive_filtered(&all, query, &(myr_row_filter){myr_accept_ids, &set}, K, right), K);
        const myr_row_filter filters[] = {
            {myr_accept_ids, &set}, {myr_accept_bitmap, &map}, {myr_accept_labels, &marked}};
        for (size_t f = 0; f < 3; f++) {
            assert_int_equal(myr_hnsw_search_filtered(all.searcher, query, K, EF, &filters[f], got, NULL), MYR_OK);
            assert_same_hits(got, right, K, "sets");
        }
        /* Without a filter it is the plain search. */
        assert_int_equal(myr_hnsw_search(all.searcher, query, K, EF, right, NULL), MYR_OK);
        assert_int_equal(myr_hnsw_search_filtered(all.searcher, query, K, EF, NULL, got, NULL), MYR_OK);
        assert_same_hits(got, right, K, "no filter");
    }
    free(labels);
    free_setting(&all);
}

static void test_few_and_none(void **state)
{
    (void)state;
    setting all = make_setting(SHAPE_DUPLICATES, 5000);
    myr_hit got[K], right[K];
    const int64_t three[] = {7 + 3 * 3, 7 + 3 * 4, 7 + 3 * 4990}; /* two of them copies of one vector */
    myr_row_filter some = {myr_accept_ids, &(myr_id_set){three, 3}}, none = {myr_accept_ids, &(myr_id_set){three, 0}};
    assert_int_equal(naive_filtered(&all, all.queries, &some, K, right), 3);
    assert_int_equal(myr_hnsw_search_filtered(all.searcher, all.queries, K, EF, &some, got, NULL), MYR_OK);
    assert_same_hits(got, right, 3, "three");
    assert_int_equal(got[3].id, -1);
    assert_int_equal(myr_hnsw_search_filtered(all.searcher, all.queries, K, EF, &none, got, NULL), MYR_OK);
    assert_int_equal(got[0].id, -1);
    assert_int_equal(myr_hnsw_search_filtered(all.searcher, all.queries, K, K - 1, &none, got, NULL), MYR_ERR_ARG);
    assert_int_equal(myr_hnsw_search_filtered(all.searcher, all.queries, K, EF, &(myr_row_filter){0}, got, NULL),
                     MYR_ERR_ARG);
    free_setting(&all);
}

static void test_range(void **state)
{
    (void)state;
    static const shape kinds[] = {SHAPE_UNIFORM, SHAPE_TIGHT, SHAPE_DUPLICATES};
    static const size_t places[] = {0, 3, 30, 300, 3000};
    draw half = {.below = 1 << 19};
    const myr_row_filter filters[] = {{is_between, &(span){0, INT64_MAX}}, {is_drawn, &half}};
    for (size_t s = 0; s < sizeof kinds / sizeof *kinds; s++) {
        setting all = make_setting(kinds[s], 10000);
        myr_hit *every = malloc(all.n * sizeof *every);
        size_t n_wanted = 0, n_found = 0;
        for (size_t q = 0; q < 10; q++) {
            const float *query = all.queries + q * DIM;
            for (size_t f = 0; f < 2; f++) {
                size_t n_all = naive_filtered(&all, query, &filters[f], all.n, every);
                for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
                    float radius = every[places[p]].distance;
                    size_t n, n_right = 0;
                    myr_hit *got;
                    while (n_right < n_all && every[n_right].distance <= radius)
                        n_right++;
                    assert_int_equal(
                        myr_hnsw_search_range(all.searcher, query, radius, EF, f ? &filters[f] : NULL, &got, &n, NULL),
                        MYR_OK);
                    assert_true(n <= n_right);
                    for (size_t i = 0; i < n; i++) {
                        assert_true(got[i].distance <= radius && (i == 0 || myr_hit_before(got[i - 1], got[i])));
                        assert_true(!f || is_drawn(&half, got[i].id));
                    }
                    n_wanted += n_right;
                    n_found += n;
                    free(got);
                }
            }
        }
        print_message("%s: %zu of %zu within range\n", shape_name(kinds[s]), n_found, n_wanted);
        assert_true((double)n_found >= 0.98 * (double)n_wanted);
        free(every);
        free_setting(&all);
    }
}

static void test_range_of_nothing(void **state)
{
    (void)state;
    setting all = make_setting(SHAPE_UNIFORM, 500);
    myr_hit *got;
    size_t n;
    float far[DIM];
    for (size_t d = 0; d < DIM; d++)
        far[d] = 50;
    assert_int_equal(myr_hnsw_search_range(all.searcher, far, 1, EF, NULL, &got, &n, NULL), MYR_OK);
    assert_int_equal(n, 0);
    assert_null(got);
    assert_int_equal(myr_hnsw_search_range(all.searcher, far, -1, EF, NULL, &got, &n, NULL), MYR_ERR_ARG);
    assert_int_equal(myr_hnsw_search_range(all.searcher, far, NAN, EF, NULL, &got, &n, NULL), MYR_ERR_ARG);
    assert_int_equal(myr_hnsw_search_range(all.searcher, far, 1e9f, EF, NULL, &got, &n, NULL), MYR_OK);
    assert_int_equal(n, 500);
    free(got);
    free_setting(&all);
}

static bool accept_all(const void *context, int64_t id)
{
    (void)context;
    return id >= 0;
}

/* Rows that are copies of an earlier one are found by their first alone, where that is wanted. */
static void test_first_of_equal_rows(void **state)
{
    enum { N = 600, N_DISTINCT = 200 };
    myr_hnsw_options options = {.seed = 3, .code_max = 1};
    myr_row_filter every = {.accepts = accept_all}, firsts = {.accepts = accept_all, .first_only = true};
    float *vectors = make_vectors(SHAPE_UNIFORM, N, DIM, 7);
    (void)state;
    for (size_t i = N_DISTINCT; i < N; i++)
        memcpy(vectors + i * DIM, vectors + i % N_DISTINCT * DIM, DIM * sizeof *vectors);
    myr_hnsw *graph = make_graph(vectors, N, DIM, &options, 2);
    myr_hnsw_searcher *searcher;
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    for (size_t row = 0; row < N; row++) {
        size_t first = N;
        assert_int_equal(myr_hnsw_first_equal(graph, row, &first), MYR_OK);
        assert_int_equal(first, row % N_DISTINCT);
    }
    for (size_t q = 0; q < N_DISTINCT; q += 7) {
        myr_hit *all, *some;
        size_t n_all, n_some;
        const float *query = vectors + q * DIM;
        assert_int_equal(myr_hnsw_search_range(searcher, query, 0.6f, EF, &every, &all, &n_all, NULL), MYR_OK);
        assert_int_equal(myr_hnsw_search_range(searcher, query, 0.6f, EF, &firsts, &some, &n_some, NULL), MYR_OK);
        assert_int_equal(n_all, 3 * n_some);
        for (size_t i = 0; i < n_some; i++) /* ids ascend with rows: of three copies the first comes first */
            assert_int_equal(some[i].id, all[3 * i].id);
        free(all);
        free(some);
    }
    myr_hnsw_searcher_free(searcher);
    myr_hnsw_free(graph);
    free(vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recall_by_share),  cmocka_unit_test(test_sets),
        cmocka_unit_test(test_few_and_none),     cmocka_unit_test(test_range),
        cmocka_unit_test(test_range_of_nothing), cmocka_unit_test(test_first_of_equal_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
