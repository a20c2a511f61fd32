/*
 * Functions of one element that op_elementwise.c does not have, each a row of one table:
 * its name, up to two attributes with their defaults, and the function in double.
 */
#include "nn/operator.h"

#include <math.h>
#include <string.h>

static double absolute(double x, double a, double b)
{
    (void)a, (void)b;
    return fabs(x);
}

static double arc_cosine(double x, double a, double b)
{
    (void)a, (void)b;
    return acos(x);
}

static double arc_cosine_h(double x, double a, double b)
{
    (void)a, (void)b;
    return acosh(x);
}

static double arc_sine(double x, double a, double b)
{
    (void)a, (void)b;
    return asin(x);
}

static double arc_sine_h(double x, double a, double b)
{
    (void)a, (void)b;
    return asinh(x);
}

static double arc_tangent(double x, double a, double b)
{
    (void)a, (void)b;
    return atan(x);
}

static double arc_tangent_h(double x, double a, double b)
{
    (void)a, (void)b;
    return atanh(x);
}

static double ceiling(double x, double a, double b)
{
    (void)a, (void)b;
    return ceil(x);
}

static double celu(double x, double alpha, double b)
{
    (void)b;
    return fmax(0, x) + fmin(0, alpha * (exp(x / alpha) - 1));
}

static double cosine(double x, double a, double b)
{
    (void)a, (void)b;
    return cos(x);
}

static double cosine_h(double x, double a, double b)
{
    (void)a, (void)b;
    return cosh(x);
}

static double elu(double x, double alpha, double b)
{
    (void)b;
    return x < 0 ? alpha * (exp(x) - 1) : x;
}

static double whole_below(double x, double a, double b)
{
    (void)a, (void)b;
    return floor(x);
}

static double gelu(double x, double tanh_form, double b)
{
    (void)b;
    if (tanh_form != 0)
        return x / 2 * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    return x / 2 * (1 + erf(x / sqrt(2)));
}

static double logarithm(double x, double a, double b)
{
    (void)a, (void)b;
    return log(x);
}

static double softplus(double x, double a, double b)
{
    (void)a, (void)b;
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

static double mish(double x, double a, double b)
{
    return x * tanh(softplus(x, a, b));
}

static double negative(double x, double a, double b)
{
    (void)a, (void)b;
    return -x;
}

static double reciprocal(double x, double a, double b)
{
    (void)a, (void)b;
    return 1 / x;
}

/* Halves go to the even neighbour: nearbyint in the mode a program starts in. */
static double rounded(double x, double a, double b)
{
    (void)a, (void)b;
    return nearbyint(x);
}

static double selu(double x, double alpha, double gamma)
{
    return gamma * (x > 0 ? x : alpha * (exp(x) - 1));
}

static double shrink(double x, double bias, double lambd)
{
    return x < -lambd ? x + bias : x > lambd ? x - bias : 0;
}

static double sign(double x, double a, double b)
{
    (void)a, (void)b;
    return x > 0 ? 1 : x < 0 ? -1 : x;
}

static double sine(double x, double a, double b)
{
    (void)a, (void)b;
    return sin(x);
}

static double sine_h(double x, double a, double b)
{
    (void)a, (void)b;
    return sinh(x);
}

static double softsign(double x, double a, double b)
{
    (void)a, (void)b;
    return x / (1 + fabs(x));
}

static double swish(double x, double alpha, double b)
{
    (void)b;
    return x / (1 + exp(-alpha * x));
}

static double tangent(double x, double a, double b)
{
    (void)a, (void)b;
    return tan(x);
}

static double thresholded(double x, double alpha, double b)
{
    (void)b;
    return x > alpha ? x : 0;
}

typedef struct function {
    const char *name;
    double (*apply)(double x, double first, double second);
    struct {
        const char *name;
        float standard;
    } attributes[2];
} function;

static const function functions[] = {
    {"Abs", absolute, {{0}}},
    {"Acos", arc_cosine, {{0}}},
    {"Acosh", arc_cosine_h, {{0}}},
    {"Asin", arc_sine, {{0}}},
    {"Asinh", arc_sine_h, {{0}}},
    {"Atan", arc_tangent, {{0}}},
    {"Atanh", arc_tangent_h, {{0}}},
    {"Ceil", ceiling, {{0}}},
    {"Celu", celu, {{"alpha", 1}}},
    {"Cos", cosine, {{0}}},
    {"Cosh", cosine_h, {{0}}},
    {"Elu", elu, {{"alpha", 1}}},
    {"Floor", whole_below, {{0}}},
    {"Gelu", gelu, {{0}}},
    {"Log", logarithm, {{0}}},
    {"Mish", mish, {{0}}},
    {"Neg", negative, {{0}}},
    {"Reciprocal", reciprocal, {{0}}},
    {"Round", rounded, {{0}}},
    {"Selu", selu, {{"alpha", 1.67326319217681884765625f}, {"gamma", 1.05070102214813232421875f}}},
    {"Shrink", shrink, {{"bias", 0}, {"lambd", 0.5f}}},
    {"Sign", sign, {{0}}},
    {"Sin", sine, {{0}}},
    {"Sinh", sine_h, {{0}}},
    {"Softplus", softplus, {{0}}},
    {"Softsign", softsign, {{0}}},
    {"Swish", swish, {{"alpha", 1}}},
    {"Tan", tangent, {{0}}},
    {"ThresholdedRelu", thresholded, {{"alpha", 1}}},
    {0},
};

static const function *find_function(const char *name)
{
    const function *found = functions;
    while (found->name && strcmp(found->name, name) != 0)
        found++;
    return found->name ? found : NULL;
}

static const char *refuse_gelu(const myr_node *node, int64_t opset)
{
    (void)opset;
    const char *how = myr_node_text(node, "approximate", "none");
    return strcmp(how, "none") == 0 || strcmp(how, "tanh") == 0 ? NULL : "approximate that is neither none nor tanh";
}

static myr_status infer_floats(const myr_operation *operation)
{
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &operation->in[0]->shape);
    return myr_operation_floats(operation, 1);
}

