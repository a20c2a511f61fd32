/*
 * Comparisons, logic, choices, and what else is done to several tensors that are
 * stretched over each other. Truth values are whole numbers, 1 and 0.
 */
#include "nn/operator.h"

#include <math.h>
#include <string.h>

/* The shape that all inputs become together. */
static myr_status joined_shape(const myr_operation *operation, myr_shape *shape)
{
    *shape = operation->in[0]->shape;
    for (int i = 1; i < operation->node->n_inputs; i++) {
        char left[96], right[96];
        if (myr_shape_broadcast(&operation->in[i]->shape, shape))
            continue;
        return myr_fail(MYR_ERR_FORMAT, "node '%s' (%s): shapes %s and %s do not fit together", operation->node->name,
                        operation->node->op->name, myr_shape_text(shape, left, sizeof left),
                        myr_shape_text(&operation->in[i]->shape, right, sizeof right));
    }
    return MYR_OK;
}

static myr_status one_type(const myr_operation *operation, int first)
{
    for (int i = first + 1; i < operation->node->n_inputs; i++)
        if (operation->in[i]->type != operation->in[first]->type)
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "the inputs differ in type");
    return MYR_OK;
}

static myr_status infer_comparison(const myr_operation *operation)
{
    myr_shape shape;
    myr_status status = one_type(operation, 0);
    if (status == MYR_OK)
        status = joined_shape(operation, &shape);
    if (status == MYR_OK)
        myr_operation_shape(operation, 0, MYR_TYPE_I64, &shape);
    return status;
}

static bool compare_floats(const char *name, float x, float y)
{
    if (name[0] == 'E')
        return x == y;
    bool or_equal = strstr(name, "OrEqual") != NULL;
    return (name[0] == 'L' ? x < y : x > y) || (or_equal && x == y);
}

static int64_t pair_numbers(const char *name, int64_t x, int64_t y)
{
    bool or_equal = strstr(name, "OrEqual") != NULL;
    switch (name[0]) {
    case 'E':
        return x == y;
    case 'L':
        return x < y || (or_equal && x == y);
    case 'G':
        return x > y || (or_equal && x == y);
    case 'A':
        return x && y;
    case 'O':
        return x || y;
    case 'X':
        return (x != 0) != (y != 0);
    default: /* BitwiseAnd, BitwiseOr, BitwiseXor */
        return name[7] == 'A' ? x & y : name[7] == 'O' ? x | y : x ^ y;
    }
}

static myr_status compute_comparison(const myr_operation *operation)
{
    const char *name = operation->node->op->name;
    const myr_tensor *a = operation->in[0], *b = operation->in[1];
    int64_t *out = operation->out[0].data;
    size_t n = myr_shape_count(&operation->out[0].shape);
    myr_walk walk;
    myr_walk_begin(&walk, &operation->out[0].shape);
    myr_walk_add(&walk, &a->shape);
    myr_walk_add(&walk, &b->shape);
    for (size_t i = 0; i < n; i++, myr_walk_step(&walk))
        out[i] =
            a->type == MYR_TYPE_F32
                ? compare_floats(name, ((const float *)a->data)[walk.at[0]], ((const float *)b->data)[walk.at[1]])
                : pair_numbers(name, ((const int64_t *)a->data)[walk.at[0]], ((const int64_t *)b->data)[walk.at[1]]);
    return MYR_OK;
}

/* And, Or, Xor and their bitwise forms are for whole numbers alone. */
static myr_status infer_logic(const myr_operation *operation)
{
    if (operation->in[0]->type != MYR_TYPE_I64)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the inputs are no whole numbers");
    return infer_comparison(operation);
}

static myr_status infer_where(const myr_operation *operation)
{
    myr_shape shape;
    myr_status status = one_type(operation, 1);
    if (status == MYR_OK)
        status = joined_shape(operation, &shape);
    if (status == MYR_OK && operation->in[0]->type != MYR_TYPE_I64)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the condition is no truth value");
    if (status == MYR_OK)
        myr_operation_shape(operation, 0, operation->in[1]->type, &shape);
    return status;
}

static myr_status compute_where(const myr_operation *operation)
{
    size_t n = myr_shape_count(&operation->out[0].shape), size = myr_type_bytes(operation->out[0].type);
    myr_walk walk;
    myr_walk_begin(&walk, &operation->out[0].shape);
    for (int i = 0; i < 3; i++)
        myr_walk_add(&walk, &operation->in[i]->shape);
    for (size_t i = 0; i < n; i++, myr_walk_step(&walk)) {
        int side = ((const int64_t *)operation->in[0]->data)[walk.at[0]] != 0 ? 1 : 2;
        memcpy((char *)operation->out[0].data + i * size,
               (const char *)operation->in[side]->data + walk.at[side] * size, size);
    }
    return MYR_OK;
}

/* ---- Max, Min, Sum, Mean of any number of tensors ---- */

static myr_status infer_several(const myr_operation *operation)
{
    myr_shape shape;
    myr_status status = one_type(operation, 0);
    if (status == MYR_OK)
        status = joined_shape(operation, &shape);
    if (status == MYR_OK)
        myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    return status;
}

static float join_floats(const char *name, float x, float y)
{
    if (name[0] == 'S' || name[1] == 'e')
        return x + y;
    if (isnan(x) || isnan(y))
        return NAN;
    return (name[1] == 'a') == (x > y) ? x : y;
}

static int64_t join_numbers(const char *name, int64_t x, int64_t y)
{
    if (name[0] == 'S' || name[1] == 'e')
        return (int64_t)((uint64_t)x + (uint64_t)y);
    return (name[1] == 'a') == (x > y) ? x : y;
}

