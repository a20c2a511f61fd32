/*
 * Labels of neighbours: asked piece by piece, scored on rank 0, shown as a table, JSON, or a page of the worst.
 */
#include "cli/eval_labels.h"

#include "base/alloc.h"
#include "base/progress.h"
#include "base/writer.h"
#include "cli/labels.h"
#include "cli/shared.h"
#include "cli/sheet.h"
#include "dist/knn_graph.h"
#include "dist/sweep.h"
#include "myriops/eval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    A_PIECE = 8192,
    N_WORST = 24,
    SHOWN = 10,      /* hits of each */
    CONFUSIONS = 20, /* told */
};

static const int depths[MYR_STUDY_POINTS] = {1, 10, 100}, votes[MYR_STUDY_POINTS] = {1, 10, 20};

/* A query whose neighbours have other labels. */
typedef struct bad_query {
    double ap;
    int64_t id;
    myr_hit hits[SHOWN];
} bad_query;

typedef struct job {
    const myr_cli *cli;
    myr_cluster *cluster;
    myr_search_options options;
    size_t k; /* neighbours wanted; the search wants one more */
    myr_sweep sweep;
    int64_t *counts; /* (n_labels) items of the index */
    size_t n_labels;
    myr_label_study *study;   /* root, as all below */
    myr_hit *hits;            /* (piece, k + 1), */
    myr_hit *others;          /* (piece, k) */
    int64_t *ids;             /* (piece, k) */
    int32_t *labels;          /* (piece, k) */
    float *distances;         /* (k) */
    bad_query worst[N_WORST]; /* the worst first */
    size_t n_worst;
    double n_probes, search_s;
    int64_t n_asked;
} job;

static const char *label_name(const job *work, int64_t label, char room[MYR_LABEL_TEXT])
{
    const myr_index_manifest *index = &work->cluster->manifest;
    return myr_label_name(index->classes, index->n_classes, label, room);
}

/* ---- Scores ---- */

static void keep_worst(job *work, double ap, int64_t id, const myr_hit *hits)
{
    if (isnan(ap) || (work->n_worst == N_WORST && ap >= work->worst[N_WORST - 1].ap))
        return;
    size_t at = work->n_worst < N_WORST ? work->n_worst++ : N_WORST - 1;
    for (; at > 0 && work->worst[at - 1].ap > ap; at--)
        work->worst[at] = work->worst[at - 1];
    work->worst[at] = (bad_query){.ap = ap, .id = id};
    for (size_t i = 0; i < SHOWN; i++)
        work->worst[at].hits[i] = i < work->k ? hits[i] : (myr_hit){.id = -1};
}

/* Root. */
static myr_status score(job *work)
{
    size_t k = work->k;
    myr_status status = MYR_OK;
    for (size_t q = 0; q < work->sweep.n && status == MYR_OK; q++) {
        const myr_hit *hits = work->others + q * k;
        int32_t label = work->sweep.labels[q];
        double ap;
        for (size_t i = 0; i < k; i++)
            work->distances[i] = hits[i].distance;
        status = myr_label_study_add(work->study, label, work->labels + q * k, work->distances, k,
                                     label >= 0 ? work->counts[label] - 1 : 0, &ap);
        if (status == MYR_OK)
            keep_worst(work, ap, work->sweep.ids[q], hits);
    }
    return status;
}

/* Collective. */
static myr_status ask_piece(job *work)
{
    size_t k = work->k, n = work->sweep.n;
    bool root = work->cli->speaks;
    myr_search_report search = {0};
    myr_status status = myr_cluster_search(work->cluster, work->sweep.vectors, n, &work->options, work->hits, &search);
    for (size_t q = 0; status == MYR_OK && root && q < n; q++) {
        myr_hits_leave_out(work->hits + q * (k + 1), k + 1, work->sweep.ids[q], work->others + q * k, k);
        for (size_t i = 0; i < k; i++)
            work->ids[q * k + i] = work->others[q * k + i].id;
    }
    if (status == MYR_OK)
        status = myr_cluster_labels(work->cluster, work->ids, n * k, work->labels);
    if (status == MYR_OK && root)
        status = score(work);
    work->n_probes += search.probes_per_query * (double)n;
    work->search_s += search.wall_s;
    work->n_asked += (int64_t)n;
    return myr_comm_agree(work->cli->comm, status);
}

