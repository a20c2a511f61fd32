/*
 * The desk: sort by shard, search in groups, merge by query.
 */
#include "dist/desk.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

enum { GROUP = 16 }; /* most queries that a thread searches in one shard, in turns */

/* Where a visit stands. */
typedef struct place {
    uint32_t job, visit;
} place;

/* Visits that a thread searches together. */
typedef struct group {
    uint32_t shard;
    size_t first, n; /* in order */
} group;

myr_status myr_desk_init(myr_cluster *cluster, const myr_search_options *options, myr_desk *desk)
{
    size_t n_threads = (size_t)myr_pool_n_threads(cluster->pool), dim = (size_t)cluster->manifest.dim;
    *desk = (myr_desk){.cluster = cluster,
                       .options = options,
                       .dim = dim,
                       .group_vectors = myr_alloc(n_threads * GROUP, dim * sizeof(float)),
                       .group_hits = myr_alloc(n_threads * GROUP, options->k * sizeof(myr_hit)),
                       .stats = myr_alloc(n_threads, sizeof(myr_hnsw_stats))};
    bool whole = desk->group_vectors && desk->group_hits && desk->stats;
    return whole ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to serve queries with %zu threads", n_threads);
}

void myr_desk_fini(myr_desk *desk)
{
    myr_buffer *const buffers[] = {&desk->next, &desk->order, &desk->first, &desk->groups, &desk->found};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        myr_buffer_free(buffers[i]);
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

/* Room for what the jobs bring. */
static myr_status clear_desk(myr_desk *self, const myr_job *jobs, size_t n_jobs)
{
    self->jobs = jobs;
    self->n_jobs = n_jobs;
    self->n_visits = 0;
    for (size_t j = 0; j < n_jobs; j++)
        self->n_visits += jobs[j].n_visits;
    if (!myr_reserve(&self->next, (self->cluster->manifest.n_shards + 1) * sizeof(size_t)) ||
        !myr_reserve(&self->first, n_jobs * sizeof(size_t)) ||
        !myr_reserve(&self->order, self->n_visits * sizeof(place)) ||
        !myr_reserve(&self->found, self->n_visits * self->options->k * sizeof(myr_hit)))
        return myr_fail(MYR_ERR_NOMEM, "no memory for %zu visits to shards", self->n_visits);
    size_t *first = (size_t *)(void *)self->first.data, before = 0;
    for (size_t j = 0; j < n_jobs; before += jobs[j++].n_visits)
        first[j] = before;
    return MYR_OK;
}

/* Visits in the order of shards, and as groups of one shard each. */
static myr_status sort_visits(myr_desk *self)
{
    size_t n_shards = self->cluster->manifest.n_shards;
    size_t *next = (size_t *)(void *)self->next.data;
    place *order = (place *)(void *)self->order.data;
    memset(next, 0, (n_shards + 1) * sizeof *next);
    for (size_t j = 0; j < self->n_jobs; j++)
        for (size_t i = 0; i < self->jobs[j].n_visits; i++)
            next[self->jobs[j].visits[i].shard + 1]++;
    for (size_t s = 0; s < n_shards; s++)
        next[s + 1] += next[s];
    for (size_t j = 0; j < self->n_jobs; j++)
        for (size_t i = 0; i < self->jobs[j].n_visits; i++)
            order[next[self->jobs[j].visits[i].shard]++] = (place){.job = (uint32_t)j, .visit = (uint32_t)i};
    self->groups.size = 0;
    size_t n_threads = (size_t)myr_pool_n_threads(self->cluster->pool), a_thread = self->n_visits / n_threads;
    size_t most = a_thread < 1 ? 1 : a_thread < GROUP ? a_thread : GROUP; /* so that no thread is idle */
    if (self->options->exact)
        most = self->n_visits; /* threads share an exact search */
    for (size_t s = 0, from = 0; s < n_shards; from = next[s++])
        for (size_t at = from; at < next[s]; at += most) {
            group one = {.shard = (uint32_t)s, .first = at, .n = next[s] - at < most ? next[s] - at : most};
            myr_buffer_append(&self->groups, &one, sizeof one);
        }
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
    const place *order = (const place *)(const void *)self->order.data + one->first;
    for (size_t i = 0; i < one->n; i++) {
        const myr_job *job = &self->jobs[order[i].job];
        size_t query = job->visits[order[i].visit].query, row = job->places ? job->places[query] : query;
        memcpy(vectors + i * self->dim, job->vectors + row * self->dim, self->dim * sizeof *vectors);
    }
}

static void scatter_hits(const myr_desk *self, const group *one, const myr_hit *hits)
{
    const place *order = (const place *)(const void *)self->order.data + one->first;
    const size_t *first = (const size_t *)(const void *)self->first.data;
    myr_hit *found = (myr_hit *)(void *)self->found.data;
    size_t k = self->options->k;
    for (size_t i = 0; i < one->n; i++)
        memcpy(found + (first[order[i].job] + order[i].visit) * k, hits + i * k, k * sizeof *hits);
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
        if (thread == 0)
            self->between(self->context);
    }
    return status;
}

static size_t most_of_a_shard(const myr_desk *self)
{
    const group *groups = (const group *)(const void *)self->groups.data;
    size_t most = 0;
    for (size_t g = 0; g < self->groups.size / sizeof *groups; g++)
        most = groups[g].n > most ? groups[g].n : most;
    return most;
}

/* Shard by shard, since the threads share each scan. */
static myr_status scan_groups(myr_desk *self)
{
    const group *groups = (const group *)(const void *)self->groups.data;
    size_t n_groups = self->groups.size / sizeof *groups, k = self->options->k;
    size_t n = most_of_a_shard(self);
    float *vectors = myr_alloc(n, self->dim * sizeof *vectors);
    myr_hit *hits = myr_alloc(n, k * sizeof *hits);
    myr_status status =
        vectors && hits ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %zu exact searches", self->n_visits);
    for (size_t g = 0; g < n_groups && status == MYR_OK && !myr_stop_requested; g++) {
        gather_vectors(self, &groups[g], vectors);
        self->between(self->context);
        status = myr_hnsw_search_exact(self->cluster->shards[groups[g].shard].graph, self->cluster->pool, vectors,
                                       groups[g].n, k, hits);
        if (status == MYR_OK)
            scatter_hits(self, &groups[g], hits);
    }
    free(vectors);
    free(hits);
    return status;
}

/* A row for each query. */
static void merge_found(const myr_desk *self)
{
    const myr_hit *found = (const myr_hit *)(const void *)self->found.data;
    size_t k = self->options->k;
    for (size_t j = 0; j < self->n_jobs; j++) {
        const myr_job *job = &self->jobs[j];
        for (size_t i = 0; i < job->n_visits; i++, found += k) {
            myr_hit *row = job->rows + job->visits[i].query * k;
            if (i == 0 || job->visits[i].query != job->visits[i - 1].query)
                memcpy(row, found, k * sizeof *row);
            else
                myr_topk_merge(row, k, found, k);
        }
    }
}

myr_status myr_desk_serve(myr_desk *self, const myr_job *jobs, size_t n_jobs)
{
    myr_status status = clear_desk(self, jobs, n_jobs);
    if (status == MYR_OK)
        status = sort_visits(self);
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
