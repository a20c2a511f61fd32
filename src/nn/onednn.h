/*
 * What the oneDNN backend builds its operators from: calls of primitives, the layouts
 * of values, constants brought into the layout a primitive likes.
 */
#ifndef MYR_NN_ONEDNN_H
#define MYR_NN_ONEDNN_H

#include "nn/backend.h"
#include "nn/onednn_parts.h"

#include <oneapi/dnnl/dnnl.h>

#define MYR_ONEDNN_MAX_ARGUMENTS 32 /* as many as the widest Concat of DenseNets takes, and some more */

/* One argument of a primitive: a buffer of the arena, or memory of the network's own. */
typedef struct myr_onednn_argument {
    int name;   /* DNNL_ARG_... */
    int buffer; /* -1 = scratch or constant */
    dnnl_memory_desc_t layout;
    size_t skipped_bytes;   /* from where the buffer begins */
    dnnl_memory_t constant; /* [owned] or NULL */
} myr_onednn_argument;

/* What a primitive reads: a value where it is, or a constant. */
typedef struct myr_onednn_source {
    int name;                  /* DNNL_ARG_... */
    int buffer;                /* of a value */
    dnnl_memory_desc_t layout; /* wanted */
    const void *constant;      /* [borrowed] floats, or NULL */
    dnnl_memory_desc_t constant_layout;
} myr_onednn_source;

typedef struct myr_onednn_call {
    dnnl_primitive_t primitive;
    int n_arguments;
    myr_onednn_argument arguments[MYR_ONEDNN_MAX_ARGUMENTS];
    size_t scratch_bytes;
    dnnl_engine_t engine; /* [borrowed] */
} myr_onednn_call;

/* Where a value is, in the layout its producer gave it. */
typedef struct myr_onednn_place {
    int buffer; /* -1 = only in plain layout (compiler->buffer), or nowhere yet */
    dnnl_memory_desc_t layout;
    bool is_view; /* the layout's dimensions are the value's parts, not its own; no narrow type */
    float scale;  /* of 8-bit values: value = scale * stored; 0 = floats */
    int floats;   /* buffer of a value of another type once more in the network's floats, or -1 */
    dnnl_memory_desc_t floats_layout;
} myr_onednn_place;

typedef struct myr_onednn_builder {
    myr_compiler *compiler;
    const myr_graph *graph;
    dnnl_engine_t engine;
    myr_onednn_place *places; /* (n_values) */
    dnnl_data_type_t type;    /* what values are kept in where nothing says otherwise */
    bool *shared;             /* (n_values) its buffer is another value's too, so nothing may be summed into it */
    int *uses;                /* (n_values) how often each is read */
    bool *is_done;            /* (n_nodes) computed by the step of a node before */
    int node_place;
} myr_onednn_builder;

myr_status myr_onednn_library_failed(dnnl_status_t status, const char *what);
void myr_onednn_free_call(void *memory);
myr_onednn_call *myr_onednn_new_call(const myr_onednn_builder *build);
void myr_onednn_add_argument(myr_onednn_call *self, int name, int buffer, const dnnl_memory_desc_t *layout);
/* Finish a call from its descriptor: the primitive, its scratch memory, the step. Takes call and descriptor over. */
myr_status myr_onednn_add_call(myr_onednn_builder *build, const char *label, myr_onednn_call *self,
                               dnnl_primitive_desc_t descriptor);
/* A layout by its tag; dims: (rank). oneDNN's functions read arrays of their full length. */
bool myr_onednn_set_layout(dnnl_memory_desc_t *layout, dnnl_data_type_t type, int rank, const int64_t *dims,
                           dnnl_format_tag_t tag);
dnnl_primitive_attr_t myr_onednn_new_attributes(void);
/* A step that copies a buffer into another layout and type, times a factor. */
myr_status myr_onednn_add_reorder(myr_onednn_builder *build, const char *label, int from,
                                  const dnnl_memory_desc_t *from_layout, int to, const dnnl_memory_desc_t *to_layout,
                                  float factor);

/* ---- Where values are (onednn_place.c) ---- */

/* Row-major layout of 32-bit floats; false for a shape of rank 0 or without elements. */
bool myr_onednn_plain_layout(const myr_shape *shape, dnnl_memory_desc_t *layout);
/* The value in plain layout, for the reference implementations and the outputs. */
myr_status myr_onednn_make_plain(myr_onednn_builder *build, int value);
/* The value in the network's floats, in whatever layout of its own dimensions without gaps, converted where it is of
 * another type; false where it has none that oneDNN knows. */
bool myr_onednn_bring_floats(myr_onednn_builder *build, int value, int *buffer, dnnl_memory_desc_t *layout);
/*
 * The value in a given layout and type; its buffer in *buffer. scale: of 8-bit types, else 1. The layout's dimensions
 * may be another shape of as many elements.
 */
myr_status myr_onednn_bring(myr_onednn_builder *build, int value, const dnnl_memory_desc_t *wanted, float scale,
                            int *buffer);
/* The same into a buffer that is there. */
myr_status myr_onednn_copy(myr_onednn_builder *build, int value, const dnnl_memory_desc_t *wanted, float scale,
                           int buffer);
/*
 * The value in the network's floats as rows of `length` elements, its last dimensions, without gaps. They may lie in
 * any order: *order are the rows' parts, with strides in rows.
 */
