/*
 * The index job.
 *
 *   1. survey     each rank reads every size-th block: range of the values, and a sample chosen by id
 *   2. partition  rank 0 trains the router on the sample; all assign their blocks and pack alike; where shards overlap,
 *                 all find the items that lie in two
 *   3. exchange   rows travel to their shard's rank in rounds of bounded size
 *   4. graphs     each rank sorts, builds and writes its shards, one after the other
 *   5. manifest   rank 0 writes index.json, which puts the new index in force
 */
#include "dist/build.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/rng.h"
#include "dist/curve.h"
#include "dist/exchange.h"
#include "dist/overlap.h"
#include "dist/room.h"
#include "dist/router_file.h"
#include "dist/shard.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SAMPLE 262144
#define SHUFFLE_SEED 11
#define ROW_BYTES 100.0    /* a row's texts and numbers in memory, about */
#define LOCK_PATIENCE_S 15 /* ranks of a killed job may live on for seconds */

size_t myr_sample_bytes = (size_t)256 << 20;

typedef struct job {
    const myr_comm *comm;
    const myr_build_options *options;
    myr_build_report *report;
    myr_source source;
    myr_metric metric;
    myr_pool *pool;
    myr_router *router;
    char build_id[9]; /* in the names of the files, so that an older index is not overwritten */
    int lock;         /* rank 0: the output folder is this job's; -1 = not held */
    float code_min, code_max;
    int n_axes;        /* of codes; none where they cannot be */
    bool all_whole;    /* all values are whole numbers */
    myr_buffer sample; /* on rank 0: rows of {id, vector} */
    myr_shard_plan plan;
    myr_shard_rows *shards; /* (n_shards), those of this rank filled */
    myr_index_manifest manifest;
    myr_hnsw_curve curve; /* of this rank's shards */
    myr_route_trial trial;
} job;

/* Rows whose id hashes below this are in the sample: about MAX_SAMPLE of all, fewer where they are long. */
static bool in_sample(const job *work, int64_t id)
{
    size_t by_bytes = myr_sample_bytes / ((size_t)work->source.dim * sizeof(float));
    double most = (double)(by_bytes < MAX_SAMPLE ? by_bytes : MAX_SAMPLE);
    double share = most / (double)(work->source.n_ids > 0 ? work->source.n_ids : 1);
    return share >= 1 || (double)(myr_hash64((uint64_t)id, (uint64_t)work->options->seed) >> 11) * 0x1p-53 < share;
}

static myr_status survey_rows(job *work, const myr_rows *rows, myr_buffer *sample)
{
    size_t dim = (size_t)work->source.dim;
    for (int64_t i = 0; i < rows->n; i++) {
        const float *vector = rows->vectors + (size_t)i * dim;
        for (size_t d = 0; d < dim; d++) {
            if (vector[d] < work->code_min)
                work->code_min = vector[d];
            if (vector[d] > work->code_max)
                work->code_max = vector[d];
            work->all_whole = work->all_whole && vector[d] == truncf(vector[d]);
        }
        if (in_sample(work, rows->id[i])) {
            myr_buffer_put_i64(sample, rows->id[i]);
            myr_buffer_append(sample, vector, dim * sizeof *vector);
        }
    }
    return sample->failed ? myr_fail(MYR_ERR_NOMEM, "no memory for the sample") : MYR_OK;
}

static myr_status survey(job *work)
{
    const myr_comm *comm = work->comm;
    myr_buffer sample = {0};
    myr_status status = MYR_OK;
    work->code_min = INFINITY;
    work->code_max = -INFINITY;
    work->all_whole = true;
    for (int64_t block = comm->rank; block < work->source.n_blocks && status == MYR_OK; block += comm->size) {
        myr_rows rows = {0};
        status = myr_stop_requested ? myr_fail(MYR_ERR_STOPPED, "stopped by a signal; run the same command again")
                                    : myr_source_read(&work->source, block, &rows);
        if (status == MYR_OK)
            status = survey_rows(work, &rows, &sample);
        myr_rows_clear(&rows);
    }
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK) {
        float range[3] = {-work->code_min, work->code_max, work->all_whole ? 0.0f : 1.0f}, all[3];
        MPI_Allreduce(range, all, 3, MPI_FLOAT, MPI_MAX, comm->mpi);
        work->code_min = -all[0];
        work->code_max = all[1];
        myr_hnsw_fit_codes(all[2] == 0, &work->code_min, &work->code_max);
        status = myr_gather_bytes(comm, &sample, &work->sample);
        work->report->sent_bytes += comm->rank == 0 ? 0 : (double)sample.size;
    }
    myr_buffer_free(&sample);
    return status;
}

