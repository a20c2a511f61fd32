/*
 * Operators on single elements, and on pairs of elements with broadcasting.
 */
#include "nn/operator.h"

#include <math.h>
#include <string.h>

/* Clip's bounds: attributes before operator set 11, inputs since. */
static bool clip_bounds(const myr_operation *operation, float *low, float *high)
{
    const myr_tensor *least = myr_operation_input(operation, 1), *most = myr_operation_input(operation, 2);
    *low = myr_node_float(operation->node, "min", -INFINITY);
    *high = myr_node_float(operation->node, "max", INFINITY);
    if ((least && !least->data) || (most && !most->data))
        return false;
    if (least)
        *low = *(const float *)least->data;
    if (most)
        *high = *(const float *)most->data;
    return true;
}

static myr_status infer_unary(const myr_operation *operation)
{
    if (operation->in[0]->type != MYR_TYPE_F32)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "only 32-bit floats are supported");
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &operation->in[0]->shape);
    return MYR_OK;
}

static myr_status infer_clip(const myr_operation *operation)
{
    float low, high;
    for (int i = 1; i <= 2; i++) {
        const myr_tensor *bound = myr_operation_input(operation, i);
        if (bound && (bound->type != MYR_TYPE_F32 || myr_shape_count(&bound->shape) != 1))
            return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "bounds must be single 32-bit floats");
    }
    if (!clip_bounds(operation, &low, &high))
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "bounds must be constants");
    return infer_unary(operation);
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
    if (which == CLIP && !clip_bounds(operation, &low, &high))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "bounds are missing");
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

static myr_status infer_binary(const myr_operation *operation)
{
    const myr_tensor *a = operation->in[0], *b = operation->in[1];
    myr_shape shape = {.rank = a->shape.rank > b->shape.rank ? a->shape.rank : b->shape.rank};
    if (a->type != b->type)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "both sides must have one element type");
    for (int i = 1; i <= shape.rank; i++) {
        int64_t x = i <= a->shape.rank ? a->shape.dims[a->shape.rank - i] : 1;
        int64_t y = i <= b->shape.rank ? b->shape.dims[b->shape.rank - i] : 1;
        if (x != y && x != 1 && y != 1) {
            char left[96], right[96];
            return myr_fail(MYR_ERR_FORMAT, "node '%s' (%s): shapes %s and %s do not fit together",
                            operation->node->name, operation->node->op->name,
                            myr_shape_text(&a->shape, left, sizeof left),
                            myr_shape_text(&b->shape, right, sizeof right));
        }
        shape.dims[shape.rank - i] = x == 1 ? y : x;
    }
    myr_operation_shape(operation, 0, a->type, &shape);
    return MYR_OK;
}

static myr_status pair_floats(char which, float x, float y, float *result)
{
    switch (which) {
    case 'A':
        *result = x + y;
        break;
    case 'S':
        *result = x - y;
        break;
    case 'M':
        *result = x * y;
        break;
    case 'D':
        *result = x / y;
        break;
    default:
        *result = powf(x, y);
        break;
    }
    return MYR_OK;
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
    case 'D':
        if (y == 0 || (x == INT64_MIN && y == -1))
            return myr_fail(MYR_ERR_FORMAT, "a whole number is divided by 0");
        *result = x / y;
        return MYR_OK;
    default:
        return myr_fail(MYR_ERR_UNSUPPORTED, "powers of whole numbers are not supported");
    }
}

/* Elements from one place to the next along each dimension of the output; 0 where the input is stretched. */
static void find_strides(const myr_shape *in, const myr_shape *out, size_t *strides)
{
    size_t stride = 1;
    for (int i = 1; i <= out->rank; i++) {
        int64_t dim = i <= in->rank ? in->dims[in->rank - i] : 1;
        strides[out->rank - i] = dim == 1 ? 0 : stride;
        stride *= (size_t)dim;
    }
}

static myr_status compute_binary(const myr_operation *operation)
{
    const myr_tensor *a = operation->in[0], *b = operation->in[1];
    const myr_shape *shape = &operation->out[0].shape;
    size_t a_strides[MYR_TENSOR_MAX_RANK], b_strides[MYR_TENSOR_MAX_RANK], n = myr_shape_count(shape), at_a = 0,
                                                                           at_b = 0;
    int64_t place[MYR_TENSOR_MAX_RANK] = {0};
    char which = operation->node->op->name[0];
    myr_status status = MYR_OK;
    find_strides(&a->shape, shape, a_strides);
    find_strides(&b->shape, shape, b_strides);
    for (size_t i = 0; i < n && status == MYR_OK; i++) {
        if (a->type == MYR_TYPE_F32)
            status = pair_floats(which, ((const float *)a->data)[at_a], ((const float *)b->data)[at_b],
                                 (float *)operation->out[0].data + i);
        else
            status = pair_numbers(which, ((const int64_t *)a->data)[at_a], ((const int64_t *)b->data)[at_b],
                                  (int64_t *)operation->out[0].data + i);
        for (int d = shape->rank - 1; d >= 0; d--) {
            at_a += a_strides[d];
            at_b += b_strides[d];
            if (++place[d] < shape->dims[d])
                break;
            at_a -= a_strides[d] * (size_t)shape->dims[d];
            at_b -= b_strides[d] * (size_t)shape->dims[d];
            place[d] = 0;
        }
    }
    return status;
}

const myr_operator myr_elementwise_operators[] = {
    {"Relu", MYR_KIND_RELU, 1, 1, 1, "", NULL, infer_unary, compute_unary},
    {"Clip", MYR_KIND_CLIP, 1, 3, 1, "min:float max:float ", NULL, infer_clip, compute_unary},
    {"Sigmoid", MYR_KIND_SIGMOID, 1, 1, 1, "", NULL, infer_unary, compute_unary},
    {"Tanh", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_unary, compute_unary},
    {"Erf", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_unary, compute_unary},
    {"Exp", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_unary, compute_unary},
    {"Sqrt", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_unary, compute_unary},
    {"HardSigmoid", MYR_KIND_OTHER, 1, 1, 1, "alpha:float beta:float ", NULL, infer_unary, compute_unary},
    {"HardSwish", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_unary, compute_unary},
    {"LeakyRelu", MYR_KIND_OTHER, 1, 1, 1, "alpha:float ", NULL, infer_unary, compute_unary},
    {"Add", MYR_KIND_ADD, 2, 2, 1, "", NULL, infer_binary, compute_binary},
    {"Sub", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_binary, compute_binary},
    {"Mul", MYR_KIND_MUL, 2, 2, 1, "", NULL, infer_binary, compute_binary},
    {"Div", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_binary, compute_binary},
    {"Pow", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_binary, compute_binary},
    {0},
};
