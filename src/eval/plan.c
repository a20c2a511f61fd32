/*
 * Time, memory and disk from counts and rates.
 *
 * What the parts do is known from their algorithms; what a step takes comes with the request. Only what is small, or
 * the same on most machines, is a constant here.
 */
#include "myriops/plan.h"

#include <math.h>

/* Measured on SIFT (400,000 x 128) and CIFAR-10 embeddings (50,000 x 1280), one thread of a 2.x GHz server. */
#define ROW_S 6e-6            /* to read a row three times, send it and file it, whatever its length */
#define MOVED_BYTES_S 0.6e9   /* of vectors on that way */
#define WRITTEN_BYTES_S 0.8e9 /* an index, checksum and all */
#define SHARD_ITEMS 4e6       /* of a shard that is chosen: built in minutes, opened in seconds */
#define MOST_SHARDS 1048576.0

/* The job's own measurements and bounds. */
#define SAMPLE 262144.0
#define SAMPLE_BYTES 268435456.0
#define TRIAL_QUERIES 1500.0 /* to calibrate the router, and for the curve of recall, */
#define TRIAL_TIMES 4.0      /* as long as usual */
#define TRAIN_PASSES 6.25
#define CLUSTERS_A_SHARD 100.0
#define VECTORS_A_CLUSTER 40.0
#define EXCHANGE_BYTES 536870912.0

/* A row's key, source, label, ids and places, beside its vector: in memory, with what each text takes there, and in
 * files. */
#define ROW_BYTES 150.0
#define FILED_ROW_BYTES 70.0

/* Shards visited where the wish is 0.95 and half of what may be missed is theirs: 2.3 of 8 and 4.6 of 32 on SIFT. */
static double visits_of(double shards)
{
    double visits = 0.8 * sqrt(shards);
    return visits < 1 ? 1 : visits < shards ? visits : shards;
}

/* Of these, what is left where a share of the items lies in two: 0.91, 0.83, 0.72 for 0.05, 0.1, 0.2 on SIFT. */
static double visits_saved_by(double overlap)
{
    return 1 / (1 + 2 * overlap);
}

/* Rows of all shards. */
static double rows_of(const myr_plan_request *request, const myr_plan *plan)
{
    return request->n_items * (plan->shards > 1 ? 1 + request->overlap : 1);
}

/* Through two points, by the logarithm of the size; no less than the smaller one's. */
static double at_size(const myr_plan_rates *rates, const double seconds[2], double n)
{
    double step = (seconds[1] - seconds[0]) / (log2(rates->n_large) - log2(rates->n_small));
    double found = seconds[1] + step * (log2(n > 2 ? n : 2) - log2(rates->n_large));
    double least = seconds[0] < seconds[1] ? seconds[0] : seconds[1];
    return n >= rates->n_small && found < least ? least : found > 0 ? found : least;
}

/* Of a node: codes, what is kept beside them, links, and the rows of small arrays. */
static double node_bytes(const myr_plan_request *request)
{
    double codes = ceil((double)request->code_bytes / 64) * 64;
    double kept = (double)(request->dim * request->kept_value_bytes);
    double links = 8.0 * request->M + 4.0 * request->M / (request->M - 1.0);
    return request->node_bytes > 0 ? request->node_bytes : codes + kept + links + 29;
}

static size_t choose_shards(const myr_plan_request *request)
{
    if (request->shards > 0)
        return request->shards;
    double a_rank = ceil(request->n_items / (double)request->ranks / SHARD_ITEMS);
    double shards = (double)request->ranks * (a_rank < 1 ? 1 : a_rank);
    return (size_t)(shards < MOST_SHARDS ? shards : MOST_SHARDS);
}

/* Shards of the fullest rank. */
static double shards_a_rank(const myr_plan *plan, size_t ranks)
{
    return ceil((double)plan->shards / (double)ranks);
}

