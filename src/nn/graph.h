/*
 * The graph of a network: values, and the nodes that make them, in an order in
 * which every value is made before it is used. Values and nodes are named by
 * their place in their array.
 */
#ifndef MYR_NN_GRAPH_H
#define MYR_NN_GRAPH_H

#include "base/checksum.h"
#include "nn/tensor.h"

#define MYR_NO_VALUE (-1)

typedef enum myr_attribute_type {
    MYR_ATTRIBUTE_INT,
    MYR_ATTRIBUTE_FLOAT,
    MYR_ATTRIBUTE_TEXT,
    MYR_ATTRIBUTE_INTS,
    MYR_ATTRIBUTE_FLOATS,
    MYR_ATTRIBUTE_TENSOR,
    MYR_ATTRIBUTE_OTHER /* of a kind no operator here takes */
} myr_attribute_type;

typedef struct myr_attribute {
    char *name;
    myr_attribute_type type;
    int64_t number;
    float real;
    char *text;
    size_t n;
    int64_t *numbers;         /* (n) */
    float *reals;             /* (n) */
    const myr_tensor *tensor; /* one hold, or NULL; shared with copies of the graph, so read only */
} myr_attribute;

/* What is done to a node's result before it is stored; fused from nodes behind it. */
typedef enum myr_activation_kind {
    MYR_ACTIVATION_NONE,
    MYR_ACTIVATION_RELU,
    MYR_ACTIVATION_CLIP,
    MYR_ACTIVATION_SWISH,      /* x * sigmoid(alpha * x) */
    MYR_ACTIVATION_HARD_SWISH, /* x * clip(x / 6 + 1/2, 0, 1) */
    MYR_ACTIVATION_GELU,       /* x / 2 * (1 + erf(x / sqrt(2))) */
    MYR_ACTIVATION_GELU_TANH   /* x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) */
} myr_activation_kind;

typedef struct myr_activation {
    myr_activation_kind kind;
    float low, high; /* of CLIP */
    float alpha;     /* of SWISH */
} myr_activation;

typedef struct myr_node {
    const struct myr_operator *op;
    char *name;
    int n_inputs, n_outputs;
    int *inputs;  /* (n_inputs) values; MYR_NO_VALUE where an optional one is left out */
    int *outputs; /* (n_outputs) values; MYR_NO_VALUE likewise */
    size_t n_attributes;
    myr_attribute *attributes;
    int residual; /* value added to the result before the activation, or MYR_NO_VALUE */
    myr_activation activation;
} myr_node;

typedef struct myr_value {
    char *name;
    bool is_shaped; /* type and shape are known */
    myr_type type;
    myr_shape shape;
    const myr_tensor *constant; /* one hold, or NULL; shared with copies of the graph, so read only */
} myr_value;

typedef struct myr_graph {
    int64_t opset;
    size_t n_values, values_room;
    myr_value *values;
    size_t n_nodes, nodes_room;
    myr_node *nodes;
    size_t n_inputs, n_outputs;
    int *inputs, *outputs; /* [owned] values */
    int64_t file_batch;    /* first dimension of the first input in the file; -1 where it is left open */
    int64_t batch;         /* and the one it was bound to; 0 = not bound */
    double work;           /* about as many steps as a run takes, once shapes are inferred */
    char external_sha256[MYR_SHA256_TEXT]; /* over the weights that other files than the model's hold; "" = none do */
} myr_graph;

myr_status myr_graph_create(myr_graph **graph);
void myr_graph_free(myr_graph *graph);
/* A graph of its own with the same contents; constants are shared, not copied. */
myr_status myr_graph_copy(const myr_graph *graph, myr_graph **copy);

/* A new value; its place in *value. name is copied. */
myr_status myr_graph_add_value(myr_graph *graph, const char *name, int *value);
/* A new node at the end, with room for inputs and outputs, all MYR_NO_VALUE. [borrowed] until the next one is added. */
myr_status myr_graph_add_node(myr_graph *graph, const char *name, int n_inputs, int n_outputs, myr_node **node);
/* Value by name, or MYR_NO_VALUE. Linear: for a few questions, not for loading. */
int myr_graph_find(const myr_graph *graph, const char *name);
/* Remove nodes whose op was set to NULL, keeping the order. */
void myr_graph_compact(myr_graph *graph);
/* Remove nodes that no output needs, and let go of the constants that no node left reads. */
myr_status myr_graph_prune(myr_graph *graph);
/* uses[v]: how often nodes read value v, outputs counted once more. (n_values) [owned by caller], NULL without memory.
 */
int *myr_graph_count_uses(const myr_graph *graph);
/* producer[v]: the node that makes value v, or -1. (n_values) [owned by caller], NULL without memory. */
int *myr_graph_find_producers(const myr_graph *graph);

const myr_attribute *myr_node_attribute(const myr_node *node, const char *name);
int64_t myr_node_int(const myr_node *node, const char *name, int64_t standard);
float myr_node_float(const myr_node *node, const char *name, float standard);
const char *myr_node_text(const myr_node *node, const char *name, const char *standard);
/* The constant behind input i, or NULL. */
const myr_tensor *myr_node_constant(const myr_graph *graph, const myr_node *node, int i);
/* Nobody asks for an output behind the first. */
bool myr_node_has_one_output(const myr_node *node);
/* Takes all attributes away. */
void myr_node_clear_attributes(myr_node *node);
/* Empties a node. */
void myr_node_clear(myr_node *node);

#endif
