/*
 * The oneDNN backend.
 *
 * Every value has the layout that the primitive before it liked best (format "any"), so
 * that blocked layouts stay inside the graph; a value is brought into another one only
 * where the next primitive cannot take it. Weights are reordered once.
 * Source: oneDNN 2.6 developer guide.
 */
#include "nn/onednn.h"

#include "base/alloc.h"
#include "nn/operator.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* A window as oneDNN wants it: dilation counts the cells left out. */
typedef struct window_dims {
    dnnl_dims_t kernel, stride, dilation, pad_begin, pad_end;
} window_dims;

static window_dims as_dims(const myr_window *window)
{
    window_dims all = {0};
    for (int i = 0; i < 2; i++) {
        all.kernel[i] = window->kernel[i];
        all.stride[i] = window->stride[i];
        all.dilation[i] = window->dilation[i] - 1;
        all.pad_begin[i] = window->pad_begin[i];
        all.pad_end[i] = window->pad_end[i];
    }
    return all;
}

static myr_status compile_pool(myr_onednn_builder *build, const myr_node *node, bool global, bool *taken)
{
    const myr_graph *graph = build->graph;
    const myr_shape *in = &graph->values[node->inputs[0]].shape, *out = &graph->values[node->outputs[0]].shape;
    myr_window window = {.stride = {1, 1}, .dilation = {1, 1}};
    dnnl_memory_desc_t source, result;
    dnnl_pooling_v2_desc_t descriptor;
    dnnl_primitive_desc_t planned;
    int from, to;
    *taken = false;
    const myr_onednn_place *place = &build->places[node->inputs[0]];
    bool stays_narrow = node->op->kind == MYR_KIND_MAX_POOL && place->scale > 0;
    float scale = stays_narrow ? place->scale : 0; /* a maximum needs no floats */
    if (in->rank != 4 || !myr_node_has_one_output(node))
        return MYR_OK;
    if (stays_narrow) {
        from = place->buffer;
        source = place->layout;
    } else if (!myr_onednn_bring_floats(build, node->inputs[0], &from, &source)) {
        return MYR_OK;
    }
    if (global) {
        memcpy(window.kernel, in->dims + 2, 2 * sizeof *window.kernel);
    } else if (myr_window_resolve(node, in, myr_node_attribute(node, "kernel_shape")->numbers, &window) != MYR_OK) {
        return MYR_OK;
    }
    bool count_pads = myr_node_int(node, "count_include_pad", 0) != 0;
    if (count_pads && myr_node_int(node, "ceil_mode", 0) != 0)
        return MYR_OK; /* cells beyond the padding would be counted */
    dnnl_alg_kind_t kind = node->op->kind == MYR_KIND_MAX_POOL ? dnnl_pooling_max
                           : count_pads                        ? dnnl_pooling_avg_include_padding
                                                               : dnnl_pooling_avg_exclude_padding;
    int64_t shape[4] = {in->dims[0], in->dims[1], 1, 1};
    for (int i = 0; i < 2 && !global; i++) {
        shape[i + 2] = out->dims[i + 2];
        /* As far as the last window reaches, which ceil_mode moves. */
        window.pad_end[i] = (shape[i + 2] - 1) * window.stride[i] + (window.kernel[i] - 1) * window.dilation[i] + 1 -
                            window.in[i] - window.pad_begin[i];
    }
    window_dims all = as_dims(&window);
    if (!myr_onednn_set_layout(&result, source.data_type, 4, shape, dnnl_format_tag_any) ||
        dnnl_pooling_v2_forward_desc_init(&descriptor, dnnl_forward_inference, kind, &source, &result, all.stride,
                                          all.kernel, all.dilation, all.pad_begin, all.pad_end) != dnnl_success)
        return MYR_OK;
    planned = myr_onednn_plan(build, &descriptor, myr_onednn_new_attributes());
    if (!planned)
        return MYR_OK;
    *taken = true;
    result = *myr_onednn_layout_of(planned, dnnl_query_dst_md, 0);
    myr_status status =
        myr_onednn_add_maker(build, node->name, node->outputs[0], planned, 1,
                             &(myr_onednn_source){.name = DNNL_ARG_SRC, .buffer = from, .layout = source});
    build->places[node->outputs[0]].scale = scale;
    to = build->places[node->outputs[0]].buffer;
    if (status == MYR_OK &&
        out->rank != 4) { /* a mean that dropped its dimensions: the plain layout has the same bytes */
        dnnl_memory_desc_t flat, plain;
        myr_shape square = {.rank = 4, .dims = {shape[0], shape[1], 1, 1}};
        int buffer;
        if (!myr_onednn_plain_layout(&square, &flat) || !myr_onednn_plain_layout(out, &plain))
            return myr_fail(MYR_ERR_INTERNAL, "node '%s': no plain layout", node->name);
        build->places[node->outputs[0]].buffer = -1;
        status = myr_compiler_buffer(build->compiler, node->outputs[0], &buffer);
        if (status == MYR_OK)
            status = myr_onednn_add_reorder(build, node->name, to, &result, buffer, &flat, 1);
    }
    return status;
}

