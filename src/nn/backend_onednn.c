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

#include <float.h>
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
        myr_onednn_add_maker(build, node->name, node->outputs[0], planned, 1, (int[]){DNNL_ARG_SRC}, &from, &source);
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

/* Blocks of fewer channels than a vector register holds. oneDNN 2.6's binary primitive computes wrong values in
 * such layouts when an activation is fused behind it. */
static bool has_small_blocks(const dnnl_memory_desc_t *layout)
{
    const dnnl_blocking_desc_t *blocking = &layout->format_desc.blocking;
    return blocking->inner_nblks > 0 && blocking->inner_blks[0] < 8;
}

myr_status myr_onednn_binary(myr_onednn_builder *build, const char *label, const int sides[2], int result,
                             dnnl_alg_kind_t kind, const myr_activation *activation, bool *taken)
{
    const myr_graph *graph = build->graph;
    const myr_shape *a = &graph->values[sides[0]].shape, *b = &graph->values[sides[1]].shape,
                    *out = &graph->values[result].shape;
    dnnl_memory_desc_t left, right, target;
    dnnl_binary_desc_t descriptor;
    dnnl_primitive_desc_t planned;
    int from[2];
    *taken = false;
    if (a->rank != out->rank || b->rank != out->rank || !myr_shape_equal(a, out) ||
        !myr_onednn_bring_floats(build, sides[0], &from[0], &left) ||
        !myr_onednn_bring_floats(build, sides[1], &from[1], &right))
        return MYR_OK;
    if (activation->kind != MYR_ACTIVATION_NONE && has_small_blocks(&left)) {
        myr_status status =
            myr_onednn_plain_layout(a, &left) ? myr_onednn_bring(build, sides[0], &left, 1, &from[0]) : MYR_OK;
        if (status != MYR_OK)
            return status;
    }
    if (myr_shape_equal(a, b) || has_small_blocks(&right)) {
        right = left;
        if (!myr_shape_equal(a, b) && !myr_onednn_plain_layout(b, &right))
            return MYR_OK;
        myr_status status = myr_onednn_bring(build, sides[1], &right, 1, &from[1]);
        if (status != MYR_OK)
            return status;
    }
    if (!myr_onednn_set_layout(&target, build->type, out->rank, out->dims, dnnl_format_tag_any) ||
        dnnl_binary_desc_init(&descriptor, kind, &left, &right, &target) != dnnl_success)
        return MYR_OK;
    planned = myr_onednn_plan(build, &descriptor, myr_onednn_fused_attributes(activation, NULL));
    if (!planned)
        return MYR_OK;
    *taken = true;
    return myr_onednn_add_maker(build, label, result, planned, 2, (int[]){DNNL_ARG_SRC_0, DNNL_ARG_SRC_1}, from,
                                (dnnl_memory_desc_t[]){left, right});
}

static myr_status compile_binary(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    const myr_value *values = build->graph->values;
    int sides[2] = {node->inputs[0], node->inputs[1]};
    *taken = false;
    if (values[sides[0]].constant || values[sides[1]].constant || node->residual >= 0)
        return MYR_OK;
    if (!myr_shape_equal(&values[sides[0]].shape, &values[node->outputs[0]].shape)) {
        sides[0] = node->inputs[1];
        sides[1] = node->inputs[0];
    }
    dnnl_alg_kind_t kind = node->op->kind == MYR_KIND_ADD ? dnnl_binary_add : dnnl_binary_mul;
    if (kind == dnnl_binary_mul && node->activation.kind == MYR_ACTIVATION_NONE) {
        myr_status status = myr_onednn_scale_channels(build, node->name, sides[0], sides[1], node->outputs[0], taken);
        if (status != MYR_OK || *taken)
            return status;
    }
    return myr_onednn_binary(build, node->name, sides, node->outputs[0], kind, &node->activation, taken);
}

/* Functions of one value that could not be fused. */
static myr_status compile_function(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    const myr_tensor *low = myr_node_constant(build->graph, node, 1), *high = myr_node_constant(build->graph, node, 2);
    for (int i = 1; i < node->n_inputs; i++)
        if (node->inputs[i] >= 0 && !myr_node_constant(build->graph, node, i)) { /* bounds that are computed */
            *taken = false;
            return MYR_OK;
        }
    float least = low ? *(const float *)low->data : myr_node_float(node, "min", -FLT_MAX);
    float most = high ? *(const float *)high->data : myr_node_float(node, "max", FLT_MAX);
    dnnl_alg_kind_t kind = node->op->kind == MYR_KIND_RELU         ? dnnl_eltwise_relu
                           : node->op->kind == MYR_KIND_CLIP       ? dnnl_eltwise_clip
                           : node->op->kind == MYR_KIND_HARD_SWISH ? dnnl_eltwise_hardswish
                                                                   : dnnl_eltwise_logistic;
    dnnl_memory_desc_t layout;
    dnnl_eltwise_desc_t descriptor;
    dnnl_primitive_desc_t planned;
    int from;
    *taken = false;
    /* Bounds that cross or are no numbers, and those that no finite range holds, are the reference's. */
    bool clips = kind == dnnl_eltwise_clip;
    if (clips && !(least <= most && least <= FLT_MAX && most >= -FLT_MAX))
        return MYR_OK;
    if (!myr_onednn_bring_floats(build, node->inputs[0], &from, &layout) ||
        dnnl_eltwise_forward_desc_init(&descriptor, dnnl_forward_inference, kind, &layout, clips ? least : 0,
                                       clips ? most : 0) != dnnl_success)
        return MYR_OK;
    planned = myr_onednn_plan(build, &descriptor, myr_onednn_new_attributes());
    if (!planned)
        return MYR_OK;
    *taken = true;
    return myr_onednn_add_maker(build, node->name, node->outputs[0], planned, 1, (int[]){DNNL_ARG_SRC}, &from, &layout);
}

