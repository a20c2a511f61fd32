/*
 * Whole networks: the default model against onnxruntime's answers, networks made of
 * typical blocks against the unfused reference, and damaged files.
 */
#include "files.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/rng.h"
#include "nn/bind.h"
#include "nn/network.h"
#include "nn/onnx.h"

#include <math.h>

#define LITE0 MYRIOPS_SOURCE_DIR "/conf/models/efficientnet-lite0.onnx"

static void fill(float *values, size_t n, uint64_t seed)
{
    myr_rng rng;
    myr_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(2 * myr_rng_unit(&rng) - 1);
}

/* A session's answer to random pictures. [owned by caller] */
static float *answer(const char *path, const char *backend, int batch, const char *output, size_t *n)
{
    myr_model *model = NULL;
    myr_network *network = NULL;
    myr_session *session = NULL;
    if (myr_model_load(path, &model) != MYR_OK ||
        myr_network_create(model, &(myr_network_options){.backend = backend, .batch = batch}, &output, 1, &network) !=
            MYR_OK ||
        myr_session_create(network, &session) != MYR_OK)
        fail_msg("%s on %s: %s", path, backend, myr_error_detail());
    const myr_tensor_info *input = myr_model_input(model, 0);
    fill(myr_session_input(session), (size_t)(batch * input->dims[1] * input->dims[2] * input->dims[3]), 1);
    for (int i = 0; i < 2; i++) /* the second run shows that the first left nothing behind */
        assert_int_equal(myr_session_run(session), MYR_OK);
    const float *values = myr_session_output(session, 0, n);
    *n *= (size_t)batch;
    float *copy = myr_alloc(*n, sizeof *copy);
    memcpy(copy, values, *n * sizeof *copy);
    myr_session_free(session);
    myr_network_free(network);
    myr_model_free(model);
    return copy;
}

static float largest_difference(const float *a, const float *b, size_t n)
{
    float worst = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        worst = fmaxf(worst, fabsf(a[i] - b[i]));
        largest = fmaxf(largest, fabsf(b[i]));
    }
    return worst / largest;
}

static void lite0_is_the_same_on_every_backend(void **state)
{
    (void)state;
    size_t n;
    float *want = answer(LITE0, "reference", 1, "embedding", &n);
    assert_int_equal(n, 1280);
    for (const char *const *name = myr_backend_names(); *name; name++) {
        float *got = answer(LITE0, *name, 1, "embedding", &n);
        float difference = largest_difference(got, want, n);
        print_message("lite0 on %s: %.2g of the largest value\n", *name, (double)difference);
        assert_true(difference < 1e-4f);
        free(got);
    }
    free(want);
}

/* A picture's result does not depend on its neighbours or the batch's other slots. */
static void a_profile_tells_of_each_step(void **state)
{
    (void)state;
    const char *output = "embedding";
    for (const char *const *name = myr_backend_names(); *name; name++) {
        myr_model *model = NULL;
        myr_network *network = NULL;
        myr_session *session = NULL;
        myr_step_time step;
        double sum_s = 0;
        assert_int_equal(myr_model_load(LITE0, &model), MYR_OK);
        assert_int_equal(
            myr_network_create(model, &(myr_network_options){.backend = *name, .batch = 1}, &output, 1, &network),
            MYR_OK);
        assert_int_equal(myr_session_create(network, &session), MYR_OK);
        assert_false(myr_session_step_time(session, 0, &step));
        assert_int_equal(myr_session_profile(session), MYR_OK);
        assert_int_equal(myr_session_run(session), MYR_OK);
        size_t n_steps = myr_network_n_steps(network), n_convolutions = 0;
        for (size_t i = 0; i < n_steps; i++) {
            assert_true(myr_session_step_time(session, i, &step));
            assert_true(step.seconds >= 0 && step.label && step.op && step.by);
            n_convolutions += strcmp(step.op, "Conv") == 0;
            sum_s += step.seconds;
        }
        assert_false(myr_session_step_time(session, n_steps, &step));
        assert_true(sum_s > 0 && n_convolutions > 0);
        assert_int_equal(myr_session_profile(session), MYR_OK); /* begins anew */
        assert_true(myr_session_step_time(session, 0, &step) && step.seconds == 0);
        myr_session_free(session);
        myr_network_free(network);
        myr_model_free(model);
    }
}

