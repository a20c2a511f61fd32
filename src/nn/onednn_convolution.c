/*
 * Convolutions on oneDNN, in floats or in 8 bits.
 *
 * In 8 bits a value v is stored as round(v / scale), signed or not as its calibrated range
 * wants it; weights have a scale for each output channel. Sums are 32 bits wide; the
 * primitive brings them to the scale of the result, adds the residual and applies the
 * activation there. A result is stored in 8 bits where a convolution in 8 bits reads it.
 * Source: oneDNN 2.6 developer guide, "Int8 inference"; Krishnamoorthi 2018, arXiv:1806.08342.
 */
#include "nn/onednn.h"

#include "base/alloc.h"
#include "nn/operator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- What is kept in 8 bits ---- */

static bool has_range(const myr_onednn_builder *build, int value, float *low, float *high)
{
    const myr_calibration *calibration = build->compiler->calibration;
    return calibration && myr_calibration_range(calibration, build->graph->values[value].name, low, high) &&
           fmaxf(fabsf(*low), fabsf(*high)) > 0;
}

/* How a value is stored in 8 bits; false, and nothing set, where it has no range. */
static bool find_scale(const myr_onednn_builder *build, int value, dnnl_data_type_t *type, float *scale)
{
    float low, high;
    if (!has_range(build, value, &low, &high))
        return false;
    *type = low >= 0 ? dnnl_u8 : dnnl_s8;
    *scale = low >= 0 ? high / 255 : fmaxf(fabsf(low), fabsf(high)) / 127;
    return true;
}

static bool is_narrowed(const myr_onednn_builder *build, const myr_node *node)
{
    const myr_calibration *calibration = build->compiler->calibration;
    float low, high;
    return calibration && node->op->kind == MYR_KIND_CONV && myr_node_constant(build->graph, node, 1) &&
           has_range(build, node->inputs[0], &low, &high) &&
           !myr_names_hold(&calibration->wide, build->graph->values[node->outputs[0]].name);
}

/* Whether a convolution in 8 bits reads the value, straight or through a maximum. */
static bool is_read_narrow(const myr_onednn_builder *build, int value, bool through_maximum)
{
    const myr_graph *graph = build->graph;
    for (size_t i = (size_t)build->node_place + 1; i < graph->n_nodes; i++) {
        const myr_node *node = &graph->nodes[i];
        if (node->n_inputs < 1 || node->inputs[0] != value)
            continue;
        if (is_narrowed(build, node) ||
            (through_maximum && node->op->kind == MYR_KIND_MAX_POOL && is_read_narrow(build, node->outputs[0], false)))
            return true;
    }
    return false;
}

/* ---- One convolution ---- */

/* Everything about one convolution that is decided before its primitive is planned. */
typedef struct convolution {
    const myr_node *node;
    const myr_tensor *weights, *bias; /* bias may be NULL */
    int64_t n_groups;
    bool is_narrow;                            /* in 8 bits */
    dnnl_data_type_t source_type, result_type; /* of the values */
    float source_scale, result_scale;          /* 1 for floats */
    float *weight_scales;                      /* (n_out) [owned] NULL for floats */
    int sum_into;                              /* buffer of the residual, or -1 */
    float residual_scale;
    dnnl_data_type_t residual_type;
    dnnl_memory_desc_t source, kernel, given, offset, result;
} convolution;

static size_t n_out(const convolution *self)
{
    return (size_t)self->weights->shape.dims[0];
}

/* Largest magnitude of each output channel's weights over 127; 1 where all are zero. */
static bool find_weight_scales(convolution *self)
{
    size_t per_channel = myr_shape_count(&self->weights->shape) / n_out(self);
    const float *weight = self->weights->data;
    self->weight_scales = myr_alloc(n_out(self), sizeof(float));
    for (size_t o = 0; self->weight_scales && o < n_out(self); o++) {
        float most = 0;
        for (size_t i = 0; i < per_channel; i++)
            most = fmaxf(most, fabsf(*weight++));
        self->weight_scales[o] = most > 0 ? most / 127 : 1;
    }
    return self->weight_scales != NULL;
}

/* Whether the residual's buffer can become the result's: nobody reads it afterwards, or for the convolution itself. */
static bool can_sum_into(const myr_onednn_builder *build, const myr_node *node)
{
    int residual = node->residual;
    return build->places[residual].buffer >= 0 && !build->shared[residual] && node->inputs[0] != residual &&
           build->compiler->last_use[residual] == build->node_place && build->compiler->buffer[residual] < 0;
}

