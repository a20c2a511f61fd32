/*
 * myriops cluster: k-means over a corpus, as a table, or as a page with examples of each cluster.
 */
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/log.h"
#include "base/writer.h"
#include "cli/cli.h"
#include "cli/field.h"
#include "cli/labels.h"
#include "cli/shared.h"
#include "cli/sheet.h"
#include "dist/clusters.h"
#include "myriops/eval.h"
#include "myriops/vectors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PASSES = 50,       /* over all items, at most */
    MOST_USUAL = 1000, /* clusters, where their number is not given */
    COMMONEST = 5,     /* labels told of a cluster */
    EXAMPLES = 10,     /* of each kind */
};

typedef struct output {
    const myr_cli *cli;
    const myr_items *items;
    const char *format, *path;
    myr_writer *writer; /* rank 0 */
    myr_clusters clusters;
    myr_agreement agreement;
} output;

static const char *label_name(const output *out, int64_t label, char room[MYR_LABEL_TEXT])
{
    return myr_label_name(out->items->classes, out->items->n_classes, label, room);
}

/* ---- TSV ---- */

static void format_item(const myr_clustered *item, const void *context, myr_buffer *line)
{
    const output *out = context;
    char room[MYR_LABEL_TEXT];
    myr_buffer_printf(line, "%lld\t%.6g\t", (long long)item->cluster + 1, (double)item->distance);
    myr_put_field(line, item->key);
    myr_buffer_puts(line, "\t");
    myr_put_field(line, item->source);
    myr_buffer_puts(line, "\t");
    myr_put_field(line, label_name(out, item->label, room));
    myr_buffer_puts(line, "\n");
}

static myr_status take_lines(void *context, const void *bytes, size_t n_bytes)
{
    output *out = context;
    return myr_writer_append(out->writer, bytes, n_bytes);
}

/* ---- Labels of a cluster ---- */

typedef struct label_count {
    int64_t n, label;
} label_count;

/* The commonest labels of a cluster, at most COMMONEST; *n_labelled of its items have one. */
static size_t find_commonest(const myr_clusters *clusters, size_t c, label_count *most, int64_t *n_labelled)
{
    size_t n = 0;
    *n_labelled = 0;
    for (size_t l = 0; l < clusters->n_labels; l++) {
        label_count one = {.n = clusters->labels[c * clusters->n_labels + l], .label = (int64_t)l};
        *n_labelled += one.n;
        if (one.n == 0 || (n == COMMONEST && one.n <= most[n - 1].n))
            continue;
        size_t at = n < COMMONEST ? n++ : n - 1;
        for (; at > 0 && most[at - 1].n < one.n; at--)
            most[at] = most[at - 1];
        most[at] = one;
    }
    return n;
}

/* ---- JSON ---- */

static json_t *examples_json(const output *out, const myr_example *row)
{
    json_t *list = json_array();
    for (size_t i = 0; i < out->clusters.n_examples && row[i].id >= 0; i++) {
        const myr_example_facts *facts = myr_clusters_facts(&out->clusters, row[i].id);
        char room[MYR_LABEL_TEXT];
        myr_json_append(&list, json_pack("{s:I, s:f, s:o, s:o, s:o}", "id", (json_int_t)row[i].id, "distance",
                                         (double)row[i].distance, "key", myr_json_text(facts ? facts->key : NULL),
                                         "source", myr_json_text(facts ? facts->source : NULL), "label",
                                         myr_json_text(label_name(out, facts ? facts->label : -1, room))));
    }
    return list;
}

static json_t *cluster_json(const output *out, size_t c)
{
    const myr_clusters *clusters = &out->clusters;
    label_count most[COMMONEST];
    int64_t n_labelled;
    size_t n = find_commonest(clusters, c, most, &n_labelled);
    json_t *labels = json_array();
    for (size_t i = 0; i < n; i++) {
        char room[MYR_LABEL_TEXT];
        myr_json_append(&labels,
                        json_pack("{s:o, s:I, s:f}", "label", myr_json_text(label_name(out, most[i].label, room)),
                                  "items", (json_int_t)most[i].n, "share", (double)most[i].n / (double)n_labelled));
    }
    return json_pack("{s:I, s:I, s:f, s:o, s:o, s:o}", "cluster", (json_int_t)c + 1, "items",
                     (json_int_t)clusters->sizes[c], "mean_distance", clusters->mean_distance[c], "labels", labels,
                     "nearest", examples_json(out, clusters->nearest + c * clusters->n_examples), "random",
                     examples_json(out, clusters->drawn + c * clusters->n_examples));
}

static myr_status write_json(output *out)
{
    const myr_clusters *found = &out->clusters;
    json_t *list = json_array();
    for (size_t c = 0; c < found->n; c++)
        myr_json_append(&list, cluster_json(out, c));
    json_t *labels = out->agreement.n_labelled > 0
                         ? json_pack("{s:f, s:f, s:I}", "purity", out->agreement.purity, "nmi", out->agreement.nmi,
                                     "items", (json_int_t)out->agreement.n_labelled)
                         : json_null();
    json_t *document = json_pack("{s:I, s:i, s:I, s:f, s:o, s:o}", "items", (json_int_t)found->n_items, "passes",
                                 found->n_passes, "moved", (json_int_t)found->n_moved, "mean_squared_distance",
                                 found->mean_squared, "labels", labels, "clusters", list);
    return myr_append_json(document, out->writer);
}

