/*
 * Work and limits.
 *
 * The peak is that of convolutions compiled as any other, many channels on few pixels, so that what is between a
 * network and it is the network's shape, not a figure of a data sheet. Bytes are counted as if every layer read and
 * wrote memory once; in caches they are faster than that.
 */
#include "nn/work.h"

#include "base/alloc.h"
#include "base/progress.h"
#include "nn/bind.h"
#include "nn/calibration.h"
#include "nn/network.h"
#include "nn/operator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

uint64_t myr_node_flops(const myr_graph *graph, const myr_node *node)
{
    if (node->n_inputs < 1 || node->inputs[0] < 0)
        return 0;
    uint64_t cells = node->outputs[0] >= 0 ? myr_shape_count(&graph->values[node->outputs[0]].shape) : 0, depth = 0;
    const myr_value *in = &graph->values[node->inputs[0]],
                    *weights = node->n_inputs > 1 && node->inputs[1] >= 0 ? &graph->values[node->inputs[1]] : NULL;
    const myr_shape *shape = weights ? (weights->constant ? &weights->constant->shape : &weights->shape) : NULL;
    if (node->op->kind == MYR_KIND_CONV && shape && shape->dims[0] > 0)
        depth = myr_shape_count(shape) / (uint64_t)shape->dims[0];
    else if (node->op->kind == MYR_KIND_GEMM)
        depth = (uint64_t)in->shape.dims[myr_node_int(node, "transA", 0) ? 0 : 1];
    else if (node->op->kind == MYR_KIND_MATMUL && in->shape.rank > 0)
        depth = (uint64_t)in->shape.dims[in->shape.rank - 1];
    return 2 * cells * depth;
}

void myr_program_flops(const myr_graph *graph, const myr_program *program, double *flops)
{
    double waiting = 0; /* of nodes that have no step so far */
    memset(flops, 0, program->n_steps * sizeof *flops);
    for (size_t i = 0; i < graph->n_nodes; i++) {
        size_t s = 0;
        waiting += (double)myr_node_flops(graph, &graph->nodes[i]);
        while (s < program->n_steps && strcmp(program->steps[s].label, graph->nodes[i].name) != 0)
            s++;
        if (s == program->n_steps)
            continue;
        flops[s] += waiting;
        waiting = 0;
    }
}

size_t myr_step_bytes(const myr_program *program, const myr_step *step)
{
    size_t bytes = step->weight_bytes;
    for (int i = 0; i < step->n_buffers; i++)
        bytes += program->buffers[step->buffers[i]].bytes;
    return bytes;
}

/* ---- Limits ---- */

#define N_LAYERS 3

typedef struct probe {
    int64_t batch, n_channels, side, kernel;
} probe;

static int add_value(myr_graph *graph, const char *name, const myr_shape *shape)
{
    int value;
    if (myr_graph_add_value(graph, name, &value) != MYR_OK)
        return MYR_NO_VALUE;
    if (shape)
        graph->values[value].shape = *shape;
    graph->values[value].type = MYR_TYPE_F32;
    graph->values[value].is_shaped = shape != NULL;
    return value;
}

static bool add_numbers(myr_node *node, const char *name, size_t n, int64_t number)
{
    if (!myr_resize(&node->attributes, node->n_attributes, node->n_attributes + 1, sizeof *node->attributes))
        return false;
    myr_attribute *attribute = &node->attributes[node->n_attributes++];
    *attribute = (myr_attribute){.name = myr_strdup(name),
                                 .type = MYR_ATTRIBUTE_INTS,
                                 .n = n,
                                 .numbers = myr_alloc(n, sizeof *attribute->numbers)};
    for (size_t i = 0; attribute->numbers && i < n; i++)
        attribute->numbers[i] = number;
    return attribute->name && attribute->numbers;
}

/* One convolution more behind a value, as wide as it; its result in *value. */
static bool add_convolution(myr_graph *graph, const probe *shape, const char *name, int *value)
{
    myr_shape kernel = {.rank = 4, .dims = {shape->n_channels, shape->n_channels, shape->kernel, shape->kernel}};
    myr_tensor *weights = NULL;
    myr_node *node;
    int constant = add_value(graph, "weights", NULL), result = add_value(graph, name, NULL);
    if (constant < 0 || result < 0 || myr_tensor_create(MYR_TYPE_F32, &kernel, &weights) != MYR_OK)
        return false;
    graph->values[constant].constant = weights;
    size_t n = myr_shape_count(&kernel);
    for (size_t i = 0; i < n; i++)
        ((float *)weights->data)[i] = (float)((int)(i * 37 % 101) - 50) / (50 * (float)sqrt((double)(n / 16)));
    if (myr_graph_add_node(graph, "convolution", 2, 1, &node) != MYR_OK)
        return false;
    node->op = myr_operator_find("Conv");
    node->inputs[0] = *value;
    node->inputs[1] = constant;
    node->outputs[0] = *value = result;
    return add_numbers(node, "kernel_shape", 2, shape->kernel) && add_numbers(node, "pads", 4, shape->kernel / 2);
}

