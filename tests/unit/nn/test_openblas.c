/*
 * The OpenBLAS backend's own loops against the reference: convolutions and pools of random shapes, with groups,
 * strides, dilations, pads, residuals and activations.
 */
#include "base/alloc.h"
#include "base/rng.h"
#include "nn/bind.h"
#include "nn/network.h"
#include "nn/operator.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct shape_case {
    const char *op;
    int64_t batch, n_groups, n_in, n_out; /* channels of a group */
    int64_t in[2], kernel[2], stride[2], dilation[2], pads[4];
    bool has_bias, has_residual, count_pads;
    myr_activation_kind activation;
} shape_case;

static int64_t between(myr_rng *rng, int64_t low, int64_t high)
{
    return low + (int64_t)myr_rng_below(rng, (uint64_t)(high - low + 1));
}

static void fill(float *values, size_t n, uint64_t seed)
{
    myr_rng rng;
    myr_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(2 * myr_rng_unit(&rng) - 1);
}

static int add_value(myr_graph *graph, const char *name, const myr_shape *shape, uint64_t constant_seed)
{
    int value;
    assert_int_equal(myr_graph_add_value(graph, name, &value), MYR_OK);
    if (constant_seed) {
        myr_tensor *tensor;
        assert_int_equal(myr_tensor_create(MYR_TYPE_F32, shape, &tensor), MYR_OK);
        fill(tensor->data, myr_shape_count(shape), constant_seed);
        graph->values[value].constant = tensor;
    } else if (shape) {
        graph->values[value].type = MYR_TYPE_F32;
        graph->values[value].shape = *shape;
        graph->values[value].is_shaped = true;
    }
    return value;
}

static void add_numbers(myr_node *node, const char *name, const int64_t *numbers, size_t n)
{
    assert_true(myr_resize(&node->attributes, node->n_attributes, node->n_attributes + 1, sizeof *node->attributes));
    myr_attribute *attribute = &node->attributes[node->n_attributes++];
    *attribute = (myr_attribute){.name = myr_strdup(name), .type = n ? MYR_ATTRIBUTE_INTS : MYR_ATTRIBUTE_INT};
    if (n == 0) {
        attribute->number = *numbers;
        return;
    }
    attribute->n = n;
    attribute->numbers = myr_alloc(n, sizeof *numbers);
    memcpy(attribute->numbers, numbers, n * sizeof *numbers);
}

/* One node on the input, and a second input of the result's shape where there is a residual. */
static myr_graph *make_graph(const shape_case *one)
{
    bool is_conv = strcmp(one->op, "Conv") == 0;
    int64_t n_channels = one->n_groups * one->n_in, n_out = is_conv ? one->n_groups * one->n_out : n_channels;
    myr_graph *graph;
    myr_node *node;
    assert_int_equal(myr_graph_create(&graph), MYR_OK);
    graph->opset = 13;
    int input =
        add_value(graph, "in", &(myr_shape){.rank = 4, .dims = {one->batch, n_channels, one->in[0], one->in[1]}}, 0);
    int output = add_value(graph, "out", NULL, 0), weights = -1, bias = -1;
    if (is_conv)
        weights = add_value(graph, "weights",
                            &(myr_shape){.rank = 4, .dims = {n_out, one->n_in, one->kernel[0], one->kernel[1]}}, 2);
    if (is_conv && one->has_bias)
        bias = add_value(graph, "bias", &(myr_shape){.rank = 1, .dims = {n_out}}, 3);
    assert_int_equal(myr_graph_add_node(graph, "node", is_conv ? one->has_bias ? 3 : 2 : 1, 1, &node), MYR_OK);
    node->op = myr_operator_find(one->op);
    node->inputs[0] = input;
    if (is_conv)
        node->inputs[1] = weights;
    if (bias >= 0)
        node->inputs[2] = bias;
    node->outputs[0] = output;
    add_numbers(node, "kernel_shape", one->kernel, 2);
    add_numbers(node, "strides", one->stride, 2);
    add_numbers(node, "dilations", one->dilation, 2);
    add_numbers(node, "pads", one->pads, 4);
    if (is_conv)
        add_numbers(node, "group", &one->n_groups, 0);
    else
        add_numbers(node, "count_include_pad", &(int64_t){one->count_pads}, 0);
    graph->inputs = myr_alloc(2, sizeof(int));
    graph->outputs = myr_alloc(1, sizeof(int));
    graph->inputs[graph->n_inputs++] = input;
    graph->outputs[graph->n_outputs++] = output;
    assert_int_equal(myr_graph_infer(graph), MYR_OK);
    node = &graph->nodes[0];
    if (one->has_residual) {
        myr_shape shape = graph->values[output].shape;
        int residual = add_value(graph, "residual", &shape, 0);
        graph->inputs[graph->n_inputs++] = residual;
        graph->nodes[0].residual = residual;
    }
    graph->nodes[0].activation = (myr_activation){.kind = one->activation, .low = -0.5f, .high = 0.75f, .alpha = 1};
    return graph;
}

