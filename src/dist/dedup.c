/*
 * Near duplicates.
 *
 *   1. rounds     each rank sends some items of the shards it keeps to the hosts of the shards that can hold near ones
 *   2. pairs      a host asks its graphs for all within the distance, and links what it finds in a forest of its own
 *   3. groups     forests, which have fewer links than items, are linked on rank 0 (groups.c)
 *
 * Of items with the same vector only the first is asked with, and found: the others are linked to it beforehand. Where
 * shards overlap, one row speaks for its item (once.h): a copy of another vector wherever it is seen to be one, else
 * the row that lies where the router would look for it.
 */
#include "dist/dedup.h"

#include "base/alloc.h"
#include "base/progress.h"
#include "base/rng.h"
#include "dist/forest.h"
#include "dist/groups.h"
#include "dist/once.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { ROUTED = 256 };         /* items whose shards are looked up together */
#define ALL ((size_t)1 << 40)  /* an ef that makes a search within a distance look at every vector */
#define LEAST_COSINE 1e-6f     /* rounding of a cosine */
#define HALF_ROUNDING 0x1p-11f /* of a value in 16 bits */
#define SAMPLE_SEED 13

/* A question to one shard. */
typedef struct visit {
    uint32_t shard;
    uint32_t query; /* among those of the round */
} visit;

typedef struct job {
    myr_cluster *cluster;
    const myr_dedup_options *options;
    size_t dim, n_ranks;
    float threshold, radius, rounding; /* radius: Euclidean, for the router */
    double sampled;                    /* share of the items */
    myr_forest forest;
    pthread_mutex_t lock; /* of the forest and the counts below it */
    int64_t n_pairs_true, n_pairs_found;

    myr_once once;
    size_t shard; /* the next item to send: */
    int64_t row;
    int64_t n_asked, n_copies, n_visits;

    float *vectors; /* (ROUTED, dim) looked up, not sent yet: */
    uint32_t *clusters;
    int64_t *ids;
    uint8_t *reached; /* (ROUTED, n_shards) */
    size_t n_routed, at;

    myr_buffer *to; /* (n_ranks) */
    int *sizes, *places, *other_sizes, *other_places;
    myr_buffer sending, receiving;

    size_t n_queries; /* of a round, that came in */
    myr_buffer query_ids, query_vectors, visits;
} job;

static bool keeps(const job *work, size_t shard)
{
    return myr_hosts_keeps(&work->cluster->hosts, shard, work->cluster->comm->rank);
}

/* ---- What to ask ---- */

/* Of rows of a shard of this rank: 0 is a copy, 1 lies where the router would put it, 2 elsewhere. At most ROUTED rows
 * at a time. */
static myr_status weigh_batch(job *work, size_t s, int64_t from, int64_t n, uint32_t *weights)
{
    const myr_cluster *cluster = work->cluster;
    const myr_shard *shard = &cluster->shards[s];
    myr_status status = MYR_OK;
    for (int64_t i = 0; i < n && status == MYR_OK; i++) {
        size_t row = (size_t)(from + i), first = row;
        status = myr_hnsw_first_equal(shard->graph, row, &first);
        weights[i] = first != row ? 0 : 2;
        if (status == MYR_OK)
            status = myr_hnsw_vector(shard->graph, row, work->vectors + (size_t)i * work->dim);
    }
    if (status == MYR_OK)
        status = myr_router_assign(cluster->router, work->vectors, (size_t)n, cluster->pool, work->clusters, NULL);
    for (int64_t i = 0; i < n && status == MYR_OK; i++)
        if (weights[i] > 0 && myr_router_shard_of(cluster->router, work->clusters[i], shard->id[from + i]) == s)
            weights[i] = 1;
    return status;
}

static myr_status weigh(void *context, size_t shard, int64_t first, int64_t last, uint32_t *weights)
{
    myr_status status = MYR_OK;
    for (int64_t row = first; row < last && status == MYR_OK; row += ROUTED)
        status = weigh_batch(context, shard, row, last - row < ROUTED ? last - row : ROUTED, weights + (row - first));
    return status;
}

