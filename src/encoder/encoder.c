/*
 * The encoder: one compiled network, and for each thread a decoder and a session.
 *
 * Pictures are placed in the slots of a fixed batch, so that the network always
 * sees the same shape and a picture's vector never depends on its neighbours.
 */
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/vector.h"
#include "myriops/encoder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_BATCH 8
#define N_TIMED_RUNS 4 /* of a network among which the fastest is chosen */

struct myr_encoder {
    myr_network *network;
    myr_preprocess preprocess;
    myr_image_limits limits;
    int batch, dim;
    bool normalise;
    char contract[MYR_SHA256_TEXT];
};

struct myr_encoder_worker {
    const myr_encoder *encoder;
    myr_decoder *decoder;
    myr_session *session;
};

/* Digests of the files a network is made of; "" where there is no such file. */
typedef struct digests {
    char model[MYR_SHA256_TEXT], weights[MYR_SHA256_TEXT], external[MYR_SHA256_TEXT];
} digests;

/* Everything that decides a vector, as text, hashed. */
static myr_status seal_contract(myr_encoder *encoder, const myr_card *card, const digests *files, const char *output)
{
    const myr_preprocess *prep = &card->preprocess;
    myr_buffer text = {0};
    myr_buffer_printf(&text, "myriops contract 1\nmodel %s\noutput %s\nnormalised %d\n", files->model, output,
                      encoder->normalise);
    if (files->weights[0])
        myr_buffer_printf(&text, "weights %s\n", files->weights);
    if (files->external[0])
        myr_buffer_printf(&text, "external %s\n", files->external);
    myr_buffer_printf(&text, "size %d %d\nresize %d %d\nfilter %d\nbgr %d\n", prep->width, prep->height,
                      (int)prep->rule, prep->resize_to, (int)prep->filter, prep->bgr);
    for (int c = 0; c < 3; c++)
        myr_buffer_printf(&text, "channel %d mean %.9g std %.9g\n", c, (double)prep->mean[c], (double)prep->std[c]);
    if (text.failed) {
        myr_buffer_free(&text);
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory for the contract", card->name);
    }
    myr_sha256_text(text.data, text.size, encoder->contract);
    myr_buffer_free(&text);
    return MYR_OK;
}

/* One digest for a network, whatever files it is in. */
static void identify(const digests *files, char identity[MYR_SHA256_TEXT])
{
    char all[3 * MYR_SHA256_TEXT];
    snprintf(all, sizeof all, "%s %s %s", files->model, files->weights, files->external);
    if (files->weights[0] || files->external[0])
        myr_sha256_text(all, strlen(all), identity);
    else
        memcpy(identity, files->model, MYR_SHA256_TEXT);
}

static const char *input_name(const myr_model *model, size_t i)
{
    return i < myr_model_n_inputs(model) ? myr_model_input(model, i)->name : "";
}

/* The picture input must be (batch, 3, height, width) as the card says. */
static myr_status check_input(const myr_card *card, const myr_model *model)
{
    if (myr_model_n_inputs(model) != 1)
        return myr_fail(MYR_ERR_UNSUPPORTED,
                        "%s: the network has %zu inputs ('%s', '%s'...); an image encoder has one, "
                        "others must be weights in the ONNX file or in the card's weights file",
                        card->model_path, myr_model_n_inputs(model), input_name(model, 0), input_name(model, 1));
    const myr_tensor_info *input = myr_model_input(model, 0);
    if (input->rank != 4 || input->dims[1] != 3 || (input->dims[2] > 0 && input->dims[2] != card->preprocess.height) ||
        (input->dims[3] > 0 && input->dims[3] != card->preprocess.width))
        return myr_fail(MYR_ERR_FORMAT, "%s: input '%s' is not (batch, 3, %d, %d) as card '%s' says", card->model_path,
                        input->name, card->preprocess.height, card->preprocess.width, card->name);
    return MYR_OK;
}

/* Vector length: what one slot of a trial session gives. */
static myr_status find_dim(myr_encoder *encoder)
{
    myr_session *session = NULL;
    myr_status status = myr_session_create(encoder->network, &session);
    if (status != MYR_OK)
        return status;
    size_t n_per_image = 0;
    myr_session_output(session, 0, &n_per_image);
    myr_session_free(session);
    if (n_per_image == 0 || n_per_image > 65536)
        return myr_fail(MYR_ERR_UNSUPPORTED, "the output has %zu values a picture; 1 to 65536 can be used",
                        n_per_image);
    encoder->dim = (int)n_per_image;
    return MYR_OK;
}

