/*
 * Files with one thing wrong: each is refused, by every backend, with a sentence that names the
 * node, tensor or input, and quickly. And files that only look wrong.
 */
#include "files.h"

#include <math.h>

/* Loads, compiles for two pictures and runs. sum: of all values of the first output. */
static myr_status compute(const char *name, const char *backend, double *sum)
{
    char path[256];
    myr_model *model;
    myr_network *network = NULL;
    myr_session *session = NULL;
    snprintf(path, sizeof path, "%s/%s.onnx", folder, name);
    myr_status status = myr_model_load(path, &model);
    if (status != MYR_OK)
        return status;
    const char *output = myr_model_output(model, 0)->name;
    status = myr_network_create(model, &(myr_network_options){.backend = backend, .batch = 2}, &output, 1, &network);
    if (status == MYR_OK)
        status = myr_session_create(network, &session);
    if (status == MYR_OK) {
        for (int i = 0; i < 2 * 3 * 20 * 20; i++)
            myr_session_input(session)[i] = (float)(i * 37 % 101 - 50) / 8;
        status = myr_session_run(session);
    }
    size_t n = 0;
    const float *values = status == MYR_OK ? myr_session_output(session, 0, &n) : NULL;
    for (size_t i = 0; values && i < 2 * n; i++)
        *sum += (double)values[i];
    myr_session_free(session);
    myr_network_free(network);
    myr_model_free(model);
    return status;
}

static myr_status try_file(const char *name, const char *backend)
{
    double sum = 0;
    return compute(name, backend, &sum);
}

static void shapes_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const refusal cases[] = {
        {"channels", MYR_ERR_FORMAT, "node 'node1' (Conv): channels"},
        {"conv_bias", MYR_ERR_FORMAT, "node 'node1' (Conv): channels"},
        {"small", MYR_ERR_FORMAT, "node 'node1' (Conv): kernel"},
        {"gemm", MYR_ERR_FORMAT, "node 'node2' (Gemm)"},
        {"matmul", MYR_ERR_FORMAT, "node 'node1' (MatMul)"},
        {"add", MYR_ERR_FORMAT, "node 'node1' (Add): shapes [2, 3, 20, 20] and [1, 3, 20, 19]"},
        {"reshape", MYR_ERR_FORMAT, "node 'node1' (Reshape)"},
        {"reshape_minus", MYR_ERR_FORMAT, "node 'node1' (Reshape)"},
        {"concat", MYR_ERR_FORMAT, "node 'node1' (Concat)"},
        {"axis", MYR_ERR_FORMAT, "node 'node1' (Softmax): axis"},
        {"perm", MYR_ERR_FORMAT, "node 'node1' (Transpose): perm"},
        {"gather", MYR_ERR_FORMAT, "node 'node1' (Gather)"},
        {"norm", MYR_ERR_FORMAT, "node 'node1' (BatchNormalization)"},
        {"twice_batch", MYR_ERR_UNSUPPORTED, "output 'out' has shape [1, 2400]"},
    };
    check_refusals(cases, sizeof cases / sizeof *cases, try_file);
}

static void weights_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
    static const refusal cases[] = {
        {"nan_conv", MYR_ERR_FORMAT, "node 'node1' (Conv): weight 'w0' is NaN at element 17 of 108"},
        {"inf_bias", MYR_ERR_FORMAT, "node 'node1' (Conv): weight 'w1' is infinite at element 3 of 4"},
        {"nan_gemm", MYR_ERR_FORMAT, "node 'node2' (Gemm): weight 'w0' is NaN at element 1 of 4800"},
        {"nan_matmul", MYR_ERR_FORMAT, "node 'node2' (MatMul): weight 'w0' is infinite at element 5 of 80"},
        {"nan_norm", MYR_ERR_FORMAT, "node 'node1' (BatchNormalization): weight 'w3' is NaN at element 0 of 3"},
        {"wide_double", MYR_ERR_FORMAT, "node 'node1' (Conv): weight 'wide' is infinite at element 0 of 12"},
    };
    check_refusals(cases, sizeof cases / sizeof *cases, try_file);
}

static void infinite_masks_are_no_mistake(void **state)
{
    (void)state;
    if (!has_models)
        skip();
    for (const char *const *backend = myr_backend_names(); *backend; backend++) {
        double sum = 0;
        if (compute("mask", *backend, &sum) != MYR_OK)
            fail_msg("on %s: %s", *backend, myr_error_detail());
        assert_true(isfinite(sum) && sum != 0);
    }
}

/* Converters leave nodes at the end that belong to the front. */
static void nodes_are_sorted(void **state)
{
    (void)state;
    if (!has_models)
        skip();
    for (const char *const *backend = myr_backend_names(); *backend; backend++) {
        double sum = 1;
        if (compute("unsorted", *backend, &sum) != MYR_OK)
            fail_msg("on %s: %s", *backend, myr_error_detail());
        assert_true(sum == 1); /* x - x */
    }
    double sum = 0;
    if (compute("backwards", "reference", &sum) != MYR_OK)
        fail_msg("%s", myr_error_detail());
    assert_true(sum > 100);
}

