/*
 * A network: a graph compiled by a backend, and the sessions that run it.
 *
 * A session is one block of memory. Its first part holds the buffers by the program's
 * plan, its end what a step needs only while it runs.
 */
#include "nn/network.h"

#include "base/alloc.h"
#include "base/progress.h"
#include "nn/backend.h"
#include "nn/bind.h"
#include "nn/fuse.h"
#include "nn/operator.h"
#include "nn/work.h"

#include <stdlib.h>
#include <string.h>

struct myr_network {
    const myr_backend *backend;
    myr_graph *graph;
    myr_program program;
    myr_precision precision; /* computed in */
    void *state;             /* the backend's */
    int *inputs, *outputs;   /* buffers */
};

struct myr_session {
    const myr_network *network;
    char *arena;
    char **address;  /* (n_buffers) */
    void **bound;    /* (n_steps) */
    void *state;     /* the backend's */
    double *taken_s; /* (n_steps) when profiled, else NULL */
};

static const myr_backend *const backends[] = {
#ifdef MYRIOPS_ONEDNN
    &myr_backend_onednn,
#endif
    &myr_backend_openblas,
    &myr_backend_reference,
};
#define N_BACKENDS (sizeof backends / sizeof *backends)

const char *const *myr_backend_names(void)
{
    static const char *const names[] = {
#ifdef MYRIOPS_ONEDNN
        "onednn",
#endif
        "openblas", "reference", NULL};
    return names;
}

static const myr_backend *find_backend(const char *name)
{
    for (size_t i = 0; i < N_BACKENDS; i++)
        if (!name || strcmp(backends[i]->name, name) == 0)
            return backends[i];
    return NULL;
}

myr_precision myr_backend_precision(const char *name, myr_precision asked)
{
    const myr_backend *backend = find_backend(name);
    return backend && backend->narrow ? backend->narrow(asked) : MYR_PRECISION_F32;
}

static int *no_buffers(size_t n)
{
    int *buffers = myr_alloc(n, sizeof *buffers);
    for (size_t i = 0; buffers && i < n; i++)
        buffers[i] = -1;
    return buffers;
}

/* last_use of each value; inputs and outputs outlive every node. */
static int *find_last_uses(const myr_graph *graph)
{
    int *last = no_buffers(graph->n_values);
    for (size_t i = 0; last && i < graph->n_nodes; i++) {
        const myr_node *node = &graph->nodes[i];
        for (int j = 0; j < node->n_inputs; j++)
            if (node->inputs[j] >= 0)
                last[node->inputs[j]] = (int)i;
        if (node->residual >= 0)
            last[node->residual] = (int)i;
    }
    for (size_t i = 0; last && i < graph->n_inputs; i++)
        last[graph->inputs[i]] = INT32_MAX;
    for (size_t i = 0; last && i < graph->n_outputs; i++)
        last[graph->outputs[i]] = INT32_MAX;
    return last;
}

/* Which buffers hold inputs and outputs; those are not shared with others. */
static myr_status keep_ends(myr_network *network, const myr_compiler *compiler)
{
    const myr_graph *graph = network->graph;
    for (size_t i = 0; i < graph->n_inputs; i++) {
        network->inputs[i] = compiler->buffer[graph->inputs[i]];
        if (network->inputs[i] >= 0)
            network->program.buffers[network->inputs[i]].kept = true;
    }
    for (size_t i = 0; i < graph->n_outputs; i++) {
        network->outputs[i] = compiler->buffer[graph->outputs[i]];
        if (network->outputs[i] < 0)
            return myr_fail(MYR_ERR_UNSUPPORTED, "output '%s' does not depend on the input",
                            graph->values[graph->outputs[i]].name);
        network->program.buffers[network->outputs[i]].kept = true;
    }
    return MYR_OK;
}

/* Most constants are there a second time now, as the steps want them. What is known of their shapes stays. */
static void let_go(myr_graph *graph, const bool *is_kept)
{
    for (size_t i = 0; i < graph->n_values; i++) {
        myr_value *value = &graph->values[i];
        if (!value->constant || is_kept[i])
            continue;
        value->is_shaped = true;
        value->type = value->constant->type;
        value->shape = value->constant->shape;
        myr_tensor_free(value->constant);
        value->constant = NULL;
    }
}

