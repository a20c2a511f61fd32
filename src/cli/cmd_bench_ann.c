/*
 * myriops bench ann: how fast an HNSW graph is built and searched, at which recall.
 *
 * One graph over the whole data set, on this process's threads. For each ef all queries are answered in rounds; the
 * rate is that of the median round. A hit counts when it is as near as the true k-th neighbour; the distances of both
 * are measured anew from the vectors as the data set has them, so that neither the scale of the file's distances nor
 * what the graph rounds matters. Without true neighbours in the data set, exact search finds them for a sample of the
 * queries.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "base/pool.h"
#include "base/progress.h"
#include "cli/bench.h"
#include "myriops/exact.h"
#include "myriops/hnsw.h"
#include "myriops/vectors.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 5
#define GRAIN 16       /* queries a thread takes at once */
#define MAX_EF_LIST 64 /* lengths of a curve */
#define MAX_EXACT 1000 /* queries whose true neighbours are searched */

typedef struct ann {
    const myr_cli *cli;
    const char *dataset;
    myr_pool *pool;
    myr_metric metric;
    size_t n, dim, n_queries, k;
    float *base, *queries; /* (n, dim), (n_queries, dim) */
    double *reach;         /* (n_queries) distance of the true k-th neighbour; NAN = not known */
    int64_t *ids;          /* (n) */
    myr_hnsw *graph;
    double build_s;
    myr_hnsw_searcher **searchers; /* (n_threads) */
    myr_hnsw_stats *stats;         /* (n_threads) */
    myr_hit *hits;                 /* (n_queries, k) */
    size_t ef;
} ann;

typedef struct point {
    size_t ef;
    double recall, queries_per_s, hops, distances; /* the last two a query */
} point;

static myr_status no_memory(const ann *self)
{
    return myr_fail(MYR_ERR_NOMEM, "%s: no memory for its vectors", self->dataset);
}

/* ---- The data set ---- */

/* A file in the folder that has this name and an end of a format that is read; [owned by caller], NULL if none. */
static char *find_file(const char *folder, const char *name)
{
    static const char *const ends[] = {"fbin", "u8bin", "i8bin", "fvecs", "bvecs", "npy"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char file[128];
        snprintf(file, sizeof file, "%s.%s", name, ends[i]);
        char *path = myr_path_join(folder, file);
        if (path && myr_path_exists(path))
            return path;
        free(path);
    }
    return NULL;
}

static void normalise(float *rows, size_t n, size_t dim)
{
    for (size_t i = 0; i < n; i++, rows += dim) {
        double squared = 0;
        for (size_t d = 0; d < dim; d++)
            squared += (double)rows[d] * (double)rows[d];
        for (size_t d = 0; d < dim && squared > 0; d++)
            rows[d] = (float)((double)rows[d] / sqrt(squared));
    }
}

static myr_status read_rows(const ann *self, const char *path, const char *name, float **rows, size_t *n, size_t *dim)
{
    myr_vectors file;
    size_t n_values;
    myr_status status = myr_vectors_read(path, name, &file);
    if (status != MYR_OK)
        return status;
    *n = file.n;
    *dim = file.dim;
    *rows = myr_mul(file.n, file.dim, &n_values) ? myr_alloc_huge(n_values, sizeof **rows) : NULL;
    status = *rows ? myr_vectors_to_f32(&file, 0, file.n, *rows) : no_memory(self);
    myr_vectors_clear(&file);
    if (status == MYR_OK && self->metric == MYR_METRIC_COSINE)
        normalise(*rows, *n, *dim);
    return status;
}

/* As hits have it. */
static double distance_of(const ann *self, const float *a, const float *b)
{
    double product = 0, squared = 0;
    for (size_t d = 0; d < self->dim; d++) {
        product += (double)a[d] * (double)b[d];
        squared += ((double)a[d] - (double)b[d]) * ((double)a[d] - (double)b[d]);
    }
    if (self->metric == MYR_METRIC_L2)
        return sqrt(squared);
    return self->metric == MYR_METRIC_COSINE ? 1 - product : -product;
}

