/*
 * The inner loops of the OpenBLAS backend beside its products of matrices. One source,
 * compiled for several CPUs; a table for each, chosen once.
 *
 * No pointer needs alignment. Lengths may be 0. An output may be an input unless said otherwise.
 */
#ifndef MYR_NN_OPENBLAS_KERNELS_H
#define MYR_NN_OPENBLAS_KERNELS_H

#include "nn/graph.h"

/* A convolution of each channel by itself; channels lie innermost. */
typedef struct myr_depthwise {
    int64_t n_channels;
    int64_t kernel[2];
    int64_t stride, dilation, pad; /* along a row */
    int64_t n_in, n_out;           /* cells of a row */
    const float *weights;          /* (kernel[0], kernel[1], n_channels) */
    const float *bias;             /* (n_channels) */
} myr_depthwise;

typedef enum myr_function {
    MYR_FUNCTION_CLIP, /* between a and b; a = 0, b = infinity is Relu */
    MYR_FUNCTION_SIGMOID,
    MYR_FUNCTION_TANH,
    MYR_FUNCTION_ERF,
    MYR_FUNCTION_EXP,
    MYR_FUNCTION_SQRT,
    MYR_FUNCTION_HARD_SIGMOID, /* a x + b between 0 and 1 */
    MYR_FUNCTION_HARD_SWISH,
    MYR_FUNCTION_LEAKY_RELU /* a x below 0 */
} myr_function;

typedef enum myr_pairing {
    MYR_PAIRING_ADD,
    MYR_PAIRING_SUBTRACT,
    MYR_PAIRING_MULTIPLY,
    MYR_PAIRING_DIVIDE
} myr_pairing;

typedef struct myr_openblas_kernels {
    const char *name;
    /* Each of n_rows rows becomes bias (n; NULL = 0) plus its row of the residual (n_rows, n; may be NULL). */
    void (*fill_rows)(float *rows, const float *residual, const float *bias, size_t n_rows, size_t n);
    /* One row of results (n_out, n_channels) from kernel[0] rows of the input; out is no input. */
    void (*depthwise_row)(const myr_depthwise *self, const float *const *rows, float *out);
    void (*apply)(myr_function function, float a, float b, const float *x, float *y, size_t n);
    /* y = x (pairing) z; a stride of 0 takes the first element of x or z for all, of 1 each its own. */
    void (*pair)(myr_pairing pairing, const float *x, int x_stride, const float *z, int z_stride, float *y, size_t n);
    /* y = x * factor + offset, element by element. */
    void (*scale)(const float *x, const float *factor, const float *offset, float *y, size_t n);
    /* y = max(y, x), where x is a number. */
    void (*raise)(const float *x, float *y, size_t n);
    void (*softmax_row)(const float *x, float *y, size_t n);
    /* bias may be NULL. */
    void (*normalise_row)(const float *x, const float *scale, const float *bias, float epsilon, float *y, size_t n);
    /* (n_rows, n_columns) to (n_columns, n_rows); out is not in. */
    void (*transpose)(const float *in, size_t n_rows, size_t n_columns, float *out);
} myr_openblas_kernels;

/* The fastest for this CPU; MYRIOPS_DISABLE_CPU leaves some out, as in kernel/kernel.h. */
const myr_openblas_kernels *myr_openblas_kernels_get(void);

extern const myr_openblas_kernels myr_openblas_kernels_portable;
#if defined(__x86_64__)
extern const myr_openblas_kernels myr_openblas_kernels_avx2;
extern const myr_openblas_kernels myr_openblas_kernels_avx512;
#endif

#endif
