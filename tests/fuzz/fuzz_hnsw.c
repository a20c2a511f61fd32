/*
 * Any damage to the arrays of a graph: it is refused on opening, or everything that can be asked of it ends well.
 *
 * Input: damages of 8 bytes each: which array, how, where (3 bytes), what (3 bytes). Checksums stand in front of these
 * arrays in a file; a hostile one has them right.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N = 160, DIM = 6, N_ARRAYS = 12, K = 5, EF = 20 };

static int64_t ids[N];
static float vectors[N * DIM];

/* One row in five is a copy of the one before it. */
static myr_hnsw *make_graph(bool halves)
{
    myr_hnsw_options options = {.M = 3, .ef_construction = 20, .seed = 5};
    myr_hnsw *graph = NULL;
    myr_rng rng;
    myr_rng_seed(&rng, 1);
    for (size_t i = 0; i < N * DIM; i++)
        vectors[i] = i / DIM % 5 == 4 ? vectors[i - DIM] : (float)myr_rng_unit(&rng);
    for (size_t i = 0; i < N; i++)
        ids[i] = (int64_t)(3 * i);
    if (halves)
        myr_hnsw_round(vectors, N * DIM);
    if (myr_hnsw_build(vectors, N, DIM, ids, &options, NULL, &graph) != MYR_OK)
        abort();
    return graph;
}

typedef struct array {
    const void *from;
    size_t n_bytes;
    size_t at; /* of the pointer in myr_hnsw */
} array;

static void list_arrays(const myr_hnsw *graph, array list[N_ARRAYS])
{
#define ARRAY(name, n) {graph->name, graph->name ? (n) * sizeof *graph->name : 0, offsetof(myr_hnsw, name)}
    size_t M = (size_t)graph->M, n_nodes = graph->n_nodes;
    array all[N_ARRAYS] = {
        ARRAY(ids, graph->n),
        ARRAY(row_node, graph->n),
        ARRAY(alias_first, n_nodes + 1),
        ARRAY(alias_row, graph->n),
        ARRAY(vectors, n_nodes * graph->dim),
        ARRAY(halves, n_nodes * graph->dim),
        ARRAY(codes, n_nodes * graph->n_code_bytes),
        ARRAY(residuals, n_nodes),
        ARRAY(levels, n_nodes),
        ARRAY(upper_first, n_nodes + 1),
        ARRAY(links, n_nodes * 2 * M),
        ARRAY(upper_links, graph->n_upper * M),
    };
#undef ARRAY
    memcpy(list, all, sizeof all);
}

/* A copy whose arrays are their own, each of just its size. */
static myr_hnsw *copy_graph(const myr_hnsw *graph, uint8_t *places[N_ARRAYS], array list[N_ARRAYS])
{
    myr_hnsw *copy = myr_alloc(1, sizeof *copy);
    if (!copy)
        abort();
    *copy = *graph;
    list_arrays(graph, list);
    for (size_t i = 0; i < N_ARRAYS; i++) {
        void *place = NULL;
        if (list[i].n_bytes > 0 && posix_memalign(&place, MYR_CODE_ALIGNMENT, list[i].n_bytes) != 0)
            abort();
        places[i] = place;
        if (place)
            memcpy(places[i], list[i].from, list[i].n_bytes);
        memcpy((char *)copy + list[i].at, &places[i], sizeof places[i]);
    }
    return copy;
}

static void damage(const uint8_t *how, uint8_t *const places[N_ARRAYS], const array list[N_ARRAYS])
{
    size_t which = how[0] % N_ARRAYS, n = list[which].n_bytes;
    size_t at = (size_t)how[2] << 16 | (size_t)how[3] << 8 | how[4];
    uint32_t value = (uint32_t)how[5] << 16 | (uint32_t)how[6] << 8 | how[7];
    if (n == 0)
        return;
    if (how[1] % 3 == 0 || n < sizeof value) {
        places[which][at % n] = (uint8_t)value;
        return;
    }
    uint8_t *place = places[which] + at % (n / sizeof value) * sizeof value;
    if (how[1] % 3 == 1)
        value %= 200; /* a node, a row, or just beyond */
    memcpy(place, &value, sizeof value);
}

static bool accept_half(const void *context, int64_t id)
{
    (void)context;
    return id % 2 == 0;
}

static void search(const myr_hnsw *graph)
{
    myr_hnsw_searcher *searcher = NULL;
    myr_hit hits[2 * K];
    float vector[DIM];
    if (myr_hnsw_searcher_create(graph, &searcher) == MYR_OK)
        for (size_t i = 0; i < 5; i++)
            myr_hnsw_search_batch(searcher, vectors + 31 * i * DIM, 2, K, EF, hits, NULL);
    myr_hnsw_searcher_free(searcher);
    for (size_t row = 0; row < graph->n; row += 9)
        myr_hnsw_vector(graph, row, vector);
}

/* Answers are of no account. */
static void ask(const myr_hnsw *graph)
{
    myr_hnsw_searcher *searcher = NULL;
    myr_row_filter filter = {accept_half, NULL};
    myr_hit hits[2 * K], *within = NULL;
    myr_hnsw *changed = NULL;
    myr_hnsw_curve curve;
    const float *query = vectors + 7 * DIM;
    size_t n, efs[] = {10};
    float vector[DIM];
    if (myr_hnsw_searcher_create(graph, &searcher) == MYR_OK) {
        myr_hnsw_search_batch(searcher, query, 2, K, EF, hits, NULL);
        myr_hnsw_search_filtered(searcher, query, K, EF, &filter, hits, NULL);
        myr_hnsw_search_range(searcher, query, 0.5f, EF, NULL, &within, &n, NULL);
        free(within);
    }
    myr_hnsw_searcher_free(searcher);
    myr_hnsw_search_exact(graph, NULL, query, 2, K, hits);
    myr_hnsw_measure(graph, NULL, 0.1, efs, 1, &curve);
    myr_hnsw_vector(graph, graph->n - 1, vector);
    myr_hnsw_check(graph);
    int64_t some[3] = {graph->ids[1], graph->ids[N / 2], graph->ids[N - 1]}, more[2] = {INT64_MAX - 1, INT64_MAX};
    if (myr_hnsw_remove(graph, some, 3, NULL, &changed) == MYR_OK)
        myr_hnsw_free(changed);
    if (myr_hnsw_add(graph, query, 2, more, NULL, &changed) == MYR_OK)
        myr_hnsw_free(changed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static myr_hnsw *whole[2];
    for (int i = 0; i < 2; i++)
        if (!whole[i])
            whole[i] = make_graph(i);
    uint8_t *places[N_ARRAYS];
    array list[N_ARRAYS];
    myr_hnsw *graph = copy_graph(whole[size % 2], places, list);
    for (size_t i = 0; i + 8 <= size; i += 8)
        damage(data + i, places, list);
    hnsw_guard *guard;
    if (hnsw_guard_create(NULL, &guard) != MYR_OK)
        abort();
    graph->guard = guard; /* a search before the whole was checked, as in large files */
    if (hnsw_check_numbers(graph) == MYR_OK)
        search(graph);
    if (myr_hnsw_verify(graph, NULL) == MYR_OK)
        ask(graph);
    myr_hnsw_free(graph);
    return 0;
}
