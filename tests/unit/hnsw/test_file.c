/*
 * Files: what was saved is what is opened, and no planted number gets past open.
 */
#include "data.h"

#include "base/file.h"
#include "myriops/store.h"

#include <unistd.h>

enum { N = 700, DIM = 10, K = 8 };

static char path[64];
static const myr_hnsw_options usual = {.M = 6, .ef_construction = 50, .seed = (uint64_t)-3, .code_max = 1};

static void save(const myr_hnsw *graph)
{
    myr_sections_writer *writer = NULL;
    assert_int_equal(myr_sections_create(path, &writer), MYR_OK);
    assert_int_equal(myr_hnsw_save(graph, writer), MYR_OK);
    assert_int_equal(myr_sections_set_i64(writer, "other", 1), MYR_OK); /* others may live there too */
    assert_int_equal(myr_sections_commit(writer), MYR_OK);
}

static void compare_round(const myr_hnsw *graph, const float *query)
{
    myr_sections *sections = NULL;
    myr_hnsw *opened = NULL;
    save(graph);
    assert_int_equal(myr_sections_open(path, NULL, &sections), MYR_OK);
    if (myr_hnsw_open(sections, &opened) != MYR_OK)
        fail_msg("%s", myr_error_detail());
    assert_sound(opened, "opened");
    char before[65], after[65];
    myr_hnsw_digest(graph, before);
    myr_hnsw_digest(opened, after);
    assert_string_equal(before, after);
    myr_hnsw_facts facts, opened_facts;
    myr_hnsw_describe(graph, &facts);
    myr_hnsw_describe(opened, &opened_facts);
    assert_true(facts.n == opened_facts.n && facts.dim == opened_facts.dim && facts.n_nodes == opened_facts.n_nodes);
    assert_true(facts.M == opened_facts.M && facts.ef_construction == opened_facts.ef_construction);
    assert_true(facts.seed == opened_facts.seed && facts.metric == opened_facts.metric);
    assert_true(facts.n_levels == opened_facts.n_levels && facts.mean_links == opened_facts.mean_links);

    myr_hnsw_searcher *old = NULL, *new = NULL;
    myr_hit right[K], got[K];
    assert_int_equal(myr_hnsw_searcher_create(graph, &old), MYR_OK);
    assert_int_equal(myr_hnsw_searcher_create(opened, &new), MYR_OK);
    assert_int_equal(myr_hnsw_search(old, query, K, 20, right, NULL), MYR_OK);
    assert_int_equal(myr_hnsw_search(new, query, K, 20, got, NULL), MYR_OK);
    assert_same_hits(got, right, K, "opened");
    assert_int_equal(myr_hnsw_search_exact(opened, NULL, query, 1, K, got), MYR_OK);
    myr_hnsw_searcher_free(old);
    myr_hnsw_searcher_free(new);
    myr_hnsw_free(opened);
    myr_sections_close(sections);
    unlink(path);
}

static void test_round(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 3, N};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int kind = 0; kind < 6; kind++) {
            bool cosine = kind == 1, whole = kind == 2, half = kind == 3, product = kind == 4;
            myr_hnsw_options options = usual;
            options.metric = cosine ? MYR_METRIC_COSINE : product ? MYR_METRIC_IP : MYR_METRIC_L2;
            options.is_float = kind == 5;
            float *vectors = make_vectors(whole || half ? SHAPE_UNIFORM : SHAPE_DUPLICATES, sizes[s], DIM, 1),
                  query[DIM] = {1};
            if (cosine)
                normalise(vectors, sizes[s], DIM);
            for (size_t i = 0; whole && i < sizes[s] * DIM; i++)
                vectors[i] = roundf(vectors[i]);
            if (half)
                myr_hnsw_round(vectors, sizes[s] * DIM);
            myr_hnsw *graph = make_graph(vectors, sizes[s], DIM, &options, 1);
            assert_true(!(whole || half) || !graph->vectors);
            assert_true(!half || sizes[s] == 0 || graph->halves);
            compare_round(graph, query);
            myr_hnsw_free(graph);
            free(vectors);
        }
}

/* ---- large files, of which only what is read is checked ---- */

enum { N_ASKED = 30 };

static myr_hnsw *open_lazily(const char *name, uint64_t checksum, myr_sections **sections)
{
    myr_hnsw *opened = NULL;
    *sections = NULL;
    myr_sections_eager_bytes = 0;
    if (myr_sections_open(name, &checksum, sections) == MYR_OK && myr_hnsw_open(*sections, &opened) == MYR_OK)
        assert_true(is_guarded(opened) && myr_sections_is_lazy(*sections));
    myr_sections_eager_bytes = (size_t)16 << 20;
    return opened;
}

