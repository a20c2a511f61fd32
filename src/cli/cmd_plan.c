/*
 * myriops plan: what a corpus will take, from rates that are known or, with --measure, measured here.
 */
#include "base/alloc.h"
#include "base/pool.h"
#include "base/progress.h"
#include "base/rng.h"
#include "cli/cli.h"
#include "cli/pictures.h"
#include "myriops/hnsw.h"
#include "myriops/partition.h"
#include "myriops/plan.h"
#include "myriops/vectors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_SMALL = 8000, N_LARGE = 40000, N_QUERIES = 1000, N_CENTROIDS = 512, CLUSTERS = 400, QUERY_K = 10 };

/* One thread of a 2-core server with AVX-512 and AMX; embeddings of the default model in f32, vectors like SIFT's. */
#define KNOWN_PICTURE_S 0.0115
#define KNOWN_VALUES 128.0

static myr_plan_rates known_rates(size_t dim, size_t code_bytes)
{
    /* Distances take longer as codes do; the rest of a step does not. */
    double longer = 0.6 + 0.4 * ceil((double)code_bytes / 64) * 64 / KNOWN_VALUES;
    return (myr_plan_rates){.picture_s = KNOWN_PICTURE_S,
                            .insert_s = {48e-6 * longer, 62e-6 * longer},
                            .search_s = {52e-6 * longer, 70e-6 * longer},
                            .n_small = N_SMALL,
                            .n_large = N_LARGE,
                            .assign_s = 2.2e-9 * (0.2 + 0.8 * (double)dim / KNOWN_VALUES)};
}

/* Of a vector: as many axes as embeddings of pictures have found to be enough, where the data is to say. */
static size_t code_bytes_of(const myr_config *config)
{
    enum { USUAL_AXES = 192, WIDE = 256 };
    size_t dim = (size_t)myr_config_int(config, "dim");
    int64_t axes = myr_config_int(config, "axes");
    if (strcmp(myr_config_text(config, "quantize"), "none") == 0)
        return dim * sizeof(float);
    size_t coded = axes > 0 ? (size_t)axes : axes < 0 && dim >= WIDE ? USUAL_AXES : dim;
    return coded < dim ? coded : dim;
}

/* ---- Measuring ---- */

typedef struct measuring {
    const myr_cli *cli;
    myr_pool *pool;
    int n_threads;  /* no more than this machine has, whatever the plan's ranks will have */
    float *vectors; /* (n, dim) */
    size_t n, dim;
    size_t ef;
} measuring;

/* Vectors in clusters, where none are given. */
static myr_status make_vectors(measuring *self)
{
    myr_rng rng;
    myr_rng_seed(&rng, 5);
    float *centres = myr_alloc(CLUSTERS, self->dim * sizeof *centres);
    self->n = N_LARGE;
    self->vectors = myr_alloc_huge(self->n, self->dim * sizeof *self->vectors);
    if (!centres || !self->vectors) {
        free(centres);
        return myr_fail(MYR_ERR_NOMEM, "no memory for %zu vectors to measure with", self->n);
    }
    for (size_t i = 0; i < CLUSTERS * self->dim; i++)
        centres[i] = (float)myr_rng_unit(&rng);
    for (size_t i = 0; i < self->n; i++) {
        const float *centre = centres + myr_rng_below(&rng, CLUSTERS) * self->dim;
        for (size_t d = 0; d < self->dim; d++)
            self->vectors[i * self->dim + d] = centre[d] + 0.6f * ((float)myr_rng_unit(&rng) - 0.5f);
    }
    free(centres);
    return MYR_OK;
}

/* Rows of a file, evenly. */
static myr_status read_vectors(measuring *self, const char *path)
{
    myr_vectors file;
    myr_status status = myr_vectors_read(path, "train", &file);
    if (status != MYR_OK)
        return status;
    self->dim = file.dim;
    self->n = file.n < N_LARGE ? file.n : N_LARGE;
    self->vectors = myr_alloc_huge(self->n, self->dim * sizeof *self->vectors);
    if (!self->vectors)
        status = myr_fail(MYR_ERR_NOMEM, "%s: no memory for %zu vectors", path, self->n);
    else if (self->n < 1000)
        status = myr_fail(MYR_ERR_ARG, "%s: %zu vectors; at least 1000 are needed to measure with", path, self->n);
    for (size_t i = 0; i < self->n && status == MYR_OK; i++)
        status = myr_vectors_to_f32(&file, i * file.n / self->n, 1, self->vectors + i * self->dim);
    myr_vectors_clear(&file);
    return status;
}