/* The answer of a backend; same_pictures: all slots hold the first one's numbers. [owned by caller] */
static float *answer(const shape_case *one, const char *backend, bool same_pictures, myr_shape *shape)
{
    myr_network *network;
    myr_session *session;
    myr_graph *graph = make_graph(one);
    int residual = graph->nodes[0].residual;
    size_t n_in = (size_t)(one->batch * one->n_groups * one->n_in * one->in[0] * one->in[1]);
    assert_int_equal(myr_network_compile(graph, &(myr_network_options){.backend = backend}, false, &network), MYR_OK);
    assert_int_equal(myr_session_create(network, &session), MYR_OK);
    float *in = myr_session_input_at(session, 0);
    fill(in, n_in, 4);
    for (int64_t i = 1; i < one->batch && same_pictures; i++)
        memcpy(in + (size_t)i * (n_in / (size_t)one->batch), in, n_in / (size_t)one->batch * sizeof *in);
    const float *values = myr_session_output_at(session, 0, shape);
    if (residual >= 0)
        fill(myr_session_input_at(session, 1), myr_shape_count(shape), 5);
    for (int i = 0; i < 2; i++) /* the second run shows that the first left nothing behind */
        assert_int_equal(myr_session_run(session), MYR_OK);
    float *copy = myr_alloc(myr_shape_count(shape), sizeof *copy);
    memcpy(copy, values, myr_shape_count(shape) * sizeof *copy);
    myr_session_free(session);
    myr_network_free(network);
    return copy;
}

/* Winograd's transforms multiply by up to 8 and subtract again, so that they round more. */
static float rounding_of(const shape_case *one)
{
    bool is_transformed = one->kernel[0] == 3 && one->kernel[1] == 3 && one->stride[0] == 1 && one->stride[1] == 1 &&
                          one->n_groups == 1 && one->n_in >= 32;
    return is_transformed ? 2e-5f : 3e-6f;
}

/* Rounding grows with the sums before the activation, which clips them away: numbers in [-1, 1] give sums of about
 * sqrt(depth) / 3. */
static void check(const shape_case *one, int number)
{
    myr_shape shape;
    float allowed = rounding_of(one) * (1 + sqrtf((float)(one->n_in * one->kernel[0] * one->kernel[1])));
    float worst = 0, *want = answer(one, "reference", false, &shape), *got = answer(one, "openblas", false, &shape);
    for (size_t i = 0; i < myr_shape_count(&shape); i++) {
        float difference = fabsf(got[i] - want[i]);
        worst = difference <= worst ? worst : difference; /* stays with a NaN */
    }
    if (!(worst <= allowed))
        fail_msg("%s %d: batch %d, %d groups of %d to %d channels, %dx%d under %dx%d, strides %d %d, dilations %d %d, "
                 "pads %d %d %d %d: off by %g, not %g",
                 one->op, number, (int)one->batch, (int)one->n_groups, (int)one->n_in, (int)one->n_out, (int)one->in[0],
                 (int)one->in[1], (int)one->kernel[0], (int)one->kernel[1], (int)one->stride[0], (int)one->stride[1],
                 (int)one->dilation[0], (int)one->dilation[1], (int)one->pads[0], (int)one->pads[1], (int)one->pads[2],
                 (int)one->pads[3], (double)worst, (double)allowed);
    free(want);
    free(got);
}