/* Hits of N_ASKED of the vectors, in groups; the number of groups that were refused is returned. */
static size_t ask_some(const myr_hnsw *graph, const float *vectors, myr_hit *hits)
{
    myr_hnsw_searcher *searcher = NULL;
    size_t n_refused = 0;
    assert_int_equal(myr_hnsw_searcher_create(graph, &searcher), MYR_OK);
    for (size_t q = 0; q < N_ASKED; q += 3) {
        myr_status status = myr_hnsw_search_batch(searcher, vectors + q * 20 * DIM, 3, K, 20, hits + q * K, NULL);
        n_refused += status != MYR_OK;
        assert_true(status == MYR_OK || status == MYR_ERR_FORMAT);
        if (status != MYR_OK)
            memset(hits + q * K, 0, 3 * K * sizeof *hits);
    }
    myr_hnsw_searcher_free(searcher);
    return n_refused;
}

/* Answers are right or refused, and the whole is refused in any case. */
static size_t assert_no_harm(const myr_hnsw *opened, const float *vectors, const myr_hit *right)
{
    myr_hit hits[N_ASKED * K];
    size_t n_refused = ask_some(opened, vectors, hits);
    for (size_t q = 0; q < N_ASKED; q++)
        if (right && hits[q * K].id + hits[q * K + 1].id != 0)
            assert_same_hits(hits + q * K, right + q * K, K, "damaged elsewhere");
    assert_int_equal(myr_hnsw_verify(opened, NULL), MYR_ERR_FORMAT);
    char digest[65];
    myr_hnsw_digest(opened, digest);
    assert_string_equal(digest, "");
    return n_refused;
}

static void test_lazy(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        myr_hnsw_options options = usual;
        options.is_float = kind == 3;
        options.metric = kind == 1 ? MYR_METRIC_IP : MYR_METRIC_L2;
        float *vectors = make_vectors(SHAPE_DUPLICATES, N, DIM, 5);
        if (kind == 2)
            myr_hnsw_round(vectors, N * DIM);
        myr_hnsw *graph = make_graph(vectors, N, DIM, &options, 1);
        myr_hit right[N_ASKED * K], hits[N_ASKED * K];
        uint64_t checksum;
        myr_sections *sections;
        myr_buffer whole = {0};
        char copy[80], before[65], after[65];
        assert_int_equal(ask_some(graph, vectors, right), 0);
        save(graph);
        assert_int_equal(myr_sections_checksum(path, &checksum), MYR_OK);
        myr_hnsw *opened = open_lazily(path, checksum, &sections);
        assert_int_equal(ask_some(opened, vectors, hits), 0);
        for (size_t q = 0; q < N_ASKED; q++)
            assert_same_hits(hits + q * K, right + q * K, K, "lazy");
        assert_vector(opened, 77, vectors + 77 * DIM, DIM);
        assert_true(is_guarded(opened));
        assert_int_equal(myr_hnsw_verify(opened, NULL), MYR_OK);
        assert_false(is_guarded(opened));
        myr_hnsw_digest(graph, before);
        myr_hnsw_digest(opened, after);
        assert_string_equal(before, after);
        myr_hnsw_free(opened);
        myr_sections_close(sections);

        snprintf(copy, sizeof copy, "%s.copy", path);
        assert_int_equal(myr_file_read(path, SIZE_MAX / 2, &whole), MYR_OK);
        size_t n_refused = 0, n_groups = 0;
        for (size_t at = 0; at < whole.size; at += 1501) {
            whole.data[at] ^= 0x21;
            assert_int_equal(myr_file_replace(copy, whole.data, whole.size), MYR_OK);
            whole.data[at] ^= 0x21;
            opened = open_lazily(copy, checksum, &sections);
            if (opened) {
                n_refused += assert_no_harm(opened, vectors, right);
                n_groups += N_ASKED / 3;
            }
            myr_hnsw_free(opened);
            myr_sections_close(sections);
        }
        assert_true(n_refused > n_groups / 10 && n_refused < n_groups);
        unlink(copy);
        unlink(path);
        myr_buffer_free(&whole);
        myr_hnsw_free(graph);
        free(vectors);
    }
}

/* What is planted with right checksums does no harm in a lazy file either. */
static void assert_lazily_refused(const float *vectors)
{
    uint64_t checksum;
    myr_sections *sections;
    assert_int_equal(myr_sections_checksum(path, &checksum), MYR_OK);
    myr_hnsw *opened = open_lazily(path, checksum, &sections);
    if (opened)
        assert_no_harm(opened, vectors, NULL);
    myr_hnsw_free(opened);
    myr_sections_close(sections);
}

