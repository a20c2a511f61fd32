/*
 * Adding and removing: the graph stays sound, finds what is there and nothing else, and comes out the same for any
 * number of threads and any kernel; after rounds of both it finds as much as one built anew.
 */
#include "data.h"

#include "kernel/half.h"
#include "myriops/vectors.h"

#define DIM 16
#define K 10

typedef struct rows {
    size_t n;
    float *vectors;
    int64_t *ids;
} rows;

static rows some_rows(shape kind, size_t n, int64_t first_id, int64_t step, uint64_t seed)
{
    rows all = {.n = n, .vectors = make_vectors(kind, n, DIM, seed), .ids = malloc((n + 1) * sizeof(int64_t))};
    assert_non_null(all.ids);
    for (size_t i = 0; i < n; i++)
        all.ids[i] = first_id + (int64_t)i * step;
    return all;
}

static void free_rows(rows *all)
{
    free(all->vectors);
    free(all->ids);
}

static myr_hnsw *build_by(const rows *from, myr_metric metric, myr_pool *pool)
{
    myr_hnsw_options options = {.M = 8, .ef_construction = 80, .seed = 5, .metric = metric, .code_max = 1};
    myr_hnsw *graph;
    if (myr_hnsw_build(from->vectors, from->n, DIM, from->ids, &options, pool, &graph) != MYR_OK)
        fail_msg("%s", myr_error_detail());
    assert_sound(graph, "built");
    return graph;
}

static myr_hnsw *build(const rows *from, myr_pool *pool)
{
    return build_by(from, MYR_METRIC_L2, pool);
}

/* The graph gives way to the one with these rows more. */
static void add(myr_hnsw **graph, const rows *more, myr_pool *pool)
{
    myr_hnsw *updated;
    if (myr_hnsw_add(*graph, more->vectors, more->n, more->ids, pool, &updated) != MYR_OK)
        fail_msg("%s", myr_error_detail());
    assert_sound(updated, "added to");
    myr_hnsw_free(*graph);
    *graph = updated;
}

static void take(myr_hnsw **graph, const int64_t *ids, size_t n, myr_pool *pool)
{
    myr_hnsw *updated;
    if (myr_hnsw_remove(*graph, ids, n, pool, &updated) != MYR_OK)
        fail_msg("%s", myr_error_detail());
    assert_sound(updated, "removed from");
    myr_hnsw_free(*graph);
    *graph = updated;
}

/* Splits rows by a coin with this share of heads: ids of the heads, and the tails as rows of their own. */
static size_t split(rows *all, double share, uint64_t seed, int64_t *heads)
{
    myr_rng rng;
    size_t n_heads = 0, n_tails = 0;
    myr_rng_seed(&rng, seed);
    for (size_t i = 0; i < all->n; i++) {
        if (myr_rng_unit(&rng) < share) {
            heads[n_heads++] = all->ids[i];
            continue;
        }
        memmove(all->vectors + n_tails * DIM, all->vectors + i * DIM, DIM * sizeof(float));
        all->ids[n_tails++] = all->ids[i];
    }
    all->n = n_tails;
    return n_heads;
}

static void append(rows *all, const rows *more)
{
    all->vectors = realloc(all->vectors, (all->n + more->n + 1) * DIM * sizeof(float));
    all->ids = realloc(all->ids, (all->n + more->n + 1) * sizeof(int64_t));
    assert_non_null(all->vectors);
    assert_non_null(all->ids);
    memcpy(all->vectors + all->n * DIM, more->vectors, more->n * DIM * sizeof(float));
    memcpy(all->ids + all->n, more->ids, more->n * sizeof(int64_t));
    all->n += more->n;
}

static double recall_of(const myr_hnsw *graph, const float *queries, size_t n_queries, size_t ef)
{
    myr_hnsw_searcher *searcher;
    myr_hit found[K], truth[K];
    size_t n_found = 0;
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    for (size_t q = 0; q < n_queries; q++) {
        assert_int_equal(myr_hnsw_search(searcher, queries + q * DIM, K, ef, found, NULL), MYR_OK);
        assert_int_equal(myr_hnsw_search_exact(graph, NULL, queries + q * DIM, 1, K, truth), MYR_OK);
        for (size_t i = 0; i < K; i++)
            n_found += found[i].id >= 0 && found[i].distance <= truth[K - 1].distance;
    }
    myr_hnsw_searcher_free(searcher);
    return (double)n_found / (double)(n_queries * K);
}

