/*
 * Weights wherever they are kept: in the ONNX file in any width, beside it, or in a
 * safetensors file. One network, so that all must give the same numbers; and files that
 * lie about what they hold.
 */
#include "files.h"

#include "kernel/half.h"
#include "nn/element.h"
#include "nn/network.h"
#include "nn/onnx.h"

#include <math.h>

#define N_VALUES 10 /* two pictures, five values each */

static const char *path_of(const char *name, const char *suffix)
{
    static char path[2][256];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/models/%s%s", folder, name, suffix);
    return path[turn];
}

static myr_status run(const myr_model *model, float values[N_VALUES])
{
    myr_network *network = NULL;
    myr_session *session = NULL;
    const char *output = "out";
    size_t n = 0;
    myr_status status = myr_network_create(model, &(myr_network_options){.batch = 2}, &output, 1, &network);
    if (status == MYR_OK)
        status = myr_session_create(network, &session);
    if (status == MYR_OK) {
        for (int i = 0; i < 2 * 3 * 8 * 8; i++)
            myr_session_input(session)[i] = (float)(i * 37 % 101 - 50) / 8;
        status = myr_session_run(session);
    }
    if (status == MYR_OK) {
        const float *from = myr_session_output(session, 0, &n);
        assert_int_equal(n, 5);
        memcpy(values, from, N_VALUES * sizeof *values);
    }
    myr_session_free(session);
    myr_network_free(network);
    return status;
}

/* A network, with weights files where given, up to its values. */
static myr_status compute(const char *name, const char *first, const char *second, float values[N_VALUES])
{
    myr_model *model;
    myr_status status = myr_model_load(path_of(name, ".onnx"), &model);
    if (status == MYR_OK && first)
        status = myr_model_load_weights(model, path_of(first, ".safetensors"));
    if (status == MYR_OK && second)
        status = myr_model_load_weights(model, path_of(second, ".safetensors"));
    if (status == MYR_OK)
        status = run(model, values);
    myr_model_free(model);
    return status;
}

static void gives_the_same(const char *name, const char *first, const char *second)
{
    float want[N_VALUES], got[N_VALUES];
    assert_int_equal(compute("plain", NULL, NULL, want), MYR_OK);
    if (compute(name, first, second, got) != MYR_OK)
        fail_msg("%s, %s: %s", name, first ? first : "alone", myr_error_detail());
    assert_true(fabsf(want[0]) > 0.01f && want[0] != want[5]);
    for (int i = 0; i < N_VALUES; i++)
        if (got[i] != want[i])
            fail_msg("%s, %s: value %d is %g, not %g", name, first ? first : "alone", i, (double)got[i],
                     (double)want[i]);
}

static void every_half_is_itself(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 65536; bits++) {
        int exponent = bits >> 10 & 31, fraction = bits & 1023;
        double value = exponent == 0 ? ldexp(fraction, -24) : ldexp(fraction + 1024, exponent - 25);
        float got = myr_half_to_float((uint16_t)bits);
        if (exponent == 31)
            assert_true(fraction ? isnan(got) : isinf(got));
        else
            assert_true((double)fabsf(got) == value);
        assert_int_equal(signbit(got) != 0, bits >> 15);
    }
    assert_true(myr_element_bfloat16(0x3fc0) == 1.5f && myr_element_bfloat16(0xc000) == -2 &&
                isinf(myr_element_bfloat16(0x7f80)));
}

static void floats_of_any_width_are_read(void **state)
{
    (void)state;
    static const char *const names[] = {"half",   "half_fields",  "bfloat16",         "bfloat16_fields",
                                        "double", "compute_half", "compute_bfloat16", "compute_double"};
    if (!has_models)
        skip();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        gives_the_same(names[i], NULL, NULL);
}

static void data_beside_the_model_is_read(void **state)
{
    (void)state;
    static const char *const names[] = {"external", "external_below", "external_dot", "external_link", "external_open"};
    char digest[65] = "";
    if (!has_models)
        skip();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        myr_model *model;
        gives_the_same(names[i], NULL, NULL);
        assert_int_equal(myr_model_load(path_of(names[i], ".onnx"), &model), MYR_OK);
        assert_int_equal(strlen(myr_model_external_sha256(model)), 64);
        if (i == 0)
            snprintf(digest, sizeof digest, "%s", myr_model_external_sha256(model));
        assert_string_equal(digest, myr_model_external_sha256(model)); /* the same weights */
        myr_model_free(model);
    }
    myr_model *model;
    assert_int_equal(myr_model_load(path_of("plain", ".onnx"), &model), MYR_OK);
    assert_string_equal(myr_model_external_sha256(model), "");
    myr_model_free(model);
}

