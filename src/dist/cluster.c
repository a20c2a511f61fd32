/*
 * Opening an index on its ranks, scatter and merge.
 *
 * Queries go out in rounds. A round's task is one (query, hosted shard) pair; a rank
 * merges its own shards' rows, and the root merges the ranks' rows, always by
 * (distance, id), so that neither ranks nor threads show in the hits.
 */
#include "dist/cluster.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/rng.h"
#include "dist/exchange.h"
#include "dist/router_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROUND_QUERIES 4096
#define SAMPLE_SEED 7

static bool hosts(const myr_cluster *cluster, size_t shard)
{
    return shard % (size_t)cluster->comm->size == (size_t)cluster->comm->rank;
}

/* A shard with valid checksums may still be of another index than the manifest says. */
static bool fits_manifest(const myr_index_manifest *manifest, const myr_shard *shard, size_t s)
{
    myr_hnsw_facts facts;
    myr_hnsw_describe(shard->graph, &facts);
    return shard->n == manifest->shards[s].n_items && facts.dim == (size_t)manifest->dim && facts.M == manifest->M &&
           strcmp(myr_metric_name(facts.metric), manifest->metric) == 0;
}

static myr_status open_shards(myr_cluster *cluster, const char *folder)
{
    myr_index_manifest *manifest = &cluster->manifest;
    cluster->shards = myr_alloc(manifest->n_shards, sizeof *cluster->shards);
    cluster->searchers = myr_alloc(manifest->n_shards, sizeof *cluster->searchers);
    if (!cluster->shards || !cluster->searchers)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %zu shards", manifest->n_shards);
    for (size_t s = 0; s < manifest->n_shards; s++) {
        if (!hosts(cluster, s))
            continue;
        char *path = myr_path_join(folder, manifest->shards[s].file);
        myr_status status = path ? myr_shard_open(path, manifest->shards[s].checksum, &cluster->shards[s])
                                 : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
        if (status == MYR_OK && !fits_manifest(manifest, &cluster->shards[s], s))
            status = myr_fail(MYR_ERR_FORMAT, "%s: not the shard index.json names; build the index again", path);
        free(path);
        if (status != MYR_OK)
            return status;
        cluster->searchers[s] = myr_alloc((size_t)myr_pool_n_threads(cluster->pool), sizeof(myr_hnsw_searcher *));
        if (!cluster->searchers[s])
            return myr_fail(MYR_ERR_NOMEM, "no memory for searchers");
    }
    return MYR_OK;
}

static myr_status open_router(myr_cluster *cluster, const char *folder)
{
    char *path = myr_path_join(folder, cluster->manifest.router_file);
    myr_status status = path ? myr_router_read(path, cluster->manifest.router_checksum, &cluster->router)
                             : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    free(path);
    size_t dim = status == MYR_OK ? myr_router_dim(cluster->router) : 0;
    if (status == MYR_OK && (myr_router_n_shards(cluster->router) != cluster->manifest.n_shards ||
                             (dim != 0 && dim != (size_t)cluster->manifest.dim)))
        status = myr_fail(MYR_ERR_FORMAT, "%s: the router's shards are not those of index.json; build the index again",
                          folder);
    return status;
}

myr_status myr_cluster_open(const myr_comm *comm, const char *folder, int n_threads, myr_cluster *cluster)
{
    *cluster = (myr_cluster){.comm = comm};
    myr_buffer text = {0};
    char *path = myr_path_join(folder, "index.json");
    myr_status status = path ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    if (status == MYR_OK && comm->rank == 0)
        status = myr_path_exists(path)
                     ? myr_file_read(path, (size_t)256 << 20, &text)
                     : myr_fail(MYR_ERR_NOT_FOUND, "%s: no index here (index.json is missing)", folder);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_comm_share(comm, &text);
    if (status != MYR_OK)
        goto done;
    status = myr_index_manifest_parse(path, text.data, text.size, &cluster->manifest);
    if (status == MYR_OK)
        status = myr_pool_create(n_threads, &cluster->pool);
    if (status == MYR_OK)
        status = open_shards(cluster, folder);
    if (status == MYR_OK && comm->rank == 0)
        status = open_router(cluster, folder);
    status = myr_comm_agree(comm, status);
done:
    myr_buffer_free(&text);
    free(path);
    if (status != MYR_OK)
        myr_cluster_close(cluster);
    return status;
}

