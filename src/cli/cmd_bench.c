/*
 * myriops bench: how fast this machine runs a network.
 *
 * Every thread has a session of its own and runs it over and over for a while; the rate is
 * the sum over threads of batch / median time of a run. --per-node then has one thread do it
 * once more with a clock around every step.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/rng.h"
#include "cli/bench.h"
#include "cli/pictures.h"
#include "cli/roofline.h"
#include "myriops/encoder.h"
#include "nn/network.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RUNS 100000
#define WARM_UP_RUNS 2
#define MAX_PICTURE_VALUES ((size_t)1 << 26)
#define N_NOISE 8 /* pictures of noise to calibrate with where there are no others */

typedef struct bench {
    const myr_cli *cli;
    const char *path, *output; /* [borrowed] the ONNX file, the tensor asked for; output goes with the model */
    myr_card *card;            /* NULL for a bare ONNX file */
    char identity[65];         /* of the card's network */
    myr_model *model;          /* until the network is made of it */
    uint64_t flops;            /* of one picture */
    myr_network *network;
    int batch;
    size_t per_picture;
    float *pictures; /* (n_pictures) */
    size_t n_pictures;
} bench;

typedef struct runner {
    const bench *of;
    pthread_t thread;
    double *times; /* (n_runs) seconds, ascending at the end */
    size_t n_runs;
    myr_status status;
    char *reason;
} runner;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fill_input(const bench *self, myr_session *session)
{
    float *input = myr_session_input(session);
    for (int i = 0; i < self->batch; i++)
        memcpy(input + (size_t)i * self->per_picture, self->pictures + (size_t)i % self->n_pictures * self->per_picture,
               self->per_picture * sizeof *input);
}

static myr_status run_for_a_while(runner *self)
{
    myr_session *session = NULL;
    double end_s = 0, seconds = myr_config_real(self->of->cli->config, "seconds");
    myr_status status = myr_session_create(self->of->network, &session);
    if (status == MYR_OK)
        fill_input(self->of, session);
    for (int i = 0; i < WARM_UP_RUNS && status == MYR_OK; i++)
        status = myr_session_run(session);
    end_s = myr_now_s() + seconds;
    while (status == MYR_OK && self->n_runs < MAX_RUNS && (self->n_runs == 0 || myr_now_s() < end_s)) {
        double start_s = myr_now_s();
        status = myr_session_run(session);
        self->times[self->n_runs++] = myr_now_s() - start_s;
    }
    myr_session_free(session);
    qsort(self->times, self->n_runs, sizeof *self->times, by_value);
    return status;
}

static void *run_thread(void *argument)
{
    runner *self = argument;
    self->status = run_for_a_while(self);
    if (self->status != MYR_OK)
        self->reason = myr_strdup(myr_error_detail());
    return NULL;
}

/* ---- What is measured ---- */