/* What a graph holds is what was put in and not taken out, vector by vector. */
static void assert_holds(const myr_hnsw *graph, const rows *right)
{
    myr_hnsw_facts facts;
    myr_hnsw_describe(graph, &facts);
    assert_int_equal(facts.n, right->n);
    for (size_t i = 0; i < right->n; i++) {
        assert_int_equal(graph->ids[i], right->ids[i]);
        assert_vector(graph, i, right->vectors + i * DIM, DIM);
    }
}

/* One set in a random order, so that parts of it are alike. */
static rows shuffled_rows(shape kind, size_t n, uint64_t seed)
{
    rows all = some_rows(kind, n, 0, 1, seed);
    float spare[DIM];
    myr_rng rng;
    myr_rng_seed(&rng, seed);
    for (size_t i = n; i > 1; i--) {
        float *a = all.vectors + (i - 1) * DIM, *b = all.vectors + myr_rng_below(&rng, i) * DIM;
        memcpy(spare, a, sizeof spare);
        memmove(a, b, sizeof spare);
        memcpy(b, spare, sizeof spare);
    }
    return all;
}

/* Five rounds: a random 30 % go, as many of the same kind come. */
static void rounds_keep_recall(void **state)
{
    (void)state;
    static const shape shapes[] = {SHAPE_UNIFORM, SHAPE_TIGHT, SHAPE_DUPLICATES, SHAPE_OUTLIERS, SHAPE_FAR_CLUSTERS};
    enum { N = 6000, QUERIES = 500, ALL = 3 * N };
    myr_pool *pool;
    assert_int_equal(myr_pool_create(2, &pool), MYR_OK);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        rows every = shuffled_rows(shapes[s], ALL, 11), all = {0};
        rows first = {.n = N, .vectors = every.vectors, .ids = every.ids};
        const float *queries = every.vectors + (ALL - QUERIES) * DIM;
        int64_t *gone = malloc(N * sizeof *gone);
        size_t n_given = N;
        append(&all, &first);
        myr_hnsw *graph = build(&all, pool);
        for (uint64_t round = 0; round < 5; round++) {
            size_t n_gone = split(&all, 0.3, 20 + round, gone);
            take(&graph, gone, n_gone, pool);
            rows more = {.n = n_gone, .vectors = every.vectors + n_given * DIM, .ids = every.ids + n_given};
            n_given += n_gone;
            add(&graph, &more, pool);
            append(&all, &more);
        }
        assert_true(n_given <= ALL - QUERIES);
        assert_holds(graph, &all);
        myr_hnsw *fresh = build(&all, pool);
        for (size_t ef = K; ef <= 80; ef *= 2) {
            double kept = recall_of(graph, queries, QUERIES, ef), right = recall_of(fresh, queries, QUERIES, ef);
            /* Clusters of fewer nodes than ef_construction hang together by few links, which do not all come back. */
            if (kept < right - (shapes[s] == SHAPE_TIGHT ? 0.045 : 0.01))
                fail_msg("%s, ef %zu: recall %.4f after five rounds, %.4f built anew", shape_name(shapes[s]), ef, kept,
                         right);
        }
        myr_hnsw_free(fresh);
        myr_hnsw_free(graph);
        free_rows(&all);
        free_rows(&every);
        free(gone);
    }
    myr_pool_free(pool);
}

static void digest_after_changes(int n_threads, char digest[65])
{
    rows all = some_rows(SHAPE_TIGHT, 3000, 100, 3, 1), more = some_rows(SHAPE_UNIFORM, 1000, 0, 7, 2);
    int64_t *gone = malloc(all.n * sizeof *gone);
    size_t n_more = 0;
    myr_pool *pool;
    assert_int_equal(myr_pool_create(n_threads, &pool), MYR_OK);
    myr_hnsw *graph = build(&all, pool);
    take(&graph, gone, split(&all, 0.4, 3, gone), pool);
    for (size_t i = 0; i < more.n; i++) { /* ids that are not there, before, between and behind */
        if (more.ids[i] >= 100 && (more.ids[i] - 100) % 3 == 0 && more.ids[i] < 100 + 9000)
            continue;
        memmove(more.vectors + n_more * DIM, more.vectors + i * DIM, DIM * sizeof(float));
        more.ids[n_more++] = more.ids[i];
    }
    more.n = n_more;
    add(&graph, &more, pool);
    myr_hnsw_digest(graph, digest);
    myr_hnsw_free(graph);
    myr_pool_free(pool);
    free_rows(&all);
    free_rows(&more);
    free(gone);
}