static size_t sample_row_bytes(const job *work)
{
    return sizeof(int64_t) + (size_t)work->source.dim * sizeof(float);
}

/* A random order that ids alone decide, so that ranks leave no trace. */
static int by_chance(const void *a, const void *b)
{
    int64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    uint64_t of_x = myr_hash64((uint64_t)x, SHUFFLE_SEED), of_y = myr_hash64((uint64_t)y, SHUFFLE_SEED);
    return of_x != of_y ? (of_x > of_y) - (of_x < of_y) : (x > y) - (x < y);
}

/* Rank 0: centroids of the sample. */
static myr_status train(job *work)
{
    const myr_build_options *options = work->options;
    size_t dim = (size_t)work->source.dim, row_bytes = sample_row_bytes(work), n = work->sample.size / row_bytes;
    if (options->hash)
        return myr_router_create_hash(options->n_shards, &work->router);
    if (n == 0)
        return myr_fail(MYR_ERR_NOT_FOUND, "there is nothing to index: no input has a usable vector");
    qsort(work->sample.data, n, row_bytes, by_chance);
    float *vectors = myr_alloc(n, dim * sizeof *vectors);
    if (!vectors)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a sample of %zu vectors", n);
    for (size_t i = 0; i < n; i++)
        memcpy(vectors + i * dim, work->sample.data + i * row_bytes + sizeof(int64_t), dim * sizeof *vectors);
    myr_status status = myr_router_train(vectors, n, dim, myr_router_n_clusters(n, options->n_shards),
                                         (uint64_t)options->seed, work->pool, &work->router);
    free(vectors);
    return status;
}

/* Bytes that this rank takes while it builds, at least: its rows, and its largest graph beside them. */
static double needed_bytes(const job *work)
{
    double dim = (double)work->source.dim, n_rows = 0, largest = 0;
    for (size_t s = (size_t)work->comm->rank; s < work->options->n_shards; s += (size_t)work->comm->size) {
        double n = (double)work->plan.shard_items[s];
        n_rows += n;
        largest = n > largest ? n : largest;
    }
    return n_rows * (sizeof(float) * dim + ROW_BYTES) + largest * (dim + 2 * work->options->M * sizeof(uint32_t));
}

/* Collective. */
static myr_status check_memory(const job *work)
{
    return myr_room_check(work->comm, needed_bytes(work), work->options->rank_bytes, "build their shards",
                          "use more hosts, or more shards; `myriops plan` tells how many");
}

static myr_status partition(job *work)
{
    const myr_comm *comm = work->comm;
    myr_status status = survey(work);
    if (status != MYR_OK)
        return status;
    status = myr_comm_agree(comm, comm->rank == 0 ? train(work) : MYR_OK);
    bool is_routed = !work->options->hash && work->options->n_shards > 1;
    if (status == MYR_OK && is_routed)
        status = myr_route_trial_begin(comm, &work->sample, (size_t)work->source.dim, &work->trial);
    myr_buffer_free(&work->sample);
    if (status == MYR_OK)
        status = myr_router_share(comm, &work->router);
    if (status == MYR_OK)
        status = myr_plan_shards(comm, &work->source, work->router, work->options->n_shards, work->pool, &work->plan);
    if (status == MYR_OK && is_routed && work->options->overlap > 0)
        status = myr_overlap_choose(comm, &work->source, work->router, work->options->n_shards, work->options->overlap,
                                    work->pool, &work->plan);
    return status == MYR_OK ? check_memory(work) : status;
}

/* A shard that a run before this one finished: of the same inputs and settings, which its name tells, and the same
 * rows. */
static bool is_finished(const job *work, const myr_shard *shard, const myr_shard_rows *rows)
{
    myr_hnsw_facts facts;
    myr_hnsw_describe(shard->graph, &facts);
    return shard->n == rows->n && facts.dim == (size_t)rows->dim && facts.M == work->options->M &&
           facts.ef_construction == work->options->ef_construction && facts.seed == (uint64_t)work->options->seed &&
           facts.metric == work->metric && memcmp(shard->id, rows->id, (size_t)rows->n * sizeof *rows->id) == 0;
}

