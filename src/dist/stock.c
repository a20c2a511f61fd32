/*
 * Blocks of what is in store.
 *
 * An index has its items in shards, each ascending by id. Its blocks are ranges of 8,192 ids: in every shard the range
 * is found by bisection, and what the shards have of it is put in order. An id that several shards hold comes out once.
 */
#include "dist/stock.h"

#include "base/alloc.h"
#include "base/file.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_IDS 8192

static myr_status no_memory(void)
{
    return myr_fail(MYR_ERR_NOMEM, "no memory for a block of vectors");
}

/* ---- an index ---- */

static myr_status id_at(const myr_shard *shard, int64_t row, int64_t *id)
{
    myr_status status = myr_sections_touch(shard->file, shard->id + row, sizeof *shard->id);
    *id = status == MYR_OK ? shard->id[row] : -1;
    return status;
}

/* The first row whose id is not below this one. */
static myr_status first_row(const myr_shard *shard, int64_t id, int64_t *row)
{
    int64_t low = 0, high = shard->n, found;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        myr_status status = id_at(shard, middle, &found);
        if (status != MYR_OK)
            return status;
        if (found < id)
            low = middle + 1;
        else
            high = middle;
    }
    *row = low;
    return MYR_OK;
}

static myr_status open_index(const char *folder, myr_stock *stock)
{
    myr_index_manifest *index = &stock->index;
    myr_status status = myr_index_manifest_read(folder, index);
    if (status != MYR_OK)
        return status;
    stock->is_index = true;
    stock->dim = index->dim;
    stock->metric = index->metric;
    stock->classes = index->classes;
    stock->n_classes = index->n_classes;
    stock->shards = myr_alloc(index->n_shards, sizeof *stock->shards);
    if (!stock->shards)
        return no_memory();
    int64_t n_ids = 0;
    for (size_t s = 0; s < index->n_shards && status == MYR_OK; s++) {
        myr_hnsw_facts facts;
        myr_shard *shard = &stock->shards[s];
        char *path = myr_path_join(folder, index->shards[s].file);
        int64_t last = -1;
        status = path ? myr_shard_open(path, &index->shards[s].checksum, shard) : no_memory();
        if (status == MYR_OK) {
            myr_hnsw_describe(shard->graph, &facts);
            if (shard->n > 0 && facts.dim != (size_t)index->dim)
                status = myr_fail(MYR_ERR_FORMAT, "%s: vectors of %zu values, the index has %d", path, facts.dim,
                                  index->dim);
        }
        if (status == MYR_OK && shard->n > 0)
            status = id_at(shard, shard->n - 1, &last);
        n_ids = last + 1 > n_ids ? last + 1 : n_ids;
        free(path);
    }
    stock->n_blocks = (n_ids + BLOCK_IDS - 1) / BLOCK_IDS;
    return status;
}

/* Where an item of a block lies. */
typedef struct spot {
    int64_t id, row;
    size_t shard;
} spot;

static int by_id(const void *a, const void *b)
{
    const spot *x = a, *y = b;
    return x->id != y->id ? (x->id > y->id) - (x->id < y->id) : (x->shard > y->shard) - (x->shard < y->shard);
}

static myr_status add_spots(const myr_shard *shard, size_t place, int64_t block, spot **spots, size_t *n)
{
    int64_t begin, end, low = block * BLOCK_IDS, high = low + BLOCK_IDS;
    myr_status status = first_row(shard, low, &begin);
    if (status == MYR_OK)
        status = first_row(shard, high, &end);
    if (status != MYR_OK || begin >= end)
        return status;
    if (end - begin > BLOCK_IDS)
        return myr_fail(MYR_ERR_FORMAT, "shard %zu: its ids do not ascend; build the index again", place);
    if (!myr_resize(spots, *n, *n + (size_t)(end - begin), sizeof **spots))
        return no_memory();
    for (int64_t row = begin; row < end && status == MYR_OK; row++) {
        spot *at = &(*spots)[(*n)++];
        *at = (spot){.row = row, .shard = place};
        status = id_at(shard, row, &at->id);
        if (status == MYR_OK && (at->id < low || at->id >= high))
            status = myr_fail(MYR_ERR_FORMAT, "shard %zu: its ids do not ascend; build the index again", place);
    }
    return status;
}

/* The items of a block in order. [owned by caller] */
static myr_status find_spots(const myr_stock *stock, int64_t block, spot **spots, size_t *n)
{
    myr_status status = MYR_OK;
    size_t n_all = 0;
    *spots = NULL;
    for (size_t s = 0; s < stock->index.n_shards && status == MYR_OK; s++)
        status = add_spots(&stock->shards[s], s, block, spots, &n_all);
    *n = 0;
    if (status != MYR_OK || n_all == 0)
        return status;
    qsort(*spots, n_all, sizeof **spots, by_id);
    for (size_t i = 0; i < n_all; i++)
        if (i == 0 || (*spots)[i].id != (*spots)[i - 1].id)
            (*spots)[(*n)++] = (*spots)[i];
    return MYR_OK;
}

