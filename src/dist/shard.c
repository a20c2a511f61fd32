/*
 * Rows gathered for a shard, and the shard's file.
 *
 * File layout: the sections of the graph (hnsw_...); "id" i64 (n), ascending; "label" i32 (n);
 * text tables "key" and "source"; number "shard_version".
 */
#include "dist/shard.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

#define SHARD_VERSION 1

enum { VISIT_BYTES = 1 << 17 }; /* a visit to a guarded shard costs as much more as checking so many bytes */

myr_status myr_shard_rows_create(myr_shard_rows *rows, int64_t capacity, int dim)
{
    size_t n = (size_t)capacity, n_values;
    *rows = (myr_shard_rows){.capacity = capacity, .dim = dim};
    if (myr_mul(n, (size_t)dim, &n_values))
        rows->vectors = myr_alloc_huge(n_values, sizeof(float));
    rows->id = myr_alloc(n, sizeof *rows->id);
    rows->label = myr_alloc(n, sizeof *rows->label);
    rows->key = myr_alloc(n, sizeof *rows->key);
    rows->source = myr_alloc(n, sizeof *rows->source);
    if (rows->vectors && rows->id && rows->label && rows->key && rows->source)
        return MYR_OK;
    myr_shard_rows_free(rows);
    return myr_fail(MYR_ERR_NOMEM, "no memory for a shard of %zu vectors; use more ranks or more shards", n);
}

void myr_shard_rows_free(myr_shard_rows *rows)
{
    for (int64_t i = 0; i < rows->n; i++) {
        free(rows->key[i]);
        free(rows->source[i]);
    }
    free(rows->vectors);
    free(rows->id);
    free(rows->label);
    free(rows->key);
    free(rows->source);
    *rows = (myr_shard_rows){0};
}

myr_status myr_shard_rows_add(myr_shard_rows *rows, const float *vector, int64_t id, int32_t label, const char *key,
                              const char *source)
{
    if (rows->n == rows->capacity)
        return myr_fail(MYR_ERR_INTERNAL, "a shard received more than its %lld vectors", (long long)rows->capacity);
    char *key_copy = myr_strdup(key), *source_copy = myr_strdup(source);
    if (!key_copy || !source_copy) {
        free(key_copy);
        free(source_copy);
        return myr_fail(MYR_ERR_NOMEM, "no memory for the keys of a shard");
    }
    size_t dim = (size_t)rows->dim;
    if (dim > 0)
        memcpy(rows->vectors + (size_t)rows->n * dim, vector, dim * sizeof *vector);
    rows->id[rows->n] = id;
    rows->label[rows->n] = label;
    rows->key[rows->n] = key_copy;
    rows->source[rows->n++] = source_copy;
    return MYR_OK;
}

typedef struct rank_of_row {
    int64_t id, row;
} rank_of_row;

