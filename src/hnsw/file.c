/*
 * The graph as sections of a file.
 *
 *  hnsw_ids         i64 (n)                hnsw_codes        u8  (n_nodes, row: dim or n_axes, and tail, or
 *  hnsw_row_node    u32 (n)                                      4 dim, rounded up to 64)
 *  hnsw_alias_first u32 (n_nodes + 1)      hnsw_residuals    f32 (n_nodes)
 *  hnsw_alias_row   u32 (n)                hnsw_levels       u8  (n_nodes)
 *  hnsw_upper_first u32 (n_nodes + 1)      hnsw_offsets      f32 (n_axes)
 *  hnsw_axes        f32 (n_axes / 64, dim * 64), since version 5, as hnsw_offsets
 *  hnsw_vectors     f32 (n_nodes, dim)*    hnsw_links        u32 (n_nodes, 2 M)
 *  hnsw_halves      u8  (n_nodes, 2 dim)*  hnsw_upper_links  u32 (n_upper, M)
 *  * no rows where the other, or the codes, say all of each vector; halves are little-endian binary16, since version 3
 *  numbers: hnsw_version = 5, hnsw_n, hnsw_dim, hnsw_n_nodes, hnsw_n_upper, hnsw_M, hnsw_ef_construction,
 *  hnsw_n_levels, hnsw_entry (-1 none), hnsw_seed; as the bits of an f32: hnsw_code_min, hnsw_code_max, hnsw_longest,
 *  hnsw_radius (since version 4); hnsw_floats (since version 5): 1 where codes are vectors of f32; hnsw_n_axes
 *  (since version 5): axes that codes are places along (axes.c), 0 none
 *  text: hnsw_metric, "l2", "cosine", or since version 4 "ip"
 *
 * What the arrays mean is said in graph.h; NONE is 2^32 - 1. The opened graph points into
 * the mapping, after every bound was checked, or in large files with a guard that does so (guard.c).
 */
#include "hnsw/graph.h"

#include "base/alloc.h"
#include "myriops/store.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 5, WITHOUT_AXES = 4, WITHOUT_RADIUS = 3, WITHOUT_HALVES = 2, MAX_RANK = 2 };

/* One array of the graph: its name, shape and the place of its pointer, for both directions. */
typedef struct array {
    const char *name;
    myr_section_type type;
    int rank;
    size_t dims[MAX_RANK];
    size_t at; /* in myr_hnsw */
} array;

typedef struct number {
    const char *name;
    int64_t value, least, most;
} number;

enum { N_ARRAYS = 14 };

/* The arrays of a graph whose numbers are known. */
static void list_arrays(const myr_hnsw *graph, array list[N_ARRAYS])
{
    size_t n = graph->n, n_nodes = graph->n_nodes, M = (size_t)graph->M;
    array all[N_ARRAYS] = {
        {"hnsw_ids", MYR_SECTION_I64, 1, {n}, offsetof(myr_hnsw, ids)},
        {"hnsw_row_node", MYR_SECTION_U32, 1, {n}, offsetof(myr_hnsw, row_node)},
        {"hnsw_alias_first", MYR_SECTION_U32, 1, {n_nodes + 1}, offsetof(myr_hnsw, alias_first)},
        {"hnsw_alias_row", MYR_SECTION_U32, 1, {n}, offsetof(myr_hnsw, alias_row)},
        {"hnsw_vectors", MYR_SECTION_F32, 2, {graph->vectors ? n_nodes : 0, graph->dim}, offsetof(myr_hnsw, vectors)},
        {"hnsw_halves", MYR_SECTION_U8, 2, {graph->halves ? n_nodes : 0, 2 * graph->dim}, offsetof(myr_hnsw, halves)},
        {"hnsw_codes", MYR_SECTION_U8, 2, {n_nodes, graph->n_code_bytes}, offsetof(myr_hnsw, codes)},
        {"hnsw_axes",
         MYR_SECTION_F32,
         2,
         {graph->n_axes / MYR_PANEL, graph->dim * MYR_PANEL},
         offsetof(myr_hnsw, axes)},
        {"hnsw_offsets", MYR_SECTION_F32, 1, {graph->n_axes}, offsetof(myr_hnsw, offsets)},
        {"hnsw_residuals", MYR_SECTION_F32, 1, {n_nodes}, offsetof(myr_hnsw, residuals)},
        {"hnsw_levels", MYR_SECTION_U8, 1, {n_nodes}, offsetof(myr_hnsw, levels)},
        {"hnsw_upper_first", MYR_SECTION_U32, 1, {n_nodes + 1}, offsetof(myr_hnsw, upper_first)},
        {"hnsw_links", MYR_SECTION_U32, 2, {n_nodes, 2 * M}, offsetof(myr_hnsw, links)},
        {"hnsw_upper_links", MYR_SECTION_U32, 2, {graph->n_upper, M}, offsetof(myr_hnsw, upper_links)},
    };
    memcpy(list, all, sizeof all);
}