/* Saves a graph with a fault in it, checksums and all: open must refuse it. */
static void assert_refused(const myr_hnsw *graph, const float *asked, const char *word)
{
    myr_sections *sections = NULL;
    myr_hnsw *opened = NULL;
    save(graph);
    assert_int_equal(myr_sections_open(path, NULL, &sections), MYR_OK);
    assert_int_equal(myr_hnsw_open(sections, &opened), MYR_ERR_FORMAT);
    assert_null(opened);
    if (!strstr(myr_error_detail(), word))
        fail_msg("'%s' does not say '%s'", myr_error_detail(), word);
    myr_sections_close(sections);
    assert_lazily_refused(asked);
    unlink(path);
}

static void test_planted(void **state)
{
    (void)state;
    float *vectors = make_vectors(SHAPE_UNIFORM, N, DIM, 2);
    myr_hnsw *graph = make_graph(vectors, N, DIM, &usual, 1);
    myr_hnsw bad = *graph;
    uint32_t *links = (uint32_t *)(uintptr_t)graph->links, *first = (uint32_t *)(uintptr_t)graph->alias_first;
    uint32_t *upper_first = (uint32_t *)(uintptr_t)graph->upper_first,
             *upper = (uint32_t *)(uintptr_t)graph->upper_links;
    uint32_t *row_node = (uint32_t *)(uintptr_t)graph->row_node, *alias = (uint32_t *)(uintptr_t)graph->alias_row;
    uint8_t *levels = (uint8_t *)(uintptr_t)graph->levels;

#define PLANT(place, value, word)                                                                                      \
    do {                                                                                                               \
        __typeof__(place) kept = place;                                                                                \
        place = value;                                                                                                 \
        assert_refused(&bad, vectors, word);                                                                           \
        place = kept;                                                                                                  \
    } while (0)
    PLANT(links[100], 0x7fffffff, "links to node");
    PLANT(links[0], 0, "itself");
    PLANT(upper[0], N, "links to node");
    PLANT(upper_first[N], 0xfffffff0, "upper links");
    PLANT(upper_first[7], upper_first[7] + 1, "upper links");
    PLANT(first[3], 0xffffffff, "");
    PLANT(first[N], N - 1, "cover");
    PLANT(alias[3], N, "row 700");
    PLANT(row_node[3], N, "");
    PLANT(levels[graph->entry], 200, "level 200");
    PLANT(bad.entry, N + 1, "entry point");
    PLANT(bad.entry, NONE, "entry point");
    PLANT(bad.n_levels, 0, "levels");
    PLANT(bad.n_levels, 99, "hnsw_n_levels");
    PLANT(bad.M, 1, "hnsw_M");
    PLANT(bad.ef_construction, 0, "hnsw_ef_construction");
    PLANT(bad.code_max, NAN, "codes");
    PLANT(bad.code_min, 2.0f, "codes");
#undef PLANT
    myr_hnsw_free(graph);
    free(vectors);
}

static const struct {
    const char *name;
    myr_section_type type;
    int rank;
} arrays[] = {
    {"hnsw_ids", MYR_SECTION_I64, 1},         {"hnsw_row_node", MYR_SECTION_U32, 1},
    {"hnsw_alias_first", MYR_SECTION_U32, 1}, {"hnsw_alias_row", MYR_SECTION_U32, 1},
    {"hnsw_vectors", MYR_SECTION_F32, 2},     {"hnsw_halves", MYR_SECTION_U8, 2},
    {"hnsw_codes", MYR_SECTION_U8, 2},        {"hnsw_residuals", MYR_SECTION_F32, 1},
    {"hnsw_levels", MYR_SECTION_U8, 1},       {"hnsw_upper_first", MYR_SECTION_U32, 1},
    {"hnsw_links", MYR_SECTION_U32, 2},       {"hnsw_upper_links", MYR_SECTION_U32, 2},
    {"hnsw_axes", MYR_SECTION_F32, 2},        {"hnsw_offsets", MYR_SECTION_F32, 1},
};
static const char *const numbers[] = {"hnsw_version",         "hnsw_n",      "hnsw_dim",      "hnsw_n_nodes",
                                      "hnsw_n_upper",         "hnsw_M",      "hnsw_n_levels", "hnsw_entry",
                                      "hnsw_ef_construction", "hnsw_seed",   "hnsw_code_min", "hnsw_code_max",
                                      "hnsw_longest",         "hnsw_radius", "hnsw_floats",   "hnsw_n_axes"};