/* The next items of this rank's shards that are the first of their vector; the others are linked to it. */
static myr_status read_items(job *work)
{
    const myr_cluster *cluster = work->cluster;
    myr_status status = MYR_OK;
    work->n_routed = work->at = 0;
    while (work->n_routed < ROUTED && work->shard < cluster->manifest.n_shards && status == MYR_OK) {
        const myr_shard *shard = &cluster->shards[work->shard];
        size_t first;
        if (!keeps(work, work->shard) || work->row >= shard->n) {
            work->shard++;
            work->row = 0;
            continue;
        }
        size_t row = (size_t)work->row++;
        bool speaks = myr_once_speaks(&work->once, work->shard, (int64_t)row);
        status = myr_hnsw_first_equal(shard->graph, row, &first);
        if (status == MYR_OK && first != row) {
            work->n_copies += speaks;
            status = myr_forest_link(&work->forest, shard->id[first], shard->id[row]);
        } else if (status == MYR_OK && speaks) {
            work->ids[work->n_routed] = shard->id[row];
            status = myr_hnsw_vector(shard->graph, row, work->vectors + work->n_routed++ * work->dim);
        }
    }
    return status == MYR_OK ? myr_router_reach(cluster->router, work->vectors, work->n_routed, work->radius,
                                               work->rounding, cluster->pool, work->reached)
                            : status;
}

/* The host that is asked; several take turns. */
static int host_of(const job *work, size_t shard, int64_t id)
{
    const myr_hosts *hosts = &work->cluster->hosts;
    return hosts->rank[hosts->first[shard] + (size_t)id % myr_hosts_count(hosts, shard)];
}

/* Bytes that an item adds to the messages of a round: for each rank its id, its shards there, their number, its vector.
 */
static size_t put_item(job *work, size_t i)
{
    const uint8_t *reached = work->reached + i * work->cluster->manifest.n_shards;
    size_t before = 0, after = 0;
    for (size_t rank = 0; rank < work->n_ranks; rank++) {
        myr_buffer *to = &work->to[rank];
        int64_t n = 0;
        before += to->size;
        for (size_t s = 0; s < work->cluster->manifest.n_shards; s++)
            n += reached[s] && host_of(work, s, work->ids[i]) == (int)rank;
        if (n > 0) {
            myr_buffer_put_i64(to, work->ids[i]);
            myr_buffer_put_i64(to, n);
            for (size_t s = 0; s < work->cluster->manifest.n_shards; s++)
                if (reached[s] && host_of(work, s, work->ids[i]) == (int)rank)
                    myr_buffer_put_i64(to, (int64_t)s);
            myr_buffer_append(to, work->vectors + i * work->dim, work->dim * sizeof *work->vectors);
        }
        work->n_visits += n;
        after += to->size;
    }
    work->n_asked++;
    return after - before;
}

/* The messages of a round: what all ranks send together stays below myr_message_bytes, but for one item of each. */
static myr_status fill_round(job *work)
{
    size_t limit = myr_message_bytes / 4 / work->n_ranks;
    for (size_t n = 0; n < limit;) {
        if (work->at == work->n_routed) {
            myr_status status = read_items(work);
            if (status != MYR_OK || work->n_routed == 0)
                return status;
        }
        n += put_item(work, work->at++);
    }
    return MYR_OK;
}

static myr_status check_messages(const job *work)
{
    if (myr_stop_requested)
        return myr_fail(MYR_ERR_STOPPED, "stopped by a signal; nothing was written");
    for (size_t rank = 0; rank < work->n_ranks; rank++)
        if (work->to[rank].failed)
            return myr_fail(MYR_ERR_NOMEM, "no memory for a round of items");
    return MYR_OK;
}

static myr_status make_room(myr_buffer *buffer, size_t n_bytes)
{
    if (n_bytes > INT32_MAX)
        return myr_fail(MYR_ERR_LIMIT, "a round of items is over 2 GiB: vectors are too long for so many ranks");
    myr_buffer_clear(buffer);
    if (n_bytes <= buffer->capacity)
        return MYR_OK;
    myr_buffer_free(buffer);
    buffer->data = malloc(n_bytes);
    buffer->capacity = buffer->data ? n_bytes : 0;
    return buffer->data ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for a round of %zu bytes", n_bytes);
}

