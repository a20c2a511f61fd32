/*
 * Primitives of oneDNN as steps of a program.
 *
 * A call is shared by all sessions and read only; a session has memory objects on its own
 * arena for it. Scratch memory is the session's too.
 */
#include "nn/onednn.h"

#include "base/alloc.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

/* A session's memory objects for one call. */
typedef struct bound_call {
    dnnl_stream_t stream; /* [borrowed] */
    int n_arguments;
    dnnl_exec_arg_t arguments[MYR_ONEDNN_MAX_ARGUMENTS];
    bool is_own[MYR_ONEDNN_MAX_ARGUMENTS];
} bound_call;

myr_status myr_onednn_library_failed(dnnl_status_t status, const char *what)
{
    if (status == dnnl_out_of_memory)
        return myr_fail(MYR_ERR_NOMEM, "oneDNN: no memory for %s", what);
    return myr_fail(MYR_ERR_INTERNAL, "oneDNN: %s failed (status %d)", what, (int)status);
}

/* ---- Running a call ---- */

void myr_onednn_free_call(void *memory)
{
    myr_onednn_call *self = memory;
    if (!self)
        return;
    for (int i = 0; i < self->n_arguments; i++) {
        dnnl_memory_t constant = self->arguments[i].constant;
        void *data = NULL;
        if (!constant)
            continue;
        dnnl_memory_get_data_handle(constant, &data);
        dnnl_memory_destroy(constant);
        free(data);
    }
    if (self->primitive)
        dnnl_primitive_destroy(self->primitive);
    free(self);
}

static void unbind_call(void *memory)
{
    bound_call *self = memory;
    for (int i = 0; i < self->n_arguments; i++)
        if (self->is_own[i])
            dnnl_memory_destroy(self->arguments[i].memory);
    free(self);
}

static myr_status bind_call(const myr_step *step, void *session, char *const *address, char *scratch, void **out)
{
    const myr_onednn_call *self = step->state;
    bound_call *mine = myr_alloc(1, sizeof *mine);
    if (!mine)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a session");
    mine->stream = session;
    for (int i = 0; i < self->n_arguments; i++) {
        const myr_onednn_argument *from = &self->arguments[i];
        mine->arguments[i] = (dnnl_exec_arg_t){.arg = from->name, .memory = from->constant};
        mine->n_arguments = i + 1;
        if (from->constant)
            continue;
        void *data = from->buffer >= 0 ? address[from->buffer] + from->skipped_bytes : scratch;
        dnnl_status_t status = dnnl_memory_create(&mine->arguments[i].memory, &from->layout, self->engine, data);
        if (status != dnnl_success) {
            unbind_call(mine);
            return myr_onednn_library_failed(status, "making a memory object");
        }
        mine->is_own[i] = true;
    }
    *out = mine;
    return MYR_OK;
}

static myr_status run_call(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)address;
    (void)scratch;
    const myr_onednn_call *self = step->state;
    const bound_call *mine = bound;
    dnnl_status_t status = dnnl_primitive_execute(self->primitive, mine->stream, mine->n_arguments, mine->arguments);
    return status == dnnl_success ? MYR_OK : myr_onednn_library_failed(status, step->label);
}

static const myr_step_kind call_step = {
    .name = "oneDNN", .bind = bind_call, .unbind = unbind_call, .run = run_call, .free = myr_onednn_free_call};

/* ---- Building calls ---- */

myr_onednn_call *myr_onednn_new_call(const myr_onednn_builder *build)
{
    myr_onednn_call *self = myr_alloc(1, sizeof *self);
    if (self)
        self->engine = build->engine;
    return self;
}

void myr_onednn_add_argument(myr_onednn_call *self, int name, int buffer, const dnnl_memory_desc_t *layout)
{
    myr_onednn_argument *argument = &self->arguments[self->n_arguments++];
    *argument = (myr_onednn_argument){.name = name, .buffer = buffer, .layout = *layout};
    /* Few primitives take an offset: they are planned without, and get memory that begins there. */
    argument->skipped_bytes = (size_t)layout->offset0 * dnnl_data_type_size(layout->data_type);
    argument->layout.offset0 = 0;
}

