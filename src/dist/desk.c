/*
 * The desk: sort by shard, search in groups, merge by query.
 */
#include "dist/desk.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

enum { GROUP = 16 }; /* queries that a thread searches in one shard, in turns */

/* Visits that a thread searches together. */
typedef struct group {
    uint32_t shard;
    size_t first, n; /* in order */
} group;

myr_status myr_desk_init(myr_cluster *cluster, const myr_search_options *options, myr_desk *desk)
{
    size_t n_threads = (size_t)myr_pool_n_threads(cluster->pool), n_ranks = (size_t)cluster->comm->size;
    size_t dim = (size_t)cluster->manifest.dim;
    *desk = (myr_desk){.cluster = cluster,
                       .options = options,
                       .dim = dim,
                       .n_ranks = n_ranks,
                       .counts = myr_alloc(n_ranks, sizeof *desk->counts),
                       .group_vectors = myr_alloc(n_threads * GROUP, dim * sizeof(float)),
                       .group_hits = myr_alloc(n_threads * GROUP, options->k * sizeof(myr_hit)),
                       .stats = myr_alloc(n_threads, sizeof(myr_hnsw_stats))};
    bool whole = desk->counts && desk->group_vectors && desk->group_hits && desk->stats;
    return whole ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to serve %zu ranks", n_ranks);
}

void myr_desk_fini(myr_desk *desk)
{
    myr_buffer *const buffers[] = {&desk->visits, &desk->vectors, &desk->replies,
                                   &desk->order,  &desk->groups,  &desk->found};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        myr_buffer_free(buffers[i]);
    free(desk->counts);
    free(desk->group_vectors);
    free(desk->group_hits);
    free(desk->stats);
    *desk = (myr_desk){0};
}

bool myr_reserve(myr_buffer *buffer, size_t n_bytes)
{
    if (n_bytes > buffer->capacity) {
        myr_buffer_free(buffer);
        buffer->data = malloc(n_bytes);
        buffer->capacity = buffer->data ? n_bytes : 0;
    }
    buffer->size = buffer->data ? n_bytes : 0;
    return n_bytes == 0 || buffer->data;
}

myr_status myr_desk_expect(myr_desk *self)
{
    size_t k = self->options->k;
    self->n_queries = self->n_visits = 0;
    for (size_t r = 0; r < self->n_ranks; r++) {
        self->n_queries += (size_t)self->counts[r][0];
        self->n_visits += (size_t)self->counts[r][1];
    }
    if (myr_reserve(&self->visits, self->n_visits * sizeof(myr_visit)) &&
        myr_reserve(&self->vectors, self->n_queries * self->dim * sizeof(float)) &&
        myr_reserve(&self->replies, self->n_queries * k * sizeof(myr_hit)) &&
        myr_reserve(&self->found, self->n_visits * k * sizeof(myr_hit)))
        return MYR_OK;
    return myr_fail(MYR_ERR_NOMEM, "no memory for %zu queries from other ranks", self->n_queries);
}

/* Visits of each rank count its queries from 0: afterwards all that came in are counted on. */
static void number_queries(myr_desk *self)
{
    myr_visit *visits = (myr_visit *)(void *)self->visits.data;
    size_t at = 0, n_before = 0;
    for (size_t r = 0; r < self->n_ranks; r++) {
        for (int i = 0; i < self->counts[r][1]; i++)
            visits[at++].query += (uint32_t)n_before;
        n_before += (size_t)self->counts[r][0];
    }
}

/* Visits in the order of shards, and as groups of one shard each. */
static myr_status sort_visits(myr_desk *self)
{
    size_t n_shards = self->cluster->manifest.n_shards, n = self->n_visits;
    const myr_visit *visits = (const myr_visit *)(const void *)self->visits.data;
    size_t *next = myr_alloc(n_shards + 1, sizeof *next);
    if (!next || !myr_reserve(&self->order, n * sizeof(size_t))) {
        free(next);
        return myr_fail(MYR_ERR_NOMEM, "no memory to sort %zu visits", n);
    }
    size_t *order = (size_t *)(void *)self->order.data;
    for (size_t i = 0; i < n; i++)
        next[visits[i].shard + 1]++;
    for (size_t s = 0; s < n_shards; s++)
        next[s + 1] += next[s];
    for (size_t i = 0; i < n; i++)
        order[next[visits[i].shard]++] = i;
    self->groups.size = 0;
    size_t most = self->options->exact ? n : GROUP; /* threads share an exact search */
    for (size_t s = 0, from = 0; s < n_shards; from = next[s++])
        for (size_t at = from; at < next[s]; at += most) {
            group one = {.shard = (uint32_t)s, .first = at, .n = next[s] - at < most ? next[s] - at : most};
            myr_buffer_append(&self->groups, &one, sizeof one);
        }
    free(next);
    return self->groups.failed ? myr_fail(MYR_ERR_NOMEM, "no memory for groups of visits") : MYR_OK;
}