/* Seconds of a thread for an insertion and a search, in a graph of the first n. */
static myr_status measure_graph(const measuring *self, size_t n, double *insert_s, double *search_s, double *node_bytes)
{
    const myr_config *config = self->cli->config;
    size_t n_queries = n < N_QUERIES ? n : N_QUERIES;
    myr_hnsw_options options = {.M = (int)myr_config_int(config, "M"),
                                .ef_construction = (int)myr_config_int(config, "ef-construction"),
                                .is_float = strcmp(myr_config_text(config, "quantize"), "none") == 0};
    options.n_axes = options.is_float ? 0 : (int)myr_config_int(config, "axes");
    myr_hnsw *graph = NULL;
    myr_hnsw_facts facts;
    int64_t *ids = myr_alloc(n, sizeof *ids);
    myr_hit *hits = myr_alloc(n_queries, QUERY_K * sizeof *hits);
    myr_status status = ids && hits ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %zu ids", n);
    for (size_t i = 0; status == MYR_OK && i < n; i++)
        ids[i] = (int64_t)i;
    double start_s = myr_now_s();
    if (status == MYR_OK)
        status = myr_hnsw_build(self->vectors, n, self->dim, ids, &options, self->pool, &graph);
    double built_s = myr_now_s();
    if (status == MYR_OK)
        status = myr_hnsw_search_all(graph, self->pool, self->vectors, n_queries, QUERY_K, self->ef, hits);
    *insert_s = (built_s - start_s) * self->n_threads / (double)n;
    *search_s = (myr_now_s() - built_s) * self->n_threads / (double)n_queries;
    if (status == MYR_OK) {
        myr_hnsw_describe(graph, &facts);
        *node_bytes = (double)facts.n_bytes / (double)facts.n;
    }
    myr_hnsw_free(graph);
    free(ids);
    free(hits);
    return status;
}

/* Seconds of a thread for a vector and a centroid. */
static myr_status measure_assign(measuring *self, double *assign_s)
{
    myr_router *router = NULL;
    uint32_t *cluster = myr_alloc(self->n, sizeof *cluster);
    size_t n_sample = self->n < 4 * N_CENTROIDS ? self->n : 4 * N_CENTROIDS;
    myr_status status = cluster
                            ? myr_router_train(self->vectors, n_sample, self->dim, N_CENTROIDS, 1, self->pool, &router)
                            : myr_fail(MYR_ERR_NOMEM, "no memory for %zu clusters", self->n);
    double start_s = myr_now_s();
    if (status == MYR_OK)
        status = myr_router_assign(router, self->vectors, self->n, self->pool, cluster, NULL);
    *assign_s = (myr_now_s() - start_s) * self->n_threads / ((double)self->n * N_CENTROIDS);
    myr_router_free(router);
    free(cluster);
    return status;
}

static myr_status measure_pictures(const myr_cli *cli, int n_threads, double *picture_s)
{
    myr_card *card = NULL;
    myr_encoder *encoder = NULL;
    myr_pictures pictures = {0};
    myr_encoder_options options = {.backend = myr_config_text(cli->config, "backend")};
    options.precision = myr_cli_precision(cli->config, &options.least_cosine);
    myr_status status = myr_card_load(myr_config_text(cli->config, "model"), &card);
    if (status == MYR_OK)
        status = myr_encoder_open(card, &options, &encoder);
    if (status == MYR_OK)
        status = myr_pictures_encode(cli->operands, cli->n_operands, &(myr_corpus_options){0}, encoder, n_threads,
                                     &pictures);
    if (status == MYR_OK)
        *picture_s = pictures.wall_s * n_threads / (double)pictures.n;
    myr_pictures_clear(&pictures);
    myr_encoder_free(encoder);
    myr_card_free(card);
    return status;
}

