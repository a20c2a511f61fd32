/*
 * The job that changes an index.
 *
 *   1. open      every rank maps its shards
 *   2. exchange  new rows travel to the rank of their shard, by the router that is there
 *   3. keys      what shall go, and what comes, is known to all ranks: any of them may hold the older item
 *   4. graphs    each rank changes its shards, one after the other, and writes those that differ
 *   5. router    what it knows of its clusters follows the changes, and its curve is measured anew
 *   6. manifest  rank 0 writes index.json, which puts the changed index in force
 */
#include "dist/change.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/progress.h"
#include "dist/cluster.h"
#include "dist/curve.h"
#include "dist/exchange.h"
#include "dist/keys.h"
#include "dist/overlap.h"
#include "dist/recalibrate.h"
#include "dist/router_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOCK_PATIENCE_S 15

typedef struct job {
    const myr_comm *comm;
    const myr_change_options *options;
    myr_change_report *report;
    myr_cluster cluster;
    myr_source source;
    myr_shard_plan plan;
    myr_shard_rows *added; /* (n_shards), those of this rank filled */
    myr_key_set removed, replaced;
    char build_id[9];
    int lock;        /* rank 0; -1 = not held */
    myr_buffer gone; /* of this rank's shards: id, and whether another comes in its place */
    int64_t n_removed, n_replaced, n_changed;
    myr_hnsw_curve curve;
    myr_route_trial trial;
    myr_recount recount;
} job;

static bool is_hosted(const job *work, size_t shard)
{
    return shard % (size_t)work->comm->size == (size_t)work->comm->rank;
}

/* ---- keys ---- */

/* Collective. */
static myr_status collect_keys(job *work)
{
    const myr_comm *comm = work->comm;
    myr_status status = MYR_OK;
    if (comm->rank == 0 && work->options->removed)
        status = myr_keys_read(work->options->removed, &work->removed.texts);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_keys_share(comm, &work->removed);
    if (status != MYR_OK || !work->source.contract)
        return status;
    myr_buffer mine = {0};
    for (size_t s = 0; s < work->cluster.manifest.n_shards; s++)
        for (int64_t i = 0; i < work->added[s].n; i++)
            myr_buffer_append(&mine, work->added[s].key[i], strlen(work->added[s].key[i]) + 1);
    status =
        myr_comm_agree(comm, mine.failed ? myr_fail(MYR_ERR_NOMEM, "no memory for the keys of new items") : MYR_OK);
    if (status == MYR_OK)
        status = myr_gather_bytes(comm, &mine, &work->replaced.texts);
    myr_buffer_free(&mine);
    return status == MYR_OK ? myr_keys_share(comm, &work->replaced) : status;
}

/* ---- new rows ---- */

static myr_status check_source(const job *work)
{
    const myr_index_manifest *manifest = &work->cluster.manifest;
    const myr_source *source = &work->source;
    if (source->dim != manifest->dim || strcmp(source->metric, manifest->metric) != 0)
        return myr_fail(MYR_ERR_CONTRACT,
                        "the index holds vectors of %d values under metric %s, these have %d under %s", manifest->dim,
                        manifest->metric, source->dim, source->metric);
    if (!source->contract != !manifest->contract ||
        (source->contract && strcmp(source->contract, manifest->contract) != 0))
        return myr_fail(MYR_ERR_CONTRACT,
                        "the index was made under contract %.12s, these under %.12s; distances between "
                        "them mean nothing: embed with the model of the index",
                        manifest->contract ? manifest->contract : "none", source->contract ? source->contract : "none");
    return MYR_OK;
}

