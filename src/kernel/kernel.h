/*
 * Kernels: the innermost loops of vector search, one table for each kind of CPU.
 *
 * Every variant gives the same bits. Code distances are sums of integers, exact in any
 * order. Float distances are summed in double, 16 lanes and one tree, multiplied and
 * then added, never fused; a variant that reorders them is wrong.
 */
#ifndef MYR_KERNEL_KERNEL_H
#define MYR_KERNEL_KERNEL_H

#include "myriops/hit.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Code rows are padded with zeros to a multiple of this, and aligned to it. */
#define MYR_CODE_ALIGNMENT 64
/* Axes that vectors are projected on lie in panels of so many: (n_axes / MYR_PANEL, dim, MYR_PANEL). */
#define MYR_PANEL 64
/* The longest row: 65536 * 255^2 still fits 32 bits. */
#define MYR_CODE_MAX_DIM 65536

typedef struct myr_kernel {
    const char *name;
    /* Squared Euclidean distance of two code rows of n_bytes, a multiple of MYR_CODE_ALIGNMENT. */
    uint32_t (*code_distance)(const uint8_t *a, const uint8_t *b, size_t n_bytes);
    /* The same from one row to each of n_rows. */
    void (*code_distances)(const uint8_t *a, const uint8_t *const *rows, size_t n_rows, size_t n_bytes,
                           uint32_t *distances);
    /* Squared Euclidean distance and dot product of float rows, no alignment needed. */
    double (*squared_l2)(const float *a, const float *b, size_t dim);
    double (*dot)(const float *a, const float *b, size_t dim);
    /* Values of 16 bits (half.h) as floats; exact. */
    void (*widen)(const uint16_t *halves, size_t dim, float *values);
    /*
     * Products of n vectors with axes: out[v][i] = offsets[i] + vectors[v][0] * axis i [0] + ..., each step one fused
     * multiplication and addition in float, in the order of the values.
     *
     *  axes     (n_axes / MYR_PANEL, dim, MYR_PANEL); n_axes a multiple of MYR_PANEL
     *  offsets  (n_axes); NULL = zeros
     *  vectors  (n) of dim each; out (n) of n_axes each
     */
    void (*project)(const float *axes, const float *offsets, size_t dim, size_t n_axes, const float *const *vectors,
                    size_t n, float *const *out);
} myr_kernel;

/*
 * myr_kernel_get - the fastest table for this CPU, chosen on the first call.
 *
 * The environment variable MYRIOPS_DISABLE_CPU, a list such as "avx512,avx2", leaves variants out; without avx2
 * there is no avx512 either, and without that no amx.
 */
const myr_kernel *myr_kernel_get(void);

/*
 * myr_kernel_floats - the same table for rows of floats in place of codes: their squared distance, rounded to a float,
 * as its bits, which order as it does. n_bytes of a row count 4 for each value; zeros behind the last add nothing.
 */
const myr_kernel *myr_kernel_floats(void);
/* The float that such bits are. */
static inline float myr_float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Every table this CPU can run, whatever the environment says, reference first; NULL past the last. For tests. */
const myr_kernel *myr_kernel_variant(size_t i);

/* myr_cpu_may_use - whether MYRIOPS_DISABLE_CPU leaves an instruction set of this name to be used, for code that
 * chooses by itself. Not whether the processor has it. */
bool myr_cpu_may_use(const char *name);

/* myr_cpu_name - the table in use: "avx512vnni", "avx2" or "reference". */
const char *myr_cpu_name(void);

/* The distance that hits bear: Euclidean; 1 - cosine of rows of length 1, no less than 0; or minus the inner product,
 * no more than a float holds. */
static inline float myr_hit_distance(const myr_kernel *kernel, myr_metric metric, const float *a, const float *b,
                                     size_t dim)
{
    if (metric == MYR_METRIC_L2)
        return (float)sqrt(kernel->squared_l2(a, b, dim));
    double product = kernel->dot(a, b, dim);
    if (metric == MYR_METRIC_IP)
        return (float)fmin(fmax(0.0 - product, -(double)FLT_MAX), (double)FLT_MAX); /* 0 - 0 has no sign */
    double away = 1.0 - product;
    return away > 0 ? (float)away : 0.0f;
}

/* The variants, for the table only. */
extern const myr_kernel myr_kernel_ref;
#if defined(__x86_64__)
extern const myr_kernel myr_kernel_avx2;
extern const myr_kernel myr_kernel_avx512;
#endif

/* Bytes of a code row: dim rounded up. */
static inline size_t myr_code_bytes(size_t dim)
{
    return (dim + MYR_CODE_ALIGNMENT - 1) / MYR_CODE_ALIGNMENT * MYR_CODE_ALIGNMENT;
}

/* The straight line between values and codes: code = (value - least) * per_value, value = least + code * step. */
typedef struct myr_scale {
    double least, per_value, step;
} myr_scale;

/* myr_scale_of - codes 0 and 255 stand for least and most; least == most puts every value on code 0. */
myr_scale myr_scale_of(float least, float most);

/*
 * myr_quantise - a row of codes: rounded to nearest, ties to even, clamped to 0..255.
 *
 *  codes     [out]  (myr_code_bytes(dim)) zeros behind dim
 *  residual  [out]  no less than the Euclidean distance of the vector to the values its codes stand for
 *
 * Returns:  false where a value is not finite; codes are unspecified then.
 */
bool myr_quantise(const myr_scale *scale, const float *vector, size_t dim, uint8_t *codes, float *residual);

/* myr_dequantise - the values that codes stand for: (dim) of each. */
void myr_dequantise(const myr_scale *scale, const uint8_t *codes, size_t dim, float *vector);

#endif
