/*
 * BatchNormalization that was not fused, Softmax and LayerNormalization over rows.
 */
#include "base/alloc.h"
#include "nn/openblas.h"

#include <math.h>
#include <stdlib.h>

/* ---- BatchNormalization ---- */

typedef struct scaling {
    const myr_openblas_kernels *kernels;
    size_t n_pixels, n_channels;
    float *factor, *offset; /* [owned] (n_channels) */
    myr_activation activation;
    int in, out;
} scaling;

static void free_scaling(void *memory)
{
    scaling *self = memory;
    if (self) {
        free(self->factor);
        free(self->offset);
    }
    free(self);
}

static myr_status run_scaling(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    (void)scratch;
    const scaling *self = step->state;
    const float *in = (const float *)address[self->in];
    float *out = (float *)address[self->out];
    for (size_t i = 0; i < self->n_pixels; i++, in += self->n_channels, out += self->n_channels) {
        self->kernels->scale(in, self->factor, self->offset, out, self->n_channels);
        myr_openblas_activate(self->kernels, &self->activation, out, self->n_channels);
    }
    return MYR_OK;
}

static const myr_step_kind scaling_step = {.name = "OpenBLAS", .run = run_scaling, .free = free_scaling};

static void fill_scaling(scaling *self, const myr_tensor *const constants[4], double epsilon)
{
    for (size_t c = 0; c < self->n_channels; c++) {
        double numbers[4];
        for (int i = 0; i < 4; i++)
            numbers[i] = (double)((const float *)constants[i]->data)[c];
        double factor = numbers[0] / sqrt(numbers[3] + epsilon);
        self->factor[c] = (float)factor;
        self->offset[c] = (float)(numbers[1] - numbers[2] * factor);
    }
}

myr_status myr_openblas_batch_normalization(myr_openblas_builder *build, const myr_node *node, bool *taken)
{
    const myr_shape *shape = &build->graph->values[node->inputs[0]].shape;
    const myr_tensor *constants[4];
    bool fits =
        myr_openblas_is_computed(build, node, 0) && (shape->rank == 4 || shape->rank == 2) && node->residual < 0;
    for (int i = 0; i < 4; i++) {
        constants[i] = myr_node_constant(build->graph, node, i + 1);
        fits = fits && constants[i];
    }
    if (!fits)
        return MYR_OK;
    scaling *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_openblas_no_memory(node);
    size_t n_channels = (size_t)shape->dims[1];
    *self = (scaling){.kernels = build->kernels,
                      .n_pixels = myr_shape_count(shape) / n_channels,
                      .n_channels = n_channels,
                      .factor = myr_alloc(n_channels, sizeof(float)),
                      .offset = myr_alloc(n_channels, sizeof(float)),
                      .activation = node->activation};
    myr_status status = self->factor && self->offset ? MYR_OK : myr_openblas_no_memory(node);
    if (status == MYR_OK)
        fill_scaling(self, constants, (double)myr_node_float(node, "epsilon", 1e-5f));
    if (status == MYR_OK)
        status = shape->rank == 4 ? myr_openblas_bring_pixels(build, node->inputs[0], &self->in)
                                  : myr_openblas_bring_plain(build, node->inputs[0], &self->in);
    if (status == MYR_OK)
        status = shape->rank == 4 ? myr_openblas_settle_pixels(build, node->outputs[0], &self->out)
                                  : myr_openblas_settle_plain(build, node->outputs[0], &self->out);
    if (status != MYR_OK) {
        free_scaling(self);
        return status;
    }
    *taken = true;
    return myr_program_add_step(build->compiler->program, &scaling_step, node->name, self, (int[]){self->in, self->out},
                                2, 0);
}

/* ---- Rows ---- */

typedef struct row_operator {
    const myr_openblas_kernels *kernels;
    bool is_softmax;
    size_t n_rows, n;
    const float *scale, *bias; /* [borrowed] from the graph */
    float epsilon;
    myr_activation activation;
    int in, out;
} row_operator;

static myr_status run_rows(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    (void)scratch;
    const row_operator *self = step->state;
    const float *in = (const float *)address[self->in];
    float *out = (float *)address[self->out];
    for (size_t i = 0; i < self->n_rows; i++, in += self->n, out += self->n) {
        if (self->is_softmax)
            self->kernels->softmax_row(in, out, self->n);
        else
            self->kernels->normalise_row(in, self->scale, self->bias, self->epsilon, out, self->n);
        myr_openblas_activate(self->kernels, &self->activation, out, self->n);
    }
    return MYR_OK;
}

static const myr_step_kind row_step = {.name = "OpenBLAS", .run = run_rows, .free = free};

/* What is one row: all from an axis on, or false where it is not that. */
static bool find_rows(const myr_openblas_builder *build, const myr_node *node, row_operator *self)
{
    const myr_graph *graph = build->graph;
    const myr_shape *shape = &graph->values[node->inputs[0]].shape;
    self->is_softmax = node->op->kind == MYR_KIND_SOFTMAX;
    bool old_softmax = self->is_softmax && graph->opset < 13; /* its axis and all behind are one row */
    int axis;
    if (!myr_axis_resolve(myr_node_int(node, "axis", old_softmax ? 1 : -1), shape->rank, &axis) ||
        (self->is_softmax && !old_softmax && axis != shape->rank - 1))
        return false;
    self->n_rows = self->n = 1;
    for (int d = 0; d < shape->rank; d++)
        *(d < axis ? &self->n_rows : &self->n) *= (size_t)shape->dims[d];
    if (self->is_softmax)
        return true;
    const myr_tensor *scale = myr_node_constant(graph, node, 1), *bias = myr_node_constant(graph, node, 2);
    for (int i = 1; i < node->n_outputs; i++)
        if (node->outputs[i] >= 0)
            return false;
    self->scale = scale ? scale->data : NULL;
    self->bias = bias ? bias->data : NULL;
    self->epsilon = myr_node_float(node, "epsilon", 1e-5f);
    return scale && (bias || node->n_inputs < 3 || node->inputs[2] < 0);
}

myr_status myr_openblas_row_operator(myr_openblas_builder *build, const myr_node *node, bool *taken)
{
    row_operator found = {.kernels = build->kernels, .activation = node->activation};
    if (!myr_openblas_is_computed(build, node, 0) || node->residual >= 0 || !find_rows(build, node, &found))
        return MYR_OK;
    row_operator *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_openblas_no_memory(node);
    *self = found;
    myr_status status = myr_openblas_bring_plain(build, node->inputs[0], &self->in);
    if (status == MYR_OK)
        status = myr_openblas_settle_plain(build, node->outputs[0], &self->out);
    if (status != MYR_OK) {
        free(self);
        return status;
    }
    *taken = true;
    status =
        myr_program_add_step(build->compiler->program, &row_step, node->name, self, (int[]){self->in, self->out}, 2, 0);
    for (int i = 1; i < node->n_inputs && status == MYR_OK; i++)
        myr_compiler_keep(build->compiler, node->inputs[i]);
    return status;
}
