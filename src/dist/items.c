/*
 * Pieces: rows of shards, a few thousand at a time, or the blocks that an index would be built from.
 */
#include "dist/items.h"

#include "base/alloc.h"
#include "base/file.h"

#include <stdlib.h>
#include <string.h>

#define A_PIECE 4096
#define PIECE_BYTES ((size_t)32 << 20)

static bool holds_index(const char *folder)
{
    char *path = myr_path_join(folder, "index.json");
    bool found = path && myr_path_exists(path);
    free(path);
    return found;
}

static myr_status open_index(const char *folder, int n_threads, myr_items *items)
{
    myr_cluster *cluster = &items->cluster;
    myr_status status = myr_cluster_open(items->comm, folder, n_threads, NULL, cluster);
    if (status != MYR_OK)
        return status;
    const myr_index_manifest *index = &cluster->manifest;
    items->dim = (size_t)index->dim;
    items->n_ids = index->n_items;
    items->metric = index->metric;
    items->classes = index->classes;
    items->n_classes = index->n_classes;
    size_t by_bytes = PIECE_BYTES / (items->dim * sizeof(float));
    items->rows = by_bytes < 1 ? 1 : by_bytes < A_PIECE ? (int64_t)by_bytes : A_PIECE;
    if (index->n_copies > 0)
        return myr_comm_agree(items->comm,
                              myr_fail(MYR_ERR_UNSUPPORTED,
                                       "%s: %lld of its items lie in two shards (--overlap) and would count twice; "
                                       "name the folder of embeddings that it was made of instead",
                                       folder, (long long)index->n_copies));
    items->first_piece = myr_alloc(index->n_shards + 1, sizeof *items->first_piece);
    if (!items->first_piece)
        status = myr_fail(MYR_ERR_NOMEM, "no memory for %zu shards", index->n_shards);
    for (size_t s = 0; s < index->n_shards && status == MYR_OK; s++) {
        items->first_piece[s + 1] = items->first_piece[s] + (index->shards[s].n_items + items->rows - 1) / items->rows;
        if (myr_hosts_keeps(&cluster->hosts, s, items->comm->rank))
            status = myr_shard_verify(&cluster->shards[s], cluster->pool);
    }
    items->n_pieces = status == MYR_OK ? items->first_piece[index->n_shards] : 0;
    return myr_comm_agree(items->comm, status);
}

static myr_status open_source(const char *const *operands, size_t n_operands, const char *metric, int n_threads,
                              myr_items *items)
{
    myr_source *source = &items->source;
    myr_status status = myr_source_open(operands, n_operands, metric, source);
    if (status == MYR_OK)
        status = myr_pool_create(n_threads, &items->pool);
    items->dim = (size_t)source->dim;
    items->n_ids = source->n_ids;
    items->n_pieces = source->n_blocks;
    items->metric = source->metric;
    items->classes = source->classes;
    items->n_classes = source->n_classes;
    return myr_comm_agree(items->comm, status);
}

myr_status myr_items_open(const myr_comm *comm, const char *index, const char *const *operands, size_t n_operands,
                          const char *metric, int n_threads, myr_items *items)
{
    *items = (myr_items){.comm = comm};
    int is_index = comm->rank == 0 && index && holds_index(index);
    MPI_Bcast(&is_index, 1, MPI_INT, 0, comm->mpi);
    items->is_index = is_index;
    myr_status status = is_index ? open_index(index, n_threads, items)
                        : index  ? open_source(&index, 1, metric, n_threads, items)
                                 : open_source(operands, n_operands, metric, n_threads, items);
    if (status != MYR_OK)
        myr_items_close(items);
    return status;
}

void myr_items_close(myr_items *items)
{
    if (items->is_index && items->cluster.comm)
        myr_cluster_close(&items->cluster);
    myr_source_close(&items->source);
    myr_pool_free(items->pool);
    free(items->first_piece);
    *items = (myr_items){0};
}

myr_pool *myr_items_pool(const myr_items *items)
{
    return items->is_index ? items->cluster.pool : items->pool;
}

static size_t shard_of(const myr_items *items, int64_t piece)
{
    size_t s = 0;
    while (piece >= items->first_piece[s + 1])
        s++;
    return s;
}

int myr_items_owner(const myr_items *items, int64_t piece)
{
    if (!items->is_index)
        return (int)(piece % items->comm->size);
    const myr_hosts *hosts = &items->cluster.hosts;
    return hosts->rank[hosts->first[shard_of(items, piece)]];
}

static myr_status make_rows(myr_rows *rows, int64_t n, size_t dim)
{
    size_t room = (size_t)n;
    *rows = (myr_rows){.n = n,
                       .vectors = myr_alloc(room, dim * sizeof *rows->vectors),
                       .id = myr_alloc(room, sizeof *rows->id),
                       .label = myr_alloc(room, sizeof *rows->label),
                       .key = myr_alloc(room, sizeof *rows->key),
                       .source = myr_alloc(room, sizeof *rows->source)};
    return rows->vectors && rows->id && rows->label && rows->key && rows->source
               ? MYR_OK
               : myr_fail(MYR_ERR_NOMEM, "no memory for %lld items", (long long)n);
}

static myr_status read_row(const myr_shard *shard, int64_t row, bool with_texts, size_t dim, int64_t i, myr_rows *rows)
{
    const char *key, *source;
    myr_status status = myr_hnsw_vector(shard->graph, (size_t)row, rows->vectors + (size_t)i * dim);
    rows->id[i] = shard->id[row];
    rows->label[i] = shard->label[row];
    if (status != MYR_OK || !with_texts)
        return status;
    status = myr_shard_item(shard, row, &rows->label[i], &key, &source);
    if (status != MYR_OK)
        return status;
    rows->key[i] = myr_strdup(key);
    rows->source[i] = myr_strdup(source);
    return rows->key[i] && rows->source[i] ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for keys");
}

static myr_status read_shard(const myr_items *items, int64_t piece, bool with_texts, myr_rows *rows)
{
    size_t s = shard_of(items, piece);
    const myr_shard *shard = &items->cluster.shards[s];
    int64_t first = (piece - items->first_piece[s]) * items->rows, left = shard->n - first;
    myr_status status = make_rows(rows, left < items->rows ? left : items->rows, items->dim);
    for (int64_t i = 0; i < rows->n && status == MYR_OK; i++)
        status = read_row(shard, first + i, with_texts, items->dim, i, rows);
    return status;
}

myr_status myr_items_read(const myr_items *items, int64_t piece, bool with_texts, myr_rows *rows)
{
    *rows = (myr_rows){0};
    myr_status status =
        items->is_index ? read_shard(items, piece, with_texts, rows) : myr_source_read(&items->source, piece, rows);
    if (status != MYR_OK)
        myr_rows_clear(rows);
    return status;
}