static myr_status fill_row(const myr_stock *stock, const spot *at, int64_t i, myr_rows *rows)
{
    const char *key, *source;
    const myr_shard *shard = &stock->shards[at->shard];
    myr_status status = myr_hnsw_vector(shard->graph, (size_t)at->row, rows->vectors + (size_t)i * (size_t)stock->dim);
    if (status == MYR_OK)
        status = myr_shard_item(shard, at->row, &rows->label[i], &key, &source);
    if (status != MYR_OK)
        return status;
    rows->id[i] = at->id;
    rows->key[i] = myr_strdup(key);
    rows->source[i] = myr_strdup(source);
    return rows->key[i] && rows->source[i] ? MYR_OK : no_memory();
}

static myr_status read_index(const myr_stock *stock, int64_t block, myr_rows *rows)
{
    spot *spots = NULL;
    size_t n, n_values;
    *rows = (myr_rows){0};
    myr_status status = find_spots(stock, block, &spots, &n);
    if (status == MYR_OK) {
        if (myr_mul(n, (size_t)stock->dim, &n_values))
            rows->vectors = myr_alloc(n_values, sizeof(float));
        rows->id = myr_alloc(n, sizeof *rows->id);
        rows->label = myr_alloc(n, sizeof *rows->label);
        rows->key = myr_alloc(n, sizeof *rows->key);
        rows->source = myr_alloc(n, sizeof *rows->source);
        rows->n = (int64_t)n;
        if (!rows->vectors || !rows->id || !rows->label || !rows->key || !rows->source)
            status = no_memory();
    }
    for (int64_t i = 0; i < rows->n && status == MYR_OK; i++)
        status = fill_row(stock, &spots[i], i, rows);
    free(spots);
    if (status != MYR_OK)
        myr_rows_clear(rows);
    return status;
}

/* ---- either ---- */

/* f16 where every folder is. */
static myr_status read_storage(const char *const *operands, size_t n_operands, myr_storage *storage)
{
    bool all_half = n_operands > 0;
    myr_status status = MYR_OK;
    for (size_t i = 0; i < n_operands && all_half && status == MYR_OK; i++) {
        myr_manifest manifest;
        all_half = myr_path_is_folder(operands[i]);
        char *path = all_half ? myr_path_join(operands[i], "manifest.json") : NULL;
        if (!all_half)
            break;
        status = path ? myr_manifest_read(path, &manifest) : no_memory();
        free(path);
        if (status == MYR_OK) {
            all_half = strcmp(manifest.storage, "f16") == 0;
            myr_manifest_clear(&manifest);
        }
    }
    *storage = all_half ? MYR_STORAGE_F16 : MYR_STORAGE_F32;
    return status;
}

static bool is_index(const char *operand)
{
    char *path = myr_path_join(operand, "index.json");
    bool there = path && myr_path_exists(path);
    free(path);
    return there;
}

myr_status myr_stock_open(const char *const *operands, size_t n_operands, const char *metric, myr_stock *stock)
{
    *stock = (myr_stock){0};
    myr_status status = MYR_OK;
    for (size_t i = 0; i < n_operands && n_operands > 1 && status == MYR_OK; i++)
        if (is_index(operands[i]))
            status = myr_fail(MYR_ERR_ARG, "%s: an index must be the only input", operands[i]);
    if (status == MYR_OK && n_operands == 1 && is_index(operands[0])) {
        status = open_index(operands[0], stock);
    } else if (status == MYR_OK) {
        status = myr_source_open(operands, n_operands, metric, &stock->source);
        if (status == MYR_OK)
            status = read_storage(operands, n_operands, &stock->storage);
        stock->n_blocks = stock->source.n_blocks;
        stock->dim = stock->source.dim;
        stock->metric = stock->source.metric;
        stock->classes = stock->source.classes;
        stock->n_classes = stock->source.n_classes;
    }
    if (status != MYR_OK)
        myr_stock_close(stock);
    return status;
}

void myr_stock_close(myr_stock *stock)
{
    for (size_t s = 0; stock->shards && s < stock->index.n_shards; s++)
        myr_shard_close(&stock->shards[s]);
    free(stock->shards);
    myr_index_manifest_clear(&stock->index);
    myr_source_close(&stock->source);
    *stock = (myr_stock){0};
}

myr_status myr_stock_count(const myr_stock *stock, int64_t block, int64_t *n)
{
    if (!stock->is_index)
        return myr_source_count(&stock->source, block, n);
    spot *spots;
    size_t n_spots;
    myr_status status = find_spots(stock, block, &spots, &n_spots);
    *n = (int64_t)n_spots;
    free(spots);
    return status;
}

myr_status myr_stock_read(const myr_stock *stock, int64_t block, myr_rows *rows)
{
    return stock->is_index ? read_index(stock, block, rows) : myr_source_read(&stock->source, block, rows);
}
