/*
 * Sweeping over the items of an index, and their labels.
 *
 * A piece is a range of ids: each rank sends what its shards have of it, and rank 0 sorts. Ids are places in what was
 * indexed, so that a range is about as full as it is long; where nothing is left of one, the next begins at the next id
 * that there is.
 */
#include "dist/sweep.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "dist/exchange.h"
#include "dist/once.h"

#include <stdlib.h>
#include <string.h>

#define SAMPLE_SEED 7
#define PIECE_BYTES ((size_t)32 << 20)
#define MOST_LABELS ((int32_t)1 << 24)

static bool keeps(const myr_cluster *cluster, size_t shard)
{
    return myr_hosts_keeps(&cluster->hosts, shard, cluster->comm->rank);
}

/* Whole shards are read now. */
static myr_status verify_shards(myr_cluster *cluster)
{
    myr_status status = MYR_OK;
    for (size_t s = 0; s < cluster->manifest.n_shards && status == MYR_OK; s++)
        if (keeps(cluster, s))
            status = myr_shard_verify(&cluster->shards[s], cluster->pool);
    return myr_comm_agree(cluster->comm, status);
}

myr_status myr_sweep_start(myr_cluster *cluster, int64_t n_wanted, size_t a_piece, bool with_keys, myr_sweep *sweep)
{
    size_t by_bytes = PIECE_BYTES / ((size_t)cluster->manifest.dim * sizeof(float));
    int64_t n_items = cluster->manifest.n_items;
    a_piece = a_piece < by_bytes ? a_piece : by_bytes;
    *sweep = (myr_sweep){.cluster = cluster,
                         .share = n_wanted >= n_items ? 1 : (double)n_wanted / (double)n_items,
                         .most = a_piece > 0 ? (int64_t)a_piece : 1,
                         .with_keys = with_keys};
    return verify_shards(cluster);
}

static void drop_piece(myr_sweep *sweep)
{
    free(sweep->vectors);
    free(sweep->ids);
    free(sweep->labels);
    free(sweep->keys);
    myr_buffer_free(&sweep->texts);
    sweep->vectors = NULL;
    sweep->ids = NULL;
    sweep->labels = NULL;
    sweep->keys = NULL;
    sweep->n = 0;
}

void myr_sweep_end(myr_sweep *sweep)
{
    drop_piece(sweep);
    *sweep = (myr_sweep){0};
}

static bool is_drawn(const myr_sweep *sweep, int64_t id)
{
    return sweep->share >= 1 || (double)(myr_hash64((uint64_t)id, SAMPLE_SEED) >> 11) * 0x1p-53 < sweep->share;
}

static myr_status send_row(const myr_sweep *sweep, const myr_shard *shard, int64_t row, float *vector, myr_buffer *out)
{
    myr_status status = myr_hnsw_vector(shard->graph, (size_t)row, vector);
    myr_buffer_put_i64(out, shard->id[row]);
    myr_buffer_put_i64(out, shard->label[row]);
    if (sweep->with_keys)
        myr_buffer_put_text(out, myr_text_table_get(&shard->key, (size_t)row));
    myr_buffer_append(out, vector, (size_t)sweep->cluster->manifest.dim * sizeof *vector);
    return status;
}

/* This rank's items with ids in [first, last). */
static myr_status collect(const myr_sweep *sweep, int64_t first, int64_t last, myr_buffer *out)
{
    const myr_cluster *cluster = sweep->cluster;
    float *vector = myr_alloc((size_t)cluster->manifest.dim, sizeof *vector);
    myr_status status = vector ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for a vector");
    for (size_t s = 0; s < cluster->manifest.n_shards && status == MYR_OK; s++) {
        const myr_shard *shard = &cluster->shards[s];
        int64_t row = keeps(cluster, s) ? myr_shard_first_row(shard, first) : 0;
        for (; keeps(cluster, s) && row < shard->n && shard->id[row] < last && status == MYR_OK; row++)
            if (is_drawn(sweep, shard->id[row]))
                status = send_row(sweep, shard, row, vector, out);
    }
    free(vector);
    if (status == MYR_OK && out->failed)
        status = myr_fail(MYR_ERR_NOMEM, "no memory for a piece of the index's items");
    return status;
}

typedef struct arrival {
    int64_t id, label;
    const char *key;
    const void *vector;
} arrival;