/* Abs, Neg, Sign and rounding know whole numbers too. */
static myr_status infer_any(const myr_operation *operation)
{
    myr_operation_shape(operation, 0, operation->in[0]->type, &operation->in[0]->shape);
    return MYR_OK;
}

static myr_status compute(const myr_operation *operation)
{
    const myr_node *node = operation->node;
    const function *which = find_function(node->op->name);
    double values[2] = {0};
    for (int i = 0; i < 2; i++)
        if (which->attributes[i].name)
            values[i] = (double)myr_node_float(node, which->attributes[i].name, which->attributes[i].standard);
    if (which->apply == gelu)
        values[0] = strcmp(myr_node_text(node, "approximate", "none"), "tanh") == 0;
    const myr_tensor *in = operation->in[0];
    size_t n = myr_shape_count(&in->shape);
    if (in->type == MYR_TYPE_F32)
        for (size_t i = 0; i < n; i++)
            ((float *)operation->out[0].data)[i] =
                (float)which->apply((double)((const float *)in->data)[i], values[0], values[1]);
    else
        for (size_t i = 0; i < n; i++)
            myr_tensor_put_real(&operation->out[0], i, which->apply(myr_tensor_real(in, i), values[0], values[1]));
    return MYR_OK;
}

/* ---- Questions: the result is 1 or 0 ---- */

static myr_status infer_question(const myr_operation *operation)
{
    bool wants_float = strcmp(operation->node->op->name, "Not") != 0;
    if ((operation->in[0]->type == MYR_TYPE_F32) != wants_float)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "the input has another type");
    myr_operation_shape(operation, 0, MYR_TYPE_I64, &operation->in[0]->shape);
    return MYR_OK;
}

static myr_status compute_question(const myr_operation *operation)
{
    const myr_node *node = operation->node;
    bool infinite = strcmp(node->op->name, "IsInf") == 0, nan = strcmp(node->op->name, "IsNaN") == 0;
    bool positive = myr_node_int(node, "detect_positive", 1) != 0,
         below = myr_node_int(node, "detect_negative", 1) != 0;
    size_t n = myr_shape_count(&operation->in[0]->shape);
    for (size_t i = 0; i < n; i++) {
        double x = myr_tensor_real(operation->in[0], i);
        bool answer = infinite ? isinf(x) && (x > 0 ? positive : below) : nan ? isnan(x) : x == 0;
        ((int64_t *)operation->out[0].data)[i] = answer;
    }
    return MYR_OK;
}

const myr_operator myr_function_operators[] = {
    {"Abs", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_any, compute},
    {"Acos", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Acosh", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Asin", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Asinh", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Atan", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Atanh", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Ceil", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_any, compute},
    {"Celu", MYR_KIND_OTHER, 1, 1, 1, "alpha:float ", NULL, infer_floats, compute},
    {"Cos", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Cosh", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Elu", MYR_KIND_OTHER, 1, 1, 1, "alpha:float ", NULL, infer_floats, compute},
    {"Floor", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_any, compute},
    {"Gelu", MYR_KIND_OTHER, 1, 1, 1, "approximate:text ", refuse_gelu, infer_floats, compute},
    {"IsInf", MYR_KIND_OTHER, 1, 1, 1, "detect_negative:int detect_positive:int ", NULL, infer_question,
     compute_question},
    {"IsNaN", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_question, compute_question},
    {"Log", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Mish", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Neg", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_any, compute},
    {"Not", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_question, compute_question},
    {"Reciprocal", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Round", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_any, compute},
    {"Selu", MYR_KIND_OTHER, 1, 1, 1, "alpha:float gamma:float ", NULL, infer_floats, compute},
    {"Shrink", MYR_KIND_OTHER, 1, 1, 1, "bias:float lambd:float ", NULL, infer_any, compute},
    {"Sign", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_any, compute},
    {"Sin", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Sinh", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Softplus", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Softsign", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"Swish", MYR_KIND_OTHER, 1, 1, 1, "alpha:float ", NULL, infer_floats, compute},
    {"Tan", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"ThresholdedRelu", MYR_KIND_OTHER, 1, 1, 1, "alpha:float ", NULL, infer_floats, compute},
    {0},
};