static myr_status compile_global_mean(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    myr_status status = myr_onednn_mean_of_channels(build, node->name, node->inputs[0], node->outputs[0], taken);
    return status != MYR_OK || *taken ? status : compile_pool(build, node, true, taken);
}

/* A mean over height and width, whatever becomes of the two dimensions. */
static bool is_global_mean(const myr_graph *graph, const myr_node *node)
{
    const myr_attribute *given = myr_node_attribute(node, "axes");
    const myr_tensor *input = myr_node_constant(graph, node, 1);
    const int64_t *axes = given ? given->numbers : input ? input->data : NULL;
    size_t n = given ? given->n : input ? myr_shape_count(&input->shape) : 0;
    int first, second;
    return n == 2 && graph->values[node->inputs[0]].shape.rank == 4 && myr_axis_resolve(axes[0], 4, &first) &&
           myr_axis_resolve(axes[1], 4, &second) && first + second == 5 && (first == 2 || first == 3);
}

static myr_status compile_concat(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    int n = node->n_inputs, axis;
    const myr_value *values = build->graph->values;
    const myr_shape *out = &values[node->outputs[0]].shape;
    myr_onednn_source sources[MYR_ONEDNN_MAX_ARGUMENTS];
    dnnl_memory_desc_t layouts[MYR_ONEDNN_MAX_ARGUMENTS], target;
    dnnl_primitive_desc_t planned;
    *taken = false;
    if (n > MYR_ONEDNN_MAX_ARGUMENTS - 2 || !myr_axis_resolve(myr_node_int(node, "axis", 1), out->rank, &axis))
        return MYR_OK;
    for (int i = 0; i < n; i++) {
        const myr_value *value = &values[node->inputs[i]];
        sources[i] = (myr_onednn_source){.name = DNNL_ARG_MULTIPLE_SRC + i};
        if (value->constant) {
            sources[i].constant = value->constant->data;
            if (!myr_onednn_plain_layout(&value->constant->shape, &sources[i].constant_layout))
                return MYR_OK;
            sources[i].layout = sources[i].constant_layout;
            sources[i].layout.data_type = build->type;
        } else if (!myr_onednn_bring_floats(build, node->inputs[i], &sources[i].buffer, &sources[i].layout)) {
            return MYR_OK;
        }
        layouts[i] = sources[i].layout;
    }
    if (axis == 1) {
        myr_status status = myr_onednn_join_channels(build, node->name, node->outputs[0], n, sources, taken);
        if (status != MYR_OK || *taken)
            return status;
    }
    dnnl_primitive_attr_t attributes = myr_onednn_new_attributes();
    dnnl_status_t planning =
        attributes && myr_onednn_set_layout(&target, build->type, out->rank, out->dims, dnnl_format_tag_any)
            ? dnnl_concat_primitive_desc_create(&planned, &target, n, axis, layouts, attributes, build->engine)
            : dnnl_unimplemented;
    dnnl_primitive_attr_destroy(attributes);
    if (planning != dnnl_success)
        return MYR_OK;
    *taken = true;
    return myr_onednn_add_maker(build, node->name, node->outputs[0], planned, n, sources);
}

