/*
 * The reference backend: every node by its slow and plain implementation. The oracle of
 * the others, and what they fall back to.
 */
#include "base/alloc.h"
#include "nn/backend.h"
#include "nn/operator.h"

#include <math.h>
#include <stdlib.h>

typedef struct state {
    const myr_graph *graph;
    const myr_node *node;
    int *in, *out; /* (n_inputs), (n_outputs) buffers, -1 where constant or left out */
    int residual;  /* buffer or -1 */
} state;

typedef struct bound {
    myr_operation operation;
    const myr_tensor **in;
    myr_tensor *tensors;
    const float *residual;
} bound;

static void free_state(void *memory)
{
    state *self = memory;
    if (!self)
        return;
    free(self->in);
    free(self->out);
    free(self);
}

static void unbind(void *memory)
{
    bound *self = memory;
    if (!self)
        return;
    free(self->in);
    free(self->tensors);
    free(self);
}

static myr_status bind(const myr_step *step, void *session, char *const *address, char *scratch, void **out)
{
    (void)session;
    (void)scratch;
    const state *self = step->state;
    const myr_node *node = self->node;
    const myr_graph *graph = self->graph;
    bound *mine = myr_alloc(1, sizeof *mine);
    if (!mine)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a session");
    mine->in = myr_alloc((size_t)node->n_inputs, sizeof(myr_tensor *));
    mine->tensors = myr_alloc((size_t)node->n_inputs + (size_t)node->n_outputs, sizeof *mine->tensors);
    if (!mine->in || !mine->tensors) {
        unbind(mine);
        return myr_fail(MYR_ERR_NOMEM, "no memory for a session");
    }
    for (int i = 0; i < node->n_inputs; i++) {
        const myr_value *value = node->inputs[i] >= 0 ? &graph->values[node->inputs[i]] : NULL;
        if (!value)
            continue;
        mine->tensors[i] = (myr_tensor){.type = value->type, .shape = value->shape};
        mine->in[i] = value->constant ? value->constant : &mine->tensors[i];
        if (!value->constant)
            mine->tensors[i].data = address[self->in[i]];
    }
    myr_tensor *results = mine->tensors + node->n_inputs;
    for (int i = 0; i < node->n_outputs; i++) {
        if (node->outputs[i] < 0)
            continue;
        const myr_value *value = &graph->values[node->outputs[i]];
        results[i] = (myr_tensor){.type = value->type, .shape = value->shape, .data = address[self->out[i]]};
    }
    mine->residual = self->residual >= 0 ? (const float *)address[self->residual] : NULL;
    mine->operation = (myr_operation){.node = node,
                                      .opset = graph->opset,
                                      .file_batch = graph->file_batch,
                                      .batch = graph->batch,
                                      .in = mine->in,
                                      .out = results};
    *out = mine;
    return MYR_OK;
}

void myr_apply_fused(const myr_activation *activation, const float *residual, float *y, size_t n)
{
    if (residual)
        for (size_t i = 0; i < n; i++)
            y[i] += residual[i];
    if (activation->kind == MYR_ACTIVATION_RELU)
        for (size_t i = 0; i < n; i++)
            y[i] = y[i] < 0 ? 0 : y[i];
    if (activation->kind == MYR_ACTIVATION_CLIP) {
        float low = activation->low, high = activation->high;
        for (size_t i = 0; i < n; i++) {
            float x = y[i] < low ? low : y[i];
            y[i] = x > high ? high : x;
        }
    }
    if (activation->kind == MYR_ACTIVATION_SWISH)
        for (size_t i = 0; i < n; i++)
            y[i] = y[i] / (1 + expf(-activation->alpha * y[i]));
    if (activation->kind == MYR_ACTIVATION_HARD_SWISH)
        for (size_t i = 0; i < n; i++)
            y[i] *= fminf(fmaxf(y[i] / 6 + 0.5f, 0), 1);
    if (activation->kind == MYR_ACTIVATION_GELU)
        for (size_t i = 0; i < n; i++)
            y[i] *= 0.5f * (1 + erff(y[i] * 0.70710678f));
    if (activation->kind == MYR_ACTIVATION_GELU_TANH)
        for (size_t i = 0; i < n; i++)
            y[i] *= 0.5f * (1 + tanhf(0.79788456f * (y[i] + 0.044715f * y[i] * y[i] * y[i])));
}