/* A file's digest, which must be the card's where the card gives one. */
static myr_status check_file(const myr_card *card, const char *path, const char *wanted, char sha256[MYR_SHA256_TEXT])
{
    myr_status status = myr_sha256_file(path, sha256);
    if (status == MYR_OK && wanted && strcmp(wanted, sha256) != 0)
        status =
            myr_fail(MYR_ERR_FORMAT,
                     "%s: its SHA-256 is %.16s..., but card '%s' wants %.16s...: damaged or another model; fetch it "
                     "again or correct the card",
                     path, sha256, card->name, wanted);
    return status;
}

static myr_status check_files(const myr_card *card, digests *files)
{
    myr_status status = check_file(card, card->model_path, card->sha256, files->model);
    return status == MYR_OK && card->weights_path
               ? check_file(card, card->weights_path, card->weights_sha256, files->weights)
               : status;
}

/* The card's network and the digests of what it is made of. */
static myr_status load_model(const myr_card *card, digests *files, myr_model **model)
{
    *model = NULL;
    myr_status status = check_files(card, files);
    if (status == MYR_OK)
        status = myr_model_load(card->model_path, model);
    if (status == MYR_OK && card->weights_path)
        status = myr_model_load_weights(*model, card->weights_path);
    if (status == MYR_OK)
        memcpy(files->external, myr_model_external_sha256(*model), strlen(myr_model_external_sha256(*model)) + 1);
    if (status != MYR_OK) {
        myr_model_free(*model);
        *model = NULL;
    }
    return status;
}

myr_status myr_card_model(const myr_card *card, myr_model **model, char identity[65])
{
    digests files = {{0}};
    myr_status status = load_model(card, &files, model);
    if (status == MYR_OK)
        identify(&files, identity);
    return status;
}

myr_status myr_card_calibration(const myr_card *card, const char *identity, myr_calibration **calibration)
{
    *calibration = NULL;
    if (myr_path_exists(card->calibration_path))
        return myr_calibration_load(card->calibration_path, identity, calibration);
    return myr_fail(MYR_ERR_NOT_FOUND,
                    "%s: 8 bits need a calibration, %s, which is not there; make it with: myriops calibrate %s "
                    "PICTURES...",
                    card->name, card->calibration_path, card->name);
}

/* ---- The network ---- */

/* Seconds of the quickest of a few runs. */
static myr_status time_network(const myr_network *network, double *seconds)
{
    myr_session *session = NULL;
    myr_status status = myr_session_create(network, &session);
    *seconds = INFINITY;
    for (int i = 0; i < N_TIMED_RUNS && status == MYR_OK; i++) {
        double start_s = myr_now_s(), s;
        status = myr_session_run(session);
        s = myr_now_s() - start_s;
        *seconds = s < *seconds ? s : *seconds;
    }
    myr_session_free(session);
    return status;
}

/* The fastest of the networks that hold the cosine; f32 always does. */
static myr_status make_fastest(const myr_model *model, myr_network_options options, const char *output,
                               double least_cosine, myr_network **fastest)
{
    double best_s = INFINITY;
    myr_status status = MYR_OK;
    for (options.precision = MYR_PRECISION_F32; options.precision <= MYR_PRECISION_INT8 && status == MYR_OK;
         options.precision++) {
        myr_network *network = NULL;
        double seconds = INFINITY;
        if (myr_calibration_cosine(options.calibration, options.precision) < least_cosine)
            continue;
        status = myr_network_create(model, &options, &output, 1, &network);
        if (status == MYR_OK)
            status = time_network(network, &seconds);
        bool is_better = status == MYR_OK && seconds < best_s;
        best_s = is_better ? seconds : best_s;
        myr_network_free(is_better ? *fastest : network);
        *fastest = is_better ? network : *fastest;
    }
    return status;
}

static myr_status make_network(const myr_card *card, const myr_model *model, const char *output, const digests *files,
                               const myr_encoder_options *options, myr_encoder *encoder)
{
    char identity[MYR_SHA256_TEXT];
    bool chooses = options->least_cosine > 0;
    myr_calibration *calibration = NULL;
    myr_network_options wanted = {.backend = options->backend,
                                  .batch = encoder->batch,
                                  .precision = chooses ? MYR_PRECISION_F32 : options->precision};
    myr_status status = MYR_OK;
    identify(files, identity);
    if (chooses ? myr_path_exists(card->calibration_path) : options->precision == MYR_PRECISION_INT8)
        status = myr_card_calibration(card, identity, &calibration);
    wanted.calibration = calibration;
    if (status == MYR_OK)
        status = chooses && calibration ? make_fastest(model, wanted, output, options->least_cosine, &encoder->network)
                                        : myr_network_create(model, &wanted, &output, 1, &encoder->network);
    myr_calibration_free(calibration);
    return status;
}

