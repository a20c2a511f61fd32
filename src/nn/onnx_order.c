/*
 * A walk in depth first order with a stack of its own: a file can chain any number of nodes.
 */
#include "nn/onnx_order.h"

#include "base/alloc.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A value's name and the node that makes it. */
typedef struct result {
    const char *name;
    size_t node;
} result;

/* A node that waits for its inputs' makers. */
typedef struct visit {
    size_t node, next_input;
} visit;

typedef enum mark { NEW, WAITING, PLACED } mark;

typedef struct walk {
    const char *path;
    const Onnx__GraphProto *graph;
    size_t n_results, n_visits, n_placed;
    result *results; /* sorted by name */
    visit *visits;   /* (n_node) the stack */
    unsigned char *marks;
    size_t *order;
} walk;

const char *myr_onnx_node_name(const Onnx__NodeProto *node)
{
    return node->name && node->name[0] ? node->name : node->op_type ? node->op_type : "";
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const result *)a)->name, ((const result *)b)->name);
}

static bool gather_results(walk *all)
{
    const Onnx__GraphProto *graph = all->graph;
    size_t n = 0;
    for (size_t i = 0; i < graph->n_node; i++)
        n += graph->node[i]->n_output;
    all->results = myr_alloc(n, sizeof *all->results);
    for (size_t i = 0; all->results && i < graph->n_node; i++)
        for (size_t j = 0; j < graph->node[i]->n_output; j++)
            if (graph->node[i]->output[j][0] != 0)
                all->results[all->n_results++] = (result){graph->node[i]->output[j], i};
    if (all->results)
        qsort(all->results, all->n_results, sizeof *all->results, by_name);
    return all->results != NULL;
}

static void enter(walk *all, size_t node)
{
    all->marks[node] = WAITING;
    all->visits[all->n_visits++] = (visit){.node = node};
}

/* One step for the node on top: on to the maker of its next input, or into the order. */
static myr_status step(walk *all)
{
    visit *top = &all->visits[all->n_visits - 1];
    const Onnx__NodeProto *node = all->graph->node[top->node];
    if (top->next_input == node->n_input) {
        all->marks[top->node] = PLACED;
        all->order[all->n_placed++] = top->node;
        all->n_visits--;
        return MYR_OK;
    }
    const char *input = node->input[top->next_input++];
    const result *found =
        bsearch(&(result){.name = input}, all->results, all->n_results, sizeof *all->results, by_name);
    if (!found || all->marks[found->node] == PLACED)
        return MYR_OK;
    if (all->marks[found->node] == NEW) {
        enter(all, found->node);
        return MYR_OK;
    }
    return myr_fail(
        MYR_ERR_FORMAT,
        "%s: node '%s' uses '%s', which node '%s' makes from its result: the nodes go in a circle; the file "
        "is damaged",
        all->path, myr_onnx_node_name(node), input, myr_onnx_node_name(all->graph->node[found->node]));
}

myr_status myr_onnx_order(const char *path, const Onnx__GraphProto *graph, size_t **order)
{
    walk all = {.path = path,
                .graph = graph,
                .visits = myr_alloc(graph->n_node, sizeof *all.visits),
                .marks = myr_alloc(graph->n_node, sizeof *all.marks),
                .order = myr_alloc(graph->n_node, sizeof *all.order)};
    myr_status status = MYR_OK;
    *order = NULL;
    if (!gather_results(&all) || !all.visits || !all.marks || !all.order)
        status = myr_fail(MYR_ERR_NOMEM, "%s: no memory for the network", path);
    for (size_t i = 0; i < graph->n_node && status == MYR_OK; i++) {
        if (all.marks[i] == NEW)
            enter(&all, i);
        while (all.n_visits > 0 && status == MYR_OK)
            status = step(&all);
    }
    free(all.results);
    free(all.visits);
    free(all.marks);
    if (status != MYR_OK) {
        free(all.order);
        return status;
    }
    *order = all.order;
    return MYR_OK;
}