void myr_cluster_close(myr_cluster *cluster)
{
    for (size_t s = 0; cluster->shards && s < cluster->manifest.n_shards; s++) {
        for (int t = 0; cluster->searchers && cluster->searchers[s] && t < myr_pool_n_threads(cluster->pool); t++)
            myr_hnsw_searcher_free(cluster->searchers[s][t]);
        if (cluster->searchers)
            free(cluster->searchers[s]);
        myr_shard_close(&cluster->shards[s]);
    }
    free(cluster->searchers);
    free(cluster->shards);
    myr_pool_free(cluster->pool);
    myr_router_free(cluster->router);
    myr_index_manifest_clear(&cluster->manifest);
    *cluster = (myr_cluster){0};
}

/* One round on one rank. */
typedef struct round_state {
    myr_cluster *cluster;
    const myr_search_options *options;
    size_t n;              /* queries of the round */
    const float *queries;  /* (n, dim) */
    const uint8_t *visits; /* (n, n_shards) 1 = this query visits this shard */
    myr_hit *mine;         /* (n, k) merged over this rank's shards */
    float *group_queries;  /* (n_threads, GROUP, dim) */
    myr_hit *group_hits;   /* (n_threads, GROUP, k) */
    myr_hnsw_stats *stats; /* (n_threads) of all rounds */
} round_state;

/* Queries that visit a shard are searched together, this many at most. */
#define GROUP 16

/* A thread's memory for a group. */
typedef struct group {
    size_t n, places[GROUP]; /* which queries of the round */
    float *queries;          /* (GROUP, dim) */
    myr_hit *hits;           /* (GROUP, k) */
} group;

static group group_of(const round_state *round, int thread)
{
    size_t k = round->options->k, dim = (size_t)round->cluster->manifest.dim;
    return (group){.queries = round->group_queries + (size_t)thread * GROUP * dim,
                   .hits = round->group_hits + (size_t)thread * GROUP * k};
}

static myr_status search_shard(round_state *round, size_t shard, const group *all, int thread)
{
    const myr_search_options *options = round->options;
    myr_hnsw_searcher **searcher = &round->cluster->searchers[shard][thread];
    myr_status status = *searcher ? MYR_OK : myr_hnsw_searcher_create(round->cluster->shards[shard].graph, searcher);
    if (status == MYR_OK)
        status = myr_hnsw_search_batch(*searcher, all->queries, all->n, options->k, options->ef, all->hits,
                                       &round->stats[thread]);
    for (size_t i = 0; status == MYR_OK && i < all->n; i++)
        myr_topk_merge(round->mine + all->places[i] * options->k, options->k, all->hits + i * options->k, options->k);
    return status;
}

/* Queries [first, last), a group at most, over all hosted shards. */
static myr_status search_queries(void *context, size_t first, size_t last, int thread)
{
    round_state *round = context;
    myr_cluster *cluster = round->cluster;
    size_t n_shards = cluster->manifest.n_shards, dim = (size_t)cluster->manifest.dim;
    group all = group_of(round, thread);
    myr_status status = MYR_OK;
    for (size_t s = 0; s < n_shards && status == MYR_OK && !myr_stop_requested; s++) {
        all.n = 0;
        if (!hosts(cluster, s) || cluster->shards[s].n == 0)
            continue;
        for (size_t q = first; q < last; q++) {
            if (!round->visits[q * n_shards + s])
                continue;
            memcpy(all.queries + all.n * dim, round->queries + q * dim, dim * sizeof *all.queries);
            all.places[all.n++] = q;
        }
        status = search_shard(round, s, &all, thread);
    }
    return status;
}

/* Exact search goes shard by shard, since its threads share the scan. */
static myr_status scan_shards(round_state *round)
{
    myr_cluster *cluster = round->cluster;
    size_t k = round->options->k;
    myr_hit *rows = myr_alloc(round->n * k, sizeof *rows);
    if (!rows)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %zu exact hits", round->n * k);
    myr_status status = MYR_OK;
    for (size_t s = 0; s < cluster->manifest.n_shards && status == MYR_OK; s++) {
        if (!hosts(cluster, s) || cluster->shards[s].n == 0)
            continue;
        status = myr_hnsw_search_exact(cluster->shards[s].graph, cluster->pool, round->queries, round->n, k, rows);
        for (size_t q = 0; q < round->n && status == MYR_OK; q++)
            myr_topk_merge(round->mine + q * k, k, rows + q * k, k);
    }
    free(rows);
    return status;
}

static void clear_hits(myr_hit *hits, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hits[i] = (myr_hit){.id = -1, .distance = INFINITY};
}

