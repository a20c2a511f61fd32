/*
 * Each pass looks at a node and the node that made its input, and joins the two when
 * nothing else needs what lies between them.
 */
#include "nn/fuse.h"

#include "base/alloc.h"
#include "nn/fusing.h"
#include "nn/operator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

myr_kind myr_fusing_kind(const myr_node *node)
{
    return node->op ? node->op->kind : MYR_KIND_OTHER;
}

/* The node behind input i if that input has no other use and the node is of this kind; else NULL. */
myr_node *myr_fusing_sole_producer(const myr_fusing *fuse, const myr_node *node, int i, myr_kind kind)
{
    int value = i < node->n_inputs ? node->inputs[i] : MYR_NO_VALUE;
    if (value < 0 || (size_t)value >= fuse->n_values || fuse->uses[value] != 1 || fuse->producer[value] < 0)
        return NULL;
    myr_node *made_by = &fuse->graph->nodes[fuse->producer[value]];
    return myr_fusing_kind(made_by) == kind && made_by->op && made_by->outputs[0] == value ? made_by : NULL;
}

/* `kept` takes over the output of `dropped`. */
void myr_fusing_absorb(myr_fusing *fuse, myr_node *kept, myr_node *dropped)
{
    kept->outputs[0] = dropped->outputs[0];
    fuse->producer[kept->outputs[0]] = (int)(kept - fuse->graph->nodes);
    dropped->op = NULL;
}

bool myr_fusing_is_plain(const myr_node *node)
{
    return node->residual < 0 && node->activation.kind == MYR_ACTIVATION_NONE;
}

/* A new constant of this shape, whose numbers are written to *data before anyone shares it. The graph's values may
 * move. */
myr_status myr_fusing_add_constant(myr_graph *graph, const char *name, const myr_shape *shape, int *value, float **data)
{
    myr_tensor *tensor;
    myr_status status = myr_tensor_create(MYR_TYPE_F32, shape, &tensor);
    if (status != MYR_OK)
        return status;
    status = myr_graph_add_value(graph, name, value);
    if (status != MYR_OK) {
        myr_tensor_free(tensor);
        return status;
    }
    graph->values[*value].constant = tensor;
    *data = tensor->data;
    return MYR_OK;
}

/* Conv(x) * factor + offset for each channel, as another Conv. */
static myr_status scale_convolution(myr_graph *graph, myr_node *conv, const double *factor, const double *offset)
{
    const myr_tensor *old = myr_node_constant(graph, conv, 1);
    int64_t n_out = old->shape.dims[0];
    size_t per_channel = n_out ? myr_shape_count(&old->shape) / (size_t)n_out : 0;
    int weights, bias;
    float *to, *to_bias;
    myr_status status = myr_fusing_add_constant(graph, "fused weights", &old->shape, &weights, &to);
    if (status == MYR_OK)
        status =
            myr_fusing_add_constant(graph, "fused bias", &(myr_shape){.rank = 1, .dims = {n_out}}, &bias, &to_bias);
    if (status == MYR_OK && conv->n_inputs < 3) {
        if (!myr_resize(&conv->inputs, (size_t)conv->n_inputs, 3, sizeof *conv->inputs))
            return myr_fail(MYR_ERR_NOMEM, "no memory for a bias");
        conv->inputs[2] = MYR_NO_VALUE;
        conv->n_inputs = 3;
    }
    if (status != MYR_OK)
        return status;
    const float *from = myr_node_constant(graph, conv, 1)->data;
    const myr_tensor *old_bias = myr_node_constant(graph, conv, 2);
    for (size_t o = 0; o < (size_t)n_out; o++) {
        for (size_t i = 0; i < per_channel; i++)
            to[o * per_channel + i] = (float)((double)from[o * per_channel + i] * factor[o]);
        to_bias[o] = (float)((old_bias ? (double)((const float *)old_bias->data)[o] : 0) * factor[o] + offset[o]);
    }
    conv->inputs[1] = weights;
    conv->inputs[2] = bias;
    return MYR_OK;
}

/* A normalisation that stands alone, as a convolution of each channel by one weight: that has an activation, a
 * narrow type and a fast primitive. The weights are filled by scale_convolution. */