/* Place of a class among the index's, which grow by those they lack. -1 without memory. */
static int32_t place_of_class(myr_index_manifest *manifest, const char *name)
{
    for (size_t i = 0; i < manifest->n_classes; i++)
        if (strcmp(manifest->classes[i], name) == 0)
            return (int32_t)i;
    char *copy = myr_strdup(name);
    if (!copy ||
        !myr_resize(&manifest->classes, manifest->n_classes, manifest->n_classes + 1, sizeof *manifest->classes)) {
        free(copy);
        return -1;
    }
    manifest->classes[manifest->n_classes] = copy;
    return (int32_t)manifest->n_classes++;
}

/* Ids behind those that are there, labels by the index's classes, numbers as keys of bare vectors. */
static myr_status settle_rows(job *work, const int32_t *classes, myr_shard_rows *rows)
{
    for (int64_t i = 0; i < rows->n; i++) {
        rows->id[i] += work->plan.first_id;
        if (rows->label[i] >= 0)
            rows->label[i] = (size_t)rows->label[i] < work->source.n_classes ? classes[rows->label[i]] : -1;
        if (work->source.contract)
            continue;
        char key[32];
        snprintf(key, sizeof key, "%lld", (long long)rows->id[i]);
        free(rows->key[i]);
        rows->key[i] = myr_strdup(key);
        if (!rows->key[i])
            return myr_fail(MYR_ERR_NOMEM, "no memory for keys");
    }
    return myr_shard_rows_sort(rows);
}

static myr_status settle(job *work)
{
    int32_t *classes = myr_alloc(work->source.n_classes, sizeof *classes);
    bool is_whole = classes;
    for (size_t i = 0; is_whole && i < work->source.n_classes; i++) {
        classes[i] = place_of_class(&work->cluster.manifest, work->source.classes[i]);
        is_whole = classes[i] >= 0;
    }
    myr_status status = is_whole ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for classes");
    for (size_t s = 0; s < work->cluster.manifest.n_shards && status == MYR_OK; s++)
        if (is_hosted(work, s))
            status = settle_rows(work, classes, &work->added[s]);
    free(classes);
    return status;
}

/* New ids go behind those that are there. Collective. */
static myr_status number_rows(job *work)
{
    const myr_comm *comm = work->comm;
    int64_t last = -1;
    myr_status status = MYR_OK;
    for (size_t s = 0; s < work->cluster.manifest.n_shards; s++)
        if (is_hosted(work, s) && work->cluster.shards[s].n > 0) {
            const int64_t *id = work->cluster.shards[s].id + work->cluster.shards[s].n - 1;
            if (status == MYR_OK)
                status = myr_sections_touch(work->cluster.shards[s].file, id, sizeof *id);
            last = status == MYR_OK && *id > last ? *id : last;
        }
    status = myr_comm_agree(comm, status);
    if (status != MYR_OK)
        return status;
    MPI_Allreduce(&last, &work->plan.first_id, 1, MPI_INT64_T, MPI_MAX, comm->mpi);
    work->plan.first_id++;
    if (work->plan.first_id > INT64_MAX - work->source.n_ids)
        return myr_fail(MYR_ERR_LIMIT, "the index has used up its ids; build it again");
    return MYR_OK;
}

/* Collective. */
static myr_status receive_rows(job *work)
{
    const myr_comm *comm = work->comm;
    const myr_change_options *options = work->options;
    myr_index_manifest *manifest = &work->cluster.manifest;
    if (options->n_operands == 0)
        return MYR_OK;
    myr_status status = myr_source_open(options->operands, options->n_operands, manifest->metric, &work->source);
    if (status == MYR_OK)
        status = check_source(work);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = number_rows(work);
    if (status == MYR_OK)
        status = myr_plan_shards(comm, &work->source, work->cluster.router, manifest->n_shards, work->cluster.pool,
                                 &work->plan);
    if (status == MYR_OK)
        status = myr_overlap_follow(comm, &work->source, work->cluster.router, manifest->n_shards, work->cluster.pool,
                                    &work->plan);
    if (status == MYR_OK)
        status = myr_exchange_rows(comm, &work->source, &work->plan, manifest->n_shards, options->progress, work->added,
                                   NULL);
    if (status != MYR_OK)
        return status;
    return myr_comm_agree(comm, settle(work));
}