static void names_that_lead_nowhere_are_refused(void **state)
{
    (void)state;
    static const refusal cases[] = {
        {"circle", MYR_ERR_FORMAT, "node 'second' uses 'a', which node 'first' makes from its result"},
        {"itself", MYR_ERR_FORMAT, "node 'ouroboros' uses 'out', which node 'ouroboros' makes from its result"},
        {"long_circle", MYR_ERR_FORMAT, "the nodes go in a circle"},
        {"dangling", MYR_ERR_FORMAT, "node 'lonely' uses 'nobody', which no node, input or weight makes"},
        {"no_output", MYR_ERR_FORMAT, "output 'out' is made by no node"},
        {"made_twice", MYR_ERR_FORMAT, "node 'Relu' makes 'out', which is there already"},
        {"over_input", MYR_ERR_FORMAT, "node 'Relu' uses 'image', which node 'Relu' makes from its result"},
        {"weight_twice", MYR_ERR_FORMAT, "weight 'w' is there twice"},
        {"no_inputs", MYR_ERR_FORMAT, "node 'empty' (Add)"},
        {"too_many", MYR_ERR_FORMAT, "node 'greedy' (Relu) has 3 inputs"},
        {"outputs", MYR_ERR_FORMAT, "node 'many' has 1 inputs and 40000 outputs"},
        {"inner", MYR_ERR_UNSUPPORTED, "operator If"},
    };
    check_refusals(cases, sizeof cases / sizeof *cases, try_file);
}

static void absurd_sizes_are_refused(void **state)
{
    (void)state;
    static const refusal cases[] = {
        {"wide_input", MYR_ERR_LIMIT, "input 'image' is too large"},
        {"large_input", MYR_ERR_LIMIT, "input 'image' is too large"},
        {"open_input", MYR_ERR_UNSUPPORTED, "dimension 2 of input 'image' is left open"},
        {"zero_input", MYR_ERR_UNSUPPORTED, "dimension 2 of input 'image' is left open"},
        {"negative_input", MYR_ERR_UNSUPPORTED, "dimension 2 of input 'image' is left open"},
        {"no_shape", MYR_ERR_UNSUPPORTED, "input 'image' has no shape"},
        {"nine_dims", MYR_ERR_UNSUPPORTED, "inputs: more than 8 dimensions (as 'image')"},
        {"weight_negative", MYR_ERR_FORMAT, "tensor 'w' has a shape that makes no sense, [-1, -4]"},
        {"weight_overflow", MYR_ERR_FORMAT, "tensor 'w' has a shape that makes no sense"},
        {"weight_hidden", MYR_ERR_FORMAT, "tensor 'w' has a shape that makes no sense"},
        {"weight_bytes", MYR_ERR_FORMAT, "tensor 'w' has 3 bytes, but its shape needs 16"},
        {"weight_fields", MYR_ERR_FORMAT, "tensor 'w' has 3 elements, but its shape needs 4"},
        {"weight_dims", MYR_ERR_UNSUPPORTED, "weights: tensor of more than 8 dimensions (as 'w')"},
        {"weight_alone", MYR_ERR_FORMAT, "tensor 'w' is kept in another file, but location"},
        {"expand", MYR_ERR_FORMAT, "node 'node1' (ConstantOfShape)"},
        {"pads", MYR_ERR_FORMAT, "node 'node1' (Conv)"},
        {"pads_max", MYR_ERR_FORMAT, "node 'node1' (Conv)"},
        {"strides", MYR_ERR_FORMAT, "node 'node1' (Conv)"},
        {"dilations", MYR_ERR_FORMAT, "node 'node1' (Conv)"},
        {"group", MYR_ERR_FORMAT, "node 'node1' (Conv)"},
        {"crowd", MYR_ERR_LIMIT, "it has more than 4194304 nodes, names and attributes"},
        {"strangers", MYR_ERR_LIMIT, "it has more than 4194304 nodes, names and attributes"},
        {"work", MYR_ERR_LIMIT, "node 'node2' (MatMul): computing the network's constants"},
    };
    check_refusals(cases, sizeof cases / sizeof *cases, try_file);
}

static int make_all(void **state)
{
    if (make_folder(state) != 0)
        return -1;
    make_files("make_broken.py", "", "");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_that_do_not_fit_are_refused),
        cmocka_unit_test(weights_that_are_no_numbers_are_refused),
        cmocka_unit_test(infinite_masks_are_no_mistake),
        cmocka_unit_test(names_that_lead_nowhere_are_refused),
        cmocka_unit_test(nodes_are_sorted),
        cmocka_unit_test(absurd_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, make_all, remove_folder);
}