/* Root. */
static myr_status make_room(job *work)
{
    size_t n = (size_t)work->sweep.most, k = work->k;
    myr_metric metric = MYR_METRIC_L2;
    myr_metric_of(work->cluster->manifest.metric, &metric);
    work->hits = myr_alloc(n, (k + 1) * sizeof *work->hits);
    work->others = myr_alloc(n, k * sizeof *work->others);
    work->ids = myr_alloc(n, k * sizeof *work->ids);
    work->labels = myr_alloc(n, k * sizeof *work->labels);
    work->distances = myr_alloc(k, sizeof *work->distances);
    if (!work->hits || !work->others || !work->ids || !work->labels || !work->distances)
        return myr_fail(MYR_ERR_NOMEM, "no memory for the neighbours of %zu items", n);
    return myr_label_study_create(metric, &work->study);
}

/* Collective. */
static myr_status start(job *work)
{
    const myr_cli *cli = work->cli;
    int64_t n_others = work->cluster->manifest.n_items - 1;
    work->k = n_others < 1 ? 1 : n_others < MYR_STUDY_DEPTH ? (size_t)n_others : MYR_STUDY_DEPTH;
    myr_status status = myr_choose_search(cli, &work->cluster->manifest, work->k + 1, &work->options);
    work->options.exact = myr_config_flag(cli->config, "exact");
    if (status == MYR_OK)
        status = myr_cluster_count_labels(work->cluster, &work->counts, &work->n_labels);
    if (status == MYR_OK && !work->counts)
        status =
            myr_fail(MYR_ERR_NOT_FOUND, "no item of this index has a label: embed with --label-from-folder, or from "
                                        "tars with .cls members");
    if (status == MYR_OK)
        status = myr_sweep_start(work->cluster, myr_config_int(cli->config, "sample"), A_PIECE, false, &work->sweep);
    if (status == MYR_OK)
        status = myr_comm_agree(cli->comm, cli->speaks ? make_room(work) : MYR_OK);
    return status;
}

/* Collective. */
static myr_status ask_all(job *work)
{
    myr_progress line;
    int64_t n_items = work->cluster->manifest.n_items, sample = myr_config_int(work->cli->config, "sample");
    myr_progress_start(&line, "asking", "items", sample < n_items ? sample : n_items, 0, work->cli->progress);
    myr_status status = myr_sweep_next(&work->sweep);
    while (status == MYR_OK && work->sweep.n > 0) {
        status = ask_piece(work);
        myr_progress_update(&line, work->n_asked);
        if (status == MYR_OK)
            status = myr_sweep_next(&work->sweep);
    }
    if (status != MYR_OK)
        return status;
    myr_progress_finish(&line, work->n_asked);
    return work->n_asked > 0 ? MYR_OK : myr_fail(MYR_ERR_NOT_FOUND, "the sample is empty; take more with --sample");
}

static const char lonely[] = "no item asked has a label that another has, too, so no neighbour could be right";

/* ---- Table ---- */

static void print_line(const char *name, const int *at, const myr_estimate *of)
{
    printf("%-22s", name);
    for (size_t p = 0; p < MYR_STUDY_POINTS; p++)
        printf("  @%d %.4f (%.4f to %.4f)", at[p], of[p].mean, of[p].low, of[p].high);
    printf("\n");
}

static myr_status print_table(const job *work, const myr_label_report *report)
{
    char rooms[2][MYR_LABEL_TEXT];
    printf("%zu labelled items of %lld, each without itself; in brackets the 95 %% interval\n", report->n_scored,
           (long long)work->cluster->manifest.n_items);
    printf("mAP@%d %.4f (%.4f to %.4f)\n", MYR_STUDY_DEPTH, report->map.mean, report->map.low, report->map.high);
    print_line("precision", depths, report->precision);
    print_line("kNN accuracy", votes, report->accuracy);
    print_line("weighted kNN accuracy", votes, report->weighted);
    for (size_t i = 0; i < report->n_confusions && i < 5; i++) {
        const myr_confusion *one = &report->confusions[i];
        const char *other = label_name(work, one->taken_for, rooms[1]);
        printf("%s%s for %s: %lld\n", i == 0 ? "taken most often: " : "                  ",
               label_name(work, one->label, rooms[0]), other ? other : "nothing", (long long)one->n);
    }
    if (work->n_worst == 0)
        printf("%s\n", lonely);
    printf("%.3f ms a query, %.2f shards probed\n", 1e3 * work->search_s / (double)work->n_asked,
           work->n_probes / (double)work->n_asked);
    return myr_flush_output();
}

/* ---- JSON ---- */

static json_t *estimate_json(const myr_estimate *of)
{
    return json_pack("{s:f, s:f, s:f}", "mean", of->mean, "low", of->low, "high", of->high);
}

static json_t *points_json(const int *at, const myr_estimate *of)
{
    json_t *all = json_object();
    for (size_t p = 0; all && p < MYR_STUDY_POINTS; p++) {
        char name[16];
        snprintf(name, sizeof name, "%d", at[p]);
        json_object_set_new(all, name, estimate_json(&of[p]));
    }
    return all;
}

