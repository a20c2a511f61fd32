/*
 * myriops index: vectors into a sharded HNSW index.
 */
#include "cli/cli.h"
#include "dist/build.h"

#include <stdio.h>
#include <string.h>

static myr_status print_report(const myr_cli *cli, const char *folder, const myr_build_report *report)
{
    double share = report->n_shards ? (double)report->n_items / (double)report->n_shards : 0;
    double imbalance = share > 0 ? (double)report->largest_shard / share : 0;
    if (strcmp(myr_config_text(cli->config, "format"), "json") == 0)
        return myr_print_json(json_pack("{s:o, s:I, s:I, s:f, s:s, s:i, s:i, s:f, s:{s:f, s:f, s:f, s:f}}", "out",
                                        myr_json_text(folder), "items", (json_int_t)report->n_items, "shards",
                                        (json_int_t)report->n_shards, "imbalance", imbalance, "digest", report->digest,
                                        "ranks", cli->comm->size, "threads", cli->n_threads, "seconds", report->wall_s,
                                        "phases", "partition", report->partition_s, "exchange", report->exchange_s,
                                        "graph", report->graph_s, "write", report->write_s));
    printf("%lld items in %zu shard%s, the fullest %.3f of its share, into %s\n", (long long)report->n_items,
           report->n_shards, report->n_shards == 1 ? "" : "s", imbalance, folder);
    printf("%.1f s: partition %.1f, exchange %.1f, graphs %.1f, write %.1f; %d rank%s x %d thread%s\n", report->wall_s,
           report->partition_s, report->exchange_s, report->graph_s, report->write_s, cli->comm->size,
           cli->comm->size == 1 ? "" : "s", cli->n_threads, cli->n_threads == 1 ? "" : "s");
    printf("digest %s\n", report->digest);
    return myr_flush_output();
}

myr_status myr_cmd_index(const myr_cli *cli)
{
    const myr_config *config = cli->config;
    const char *folder = myr_config_text(config, "out");
    int64_t n_shards = myr_config_int(config, "shards");
    if (!folder)
        return myr_fail(MYR_ERR_ARG, "--out FOLDER is missing: where shall the index go?");
    if (cli->n_operands == 0)
        return myr_fail(MYR_ERR_ARG, "no vectors given: name embedding folders or a vector file after the options");
    myr_build_report report;
    myr_build_options options = {
        .operands = cli->operands,
        .n_operands = cli->n_operands,
        .folder = folder,
        .metric = myr_config_text(config, "metric"),
        .hash = strcmp(myr_config_text(config, "partition"), "hash") == 0,
        .n_shards = n_shards > 0 ? (size_t)n_shards : (size_t)cli->comm->size,
        .M = (int)myr_config_int(config, "M"),
        .ef_construction = (int)myr_config_int(config, "ef-construction"),
        .seed = myr_config_int(config, "seed"),
        .n_threads = cli->n_threads,
        .progress = cli->progress,
    };
    myr_status status = myr_build(cli->comm, &options, &report);
    return status == MYR_OK && cli->speaks ? print_report(cli, folder, &report) : status;
}