/* Candidates that searches keep. */
static size_t walk_ef(const myr_cli *cli)
{
    size_t ef = (size_t)myr_config_int(cli->config, "ef-search");
    return ef > QUERY_K ? ef : QUERY_K;
}

static myr_status measure(const myr_cli *cli, myr_plan_request *request)
{
    const char *path = myr_config_text(cli->config, "vectors");
    measuring self = {.cli = cli, .dim = request->dim, .ef = walk_ef(cli)};
    myr_plan_rates *rates = &request->rates;
    self.n_threads = cli->n_threads < myr_usable_cpus() ? cli->n_threads : myr_usable_cpus();
    myr_status status = myr_pool_create(self.n_threads, &self.pool);
    if (status == MYR_OK)
        status = path ? read_vectors(&self, path) : make_vectors(&self);
    size_t n_small = self.n / (N_LARGE / N_SMALL);
    if (status == MYR_OK) {
        request->dim = self.dim;
        rates->n_small = (double)n_small;
        rates->n_large = (double)self.n;
        status = measure_graph(&self, n_small, &rates->insert_s[0], &rates->search_s[0], &request->node_bytes);
    }
    if (status == MYR_OK)
        status = measure_graph(&self, self.n, &rates->insert_s[1], &rates->search_s[1], &request->node_bytes);
    if (status == MYR_OK)
        status = measure_assign(&self, &rates->assign_s);
    if (status == MYR_OK && cli->n_operands > 0)
        status = measure_pictures(cli, self.n_threads, &rates->picture_s);
    free(self.vectors);
    myr_pool_free(self.pool);
    return status;
}

/* ---- Telling ---- */

static const char *time_text(double seconds, char text[32])
{
    if (seconds < 100)
        snprintf(text, 32, "%.1f s", seconds);
    else if (seconds < 6000)
        snprintf(text, 32, "%.0f min", seconds / 60);
    else if (seconds < 4 * 86400)
        snprintf(text, 32, "%.1f h", seconds / 3600);
    else
        snprintf(text, 32, "%.1f days", seconds / 86400);
    return text;
}

static const char *bytes_text(double bytes, char text[32])
{
    static const char *const units[] = {"MB", "GB", "TB", "PB"};
    size_t i = 0;
    for (bytes /= 1e6; bytes >= 1000 && i < 3; i++)
        bytes /= 1000;
    snprintf(text, 32, "%.3g %s", bytes, units[i]);
    return text;
}

static myr_status print_json(size_t ef, const myr_plan_request *request, const myr_plan *plan, bool measured)
{
    json_t *times =
        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "embed", plan->embed_s, "partition", plan->partition_s, "exchange",
                  plan->exchange_s, "graph", plan->graph_s, "write", plan->write_s, "index", plan->index_s);
    json_t *bytes = json_pack("{s:f, s:f, s:f, s:f}", "embeddings", plan->embeddings_bytes, "index", plan->index_bytes,
                              "build_rank", plan->build_rank_bytes, "serve_rank", plan->serve_rank_bytes);
    const myr_plan_rates *rates = &request->rates;
    json_t *spent = json_pack("{s:f, s:[f,f], s:[f,f], s:[f,f], s:f}", "picture", rates->picture_s, "sizes",
                              rates->n_small, rates->n_large, "insert", rates->insert_s[0], rates->insert_s[1],
                              "search", rates->search_s[0], rates->search_s[1], "assign", rates->assign_s);
    return myr_print_json(json_pack("{s:f, s:I, s:I, s:I, s:I, s:I, s:f, s:b, s:o, s:o, s:f, s:f, s:f, s:I, s:o}",
                                    "images", request->n_items, "ef", (json_int_t)ef, "dim", (json_int_t)request->dim,
                                    "ranks", (json_int_t)request->ranks, "threads", (json_int_t)request->threads,
                                    "shards", (json_int_t)plan->shards, "shard_items", plan->shard_items, "measured",
                                    (int)measured, "seconds", times, "bytes", bytes, "probes_per_query", plan->visits,
                                    "routed_qps", plan->routed_qps, "scattered_qps", plan->scattered_qps, "least_ranks",
                                    (json_int_t)plan->least_ranks, "thread_seconds", spent));
}

