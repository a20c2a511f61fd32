/*
 * The curves of recall. Some hundred items of the whole index are asked for, wherever they lie, so that the
 * measurement costs little beside the build and does not depend on the ranks.
 */
#include "dist/curve.h"

#include "base/alloc.h"
#include "base/topk.h"
#include "dist/exchange.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N_QUERIES 500.0
#define HIGH_ENOUGH 0.999

static const size_t efs[] = {12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};
enum { N_EFS = sizeof efs / sizeof *efs };

myr_status myr_curve_add(const myr_hnsw *graph, int64_t n_items, myr_pool *pool, myr_hnsw_curve *sum)
{
    myr_hnsw_curve curve;
    myr_status status =
        myr_hnsw_measure(graph, pool, N_QUERIES / (double)(n_items > 0 ? n_items : 1), efs, N_EFS, &curve);
    sum->n_queries += curve.n_queries;
    sum->n_true += curve.n_true;
    for (size_t i = 0; i < N_EFS; i++)
        sum->n_found[i] += curve.n_found[i];
    return status;
}

void myr_curve_gather(const myr_comm *comm, const myr_hnsw_curve *mine, myr_index_curve *curve)
{
    uint64_t counts[2 + N_EFS] = {mine->n_queries, mine->n_true}, all[2 + N_EFS];
    for (size_t i = 0; i < N_EFS; i++)
        counts[2 + i] = mine->n_found[i];
    MPI_Allreduce(counts, all, 2 + N_EFS, MPI_UINT64_T, MPI_SUM, comm->mpi);
    *curve = (myr_index_curve){.n_queries = (int64_t)all[0]};
    for (size_t i = 0; i < N_EFS && all[1] > 0; i++) {
        double recall = (double)all[2 + i] / (double)all[1];
        curve->points[i].ef = efs[i];
        curve->points[i].recall = recall;
        curve->n_points = i + 1;
        if (recall >= HIGH_ENOUGH)
            break;
    }
}

/* ---- the router's ---- */

/* With so many candidates a walk misses next to nothing, and a shard is asked in no time, however large. */
enum { ROUTE_QUERIES = 1000, ROUTE_K = 10, DEPTH = ROUTE_K + 1, ROUTE_EF = 512 };
#define ROUTE_BYTES ((size_t)64 << 20) /* of queries */

/* A neighbour and the shards that it lies in. */
typedef struct myr_housed_hit {
    myr_hit hit;
    uint32_t shards[MYR_ROUTER_HOMES]; /* UINT32_MAX = none */
} housed_hit;

static void clear(housed_hit *hits, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hits[i] = (housed_hit){.hit = {.id = -1, .distance = INFINITY}, .shards = {UINT32_MAX, UINT32_MAX}};
}

/* Rank 0: rows of the sample, evenly. */
static void put_queries(const myr_buffer *sample, size_t row_bytes, myr_buffer *chosen)
{
    size_t n = sample->size / row_bytes, by_bytes = ROUTE_BYTES / row_bytes;
    size_t most = by_bytes < ROUTE_QUERIES ? by_bytes : ROUTE_QUERIES, n_chosen = n < most ? n : most;
    for (size_t i = 0; i < n_chosen; i++)
        myr_buffer_append(chosen, sample->data + i * n / n_chosen * row_bytes, row_bytes);
}

myr_status myr_route_trial_begin(const myr_comm *comm, const myr_buffer *sample, size_t dim, myr_route_trial *trial)
{
    size_t row_bytes = sizeof(int64_t) + dim * sizeof(float);
    myr_buffer chosen = {0};
    if (comm->rank == 0)
        put_queries(sample, row_bytes, &chosen);
    myr_status status =
        myr_comm_agree(comm, chosen.failed ? myr_fail(MYR_ERR_NOMEM, "no memory for the router's queries") : MYR_OK);
    if (status == MYR_OK)
        status = myr_comm_share(comm, &chosen);
    if (status == MYR_OK) {
        trial->n = chosen.size / row_bytes;
        trial->queries = myr_alloc(trial->n, dim * sizeof *trial->queries);
        trial->ids = myr_alloc(trial->n, sizeof *trial->ids);
        trial->hits = myr_alloc(trial->n * DEPTH, sizeof *trial->hits);
        if (!trial->queries || !trial->ids || !trial->hits)
            status = myr_fail(MYR_ERR_NOMEM, "no memory for the router's queries");
    }
    for (size_t i = 0; status == MYR_OK && i < trial->n; i++) {
        memcpy(&trial->ids[i], chosen.data + i * row_bytes, sizeof *trial->ids);
        memcpy(trial->queries + i * dim, chosen.data + i * row_bytes + sizeof *trial->ids, dim * sizeof(float));
    }
    if (status == MYR_OK)
        clear(trial->hits, trial->n * DEPTH);
    myr_buffer_free(&chosen);
    return myr_comm_agree(comm, status);
}

