/*
 * Opening an index on its ranks, and what is known of its items.
 */
#include "dist/cluster.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/rng.h"
#include "dist/exchange.h"
#include "dist/room.h"
#include "dist/router_file.h"
#include "dist/traffic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE_SEED 7
#define WALK_BYTES 0.5 /* an item's, in the four walks of a thread: a bit each that it was seen */

/* Whether this rank speaks for a shard: one of its hosts does. */
static bool keeps(const myr_cluster *cluster, size_t shard)
{
    return myr_hosts_keeps(&cluster->hosts, shard, cluster->comm->rank);
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
        if (!myr_hosts_has(&cluster->hosts, s, cluster->comm->rank))
            continue;
        char *path = myr_path_join(folder, manifest->shards[s].file);
        myr_status status = path ? myr_shard_open(path, &manifest->shards[s].checksum, &cluster->shards[s])
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

/* Ranks of one node have the lowest of their ranks as its number. Collective. */
static myr_status share_nodes(myr_cluster *cluster)
{
    const myr_comm *comm = cluster->comm;
    MPI_Comm here;
    int lowest = comm->rank, *node = myr_alloc((size_t)comm->size, sizeof *node);
    myr_status status =
        myr_comm_agree(comm, node ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %d ranks", comm->size));
    if (status == MYR_OK) {
        MPI_Comm_split_type(comm->mpi, MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, &here);
        MPI_Bcast(&lowest, 1, MPI_INT, 0, here);
        MPI_Comm_free(&here);
        MPI_Allgather(&lowest, 1, MPI_INT, node, 1, MPI_INT, comm->mpi);
        status = myr_comm_agree(comm, myr_hosts_share(&cluster->hosts, comm->size, node));
    }
    free(node);
    return status;
}

/* The hosts of shards, by the visits that rank 0 reads. Collective. */
static myr_status choose_hosts(myr_cluster *cluster, const char *traffic)
{
    const myr_comm *comm = cluster->comm;
    size_t n_shards = cluster->manifest.n_shards;
    uint64_t *visits = myr_alloc(n_shards, sizeof *visits);
    cluster->visits = myr_alloc(n_shards, sizeof *cluster->visits);
    myr_status status = visits && cluster->visits
                            ? MYR_OK
                            : myr_fail(MYR_ERR_NOMEM, "no memory for the hosts of %zu shards", n_shards);
    if (status == MYR_OK && comm->rank == 0 && traffic)
        status = myr_traffic_read(traffic, &cluster->manifest, visits);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK) {
        MPI_Bcast(visits, (int)n_shards, MPI_UINT64_T, 0, comm->mpi);
        status = myr_comm_agree(comm, myr_hosts_create(n_shards, comm->size, visits, &cluster->hosts));
    }
    free(visits);
    return status;
}

void myr_cluster_visits(const myr_cluster *cluster, uint64_t *visits)
{
    MPI_Reduce(cluster->visits, visits, (int)cluster->manifest.n_shards, MPI_UINT64_T, MPI_SUM, 0, cluster->comm->mpi);
}

myr_status myr_cluster_open(const myr_comm *comm, const char *folder, int n_threads, const char *traffic,
                            myr_cluster *cluster)
{
    *cluster = (myr_cluster){.comm = comm};
    myr_buffer text = {0};
    char *path = myr_path_join(folder, "index.json");
    myr_status status = path ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    if (status == MYR_OK && comm->rank == 0)
        status = myr_path_exists(path)
                     ? myr_file_read(path, (size_t)256 << 20, &text)
                     : myr_fail(MYR_ERR_NOT_FOUND,
                                "%s: no index here (index.json is missing); build one of embeddings or vectors with "
                                "`myriops index --out`",
                                folder);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_comm_share(comm, &text);
    if (status != MYR_OK)
        goto done;
    status = myr_index_manifest_parse(path, text.data, text.size, &cluster->manifest);
    if (status == MYR_OK)
        status = myr_pool_create(n_threads, &cluster->pool);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = choose_hosts(cluster, traffic);
    if (status == MYR_OK)
        status = share_nodes(cluster);
    if (status == MYR_OK)
        status = open_shards(cluster, folder);
    if (status == MYR_OK)
        status = open_router(cluster, folder);
    status = myr_comm_agree(comm, status);
done:
    myr_buffer_free(&text);
    free(path);
    if (status != MYR_OK)
        myr_cluster_close(cluster);
    return status;
}

/* Bytes of the different shards that ranks of this host map, and how many these are. Collective. */
static double mapped_here(const myr_comm *comm, double *shard_bytes, size_t n_shards, int *n_here)
{
    double sum = 0;
    MPI_Comm host;
    *n_here = 1;
    if (MPI_Comm_split_type(comm->mpi, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host) == MPI_SUCCESS) {
        MPI_Allreduce(MPI_IN_PLACE, shard_bytes, (int)n_shards, MPI_DOUBLE, MPI_MAX, host);
        MPI_Comm_size(host, n_here);
        MPI_Comm_free(&host);
    }
    for (size_t s = 0; s < n_shards; s++)
        sum += shard_bytes[s];
    return sum;
}

/* Where a host's shards are larger than its memory. Collective. */
static void warn_of_reading(const myr_comm *comm, double mapped)
{
    double available = myr_memory_available(), excess = available > 0 ? mapped - available : 0, most;
    MPI_Reduce(&excess, &most, 1, MPI_DOUBLE, MPI_MAX, 0, comm->mpi);
    if (comm->rank == 0 && most > 0)
        myr_warn(
            "the shards of a host are %.3g GB larger than the memory it has free: they will be read from disk again "
            "and again; use more hosts",
            most / 1e9);
}

myr_status myr_cluster_check_memory(const myr_cluster *cluster, double rank_bytes)
{
    const myr_comm *comm = cluster->comm;
    size_t n_shards = cluster->manifest.n_shards;
    double *shard_bytes = myr_alloc(n_shards, sizeof *shard_bytes), taken = 0, mapped = 0;
    int n_here = 1;
    myr_status status = myr_comm_agree(
        comm, shard_bytes ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for the sizes of %zu shards", n_shards));
    for (size_t s = 0; s < n_shards && status == MYR_OK; s++) {
        size_t n_bytes;
        if (!cluster->shards[s].file)
            continue;
        myr_sections_bytes(cluster->shards[s].file, &n_bytes);
        shard_bytes[s] = (double)n_bytes;
        taken += (double)cluster->shards[s].n * WALK_BYTES * myr_pool_n_threads(cluster->pool);
    }
    if (status == MYR_OK)
        mapped = mapped_here(comm, shard_bytes, n_shards, &n_here);
    /* The ranks of a host share the pages of what they map. */
    if (status == MYR_OK)
        status = myr_room_check(comm, rank_bytes > 0 ? taken + mapped / n_here : taken, rank_bytes,
                                "search their shards", "use more ranks, on more hosts, or fewer threads");
    if (status == MYR_OK)
        warn_of_reading(comm, mapped);
    free(shard_bytes);
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
    myr_hosts_free(&cluster->hosts);
    free(cluster->visits);
    myr_index_manifest_clear(&cluster->manifest);
    *cluster = (myr_cluster){0};
}

/* This rank's share of the facts: place, label, key, source of each id it holds. */
static myr_status find_facts(const myr_cluster *cluster, const int64_t *ids, size_t n, myr_buffer *found)
{
    myr_status status = MYR_OK;
    for (size_t i = 0; i < n; i++) {
        int64_t row = -1;
        for (size_t s = 0; s < cluster->manifest.n_shards && row < 0 && status == MYR_OK; s++) {
            const myr_shard *shard = &cluster->shards[s];
            int32_t label = -1;
            const char *key, *source;
            status = keeps(cluster, s) ? myr_shard_find(shard, ids[i], &row) : MYR_OK;
            if (status == MYR_OK && row >= 0)
                status = myr_shard_item(shard, row, &label, &key, &source);
            if (status != MYR_OK || row < 0)
                continue;
            myr_buffer_put_i64(found, (int64_t)i);
            myr_buffer_put_i64(found, label);
            myr_buffer_put_text(found, key);
            myr_buffer_put_text(found, source);
        }
    }
    return status;
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
        status = find_facts(cluster, (const int64_t *)wanted.data, n, &found);
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

int64_t myr_cluster_next_id(const myr_cluster *cluster, int64_t from)
{
    int64_t mine = INT64_MAX, all;
    for (size_t s = 0; s < cluster->manifest.n_shards; s++) {
        const myr_shard *shard = &cluster->shards[s];
        int64_t row = keeps(cluster, s) ? myr_shard_first_row(shard, from) : 0;
        if (keeps(cluster, s) && row < shard->n && shard->id[row] < mine)
            mine = shard->id[row];
    }
    MPI_Allreduce(&mine, &all, 1, MPI_INT64_T, MPI_MIN, cluster->comm->mpi);
    return all;
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
    myr_status status = MYR_OK;
    for (size_t s = 0; s < cluster->manifest.n_shards && status == MYR_OK; s++) {
        myr_shard *shard = &cluster->shards[s];
        status = keeps(cluster, s) ? myr_shard_verify(shard, cluster->pool) : MYR_OK;
        for (int64_t row = 0; vector && keeps(cluster, s) && row < shard->n && status == MYR_OK; row++) {
            double place = (double)(myr_hash64((uint64_t)shard->id[row], SAMPLE_SEED) >> 11) * 0x1p-53;
            if (place >= share)
                continue;
            myr_buffer_put_i64(&mine, shard->id[row]);
            status = myr_hnsw_vector(shard->graph, (size_t)row, vector);
            myr_buffer_append(&mine, vector, dim * sizeof(float));
        }
    }
    if (status == MYR_OK && mine.failed)
        status = myr_fail(MYR_ERR_NOMEM, "no memory for a sample");
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_gather_bytes(comm, &mine, &all);
    if (status == MYR_OK && comm->rank == 0) {
        *n = myr_sort_by_id(&all, row_bytes);
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
