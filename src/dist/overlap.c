/*
 * Choosing copies. Every row is asked for the shard in which a copy of it is of most use, and of how much
 * (myr_router_second). A bound for each shard then decides: by bisection over the 64 bits of nearness, with the counts
 * of all ranks added up, the least one that leaves the shard within its limit, and above all of them the least common
 * one that leaves as many copies as are wanted. So nothing but counts is exchanged, and ranks leave no trace.
 */
#include "dist/overlap.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

#define ROOM 1.05
#define COUNT_BYTES ((size_t)16 << 20) /* of counts that are added up at once */

typedef struct hunt {
    const myr_comm *comm;
    const myr_source *source;
    const myr_router *router;
    size_t n_shards;
    myr_pool *pool;
    myr_shard_plan *plan;
    uint32_t *second;   /* (n_rows) */
    uint64_t *nearness; /* (n_rows) */
    uint64_t *bound;    /* (n_shards) */
    uint64_t *trial;    /* (n_shards) */
    int64_t *counts;    /* (n_shards) */
    int64_t *room;      /* (n_shards) */
} hunt;

static myr_status open_hunt(hunt *all)
{
    size_t n_rows = (size_t)all->plan->n_rows;
    all->plan->copy = myr_alloc(n_rows, sizeof *all->plan->copy);
    all->second = myr_alloc(n_rows, sizeof *all->second);
    all->nearness = myr_alloc(n_rows, sizeof *all->nearness);
    all->bound = myr_alloc(all->n_shards, sizeof *all->bound);
    all->trial = myr_alloc(all->n_shards, sizeof *all->trial);
    all->counts = myr_alloc(all->n_shards, sizeof *all->counts);
    all->room = myr_alloc(all->n_shards, sizeof *all->room);
    bool whole =
        all->plan->copy && all->second && all->nearness && all->bound && all->trial && all->counts && all->room;
    return whole ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for the second shards of %zu rows", n_rows);
}

static void close_hunt(hunt *all)
{
    free(all->second);
    free(all->nearness);
    free(all->bound);
    free(all->trial);
    free(all->counts);
    free(all->room);
}

static myr_status ask_block(hunt *all, int64_t block, int64_t *at)
{
    myr_rows rows;
    myr_status status = myr_stop_requested
                            ? myr_fail(MYR_ERR_STOPPED, "stopped by a signal; run the same command again")
                            : myr_source_read(all->source, block, &rows);
    if (status != MYR_OK)
        return status;
    if (rows.n > all->plan->n_rows - *at)
        status = myr_fail(MYR_ERR_FORMAT, "an input changed while it was being indexed; run the command again");
    for (int64_t i = 0; i < rows.n; i++)
        rows.id[i] += all->plan->first_id;
    if (status == MYR_OK)
        status = myr_router_second(all->router, rows.vectors, rows.id, (size_t)rows.n, all->plan->shard + *at,
                                   all->pool, all->second + *at, all->nearness + *at);
    *at += rows.n;
    myr_rows_clear(&rows);
    return status;
}

/* Collective. */
static myr_status ask_rows(hunt *all)
{
    myr_status status = open_hunt(all);
    int64_t at = 0;
    for (int64_t block = all->comm->rank; block < all->source->n_blocks && status == MYR_OK; block += all->comm->size)
        status = ask_block(all, block, &at);
    if (status == MYR_OK && at != all->plan->n_rows)
        status = myr_fail(MYR_ERR_FORMAT, "an input changed while it was being indexed; run the command again");
    return myr_comm_agree(all->comm, status);
}

/* Copies of each shard were these the bounds, of all ranks. Collective. */
static void count_nearer(hunt *all, const uint64_t *bound)
{
    memset(all->counts, 0, all->n_shards * sizeof *all->counts);
    for (int64_t i = 0; i < all->plan->n_rows; i++)
        if (all->second[i] != UINT32_MAX && all->nearness[i] > bound[all->second[i]])
            all->counts[all->second[i]]++;
    MPI_Allreduce(MPI_IN_PLACE, all->counts, (int)all->n_shards, MPI_INT64_T, MPI_SUM, all->comm->mpi);
}

/* The least bounds that leave every shard room. Collective. */
static void fit_shards(hunt *all)
{
    memset(all->bound, 0, all->n_shards * sizeof *all->bound);
    for (int bit = 63; bit >= 0; bit--) {
        for (size_t s = 0; s < all->n_shards; s++)
            all->trial[s] = all->bound[s] | ((UINT64_C(1) << bit) - 1);
        count_nearer(all, all->trial);
        for (size_t s = 0; s < all->n_shards; s++)
            if (all->counts[s] > all->room[s])
                all->bound[s] |= UINT64_C(1) << bit;
    }
}

/* Raised together until there are no more copies than wanted. Collective. */
static void fit_whole(hunt *all, int64_t n_wanted)
{
    uint64_t least = 0;
    for (int bit = 63; bit >= 0; bit--) {
        uint64_t trial = least | ((UINT64_C(1) << bit) - 1);
        int64_t n = 0;
        for (size_t s = 0; s < all->n_shards; s++)
            all->trial[s] = all->bound[s] > trial ? all->bound[s] : trial;
        count_nearer(all, all->trial);
        for (size_t s = 0; s < all->n_shards; s++)
            n += all->counts[s];
        if (n > n_wanted)
            least |= UINT64_C(1) << bit;
    }
    for (size_t s = 0; s < all->n_shards; s++)
        all->bound[s] = all->bound[s] > least ? all->bound[s] : least;
}

