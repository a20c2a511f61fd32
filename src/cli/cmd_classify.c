/*
 * myriops classify: the likeliest classes of pictures, by a classifier's logits.
 */
#include "base/alloc.h"
#include "base/topk.h"
#include "cli/cli.h"
#include "cli/pictures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct classifier {
    myr_card *card;
    myr_encoder *encoder;
    char **labels;
    size_t n_labels;
} classifier;

/* The `top` likeliest classes in order; a hit's distance is minus the logit, so that none collapse where p is near 0
 * or 1. */
static void rank_classes(const float *logits, int n, size_t top, myr_hit *best, double *log_sum)
{
    double highest = -INFINITY, sum = 0;
    myr_topk heap;
    myr_topk_init(&heap, best, top);
    for (int i = 0; i < n; i++)
        highest = logits[i] > highest ? logits[i] : highest;
    for (int i = 0; i < n; i++) {
        sum += exp(logits[i] - highest);
        myr_topk_push(&heap, (myr_hit){.id = i, .distance = -logits[i]});
    }
    myr_topk_finish(&heap);
    *log_sum = highest + log(sum);
}

static const char *label_of(const classifier *tool, int64_t class)
{
    return class >= 0 && (size_t) class < tool->n_labels ? tool->labels[class] : "";
}

/* Softmax; log_sum: the logarithm of the sum of all exponentials. */
static double probability(myr_hit hit, double log_sum)
{
    return exp(-(double)hit.distance - log_sum);
}

static json_t *picture_json(const classifier *tool, const myr_item *item, const char *reason, const myr_hit *best,
                            size_t top, double log_sum)
{
    if (reason)
        return json_pack("{s:o, s:o}", "key", myr_json_text(item->key), "error", myr_json_text(reason));
    json_t *classes = json_array();
    for (size_t i = 0; i < top && best[i].id >= 0; i++)
        myr_json_append(&classes, json_pack("{s:I, s:s, s:f}", "class", (json_int_t)best[i].id, "label",
                                            label_of(tool, best[i].id), "probability", probability(best[i], log_sum)));
    return json_pack("{s:o, s:i, s:o}", "key", myr_json_text(item->key), "label", (int)item->label, "classes", classes);
}

static void print_picture(const classifier *tool, const char *format, const myr_item *item, const myr_hit *best,
                          size_t top, double log_sum)
{
    bool tsv = strcmp(format, "tsv") == 0;
    if (!tsv)
        printf("%s\n", item->key);
    for (size_t i = 0; i < top && best[i].id >= 0; i++) {
        if (tsv)
            printf("%s\t%zu\t%lld\t%.6f\t%s\n", item->key, i + 1, (long long)best[i].id, probability(best[i], log_sum),
                   label_of(tool, best[i].id));
        else
            printf("  %5.1f %%  %s\n", 100 * probability(best[i], log_sum), label_of(tool, best[i].id));
    }
}

static myr_status print_answers(const classifier *tool, const myr_cli *cli, const myr_pictures *pictures)
{
    const char *format = myr_config_text(cli->config, "format");
    bool json = strcmp(format, "json") == 0;
    size_t top = (size_t)myr_config_int(cli->config, "top");
    int64_t n_labelled = 0, n_first = 0, n_among = 0;
    myr_hit *best = myr_alloc(top, sizeof *best);
    json_t *answers = json_array();
    if (!best || !answers)
        return myr_fail(MYR_ERR_NOMEM, "no memory for the classes");
    for (int64_t i = 0; i < pictures->n; i++) {
        myr_item item;
        double log_sum;
        myr_item_list_item(pictures->items, i, &item);
        rank_classes(pictures->vectors + i * pictures->dim, pictures->dim, top, best, &log_sum);
        if (item.label >= 0 && !pictures->reasons[i]) {
            n_labelled++;
            n_first += best[0].id == item.label;
            for (size_t j = 0; j < top; j++)
                n_among += best[j].id == item.label;
        }
        if (json)
            myr_json_append(&answers, picture_json(tool, &item, pictures->reasons[i], best, top, log_sum));
        else if (!pictures->reasons[i])
            print_picture(tool, format, &item, best, top, log_sum);
    }
    free(best);
    double of = n_labelled ? (double)n_labelled : 1;
    if (json)
        return myr_print_json(json_pack("{s:s, s:o, s:I, s:f, s:f, s:f}", "model", tool->card->name, "pictures",
                                        answers, "labelled", (json_int_t)n_labelled, "top1", (double)n_first / of,
                                        "topk", (double)n_among / of, "seconds", pictures->wall_s));
    json_decref(answers);
    if (n_labelled > 1 && strcmp(format, "tsv") != 0)
        printf("%lld labelled pictures: top-1 %.1f %%, top-%zu %.1f %%\n", (long long)n_labelled,
               100 * (double)n_first / of, top, 100 * (double)n_among / of);
    return myr_flush_output();
}

static myr_status open_classifier(const myr_cli *cli, classifier *tool)
{
    myr_encoder_options options = {.backend = myr_config_text(cli->config, "backend"), .logits = true};
    options.precision = myr_cli_precision(cli->config, &options.least_cosine);
    myr_status status = myr_card_load(cli->operands[0], &tool->card);
    if (status == MYR_OK)
        status = myr_encoder_open(tool->card, &options, &tool->encoder);
    if (status == MYR_OK && tool->card->labels_path)
        status = myr_card_labels(tool->card, &tool->labels, &tool->n_labels);
    return status;
}

static myr_status classify(const myr_cli *cli)
{
    classifier tool = {0};
    myr_pictures pictures = {0};
    myr_corpus_options options = {.label_from_folder = myr_config_flag(cli->config, "label-from-folder")};
    myr_cli_data_sets(cli->config, &options);
    myr_status status = open_classifier(cli, &tool);
    if (status == MYR_OK)
        status = myr_pictures_encode(cli->operands + 1, cli->n_operands - 1, &options, tool.encoder, cli->n_threads,
                                     &pictures);
    if (status == MYR_OK)
        status = print_answers(&tool, cli, &pictures);
    myr_pictures_clear(&pictures);
    for (size_t i = 0; i < tool.n_labels; i++)
        free(tool.labels[i]);
    free(tool.labels);
    myr_encoder_free(tool.encoder);
    myr_card_free(tool.card);
    return status;
}

myr_status myr_cmd_classify(const myr_cli *cli)
{
    if (cli->n_operands < 2)
        return myr_fail(MYR_ERR_ARG, "name a model card and at least one picture: myriops classify MODEL PICTURE...");
    return cli->speaks ? classify(cli) : MYR_OK; /* few pictures: one rank answers, the others agree */
}
