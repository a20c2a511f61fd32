/*
 * Inverted residual blocks against the plain sums, over many shapes.
 */
#include "base/alloc.h"
#include "base/rng.h"
#include "nn/block.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static myr_rng rng;

static uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Random values that bf16 holds exactly, so that the plain sums see the same factors. */
static float *draw(size_t n, float scale)
{
    float *values = myr_alloc(n, sizeof *values);
    for (size_t i = 0; i < n; i++)
        values[i] = from_bf16(to_bf16(scale * (float)(2 * myr_rng_unit(&rng) - 1)));
    return values;
}

static float activate(const myr_activation *activation, float value)
{
    if (activation->kind == MYR_ACTIVATION_RELU)
        return value > 0 ? value : 0;
    if (activation->kind == MYR_ACTIVATION_CLIP)
        return fminf(fmaxf(value, activation->low), activation->high);
    return value;
}

/* A 1x1 convolution of n_pixels. */
static void product(const float *in, size_t n_pixels, int n_in, int n_out, const float *weights, const float *bias,
                    float *out)
{
    for (size_t p = 0; p < n_pixels; p++) {
        for (int o = 0; o < n_out; o++) {
            double sum = bias ? (double)bias[o] : 0;
            for (int i = 0; i < n_in; i++)
                sum += (double)in[p * (size_t)n_in + (size_t)i] * (double)weights[o * n_in + i];
            out[p * (size_t)n_out + (size_t)o] = (float)sum;
        }
    }
}

static float depthwise_cell(const myr_block_options *shape, const float *wide, int y, int x, int c)
{
    double sum = shape->depthwise_bias ? (double)shape->depthwise_bias[c] : 0;
    for (int ky = 0; ky < shape->kernel; ky++) {
        for (int kx = 0; kx < shape->kernel; kx++) {
            int iy = y * shape->stride + ky - shape->pad_top, ix = x * shape->stride + kx - shape->pad_left;
            if (iy >= 0 && iy < shape->height && ix >= 0 && ix < shape->width)
                sum += (double)wide[(iy * shape->width + ix) * shape->n_middle + c] *
                       (double)shape->depthwise[(c * shape->kernel + ky) * shape->kernel + kx];
        }
    }
    return (float)sum;
}

/* All in floats, but for what BF16 rounds between. [owned by caller] */
static float *reference(const myr_block_options *shape, const float *in)
{
    size_t n_in = (size_t)(shape->height * shape->width), n_out = (size_t)(shape->out_height * shape->out_width);
    float *wide = myr_alloc(n_in * (size_t)shape->n_middle, sizeof *wide);
    float *middle = myr_alloc(n_out * (size_t)shape->n_middle, sizeof *middle);
    float *out = myr_alloc(n_out * (size_t)shape->n_out, sizeof *out);
    if (shape->expand)
        product(in, n_in, shape->n_in, shape->n_middle, shape->expand, shape->expand_bias, wide);
    else
        memcpy(wide, in, n_in * (size_t)shape->n_middle * sizeof *wide);
    for (size_t i = 0; shape->expand && i < n_in * (size_t)shape->n_middle; i++)
        wide[i] = activate(&shape->after_expand, wide[i]);
    for (int y = 0; y < shape->out_height; y++)
        for (int x = 0; x < shape->out_width; x++)
            for (int c = 0; c < shape->n_middle; c++)
                middle[(y * shape->out_width + x) * shape->n_middle + c] =
                    activate(&shape->after_depthwise, depthwise_cell(shape, wide, y, x, c));
    for (size_t i = 0; shape->precision == MYR_PRECISION_BF16 && i < n_out * (size_t)shape->n_middle; i++)
        middle[i] = from_bf16(to_bf16(middle[i]));
    product(middle, n_out, shape->n_middle, shape->n_out, shape->project, shape->project_bias, out);
    for (size_t i = 0; i < n_out * (size_t)shape->n_out; i++)
        out[i] = activate(&shape->after_project, out[i] + (shape->adds_input ? in[i] : 0));
    free(wide);
    free(middle);
    return out;
}