static myr_status become_convolution(myr_graph *graph, myr_node *node, int64_t n_channels)
{
    static const myr_shape one = {.rank = 4, .dims = {0, 1, 1, 1}};
    myr_shape shape = one;
    float *weights = NULL;
    int value;
    shape.dims[0] = n_channels;
    myr_attribute *attributes = myr_alloc(1, sizeof *attributes);
    char *name = myr_strdup("group");
    myr_status status = attributes && name ? myr_fusing_add_constant(graph, "fused weights", &shape, &value, &weights)
                                           : myr_fail(MYR_ERR_NOMEM, "no memory to fuse '%s'", node->name);
    if (status != MYR_OK) {
        free(attributes);
        free(name);
        return status;
    }
    for (int64_t c = 0; c < n_channels; c++)
        weights[c] = 1;
    attributes[0] = (myr_attribute){.name = name, .type = MYR_ATTRIBUTE_INT, .number = n_channels};
    myr_node_clear_attributes(node);
    node->attributes = attributes;
    node->n_attributes = 1;
    node->inputs[1] = value;
    node->n_inputs = 2;
    node->n_outputs = 1;
    node->op = myr_operator_find("Conv");
    return MYR_OK;
}

static myr_status fuse_normalisation(myr_fusing *fuse, myr_node *node)
{
    myr_graph *graph = fuse->graph;
    myr_node *conv = myr_fusing_sole_producer(fuse, node, 0, MYR_KIND_CONV);
    const myr_tensor *constants[4];
    const myr_value *input = &graph->values[node->inputs[0]];
    bool joins = conv && myr_fusing_is_plain(conv) && myr_node_constant(graph, conv, 1) &&
                 (conv->n_inputs < 3 || conv->inputs[2] < 0 || myr_node_constant(graph, conv, 2));
    bool fits = joins || (input->is_shaped && input->shape.rank == 4 && input->type == MYR_TYPE_F32 &&
                          !input->constant && myr_node_has_one_output(node));
    for (int i = 0; i < 4 && fits; i++) {
        constants[i] = myr_node_constant(graph, node, i + 1);
        fits = constants[i] != NULL;
    }
    if (!fits)
        return MYR_OK;
    size_t n = myr_shape_count(&constants[0]->shape);
    double epsilon = (double)myr_node_float(node, "epsilon", 1e-5f);
    double *factor = myr_alloc(n, sizeof *factor), *offset = myr_alloc(n, sizeof *offset);
    myr_status status = factor && offset ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to fuse '%s'", node->name);
    for (size_t c = 0; c < n && status == MYR_OK; c++) {
        double scale = (double)((const float *)constants[0]->data)[c],
               shift = (double)((const float *)constants[1]->data)[c];
        double mean = (double)((const float *)constants[2]->data)[c],
               variance = (double)((const float *)constants[3]->data)[c];
        factor[c] = scale / sqrt(variance + epsilon);
        offset[c] = shift - mean * factor[c];
    }
    if (status == MYR_OK && !joins)
        status = become_convolution(graph, node, (int64_t)n);
    if (status == MYR_OK)
        status = scale_convolution(graph, joins ? conv : node, factor, offset);
    if (status == MYR_OK && joins)
        myr_fusing_absorb(fuse, conv, node);
    free(factor);
    free(offset);
    return status;
}

/* The pads of a Pad node in front of a Conv, when they are zeros around the last two dimensions. */
static bool zero_frame(const myr_graph *graph, const myr_node *pad, int64_t frame[4])
{
    const myr_attribute *given = myr_node_attribute(pad, "pads");
    const myr_tensor *input = myr_node_constant(graph, pad, 1), *filling = myr_node_constant(graph, pad, 2);
    if ((input && input->type != MYR_TYPE_I64) || (filling && filling->type != MYR_TYPE_F32) ||
        (!filling && pad->n_inputs > 2 && pad->inputs[2] >= 0))
        return false;
    const int64_t *pads = given ? given->numbers : input ? input->data : NULL;
    size_t n = given ? given->n : input ? myr_shape_count(&input->shape) : 0;
    float value = filling ? *(const float *)filling->data : myr_node_float(pad, "value", 0);
    if (pad->n_inputs > 3 && pad->inputs[3] >= 0)
        return false;
    if (!pads || n != 8 || value != 0 || strcmp(myr_node_text(pad, "mode", "constant"), "constant") != 0)
        return false;
    for (int i = 0; i < 8; i++)
        if (pads[i] < 0 || (i % 4 < 2 && pads[i] != 0))
            return false;
    memcpy(frame, (int64_t[4]){pads[2], pads[3], pads[6], pads[7]}, 4 * sizeof *frame);
    return true;
}