/* A window as oneDNN wants it: dilation counts the cells left out. */
static void as_dims(const myr_window *window, dnnl_dims_t stride, dnnl_dims_t dilation, dnnl_dims_t pads[2])
{
    for (int i = 0; i < 2; i++) {
        stride[i] = window->stride[i];
        dilation[i] = window->dilation[i] - 1;
        pads[0][i] = window->pad_begin[i];
        pads[1][i] = window->pad_end[i];
    }
}

/* Multiplications a picture up to which the layer that reads the pictures is computed in f32. */
#define MAX_EXACT_PRODUCTS 32e6

/* Errors of the first layer reach all others, and few channels make it cheap: where it is, it is not narrowed. Half of
 * what bf16 loses on EfficientNet-Lite0 was lost there. */
static bool is_cheap_first(const myr_onednn_builder *build, const convolution *self)
{
    const myr_graph *graph = build->graph;
    const int64_t *out = graph->values[self->node->outputs[0]].shape.dims;
    double per_channel = (double)myr_shape_count(&self->weights->shape) / (double)n_out(self);
    bool reads_pictures = false;
    for (size_t i = 0; i < graph->n_inputs; i++)
        reads_pictures |= graph->inputs[i] == self->node->inputs[0];
    return reads_pictures && per_channel * (double)out[1] * (double)out[2] * (double)out[3] <= MAX_EXACT_PRODUCTS;
}

/* Whether an activation of scaled values is the scaled activation, its bounds scaled too. */
static bool commutes_with_scale(const myr_activation *activation)
{
    return activation->kind == MYR_ACTIVATION_NONE || activation->kind == MYR_ACTIVATION_RELU ||
           activation->kind == MYR_ACTIVATION_CLIP;
}

/* Types, scales and layouts asked for; false where oneDNN has no layout for it. */
static bool describe(myr_onednn_builder *build, convolution *self)
{
    const myr_node *node = self->node;
    const myr_shape *in = &build->graph->values[node->inputs[0]].shape,
                    *out = &build->graph->values[node->outputs[0]].shape;
    const myr_onednn_place *from = &build->places[node->inputs[0]];
    const int64_t *kernel = self->weights->shape.dims;
    int64_t dims[5] = {self->n_groups, kernel[0] / self->n_groups, kernel[1], kernel[2], kernel[3]};
    int rank = self->n_groups > 1 ? 5 : 4;
    const int64_t *shape = rank == 5 ? dims : dims + 1;
    self->is_narrow = is_narrowed(build, node) && !is_cheap_first(build, self);
    dnnl_data_type_t float_type = is_cheap_first(build, self) ? dnnl_f32 : build->type;
    self->source_type = self->result_type = float_type;
    self->source_scale = self->result_scale = 1;
    if (self->is_narrow) {
        bool is_stored = from->buffer >= 0 && from->scale > 0;
        if (is_stored) {
            self->source_type = from->layout.data_type;
            self->source_scale = from->scale;
        } else if (!find_scale(build, node->inputs[0], &self->source_type, &self->source_scale)) {
            return false;
        }
        if (is_read_narrow(build, node->outputs[0], true) && commutes_with_scale(&node->activation))
            find_scale(build, node->outputs[0], &self->result_type, &self->result_scale);
    }
    dnnl_data_type_t weight_type = self->is_narrow ? dnnl_s8 : float_type;
    dnnl_format_tag_t tag = self->is_narrow ? dnnl_nhwc : dnnl_format_tag_any;
    return myr_onednn_set_layout(&self->source, self->source_type, 4, in->dims, tag) &&
           myr_onednn_set_layout(&self->kernel, weight_type, rank, shape, dnnl_format_tag_any) &&
           myr_onednn_set_layout(&self->given, dnnl_f32, rank, shape, rank == 5 ? dnnl_goihw : dnnl_oihw) &&
           myr_onednn_set_layout(&self->offset, dnnl_f32, 1, &out->dims[1], dnnl_a) &&
           myr_onednn_set_layout(&self->result, self->result_type, 4, out->dims, tag);
}

static bool is_narrow_type(dnnl_data_type_t type)
{
    return type == dnnl_u8 || type == dnnl_s8;
}