static bool ends_with(const char *text, const char *end)
{
    return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

static myr_status read_pictures(bench *self, const char *path)
{
    myr_buffer bytes = {0};
    myr_status status = myr_file_read(path, (size_t)4 << 30, &bytes);
    size_t picture_bytes = self->per_picture * sizeof(float);
    self->n_pictures = bytes.size / picture_bytes;
    if (status == MYR_OK && (self->n_pictures == 0 || bytes.size % picture_bytes != 0))
        status = myr_fail(MYR_ERR_FORMAT, "%s: its %zu bytes are no whole number of inputs of %zu bytes each", path,
                          bytes.size, picture_bytes);
    if (status == MYR_OK)
        self->pictures = myr_alloc(self->n_pictures * self->per_picture, sizeof(float));
    if (status == MYR_OK && !self->pictures)
        status = myr_fail(MYR_ERR_NOMEM, "%s: no memory for its pictures", path);
    if (status == MYR_OK)
        memcpy(self->pictures, bytes.data, bytes.size);
    myr_buffer_free(&bytes);
    return status;
}

static myr_status make_noise(bench *self)
{
    myr_rng rng;
    myr_rng_seed(&rng, 1);
    self->n_pictures = N_NOISE;
    self->pictures = myr_alloc(N_NOISE * self->per_picture, sizeof(float));
    for (size_t i = 0; self->pictures && i < N_NOISE * self->per_picture; i++)
        self->pictures[i] = (float)(4 * myr_rng_unit(&rng) - 2);
    return self->pictures ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for pictures of noise");
}

static myr_status open_model(bench *self)
{
    const myr_config *config = self->cli->config;
    const char *name = myr_config_text(config, "model");
    myr_status status = MYR_OK;
    self->path = name;
    if (!ends_with(name, ".onnx")) {
        status = myr_card_load(name, &self->card);
        if (status == MYR_OK) {
            self->path = self->card->model_path;
            self->output = self->card->embedding;
        }
    }
    if (status == MYR_OK)
        status = self->card ? myr_card_model(self->card, &self->model, self->identity)
                            : myr_model_load(self->path, &self->model);
    if (status == MYR_OK)
        status = myr_model_set_size(self->model, (int)myr_config_int(config, "size"));
    if (status != MYR_OK)
        return status;
    const myr_tensor_info *input = myr_model_input(self->model, 0);
    if (!input || input->rank != 4 || input->dims[1] < 1 || input->dims[2] < 1 || input->dims[3] < 1)
        return myr_fail(MYR_ERR_UNSUPPORTED, "%s: its first input is no picture (batch, channels, height, width)",
                        self->path);
    if (myr_config_text(config, "tensor"))
        self->output = myr_config_text(config, "tensor");
    if (!self->output)
        self->output = myr_model_output(self->model, 0)->name;
    if (!myr_mul((size_t)input->dims[1], (size_t)input->dims[2], &self->per_picture) ||
        !myr_mul(self->per_picture, (size_t)input->dims[3], &self->per_picture) ||
        self->per_picture > MAX_PICTURE_VALUES)
        return myr_fail(MYR_ERR_LIMIT, "%s: a picture of %lld x %lld x %lld values is too large", self->path,
                        (long long)input->dims[1], (long long)input->dims[2], (long long)input->dims[3]);
    return myr_config_text(config, "input") ? read_pictures(self, myr_config_text(config, "input")) : make_noise(self);
}

/* The card's calibration, or one made now from the pictures at hand. */
static myr_status find_calibration(const bench *self, myr_calibration **calibration)
{
    const myr_config *config = self->cli->config;
    *calibration = NULL;
    if (self->card && myr_path_exists(self->card->calibration_path))
        return myr_card_calibration(self->card, self->identity, calibration);
    size_t most = (size_t)myr_config_int(config, "pictures");
    return myr_calibration_measure(self->model, self->output, self->pictures,
                                   self->n_pictures < most ? self->n_pictures : most,
                                   &(myr_calibration_options){.backend = myr_config_text(config, "backend"),
                                                              .cosine = myr_config_real(config, "cosine")},
                                   calibration);
}

/* So that weights are in memory once. */
static void let_go_of_model(bench *self)
{
    self->flops = myr_model_flops(self->model);
    myr_model_free(self->model);
    self->model = NULL;
    self->output = NULL;
    myr_return_memory();
}

static myr_status compile(bench *self)
{
    double least_cosine;
    myr_calibration *calibration = NULL;
    myr_network_options options = {.backend = myr_config_text(self->cli->config, "backend"),
                                   .batch = self->batch,
                                   .precision = myr_cli_precision(self->cli->config, &least_cosine)};
    if (least_cosine > 0)
        return myr_fail(MYR_ERR_ARG, "bench measures one precision at a time: f32, bf16 or int8");
    myr_status status = options.precision == MYR_PRECISION_INT8 ? find_calibration(self, &calibration) : MYR_OK;
    options.calibration = calibration;
    if (status == MYR_OK)
        status = myr_network_create(self->model, &options, &self->output, 1, &self->network);
    myr_calibration_free(calibration);
    if (status == MYR_OK)
        let_go_of_model(self);
    return status;
}

/* The answers to all pictures, so that they can be compared with those of others. */
static myr_status write_answers(const bench *self, const char *path)
{
    myr_session *session = NULL;
    myr_buffer answers = {0};
    myr_status status = myr_session_create(self->network, &session);
    for (size_t first = 0; first < self->n_pictures && status == MYR_OK; first += (size_t)self->batch) {
        size_t n = self->n_pictures - first, n_values;
        n = n < (size_t)self->batch ? n : (size_t)self->batch;
        memcpy(myr_session_input(session), self->pictures + first * self->per_picture,
               n * self->per_picture * sizeof(float));
        status = myr_session_run(session);
        const float *values = myr_session_output(session, 0, &n_values);
        if (status == MYR_OK)
            myr_buffer_append(&answers, values, n * n_values * sizeof *values);
    }
    if (status == MYR_OK)
        status = answers.failed ? myr_fail(MYR_ERR_NOMEM, "no memory for the answers")
                                : myr_file_replace(path, answers.data, answers.size);
    myr_buffer_free(&answers);
    myr_session_free(session);
    return status;
}

/* ---- The profile ---- */

/* Seconds of all steps of one session, and the runs they were taken over. */
static myr_status profile(const bench *self, myr_session **session, size_t *n_runs)
{
    double end_s = 0, seconds = myr_config_real(self->cli->config, "seconds");
    *n_runs = 0;
    myr_status status = myr_session_create(self->network, session);
    if (status == MYR_OK)
        fill_input(self, *session);
    for (int i = 0; i < WARM_UP_RUNS && status == MYR_OK; i++)
        status = myr_session_run(*session);
    if (status == MYR_OK)
        status = myr_session_profile(*session);
    end_s = myr_now_s() + seconds;
    while (status == MYR_OK && *n_runs < MAX_RUNS && (*n_runs == 0 || myr_now_s() < end_s)) {
        status = myr_session_run(*session);
        ++*n_runs;
    }
    return status;
}

typedef struct total {
    const char *op, *by;
    double seconds;
    size_t n;
} total;

static int by_seconds(const void *a, const void *b)
{
    double x = ((const total *)a)->seconds, y = ((const total *)b)->seconds;
    return (x < y) - (x > y);
}

/* Steps of one operator and one maker together, the longest first. [owned by caller] */
static total *sum_steps(const myr_session *session, size_t n_steps, size_t *n_totals, double *all_s)
{
    total *totals = myr_alloc(n_steps, sizeof *totals);
    myr_step_time step;
    *n_totals = 0;
    *all_s = 0;
    for (size_t i = 0; totals && myr_session_step_time(session, i, &step); i++) {
        size_t j = 0;
        while (j < *n_totals && (strcmp(totals[j].op, step.op) != 0 || strcmp(totals[j].by, step.by) != 0))
            j++;
        if (j == *n_totals)
            totals[(*n_totals)++] = (total){.op = step.op, .by = step.by};
        totals[j].seconds += step.seconds;
        totals[j].n++;
        *all_s += step.seconds;
    }
    if (totals)
        qsort(totals, *n_totals, sizeof *totals, by_seconds);
    return totals;
}

static json_t *profile_json(const myr_session *session, const myr_roofline *limits, const total *totals,
                            size_t n_totals, double all_s, size_t n_runs)
{
    json_t *steps = json_array(), *sums = json_array();
    myr_step_time step;
    for (size_t i = 0; myr_session_step_time(session, i, &step); i++) {
        json_t *one =
            json_pack("{s:o, s:s, s:s, s:f, s:f}", "label", myr_json_text(step.label), "operator", step.op, "by",
                      step.by, "ms", 1e3 * step.seconds / (double)n_runs, "share", step.seconds / all_s);
        if (limits)
            myr_roofline_add_step(limits, i, &step, n_runs, one);
        myr_json_append(&steps, one);
    }
    for (size_t i = 0; i < n_totals; i++)
        myr_json_append(&sums, json_pack("{s:s, s:s, s:I, s:f, s:f}", "operator", totals[i].op, "by", totals[i].by,
                                         "steps", (json_int_t)totals[i].n, "ms",
                                         1e3 * totals[i].seconds / (double)n_runs, "share", totals[i].seconds / all_s));
    return json_pack("{s:I, s:f, s:o, s:o}", "runs", (json_int_t)n_runs, "ms_per_batch", 1e3 * all_s / (double)n_runs,
                     "operators", sums, "steps", steps);
}

static void print_profile(const myr_session *session, const myr_roofline *limits, const total *totals, size_t n_totals,
                          double all_s, size_t n_runs)
{
    myr_step_time step;
    printf("\n%9s %7s ", "ms", "share");
    if (limits)
        printf("%8s %7s ", "GFLOP/s", "GB/s");
    printf(" %-20s %-10s %s\n", "operator", "by", "node");
    for (size_t i = 0; myr_session_step_time(session, i, &step); i++) {
        printf("%9.3f %6.1f%% ", 1e3 * step.seconds / (double)n_runs, 100 * step.seconds / all_s);
        if (limits)
            myr_roofline_print_step(limits, i, &step, n_runs);
        printf(" %-20s %-10s %s\n", step.op, step.by, step.label);
    }
    printf("\n%9s %7s  %-20s %-10s %s\n", "ms", "share", "operator", "by", "steps");
    for (size_t i = 0; i < n_totals; i++)
        printf("%9.3f %6.1f%%  %-20s %-10s %zu\n", 1e3 * totals[i].seconds / (double)n_runs,
               100 * totals[i].seconds / all_s, totals[i].op, totals[i].by, totals[i].n);
    printf("%9.3f          a batch of one thread, the mean of %zu runs\n", 1e3 * all_s / (double)n_runs, n_runs);
}

/* The profile as text, or in *document where JSON is asked for. */
static myr_status show_profile(const bench *self, const myr_roofline *limits, json_t **document)
{
    myr_session *session = NULL;
    size_t n_runs, n_totals;
    double all_s;
    total *totals = NULL;
    myr_status status = profile(self, &session, &n_runs);
    if (status == MYR_OK) {
        totals = sum_steps(session, myr_network_n_steps(self->network), &n_totals, &all_s);
        status = totals ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for a profile");
    }
    if (status == MYR_OK) {
        all_s = all_s > 0 ? all_s : 1;
        if (document)
            *document = profile_json(session, limits, totals, n_totals, all_s, n_runs);
        else
            print_profile(session, limits, totals, n_totals, all_s, n_runs);
    }
    free(totals);
    myr_session_free(session);
    return status;
}

/* ---- The outcome ---- */

/* The processor's name as Linux tells it; "" where it does not. */
static void read_processor(char *name, size_t room)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    name[0] = 0;
    while (file && !name[0] && fgets(line, sizeof line, file)) {
        char *value = strchr(line, ':');
        if (!value || strncmp(line, "model name", 10) != 0)
            continue;
        value += 1 + strspn(value + 1, " \t");
        value[strcspn(value, "\n")] = 0;
        snprintf(name, room, "%s", value);
    }
    if (file)
        fclose(file);
}