static double build_bytes(const myr_plan_request *request, const myr_plan *plan, size_t ranks)
{
    double rows = shards_a_rank(plan, ranks) * plan->shard_items * (4.0 * (double)request->dim + ROW_BYTES);
    double sample = 2 * fmin(SAMPLE_BYTES, request->n_items * 4 * (double)request->dim);
    double moved = fmin(EXCHANGE_BYTES, 2 * rows_of(request, plan) * 4 * (double)request->dim);
    double graph = plan->shard_items * (node_bytes(request) + 32);
    return fmax(rows + graph, fmax(rows, sample) + moved);
}

static void plan_time(const myr_plan_request *request, myr_plan *plan)
{
    const myr_plan_rates *rates = &request->rates;
    double workers = (double)request->ranks * (double)request->threads, threads = (double)request->threads;
    double busy = fmin((double)request->ranks, (double)plan->shards), n = request->n_items, dim = (double)request->dim;
    double sample = fmin(fmin(n, SAMPLE), SAMPLE_BYTES / (4 * dim));
    double clusters =
        fmin(CLUSTERS_A_SHARD * (double)plan->shards, fmax(sample / VECTORS_A_CLUSTER, (double)plan->shards));
    bool is_routed = plan->shards > 1;
    double rows = rows_of(request, plan), passes = rows > n ? 2 : 1; /* the second finds what lies at boundaries */
    plan->embed_s = n * rates->picture_s / workers;
    plan->partition_s = is_routed ? rates->assign_s * clusters * (TRAIN_PASSES * sample / threads + passes * n / workers) : 0;
    plan->exchange_s = rows / (double)request->ranks * (ROW_S + 4 * dim / MOVED_BYTES_S);
    double shards = ceil((double)plan->shards / busy), search_s = at_size(rates, rates->search_s, plan->shard_items);
    double trial_s = is_routed ? shards * TRIAL_QUERIES * TRIAL_TIMES * search_s : 0;
    plan->graph_s =
        (shards * plan->shard_items * at_size(rates, rates->insert_s, plan->shard_items) + trial_s) / threads;
    plan->write_s = plan->index_bytes / busy / WRITTEN_BYTES_S;
    plan->index_s = plan->partition_s + plan->exchange_s + plan->graph_s + plan->write_s;
    plan->visits = fmax(1, visits_of((double)plan->shards) * visits_saved_by(rows / n - 1));
    plan->scattered_qps = workers / (search_s * (double)plan->shards);
    plan->routed_qps = workers / (search_s * plan->visits);
}

myr_status myr_plan_make(const myr_plan_request *request, myr_plan *plan)
{
    const myr_plan_rates *rates = &request->rates;
    *plan = (myr_plan){0};
    if (!(request->n_items >= 1 && request->n_items <= 1e15) || request->dim < 1 || request->M < 2 ||
        request->ranks < 1 || request->threads < 1 || !(request->overlap >= 0 && request->overlap <= 1))
        return myr_fail(MYR_ERR_ARG, "plan: at least one item, value, rank and thread are needed, M of 2 or more, and an "
                                     "overlap of 0 to 1");
    if (!(rates->insert_s[0] > 0 && rates->insert_s[1] > 0 && rates->search_s[0] > 0 && rates->search_s[1] > 0 &&
          rates->n_small >= 2 && rates->n_large > rates->n_small && rates->assign_s > 0 && rates->picture_s > 0))
        return myr_fail(MYR_ERR_ARG, "plan: a rate is missing");
    plan->shards = choose_shards(request);
    plan->shard_items = rows_of(request, plan) / (double)plan->shards;
    plan->embeddings_bytes =
        request->n_items * ((double)(request->dim * request->embedding_value_bytes) + FILED_ROW_BYTES);
    plan->index_bytes = rows_of(request, plan) * (node_bytes(request) + FILED_ROW_BYTES);
    plan->build_rank_bytes = build_bytes(request, plan, request->ranks);
    plan->serve_rank_bytes =
        shards_a_rank(plan, request->ranks) * plan->shard_items * (node_bytes(request) + FILED_ROW_BYTES);
    plan_time(request, plan);
    size_t least = 1;
    while (request->rank_bytes > 0 && least < plan->shards && build_bytes(request, plan, least) > request->rank_bytes)
        least++;
    plan->least_ranks = request->rank_bytes > 0 ? least : 0;
    return MYR_OK;
}
