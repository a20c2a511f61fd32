/*
 * myriops calibrate: measure on pictures what a network needs to compute in 8 bits.
 */
#include "base/alloc.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/cli.h"
#include "cli/pictures.h"
#include "myriops/encoder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void show_progress(void *context, double done)
{
    myr_progress_update(context, (int64_t)(done * 100));
}

static myr_status print_outcome(const myr_cli *cli, const myr_card *card, const char *path,
                                const myr_calibration *found, size_t n_pictures)
{
    size_t n_wide, n_layers = myr_calibration_n_layers(found, &n_wide), n_wide_blocks,
                   n_blocks = myr_calibration_n_blocks(found, &n_wide_blocks);
    double bf16 = myr_calibration_cosine(found, MYR_PRECISION_BF16),
           int8 = myr_calibration_cosine(found, MYR_PRECISION_INT8);
    if (strcmp(myr_config_text(cli->config, "format"), "json") == 0)
        return myr_print_json(json_pack(
            "{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:{s:f, s:f}}", "model", card->name, "out", myr_json_text(path),
            "pictures", (json_int_t)n_pictures, "layers", (json_int_t)n_layers, "wide", (json_int_t)n_wide, "blocks",
            (json_int_t)n_blocks, "wide_blocks", (json_int_t)n_wide_blocks, "cosine", "bf16", bf16, "int8", int8));
    printf("%s: %zu pictures, %zu convolutions, %zu of them stay wide in int8\n", card->name, n_pictures, n_layers,
           n_wide);
    if (n_blocks > 0)
        printf("in one piece: %zu inverted residuals, %zu of them not in int8\n", n_blocks, n_wide_blocks);
    printf("cosine to f32 of the worst picture: bf16 %.5f, int8 %.5f\n", bf16, int8);
    printf("written to %s; use it with --precision int8 or --precision auto\n", path);
    return myr_flush_output();
}

static myr_status calibrate(const myr_cli *cli)
{
    myr_card *card = NULL;
    myr_calibration *found = NULL;
    float *pictures = NULL;
    size_t n = 0;
    char identity[65];
    myr_model *model = NULL;
    myr_progress progress = {0};
    myr_calibration_options options = {.backend = myr_config_text(cli->config, "backend"),
                                       .cosine = myr_config_real(cli->config, "cosine"),
                                       .progress = show_progress,
                                       .context = &progress};
    myr_status status = myr_card_load(cli->operands[0], &card);
    if (status == MYR_OK)
        status = myr_pictures_prepare(cli->operands + 1, cli->n_operands - 1, card,
                                      (size_t)myr_config_int(cli->config, "pictures"), &pictures, &n);
    if (status == MYR_OK)
        status = myr_card_model(card, &model, identity);
    if (status == MYR_OK) {
        myr_progress_start(&progress, "calibrating", "%", 100, 0, cli->progress);
        status = myr_calibration_measure(model, card->embedding, pictures, n, &options, &found);
        myr_progress_finish(&progress, 100);
    }
    if (status == MYR_OK) {
        const char *out = myr_config_text(cli->config, "out");
        const char *path = out ? out : card->calibration_path;
        status = myr_calibration_save(found, identity, path);
        if (status == MYR_OK)
            status = print_outcome(cli, card, path, found, n);
    }
    free(pictures);
    myr_calibration_free(found);
    myr_model_free(model);
    myr_card_free(card);
    return status;
}

myr_status myr_cmd_calibrate(const myr_cli *cli)
{
    if (cli->n_operands < 2)
        return myr_fail(MYR_ERR_ARG, "name a model card and pictures: myriops calibrate MODEL PICTURES...");
    return cli->speaks ? calibrate(cli) : MYR_OK; /* one rank measures, the others agree */
}
