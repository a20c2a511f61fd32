/*
 * Building, copying and tidying graphs.
 */
#include "nn/graph.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

static myr_status no_memory(void)
{
    return myr_fail(MYR_ERR_NOMEM, "no memory for a network's graph");
}

myr_status myr_graph_create(myr_graph **graph)
{
    *graph = myr_alloc(1, sizeof **graph);
    if (!*graph)
        return no_memory();
    **graph = (myr_graph){.file_batch = -1};
    return MYR_OK;
}

static void clear_attribute(myr_attribute *attribute)
{
    free(attribute->name);
    free(attribute->text);
    free(attribute->numbers);
    free(attribute->reals);
    myr_tensor_free(attribute->tensor);
}

bool myr_node_has_one_output(const myr_node *node)
{
    for (int i = 1; i < node->n_outputs; i++)
        if (node->outputs[i] >= 0)
            return false;
    return true;
}

void myr_node_clear_attributes(myr_node *node)
{
    for (size_t i = 0; i < node->n_attributes; i++)
        clear_attribute(&node->attributes[i]);
    free(node->attributes);
    node->attributes = NULL;
    node->n_attributes = 0;
}

void myr_node_clear(myr_node *node)
{
    myr_node_clear_attributes(node);
    free(node->name);
    free(node->inputs);
    free(node->outputs);
    *node = (myr_node){.residual = MYR_NO_VALUE};
}

void myr_graph_free(myr_graph *graph)
{
    if (!graph)
        return;
    for (size_t i = 0; i < graph->n_nodes; i++)
        myr_node_clear(&graph->nodes[i]);
    for (size_t i = 0; i < graph->n_values; i++) {
        free(graph->values[i].name);
        myr_tensor_free(graph->values[i].constant);
    }
    free(graph->nodes);
    free(graph->values);
    free(graph->inputs);
    free(graph->outputs);
    free(graph);
}

/* Room for one element more in a growing array. */
static bool make_room(void *array, size_t n, size_t *room, size_t size)
{
    if (n < *room)
        return true;
    size_t wanted = *room ? 2 * *room : 64;
    if (!myr_resize(array, *room, wanted, size))
        return false;
    *room = wanted;
    return true;
}

myr_status myr_graph_add_value(myr_graph *graph, const char *name, int *value)
{
    if (graph->n_values >= INT32_MAX ||
        !make_room(&graph->values, graph->n_values, &graph->values_room, sizeof *graph->values))
        return no_memory();
    myr_value *added = &graph->values[graph->n_values];
    *added = (myr_value){.name = myr_strdup(name)};
    if (!added->name)
        return no_memory();
    *value = (int)graph->n_values++;
    return MYR_OK;
}

static int *no_values(int n)
{
    int *values = myr_alloc((size_t)n, sizeof *values);
    for (int i = 0; values && i < n; i++)
        values[i] = MYR_NO_VALUE;
    return values;
}

myr_status myr_graph_add_node(myr_graph *graph, const char *name, int n_inputs, int n_outputs, myr_node **node)
{
    if (graph->n_nodes >= INT32_MAX ||
        !make_room(&graph->nodes, graph->n_nodes, &graph->nodes_room, sizeof *graph->nodes))
        return no_memory();
    myr_node *added = &graph->nodes[graph->n_nodes++];
    *added = (myr_node){.name = myr_strdup(name),
                        .n_inputs = n_inputs,
                        .n_outputs = n_outputs,
                        .inputs = no_values(n_inputs),
                        .outputs = no_values(n_outputs),
                        .residual = MYR_NO_VALUE};
    *node = added;
    return added->name && added->inputs && added->outputs ? MYR_OK : no_memory();
}

