/*
 * Any bytes as a safetensors file, for a graph with inputs of the names that the corpus has.
 */
#include "nn/safetensors.h"

#include "base/alloc.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static myr_status add_input(myr_graph *graph, const char *name, myr_type type, const myr_shape *shape)
{
    int value;
    myr_status status = myr_graph_add_value(graph, name, &value);
    if (status != MYR_OK)
        return status;
    graph->values[value].type = type;
    graph->values[value].shape = *shape;
    graph->inputs[graph->n_inputs++] = value;
    return MYR_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const myr_shape any = {.rank = 0}, kernel = {.rank = 4, .dims = {-1, 3, 3, 3}};
    myr_graph *graph;
    size_t n_taken = 0;
    if (myr_graph_create(&graph) != MYR_OK)
        return 0;
    graph->inputs = myr_alloc(5, sizeof *graph->inputs);
    if (graph->inputs && add_input(graph, "image", MYR_TYPE_F32, &kernel) == MYR_OK &&
        add_input(graph, "conv.weight", MYR_TYPE_F32, &kernel) == MYR_OK &&
        add_input(graph, "conv.bias", MYR_TYPE_F32, &any) == MYR_OK &&
        add_input(graph, "fc.weight", MYR_TYPE_F32, &any) == MYR_OK &&
        add_input(graph, "shape", MYR_TYPE_I64, &any) == MYR_OK)
        myr_safetensors_parse("fuzz", data, size, graph, &n_taken);
    for (size_t i = 0; i < graph->n_values; i++) {
        const myr_tensor *tensor = graph->values[i].constant;
        volatile char sum = 0; /* every byte is read, so that the sanitizer sees the whole tensor */
        for (size_t j = 0; tensor && j < myr_tensor_bytes(tensor); j++)
            sum = (char)(sum ^ ((const char *)tensor->data)[j]);
    }
    myr_graph_free(graph);
    return 0;
}
