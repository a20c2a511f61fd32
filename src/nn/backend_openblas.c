/*
 * The OpenBLAS backend: products of matrices by OpenBLAS, what lies between them by
 * loops of its own, all else by the reference implementations.
 */
#include "nn/openblas.h"

#include "base/alloc.h"
#include "kernel/kernel.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const myr_openblas_kernels *myr_openblas_kernels_get(void)
{
#if defined(__x86_64__)
    const char *name = myr_cpu_name();
    if (strncmp(name, "avx512", 6) == 0)
        return &myr_openblas_kernels_avx512;
    if (strcmp(name, "avx2") == 0 && __builtin_cpu_supports("fma"))
        return &myr_openblas_kernels_avx2;
#endif
    return &myr_openblas_kernels_portable;
}

myr_status myr_openblas_no_memory(const myr_node *node)
{
    return myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", node->name);
}

void myr_openblas_activate(const myr_openblas_kernels *kernels, const myr_activation *activation, float *y, size_t n)
{
    if (activation->kind == MYR_ACTIVATION_NONE)
        return;
    if (activation->kind == MYR_ACTIVATION_RELU)
        kernels->apply(MYR_FUNCTION_CLIP, 0, INFINITY, y, y, n);
    else if (activation->kind == MYR_ACTIVATION_CLIP)
        kernels->apply(MYR_FUNCTION_CLIP, activation->low, activation->high, y, y, n);
    else if (activation->kind == MYR_ACTIVATION_SWISH)
        kernels->apply(MYR_FUNCTION_SWISH, activation->alpha, 0, y, y, n);
    else if (activation->kind == MYR_ACTIVATION_GELU)
        kernels->apply(MYR_FUNCTION_GELU, 0, 0, y, y, n);
    else if (activation->kind == MYR_ACTIVATION_GELU_TANH)
        kernels->apply(MYR_FUNCTION_GELU_TANH, 0, 0, y, y, n);
    else
        myr_apply_fused(activation, NULL, y, n);
}

void myr_openblas_finish(const myr_openblas_kernels *kernels, const myr_activation *activation, const float *residual,
                         const float *bias, float *rows, size_t n_rows, size_t n)
{
    bool clips = activation->kind == MYR_ACTIVATION_CLIP, cuts = activation->kind == MYR_ACTIVATION_RELU;
    bool is_other = !clips && !cuts && activation->kind != MYR_ACTIVATION_NONE;
    if (residual || bias || clips || cuts)
        kernels->finish_rows(rows, residual, bias,
                             clips  ? activation->low
                             : cuts ? 0
                                    : -INFINITY,
                             clips ? activation->high : INFINITY, n_rows, n);
    if (is_other)
        myr_apply_fused(activation, NULL, rows, n_rows * n);
}

/* ---- Orders ---- */

typedef struct reorder {
    const myr_openblas_kernels *kernels;
    size_t n_pictures, n_rows, n_columns;
    int from, to;
} reorder;

static myr_status run_reorder(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    (void)scratch;
    const reorder *self = step->state;
    const float *from = (const float *)address[self->from];
    float *to = (float *)address[self->to];
    size_t n = self->n_rows * self->n_columns;
    for (size_t i = 0; i < self->n_pictures; i++)
        self->kernels->transpose(from + i * n, self->n_rows, self->n_columns, to + i * n);
    return MYR_OK;
}

static const myr_step_kind reorder_step = {.name = "OpenBLAS", .run = run_reorder, .free = free};

/* A step between the orders of a value. */
static myr_status add_reorder(myr_openblas_builder *build, int value, bool to_pixels, int from, int to)
{
    const myr_value *known = &build->graph->values[value];
    size_t n_channels = (size_t)known->shape.dims[1], plane = (size_t)(known->shape.dims[2] * known->shape.dims[3]);
    reorder *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_fail(MYR_ERR_NOMEM, "no memory to compile the network");
    *self = (reorder){.kernels = build->kernels,
                      .n_pictures = (size_t)known->shape.dims[0],
                      .n_rows = to_pixels ? n_channels : plane,
                      .n_columns = to_pixels ? plane : n_channels,
                      .from = from,
                      .to = to};
    return myr_program_add_step(build->compiler->program, &reorder_step, known->name, self, (int[]){from, to}, 2, 0);
}

/* Whether both orders of a value have the same bytes. */
static bool is_one_order(const myr_shape *shape)
{
    return shape->rank != 4 || shape->dims[1] == 1 || (shape->dims[2] == 1 && shape->dims[3] == 1);
}

bool myr_openblas_is_computed(const myr_openblas_builder *build, const myr_node *node, int i)
{
    if (i >= node->n_inputs || node->inputs[i] < 0)
        return false;
    const myr_value *value = &build->graph->values[node->inputs[i]];
    return !value->constant && value->type == MYR_TYPE_F32 && myr_shape_count(&value->shape) > 0;
}

const myr_shape *myr_openblas_shape(const myr_openblas_builder *build, int value)
{
    const myr_value *known = &build->graph->values[value];
    return known->constant ? &known->constant->shape : &known->shape;
}

bool myr_openblas_is_by_pixel(const myr_openblas_builder *build, int value)
{
    return build->pixels[value] >= 0 && !is_one_order(&build->graph->values[value].shape);
}

myr_status myr_openblas_settle_plain(myr_openblas_builder *build, int value, int *buffer)
{
    return myr_compiler_buffer(build->compiler, value, buffer);
}

