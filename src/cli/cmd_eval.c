/*
 * myriops eval: recall against exact search on sampled items, and kNN accuracy where labels exist.
 */
#include "base/alloc.h"
#include "cli/cli.h"
#include "dist/cluster.h"
#include "myriops/eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct trial {
    size_t n, k;
    float *vectors;
    int64_t *ids;
    myr_hit *found, *truth; /* (n, k) */
    myr_search_report search;
    bool labelled;
    myr_retrieval retrieval;
} trial;

/* Recall at a depth no deeper than what was searched. */
static myr_status recall_at(const trial *run, size_t k, myr_recall *recall)
{
    int64_t *truth = myr_alloc(run->n * k, sizeof *truth);
    float *distance = myr_alloc(run->n * k, sizeof *distance);
    myr_hit *found = myr_alloc(run->n * k, sizeof *found);
    myr_status status = truth && distance && found ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for recall");
    for (size_t q = 0; q < run->n && status == MYR_OK; q++) {
        for (size_t i = 0; i < k; i++) {
            truth[q * k + i] = run->truth[q * run->k + i].id;
            distance[q * k + i] = run->truth[q * run->k + i].distance;
            found[q * k + i] = run->found[q * run->k + i];
        }
    }
    if (status == MYR_OK)
        status = myr_eval_recall(truth, distance, k, found, run->n, k, recall);
    free(truth);
    free(distance);
    free(found);
    return status;
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

static myr_status print_report(const myr_cli *cli, const myr_cluster *cluster, const trial *run)
{
    static const size_t depths[] = {1, 10, 100};
    bool json = strcmp(myr_config_text(cli->config, "format"), "json") == 0;
    double ms = 1e3 * run->search.wall_s / (double)run->n;
    json_t *recalls = json_object();
    myr_status status = recalls ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for the answer");
    if (!json)
        printf("%zu sampled items of %lld, ef %lld\n", run->n, (long long)cluster->manifest.n_items,
               (long long)myr_config_int(cli->config, "ef-search"));
    for (size_t i = 0; i < sizeof depths / sizeof *depths && status == MYR_OK; i++) {
        myr_recall recall;
        char name[16];
        if (depths[i] > run->k)
            break;
        status = recall_at(run, depths[i], &recall);
        snprintf(name, sizeof name, "%zu", depths[i]);
        json_object_set_new(
            recalls, name, json_pack("{s:f, s:f, s:f}", "mean", recall.recall, "low", recall.low, "high", recall.high));
        if (!json && status == MYR_OK)
            printf("recall@%-4s %.4f  (95 %% of such samples: %.4f to %.4f)\n", name, recall.recall, recall.low,
                   recall.high);
    }
    if (status != MYR_OK || json) {
        json_t *labels = run->labelled ? json_pack("{s:f, s:f, s:f}", "knn_accuracy", run->retrieval.knn_accuracy,
                                                   "precision", run->retrieval.precision, "map", run->retrieval.map)
                                       : json_null();
        if (status == MYR_OK)
            return myr_print_json(json_pack("{s:I, s:o, s:f, s:f, s:o}", "queries", (json_int_t)run->n, "recall",
                                            recalls, "ms_per_query", ms, "probes_per_query",
                                            run->search.probes_per_query, "labels", labels));
        json_decref(labels);
        json_decref(recalls);
        return status;
    }
    json_decref(recalls);
    printf("%.3f ms a query, %.2f shards probed\n", ms, run->search.probes_per_query);
    if (run->labelled)
        printf("labels: kNN accuracy %.3f, precision %.3f, mAP %.3f\n", run->retrieval.knn_accuracy,
               run->retrieval.precision, run->retrieval.map);
    return myr_flush_output();
}

static myr_status measure(const myr_cli *cli, size_t n_probe, myr_cluster *cluster, trial *run)
{
    const myr_config *config = cli->config;
    myr_status status =
        myr_cluster_sample(cluster, (size_t)myr_config_int(config, "sample"), &run->vectors, &run->ids, &run->n);
    if (status == MYR_OK && run->n == 0)
        status = myr_fail(MYR_ERR_NOT_FOUND, "the sample is empty; take more with --sample");
    if (status != MYR_OK)
        return status;
    run->k = (size_t)myr_config_int(config, "k") + 1; /* an item finds itself first */
    run->found = myr_alloc(run->n * run->k, sizeof *run->found);
    run->truth = myr_alloc(run->n * run->k, sizeof *run->truth);
    status =
        myr_comm_agree(cli->comm, run->found && run->truth ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for hits"));
    size_t ef = (size_t)myr_config_int(config, "ef-search");
    myr_search_options options = {.k = run->k, .ef = ef > run->k ? ef : run->k, .n_probe = n_probe};
    if (status == MYR_OK)
        status = myr_cluster_search(cluster, run->vectors, run->n, &options, run->found, &run->search);
    options.exact = true;
    if (status == MYR_OK)
        status = myr_cluster_search(cluster, run->vectors, run->n, &options, run->truth, NULL);
    if (status == MYR_OK)
        status = measure_labels(cluster, cli->speaks, run);
    return status;
}

myr_status myr_cmd_eval(const myr_cli *cli)
{
    const char *folder = myr_config_text(cli->config, "index");
    if (!folder)
        return myr_fail(MYR_ERR_ARG, "--index FOLDER is missing: which index shall be measured?");
    myr_cluster cluster;
    trial run = {0};
    size_t n_probe;
    myr_status status = myr_read_probe(cli->config, &n_probe);
    if (status != MYR_OK)
        return status;
    status = myr_cluster_open(cli->comm, folder, cli->n_threads, &cluster);
    if (status == MYR_OK)
        status = measure(cli, n_probe, &cluster, &run);
    if (status == MYR_OK && cli->speaks)
        status = print_report(cli, &cluster, &run);
    free(run.vectors);
    free(run.ids);
    free(run.found);
    free(run.truth);
    myr_cluster_close(&cluster);
    return status;
}