static myr_status compute_several(const myr_operation *operation)
{
    const myr_node *node = operation->node;
    myr_tensor *out = &operation->out[0];
    size_t n = myr_shape_count(&out->shape);
    float *reals = out->data;
    int64_t *numbers = out->data;
    for (int k = 0; k < node->n_inputs; k++) {
        myr_walk walk;
        const myr_tensor *in = operation->in[k];
        myr_walk_begin(&walk, &out->shape);
        myr_walk_add(&walk, &in->shape);
        for (size_t i = 0; i < n; i++, myr_walk_step(&walk)) {
            if (out->type == MYR_TYPE_F32) {
                float x = ((const float *)in->data)[walk.at[0]];
                reals[i] = k == 0 ? x : join_floats(node->op->name, reals[i], x);
            } else {
                int64_t x = ((const int64_t *)in->data)[walk.at[0]];
                numbers[i] = k == 0 ? x : join_numbers(node->op->name, numbers[i], x);
            }
        }
    }
    for (size_t i = 0; i < n && strcmp(node->op->name, "Mean") == 0 && out->type == MYR_TYPE_F32; i++)
        reals[i] /= (float)node->n_inputs;
    return MYR_OK;
}

/* ---- Mod ---- */

/* As Python: the result has the sign of the divisor. */
static int64_t remainder_of(int64_t x, int64_t y, bool like_c)
{
    if (y == -1)
        return 0;
    int64_t rest = x % y;
    return !like_c && rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
}

static float remainder_of_floats(float x, float y, bool like_c)
{
    float rest = fmodf(x, y);
    return !like_c && rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
}

static myr_status compute_mod(const myr_operation *operation)
{
    const myr_tensor *a = operation->in[0], *b = operation->in[1];
    bool like_c = myr_node_int(operation->node, "fmod", 0) != 0;
    size_t n = myr_shape_count(&operation->out[0].shape);
    myr_walk walk;
    myr_walk_begin(&walk, &operation->out[0].shape);
    myr_walk_add(&walk, &a->shape);
    myr_walk_add(&walk, &b->shape);
    for (size_t i = 0; i < n; i++, myr_walk_step(&walk)) {
        if (a->type == MYR_TYPE_F32) {
            ((float *)operation->out[0].data)[i] =
                remainder_of_floats(((const float *)a->data)[walk.at[0]], ((const float *)b->data)[walk.at[1]], like_c);
            continue;
        }
        int64_t divisor = ((const int64_t *)b->data)[walk.at[1]];
        if (divisor == 0)
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "a whole number is divided by 0");
        ((int64_t *)operation->out[0].data)[i] = remainder_of(((const int64_t *)a->data)[walk.at[0]], divisor, like_c);
    }
    return MYR_OK;
}

/* ---- PRelu ---- */

/* The slopes' shape: before operator set 7 a single row of slopes belongs to the channels. */
static myr_shape slope_shape(const myr_operation *operation)
{
    myr_shape shape = operation->in[1]->shape;
    if (operation->opset < 7 && shape.rank == 1)
        while (shape.rank < operation->in[0]->shape.rank - 1)
            shape.dims[shape.rank++] = 1;
    return shape;
}

static myr_status infer_slope(const myr_operation *operation)
{
    myr_shape shape = slope_shape(operation), joined = operation->in[0]->shape;
    if (!myr_shape_broadcast(&shape, &joined) || !myr_shape_equal(&joined, &operation->in[0]->shape))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the slopes do not fit the input");
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &joined);
    return myr_operation_floats(operation, 2);
}

static myr_status compute_slope(const myr_operation *operation)
{
    myr_shape shape = slope_shape(operation);
    size_t n = myr_shape_count(&operation->out[0].shape);
    myr_walk walk;
    myr_walk_begin(&walk, &operation->out[0].shape);
    myr_walk_add(&walk, &shape);
    for (size_t i = 0; i < n; i++, myr_walk_step(&walk)) {
        float x = ((const float *)operation->in[0]->data)[i];
        ((float *)operation->out[0].data)[i] = x < 0 ? x * ((const float *)operation->in[1]->data)[walk.at[0]] : x;
    }
    return MYR_OK;
}

const myr_operator myr_compare_operators[] = {
    {"Equal", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_comparison, compute_comparison},
    {"Less", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_comparison, compute_comparison},
    {"LessOrEqual", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_comparison, compute_comparison},
    {"Greater", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_comparison, compute_comparison},
    {"GreaterOrEqual", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_comparison, compute_comparison},
    {"And", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_logic, compute_comparison},
    {"Or", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_logic, compute_comparison},
    {"Xor", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_logic, compute_comparison},
    {"BitwiseAnd", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_logic, compute_comparison},
    {"BitwiseOr", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_logic, compute_comparison},
    {"BitwiseXor", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_logic, compute_comparison},
    {"Where", MYR_KIND_OTHER, 3, 3, 1, "", NULL, infer_where, compute_where},
    {"Max", MYR_KIND_OTHER, 1, INT32_MAX, 1, "", NULL, infer_several, compute_several},
    {"Min", MYR_KIND_OTHER, 1, INT32_MAX, 1, "", NULL, infer_several, compute_several},
    {"Sum", MYR_KIND_OTHER, 1, INT32_MAX, 1, "", NULL, infer_several, compute_several},
    {"Mean", MYR_KIND_OTHER, 1, INT32_MAX, 1, "", NULL, infer_several, compute_several},
    {"Mod", MYR_KIND_OTHER, 2, 2, 1, "fmod:int ", NULL, infer_several, compute_mod},
    {"PRelu", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_slope, compute_slope},
    {0},
};