static void machines_make_no_difference(void **state)
{
    (void)state;
    static const char *const disabled[] = {"", "avx512", "avx2"};
    char right[128], got[128];
    digest_of("", 1, right, sizeof right);
    assert_int_equal(strlen(right), 64 + 1);
    for (size_t d = 0; d < 3; d++)
        for (int n_threads = 2; n_threads <= 4; n_threads += 2) {
            digest_of(disabled[d], n_threads, got, sizeof got);
            assert_string_equal(got, right);
        }
}

/* Nothing changes, and the graph given never does. */
static void no_change_is_the_same_graph(void **state)
{
    (void)state;
    rows all = some_rows(SHAPE_DUPLICATES, 2000, 7, 1, 1), none = {0};
    char before[65], after[65];
    myr_hnsw *graph = build(&all, NULL), *updated;
    myr_hnsw_digest(graph, before);
    assert_int_equal(myr_hnsw_remove(graph, all.ids, 1500, NULL, &updated), MYR_OK);
    myr_hnsw_free(updated);
    myr_hnsw_digest(graph, after);
    assert_string_equal(before, after);
    add(&graph, &none, NULL);
    take(&graph, NULL, 0, NULL);
    myr_hnsw_digest(graph, after);
    assert_string_equal(before, after);
    myr_hnsw_free(graph);
    free_rows(&all);
}

/* All out, all in again; one at a time; a graph of nothing. */
static void ends_are_fine(void **state)
{
    (void)state;
    rows all = some_rows(SHAPE_UNIFORM, 300, 0, 1, 4), none = {0};
    char whole[65], again[65];
    myr_hnsw *graph = build(&all, NULL);
    myr_hnsw_digest(graph, whole);
    for (size_t i = 0; i < all.n; i++)
        take(&graph, all.ids + i, 1, NULL);
    assert_holds(graph, &none);
    add(&graph, &all, NULL);
    myr_hnsw_digest(graph, again);
    assert_string_equal(whole, again); /* into nothing is a build */
    take(&graph, all.ids, all.n, NULL);
    for (size_t i = all.n; i-- > 0;) {
        rows one = {.n = 1, .vectors = all.vectors + i * DIM, .ids = all.ids + i};
        add(&graph, &one, NULL);
    }
    assert_holds(graph, &all);
    assert_true(recall_of(graph, all.vectors, 100, 50) > 0.98);
    myr_hnsw_free(graph);
    free_rows(&all);
}

/* The row that stands for its aliases goes, and what is equal to a row comes. */
static void aliases_come_and_go(void **state)
{
    (void)state;
    rows all = some_rows(SHAPE_UNIFORM, 400, 10, 2, 6);
    for (size_t i = 0; i < all.n; i += 4) /* every fourth is like the one behind it */
        memcpy(all.vectors + i * DIM, all.vectors + (i + 1) * DIM, DIM * sizeof(float));
    int64_t gone[100], copy_id[] = {0, 1000};
    float copies[2 * DIM];
    for (size_t i = 0; i < 100; i++)
        gone[i] = all.ids[4 * i];
    myr_hnsw *graph = build(&all, NULL), *updated;
    take(&graph, gone, 100, NULL);
    myr_hnsw_facts facts;
    myr_hnsw_describe(graph, &facts);
    assert_int_equal(facts.n, 300);
    assert_int_equal(facts.n_nodes, 300);
    memcpy(copies, all.vectors + 399 * DIM, DIM * sizeof(float));
    memcpy(copies + DIM, all.vectors + 399 * DIM, DIM * sizeof(float));
    rows more = {.n = 2, .vectors = copies, .ids = copy_id};
    add(&graph, &more, NULL);
    myr_hnsw_describe(graph, &facts);
    assert_int_equal(facts.n, 302);
    assert_int_equal(facts.n_nodes, 300);
    assert_int_equal(myr_hnsw_add(graph, copies, 1, copy_id, NULL, &updated), MYR_ERR_ARG);
    assert_int_equal(myr_hnsw_remove(graph, gone, 1, NULL, &updated), MYR_ERR_NOT_FOUND);
    assert_null(updated);
    copies[3] = NAN;
    copy_id[0] = 5;
    assert_int_equal(myr_hnsw_add(graph, copies, 1, copy_id, NULL, &updated), MYR_ERR_ARG);
    assert_int_equal(myr_hnsw_add(graph, copies, 1, (int64_t[]){-1}, NULL, &updated), MYR_ERR_ARG);
    assert_int_equal(myr_hnsw_remove(graph, (int64_t[]){12, 12}, 2, NULL, &updated), MYR_ERR_ARG);
    myr_hnsw_free(graph);
    free_rows(&all);
}