myr_status myr_onednn_add_call(myr_onednn_builder *build, const char *label, myr_onednn_call *self,
                               dnnl_primitive_desc_t descriptor)
{
    int buffers[MYR_ONEDNN_MAX_ARGUMENTS], n_buffers = 0;
    const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(descriptor, dnnl_query_scratchpad_md, 0);
    self->scratch_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    if (self->scratch_bytes > 0)
        myr_onednn_add_argument(self, DNNL_ARG_SCRATCHPAD, -1, scratch);
    dnnl_status_t status = dnnl_primitive_create(&self->primitive, descriptor);
    dnnl_primitive_desc_destroy(descriptor);
    if (status != dnnl_success) {
        self->primitive = NULL;
        myr_onednn_free_call(self);
        return myr_onednn_library_failed(status, "making a primitive");
    }
    for (int i = 0; i < self->n_arguments; i++)
        if (self->arguments[i].buffer >= 0)
            buffers[n_buffers++] = self->arguments[i].buffer;
    myr_status added = myr_program_add_step(build->compiler->program, &call_step, label, self, buffers, n_buffers,
                                            self->scratch_bytes);
    for (int i = 0; added == MYR_OK && i < self->n_arguments; i++)
        if (self->arguments[i].constant)
            myr_program_add_packed(build->compiler->program, dnnl_memory_desc_get_size(&self->arguments[i].layout));
    return added;
}

bool myr_onednn_set_layout(dnnl_memory_desc_t *layout, dnnl_data_type_t type, int rank, const int64_t *dims,
                           dnnl_format_tag_t tag)
{
    dnnl_dims_t full = {0};
    memcpy(full, dims, (size_t)rank * sizeof *dims);
    return dnnl_memory_desc_init_by_tag(layout, rank, full, type, tag) == dnnl_success;
}

dnnl_primitive_attr_t myr_onednn_new_attributes(void)
{
    dnnl_primitive_attr_t attributes = NULL;
    if (dnnl_primitive_attr_create(&attributes) == dnnl_success)
        dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    return attributes;
}

myr_status myr_onednn_add_reorder(myr_onednn_builder *build, const char *label, int from,
                                  const dnnl_memory_desc_t *from_layout, int to, const dnnl_memory_desc_t *to_layout,
                                  float factor)
{
    dnnl_primitive_attr_t attributes = myr_onednn_new_attributes();
    dnnl_primitive_desc_t descriptor = NULL;
    dnnl_memory_desc_t source = *from_layout, target = *to_layout;
    source.offset0 = target.offset0 = 0; /* the arguments begin there */
    myr_onednn_call *self = myr_onednn_new_call(build);
    dnnl_status_t status = attributes && self ? dnnl_success : dnnl_out_of_memory;
    if (status == dnnl_success && factor != 1)
        status = dnnl_primitive_attr_set_output_scales(attributes, 1, 0, &factor);
    if (status == dnnl_success)
        status =
            dnnl_reorder_primitive_desc_create(&descriptor, &source, build->engine, &target, build->engine, attributes);
    dnnl_primitive_attr_destroy(attributes);
    if (status != dnnl_success) {
        myr_onednn_free_call(self);
        return myr_onednn_library_failed(status, "planning a reorder");
    }
    myr_onednn_add_argument(self, DNNL_ARG_FROM, from, from_layout);
    myr_onednn_add_argument(self, DNNL_ARG_TO, to, to_layout);
    return myr_onednn_add_call(build, label, self, descriptor);
}