static shape_case random_case(myr_rng *rng, const char *op)
{
    static const int64_t kernels[] = {1, 1, 2, 3, 3, 4, 5, 5, 7};
    shape_case one = {.op = op, .batch = between(rng, 1, 3), .n_groups = 1};
    bool is_square = between(rng, 0, 3) > 0;
    for (int i = 0; i < 2; i++) {
        one.kernel[i] = i && is_square ? one.kernel[0] : kernels[between(rng, 0, 8)];
        one.stride[i] = between(rng, 1, one.kernel[i] > 1 ? 3 : 2);
        one.dilation[i] = between(rng, 0, 3) ? 1 : between(rng, 1, 3);
        for (int side = 0; side < 2; side++)
            one.pads[i + 2 * side] = between(rng, 0, one.kernel[i] - 1);
        one.in[i] = between(rng, 1, 24) + (one.kernel[i] - 1) * one.dilation[i];
    }
    switch (between(rng, 0, 3)) {
    case 0: /* each channel by itself */
        one.n_groups = between(rng, 1, 70);
        one.n_in = 1;
        one.n_out = between(rng, 0, 2) ? 1 : between(rng, 1, 3);
        break;
    case 1:
        one.n_groups = between(rng, 2, 6);
        one.n_in = between(rng, 1, 12);
        one.n_out = between(rng, 1, 40);
        break;
    default:
        one.n_in = between(rng, 1, 70);
        one.n_out = between(rng, 1, 70);
    }
    one.has_bias = between(rng, 0, 2) > 0;
    one.has_residual = between(rng, 0, 2) == 0;
    one.count_pads = between(rng, 0, 1);
    one.activation = (myr_activation_kind)between(rng, MYR_ACTIVATION_NONE, MYR_ACTIVATION_CLIP);
    return one;
}

static void convolutions_match_the_reference(void **state)
{
    (void)state;
    myr_rng rng;
    myr_rng_seed(&rng, 11);
    for (int i = 0; i < 400; i++) {
        shape_case one = random_case(&rng, "Conv");
        check(&one, i);
    }
}

/* More columns than one product takes, more pixels than one block. */
static void large_convolutions_match_the_reference(void **state)
{
    (void)state;
    const shape_case cases[] = {
        {"Conv", 2, 1, 130, 33, {9, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, true, true, false, MYR_ACTIVATION_RELU},
        {"Conv", 1, 1, 700, 17, {5, 5}, {1, 1}, {1, 1}, {1, 1}, {0}, true, false, false, MYR_ACTIVATION_CLIP},
        {"Conv", 2, 2, 90, 20, {8, 8}, {5, 5}, {2, 2}, {1, 1}, {2, 2, 2, 2}, false, true, false, MYR_ACTIVATION_NONE},
        {"Conv", 1, 1, 3, 24, {101, 99}, {3, 3}, {1, 1}, {1, 1}, {1, 1, 0, 0}, true, false, false, MYR_ACTIVATION_RELU},
        /* Winograd's: edges that cut tiles, pads of all sorts, more columns than one product takes, half panels. */
        {"Conv", 3, 1, 32, 48, {17, 14}, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, true, true, false, MYR_ACTIVATION_RELU},
        {"Conv", 1, 1, 64, 16, {23, 26}, {3, 3}, {1, 1}, {1, 1}, {0, 2, 1, 0}, true, false, false, MYR_ACTIVATION_CLIP},
        {"Conv", 2, 1, 336, 80, {16, 16}, {3, 3}, {1, 1}, {1, 1}, {0}, false, true, false, MYR_ACTIVATION_NONE},
        {"Conv", 8, 1, 32, 32, {3, 30}, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, true, false, false, MYR_ACTIVATION_SWISH},
        {"Conv", 1, 40, 1, 1, {3, 2}, {5, 5}, {1, 1}, {1, 1}, {2, 2, 2, 2}, true, false, false, MYR_ACTIVATION_NONE},
        {"Conv", 1, 5, 1, 1, {40, 6}, {33, 1}, {1, 1}, {1, 1}, {0}, true, false, false, MYR_ACTIVATION_NONE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(&cases[i], (int)i);
}

static void pools_match_the_reference(void **state)
{
    (void)state;
    myr_rng rng;
    myr_rng_seed(&rng, 12);
    for (int i = 0; i < 200; i++) {
        shape_case one = random_case(&rng, i % 2 ? "MaxPool" : "AveragePool");
        one.has_residual = false;
        if (i % 2 == 0) /* averages take no dilations in these operator sets */
            one.dilation[0] = one.dilation[1] = 1;
        one.activation = MYR_ACTIVATION_NONE;
        check(&one, i);
    }
}

/* The same picture has the same bits in every slot, wherever blocks and tiles begin. */
static void slots_have_the_same_bits(void **state)
{
    (void)state;
    myr_rng rng;
    myr_rng_seed(&rng, 13);
    for (int i = 0; i < 100; i++) {
        shape_case one = random_case(&rng, "Conv");
        myr_shape shape;
        one.batch = 8;
        one.has_residual = false;
        float *got = answer(&one, "openblas", true, &shape);
        size_t n = myr_shape_count(&shape) / 8;
        for (size_t slot = 1; slot < 8; slot++)
            assert_memory_equal(got, got + slot * n, n * sizeof *got);
        free(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_match_the_reference),
        cmocka_unit_test(large_convolutions_match_the_reference),
        cmocka_unit_test(pools_match_the_reference),
        cmocka_unit_test(slots_have_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