/* Largest value behind the depthwise part, or behind the expansion, which 8 bits are for. */
static float find_most(const myr_block_options *shape, const float *in, bool is_expanded)
{
    myr_block_options part = *shape;
    size_t n = (size_t)shape->n_middle;
    float most = 0, *identity = myr_alloc(n * n, sizeof *identity), *one = myr_alloc(n, sizeof *one);
    for (size_t c = 0; c < n; c++)
        identity[c * n + c] = one[c] = 1;
    part.project = identity;
    part.project_bias = NULL;
    part.n_out = shape->n_middle;
    part.adds_input = false;
    part.after_project.kind = MYR_ACTIVATION_NONE;
    if (is_expanded) {
        part.kernel = part.stride = 1;
        part.pad_top = part.pad_left = 0;
        part.out_height = shape->height;
        part.out_width = shape->width;
        part.depthwise = one;
        part.depthwise_bias = NULL;
        part.after_depthwise.kind = MYR_ACTIVATION_NONE;
    }
    float *values = reference(&part, in);
    for (size_t i = 0; i < (size_t)(part.out_height * part.out_width) * n; i++)
        most = fmaxf(most, values[i]);
    free(values);
    free(identity);
    free(one);
    return most;
}

/* Largest difference over the largest value; 0 where there is no fast block. */
static double compare(myr_block_options shape, bool *ran)
{
    size_t n_in = (size_t)(shape.height * shape.width * shape.n_in),
           n_out = (size_t)(shape.out_height * shape.out_width * shape.n_out);
    int n_taps = shape.kernel * shape.kernel;
    float *expand = shape.n_in == shape.n_middle ? NULL : draw((size_t)(shape.n_middle * shape.n_in), 0.5f);
    float *expand_bias = draw((size_t)shape.n_middle, 0.3f), *depthwise = draw((size_t)(shape.n_middle * n_taps), 0.5f),
          *depthwise_bias = draw((size_t)shape.n_middle, 0.3f),
          *projection = draw((size_t)(shape.n_out * shape.n_middle), 0.2f),
          *project_bias = draw((size_t)shape.n_out, 0.3f), *in = draw(n_in, 1);
    shape.expand = expand;
    shape.expand_bias = expand_bias;
    shape.depthwise = depthwise;
    shape.depthwise_bias = depthwise_bias;
    shape.project = projection;
    shape.project_bias = project_bias;
    double worst = 0, most = 1e-6;
    for (size_t i = 0; shape.precision == MYR_PRECISION_INT8 && !expand && i < n_in; i++)
        in[i] = fabsf(in[i]); /* as behind an activation */
    if (shape.precision == MYR_PRECISION_INT8) {
        shape.expand_most = find_most(&shape, in, true);
        shape.depthwise_most = find_most(&shape, in, false);
    }
    *ran = myr_block_is_possible(&shape);
    if (*ran) {
        myr_block *block;
        assert_int_equal(myr_block_create(&shape, &block), MYR_OK);
        /* Exactly as large as needed, so that the sanitizer sees what reaches beyond. */
        uint16_t *halves = malloc(n_in * sizeof *halves);
        float *floats = malloc(n_in * sizeof *floats), *to = malloc(n_out * sizeof *to);
        void *scratch = aligned_alloc(64, (myr_block_scratch_bytes(block) + 63) / 64 * 64);
        memset(scratch, 0xff, myr_block_scratch_bytes(block)); /* NaN: nothing may be taken for granted */
        for (size_t i = 0; i < n_in; i++)
            halves[i] = to_bf16(floats[i] = in[i]);
        for (int i = 0; i < 2; i++)
            myr_block_run(block, shape.reads_floats ? (void *)floats : halves, to, scratch);
        float *truth = reference(&shape, in);
        for (size_t i = 0; i < n_out; i++) {
            double difference = fabs((double)to[i] - (double)truth[i]);
            worst = isnan(difference) ? INFINITY : fmax(worst, difference);
            most = fmax(most, fabs((double)truth[i]));
        }
        free(truth);
        free(halves);
        free(floats);
        free(to);
        free(scratch);
        myr_block_free(block);
    }
    free(expand);
    free(expand_bias);
    free(depthwise);
    free(depthwise_bias);
    free(projection);
    free(project_bias);
    free(in);
    return worst / most;
}

static int between(int least, int most)
{
    return least + (int)(myr_rng_next(&rng) % (uint64_t)(most - least + 1));
}