static myr_status compile(myr_network *network, const myr_network_options *options, bool fuse)
{
    myr_graph *graph = network->graph;
    myr_status status = fuse ? myr_graph_fuse(graph) : MYR_OK;
    if (status != MYR_OK)
        return status;
    myr_compiler compiler = {.graph = graph,
                             .program = &network->program,
                             .buffer = no_buffers(graph->n_values),
                             .last_use = find_last_uses(graph),
                             .is_kept = myr_alloc(graph->n_values, sizeof(bool)),
                             .asked = options->precision,
                             .calibration = options->precision == MYR_PRECISION_INT8 ? options->calibration : NULL,
                             .way = myr_way_choose(options->calibration, options->precision)};
    network->inputs = no_buffers(graph->n_inputs);
    network->outputs = no_buffers(graph->n_outputs);
    if (!compiler.buffer || !compiler.last_use || !compiler.is_kept || !network->inputs || !network->outputs)
        status = myr_fail(MYR_ERR_NOMEM, "no memory to compile the network");
    for (size_t i = 0; i < graph->n_inputs && status == MYR_OK; i++) {
        int buffer;
        if (!graph->values[graph->inputs[i]].constant)
            status = myr_compiler_buffer(&compiler, graph->inputs[i], &buffer);
    }
    if (status == MYR_OK && network->backend->enter_thread)
        network->backend->enter_thread();
    if (status == MYR_OK)
        status = network->backend->compile(&compiler);
    network->state = compiler.state;
    network->precision = compiler.precision;
    if (status == MYR_OK)
        status = keep_ends(network, &compiler);
    if (status == MYR_OK)
        status = myr_program_lay_out(&network->program);
    if (status == MYR_OK)
        let_go(graph, compiler.is_kept);
    free(compiler.buffer);
    free(compiler.last_use);
    free(compiler.is_kept);
    return status;
}

myr_status myr_network_compile(myr_graph *graph, const myr_network_options *options, bool fuse, myr_network **out)
{
    *out = NULL;
    const char *backend = options->backend;
    const myr_backend *found = find_backend(backend);
    myr_network *network = found ? myr_alloc(1, sizeof *network) : NULL;
    if (!network) {
        myr_graph_free(graph);
        if (found)
            return myr_fail(MYR_ERR_NOMEM, "no memory for a network");
        return myr_fail(MYR_ERR_ARG, "no network backend '%s' is built in; there is: %s%s", backend,
                        N_BACKENDS == 3 ? "onednn, " : "", "openblas, reference");
    }
    *network = (myr_network){.backend = found, .graph = graph, .precision = MYR_PRECISION_F32};
    myr_status status = compile(network, options, fuse);
    if (status != MYR_OK) {
        myr_network_free(network);
        return status;
    }
    *out = network;
    return MYR_OK;
}

/* The graph's outputs become the values of these names. */
static myr_status choose_outputs(myr_graph *graph, const char *const *outputs, size_t n_outputs)
{
    int *chosen = no_buffers(n_outputs);
    if (!chosen)
        return myr_fail(MYR_ERR_NOMEM, "no memory for the outputs");
    for (size_t i = 0; i < n_outputs; i++) {
        chosen[i] = myr_graph_find(graph, outputs[i]);
        if (chosen[i] >= 0)
            continue;
        char list[512] = "";
        for (size_t j = 0; j < graph->n_outputs; j++) {
            strncat(list, j ? ", " : "", sizeof list - strlen(list) - 1);
            strncat(list, graph->values[graph->outputs[j]].name, sizeof list - strlen(list) - 1);
        }
        free(chosen);
        return myr_fail(MYR_ERR_NOT_FOUND, "the model has no tensor '%s'; its outputs are: %s", outputs[i], list);
    }
    free(graph->outputs);
    graph->outputs = chosen;
    graph->n_outputs = n_outputs;
    return MYR_OK;
}