static json_t *rows_json(const job *work, const myr_label_report *report)
{
    json_t *list = json_array();
    for (size_t i = 0; i < report->n_rows; i++) {
        const myr_label_row *row = &report->rows[i];
        char room[MYR_LABEL_TEXT];
        myr_json_append(&list, json_pack("{s:i, s:o, s:I, s:I, s:o, s:f, s:f}", "label", (int)row->label, "class",
                                         myr_json_text(label_name(work, row->label, room)), "items",
                                         (json_int_t)work->counts[row->label], "queries", (json_int_t)row->n_queries,
                                         "map", isnan(row->map) ? json_null() : json_real(row->map), "precision",
                                         row->precision, "accuracy", row->accuracy));
    }
    return list;
}

static json_t *confusions_json(const job *work, const myr_label_report *report)
{
    json_t *list = json_array();
    for (size_t i = 0; i < report->n_confusions && i < CONFUSIONS; i++) {
        const myr_confusion *one = &report->confusions[i];
        char rooms[2][MYR_LABEL_TEXT];
        myr_json_append(&list,
                        json_pack("{s:o, s:o, s:I}", "class", myr_json_text(label_name(work, one->label, rooms[0])),
                                  "taken_for", myr_json_text(label_name(work, one->taken_for, rooms[1])), "queries",
                                  (json_int_t)one->n));
    }
    return list;
}

static json_t *worst_json(const job *work)
{
    json_t *list = json_array();
    for (size_t i = 0; i < work->n_worst; i++)
        myr_json_append(&list, json_pack("{s:I, s:f}", "id", (json_int_t)work->worst[i].id, "ap", work->worst[i].ap));
    return list;
}

static myr_status write_json(const job *work, const myr_label_report *report, myr_buffer *out)
{
    json_t *document = json_pack(
        "{s:I, s:I, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:f}", "queries", (json_int_t)work->n_asked,
        "labelled", (json_int_t)report->n_scored, "exact", work->options.exact, "map", estimate_json(&report->map),
        "precision", points_json(depths, report->precision), "knn_accuracy", points_json(votes, report->accuracy),
        "weighted_knn_accuracy", points_json(votes, report->weighted), "classes", rows_json(work, report), "confusions",
        confusions_json(work, report), "worst", worst_json(work), "ms_per_query",
        1e3 * work->search_s / (double)work->n_asked, "probes_per_query", work->n_probes / (double)work->n_asked);
    return myr_put_json(document, out);
}

/* ---- HTML ---- */

static myr_status add_worst(const job *work, size_t i, const myr_item_facts *facts, myr_album *album, myr_sheet *sheet)
{
    const bad_query *bad = &work->worst[i];
    char heading[64], note[64], room[MYR_LABEL_TEXT];
    size_t n_bytes;
    snprintf(heading, sizeof heading, "Worst query %zu", i + 1);
    snprintf(note, sizeof note, "average precision %.4f", bad->ap);
    void *jpeg = myr_album_thumbnail(album, facts[0].source, facts[0].key ? facts[0].key : "", &n_bytes);
    myr_sheet_section section = {.heading = heading,
                                 .note = note,
                                 .caption = facts[0].key ? facts[0].key : "",
                                 .label = label_name(work, facts[0].label, room),
                                 .jpeg = jpeg,
                                 .jpeg_bytes = n_bytes};
    myr_status status = myr_sheet_add_section(sheet, &section);
    free(jpeg);
    for (size_t h = 0; h < SHOWN && bad->hits[h].id >= 0 && facts[1 + h].key && status == MYR_OK; h++) {
        jpeg = myr_album_thumbnail(album, facts[1 + h].source, facts[1 + h].key, &n_bytes);
        status = myr_sheet_add_hit(sheet, facts[1 + h].key, (double)bad->hits[h].distance,
                                   label_name(work, facts[1 + h].label, room), jpeg, n_bytes);
        free(jpeg);
    }
    return status;
}

static myr_status add_confusions(const job *work, const myr_label_report *report, myr_sheet *sheet)
{
    char rooms[2][MYR_LABEL_TEXT];
    myr_buffer text = {0};
    for (size_t i = 0; i < report->n_confusions && i < 5; i++) {
        const myr_confusion *one = &report->confusions[i];
        const char *other = label_name(work, one->taken_for, rooms[1]);
        myr_buffer_printf(&text, "%s%.80s for %.80s (%lld)", i == 0 ? "taken most often: " : ", ",
                          label_name(work, one->label, rooms[0]), other ? other : "nothing", (long long)one->n);
    }
    myr_status status = text.failed ? myr_fail(MYR_ERR_NOMEM, "no memory for the page")
                                    : myr_sheet_add_line(sheet, (const char *)text.data);
    myr_buffer_free(&text);
    return status;
}