/* Whether a value lies as the result will, signs aside. */
static bool fits_result(const convolution *self, const myr_onednn_place *place)
{
    dnnl_memory_desc_t layout = place->layout;
    bool both_narrow = is_narrow_type(layout.data_type) && is_narrow_type(self->result_type);
    if (!both_narrow && layout.data_type != self->result_type)
        return false;
    layout.data_type = self->result_type;
    return !self->is_narrow || dnnl_memory_desc_equal(&layout, &self->result);
}

/* Where the residual is added: into its own buffer, or into a copy of it. Leaves sum_into -1 where that takes more. */
static myr_status place_residual(myr_onednn_builder *build, convolution *self)
{
    int residual = self->node->residual;
    self->sum_into = -1;
    if (residual < 0)
        return MYR_OK;
    const myr_onednn_place *place = &build->places[residual];
    if (can_sum_into(build, self->node) && fits_result(self, place)) {
        self->sum_into = place->buffer;
        self->residual_type = place->layout.data_type;
        self->residual_scale = place->scale > 0 ? place->scale : 1;
        if (!self->is_narrow)
            self->result = place->layout;
        return MYR_OK;
    }
    if (!self->is_narrow)
        return MYR_OK;
    self->residual_type = self->result_type;
    self->residual_scale = self->result_scale;
    myr_status status =
        myr_program_add_buffer(build->compiler->program, dnnl_memory_desc_get_size(&self->result), &self->sum_into);
    return status == MYR_OK ? myr_onednn_copy(build, residual, &self->result, self->result_scale, self->sum_into)
                            : status;
}

static dnnl_primitive_attr_t attributes_of(const convolution *self, const myr_activation *activation)
{
    myr_activation scaled = *activation;
    scaled.low /= self->result_scale;
    scaled.high /= self->result_scale;
    myr_onednn_sum sum = {.scale = self->residual_scale / self->result_scale, .type = self->residual_type};
    dnnl_primitive_attr_t attributes = myr_onednn_fused_attributes(&scaled, self->sum_into >= 0 ? &sum : NULL);
    float *factors = self->is_narrow ? myr_alloc(n_out(self), sizeof *factors) : NULL;
    for (size_t o = 0; factors && o < n_out(self); o++)
        factors[o] = self->source_scale * self->weight_scales[o] / self->result_scale;
    bool failed =
        self->is_narrow && (!factors || dnnl_primitive_attr_set_output_scales(attributes, (dnnl_dim_t)n_out(self),
                                                                              1 << 1, factors) != dnnl_success);
    free(factors);
    if (!failed)
        return attributes;
    dnnl_primitive_attr_destroy(attributes);
    return NULL;
}

/* layouts: of source and result, in place of self's. */
static dnnl_primitive_desc_t plan_by(const myr_onednn_builder *build, const convolution *self,
                                     const myr_activation *activation, dnnl_alg_kind_t algorithm,
                                     const dnnl_memory_desc_t layouts[2])
{
    dnnl_convolution_desc_t descriptor;
    dnnl_dims_t stride = {0}, dilation = {0}, pads[2] = {{0}};
    myr_window window;
    if (myr_window_resolve(self->node, &build->graph->values[self->node->inputs[0]].shape,
                           self->weights->shape.dims + 2, &window) != MYR_OK)
        return NULL;
    as_dims(&window, stride, dilation, pads);
    if (dnnl_dilated_convolution_forward_desc_init(&descriptor, dnnl_forward_inference, algorithm, &layouts[0],
                                                   &self->kernel, self->bias ? &self->offset : NULL, &layouts[1],
                                                   stride, dilation, pads[0], pads[1]) != dnnl_success)
        return NULL;
    return myr_onednn_plan(build, &descriptor, attributes_of(self, activation));
}

/* Fewer multiplications (Lavin & Gray 2016, arXiv:1509.09308), F(4x4, 3x3): twice as fast where enough tiles of a
 * batch share the transformed weights, which are four times as large, and where the transformed values, its scratch
 * memory, come in blocks that fit the caches. NULL elsewhere. */
#define MIN_WINOGRAD_TILES 32
#define MIN_WINOGRAD_CHANNELS 32
#define MAX_WINOGRAD_BYTES ((size_t)64 << 20)