/* The pads attribute of a Conv, made if it has none. NULL without memory. */
static int64_t *own_pads(myr_node *conv)
{
    myr_attribute *pads = (myr_attribute *)myr_node_attribute(conv, "pads");
    if (pads)
        return pads->numbers;
    if (!myr_resize(&conv->attributes, conv->n_attributes, conv->n_attributes + 1, sizeof *conv->attributes))
        return NULL;
    pads = &conv->attributes[conv->n_attributes++];
    *pads = (myr_attribute){
        .name = myr_strdup("pads"), .type = MYR_ATTRIBUTE_INTS, .n = 4, .numbers = myr_alloc(4, sizeof(int64_t))};
    return pads->name ? pads->numbers : NULL;
}

static myr_status fuse_padding(myr_fusing *fuse, myr_node *conv)
{
    int64_t frame[4];
    myr_node *pad = myr_fusing_sole_producer(fuse, conv, 0, MYR_KIND_PAD);
    if (!pad || strcmp(myr_node_text(conv, "auto_pad", "NOTSET"), "NOTSET") != 0 ||
        !zero_frame(fuse->graph, pad, frame))
        return MYR_OK;
    int64_t *pads = own_pads(conv);
    if (!pads)
        return myr_fail(MYR_ERR_NOMEM, "no memory to fuse '%s'", pad->name);
    for (int i = 0; i < 4; i++)
        pads[i] += frame[i];
    conv->inputs[0] = pad->inputs[0];
    pad->op = NULL;
    return MYR_OK;
}

/* Add(Conv(x), y) becomes a Conv that adds y, when y is there before the Conv. */
static bool fuse_residual(myr_fusing *fuse, myr_node *add, int side)
{
    myr_graph *graph = fuse->graph;
    myr_node *conv = myr_fusing_sole_producer(fuse, add, side, MYR_KIND_CONV);
    int other = add->inputs[1 - side];
    if (!conv || !myr_fusing_is_plain(conv) || !myr_fusing_is_plain(add) || graph->values[other].constant ||
        (size_t)other >= fuse->n_values)
        return false;
    bool is_before = fuse->producer[other] < (int)(conv - graph->nodes);
    if (!is_before || !myr_shape_equal(&graph->values[add->inputs[side]].shape, &graph->values[other].shape))
        return false;
    conv->residual = other;
    myr_fusing_absorb(fuse, conv, add);
    return true;
}

void myr_fusing_activation(myr_fusing *fuse, myr_node *node)
{
    static const myr_kind takers[] = {MYR_KIND_CONV, MYR_KIND_GEMM, MYR_KIND_MATMUL, MYR_KIND_ADD};
    myr_activation activation = {.kind = MYR_ACTIVATION_RELU};
    /* Bounds that are computed, or whole numbers, belong to no activation. */
    for (int i = 1; i < node->n_inputs; i++)
        if (node->inputs[i] >= 0 &&
            (!myr_node_constant(fuse->graph, node, i) || myr_node_constant(fuse->graph, node, i)->type != MYR_TYPE_F32))
            return;
    if (node->op->kind == MYR_KIND_CLIP) {
        const myr_tensor *low = myr_node_constant(fuse->graph, node, 1),
                         *high = myr_node_constant(fuse->graph, node, 2);
        activation =
            (myr_activation){.kind = MYR_ACTIVATION_CLIP,
                             .low = low ? *(const float *)low->data : myr_node_float(node, "min", -INFINITY),
                             .high = high ? *(const float *)high->data : myr_node_float(node, "max", INFINITY)};
    }
    if (node->op->kind == MYR_KIND_HARD_SWISH)
        activation.kind = MYR_ACTIVATION_HARD_SWISH;
    if (node->op->kind == MYR_KIND_SWISH)
        activation = (myr_activation){.kind = MYR_ACTIVATION_SWISH, .alpha = myr_node_float(node, "alpha", 1)};
    if (node->op->kind == MYR_KIND_GELU)
        activation.kind = strcmp(myr_node_text(node, "approximate", "none"), "tanh") == 0 ? MYR_ACTIVATION_GELU_TANH
                                                                                          : MYR_ACTIVATION_GELU;
    /* Bounds that cross have a meaning in ONNX (the upper one wins) that no fused activation has. */
    if (activation.kind == MYR_ACTIVATION_CLIP && !(activation.low <= activation.high))
        return;
    for (size_t i = 0; i < sizeof takers / sizeof *takers; i++) {
        myr_node *before = myr_fusing_sole_producer(fuse, node, 0, takers[i]);
        if (!before || before->activation.kind != MYR_ACTIVATION_NONE ||
            fuse->graph->values[before->outputs[0]].type != MYR_TYPE_F32)
            continue;
        before->activation = activation;
        myr_fusing_absorb(fuse, before, node);
        return;
    }
}