/* Rows longer than all that the graph was built of come under the inner product, too. */
static void longer_rows_come(void **state)
{
    (void)state;
    rows all = some_rows(SHAPE_UNIFORM, 500, 7, 3, 6);
    rows half = {.n = 250, .vectors = all.vectors + 250 * DIM, .ids = all.ids + 250};
    float *queries = make_vectors(SHAPE_UNIFORM, 20, DIM, 8);
    myr_hit right[K], got[K];
    myr_hnsw *graph = build_by(&all, MYR_METRIC_IP, NULL);
    take(&graph, half.ids, half.n, NULL);
    for (size_t i = 0; i < half.n * DIM; i++)
        half.vectors[i] = 3 * half.vectors[i] - 1;
    add(&graph, &half, NULL);
    myr_hnsw_searcher *searcher;
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    for (size_t q = 0; q < 20; q++) {
        naive_search(all.vectors, all.n, DIM, MYR_METRIC_IP, queries + q * DIM, K, right);
        assert_int_equal(myr_hnsw_search_exact(graph, NULL, queries + q * DIM, 1, K, got), MYR_OK);
        assert_same_hits(got, right, K, "exact");
        assert_int_equal(myr_hnsw_search(searcher, queries + q * DIM, K, all.n, got, NULL), MYR_OK);
        assert_same_hits(got, right, K, "searched");
    }
    myr_hnsw_searcher_free(searcher);
    myr_hnsw_free(graph);
    free(queries);
    free_rows(&all);
}

/* A file could hold one vector as two nodes, of different levels: carried over as one, its links would lead astray. */
static void nodes_that_are_one_vector_are_refused(void **state)
{
    (void)state;
    rows all = some_rows(SHAPE_UNIFORM, 500, 0, 1, 14);
    myr_hnsw *graph = build(&all, NULL), *updated;
    float *vectors = (float *)(uintptr_t)graph->vectors;
    memcpy(vectors + 7 * DIM, vectors + graph->entry * DIM, DIM * sizeof *vectors);
    assert_int_equal(myr_hnsw_remove(graph, all.ids + 20, 1, NULL, &updated), MYR_ERR_FORMAT);
    assert_null(updated);
    assert_non_null(strstr(myr_error_detail(), "are one vector"));
    myr_hnsw_free(graph);
    free_rows(&all);
}

/* Vectors that the codes say all of, until one comes that they do not. */
static void halves_stay_halves(void **state)
{
    (void)state;
    rows all = some_rows(SHAPE_UNIFORM, 500, 0, 1, 12), one = some_rows(SHAPE_UNIFORM, 1, 1000, 1, 13);
    myr_hnsw_round(all.vectors, all.n * DIM);
    myr_hnsw *graph = build(&all, NULL);
    assert_true(graph->halves && !graph->vectors);
    all.n--;
    take(&graph, all.ids + all.n, 1, NULL);
    assert_true(graph->halves && !graph->vectors);
    assert_holds(graph, &all);
    add(&graph, &one, NULL);
    assert_true(!graph->halves && graph->vectors);
    append(&all, &one);
    assert_holds(graph, &all);
    myr_hnsw_free(graph);
    free_rows(&all);
    free_rows(&one);
}

static void whole_vectors_stay_whole(void **state)
{
    (void)state;
    rows all = some_rows(SHAPE_UNIFORM, 500, 0, 1, 12), one = some_rows(SHAPE_UNIFORM, 1, 1000, 1, 13);
    for (size_t i = 0; i < all.n * DIM; i++)
        all.vectors[i] = roundf(all.vectors[i]);
    myr_hnsw *graph = build(&all, NULL);
    assert_null(graph->vectors);
    all.n--;
    take(&graph, all.ids + all.n, 1, NULL);
    assert_null(graph->vectors);
    assert_holds(graph, &all);
    add(&graph, &one, NULL);
    assert_non_null(graph->vectors);
    append(&all, &one);
    assert_holds(graph, &all);
    myr_hnsw_free(graph);
    free_rows(&all);
    free_rows(&one);
}