static int by_id(const void *a, const void *b)
{
    const rank_of_row *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* A row kept aside. */
typedef struct spare_row {
    float *vector;
    int64_t id;
    int32_t label;
    char *key, *source;
} spare_row;

static void move_row(myr_shard_rows *rows, int64_t from, int64_t to)
{
    size_t dim = (size_t)rows->dim;
    memcpy(rows->vectors + (size_t)to * dim, rows->vectors + (size_t)from * dim, dim * sizeof(float));
    rows->id[to] = rows->id[from];
    rows->label[to] = rows->label[from];
    rows->key[to] = rows->key[from];
    rows->source[to] = rows->source[from];
}

/* Follow each cycle of the permutation once: one spare row is all the memory it takes. */
static void permute(myr_shard_rows *rows, rank_of_row *order, spare_row *spare)
{
    size_t dim = (size_t)rows->dim;
    for (int64_t start = 0; start < rows->n; start++) {
        if (order[start].row == start)
            continue;
        memcpy(spare->vector, rows->vectors + (size_t)start * dim, dim * sizeof(float));
        *spare = (spare_row){.vector = spare->vector,
                             .id = rows->id[start],
                             .label = rows->label[start],
                             .key = rows->key[start],
                             .source = rows->source[start]};
        int64_t at = start;
        while (order[at].row != start) {
            int64_t from = order[at].row;
            move_row(rows, from, at);
            order[at].row = at;
            at = from;
        }
        order[at].row = at;
        memcpy(rows->vectors + (size_t)at * dim, spare->vector, dim * sizeof(float));
        rows->id[at] = spare->id;
        rows->label[at] = spare->label;
        rows->key[at] = spare->key;
        rows->source[at] = spare->source;
    }
}

myr_status myr_shard_rows_sort(myr_shard_rows *rows)
{
    rank_of_row *order = myr_alloc((size_t)rows->n, sizeof *order);
    spare_row spare = {.vector = myr_alloc((size_t)rows->dim, sizeof(float))};
    myr_status status = order && spare.vector ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to sort a shard");
    for (int64_t i = 0; i < rows->n && status == MYR_OK; i++)
        order[i] = (rank_of_row){.id = rows->id[i], .row = i};
    if (status == MYR_OK) {
        qsort(order, (size_t)rows->n, sizeof *order, by_id);
        permute(rows, order, &spare);
    }
    for (int64_t i = 1; i < rows->n && status == MYR_OK; i++)
        if (rows->id[i] == rows->id[i - 1])
            status = myr_fail(MYR_ERR_FORMAT, "item %lld is in the inputs twice ('%s' and '%s')",
                              (long long)rows->id[i], rows->key[i - 1], rows->key[i]);
    free(order);
    free(spare.vector);
    return status;
}

myr_status myr_shard_write(const char *path, const myr_hnsw *graph, const myr_shard_rows *rows)
{
    myr_sections_writer *writer;
    size_t n = (size_t)rows->n;
    myr_status status = myr_sections_create(path, &writer);
    if (status != MYR_OK)
        return status;
    status = myr_sections_set_i64(writer, "shard_version", SHARD_VERSION);
    if (status == MYR_OK)
        status = myr_hnsw_save(graph, writer);
    if (status == MYR_OK)
        status = myr_sections_add(writer, "id", MYR_SECTION_I64, 1, &n, rows->id);
    if (status == MYR_OK)
        status = myr_sections_add(writer, "label", MYR_SECTION_I32, 1, &n, rows->label);
    if (status == MYR_OK)
        status = myr_text_table_add(writer, "key", (const char *const *)rows->key, n);
    if (status == MYR_OK)
        status = myr_text_table_add(writer, "source", (const char *const *)rows->source, n);
    if (status != MYR_OK) {
        myr_sections_abandon(writer);
        return status;
    }
    return myr_sections_commit(writer);
}

static myr_status unfit(const char *path)
{
    return myr_fail(MYR_ERR_FORMAT, "%s: ids, labels, keys and graph do not fit together; build the index again", path);
}

static bool ids_ascend(const myr_shard *shard)
{
    for (int64_t i = 0; i < shard->n; i++)
        if (shard->id[i] < 0 || (i > 0 && shard->id[i] <= shard->id[i - 1]))
            return false;
    return true;
}

static myr_status check_shard(const char *path, const myr_shard *shard, size_t n_labels)
{
    myr_hnsw_facts facts;
    myr_hnsw_describe(shard->graph, &facts);
    bool fits =
        (size_t)shard->n == facts.n && n_labels == facts.n && shard->key.n == facts.n && shard->source.n == facts.n;
    return fits && (shard->is_guarded || ids_ascend(shard)) ? MYR_OK : unfit(path);
}

static myr_status open_sections(const char *path, const uint64_t *checksum, myr_shard *shard)
{
    int64_t version = 0;
    size_t n_ids, n_labels;
    myr_status status = myr_sections_open(path, checksum, &shard->file);
    if (status == MYR_OK)
        status = myr_sections_get_i64(shard->file, "shard_version", &version);
    if (status == MYR_OK && version != SHARD_VERSION)
        status = myr_fail(MYR_ERR_UNSUPPORTED, "%s: shard version %lld; this Myriops reads version %d", path,
                          (long long)version, SHARD_VERSION);
    shard->is_guarded = status == MYR_OK && myr_sections_is_lazy(shard->file);
    if (status == MYR_OK)
        status = myr_hnsw_open(shard->file, &shard->graph);
    if (status == MYR_OK)
        status = myr_sections_get(shard->file, "id", MYR_SECTION_I64, 1, &n_ids, (const void **)&shard->id);
    if (status == MYR_OK)
        status = myr_sections_get(shard->file, "label", MYR_SECTION_I32, 1, &n_labels, (const void **)&shard->label);
    if (status == MYR_OK)
        status = myr_text_table_open(shard->file, "key", &shard->key);
    if (status == MYR_OK)
        status = myr_text_table_open(shard->file, "source", &shard->source);
    if (status == MYR_OK)
        shard->n = (int64_t)n_ids;
    if (status == MYR_OK)
        status = check_shard(path, shard, n_labels);
    return status;
}

myr_status myr_shard_open(const char *path, const uint64_t *checksum, myr_shard *shard)
{
    *shard = (myr_shard){0};
    myr_status status = open_sections(path, checksum, shard);
    if (status != MYR_OK)
        myr_shard_close(shard);
    return status;
}

void myr_shard_close(myr_shard *shard)
{
    myr_hnsw_free(shard->graph);
    myr_sections_close(shard->file);
    *shard = (myr_shard){0};
}

myr_status myr_shard_verify(myr_shard *shard, myr_pool *pool)
{
    if (!shard->is_guarded)
        return MYR_OK;
    myr_status status = myr_hnsw_verify(shard->graph, pool);
    if (status == MYR_OK)
        status = myr_text_table_check(&shard->key);
    if (status == MYR_OK)
        status = myr_text_table_check(&shard->source);
    if (status == MYR_OK && !ids_ascend(shard))
        status = unfit("a shard");
    shard->is_guarded = status != MYR_OK;
    return status;
}

myr_status myr_shard_visited(myr_shard *shard, uint64_t n_visits, myr_pool *pool)
{
    size_t n_bytes;
    if (!shard->is_guarded)
        return MYR_OK;
    myr_sections_bytes(shard->file, &n_bytes);
    shard->n_visits += n_visits;
    return shard->n_visits > n_bytes / VISIT_BYTES ? myr_shard_verify(shard, pool) : MYR_OK;
}

myr_status myr_shard_find(const myr_shard *shard, int64_t id, int64_t *row)
{
    int64_t low = 0, high = shard->n;
    myr_status status = MYR_OK;
    while (low < high && status == MYR_OK) {
        int64_t middle = low + (high - low) / 2;
        status = myr_sections_touch(shard->file, shard->id + middle, sizeof *shard->id);
        if (status == MYR_OK && shard->id[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    bool is_there = status == MYR_OK && low < shard->n;
    if (is_there)
        status = myr_sections_touch(shard->file, shard->id + low, sizeof *shard->id);
    *row = is_there && status == MYR_OK && shard->id[low] == id ? low : -1;
    return status;
}

int64_t myr_shard_first_row(const myr_shard *shard, int64_t id)
{
    int64_t low = 0, high = shard->n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (shard->id[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

myr_status myr_shard_item(const myr_shard *shard, int64_t row, int32_t *label, const char **key, const char **source)
{
    myr_status status = myr_sections_touch(shard->file, shard->label + row, sizeof *shard->label);
    if (status == MYR_OK)
        status = myr_text_table_look(&shard->key, (size_t)row, key);
    if (status == MYR_OK)
        status = myr_text_table_look(&shard->source, (size_t)row, source);
    if (status == MYR_OK)
        *label = shard->label[row];
    return status;
}
