/*
 * Planning and exchange of rows.
 */
#include "dist/exchange.h"

#include "base/alloc.h"
#include "base/progress.h"

#include <stdlib.h>
#include <string.h>

#define TAG_GATHER 11

/* Assign one block's rows: clusters now, shards once the router is packed. */
static myr_status assign_block(const myr_source *source, const myr_router *router, int64_t block, int64_t first_id,
                               myr_pool *pool, myr_buffer *clusters, myr_buffer *ids)
{
    myr_rows rows;
    myr_status status = myr_source_read(source, block, &rows);
    if (status != MYR_OK)
        return status;
    uint32_t *cluster = myr_alloc((size_t)rows.n, sizeof *cluster);
    status = cluster ? myr_router_assign(router, rows.vectors, (size_t)rows.n, pool, cluster, NULL)
                     : myr_fail(MYR_ERR_NOMEM, "no memory to assign %lld rows", (long long)rows.n);
    if (status == MYR_OK) {
        myr_buffer_append(clusters, cluster, (size_t)rows.n * sizeof *cluster);
        for (int64_t i = 0; i < rows.n; i++)
            myr_buffer_put_i64(ids, rows.id[i] + first_id);
        if (clusters->failed || ids->failed)
            status = myr_fail(MYR_ERR_NOMEM, "no memory for the plan of shards");
    }
    free(cluster);
    myr_rows_clear(&rows);
    return status;
}

static myr_status pack_router(const myr_comm *comm, myr_router *router, const myr_buffer *clusters, size_t n_shards)
{
    myr_router_view view;
    myr_router_export(router, &view);
    if (view.n_clusters == 0)
        return MYR_OK; /* a hash router needs no packing */
    int64_t *counts = myr_alloc(view.n_clusters, sizeof *counts);
    myr_status status = counts ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %u clusters", view.n_clusters);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK) {
        const uint32_t *cluster = (const uint32_t *)clusters->data;
        for (size_t i = 0; i < clusters->size / sizeof *cluster; i++)
            counts[cluster[i]]++;
        MPI_Allreduce(MPI_IN_PLACE, counts, (int)view.n_clusters, MPI_INT64_T, MPI_SUM, comm->mpi);
        status = myr_comm_agree(comm, myr_router_pack(router, counts, n_shards));
    }
    free(counts);
    return status;
}

static void choose_shards(const myr_router *router, const uint32_t *clusters, const int64_t *ids, myr_shard_plan *plan)
{
    bool is_hash = myr_router_dim(router) == 0;
    for (int64_t i = 0; i < plan->n_rows; i++) {
        plan->part[i] = is_hash ? 0 : myr_router_part_of(router, clusters[i], ids[i]);
        plan->shard[i] = myr_router_shard_of(router, clusters[i], ids[i]);
        plan->shard_items[plan->shard[i]]++;
    }
}

myr_status myr_plan_shards(const myr_comm *comm, const myr_source *source, myr_router *router, size_t n_shards,
                           myr_pool *pool, myr_shard_plan *plan)
{
    myr_buffer clusters = {0}, ids = {0};
    myr_status status = MYR_OK;
    for (int64_t block = comm->rank; block < source->n_blocks && status == MYR_OK; block += comm->size)
        status = myr_stop_requested ? myr_fail(MYR_ERR_STOPPED, "stopped by a signal; run the same command again")
                                    : assign_block(source, router, block, plan->first_id, pool, &clusters, &ids);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK && myr_router_n_shards(router) == 0)
        status = pack_router(comm, router, &clusters, n_shards);
    if (status != MYR_OK)
        goto done;
    plan->n_rows = (int64_t)(ids.size / sizeof(int64_t));
    plan->part = myr_alloc((size_t)plan->n_rows, sizeof *plan->part);
    plan->shard = myr_alloc((size_t)plan->n_rows, sizeof *plan->shard);
    plan->shard_items = myr_alloc(n_shards, sizeof *plan->shard_items);
    if (!plan->part || !plan->shard || !plan->shard_items)
        status = myr_fail(MYR_ERR_NOMEM, "no memory for the plan of %lld rows", (long long)plan->n_rows);
    status = myr_comm_agree(comm, status);
    if (status != MYR_OK)
        goto done;
    choose_shards(router, (const uint32_t *)(const void *)clusters.data, (const int64_t *)(const void *)ids.data, plan);
    MPI_Allreduce(MPI_IN_PLACE, plan->shard_items, (int)n_shards, MPI_INT64_T, MPI_SUM, comm->mpi);
    MPI_Allreduce(&plan->n_rows, &plan->n_items, 1, MPI_INT64_T, MPI_SUM, comm->mpi);