/* Collective: one MPI_Alltoallv. */
static myr_status trade_round(job *work)
{
    const myr_comm *comm = work->cluster->comm;
    size_t n_send = 0, n_receive = 0;
    for (size_t rank = 0; rank < work->n_ranks; rank++) {
        work->places[rank] = (int)n_send;
        work->sizes[rank] = (int)work->to[rank].size;
        n_send += work->to[rank].size;
    }
    MPI_Alltoall(work->sizes, 1, MPI_INT, work->other_sizes, 1, MPI_INT, comm->mpi);
    for (size_t rank = 0; rank < work->n_ranks; rank++) {
        work->other_places[rank] = (int)n_receive;
        n_receive += (size_t)work->other_sizes[rank];
    }
    myr_status status = make_room(&work->sending, n_send);
    if (status == MYR_OK)
        status = make_room(&work->receiving, n_receive);
    status = myr_comm_agree(comm, status);
    if (status != MYR_OK)
        return status;
    for (size_t rank = 0; rank < work->n_ranks; rank++) {
        myr_buffer_append(&work->sending, work->to[rank].data, work->to[rank].size);
        myr_buffer_clear(&work->to[rank]);
    }
    MPI_Alltoallv(work->sending.data, work->sizes, work->places, MPI_BYTE, work->receiving.data, work->other_sizes,
                  work->other_places, MPI_BYTE, comm->mpi);
    work->receiving.size = n_receive;
    return MYR_OK;
}

/* ---- Answers ---- */

static int by_shard(const void *a, const void *b)
{
    const visit *x = a, *y = b;
    return x->shard != y->shard ? (x->shard > y->shard) - (x->shard < y->shard)
                                : (x->query > y->query) - (x->query < y->query);
}

static myr_status read_round(job *work)
{
    myr_cursor cursor = {.data = work->receiving.data, .size = work->receiving.size};
    size_t vector_bytes = work->dim * sizeof(float);
    myr_buffer_clear(&work->query_ids);
    myr_buffer_clear(&work->query_vectors);
    myr_buffer_clear(&work->visits);
    work->n_queries = 0;
    while (cursor.at < cursor.size && !cursor.failed) {
        myr_buffer_put_i64(&work->query_ids, myr_cursor_i64(&cursor));
        for (int64_t n = myr_cursor_i64(&cursor); n > 0 && !cursor.failed; n--) {
            visit one = {.shard = (uint32_t)myr_cursor_i64(&cursor), .query = (uint32_t)work->n_queries};
            if (one.shard >= work->cluster->manifest.n_shards || !work->cluster->shards[one.shard].graph)
                return myr_fail(MYR_ERR_INTERNAL, "a damaged message came in while looking for near duplicates");
            myr_buffer_append(&work->visits, &one, sizeof one);
        }
        const void *vector = myr_cursor_bytes(&cursor, vector_bytes);
        if (vector)
            myr_buffer_append(&work->query_vectors, vector, vector_bytes);
        work->n_queries++;
    }
    if (cursor.failed)
        return myr_fail(MYR_ERR_INTERNAL, "a damaged message came in while looking for near duplicates");
    if (work->query_ids.failed || work->query_vectors.failed || work->visits.failed)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %zu items from other ranks", work->n_queries);
    if (work->visits.size > 0)
        qsort(work->visits.data, work->visits.size / sizeof(visit), sizeof(visit), by_shard);
    return MYR_OK;
}

static bool accept_all(const void *context, int64_t id)
{
    (void)context;
    (void)id;
    return true;
}

/* Links of an item to what was found. */
static myr_status link_hits(job *work, int64_t id, const myr_hit *hits, size_t n)
{
    myr_status status = MYR_OK;
    for (size_t i = 0; i < n && status == MYR_OK; i++)
        if (hits[i].id != id)
            status = myr_forest_link(&work->forest, id, hits[i].id);
    return status;
}

/* How many others were found in a shard, not counting those for which a row of another shard speaks. */
static myr_status count_others(const job *work, uint32_t shard, int64_t id, const myr_hit *hits, size_t n,
                               int64_t *n_others)
{
    myr_status status = MYR_OK;
    for (size_t i = 0; i < n && status == MYR_OK; i++) {
        int64_t row = -1;
        if (hits[i].id == id)
            continue;
        status = myr_shard_find(&work->cluster->shards[shard], hits[i].id, &row);
        *n_others += row >= 0 && myr_once_speaks(&work->once, shard, row);
    }
    return status;
}

