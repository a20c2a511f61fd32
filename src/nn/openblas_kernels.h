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

/* Rows of a matrix times some columns of another, added up over several calls. The right matrix lies in panels: each
 * has panel_width columns next to each other, row after row; the last one half as many if those are enough. */
typedef struct myr_rows_by_panels {
    size_t n_rows, n_out;
    size_t first, last, depth;      /* of depth rows of the right matrix, those in [first, last) */
    const float *left;              /* (n_rows, last - first) */
    const float *panels;            /* (n_panels, depth, width) all of them, zeros behind n_out */
    const float *bias;              /* (n_out), read up to a whole panel */
    const float *residual;          /* (n_rows, n_out), or NULL */
    float *out;                     /* (n_rows, n_out); first > 0 adds to it */
    size_t left_stride, out_stride; /* floats from row to row; the residual's is out_stride */
    float low, high;                /* after the last row of the right matrix, results are put between them */
} myr_rows_by_panels;

#define MYR_WINOGRAD_PLACES 36

/* Where the 4x4 results of one tile go. */
typedef struct myr_winograd_result {
    size_t n_channels; /* a multiple of 16 */
    size_t stride;     /* floats from place to place */
    const float *bias; /* (n_channels) */
    float low, high;
    float *out[16];            /* (n_channels) each; NULL outside the picture */
    const float *residual[16]; /* likewise, NULL = none */
} myr_winograd_result;

typedef enum myr_function {
    MYR_FUNCTION_CLIP, /* between a and b; a = 0, b = infinity is Relu */
    MYR_FUNCTION_SIGMOID,
    MYR_FUNCTION_TANH,
    MYR_FUNCTION_ERF,
    MYR_FUNCTION_EXP,
    MYR_FUNCTION_SQRT,
    MYR_FUNCTION_HARD_SIGMOID, /* a x + b between 0 and 1 */
    MYR_FUNCTION_HARD_SWISH,
    MYR_FUNCTION_LEAKY_RELU, /* a x below 0 */
    MYR_FUNCTION_SWISH,      /* x sigmoid(a x) */
    MYR_FUNCTION_GELU,       /* by erf */
    MYR_FUNCTION_GELU_TANH
} myr_function;

typedef enum myr_pairing {
    MYR_PAIRING_ADD,
    MYR_PAIRING_SUBTRACT,
    MYR_PAIRING_MULTIPLY,
    MYR_PAIRING_DIVIDE
} myr_pairing;

typedef struct myr_openblas_kernels {
    const char *name;
    size_t panel_width; /* 0: no multiply, use OpenBLAS */
    /* An element's sum has one order, whatever rows are computed with it. */
    void (*multiply)(const myr_rows_by_panels *self);
    /* To each of n_rows rows its row of the residual (n_rows, n; may be NULL) and the bias (n; NULL = 0) are added;
     * results lie between low and high. */
    void (*finish_rows)(float *rows, const float *residual, const float *bias, float low, float high, size_t n_rows,
                        size_t n);
    /* One row of results (n_out, n_channels) from kernel[0] rows of the input; out is no input. */
    void (*depthwise_row)(const myr_depthwise *self, const float *const *rows, float *out);
    /* 36 cells of a tile (n_channels each, a multiple of 16) into 36 places, `stride` floats apart. */
    void (*winograd_in)(const float *const cells[MYR_WINOGRAD_PLACES], size_t n_channels, float *to, size_t stride);
    void (*winograd_out)(const myr_winograd_result *result, const float *from);
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