static myr_status build_graph(job *work, const myr_shard_rows *rows, myr_hnsw **graph)
{
    const myr_build_options *options = work->options;
    myr_hnsw_options settings = {.M = options->M,
                                 .ef_construction = options->ef_construction,
                                 .seed = (uint64_t)options->seed,
                                 .metric = work->metric,
                                 .is_float = options->quantize == MYR_QUANTIZE_NONE,
                                 .n_axes = work->n_axes,
                                 .code_min = work->code_min,
                                 .code_max = work->code_max};
    if (options->quantize == MYR_QUANTIZE_SQ8_F16)
        myr_hnsw_round(rows->vectors, (size_t)rows->n * (size_t)rows->dim);
    myr_status status =
        myr_hnsw_build(rows->vectors, (size_t)rows->n, (size_t)rows->dim, rows->id, &settings, work->pool, graph);
    return status == MYR_OK ? myr_hnsw_check(*graph) : status;
}

/* The curves that the index is built with. */
static myr_status measure_graph(job *work, const myr_hnsw *graph, size_t s)
{
    myr_status status = myr_curve_add(graph, work->report->n_items, work->pool, &work->curve);
    return status == MYR_OK ? myr_route_trial_add(&work->trial, graph, s, work->pool) : status;
}

static myr_status file_shard(job *work, size_t s, const char *path, const myr_shard_rows *rows)
{
    double start_s = myr_now_s();
    myr_shard kept = {0};
    myr_hnsw *graph = NULL;
    bool is_kept =
        myr_path_exists(path) && myr_shard_open(path, NULL, &kept) == MYR_OK && is_finished(work, &kept, rows);
    myr_status status = is_kept ? MYR_OK : build_graph(work, rows, &graph);
    const myr_hnsw *made = is_kept ? kept.graph : graph;
    if (status == MYR_OK)
        status = measure_graph(work, made, s);
    double built_s = myr_now_s();
    work->report->graph_s += built_s - start_s;
    work->report->n_kept += is_kept;
    if (status == MYR_OK)
        myr_hnsw_digest(made, work->manifest.shards[s].digest);
    if (status == MYR_OK && !is_kept)
        status = myr_shard_write(path, graph, rows);
    if (status == MYR_OK)
        status = myr_sections_checksum(path, &work->manifest.shards[s].checksum);
    work->report->write_s += myr_now_s() - built_s;
    myr_shard_close(&kept);
    myr_hnsw_free(graph);
    return status;
}

static myr_status build_shard(job *work, size_t s)
{
    myr_shard_rows *rows = &work->shards[s];
    myr_shard_entry *entry = &work->manifest.shards[s];
    snprintf(entry->file, sizeof entry->file, "shard-%05zu-%s.h5", s, work->build_id);
    entry->n_items = rows->n;
    char *path = myr_path_join(work->options->folder, entry->file);
    myr_status status = path ? myr_shard_rows_sort(rows) : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    if (status == MYR_OK)
        status = file_shard(work, s, path, rows);
    free(path);
    myr_shard_rows_free(rows);
    return status;
}

static myr_status build_graphs(job *work)
{
    const myr_comm *comm = work->comm;
    size_t n_shards = work->options->n_shards;
    myr_progress progress;
    int64_t done = 0, n_rows = work->report->n_rows;
    myr_status status = MYR_OK;
    myr_progress_start(&progress, "building graphs", "items", n_rows, 0, work->options->progress);
    for (size_t s = (size_t)comm->rank; s < n_shards && status == MYR_OK; s += (size_t)comm->size) {
        int64_t n = work->shards[s].n;
        status = myr_stop_requested ? myr_fail(MYR_ERR_STOPPED, "stopped by a signal; run the same command again")
                                    : build_shard(work, s);
        done += n;
        myr_progress_update(&progress, done * comm->size < n_rows ? done * comm->size : n_rows);
    }
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        myr_progress_finish(&progress, n_rows);
    return status;
}

/* Every shard's entry from its rank to rank 0. */
static void gather_entries(job *work)
{
    const myr_comm *comm = work->comm;
    for (size_t s = 0; s < work->options->n_shards; s++) {
        int owner = (int)(s % (size_t)comm->size);
        MPI_Bcast(&work->manifest.shards[s], sizeof work->manifest.shards[s], MPI_BYTE, owner, comm->mpi);
    }
}

