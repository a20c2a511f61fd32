/*
 * Operators on single elements, and on pairs of elements with broadcasting.
 */
#include "nn/operator.h"

#include <math.h>
#include <string.h>

static myr_status infer_unary(const myr_operation *operation)
{
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &operation->in[0]->shape);
    return myr_operation_floats(operation, 1);
}

/* Relu and Clip know whole numbers too. */
static myr_status infer_bounded(const myr_operation *operation)
{
    for (int i = 1; i <= 2; i++) {
        const myr_tensor *bound = myr_operation_input(operation, i);
        if (bound && (bound->type != operation->in[0]->type || myr_shape_count(&bound->shape) != 1))
            return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED,
                                      "bounds must be single numbers of the input's type");
    }
    myr_operation_shape(operation, 0, operation->in[0]->type, &operation->in[0]->shape);
    return MYR_OK;
}

/* Clip's bounds: attributes before operator set 11, inputs since. */
static void clip_bounds(const myr_operation *operation, float *low, float *high)
{
    const myr_tensor *least = myr_operation_input(operation, 1), *most = myr_operation_input(operation, 2);
    *low = least ? *(const float *)least->data : myr_node_float(operation->node, "min", -INFINITY);
    *high = most ? *(const float *)most->data : myr_node_float(operation->node, "max", INFINITY);
}

/* Relu or Clip of whole numbers. */
static void bound_numbers(const myr_operation *operation)
{
    const myr_tensor *least = myr_operation_input(operation, 1), *most = myr_operation_input(operation, 2);
    bool relu = operation->node->op->kind == MYR_KIND_RELU;
    int64_t low = relu ? 0 : least ? *(const int64_t *)least->data : INT64_MIN;
    int64_t high = most ? *(const int64_t *)most->data : INT64_MAX;
    size_t n = myr_shape_count(&operation->out[0].shape);
    for (size_t i = 0; i < n; i++) {
        int64_t x = ((const int64_t *)operation->in[0]->data)[i];
        x = x < low ? low : x;
        ((int64_t *)operation->out[0].data)[i] = x > high ? high : x;
    }
}

static float sigmoid(float x)
{
    return (float)(1 / (1 + exp(-(double)x)));
}

static float hard_sigmoid(const myr_node *node, float x)
{
    float y = myr_node_float(node, "alpha", 0.2f) * x + myr_node_float(node, "beta", 0.5f);
    return y < 0 ? 0 : y > 1 ? 1 : y;
}

typedef enum unary { RELU, SIGMOID, TANH, ERF, EXP, SQRT, HARD_SIGMOID, HARD_SWISH, LEAKY_RELU, CLIP, NOT_UNARY } unary;

static const char *const unary_names[] = {"Relu", "Sigmoid",     "Tanh",      "Erf",       "Exp",
                                          "Sqrt", "HardSigmoid", "HardSwish", "LeakyRelu", "Clip"};

static unary find_unary(const char *name)
{
    unary which = RELU;
    while (which < NOT_UNARY && strcmp(unary_names[which], name) != 0)
        which++;
    return which;
}

static myr_status compute_unary(const myr_operation *operation)
{
    const myr_node *node = operation->node;
    unary which = find_unary(node->op->name);
    const float *in = operation->in[0]->data;
    float *out = operation->out[0].data, low = 0, high = 0, slope = myr_node_float(node, "alpha", 0.01f);
    size_t n = myr_shape_count(&operation->out[0].shape);
    if (operation->in[0]->type == MYR_TYPE_I64) {
        bound_numbers(operation);
        return MYR_OK;
    }
    if (which == CLIP)
        clip_bounds(operation, &low, &high);
    for (size_t i = 0; i < n; i++) {
        float x = in[i];
        switch (which) {
        case RELU:
            out[i] = x < 0 ? 0 : x;
            break;
        case SIGMOID:
            out[i] = sigmoid(x);
            break;
        case TANH:
            out[i] = tanhf(x);
            break;
        case ERF:
            out[i] = (float)erf((double)x);
            break;
        case EXP:
            out[i] = (float)exp((double)x);
            break;
        case SQRT:
            out[i] = sqrtf(x);
            break;
        case HARD_SIGMOID:
            out[i] = hard_sigmoid(node, x);
            break;
        case HARD_SWISH:
            out[i] = x * (x < -3 ? 0 : x > 3 ? 1 : x / 6 + 0.5f);
            break;
        case LEAKY_RELU:
            out[i] = x < 0 ? slope * x : x;
            break;
        case CLIP:
            x = x < low ? low : x;
            out[i] = x > high ? high : x;
            break;
        case NOT_UNARY:
            return myr_operation_fail(operation, MYR_ERR_INTERNAL, "no such function");
        }
    }
    return MYR_OK;
}

/* Before operator set 7 the second side could say where its dimensions lie in the first one's. */
static const char *refuse_binary(const myr_node *node, int64_t opset)
{
    bool placed = myr_node_attribute(node, "axis") || myr_node_attribute(node, "broadcast");
    return placed && opset >= 7 ? "attributes of operator sets before 7" : NULL;
}

/* The second side's shape, aligned at its last dimension. */
static bool second_shape(const myr_operation *operation, myr_shape *shape)
{
    int axis;
    *shape = operation->in[1]->shape;
    if (!myr_node_attribute(operation->node, "axis"))
        return true;
    int rank = operation->in[0]->shape.rank;
    if (!myr_axis_resolve(myr_node_int(operation->node, "axis", 0), rank, &axis) || axis + shape->rank > rank)
        return false;
    while (axis + shape->rank < rank)
        shape->dims[shape->rank++] = 1;
    return true;
}

