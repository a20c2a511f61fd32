/*
 * Model cards, good and bad, and the encoder they open.
 */
#include "base/alloc.h"
#include "base/checksum.h"
#include "base/file.h"
#include "myriops/encoder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MODELS MYRIOPS_SOURCE_DIR "/conf/models"

static char folder[] = "/tmp/myriops-encoder-XXXXXX";

/* A small picture of two colours as a JPEG file. */
static void *make_picture(int width, int height, size_t *n_bytes)
{
    uint8_t *pixels = myr_alloc((size_t)width * (size_t)height, 3);
    void *jpeg = NULL;
    for (int i = 0; i < width * height; i++)
        memcpy(pixels + 3 * i, i % width < width / 2 ? "\x20\x90\xd0" : "\xf0\x70\x10", 3);
    assert_int_equal(myr_jpeg_encode(&(myr_image){.width = width, .height = height, .pixels = pixels}, 90, &jpeg, n_bytes), MYR_OK);
    free(pixels);
    return jpeg;
}

static void the_default_card_is_whole(void **state)
{
    (void)state;
    myr_card *card;
    char **labels;
    size_t n_labels;
    assert_int_equal(myr_card_load(MODELS "/efficientnet-lite0.conf", &card), MYR_OK);
    assert_string_equal(card->name, "efficientnet-lite0");
    assert_string_equal(card->metric, "cosine");
    assert_int_equal(card->preprocess.resize_to, 256);
    assert_int_equal(card->preprocess.filter, MYR_FILTER_BICUBIC);
    assert_true(card->preprocess.mean[2] == 127 && card->preprocess.std[0] == 128);
    assert_int_equal(myr_card_labels(card, &labels, &n_labels), MYR_OK);
    assert_int_equal(n_labels, 1000);
    assert_string_equal(labels[0], "tench");
    for (size_t i = 0; i < n_labels; i++)
        free(labels[i]);
    free(labels);
    myr_card_free(card);
    setenv("MYRIOPS_MODELS", MODELS, 1);
    assert_int_equal(myr_card_load("efficientnet-lite0", &card), MYR_OK);
    myr_card_free(card);
    assert_int_equal(myr_card_load(MODELS "/efficientnet-lite0.onnx", &card), MYR_OK);
    myr_card_free(card);
}

static myr_status load_text(const char *text)
{
    char path[128];
    myr_card *card;
    snprintf(path, sizeof path, "%s/card.conf", folder);
    assert_int_equal(myr_file_replace(path, text, strlen(text)), MYR_OK);
    myr_status status = myr_card_load(path, &card);
    if (status == MYR_OK)
        myr_card_free(card);
    return status;
}

#define GOOD "[model]\nname = x\nfile = x.onnx\n[input]\nwidth = 224\nheight = 224\n[output]\nembedding = e\n"

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

static void bad_cards_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[model]\nname = x\n",
        "no card at all\n",
        GOOD "metric = manhattan\n",
        GOOD "[input]\nmean = 1, 2\n",
        GOOD "[input]\nstd = 0\n",
        GOOD "[input]\nstd = nan\n",
        GOOD "[input]\nwidth = -3\n",
        GOOD "[input]\nwidth = 224x\n",
        GOOD "[input]\nfilter = nearest\n",
        GOOD "[input]\nmaen = 1\n",
        GOOD "[model]\nsha256 = abc\n",
        GOOD "[model]\nweights = w.safetensors\nweights_sha256 = abc\n",
        GOOD "[model]\nweights =\n",
        GOOD "[model]\nweights_sha256 = " ZEROS "\n",
    };
    assert_int_equal(load_text(GOOD), MYR_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (load_text(bad[i]) != MYR_ERR_FORMAT)
            fail_msg("card %zu was taken: %s", i, bad[i]);
    myr_card *card;
    assert_int_equal(myr_card_load("/nowhere/x.conf", &card), MYR_ERR_NOT_FOUND);
    assert_int_equal(myr_card_load("no-such-model", &card), MYR_ERR_NOT_FOUND);
    assert_non_null(strstr(myr_error_detail(), "looked at"));
}