done:
    myr_buffer_free(&clusters);
    myr_buffer_free(&ids);
    return status;
}

void myr_shard_plan_free(myr_shard_plan *plan)
{
    free(plan->part);
    free(plan->shard);
    free(plan->copy);
    free(plan->shard_items);
    *plan = (myr_shard_plan){0};
}

/* A rank's place in its blocks, and the messages of the round. */
typedef struct traffic {
    const myr_comm *comm;
    const myr_source *source;
    const myr_shard_plan *plan;
    int64_t block, row_in_block; /* next to send */
    int64_t sent;                /* rows sent so far: the place in the plan */
    myr_rows rows;               /* of the current block */
    bool loaded;
    myr_buffer *to; /* (size) */
    int *send_bytes, *send_at, *receive_bytes, *receive_at;
    myr_buffer sending, receiving;
    double sent_bytes; /* to other ranks */
} traffic;

/* Bytes the row adds to its message. */
static size_t put_row(traffic *way, int64_t i, uint32_t shard)
{
    const myr_rows *rows = &way->rows;
    myr_buffer *message = &way->to[shard % (uint32_t)way->comm->size];
    size_t before = message->size;
    myr_buffer_put_i64(message, shard);
    myr_buffer_put_i64(message, rows->id[i]);
    myr_buffer_put_i64(message, rows->label[i]);
    myr_buffer_put_text(message, rows->key[i]);
    myr_buffer_put_text(message, rows->source[i]);
    myr_buffer_append(message, rows->vectors + (size_t)i * (size_t)way->source->dim,
                      (size_t)way->source->dim * sizeof(float));
    return message->size - before;
}

/* Fill the messages of one round: what all ranks send together stays below myr_message_bytes. */
static myr_status fill_round(traffic *way)
{
    size_t limit = myr_message_bytes / (size_t)way->comm->size;
    for (size_t n = 0; n < limit && way->block < way->source->n_blocks;) {
        if (myr_stop_requested)
            return myr_fail(MYR_ERR_STOPPED, "stopped by a signal; run the same command again");
        if (!way->loaded) {
            myr_status status = myr_source_read(way->source, way->block, &way->rows);
            if (status != MYR_OK)
                return status;
            way->loaded = true;
            way->row_in_block = 0;
        }
        while (n < limit && way->row_in_block < way->rows.n) {
            if (way->sent >= way->plan->n_rows)
                return myr_fail(MYR_ERR_FORMAT, "an input changed while it was being indexed; run the command again");
            n += put_row(way, way->row_in_block, way->plan->shard[way->sent]);
            if (way->plan->copy && way->plan->copy[way->sent] != UINT32_MAX)
                n += put_row(way, way->row_in_block, way->plan->copy[way->sent]);
            way->row_in_block++;
            way->sent++;
        }
        if (way->row_in_block == way->rows.n) {
            myr_rows_clear(&way->rows);
            way->loaded = false;
            way->block += way->comm->size;
        }
    }
    for (int rank = 0; rank < way->comm->size; rank++)
        if (way->to[rank].failed)
            return myr_fail(MYR_ERR_NOMEM, "no memory for an exchange round");
    return MYR_OK;
}

static myr_status make_room(myr_buffer *buffer, size_t n_bytes)
{
    if (n_bytes > INT32_MAX)
        return myr_fail(MYR_ERR_LIMIT, "an exchange round is over 2 GiB: keys of %zu bytes?", n_bytes);
    if (n_bytes <= buffer->capacity) {
        buffer->size = n_bytes;
        return MYR_OK;
    }
    myr_buffer_free(buffer);
    char *data = malloc(n_bytes);
    if (!data)
        return myr_fail(MYR_ERR_NOMEM, "no memory for an exchange round of %zu bytes", n_bytes);
    *buffer = (myr_buffer){.data = data, .size = n_bytes, .capacity = n_bytes};
    return MYR_OK;
}