/* ---- shards ---- */

/* Which rows of a shard go: their ids, ascending, and a mark for each row. */
typedef struct going {
    int64_t *ids;
    bool *marks; /* (n) */
    size_t n;
} going;

static bool is_going(const job *work, const char *key)
{
    return myr_keys_hold(&work->removed, key) || myr_keys_hold(&work->replaced, key);
}

static myr_status find_going(job *work, const myr_shard *shard, going *out)
{
    out->ids = myr_alloc((size_t)shard->n, sizeof *out->ids);
    out->marks = myr_alloc((size_t)shard->n, sizeof *out->marks);
    if (!out->ids || !out->marks)
        return myr_fail(MYR_ERR_NOMEM, "no memory to change a shard of %lld items", (long long)shard->n);
    for (int64_t row = 0; row < shard->n; row++) {
        const char *key = myr_text_table_get(&shard->key, (size_t)row);
        bool is_removed = myr_keys_hold(&work->removed, key);
        bool is_replaced = !is_removed && myr_keys_hold(&work->replaced, key);
        out->marks[row] = is_removed || is_replaced;
        if (!out->marks[row])
            continue;
        out->ids[out->n++] = shard->id[row];
        myr_buffer_put_i64(&work->gone, shard->id[row]);
        myr_buffer_put_i64(&work->gone, is_replaced);
    }
    return work->gone.failed ? myr_fail(MYR_ERR_NOMEM, "no memory to list what goes") : MYR_OK;
}

/* What is written of the rows beside their vectors. New ids are above the old ones. */
static myr_status merge_rows(const myr_shard *shard, const going *gone, const myr_shard_rows *added,
                             myr_shard_rows *merged)
{
    myr_status status = myr_shard_rows_create(merged, shard->n - (int64_t)gone->n + added->n, 0);
    for (int64_t row = 0; row < shard->n && status == MYR_OK; row++)
        if (!gone->marks[row])
            status = myr_shard_rows_add(merged, NULL, shard->id[row], shard->label[row],
                                        myr_text_table_get(&shard->key, (size_t)row),
                                        myr_text_table_get(&shard->source, (size_t)row));
    for (int64_t i = 0; i < added->n && status == MYR_OK; i++)
        status = myr_shard_rows_add(merged, NULL, added->id[i], added->label[i], added->key[i], added->source[i]);
    return status;
}

static myr_status change_graph(const job *work, const myr_hnsw *old, const going *gone, const myr_shard_rows *added,
                               myr_hnsw **graph)
{
    myr_hnsw *less = NULL;
    if (work->cluster.manifest.quantize == MYR_QUANTIZE_SQ8_F16)
        myr_hnsw_round(added->vectors, (size_t)added->n * (size_t)added->dim);
    myr_status status = myr_hnsw_remove(old, gone->ids, gone->n, work->cluster.pool, &less);
    if (status == MYR_OK && added->n > 0)
        status = myr_hnsw_add(less, added->vectors, (size_t)added->n, added->id, work->cluster.pool, graph);
    else if (status == MYR_OK) {
        *graph = less;
        less = NULL;
    }
    myr_hnsw_free(less);
    return status == MYR_OK ? myr_hnsw_check(*graph) : status;
}

static myr_status write_shard(job *work, size_t s, const myr_hnsw *graph, const myr_shard_rows *rows)
{
    myr_shard_entry *entry = &work->cluster.manifest.shards[s];
    snprintf(entry->file, sizeof entry->file, "shard-%05zu-%s.h5", s, work->build_id);
    entry->n_items = rows->n;
    myr_hnsw_digest(graph, entry->digest);
    char *path = myr_path_join(work->options->folder, entry->file);
    myr_status status = path ? myr_shard_write(path, graph, rows) : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    if (status == MYR_OK)
        status = myr_sections_checksum(path, &entry->checksum);
    free(path);
    return status;
}

