/*
 * Functions of one element that op_elementwise.c does not have, each a row of one table:
 * its name, up to two attributes with their defaults, and the function in double.
 */
#include "nn/operator.h"

#include <math.h>
#include <string.h>

static double softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

static double mish(double x)
{
    return x * tanh(softplus(x));
}

static double negative(double x)
{
    return -x;
}

static double reciprocal(double x)
{
    return 1 / x;
}

static double sign(double x)
{
    return x > 0 ? 1 : x < 0 ? -1 : x;
}

static double softsign(double x)
{
    return x / (1 + fabs(x));
}

static double celu(double x, double alpha, double unused)
{
    (void)unused;
    return fmax(0, x) + fmin(0, alpha * (exp(x / alpha) - 1));
}

static double elu(double x, double alpha, double unused)
{
    (void)unused;
    return x < 0 ? alpha * (exp(x) - 1) : x;
}

static double gelu(double x, double tanh_form, double unused)
{
    (void)unused;
    if (tanh_form != 0)
        return x / 2 * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    return x / 2 * (1 + erf(x / sqrt(2)));
}

static double selu(double x, double alpha, double gamma)
{
    return gamma * (x > 0 ? x : alpha * (exp(x) - 1));
}

static double shrink(double x, double bias, double lambd)
{
    return x < -lambd ? x + bias : x > lambd ? x - bias : 0;
}

static double swish(double x, double alpha, double unused)
{
    (void)unused;
    return x / (1 + exp(-alpha * x));
}

static double thresholded(double x, double alpha, double unused)
{
    (void)unused;
    return x > alpha ? x : 0;
}

typedef struct function {
    const char *name;
    double (*plain)(double x);
    double (*with)(double x, double first, double second); /* where it has attributes */
    struct {
        const char *name;
        float standard;
    } attributes[2];
} function;

static const function functions[] = {
    {"Abs", fabs},
    {"Acos", acos},
    {"Acosh", acosh},
    {"Asin", asin},
    {"Asinh", asinh},
    {"Atan", atan},
    {"Atanh", atanh},
    {"Ceil", ceil},
    {"Celu", NULL, celu, {{"alpha", 1}}},
    {"Cos", cos},
    {"Cosh", cosh},
    {"Elu", NULL, elu, {{"alpha", 1}}},
    {"Floor", floor},
    {"Gelu", NULL, gelu, {{0}}},
    {"Log", log},
    {"Mish", mish},
    {"Neg", negative},
    {"Reciprocal", reciprocal},
    {"Round", nearbyint}, /* halves go to the even neighbour, in the mode a program starts in */
    {"Selu", NULL, selu, {{"alpha", 1.67326319217681884765625f}, {"gamma", 1.05070102214813232421875f}}},
    {"Shrink", NULL, shrink, {{"bias", 0}, {"lambd", 0.5f}}},
    {"Sign", sign},
    {"Sin", sin},
    {"Sinh", sinh},
    {"Softplus", softplus},
    {"Softsign", softsign},
    {"Swish", NULL, swish, {{"alpha", 1}}},
    {"Tan", tan},
    {"ThresholdedRelu", NULL, thresholded, {{"alpha", 1}}},
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
    if (which->with == gelu)
        values[0] = strcmp(myr_node_text(node, "approximate", "none"), "tanh") == 0;
    const myr_tensor *in = operation->in[0];
    size_t n = myr_shape_count(&in->shape);
    for (size_t i = 0; i < n; i++) {
        double x = myr_tensor_real(in, i);
        myr_tensor_put_real(&operation->out[0], i,
                            which->plain ? which->plain(x) : which->with(x, values[0], values[1]));
    }
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
    {"Gelu", MYR_KIND_GELU, 1, 1, 1, "approximate:text ", refuse_gelu, infer_floats, compute},
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
    {"Swish", MYR_KIND_SWISH, 1, 1, 1, "alpha:float ", NULL, infer_floats, compute},
    {"Tan", MYR_KIND_OTHER, 1, 1, 1, "", NULL, infer_floats, compute},
    {"ThresholdedRelu", MYR_KIND_OTHER, 1, 1, 1, "alpha:float ", NULL, infer_floats, compute},
    {0},
};