/* Collective: one MPI_Alltoallv. */
static myr_status trade_round(traffic *way)
{
    int size = way->comm->size;
    size_t n_send = 0, n_receive = 0;
    for (int rank = 0; rank < size; rank++) {
        way->send_at[rank] = (int)n_send;
        way->send_bytes[rank] = (int)way->to[rank].size;
        n_send += way->to[rank].size;
        way->sent_bytes += rank == way->comm->rank ? 0 : (double)way->to[rank].size;
    }
    MPI_Alltoall(way->send_bytes, 1, MPI_INT, way->receive_bytes, 1, MPI_INT, way->comm->mpi);
    for (int rank = 0; rank < size; rank++) {
        way->receive_at[rank] = (int)n_receive;
        n_receive += (size_t)way->receive_bytes[rank];
    }
    myr_status status = make_room(&way->sending, n_send);
    if (status == MYR_OK)
        status = make_room(&way->receiving, n_receive);
    status = myr_comm_agree(way->comm, status);
    if (status != MYR_OK)
        return status;
    for (int rank = 0; rank < size; rank++) {
        if (way->to[rank].size)
            memcpy(way->sending.data + way->send_at[rank], way->to[rank].data, way->to[rank].size);
        myr_buffer_clear(&way->to[rank]);
    }
    MPI_Alltoallv(way->sending.data, way->send_bytes, way->send_at, MPI_BYTE, way->receiving.data, way->receive_bytes,
                  way->receive_at, MPI_BYTE, way->comm->mpi);
    return MYR_OK;
}

/* Rows of a received round into their shards. */
static myr_status take_round(const traffic *way, size_t n_shards, myr_shard_rows *shards, float *vector)
{
    size_t vector_bytes = (size_t)way->source->dim * sizeof(float);
    myr_cursor cursor = {.data = way->receiving.data, .size = way->receiving.size};
    while (cursor.at < cursor.size) {
        int64_t shard = myr_cursor_i64(&cursor), id = myr_cursor_i64(&cursor), label = myr_cursor_i64(&cursor);
        const char *key = myr_cursor_text(&cursor), *from = myr_cursor_text(&cursor);
        const void *bytes = myr_cursor_bytes(&cursor, vector_bytes);
        if (cursor.failed || shard < 0 || (size_t)shard >= n_shards || !key || !from)
            return myr_fail(MYR_ERR_INTERNAL, "a damaged message came in while exchanging vectors");
        memcpy(vector, bytes, vector_bytes); /* the message is not aligned */
        myr_status status = myr_shard_rows_add(&shards[shard], vector, id, (int32_t)label, key, from);
        if (status != MYR_OK)
            return status;
    }
    return MYR_OK;
}

static myr_status open_traffic(traffic *way, size_t n_shards, myr_shard_rows *shards)
{
    size_t size = (size_t)way->comm->size;
    way->block = way->comm->rank;
    way->to = myr_alloc(size, sizeof *way->to);
    way->send_bytes = myr_alloc(4 * size, sizeof(int));
    if (!way->to || !way->send_bytes)
        return myr_fail(MYR_ERR_NOMEM, "no memory for an exchange among %zu ranks", size);
    way->send_at = way->send_bytes + size;
    way->receive_bytes = way->send_at + size;
    way->receive_at = way->receive_bytes + size;
    for (size_t s = (size_t)way->comm->rank; s < n_shards; s += size) {
        myr_status status = myr_shard_rows_create(&shards[s], way->plan->shard_items[s], way->source->dim);
        if (status != MYR_OK)
            return status;
    }
    return MYR_OK;
}

static void close_traffic(traffic *way)
{
    for (int rank = 0; way->to && rank < way->comm->size; rank++)
        myr_buffer_free(&way->to[rank]);
    myr_rows_clear(&way->rows);
    myr_buffer_free(&way->sending);
    myr_buffer_free(&way->receiving);
    free(way->to);
    free(way->send_bytes);
}

