/*
 * Inverted residual blocks found in the graph, each as one step in place of its three convolutions.
 */
#include "nn/onednn.h"

#include "base/alloc.h"
#include "nn/block.h"
#include "nn/operator.h"

#include <stdlib.h>

typedef struct state {
    myr_block *block;
    int in, out; /* buffers */
    int64_t batch;
    size_t in_bytes, out_values; /* of one picture */
} state;

static void free_state(void *memory)
{
    state *self = memory;
    if (self)
        myr_block_free(self->block);
    free(self);
}

static myr_status run(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    const state *self = step->state;
    float *out = (float *)address[self->out];
    for (int64_t i = 0; i < self->batch; i++)
        myr_block_run(self->block, address[self->in] + (size_t)i * self->in_bytes, out + (size_t)i * self->out_values,
                      scratch);
    return MYR_OK;
}

static const myr_step_kind block_step = {.name = "block", .run = run, .free = free_state};

/* A convolution by constants. */
static bool is_convolution(const myr_onednn_builder *build, const myr_node *node)
{
    return node && node->op->kind == MYR_KIND_CONV && myr_node_constant(build->graph, node, 1) &&
           (node->n_inputs < 3 || node->inputs[2] < 0 || myr_node_constant(build->graph, node, 2));
}

static bool is_pointwise(const myr_onednn_builder *build, const myr_node *node, myr_window *window)
{
    const myr_shape *weights = &myr_node_constant(build->graph, node, 1)->shape;
    return weights->rank == 4 && weights->dims[2] == 1 && weights->dims[3] == 1 &&
           myr_node_int(node, "group", 1) == 1 &&
           myr_window_resolve(node, &build->graph->values[node->inputs[0]].shape, weights->dims + 2, window) ==
               MYR_OK &&
           window->stride[0] == 1 && window->stride[1] == 1 && window->out[0] == window->in[0] &&
           window->out[1] == window->in[1] && window->pad_begin[0] == 0 && window->pad_begin[1] == 0;
}

static bool is_depthwise(const myr_onednn_builder *build, const myr_node *node, myr_window *window)
{
    const myr_shape *weights = &myr_node_constant(build->graph, node, 1)->shape,
                    *in = &build->graph->values[node->inputs[0]].shape;
    return weights->rank == 4 && in->rank == 4 && weights->dims[1] == 1 && weights->dims[0] == in->dims[1] &&
           myr_node_int(node, "group", 1) == in->dims[1] &&
           myr_window_resolve(node, in, weights->dims + 2, window) == MYR_OK &&
           window->kernel[0] == window->kernel[1] && window->stride[0] == window->stride[1] &&
           window->dilation[0] == 1 && window->dilation[1] == 1;
}

/* The only node that reads a value, if its result is no output. */
static const myr_node *only_reader(const myr_onednn_builder *build, int value)
{
    const myr_node *found = NULL;
    if (build->uses[value] != 1)
        return NULL;
    for (size_t i = (size_t)build->node_place + 1; i < build->graph->n_nodes && !found; i++)
        if (build->graph->nodes[i].n_inputs > 0 && build->graph->nodes[i].inputs[0] == value)
            found = &build->graph->nodes[i];
    return is_convolution(build, found) ? found : NULL;
}

static const float *numbers(const myr_onednn_builder *build, const myr_node *node, int input)
{
    const myr_tensor *constant = node ? myr_node_constant(build->graph, node, input) : NULL;
    return constant ? constant->data : NULL;
}

static bool is_simple(const myr_activation *activation)
{
    return activation->kind == MYR_ACTIVATION_NONE || activation->kind == MYR_ACTIVATION_RELU ||
           activation->kind == MYR_ACTIVATION_CLIP;
}

/* The largest value of one that is never below zero. */
static bool find_most(const myr_onednn_builder *build, int value, float *most)
{
    float low;
    return myr_calibration_range(build->compiler->calibration, build->graph->values[value].name, &low, most) &&
           low >= 0;
}

