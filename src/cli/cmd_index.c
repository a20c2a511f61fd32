/*
 * myriops index: vectors into a sharded HNSW index, or into and out of one that is there.
 */
#include "base/log.h"
#include "cli/cli.h"
#include "dist/build.h"
#include "dist/change.h"

#include <stdio.h>
#include <string.h>

static myr_status print_report(const myr_cli *cli, const char *folder, const myr_build_report *report)
{
    double share = report->n_shards ? (double)report->n_rows / (double)report->n_shards : 0;
    double imbalance = share > 0 ? (double)report->largest_shard / share : 0;
    if (strcmp(myr_config_text(cli->config, "format"), "json") == 0)
        return myr_print_json(
            json_pack("{s:o, s:I, s:I, s:I, s:I, s:f, s:s, s:i, s:i, s:f, s:{s:f, s:f, s:f, s:f}, s:f, s:f}", "out",
                      myr_json_text(folder), "items", (json_int_t)report->n_items, "copies",
                      (json_int_t)(report->n_rows - report->n_items), "shards", (json_int_t)report->n_shards,
                      "kept_shards", (json_int_t)report->n_kept, "imbalance", imbalance, "digest", report->digest,
                      "ranks", cli->comm->size, "threads", cli->n_threads, "seconds", report->wall_s, "phases",
                      "partition", report->partition_s, "exchange", report->exchange_s, "graph", report->graph_s,
                      "write", report->write_s, "rank_imbalance", report->imbalance, "sent_bytes", report->sent_bytes));
    printf("%lld items in %zu shard%s, the fullest %.3f of its share, into %s\n", (long long)report->n_items,
           report->n_shards, report->n_shards == 1 ? "" : "s", imbalance, folder);
    if (report->n_rows > report->n_items)
        printf("%lld of the items lie in a second shard, too\n", (long long)(report->n_rows - report->n_items));
    if (report->n_kept > 0)
        printf("%zu of the shards had been finished before\n", report->n_kept);
    printf("%.1f s: partition %.1f, exchange %.1f, graphs %.1f, write %.1f; %d rank%s x %d thread%s\n", report->wall_s,
           report->partition_s, report->exchange_s, report->graph_s, report->write_s, cli->comm->size,
           cli->comm->size == 1 ? "" : "s", cli->n_threads, cli->n_threads == 1 ? "" : "s");
    printf("digest %s\n", report->digest);
    return myr_flush_output();
}

static myr_status print_change(const myr_cli *cli, const char *folder, const myr_change_report *report)
{
    double share = (double)report->n_rows / (double)report->n_shards;
    double imbalance = share > 0 ? (double)report->largest_shard / share : 0;
    if (strcmp(myr_config_text(cli->config, "format"), "json") == 0)
        return myr_print_json(
            json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:s, s:f}", "out", myr_json_text(folder),
                      "items", (json_int_t)report->n_items, "copies", (json_int_t)(report->n_rows - report->n_items),
                      "added", (json_int_t)report->n_added, "replaced", (json_int_t)report->n_replaced, "deleted",
                      (json_int_t)report->n_removed, "unknown", (json_int_t)report->n_unknown, "shards",
                      (json_int_t)report->n_shards, "changed_shards", (json_int_t)report->n_changed, "imbalance",
                      imbalance, "digest", report->digest, "seconds", report->wall_s));
    printf("%lld items added, %lld of them in place of older ones; %lld deleted\n", (long long)report->n_added,
           (long long)report->n_replaced, (long long)report->n_removed);
    printf("%lld items in %zu shard%s, the fullest %.3f of its share, in %s; %.1f s\n", (long long)report->n_items,
           report->n_shards, report->n_shards == 1 ? "" : "s", imbalance, folder, report->wall_s);
    printf("digest %s\n", report->digest);
    return myr_flush_output();
}

static myr_status change(const myr_cli *cli, const char *folder)
{
    bool adds = myr_config_flag(cli->config, "add");
    if (adds == (cli->n_operands == 0))
        return myr_fail(MYR_ERR_ARG, adds ? "--add: name embedding folders or a vector file after the options"
                                          : "--delete takes vectors out; to add those named, give --add too");
    myr_change_report report;
    myr_change_options options = {
        .folder = folder,
        .operands = cli->operands,
        .n_operands = cli->n_operands,
        .removed = myr_config_text(cli->config, "delete"),
        .n_threads = cli->n_threads,
        .progress = cli->progress,
    };
    myr_status status = myr_change(cli->comm, &options, &report);
    if (status == MYR_OK && cli->speaks && report.n_unknown > 0)
        myr_warn("%lld keys to delete are not in the index", (long long)report.n_unknown);
    return status == MYR_OK && cli->speaks ? print_change(cli, folder, &report) : status;
}

myr_status myr_cmd_index(const myr_cli *cli)
{
    const myr_config *config = cli->config;
    const char *folder = myr_config_text(config, "out");
    int64_t n_shards = myr_config_int(config, "shards");
    if (!folder)
        return myr_fail(MYR_ERR_ARG, "--out FOLDER is missing: where shall the index go?");
    if (myr_config_flag(config, "add") || myr_config_text(config, "delete"))
        return change(cli, folder);
    if (cli->n_operands == 0)
        return myr_fail(MYR_ERR_ARG, "no vectors given: name embedding folders or a vector file after the options");
    myr_build_report report;
    myr_quantize quantize = MYR_QUANTIZE_SQ8;
    myr_quantize_of(myr_config_text(config, "quantize"), &quantize); /* the settings know no other names */
    myr_build_options options = {
        .quantize = quantize,
        .n_axes = (int)myr_config_int(config, "axes"),
        .operands = cli->operands,
        .n_operands = cli->n_operands,
        .folder = folder,
        .metric = myr_config_text(config, "metric"),
        .hash = strcmp(myr_config_text(config, "partition"), "hash") == 0,
        .overlap = myr_config_real(config, "overlap"),
        .n_shards = n_shards > 0 ? (size_t)n_shards : (size_t)cli->comm->size,
        .rank_bytes = myr_config_real(config, "memory") * 1e9,
        .M = (int)myr_config_int(config, "M"),
        .ef_construction = (int)myr_config_int(config, "ef-construction"),
        .seed = myr_config_int(config, "seed"),
        .n_threads = cli->n_threads,
        .progress = cli->progress,
    };
    myr_status status = myr_build(cli->comm, &options, &report);
    return status == MYR_OK && cli->speaks ? print_report(cli, folder, &report) : status;
}