/* Another byte in the file beside the model is another digest, so that no contract stays the same. */
static void data_beside_the_model_is_in_the_digest(void **state)
{
    (void)state;
    myr_model *before, *after;
    if (!has_models)
        skip();
    assert_int_equal(myr_model_load(path_of("external_below", ".onnx"), &before), MYR_OK);
    FILE *file = fopen(path_of("below/weights", ".bin"), "r+b");
    assert_non_null(file);
    fputc(0x11, file);
    fclose(file);
    assert_int_equal(myr_model_load(path_of("external_below", ".onnx"), &after), MYR_OK);
    assert_string_not_equal(myr_model_external_sha256(before), myr_model_external_sha256(after));
    myr_model_free(before);
    myr_model_free(after);
}

static void wrong_places_are_refused(void **state)
{
    (void)state;
    static const refusal cases[] = {
        {"no_location", MYR_ERR_FORMAT, "is missing"},
        {"empty_location", MYR_ERR_FORMAT, "is missing"},
        {"absolute", MYR_ERR_FORMAT, "only files in the model's own folder"},
        {"dots", MYR_ERR_FORMAT, "'../outside.bin'; only files in the model's own folder"},
        {"dots_inside", MYR_ERR_FORMAT, "only files in the model's own folder"},
        {"link_out", MYR_ERR_FORMAT, "'link_out.bin', a link out of the model's folder"},
        {"link_up", MYR_ERR_FORMAT, "'up/outside.bin', a link out of the model's folder"},
        {"missing", MYR_ERR_NOT_FOUND, "'nowhere.bin'"},
        {"folder", MYR_ERR_IO, "/below: not a regular file"},
        {"pipe", MYR_ERR_IO, "/pipe.bin: not a regular file"},
        {"cut", MYR_ERR_FORMAT, "cut.bin, which has 40; the file is cut off"},
        {"far", MYR_ERR_FORMAT, "from 1000000 on are not in"},
        {"very_far", MYR_ERR_FORMAT, "from 18446744073709551608 on are not in"},
        {"no_number", MYR_ERR_FORMAT, "is missing or no number"},
        {"negative", MYR_ERR_FORMAT, "is missing or no number"},
        {"too_large", MYR_ERR_FORMAT, "is missing or no number"},
        {"short", MYR_ERR_FORMAT, "has 100 bytes in 'weights.bin', but its shape needs 216"},
        {"long", MYR_ERR_FORMAT, "but its shape needs 216"},
    };
    if (!has_models)
        skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        myr_model *model;
        myr_status status = myr_model_load(path_of(cases[i].name, ".onnx"), &model);
        if (status != cases[i].status || !strstr(myr_error_detail(), cases[i].words) ||
            !strstr(myr_error_detail(), "tensor 'conv.weight'"))
            fail_msg("%s: status %d, '%s'", cases[i].name, (int)status, myr_error_detail());
        assert_null(model);
    }
}

static void data_beside_no_file_is_refused(void **state)
{
    (void)state;
    char bytes[8192], *producer;
    myr_graph *graph;
    if (!has_models)
        skip();
    FILE *file = fopen(path_of("external", ".onnx"), "rb");
    assert_non_null(file);
    size_t n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_int_equal(myr_onnx_parse("memory", bytes, n, &graph, &producer), MYR_ERR_FORMAT);
    assert_non_null(strstr(myr_error_detail(), "memory: tensor 'conv.weight' is kept in 'weights.bin'"));
    assert_null(graph);
}

static void safetensors_complete_a_graph(void **state)
{
    (void)state;
    static const char *const names[] = {"F32", "F16", "BF16", "F64", "mixed"};
    myr_model *model;
    if (!has_models)
        skip();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        gives_the_same("bare", names[i], NULL);
    gives_the_same("bare", "first", "second");
    assert_int_equal(myr_model_load(path_of("bare", ".onnx"), &model), MYR_OK);
    assert_int_equal(myr_model_n_inputs(model), 5);
    assert_int_equal(myr_model_n_parameters(model), 0);
    assert_int_equal(myr_model_load_weights(model, path_of("F16", ".safetensors")), MYR_OK);
    assert_int_equal(myr_model_n_inputs(model), 1);
    assert_string_equal(myr_model_input(model, 0)->name, "image");
    assert_int_equal(myr_model_n_parameters(model), 4 * 27 + 4 + 20);
    assert_true(myr_model_flops(model) > 2 * 27 * 4 * 36);
    assert_int_equal(myr_model_load_weights(model, path_of("F16", ".safetensors")), MYR_ERR_NOT_FOUND);
    myr_model_free(model);
}

