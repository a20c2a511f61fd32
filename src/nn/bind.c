/*
 * One walk over the nodes: shapes forward, and a node whose inputs are all constants
 * is computed with its reference implementation and disappears.
 */
#include "nn/bind.h"

#include "base/alloc.h"
#include "nn/operator.h"

#include <math.h>
#include <stdlib.h>

/* A small file can ask for any amount of memory; no real network comes near. */
#define MAX_CONSTANT_BYTES ((size_t)1 << 28)
#define MAX_FOLDED_BYTES ((size_t)1 << 30)
/* And for any time: products and copies of elements in all constants; a minute or two. */
#define MAX_FOLDED_WORK 0x1p36

/* A node's operands, in arrays kept from node to node. */
typedef struct operands {
    size_t folded_bytes; /* of all constants computed so far */
    double folded_work;
    size_t room;
    myr_tensor *tensors;   /* (room) inputs first, then outputs */
    const myr_tensor **in; /* (room) */
    bool all_constant;
    bool *is_finite; /* (n_values) looked at before: many nodes can share a weight */
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

static size_t count_elements(const myr_tensor *tensor)
{
    return tensor ? myr_shape_count(&tensor->shape) : 0;
}

/* Products, or cells of a window, in one element of a node's result. */
static double depth_of(const myr_operation *operation)
{
    const myr_node *node = operation->node;
    const myr_shape *first = node->n_inputs > 0 && operation->in[0] ? &operation->in[0]->shape : NULL;
    const myr_attribute *kernel = myr_node_attribute(node, "kernel_shape");
    double depth = 1;
    if (node->op->kind == MYR_KIND_CONV)
        return (double)count_elements(operation->in[1]) / (double)(1 + operation->in[1]->shape.dims[0]) + 1;
    if (node->op->kind == MYR_KIND_GEMM)
        return (double)first->dims[myr_node_int(node, "transA", 0) ? 0 : 1];
    if (node->op->kind == MYR_KIND_MATMUL)
        return (double)first->dims[first->rank - 1];
    for (size_t i = 0; kernel && kernel->type == MYR_ATTRIBUTE_INTS && i < kernel->n; i++)
        depth *= (double)kernel->numbers[i];
    return depth;
}

/* About as many steps as computing a node takes. */
static double estimate_work(const myr_operation *operation)
{
    double work = depth_of(operation) * (double)count_elements(&operation->out[0]);
    for (int i = 0; i < operation->node->n_inputs; i++)
        work += (double)count_elements(operation->in[i]);
    return work;
}

/* Compute a node whose inputs are known; its outputs become constants. */
static myr_status fold(myr_graph *graph, myr_node *node, myr_operation *operation, operands *all)
{
    myr_status status = MYR_OK;
    all->folded_work += estimate_work(operation);
    if (all->folded_work > MAX_FOLDED_WORK)
        return myr_operation_fail(operation, MYR_ERR_LIMIT,
                                  "computing the network's constants up to this one takes too long");
    for (int i = 0; i < node->n_outputs; i++) {
        size_t n_bytes = node->outputs[i] >= 0 ? myr_tensor_bytes(&operation->out[i]) : 0;
        if (n_bytes > MAX_CONSTANT_BYTES)
            return myr_operation_fail(operation, MYR_ERR_LIMIT,
                                      "a constant computed from a few numbers is larger than 256 MiB");
        all->folded_bytes += n_bytes;
    }
    if (all->folded_bytes > MAX_FOLDED_BYTES)
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

/* A sum with such a weight is no number for any picture, so that every vector would be lost. Constants of other
 * operators may be infinite: masks of attention are, and bounds of Clip. */
static bool wants_finite(const myr_operator *op)
{
    return op->kind == MYR_KIND_CONV || op->kind == MYR_KIND_GEMM || op->kind == MYR_KIND_MATMUL ||
           op->kind == MYR_KIND_BATCH_NORMALIZATION;
}

/* The first element that is no finite number; n where there is none, or no floats. */
static size_t find_not_finite(const myr_tensor *tensor)
{
    const float *values = tensor && tensor->type == MYR_TYPE_F32 ? tensor->data : NULL;
    size_t n = tensor ? myr_shape_count(&tensor->shape) : 0, i = 0;
    while (values && i < n && isfinite(values[i]))
        i++;
    return values ? i : n;
}

static bool is_spoiled(const myr_graph *graph, int value)
{
    const myr_tensor *constant = value >= 0 ? graph->values[value].constant : NULL;
    return constant && find_not_finite(constant) < myr_shape_count(&constant->shape);
}

/* The weight of the file that a spoiled constant was computed from: nodes folded so far still say from what. */
static int find_origin(const myr_graph *graph, int value)
{
    for (size_t i = graph->n_nodes; i-- > 0;) { /* nodes are in order, so one walk back is enough */
        const myr_node *node = &graph->nodes[i];
        bool makes = false;
        for (int j = 0; j < node->n_outputs; j++)
            makes = makes || node->outputs[j] == value;
        for (int j = 0; makes && j < node->n_inputs; j++) {
            if (is_spoiled(graph, node->inputs[j])) {
                value = node->inputs[j];
                break;
            }
        }
    }
    return value;
}

static myr_status check_finite(const myr_graph *graph, const myr_node *node, bool *is_finite)
{
    for (int i = 0; i < node->n_inputs; i++) {
        if (node->inputs[i] < 0 || is_finite[node->inputs[i]])
            continue;
        if (!is_spoiled(graph, node->inputs[i])) {
            is_finite[node->inputs[i]] = true;
            continue;
        }
        const myr_value *weight = &graph->values[find_origin(graph, node->inputs[i])];
        size_t at = find_not_finite(weight->constant);
        return myr_fail(
            MYR_ERR_FORMAT,
            "node '%s' (%s): weight '%s' is %s at element %zu of %zu; the file is damaged, or the network's "
            "training failed",
            node->name, node->op->name, weight->name,
            isnan(((const float *)weight->constant->data)[at]) ? "NaN" : "infinite", at,
            myr_shape_count(&weight->constant->shape));
    }
    return MYR_OK;
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
    if (status == MYR_OK && wants_finite(node->op))
        status = check_finite(graph, node, all->is_finite);
    if (status == MYR_OK && !all->all_constant)
        graph->work += estimate_work(&operation);
    if (status == MYR_OK && (all->all_constant || node->op->kind == MYR_KIND_SHAPE))
        status = fold(graph, node, &operation, all);
    return status;
}

myr_status myr_graph_infer(myr_graph *graph)
{
    operands all = {.is_finite = myr_alloc(graph->n_values, sizeof *all.is_finite)};
    myr_status status = all.is_finite ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for a network's graph");
    graph->work = 0;
    for (size_t i = 0; i < graph->n_nodes && status == MYR_OK; i++)
        status = resolve(graph, &graph->nodes[i], &all);
    free(all.tensors);
    free(all.in);
    free(all.is_finite);
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