static bool visits_all(const myr_cluster *cluster, const myr_search_options *options)
{
    return options->exact ||
           (!options->routed && (options->n_probe == 0 || options->n_probe >= cluster->manifest.n_shards));
}

/* Root: which shards each query of the round visits. */
static myr_status choose_visits(myr_cluster *cluster, const myr_search_options *options, const float *queries, size_t n,
                                uint8_t *visits, int64_t *n_probes)
{
    size_t n_shards = cluster->manifest.n_shards;
    if (visits_all(cluster, options)) {
        memset(visits, 1, n * n_shards);
        *n_probes += (int64_t)(n * n_shards);
        return MYR_OK;
    }
    uint32_t *shards = myr_alloc(n * n_shards, sizeof *shards);
    float *left = myr_alloc(n * n_shards, sizeof *left);
    size_t *n_found = myr_alloc(n, sizeof *n_found);
    myr_status status =
        shards && left && n_found ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to route %zu queries", n);
    if (status == MYR_OK)
        status = myr_router_route(cluster->router, queries, n, options->routed ? n_shards : options->n_probe,
                                  cluster->pool, shards, left, n_found);
    memset(visits, 0, n * n_shards);
    for (size_t q = 0; q < n && status == MYR_OK; q++) {
        size_t i = 0;
        for (; i < n_found[q] && (i == 0 || !options->routed || left[q * n_shards + i] > options->left); i++)
            visits[q * n_shards + shards[q * n_shards + i]] = 1;
        *n_probes += (int64_t)i;
    }
    free(shards);
    free(left);
    free(n_found);
    return status;
}

typedef struct search_room {
    float *queries, *group_queries;
    uint8_t *visits;
    myr_hit *mine, *group_hits, *theirs;
    myr_hnsw_stats *stats;
} search_room;

static void free_room(search_room *room)
{
    free(room->queries);
    free(room->visits);
    free(room->mine);
    free(room->group_queries);
    free(room->group_hits);
    free(room->theirs);
    free(room->stats);
}

static myr_status make_room(const myr_cluster *cluster, size_t n, size_t k, search_room *room)
{
    size_t n_threads = (size_t)myr_pool_n_threads(cluster->pool);
    size_t size = cluster->comm->rank == 0 ? (size_t)cluster->comm->size : 0;
    *room = (search_room){.queries = myr_alloc(n, (size_t)cluster->manifest.dim * sizeof(float)),
                          .visits = myr_alloc(n, cluster->manifest.n_shards),
                          .mine = myr_alloc(n, k * sizeof(myr_hit)),
                          .group_queries = myr_alloc(n_threads * GROUP, (size_t)cluster->manifest.dim * sizeof(float)),
                          .group_hits = myr_alloc(n_threads * GROUP, k * sizeof(myr_hit)),
                          .theirs = myr_alloc(size * n, k * sizeof(myr_hit)),
                          .stats = myr_alloc(n_threads, sizeof(myr_hnsw_stats))};
    if (room->queries && room->visits && room->group_queries && room->mine && room->group_hits && room->theirs &&
        room->stats)
        return MYR_OK;
    return myr_fail(MYR_ERR_NOMEM, "no memory for a round of %zu queries", n);
}

/* One round: share, search, gather, merge. Collective. */
static myr_status run_round(myr_cluster *cluster, const myr_search_options *options, const float *queries, size_t n,
                            search_room *room, myr_hit *hits, int64_t *n_probes)
{
    const myr_comm *comm = cluster->comm;
    size_t k = options->k, dim = (size_t)cluster->manifest.dim, n_shards = cluster->manifest.n_shards;
    myr_status status = MYR_OK;
    if (comm->rank == 0) {
        memcpy(room->queries, queries, n * dim * sizeof *queries);
        status = choose_visits(cluster, options, queries, n, room->visits, n_probes);
    }
    status = myr_comm_agree(comm, status);
    if (status != MYR_OK)
        return status;
    MPI_Bcast(room->queries, (int)(n * dim), MPI_FLOAT, 0, comm->mpi);
    MPI_Bcast(room->visits, (int)(n * n_shards), MPI_BYTE, 0, comm->mpi);
    clear_hits(room->mine, n * k);
    round_state round = {.cluster = cluster,
                         .options = options,
                         .n = n,
                         .queries = room->queries,
                         .visits = room->visits,
                         .mine = room->mine,
                         .group_queries = room->group_queries,
                         .group_hits = room->group_hits,
                         .stats = room->stats};
    status = options->exact ? scan_shards(&round) : myr_pool_for(cluster->pool, n, GROUP, search_queries, &round);
    if (status == MYR_OK && myr_stop_requested)
        status = myr_fail(MYR_ERR_STOPPED, "stopped by a signal");
    status = myr_comm_agree(comm, status);
    if (status != MYR_OK)
        return status;
    int n_bytes = (int)(n * k * sizeof(myr_hit));
    MPI_Gather(room->mine, n_bytes, MPI_BYTE, room->theirs, n_bytes, MPI_BYTE, 0, comm->mpi);
    if (comm->rank == 0) {
        clear_hits(hits, n * k);
        for (size_t rank = 0; rank < (size_t)comm->size; rank++)
            for (size_t q = 0; q < n; q++)
                myr_topk_merge(hits + q * k, k, room->theirs + (rank * n + q) * k, k);
    }
    return MYR_OK;
}