static void try_shapes(myr_precision precision)
{
    static const double most_errors[] = {
        [MYR_PRECISION_F32] = 1e-5, [MYR_PRECISION_BF16] = 0.01, [MYR_PRECISION_INT8] = 0.06};
    static const int n_ins[] = {3, 7, 16, 24, 32, 40, 64, 80, 112};
    static const myr_activation activations[] = {{.kind = MYR_ACTIVATION_NONE},
                                                 {.kind = MYR_ACTIVATION_RELU},
                                                 {.kind = MYR_ACTIVATION_CLIP, .low = 0, .high = 1}};
    int n_ran = 0;
    myr_rng_seed(&rng, 5);
    for (int i = 0; i < 300; i++) {
        bool ran, expands = between(0, 4) > 0;
        int n_in = n_ins[between(0, 8)], kernel = 3 + 2 * between(0, 2), stride = between(1, 2);
        myr_block_options shape = {.height = between(1, 20),
                                   .width = between(4, 40),
                                   .n_in = n_in,
                                   .kernel = kernel,
                                   .stride = stride,
                                   .n_middle = expands ? between(8, 200) : n_in,
                                   .n_out = between(0, 1) ? n_in : between(1, 70),
                                   .pad_top = between(0, kernel / 2),
                                   .pad_left = between(0, kernel / 2),
                                   .precision = precision,
                                   .after_expand = activations[between(precision == MYR_PRECISION_INT8 ? 1 : 0, 2)],
                                   .after_depthwise = activations[between(precision == MYR_PRECISION_INT8 ? 1 : 0, 2)],
                                   .after_project = activations[between(0, 2)]};
        /* As padding on the far sides of any size up to half the kernel gives. */
        int far_y = shape.height + shape.pad_top + between(0, kernel / 2) - kernel,
            far_x = shape.width + shape.pad_left + between(0, kernel / 2) - kernel;
        if (far_y < 0 || far_x < 0)
            continue;
        shape.out_height = far_y / stride + 1;
        shape.out_width = far_x / stride + 1;
        shape.reads_floats = between(0, 1);
        shape.adds_input =
            stride == 1 && shape.n_out == n_in && shape.out_height == shape.height && shape.out_width == shape.width;
        double error = compare(shape, &ran);
        n_ran += ran;
        if (error > most_errors[precision])
            fail_msg("%dx%d, %d -> %d -> %d channels, kernel %d, stride %d, pads %d %d, out %dx%d, residual %d: off by "
                     "%g of the largest value",
                     shape.height, shape.width, n_in, shape.n_middle, shape.n_out, kernel, stride, shape.pad_top,
                     shape.pad_left, shape.out_height, shape.out_width, shape.adds_input, error);
    }
    printf("%d shapes compared\n", n_ran);
    if (n_ran == 0)
        skip(); /* this processor has no fast block */
    assert_true(n_ran > 100);
}

static void many_shapes_in_f32(void **state)
{
    (void)state;
    try_shapes(MYR_PRECISION_F32);
}

static void many_shapes_in_bf16(void **state)
{
    (void)state;
    try_shapes(MYR_PRECISION_BF16);
}

static void many_shapes_in_8_bits(void **state)
{
    (void)state;
    try_shapes(MYR_PRECISION_INT8);
}

static void impossible_shapes_are_refused(void **state)
{
    (void)state;
    float weights[64 * 64] = {0};
    myr_block *block;
    myr_block_options shape = {.height = 8,
                               .width = 8,
                               .n_in = 8,
                               .n_middle = 32,
                               .n_out = 8,
                               .out_height = 8,
                               .out_width = 8,
                               .kernel = 4,
                               .stride = 1,
                               .pad_top = 1,
                               .pad_left = 1,
                               .expand = weights,
                               .depthwise = weights,
                               .project = weights};
    assert_int_equal(myr_block_create(&shape, &block), MYR_ERR_UNSUPPORTED); /* no kernel of 4 */
    assert_null(block);
    shape.kernel = 3;
    shape.adds_input = true;
    shape.n_out = 9;
    assert_int_equal(myr_block_create(&shape, &block), MYR_ERR_UNSUPPORTED); /* nothing to add */
    shape.n_out = 8;
    shape.precision = MYR_PRECISION_INT8;
    shape.expand_most = shape.depthwise_most = 1;
    shape.after_expand.kind = MYR_ACTIVATION_RELU;
    assert_int_equal(myr_block_create(&shape, &block),
                     MYR_ERR_UNSUPPORTED); /* values without sign, from no activation */
    shape.after_depthwise.kind = MYR_ACTIVATION_RELU;
    shape.depthwise_most = 0;
    assert_int_equal(myr_block_create(&shape, &block), MYR_ERR_UNSUPPORTED); /* no range */
    myr_block_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_shapes_in_f32), cmocka_unit_test(many_shapes_in_bf16),
                                       cmocka_unit_test(many_shapes_in_8_bits),
                                       cmocka_unit_test(impossible_shapes_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