/* One more shard of a neighbour. */
static void add_home(housed_hit *hit, uint32_t shard)
{
    size_t i = 0;
    while (i < MYR_ROUTER_HOMES && hit->shards[i] != UINT32_MAX && hit->shards[i] != shard)
        i++;
    if (i < MYR_ROUTER_HOMES)
        hit->shards[i] = shard;
}

/* A hit among the nearest DEPTH, which ascend; one that is there already lies in other shards, too. */
static void insert(housed_hit *hits, housed_hit new)
{
    size_t at = DEPTH - 1;
    if (new.hit.id < 0)
        return;
    for (size_t i = 0; i < DEPTH; i++)
        if (hits[i].hit.id == new.hit.id) {
            for (size_t j = 0; j < MYR_ROUTER_HOMES; j++)
                add_home(&hits[i], new.shards[j]);
            return;
        }
    if (!myr_hit_before(new.hit, hits[at].hit))
        return;
    for (; at > 0 && myr_hit_before(new.hit, hits[at - 1].hit); at--)
        hits[at] = hits[at - 1];
    hits[at] = new;
}

myr_status myr_route_trial_add(myr_route_trial *trial, const myr_hnsw *graph, size_t shard, myr_pool *pool)
{
    if (trial->n == 0)
        return MYR_OK;
    myr_hit *found = myr_alloc(trial->n * DEPTH, sizeof *found);
    myr_status status = found ? myr_hnsw_search_all(graph, pool, trial->queries, trial->n, DEPTH, ROUTE_EF, found)
                              : myr_fail(MYR_ERR_NOMEM, "no memory for the router's neighbours");
    for (size_t i = 0; status == MYR_OK && i < trial->n * DEPTH; i++)
        insert(trial->hits + i / DEPTH * DEPTH, (housed_hit){.hit = found[i], .shards = {(uint32_t)shard, UINT32_MAX}});
    free(found);
    return status;
}

/* Where the nearest of a query lie, without the query itself. */
static void list_homes(const myr_route_trial *trial, uint32_t *homes)
{
    for (size_t q = 0; q < trial->n; q++) {
        size_t n = 0;
        for (size_t i = 0; i < DEPTH && n < ROUTE_K; i++)
            if (trial->hits[q * DEPTH + i].hit.id != trial->ids[q])
                memcpy(homes + (q * ROUTE_K + n++) * MYR_ROUTER_HOMES, trial->hits[q * DEPTH + i].shards,
                       MYR_ROUTER_HOMES * sizeof *homes);
    }
}

static myr_status calibrate(const myr_route_trial *trial, const myr_buffer *all, myr_router *router, myr_pool *pool,
                            myr_route_curve *curve)
{
    uint32_t *homes = myr_alloc(trial->n * ROUTE_K, MYR_ROUTER_HOMES * sizeof *homes);
    if (!homes)
        return myr_fail(MYR_ERR_NOMEM, "no memory to calibrate the router");
    clear(trial->hits, trial->n * DEPTH);
    size_t n = all->size / sizeof(housed_hit); /* (ranks, n, DEPTH) */
    for (size_t i = 0; i < n; i++) {
        housed_hit one;
        memcpy(&one, all->data + i * sizeof one, sizeof one);
        insert(trial->hits + i / DEPTH % trial->n * DEPTH, one);
    }
    list_homes(trial, homes);
    myr_status status = myr_router_calibrate(router, trial->queries, trial->n, ROUTE_K, homes, pool, curve);
    free(homes);
    return status;
}

myr_status myr_route_trial_end(const myr_comm *comm, myr_route_trial *trial, myr_router *router, myr_pool *pool,
                               myr_route_curve *curve)
{
    myr_buffer mine = {0}, all = {0};
    *curve = (myr_route_curve){0};
    if (trial->n == 0)
        return MYR_OK;
    myr_buffer_append(&mine, trial->hits, trial->n * DEPTH * sizeof *trial->hits);
    myr_status status =
        myr_comm_agree(comm, mine.failed ? myr_fail(MYR_ERR_NOMEM, "no memory to calibrate the router") : MYR_OK);
    if (status == MYR_OK)
        status = myr_gather_bytes(comm, &mine, &all);
    if (status == MYR_OK)
        status = myr_comm_agree(comm, comm->rank == 0 ? calibrate(trial, &all, router, pool, curve) : MYR_OK);
    myr_buffer_free(&mine);
    myr_buffer_free(&all);
    return status;
}

void myr_route_trial_free(myr_route_trial *trial)
{
    free(trial->queries);
    free(trial->ids);
    free(trial->hits);
    *trial = (myr_route_trial){0};
}