/* The three nodes (expand NULL where the block begins with the depthwise one) as a block's options. */
static bool describe(const myr_onednn_builder *build, const myr_node *expand, const myr_node *depthwise,
                     const myr_node *projection, myr_block_options *options)
{
    myr_window window, unused;
    const myr_node *first = expand ? expand : depthwise;
    const myr_shape *in = &build->graph->values[first->inputs[0]].shape,
                    *out = &build->graph->values[projection->outputs[0]].shape;
    bool fits = in->rank == 4 && out->rank == 4 && in->dims[1] <= INT32_MAX &&
                (!expand || is_pointwise(build, expand, &unused)) && is_depthwise(build, depthwise, &window) &&
                is_pointwise(build, projection, &unused) && (!expand || expand->residual < 0) &&
                depthwise->residual < 0 && (projection->residual < 0 || projection->residual == first->inputs[0]) &&
                (!expand || is_simple(&expand->activation)) && is_simple(&depthwise->activation) &&
                is_simple(&projection->activation);
    if (!fits || in->dims[2] > 16384 || in->dims[3] > 16384 || in->dims[1] > 16384 || out->dims[1] > 16384)
        return false;
    *options = (myr_block_options){.height = (int)in->dims[2],
                                   .width = (int)in->dims[3],
                                   .n_in = (int)in->dims[1],
                                   .n_middle = (int)build->graph->values[depthwise->inputs[0]].shape.dims[1],
                                   .n_out = (int)out->dims[1],
                                   .out_height = (int)out->dims[2],
                                   .out_width = (int)out->dims[3],
                                   .kernel = (int)window.kernel[0],
                                   .stride = (int)window.stride[0],
                                   .pad_top = (int)window.pad_begin[0],
                                   .pad_left = (int)window.pad_begin[1],
                                   .expand = numbers(build, expand, 1),
                                   .expand_bias = numbers(build, expand, 2),
                                   .depthwise = numbers(build, depthwise, 1),
                                   .depthwise_bias = numbers(build, depthwise, 2),
                                   .project = numbers(build, projection, 1),
                                   .project_bias = numbers(build, projection, 2),
                                   .after_depthwise = depthwise->activation,
                                   .after_project = projection->activation,
                                   .adds_input = projection->residual >= 0};
    if (expand)
        options->after_expand = expand->activation;
    options->precision = MYR_PRECISION_INT8;
    if (build->compiler->way == MYR_IN_NARROW_BLOCKS && build->compiler->calibration &&
        !myr_names_hold(&build->compiler->calibration->wide_blocks, build->graph->values[depthwise->outputs[0]].name) &&
        find_most(build, expand ? expand->outputs[0] : depthwise->inputs[0], &options->expand_most) &&
        find_most(build, depthwise->outputs[0], &options->depthwise_most) && myr_block_is_possible(options))
        return true;
    options->precision = build->type == dnnl_bf16 ? MYR_PRECISION_BF16 : MYR_PRECISION_F32;
    /* In f32 and without an expansion there is no wide middle to save: oneDNN's convolutions are faster. */
    return (expand || options->precision == MYR_PRECISION_BF16) && myr_block_is_possible(options);
}

static myr_status add_step(myr_onednn_builder *build, const myr_node *first, const myr_node *last,
                           myr_block_options *options)
{
    const myr_shape *in = &build->graph->values[first->inputs[0]].shape,
                    *out = &build->graph->values[last->outputs[0]].shape;
    const myr_onednn_place *place = &build->places[first->inputs[0]];
    dnnl_memory_desc_t from, to;
    options->reads_floats = place->buffer < 0 || place->layout.data_type != dnnl_bf16; /* as its maker left it */
    state *self = myr_alloc(1, sizeof *self);
    myr_status status = self ? myr_block_create(options, &self->block)
                             : myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", last->name);
    if (status == MYR_OK &&
        (!myr_onednn_set_layout(&from, options->reads_floats ? dnnl_f32 : dnnl_bf16, 4, in->dims, dnnl_nhwc) ||
         !myr_onednn_set_layout(&to, dnnl_f32, 4, out->dims, dnnl_nhwc)))
        status = myr_fail(MYR_ERR_INTERNAL, "'%s': no layout", last->name);
    if (status == MYR_OK)
        status = myr_onednn_bring(build, first->inputs[0], &from, 1, &self->in);
    if (status == MYR_OK)
        status = myr_onednn_settle(build, last->outputs[0], &to, &self->out);
    if (status != MYR_OK) {
        free_state(self);
        return status;
    }
    self->batch = in->dims[0];
    self->in_bytes = myr_shape_count(in) / (size_t)in->dims[0] * dnnl_data_type_size(from.data_type);
    self->out_values = myr_shape_count(out) / (size_t)out->dims[0];
    status = myr_program_add_step(build->compiler->program, &block_step, last->name, self, (int[]){self->in, self->out},
                                  2, myr_block_scratch_bytes(self->block));
    if (status == MYR_OK)
        myr_program_add_packed(build->compiler->program, myr_block_weight_bytes(self->block));
    return status;
}

myr_status myr_onednn_inverted_residual(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    const myr_node *depthwise, *projection;
    myr_block_options options;
    *taken = false;
    if (build->compiler->way == MYR_LAYER_BY_LAYER || !is_convolution(build, node))
        return MYR_OK;
    depthwise = only_reader(build, node->outputs[0]);
    projection = depthwise ? only_reader(build, depthwise->outputs[0]) : NULL;
    const myr_node *expand = node;
    if (!projection || !describe(build, expand, depthwise, projection, &options)) {
        expand = NULL; /* a block that begins with its depthwise part */
        projection = depthwise;
        depthwise = node;
        if (!projection || !describe(build, NULL, depthwise, projection, &options))
            return MYR_OK;
    }
    *taken = true;
    build->is_done[depthwise - build->graph->nodes] = true;
    build->is_done[projection - build->graph->nodes] = true;
    return add_step(build, node, projection, &options);
}
