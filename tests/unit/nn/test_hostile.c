/*
 * Files that are valid protobuf and mean harm: each is refused with a sentence that names
 * what is wrong, or computed as the unfused reference computes it. And graphs so long
 * that anything quadratic in the compiler shows.
 */
#include "files.h"

#include "base/alloc.h"
#include "nn/bind.h"
#include "nn/fuse.h"
#include "nn/network.h"
#include "nn/onnx.h"
#include "nn/operator.h"

#include <math.h>

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s.onnx", folder, name);
    return path;
}

/* Loads, compiles and runs a file on a backend; NULL makes the unfused reference. *values: [owned by caller] */
static myr_status compute(const char *name, const char *backend, float **values, size_t *n)
{
    myr_graph *graph = NULL;
    char *producer = NULL;
    myr_network *network = NULL;
    myr_session *session = NULL;
    myr_shape shape;
    *values = NULL;
    *n = 0;
    myr_status status = myr_onnx_read(path_of(name), &graph, &producer);
    free(producer);
    if (status != MYR_OK)
        return status;
    status = myr_graph_bind(graph, 2);
    size_t n_in = status == MYR_OK ? myr_shape_count(&graph->values[graph->inputs[0]].shape) : 0;
    if (status == MYR_OK)
        status = myr_network_compile(graph, &(myr_network_options){.backend = backend ? backend : "reference"},
                                     backend != NULL, &network);
    else
        myr_graph_free(graph);
    if (status == MYR_OK)
        status = myr_session_create(network, &session);
    if (status == MYR_OK) {
        for (size_t i = 0; i < n_in; i++)
            myr_session_input(session)[i] = (float)((int)(i * 37 % 101) - 50) / 8;
        status = myr_session_run(session);
    }
    if (status == MYR_OK) {
        const float *from = myr_session_output_at(session, 0, &shape);
        *n = myr_shape_count(&shape);
        *values = myr_alloc(*n, sizeof **values);
        memcpy(*values, from, *n * sizeof **values);
    }
    myr_session_free(session);
    myr_network_free(network);
    return status;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static myr_status try_file(const char *name, const char *backend)
{
    float *values;
    size_t n;
    myr_status status = compute(name, backend, &values, &n);
    free(values);
    return status;
}

static void attributes_of_another_type_are_named(void **state)
{
    (void)state;
    static const refusal cases[] = {
        {"perm", MYR_ERR_UNSUPPORTED, "attribute perm of Transpose with type floats, not ints"},
        {"kernel", MYR_ERR_UNSUPPORTED, "attribute kernel_shape of Conv with type floats, not ints"},
        {"pool", MYR_ERR_UNSUPPORTED, "attribute kernel_shape of MaxPool with type int, not ints"},
        {"axes", MYR_ERR_UNSUPPORTED, "attribute axes of ReduceMean with type floats, not ints"},
        {"squeeze", MYR_ERR_UNSUPPORTED, "attribute axes of Squeeze with type floats, not ints"},
        {"group", MYR_ERR_UNSUPPORTED, "attribute group of Conv with type float, not int"},
        {"dropout", MYR_ERR_UNSUPPORTED, "node 'node1' (Dropout): neither training_mode nor the ratio"},
        {"no_pads", MYR_ERR_UNSUPPORTED, "attribute pads of Conv with type text, not ints"},
    };
    check_refusals(cases, sizeof cases / sizeof *cases, try_file);
}

static void small_files_take_little_memory(void **state)
{
    (void)state;
    static const refusal cases[] = {
        {"empty", MYR_ERR_FORMAT, "tensor 'w'"},
        {"grow", MYR_ERR_LIMIT, "node 'node1' (ConstantOfShape)"},
        {"just_too_large", MYR_ERR_LIMIT, "node 'node1' (ConstantOfShape)"},
    };
    /* Takes 1 GiB before it is refused, which not every machine that runs tests has. */
    static const refusal hoard[] = {{"hoard", MYR_ERR_LIMIT, "node 'node10' (ConstantOfShape)"}};
    check_refusals(cases, sizeof cases / sizeof *cases, try_file);
    if (getenv("MYRIOPS_LARGE_TESTS"))
        check_refusals(hoard, 1, try_file);
}

static void pads_without_one_value_are_refused(void **state)
{
    (void)state;
    static const refusal cases[] = {
        {"pad", MYR_ERR_FORMAT, "(Pad)"}, {"pad_conv", MYR_ERR_FORMAT, "(Pad)"}, {"pad_many", MYR_ERR_FORMAT, "(Pad)"}};
    check_refusals(cases, sizeof cases / sizeof *cases, try_file);
}

/* Equal to the last bit, or both no number. */
static bool is_same(float a, float b, float tolerance)
{
    return a == b || (isnan(a) && isnan(b)) || fabsf(a - b) <= tolerance;
}

static void computed_alike(const char *name, float tolerance)
{
    float *want, *got;
    size_t n, n_got;
    if (compute(name, NULL, &want, &n) != MYR_OK)
        fail_msg("%s: %s", name, myr_error_detail());
    for (const char *const *backend = myr_backend_names(); *backend; backend++) {
        if (compute(name, *backend, &got, &n_got) != MYR_OK)
            fail_msg("%s on %s: %s", name, *backend, myr_error_detail());
        assert_int_equal(n, n_got);
        for (size_t i = 0; i < n; i++)
            if (!is_same(got[i], want[i], tolerance))
                fail_msg("%s on %s: value %zu is %g, not %g", name, *backend, i, (double)got[i], (double)want[i]);
        free(got);
    }
    free(want);
}

static void slices_of_nothing_are_nothing(void **state)
{
    (void)state;
    float *values;
    size_t n;
    if (!has_models)
        skip();
    computed_alike("slice", 0);
    computed_alike("slice_run", 0);
    assert_int_equal(compute("slice_run", "reference", &values, &n), MYR_OK);
    assert_int_equal(n, 2 * 3 * 20 * 20);
    for (size_t i = 0; i < n; i++)
        assert_true(values[i] == (float)((int)(i * 37 % 101) - 50) / 8);
    free(values);
}

static void bounds_without_a_range_are_the_references(void **state)
{
    (void)state;
    static const char *const bounds[] = {"crossed", "above", "below", "low_nan", "high_nan"};
    if (!has_models)
        skip();
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        char name[64];
        snprintf(name, sizeof name, "alone_%s", bounds[i]);
        computed_alike(name, 0);
        snprintf(name, sizeof name, "behind_%s", bounds[i]);
        computed_alike(name, 1e-4f);
    }
}

