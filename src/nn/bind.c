/*
 * One walk over the nodes: shapes forward, and a node whose inputs are all constants
 * is computed with its reference implementation and disappears.
 */
#include "nn/bind.h"

#include "base/alloc.h"
#include "nn/operator.h"

#include <stdlib.h>

/* A small file can ask for any amount of memory; no real network comes near. */
#define MAX_CONSTANT_BYTES ((size_t)1 << 28)
#define MAX_FOLDED_BYTES ((size_t)1 << 30)

/* A node's operands, in arrays kept from node to node. */
typedef struct operands {
    size_t folded_bytes; /* of all constants computed so far */
    size_t room;
    myr_tensor *tensors;   /* (room) inputs first, then outputs */
    const myr_tensor **in; /* (room) */
    bool all_constant;
} operands;

static myr_status gather(const myr_graph *graph, const myr_node *node, operands *all)
{
    size_t n = (size_t)node->n_inputs + (size_t)node->n_outputs;
    if (n > all->room) {
        if (!myr_resize(&all->tensors, all->room, n, sizeof *all->tensors) ||
            !myr_resize(&all->in, all->room, n, sizeof *all->in))
            return myr_fail(MYR_ERR_NOMEM, "no memory for the inputs of node '%s'", node->name);
        all->room = n;
    }
    all->all_constant = true;
    for (int i = 0; i < node->n_inputs; i++) {
        const myr_value *value = node->inputs[i] >= 0 ? &graph->values[node->inputs[i]] : NULL;
        all->in[i] = NULL;
        if (!value)
            continue;
        if (value->constant) {
            all->in[i] = value->constant;
            continue;
        }
        if (!value->is_shaped)
            return myr_fail(MYR_ERR_INTERNAL, "node '%s': the shape of '%s' is not known", node->name, value->name);
        all->tensors[i] = (myr_tensor){.type = value->type, .shape = value->shape};
        all->in[i] = &all->tensors[i];
        all->all_constant = false;
    }
    return MYR_OK;
}

/* Compute a node whose inputs are known; its outputs become constants. */
static myr_status fold(myr_graph *graph, myr_node *node, myr_operation *operation, size_t *folded_bytes)
{
    myr_status status = MYR_OK;
    for (int i = 0; i < node->n_outputs; i++) {
        size_t n_bytes = node->outputs[i] >= 0 ? myr_tensor_bytes(&operation->out[i]) : 0;
        if (n_bytes > MAX_CONSTANT_BYTES)
            return myr_operation_fail(operation, MYR_ERR_LIMIT,
                                      "a constant computed from a few numbers is larger than 256 MiB");
        *folded_bytes += n_bytes;
    }
    if (*folded_bytes > MAX_FOLDED_BYTES)
        return myr_operation_fail(operation, MYR_ERR_LIMIT,
                                  "with this one, the constants computed from a few numbers grow past 1 GiB");
    for (int i = 0; i < node->n_outputs && status == MYR_OK; i++) {
        myr_tensor *constant = NULL;
        if (node->outputs[i] < 0)
            continue;
        status = myr_tensor_create(operation->out[i].type, &operation->out[i].shape, &constant);
        if (status != MYR_OK)
            break;
        graph->values[node->outputs[i]].constant = constant;
        operation->out[i].data = constant->data;
    }
    if (status == MYR_OK)
        status = node->op->compute(operation);
    if (status == MYR_OK)
        node->op = NULL;
    return status;
}

static myr_status resolve(myr_graph *graph, myr_node *node, operands *all)
{
    myr_status status = gather(graph, node, all);
    if (status != MYR_OK)
        return status;
    myr_operation operation = {.node = node,
                               .opset = graph->opset,
                               .file_batch = graph->file_batch,
                               .batch = graph->batch,
                               .in = all->in,
                               .out = all->tensors + node->n_inputs};
    for (int i = 0; i < node->n_outputs; i++)
        operation.out[i] = (myr_tensor){.shape = {.rank = 0}};
    status = node->op->infer(&operation);
    for (int i = 0; i < node->n_outputs && status == MYR_OK; i++) {
        if (node->outputs[i] < 0)
            continue;
        myr_value *value = &graph->values[node->outputs[i]];
        if (!myr_shape_is_sane(&operation.out[i].shape))
            return myr_operation_fail(&operation, MYR_ERR_FORMAT, "its result is larger than any memory");
        value->is_shaped = true;
        value->type = operation.out[i].type;
        value->shape = operation.out[i].shape;
    }
    if (status == MYR_OK && (all->all_constant || node->op->kind == MYR_KIND_SHAPE))
        status = fold(graph, node, &operation, &all->folded_bytes);
    return status;
}

myr_status myr_graph_infer(myr_graph *graph)
{
    operands all = {0};
    myr_status status = MYR_OK;
    for (size_t i = 0; i < graph->n_nodes && status == MYR_OK; i++)
        status = resolve(graph, &graph->nodes[i], &all);
    free(all.tensors);
    free(all.in);
    if (status == MYR_OK) {
        myr_graph_compact(graph);
        status = myr_graph_prune(graph);
    }
    return status;
}

myr_status myr_graph_bind(myr_graph *graph, int64_t batch)
{
    myr_status status = myr_graph_prune(graph);
    if (status != MYR_OK)
        return status;
    graph->batch = batch;
    for (size_t i = 0; i < graph->n_inputs; i++) {
        myr_value *input = &graph->values[graph->inputs[i]];
        if (input->type != MYR_TYPE_F32)
            return myr_fail(MYR_ERR_UNSUPPORTED, "input '%s' takes whole numbers; an image network takes floats",
                            input->name);
        if (input->shape.rank == 0)
            return myr_fail(MYR_ERR_UNSUPPORTED, "input '%s' has no shape; export the model with one", input->name);
        input->shape.dims[0] = batch;
        for (int d = 1; d < input->shape.rank; d++)
            if (input->shape.dims[d] < 1)
                return myr_fail(MYR_ERR_UNSUPPORTED,
                                "dimension %d of input '%s' is left open; export the model with a fixed size", d,
                                input->name);
        if (!myr_shape_is_sane(&input->shape))
            return myr_fail(MYR_ERR_LIMIT, "input '%s' is too large for a batch of %lld", input->name,
                            (long long)batch);
        input->is_shaped = true;
    }
    return myr_graph_infer(graph);
}