/* A copy of the file with one number changed, or one section or number left out (value NULL). */
static void copy_with(const char *copy, const char *name, const int64_t *value, const char *metric)
{
    myr_sections *sections = NULL;
    myr_sections_writer *writer = NULL;
    assert_int_equal(myr_sections_open(path, NULL, &sections), MYR_OK);
    assert_int_equal(myr_sections_create(copy, &writer), MYR_OK);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        int64_t number;
        assert_int_equal(myr_sections_get_i64(sections, numbers[i], &number), MYR_OK);
        bool same = strcmp(numbers[i], name) == 0;
        if (!same || value)
            assert_int_equal(myr_sections_set_i64(writer, numbers[i], same ? *value : number), MYR_OK);
    }
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        size_t dims[2];
        const void *data;
        assert_int_equal(myr_sections_get(sections, arrays[i].name, arrays[i].type, arrays[i].rank, dims, &data),
                         MYR_OK);
        if (strcmp(arrays[i].name, name) != 0)
            assert_int_equal(myr_sections_add(writer, arrays[i].name, arrays[i].type, arrays[i].rank, dims, data),
                             MYR_OK);
    }
    assert_int_equal(myr_sections_set_text(writer, "hnsw_metric", metric), MYR_OK);
    assert_int_equal(myr_sections_commit(writer), MYR_OK);
    myr_sections_close(sections);
}

static void assert_copy_opens(const char *name, const int64_t *value, const char *metric, myr_status right)
{
    char copy[80];
    myr_sections *sections = NULL;
    myr_hnsw *opened = NULL;
    snprintf(copy, sizeof copy, "%s.copy", path);
    copy_with(copy, name, value, metric);
    assert_int_equal(myr_sections_open(copy, NULL, &sections), MYR_OK);
    myr_status status = myr_hnsw_open(sections, &opened);
    if (status != right)
        fail_msg("%s = %lld: %s", name, value ? (long long)*value : 0, myr_status_text(status));
    myr_hnsw_free(opened);
    myr_sections_close(sections);
    unlink(copy);
}

static void test_disagreement(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t value;
        myr_status status;
    } wrong[] = {
        {"hnsw_n", N + 1, MYR_ERR_FORMAT},
        {"hnsw_n", -1, MYR_ERR_FORMAT},
        {"hnsw_n_nodes", N - 1, MYR_ERR_FORMAT},
        {"hnsw_n_nodes", INT64_MAX, MYR_ERR_FORMAT},
        {"hnsw_dim", 64, MYR_ERR_FORMAT},
        {"hnsw_dim", 1 << 30, MYR_ERR_FORMAT},
        {"hnsw_M", 7, MYR_ERR_FORMAT},
        {"hnsw_n_upper", 1, MYR_ERR_FORMAT},
        {"hnsw_version", 6, MYR_ERR_UNSUPPORTED},
        {"hnsw_floats", 2, MYR_ERR_FORMAT},
        {"hnsw_n_axes", 63, MYR_ERR_FORMAT},
        {"hnsw_n_axes", 64, MYR_ERR_FORMAT},
        {"hnsw_n_axes", 1088, MYR_ERR_FORMAT},
        {"hnsw_version", 0, MYR_ERR_FORMAT},
        {"hnsw_code_min", 1LL << 40, MYR_ERR_FORMAT},
        {"hnsw_radius", 0x7fc00000, MYR_ERR_FORMAT}, /* no number */
        {"hnsw_radius", 0xbf800000, MYR_ERR_FORMAT}, /* -1 */
    };
    float *vectors = make_vectors(SHAPE_UNIFORM, N, DIM, 3);
    myr_hnsw *graph = make_graph(vectors, N, DIM, &usual, 1);
    save(graph);
    assert_copy_opens("nothing", NULL, "l2", MYR_OK);
    assert_copy_opens("hnsw_version", &(int64_t){2}, "l2", MYR_OK); /* before there were halves */
    assert_copy_opens("hnsw_version", &(int64_t){3}, "l2", MYR_OK); /* before there were inner products */
    assert_copy_opens("hnsw_version", &(int64_t){4}, "l2", MYR_OK); /* before there were floats and axes */
    assert_copy_opens("nothing", NULL, "hamming", MYR_ERR_FORMAT);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_copy_opens(wrong[i].name, &wrong[i].value, "l2", wrong[i].status);
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        assert_copy_opens(arrays[i].name, NULL, "l2", MYR_ERR_FORMAT);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        assert_copy_opens(numbers[i], NULL, "l2", MYR_ERR_FORMAT);
    unlink(path);
    myr_hnsw_free(graph);
    free(vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round),
        cmocka_unit_test(test_lazy),
        cmocka_unit_test(test_planted),
        cmocka_unit_test(test_disagreement),
    };
    snprintf(path, sizeof path, "/tmp/myriops_test_hnsw_%d.h5", (int)getpid());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