myr_status myr_exchange_rows(const myr_comm *comm, const myr_source *source, const myr_shard_plan *plan,
                             size_t n_shards, bool progress, myr_shard_rows *shards, double *sent_bytes)
{
    traffic way = {.comm = comm, .source = source, .plan = plan};
    myr_progress line;
    float *vector = myr_alloc((size_t)source->dim, sizeof *vector);
    myr_status status =
        vector ? open_traffic(&way, n_shards, shards) : myr_fail(MYR_ERR_NOMEM, "no memory for a vector");
    status = myr_comm_agree(comm, status);
    myr_progress_start(&line, "exchanging", "vectors of this rank", plan->n_rows, 0, progress);
    for (bool more = true; more && status == MYR_OK;) {
        int mine, any;
        status = myr_comm_agree(comm, fill_round(&way));
        if (status == MYR_OK)
            status = trade_round(&way);
        if (status != MYR_OK)
            break;
        status = myr_comm_agree(comm, take_round(&way, n_shards, shards, vector));
        myr_progress_update(&line, way.sent);
        mine = way.block < source->n_blocks;
        MPI_Allreduce(&mine, &any, 1, MPI_INT, MPI_MAX, comm->mpi);
        more = any;
    }
    if (status == MYR_OK)
        myr_progress_finish(&line, way.sent);
    for (size_t s = (size_t)comm->rank; s < n_shards && status == MYR_OK; s += (size_t)comm->size)
        if (shards[s].n != plan->shard_items[s])
            status = myr_fail(MYR_ERR_FORMAT, "an input changed while it was being indexed; run the command again");
    status = myr_comm_agree(comm, status);
    if (sent_bytes)
        *sent_bytes += way.sent_bytes;
    close_traffic(&way);
    free(vector);
    return status;
}

/* Rank 0's part of a gather: the bytes of the others, rank by rank, behind its own. */
static void receive_all(const myr_comm *comm, const uint64_t *n_bytes, char *room)
{
    for (int rank = 1; rank < comm->size; rank++) {
        for (uint64_t at = 0; at < n_bytes[rank]; at += myr_message_bytes) {
            uint64_t piece = n_bytes[rank] - at < myr_message_bytes ? n_bytes[rank] - at : myr_message_bytes;
            MPI_Recv(room + at, (int)piece, MPI_BYTE, rank, TAG_GATHER, comm->mpi, MPI_STATUS_IGNORE);
        }
        room += n_bytes[rank];
    }
}

/* Lengths first; nobody sends before rank 0 has the memory. */
myr_status myr_gather_bytes(const myr_comm *comm, const myr_buffer *mine, myr_buffer *all)
{
    bool is_root = comm->rank == 0;
    uint64_t n_mine = mine->size, total = 0, *n_bytes = myr_alloc(is_root ? (size_t)comm->size : 0, sizeof *n_bytes);
    myr_status status =
        myr_comm_agree(comm, n_bytes ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to gather from the ranks"));
    if (status != MYR_OK)
        goto done;
    MPI_Gather(&n_mine, 1, MPI_UINT64_T, n_bytes, 1, MPI_UINT64_T, 0, comm->mpi);
    if (is_root) {
        for (int rank = 0; rank < comm->size; rank++)
            total += n_bytes[rank];
        myr_buffer_free(all);
        char *room = malloc(total + 1);
        if (room) {
            *all = (myr_buffer){.data = room, .size = total, .capacity = total + 1};
            room[total] = 0;
            if (n_mine > 0)
                memcpy(room, mine->data, n_mine);
        } else {
            status =
                myr_fail(MYR_ERR_NOMEM, "no memory to gather %llu bytes from the ranks", (unsigned long long)total);
        }
    }
    status = myr_comm_agree(comm, status);
    if (status != MYR_OK)
        goto done;
    if (is_root)
        receive_all(comm, n_bytes, all->data + n_mine);
    for (uint64_t at = 0; at < n_mine && !is_root; at += myr_message_bytes) {
        uint64_t piece = n_mine - at < myr_message_bytes ? n_mine - at : myr_message_bytes;
        MPI_Send(mine->data + at, (int)piece, MPI_BYTE, 0, TAG_GATHER, comm->mpi);
    }
done:
    free(n_bytes);
    return status;
}

static int by_id(const void *a, const void *b)
{
    int64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

size_t myr_sort_by_id(myr_buffer *rows, size_t row_bytes)
{
    size_t n = rows->size / row_bytes, n_kept = 0;
    if (n > 0)
        qsort(rows->data, n, row_bytes, by_id);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || by_id(rows->data + i * row_bytes, rows->data + (n_kept - 1) * row_bytes) != 0)
            memmove(rows->data + n_kept++ * row_bytes, rows->data + i * row_bytes, row_bytes);
    rows->size = n_kept * row_bytes;
    return n_kept;
}