/* Texts of the manifest are borrowed from the source and options here. */
static void fill_manifest(job *work)
{
    const myr_build_options *options = work->options;
    myr_index_manifest *manifest = &work->manifest;
    manifest->n_items = work->report->n_items;
    manifest->n_copies = work->report->n_rows - work->report->n_items;
    manifest->overlap = options->overlap;
    manifest->dim = work->source.dim;
    manifest->M = options->M;
    manifest->ef_construction = options->ef_construction;
    manifest->seed = options->seed;
    manifest->metric = work->source.metric;
    manifest->contract = work->source.contract;
    manifest->model = work->source.model;
    manifest->quantize = options->quantize;
    manifest->partition = options->hash ? "hash" : "kmeans";
    manifest->classes = work->source.classes;
    manifest->n_classes = work->source.n_classes;
    snprintf(manifest->router_file, sizeof manifest->router_file, "router-%s.h5", work->build_id);
}

/* Rank 0. */
static myr_status put_in_force(job *work)
{
    myr_index_manifest *manifest = &work->manifest;
    char *path = myr_path_join(work->options->folder, manifest->router_file);
    myr_status status = path ? myr_router_write(path, work->router) : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    if (status == MYR_OK)
        status = myr_sections_checksum(path, &manifest->router_checksum);
    if (status == MYR_OK)
        status = myr_index_manifest_write(work->options->folder, manifest);
    if (status == MYR_OK)
        myr_index_manifest_sweep(work->options->folder, manifest);
    free(path);
    return status;
}

/* An id that the index in force does not bear, so that its files are not touched before the new one is whole. */
static void choose_id(job *work, const char *in_force)
{
    const myr_build_options *options = work->options;
    char text[512], hash[MYR_SHA256_TEXT];
    for (int attempt = 0;; attempt++) {
        snprintf(text, sizeof text, "%s %s %d %d %d %zu %d %d %lld %d", MYRIOPS_VERSION, work->source.digest,
                 options->hash, (int)options->quantize, work->n_axes, options->n_shards, options->M,
                 options->ef_construction, (long long)options->seed, attempt);
        if (options->overlap > 0)
            snprintf(text + strlen(text), sizeof text - strlen(text), " %.17g", options->overlap);
        myr_sha256_text(text, strlen(text), hash);
        memcpy(work->build_id, hash, 8);
        if (!in_force || !strstr(in_force, work->build_id))
            return;
    }
}

/* Collective: rank 0 looks and chooses. */
static void name_build(job *work)
{
    if (work->comm->rank == 0) {
        myr_buffer in_force = {0};
        char *path = myr_path_join(work->options->folder, "index.json");
        bool is_there = path && myr_path_exists(path) && myr_file_read(path, (size_t)256 << 20, &in_force) == MYR_OK;
        choose_id(work, is_there ? in_force.data : NULL);
        myr_buffer_free(&in_force);
        free(path);
    }
    MPI_Bcast(work->build_id, sizeof work->build_id, MPI_BYTE, 0, work->comm->mpi);
}

static myr_status open_inputs(job *work)
{
    const myr_build_options *options = work->options;
    myr_status status = myr_source_open(options->operands, options->n_operands, options->metric, &work->source);
    if (status == MYR_OK && !myr_metric_of(work->source.metric, &work->metric))
        status =
            myr_fail(MYR_ERR_UNSUPPORTED, "there is no metric '%s'; embed with cosine, l2 or ip", work->source.metric);
    if (status == MYR_OK && options->quantize == MYR_QUANTIZE_NONE && work->metric == MYR_METRIC_IP)
        status = myr_fail(MYR_ERR_ARG, "--quantize none is for l2 and cosine: inner products are measured on codes");
    bool may_have_axes = options->quantize != MYR_QUANTIZE_NONE && work->metric != MYR_METRIC_IP;
    if (status == MYR_OK && options->n_axes > 0 && !may_have_axes)
        status = myr_fail(MYR_ERR_ARG, "--axes is for codes (--quantize sq8, sq8-f16) under l2 and cosine");
    work->n_axes = may_have_axes ? options->n_axes : 0;
    if (status == MYR_OK && options->hash && options->overlap > 0)
        status = myr_fail(MYR_ERR_ARG, "--overlap is for --partition kmeans: shards by hash have no boundaries, all of "
                                       "them are asked, and a second copy would find nothing more");
    if (status == MYR_OK && options->overlap > 0 && work->metric == MYR_METRIC_IP)
        status = myr_fail(MYR_ERR_ARG, "--overlap is for l2 and cosine: under ip all shards are asked, and a second "
                                       "copy would find nothing more");
    if (status == MYR_OK)
        status = myr_pool_create(options->n_threads, &work->pool);
    work->manifest.n_shards = options->n_shards;
    work->manifest.shards = myr_alloc(options->n_shards, sizeof *work->manifest.shards);
    work->shards = myr_alloc(options->n_shards, sizeof *work->shards);
    if (status == MYR_OK && (!work->manifest.shards || !work->shards))
        status = myr_fail(MYR_ERR_NOMEM, "no memory for %zu shards", options->n_shards);
    if (status == MYR_OK && work->comm->rank == 0)
        status = myr_folder_create(options->folder);
    if (status == MYR_OK && work->comm->rank == 0)
        status = myr_folder_lock(options->folder, LOCK_PATIENCE_S, &work->lock);
    if (status == MYR_OK && work->comm->rank == 0)
        status = myr_folder_sweep(options->folder);
    return status;
}