static myr_status copy_attribute(const myr_attribute *from, myr_attribute *to)
{
    *to = *from;
    to->name = myr_strdup(from->name);
    to->text = from->text ? myr_strdup(from->text) : NULL;
    to->numbers = from->numbers ? myr_alloc(from->n, sizeof *to->numbers) : NULL;
    to->reals = from->reals ? myr_alloc(from->n, sizeof *to->reals) : NULL;
    to->tensor = from->tensor ? myr_tensor_share(from->tensor) : NULL;
    if (!to->name || (from->text && !to->text) || (from->numbers && !to->numbers) || (from->reals && !to->reals))
        return no_memory();
    if (from->numbers)
        memcpy(to->numbers, from->numbers, from->n * sizeof *to->numbers);
    if (from->reals)
        memcpy(to->reals, from->reals, from->n * sizeof *to->reals);
    return MYR_OK;
}

static myr_status copy_node(const myr_node *from, myr_graph *graph)
{
    myr_node *to;
    myr_status status = myr_graph_add_node(graph, from->name, from->n_inputs, from->n_outputs, &to);
    if (status != MYR_OK)
        return status;
    memcpy(to->inputs, from->inputs, (size_t)from->n_inputs * sizeof *to->inputs);
    memcpy(to->outputs, from->outputs, (size_t)from->n_outputs * sizeof *to->outputs);
    to->op = from->op;
    to->residual = from->residual;
    to->activation = from->activation;
    to->attributes = myr_alloc(from->n_attributes, sizeof *to->attributes);
    if (!to->attributes)
        return no_memory();
    for (size_t i = 0; i < from->n_attributes && status == MYR_OK; i++) {
        to->n_attributes = i + 1;
        status = copy_attribute(&from->attributes[i], &to->attributes[i]);
    }
    return status;
}

static myr_status copy_value(const myr_value *from, myr_graph *graph)
{
    int place;
    myr_status status = myr_graph_add_value(graph, from->name, &place);
    if (status != MYR_OK)
        return status;
    myr_value *to = &graph->values[place];
    to->is_shaped = from->is_shaped;
    to->type = from->type;
    to->shape = from->shape;
    to->constant = from->constant ? myr_tensor_share(from->constant) : NULL;
    return MYR_OK;
}

myr_status myr_graph_copy(const myr_graph *graph, myr_graph **out)
{
    myr_graph *copy;
    *out = NULL;
    myr_status status = myr_graph_create(&copy);
    if (status != MYR_OK)
        return status;
    copy->opset = graph->opset;
    copy->file_batch = graph->file_batch;
    copy->batch = graph->batch;
    memcpy(copy->external_sha256, graph->external_sha256, sizeof copy->external_sha256);
    copy->inputs = no_values((int)graph->n_inputs);
    copy->outputs = no_values((int)graph->n_outputs);
    if (!copy->inputs || !copy->outputs)
        status = no_memory();
    for (size_t i = 0; i < graph->n_values && status == MYR_OK; i++)
        status = copy_value(&graph->values[i], copy);
    for (size_t i = 0; i < graph->n_nodes && status == MYR_OK; i++)
        status = copy_node(&graph->nodes[i], copy);
    if (status != MYR_OK) {
        myr_graph_free(copy);
        return status;
    }
    memcpy(copy->inputs, graph->inputs, graph->n_inputs * sizeof *copy->inputs);
    memcpy(copy->outputs, graph->outputs, graph->n_outputs * sizeof *copy->outputs);
    copy->n_inputs = graph->n_inputs;
    copy->n_outputs = graph->n_outputs;
    *out = copy;
    return MYR_OK;
}

int myr_graph_find(const myr_graph *graph, const char *name)
{
    for (size_t i = 0; i < graph->n_values; i++)
        if (strcmp(graph->values[i].name, name) == 0)
            return (int)i;
    return MYR_NO_VALUE;
}

void myr_graph_compact(myr_graph *graph)
{
    size_t n = 0;
    for (size_t i = 0; i < graph->n_nodes; i++) {
        if (!graph->nodes[i].op) {
            myr_node_clear(&graph->nodes[i]);
            continue;
        }
        if (n != i) {
            graph->nodes[n] = graph->nodes[i];
            graph->nodes[i] = (myr_node){.residual = MYR_NO_VALUE};
        }
        n++;
    }
    graph->n_nodes = n;
}

