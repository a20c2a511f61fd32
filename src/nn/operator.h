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
    MYR_KIND_DIV,
    MYR_KIND_ERF,
    MYR_KIND_GATHER,
    MYR_KIND_GELU,
    MYR_KIND_GEMM,
    MYR_KIND_GLOBAL_AVERAGE_POOL,
    MYR_KIND_HARD_SWISH,
    MYR_KIND_LAYER_NORMALIZATION,
    MYR_KIND_MATMUL, /* fused, it may have alpha and a third input, a row that is added to each row of the product */
    MYR_KIND_MAX_POOL,
    MYR_KIND_MUL,
    MYR_KIND_PAD,
    MYR_KIND_POW,
    MYR_KIND_RELU,
    MYR_KIND_REDUCE_MEAN,
    MYR_KIND_RESHAPE, /* bytes stay as they are: Flatten, Reshape, Squeeze, Unsqueeze, Identity, Dropout */
    MYR_KIND_SHAPE,   /* known as soon as its input's shape is */
    MYR_KIND_SIGMOID,
    MYR_KIND_SLICE,
    MYR_KIND_SOFTMAX,
    MYR_KIND_SPLIT,
    MYR_KIND_SQRT,
    MYR_KIND_SUB,
    MYR_KIND_SWISH,
    MYR_KIND_TANH,
    MYR_KIND_TRANSPOSE
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
extern const myr_operator myr_channel_operators[];
extern const myr_operator myr_compare_operators[];
extern const myr_operator myr_detect_operators[];
extern const myr_operator myr_einsum_operators[];
extern const myr_operator myr_arrange_operators[];
extern const myr_operator myr_function_operators[];
extern const myr_operator myr_index_operators[];
extern const myr_operator myr_reduce_operators[];
extern const myr_operator myr_resize_operators[];
extern const myr_operator myr_sort_operators[];
extern const myr_operator myr_transposed_operators[];

/* For the implementations. */

/* Numbers of element types in files (TensorProto.DataType). */
enum {
    MYR_ONNX_FLOAT = 1,
    MYR_ONNX_UINT8 = 2,
    MYR_ONNX_INT8 = 3,
    MYR_ONNX_UINT16 = 4,
    MYR_ONNX_INT16 = 5,
    MYR_ONNX_INT32 = 6,
    MYR_ONNX_INT64 = 7,
    MYR_ONNX_BOOL = 9,
    MYR_ONNX_HALF = 10,
    MYR_ONNX_DOUBLE = 11,
    MYR_ONNX_UINT32 = 12,
    MYR_ONNX_UINT64 = 13
};

/* Input i, or NULL where it is left out or there are fewer. */
const myr_tensor *myr_operation_input(const myr_operation *operation, int i);
/* An output like this. */
void myr_operation_shape(const myr_operation *operation, int i, myr_type type, const myr_shape *shape);
/* A failure that names the node. */
myr_status myr_operation_fail(const myr_operation *operation, myr_status status, const char *what);
/* A list of whole numbers given as an attribute (older operator sets) or as input i; NULL where neither is there.
 * *known is false where the input is computed at run time. */
const int64_t *myr_operation_list(const myr_operation *operation, const char *attribute, int i, size_t *n, bool *known);

/* myr_operation_list with a failure that says `what` must be constants. */
myr_status myr_operation_constants(const myr_operation *operation, const char *attribute, int i, const char *what,
                                   const int64_t **list, size_t *n);
/* A failure that says `what` must be a constant, where input i is there but not known. */
myr_status myr_operation_known(const myr_operation *operation, int i, const char *what);
/* The attribute `axis` resolved for a rank. */
myr_status myr_operation_axis(const myr_operation *operation, int64_t standard, int rank, int *axis);
/* Only floats: MYR_ERR_UNSUPPORTED where one of the first n inputs has another type. */
myr_status myr_operation_floats(const myr_operation *operation, int n);
/* The type that elements of a type of ONNX's (its number in a file) are widened to; false where none is supported. */
bool myr_type_of_file(int64_t number, myr_type *type);
/* Whether output i is asked for. */
bool myr_operation_wants(const myr_operation *operation, int i);

/* Steps through a shape in row-major order, with the place in each of several tensors that are stretched to it. */
typedef struct myr_walk {
    const myr_shape *shape;
    int n;
    size_t strides[4][MYR_TENSOR_MAX_RANK], at[4]; /* at[k]: element of tensor k */
    int64_t place[MYR_TENSOR_MAX_RANK];
} myr_walk;

void myr_walk_begin(myr_walk *walk, const myr_shape *shape);
/* One tensor more, whose dimensions are aligned at the last and are 1 or the shape's. */
void myr_walk_add(myr_walk *walk, const myr_shape *tensor);
void myr_walk_step(myr_walk *walk);

/* Where a Slice of constant bounds begins in each dimension of its input; false where one of its steps is not 1. */
bool myr_slice_starts(const myr_graph *graph, const myr_node *node, int64_t *start);

/* A sliding window over one to three dimensions, those behind the second. */
#define MYR_WINDOW_DIMS 3
typedef struct myr_window {
    int n; /* dimensions */
    int64_t kernel[MYR_WINDOW_DIMS], stride[MYR_WINDOW_DIMS], dilation[MYR_WINDOW_DIMS];
    int64_t pad_begin[MYR_WINDOW_DIMS], pad_end[MYR_WINDOW_DIMS];
    int64_t in[MYR_WINDOW_DIMS], out[MYR_WINDOW_DIMS];
} myr_window;

/* From the attributes of Conv and pools, kernel as given, input (n, c, ...). MYR_ERR_UNSUPPORTED | MYR_ERR_FORMAT. */
myr_status myr_window_resolve(const myr_node *node, const myr_shape *input, const int64_t *kernel, myr_window *window);
/* The lists that it reads, for operators that find the size of their output another way. */
bool myr_window_take(const myr_node *node, const myr_shape *input, const int64_t *kernel, myr_window *window);
/* The same window as one over three dimensions, of which the first ones may be 1 long. */
myr_window myr_window_deepen(const myr_window *window);

#endif