static myr_status run(job *work)
{
    const myr_comm *comm = work->comm;
    myr_build_report *report = work->report;
    double start_s = myr_now_s();
    myr_status status = myr_comm_agree(comm, open_inputs(work));
    if (status != MYR_OK)
        return status;
    name_build(work);
    status = partition(work);
    double partitioned_s = myr_now_s();
    if (status == MYR_OK)
        status = myr_exchange_rows(comm, &work->source, &work->plan, work->options->n_shards, work->options->progress,
                                   work->shards, &report->sent_bytes);
    if (status != MYR_OK)
        return status;
    report->partition_s = partitioned_s - start_s;
    report->exchange_s = myr_now_s() - partitioned_s;
    report->n_items = work->plan.n_items;
    for (size_t s = 0; s < work->options->n_shards; s++) {
        report->n_rows += work->plan.shard_items[s];
        if (work->plan.shard_items[s] > report->largest_shard)
            report->largest_shard = work->plan.shard_items[s];
    }
    status = build_graphs(work);
    if (status != MYR_OK)
        return status;
    gather_entries(work);
    myr_curve_gather(comm, &work->curve, &work->manifest.curve);
    fill_manifest(work);
    myr_index_manifest_seal(&work->manifest);
    status = myr_route_trial_end(comm, &work->trial, work->router, work->pool, &work->manifest.route);
    if (status == MYR_OK)
        status = myr_comm_agree(comm, comm->rank == 0 ? put_in_force(work) : MYR_OK);
    double busy_s = report->graph_s + report->write_s, summed[2] = {busy_s, report->sent_bytes}, all[6];
    double mine[6] = {report->partition_s, report->exchange_s,    report->graph_s,
                      report->write_s,     myr_now_s() - start_s, busy_s};
    MPI_Allreduce(mine, all, 6, MPI_DOUBLE, MPI_MAX, comm->mpi);
    MPI_Allreduce(MPI_IN_PLACE, summed, 2, MPI_DOUBLE, MPI_SUM, comm->mpi);
    report->partition_s = all[0];
    report->exchange_s = all[1];
    report->graph_s = all[2];
    report->write_s = all[3];
    report->wall_s = all[4];
    report->imbalance = summed[0] > 0 ? all[5] * comm->size / summed[0] : 1;
    report->sent_bytes = summed[1];
    report->n_shards = work->options->n_shards;
    uint64_t n_kept = report->n_kept;
    MPI_Allreduce(MPI_IN_PLACE, &n_kept, 1, MPI_UINT64_T, MPI_SUM, comm->mpi);
    report->n_kept = (size_t)n_kept;
    memcpy(report->digest, work->manifest.digest, sizeof report->digest);
    return status;
}

myr_status myr_build(const myr_comm *comm, const myr_build_options *options, myr_build_report *report)
{
    job work = {.comm = comm, .options = options, .report = report, .lock = -1};
    *report = (myr_build_report){0};
    myr_status status = run(&work);
    for (size_t s = 0; work.shards && s < options->n_shards; s++)
        myr_shard_rows_free(&work.shards[s]);
    free(work.shards);
    free(work.manifest.shards);
    myr_shard_plan_free(&work.plan);
    myr_router_free(work.router);
    myr_route_trial_free(&work.trial);
    myr_source_close(&work.source);
    myr_buffer_free(&work.sample);
    myr_pool_free(work.pool);
    myr_folder_unlock(work.lock);
    return status;
}
