/*
 * A model: what an ONNX file says, before it is compiled for anything.
 */
#include "base/alloc.h"
#include "nn/bind.h"
#include "nn/network.h"
#include "nn/onnx.h"
#include "nn/operator.h"
#include "nn/safetensors.h"
#include "nn/work.h"

#include <stdlib.h>
#include <string.h>

static myr_tensor_info *describe(const myr_graph *graph, const int *values, size_t n)
{
    myr_tensor_info *infos = myr_alloc(n, sizeof *infos);
    for (size_t i = 0; infos && i < n; i++) {
        const myr_value *value = &graph->values[values[i]];
        infos[i].name = value->name;
        infos[i].rank = value->shape.rank;
        memcpy(infos[i].dims, value->shape.dims, sizeof infos[i].dims);
    }
    return infos;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct myr_operator_count *)a)->name, ((const struct myr_operator_count *)b)->name);
}

static bool count_operators(myr_model *model)
{
    const myr_graph *graph = model->graph;
    model->operators = myr_alloc(graph->n_nodes, sizeof *model->operators);
    for (size_t i = 0; model->operators && i < graph->n_nodes; i++) {
        size_t j = 0;
        while (j < model->n_operators && strcmp(model->operators[j].name, graph->nodes[i].op->name) != 0)
            j++;
        if (j == model->n_operators)
            model->operators[model->n_operators++].name = graph->nodes[i].op->name;
        model->operators[j].n++;
    }
    if (model->operators)
        qsort(model->operators, model->n_operators, sizeof *model->operators, by_name);
    return model->operators != NULL;
}

/* Left at 0 where shapes cannot be known: a fact for people, no reason to refuse the file. */
static void count_flops(myr_model *model)
{
    myr_graph *graph;
    if (myr_graph_copy(model->graph, &graph) != MYR_OK)
        return;
    model->flops = 0;
    if (myr_graph_bind(graph, 1) == MYR_OK)
        for (size_t i = 0; i < graph->n_nodes; i++)
            model->flops += myr_node_flops(graph, &graph->nodes[i]);
    myr_graph_free(graph);
}

static void forget_facts(myr_model *model)
{
    free(model->inputs);
    free(model->outputs);
    free(model->operators);
    model->inputs = model->outputs = NULL;
    model->operators = NULL;
    model->n_operators = 0;
    model->n_parameters = model->flops = 0;
}

/* What is said of the graph as it is now; the model is as before where memory is short. */
static bool gather_facts(myr_model *model)
{
    const myr_graph *graph = model->graph;
    myr_model facts = {.graph = model->graph,
                       .producer = model->producer,
                       .inputs = describe(graph, graph->inputs, graph->n_inputs),
                       .outputs = describe(graph, graph->outputs, graph->n_outputs)};
    for (size_t i = 0; i < graph->n_values; i++)
        if (graph->values[i].constant && graph->values[i].constant->type == MYR_TYPE_F32)
            facts.n_parameters += myr_shape_count(&graph->values[i].constant->shape);
    if (!facts.inputs || !facts.outputs || !count_operators(&facts)) {
        forget_facts(&facts);
        return false;
    }
    count_flops(&facts);
    forget_facts(model);
    *model = facts;
    return true;
}

myr_status myr_model_load(const char *path, myr_model **out)
{
    *out = NULL;
    myr_model *model = myr_alloc(1, sizeof *model);
    if (!model)
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory for a model", path);
    myr_status status = myr_onnx_read(path, &model->graph, &model->producer);
    if (status == MYR_OK && !gather_facts(model))
        status = myr_fail(MYR_ERR_NOMEM, "%s: no memory for a model", path);
    if (status != MYR_OK) {
        myr_model_free(model);
        return status;
    }
    *out = model;
    return MYR_OK;
}

myr_status myr_model_load_weights(myr_model *model, const char *path)
{
    myr_graph *graph;
    size_t n_taken;
    myr_status status = myr_graph_copy(model->graph, &graph);
    if (status == MYR_OK)
        status = myr_safetensors_load(path, graph, &n_taken);
    if (status == MYR_OK && n_taken == 0)
        status =
            myr_fail(MYR_ERR_NOT_FOUND,
                     "%s: no tensor in it has the name of one of the network's %zu inputs; is it another network's?",
                     path, graph->n_inputs);
    if (status == MYR_OK && graph->n_inputs == 0)
        status = myr_fail(MYR_ERR_FORMAT,
                          "%s: it has a tensor for every input of the network, so that none is left for "
                          "the picture",
                          path);
    if (status != MYR_OK) {
        myr_graph_free(graph);
        return status;
    }
    myr_graph *before = model->graph;
    model->graph = graph;
    bool done = gather_facts(model);
    model->graph = done ? graph : before;
    myr_graph_free(done ? before : graph);
    return done ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "%s: no memory for a model", path);
}

myr_status myr_model_set_size(myr_model *model, int size)
{
    bool changed = false;
    if (size < 1)
        return myr_fail(MYR_ERR_ARG, "a picture of %d pixels' side cannot be", size);
    for (size_t i = 0; i < model->graph->n_inputs; i++) {
        myr_shape *shape = &model->graph->values[model->graph->inputs[i]].shape;
        for (int d = 2; shape->rank == 4 && d < 4; d++) {
            if (shape->dims[d] >= 1)
                continue;
            shape->dims[d] = model->inputs[i].dims[d] = size;
            changed = true;
        }
    }
    if (changed)
        count_flops(model);
    return MYR_OK;
}

void myr_model_free(myr_model *model)
{
    if (!model)
        return;
    myr_graph_free(model->graph);
    free(model->producer);
    forget_facts(model);
    free(model);
}

size_t myr_model_n_inputs(const myr_model *model)
{
    return model->graph->n_inputs;
}

size_t myr_model_n_outputs(const myr_model *model)
{
    return model->graph->n_outputs;
}

const myr_tensor_info *myr_model_input(const myr_model *model, size_t i)
{
    return i < model->graph->n_inputs ? &model->inputs[i] : NULL;
}

const myr_tensor_info *myr_model_output(const myr_model *model, size_t i)
{
    return i < model->graph->n_outputs ? &model->outputs[i] : NULL;
}

int64_t myr_model_opset(const myr_model *model)
{
    return model->graph->opset;
}

const char *myr_model_producer(const myr_model *model)
{
    return model->producer;
}

const char *myr_model_external_sha256(const myr_model *model)
{
    return model->graph->external_sha256;
}

uint64_t myr_model_n_parameters(const myr_model *model)
{
    return model->n_parameters;
}

uint64_t myr_model_flops(const myr_model *model)
{
    return model->flops;
}

const char *myr_model_operator(const myr_model *model, size_t i, size_t *n)
{
    if (i >= model->n_operators)
        return NULL;
    *n = model->operators[i].n;
    return model->operators[i].name;
}