/* Shards in large files: those that are searched much are verified first. */
static myr_status check_shards(myr_desk *self)
{
    const group *groups = (const group *)(const void *)self->groups.data;
    myr_status status = MYR_OK;
    for (size_t g = 0; g < self->groups.size / sizeof *groups && status == MYR_OK; g++)
        status = myr_shard_visited(&self->cluster->shards[groups[g].shard], groups[g].n, self->cluster->pool);
    return status;
}

static void gather_vectors(const myr_desk *self, const group *one, float *vectors)
{
    const myr_visit *visits = (const myr_visit *)(const void *)self->visits.data;
    const size_t *order = (const size_t *)(const void *)self->order.data;
    const float *from = (const float *)(const void *)self->vectors.data;
    for (size_t i = 0; i < one->n; i++)
        memcpy(vectors + i * self->dim, from + visits[order[one->first + i]].query * self->dim,
               self->dim * sizeof *vectors);
}

static void scatter_hits(const myr_desk *self, const group *one, const myr_hit *hits)
{
    const size_t *order = (const size_t *)(const void *)self->order.data;
    myr_hit *found = (myr_hit *)(void *)self->found.data;
    size_t k = self->options->k;
    for (size_t i = 0; i < one->n; i++)
        memcpy(found + order[one->first + i] * k, hits + i * k, k * sizeof *hits);
}

static myr_status search_task(void *context, size_t first, size_t last, int thread)
{
    myr_desk *self = context;
    const myr_search_options *options = self->options;
    const group *groups = (const group *)(const void *)self->groups.data;
    float *vectors = self->group_vectors + (size_t)thread * GROUP * self->dim;
    myr_hit *hits = self->group_hits + (size_t)thread * GROUP * options->k;
    myr_status status = MYR_OK;
    for (size_t g = first; g < last && status == MYR_OK && !myr_stop_requested; g++) {
        uint32_t shard = groups[g].shard;
        myr_hnsw_searcher **searcher = &self->cluster->searchers[shard][thread];
        if (!*searcher)
            status = myr_hnsw_searcher_create(self->cluster->shards[shard].graph, searcher);
        if (status != MYR_OK)
            break;
        gather_vectors(self, &groups[g], vectors);
        status =
            myr_hnsw_search_batch(*searcher, vectors, groups[g].n, options->k, options->ef, hits, &self->stats[thread]);
        if (status == MYR_OK)
            scatter_hits(self, &groups[g], hits);
    }
    return status;
}

/* Shard by shard, since the threads share each scan. */
static myr_status scan_groups(myr_desk *self)
{
    const group *groups = (const group *)(const void *)self->groups.data;
    size_t n_groups = self->groups.size / sizeof *groups, k = self->options->k;
    float *vectors = myr_alloc(self->n_queries, self->dim * sizeof *vectors); /* a query visits a shard once */
    myr_hit *hits = myr_alloc(self->n_queries, k * sizeof *hits);
    myr_status status =
        vectors && hits ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %zu exact searches", self->n_visits);
    for (size_t g = 0; g < n_groups && status == MYR_OK; g++) {
        gather_vectors(self, &groups[g], vectors);
        status = myr_hnsw_search_exact(self->cluster->shards[groups[g].shard].graph, self->cluster->pool, vectors,
                                       groups[g].n, k, hits);
        if (status == MYR_OK)
            scatter_hits(self, &groups[g], hits);
    }
    free(vectors);
    free(hits);
    return status;
}

/* A row for each query that came in. */
static void merge_found(myr_desk *self)
{
    const myr_visit *visits = (const myr_visit *)(const void *)self->visits.data;
    const myr_hit *found = (const myr_hit *)(const void *)self->found.data;
    myr_hit *rows = (myr_hit *)(void *)self->replies.data;
    size_t k = self->options->k;
    for (size_t i = 0; i < self->n_visits; i++) {
        myr_hit *row = rows + visits[i].query * k;
        if (i == 0 || visits[i].query != visits[i - 1].query)
            memcpy(row, found + i * k, k * sizeof *row);
        else
            myr_topk_merge(row, k, found + i * k, k);
    }
}

myr_status myr_desk_serve(myr_desk *self)
{
    number_queries(self);
    myr_status status = sort_visits(self);
    if (status == MYR_OK)
        status = check_shards(self);
    if (status != MYR_OK)
        return status;
    status = self->options->exact
                 ? scan_groups(self)
                 : myr_pool_for(self->cluster->pool, self->groups.size / sizeof(group), 1, search_task, self);
    if (status == MYR_OK && myr_stop_requested)
        status = myr_fail(MYR_ERR_STOPPED, "stopped by a signal");
    if (status == MYR_OK)
        merge_found(self);
    return status;
}