static myr_status infer_binary(const myr_operation *operation)
{
    const myr_tensor *a = operation->in[0], *b = operation->in[1];
    myr_shape shape = a->shape, other;
    if (a->type != b->type && operation->node->op->name[0] != 'P')
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "both sides must have one element type");
    if (!second_shape(operation, &other) || !myr_shape_broadcast(&other, &shape)) {
        char left[96], right[96];
        return myr_fail(MYR_ERR_FORMAT, "node '%s' (%s): shapes %s and %s do not fit together", operation->node->name,
                        operation->node->op->name, myr_shape_text(&a->shape, left, sizeof left),
                        myr_shape_text(&b->shape, right, sizeof right));
    }
    myr_operation_shape(operation, 0, a->type, &shape);
    return MYR_OK;
}

static float pair_floats(char which, float x, float y)
{
    return which == 'A' ? x + y : which == 'S' ? x - y : which == 'M' ? x * y : x / y;
}

/* Shapes computed in a graph; overflow wraps, and the result is then refused as a shape. */
static myr_status pair_numbers(char which, int64_t x, int64_t y, int64_t *result)
{
    switch (which) {
    case 'A':
        *result = (int64_t)((uint64_t)x + (uint64_t)y);
        return MYR_OK;
    case 'S':
        *result = (int64_t)((uint64_t)x - (uint64_t)y);
        return MYR_OK;
    case 'M':
        *result = (int64_t)((uint64_t)x * (uint64_t)y);
        return MYR_OK;
    default:
        if (y == 0 || (x == INT64_MIN && y == -1))
            return myr_fail(MYR_ERR_FORMAT, "a whole number is divided by 0");
        *result = x / y;
        return MYR_OK;
    }
}

/* Powers: the result has the type of the base, whatever the exponent's. */
static void compute_power(const myr_operation *operation, myr_walk *walk)
{
    const myr_tensor *a = operation->in[0], *b = operation->in[1];
    size_t n = myr_shape_count(walk->shape);
    for (size_t i = 0; i < n; i++, myr_walk_step(walk))
        myr_tensor_put_real(&operation->out[0], i,
                            pow(myr_tensor_real(a, walk->at[0]), myr_tensor_real(b, walk->at[1])));
}

static myr_status compute_binary(const myr_operation *operation)
{
    const myr_tensor *a = operation->in[0], *b = operation->in[1];
    size_t n = myr_shape_count(&operation->out[0].shape);
    char which = operation->node->op->name[0];
    myr_status status = MYR_OK;
    myr_shape other;
    myr_walk walk;
    if (!second_shape(operation, &other))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "axis is out of range");
    myr_walk_begin(&walk, &operation->out[0].shape);
    myr_walk_add(&walk, &a->shape);
    myr_walk_add(&walk, &other);
    if (which == 'P') {
        compute_power(operation, &walk);
        return MYR_OK;
    }
    for (size_t i = 0; i < n && status == MYR_OK; i++, myr_walk_step(&walk)) {
        if (a->type == MYR_TYPE_F32)
            ((float *)operation->out[0].data)[i] =
                pair_floats(which, ((const float *)a->data)[walk.at[0]], ((const float *)b->data)[walk.at[1]]);
        else
            status = pair_numbers(which, ((const int64_t *)a->data)[walk.at[0]], ((const int64_t *)b->data)[walk.at[1]],
                                  (int64_t *)operation->out[0].data + i);
    }
    return status;
}

const myr_operator myr_elementwise_operators[] = {
    {"Relu", MYR_KIND_RELU, 1, 1, 1, "", NULL, infer_bounded, compute_unary},
    {"Clip", MYR_KIND_CLIP, 1, 3, 1, "min:float max:float ", NULL, infer_bounded, compute_unary},
    {"Sigmoid", MYR_KIND_SIGMOID, 1, 1, 1, "", NULL, infer_unary, compute_unary},
    {"Tanh", MYR_KIND_TANH, 1, 1, 1, "", NULL, infer_unary, compute_unary},
    {"Erf", MYR_KIND_ERF, 1, 1, 1, "", NULL, infer_unary, compute_unary},
    {"Exp", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_unary, compute_unary},
    {"Sqrt", MYR_KIND_SQRT, 1, 1, 1, "", NULL, infer_unary, compute_unary},
    {"HardSigmoid", MYR_KIND_OTHER, 1, 1, 1, "alpha:float beta:float ", NULL, infer_unary, compute_unary},
    {"HardSwish", MYR_KIND_HARD_SWISH, 1, 1, 1, "", NULL, infer_unary, compute_unary},
    {"LeakyRelu", MYR_KIND_OTHER, 1, 1, 1, "alpha:float ", NULL, infer_unary, compute_unary},
    {"Add", MYR_KIND_ADD, 2, 2, 1, "axis:int broadcast:int ", refuse_binary, infer_binary, compute_binary},
    {"Sub", MYR_KIND_SUB, 2, 2, 1, "axis:int broadcast:int ", refuse_binary, infer_binary, compute_binary},
    {"Mul", MYR_KIND_MUL, 2, 2, 1, "axis:int broadcast:int ", refuse_binary, infer_binary, compute_binary},
    {"Div", MYR_KIND_DIV, 2, 2, 1, "axis:int broadcast:int ", refuse_binary, infer_binary, compute_binary},
    {"Pow", MYR_KIND_POW, 2, 2, 1, "axis:int broadcast:int ", refuse_binary, infer_binary, compute_binary},
    {0},
};
