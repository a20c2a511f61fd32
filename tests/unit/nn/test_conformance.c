/*
 * ONNX's own tests of single operators (Debian's libonnx-testdata): every case of the
 * operators built in, on every backend.
 */
#include "base/alloc.h"
#include "base/buffer.h"
#include "nn/bind.h"
#include "nn/network.h"
#include "nn/onnx.h"
#include "nn/operator.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DATA "/usr/share/libonnx-testdata/data/node"

/* Cases that ask for something Myriops says it does not do; each must be refused, never computed wrongly. */
static const char *const refused[] = {
    "uint8",
    "int8",
    "double",
    "training_mode",
    "ratio",
    "with_argmax",
    "1d_default",
    "3d_default",
    "identity_sequence",
    "identity_opt",
    "test_dropout_default_mask",
    "test_dropout_random",
    "convtranspose",
    "integer",
    "bitshift",
    "_expanded",
    "test_cast_",
    "test_shape_",
    "pow_types",
    "test_edge_pad",
    "test_reflect_pad", /* int32 data */
};

static int n_passed, n_refused, n_failed;

/* All failures are shown, not the first alone. */
#define fail_case(...) (n_failed++, print_error(__VA_ARGS__), print_error("\n"))

static bool is_refusable(const char *name)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (strstr(name, refused[i]))
            return true;
    return false;
}

static bool load(const char *name, const char *kind, size_t i, myr_tensor **tensor)
{
    char path[512];
    snprintf(path, sizeof path, DATA "/%s/test_data_set_0/%s_%zu.pb", name, kind, i);
    return access(path, R_OK) == 0 && myr_onnx_read_tensor(path, tensor) == MYR_OK;
}

/* Whole numbers (shapes, axes) and single numbers (bounds) are given as constants, as in any real network. */
static bool is_parameter(const myr_graph *graph, size_t i, const myr_tensor *tensor)
{
    return tensor->type == MYR_TYPE_I64 || (i > 0 && tensor->shape.rank == 0) ||
           (graph->nodes[0].op &&
            (strcmp(graph->nodes[0].op->name, "Clip") == 0 || strcmp(graph->nodes[0].op->name, "Pad") == 0) && i > 0);
}

static void compare(const char *name, const char *backend, const float *got, const myr_tensor *want)
{
    size_t n = myr_shape_count(&want->shape);
    float largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(((const float *)want->data)[i]));
    for (size_t i = 0; i < n; i++) {
        float expected = ((const float *)want->data)[i];
        if (!(fabsf(got[i] - expected) <= 1e-5f * (1 + largest))) {
            fail_case("%s on %s: element %zu is %g, not %g", name, backend, i, (double)got[i], (double)expected);
            return;
        }
    }
    n_passed++;
}

/* The case with its tensors, its inputs bound. NULL where it is refused. */
static myr_graph *prepare(const char *name)
{
    char path[512];
    char *producer = NULL;
    myr_graph *graph = NULL;
    snprintf(path, sizeof path, DATA "/%s/model.onnx", name);
    myr_status status = myr_onnx_read(path, &graph, &producer);
    free(producer);
    return status == MYR_OK ? graph : NULL;
}

static void run_case(const char *name, const char *backend)
{
    myr_graph *graph = prepare(name);
    myr_tensor *inputs[16] = {0};
    if (!graph) {
        if (!is_refusable(name) && !strstr(myr_error_detail(), "operator set "))
            fail_case("%s is refused: %s", name, myr_error_detail());
        n_refused++;
        return;
    }
    for (size_t i = 0; i < graph->n_inputs; i++) {
        if (!load(name, "input", i, &inputs[i]))
            fail_case("%s: input %zu cannot be read: %s", name, i, myr_error_detail());
        myr_value *value = &graph->values[graph->inputs[i]];
        value->type = inputs[i]->type;
        value->shape = inputs[i]->shape;
        value->is_shaped = true;
        if (is_parameter(graph, i, inputs[i]))
            value->constant = myr_tensor_share(inputs[i]);
    }
    myr_network *network = NULL;
    myr_session *session = NULL;
    myr_status status = myr_graph_infer(graph);
    if (status == MYR_OK) {
        status = myr_network_compile(graph, &(myr_network_options){.backend = backend}, true, &network);
    } else {
        myr_graph_free(graph);
    }
    if (status != MYR_OK) {
        if (!is_refusable(name) || status != MYR_ERR_UNSUPPORTED)
            fail_case("%s on %s: %s", name, backend, myr_error_detail());
        n_refused++;
    } else {
        assert_int_equal(myr_session_create(network, &session), MYR_OK);
        for (size_t i = 0; inputs[i]; i++)
            if (myr_session_input_at(session, i))
                memcpy(myr_session_input_at(session, i), inputs[i]->data, myr_tensor_bytes(inputs[i]));
        if (myr_session_run(session) != MYR_OK)
            fail_case("%s on %s: %s", name, backend, myr_error_detail());
        myr_tensor *want = NULL;
        myr_shape shape;
        assert_true(load(name, "output", 0, &want));
        const float *got = myr_session_output_at(session, 0, &shape);
        if (myr_shape_equal(&shape, &want->shape))
            compare(name, backend, got, want);
        else
            fail_case("%s on %s: another shape", name, backend);
        myr_tensor_free(want);
    }
    myr_session_free(session);
    myr_network_free(network);
    for (size_t i = 0; inputs[i]; i++)
        myr_tensor_free(inputs[i]);
}

/* The operator a case tests: its model's first node, where the file can be read. */
static bool is_ours(const char *name)
{
    static const char *const prefixes[] = {
        "test_add",           "test_averagepool", "test_maxpool",      "test_globalaveragepool",
        "test_globalmaxpool", "test_basic_conv",  "test_conv_",        "test_batchnorm",
        "test_clip",          "test_concat",      "test_constant_pad", "test_edge_pad",
        "test_reflect_pad",   "test_dropout",     "test_flatten",      "test_gemm",
        "test_identity",      "test_matmul",      "test_mul",          "test_reduce_mean",
        "test_relu",          "test_reshape",     "test_sigmoid",      "test_softmax",
        "test_squeeze",       "test_transpose",   "test_unsqueeze",    "test_sub",
        "test_div",           "test_pow",         "test_sqrt",         "test_erf",
        "test_tanh",          "test_exp",         "test_hardsigmoid",  "test_hardswish",
        "test_leakyrelu",     "test_gather_",     "test_slice",        "test_layer_normalization",
    };
    static const char *const others[] = {"test_clip_default_int8", "test_hardswish_expanded",
                                         "test_convinteger",       "test_expand",
                                         "test_gather_elements",   "test_gathernd",
                                         "test_pow_types",         "_expanded",
                                         "test_softmax_cross",     "test_tanh_x",
                                         "test_sub_uint8",         "test_exp_x"};
    bool ours = false;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        ours = ours || strncmp(name, prefixes[i], strlen(prefixes[i])) == 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        ours = ours && !strstr(name, others[i]);
    return ours;
}

static void every_case(void **state)
{
    (void)state;
    DIR *folder = opendir(DATA);
    if (!folder) {
        print_message("skipped: %s is missing (apt install libonnx-testdata)\n", DATA);
        skip();
    }
    for (struct dirent *entry; (entry = readdir(folder));)
        for (const char *const *backend = myr_backend_names(); *backend && is_ours(entry->d_name); backend++)
            run_case(entry->d_name, *backend);
    closedir(folder);
    print_message("%d runs of cases passed, %d refused as not supported\n", n_passed, n_refused);
    assert_int_equal(n_failed, 0);
    assert_true(n_passed >= 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_case)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