static myr_status change_shard(job *work, size_t s)
{
    myr_shard *shard = &work->cluster.shards[s];
    myr_shard_rows *added = &work->added[s], merged = {0};
    going gone = {0};
    myr_hnsw *graph = NULL;
    myr_status status = myr_shard_verify(shard, work->cluster.pool);
    if (status == MYR_OK)
        status = find_going(work, shard, &gone);
    bool is_changed = gone.n > 0 || added->n > 0;
    if (status == MYR_OK && is_changed)
        status = change_graph(work, shard->graph, &gone, added, &graph);
    if (status == MYR_OK && is_changed)
        status = merge_rows(shard, &gone, added, &merged);
    if (status == MYR_OK && is_changed)
        status = write_shard(work, s, graph, &merged);
    if (status == MYR_OK)
        status = myr_recount_gone(&work->recount, work->cluster.router, shard, s, gone.marks, work->cluster.pool);
    if (status == MYR_OK)
        status = myr_curve_add(graph ? graph : shard->graph, work->report->n_items, work->cluster.pool, &work->curve);
    if (status == MYR_OK)
        status = myr_route_trial_add(&work->trial, graph ? graph : shard->graph, s, work->cluster.pool);
    work->n_changed += is_changed;
    myr_hnsw_free(graph);
    myr_shard_rows_free(&merged);
    myr_shard_rows_free(added);
    free(gone.ids);
    free(gone.marks);
    return status;
}

/* Collective. */
static myr_status change_shards(job *work)
{
    const myr_comm *comm = work->comm;
    myr_index_manifest *manifest = &work->cluster.manifest;
    myr_progress progress;
    int64_t n_all = 0, done = 0;
    myr_status status = MYR_OK;
    for (size_t s = 0; s < manifest->n_shards; s++)
        n_all += manifest->shards[s].n_items + (work->plan.shard_items ? work->plan.shard_items[s] : 0);
    myr_progress_start(&progress, "changing graphs", "items", n_all, 0, work->options->progress);
    for (size_t s = (size_t)comm->rank; s < manifest->n_shards && status == MYR_OK; s += (size_t)comm->size) {
        int64_t n = work->cluster.shards[s].n + work->added[s].n;
        status = myr_stop_requested ? myr_fail(MYR_ERR_STOPPED, "stopped by a signal; the index is as it was")
                                    : change_shard(work, s);
        done += n;
        myr_progress_update(&progress, done * comm->size < n_all ? done * comm->size : n_all);
    }
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        myr_progress_finish(&progress, n_all);
    for (size_t s = 0; s < manifest->n_shards && status == MYR_OK; s++)
        MPI_Bcast(&manifest->shards[s], sizeof manifest->shards[s], MPI_BYTE, (int)(s % (size_t)comm->size), comm->mpi);
    return status;
}

/* ---- the whole ---- */

/* Rank 0: a name for the new files that no file in force bears. */
static void choose_id(job *work)
{
    const myr_index_manifest *manifest = &work->cluster.manifest;
    char text[512], hash[MYR_SHA256_TEXT];
    bool is_taken = true;
    for (int attempt = 0; is_taken; attempt++) {
        snprintf(text, sizeof text, "change %s %s %llu %d", manifest->digest,
                 work->source.digest ? work->source.digest : "",
                 (unsigned long long)myr_checksum64(work->removed.texts.data, work->removed.texts.size), attempt);
        myr_sha256_text(text, strlen(text), hash);
        memcpy(work->build_id, hash, 8);
        is_taken = strstr(manifest->router_file, work->build_id) != NULL;
        for (size_t s = 0; s < manifest->n_shards && !is_taken; s++)
            is_taken = strstr(manifest->shards[s].file, work->build_id) != NULL;
    }
}