/* ---- HTML ---- */

static myr_status add_examples(const output *out, const myr_example *row, size_t first, myr_album *album,
                               myr_sheet *sheet)
{
    myr_status status = MYR_OK;
    for (size_t i = first; i < out->clusters.n_examples && row[i].id >= 0 && status == MYR_OK; i++) {
        const myr_example_facts *facts = myr_clusters_facts(&out->clusters, row[i].id);
        char room[MYR_LABEL_TEXT];
        size_t n_bytes;
        if (!facts || !facts->key)
            continue;
        void *jpeg = myr_album_thumbnail(album, facts->source, facts->key, &n_bytes);
        status = myr_sheet_add_hit(sheet, facts->key, (double)row[i].distance, label_name(out, facts->label, room),
                                   jpeg, n_bytes);
        free(jpeg);
    }
    return status;
}

static myr_status open_cluster(const output *out, size_t c, myr_album *album, myr_sheet *sheet)
{
    const myr_clusters *found = &out->clusters;
    const myr_example_facts *facts = myr_clusters_facts(found, found->nearest[c * found->n_examples].id);
    label_count most[COMMONEST];
    int64_t n_labelled;
    char heading[64], note[128], room[MYR_LABEL_TEXT], rooms[COMMONEST][MYR_LABEL_TEXT];
    const char *names[COMMONEST];
    double shares[COMMONEST];
    size_t n_bytes, n = find_commonest(found, c, most, &n_labelled);
    for (size_t i = 0; i < n; i++) {
        names[i] = label_name(out, most[i].label, rooms[i]);
        shares[i] = (double)most[i].n / (double)n_labelled;
    }
    snprintf(heading, sizeof heading, "Cluster %zu", c + 1);
    snprintf(note, sizeof note, "%lld items, %.1f %% of all; mean distance to the centre %.4g",
             (long long)found->sizes[c], 100 * (double)found->sizes[c] / (double)found->n_items,
             found->mean_distance[c]);
    void *jpeg = myr_album_thumbnail(album, facts ? facts->source : NULL, facts ? facts->key : "", &n_bytes);
    myr_sheet_section section = {.heading = heading,
                                 .note = note,
                                 .caption = facts && facts->key ? facts->key : "",
                                 .label = label_name(out, facts ? facts->label : -1, room),
                                 .match = n > 0 ? names[0] : NULL,
                                 .jpeg = jpeg,
                                 .jpeg_bytes = n_bytes,
                                 .names = names,
                                 .shares = shares,
                                 .n_shares = n};
    myr_status status = myr_sheet_add_section(sheet, &section);
    free(jpeg);
    return status;
}

static void describe(const output *out, char *text, size_t room)
{
    const myr_clusters *found = &out->clusters;
    size_t n_filled = 0;
    while (n_filled < found->n && found->sizes[n_filled] > 0)
        n_filled++;
    snprintf(text, room, "%lld items in %zu clusters, of %lld to %lld; root mean squared distance to the centre %.4g",
             (long long)found->n_items, n_filled, (long long)(n_filled > 0 ? found->sizes[n_filled - 1] : 0),
             (long long)found->sizes[0], sqrt(found->mean_squared));
}

static void describe_labels(const output *out, char *text, size_t room)
{
    snprintf(text, room, "labels of %lld items: purity %.3f, normalised mutual information %.3f",
             (long long)out->agreement.n_labelled, out->agreement.purity, out->agreement.nmi);
}

static myr_status fill_sheet(const output *out, myr_album *album, myr_sheet *sheet)
{
    const myr_clusters *found = &out->clusters;
    char text[256];
    describe(out, text, sizeof text);
    myr_status status = myr_sheet_add_line(sheet, text);
    if (status == MYR_OK && out->agreement.n_labelled > 0) {
        describe_labels(out, text, sizeof text);
        status = myr_sheet_add_line(sheet, text);
    }
    if (status == MYR_OK)
        status =
            myr_sheet_set_legend(sheet, "Distances are to the centre of the cluster; beside its name stands the item "
                                        "nearest to it. A green frame marks items with the commonest label.");
    for (size_t c = 0; c < found->n && found->sizes[c] > 0 && status == MYR_OK; c++) {
        status = open_cluster(out, c, album, sheet);
        if (status == MYR_OK)
            status = myr_sheet_add_divider(sheet, "nearest to the centre");
        if (status == MYR_OK)
            status = add_examples(out, found->nearest + c * found->n_examples, 1, album, sheet);
        if (status == MYR_OK)
            status = myr_sheet_add_divider(sheet, "at random");
        if (status == MYR_OK)
            status = add_examples(out, found->drawn + c * found->n_examples, 0, album, sheet);
    }
    return status;
}