/* A message is cut, so the list of what is not supported need not be complete, nor searched for every node. */
static void thousands_of_problems_are_noted_quickly(void **state)
{
    (void)state;
    static const refusal cases[] = {{"unknown", MYR_ERR_UNSUPPORTED, "operator Operator0OfNobody"}};
    double start = seconds();
    check_refusals(cases, 1, try_file);
    assert_true(seconds() - start < 20);
}

static void long_graphs_compile_quickly(void **state)
{
    (void)state;
    static const char *const names[] = {"relus", "copies", "mixed", "wide"};
    if (!has_models)
        skip();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (const char *const *backend = myr_backend_names(); *backend; backend++) {
            float *values;
            size_t n;
            double start = seconds();
            if (compute(names[i], *backend, &values, &n) != MYR_OK)
                fail_msg("%s on %s: %s", names[i], *backend, myr_error_detail());
            double taken = seconds() - start;
            print_message("%-7s on %-9s: %.2f s\n", names[i], *backend, taken);
            assert_true(taken < 30); /* a second or two on an idle machine; minutes when quadratic */
            free(values);
        }
    }
}

/* As many copies of copies as no file of the tests has. */
static void copies_of_copies_are_skipped_in_one_pass(void **state)
{
    (void)state;
    myr_graph *graph;
    myr_node *node;
    int value;
    const myr_shape shape = {.rank = 2, .dims = {1, 3}};
    assert_int_equal(myr_graph_create(&graph), MYR_OK);
    for (int i = 0; i <= 200000; i++) {
        assert_int_equal(myr_graph_add_value(graph, "value", &value), MYR_OK);
        graph->values[value].is_shaped = true;
        graph->values[value].shape = shape;
        if (i == 0)
            continue;
        assert_int_equal(myr_graph_add_node(graph, "node", 1, 1, &node), MYR_OK);
        node->op = myr_operator_find(i < 200000 ? "Identity" : "Relu");
        node->inputs[0] = value - 1;
        node->outputs[0] = value;
    }
    graph->outputs = myr_alloc(1, sizeof *graph->outputs);
    graph->outputs[graph->n_outputs++] = value;
    double start = seconds();
    assert_int_equal(myr_graph_fuse(graph), MYR_OK);
    assert_true(seconds() - start < 20);
    assert_int_equal(graph->n_nodes, 1);
    assert_int_equal(graph->nodes[0].inputs[0], 0);
    myr_graph_free(graph);
}