myr_status myr_graph_prune(myr_graph *graph)
{
    bool *needed = myr_alloc(graph->n_values, sizeof *needed);
    if (!needed)
        return no_memory();
    for (size_t i = 0; i < graph->n_outputs; i++)
        needed[graph->outputs[i]] = true;
    for (size_t i = graph->n_nodes; i-- > 0;) {
        myr_node *node = &graph->nodes[i];
        bool wanted = false;
        for (int j = 0; j < node->n_outputs; j++)
            wanted = wanted || (node->outputs[j] >= 0 && needed[node->outputs[j]]);
        for (int j = 0; wanted && j < node->n_inputs; j++)
            if (node->inputs[j] >= 0)
                needed[node->inputs[j]] = true;
        if (wanted && node->residual >= 0)
            needed[node->residual] = true;
        if (!wanted)
            node->op = NULL;
    }
    for (size_t i = 0; i < graph->n_values; i++) {
        if (needed[i] || !graph->values[i].constant)
            continue;
        myr_tensor_free(graph->values[i].constant);
        graph->values[i].constant = NULL;
    }
    free(needed);
    myr_graph_compact(graph);
    return MYR_OK;
}

int *myr_graph_count_uses(const myr_graph *graph)
{
    int *uses = myr_alloc(graph->n_values, sizeof *uses);
    for (size_t i = 0; uses && i < graph->n_nodes; i++) {
        const myr_node *node = &graph->nodes[i];
        for (int j = 0; node->op && j < node->n_inputs; j++)
            if (node->inputs[j] >= 0)
                uses[node->inputs[j]]++;
        if (node->op && node->residual >= 0)
            uses[node->residual]++;
    }
    for (size_t i = 0; uses && i < graph->n_outputs; i++)
        uses[graph->outputs[i]]++;
    return uses;
}

int *myr_graph_find_producers(const myr_graph *graph)
{
    int *producers = myr_alloc(graph->n_values, sizeof *producers);
    for (size_t i = 0; producers && i < graph->n_values; i++)
        producers[i] = -1;
    for (size_t i = 0; producers && i < graph->n_nodes; i++)
        for (int j = 0; graph->nodes[i].op && j < graph->nodes[i].n_outputs; j++)
            if (graph->nodes[i].outputs[j] >= 0)
                producers[graph->nodes[i].outputs[j]] = (int)i;
    return producers;
}

const myr_attribute *myr_node_attribute(const myr_node *node, const char *name)
{
    for (size_t i = 0; i < node->n_attributes; i++)
        if (strcmp(node->attributes[i].name, name) == 0)
            return &node->attributes[i];
    return NULL;
}

int64_t myr_node_int(const myr_node *node, const char *name, int64_t standard)
{
    const myr_attribute *attribute = myr_node_attribute(node, name);
    return attribute && attribute->type == MYR_ATTRIBUTE_INT ? attribute->number : standard;
}

float myr_node_float(const myr_node *node, const char *name, float standard)
{
    const myr_attribute *attribute = myr_node_attribute(node, name);
    return attribute && attribute->type == MYR_ATTRIBUTE_FLOAT ? attribute->real : standard;
}

const char *myr_node_text(const myr_node *node, const char *name, const char *standard)
{
    const myr_attribute *attribute = myr_node_attribute(node, name);
    return attribute && attribute->type == MYR_ATTRIBUTE_TEXT ? attribute->text : standard;
}

const myr_tensor *myr_node_constant(const myr_graph *graph, const myr_node *node, int i)
{
    int value = i < node->n_inputs ? node->inputs[i] : MYR_NO_VALUE;
    return value >= 0 ? graph->values[value].constant : NULL;
}