static void slots_are_independent(void **state)
{
    (void)state;
    for (const char *const *name = myr_backend_names(); *name && strcmp(*name, "reference") != 0; name++) {
        myr_model *model;
        myr_network *network;
        myr_session *session;
        const char *output = "embedding";
        size_t n, values = 3 * 224 * 224;
        assert_int_equal(myr_model_load(LITE0, &model), MYR_OK);
        assert_int_equal(
            myr_network_create(model, &(myr_network_options){.backend = *name, .batch = 4}, &output, 1, &network),
            MYR_OK);
        assert_int_equal(myr_session_create(network, &session), MYR_OK);
        fill(myr_session_input(session), 4 * values, 2);
        assert_int_equal(myr_session_run(session), MYR_OK);
        float first[1280];
        memcpy(first, myr_session_output(session, 0, &n), sizeof first);
        fill(myr_session_input(session) + values, 3 * values, 3);
        fill(myr_session_input(session), values, 2);
        for (size_t i = 0; i < values; i++)
            myr_session_input(session)[2 * values + i] = NAN;
        assert_int_equal(myr_session_run(session), MYR_OK);
        assert_memory_equal(first, myr_session_output(session, 0, &n), sizeof first);
        myr_session_free(session);
        myr_network_free(network);
        myr_model_free(model);
    }
}

/* The bound graph of a file, run by the reference without any fusing. */
static float *unfused(const char *path, int batch, size_t *n)
{
    myr_graph *graph;
    char *producer;
    myr_network *network;
    myr_session *session;
    myr_shape shape;
    assert_int_equal(myr_onnx_read(path, &graph, &producer), MYR_OK);
    free(producer);
    assert_int_equal(myr_graph_bind(graph, batch), MYR_OK);
    size_t n_in = myr_shape_count(&graph->values[graph->inputs[0]].shape);
    assert_int_equal(myr_network_compile(graph, &(myr_network_options){.backend = "reference"}, false, &network),
                     MYR_OK);
    assert_int_equal(myr_session_create(network, &session), MYR_OK);
    fill(myr_session_input(session), n_in, 1);
    assert_int_equal(myr_session_run(session), MYR_OK);
    const float *values = myr_session_output_at(session, 0, &shape);
    *n = myr_shape_count(&shape);
    float *copy = myr_alloc(*n, sizeof *copy);
    memcpy(copy, values, *n * sizeof *copy);
    myr_session_free(session);
    myr_network_free(network);
    return copy;
}

static int run_script(const char *arguments)
{
    char command[1024];
    snprintf(command, sizeof command, "/usr/bin/python3 %s/tests/unit/nn/make_models.py %s %s", MYRIOPS_SOURCE_DIR,
             folder, arguments);
    return system(command);
}

static void blocks_are_the_same_on_every_backend(void **state)
{
    (void)state;
    static const char *const blocks[] = {"residual", "inverted",    "fire",   "excite",  "pooled", "normalised",
                                         "padded",   "fixed_batch", "folded", "crossed", "token",  "tiled"};
    if (run_script("blocks") != 0) {
        print_message("skipped: python3-onnx is missing\n");
        skip();
    }
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        char path[256];
        size_t n, n_got;
        snprintf(path, sizeof path, "%s/%s.onnx", folder, blocks[i]);
        float *want = unfused(path, 3, &n);
        for (const char *const *name = myr_backend_names(); *name; name++) {
            float *got = answer(path, *name, 3, "out", &n_got);
            assert_int_equal(n, n_got);
            float difference = largest_difference(got, want, n);
            if (!(difference < 1e-4f))
                fail_msg("%s on %s: off by %g of the largest value", blocks[i], *name, (double)difference);
            free(got);
        }
        free(want);
    }
}

/* Largest difference of a network's answer from the unfused reference, as a share of the largest value. */
static float compiled_difference(const char *path, const char *backend, myr_precision precision, const float *want,
                                 size_t n, size_t *n_nodes)
{
    static const char *const output = "out";
    myr_model *model;
    myr_network *network;
    myr_session *session;
    size_t n_per_image;
    const int batch = 3;
    if (myr_model_load(path, &model) != MYR_OK)
        fail_msg("%s: %s", path, myr_error_detail());
    if (myr_network_create(model, &(myr_network_options){.backend = backend, .batch = batch, .precision = precision},
                           &output, 1, &network) != MYR_OK ||
        myr_session_create(network, &session) != MYR_OK)
        fail_msg("%s on %s: %s", path, backend, myr_error_detail());
    myr_model_free(model);
    *n_nodes = myr_network_n_nodes(network);
    fill(myr_session_input(session), (size_t)batch * 3 * 20 * 20, 1);
    assert_int_equal(myr_session_run(session), MYR_OK);
    const float *got = myr_session_output(session, 0, &n_per_image);
    assert_int_equal(n_per_image * (size_t)batch, n);
    float difference = largest_difference(got, want, n);
    myr_session_free(session);
    myr_network_free(network);
    return difference;
}

