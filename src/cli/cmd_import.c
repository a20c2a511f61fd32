/*
 * myriops import: vectors made elsewhere into an embedding folder.
 */
#include "base/log.h"
#include "cli/cli.h"
#include "dist/import.h"

#include <stdio.h>
#include <string.h>

static myr_status print_report(const myr_cli *cli, const char *folder, const myr_import_report *report)
{
    const char *storage = report->storage == MYR_STORAGE_F16 ? "f16" : "f32";
    if (strcmp(myr_config_text(cli->config, "format"), "json") == 0)
        return myr_print_json(json_pack(
            "{s:o, s:I, s:I, s:I, s:I, s:I, s:i, s:s, s:i, s:f}", "out", myr_json_text(folder), "items",
            (json_int_t)report->n_items, "imported", (json_int_t)report->n_imported, "bad", (json_int_t)report->n_bad,
            "before", (json_int_t)report->n_before, "chunks", (json_int_t)report->n_chunks, "dim", report->dim, "dtype",
            storage, "ranks", cli->comm->size, "seconds", report->wall_s));
    printf("%lld of %lld vectors (%d values each, %s) into %s, %lld unusable, %.1f s\n", (long long)report->n_imported,
           (long long)report->n_items, report->dim, storage, folder, (long long)report->n_bad, report->wall_s);
    return myr_flush_output();
}

myr_status myr_cmd_import(const myr_cli *cli)
{
    const myr_config *config = cli->config;
    const char *folder = myr_config_text(config, "out");
    if (!folder)
        return myr_fail(MYR_ERR_ARG, "--out FOLDER is missing: where shall the embeddings go?");
    if (cli->n_operands == 0)
        return myr_fail(MYR_ERR_ARG,
                        "no vectors given: name files (.npy .fbin .hdf5 ...) or folders after the options");
    if (cli->speaks && !myr_config_text(config, "keys"))
        myr_note("no --keys: items are called by the numbers of their rows");
    myr_import_report report;
    myr_import_options options = {
        .operands = cli->operands,
        .n_operands = cli->n_operands,
        .dataset = myr_config_text(config, "dataset-name"),
        .keys = myr_config_text(config, "keys"),
        .labels = myr_config_text(config, "label-file"),
        .folder = folder,
        .model = myr_config_is_set(config, "model") ? myr_config_text(config, "model") : NULL,
        .metric = myr_config_is_set(config, "metric") ? myr_config_text(config, "metric") : "cosine",
        .normalise = myr_config_flag(config, "normalise"),
        .has_storage = myr_config_is_set(config, "dtype"),
        .storage = strcmp(myr_config_text(config, "dtype"), "f16") == 0 ? MYR_STORAGE_F16 : MYR_STORAGE_F32,
        .chunk_items = myr_config_int(config, "chunk"),
        .max_bad = myr_config_real(config, "max-bad"),
        .progress = cli->progress,
    };
    myr_status status = myr_import(cli->comm, &options, &report);
    return status == MYR_OK && cli->speaks ? print_report(cli, folder, &report) : status;
}
