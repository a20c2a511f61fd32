/*
 * Softmax and LayerNormalization over the last dimensions on oneDNN. Rows may lie in any order.
 */
#include "nn/onednn.h"

#include "nn/operator.h"

/* Elements of a row; 0 where the axis is not the last. */
static int64_t row_length(const myr_graph *graph, const myr_node *node)
{
    const myr_shape *in = &graph->values[node->inputs[0]].shape;
    bool is_softmax = node->op->kind == MYR_KIND_SOFTMAX, over_rest = !is_softmax || graph->opset < 13;
    int axis;
    if (in->rank < 1 ||
        !myr_axis_resolve(myr_node_int(node, "axis", is_softmax && over_rest ? 1 : -1), in->rank, &axis) ||
        (!over_rest && axis != in->rank - 1))
        return 0;
    int64_t length = 1;
    for (int d = axis; d < in->rank; d++)
        length *= in->dims[d];
    return length;
}

/* A step on rows, from a planned primitive of two dimensions, which is taken over. sources[0] is to become the rows. */
static myr_status add_row_step(myr_onednn_builder *build, const myr_node *node, int64_t length,
                               dnnl_primitive_desc_t planned, int n, myr_onednn_source *sources)
{
    myr_parts order;
    int to;
    myr_status status = myr_onednn_bring_rows(build, node->inputs[0], length, &sources[0].buffer, &order);
    if (status == MYR_OK)
        status = myr_onednn_settle_rows(build, node->outputs[0], &order, length, build->type, &to);
    if (status == MYR_OK)
        return myr_onednn_add_writer(build, node->name, to, &sources[0].layout, planned, n, sources);
    dnnl_primitive_desc_destroy(planned);
    return status;
}

static bool set_rows(const myr_onednn_builder *build, const myr_node *node, int64_t length, dnnl_memory_desc_t *layout)
{
    int64_t n = (int64_t)myr_shape_count(&build->graph->values[node->inputs[0]].shape);
    return length > 0 && n > 0 && !build->graph->values[node->inputs[0]].constant && node->residual < 0 &&
           myr_onednn_set_layout(layout, build->type, 2, (int64_t[]){n / length, length}, dnnl_ab);
}

myr_status myr_onednn_softmax(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    int64_t length = row_length(build->graph, node);
    myr_onednn_source source = {.name = DNNL_ARG_SRC};
    dnnl_softmax_v2_desc_t descriptor;
    *taken = false;
    if (!set_rows(build, node, length, &source.layout) ||
        dnnl_softmax_v2_forward_desc_init(&descriptor, dnnl_forward_inference, dnnl_softmax_accurate, &source.layout,
                                          &source.layout, 1) != dnnl_success)
        return MYR_OK;
    dnnl_primitive_desc_t planned = myr_onednn_plan(build, &descriptor, myr_onednn_new_attributes());
    *taken = planned != NULL;
    return planned ? add_row_step(build, node, length, planned, 1, &source) : MYR_OK;
}

myr_status myr_onednn_layer_normalization(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    const myr_tensor *scale = myr_node_constant(build->graph, node, 1),
                     *bias = myr_node_constant(build->graph, node, 2);
    int64_t length = row_length(build->graph, node);
    myr_onednn_source sources[3] = {{.name = DNNL_ARG_SRC},
                                    {.name = DNNL_ARG_SCALE, .constant = scale ? scale->data : NULL},
                                    {.name = DNNL_ARG_SHIFT, .constant = bias ? bias->data : NULL}};
    dnnl_layer_normalization_desc_t descriptor;
    unsigned flags = dnnl_use_scale | (bias ? dnnl_use_shift : 0);
    *taken = false;
    if (!scale || (!bias && node->n_inputs > 2 && node->inputs[2] >= 0) || !myr_node_has_one_output(node) ||
        !set_rows(build, node, length, &sources[0].layout))
        return MYR_OK;
    for (int i = 1; i < 3; i++) {
        if (!myr_onednn_set_layout(&sources[i].layout, dnnl_f32, 1, &length, dnnl_a))
            return MYR_OK;
        sources[i].constant_layout = sources[i].layout;
    }
    if (dnnl_layer_normalization_forward_desc_init(&descriptor, dnnl_forward_inference, &sources[0].layout, NULL,
                                                   myr_node_float(node, "epsilon", 1e-5f), flags) != dnnl_success)
        return MYR_OK;
    dnnl_primitive_desc_t planned = myr_onednn_plan(build, &descriptor, myr_onednn_new_attributes());
    *taken = planned != NULL;
    return planned ? add_row_step(build, node, length, planned, bias ? 3 : 2, sources) : MYR_OK;
}
