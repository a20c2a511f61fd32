/*
 * Weights are in memory once: a network keeps them as its steps read them, the model may go, and sessions share them.
 */
#include "files.h"

#include "nn/network.h"

#include <malloc.h>
#include <math.h>

#define N_IN (2 * 3 * 20 * 20)
#define N_OUT 1024
/* What a network of few steps takes besides its weights: names, shapes, primitives with their code. */
#define SLACK ((size_t)768 << 10)
#define HUGE_PAGE ((size_t)2 << 20) /* the one convolution of more weights than that is aligned to it on OpenBLAS */

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__
#endif
#endif

/* Bytes in use of the whole process; 0 where a sanitizer keeps its own books. */
static size_t used_bytes(void)
{
#if defined(__SANITIZE_ADDRESS__)
    return 0;
#else
    struct mallinfo2 facts = mallinfo2();
    return facts.uordblks + facts.hblkhd;
#endif
}

static myr_model *load_model(void)
{
    char path[256];
    myr_model *model;
    snprintf(path, sizeof path, "%s/heavy.onnx", folder);
    assert_int_equal(myr_model_load(path, &model), MYR_OK);
    return model;
}

static myr_network *compile(const myr_model *model, const char *backend, myr_precision precision)
{
    const char *output = "out";
    myr_network *network;
    myr_network_options options = {.backend = backend, .batch = 2, .precision = precision};
    assert_int_equal(myr_network_create(model, &options, &output, 1, &network), MYR_OK);
    return network;
}

static void run(myr_session *session, float values[2 * N_OUT])
{
    size_t n;
    for (int i = 0; i < N_IN; i++)
        myr_session_input(session)[i] = (float)(i * 37 % 101 - 50) / 50;
    assert_int_equal(myr_session_run(session), MYR_OK);
    const float *from = myr_session_output(session, 0, &n);
    assert_int_equal(n, N_OUT);
    memcpy(values, from, 2 * N_OUT * sizeof *values);
}

static double distance(const float *a, const float *b, size_t n)
{
    double sum = 0, of = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)(a[i] - b[i]) * (double)(a[i] - b[i]);
        of += (double)a[i] * (double)a[i];
    }
    return sqrt(sum / of);
}

static void check_network(const char *backend, myr_precision precision, const float *truth)
{
    float values[2 * N_OUT];
    size_t tensors_before = myr_tensor_live_bytes(), used_before = used_bytes();
    myr_model *model = load_model();
    size_t model_bytes = myr_tensor_live_bytes() - tensors_before;
    assert_true(model_bytes > (size_t)3 << 20);
    myr_network *network = compile(model, backend, precision);
    myr_model_free(model);
    size_t weights = myr_network_weight_bytes(network), tensors = myr_tensor_live_bytes() - tensors_before,
           used = used_bytes() - used_before;
    bool packs = strcmp(backend, "reference") != 0;
    bool is_half = myr_network_precision(network) == MYR_PRECISION_BF16;
    print_message("%s, %s: %zu bytes of weights of the model's %zu, %zu in tensors, %zu in use\n", backend,
                  myr_precision_name(myr_network_precision(network)), weights, model_bytes, tensors, used);
    assert_true(weights > model_bytes * (is_half ? 4 : 9) / 10 && weights <= model_bytes * (is_half ? 6 : 11) / 10);
    assert_true(tensors <= weights && (!packs || tensors <= model_bytes / 2));
    assert_true(used <= weights + SLACK + (strcmp(backend, "openblas") == 0 ? HUGE_PAGE : 0));
    myr_session *sessions[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(myr_session_create(network, &sessions[i]), MYR_OK);
        run(sessions[i], values);
        assert_true(distance(truth, values, 2 * N_OUT) < (is_half ? 0.03 : 1e-4));
    }
    assert_int_equal(myr_tensor_live_bytes() - tensors_before, tensors);
    assert_true(used_bytes() - used_before <= used + 2 * myr_network_arena_bytes(network) + SLACK);
    for (int i = 0; i < 2; i++)
        myr_session_free(sessions[i]);
    myr_network_free(network);
    assert_int_equal(myr_tensor_live_bytes(), tensors_before);
}

/* The first answers also warm up what libraries keep for good. */
static void weights_are_there_once(void **state)
{
    (void)state;
    float truth[2 * N_OUT], unused[2 * N_OUT];
    if (!has_models)
        skip();
    for (const char *const *backend = myr_backend_names(); *backend; backend++) {
        myr_model *model = load_model();
        for (myr_precision precision = MYR_PRECISION_F32; precision <= MYR_PRECISION_BF16; precision++) {
            myr_session *session;
            myr_network *network = compile(model, *backend, precision);
            assert_int_equal(myr_session_create(network, &session), MYR_OK);
            run(session, strcmp(*backend, "reference") == 0 ? truth : unused);
            myr_session_free(session);
            myr_network_free(network);
        }
        myr_model_free(model);
    }
    for (const char *const *backend = myr_backend_names(); *backend; backend++)
        for (myr_precision precision = MYR_PRECISION_F32; precision <= MYR_PRECISION_BF16; precision++)
            check_network(*backend, precision, truth);
}

/* A model that networks of several batches are made of loses nothing by it. */
static void networks_of_one_model_agree(void **state)
{
    (void)state;
    float first[2 * N_OUT], second[2 * N_OUT];
    if (!has_models)
        skip();
    myr_model *model = load_model();
    size_t before = myr_tensor_live_bytes();
    for (const char *const *backend = myr_backend_names(); *backend; backend++) {
        for (int i = 0; i < 2; i++) {
            myr_session *session;
            myr_network *network = compile(model, *backend, MYR_PRECISION_F32);
            assert_int_equal(myr_session_create(network, &session), MYR_OK);
            run(session, i ? second : first);
            myr_session_free(session);
            myr_network_free(network);
            assert_int_equal(myr_tensor_live_bytes(), before);
        }
        assert_memory_equal(first, second, sizeof first);
    }
    myr_model_free(model);
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
        cmocka_unit_test(weights_are_there_once),
        cmocka_unit_test(networks_of_one_model_agree),
    };
    return cmocka_run_group_tests(tests, make_all, remove_folder);
}