myr_status myr_encoder_open(const myr_card *card, const myr_encoder_options *options, myr_encoder **out)
{
    *out = NULL;
    const char *output = options->logits ? card->logits : card->embedding;
    if (!output)
        return myr_fail(MYR_ERR_UNSUPPORTED, "%s: this card names no '%s' output; it is no classifier", card->name,
                        options->logits ? "logits" : "embedding");
    digests files = {{0}};
    myr_encoder *encoder = myr_alloc(1, sizeof *encoder);
    if (!encoder)
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory for an encoder", card->name);
    encoder->preprocess = card->preprocess;
    encoder->limits = options->limits;
    encoder->batch = options->batch > 0 ? options->batch : DEFAULT_BATCH;
    encoder->normalise = !options->logits && strcmp(card->metric, "cosine") == 0;
    myr_model *model = NULL;
    myr_status status = load_model(card, &files, &model);
    if (status == MYR_OK)
        status = check_input(card, model);
    if (status == MYR_OK)
        status = make_network(card, model, output, &files, options, encoder);
    myr_model_free(model); /* the network has the weights as it wants them */
    myr_return_memory();
    if (status == MYR_OK)
        status = find_dim(encoder);
    if (status == MYR_OK)
        status = seal_contract(encoder, card, &files, output);
    if (status != MYR_OK) {
        myr_encoder_free(encoder);
        return status;
    }
    *out = encoder;
    return MYR_OK;
}

void myr_encoder_free(myr_encoder *encoder)
{
    if (!encoder)
        return;
    myr_network_free(encoder->network);
    free(encoder);
}

int myr_encoder_dim(const myr_encoder *encoder)
{
    return encoder->dim;
}

myr_precision myr_encoder_precision(const myr_encoder *encoder)
{
    return myr_network_precision(encoder->network);
}

int myr_encoder_batch(const myr_encoder *encoder)
{
    return encoder->batch;
}

const char *myr_encoder_contract(const myr_encoder *encoder)
{
    return encoder->contract;
}

myr_status myr_encoder_worker_create(const myr_encoder *encoder, myr_encoder_worker **out)
{
    *out = NULL;
    myr_encoder_worker *worker = myr_alloc(1, sizeof *worker);
    if (!worker)
        return myr_fail(MYR_ERR_NOMEM, "no memory for an encoder's worker");
    worker->encoder = encoder;
    myr_status status = myr_decoder_create(&encoder->limits, &worker->decoder);
    if (status == MYR_OK)
        status = myr_session_create(encoder->network, &worker->session);
    if (status != MYR_OK) {
        myr_encoder_worker_free(worker);
        return status;
    }
    *out = worker;
    return MYR_OK;
}

void myr_encoder_worker_free(myr_encoder_worker *worker)
{
    if (!worker)
        return;
    myr_decoder_free(worker->decoder);
    myr_session_free(worker->session);
    free(worker);
}

static size_t values_per_picture(const myr_encoder *encoder)
{
    return (size_t)3 * (size_t)encoder->preprocess.width * (size_t)encoder->preprocess.height;
}

myr_status myr_encoder_prepare(myr_encoder_worker *worker, int slot, const void *bytes, size_t n_bytes)
{
    return myr_encoder_prepare_form(worker, slot, &(myr_form){0}, bytes, n_bytes);
}

myr_status myr_encoder_prepare_form(myr_encoder_worker *worker, int slot, const myr_form *form, const void *bytes,
                                    size_t n_bytes)
{
    const myr_encoder *encoder = worker->encoder;
    float *target = myr_session_input(worker->session) + (size_t)slot * values_per_picture(encoder);
    myr_status status =
        myr_decoder_read_prepared(worker->decoder, form, bytes, n_bytes, &encoder->preprocess, target);
    if (status != MYR_OK)
        memset(target, 0, values_per_picture(encoder) * sizeof *target);
    return status;
}

myr_status myr_encoder_run(myr_encoder_worker *worker)
{
    return myr_session_run(worker->session);
}

static bool all_finite(const float *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

myr_status myr_encoder_vector(const myr_encoder_worker *worker, int slot, float *vector)
{
    size_t dim = 0;
    const float *values = myr_session_output(worker->session, 0, &dim);
    memcpy(vector, values + (size_t)slot * dim, dim * sizeof *vector);
    if (worker->encoder->normalise ? myr_vector_normalise(vector, dim) : all_finite(vector, dim))
        return MYR_OK;
    return myr_fail(MYR_ERR_FORMAT, "the network gave NaN or infinity for this picture");
}