static myr_status ask_shard(job *work, uint32_t shard, myr_hnsw_searcher *searcher, int64_t id, const float *vector)
{
    static const myr_row_filter firsts = {.accepts = accept_all, .first_only = true};
    bool is_sampled =
        !work->options->exact && (double)(myr_hash64((uint64_t)id, SAMPLE_SEED) >> 11) * 0x1p-53 < work->sampled;
    myr_hit *hits = NULL, *all = NULL;
    size_t n = 0, n_all = 0;
    int64_t n_found = 0, n_true = 0;
    myr_status status = myr_hnsw_search_range(searcher, vector, work->threshold,
                                              work->options->exact ? ALL : work->options->ef, &firsts, &hits, &n, NULL);
    if (status == MYR_OK && is_sampled)
        status = myr_hnsw_search_range(searcher, vector, work->threshold, ALL, &firsts, &all, &n_all, NULL);
    if (status == MYR_OK && is_sampled)
        status = count_others(work, shard, id, hits, n, &n_found);
    if (status == MYR_OK && is_sampled)
        status = count_others(work, shard, id, all, n_all, &n_true);
    if (status == MYR_OK && (n > 0 || n_all > 0)) {
        pthread_mutex_lock(&work->lock);
        status = link_hits(work, id, hits, n);
        work->n_pairs_found += n_found;
        work->n_pairs_true += n_true;
        pthread_mutex_unlock(&work->lock);
    }
    free(hits);
    free(all);
    return status;
}

static myr_status ask_task(void *context, size_t first, size_t last, int thread)
{
    job *work = context;
    const visit *visits = (const visit *)(const void *)work->visits.data;
    const int64_t *ids = (const int64_t *)(const void *)work->query_ids.data;
    const float *vectors = (const float *)(const void *)work->query_vectors.data;
    myr_status status = MYR_OK;
    for (size_t i = first; i < last && status == MYR_OK && !myr_stop_requested; i++) {
        uint32_t shard = visits[i].shard;
        myr_hnsw_searcher **searcher = &work->cluster->searchers[shard][thread];
        if (!*searcher)
            status = myr_hnsw_searcher_create(work->cluster->shards[shard].graph, searcher);
        if (status == MYR_OK)
            status = ask_shard(work, shard, *searcher, ids[visits[i].query], vectors + visits[i].query * work->dim);
    }
    return status;
}

static myr_status answer_round(job *work)
{
    myr_status status = read_round(work);
    return status == MYR_OK ? myr_pool_for(work->cluster->pool, work->visits.size / sizeof(visit), 4, ask_task, work)
                            : status;
}

/* ---- The whole ---- */

/* All pairs, linked in the forests of the ranks. Collective. */
static myr_status find_pairs(job *work)
{
    const myr_comm *comm = work->cluster->comm;
    myr_status status = MYR_OK;
    myr_progress line;
    myr_progress_start(&line, "comparing", "items of this rank", -1, 0, work->options->progress && comm->rank == 0);
    for (bool more = true; more && status == MYR_OK;) {
        status = fill_round(work);
        status = myr_comm_agree(comm, status == MYR_OK ? check_messages(work) : status);
        if (status == MYR_OK)
            status = trade_round(work);
        if (status != MYR_OK)
            break;
        status = answer_round(work);
        status = myr_comm_agree(comm, status == MYR_OK ? check_messages(work) : status);
        int mine = work->shard < work->cluster->manifest.n_shards || work->at < work->n_routed, any;
        MPI_Allreduce(&mine, &any, 1, MPI_INT, MPI_MAX, comm->mpi);
        more = any;
        myr_progress_update(&line, work->n_asked + work->n_copies);
    }
    if (status == MYR_OK)
        myr_progress_finish(&line, work->n_asked + work->n_copies);
    return status;
}

static myr_status start(job *work)
{
    const myr_cluster *cluster = work->cluster;
    size_t n_shards = cluster->manifest.n_shards;
    myr_status status = MYR_OK;
    for (size_t s = 0; s < n_shards && status == MYR_OK; s++)
        if (cluster->shards[s].graph)
            status = myr_shard_verify(&cluster->shards[s], cluster->pool);
    work->vectors = myr_alloc(ROUTED, work->dim * sizeof *work->vectors);
    work->clusters = myr_alloc(ROUTED, sizeof *work->clusters);
    work->ids = myr_alloc(ROUTED, sizeof *work->ids);
    work->reached = myr_alloc(ROUTED, n_shards);
    work->to = myr_alloc(work->n_ranks, sizeof *work->to);
    work->sizes = myr_alloc(4 * work->n_ranks, sizeof *work->sizes);
    if (status == MYR_OK &&
        (!work->vectors || !work->clusters || !work->ids || !work->reached || !work->to || !work->sizes))
        status = myr_fail(MYR_ERR_NOMEM, "no memory to compare items among %zu ranks", work->n_ranks);
    if (status != MYR_OK)
        return status;
    work->places = work->sizes + work->n_ranks;
    work->other_sizes = work->places + work->n_ranks;
    work->other_places = work->other_sizes + work->n_ranks;
    return MYR_OK;
}