static myr_status compile_concat(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    int n = node->n_inputs, axis, names[MYR_ONEDNN_MAX_ARGUMENTS], buffers[MYR_ONEDNN_MAX_ARGUMENTS];
    const myr_shape *out = &build->graph->values[node->outputs[0]].shape;
    dnnl_memory_desc_t layouts[MYR_ONEDNN_MAX_ARGUMENTS], target;
    dnnl_primitive_desc_t planned;
    *taken = false;
    if (n > MYR_ONEDNN_MAX_ARGUMENTS - 2 || !myr_axis_resolve(myr_node_int(node, "axis", 1), out->rank, &axis))
        return MYR_OK;
    for (int i = 0; i < n; i++)
        if (build->graph->values[node->inputs[i]].constant ||
            !myr_onednn_bring_floats(build, node->inputs[i], &buffers[i], &layouts[i]))
            return MYR_OK;
    if (axis == 1) {
        myr_status status = myr_onednn_join_channels(build, node->name, node->outputs[0], n, buffers, layouts, taken);
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
    for (int j = 0; j < n; j++)
        names[j] = DNNL_ARG_MULTIPLE_SRC + j;
    return myr_onednn_add_maker(build, node->name, node->outputs[0], planned, n, names, buffers, layouts);
}

/* What a product multiplies by, with alpha and beta applied. */
typedef struct factors {
    int64_t m, n, k;
    float *weights;  /* [owned] as in the file, (n, k) or (k, n) */
    float *bias;     /* [owned] (n) or NULL */
    bool transposed; /* (n, k) */
} factors;

/* false where the node is no product of rows by a constant matrix and a constant row. */
static bool find_factors(const myr_graph *graph, const myr_node *node, factors *found)
{
    const myr_tensor *b = myr_node_constant(graph, node, 1), *bias = myr_node_constant(graph, node, 2);
    const myr_shape *a = &graph->values[node->inputs[0]].shape;
    float alpha = myr_node_float(node, "alpha", 1), beta = myr_node_float(node, "beta", 1);
    *found = (factors){.transposed = myr_node_int(node, "transB", 0) != 0};
    if (!b || b->shape.rank != 2 || a->rank < 2 || myr_node_int(node, "transA", 0) != 0 ||
        (node->n_inputs > 2 && node->inputs[2] >= 0 && !bias))
        return false;
    found->k = b->shape.dims[found->transposed ? 1 : 0];
    found->n = b->shape.dims[found->transposed ? 0 : 1];
    found->m = found->k > 0 ? (int64_t)myr_shape_count(a) / found->k : 0;
    size_t n_bias = bias ? myr_shape_count(&bias->shape) : 0, count = myr_shape_count(&b->shape);
    if (found->m < 1 || found->n < 1 || (bias && n_bias != 1 && n_bias != (size_t)found->n) ||
        (bias && bias->shape.rank == 2 && bias->shape.dims[0] != 1))
        return false;
    found->weights = myr_alloc(count, sizeof(float));
    found->bias = bias ? myr_alloc((size_t)found->n, sizeof(float)) : NULL;
    for (size_t i = 0; found->weights && i < count; i++)
        found->weights[i] = alpha * ((const float *)b->data)[i];
    for (int64_t i = 0; found->bias && i < found->n; i++)
        found->bias[i] = beta * ((const float *)bias->data)[n_bias == 1 ? 0 : i];
    return found->weights && (!bias || found->bias);
}

/* The value, which is there in plain layout, as rows: in this layout of rank 2, whatever its own rank. */
static myr_status bring_rows(myr_onednn_builder *build, int value, const dnnl_memory_desc_t *rows, int *buffer)
{
    dnnl_memory_desc_t plain = *rows;
    int from;
    myr_status status = myr_compiler_buffer(build->compiler, value, &from);
    *buffer = from;
    if (status != MYR_OK || rows->data_type == dnnl_f32)
        return status;
    plain.data_type = dnnl_f32;
    status = myr_program_add_buffer(build->compiler->program, dnnl_memory_desc_get_size(rows), buffer);
    return status == MYR_OK
               ? myr_onednn_add_reorder(build, build->graph->values[value].name, from, &plain, *buffer, rows, 1)
               : status;
}

static myr_status add_product(myr_onednn_builder *build, const myr_node *node, const factors *all, bool *taken)
{
    int64_t source_dims[2] = {all->m, all->k}, weight_dims[2] = {all->n, all->k}, bias_dims[1] = {all->n},
            result_dims[2] = {all->m, all->n};
    dnnl_memory_desc_t source, weights, given, bias, result;
    dnnl_inner_product_desc_t descriptor;
    dnnl_primitive_desc_t planned;
    int from, to;
    *taken = false;
    if (!myr_onednn_set_layout(&source, build->type, 2, source_dims, dnnl_ab) ||
        !myr_onednn_set_layout(&result, dnnl_f32, 2, result_dims, dnnl_ab) ||
        !myr_onednn_set_layout(&weights, build->type, 2, weight_dims, dnnl_format_tag_any) ||
        !myr_onednn_set_layout(&given, dnnl_f32, 2, weight_dims, all->transposed ? dnnl_ab : dnnl_ba) ||
        !myr_onednn_set_layout(&bias, dnnl_f32, 1, bias_dims, dnnl_a) ||
        dnnl_inner_product_forward_desc_init(&descriptor, dnnl_forward_inference, &source, &weights,
                                             all->bias ? &bias : NULL, &result) != dnnl_success)
        return MYR_OK;
    planned = myr_onednn_plan(build, &descriptor, myr_onednn_fused_attributes(&node->activation, NULL));
    if (!planned)
        return MYR_OK;
    *taken = true;
    myr_onednn_call *self = myr_onednn_new_call(build);
    myr_status status = self ? myr_onednn_make_plain(build, node->inputs[0])
                             : myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", node->name);
    if (status == MYR_OK)
        status = bring_rows(build, node->inputs[0], &source, &from);
    if (status == MYR_OK)
        status = myr_compiler_buffer(build->compiler, node->outputs[0], &to);
    if (status == MYR_OK)
        status = myr_onednn_add_constant(build, self, DNNL_ARG_WEIGHTS, all->weights, &given,
                                         myr_onednn_layout_of(planned, dnnl_query_weights_md, 0), NULL);
    if (status == MYR_OK && all->bias)
        status = myr_onednn_add_constant(build, self, DNNL_ARG_BIAS, all->bias, &bias, &bias, NULL);
    if (status != MYR_OK) {
        dnnl_primitive_desc_destroy(planned);
        myr_onednn_free_call(self);
        return status;
    }
    myr_onednn_add_argument(self, DNNL_ARG_SRC, from, &source);
    myr_onednn_add_argument(self, DNNL_ARG_DST, to, &result);
    return myr_onednn_add_call(build, node->name, self, planned);
}

static myr_status compile_product(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    factors all;
    *taken = false;
    myr_status status = find_factors(build->graph, node, &all) ? add_product(build, node, &all, taken) : MYR_OK;
    free(all.weights);
    free(all.bias);
    return status;
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
        case MYR_KIND_MUL:
            status = compile_binary(build, node, &taken);
            break;
        case MYR_KIND_RELU:
        case MYR_KIND_CLIP:
        case MYR_KIND_HARD_SWISH:
        case MYR_KIND_SIGMOID:
            status = compile_function(build, node, &taken);
            break;
        case MYR_KIND_CONCAT:
            status = compile_concat(build, node, &taken);
            break;
        case MYR_KIND_GEMM:
        case MYR_KIND_MATMUL:
            status = compile_product(build, node, &taken);
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

/* The narrowest of what was asked for that the processor is fast and exact in: without VNNI, sums of products of
 * 8 bits overflow. */
static void choose_precision(myr_onednn_builder *build)
{
    myr_compiler *compiler = build->compiler;
    int isa = (int)dnnl_get_effective_cpu_isa(); /* a set of bits, each version holding those it builds on */
    bool has_bf16 = (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16,
         has_int8 = (isa & dnnl_cpu_isa_avx512_core_vnni) == dnnl_cpu_isa_avx512_core_vnni ||
                    (isa & dnnl_cpu_isa_avx2_vnni) == dnnl_cpu_isa_avx2_vnni;
    build->type = compiler->asked != MYR_PRECISION_F32 && has_bf16 ? dnnl_bf16 : dnnl_f32;
    if (!has_int8)
        compiler->calibration = NULL;
    compiler->precision = compiler->calibration      ? MYR_PRECISION_INT8
                          : build->type == dnnl_bf16 ? MYR_PRECISION_BF16
                                                     : MYR_PRECISION_F32;
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
                                        .release = release,
                                        .open_session = open_session,
                                        .close_session = close_session,
                                        .enter_thread = enter_thread};
