/*
 * Networks in bf16 and 8 bits against f32, calibrations as files, and files that lie.
 */
#include "files.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "myriops/calibration.h"
#include "nn/calibration.h"

#include <math.h>

#define N_PICTURES 10

static const char *const networks[] = {"residual", "inverted", "fire", "pooled", "excite", "normalised"};
#define N_NETWORKS (sizeof networks / sizeof *networks)

static myr_model *load(const char *name)
{
    char path[256];
    myr_model *model = NULL;
    if (!has_models)
        skip();
    snprintf(path, sizeof path, "%s/%s.onnx", folder, name);
    if (myr_model_load(path, &model) != MYR_OK)
        fail_msg("%s: %s", path, myr_error_detail());
    return model;
}

static size_t per_picture(const myr_model *model)
{
    const myr_tensor_info *input = myr_model_input(model, 0);
    return (size_t)(input->dims[1] * input->dims[2] * input->dims[3]);
}

static float *make_pictures(const myr_model *model)
{
    size_t n = N_PICTURES * per_picture(model);
    float *pictures = myr_alloc(n, sizeof *pictures);
    myr_rng rng;
    myr_rng_seed(&rng, 7);
    for (size_t i = 0; i < n; i++)
        pictures[i] = (float)(2 * myr_rng_unit(&rng) - 1);
    return pictures;
}

/* Cosine of the whole answer in a precision to that in f32. */
static double cosine_to_f32(const myr_model *model, const float *pictures, const myr_network_options *options,
                            myr_precision *computed_in)
{
    const char *output = myr_model_output(model, 0)->name;
    float *answers[2] = {NULL};
    size_t n = 0;
    for (int i = 0; i < 2; i++) {
        myr_network *network = NULL;
        myr_session *session = NULL;
        myr_network_options mine = i ? *options : (myr_network_options){.backend = options->backend};
        mine.batch = N_PICTURES;
        if (myr_network_create(model, &mine, &output, 1, &network) != MYR_OK ||
            myr_session_create(network, &session) != MYR_OK)
            fail_msg("%s", myr_error_detail());
        memcpy(myr_session_input(session), pictures, N_PICTURES * per_picture(model) * sizeof(float));
        assert_int_equal(myr_session_run(session), MYR_OK);
        const float *values = myr_session_output(session, 0, &n);
        n *= N_PICTURES;
        answers[i] = myr_alloc(n, sizeof(float));
        memcpy(answers[i], values, n * sizeof(float));
        *computed_in = myr_network_precision(network);
        myr_session_free(session);
        myr_network_free(network);
    }
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)answers[0][i] * (double)answers[1][i];
        aa += (double)answers[0][i] * (double)answers[0][i];
        bb += (double)answers[1][i] * (double)answers[1][i];
    }
    free(answers[0]);
    free(answers[1]);
    return ab / sqrt(aa * bb);
}

static void narrow_networks_stay_close(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_NETWORKS; i++) {
        myr_model *model = load(networks[i]);
        float *pictures = make_pictures(model);
        for (const char *const *backend = myr_backend_names(); *backend; backend++) {
            myr_calibration *calibration = NULL;
            myr_precision computed_in;
            myr_calibration_options how = {.backend = *backend, .cosine = 0.5};
            double bf16 = cosine_to_f32(model, pictures,
                                        &(myr_network_options){.backend = *backend, .precision = MYR_PRECISION_BF16},
                                        &computed_in);
            assert_true(bf16 > (computed_in == MYR_PRECISION_F32 ? 0.999999 : 0.999));
            if (myr_calibration_measure(model, myr_model_output(model, 0)->name, pictures, N_PICTURES, &how,
                                        &calibration) != MYR_OK)
                fail_msg("%s on %s: %s", networks[i], *backend, myr_error_detail());
            double int8 =
                cosine_to_f32(model, pictures,
                              &(myr_network_options){
                                  .backend = *backend, .precision = MYR_PRECISION_INT8, .calibration = calibration},
                              &computed_in);
            if (int8 < 0.98)
                fail_msg("%s on %s: cosine %.4f in 8 bits", networks[i], *backend, int8);
            if (computed_in == MYR_PRECISION_INT8)
                assert_true(int8 < 0.9999999); /* it did compute in 8 bits */
            myr_calibration_free(calibration);
        }
        free(pictures);
        myr_model_free(model);
    }
}

/* A wish that only f32 fulfils makes layers wide until it holds, or all are. */
static void layers_to_blame_stay_wide(void **state)
{
    (void)state;
    myr_model *model = load("inverted");
    float *pictures = make_pictures(model);
    myr_calibration *calibration = NULL;
    size_t n_wide;
    assert_int_equal(myr_calibration_measure(model, myr_model_output(model, 0)->name, pictures, N_PICTURES,
                                             &(myr_calibration_options){.cosine = 0.9999999}, &calibration),
                     MYR_OK);
    size_t n_layers = myr_calibration_n_layers(calibration, &n_wide);
    assert_true(n_layers > 2 && n_wide <= n_layers);
    assert_true(n_wide == n_layers || myr_calibration_cosine(calibration, MYR_PRECISION_INT8) >= 0.9999999);
    myr_calibration_free(calibration);
    free(pictures);
    myr_model_free(model);
}

static void eight_bits_need_a_calibration(void **state)
{
    (void)state;
    myr_model *model = load("residual");
    const char *output = myr_model_output(model, 0)->name;
    myr_network *network = NULL;
    assert_int_equal(
        myr_network_create(model, &(myr_network_options){.precision = MYR_PRECISION_INT8}, &output, 1, &network),
        MYR_ERR_ARG);
    assert_null(network);
    myr_model_free(model);
}

