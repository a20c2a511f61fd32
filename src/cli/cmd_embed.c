/*
 * myriops embed: pictures into vectors.
 */
#include "cli/cli.h"
#include "cli/pictures.h"
#include "dist/embed.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static myr_status print_report(const myr_cli *cli, const char *folder, const myr_embed_report *report)
{
    int64_t n_now = report->n_embedded + report->n_bad - report->n_before;
    double rate = report->wall_s > 0 ? (double)n_now / report->wall_s : 0;
    const myr_phases *phases = &report->phases;
    if (strcmp(myr_config_text(cli->config, "format"), "json") == 0)
        return myr_print_json(json_pack(
            "{s:o, s:I, s:I, s:I, s:I, s:I, s:i, s:s, s:i, s:i, s:f, s:f, s:{s:f, s:f, s:f, s:f, s:f, s:f, s:f}, s:I, s:i, s:f, s:I, "
            "s:I, s:I, s:f, s:f}",
            "out", myr_json_text(folder), "items", (json_int_t)report->n_items, "embedded",
            (json_int_t)report->n_embedded, "bad", (json_int_t)report->n_bad, "before", (json_int_t)report->n_before,
            "chunks", (json_int_t)report->n_chunks, "dim", report->dim, "precision",
            myr_precision_name(report->precision), "ranks", cli->comm->size, "threads", cli->n_threads, "seconds",
            report->wall_s, "images_per_s", rate, "thread_seconds", "read", phases->read_s, "prepare",
            phases->prepare_s, "infer", phases->infer_s, "write", phases->write_s, "wait", phases->wait_s, "other", phases->other_s, "outside",
            phases->outside_s, "handed_out_again",
            (json_int_t)report->n_repeated, "lost_ranks", report->n_lost, "idle_at_end_s", report->idle_at_end_s,
            "tars_staged", (json_int_t)report->n_staged, "root_peak_bytes", (json_int_t)report->root_peak_bytes,
            "other_peak_bytes", (json_int_t)report->other_peak_bytes, "imbalance", report->imbalance, "sent_bytes",
            report->sent_bytes));
    printf("%lld of %lld pictures embedded (%d values each) into %s, %lld unusable\n", (long long)report->n_embedded,
           (long long)report->n_items, report->dim, folder, (long long)report->n_bad);
    printf("%lld in this run: %.1f images/s, %.1f s, %d rank%s x %d thread%s, in %s\n", (long long)n_now, rate,
           report->wall_s, cli->comm->size, cli->comm->size == 1 ? "" : "s", cli->n_threads,
           cli->n_threads == 1 ? "" : "s", myr_precision_name(report->precision));
    printf("thread seconds: read %.1f, decode and resize %.1f, network %.1f, write %.1f, wait %.1f, other %.1f; before "
           "and after %.1f\n",
           phases->read_s, phases->prepare_s, phases->infer_s, phases->write_s, phases->wait_s, phases->other_s,
           phases->outside_s);
    if (report->n_bad > 0)
        printf("what could not be used, and why: %s/bad.tsv\n", folder);
    return myr_flush_output();
}

/* Some rank does not answer, so nobody can agree on anything; what there is to say is said, and the job ends. */
static void end_without_lost_ranks(const myr_cli *cli, myr_status status)
{
    if (status != MYR_OK)
        fprintf(stderr, "myriops embed: %s\n", myr_error_detail());
    fflush(NULL);
    nanosleep(&(struct timespec){.tv_sec = 1}, NULL); /* for the launcher to pass it on, before it speaks itself */
    MPI_Abort(cli->comm->mpi, myr_exit_status(status));
}

myr_status myr_cmd_embed(const myr_cli *cli)
{
    const myr_config *config = cli->config;
    const char *folder = myr_config_text(config, "out");
    if (!folder)
        return myr_fail(MYR_ERR_ARG, "--out FOLDER is missing: where shall the embeddings go?");
    if (cli->n_operands == 0)
        return myr_fail(MYR_ERR_ARG, "no pictures given: name folders, lists or tars after the options");
    myr_card *card = NULL;
    myr_status status = myr_comm_agree(cli->comm, myr_card_load(myr_config_text(config, "model"), &card));
    if (status != MYR_OK)
        goto done;
    myr_embed_report report;
    double least_cosine;
    myr_precision precision = myr_cli_precision(config, &least_cosine);
    myr_embed_options options = {
        .operands = cli->operands,
        .n_operands = cli->n_operands,
        .corpus = {.label_from_folder = myr_config_flag(config, "label-from-folder"),
                   .key_prefix_tar = myr_config_flag(config, "key-prefix-tar")},
        .folder = folder,
        .card = card,
        .backend = myr_config_text(config, "backend"),
        .precision = precision,
        .least_cosine = least_cosine,
        .storage = strcmp(myr_config_text(config, "dtype"), "f16") == 0 ? MYR_STORAGE_F16 : MYR_STORAGE_F32,
        .n_threads = cli->n_threads,
        .chunk_items = myr_config_int(config, "chunk"),
        .max_bad = myr_config_real(config, "max-bad"),
        .retry_bad = myr_config_flag(config, "retry-bad"),
        .stage = myr_config_text(config, "stage"),
        .keep_stage = myr_config_flag(config, "keep-stage"),
        .progress = cli->progress,
    };
    myr_cli_data_sets(config, &options.corpus);
    status = myr_embed(cli->comm, &options, &report);
    if (status == MYR_OK && cli->speaks)
        status = print_report(cli, folder, &report);
    if (report.n_lost > 0)
        end_without_lost_ranks(cli, status);
done:
    myr_card_free(card);
    return status;
}
