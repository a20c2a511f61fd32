/*
 * myriops knn-graph: the k nearest others of every item of an index.
 */
#include "base/alloc.h"
#include "cli/cli.h"
#include "cli/knn_page.h"
#include "cli/recall.h"
#include "cli/shared.h"
#include "dist/knn_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS_SHOWN 24   /* of a page */
#define USUAL_SAMPLE 100 /* exact search of one item takes as long as some hundred walks, or many more */

/* Recall of a sample of the items, asked as all were. Collective; result on the root. */
static myr_status measure(const myr_cli *cli, myr_cluster *cluster, const myr_search_options *search,
                          myr_recall *recall)
{
    size_t n_wanted = (size_t)myr_config_int(cli->config, "sample"), n, k = search->k;
    float *vectors;
    int64_t *ids;
    if (!myr_config_is_set(cli->config, "sample"))
        n_wanted = USUAL_SAMPLE;
    myr_search_options all = {.k = k, .ef = k, .exact = true};
    myr_hit *found = NULL, *truth = NULL;
    myr_status status = myr_cluster_sample(cluster, n_wanted, &vectors, &ids, &n);
    if (status == MYR_OK && n > 0) {
        found = myr_alloc(n, k * sizeof *found);
        truth = myr_alloc(n, k * sizeof *truth);
        status = found && truth ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for a sample of %zu items", n);
    }
    status = myr_comm_agree(cli->comm, status);
    if (status == MYR_OK && n > 0)
        status = myr_cluster_search(cluster, vectors, n, search, found, NULL);
    if (status == MYR_OK && n > 0)
        status = myr_cluster_search(cluster, vectors, n, &all, truth, NULL);
    if (status == MYR_OK && n > 0 && cli->speaks)
        status = myr_items_recall(ids, n, found, truth, k, k - 1, recall);
    free(vectors);
    free(ids);
    free(found);
    free(truth);
    return myr_comm_agree(cli->comm, status);
}

static myr_status print_report(const myr_cli *cli, const myr_knn_options *options, const myr_knn_report *report,
                               const myr_recall *recall)
{
    bool exact = options->search.exact;
    char crew[MYR_CREW_TEXT];
    double us = report->n_items > 0 ? 1e6 * report->wall_s / (double)report->n_items : 0;
    if (strcmp(myr_config_text(cli->config, "format"), "json") == 0) {
        json_t *quality = recall->n_queries > 0
                              ? json_pack("{s:f, s:f, s:f, s:I}", "mean", recall->recall, "low", recall->low, "high",
                                          recall->high, "queries", (json_int_t)recall->n_queries)
                              : json_null();
        return myr_print_json(json_pack("{s:o, s:I, s:I, s:b, s:I, s:f, s:I, s:f, s:f, s:f, s:o, s:i, s:i, s:f}", "out",
                                        myr_json_text(options->path), "items", (json_int_t)report->n_items, "k",
                                        (json_int_t)options->k, "exact", exact, "ef", (json_int_t)options->search.ef,
                                        "mean_degree", report->mean_degree, "short_rows", (json_int_t)report->n_short,
                                        "mean_nearest", report->nearest, "mean_farthest", report->farthest,
                                        "probes_per_query", report->probes_per_query, "recall", quality, "ranks",
                                        cli->comm->size, "threads", cli->n_threads, "seconds", report->wall_s));
    }
    printf("%lld items, %.4g nearest of each, into %s\n", (long long)report->n_items, report->mean_degree,
           options->path);
    if (report->n_short > 0)
        printf("%lld items have fewer than %zu\n", (long long)report->n_short, options->k);
    printf("distance to the nearest %.5g, to the last %.5g, means\n", report->nearest, report->farthest);
    if (exact)
        printf("exact: every vector was looked at\n");
    else if (recall->n_queries > 0)
        printf("recall@%zu %.4f of %zu sampled items (95 %% of such samples: %.4f to %.4f), ef %zu\n", recall->k,
               recall->recall, recall->n_queries, recall->low, recall->high, options->search.ef);
    printf("%.1f s, %.0f us an item, %.2f shards probed; %s\n", report->wall_s, us, report->probes_per_query,
           myr_crew_text(cli, crew));
    return myr_flush_output();
}

/* Collective. */
static myr_status link_items(const myr_cli *cli, myr_cluster *cluster)
{
    myr_knn_options options = {.k = (size_t)myr_config_int(cli->config, "k"),
                               .path = myr_config_text(cli->config, "out"),
                               .progress = cli->progress};
    myr_knn_report report;
    myr_recall recall = {0};
    myr_status status = myr_choose_search(cli, &cluster->manifest, options.k + 1, &options.search);
    options.search.exact = myr_config_flag(cli->config, "exact");
    if (status == MYR_OK && strcmp(myr_config_text(cli->config, "format"), "html") == 0) {
        size_t n_shown =
            myr_config_is_set(cli->config, "sample") ? (size_t)myr_config_int(cli->config, "sample") : ITEMS_SHOWN;
        return myr_knn_page_write(cli, cluster, &options.search, n_shown, options.path);
    }
    if (status == MYR_OK)
        status = myr_knn_graph(cluster, &options, &report);
    if (status == MYR_OK && !options.search.exact)
        status = measure(cli, cluster, &options.search, &recall);
    return status == MYR_OK && cli->speaks ? print_report(cli, &options, &report, &recall) : status;
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

myr_status myr_cmd_knn_graph(const myr_cli *cli)
{
    const char *format = myr_config_text(cli->config, "format"), *out = myr_config_text(cli->config, "out");
    myr_status status = myr_check_probe(cli->config);
    if (status == MYR_OK && myr_config_text(cli->config, "index") && !out)
        status = myr_fail(MYR_ERR_ARG, "--out FILE.h5 is missing: where shall the graph go?");
    if (status == MYR_OK && strcmp(format, "tsv") == 0)
        status = myr_fail(MYR_ERR_ARG, "--format tsv: the graph is HDF5; --format html makes a page, json the report");
    if (status == MYR_OK && out && ends_in(out, ".html") != (strcmp(format, "html") == 0))
        status =
            myr_fail(MYR_ERR_ARG, "--out %s: a page is asked for by --format html, and its name ends in .html", out);
    return status == MYR_OK ? myr_on_index(cli, "whose items shall be linked?", link_items) : status;
}