static void damaged_safetensors_are_refused(void **state)
{
    (void)state;
    static const refusal cases[] = {
        {"overlap", MYR_ERR_FORMAT, "tensor 'conv.bias': lies over tensor 'conv.weight'"},
        {"gap", MYR_ERR_FORMAT, "tensor 'conv.bias': there are bytes in front of it"},
        {"tail", MYR_ERR_FORMAT, "4 bytes at its end belong to no tensor"},
        {"cut", MYR_ERR_FORMAT, "the file is cut off"},
        {"range", MYR_ERR_FORMAT, "tensor 'shape': ends at byte 1099511627776"},
        {"backwards", MYR_ERR_FORMAT, "tensor 'shape': ends before it begins"},
        {"negative", MYR_ERR_FORMAT, "tensor 'shape': has no dtype, shape and data_offsets"},
        {"three", MYR_ERR_FORMAT, "tensor 'shape': has no dtype, shape and data_offsets"},
        {"size", MYR_ERR_FORMAT, "tensor 'conv.bias': has 16 bytes, but its shape needs 20"},
        {"overflow", MYR_ERR_FORMAT, "tensor 'conv.bias': has a shape that makes no sense"},
        {"hidden", MYR_ERR_FORMAT, "tensor 'conv.bias': has a shape that makes no sense"},
        {"minus", MYR_ERR_FORMAT, "tensor 'conv.bias': has a shape that makes no sense"},
        {"real", MYR_ERR_FORMAT, "tensor 'conv.bias': has a shape that makes no sense"},
        {"type", MYR_ERR_FORMAT, "tensor 'conv.bias': has no dtype, shape and data_offsets"},
        {"unknown", MYR_ERR_UNSUPPORTED, "tensor 'conv.bias': elements of type F4"},
        {"number", MYR_ERR_FORMAT, "tensor 'conv.bias': has elements of type I32"},
        {"other_shape", MYR_ERR_FORMAT, "has shape [3, 4, 3, 3], but the network's input of this name [4, 3, 3, 3]"},
        {"rank", MYR_ERR_UNSUPPORTED, "tensor 'conv.bias': has more than 8 dimensions"},
        {"entry", MYR_ERR_FORMAT, "tensor 'fc.weight': has no dtype"},
        {"picture", MYR_ERR_FORMAT, "none is left for the picture"},
        {"stranger", MYR_ERR_NOT_FOUND, "has the name of one of the network's 5 inputs"},
        {"list", MYR_ERR_FORMAT, "is no JSON object"},
        {"text", MYR_ERR_FORMAT, "is no JSON"},
        {"twice", MYR_ERR_FORMAT, "names a tensor twice"},
        {"deep", MYR_ERR_FORMAT, "is no JSON"},
        {"long", MYR_ERR_FORMAT, "should have 9223372036854775808 bytes"},
        {"short", MYR_ERR_FORMAT, "should have 12 bytes"},
        {"empty", MYR_ERR_FORMAT, "it has 4 bytes"},
        {"huge", MYR_ERR_LIMIT, "its header has 100000001 bytes"},
    };
    myr_model *model;
    if (!has_models)
        skip();
    assert_int_equal(myr_model_load(path_of("bare", ".onnx"), &model), MYR_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[64];
        snprintf(name, sizeof name, "bad_%s", cases[i].name);
        myr_status status = myr_model_load_weights(model, path_of(name, ".safetensors"));
        if (status != cases[i].status || !strstr(myr_error_detail(), cases[i].words) ||
            !strstr(myr_error_detail(), path_of(name, ".safetensors")))
            fail_msg("%s: status %d, '%s'", cases[i].name, (int)status, myr_error_detail());
        assert_int_equal(myr_model_n_inputs(model), 5);
    }
    assert_int_equal(myr_model_load_weights(model, "/nowhere.safetensors"), MYR_ERR_NOT_FOUND);
    assert_int_equal(myr_model_load_weights(model, folder), MYR_ERR_IO);
    myr_model_free(model);
}

static int make_all(void **state)
{
    if (make_folder(state) != 0)
        return -1;
    make_files("make_weights.py", "/models", "");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_is_itself),           cmocka_unit_test(floats_of_any_width_are_read),
        cmocka_unit_test(data_beside_the_model_is_read),  cmocka_unit_test(wrong_places_are_refused),
        cmocka_unit_test(data_beside_no_file_is_refused), cmocka_unit_test(data_beside_the_model_is_in_the_digest),
        cmocka_unit_test(safetensors_complete_a_graph),   cmocka_unit_test(damaged_safetensors_are_refused),
    };
    return cmocka_run_group_tests(tests, make_all, remove_folder);
}
