/*
 * Counts are changed by entries (part, shard, items): of the part itself where the shard is its own, of its copies
 * else. Each rank adds up those of its rows, rank 0 those of the ranks. What goes is found by its vector, as it came;
 * where a vector was rounded in between it may have another cluster now, so no count falls below 0.
 */
#include "dist/recalibrate.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <stdlib.h>
#include <string.h>

#define TRIAL_SEED 13
#define TRIAL_ITEMS 1500.0 /* about; the trial takes 1,000 of them */

enum { BLOCK = 1024 };

typedef struct entry {
    uint32_t part, shard;
    int64_t n_items;
} entry;

bool myr_router_is_calibrated(const myr_router *router)
{
    return myr_router_dim(router) > 0 && myr_router_n_shards(router) > 1;
}

bool myr_trial_takes(int64_t id, int64_t n_items)
{
    double place = (double)(myr_hash64((uint64_t)id, TRIAL_SEED) >> 11) * 0x1p-53;
    return place * (double)n_items < TRIAL_ITEMS;
}

myr_status myr_trial_put(const myr_hnsw *graph, int64_t row, int64_t id, myr_buffer *sample)
{
    myr_hnsw_facts facts;
    myr_hnsw_describe(graph, &facts);
    float *vector = myr_alloc(facts.dim, sizeof *vector);
    myr_status status = vector ? myr_hnsw_vector(graph, (size_t)row, vector)
                               : myr_fail(MYR_ERR_NOMEM, "no memory for the router's queries");
    if (status == MYR_OK) {
        myr_buffer_put_i64(sample, id);
        myr_buffer_append(sample, vector, facts.dim * sizeof *vector);
    }
    free(vector);
    return status == MYR_OK && sample->failed ? myr_fail(MYR_ERR_NOMEM, "no memory for the router's queries") : status;
}

myr_status myr_trial_put_row(const myr_shard_rows *rows, int64_t row, myr_buffer *sample)
{
    myr_buffer_put_i64(sample, rows->id[row]);
    myr_buffer_append(sample, rows->vectors + (size_t)row * (size_t)rows->dim, (size_t)rows->dim * sizeof(float));
    return sample->failed ? myr_fail(MYR_ERR_NOMEM, "no memory for the router's queries") : MYR_OK;
}

static int by_place(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->part != y->part)
        return x->part < y->part ? -1 : 1;
    return (x->shard > y->shard) - (x->shard < y->shard);
}

/* Entries of one place become one. */
static void add_up(myr_buffer *entries)
{
    entry *all = (entry *)(void *)entries->data;
    size_t n = entries->size / sizeof *all, n_kept = 0;
    if (n > 0)
        qsort(all, n, sizeof *all, by_place);
    for (size_t i = 0; i < n; i++) {
        if (n_kept > 0 && by_place(&all[i], &all[n_kept - 1]) == 0)
            all[n_kept - 1].n_items += all[i].n_items;
        else
            all[n_kept++] = all[i];
    }
    entries->size = n_kept * sizeof *all;
}

static void note(myr_recount *recount, uint32_t part, uint32_t shard, int64_t n_items)
{
    entry one = {.part = part, .shard = shard, .n_items = n_items};
    myr_buffer_append(&recount->entries, &one, sizeof one);
}

static myr_status finish(myr_recount *recount)
{
    if (recount->entries.failed)
        return myr_fail(MYR_ERR_NOMEM, "no memory to count what changes");
    add_up(&recount->entries);
    return MYR_OK;
}

myr_status myr_recount_plan(myr_recount *recount, const myr_router *router, const myr_shard_plan *plan)
{
    if (!myr_router_is_calibrated(router))
        return MYR_OK;
    for (int64_t i = 0; i < plan->n_rows; i++) {
        note(recount, plan->part[i], plan->shard[i], 1);
        if (plan->copy && plan->copy[i] != UINT32_MAX)
            note(recount, plan->part[i], plan->copy[i], 1);
    }
    return finish(recount);
}

/* The marked rows among the next ones, at most BLOCK; returns how many, and moves *row behind them. */
static myr_status gather_block(const myr_shard *shard, const bool *marks, size_t dim, int64_t *row, float *vectors,
                               int64_t *ids, size_t *n)
{
    myr_status status = MYR_OK;
    for (*n = 0; *row < shard->n && *n < BLOCK && status == MYR_OK; ++*row) {
        if (!marks[*row])
            continue;
        ids[*n] = shard->id[*row];
        status = myr_hnsw_vector(shard->graph, (size_t)*row, vectors + (*n)++ * dim);
    }
    return status;
}