static myr_status open_index(job *work)
{
    const myr_change_options *options = work->options;
    char *path = myr_path_join(options->folder, "index.json");
    myr_status status = path ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    if (status == MYR_OK && work->comm->rank == 0 && myr_path_exists(path))
        status = myr_folder_lock(options->folder, LOCK_PATIENCE_S, &work->lock);
    free(path);
    status = myr_comm_agree(work->comm, status);
    if (status == MYR_OK)
        status = myr_cluster_open(work->comm, options->folder, options->n_threads, NULL, &work->cluster);
    if (status != MYR_OK)
        return status;
    work->added = myr_alloc(work->cluster.manifest.n_shards, sizeof *work->added);
    return myr_comm_agree(work->comm, work->added ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for shards"));
}

/* An item that goes from two shards has gone once. Collective. */
static myr_status count_gone(job *work)
{
    enum { ROW = 2 * sizeof(int64_t) };
    myr_buffer all = {0};       /* on rank 0 */
    int64_t counts[2] = {0, 0}; /* removed, replaced */
    myr_status status = myr_gather_bytes(work->comm, &work->gone, &all);
    if (status == MYR_OK)
        myr_sort_by_id(&all, ROW);
    for (size_t at = 0; status == MYR_OK && at < all.size; at += ROW) {
        int64_t is_replaced;
        memcpy(&is_replaced, all.data + at + sizeof is_replaced, sizeof is_replaced);
        counts[is_replaced]++;
    }
    myr_buffer_free(&all);
    if (status == MYR_OK)
        MPI_Bcast(counts, 2, MPI_INT64_T, 0, work->comm->mpi);
    work->n_removed = counts[0];
    work->n_replaced = counts[1];
    return status;
}

static void fill_report(job *work)
{
    const myr_index_manifest *manifest = &work->cluster.manifest;
    myr_change_report *report = work->report;
    int64_t n_changed = work->n_changed;
    MPI_Allreduce(&n_changed, &work->n_changed, 1, MPI_INT64_T, MPI_SUM, work->comm->mpi);
    report->n_added = work->plan.n_items;
    report->n_removed = work->n_removed;
    report->n_replaced = work->n_replaced;
    report->n_changed = (size_t)work->n_changed;
    report->n_unknown = (int64_t)work->removed.n - work->n_removed;
    report->n_shards = manifest->n_shards;
    report->n_items = manifest->n_items + report->n_added - report->n_removed - report->n_replaced;
    for (size_t s = 0; s < manifest->n_shards; s++) {
        int64_t n = manifest->shards[s].n_items;
        report->n_rows += n;
        report->largest_shard = n > report->largest_shard ? n : report->largest_shard;
    }
}

/* Queries for the router's curve: items that stay, and new ones. Collective. */
static myr_status begin_trial(job *work)
{
    const myr_comm *comm = work->comm;
    const myr_cluster *cluster = &work->cluster;
    myr_buffer mine = {0}, all = {0};
    myr_status status = MYR_OK;
    if (!myr_router_is_calibrated(cluster->router))
        return MYR_OK;
    for (size_t s = 0; s < cluster->manifest.n_shards && status == MYR_OK; s++) {
        if (!is_hosted(work, s))
            continue;
        const myr_shard *shard = &cluster->shards[s];
        status = myr_shard_verify(&cluster->shards[s], cluster->pool);
        for (int64_t row = 0; row < shard->n && status == MYR_OK; row++)
            if (myr_trial_takes(shard->id[row], work->report->n_items) &&
                !is_going(work, myr_text_table_get(&shard->key, (size_t)row)))
                status = myr_trial_put(shard->graph, row, shard->id[row], &mine);
        for (int64_t i = 0; i < work->added[s].n && status == MYR_OK; i++)
            if (myr_trial_takes(work->added[s].id[i], work->report->n_items))
                status = myr_trial_put_row(&work->added[s], i, &mine);
    }
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_gather_bytes(comm, &mine, &all);
    if (status == MYR_OK) {
        myr_sort_by_id(&all, sizeof(int64_t) + (size_t)cluster->manifest.dim * sizeof(float));
        status = myr_route_trial_begin(comm, &all, (size_t)cluster->manifest.dim, &work->trial);
    }
    myr_buffer_free(&mine);
    myr_buffer_free(&all);
    return status;
}

/* The router and its curve as of now; where nothing is left to ask for, as they were. Collective. */
static myr_status renew_router(job *work)
{
    const myr_comm *comm = work->comm;
    myr_cluster *cluster = &work->cluster;
    if (work->trial.n == 0)
        return MYR_OK;
    myr_status status = myr_recount_plan(&work->recount, cluster->router, &work->plan);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_recount_apply(comm, &work->recount, &cluster->router);
    if (status == MYR_OK)
        status = myr_route_trial_end(comm, &work->trial, cluster->router, cluster->pool, &cluster->manifest.route);
    if (status != MYR_OK || comm->rank != 0)
        return myr_comm_agree(comm, status);
    snprintf(cluster->manifest.router_file, sizeof cluster->manifest.router_file, "router-%s.h5", work->build_id);
    char *path = myr_path_join(work->options->folder, cluster->manifest.router_file);
    status = path ? myr_router_write(path, cluster->router) : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    if (status == MYR_OK)
        status = myr_sections_checksum(path, &cluster->manifest.router_checksum);
    free(path);
    return myr_comm_agree(comm, status);
}

static myr_status run(job *work)
{
    const myr_comm *comm = work->comm;
    myr_index_manifest *manifest = &work->cluster.manifest;
    myr_status status = open_index(work);
    if (status == MYR_OK)
        status = receive_rows(work);
    if (status == MYR_OK)
        status = collect_keys(work);
    if (status != MYR_OK)
        return status;
    if (comm->rank == 0)
        choose_id(work);
    MPI_Bcast(work->build_id, sizeof work->build_id, MPI_BYTE, 0, comm->mpi);
    work->report->n_items = manifest->n_items + work->plan.n_items; /* as if nothing went, for the share measured */
    status = begin_trial(work);
    if (status == MYR_OK)
        status = change_shards(work);
    if (status == MYR_OK)
        status = count_gone(work);
    if (status == MYR_OK)
        status = renew_router(work);
    if (status != MYR_OK)
        return status;
    fill_report(work);
    myr_curve_gather(comm, &work->curve, &manifest->curve);
    manifest->n_items = work->report->n_items;
    manifest->n_copies = work->report->n_rows - work->report->n_items;
    myr_index_manifest_seal(manifest);
    memcpy(work->report->digest, manifest->digest, sizeof work->report->digest);
    if (comm->rank == 0)
        status = myr_index_manifest_write(work->options->folder, manifest);
    if (comm->rank == 0 && status == MYR_OK)
        myr_index_manifest_sweep(work->options->folder, manifest);
    return myr_comm_agree(comm, status);
}

myr_status myr_change(const myr_comm *comm, const myr_change_options *options, myr_change_report *report)
{
    job work = {.comm = comm, .options = options, .report = report, .lock = -1};
    double start_s = myr_now_s();
    *report = (myr_change_report){0};
    myr_status status = run(&work);
    for (size_t s = 0; work.added && s < work.cluster.manifest.n_shards; s++)
        myr_shard_rows_free(&work.added[s]);
    free(work.added);
    myr_buffer_free(&work.gone);
    myr_buffer_free(&work.recount.entries);
    myr_route_trial_free(&work.trial);
    myr_keys_free(&work.removed);
    myr_keys_free(&work.replaced);
    myr_shard_plan_free(&work.plan);
    myr_source_close(&work.source);
    myr_cluster_close(&work.cluster);
    myr_folder_unlock(work.lock);
    report->wall_s = myr_now_s() - start_s;
    return status;
}