static void copies_share_constants(void **state)
{
    (void)state;
    myr_graph *graph, *copy;
    char *producer;
    size_t n_constants = 0;
    if (!has_models)
        skip();
    assert_int_equal(myr_onnx_read(path_of("residual"), &graph, &producer), MYR_OK);
    free(producer);
    assert_int_equal(myr_graph_copy(graph, &copy), MYR_OK);
    for (size_t i = 0; i < graph->n_values; i++) {
        assert_ptr_equal(graph->values[i].constant, copy->values[i].constant);
        n_constants += graph->values[i].constant != NULL;
    }
    assert_true(n_constants > 10);
    myr_graph_free(graph); /* the copy outlives it */
    float sum = 0;
    for (size_t i = 0; i < copy->n_values; i++)
        if (copy->values[i].constant)
            sum += *(const float *)copy->values[i].constant->data;
    assert_true(isfinite(sum));
    myr_graph_free(copy);
}

static uint64_t sum_of_constants(const myr_graph *graph)
{
    uint64_t sum = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < graph->n_values; i++) {
        const myr_tensor *constant = graph->values[i].constant;
        for (size_t j = 0; constant && j < myr_tensor_bytes(constant); j++)
            sum = (sum ^ ((const unsigned char *)constant->data)[j]) * 1099511628211u;
    }
    return sum;
}

/* Compiling and running on every backend leaves the shared constants of the graph it was copied from as they were. */
static void networks_leave_shared_constants_alone(void **state)
{
    (void)state;
    static const char *const names[] = {"residual", "padded", "folded", "normalised"};
    if (!has_models)
        skip();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        myr_graph *graph;
        char *producer;
        assert_int_equal(myr_onnx_read(path_of(names[i]), &graph, &producer), MYR_OK);
        free(producer);
        uint64_t before = sum_of_constants(graph);
        for (const char *const *backend = myr_backend_names(); *backend; backend++) {
            myr_graph *copy;
            myr_network *network;
            myr_session *session;
            assert_int_equal(myr_graph_copy(graph, &copy), MYR_OK);
            assert_int_equal(myr_graph_bind(copy, 2), MYR_OK);
            assert_int_equal(myr_network_compile(copy, &(myr_network_options){.backend = *backend}, true, &network),
                             MYR_OK);
            assert_int_equal(myr_session_create(network, &session), MYR_OK);
            assert_int_equal(myr_session_run(session), MYR_OK);
            myr_session_free(session);
            myr_network_free(network);
            assert_true(sum_of_constants(graph) == before);
        }
        myr_graph_free(graph);
    }
}

static int make_all(void **state)
{
    if (make_folder(state) != 0)
        return -1;
    for (const char *const *what = (const char *const[]){"blocks", "hostile", "chains", NULL}; *what; what++)
        make_files("make_models.py", "", *what);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attributes_of_another_type_are_named),
        cmocka_unit_test(small_files_take_little_memory),
        cmocka_unit_test(pads_without_one_value_are_refused),
        cmocka_unit_test(slices_of_nothing_are_nothing),
        cmocka_unit_test(bounds_without_a_range_are_the_references),
        cmocka_unit_test(thousands_of_problems_are_noted_quickly),
        cmocka_unit_test(long_graphs_compile_quickly),
        cmocka_unit_test(copies_of_copies_are_skipped_in_one_pass),
        cmocka_unit_test(copies_share_constants),
        cmocka_unit_test(networks_leave_shared_constants_alone),
    };
    return cmocka_run_group_tests(tests, make_all, remove_folder);
}
