/*
 * myriops dedup: near duplicates of an index, as a list of what to keep or a page to look at.
 */
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/log.h"
#include "base/writer.h"
#include "cli/cli.h"
#include "cli/field.h"
#include "cli/labels.h"
#include "cli/shared.h"
#include "cli/sheet.h"
#include "dist/dedup.h"
#include "myriops/eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    USUAL_SAMPLE = 100,
    USUAL_EF = 20, /* near duplicates are the nearest there are */
    SHOWN = 24,    /* items of a group on the page, */
    LISTED = 1000  /* and in JSON */
};

/* Where items of groups go, on rank 0. */
typedef struct output {
    const myr_cli *cli;
    const myr_index_manifest *index;
    bool is_tsv, is_html;
    int64_t n_groups; /* shown, but in TSV */
    myr_writer *writer;
    myr_buffer line;
    json_t *groups; /* of JSON */
    myr_sheet *sheet;
    myr_album *album;
    int64_t n_shown; /* items of the group in hand */
} output;

/* ---- TSV ---- */

static myr_status put_row(output *out, const myr_dedup_row *row)
{
    myr_buffer *line = &out->line;
    myr_buffer_clear(line);
    myr_buffer_printf(line, "%lld\t%s\t%.6g\t", (long long)row->group, row->keep ? "yes" : "no", (double)row->distance);
    myr_put_field(line, row->key);
    myr_buffer_puts(line, "\t");
    myr_put_field(line, row->source);
    myr_buffer_puts(line, "\n");
    return line->failed ? myr_fail(MYR_ERR_NOMEM, "no memory for a line")
                        : myr_writer_append(out->writer, line->data, line->size);
}

/* ---- JSON ---- */

static myr_status add_json(output *out, const myr_dedup_row *row)
{
    if (row->keep)
        myr_json_append(&out->groups, json_pack("{s:I, s:I, s:[]}", "group", (json_int_t)row->group, "size",
                                                (json_int_t)row->size, "items"));
    json_t *group = out->groups ? json_array_get(out->groups, json_array_size(out->groups) - 1) : NULL;
    json_t *items = json_object_get(group, "items");
    char room[MYR_LABEL_TEXT];
    const char *class = myr_label_name(out->index->classes, out->index->n_classes, row->label, room);
    if (items && json_array_size(items) >= LISTED)
        return MYR_OK;
    json_t *item = json_pack("{s:I, s:b, s:f, s:o, s:o, s:i, s:o}", "id", (json_int_t)row->id, "keep", row->keep,
                             "distance", (double)row->distance, "key", myr_json_text(row->key), "source",
                             myr_json_text(row->source), "label", (int)row->label, "class", myr_json_text(class));
    return items && json_array_append_new(items, item) == 0 ? MYR_OK
                                                            : myr_fail(MYR_ERR_NOMEM, "no memory for the JSON answer");
}

static json_t *summary_json(const output *out, double threshold, const myr_dedup_report *report)
{
    double n = report->n_items > 0 ? (double)report->n_items : 1;
    json_t *walks = report->n_sampled_pairs > 0 ? json_pack("{s:I, s:I}", "pairs", (json_int_t)report->n_sampled_pairs,
                                                            "found", (json_int_t)report->n_sampled_found)
                                                : json_null();
    return json_pack("{s:f, s:I, s:I, s:I, s:f, s:I, s:I, s:f, s:o, s:i, s:i, s:f}", "threshold", threshold, "items",
                     (json_int_t)report->n_items, "groups", (json_int_t)report->n_groups, "drop",
                     (json_int_t)report->n_dropped, "drop_share", (double)report->n_dropped / n, "copies",
                     (json_int_t)report->n_copies, "largest", (json_int_t)report->largest, "probes_per_query",
                     report->probes_per_query, "sampled", walks, "ranks", out->cli->comm->size, "threads",
                     out->cli->n_threads, "seconds", report->wall_s);
}