/* ---- The backend ---- */

/* By the reference implementation, on plain buffers. */
static myr_status compile_plainly(myr_onednn_builder *build, const myr_node *node)
{
    myr_status status = MYR_OK;
    for (int i = 0; i < node->n_inputs && status == MYR_OK; i++)
        if (node->inputs[i] >= 0 && !build->graph->values[node->inputs[i]].constant)
            status = myr_onednn_make_plain(build, node->inputs[i]);
    if (status == MYR_OK && node->residual >= 0)
        status = myr_onednn_make_plain(build, node->residual);
    if (status != MYR_OK)
        return status;
    if (node->op->kind != MYR_KIND_RESHAPE)
        return myr_reference_add(build->compiler, node);
    build->shared[node->inputs[0]] = build->shared[node->outputs[0]] = true;
    return myr_compiler_alias(build->compiler, node->inputs[0], node->outputs[0]);
}

static myr_status compile_node(myr_onednn_builder *build, const myr_node *node)
{
    bool taken = false;
    myr_status status = MYR_OK;
    bool is_float = node->outputs[0] >= 0 && build->graph->values[node->outputs[0]].type == MYR_TYPE_F32;
    if (is_float && myr_shape_count(&build->graph->values[node->outputs[0]].shape) > 0) {
        switch (node->op->kind) {
        case MYR_KIND_CONV:
            status = myr_onednn_inverted_residual(build, node, &taken);
            if (status == MYR_OK && !taken)
                status = myr_onednn_convolution(build, node, &taken);
            break;
        case MYR_KIND_MAX_POOL:
        case MYR_KIND_AVERAGE_POOL:
            status = compile_pool(build, node, false, &taken);
            break;
        case MYR_KIND_GLOBAL_AVERAGE_POOL:
            status = compile_global_mean(build, node, &taken);
            break;
        case MYR_KIND_REDUCE_MEAN:
            if (is_global_mean(build->graph, node))
                status = compile_global_mean(build, node, &taken);
            break;
        case MYR_KIND_ADD:
        case MYR_KIND_DIV:
        case MYR_KIND_MUL:
        case MYR_KIND_SUB:
            status = myr_onednn_pair(build, node, &taken);
            break;
        case MYR_KIND_CLIP:
        case MYR_KIND_GELU:
        case MYR_KIND_HARD_SWISH:
        case MYR_KIND_RELU:
        case MYR_KIND_SIGMOID:
        case MYR_KIND_SQRT:
        case MYR_KIND_SWISH:
        case MYR_KIND_TANH:
            status = myr_onednn_function(build, node, &taken);
            break;
        case MYR_KIND_CONCAT:
            status = compile_concat(build, node, &taken);
            break;
        case MYR_KIND_GEMM:
        case MYR_KIND_MATMUL:
            status = myr_onednn_product(build, node, &taken);
            break;
        case MYR_KIND_SOFTMAX:
            status = myr_onednn_softmax(build, node, &taken);
            break;
        case MYR_KIND_LAYER_NORMALIZATION:
            status = myr_onednn_layer_normalization(build, node, &taken);
            break;
        case MYR_KIND_GATHER:
        case MYR_KIND_RESHAPE:
        case MYR_KIND_SLICE:
        case MYR_KIND_SPLIT:
        case MYR_KIND_TRANSPOSE:
            status = myr_onednn_view(build, node, &taken);
            break;
        default:
            break;
        }
    }
    return status != MYR_OK || taken ? status : compile_plainly(build, node);
}

