/*
 * The table of operators: for each its name in ONNX, the attributes it takes, how its
 * output shapes follow from its inputs, and a slow and plain implementation, which
 * is the oracle of every fast one and folds constants.
 */
#ifndef MYR_NN_OPERATOR_H
#define MYR_NN_OPERATOR_H

#include "nn/graph.h"

typedef enum myr_kind {
    MYR_KIND_OTHER, /* no backend treats it specially */
    MYR_KIND_ADD,
    MYR_KIND_AVERAGE_POOL,
    MYR_KIND_BATCH_NORMALIZATION,
    MYR_KIND_CLIP,
    MYR_KIND_CONCAT,
    MYR_KIND_CONSTANT,
    MYR_KIND_CONV,
    MYR_KIND_GEMM,
    MYR_KIND_GLOBAL_AVERAGE_POOL,
    MYR_KIND_MATMUL,
    MYR_KIND_MAX_POOL,
    MYR_KIND_MUL,
    MYR_KIND_PAD,
    MYR_KIND_RELU,
    MYR_KIND_REDUCE_MEAN,
    MYR_KIND_RESHAPE, /* bytes stay as they are: Flatten, Reshape, Squeeze, Unsqueeze, Identity, Dropout */
    MYR_KIND_SHAPE,   /* known as soon as its input's shape is */
    MYR_KIND_SIGMOID,
    MYR_KIND_SOFTMAX
} myr_kind;

/* A node with the tensors it is applied to. */
typedef struct myr_operation {
    const myr_node *node;
    int64_t opset;
    int64_t file_batch, batch;   /* as in the graph */
    const myr_tensor *const *in; /* (node->n_inputs) NULL where left out; data NULL where not known yet */
    myr_tensor *out;             /* (node->n_outputs) */
} myr_operation;

typedef struct myr_operator {
    const char *name;
    myr_kind kind;
    int least_inputs, most_inputs, most_outputs;
    /* What it takes: "axis:int perm:ints ", each as name, colon, type (int float text ints floats tensor), space. */
    const char *attributes;
    /* Attribute values this implementation does not take, as a sentence; NULL = none to check. */
    const char *(*refuse)(const myr_node *node, int64_t opset);
    /* Types and shapes of the outputs; may read inputs whose data is there. */
    myr_status (*infer)(const myr_operation *operation);
    /* Data of the outputs, which have memory. */
    myr_status (*compute)(const myr_operation *operation);
} myr_operator;

/* Row by ONNX name, or NULL. */
const myr_operator *myr_operator_find(const char *name);

/* The tables, one a family; a row without a name ends each. */
extern const myr_operator myr_convolution_operators[];
extern const myr_operator myr_pool_operators[];
extern const myr_operator myr_matrix_operators[];
extern const myr_operator myr_elementwise_operators[];
extern const myr_operator myr_normalise_operators[];
extern const myr_operator myr_layout_operators[];
extern const myr_operator myr_select_operators[];

/* For the implementations. */

/* Input i, or NULL where it is left out or there are fewer. */
const myr_tensor *myr_operation_input(const myr_operation *operation, int i);
/* An output like this. */
void myr_operation_shape(const myr_operation *operation, int i, myr_type type, const myr_shape *shape);
/* A failure that names the node. */
myr_status myr_operation_fail(const myr_operation *operation, myr_status status, const char *what);
/* A list of whole numbers given as an attribute (older operator sets) or as input i; NULL where neither is there.
 * *known is false where the input is computed at run time. */
const int64_t *myr_operation_list(const myr_operation *operation, const char *attribute, int i, size_t *n, bool *known);

/* A sliding window over the last two dimensions. */
typedef struct myr_window {
    int64_t kernel[2], stride[2], dilation[2], pad_begin[2], pad_end[2], in[2], out[2];
} myr_window;

/* From the attributes of Conv and pools, kernel as given, input (n, c, h, w). MYR_ERR_UNSUPPORTED | MYR_ERR_FORMAT. */
myr_status myr_window_resolve(const myr_node *node, const myr_shape *input, const int64_t kernel[2],
                              myr_window *window);

#endif