static myr_status finish_json(output *out, double threshold, const myr_dedup_report *report)
{
    json_t *document = json_pack("{s:o, s:o}", "summary", summary_json(out, threshold, report), "groups", out->groups);
    out->groups = NULL;
    return myr_append_json(document, out->writer);
}

/* ---- HTML ---- */

static myr_status add_picture(output *out, const myr_dedup_row *row)
{
    char heading[64], note[96];
    size_t n_bytes;
    if (row->keep)
        out->n_shown = 0;
    if (out->n_shown++ >= SHOWN)
        return MYR_OK;
    void *jpeg = myr_album_thumbnail(out->album, row->source, row->key, &n_bytes);
    char room[MYR_LABEL_TEXT];
    const char *class = myr_label_name(out->index->classes, out->index->n_classes, row->label, room);
    myr_status status;
    if (row->keep) {
        snprintf(heading, sizeof heading, "Group %lld: keep", (long long)row->group);
        snprintf(note, sizeof note, row->size > SHOWN ? "%lld pictures, the first %d of them shown" : "%lld pictures",
                 (long long)row->size, SHOWN);
        myr_sheet_section section = {
            .heading = heading, .note = note, .caption = row->key, .label = class, .jpeg = jpeg, .jpeg_bytes = n_bytes};
        status = myr_sheet_add_section(out->sheet, &section);
    } else {
        status = myr_sheet_add_hit(out->sheet, row->key, (double)row->distance, class, jpeg, n_bytes);
    }
    free(jpeg);
    return status;
}

/* ---- The whole ---- */

static myr_status take(void *context, const myr_dedup_row *row)
{
    output *out = context;
    if (out->is_tsv)
        return put_row(out, row);
    if (row->group > out->n_groups)
        return MYR_OK;
    return out->is_html ? add_picture(out, row) : add_json(out, row);
}

static void describe(const output *out, double threshold, const myr_dedup_report *report, char *text, size_t room)
{
    double n = report->n_items > 0 ? (double)report->n_items : 1;
    snprintf(text, room,
             "%lld group%s of near duplicates (%s distance up to %g) among %lld items: %lld can go, %.2f %%",
             (long long)report->n_groups, report->n_groups == 1 ? "" : "s", out->index->metric, threshold,
             (long long)report->n_items, (long long)report->n_dropped, 100 * (double)report->n_dropped / n);
}

/* The page's summary is known when its groups are, and stands above them. */
static myr_status finish_html(output *out, double threshold, const myr_dedup_report *report)
{
    char text[256];
    myr_buffer page = {0};
    describe(out, threshold, report, text, sizeof text);
    myr_status status = myr_sheet_add_summary(out->sheet, text);
    if (status == MYR_OK && report->n_groups > out->n_groups) {
        snprintf(text, sizeof text, "the %lld largest are shown", (long long)out->n_groups);
        status = myr_sheet_add_summary(out->sheet, text);
    }
    if (status == MYR_OK)
        status = myr_sheet_finish(out->sheet, &page);
    if (status == MYR_OK)
        status = myr_writer_append(out->writer, page.data, page.size);
    myr_buffer_free(&page);
    return status;
}

static myr_status open_output(output *out, const char *path)
{
    static const char header[] = "group\tkeep\tdistance\tkey\tsource\n";
    myr_status status = MYR_OK;
    if (out->is_html)
        status = myr_album_create(&out->album);
    if (status == MYR_OK && out->is_html)
        status = myr_sheet_create("Myriops: near duplicates", &out->sheet);
    if (status == MYR_OK && out->is_html)
        status =
            myr_sheet_set_legend(out->sheet, "The first picture of a group is the one to keep: it was given first. "
                                             "A green frame marks pictures with its label.");
    if (status == MYR_OK && !out->is_html && !out->is_tsv && !(out->groups = json_array()))
        status = myr_fail(MYR_ERR_NOMEM, "no memory for the JSON answer");
    if (status == MYR_OK)
        status = myr_writer_create(path, &out->writer);
    return status == MYR_OK && out->is_tsv ? myr_writer_append(out->writer, header, sizeof header - 1) : status;
}