static myr_status read_truth(ann *self, const char *path)
{
    myr_truth truth;
    myr_status status = myr_truth_read(path, &truth);
    if (status != MYR_OK)
        return status;
    if (truth.n < self->n_queries || truth.k < self->k)
        status = myr_fail(MYR_ERR_FORMAT, "%s: %zu neighbours of %zu queries; %zu of %zu are needed", path, truth.k,
                          truth.n, self->k, self->n_queries);
    for (size_t q = 0; q < self->n_queries && status == MYR_OK; q++) {
        double farthest = -INFINITY;
        for (size_t i = 0; i < self->k && status == MYR_OK; i++) {
            int64_t id = truth.ids[q * truth.k + i];
            if (id < 0 || (size_t)id >= self->n) {
                status = myr_fail(MYR_ERR_FORMAT, "%s: neighbour %lld of query %zu is no row of the base", path,
                                  (long long)id, q);
                break;
            }
            farthest =
                fmax(farthest, distance_of(self, self->queries + q * self->dim, self->base + (size_t)id * self->dim));
        }
        self->reach[q] = farthest;
    }
    myr_truth_clear(&truth);
    return status;
}

/* Where base, queries and true neighbours are; [owned by caller], truth NULL where there is none. */
static myr_status find_files(const char *dataset, char **base, char **queries, char **truth)
{
    size_t length = strlen(dataset);
    bool is_hdf5 = (length > 5 && strcmp(dataset + length - 5, ".hdf5") == 0) ||
                   (length > 3 && strcmp(dataset + length - 3, ".h5") == 0);
    static const char *const truths[] = {"groundtruth.bin", "groundtruth.ibin", "groundtruth.ivecs"};
    *truth = NULL;
    if (is_hdf5) {
        *base = myr_strdup(dataset);
        *queries = myr_strdup(dataset);
        *truth = myr_strdup(dataset);
        return *base && *queries && *truth ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    }
    *base = find_file(dataset, "base");
    *queries = find_file(dataset, "query");
    for (size_t i = 0; i < sizeof truths / sizeof *truths && !*truth; i++) {
        *truth = myr_path_join(dataset, truths[i]);
        if (*truth && !myr_path_exists(*truth)) {
            free(*truth);
            *truth = NULL;
        }
    }
    return *base && *queries ? MYR_OK
                             : myr_fail(MYR_ERR_NOT_FOUND,
                                        "%s: neither an ann-benchmarks file (.hdf5) nor a folder with base.* and "
                                        "query.* (fbin, u8bin, i8bin, fvecs, bvecs or npy)",
                                        dataset);
}

static myr_status load(ann *self)
{
    char *base = NULL, *queries = NULL, *truth = NULL;
    size_t query_dim = 0;
    myr_status status = find_files(self->dataset, &base, &queries, &truth);
    if (status == MYR_OK)
        status = read_rows(self, base, "train", &self->base, &self->n, &self->dim);
    if (status == MYR_OK)
        status = read_rows(self, queries, "test", &self->queries, &self->n_queries, &query_dim);
    if (status == MYR_OK && (query_dim != self->dim || self->n < self->k || self->n_queries < 1))
        status = myr_fail(MYR_ERR_FORMAT, "%s: %zu vectors of %zu values and %zu queries of %zu do not fit together",
                          self->dataset, self->n, self->dim, self->n_queries, query_dim);
    if (status == MYR_OK) {
        self->reach = myr_alloc(self->n_queries, sizeof *self->reach);
        self->ids = myr_alloc(self->n, sizeof *self->ids);
        self->hits = myr_alloc(self->n_queries * self->k, sizeof *self->hits);
        status = self->reach && self->ids && self->hits ? MYR_OK : no_memory(self);
    }
    for (size_t q = 0; status == MYR_OK && q < self->n_queries; q++)
        self->reach[q] = (double)NAN;
    for (size_t i = 0; status == MYR_OK && i < self->n; i++)
        self->ids[i] = (int64_t)i;
    if (status == MYR_OK && truth)
        status = read_truth(self, truth);
    free(base);
    free(queries);
    free(truth);
    return status;
}

/* ---- Build and search ---- */

static myr_status build(ann *self)
{
    const myr_config *config = self->cli->config;
    myr_hnsw_options options = {.M = (int)myr_config_int(config, "M"),
                                .ef_construction = (int)myr_config_int(config, "ef-construction"),
                                .seed = (uint64_t)myr_config_int(config, "seed"),
                                .metric = self->metric,
                                .is_float = strcmp(myr_config_text(config, "quantize"), "none") == 0};
    if (!options.is_float && options.metric != MYR_METRIC_IP)
        options.n_axes = (int)myr_config_int(config, "axes");
    const float *vectors = self->base;
    float *rounded = NULL;
    if (strcmp(myr_config_text(config, "quantize"), "sq8-f16") == 0) {
        size_t n_values = self->n * self->dim; /* as many as were read */
        vectors = rounded = myr_alloc_huge(n_values, sizeof *rounded);
        if (!rounded)
            return no_memory(self);
        memcpy(rounded, self->base, n_values * sizeof *rounded);
        myr_hnsw_round(rounded, n_values);
    }
    double start_s = myr_now_s();
    myr_status status = myr_hnsw_build(vectors, self->n, self->dim, self->ids, &options, self->pool, &self->graph);
    self->build_s = myr_now_s() - start_s;
    free(rounded);
    return status == MYR_OK ? myr_hnsw_check(self->graph) : status;
}

