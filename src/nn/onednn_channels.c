/*
 * Squeeze and excitation (Hu et al. 2018, arXiv:1709.01507): the mean of each channel of each picture,
 * (n, c, h, w) -> (n, c, 1, 1), and channels times a number of their own, (n, c, h, w) x (n, c, 1, 1). oneDNN 2.6
 * does these slowly in the layouts that values have here.
 */
#include "nn/onednn.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

/* A value channel by channel, with a number for each. */
typedef struct channels {
    int from, numbers, to; /* buffers; a mean has no `to` */
    int64_t batch, n_channels;
    /* A picture is n_blocks blocks of n_pixels cells of `width` channels. */
    int64_t n_blocks, n_pixels, width;
    bool is_bf16;
} channels;

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define EVERY_PROCESSOR __attribute__((target_clones("default", "arch=haswell", "arch=skylake-avx512")))
#else
#define EVERY_PROCESSOR
#endif

EVERY_PROCESSOR static void scale_floats(const float *in, const float *factors, float *out, int64_t n_pixels,
                                         int64_t width)
{
    for (int64_t p = 0; p < n_pixels; p++)
        for (int64_t c = 0; c < width; c++)
            out[p * width + c] = in[p * width + c] * factors[c];
}

/* Rounded to the nearest, ties to even; what is no number stays none. */
EVERY_PROCESSOR static void scale_halves(const uint16_t *in, const float *factors, uint16_t *out, int64_t n_pixels,
                                         int64_t width)
{
    for (int64_t p = 0; p < n_pixels; p++) {
        for (int64_t c = 0; c < width; c++) {
            uint32_t bits = (uint32_t)in[p * width + c] << 16;
            float value;
            memcpy(&value, &bits, sizeof value);
            value *= factors[c];
            memcpy(&bits, &value, sizeof bits);
            uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
            out[p * width + c] = (uint16_t)(value == value ? rounded : 0x7fc0);
        }
    }
}

static myr_status run_scaling(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    const channels *self = step->state;
    const float *factors = (const float *)address[self->numbers];
    float *padded = (float *)scratch; /* the last block may be wider than there are channels */
    size_t size = self->is_bf16 ? sizeof(uint16_t) : sizeof(float);
    size_t block_bytes = (size_t)(self->n_pixels * self->width) * size;
    const char *in = address[self->from];
    char *out = address[self->to];
    memset(padded, 0, (size_t)(self->n_blocks * self->width) * sizeof *padded);
    for (int64_t n = 0; n < self->batch; n++) {
        memcpy(padded, factors + n * self->n_channels, (size_t)self->n_channels * sizeof *padded);
        for (int64_t b = 0; b < self->n_blocks; b++, in += block_bytes, out += block_bytes) {
            if (self->is_bf16)
                scale_halves((const uint16_t *)in, padded + b * self->width, (uint16_t *)out, self->n_pixels,
                             self->width);
            else
                scale_floats((const float *)in, padded + b * self->width, (float *)out, self->n_pixels, self->width);
        }
    }
    return MYR_OK;
}

static const myr_step_kind scaling_step = {.name = "channels", .run = run_scaling, .free = free};

/* Sums of n_pixels cells. */
EVERY_PROCESSOR static void add_cells(const void *cells, bool is_bf16, float *sums, int64_t n_pixels, int64_t width)
{
    for (int64_t c = 0; c < width; c++)
        sums[c] = 0;
    for (int64_t p = 0; p < n_pixels; p++) {
        if (is_bf16) {
            const uint16_t *cell = (const uint16_t *)cells + p * width;
            for (int64_t c = 0; c < width; c++) {
                uint32_t bits = (uint32_t)cell[c] << 16;
                float value;
                memcpy(&value, &bits, sizeof value);
                sums[c] += value;
            }
        } else {
            const float *cell = (const float *)cells + p * width;
            for (int64_t c = 0; c < width; c++)
                sums[c] += cell[c];
        }
    }
}

static myr_status run_mean(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    const channels *self = step->state;
    float *sums = (float *)scratch, *means = (float *)address[self->numbers];
    size_t block_bytes = (size_t)(self->n_pixels * self->width) * (self->is_bf16 ? sizeof(uint16_t) : sizeof(float));
    const char *in = address[self->from];
    for (int64_t n = 0; n < self->batch; n++) {
        for (int64_t b = 0; b < self->n_blocks; b++, in += block_bytes)
            add_cells(in, self->is_bf16, sums + b * self->width, self->n_pixels, self->width);
        for (int64_t c = 0; c < self->n_channels; c++)
            *means++ = sums[c] / (float)self->n_pixels;
    }
    return MYR_OK;
}