/* The highest nodes go one after the other, so the entry point moves down level by level; then higher ones come. */
static void entry_point_moves(void **state)
{
    (void)state;
    rows all = some_rows(SHAPE_UNIFORM, 2000, 0, 1, 8);
    myr_hnsw *graph = build(&all, NULL);
    int n_levels = graph->n_levels;
    assert_true(n_levels > 2);
    while (graph->n_levels > 1) {
        int64_t id = graph->ids[graph->alias_row[graph->alias_first[graph->entry]]];
        take(&graph, &id, 1, NULL);
    }
    assert_true(recall_of(graph, all.vectors, 50, 50) > 0.98);
    rows more = some_rows(SHAPE_UNIFORM, 3000, 5000, 1, 9);
    add(&graph, &more, NULL);
    assert_true(graph->n_levels >= n_levels);
    assert_true(recall_of(graph, more.vectors, 50, 50) > 0.98);
    myr_hnsw_free(graph);
    free_rows(&all);
    free_rows(&more);
}

/* ---- types ---- */

/* The same whole numbers in each type, added in two halves: one graph. */
static void types_make_no_difference(void **state)
{
    (void)state;
    enum { N_ROWS = 300, HALF = N_ROWS / 2 };
    static float f32[N_ROWS * DIM];
    static int8_t i8[N_ROWS * DIM];
    static uint8_t u8[N_ROWS * DIM];
    static uint16_t f16[N_ROWS * DIM];
    static int64_t ids[N_ROWS];
    myr_rng rng;
    myr_rng_seed(&rng, 11);
    for (size_t i = 0; i < N_ROWS * DIM; i++) {
        u8[i] = (uint8_t)myr_rng_below(&rng, 128);
        i8[i] = (int8_t)u8[i];
        f32[i] = u8[i];
        f16[i] = myr_half_from_float(f32[i]);
    }
    for (size_t i = 0; i < N_ROWS; i++)
        ids[i] = (int64_t)i;
    const struct {
        myr_element element;
        const void *rows;
        size_t n_bytes;
    } types[] = {
        {MYR_ELEMENT_F32, f32, 4}, {MYR_ELEMENT_F16, f16, 2}, {MYR_ELEMENT_U8, u8, 1}, {MYR_ELEMENT_I8, i8, 1}};
    const myr_hnsw_options options = {.M = 6, .ef_construction = 40, .code_max = 255};
    char digests[4][65];
    for (size_t t = 0; t < 4; t++) {
        myr_hnsw *half = NULL, *whole = NULL;
        size_t row_bytes = DIM * types[t].n_bytes;
        myr_vectors view = {
            .n = HALF, .dim = DIM, .element = types[t].element, .rows = types[t].rows, .row_bytes = row_bytes};
        assert_int_equal(myr_hnsw_build_rows(&view, ids, &options, NULL, &half), MYR_OK);
        view.rows += HALF * row_bytes;
        assert_int_equal(myr_hnsw_add_rows(half, &view, ids + HALF, NULL, &whole), MYR_OK);
        assert_sound(whole, "types");
        myr_hnsw_digest(whole, digests[t]);
        assert_string_equal(digests[t], digests[0]);
        myr_hnsw_free(whole);
        view.dim--;
        assert_int_equal(myr_hnsw_add_rows(half, &view, ids + HALF, NULL, &whole), MYR_ERR_ARG);
        assert_int_equal(myr_hnsw_build_rows(NULL, ids, &options, NULL, &whole), MYR_ERR_ARG);
        myr_hnsw_free(half);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--digest") == 0) {
        char digest[65];
        digest_after_changes(atoi(argv[2]), digest);
        puts(digest);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_keep_recall),          cmocka_unit_test(machines_make_no_difference),
        cmocka_unit_test(no_change_is_the_same_graph), cmocka_unit_test(ends_are_fine),
        cmocka_unit_test(aliases_come_and_go),         cmocka_unit_test(whole_vectors_stay_whole),
        cmocka_unit_test(halves_stay_halves),          cmocka_unit_test(nodes_that_are_one_vector_are_refused),
        cmocka_unit_test(entry_point_moves),           cmocka_unit_test(longer_rows_come),
        cmocka_unit_test(types_make_no_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