static myr_status check_outputs(const myr_graph *graph, int batch)
{
    for (size_t i = 0; i < graph->n_outputs; i++) {
        const myr_value *value = &graph->values[graph->outputs[i]];
        char shape[128];
        if (!value->is_shaped || value->type != MYR_TYPE_F32 || value->shape.rank < 1 || value->shape.dims[0] != batch)
            return myr_fail(MYR_ERR_UNSUPPORTED,
                            "output '%s' has shape %s, not one row of floats for each of %d pictures", value->name,
                            myr_shape_text(&value->shape, shape, sizeof shape), batch);
    }
    return MYR_OK;
}

myr_status myr_network_graph(const myr_model *model, int batch, const char *const *outputs, size_t n_outputs,
                             myr_graph **out)
{
    myr_graph *graph;
    *out = NULL;
    if (batch < 1 || n_outputs < 1)
        return myr_fail(MYR_ERR_ARG, "a network needs a batch and an output");
    myr_status status = myr_graph_copy(model->graph, &graph);
    if (status != MYR_OK)
        return status;
    status = choose_outputs(graph, outputs, n_outputs);
    if (status == MYR_OK)
        status = myr_graph_bind(graph, batch);
    if (status == MYR_OK)
        status = check_outputs(graph, batch);
    if (status != MYR_OK) {
        myr_graph_free(graph);
        return status;
    }
    *out = graph;
    return MYR_OK;
}

myr_status myr_network_create(const myr_model *model, const myr_network_options *options, const char *const *outputs,
                              size_t n_outputs, myr_network **network)
{
    myr_graph *graph;
    *network = NULL;
    if (options->precision == MYR_PRECISION_INT8 && !options->calibration)
        return myr_fail(MYR_ERR_ARG, "8 bits need a calibration: the ranges of the network's values, measured on "
                                     "pictures");
    myr_status status = myr_network_graph(model, options->batch == 0 ? 1 : options->batch, outputs, n_outputs, &graph);
    return status == MYR_OK ? myr_network_compile(graph, options, true, network) : status;
}

void myr_network_free(myr_network *network)
{
    if (!network)
        return;
    myr_program_clear(&network->program);
    if (network->backend->release)
        network->backend->release(network->state);
    myr_graph_free(network->graph);
    free(network->inputs);
    free(network->outputs);
    free(network);
}

const char *myr_network_backend(const myr_network *network)
{
    return network->backend->name;
}

myr_precision myr_network_precision(const myr_network *network)
{
    return network->precision;
}

const char *myr_precision_name(myr_precision precision)
{
    static const char *const names[] = {"f32", "bf16", "int8"};
    return names[precision];
}

size_t myr_network_n_nodes(const myr_network *network)
{
    return network->graph->n_nodes;
}

size_t myr_network_arena_bytes(const myr_network *network)
{
    return network->program.arena_bytes;
}

size_t myr_network_weight_bytes(const myr_network *network)
{
    size_t bytes = network->program.packed_bytes;
    for (size_t i = 0; i < network->graph->n_values; i++)
        if (network->graph->values[i].constant)
            bytes += myr_tensor_bytes(network->graph->values[i].constant);
    return bytes;
}

static myr_status bind_steps(myr_session *session)
{
    const myr_program *program = &session->network->program;
    const myr_backend *backend = session->network->backend;
    myr_status status =
        backend->open_session ? backend->open_session(session->network->state, &session->state) : MYR_OK;
    for (size_t i = 0; i < program->n_steps && status == MYR_OK; i++) {
        const myr_step *step = &program->steps[i];
        if (step->kind->bind)
            status = step->kind->bind(step, session->state, session->address, session->arena + program->scratch_offset,
                                      &session->bound[i]);
    }
    return status;
}

myr_status myr_session_create(const myr_network *network, myr_session **out)
{
    const myr_program *program = &network->program;
    *out = NULL;
    myr_session *session = myr_alloc(1, sizeof *session);
    if (session)
        *session = (myr_session){.network = network,
                                 .arena = myr_alloc_huge(program->arena_bytes, 1),
                                 .address = myr_alloc(program->n_buffers, sizeof(char *)),
                                 .bound = myr_alloc(program->n_steps, sizeof(void *))};
    if (!session || !session->arena || !session->address || !session->bound) {
        myr_session_free(session);
        return myr_fail(MYR_ERR_NOMEM, "no memory for a session of %zu bytes; use fewer threads", program->arena_bytes);
    }
    for (size_t i = 0; i < program->n_buffers; i++)
        session->address[i] = session->arena + program->buffers[i].offset;
    myr_status status = bind_steps(session);
    if (status != MYR_OK) {
        myr_session_free(session);
        return status;
    }
    *out = session;
    return MYR_OK;
}