static myr_status write_html(output *out)
{
    myr_album *album = NULL;
    myr_sheet *sheet = NULL;
    myr_buffer page = {0};
    myr_status status = myr_album_create(&album);
    if (status == MYR_OK)
        status = myr_sheet_create("Myriops: clusters", &sheet);
    if (status == MYR_OK)
        status = fill_sheet(out, album, sheet);
    if (status == MYR_OK)
        status = myr_sheet_finish(sheet, &page);
    if (status == MYR_OK)
        status = myr_writer_append(out->writer, page.data, page.size);
    myr_buffer_free(&page);
    myr_sheet_free(sheet);
    myr_album_free(album);
    return status;
}

/* ---- The whole ---- */

static myr_status open_output(output *out)
{
    static const char header[] = "cluster\tdistance\tkey\tsource\tlabel\n";
    myr_status status = myr_writer_create(out->path, &out->writer);
    return status == MYR_OK && myr_wants_tsv(out->cli) ? myr_writer_append(out->writer, header, sizeof header - 1)
                                                       : status;
}

static void print_summary(const output *out)
{
    FILE *to = out->path ? stdout : stderr;
    char text[256];
    describe(out, text, sizeof text);
    fprintf(to, "%s\n", text);
    if (out->agreement.n_labelled > 0) {
        describe_labels(out, text, sizeof text);
        fprintf(to, "%s\n", text);
    }
    fprintf(to, "%d passes; %lld items changed their cluster in the last one\n", out->clusters.n_passes,
            (long long)out->clusters.n_moved);
}

/* Rank 0. */
static myr_status close_output(output *out)
{
    const myr_clusters *found = &out->clusters;
    const char *centroids = myr_config_text(out->cli->config, "centroids");
    bool is_json = strcmp(out->format, "json") == 0;
    myr_status status = MYR_OK;
    if (found->too_many_labels)
        myr_warn("labels are not counted: there are too many of them for so many clusters");
    if (found->n_labels > 0)
        status = myr_eval_agreement(found->labels, found->n, found->n_labels, &out->agreement);
    if (status == MYR_OK && centroids)
        status = myr_vectors_write(centroids, found->centroids, found->n, found->dim);
    if (status == MYR_OK && !myr_wants_tsv(out->cli))
        status = is_json ? write_json(out) : write_html(out);
    if (status != MYR_OK)
        return status;
    status = myr_writer_commit(out->writer);
    out->writer = NULL;
    if (status == MYR_OK && (out->path || !is_json))
        print_summary(out);
    return status == MYR_OK ? myr_flush_output() : status;
}

static myr_status check_usage(const myr_cli *cli)
{
    bool has_index = myr_config_text(cli->config, "index") != NULL;
    if (has_index == (cli->n_operands > 0))
        return myr_fail(MYR_ERR_ARG, "give --index FOLDER, or name embedding folders or a vector file: one of the two");
    return MYR_OK;
}

/* As many clusters as half the items' root, where none were asked for. */
static size_t choose_number(const myr_cli *cli, const myr_items *items)
{
    int64_t wanted = myr_config_int(cli->config, "clusters");
    double usual = round(sqrt((double)items->n_ids / 2));
    if (wanted > 0)
        return (size_t)wanted;
    return usual < 1 ? 1 : usual > MOST_USUAL ? MOST_USUAL : (size_t)usual;
}

/* Collective. */
static myr_status cluster_items(const myr_cli *cli, const myr_items *items)
{
    output out = {.cli = cli,
                  .items = items,
                  .format = myr_config_text(cli->config, "format"),
                  .path = myr_config_text(cli->config, "out")};
    myr_clusters_options options = {.n_clusters = choose_number(cli, items),
                                    .seed = (uint64_t)myr_config_int(cli->config, "seed"),
                                    .n_passes = PASSES,
                                    .n_examples = myr_wants_tsv(cli) ? 0 : EXAMPLES,
                                    .progress = cli->progress};
    myr_status status = myr_comm_agree(cli->comm, cli->speaks ? open_output(&out) : MYR_OK);
    if (status == MYR_OK)
        status = myr_clusters_find(items, &options, myr_wants_tsv(cli) ? format_item : NULL, take_lines, &out,
                                   &out.clusters);
    if (status == MYR_OK && cli->speaks)
        status = close_output(&out);
    myr_writer_abandon(out.writer);
    myr_clusters_free(&out.clusters);
    return status;
}

myr_status myr_cmd_cluster(const myr_cli *cli)
{
    myr_items items;
    myr_status status = check_usage(cli);
    if (status == MYR_OK)
        status = myr_items_open(cli->comm, myr_config_text(cli->config, "index"), cli->operands, cli->n_operands,
                                myr_config_text(cli->config, "metric"), cli->n_threads, &items);
    if (status != MYR_OK)
        return status;
    status = cluster_items(cli, &items);
    myr_items_close(&items);
    return status;
}