static myr_status print_plan(const myr_cli *cli, const myr_plan_request *request, const myr_plan *plan, bool measured)
{
    char a[32], b[32];
    if (strcmp(myr_config_text(cli->config, "format"), "json") == 0)
        return print_json(walk_ef(cli), request, plan, measured);
    printf("%.4g pictures, vectors of %zu values, on %zu rank%s x %zu thread%s; rates %s\n", request->n_items,
           request->dim, request->ranks, request->ranks == 1 ? "" : "s", request->threads,
           request->threads == 1 ? "" : "s",
           measured ? "measured here" : "of a known machine: --measure takes this one's");
    printf("embed   %s; %s of embeddings\n", time_text(plan->embed_s, a), bytes_text(plan->embeddings_bytes, b));
    printf("index   %s", time_text(plan->index_s, a));
    printf(" (partition %s,", time_text(plan->partition_s, a));
    printf(" exchange %s,", time_text(plan->exchange_s, a));
    printf(" graphs %s,", time_text(plan->graph_s, a));
    printf(" write %s); ", time_text(plan->write_s, a));
    printf("%s on disk, up to %s in a rank\n", bytes_text(plan->index_bytes, a), bytes_text(plan->build_rank_bytes, b));
    printf("        %zu shard%s of %.3g\n", plan->shards, plan->shards == 1 ? "" : "s", plan->shard_items);
    printf("query   %.3g a second at --probe auto (%.1f shards each), %.3g at --probe all; %s mapped in a rank\n",
           plan->routed_qps, plan->visits, plan->scattered_qps, bytes_text(plan->serve_rank_bytes, a));
    if (plan->least_ranks > 0)
        printf("memory  of %s a rank suffices from %zu rank%s on\n", bytes_text(request->rank_bytes, a),
               plan->least_ranks, plan->least_ranks == 1 ? "" : "s");
    return myr_flush_output();
}

static myr_status plan(const myr_cli *cli)
{
    const myr_config *config = cli->config;
    bool measures = myr_config_flag(config, "measure");
    const char *quantize = myr_config_text(config, "quantize");
    bool halves = strcmp(quantize, "sq8-f16") == 0, floats = strcmp(quantize, "none") == 0;
    myr_plan_request request = {
        .n_items = myr_config_real(config, "images"),
        .dim = (size_t)myr_config_int(config, "dim"),
        .M = (int)myr_config_int(config, "M"),
        .ranks = (size_t)myr_config_int(config, "ranks"),
        .threads = (size_t)cli->n_threads,
        .shards = (size_t)myr_config_int(config, "shards"),
        .code_bytes = code_bytes_of(config),
        .overlap = myr_config_real(config, "overlap"),
        .kept_value_bytes = floats   ? 0
                            : halves ? 2
                                     : 4,
        .embedding_value_bytes = strcmp(myr_config_text(config, "dtype"), "f16") == 0 ? 2 : 4,
        .rank_bytes = myr_config_real(config, "memory") * 1e9,
        .rates = known_rates((size_t)myr_config_int(config, "dim"), code_bytes_of(config)),
    };
    myr_plan made;
    request.ranks = request.ranks > 0 ? request.ranks : (size_t)cli->comm->size;
    myr_status status = measures ? measure(cli, &request) : MYR_OK;
    if (status == MYR_OK)
        status = myr_plan_make(&request, &made);
    return status == MYR_OK ? print_plan(cli, &request, &made, measures) : status;
}

myr_status myr_cmd_plan(const myr_cli *cli)
{
    if (myr_config_real(cli->config, "images") < 1)
        return myr_fail(MYR_ERR_ARG, "--images N is missing: how many pictures will there be?");
    if (!myr_config_flag(cli->config, "measure") && (cli->n_operands > 0 || myr_config_text(cli->config, "vectors")))
        return myr_fail(MYR_ERR_ARG, "pictures and --vectors are to measure with: add --measure");
    return cli->speaks ? plan(cli) : MYR_OK; /* arithmetic: one rank does it, the others agree */
}