static dnnl_primitive_desc_t plan_winograd(const myr_onednn_builder *build, const convolution *self,
                                           const myr_activation *activation)
{
    const int64_t *kernel = self->weights->shape.dims, *out = self->result.dims;
    int64_t n_tiles = out[0] * ((out[2] + 3) / 4) * ((out[3] + 3) / 4);
    if (self->n_groups > 1 || kernel[2] != 3 || kernel[3] != 3 || kernel[1] < MIN_WINOGRAD_CHANNELS ||
        n_tiles < MIN_WINOGRAD_TILES || self->sum_into >= 0)
        return NULL;
    const dnnl_memory_desc_t layouts[2] = {self->source, self->result};
    dnnl_primitive_desc_t planned = plan_by(build, self, activation, dnnl_convolution_winograd, layouts);
    const dnnl_memory_desc_t *scratch = planned ? myr_onednn_layout_of(planned, dnnl_query_scratchpad_md, 0) : NULL;
    if (!scratch || dnnl_memory_desc_get_size(scratch) <= MAX_WINOGRAD_BYTES)
        return planned;
    dnnl_primitive_desc_destroy(planned);
    return NULL;
}

/* In blocks of 16 channels, where oneDNN has code of its own for them. NULL elsewhere. Left to choose, it takes
 * channels side by side, in which depthwise convolutions and poolings are slower, and Winograd's would be between
 * reorders. */
static dnnl_primitive_desc_t plan_blocked(const myr_onednn_builder *build, const convolution *self,
                                          const myr_activation *activation)
{
    dnnl_memory_desc_t layouts[2] = {self->source, self->result};
    const char *by = "";
    if (self->result.dims[1] < 16 ||
        (self->source.dims[1] >= 16 &&
         !myr_onednn_set_layout(&layouts[0], dnnl_f32, 4, self->source.dims, dnnl_nChw16c)) ||
        (self->sum_into < 0 && !myr_onednn_set_layout(&layouts[1], dnnl_f32, 4, self->result.dims, dnnl_nChw16c)))
        return NULL;
    dnnl_primitive_desc_t planned = plan_by(build, self, activation, dnnl_convolution_direct, layouts);
    if (!planned || (dnnl_primitive_desc_query(planned, dnnl_query_impl_info_str, 0, &by) == dnnl_success &&
                     strncmp(by, "jit", 3) == 0))
        return planned;
    dnnl_primitive_desc_destroy(planned);
    return NULL;
}

/* Channels side by side, as a view of rows leaves them: blocks would be between reorders. */
static bool lies_by_pixel(const myr_onednn_builder *build, int value)
{
    const myr_onednn_place *place = &build->places[value];
    const dnnl_blocking_desc_t *blocking = &place->layout.format_desc.blocking;
    return place->buffer >= 0 && !place->is_view && place->layout.ndims == 4 && blocking->inner_nblks == 0 &&
           blocking->strides[1] == 1 && place->layout.dims[1] > 1 && place->layout.dims[2] * place->layout.dims[3] > 1;
}

