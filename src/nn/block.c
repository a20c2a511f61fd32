/*
 * Inverted residual blocks: which processors have them, sizes and weights.
 */
#include "nn/block.h"

#include "base/alloc.h"
#include "kernel/kernel.h"
#include "nn/block_parts.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#define GROUP MYR_BLOCK_GROUP
#define TILE MYR_BLOCK_TILE

/* ---- What the processor has ---- */

#if defined(__x86_64__)

#include <sys/syscall.h>
#include <unistd.h>

#define REQUEST_PERMISSION 0x1023
#define TILE_DATA 18

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma") &&
           myr_cpu_may_use("avx2") && myr_cpu_may_use("avx512");
}

static bool has_halves(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

static bool has_bytes(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
}

static bool has_tiles(void)
{
    static int known; /* 0 not asked, 1 yes, 2 no; asking twice does no harm */
    int answer = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (answer == 0) {
        unsigned eax = 7, ebx, ecx = 0, edx;
        __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
        bool has = has_halves() && (edx & (1u << 22)) && (edx & (1u << 24)) && myr_cpu_may_use("amx") &&
                   syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
        answer = has ? 1 : 2;
        __atomic_store_n(&known, answer, __ATOMIC_RELAXED);
    }
    return answer == 1;
}

static const myr_block_products *find_products(myr_precision precision)
{
    if (precision == MYR_PRECISION_INT8)
        return has_bytes() ? &myr_block_bytes : NULL;
    if (precision == MYR_PRECISION_BF16)
        return has_tiles() ? &myr_block_tiles : has_halves() ? &myr_block_halves : NULL;
    return has_avx512() ? &myr_block_floats : NULL;
}

#else

static bool has_tiles(void)
{
    return false;
}

static const myr_block_products *find_products(myr_precision precision)
{
    (void)precision;
    return NULL;
}

#endif

bool myr_block_has_processor(myr_precision precision)
{
    return find_products(precision) != NULL;
}

bool myr_block_prefers_halves(void)
{
    return has_tiles();
}

/* Whether values behind an activation fit 8 bits without sign, their largest being known. */
static bool fits_bytes(const myr_activation *after, float most)
{
    return most > 0 && most <= FLT_MAX &&
           (after->kind == MYR_ACTIVATION_RELU ||
            (after->kind == MYR_ACTIVATION_CLIP && after->low == 0 && after->high > 0));
}

static bool is_narrow(const myr_block_options *options)
{
    static const myr_activation positive = {.kind = MYR_ACTIVATION_RELU}; /* as the input has to be */
    return fits_bytes(&options->after_depthwise, options->depthwise_most) &&
           fits_bytes(options->expand ? &options->after_expand : &positive, options->expand_most);
}

bool myr_block_is_possible(const myr_block_options *options)
{
    int k = options->kernel, s = options->stride;
    bool is_known = (k == 3 || k == 5 || k == 7) && (s == 1 || s == 2);
    return is_known && options->n_in >= 1 && options->n_in <= 4096 && options->n_middle <= 16384 &&
           options->n_out <= 4096 && options->width >= 4 && options->height >= 1 && options->pad_left < k &&
           options->pad_top < k && (options->out_width - 1) * s - options->pad_left < options->width &&
           (options->out_height - 1) * s - options->pad_top < options->height &&
           (options->expand || options->n_in == options->n_middle) && (options->expand || options->n_in % GROUP == 0) &&
           (!options->adds_input || (options->n_in == options->n_out && options->height == options->out_height &&
                                     options->width == options->out_width)) &&
           (options->precision != MYR_PRECISION_INT8 || is_narrow(options)) && find_products(options->precision);
}

/* ---- Packing ---- */

static myr_block_limits limits_of(const myr_activation *activation)
{
    return activation->kind == MYR_ACTIVATION_RELU   ? (myr_block_limits){0, FLT_MAX}
           : activation->kind == MYR_ACTIVATION_CLIP ? (myr_block_limits){activation->low, activation->high}
                                                     : (myr_block_limits){-FLT_MAX, FLT_MAX};
}

static float *padded(const float *from, int n, int n_padded)
{
    float *to = myr_alloc((size_t)n_padded, sizeof *to);
    if (to && from)
        memcpy(to, from, (size_t)n * sizeof *to);
    return to;
}

/* Of a channel: floats, or dots of four taps of 8 bits. */
static size_t depthwise_bytes(const myr_block_options *shape)
{
    size_t kernel = (size_t)shape->kernel;
    return kernel * (shape->precision == MYR_PRECISION_INT8 ? (kernel + 3) / 4 * 4 : kernel * sizeof(float));
}

static bool allocate(myr_block *self)
{
    const myr_block_options *shape = &self->shape;
    int n_middle = myr_block_middle_channels(self), n_out = myr_block_out_channels(self);
    size_t bytes = self->products->factor_bytes;
    self->expand = myr_alloc((size_t)n_middle * (size_t)self->k, bytes);
    self->project = myr_alloc((size_t)n_middle * (size_t)n_out, bytes);
    self->depthwise = myr_alloc((size_t)n_middle, depthwise_bytes(shape));
    self->expand_bias = padded(shape->expand_bias, shape->n_middle, n_middle);
    self->depthwise_bias = padded(shape->depthwise_bias, shape->n_middle, n_middle);
    self->project_bias = padded(shape->project_bias, shape->n_out, n_out);
    if (shape->precision == MYR_PRECISION_INT8) {
        self->expand_scale = myr_alloc((size_t)n_middle, sizeof *self->expand_scale);
        self->expand_offset = myr_alloc((size_t)n_middle, sizeof *self->expand_offset);
        self->depthwise_scale = myr_alloc((size_t)n_middle, sizeof *self->depthwise_scale);
        self->project_scale = myr_alloc((size_t)n_out, sizeof *self->project_scale);
    }
    return self->expand && self->project && self->depthwise && self->expand_bias && self->depthwise_bias &&
           self->project_bias &&
           (shape->precision != MYR_PRECISION_INT8 ||
            (self->expand_scale && self->expand_offset && self->depthwise_scale && self->project_scale));
}

myr_status myr_block_create(const myr_block_options *options, myr_block **out)
{
    *out = NULL;
    if (!myr_block_is_possible(options))
        return myr_fail(MYR_ERR_UNSUPPORTED, "no fast block for this shape on this processor");
    myr_block *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a block");
    *self = (myr_block){.shape = *options,
                        .products = find_products(options->precision),
                        .expands = options->expand != NULL,
                        .n_groups = (options->n_middle + GROUP - 1) / GROUP,
                        .n_out_pairs = (options->n_out + 2 * TILE - 1) / (2 * TILE),
                        .after_expand = limits_of(&options->after_expand),
                        .after_depthwise = limits_of(&options->after_depthwise),
                        .after_project = limits_of(&options->after_project)};
    int reach = (options->out_width - 1) * options->stride + options->kernel;
    self->ring_width = (reach > options->width + options->pad_left ? reach : options->width + options->pad_left) +
                       self->products->ring_margin;
    self->products->set_steps(self);
    if (!allocate(self)) {
        myr_block_free(self);
        return myr_fail(MYR_ERR_NOMEM, "no memory for a block's weights");
    }
    self->products->pack(self);
    self->shape.expand = self->shape.depthwise = self->shape.project = NULL; /* borrowed until here */
    self->shape.expand_bias = self->shape.depthwise_bias = self->shape.project_bias = NULL;
    *out = self;
    return MYR_OK;
}

void myr_block_free(void *block)
{
    myr_block *self = block;
    if (!self)
        return;
    free(self->expand);
    free(self->expand_bias);
    free(self->depthwise);
    free(self->depthwise_bias);
    free(self->project);
    free(self->project_bias);
    free(self->expand_scale);
    free(self->expand_offset);
    free(self->depthwise_scale);
    free(self->project_scale);
    free(self);
}

size_t myr_block_weight_bytes(const myr_block *self)
{
    size_t n_middle = (size_t)myr_block_middle_channels(self), n_out = (size_t)myr_block_out_channels(self);
    size_t n_scales = self->shape.precision == MYR_PRECISION_INT8 ? 3 * n_middle + n_out : 0;
    return n_middle * (((self->expands ? (size_t)self->k : 0) + n_out) * self->products->factor_bytes +
                       depthwise_bytes(&self->shape)) +
           (n_middle * 2 + n_out + n_scales) * sizeof(float);
}