static void enter_thread(void)
{
    omp_set_num_threads(1); /* of this thread: sessions run one to a core */
}

/* Instruction sets are bits, each version holding those it builds on. */
static bool has_isa(dnnl_cpu_isa_t wanted)
{
    return ((int)dnnl_get_effective_cpu_isa() & (int)wanted) == (int)wanted;
}

/* The narrowest of what was asked for that the processor is fast and exact in: without VNNI, sums of products of
 * 8 bits overflow. */
static myr_precision narrow(myr_precision asked)
{
    if (asked == MYR_PRECISION_INT8 && (has_isa(dnnl_cpu_isa_avx512_core_vnni) || has_isa(dnnl_cpu_isa_avx2_vnni)))
        return MYR_PRECISION_INT8;
    return asked != MYR_PRECISION_F32 && has_isa(dnnl_cpu_isa_avx512_core_bf16) ? MYR_PRECISION_BF16
                                                                                : MYR_PRECISION_F32;
}

static void choose_precision(myr_onednn_builder *build)
{
    myr_compiler *compiler = build->compiler;
    myr_precision floats = narrow(compiler->asked == MYR_PRECISION_F32 ? MYR_PRECISION_F32 : MYR_PRECISION_BF16);
    build->type = floats == MYR_PRECISION_BF16 ? dnnl_bf16 : dnnl_f32;
    if (narrow(MYR_PRECISION_INT8) != MYR_PRECISION_INT8)
        compiler->calibration = NULL;
    compiler->precision = compiler->calibration ? MYR_PRECISION_INT8 : floats;
}

static myr_status compile(myr_compiler *compiler)
{
    const myr_graph *graph = compiler->graph;
    myr_onednn_builder build = {.compiler = compiler, .graph = graph, .type = dnnl_f32};
    choose_precision(&build);
    dnnl_status_t made = dnnl_engine_create(&build.engine, dnnl_cpu, 0);
    if (made != dnnl_success)
        return myr_onednn_library_failed(made, "making an engine");
    compiler->state = build.engine;
    build.places = myr_alloc(graph->n_values, sizeof *build.places);
    build.shared = myr_alloc(graph->n_values, sizeof *build.shared);
    build.uses = myr_graph_count_uses(graph);
    build.is_done = myr_alloc(graph->n_nodes, sizeof *build.is_done);
    myr_status status = build.places && build.shared && build.uses && build.is_done
                            ? MYR_OK
                            : myr_fail(MYR_ERR_NOMEM, "no memory to compile the network");
    for (size_t i = 0; build.places && i < graph->n_values; i++)
        build.places[i].buffer = -1;
    for (size_t i = 0; i < graph->n_nodes && status == MYR_OK; i++) {
        build.node_place = (int)i;
        if (!build.is_done[i])
            status = compile_node(&build, &graph->nodes[i]);
    }
    for (size_t i = 0; i < graph->n_outputs && status == MYR_OK; i++)
        status = myr_onednn_make_plain(&build, graph->outputs[i]);
    free(build.places);
    free(build.shared);
    free(build.uses);
    free(build.is_done);
    return status;
}

static void release(void *state)
{
    if (state)
        dnnl_engine_destroy(state);
}

static myr_status open_session(void *state, void **session)
{
    dnnl_stream_t stream;
    dnnl_status_t status = dnnl_stream_create(&stream, state, dnnl_stream_default_flags);
    *session = status == dnnl_success ? stream : NULL;
    return status == dnnl_success ? MYR_OK : myr_onednn_library_failed(status, "making a stream");
}

static void close_session(void *session)
{
    dnnl_stream_destroy(session);
}

const myr_backend myr_backend_onednn = {.name = "onednn",
                                        .compile = compile,
                                        .narrow = narrow,
                                        .release = release,
                                        .open_session = open_session,
                                        .close_session = close_session,
                                        .enter_thread = enter_thread};