static void finish(job *work)
{
    myr_buffer *const buffers[] = {&work->sending, &work->receiving, &work->query_ids, &work->query_vectors,
                                   &work->visits};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        myr_buffer_free(buffers[i]);
    for (size_t rank = 0; work->to && rank < work->n_ranks; rank++)
        myr_buffer_free(&work->to[rank]);
    free(work->to);
    free(work->sizes);
    free(work->vectors);
    free(work->clusters);
    free(work->ids);
    free(work->reached);
    myr_forest_free(&work->forest);
    myr_once_free(&work->once);
    pthread_mutex_destroy(&work->lock);
}

/* Collective. */
static void make_report(const job *work, const myr_groups *groups, myr_dedup_report *report)
{
    int64_t mine[5] = {work->n_asked, work->n_copies, work->n_visits, work->n_pairs_true, work->n_pairs_found}, all[5];
    MPI_Allreduce(mine, all, 5, MPI_INT64_T, MPI_SUM, work->cluster->comm->mpi);
    report->n_items = work->cluster->manifest.n_items;
    report->n_copies = all[1];
    report->probes_per_query = all[0] > 0 ? (double)all[2] / (double)all[0] : 0;
    report->n_sampled_pairs = all[3];
    report->n_sampled_found = all[4];
    report->n_groups = (int64_t)groups->n_groups;
    report->n_dropped = (int64_t)groups->n_members;
    report->largest = groups->n_groups > 0 ? (int64_t)groups->groups[0].n : 0;
}

/* How far apart near duplicates are, in the metric and in space, where |a - b|^2 = 2 (1 - cosine). */
static void set_distances(job *work)
{
    const myr_index_manifest *index = &work->cluster->manifest;
    bool is_cosine = strcmp(index->metric, "cosine") == 0;
    work->threshold = work->options->threshold;
    if (is_cosine && work->threshold < LEAST_COSINE)
        work->threshold = LEAST_COSINE;
    work->radius = is_cosine ? sqrtf(2 * (work->threshold + 2 * LEAST_COSINE)) : work->threshold * (1 + 1e-6f);
    work->rounding = index->quantize == MYR_QUANTIZE_SQ8_F16 ? HALF_ROUNDING : 0;
    work->sampled = index->n_items > 0 ? (double)work->options->n_sample / (double)index->n_items : 0;
}

myr_status myr_dedup(myr_cluster *cluster, const myr_dedup_options *options, myr_dedup_take take, void *context,
                     myr_dedup_report *report)
{
    if (strcmp(cluster->manifest.metric, "ip") == 0)
        return myr_fail(MYR_ERR_UNSUPPORTED, "an inner product is no distance: what is near by it need not be alike");
    if (!(options->threshold >= 0))
        return myr_fail(MYR_ERR_ARG, "a threshold of %g: it is a distance, not negative", (double)options->threshold);
    job work = {.cluster = cluster,
                .options = options,
                .dim = (size_t)cluster->manifest.dim,
                .n_ranks = (size_t)cluster->comm->size,
                .lock = PTHREAD_MUTEX_INITIALIZER};
    myr_groups groups = {0};
    double start_s = myr_now_s();
    *report = (myr_dedup_report){0};
    set_distances(&work);
    myr_status status = myr_comm_agree(cluster->comm, start(&work));
    if (status == MYR_OK)
        status = myr_once_find(cluster, weigh, &work, &work.once);
    if (status == MYR_OK)
        status = find_pairs(&work);
    report->search_s = myr_now_s() - start_s;
    if (status == MYR_OK)
        status = myr_groups_gather(cluster->comm, &work.forest, &groups);
    if (status == MYR_OK)
        status = myr_groups_tell(cluster, &groups, take, context);
    if (status == MYR_OK)
        make_report(&work, &groups, report);
    report->wall_s = myr_now_s() - start_s;
    myr_groups_free(&groups);
    finish(&work);
    return status;
}