/* images/s at a place among the sorted times: 0.5 = median. */
static double rate_at(const bench *self, const runner *runners, int n_threads, double place)
{
    double rate = 0;
    for (int i = 0; i < n_threads; i++)
        rate += (double)self->batch / runners[i].times[(size_t)(place * (double)(runners[i].n_runs - 1) + 0.5)];
    return rate;
}

static myr_status print_outcome(const bench *self, const runner *runners, int n_threads)
{
    const char *asked = myr_config_text(self->cli->config, "precision"),
               *used = myr_precision_name(myr_network_precision(self->network));
    double median = rate_at(self, runners, n_threads, 0.5), low = rate_at(self, runners, n_threads, 0.75),
           high = rate_at(self, runners, n_threads, 0.25);
    double gflops = median * (double)self->flops / 1e9;
    bool in_parts = myr_config_flag(self->cli->config, "per-node");
    char processor[128];
    myr_roofline found = {0}, *limits = myr_config_flag(self->cli->config, "roofline") ? &found : NULL;
    myr_status status = limits ? myr_roofline_measure(self->network, &found) : MYR_OK;
    read_processor(processor, sizeof processor);
    if (status == MYR_OK && strcmp(myr_config_text(self->cli->config, "format"), "json") == 0) {
        json_t *parts = json_null();
        status = in_parts ? show_profile(self, limits, &parts) : MYR_OK;
        json_t *document = json_pack(
            "{s:o, s:o, s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:f, s:o}", "processor",
            myr_json_text(processor), "model", myr_json_text(self->path), "backend", myr_network_backend(self->network),
            "precision", asked, "computed_in", used, "threads", n_threads, "batch", self->batch, "images_per_s", median,
            "images_per_s_low", low, "images_per_s_high", high, "ms_per_batch",
            1e3 * (double)self->batch * n_threads / median, "nodes", (json_int_t)myr_network_n_nodes(self->network),
            "arena_bytes", (json_int_t)myr_network_arena_bytes(self->network), "weights_bytes",
            (json_int_t)myr_network_weight_bytes(self->network), "flops_per_image", (json_int_t)self->flops,
            "gflops_per_s", gflops, "profile", parts);
        if (document && limits)
            json_object_set_new(document, "roofline", myr_roofline_json(limits, median / self->batch / n_threads));
        if (status == MYR_OK)
            status = myr_print_json(document);
        else
            json_decref(document);
    } else if (status == MYR_OK) {
        printf("%s, %s in %s (asked: %s), batch %d, %d thread%s\n", self->path, myr_network_backend(self->network),
               used, asked, self->batch, n_threads, n_threads == 1 ? "" : "s");
        printf("%.1f images/s (half of the runs between %.1f and %.1f), %.1f GFLOP/s, %.1f MB a thread\n", median, low,
               high, gflops, (double)myr_network_arena_bytes(self->network) / 1e6);
        if (*processor)
            printf("%s\n", processor);
        if (limits)
            myr_roofline_print(limits, median / self->batch / n_threads);
        status = in_parts ? show_profile(self, limits, NULL) : MYR_OK;
        if (status == MYR_OK)
            status = myr_flush_output();
    }
    myr_roofline_clear(&found);
    return status;
}

