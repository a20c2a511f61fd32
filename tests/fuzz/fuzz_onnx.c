/*
 * Any bytes as an ONNX file: read, bound, fused, compiled and, where that is little work, run, by every backend
 * built in. Nothing may crash, hang, leak, or touch memory that is not its own.
 */
#include "base/alloc.h"
#include "nn/bind.h"
#include "nn/network.h"
#include "nn/onnx.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MOST_ELEMENTS ((size_t)1 << 21)
#define MOST_WORK 1e8
#define MOST_NUMBERS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Inputs that take whole numbers, which no picture is, become constants: small numbers from the end of the file. */
static void settle_numbers(myr_graph *graph, const uint8_t *data, size_t size)
{
    size_t n_left = 0;
    for (size_t i = 0; i < graph->n_inputs; i++) {
        myr_value *input = &graph->values[graph->inputs[i]];
        myr_tensor *tensor = NULL;
        if (input->type == MYR_TYPE_I64 && myr_shape_is_sane(&input->shape) &&
            myr_shape_count(&input->shape) <= MOST_NUMBERS &&
            myr_tensor_create(MYR_TYPE_I64, &input->shape, &tensor) == MYR_OK) {
            for (size_t j = 0; j < myr_shape_count(&input->shape); j++)
                ((int64_t *)tensor->data)[j] = (int8_t)data[(size - 1) - j % size] % 8;
            input->constant = tensor;
        } else {
            graph->inputs[n_left++] = graph->inputs[i];
        }
    }
    graph->n_inputs = n_left;
}

static bool is_small(const myr_graph *graph)
{
    size_t n = 0;
    for (size_t i = 0; i < graph->n_values && n <= MOST_ELEMENTS; i++)
        n += graph->values[i].is_shaped ? myr_shape_count(&graph->values[i].shape) : 0;
    return n <= MOST_ELEMENTS && graph->work <= MOST_WORK;
}

static void run(const myr_network *network, const myr_graph *graph)
{
    myr_session *session = NULL;
    myr_shape shape;
    if (myr_session_create(network, &session) != MYR_OK)
        return;
    for (size_t i = 0; i < graph->n_inputs; i++) {
        float *values = myr_session_input_at(session, i);
        size_t n = myr_shape_count(&graph->values[graph->inputs[i]].shape);
        for (size_t j = 0; values && j < n; j++)
            values[j] = (float)((int)(j * 37 % 101) - 50) / 8;
    }
    for (int turn = 0; turn < 2 && myr_session_run(session) == MYR_OK; turn++)
        for (size_t i = 0; i < graph->n_outputs; i++) {
            const float *values = myr_session_output_at(session, i, &shape);
            volatile float sum = 0; /* every value is read, so that the sanitizer sees the whole buffer */
            for (size_t j = 0; graph->values[graph->outputs[i]].type == MYR_TYPE_F32 && j < myr_shape_count(&shape);
                 j++)
                sum = sum + values[j];
        }
    myr_session_free(session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    myr_graph *graph = NULL;
    char *producer = NULL;
    myr_status status = size > 0 ? myr_onnx_parse("fuzz", data, size, &graph, &producer) : MYR_ERR_ARG;
    free(producer);
    if (status == MYR_OK)
        settle_numbers(graph, data, size);
    if (status == MYR_OK)
        status = myr_graph_bind(graph, graph->file_batch > 0 && graph->file_batch < 8 ? graph->file_batch : 2);
    for (const char *const *backend = myr_backend_names(); *backend && status == MYR_OK && is_small(graph); backend++) {
        myr_graph *copy;
        myr_network *network;
        if (myr_graph_copy(graph, &copy) == MYR_OK &&
            myr_network_compile(copy, &(myr_network_options){.backend = *backend}, true, &network) == MYR_OK) {
            run(network, graph);
            myr_network_free(network);
        }
    }
    myr_graph_free(graph);
    return 0;
}