/* Nodes whose output is their input: later nodes read the input. */
static myr_status skip_copies(myr_graph *graph)
{
    int *original = myr_alloc(graph->n_values, sizeof *original); /* of each value, itself unless it is a copy */
    bool *is_output = myr_alloc(graph->n_values, sizeof *is_output);
    if (!original || !is_output) {
        free(original);
        free(is_output);
        return myr_fail(MYR_ERR_NOMEM, "no memory to fuse the graph");
    }
    for (size_t i = 0; i < graph->n_values; i++)
        original[i] = (int)i;
    for (size_t i = 0; i < graph->n_outputs; i++)
        is_output[graph->outputs[i]] = true;
    for (size_t i = 0; i < graph->n_nodes; i++) {
        myr_node *node = &graph->nodes[i];
        for (int k = 0; k < node->n_inputs; k++)
            if (node->inputs[k] >= 0)
                node->inputs[k] = original[node->inputs[k]];
        if (node->op->kind != MYR_KIND_RESHAPE || node->inputs[0] < 0)
            continue;
        int from = node->inputs[0], to = node->outputs[0];
        if (is_output[to] || !myr_shape_equal(&graph->values[from].shape, &graph->values[to].shape))
            continue;
        original[to] = from;
        node->op = NULL;
    }
    free(original);
    free(is_output);
    myr_graph_compact(graph);
    return MYR_OK;
}

static myr_status fuse_node(myr_fusing *fuse, myr_node *node)
{
    myr_status status = MYR_OK;
    switch (myr_fusing_kind(node)) {
    case MYR_KIND_BATCH_NORMALIZATION:
        return fuse_normalisation(fuse, node);
    case MYR_KIND_CONV:
        return fuse_padding(fuse, node);
    case MYR_KIND_MATMUL:
        return myr_fusing_scaled_sides(fuse, node);
    case MYR_KIND_ADD:
        if (!fuse_residual(fuse, node, 1) && !fuse_residual(fuse, node, 0))
            status = myr_fusing_row(fuse, node);
        return status;
    case MYR_KIND_DIV:
        status = myr_fusing_layer_normalization(fuse, node);
        return status == MYR_OK && node->op->kind == MYR_KIND_DIV ? myr_fusing_factor(fuse, node) : status;
    case MYR_KIND_MUL:
        status = myr_fusing_gate(fuse, node);
        return status == MYR_OK && myr_fusing_kind(node) == MYR_KIND_MUL ? myr_fusing_factor(fuse, node) : status;
    case MYR_KIND_RELU:
    case MYR_KIND_CLIP:
    case MYR_KIND_GELU:
    case MYR_KIND_HARD_SWISH:
    case MYR_KIND_SWISH:
        myr_fusing_activation(fuse, node);
        return MYR_OK;
    default:
        return MYR_OK;
    }
}

myr_status myr_graph_fuse(myr_graph *graph)
{
    myr_fusing fuse = {.graph = graph};
    myr_status status = skip_copies(graph);
    if (status != MYR_OK)
        return status;
    fuse.n_values = graph->n_values;
    fuse.uses = myr_graph_count_uses(graph);
    fuse.producer = myr_graph_find_producers(graph);
    if (!fuse.uses || !fuse.producer)
        status = myr_fail(MYR_ERR_NOMEM, "no memory to fuse the graph");
    for (size_t i = 0; i < graph->n_nodes && status == MYR_OK; i++) {
        myr_node *node = &graph->nodes[i];
        status = fuse_node(&fuse, node);
    }
    free(fuse.uses);
    free(fuse.producer);
    if (status == MYR_OK) {
        myr_graph_compact(graph);
        status = myr_graph_prune(graph);
    }
    return status;
}