enum {
    F_VERSION,
    F_N,
    F_DIM,
    F_N_NODES,
    F_N_UPPER,
    F_M,
    F_EF,
    F_N_LEVELS,
    F_ENTRY,
    F_SEED,
    F_CODE_MIN,
    F_CODE_MAX,
    F_LONGEST,
    F_RADIUS,
    F_FLOATS,
    F_AXES,
    N_NUMBERS
};

static int64_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float value_of(int64_t field)
{
    uint32_t bits = (uint32_t)field;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void list_numbers(const myr_hnsw *graph, number list[N_NUMBERS])
{
    int64_t entry = graph->entry == NONE ? -1 : (int64_t)graph->entry;
    number all[N_NUMBERS] = {
        [F_VERSION] = {"hnsw_version", VERSION, 1, INT64_MAX},
        [F_N] = {"hnsw_n", (int64_t)graph->n, 0, INT32_MAX},
        [F_DIM] = {"hnsw_dim", (int64_t)graph->dim, 1, MYR_CODE_MAX_DIM},
        [F_N_NODES] = {"hnsw_n_nodes", (int64_t)graph->n_nodes, 0, INT32_MAX},
        [F_N_UPPER] = {"hnsw_n_upper", (int64_t)graph->n_upper, 0, NONE},
        [F_M] = {"hnsw_M", graph->M, 2, MAX_M},
        [F_EF] = {"hnsw_ef_construction", graph->ef_construction, 1, INT_MAX},
        [F_N_LEVELS] = {"hnsw_n_levels", graph->n_levels, 0, MAX_LEVEL + 1},
        [F_ENTRY] = {"hnsw_entry", entry, -1, INT32_MAX},
        [F_SEED] = {"hnsw_seed", (int64_t)graph->seed, INT64_MIN, INT64_MAX},
        [F_CODE_MIN] = {"hnsw_code_min", bits_of(graph->code_min), 0, UINT32_MAX},
        [F_CODE_MAX] = {"hnsw_code_max", bits_of(graph->code_max), 0, UINT32_MAX},
        [F_LONGEST] = {"hnsw_longest", bits_of(graph->longest), 0, UINT32_MAX},
        [F_RADIUS] = {"hnsw_radius", bits_of(graph->radius), 0, UINT32_MAX},
        [F_FLOATS] = {"hnsw_floats", graph->is_float, 0, 1},
        [F_AXES] = {"hnsw_n_axes", (int64_t)graph->n_axes, 0, MOST_AXES},
    };
    memcpy(list, all, sizeof all);
}

myr_status myr_hnsw_save(const myr_hnsw *graph, myr_sections_writer *writer)
{
    array arrays[N_ARRAYS];
    number numbers[N_NUMBERS];
    list_arrays(graph, arrays);
    list_numbers(graph, numbers);
    myr_status status = myr_hnsw_verify(graph, NULL);
    if (status == MYR_OK)
        status = myr_sections_set_text(writer, "hnsw_metric", myr_metric_name(graph->metric));
    for (size_t i = 0; status == MYR_OK && i < N_NUMBERS; i++)
        status = myr_sections_set_i64(writer, numbers[i].name, numbers[i].value);
    for (size_t i = 0; status == MYR_OK && i < N_ARRAYS; i++) {
        const void *data;
        memcpy(&data, (const char *)graph + arrays[i].at, sizeof data);
        status = myr_sections_add(writer, arrays[i].name, arrays[i].type, arrays[i].rank, arrays[i].dims, data);
    }
    return status;
}

/* ---- opening ---- */

static myr_status get_numbers(const myr_sections *sections, myr_hnsw *graph, int64_t *version)
{
    number numbers[N_NUMBERS];
    list_numbers(graph, numbers);
    for (size_t i = 0; i < N_NUMBERS; i++) {
        if ((i == F_RADIUS && numbers[F_VERSION].value <= WITHOUT_RADIUS) ||
            ((i == F_FLOATS || i == F_AXES) && numbers[F_VERSION].value <= WITHOUT_AXES))
            continue;
        myr_status status = myr_sections_get_i64(sections, numbers[i].name, &numbers[i].value);
        if (status != MYR_OK)
            return status;
        if (numbers[i].value < numbers[i].least || numbers[i].value > numbers[i].most)
            return myr_fail(MYR_ERR_FORMAT, "hnsw: %s = %lld is out of its range", numbers[i].name,
                            (long long)numbers[i].value);
        if (i == F_VERSION && numbers[i].value > VERSION)
            return myr_fail(MYR_ERR_UNSUPPORTED, "hnsw: a graph of version %lld; this Myriops reads version %d",
                            (long long)numbers[i].value, VERSION);
    }
    *version = numbers[F_VERSION].value;
    graph->n = (size_t)numbers[F_N].value;
    graph->dim = (size_t)numbers[F_DIM].value;
    graph->n_nodes = (size_t)numbers[F_N_NODES].value;
    graph->n_upper = (size_t)numbers[F_N_UPPER].value;
    graph->M = (int)numbers[F_M].value;
    graph->ef_construction = (int)numbers[F_EF].value;
    graph->n_levels = (int)numbers[F_N_LEVELS].value;
    graph->entry = numbers[F_ENTRY].value < 0 ? NONE : (uint32_t)numbers[F_ENTRY].value;
    graph->seed = (uint64_t)numbers[F_SEED].value;
    graph->code_min = value_of(numbers[F_CODE_MIN].value);
    graph->code_max = value_of(numbers[F_CODE_MAX].value);
    graph->longest = value_of(numbers[F_LONGEST].value);
    graph->radius = value_of(numbers[F_RADIUS].value);
    graph->is_float = numbers[F_FLOATS].value;
    graph->n_axes = (size_t)numbers[F_AXES].value;
    if (!isfinite(graph->code_min) || !isfinite(graph->code_max) || graph->code_max < graph->code_min)
        return myr_fail(MYR_ERR_FORMAT, "hnsw: codes cannot range from %g to %g", (double)graph->code_min,
                        (double)graph->code_max);
    if (!(graph->radius >= 0) || !isfinite(graph->radius))
        return myr_fail(MYR_ERR_FORMAT, "hnsw: vectors cannot be of length %g", (double)graph->radius);
    hnsw_fit_codes(graph);
    return MYR_OK;
}

static myr_status get_metric(const myr_sections *sections, myr_hnsw *graph)
{
    const char *metric;
    myr_status status = myr_sections_get_text(sections, "hnsw_metric", &metric);
    if (status != MYR_OK)
        return status;
    return myr_metric_of(metric, &graph->metric) ? MYR_OK
                                                 : myr_fail(MYR_ERR_FORMAT, "hnsw: there is no metric '%.32s'", metric);
}

/* Whether an array may be without rows. */
static bool is_spared(const array *one)
{
    return one->at == offsetof(myr_hnsw, vectors) || one->at == offsetof(myr_hnsw, halves);
}

static bool is_of_axes(const array *one)
{
    return one->at == offsetof(myr_hnsw, axes) || one->at == offsetof(myr_hnsw, offsets);
}

static myr_status get_arrays(const myr_sections *sections, myr_hnsw *graph, int64_t version)
{
    array arrays[N_ARRAYS];
    list_arrays(graph, arrays);
    for (size_t i = 0; i < N_ARRAYS; i++) {
        size_t dims[MAX_RANK];
        const void *data;
        if ((arrays[i].at == offsetof(myr_hnsw, halves) && version <= WITHOUT_HALVES) ||
            (is_of_axes(&arrays[i]) && version <= WITHOUT_AXES))
            continue;
        myr_status status = myr_sections_get(sections, arrays[i].name, arrays[i].type, arrays[i].rank, dims, &data);
        if (status != MYR_OK)
            return status;
        if (is_spared(&arrays[i])) {
            if (dims[0] == 0 && dims[1] == arrays[i].dims[1])
                continue;
            arrays[i].dims[0] = graph->n_nodes;
        }
        if (memcmp(dims, arrays[i].dims, (size_t)arrays[i].rank * sizeof *dims) != 0)
            return myr_fail(MYR_ERR_FORMAT, "hnsw: %s has another shape than its graph", arrays[i].name);
        memcpy((char *)graph + arrays[i].at, &data, sizeof data);
    }
    bool is_spared_by_codes = graph->dim <= MOST_SPARED && (graph->n_axes == 0 || graph->halves || graph->n_nodes == 0);
    if (!graph->vectors && !graph->is_float && !is_spared_by_codes)
        return myr_fail(MYR_ERR_FORMAT, "hnsw: vectors of %zu values are not there", graph->dim);
    return MYR_OK;
}

myr_status myr_hnsw_open(const myr_sections *sections, myr_hnsw **out)
{
    *out = NULL;
    myr_hnsw *graph = myr_alloc(1, sizeof *graph);
    if (!graph)
        return myr_fail(MYR_ERR_NOMEM, "hnsw: no memory for a graph");
    graph->borrows = true;
    graph->kernel = myr_kernel_get();
    int64_t version;
    myr_status status = get_metric(sections, graph);
    if (status == MYR_OK)
        status = get_numbers(sections, graph, &version);
    if (status == MYR_OK)
        status = get_arrays(sections, graph, version);
    bool is_lazy = myr_sections_is_lazy(sections);
    if (status == MYR_OK)
        status = is_lazy ? hnsw_check_numbers(graph) : hnsw_check_shape(graph);
    if (status == MYR_OK && is_lazy)
        status = hnsw_guard_create(sections, &graph->guard);
    if (status == MYR_OK && is_lazy)
        status = hnsw_guard_axes(graph);
    if (status != MYR_OK)
        myr_hnsw_free(graph);
    else
        *out = graph;
    return status;
}
