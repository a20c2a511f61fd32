/*
 * Channels of several values behind each other, all in blocks of 16 channels: in a picture each value is one piece of
 * memory, copied as such. oneDNN 2.6 copies number by number where there is one picture.
 */
#include "nn/onednn.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

typedef struct joined {
    int n, from[MYR_ONEDNN_MAX_ARGUMENTS], to; /* buffers */
    size_t bytes[MYR_ONEDNN_MAX_ARGUMENTS];    /* of one picture */
    int64_t batch;
} joined;

static myr_status run(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound, (void)scratch;
    const joined *self = step->state;
    char *to = address[self->to];
    for (int64_t picture = 0; picture < self->batch; picture++)
        for (int i = 0; i < self->n; to += self->bytes[i++])
            memcpy(to, address[self->from[i]] + (size_t)picture * self->bytes[i], self->bytes[i]);
    return MYR_OK;
}

static const myr_step_kind joining_step = {.name = "concat", .run = run, .free = free};

/* Without channels that only fill a block. */
static bool is_in_blocks(const dnnl_memory_desc_t *layout)
{
    dnnl_memory_desc_t blocks;
    return layout->ndims == 4 && layout->dims[0] > 0 && layout->dims[1] % 16 == 0 &&
           myr_onednn_set_layout(&blocks, layout->data_type, 4, layout->dims, dnnl_nChw16c) &&
           dnnl_memory_desc_equal(layout, &blocks);
}

myr_status myr_onednn_join_channels(myr_onednn_builder *build, const char *label, int result, int n,
                                    const myr_onednn_source *sources, bool *taken)
{
    const myr_shape *out = &build->graph->values[result].shape;
    int used[MYR_ONEDNN_MAX_ARGUMENTS + 1];
    joined found = {.n = n, .batch = out->dims[0]};
    dnnl_memory_desc_t target;
    *taken = false;
    for (int i = 0; i < n; i++) {
        if (!is_in_blocks(&sources[i].layout) || sources[i].layout.data_type != build->type)
            return MYR_OK;
        used[i] = found.from[i] = sources[i].buffer;
        found.bytes[i] = dnnl_memory_desc_get_size(&sources[i].layout) / (size_t)found.batch;
    }
    if (!myr_onednn_set_layout(&target, build->type, 4, out->dims, dnnl_nChw16c))
        return MYR_OK;
    joined *self = myr_alloc(1, sizeof *self);
    myr_status status = self ? myr_onednn_settle(build, result, &target, &found.to)
                             : myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", label);
    if (status != MYR_OK) {
        free(self);
        return status;
    }
    *taken = true;
    *self = found;
    used[n] = found.to;
    return myr_program_add_step(build->compiler->program, &joining_step, label, self, used, n + 1, 0);
}