static void print_summary(const output *out, double threshold, const myr_dedup_report *report, const char *path)
{
    FILE *to = path ? stdout : stderr;
    char text[256], crew[MYR_CREW_TEXT];
    describe(out, threshold, report, text, sizeof text);
    fprintf(to, "%s\n", text);
    if (report->n_groups > 0)
        fprintf(to, "the largest group has %lld items; %lld items are copies, vector for vector\n",
                (long long)report->largest, (long long)report->n_copies);
    if (myr_config_flag(out->cli->config, "exact"))
        fprintf(to, "exact: every vector that can be near was looked at\n");
    else if (report->n_sampled_pairs > 0)
        fprintf(to, "walks found %lld of %lld pairs of sampled items\n", (long long)report->n_sampled_found,
                (long long)report->n_sampled_pairs);
    fprintf(to, "%.1f s, %.2f shards an item; %s\n", report->wall_s, report->probes_per_query,
            myr_crew_text(out->cli, crew));
}

static myr_status close_output(output *out, double threshold, const myr_dedup_report *report, const char *path)
{
    bool is_json = !out->is_tsv && !out->is_html;
    myr_status status = out->is_html ? finish_html(out, threshold, report)
                        : is_json    ? finish_json(out, threshold, report)
                                     : MYR_OK;
    if (status != MYR_OK)
        return status;
    status = myr_writer_commit(out->writer);
    out->writer = NULL;
    if (status == MYR_OK && (path || !is_json))
        print_summary(out, threshold, report, path);
    return status == MYR_OK ? myr_flush_output() : status;
}

static void clear_output(output *out)
{
    myr_writer_abandon(out->writer);
    myr_buffer_free(&out->line);
    json_decref(out->groups);
    myr_sheet_free(out->sheet);
    myr_album_free(out->album);
}

/* What is usual under one metric means nothing under another. */
static myr_status check_threshold(const myr_cli *cli, const myr_index_manifest *index)
{
    if (strcmp(index->metric, "l2") == 0 && !myr_config_is_set(cli->config, "threshold"))
        return myr_fail(MYR_ERR_ARG, "--threshold D is missing: how near are near duplicates of these vectors, in "
                                     "Euclidean distance? `myriops knn-graph` tells what is usual");
    return MYR_OK;
}

/* Collective. */
static myr_status look(const myr_cli *cli, myr_cluster *cluster)
{
    const myr_config *config = cli->config;
    const char *path = myr_config_text(config, "out");
    double threshold = myr_config_real(config, "threshold");
    output out = {.cli = cli,
                  .index = &cluster->manifest,
                  .is_tsv = myr_wants_tsv(cli),
                  .is_html = strcmp(myr_config_text(config, "format"), "html") == 0,
                  .n_groups = myr_config_int(config, "groups")};
    myr_dedup_options options = {
        .threshold = (float)threshold,
        .exact = myr_config_flag(config, "exact"),
        .ef = myr_config_is_set(config, "ef-search") ? (size_t)myr_config_int(config, "ef-search") : USUAL_EF,
        .n_sample = myr_config_is_set(config, "sample") ? myr_config_int(config, "sample") : USUAL_SAMPLE,
        .progress = cli->progress};
    myr_dedup_report report;
    myr_status status = check_threshold(cli, &cluster->manifest);
    if (status == MYR_OK && cli->speaks)
        status = open_output(&out, path);
    status = myr_comm_agree(cli->comm, status);
    if (status == MYR_OK)
        status = myr_dedup(cluster, &options, take, &out, &report);
    if (status == MYR_OK && cli->speaks)
        status = close_output(&out, threshold, &report, path);
    clear_output(&out);
    return status;
}

myr_status myr_cmd_dedup(const myr_cli *cli)
{
    return myr_on_index(cli, "in which index shall duplicates be looked for?", look);
}