static void sequences_are_the_same_on_every_backend(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t most_nodes; /* that are left when it is fused */
        float bf16;        /* allowed difference */
    } blocks[] = {{"head_first", 35, 0.03f}, {"split_heads", 22, 0.03f}, {"gates", 15, 0.03f},
                  {"not_gates", 99, 0.1f},   {"spread", 10, 0.05f},      {"scaled_layer", 11, 0.03f},
                  {"regions", 99, 0.03f}};
    if (run_script("sequences") != 0) {
        print_message("skipped: python3-onnx is missing\n");
        skip();
    }
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        char path[256];
        size_t n, n_nodes;
        snprintf(path, sizeof path, "%s/%s.onnx", folder, blocks[i].name);
        float *want = unfused(path, 3, &n);
        for (const char *const *name = myr_backend_names(); *name; name++) {
            float f32 = compiled_difference(path, *name, MYR_PRECISION_F32, want, n, &n_nodes);
            float bf16 = compiled_difference(path, *name, MYR_PRECISION_BF16, want, n, &n_nodes);
            print_message("%s on %s: %zu nodes, %.1e, in bf16 %.1e of the largest value\n", blocks[i].name, *name,
                          n_nodes, (double)f32, (double)bf16);
            assert_true(f32 < 1e-4f);
            assert_true(bf16 < blocks[i].bf16);
            assert_true(n_nodes <= blocks[i].most_nodes);
        }
        free(want);
    }
}

static void everything_unsupported_is_named_at_once(void **state)
{
    (void)state;
    char path[256];
    myr_model *model;
    if (run_script("odd") != 0)
        skip();
    snprintf(path, sizeof path, "%s/odd.onnx", folder);
    assert_int_equal(myr_model_load(path, &model), MYR_ERR_UNSUPPORTED);
    assert_non_null(strstr(myr_error_detail(), "operator Loopy"));
    assert_non_null(strstr(myr_error_detail(), "operator Det"));
    assert_non_null(strstr(myr_error_detail(), "attribute wobble of Conv"));
}

/* Every cut and many changed bytes of a small model: an error or a network, never a crash. */
static void damaged_files_are_refused(void **state)
{
    (void)state;
    char path[256], broken[256];
    myr_buffer bytes = {0};
    myr_rng rng;
    if (run_script("blocks") != 0)
        skip();
    snprintf(path, sizeof path, "%s/residual.onnx", folder);
    snprintf(broken, sizeof broken, "%s/broken.onnx", folder);
    assert_int_equal(myr_file_read(path, 1 << 20, &bytes), MYR_OK);
    myr_rng_seed(&rng, 5);
    for (int trial = 0; trial < 600; trial++) {
        size_t place = myr_rng_below(&rng, bytes.size < 2000 || trial % 2 ? bytes.size : 2000),
               size = trial % 3 ? bytes.size : place;
        char old = bytes.data[place];
        bytes.data[place] = (char)myr_rng_below(&rng, 256);
        FILE *file = fopen(broken, "wb");
        assert_int_equal(fwrite(bytes.data, 1, size, file), size);
        fclose(file);
        bytes.data[place] = old;
        myr_model *model = NULL;
        myr_network *network = NULL;
        const char *output = "out";
        if (myr_model_load(broken, &model) == MYR_OK && myr_model_flops(model) < 1000000000 &&
            myr_network_create(model, &(myr_network_options){.backend = "reference", .batch = 1}, &output, 1,
                               &network) == MYR_OK)
            assert_true(myr_network_n_nodes(network) > 0);
        myr_network_free(network);
        myr_model_free(model);
    }
    myr_buffer_free(&bytes);
    assert_int_equal(myr_model_load(MYRIOPS_SOURCE_DIR "/CMakeLists.txt", &(myr_model *){NULL}), MYR_ERR_FORMAT);
    assert_int_equal(myr_model_load("/nowhere/x.onnx", &(myr_model *){NULL}), MYR_ERR_NOT_FOUND);
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s/deep.onnx", folder);
    if (run_script("deep") != 0)
        skip();
    assert_int_equal(myr_model_load(path, &(myr_model *){NULL}), MYR_ERR_LIMIT);
}