myr_status myr_onednn_bring_rows(myr_onednn_builder *build, int value, int64_t length, int *buffer, myr_parts *order);
/* A buffer for a value that is about to be made. */
myr_status myr_onednn_settle(myr_onednn_builder *build, int value, const dnnl_memory_desc_t *layout, int *buffer);
/* The same for rows of `length` elements in such an order. */
myr_status myr_onednn_settle_rows(myr_onednn_builder *build, int value, const myr_parts *order, int64_t length,
                                  dnnl_data_type_t type, int *buffer);
/* The value's own parts; false where it lies in blocks. *type is what it is kept in. */
bool myr_onednn_parts_of(const myr_onednn_builder *build, int value, int *buffer, myr_parts *parts,
                         dnnl_data_type_t *type);
/* From now on the value is these parts of a buffer that another value has too. */
myr_status myr_onednn_place_view(myr_onednn_builder *build, int value, int buffer, const myr_parts *parts,
                                 dnnl_data_type_t type);
/* Reshape, Transpose, Slice, Split and Gather of one place without a copy. *taken is false where that cannot be. */
myr_status myr_onednn_view(myr_onednn_builder *build, const myr_node *node, bool *taken);

/* ---- Constants, attributes, plans ---- */

/* What a constant is multiplied by on its way into another type: a factor for each index of the masked dimensions. */
typedef struct myr_onednn_scales {
    int64_t n;
    int mask;
    const float *factors; /* (n) */
} myr_onednn_scales;

/* A constant as a memory object in a wanted layout, copied or reordered now. scales: NULL = as it is. */
myr_status myr_onednn_add_constant(myr_onednn_builder *build, myr_onednn_call *self, int name, const void *data,
                                   const dnnl_memory_desc_t *layout, const dnnl_memory_desc_t *wanted,
                                   const myr_onednn_scales *scales);

/* What is in the result's buffer before, and is added. */
typedef struct myr_onednn_sum {
    float scale;
    dnnl_data_type_t type;
} myr_onednn_sum;

/* Attributes with what is fused behind a node. sum: NULL = nothing is added. NULL without memory. */
dnnl_primitive_attr_t myr_onednn_fused_attributes(const myr_activation *activation, const myr_onednn_sum *sum);
/* The primitive for an operation, with attributes, which are taken over; NULL where oneDNN has none for it. */
dnnl_primitive_desc_t myr_onednn_plan(const myr_onednn_builder *build, const_dnnl_op_desc_t operation,
                                      dnnl_primitive_attr_t attributes);
/* A step that makes a value from n sources: its buffer in the layout planned, its call. planned is taken over. */
myr_status myr_onednn_add_maker(myr_onednn_builder *build, const char *label, int value, dnnl_primitive_desc_t planned,
                                int n, const myr_onednn_source *sources);
/* The same into a buffer that is there. */
myr_status myr_onednn_add_writer(myr_onednn_builder *build, const char *label, int to, const dnnl_memory_desc_t *result,
                                 dnnl_primitive_desc_t planned, int n, const myr_onednn_source *sources);
/* Element by element on two values that are not constants; shapes of one rank, each dimension equal or 1. *taken is
 * false where oneDNN has nothing for it. */
myr_status myr_onednn_binary(myr_onednn_builder *build, const char *label, const int sides[2], int result,
                             dnnl_alg_kind_t kind, const myr_activation *activation, bool *taken);
/* Functions of one value that no other node took over. *taken is false where oneDNN has none, as below. */
myr_status myr_onednn_function(myr_onednn_builder *build, const myr_node *node, bool *taken);
/* Add, Sub, Mul and Div of two values, or of one and a number or a row. */
myr_status myr_onednn_pair(myr_onednn_builder *build, const myr_node *node, bool *taken);
/* Gemm and MatMul. */
myr_status myr_onednn_product(myr_onednn_builder *build, const myr_node *node, bool *taken);
myr_status myr_onednn_softmax(myr_onednn_builder *build, const myr_node *node, bool *taken);
myr_status myr_onednn_layer_normalization(myr_onednn_builder *build, const myr_node *node, bool *taken);
/* The mean over height and width, in plain layout. *taken is false where the layout is another. */
myr_status myr_onednn_mean_of_channels(myr_onednn_builder *build, const char *label, int value, int result,
                                       bool *taken);
/* (n, c, h, w) times (n, c, 1, 1). *taken is false where shapes or layout are others. */
myr_status myr_onednn_scale_channels(myr_onednn_builder *build, const char *label, int value, int factor, int result,
                                     bool *taken);
/* n values behind each other along the channels. *taken is false where one of them is not in blocks of 16 channels. */
myr_status myr_onednn_join_channels(myr_onednn_builder *build, const char *label, int result, int n,
                                    const myr_onednn_source *sources, bool *taken);
/* The block of convolutions that begins at this one, if it is an inverted residual. */
myr_status myr_onednn_inverted_residual(myr_onednn_builder *build, const myr_node *node, bool *taken);
/* Conv with all that is fused behind it. */
myr_status myr_onednn_convolution(myr_onednn_builder *build, const myr_node *node, bool *taken);
const dnnl_memory_desc_t *myr_onednn_layout_of(dnnl_primitive_desc_t descriptor, dnnl_query_t which, int i);

#endif