/* A card of ours with something changed. */
static myr_card *changed_card(const char *name, const char *value)
{
    myr_card *card;
    assert_int_equal(myr_card_load(MODELS "/efficientnet-lite0.conf", &card), MYR_OK);
    if (strcmp(name, "sha256") == 0) {
        free(card->sha256);
        card->sha256 = myr_strdup(value);
    } else if (strcmp(name, "embedding") == 0) {
        free(card->embedding);
        card->embedding = myr_strdup(value);
    } else if (strcmp(name, "mean") == 0) {
        card->preprocess.mean[1] = 126;
    } else if (strcmp(name, "width") == 0) {
        card->preprocess.width = 200;
    } else if (strcmp(name, "logits") == 0) {
        free(card->logits);
        card->logits = NULL;
    }
    return card;
}

static myr_status try_open(const char *name, const char *value, bool logits, char contract[65])
{
    myr_card *card = changed_card(name, value);
    myr_encoder *encoder = NULL;
    myr_status status = myr_encoder_open(card, &(myr_encoder_options){.logits = logits, .batch = 2}, &encoder);
    if (status == MYR_OK && contract)
        snprintf(contract, 65, "%s", myr_encoder_contract(encoder));
    myr_encoder_free(encoder);
    myr_card_free(card);
    return status;
}

static void an_encoder_keeps_its_contract(void **state)
{
    (void)state;
    char first[65], again[65], other[65];
    assert_int_equal(try_open("", "", false, first), MYR_OK);
    assert_int_equal(try_open("", "", false, again), MYR_OK);
    assert_string_equal(first, again);
    assert_int_equal(try_open("mean", "", false, other), MYR_OK);
    assert_string_not_equal(first, other);
    assert_int_equal(try_open("", "", true, other), MYR_OK);
    assert_string_not_equal(first, other);
    assert_int_equal(try_open("sha256", "00000000000000000000000000000000000000000000000000000000000000aa", false, NULL), MYR_ERR_FORMAT);
    assert_int_equal(try_open("embedding", "nothing", false, NULL), MYR_ERR_NOT_FOUND);
    assert_int_equal(try_open("width", "", false, NULL), MYR_ERR_FORMAT);
    assert_int_equal(try_open("logits", "", true, NULL), MYR_ERR_UNSUPPORTED);
}

static void a_bad_picture_leaves_its_neighbours_alone(void **state)
{
    (void)state;
    myr_card *card = changed_card("", "");
    myr_encoder *encoder;
    myr_encoder_worker *worker;
    float first[1280], again[1280], blank[1280];
    double length = 0;
    size_t n_bytes;
    void *picture = make_picture(300, 200, &n_bytes);
    assert_int_equal(myr_encoder_open(card, &(myr_encoder_options){.batch = 4}, &encoder), MYR_OK);
    assert_int_equal(myr_encoder_dim(encoder), 1280);
    assert_int_equal(myr_encoder_worker_create(encoder, &worker), MYR_OK);
    assert_int_equal(myr_encoder_prepare(worker, 2, picture, n_bytes), MYR_OK);
    assert_int_equal(myr_encoder_run(worker), MYR_OK);
    assert_int_equal(myr_encoder_vector(worker, 2, first), MYR_OK);
    for (int i = 0; i < 1280; i++)
        length += (double)first[i] * (double)first[i];
    assert_true(fabs(length - 1) < 1e-5);
    assert_int_equal(myr_encoder_prepare(worker, 1, "no picture", 10), MYR_ERR_FORMAT);
    assert_int_equal(myr_encoder_prepare(worker, 0, picture, n_bytes), MYR_OK);
    assert_int_equal(myr_encoder_run(worker), MYR_OK);
    assert_int_equal(myr_encoder_vector(worker, 0, again), MYR_OK);
    assert_int_equal(myr_encoder_vector(worker, 1, blank), MYR_OK);
    assert_memory_equal(first, again, sizeof first);
    free(picture);
    myr_encoder_worker_free(worker);
    myr_encoder_free(encoder);
    myr_card_free(card);
}