static float *read_npy(const char *stem, const char *what, size_t *n)
{
    char path[512];
    uint8_t head[10];
    snprintf(path, sizeof path, "%s_%s.npy", stem, what);
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    assert_int_equal(fread(head, 1, sizeof head, file), sizeof head);
    fseek(file, 0, SEEK_END);
    long end = ftell(file), start = 10 + head[8] + 256 * head[9];
    *n = (size_t)(end - start) / sizeof(float);
    float *values = malloc(*n * sizeof *values);
    fseek(file, start, SEEK_SET);
    assert_int_equal(fread(values, sizeof *values, *n, file), *n);
    fclose(file);
    return values;
}

/* MYRIOPS_ORACLE_MODELS: a folder of NAME.onnx with NAME_input.npy and NAME_logits.npy by onnxruntime. */
static void published_networks_match_onnxruntime(void **state)
{
    (void)state;
    static const char *const names[] = {"lite0",    "resnet18",     "resnet18_bn",
                                        "resnet50", "mobilenet_v2", "squeezenet1_1"};
    const char *models = getenv("MYRIOPS_ORACLE_MODELS");
    if (!models) {
        print_message("skipped: MYRIOPS_ORACLE_MODELS is not set\n");
        skip();
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char stem[256], path[300];
        size_t n_in, n_want, n;
        snprintf(stem, sizeof stem, "%s/%s", models, names[i]);
        snprintf(path, sizeof path, "%s.onnx", stem);
        float *input = read_npy(stem, "input", &n_in), *want = read_npy(stem, "logits", &n_want);
        if (!input || !want)
            fail_msg("%s: oracle files are missing", stem);
        for (const char *const *name = myr_backend_names(); *name && strcmp(*name, "reference") != 0; name++) {
            myr_model *model = NULL;
            myr_network *network = NULL;
            myr_session *session = NULL;
            const char *output = "logits";
            if (myr_model_load(path, &model) != MYR_OK ||
                myr_network_create(model,
                                   &(myr_network_options){.backend = *name, .batch = (int)(n_in / (3 * 224 * 224))},
                                   &output, 1, &network) != MYR_OK ||
                myr_session_create(network, &session) != MYR_OK)
                fail_msg("%s on %s: %s", path, *name, myr_error_detail());
            memcpy(myr_session_input(session), input, n_in * sizeof *input);
            assert_int_equal(myr_session_run(session), MYR_OK);
            float difference = largest_difference(myr_session_output(session, 0, &n), want, n_want);
            print_message("%-14s on %-8s: off by %.2g of the largest value, %zu nodes, arena %.1f MiB\n", names[i],
                          *name, (double)difference, myr_network_n_nodes(network),
                          (double)myr_network_arena_bytes(network) / 1048576);
            assert_true(difference < 1e-4f);
            myr_session_free(session);
            myr_network_free(network);
            myr_model_free(model);
        }
        free(input);
        free(want);
    }
}

static void facts_of_the_default_model(void **state)
{
    (void)state;
    myr_model *model;
    size_t n = 0, i = 0;
    const char *name;
    assert_int_equal(myr_model_load(LITE0, &model), MYR_OK);
    assert_int_equal(myr_model_n_inputs(model), 1);
    assert_string_equal(myr_model_input(model, 0)->name, "image");
    assert_int_equal(myr_model_input(model, 0)->dims[0], -1);
    assert_int_equal(myr_model_input(model, 0)->dims[3], 224);
    assert_int_equal(myr_model_n_outputs(model), 2);
    assert_true(myr_model_n_parameters(model) > 4600000 && myr_model_n_parameters(model) < 4700000);
    assert_true(myr_model_flops(model) > 700000000 && myr_model_flops(model) < 850000000);
    while ((name = myr_model_operator(model, i++, &n)) && strcmp(name, "Conv") != 0)
        ;
    assert_int_equal(n, 49);
    assert_null(myr_model_output(model, 2));
    const char *output = "nowhere";
    myr_network *network;
    assert_int_equal(
        myr_network_create(model, &(myr_network_options){.backend = NULL, .batch = 1}, &output, 1, &network),
        MYR_ERR_NOT_FOUND);
    output = "embedding";
    assert_int_equal(
        myr_network_create(model, &(myr_network_options){.backend = "abacus", .batch = 1}, &output, 1, &network),
        MYR_ERR_ARG);
    myr_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts_of_the_default_model),
        cmocka_unit_test(lite0_is_the_same_on_every_backend),
        cmocka_unit_test(slots_are_independent),
        cmocka_unit_test(a_profile_tells_of_each_step),
        cmocka_unit_test(blocks_are_the_same_on_every_backend),
        cmocka_unit_test(sequences_are_the_same_on_every_backend),
        cmocka_unit_test(everything_unsupported_is_named_at_once),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(published_networks_match_onnxruntime),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