myr_status myr_openblas_settle_pixels(myr_openblas_builder *build, int value, int *buffer)
{
    const myr_shape *shape = &build->graph->values[value].shape;
    myr_status status = MYR_OK;
    if (is_one_order(shape))
        status = myr_compiler_buffer(build->compiler, value, &build->pixels[value]);
    else if (build->pixels[value] < 0)
        status = myr_program_add_buffer(build->compiler->program, myr_shape_count(shape) * sizeof(float),
                                        &build->pixels[value]);
    *buffer = build->pixels[value];
    return status;
}

myr_status myr_openblas_bring_plain(myr_openblas_builder *build, int value, int *buffer)
{
    bool is_there = build->compiler->buffer[value] >= 0 || build->pixels[value] < 0;
    myr_status status = myr_compiler_buffer(build->compiler, value, buffer);
    return status != MYR_OK || is_there ? status : add_reorder(build, value, false, build->pixels[value], *buffer);
}

myr_status myr_openblas_bring_pixels(myr_openblas_builder *build, int value, int *buffer)
{
    bool is_there = build->pixels[value] >= 0 || is_one_order(&build->graph->values[value].shape);
    int plain;
    myr_status status = myr_openblas_settle_pixels(build, value, buffer);
    if (status == MYR_OK && !is_there)
        status = myr_compiler_buffer(build->compiler, value, &plain);
    return status != MYR_OK || is_there ? status : add_reorder(build, value, true, plain, *buffer);
}

/* ---- The backend ---- */

/* Which compiler takes an operator; NULL where none does. */
static myr_openblas_compile find_compiler(const myr_node *node)
{
    static const struct {
        const char *name;
        myr_openblas_compile compile;
    } table[] = {
        {"Conv", myr_openblas_convolution},
        {"Gemm", myr_openblas_product},
        {"MatMul", myr_openblas_stack_product},
        {"MaxPool", myr_openblas_pool},
        {"AveragePool", myr_openblas_pool},
        {"GlobalAveragePool", myr_openblas_mean},
        {"ReduceMean", myr_openblas_mean},
        {"Relu", myr_openblas_function},
        {"Clip", myr_openblas_function},
        {"Sigmoid", myr_openblas_function},
        {"Tanh", myr_openblas_function},
        {"Erf", myr_openblas_function},
        {"Exp", myr_openblas_function},
        {"Sqrt", myr_openblas_function},
        {"HardSigmoid", myr_openblas_function},
        {"HardSwish", myr_openblas_function},
        {"LeakyRelu", myr_openblas_function},
        {"Swish", myr_openblas_function},
        {"Gelu", myr_openblas_function},
        {"Add", myr_openblas_pair},
        {"Sub", myr_openblas_pair},
        {"Mul", myr_openblas_pair},
        {"Div", myr_openblas_pair},
        {"Concat", myr_openblas_concat},
        {"BatchNormalization", myr_openblas_batch_normalization},
        {"Softmax", myr_openblas_row_operator},
        {"LayerNormalization", myr_openblas_row_operator},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, node->op->name) == 0)
            return table[i].compile;
    return NULL;
}

/* By the reference implementation, on plain buffers. */
static myr_status compile_plainly(myr_openblas_builder *build, const myr_node *node)
{
    myr_status status = MYR_OK;
    int buffer;
    for (int i = 0; i < node->n_inputs && status == MYR_OK; i++)
        if (node->inputs[i] >= 0 && !build->graph->values[node->inputs[i]].constant)
            status = myr_openblas_bring_plain(build, node->inputs[i], &buffer);
    if (status == MYR_OK && node->residual >= 0)
        status = myr_openblas_bring_plain(build, node->residual, &buffer);
    if (status != MYR_OK)
        return status;
    bool is_alias = node->op->kind == MYR_KIND_RESHAPE && !build->graph->values[node->inputs[0]].constant;
    return is_alias ? myr_compiler_alias(build->compiler, node->inputs[0], node->outputs[0])
                    : myr_reference_add(build->compiler, node);
}

static myr_status compile_node(myr_openblas_builder *build, const myr_node *node)
{
    bool taken = false;
    const myr_value *out = node->outputs[0] >= 0 ? &build->graph->values[node->outputs[0]] : NULL;
    bool fits = out && out->type == MYR_TYPE_F32 && myr_shape_count(&out->shape) > 0 && myr_node_has_one_output(node);
    myr_openblas_compile compile_it = fits ? find_compiler(node) : NULL;
    myr_status status = compile_it ? compile_it(build, node, &taken) : MYR_OK;
    return status != MYR_OK || taken ? status : compile_plainly(build, node);
}

static myr_status compile(myr_compiler *compiler)
{
    const myr_graph *graph = compiler->graph;
    myr_openblas_builder build = {.compiler = compiler, .graph = graph, .kernels = myr_openblas_kernels_get()};
    build.pixels = myr_alloc(graph->n_values, sizeof *build.pixels);
    myr_status status = build.pixels ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to compile the network");
    for (size_t i = 0; build.pixels && i < graph->n_values; i++)
        build.pixels[i] = -1;
    for (size_t i = 0; i < graph->n_nodes && status == MYR_OK; i++)
        status = compile_node(&build, &graph->nodes[i]);
    for (size_t i = 0; i < graph->n_outputs && status == MYR_OK; i++) {
        int buffer;
        if (build.pixels[graph->outputs[i]] >= 0)
            status = myr_openblas_bring_plain(&build, graph->outputs[i], &buffer);
    }
    free(build.pixels);
    return status;
}

/* Sessions run one to a core: OpenBLAS must not start threads of its own. */
static void enter_thread(void)
{
    openblas_set_num_threads(1);
}

const myr_backend myr_backend_openblas = {.name = "openblas", .compile = compile, .enter_thread = enter_thread};