/* Collective. */
static void make_copies(hunt *all, const uint64_t *bound)
{
    myr_shard_plan *plan = all->plan;
    for (int64_t i = 0; i < plan->n_rows; i++) {
        uint32_t second = all->second[i];
        plan->copy[i] = second != UINT32_MAX && all->nearness[i] > bound[second] ? second : UINT32_MAX;
    }
    count_nearer(all, bound);
    for (size_t s = 0; s < all->n_shards; s++)
        plan->shard_items[s] += all->counts[s];
}

/* The parts [first, last) of the router: (last - first, n_shards) counts of all ranks, on rank 0. Collective. */
static void count_parts(const hunt *all, uint32_t first, uint32_t last, int64_t *counts)
{
    const myr_shard_plan *plan = all->plan;
    size_t n = (size_t)(last - first) * all->n_shards;
    memset(counts, 0, n * sizeof *counts);
    for (int64_t i = 0; i < plan->n_rows; i++)
        if (plan->copy[i] != UINT32_MAX && plan->part[i] >= first && plan->part[i] < last)
            counts[(plan->part[i] - first) * all->n_shards + plan->copy[i]]++;
    MPI_Reduce(all->comm->rank == 0 ? MPI_IN_PLACE : counts, counts, (int)n, MPI_INT64_T, MPI_SUM, 0, all->comm->mpi);
}

/* What rank 0 gives its router. */
typedef struct tally {
    myr_buffer first, shard, items;
} tally;

static void list_counts(const int64_t *counts, uint32_t n_parts, size_t n_shards, tally *lists)
{
    for (size_t i = 0; i < (size_t)n_parts * n_shards; i++) {
        uint32_t shard = (uint32_t)(i % n_shards), end;
        if (counts[i] > 0) {
            myr_buffer_append(&lists->shard, &shard, sizeof shard);
            myr_buffer_append(&lists->items, &counts[i], sizeof *counts);
        }
        end = (uint32_t)(lists->shard.size / sizeof shard);
        if (shard == n_shards - 1)
            myr_buffer_append(&lists->first, &end, sizeof end);
    }
}

/* Collective. */
static myr_status tell_router(const hunt *all, myr_router *router)
{
    myr_router_view view;
    myr_router_export(router, &view);
    size_t a_row = all->n_shards * sizeof(int64_t), n_rows = COUNT_BYTES > a_row ? COUNT_BYTES / a_row : 1;
    int64_t *counts = myr_alloc(n_rows, a_row);
    tally lists = {0};
    myr_status status = myr_comm_agree(
        all->comm, counts ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to count copies of %zu shards", all->n_shards));
    uint32_t zero = 0;
    myr_buffer_append(&lists.first, &zero, sizeof zero);
    for (uint32_t first = 0; first < view.n_parts && status == MYR_OK;) {
        uint32_t last = view.n_parts - first < n_rows ? view.n_parts : first + (uint32_t)n_rows;
        count_parts(all, first, last, counts);
        if (all->comm->rank == 0)
            list_counts(counts, last - first, all->n_shards, &lists);
        first = last;
    }
    if (status == MYR_OK && (lists.first.failed || lists.shard.failed || lists.items.failed))
        status = myr_fail(MYR_ERR_NOMEM, "no memory to count copies of %zu shards", all->n_shards);
    if (status == MYR_OK && all->comm->rank == 0)
        status = myr_router_overlap(router, all->bound, (uint32_t)(lists.shard.size / sizeof(uint32_t)),
                                    (const uint32_t *)(const void *)lists.first.data,
                                    (const uint32_t *)(const void *)lists.shard.data,
                                    (const int64_t *)(const void *)lists.items.data);
    myr_buffer_free(&lists.first);
    myr_buffer_free(&lists.shard);
    myr_buffer_free(&lists.items);
    free(counts);
    return myr_comm_agree(all->comm, status);
}

myr_status myr_overlap_choose(const myr_comm *comm, const myr_source *source, myr_router *router, size_t n_shards,
                              double share, myr_pool *pool, myr_shard_plan *plan)
{
    hunt all = {.comm = comm, .source = source, .router = router, .n_shards = n_shards, .pool = pool, .plan = plan};
    myr_status status = ask_rows(&all);
    if (status == MYR_OK) {
        int64_t n_wanted = (int64_t)(share * (double)plan->n_items);
        int64_t limit = (int64_t)(ROOM * ((double)plan->n_items + (double)n_wanted) / (double)n_shards);
        for (size_t s = 0; s < n_shards; s++)
            all.room[s] = limit > plan->shard_items[s] ? limit - plan->shard_items[s] : 0;
        fit_shards(&all);
        fit_whole(&all, n_wanted);
        make_copies(&all, all.bound);
        status = tell_router(&all, router);
    }
    close_hunt(&all);
    return status;
}

myr_status myr_overlap_follow(const myr_comm *comm, const myr_source *source, const myr_router *router, size_t n_shards,
                              myr_pool *pool, myr_shard_plan *plan)
{
    hunt all = {.comm = comm, .source = source, .router = router, .n_shards = n_shards, .pool = pool, .plan = plan};
    myr_router_view view;
    myr_router_export(router, &view);
    if (!view.copy_bound)
        return MYR_OK;
    myr_status status = ask_rows(&all);
    if (status == MYR_OK)
        make_copies(&all, view.copy_bound);
    close_hunt(&all);
    return status;
}