static dnnl_primitive_desc_t plan(const myr_onednn_builder *build, const convolution *self,
                                  const myr_activation *activation)
{
    const dnnl_memory_desc_t layouts[2] = {self->source, self->result};
    bool has_wide_registers = (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core;
    dnnl_primitive_desc_t planned = NULL;
    if (build->type == dnnl_f32 && !build->compiler->calibration && has_wide_registers &&
        !lies_by_pixel(build, self->node->inputs[0])) {
        planned = plan_winograd(build, self, activation);
        if (!planned)
            planned = plan_blocked(build, self, activation);
    }
    return planned ? planned : plan_by(build, self, activation, dnnl_convolution_direct, layouts);
}

/* The bias, in units of the sums it is added to. */
static myr_status add_bias(myr_onednn_builder *build, const convolution *self, myr_onednn_call *call)
{
    const float *bias = self->bias->data;
    if (!self->is_narrow)
        return myr_onednn_add_constant(build, call, DNNL_ARG_BIAS, bias, &self->offset, &self->offset, NULL);
    float *scaled = myr_alloc(n_out(self), sizeof *scaled);
    for (size_t o = 0; scaled && o < n_out(self); o++)
        scaled[o] = bias[o] / (self->source_scale * self->weight_scales[o]);
    myr_status status =
        scaled ? myr_onednn_add_constant(build, call, DNNL_ARG_BIAS, scaled, &self->offset, &self->offset, NULL)
               : myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", self->node->name);
    free(scaled);
    return status;
}

static myr_status add_weights(myr_onednn_builder *build, const convolution *self, myr_onednn_call *call,
                              const dnnl_memory_desc_t *wanted)
{
    if (!self->is_narrow)
        return myr_onednn_add_constant(build, call, DNNL_ARG_WEIGHTS, self->weights->data, &self->given, wanted, NULL);
    float *factors = myr_alloc(n_out(self), sizeof *factors);
    for (size_t o = 0; factors && o < n_out(self); o++)
        factors[o] = 1 / self->weight_scales[o];
    myr_onednn_scales scales = {.n = (int64_t)n_out(self), .mask = self->n_groups > 1 ? 3 : 1, .factors = factors};
    myr_status status = factors ? myr_onednn_add_constant(build, call, DNNL_ARG_WEIGHTS, self->weights->data,
                                                          &self->given, wanted, &scales)
                                : myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", self->node->name);
    free(factors);
    return status;
}

/* Weights, bias, source and result of a planned convolution, which is taken over. */
static myr_status add_step(myr_onednn_builder *build, const convolution *self, dnnl_primitive_desc_t planned)
{
    const myr_node *node = self->node;
    const dnnl_memory_desc_t *result = myr_onednn_layout_of(planned, dnnl_query_dst_md, 0);
    int source, target = self->sum_into;
    float scale = is_narrow_type(self->result_type) ? self->result_scale : 0;
    myr_onednn_call *call = myr_onednn_new_call(build);
    myr_status status = call ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", node->name);
    if (status == MYR_OK)
        status = myr_onednn_bring(build, node->inputs[0], myr_onednn_layout_of(planned, dnnl_query_src_md, 0),
                                  self->source_scale, &source);
    if (status == MYR_OK)
        status = add_weights(build, self, call, myr_onednn_layout_of(planned, dnnl_query_weights_md, 0));
    if (status == MYR_OK && self->bias)
        status = add_bias(build, self, call);
    if (status == MYR_OK && target < 0)
        status = myr_program_add_buffer(build->compiler->program, dnnl_memory_desc_get_size(result), &target);
    if (status != MYR_OK) {
        myr_onednn_free_call(call);
        dnnl_primitive_desc_destroy(planned);
        return status;
    }
    build->places[node->outputs[0]] =
        (myr_onednn_place){.buffer = target, .layout = *result, .scale = scale, .floats = -1};
    myr_onednn_add_argument(call, DNNL_ARG_SRC, source, myr_onednn_layout_of(planned, dnnl_query_src_md, 0));
    myr_onednn_add_argument(call, DNNL_ARG_DST, target, result);
    return myr_onednn_add_call(build, node->name, call, planned);
}

myr_status myr_onednn_convolution(myr_onednn_builder *build, const myr_node *node, bool *taken)
{
    static const myr_activation none = {.kind = MYR_ACTIVATION_NONE};
    convolution self = {.node = node,
                        .weights = myr_node_constant(build->graph, node, 1),
                        .bias = myr_node_constant(build->graph, node, 2),
                        .n_groups = myr_node_int(node, "group", 1)};
    *taken = false;
    if (!self.weights || self.weights->shape.rank != 4 || (!self.bias && node->n_inputs > 2 && node->inputs[2] >= 0) ||
        !describe(build, &self))
        return MYR_OK;
    if (self.is_narrow && !find_weight_scales(&self))
        return myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", node->name);
    myr_status status = place_residual(build, &self);
    bool adds_later = node->residual >= 0 && self.sum_into < 0;
    dnnl_primitive_desc_t planned =
        status == MYR_OK ? plan(build, &self, adds_later ? &none : &node->activation) : NULL;
    if (planned) {
        *taken = true;
        status = add_step(build, &self, planned);
    }
    free(self.weight_scales);
    if (status != MYR_OK || !planned || !adds_later)
        return status;
    bool added;
    status = myr_onednn_binary(build, node->name, (int[]){node->outputs[0], node->residual}, node->outputs[0],
                               dnnl_binary_add, &node->activation, &added);
    if (status == MYR_OK && !added) { /* the reference computes both, once more */
        build->places[node->outputs[0]].buffer = -1;
        *taken = false;
    }
    return status;
}