void myr_session_free(myr_session *session)
{
    if (!session)
        return;
    const myr_program *program = &session->network->program;
    for (size_t i = 0; session->bound && i < program->n_steps; i++)
        if (session->bound[i])
            program->steps[i].kind->unbind(session->bound[i]);
    if (session->state)
        session->network->backend->close_session(session->state);
    free(session->bound);
    free(session->taken_s);
    free(session->address);
    free(session->arena);
    free(session);
}

float *myr_session_input_at(myr_session *session, size_t i)
{
    int buffer = session->network->inputs[i];
    return buffer >= 0 ? (float *)session->address[buffer] : NULL;
}

float *myr_session_input(myr_session *session)
{
    return myr_session_input_at(session, 0);
}

myr_status myr_session_run(myr_session *session)
{
    const myr_network *network = session->network;
    const myr_program *program = &network->program;
    myr_status status = MYR_OK;
    if (network->backend->enter_thread)
        network->backend->enter_thread();
    for (size_t i = 0; i < program->n_steps && status == MYR_OK; i++) {
        const myr_step *step = &program->steps[i];
        double start_s = session->taken_s ? myr_now_s() : 0;
        status = step->kind->run(step, session->bound[i], session->address, session->arena + program->scratch_offset);
        if (session->taken_s)
            session->taken_s[i] += myr_now_s() - start_s;
    }
    return status;
}

myr_status myr_session_profile(myr_session *session)
{
    free(session->taken_s);
    session->taken_s = myr_alloc(session->network->program.n_steps, sizeof *session->taken_s);
    return session->taken_s ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for a profile");
}

size_t myr_network_n_steps(const myr_network *network)
{
    return network->program.n_steps;
}

double myr_network_flops(const myr_network *network, double *flops)
{
    double sum = 0;
    myr_program_flops(network->graph, &network->program, flops);
    for (size_t i = 0; i < network->program.n_steps; i++)
        sum += flops[i];
    return sum;
}

double myr_network_bytes(const myr_network *network)
{
    double bytes = 0;
    for (size_t i = 0; i < network->program.n_steps; i++)
        bytes += (double)myr_step_bytes(&network->program, &network->program.steps[i]);
    return bytes;
}

/* A step that stands for no node brings a value into another layout. */
static const char *operator_of(const myr_network *network, const char *label)
{
    for (size_t i = 0; i < network->graph->n_nodes; i++)
        if (strcmp(network->graph->nodes[i].name, label) == 0)
            return network->graph->nodes[i].op->name;
    return "layout";
}

bool myr_session_step_time(const myr_session *session, size_t i, myr_step_time *time)
{
    const myr_program *program = &session->network->program;
    if (!session->taken_s || i >= program->n_steps)
        return false;
    const char *by = program->steps[i].kind->name;
    *time = (myr_step_time){.label = program->steps[i].label,
                            .op = operator_of(session->network, program->steps[i].label),
                            .by = by ? by : session->network->backend->name,
                            .seconds = session->taken_s[i],
                            .bytes = (double)myr_step_bytes(program, &program->steps[i])};
    return true;
}

const float *myr_session_output_at(const myr_session *session, size_t i, myr_shape *shape)
{
    const myr_graph *graph = session->network->graph;
    *shape = graph->values[graph->outputs[i]].shape;
    return (const float *)session->address[session->network->outputs[i]];
}

const float *myr_session_output(const myr_session *session, size_t i, size_t *n_per_image)
{
    myr_shape shape;
    *n_per_image = 0;
    if (i >= session->network->graph->n_outputs)
        return NULL;
    const float *output = myr_session_output_at(session, i, &shape);
    *n_per_image = shape.dims[0] > 0 ? myr_shape_count(&shape) / (size_t)shape.dims[0] : 0;
    return output;
}