static int by_id(const void *a, const void *b)
{
    const arrival *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* Items that lie in two shards came in twice. */
static void drop_copies(myr_buffer *list)
{
    arrival *from = (arrival *)(void *)list->data;
    size_t n = list->size / sizeof *from, n_kept = 0;
    for (size_t i = 0; i < n; i++)
        if (n_kept == 0 || from[i].id != from[n_kept - 1].id)
            from[n_kept++] = from[i];
    list->size = n_kept * sizeof *from;
}

/* Where each item that came in lies, by id. */
static myr_status sort_arrivals(const myr_sweep *sweep, myr_buffer *list)
{
    size_t row_bytes = (size_t)sweep->cluster->manifest.dim * sizeof(float);
    myr_cursor cursor = {.data = sweep->texts.data, .size = sweep->texts.size};
    while (cursor.at < cursor.size) {
        arrival one = {.id = myr_cursor_i64(&cursor), .label = myr_cursor_i64(&cursor)};
        if (sweep->with_keys)
            one.key = myr_cursor_text(&cursor);
        one.vector = myr_cursor_bytes(&cursor, row_bytes);
        if (cursor.failed)
            return myr_fail(MYR_ERR_INTERNAL, "a damaged message came in while reading items");
        myr_buffer_append(list, &one, sizeof one);
    }
    if (list->failed)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a piece of the index's items");
    if (list->size > 0)
        qsort(list->data, list->size / sizeof(arrival), sizeof(arrival), by_id);
    drop_copies(list);
    return MYR_OK;
}

static myr_status take_arrivals(myr_sweep *sweep)
{
    size_t dim = (size_t)sweep->cluster->manifest.dim;
    myr_buffer list = {0};
    myr_status status = sort_arrivals(sweep, &list);
    const arrival *from = (const arrival *)(const void *)list.data;
    sweep->n = list.size / sizeof *from;
    sweep->vectors = myr_alloc(sweep->n, dim * sizeof *sweep->vectors);
    sweep->ids = myr_alloc(sweep->n, sizeof *sweep->ids);
    sweep->labels = myr_alloc(sweep->n, sizeof *sweep->labels);
    sweep->keys = myr_alloc(sweep->n, sizeof *sweep->keys);
    if (status == MYR_OK && (!sweep->vectors || !sweep->ids || !sweep->labels || !sweep->keys))
        status = myr_fail(MYR_ERR_NOMEM, "no memory for %zu items", sweep->n);
    for (size_t i = 0; i < sweep->n && status == MYR_OK; i++) {
        memcpy(sweep->vectors + i * dim, from[i].vector, dim * sizeof *sweep->vectors);
        sweep->ids[i] = from[i].id;
        sweep->labels[i] = (int32_t)from[i].label;
        sweep->keys[i] = from[i].key;
    }
    myr_buffer_free(&list);
    return status;
}

/* One range of ids, which may hold nothing that is drawn. Collective. */
static myr_status take_range(myr_sweep *sweep, int64_t first, int64_t last)
{
    const myr_comm *comm = sweep->cluster->comm;
    myr_buffer mine = {0};
    myr_status status = myr_stop_requested ? myr_fail(MYR_ERR_STOPPED, "stopped by a signal; nothing was written")
                                           : collect(sweep, first, last, &mine);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_gather_bytes(comm, &mine, &sweep->texts);
    if (status == MYR_OK && comm->rank == 0)
        status = take_arrivals(sweep);
    myr_buffer_free(&mine);
    return myr_comm_agree(comm, status);
}

myr_status myr_sweep_next(myr_sweep *sweep)
{
    const myr_comm *comm = sweep->cluster->comm;
    double wide = (double)sweep->most / sweep->share;
    int64_t width = wide < 1e15 ? (int64_t)wide : (int64_t)1e15;
    myr_status status = MYR_OK;
    while (status == MYR_OK) {
        drop_piece(sweep);
        int64_t first = myr_cluster_next_id(sweep->cluster, sweep->next);
        if (first == INT64_MAX)
            break;
        sweep->next = first < INT64_MAX - width ? first + width : INT64_MAX;
        status = take_range(sweep, first, sweep->next);
        int64_t n = (int64_t)sweep->n;
        if (status == MYR_OK)
            MPI_Bcast(&n, 1, MPI_INT64_T, 0, comm->mpi);
        sweep->n = (size_t)n;
        if (n > 0)
            break;
    }
    return status;
}

/* ---- Labels ---- */

static myr_status look_up(const myr_cluster *cluster, const int64_t *ids, size_t n, int32_t *labels)
{
    for (size_t i = 0; i < n; i++) {
        int64_t row = -1;
        labels[i] = -1;
        for (size_t s = 0; s < cluster->manifest.n_shards && ids[i] >= 0 && row < 0; s++) {
            if (!keeps(cluster, s))
                continue;
            myr_status status = myr_shard_find(&cluster->shards[s], ids[i], &row);
            if (status != MYR_OK)
                return status;
            if (row >= 0)
                labels[i] = cluster->shards[s].label[row];
        }
    }
    return MYR_OK;
}

myr_status myr_cluster_labels(myr_cluster *cluster, const int64_t *ids, size_t n, int32_t *labels)
{
    const myr_comm *comm = cluster->comm;
    myr_buffer wanted = {0};
    int32_t *mine = myr_alloc(n, sizeof *mine);
    if (comm->rank == 0)
        myr_buffer_append(&wanted, ids, n * sizeof *ids);
    myr_status status = mine && !wanted.failed ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %zu labels", n);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = verify_shards(cluster);
    if (status == MYR_OK)
        status = myr_comm_share(comm, &wanted);
    if (status == MYR_OK)
        status = myr_comm_agree(comm, look_up(cluster, (const int64_t *)(const void *)wanted.data, n, mine));
    for (size_t at = 0; at < n && status == MYR_OK; at += (size_t)1 << 26) {
        size_t piece = n - at < (size_t)1 << 26 ? n - at : (size_t)1 << 26;
        MPI_Reduce(mine + at, labels ? labels + at : NULL, (int)piece, MPI_INT32_T, MPI_MAX, 0, comm->mpi);
    }
    myr_buffer_free(&wanted);
    free(mine);
    return status;
}

/* The greatest label of all items, -1 where none has one. Collective. */
static int32_t greatest_label(const myr_cluster *cluster)
{
    int32_t mine = -1, greatest;
    for (size_t s = 0; s < cluster->manifest.n_shards; s++)
        for (int64_t row = 0; keeps(cluster, s) && row < cluster->shards[s].n; row++)
            mine = cluster->shards[s].label[row] > mine ? cluster->shards[s].label[row] : mine;
    MPI_Allreduce(&mine, &greatest, 1, MPI_INT32_T, MPI_MAX, cluster->comm->mpi);
    return greatest;
}

/* Of all ranks, each item once. Collective. */
static void add_labels(const myr_cluster *cluster, const myr_once *once, int64_t *counts, size_t n_labels)
{
    for (size_t s = 0; s < cluster->manifest.n_shards; s++)
        for (int64_t row = 0; keeps(cluster, s) && row < cluster->shards[s].n; row++)
            if (cluster->shards[s].label[row] >= 0 && myr_once_speaks(once, s, row))
                counts[cluster->shards[s].label[row]]++;
    MPI_Allreduce(MPI_IN_PLACE, counts, (int)n_labels, MPI_INT64_T, MPI_SUM, cluster->comm->mpi);
}

myr_status myr_cluster_count_labels(myr_cluster *cluster, int64_t **counts, size_t *n_labels)
{
    myr_once once = {0};
    *counts = NULL;
    *n_labels = 0;
    myr_status status = verify_shards(cluster);
    if (status != MYR_OK)
        return status;
    int32_t greatest = greatest_label(cluster);
    if (greatest < 0)
        return MYR_OK;
    if (greatest >= MOST_LABELS)
        return myr_fail(MYR_ERR_LIMIT, "label %d is too great: labels up to %d are counted", greatest, MOST_LABELS - 1);
    *n_labels = (size_t)greatest + 1;
    *counts = myr_alloc(*n_labels, sizeof **counts);
    status = *counts ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to count %zu labels", *n_labels);
    status = myr_comm_agree(cluster->comm, status);
    if (status == MYR_OK)
        status = myr_once_find(cluster, NULL, NULL, &once);
    if (status == MYR_OK)
        add_labels(cluster, &once, *counts, *n_labels);
    myr_once_free(&once);
    if (status != MYR_OK) {
        free(*counts);
        *counts = NULL;
    }
    return status;
}