static myr_status make_probe(const probe *shape, myr_graph **out)
{
    static const char *const names[N_LAYERS] = {"first", "second", "third"};
    myr_graph *graph = NULL;
    myr_status status = myr_graph_create(&graph);
    if (status != MYR_OK)
        return status;
    graph->opset = 13;
    int value = add_value(graph, "in",
                          &(myr_shape){.rank = 4, .dims = {shape->batch, shape->n_channels, shape->side, shape->side}});
    graph->inputs = myr_alloc(1, sizeof(int));
    graph->outputs = myr_alloc(1, sizeof(int));
    bool done = value >= 0 && graph->inputs && graph->outputs;
    if (done)
        graph->inputs[graph->n_inputs++] = value;
    for (int i = 0; i < N_LAYERS && done; i++)
        done = add_convolution(graph, shape, names[i], &value);
    if (done)
        graph->outputs[graph->n_outputs++] = value;
    status = done ? myr_graph_infer(graph) : myr_fail(MYR_ERR_NOMEM, "no memory to measure the processor's peak");
    if (status == MYR_OK)
        *out = graph;
    else
        myr_graph_free(graph);
    return status;
}

/* The best layer of one probe. What brings values into layouts has steps of its own, which do not count. */
static myr_status run_probe(const probe *shape, const myr_network_options *options, double seconds, double *gflops)
{
    myr_graph *graph = NULL;
    myr_network *network = NULL;
    myr_session *session = NULL;
    myr_step_time step;
    size_t n_runs = 0, n_values = (size_t)(shape->batch * shape->n_channels * shape->side * shape->side);
    double flops = 2 * (double)n_values * (double)(shape->n_channels * shape->kernel * shape->kernel), end_s;
    myr_status status = make_probe(shape, &graph);
    if (status == MYR_OK)
        status = myr_network_compile(graph, options, false, &network);
    if (status == MYR_OK)
        status = myr_session_create(network, &session);
    for (size_t i = 0; status == MYR_OK && i < n_values; i++)
        myr_session_input(session)[i] = (float)(i * 37 % 101) / 101;
    if (status == MYR_OK)
        status = myr_session_run(session);
    end_s = myr_now_s() + seconds;
    while (status == MYR_OK && (n_runs++ == 0 || myr_now_s() < end_s)) {
        status = myr_session_profile(session); /* each run from zero: the best one counts */
        if (status == MYR_OK)
            status = myr_session_run(session);
        for (size_t i = 0; status == MYR_OK && myr_session_step_time(session, i, &step); i++)
            if (strcmp(step.op, "Conv") == 0 && step.seconds > 0)
                *gflops = fmax(*gflops, flops / step.seconds / 1e9);
    }
    myr_session_free(session);
    myr_network_free(network);
    return status;
}

myr_status myr_peak_measure(const char *backend, myr_precision precision, double seconds, double *gflops)
{
    static const probe probes[] = {{8, 256, 28, 3}, {8, 512, 14, 3}, {8, 1024, 14, 1}, {8, 512, 28, 1}};
    enum { N_PROBES = sizeof probes / sizeof *probes };
    myr_range ranges[] = {{.name = "first", .low = -4, .high = 4},
                          {.name = "in", .low = 0, .high = 1},
                          {.name = "second", .low = -4, .high = 4},
                          {.name = "third", .low = -4, .high = 4}};
    myr_calibration calibration = {.n_ranges = sizeof ranges / sizeof *ranges, .ranges = ranges};
    myr_network_options options = {.backend = backend,
                                   .precision = precision,
                                   .calibration = precision == MYR_PRECISION_INT8 ? &calibration : NULL};
    myr_status status = MYR_OK;
    *gflops = 0;
    for (size_t i = 0; i < N_PROBES && status == MYR_OK; i++)
        status = run_probe(&probes[i], &options, seconds / N_PROBES, gflops);
    return status;
}

myr_status myr_bandwidth_measure(size_t n_bytes, double seconds, double *gb_s)
{
    size_t half = n_bytes / 2 + 64;
    char *from = myr_alloc_huge(half, 1), *to = myr_alloc_huge(half, 1);
    double start_s = myr_now_s(), now_s = start_s;
    *gb_s = 0;
    for (int i = 0; from && to && (i < 3 || now_s - start_s < seconds); i++) {
        double before_s = now_s;
        memcpy(i % 2 ? from : to, i % 2 ? to : from, half);
        __asm__ volatile("" ::: "memory"); /* what is copied is not looked at */
        now_s = myr_now_s();
        *gb_s = fmax(*gb_s, 2 * (double)half / (now_s - before_s) / 1e9);
    }
    bool done = from && to;
    free(from);
    free(to);
    return done ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to measure how fast it is");
}