static myr_status run_threads(const bench *self)
{
    int n_threads = self->cli->n_threads, n_started = 0;
    runner *runners = myr_alloc((size_t)n_threads, sizeof *runners);
    myr_status status = runners ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %d threads", n_threads);
    for (int i = 0; i < n_threads && status == MYR_OK; i++) {
        runners[i] = (runner){.of = self, .times = myr_alloc(MAX_RUNS, sizeof(double))};
        if (!runners[i].times || pthread_create(&runners[i].thread, NULL, run_thread, &runners[i]) != 0) {
            free(runners[i].times);
            status = myr_fail(MYR_ERR_NOMEM, "thread %d could not be started", i + 1);
        } else {
            n_started++;
        }
    }
    for (int i = 0; i < n_started; i++) {
        pthread_join(runners[i].thread, NULL);
        if (status == MYR_OK && runners[i].status != MYR_OK)
            status = myr_fail(runners[i].status, "%s", runners[i].reason ? runners[i].reason : "a thread failed");
        free(runners[i].reason);
    }
    if (status == MYR_OK)
        status = print_outcome(self, runners, n_threads);
    for (int i = 0; i < n_started; i++)
        free(runners[i].times);
    free(runners);
    return status;
}

static myr_status bench_cnn(const myr_cli *cli)
{
    bench self = {.cli = cli, .batch = (int)myr_config_int(cli->config, "batch")};
    const char *answers = myr_config_text(cli->config, "out");
    myr_status status = open_model(&self);
    if (status == MYR_OK)
        status = compile(&self);
    if (status == MYR_OK && answers)
        status = write_answers(&self, answers);
    if (status == MYR_OK)
        status = run_threads(&self);
    free(self.pictures);
    myr_network_free(self.network);
    myr_model_free(self.model);
    myr_card_free(self.card);
    return status;
}

myr_status myr_cmd_bench(const myr_cli *cli)
{
    static const struct {
        const char *name;
        myr_status (*run)(const myr_cli *cli);
    } kinds[] = {{"ann", myr_bench_ann}, {"cnn", bench_cnn}};
    for (size_t i = 0; cli->n_operands == 1 && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(cli->operands[0], kinds[i].name) == 0)
            return cli->speaks ? kinds[i].run(cli) : MYR_OK; /* one rank measures, the others agree */
    return myr_fail(MYR_ERR_ARG, "name what to measure: myriops bench ann, or myriops bench cnn");
}