/* Opens bare.onnx with this weights file, or the ONNX file of that name without one. */
static myr_status open_with(const char *model, const char *weights, const char *weights_sha256, char contract[65])
{
    char path[256], text[1024];
    myr_card *card;
    myr_encoder *encoder = NULL;
    snprintf(path, sizeof path, "%s/weights/card.conf", folder);
    int n = snprintf(text, sizeof text,
                     "[model]\nname = x\nfile = %s.onnx\n%s%s%s%s%s\n[input]\nwidth = 8\nheight = 8\n[output]\n"
                     "embedding = out\n",
                     model, weights ? "weights = " : "", weights ? weights : "", weights ? ".safetensors\n" : "",
                     weights_sha256 ? "weights_sha256 = " : "", weights_sha256 ? weights_sha256 : "");
    assert_int_equal(myr_file_replace(path, text, (size_t)n), MYR_OK);
    assert_int_equal(myr_card_load(path, &card), MYR_OK);
    myr_status status = myr_encoder_open(card, &(myr_encoder_options){.batch = 1}, &encoder);
    if (status == MYR_OK) {
        assert_int_equal(myr_encoder_dim(encoder), 5);
        snprintf(contract, 65, "%s", myr_encoder_contract(encoder));
    }
    myr_encoder_free(encoder);
    myr_card_free(card);
    return status;
}

/* Weights are part of the contract wherever they are kept. */
static void weights_in_other_files_are_in_the_contract(void **state)
{
    (void)state;
    char command[512], f32[65], f16[65], again[65], path[128], sha256[MYR_SHA256_TEXT];
    snprintf(command, sizeof command, "mkdir %s/weights && /usr/bin/python3 %s/tests/unit/nn/make_weights.py %s/weights",
             folder, MYRIOPS_SOURCE_DIR, folder);
    if (system(command) != 0)
        skip(); /* python3-onnx is missing */
    assert_int_equal(open_with("bare", NULL, NULL, f32), MYR_ERR_UNSUPPORTED);
    assert_non_null(strstr(myr_error_detail(), "'conv.weight'"));
    assert_int_equal(open_with("bare", "first", NULL, f32), MYR_ERR_UNSUPPORTED);
    assert_int_equal(open_with("bare", "nowhere", NULL, f32), MYR_ERR_NOT_FOUND);
    assert_int_equal(open_with("bare", "F32", NULL, f32), MYR_OK);
    assert_int_equal(open_with("bare", "F16", NULL, f16), MYR_OK);
    assert_string_not_equal(f32, f16);
    snprintf(path, sizeof path, "%s/weights/F32.safetensors", folder);
    assert_int_equal(myr_sha256_file(path, sha256), MYR_OK);
    assert_int_equal(open_with("bare", "F32", sha256, again), MYR_OK);
    assert_string_equal(f32, again);
    assert_int_equal(open_with("bare", "F16", sha256, again), MYR_ERR_FORMAT);
    assert_non_null(strstr(myr_error_detail(), "F16.safetensors: its SHA-256"));
    assert_int_equal(open_with("external_below", NULL, NULL, f32), MYR_OK);
    snprintf(path, sizeof path, "%s/weights/below/weights.bin", folder);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fputc(0x11, file);
    fclose(file);
    assert_int_equal(open_with("external_below", NULL, NULL, again), MYR_OK);
    assert_string_not_equal(f32, again);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_card_is_whole),
        cmocka_unit_test(bad_cards_are_refused),
        cmocka_unit_test(an_encoder_keeps_its_contract),
        cmocka_unit_test(a_bad_picture_leaves_its_neighbours_alone),
        cmocka_unit_test(weights_in_other_files_are_in_the_contract),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