myr_status myr_recount_gone(myr_recount *recount, const myr_router *router, const myr_shard *shard, size_t shard_number,
                            const bool *marks, myr_pool *pool)
{
    size_t dim = myr_router_dim(router), n;
    if (!myr_router_is_calibrated(router))
        return MYR_OK;
    float *vectors = myr_alloc(BLOCK, dim * sizeof *vectors);
    int64_t ids[BLOCK];
    uint32_t cluster[BLOCK];
    myr_status status = vectors ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to count what goes");
    for (int64_t row = 0; row < shard->n && status == MYR_OK;) {
        status = gather_block(shard, marks, dim, &row, vectors, ids, &n);
        if (status == MYR_OK)
            status = myr_router_assign(router, vectors, n, pool, cluster, NULL);
        for (size_t i = 0; i < n && status == MYR_OK; i++)
            note(recount, myr_router_part_of(router, cluster[i], ids[i]), (uint32_t)shard_number, -1);
    }
    free(vectors);
    return status == MYR_OK ? finish(recount) : status;
}

/* ---- the router with other counts ---- */

/* A router's arrays that change. */
typedef struct counts {
    int64_t *part_items;     /* (n_parts) */
    myr_buffer first;        /* u32 (n_parts + 1) */
    myr_buffer shard, items; /* u32, i64 (n_copies) */
} counts;

static int64_t no_less_than_none(int64_t n)
{
    return n > 0 ? n : 0;
}

static void put_copy(counts *made, uint32_t shard, int64_t n_items)
{
    if (n_items <= 0)
        return;
    myr_buffer_append(&made->shard, &shard, sizeof shard);
    myr_buffer_append(&made->items, &n_items, sizeof n_items);
}

/* Part p's copies that were, and those of the entries [at, end): both rise by shard. */
static void merge_part(const myr_router_view *view, uint32_t p, const entry *at, const entry *end, counts *made)
{
    uint32_t i = view->copy_bound ? view->copy_first[p] : 0, last = view->copy_bound ? view->copy_first[p + 1] : 0;
    made->part_items[p] = view->part_items[p];
    while (at < end || i < last) {
        if (at < end && at->shard == view->part_shard[p]) {
            made->part_items[p] = no_less_than_none(view->part_items[p] + at->n_items);
            at++;
        } else if (i < last && (at == end || view->copy_shard[i] < at->shard)) {
            put_copy(made, view->copy_shard[i], view->copy_items[i]);
            i++;
        } else {
            bool is_same = i < last && view->copy_shard[i] == at->shard;
            put_copy(made, at->shard, at->n_items + (is_same ? view->copy_items[i] : 0));
            i += is_same;
            at++;
        }
    }
}

static myr_status replace(const myr_buffer *entries, myr_router **router)
{
    myr_router_view view;
    myr_router *made = NULL;
    myr_router_export(*router, &view);
    const entry *at = (const entry *)(const void *)entries->data, *end = at + entries->size / sizeof *at;
    counts new = {.part_items = myr_alloc(view.n_parts, sizeof *new.part_items)};
    myr_status status = new.part_items ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %u parts", view.n_parts);
    for (uint32_t p = 0, n_copies = 0; p < view.n_parts && status == MYR_OK; p++) {
        const entry *from = at;
        while (at < end && at->part == p)
            at++;
        myr_buffer_append(&new.first, &n_copies, sizeof n_copies);
        merge_part(&view, p, from, at, &new);
        n_copies = (uint32_t)(new.shard.size / sizeof n_copies);
        if (p + 1 == view.n_parts)
            myr_buffer_append(&new.first, &n_copies, sizeof n_copies);
    }
    if (status == MYR_OK && (new.first.failed || new.shard.failed || new.items.failed))
        status = myr_fail(MYR_ERR_NOMEM, "no memory to count what changes");
    if (status == MYR_OK) {
        view.part_items = new.part_items;
        if (view.copy_bound) {
            view.n_copies = (uint32_t)(new.shard.size / sizeof(uint32_t));
            view.copy_first = (const uint32_t *)(const void *)new.first.data;
            view.copy_shard = (const uint32_t *)(const void *)new.shard.data;
            view.copy_items = (const int64_t *)(const void *)new.items.data;
        }
        status = myr_router_import(&view, &made);
    }
    if (status == MYR_OK) {
        myr_router_free(*router);
        *router = made;
    }
    free(new.part_items);
    myr_buffer_free(&new.first);
    myr_buffer_free(&new.shard);
    myr_buffer_free(&new.items);
    return status;
}

myr_status myr_recount_apply(const myr_comm *comm, const myr_recount *recount, myr_router **router)
{
    myr_buffer all = {0};
    myr_status status = myr_gather_bytes(comm, &recount->entries, &all);
    if (status == MYR_OK && comm->rank == 0) {
        add_up(&all);
        status = replace(&all, router);
    }
    myr_buffer_free(&all);
    return myr_comm_agree(comm, status);
}