static myr_status run(const myr_step *step, void *memory, char *const *address, char *scratch)
{
    (void)address;
    (void)scratch;
    const bound *self = memory;
    const myr_node *node = ((const state *)step->state)->node;
    myr_status status = node->op->compute(&self->operation);
    if (status == MYR_OK && self->operation.out[0].type == MYR_TYPE_F32)
        myr_apply_fused(&node->activation, self->residual, self->operation.out[0].data,
                        myr_shape_count(&self->operation.out[0].shape));
    return status;
}

static const myr_step_kind reference_step = {
    .name = "reference", .bind = bind, .unbind = unbind, .run = run, .free = free_state};

myr_status myr_compiler_buffer(myr_compiler *compiler, int value, int *buffer)
{
    const myr_value *known = &compiler->graph->values[value];
    myr_status status = MYR_OK;
    if (compiler->buffer[value] < 0)
        status = myr_program_add_buffer(compiler->program, myr_shape_count(&known->shape) * myr_type_bytes(known->type),
                                        &compiler->buffer[value]);
    *buffer = compiler->buffer[value];
    return status;
}

myr_status myr_compiler_alias(myr_compiler *compiler, int from, int to)
{
    int buffer;
    myr_status status = myr_compiler_buffer(compiler, from, &buffer);
    compiler->buffer[to] = buffer;
    return status;
}

void myr_compiler_keep(myr_compiler *compiler, int value)
{
    const myr_tensor *constant = value >= 0 ? compiler->graph->values[value].constant : NULL;
    if (!constant)
        return;
    compiler->is_kept[value] = true;
    compiler->program->steps[compiler->program->n_steps - 1].weight_bytes += myr_tensor_bytes(constant);
}

myr_status myr_reference_add(myr_compiler *compiler, const myr_node *node)
{
    const myr_graph *graph = compiler->graph;
    int n_buffers = 0, *buffers = myr_alloc((size_t)node->n_inputs + (size_t)node->n_outputs + 1, sizeof *buffers);
    state *self = myr_alloc(1, sizeof *self);
    if (self)
        *self = (state){.graph = graph,
                        .node = node,
                        .in = myr_alloc((size_t)node->n_inputs, sizeof(int)),
                        .out = myr_alloc((size_t)node->n_outputs, sizeof(int)),
                        .residual = -1};
    myr_status status = self && self->in && self->out && buffers
                            ? MYR_OK
                            : myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", node->name);
    for (int i = 0; i < node->n_inputs && status == MYR_OK; i++) {
        self->in[i] = -1;
        if (node->inputs[i] < 0 || graph->values[node->inputs[i]].constant)
            continue;
        status = myr_compiler_buffer(compiler, node->inputs[i], &self->in[i]);
        buffers[n_buffers++] = self->in[i];
    }
    for (int i = 0; i < node->n_outputs && status == MYR_OK; i++) {
        self->out[i] = -1;
        if (node->outputs[i] < 0)
            continue;
        status = myr_compiler_buffer(compiler, node->outputs[i], &self->out[i]);
        buffers[n_buffers++] = self->out[i];
    }
    if (status == MYR_OK && node->residual >= 0) {
        status = myr_compiler_buffer(compiler, node->residual, &self->residual);
        buffers[n_buffers++] = self->residual;
    }
    if (status == MYR_OK)
        status = myr_program_add_step(compiler->program, &reference_step, node->name, self, buffers, n_buffers, 0);
    else
        free_state(self);
    for (int i = 0; i < node->n_inputs && status == MYR_OK; i++)
        myr_compiler_keep(compiler, node->inputs[i]);
    free(buffers);
    return status;
}

static myr_status compile(myr_compiler *compiler)
{
    myr_status status = MYR_OK;
    for (size_t i = 0; i < compiler->graph->n_nodes && status == MYR_OK; i++) {
        const myr_node *node = &compiler->graph->nodes[i];
        if (node->op->kind == MYR_KIND_RESHAPE)
            status = myr_compiler_alias(compiler, node->inputs[0], node->outputs[0]);
        else
            status = myr_reference_add(compiler, node);
    }
    return status;
}

const myr_backend myr_backend_reference = {.name = "reference", .compile = compile};
