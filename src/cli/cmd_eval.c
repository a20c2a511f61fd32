/*
 * myriops eval: recall against exact search on sampled items, and kNN accuracy where labels exist.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "cli/cli.h"
#include "cli/eval_labels.h"
#include "cli/recall.h"
#include "dist/cluster.h"
#include "myriops/eval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t depths[] = {1, 10, 100};
enum { N_DEPTHS = sizeof depths / sizeof *depths };

typedef struct trial {
    size_t n, k; /* k: of the search by which labels and speed are told, the item itself among it */
    float *vectors;
    int64_t *ids;
    myr_hit *found; /* (n, k) */
    myr_search_report search;
    size_t n_truth;  /* of an item, itself among it */
    myr_hit *truth;  /* (n, n_truth) */
    size_t n_depths; /* that the index has room for */
    size_t ef[N_DEPTHS];
    myr_recall recall[N_DEPTHS];
    bool labelled;
    myr_retrieval retrieval;
} trial;

/* Searches as deep as is asked for, and compares. Collective. */
static myr_status measure_recall(myr_cluster *cluster, bool root, myr_search_options options, size_t i, trial *run)
{
    size_t k = depths[i] + 1;
    myr_hit *hits = myr_alloc(run->n * k, sizeof *hits);
    myr_status status = myr_comm_agree(cluster->comm, hits ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for hits"));
    options.k = k;
    options.ef = run->ef[i] = options.ef > k ? options.ef : k;
    if (status == MYR_OK)
        status = myr_cluster_search(cluster, run->vectors, run->n, &options, hits, NULL);
    if (status == MYR_OK && root)
        status = myr_items_recall(run->ids, run->n, hits, run->truth, run->n_truth, depths[i], &run->recall[i]);
    free(hits);
    return myr_comm_agree(cluster->comm, status);
}

/* Labels of the sampled items and of their hits; the item itself is left out. Collective. */
static myr_status measure_labels(myr_cluster *cluster, bool root, trial *run)
{
    size_t n = run->n, k = run->k, depth = k - 1, n_ids = n * (k + 1);
    int64_t *ids = myr_alloc(n_ids, sizeof *ids);
    myr_item_facts *facts = myr_alloc(n_ids, sizeof *facts);
    int32_t *query_label = myr_alloc(n, sizeof *query_label), *hit_label = myr_alloc(n * depth, sizeof *hit_label);
    myr_buffer texts = {0};
    myr_status status =
        ids && facts && query_label && hit_label ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for labels");
    status = myr_comm_agree(cluster->comm, status);
    for (size_t q = 0; q < n && status == MYR_OK && root; q++) {
        ids[q * (k + 1)] = run->ids[q];
        for (size_t i = 0; i < k; i++)
            ids[q * (k + 1) + 1 + i] = run->found[q * k + i].id;
    }
    if (status == MYR_OK)
        status = myr_cluster_describe(cluster, ids, n_ids, &texts, facts);
    if (status == MYR_OK && root) {
        for (size_t q = 0; q < n; q++) {
            query_label[q] = facts[q * (k + 1)].label;
            run->labelled = run->labelled || query_label[q] >= 0;
            size_t at = 0;
            for (size_t i = 0; i < k && at < depth; i++)
                if (run->found[q * k + i].id != run->ids[q])
                    hit_label[q * depth + at++] = facts[q * (k + 1) + 1 + i].label;
            while (at < depth)
                hit_label[q * depth + at++] = -1;
        }
        if (run->labelled)
            status = myr_eval_retrieval(query_label, hit_label, n, depth, NULL, &run->retrieval);
    }
    myr_buffer_free(&texts);
    free(ids);
    free(facts);
    free(query_label);
    free(hit_label);
    return myr_comm_agree(cluster->comm, status);
}

static json_t *recall_json(const trial *run)
{
    json_t *all = json_object();
    for (size_t i = 0; i < run->n_depths; i++) {
        const myr_recall *one = &run->recall[i];
        char name[16];
        snprintf(name, sizeof name, "%zu", depths[i]);
        json_object_set_new(all, name,
                            json_pack("{s:f, s:f, s:f, s:I}", "mean", one->recall, "low", one->low, "high", one->high,
                                      "ef", (json_int_t)run->ef[i]));
    }
    return all;
}

/* What the index measured of its shards when it was built; null where it did not. */
static json_t *route_json(const myr_route_curve *route)
{
    json_t *points = route->n_points > 0 ? json_array() : NULL;
    for (size_t i = 0; points && i < route->n_points; i++)
        myr_json_append(&points,
                        json_pack("{s:f, s:f}", "recall", route->points[i].recall, "shards", route->points[i].visits));
    return points ? points : json_null();
}

static myr_status print_json(const myr_cluster *cluster, const trial *run, double ms)
{
    json_t *labels = run->labelled ? json_pack("{s:f, s:f, s:f}", "knn_accuracy", run->retrieval.knn_accuracy,
                                               "precision", run->retrieval.precision, "map", run->retrieval.map)
                                   : json_null();
    return myr_print_json(json_pack("{s:I, s:o, s:f, s:f, s:f, s:f, s:o, s:o}", "queries", (json_int_t)run->n, "recall",
                                    recall_json(run), "ms_per_query", ms, "probes_per_query",
                                    run->search.probes_per_query, "hops_per_query", run->search.hops_per_query,
                                    "distances_per_query", run->search.distances_per_query, "labels", labels,
                                    "route_curve", route_json(&cluster->manifest.route)));
}

/* The first point of the curve that reaches each recall. */
static void print_routes(const myr_index_manifest *index)
{
    static const double wishes[] = {0.9, 0.95, 0.99, 0.999};
    const myr_route_curve *route = &index->route;
    if (route->n_points == 0)
        return;
    printf("shards, of %zu, that hold the 10 nearest, when it was built:", index->n_shards);
    for (size_t w = 0, i = 0; w < sizeof wishes / sizeof *wishes; w++) {
        while (i < route->n_points && route->points[i].recall < wishes[w])
            i++;
        if (i < route->n_points)
            printf("%s recall %.3f in %.2f", w > 0 ? "," : "", route->points[i].recall, route->points[i].visits);
    }
    printf("\n");
}

static myr_status draw_routes(const myr_cli *cli, const myr_index_manifest *index)
{
    const char *path = myr_config_text(cli->config, "out");
    double visits[MYR_ROUTE_POINTS], recall[MYR_ROUTE_POINTS];
    char title[128];
    myr_buffer out = {0};
    if (!path)
        return MYR_OK;
    if (index->route.n_points == 0)
        return myr_fail(MYR_ERR_NOT_FOUND,
                        "%s: this index has no curve of recall by shards: it takes several, by k-means", path);
    for (size_t i = 0; i < index->route.n_points; i++) {
        visits[i] = index->route.points[i].visits;
        recall[i] = index->route.points[i].recall;
    }
    snprintf(title, sizeof title, "%lld items in %zu shards", (long long)index->n_items, index->n_shards);
    myr_chart chart = {.title = title,
                       .x_name = "shards visited, mean of all queries",
                       .y_name = "share of the 10 nearest that lie in them",
                       .n = index->route.n_points,
                       .x = visits,
                       .y = recall};
    myr_status status = myr_chart_write(&chart, &out);
    if (status == MYR_OK)
        status = myr_file_replace(path, out.data, out.size);
    myr_buffer_free(&out);
    return status;
}

static myr_status print_report(const myr_cli *cli, const myr_cluster *cluster, const trial *run)
{
    double ms = 1e3 * run->search.wall_s / (double)run->n;
    if (strcmp(myr_config_text(cli->config, "format"), "json") == 0)
        return print_json(cluster, run, ms);
    printf("%zu sampled items of %lld, each without itself\n", run->n, (long long)cluster->manifest.n_items);
    for (size_t i = 0; i < run->n_depths; i++)
        printf("recall@%-4zu %.4f  (95 %% of such samples: %.4f to %.4f), ef %zu\n", depths[i], run->recall[i].recall,
               run->recall[i].low, run->recall[i].high, run->ef[i]);
    printf("%.3f ms a query, %.2f shards probed, %.0f hops, %.0f distances\n", ms, run->search.probes_per_query,
           run->search.hops_per_query, run->search.distances_per_query);
    print_routes(&cluster->manifest);
    if (run->labelled)
        printf("labels: kNN accuracy %.3f, precision %.3f, mAP %.3f\n", run->retrieval.knn_accuracy,
               run->retrieval.precision, run->retrieval.map);
    return myr_flush_output();
}

static myr_status measure(const myr_cli *cli, myr_cluster *cluster, trial *run)
{
    const myr_config *config = cli->config;
    myr_status status =
        myr_cluster_sample(cluster, (size_t)myr_config_int(config, "sample"), &run->vectors, &run->ids, &run->n);
    if (status == MYR_OK && run->n == 0)
        status = myr_fail(MYR_ERR_NOT_FOUND, "the sample is empty; take more with --sample");
    if (status != MYR_OK)
        return status;
    size_t n_others = cluster->manifest.n_items > 1 ? (size_t)cluster->manifest.n_items - 1 : 1;
    while (run->n_depths < N_DEPTHS && (depths[run->n_depths] <= n_others || run->n_depths == 0))
        run->n_depths++;
    run->n_truth = depths[run->n_depths - 1] + 1;
    run->k = (size_t)myr_config_int(config, "k") + 1; /* an item finds itself first */
    run->found = myr_alloc(run->n * run->k, sizeof *run->found);
    run->truth = myr_alloc(run->n * run->n_truth, sizeof *run->truth);
    status =
        myr_comm_agree(cli->comm, run->found && run->truth ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for hits"));
    myr_search_options options;
    if (status == MYR_OK)
        status = myr_choose_search(cli, &cluster->manifest, run->k, &options);
    if (status == MYR_OK)
        status = myr_cluster_search(cluster, run->vectors, run->n, &options, run->found, &run->search);
    myr_search_options all = {.k = run->n_truth, .ef = run->n_truth, .exact = true};
    if (status == MYR_OK)
        status = myr_cluster_search(cluster, run->vectors, run->n, &all, run->truth, NULL);
    for (size_t i = 0; i < run->n_depths && status == MYR_OK; i++)
        status = measure_recall(cluster, cli->comm->rank == 0, options, i, run);
    if (status == MYR_OK)
        status = measure_labels(cluster, cli->speaks, run);
    return status;
}

myr_status myr_cmd_eval(const myr_cli *cli)
{
    const char *folder = myr_config_text(cli->config, "index");
    if (!folder)
        return myr_fail(MYR_ERR_ARG, "--index FOLDER is missing: which index shall be measured?");
    const char *format = myr_config_text(cli->config, "format");
    bool labels = myr_config_flag(cli->config, "labels");
    if (!labels && (strcmp(format, "html") == 0 || myr_config_flag(cli->config, "exact")))
        return myr_fail(MYR_ERR_ARG, "--exact and --format html go with --labels");
    if (labels && strcmp(format, "table") == 0 && myr_config_text(cli->config, "out"))
        return myr_fail(MYR_ERR_ARG, "--labels --out FILE: say with --format what it shall be, json or html");
    myr_cluster cluster;
    trial run = {0};
    myr_status status = myr_check_probe(cli->config);
    if (status != MYR_OK)
        return status;
    status = myr_cluster_open(cli->comm, folder, cli->n_threads, NULL, &cluster);
    if (status == MYR_OK && labels)
        status = myr_eval_labels(cli, &cluster);
    else if (status == MYR_OK)
        status = measure(cli, &cluster, &run);
    if (status == MYR_OK && cli->speaks && !labels)
        status = print_report(cli, &cluster, &run);
    if (status == MYR_OK && cli->speaks && !labels)
        status = draw_routes(cli, &cluster.manifest);
    free(run.vectors);
    free(run.ids);
    free(run.found);
    free(run.truth);
    myr_cluster_close(&cluster);
    return status;
}