static myr_status make_searchers(ann *self)
{
    int n_threads = self->cli->n_threads;
    self->searchers = myr_alloc((size_t)n_threads, sizeof(myr_hnsw_searcher *));
    self->stats = myr_alloc((size_t)n_threads, sizeof *self->stats);
    myr_status status = self->searchers && self->stats ? MYR_OK : no_memory(self);
    for (int i = 0; i < n_threads && status == MYR_OK; i++)
        status = myr_hnsw_searcher_create(self->graph, &self->searchers[i]);
    return status;
}

static myr_status search_task(void *context, size_t first, size_t last, int thread)
{
    ann *self = context;
    return myr_hnsw_search_batch(self->searchers[thread], self->queries + first * self->dim, last - first, self->k,
                                 self->ef, self->hits + first * self->k, &self->stats[thread]);
}

/* True neighbours of some queries, where the data set brings none. */
static myr_status search_truth(ann *self)
{
    size_t n = self->n_queries < MAX_EXACT ? self->n_queries : MAX_EXACT;
    if (!isnan(self->reach[0]))
        return MYR_OK;
    myr_exact *set;
    myr_status status = myr_exact_create(self->base, self->n, self->dim, self->ids, self->metric, self->pool, &set);
    if (status == MYR_OK)
        status = myr_exact_search(set, self->pool, self->queries, n, self->k, self->hits);
    myr_exact_free(set);
    for (size_t q = 0; q < n && status == MYR_OK; q++)
        self->reach[q] = (double)self->hits[q * self->k + self->k - 1].distance;
    return status;
}

