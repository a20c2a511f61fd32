/*
 * myriops export: vectors into the files of other programs.
 */
#include "cli/cli.h"
#include "dist/export.h"

#include <stdio.h>
#include <string.h>

static const struct target {
    const char *name;
    myr_export_format format;
    const char *end, *other_end; /* of the file's name, by which readers know it; NULL = any */
} targets[] = {{"clip-retrieval", MYR_EXPORT_CLIP, NULL, NULL},
               {"npy", MYR_EXPORT_NPY, ".npy", NULL},
               {"fbin", MYR_EXPORT_FBIN, ".fbin", NULL},
               {"hdf5", MYR_EXPORT_HDF5, ".hdf5", ".h5"},
               {"tsv", MYR_EXPORT_TSV, NULL, NULL}};

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = end ? strlen(end) : 0;
    return end && n >= m && strcmp(text + n - m, end) == 0;
}

static myr_status check_usage(const myr_cli *cli, const struct target **target)
{
    const char *path = myr_config_text(cli->config, "out"), *to = myr_config_text(cli->config, "to");
    if (!to)
        return myr_fail(MYR_ERR_ARG, "--to FORMAT is missing: clip-retrieval, npy, fbin, hdf5 or tsv");
    if (!path)
        return myr_fail(MYR_ERR_ARG, "--out PATH is missing: where shall the vectors go?");
    if (cli->n_operands == 0)
        return myr_fail(MYR_ERR_ARG, "nothing to export: name embedding folders or an index after the options");
    *target = targets; /* the settings know no other names */
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        if (strcmp(targets[i].name, to) == 0)
            *target = &targets[i];
    if ((*target)->end && !ends_with(path, (*target)->end) && !ends_with(path, (*target)->other_end))
        return myr_fail(MYR_ERR_ARG, "--out %s: its name must end in %s, by which readers know it", path,
                        (*target)->end);
    if (myr_config_is_set(cli->config, "dtype") && strcmp(myr_config_text(cli->config, "dtype"), "f16") == 0 &&
        (*target)->format != MYR_EXPORT_NPY && (*target)->format != MYR_EXPORT_CLIP)
        return myr_fail(MYR_ERR_ARG, "--dtype f16: %s has no half precision; npy has", to);
    return MYR_OK;
}

static myr_status print_report(const myr_cli *cli, const char *path, const myr_export_report *report)
{
    if (strcmp(myr_config_text(cli->config, "format"), "json") == 0)
        return myr_print_json(json_pack("{s:o, s:I, s:I, s:i, s:i, s:f}", "out", myr_json_text(path), "vectors",
                                        (json_int_t)report->n_rows, "files", (json_int_t)report->n_files, "dim",
                                        report->dim, "ranks", cli->comm->size, "seconds", report->wall_s));
    printf("%lld vectors of %d values into %s, %lld file%s, %.1f s\n", (long long)report->n_rows, report->dim, path,
           (long long)report->n_files, report->n_files == 1 ? "" : "s", report->wall_s);
    return myr_flush_output();
}

myr_status myr_cmd_export(const myr_cli *cli)
{
    const myr_config *config = cli->config;
    const struct target *target = NULL;
    myr_status status = check_usage(cli, &target);
    if (status != MYR_OK)
        return status;
    myr_export_report report;
    myr_export_options options = {
        .operands = cli->operands,
        .n_operands = cli->n_operands,
        .metric = myr_config_text(config, "metric"),
        .format = target->format,
        .path = myr_config_text(config, "out"),
        .has_storage = myr_config_is_set(config, "dtype"),
        .storage = strcmp(myr_config_text(config, "dtype"), "f16") == 0 ? MYR_STORAGE_F16 : MYR_STORAGE_F32,
        .with_values = target->format == MYR_EXPORT_TSV && myr_config_flag(config, "values"),
        .n_queries = myr_config_int(config, "queries"),
        .n_threads = cli->n_threads,
        .progress = cli->progress,
    };
    status = myr_export(cli->comm, &options, &report);
    return status == MYR_OK && cli->speaks ? print_report(cli, options.path, &report) : status;
}