static const myr_step_kind mean_step = {.name = "channels", .run = run_mean, .free = free};

/* Whether a layout is (n, h, w, c) or blocks of some channels, without gaps. */
static bool read_layout(const dnnl_memory_desc_t *layout, channels *self)
{
    const dnnl_blocking_desc_t *blocks = &layout->format_desc.blocking;
    const dnnl_dims_t *strides = &blocks->strides;
    int64_t height = layout->dims[2], width = layout->dims[3], n_padded = layout->padded_dims[1];
    bool is_blocked = blocks->inner_nblks == 1 && blocks->inner_idxs[0] == 1, is_last = blocks->inner_nblks == 0;
    if (layout->format_kind != dnnl_blocked || layout->ndims != 4 || layout->offset0 != 0 ||
        (!is_blocked && !is_last) || layout->padded_dims[0] != layout->dims[0] || layout->padded_dims[2] != height ||
        layout->padded_dims[3] != width)
        return false;
    int64_t cell = is_blocked ? blocks->inner_blks[0] : n_padded;
    self->n_blocks = n_padded / cell;
    self->n_pixels = height * width;
    self->width = cell;
    return self->n_pixels > 0 && (is_blocked ? (*strides)[1] == height * width * cell : (*strides)[1] == 1) &&
           (*strides)[3] == cell && (*strides)[2] == width * cell && (*strides)[0] == height * width * n_padded;
}

static bool is_channel_factor(const myr_shape *shape, const myr_shape *of)
{
    return shape->rank == 4 && of->rank == 4 && shape->dims[0] == of->dims[0] && shape->dims[1] == of->dims[1] &&
           shape->dims[2] == 1 && shape->dims[3] == 1;
}

myr_status myr_onednn_scale_channels(myr_onednn_builder *build, const char *label, int value, int factor, int result,
                                     bool *taken)
{
    const myr_value *values = build->graph->values;
    dnnl_memory_desc_t layout, plain;
    channels found = {.batch = values[value].shape.dims[0], .n_channels = values[value].shape.dims[1]};
    *taken = false;
    if (!is_channel_factor(&values[factor].shape, &values[value].shape) ||
        !myr_onednn_bring_floats(build, value, &found.from, &layout) ||
        (layout.data_type != dnnl_f32 && layout.data_type != dnnl_bf16) || !read_layout(&layout, &found) ||
        !myr_onednn_plain_layout(&values[factor].shape, &plain))
        return MYR_OK;
    found.is_bf16 = layout.data_type == dnnl_bf16;
    channels *self = myr_alloc(1, sizeof *self);
    myr_status status = self ? myr_onednn_bring(build, factor, &plain, 1, &found.numbers)
                             : myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", label);
    if (status == MYR_OK)
        status = myr_onednn_settle(build, result, &layout, &found.to);
    if (status != MYR_OK) {
        free(self);
        return status;
    }
    *taken = true;
    *self = found;
    return myr_program_add_step(build->compiler->program, &scaling_step, label, self,
                                (int[]){found.from, found.numbers, found.to}, 3,
                                (size_t)(found.n_blocks * found.width) * sizeof(float));
}

myr_status myr_onednn_mean_of_channels(myr_onednn_builder *build, const char *label, int value, int result, bool *taken)
{
    const myr_shape *in = &build->graph->values[value].shape;
    dnnl_memory_desc_t layout;
    channels found = {.to = -1};
    *taken = false;
    if (in->rank != 4 || !myr_onednn_bring_floats(build, value, &found.from, &layout) ||
        (layout.data_type != dnnl_f32 && layout.data_type != dnnl_bf16) || !read_layout(&layout, &found))
        return MYR_OK;
    found.batch = in->dims[0];
    found.n_channels = in->dims[1];
    found.is_bf16 = layout.data_type == dnnl_bf16;
    channels *self = myr_alloc(1, sizeof *self);
    myr_status status = self ? myr_compiler_buffer(build->compiler, result, &found.numbers)
                             : myr_fail(MYR_ERR_NOMEM, "no memory to compile '%s'", label);
    if (status != MYR_OK) {
        free(self);
        return status;
    }
    *taken = true;
    *self = found;
    return myr_program_add_step(build->compiler->program, &mean_step, label, self, (int[]){found.from, found.numbers},
                                2, (size_t)(found.n_blocks * found.width) * sizeof(float));
}