/* A picture that makes the network's values infinite is no picture to measure ranges on. */
static void pictures_without_end_are_refused(void **state)
{
    (void)state;
    myr_model *model = load("residual");
    float *pictures = make_pictures(model);
    myr_calibration *calibration = NULL;
    pictures[per_picture(model) + 7] = INFINITY;
    assert_int_equal(myr_calibration_measure(model, myr_model_output(model, 0)->name, pictures, N_PICTURES,
                                             &(myr_calibration_options){0}, &calibration),
                     MYR_ERR_FORMAT);
    assert_non_null(strstr(myr_error_detail(), "infinite"));
    assert_null(calibration);
    free(pictures);
    myr_model_free(model);
}

static void files_keep_everything(void **state)
{
    (void)state;
    myr_model *model = load("inverted");
    float *pictures = make_pictures(model);
    myr_calibration *made = NULL, *read = NULL;
    char path[256];
    size_t n_made, n_read;
    snprintf(path, sizeof path, "%s/calibration.json", folder);
    assert_int_equal(myr_calibration_measure(model, myr_model_output(model, 0)->name, pictures, N_PICTURES,
                                             &(myr_calibration_options){.cosine = 0.9999999}, &made),
                     MYR_OK);
    assert_int_equal(myr_calibration_save(made, "abc", path), MYR_OK);
    assert_int_equal(myr_calibration_load(path, "abc", &read), MYR_OK);
    assert_int_equal(myr_calibration_n_layers(made, &n_made), myr_calibration_n_layers(read, &n_read));
    assert_int_equal(n_made, n_read);
    assert_int_equal(made->n_ranges, read->n_ranges);
    for (size_t i = 0; i < made->n_ranges; i++) {
        assert_string_equal(made->ranges[i].name, read->ranges[i].name);
        assert_true(made->ranges[i].low == read->ranges[i].low && made->ranges[i].high == read->ranges[i].high);
    }
    for (size_t i = 0; i < made->wide.n; i++)
        assert_string_equal(made->wide.names[i], read->wide.names[i]);
    assert_int_equal(myr_calibration_n_blocks(made, &n_made), myr_calibration_n_blocks(read, &n_read));
    assert_int_equal(n_made, n_read);
    for (size_t i = 0; i < made->wide_blocks.n; i++)
        assert_string_equal(made->wide_blocks.names[i], read->wide_blocks.names[i]);
    myr_calibration_free(read);
    assert_int_equal(myr_calibration_load(path, "another", &read), MYR_ERR_FORMAT);
    assert_non_null(strstr(myr_error_detail(), "another model"));
    assert_int_equal(myr_calibration_load("/nowhere/at.all", NULL, &read), MYR_ERR_NOT_FOUND);
    myr_calibration_free(made);
    free(pictures);
    myr_model_free(model);
}

#define COSINE "\"cosine_in_blocks\": {\"bf16\": 1, \"int8\": 1}, "
#define HEAD "{\"format\": \"myriops calibration 1\", \"model\": \"m\", \"layers\": 1, "

static void lies_are_refused(void **state)
{
    (void)state;
    static const char *const lies[] = {
        "",
        "[]",
        "{}",
        "{\"format\": 1}",
        HEAD "\"pictures\": 1}",
        HEAD "\"pictures\": 1, \"cosine\": {\"bf16\": 1, \"int8\": 1}, \"wide\": [], \"ranges\": {}}",
        HEAD "\"pictures\": 0, \"cosine\": {\"bf16\": 1, \"int8\": 1}, " COSINE "\"wide\": [], \"ranges\": {}}",
        HEAD "\"pictures\": 1, \"cosine\": {\"bf16\": 1, \"int8\": 1}, " COSINE "\"wide\": {}, \"ranges\": {}}",
        HEAD "\"pictures\": 1, \"cosine\": {\"bf16\": 1, \"int8\": 1}, " COSINE "\"wide\": [3], \"ranges\": {}}",
        HEAD "\"pictures\": 1, \"cosine\": {\"bf16\": 1, \"int8\": 1}, " COSINE
             "\"wide\": [], \"ranges\": {\"a\": [1]}}",
        HEAD "\"pictures\": 1, \"cosine\": {\"bf16\": 1, \"int8\": 1}, " COSINE
             "\"wide\": [], \"ranges\": {\"a\": [2, 1]}}",
        HEAD "\"pictures\": 1, \"cosine\": {\"bf16\": 1, \"int8\": 1}, " COSINE
             "\"wide\": [], \"ranges\": {\"a\": [0, 1e99]}}",
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        myr_calibration *read = NULL;
        if (myr_calibration_parse(lies[i], strlen(lies[i]), "lie", NULL, &read) != MYR_ERR_FORMAT)
            fail_msg("taken: %s", lies[i]);
        assert_null(read);
    }
    const char *fine = HEAD "\"pictures\": 1, \"cosine\": {\"bf16\": 1, \"int8\": 1}, " COSINE
                            "\"wide\": [], \"ranges\": {\"a\": [0, 1]}}";
    myr_calibration *read = NULL;
    assert_int_equal(myr_calibration_parse(fine, strlen(fine), "truth", "m", &read), MYR_OK);
    myr_calibration_free(read);
}

static int make_all(void **state)
{
    if (make_folder(state) != 0)
        return -1;
    make_files("make_models.py", "", "networks");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(narrow_networks_stay_close),       cmocka_unit_test(layers_to_blame_stay_wide),
        cmocka_unit_test(eight_bits_need_a_calibration),    cmocka_unit_test(files_keep_everything),
        cmocka_unit_test(pictures_without_end_are_refused), cmocka_unit_test(lies_are_refused),
    };
    return cmocka_run_group_tests(tests, make_all, remove_folder);
}
