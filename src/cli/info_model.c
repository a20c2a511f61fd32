/*
 * Facts of a network: what its file says, what it takes in memory once compiled, and which precisions this processor
 * has for it, each with its speed on one thread. The speed is an estimate, of a short run on noise.
 */
#include "cli/info_model.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/rng.h"
#include "myriops/encoder.h"

#include <stdlib.h>
#include <string.h>

#define LEAST_RUNS 3
#define MOST_RUNS 1000
#define MOST_ARENA_BYTES ((size_t)1 << 30) /* of a network that is run only to be looked at */

/* ---- What the file says ---- */

static json_t *tensors_json(const myr_model *model, const myr_tensor_info *(*get)(const myr_model *, size_t), size_t n)
{
    json_t *tensors = json_array();
    for (size_t i = 0; i < n; i++) {
        const myr_tensor_info *info = get(model, i);
        json_t *shape = json_array();
        for (int d = 0; d < info->rank; d++)
            json_array_append_new(shape, json_integer(info->dims[d]));
        json_array_append_new(tensors, json_pack("{s:o, s:o}", "name", myr_json_text(info->name), "shape", shape));
    }
    return tensors;
}

static json_t *operators_json(const myr_model *model)
{
    json_t *operators = json_object();
    const char *name;
    size_t n;
    for (size_t i = 0; (name = myr_model_operator(model, i, &n)); i++)
        json_object_set_new(operators, name, json_integer((json_int_t)n));
    return operators;
}

static json_t *card_json(const myr_card *card)
{
    static const char *const rules[] = {"shorter", "stretch", "longer"}, *const filters[] = {"bilinear", "bicubic"};
    const myr_preprocess *prep = &card->preprocess;
    return json_pack("{s:s, s:s?, s:s?, s:s?, s:s, s:s?, s:s, s:[i,i], s:s, s:i, s:s, s:s, s:[f,f,f], s:[f,f,f]}",
                     "name", card->name, "title", card->title, "source", card->source, "licence", card->licence,
                     "embedding", card->embedding, "logits", card->logits, "metric", card->metric, "size", prep->width,
                     prep->height, "resize", rules[prep->rule], "resize_to", prep->resize_to, "filter",
                     filters[prep->filter], "channels", prep->bgr ? "BGR" : "RGB", "mean", (double)prep->mean[0],
                     (double)prep->mean[1], (double)prep->mean[2], "std", (double)prep->std[0], (double)prep->std[1],
                     (double)prep->std[2]);
}

/* ---- What it takes ---- */

typedef struct subject {
    const myr_cli *cli;
    myr_card *card; /* NULL for a bare ONNX file */
    myr_model *model;
    myr_calibration *calibration; /* NULL where there is none */
    char *calibration_problem;    /* [owned] why the one that is there cannot be used; or NULL */
    const char *output;           /* [borrowed] the tensor asked for */
    double seconds;               /* to measure each precision; 0 = not at all */
} subject;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fill_noise(const myr_model *model, int batch, myr_session *session)
{
    const myr_tensor_info *input = myr_model_input(model, 0);
    float *values = input ? myr_session_input(session) : NULL;
    size_t n = (size_t)batch; /* of an input that was compiled, so that its size is known and small enough */
    myr_rng rng;
    myr_rng_seed(&rng, 1);
    for (int d = 1; values && d < input->rank; d++)
        n *= (size_t)input->dims[d];
    for (size_t i = 0; values && i < n; i++)
        values[i] = (float)(4 * myr_rng_unit(&rng) - 2);
}

/* Median time of a run. The first run, which warms up, counts where it alone takes longer than there is time. */
static myr_status time_runs(myr_session *session, double seconds, double *median_s)
{
    double times[MOST_RUNS], start_s = myr_now_s();
    size_t n = 0;
    myr_status status = myr_session_run(session);
    times[0] = myr_now_s() - start_s;
    bool is_slow = times[0] > seconds;
    start_s = myr_now_s();
    while (status == MYR_OK && !is_slow && n < MOST_RUNS && (n < LEAST_RUNS || myr_now_s() - start_s < seconds)) {
        double before_s = myr_now_s();
        status = myr_session_run(session);
        times[n++] = myr_now_s() - before_s;
    }
    qsort(times, n, sizeof *times, by_value);
    *median_s = times[n / 2];
    return status;
}

/* Pictures a second of one thread; null where it is not to be measured, or takes too much memory. */
static json_t *measure(const subject *self, const myr_network *network, int batch)
{
    myr_session *session = NULL;
    double seconds = 0;
    if (self->seconds <= 0 || myr_network_arena_bytes(network) > MOST_ARENA_BYTES ||
        myr_session_create(network, &session) != MYR_OK)
        return json_null();
    fill_noise(self->model, batch, session);
    myr_status status = time_runs(session, self->seconds, &seconds);
    myr_session_free(session);
    return status == MYR_OK && seconds > 0 ? json_real((double)batch / seconds) : json_null();
}

static myr_status compile(const subject *self, myr_precision precision, int batch, myr_network **network)
{
    myr_network_options options = {.backend = myr_config_text(self->cli->config, "backend"),
                                   .batch = batch,
                                   .precision = precision,
                                   .calibration = precision == MYR_PRECISION_INT8 ? self->calibration : NULL};
    return myr_network_create(self->model, &options, &self->output, 1, network);
}