static double recall_of(const ann *self)
{
    size_t n_found = 0, n_known = 0;
    for (size_t q = 0; q < self->n_queries; q++) {
        double edge = self->reach[q] + fabs(self->reach[q]) * 1e-6 + 1e-7;
        if (isnan(self->reach[q]))
            continue;
        n_known++;
        for (size_t i = 0; i < self->k; i++) {
            int64_t id = self->hits[q * self->k + i].id;
            n_found += id >= 0 &&
                       distance_of(self, self->queries + q * self->dim, self->base + (size_t)id * self->dim) <= edge;
        }
    }
    return (double)n_found / (double)(n_known * self->k);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static myr_status measure(ann *self, size_t ef, point *result)
{
    double seconds[ROUNDS];
    myr_status status = MYR_OK;
    int n_threads = self->cli->n_threads;
    self->ef = ef > self->k ? ef : self->k;
    for (int round = 0; round < ROUNDS && status == MYR_OK; round++) {
        memset(self->stats, 0, (size_t)n_threads * sizeof *self->stats);
        double start_s = myr_now_s();
        status = myr_pool_for(self->pool, self->n_queries, GRAIN, search_task, self);
        seconds[round] = myr_now_s() - start_s;
    }
    if (status != MYR_OK)
        return status;
    qsort(seconds, ROUNDS, sizeof *seconds, by_value);
    *result = (point){.ef = self->ef, .recall = recall_of(self)};
    result->queries_per_s = (double)self->n_queries / seconds[ROUNDS / 2];
    for (int i = 0; i < n_threads; i++) {
        result->hops += (double)self->stats[i].n_hops / (double)self->n_queries;
        result->distances += (double)self->stats[i].n_distances / (double)self->n_queries;
    }
    return MYR_OK;
}

/* ---- The outcome ---- */

static myr_status read_ef_list(const myr_config *config, size_t *list, size_t *n)
{
    const char *text = myr_config_text(config, "ef");
    *n = 0;
    for (const char *at = text; *at && *n < MAX_EF_LIST; at += *at == ',') {
        char *end;
        errno = 0;
        long long ef = strtoll(at, &end, 10);
        if (end == at || (*end && *end != ',') || errno || ef < 1 || ef > 1000000)
            return myr_fail(MYR_ERR_ARG, "ef = %s: it is a list of whole numbers, such as 20,50,100", text);
        list[(*n)++] = (size_t)ef;
        at = end;
    }
    return *n > 0 ? MYR_OK : myr_fail(MYR_ERR_ARG, "ef = %s: it is a list of whole numbers, such as 20,50,100", text);
}

static myr_status print_outcome(const ann *self, const point *curve, size_t n)
{
    myr_hnsw_facts facts;
    char digest[65];
    double points_per_s = (double)self->n / self->build_s;
    myr_hnsw_describe(self->graph, &facts);
    myr_hnsw_digest(self->graph, digest);
    if (strcmp(myr_config_text(self->cli->config, "format"), "json") == 0) {
        json_t *points = json_array();
        for (size_t i = 0; i < n; i++)
            myr_json_append(&points, json_pack("{s:I, s:f, s:f, s:f, s:f}", "ef", (json_int_t)curve[i].ef, "recall",
                                               curve[i].recall, "qps", curve[i].queries_per_s, "hops", curve[i].hops,
                                               "distances", curve[i].distances));
        return myr_print_json(
            json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:f, s:f, s:I, s:f, s:s, s:o}", "dataset",
                      myr_json_text(self->dataset), "n", (json_int_t)self->n, "dim", (json_int_t)self->dim, "queries",
                      (json_int_t)self->n_queries, "k", (json_int_t)self->k, "M", (json_int_t)facts.M, "axes",
                      (json_int_t)facts.n_axes, "ef_construction", (json_int_t)facts.ef_construction, "threads",
                      self->cli->n_threads, "build_s", self->build_s, "build_points_per_s", points_per_s, "index_bytes",
                      (json_int_t)facts.n_bytes, "mean_links", facts.mean_links, "digest", digest, "curve", points));
    }
    printf("%s: %zu vectors of %zu values, %zu queries, recall@%zu, %d thread%s\n", self->dataset, self->n, self->dim,
           self->n_queries, self->k, self->cli->n_threads, self->cli->n_threads == 1 ? "" : "s");
    printf("built in %.1f s, %.0f points/s, M %d, ef_construction %d, %.1f links a node, %.1f MB, digest %.16s\n\n",
           self->build_s, points_per_s, facts.M, facts.ef_construction, facts.mean_links, (double)facts.n_bytes * 1e-6,
           digest);
    if (facts.n_axes > 0)
        printf("codes along %zu axes\n\n", facts.n_axes);
    printf("%6s %8s %12s %10s %12s\n", "ef", "recall", "queries/s", "hops", "distances");
    for (size_t i = 0; i < n; i++)
        printf("%6zu %8.4f %12.0f %10.1f %12.1f\n", curve[i].ef, curve[i].recall, curve[i].queries_per_s, curve[i].hops,
               curve[i].distances);
    return myr_flush_output();
}

static void clear(ann *self)
{
    for (int i = 0; self->searchers && i < self->cli->n_threads; i++)
        myr_hnsw_searcher_free(self->searchers[i]);
    free(self->searchers);
    free(self->stats);
    myr_hnsw_free(self->graph);
    myr_pool_free(self->pool);
    free(self->base);
    free(self->queries);
    free(self->reach);
    free(self->ids);
    free(self->hits);
}

myr_status myr_bench_ann(const myr_cli *cli)
{
    size_t list[MAX_EF_LIST], n;
    point curve[MAX_EF_LIST];
    ann self = {
        .cli = cli, .dataset = myr_config_text(cli->config, "dataset"), .k = (size_t)myr_config_int(cli->config, "k")};
    if (!self.dataset)
        return myr_fail(MYR_ERR_ARG, "name the data set: --dataset FILE.hdf5, or a folder with base.*, query.* and "
                                     "groundtruth.*");
    myr_metric_of(myr_config_text(cli->config, "metric"), &self.metric); /* one of the choices */
    myr_status status = read_ef_list(cli->config, list, &n);
    if (status == MYR_OK)
        status = myr_pool_create(cli->n_threads, &self.pool);
    if (status == MYR_OK)
        status = load(&self);
    if (status == MYR_OK)
        status = build(&self);
    if (status == MYR_OK)
        status = make_searchers(&self);
    if (status == MYR_OK)
        status = search_truth(&self);
    for (size_t i = 0; i < n && status == MYR_OK; i++)
        status = measure(&self, list[i], &curve[i]);
    if (status == MYR_OK)
        status = print_outcome(&self, curve, n);
    clear(&self);
    return status;
}