/* Queries a round: bounded in number and in the bytes of every message. */
static size_t choose_round(const myr_cluster *cluster, size_t n_queries, size_t k)
{
    size_t most = ROUND_QUERIES, by_hits = ((size_t)64 << 20) / (k * sizeof(myr_hit));
    size_t by_queries = ((size_t)256 << 20) / ((size_t)cluster->manifest.dim * sizeof(float));
    most = most < by_hits ? most : by_hits;
    size_t by_visits = ((size_t)1 << 26) / cluster->manifest.n_shards;
    most = most < by_queries ? most : by_queries;
    most = most < by_visits ? most : by_visits;
    most = most > 0 ? most : 1;
    return n_queries < most ? n_queries : most;
}

/* Of all threads of all ranks, on the root. Collective. */
static myr_hnsw_stats add_stats(const myr_cluster *cluster, const myr_hnsw_stats *stats)
{
    uint64_t mine[2] = {0}, all[2] = {0};
    for (int i = 0; i < myr_pool_n_threads(cluster->pool); i++) {
        mine[0] += stats[i].n_hops;
        mine[1] += stats[i].n_distances;
    }
    MPI_Reduce(mine, all, 2, MPI_UINT64_T, MPI_SUM, 0, cluster->comm->mpi);
    return (myr_hnsw_stats){.n_hops = all[0], .n_distances = all[1]};
}

myr_status myr_cluster_search(myr_cluster *cluster, const float *queries, size_t n_queries,
                              const myr_search_options *options, myr_hit *hits, myr_search_report *report)
{
    if (strcmp(cluster->manifest.metric, "ip") == 0 && !visits_all(cluster, options))
        return myr_fail(MYR_ERR_UNSUPPORTED,
                        "the greatest inner products may lie in any shard: ask all of them (--probe all)");
    size_t dim = (size_t)cluster->manifest.dim, a_round = choose_round(cluster, n_queries, options->k);
    int64_t n_probes = 0;
    double start_s = myr_now_s();
    search_room room;
    myr_status status = myr_comm_agree(cluster->comm, make_room(cluster, a_round, options->k, &room));
    for (size_t first = 0; first < n_queries && status == MYR_OK; first += a_round) {
        size_t n = n_queries - first < a_round ? n_queries - first : a_round;
        status = run_round(cluster, options, queries ? queries + first * dim : NULL, n, &room,
                           hits ? hits + first * options->k : NULL, &n_probes);
    }
    myr_hnsw_stats sum = {0};
    if (status == MYR_OK)
        sum = add_stats(cluster, room.stats);
    free_room(&room);
    double n = n_queries > 0 ? (double)n_queries : 1;
    if (report)
        *report = (myr_search_report){.probes_per_query = (double)n_probes / n,
                                      .hops_per_query = (double)sum.n_hops / n,
                                      .distances_per_query = (double)sum.n_distances / n,
                                      .wall_s = myr_now_s() - start_s};
    return status;
}

/* This rank's share of the facts: place, label, key, source of each id it holds. */
static void find_facts(const myr_cluster *cluster, const int64_t *ids, size_t n, myr_buffer *found)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t s = 0; s < cluster->manifest.n_shards; s++) {
            int64_t row = hosts(cluster, s) ? myr_shard_find(&cluster->shards[s], ids[i]) : -1;
            if (row < 0)
                continue;
            myr_buffer_put_i64(found, (int64_t)i);
            myr_buffer_put_i64(found, cluster->shards[s].label[row]);
            myr_buffer_put_text(found, myr_text_table_get(&cluster->shards[s].key, (size_t)row));
            myr_buffer_put_text(found, myr_text_table_get(&cluster->shards[s].source, (size_t)row));
            break;
        }
    }
}