/* One precision: what it is computed in here, and, where that is itself, its weights and speed. */
static json_t *precision_json(const subject *self, myr_precision precision)
{
    int batch = (int)myr_config_int(self->cli->config, "batch");
    myr_precision found = myr_backend_precision(myr_config_text(self->cli->config, "backend"), precision);
    bool lacks = precision == MYR_PRECISION_INT8 && !self->calibration;
    json_t *speed = json_null(), *weights = json_null();
    myr_network *network = NULL;
    if (found == precision && !lacks && compile(self, precision, batch, &network) == MYR_OK) {
        json_decref(speed);
        json_decref(weights);
        speed = measure(self, network, batch);
        weights = json_integer((json_int_t)myr_network_weight_bytes(network));
    }
    myr_network_free(network);
    json_t *facts = json_pack("{s:s, s:o, s:o}", "computed_in", myr_precision_name(found), "images_per_s", speed,
                              "weights_bytes", weights);
    if (facts && precision != MYR_PRECISION_F32)
        json_object_set_new(facts, "cosine",
                            self->calibration ? json_real(myr_calibration_cosine(self->calibration, precision))
                                              : json_null());
    if (facts && precision == MYR_PRECISION_INT8) {
        json_object_set_new(facts, "calibrated", json_boolean(self->calibration != NULL));
        if (lacks)
            json_object_set_new(facts, "wants",
                                self->calibration_problem ? myr_json_text(self->calibration_problem)
                                                          : json_string("myriops calibrate CARD PICTURES..."));
    }
    return facts;
}

/* The network in f32, and its precisions; the reason where it cannot be compiled. MYR_ERR_ARG: no such backend. */
static myr_status add_network(const subject *self, json_t *facts)
{
    int batch = (int)myr_config_int(self->cli->config, "batch");
    myr_network *one = NULL, *network = NULL;
    myr_status status = compile(self, MYR_PRECISION_F32, 1, &one);
    if (status == MYR_OK)
        status = compile(self, MYR_PRECISION_F32, batch, &network);
    if (status == MYR_OK) {
        json_object_set_new(facts, "network",
                            json_pack("{s:s, s:o, s:I, s:I, s:I, s:i, s:I}", "backend", myr_network_backend(network),
                                      "output", myr_json_text(self->output), "nodes",
                                      (json_int_t)myr_network_n_nodes(network), "weights_bytes",
                                      (json_int_t)myr_network_weight_bytes(network), "arena_bytes_of_1",
                                      (json_int_t)myr_network_arena_bytes(one), "batch", batch, "arena_bytes",
                                      (json_int_t)myr_network_arena_bytes(network)));
    } else {
        json_object_set_new(facts, "not_compiled", myr_json_text(myr_error_detail()));
    }
    myr_network_free(one);
    myr_network_free(network);
    if (status != MYR_OK)
        return status == MYR_ERR_ARG ? status : MYR_OK;
    json_t *precisions = json_object();
    for (myr_precision precision = MYR_PRECISION_F32; precision <= MYR_PRECISION_INT8; precision++)
        json_object_set_new(precisions, myr_precision_name(precision), precision_json(self, precision));
    json_object_set_new(facts, "precisions", precisions);
    return MYR_OK;
}

/* The model, its output and, where it is there and fits, its calibration. */
static myr_status open_subject(subject *self, const char *path)
{
    char identity[65];
    size_t n = strlen(path);
    bool is_file = n >= 5 && strcmp(path + n - 5, ".onnx") == 0;
    myr_status status = myr_card_load(path, &self->card);
    if (status != MYR_OK && !is_file)
        return status;
    status = self->card ? myr_card_model(self->card, &self->model, identity) : myr_model_load(path, &self->model);
    if (status != MYR_OK)
        return status;
    self->output = self->card ? self->card->embedding : myr_model_output(self->model, 0)->name;
    if (self->card && myr_path_exists(self->card->calibration_path) &&
        myr_card_calibration(self->card, identity, &self->calibration) != MYR_OK)
        self->calibration_problem = myr_strdup(myr_error_detail());
    int n_measured = 0;
    for (myr_precision p = MYR_PRECISION_F32; p <= MYR_PRECISION_INT8; p++)
        n_measured += myr_backend_precision(myr_config_text(self->cli->config, "backend"), p) == p &&
                      (p != MYR_PRECISION_INT8 || self->calibration);
    self->seconds = myr_config_real(self->cli->config, "seconds") / n_measured;
    return status;
}

myr_status myr_info_of_model(const myr_cli *cli, const char *path, json_t **facts)
{
    subject self = {.cli = cli};
    myr_status status = open_subject(&self, path);
    const myr_model *model = self.model;
    json_t *inputs = status == MYR_OK ? tensors_json(model, myr_model_input, myr_model_n_inputs(model)) : NULL;
    if (status == MYR_OK && !self.card)
        status = myr_model_set_size(self.model, (int)myr_config_int(cli->config, "size"));
    if (status == MYR_OK)
        *facts = json_pack("{s:s, s:o, s:I, s:o, s:I, s:I, s:O, s:o, s:o, s:o}", "kind", "model", "path",
                           myr_json_text(self.card ? self.card->model_path : path), "opset",
                           (json_int_t)myr_model_opset(model), "producer", myr_json_text(myr_model_producer(model)),
                           "parameters", (json_int_t)myr_model_n_parameters(model), "flops",
                           (json_int_t)myr_model_flops(model), "inputs", inputs, "outputs",
                           tensors_json(model, myr_model_output, myr_model_n_outputs(model)), "operators",
                           operators_json(model), "card", self.card ? card_json(self.card) : json_null());
    if (status == MYR_OK && *facts)
        status = add_network(&self, *facts);
    if (status != MYR_OK) {
        json_decref(*facts);
        *facts = NULL;
    }
    json_decref(inputs);
    free(self.calibration_problem);
    myr_calibration_free(self.calibration);
    myr_model_free(self.model);
    myr_card_free(self.card);
    return status;
}
