/*
 * Who speaks for an item. In windows of ids, each rank notes the least weight and shard that it knows of every id; the
 * least of all ranks names one shard, whose row it is. So only the items of a window are exchanged, whatever is where.
 */
#include "dist/once.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

enum {
    WINDOW = 1 << 19, /* ids */
    A_BATCH = 4096    /* rows that are weighed together */
};

typedef struct window {
    int64_t first, last; /* ids [first, last) */
    uint64_t *least;     /* (WINDOW) weight << 32 | shard */
    uint32_t weights[A_BATCH];
} window;

/* What this rank's shards say of the ids of the window. */
static myr_status note_rows(const myr_cluster *cluster, myr_once_weigh weigh, void *context, window *ids)
{
    myr_status status = MYR_OK;
    memset(ids->weights, 0, sizeof ids->weights);
    for (size_t s = 0; s < cluster->manifest.n_shards && status == MYR_OK; s++) {
        const myr_shard *shard = &cluster->shards[s];
        if (!myr_hosts_keeps(&cluster->hosts, s, cluster->comm->rank))
            continue;
        int64_t end = myr_shard_first_row(shard, ids->last);
        for (int64_t row = myr_shard_first_row(shard, ids->first); row < end && status == MYR_OK; row += A_BATCH) {
            int64_t last = end - row < A_BATCH ? end : row + A_BATCH;
            status = weigh ? weigh(context, s, row, last, ids->weights) : MYR_OK;
            for (int64_t i = row; i < last; i++) {
                uint64_t *least = &ids->least[shard->id[i] - ids->first];
                uint64_t mine = (uint64_t)ids->weights[i - row] << 32 | s;
                *least = mine < *least ? mine : *least;
            }
        }
    }
    return status;
}

static void mark_rows(const myr_cluster *cluster, const window *ids, myr_once *once)
{
    for (size_t s = 0; s < once->n_shards; s++) {
        const myr_shard *shard = &cluster->shards[s];
        int64_t row = once->speaks[s] ? myr_shard_first_row(shard, ids->first) : shard->n;
        for (; row < shard->n && shard->id[row] < ids->last; row++)
            once->speaks[s][row] = (uint32_t)ids->least[shard->id[row] - ids->first] == s;
    }
}

/* What is open and was verified can be asked about. */
static myr_status make_room(const myr_cluster *cluster, myr_once *once)
{
    once->n_shards = cluster->manifest.n_shards;
    once->speaks = myr_alloc(once->n_shards, sizeof *once->speaks);
    bool fine = once->speaks;
    for (size_t s = 0; fine && s < once->n_shards; s++)
        if (cluster->shards[s].graph && !cluster->shards[s].is_guarded)
            fine = (once->speaks[s] = myr_alloc((size_t)cluster->shards[s].n, sizeof **once->speaks)) != NULL;
    return fine ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to tell the items of %zu shards apart", once->n_shards);
}

myr_status myr_once_find(const myr_cluster *cluster, myr_once_weigh weigh, void *context, myr_once *once)
{
    const myr_comm *comm = cluster->comm;
    *once = (myr_once){0};
    if (cluster->manifest.n_copies == 0)
        return MYR_OK;
    window *ids = myr_alloc(1, sizeof *ids);
    uint64_t *least = myr_alloc(WINDOW, sizeof *least);
    myr_status status =
        ids && least ? make_room(cluster, once) : myr_fail(MYR_ERR_NOMEM, "no memory for a window of ids");
    status = myr_comm_agree(comm, status);
    for (int64_t next = 0; status == MYR_OK;) {
        int64_t first = myr_cluster_next_id(cluster, next);
        if (first == INT64_MAX)
            break;
        next = first < INT64_MAX - WINDOW ? first + WINDOW : INT64_MAX;
        ids->first = first;
        ids->last = next;
        ids->least = least;
        memset(least, 0xff, WINDOW * sizeof *least);
        status = myr_stop_requested ? myr_fail(MYR_ERR_STOPPED, "stopped by a signal; nothing was written")
                                    : note_rows(cluster, weigh, context, ids);
        status = myr_comm_agree(comm, status);
        if (status != MYR_OK)
            break;
        MPI_Allreduce(MPI_IN_PLACE, least, WINDOW, MPI_UINT64_T, MPI_MIN, comm->mpi);
        mark_rows(cluster, ids, once);
    }
    free(least);
    free(ids);
    return status;
}

void myr_once_free(myr_once *once)
{
    for (size_t s = 0; once->speaks && s < once->n_shards; s++)
        free(once->speaks[s]);
    free(once->speaks);
    *once = (myr_once){0};
}