myr_status myr_cluster_describe(myr_cluster *cluster, const int64_t *ids, size_t n, myr_buffer *texts,
                                myr_item_facts *facts)
{
    const myr_comm *comm = cluster->comm;
    myr_buffer wanted = {0}, found = {0};
    if (comm->rank == 0)
        myr_buffer_append(&wanted, ids, n * sizeof *ids);
    myr_status status =
        myr_comm_agree(comm, wanted.failed ? myr_fail(MYR_ERR_NOMEM, "no memory for %zu ids", n) : MYR_OK);
    if (status == MYR_OK)
        status = myr_comm_share(comm, &wanted);
    if (status == MYR_OK)
        find_facts(cluster, (const int64_t *)wanted.data, n, &found);
    status =
        myr_comm_agree(comm, status == MYR_OK && found.failed ? myr_fail(MYR_ERR_NOMEM, "no memory for keys") : status);
    if (status == MYR_OK)
        status = myr_gather_bytes(comm, &found, texts);
    if (status == MYR_OK && comm->rank == 0) {
        myr_cursor cursor = {.data = texts->data, .size = texts->size};
        for (size_t i = 0; i < n; i++)
            facts[i] = (myr_item_facts){.label = -1};
        while (cursor.at < cursor.size && !cursor.failed) {
            int64_t place = myr_cursor_i64(&cursor);
            int32_t label = (int32_t)myr_cursor_i64(&cursor);
            const char *key = myr_cursor_text(&cursor), *source = myr_cursor_text(&cursor);
            if (!cursor.failed && place >= 0 && (size_t)place < n)
                facts[place] = (myr_item_facts){.key = key, .source = source, .label = label};
        }
    }
    myr_buffer_free(&wanted);
    myr_buffer_free(&found);
    return status;
}

myr_status myr_cluster_sample(myr_cluster *cluster, size_t n_wanted, float **vectors, int64_t **ids, size_t *n)
{
    const myr_comm *comm = cluster->comm;
    size_t dim = (size_t)cluster->manifest.dim, row_bytes = sizeof(int64_t) + dim * sizeof(float);
    double share = (double)n_wanted / (double)(cluster->manifest.n_items ? cluster->manifest.n_items : 1);
    float *vector = myr_alloc(dim, sizeof *vector);
    myr_buffer mine = {.failed = !vector}, all = {0};
    *vectors = NULL;
    *ids = NULL;
    *n = 0;
    for (size_t s = 0; s < cluster->manifest.n_shards; s++) {
        const myr_shard *shard = &cluster->shards[s];
        for (int64_t row = 0; vector && hosts(cluster, s) && row < shard->n; row++) {
            double place = (double)(myr_hash64((uint64_t)shard->id[row], SAMPLE_SEED) >> 11) * 0x1p-53;
            if (place >= share)
                continue;
            myr_buffer_put_i64(&mine, shard->id[row]);
            myr_hnsw_vector(shard->graph, (size_t)row, vector);
            myr_buffer_append(&mine, vector, dim * sizeof(float));
        }
    }
    myr_status status = myr_comm_agree(comm, mine.failed ? myr_fail(MYR_ERR_NOMEM, "no memory for a sample") : MYR_OK);
    if (status == MYR_OK)
        status = myr_gather_bytes(comm, &mine, &all);
    if (status == MYR_OK && comm->rank == 0) {
        *n = all.size / row_bytes;
        *vectors = myr_alloc(*n, dim * sizeof(float));
        *ids = myr_alloc(*n, sizeof(int64_t));
        if (!*vectors || !*ids)
            status = myr_fail(MYR_ERR_NOMEM, "no memory for a sample of %zu vectors", *n);
        for (size_t i = 0; i < *n && status == MYR_OK; i++) {
            memcpy(&(*ids)[i], all.data + i * row_bytes, sizeof(int64_t));
            memcpy(*vectors + i * dim, all.data + i * row_bytes + sizeof(int64_t), dim * sizeof(float));
        }
    }
    int64_t count = (int64_t)*n;
    MPI_Bcast(&count, 1, MPI_INT64_T, 0, comm->mpi);
    *n = (size_t)count;
    free(vector);
    myr_buffer_free(&mine);
    myr_buffer_free(&all);
    return myr_comm_agree(comm, status);
}