static myr_status fill_sheet(const job *work, const myr_label_report *report, const myr_item_facts *facts,
                             myr_album *album, myr_sheet *sheet)
{
    char text[256];
    snprintf(text, sizeof text,
             "%zu labelled items asked, of %lld: mAP@%d %.3f, precision@10 %.3f, kNN accuracy (10) %.3f",
             report->n_scored, (long long)work->cluster->manifest.n_items, MYR_STUDY_DEPTH, report->map.mean,
             report->precision[1].mean, report->accuracy[1].mean);
    myr_status status = myr_sheet_add_line(sheet, text);
    if (status == MYR_OK && report->n_confusions > 0)
        status = add_confusions(work, report, sheet);
    if (status == MYR_OK && work->n_worst == 0)
        status = myr_sheet_add_line(sheet, lonely);
    for (size_t i = 0; i < work->n_worst && status == MYR_OK; i++)
        status = add_worst(work, i, facts + i * (SHOWN + 1), album, sheet);
    return status;
}

/* Root. */
static myr_status write_html(const job *work, const myr_label_report *report, const myr_item_facts *facts,
                             myr_buffer *out)
{
    myr_album *album = NULL;
    myr_sheet *sheet = NULL;
    myr_status status = myr_album_create(&album);
    if (status == MYR_OK)
        status = myr_sheet_create("Myriops: items whose neighbours have other labels", &sheet);
    if (status == MYR_OK)
        status = fill_sheet(work, report, facts, album, sheet);
    if (status == MYR_OK)
        status = myr_sheet_finish(sheet, out);
    myr_sheet_free(sheet);
    myr_album_free(album);
    return status;
}

/* Keys and sources of the worst and of what they found, (n_worst, 1 + SHOWN). Collective. */
static myr_status describe_worst(const job *work, myr_buffer *texts, myr_item_facts *facts)
{
    int64_t ids[N_WORST * (SHOWN + 1)];
    for (size_t i = 0; i < N_WORST; i++) {
        ids[i * (SHOWN + 1)] = i < work->n_worst ? work->worst[i].id : -1;
        for (size_t h = 0; h < SHOWN; h++)
            ids[i * (SHOWN + 1) + 1 + h] = i < work->n_worst ? work->worst[i].hits[h].id : -1;
    }
    return myr_cluster_describe(work->cluster, ids, N_WORST * (SHOWN + 1), texts, facts);
}

/* ---- The whole ---- */

static myr_status put_out(const char *path, const myr_buffer *text)
{
    myr_writer *writer;
    if (text->failed)
        return myr_fail(MYR_ERR_NOMEM, "no memory for the answer");
    myr_status status = myr_writer_create(path, &writer);
    if (status != MYR_OK)
        return status;
    status = myr_writer_append(writer, text->data, text->size);
    if (status == MYR_OK)
        return myr_writer_commit(writer);
    myr_writer_abandon(writer);
    return status;
}

/* Collective. */
static myr_status tell(job *work)
{
    const char *format = myr_config_text(work->cli->config, "format");
    bool is_html = strcmp(format, "html") == 0, is_json = strcmp(format, "json") == 0;
    myr_item_facts facts[N_WORST * (SHOWN + 1)];
    myr_label_report report = {0};
    myr_buffer texts = {0}, out = {0};
    myr_status status = is_html ? describe_worst(work, &texts, facts) : MYR_OK;
    if (status == MYR_OK && work->cli->speaks) {
        status = myr_label_study_report(work->study, &report);
        if (status == MYR_OK && is_html)
            status = write_html(work, &report, facts, &out);
        else if (status == MYR_OK && is_json)
            status = write_json(work, &report, &out);
        if (status == MYR_OK && (is_html || is_json))
            status = put_out(myr_config_text(work->cli->config, "out"), &out);
        if (status == MYR_OK && !is_json && (!is_html || myr_config_text(work->cli->config, "out")))
            status = print_table(work, &report);
    }
    myr_label_report_clear(&report);
    myr_buffer_free(&texts);
    myr_buffer_free(&out);
    return myr_comm_agree(work->cli->comm, status);
}

myr_status myr_eval_labels(const myr_cli *cli, myr_cluster *cluster)
{
    job work = {.cli = cli, .cluster = cluster};
    myr_status status = start(&work);
    if (status == MYR_OK)
        status = ask_all(&work);
    if (status == MYR_OK)
        status = tell(&work);
    myr_sweep_end(&work.sweep);
    myr_label_study_free(work.study);
    free(work.counts);
    free(work.hits);
    free(work.others);
    free(work.ids);
    free(work.labels);
    free(work.distances);
    return status;
}
