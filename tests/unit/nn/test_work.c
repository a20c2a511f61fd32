/*
 * Work and limits: the products of a network are all in its steps, whatever was fused into which; limits are numbers.
 */
#include "files.h"

#include "nn/network.h"
#include "nn/work.h"

#include <math.h>

static const char *const cases[] = {"residual", "inverted", "heavy"};

static void steps_have_the_products_of_the_model(void **state)
{
    (void)state;
    const char *output = "out";
    if (!has_models)
        skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[256];
        myr_model *model;
        snprintf(path, sizeof path, "%s/%s.onnx", folder, cases[i]);
        assert_int_equal(myr_model_load(path, &model), MYR_OK);
        for (const char *const *backend = myr_backend_names(); *backend; backend++) {
            for (myr_precision precision = MYR_PRECISION_F32; precision <= MYR_PRECISION_BF16; precision++) {
                myr_network *network;
                myr_network_options options = {.backend = *backend, .batch = 2, .precision = precision};
                assert_int_equal(myr_network_create(model, &options, &output, 1, &network), MYR_OK);
                double *flops = calloc(myr_network_n_steps(network), sizeof *flops);
                assert_int_equal((uint64_t)myr_network_flops(network, flops), 2 * myr_model_flops(model));
                assert_true(myr_network_bytes(network) >= (double)myr_network_weight_bytes(network));
                free(flops);
                myr_network_free(network);
            }
        }
        myr_model_free(model);
    }
}

static void limits_are_measured(void **state)
{
    (void)state;
    double gb_s, gflops;
    assert_int_equal(myr_bandwidth_measure(1 << 20, 0.01, &gb_s), MYR_OK);
    assert_true(gb_s > 0 && isfinite(gb_s));
    if (strcmp(myr_backend_names()[0], "onednn") != 0)
        skip(); /* the others may be compiled without optimisation, and then take minutes */
    for (myr_precision precision = MYR_PRECISION_F32; precision <= MYR_PRECISION_INT8; precision++) {
        assert_int_equal(myr_peak_measure(NULL, precision, 0, &gflops), MYR_OK);
        assert_true(gflops > 0 && isfinite(gflops));
    }
}

static void backends_say_what_they_compute_in(void **state)
{
    (void)state;
    for (const char *const *backend = myr_backend_names(); *backend; backend++) {
        assert_int_equal(myr_backend_precision(*backend, MYR_PRECISION_F32), MYR_PRECISION_F32);
        for (myr_precision precision = MYR_PRECISION_F32; precision <= MYR_PRECISION_INT8; precision++)
            assert_true(myr_backend_precision(*backend, precision) <= precision);
    }
    assert_int_equal(myr_backend_precision("openblas", MYR_PRECISION_INT8), MYR_PRECISION_F32);
}

static int make_all(void **state)
{
    if (make_folder(state) != 0)
        return -1;
    make_files("make_models.py", "", "blocks");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_have_the_products_of_the_model),
        cmocka_unit_test(limits_are_measured),
        cmocka_unit_test(backends_say_what_they_compute_in),
    };
    return cmocka_run_group_tests(tests, make_all, remove_folder);
}