myr_status myr_onednn_add_constant(myr_onednn_builder *build, myr_onednn_call *self, int name, const void *data,
                                   const dnnl_memory_desc_t *layout, const dnnl_memory_desc_t *wanted,
                                   const myr_onednn_scales *scales)
{
    void *memory = myr_alloc(dnnl_memory_desc_get_size(wanted), 1);
    dnnl_memory_t from = NULL, to = NULL;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t descriptor = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_stream_t stream = NULL;
    dnnl_status_t status = memory ? dnnl_memory_create(&from, layout, build->engine, (void *)data) : dnnl_out_of_memory;
    if (status == dnnl_success)
        status = dnnl_memory_create(&to, wanted, build->engine, memory);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_create(&attributes);
    if (status == dnnl_success && scales)
        status = dnnl_primitive_attr_set_output_scales(attributes, scales->n, scales->mask, scales->factors);
    if (status == dnnl_success)
        status =
            dnnl_reorder_primitive_desc_create(&descriptor, layout, build->engine, wanted, build->engine, attributes);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&reorder, descriptor);
    if (status == dnnl_success)
        status = dnnl_stream_create(&stream, build->engine, dnnl_stream_default_flags);
    if (status == dnnl_success)
        status =
            dnnl_primitive_execute(reorder, stream, 2, (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
    if (status == dnnl_success)
        status = dnnl_stream_wait(stream);
    dnnl_stream_destroy(stream);
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(descriptor);
    dnnl_primitive_attr_destroy(attributes);
    dnnl_memory_destroy(from);
    if (status != dnnl_success) {
        dnnl_memory_destroy(to);
        free(memory);
        return myr_onednn_library_failed(status, "bringing weights into their layout");
    }
    self->arguments[self->n_arguments++] =
        (myr_onednn_argument){.name = name, .buffer = -1, .layout = *wanted, .constant = to};
    return MYR_OK;
}

static dnnl_status_t append_activation(dnnl_post_ops_t after, const myr_activation *activation)
{
    float low = activation->low > -FLT_MAX ? activation->low : -FLT_MAX;
    float high = activation->high < FLT_MAX ? activation->high : FLT_MAX;
    if (activation->kind == MYR_ACTIVATION_RELU)
        return dnnl_post_ops_append_eltwise(after, 1, dnnl_eltwise_relu, 0, 0);
    if (activation->kind == MYR_ACTIVATION_CLIP)
        return dnnl_post_ops_append_eltwise(after, 1, dnnl_eltwise_clip, low, high);
    if (activation->kind == MYR_ACTIVATION_SWISH)
        return dnnl_post_ops_append_eltwise(after, 1, dnnl_eltwise_swish, activation->alpha, 0);
    if (activation->kind == MYR_ACTIVATION_HARD_SWISH)
        return dnnl_post_ops_append_eltwise(after, 1, dnnl_eltwise_hardswish, 0, 0);
    if (activation->kind == MYR_ACTIVATION_GELU)
        return dnnl_post_ops_append_eltwise(after, 1, dnnl_eltwise_gelu_erf, 0, 0);
    if (activation->kind == MYR_ACTIVATION_GELU_TANH)
        return dnnl_post_ops_append_eltwise(after, 1, dnnl_eltwise_gelu_tanh, 0, 0);
    return dnnl_success;
}

dnnl_primitive_attr_t myr_onednn_fused_attributes(const myr_activation *activation, const myr_onednn_sum *sum)
{
    dnnl_primitive_attr_t attributes = myr_onednn_new_attributes();
    dnnl_post_ops_t after = NULL;
    dnnl_status_t status = attributes ? dnnl_post_ops_create(&after) : dnnl_out_of_memory;
    if (status == dnnl_success && sum)
        status = dnnl_post_ops_append_sum_v2(after, sum->scale, sum->type);
    if (status == dnnl_success)
        status = append_activation(after, activation);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_post_ops(attributes, after);
    dnnl_post_ops_destroy(after);
    if (status == dnnl_success)
        return attributes;
    dnnl_primitive_attr_destroy(attributes);
    return NULL;
}

const dnnl_memory_desc_t *myr_onednn_layout_of(dnnl_primitive_desc_t descriptor, dnnl_query_t which, int i)
{
    return dnnl_primitive_desc_query_md(descriptor, which, i);
}

dnnl_primitive_desc_t myr_onednn_plan(const myr_onednn_builder *build, const_dnnl_op_desc_t operation,
                                      dnnl_primitive_attr_t attributes)
{
    dnnl_primitive_desc_t planned = NULL;
    if (!attributes || dnnl_primitive_desc_create(&planned, operation, attributes, build->engine, NULL) != dnnl_success)
        planned = NULL;
    dnnl_primitive_attr_destroy(attributes);
    return planned;
}

static myr_status add_source(myr_onednn_builder *build, myr_onednn_call *self, const myr_onednn_source *source)
{
    if (source->constant)
        return myr_onednn_add_constant(build, self, source->name, source->constant, &source->constant_layout,
                                       &source->layout, NULL);
    myr_onednn_add_argument(self, source->name, source->buffer, &source->layout);
    return MYR_OK;
}

myr_status myr_onednn_add_maker(myr_onednn_builder *build, const char *label, int value, dnnl_primitive_desc_t planned,
                                int n, const myr_onednn_source *sources)
{
    const dnnl_memory_desc_t result = *myr_onednn_layout_of(planned, dnnl_query_dst_md, 0);
    int to;
    myr_status status = myr_onednn_settle(build, value, &result, &to);
    if (status == MYR_OK)
        return myr_onednn_add_writer(build, label, to, &result, planned, n, sources);
    dnnl_primitive_desc_destroy(planned);
    return status;
}

myr_status myr_onednn_add_writer(myr_onednn_builder *build, const char *label, int to, const dnnl_memory_desc_t *result,
                                 dnnl_primitive_desc_t planned, int n, const myr_onednn_source *sources)
{
    myr_onednn_call *self = myr_onednn_new_call(build);
    myr_status status = self ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", label);
    for (int i = 0; i < n && status == MYR_OK; i++)
        status = add_source(build, self, &sources[i]);
    if (status != MYR_OK) {
        dnnl_primitive_desc_destroy(planned);
        myr_onednn_free_call(self);
        return status;
    }
    myr_onednn_add_argument(self, DNNL_ARG_DST, to, result);
    return myr_onednn_add_call(build, label, self, planned);
}
