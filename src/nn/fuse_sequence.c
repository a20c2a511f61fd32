/*
 * What transformers are made of and exporters write as several nodes: Gelu, Swish, LayerNormalization, and products
 * whose bias and scale are nodes of their own.
 */
#include "nn/fusing.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_near(double a, double b)
{
    return fabs(a - b) <= 1e-4 * fabs(b);
}

/* The number that input i is for all elements; false where it is none. */
static bool as_number(const myr_graph *graph, const myr_node *node, int i, double *number)
{
    const myr_tensor *constant = myr_node_constant(graph, node, i);
    if (!constant || constant->type != MYR_TYPE_F32 || myr_shape_count(&constant->shape) != 1)
        return false;
    *number = (double)*(const float *)constant->data;
    return true;
}

/* A result has the shape of its input i, which a constant's many dimensions could change. */
static bool keeps_shape(const myr_graph *graph, const myr_node *node, int i)
{
    return node->inputs[i] >= 0 &&
           myr_shape_equal(&graph->values[node->inputs[i]].shape, &graph->values[node->outputs[0]].shape);
}

static myr_status no_memory(const myr_node *node)
{
    return myr_fail(MYR_ERR_NOMEM, "no memory to fuse '%s'", node->name);
}

static void drop(myr_fusing *fuse, myr_node *node)
{
    for (int i = 0; i < node->n_inputs; i++)
        if (node->inputs[i] >= 0 && (size_t)node->inputs[i] < fuse->n_values)
            fuse->uses[node->inputs[i]]--;
    node->op = NULL;
}

/* The node becomes another operator of one value; the attribute is copied, NULL = none. */
static myr_status become(myr_fusing *fuse, myr_node *node, const char *op, int value, const myr_attribute *attribute)
{
    myr_attribute *own = myr_alloc(1, sizeof *own);
    if (!own)
        return no_memory(node);
    if (attribute) {
        *own = *attribute;
        own->name = myr_strdup(attribute->name);
        own->text = attribute->text ? myr_strdup(attribute->text) : NULL;
        if (!own->name || (attribute->text && !own->text)) {
            free(own->name);
            free(own->text);
            free(own);
            return no_memory(node);
        }
    }
    drop(fuse, node);
    fuse->uses[value]++;
    myr_node_clear_attributes(node);
    node->attributes = own;
    node->n_attributes = attribute ? 1 : 0;
    node->inputs[0] = value;
    node->n_inputs = 1;
    node->op = myr_operator_find(op);
    return MYR_OK;
}

/* ---- Gelu and Swish ---- */

#define MAX_FACTORS 4

/* A value as a product: a number, and values that are no products of only one use themselves. */
typedef struct product {
    double number;
    int n, values[MAX_FACTORS];
    int n_nodes;
    myr_node *nodes[2 * MAX_FACTORS];
} product;

static bool add_factors(myr_fusing *fuse, myr_node *node, product *all);

static bool add_factor(myr_fusing *fuse, const myr_node *node, int i, bool divides, product *all)
{
    double number;
    if (as_number(fuse->graph, node, i, &number)) {
        all->number = divides ? all->number / number : all->number * number;
        return true;
    }
    myr_node *made_by = divides ? NULL : myr_fusing_sole_producer(fuse, node, i, MYR_KIND_MUL);
    if (!made_by && !divides)
        made_by = myr_fusing_sole_producer(fuse, node, i, MYR_KIND_DIV);
    if (made_by && myr_fusing_is_plain(made_by) && add_factors(fuse, made_by, all))
        return true;
    if (divides || all->n == MAX_FACTORS || node->inputs[i] < 0)
        return false;
    all->values[all->n++] = node->inputs[i];
    return true;
}

static bool add_factors(myr_fusing *fuse, myr_node *node, product *all)
{
    product before = *all;
    bool divides = node->op->kind == MYR_KIND_DIV;
    if (all->n_nodes < 2 * MAX_FACTORS) {
        all->nodes[all->n_nodes++] = node;
        if (add_factor(fuse, node, 0, false, all) && add_factor(fuse, node, 1, divides, all))
            return true;
    }
    *all = before;
    return false;
}

/* The input of a node as a product; a value alone is one, too. */
static product factors_of(myr_fusing *fuse, const myr_node *node, int i)
{
    product all = {.number = 1};
    add_factor(fuse, node, i, false, &all);
    return all;
}

/* Whether a value is 1 + f(y); the nodes of the sum and of f. */
static bool is_one_plus(myr_fusing *fuse, int value, myr_kind kind, myr_node **sum, myr_node **function)
{
    const myr_node reader = {.n_inputs = 1, .inputs = &value};
    double number;
    *sum = myr_fusing_sole_producer(fuse, &reader, 0, MYR_KIND_ADD);
    if (!*sum || !myr_fusing_is_plain(*sum))
        return false;
    for (int side = 0; side < 2; side++) {
        *function = myr_fusing_sole_producer(fuse, *sum, side, kind);
        if (*function && as_number(fuse->graph, *sum, 1 - side, &number) && number == 1)
            return true;
    }
    return false;
}

/* Whether a product is number * x^3. */
static bool is_cube(myr_fusing *fuse, product *all, int x)
{
    double exponent;
    const myr_node reader = {.n_inputs = 1, .inputs = all->values};
    myr_node *power = all->n == 1 ? myr_fusing_sole_producer(fuse, &reader, 0, MYR_KIND_POW) : NULL;
    if (power && power->inputs[0] == x && as_number(fuse->graph, power, 1, &exponent) && exponent == 3) {
        all->nodes[all->n_nodes++] = power;
        return true;
    }
    return all->n == 3 && all->values[0] == x && all->values[1] == x && all->values[2] == x;
}

static void drop_all(myr_fusing *fuse, product *all, const myr_node *except)
{
    for (int i = 0; i < all->n_nodes; i++)
        if (all->nodes[i] != except && all->nodes[i]->op)
            drop(fuse, all->nodes[i]);
}

/* What is in front of tanh: sqrt(2 / pi) (x + 0.044715 x^3). Drops its nodes if it is. */
static bool is_tanh_argument(myr_fusing *fuse, const myr_node *tanh_node, int x)
{
    product outer = factors_of(fuse, tanh_node, 0);
    if (outer.n != 1 || !is_near(outer.number, 0.7978845608))
        return false;
    const myr_node reader = {.n_inputs = 1, .inputs = outer.values};
    myr_node *sum = myr_fusing_sole_producer(fuse, &reader, 0, MYR_KIND_ADD);
    for (int side = 0; sum && myr_fusing_is_plain(sum) && side < 2; side++) {
        product inner = factors_of(fuse, sum, side);
        if (sum->inputs[1 - side] != x || !is_near(inner.number, 0.044715) || inner.n_nodes >= 2 * MAX_FACTORS ||
            !is_cube(fuse, &inner, x))
            continue;
        drop_all(fuse, &inner, NULL);
        drop(fuse, sum);
        drop_all(fuse, &outer, NULL);
        return true;
    }
    return false;
}

/* x (1 + erf(x / sqrt(2))) / 2, or with tanh. */
static myr_status fuse_gelu(myr_fusing *fuse, myr_node *root, product *all, int x, int gate, bool *fused)
{
    static const myr_attribute by_tanh = {
        .name = (char *)"approximate", .type = MYR_ATTRIBUTE_TEXT, .text = (char *)"tanh"};
    myr_node *sum, *function;
    if (!is_near(all->number, 0.5))
        return MYR_OK;
    bool is_erf = is_one_plus(fuse, gate, MYR_KIND_ERF, &sum, &function);
    if (is_erf) {
        product argument = factors_of(fuse, function, 0);
        if (argument.n != 1 || argument.values[0] != x || !is_near(argument.number, 0.70710678))
            return MYR_OK;
        drop_all(fuse, &argument, NULL);
    } else if (!is_one_plus(fuse, gate, MYR_KIND_TANH, &sum, &function) || !is_tanh_argument(fuse, function, x)) {
        return MYR_OK;
    }
    drop(fuse, function);
    drop(fuse, sum);
    drop_all(fuse, all, root);
    *fused = true;
    return become(fuse, root, "Gelu", x, is_erf ? NULL : &by_tanh);
}

/* x sigmoid(alpha x). */
static myr_status fuse_swish(myr_fusing *fuse, myr_node *root, product *all, int x, int gate, bool *fused)
{
    const myr_node reader = {.n_inputs = 1, .inputs = &gate};
    myr_node *sigmoid = myr_fusing_sole_producer(fuse, &reader, 0, MYR_KIND_SIGMOID);
    if (!sigmoid || all->number != 1)
        return MYR_OK;
    product argument = factors_of(fuse, sigmoid, 0);
    if (argument.n != 1 || argument.values[0] != x)
        return MYR_OK;
    const myr_attribute alpha = {.name = (char *)"alpha", .type = MYR_ATTRIBUTE_FLOAT, .real = (float)argument.number};
    drop_all(fuse, &argument, NULL);
    drop(fuse, sigmoid);
    drop_all(fuse, all, root);
    *fused = true;
    return become(fuse, root, "Swish", x, &alpha);
}

myr_status myr_fusing_gate(myr_fusing *fuse, myr_node *multiply)
{
    product all = {.number = 1};
    bool fused = false;
    myr_status status = MYR_OK;
    if (!myr_fusing_is_plain(multiply) || !add_factors(fuse, multiply, &all) || all.n != 2)
        return MYR_OK;
    for (int side = 0; side < 2 && status == MYR_OK && !fused; side++) {
        int x = all.values[side], gate = all.values[1 - side];
        const myr_value *values = fuse->graph->values;
        if ((size_t)x >= fuse->n_values || !myr_shape_equal(&values[x].shape, &values[multiply->outputs[0]].shape))
            continue;
        status = fuse_gelu(fuse, multiply, &all, x, gate, &fused);
        if (status == MYR_OK && !fused)
            status = fuse_swish(fuse, multiply, &all, x, gate, &fused);
    }
    if (status == MYR_OK && fused)
        myr_fusing_activation(fuse, multiply);
    return status;
}

/* ---- LayerNormalization ---- */

/* The mean over the last dimension, which stays as one of 1. */
static bool is_row_mean(const myr_graph *graph, const myr_node *node)
{
    const myr_attribute *given = myr_node_attribute(node, "axes");
    const myr_tensor *input = myr_node_constant(graph, node, 1);
    int rank = graph->values[node->inputs[0]].shape.rank, axis;
    size_t n = given ? given->n : input ? myr_shape_count(&input->shape) : 0;
    return n == 1 && myr_node_int(node, "keepdims", 1) == 1 &&
           myr_axis_resolve(given ? given->numbers[0] : myr_tensor_number(input, 0), rank, &axis) && axis == rank - 1;
}

/* The nodes of x - mean(x), over sqrt(mean((x - mean(x))^2) + epsilon). */
typedef struct spread {
    myr_node *subtract, *mean, *square, *variance, *sum, *root;
    double epsilon;
} spread;

static myr_node *producer(const myr_fusing *fuse, int value, myr_kind kind)
{
    if (value < 0 || (size_t)value >= fuse->n_values || fuse->producer[value] < 0)
        return NULL;
    myr_node *node = &fuse->graph->nodes[fuse->producer[value]];
    return myr_fusing_kind(node) == kind && myr_fusing_is_plain(node) ? node : NULL;
}

static bool is_square(const myr_graph *graph, const myr_node *node, int of)
{
    double exponent;
    return node->inputs[0] == of &&
           (node->op->kind == MYR_KIND_MUL ? node->inputs[1] == of
                                           : as_number(graph, node, 1, &exponent) && exponent == 2);
}

static bool find_spread(myr_fusing *fuse, const myr_node *divide, spread *all)
{
    const myr_graph *graph = fuse->graph;
    int difference = divide->inputs[0];
    all->subtract = producer(fuse, difference, MYR_KIND_SUB);
    all->mean = all->subtract ? myr_fusing_sole_producer(fuse, all->subtract, 1, MYR_KIND_REDUCE_MEAN) : NULL;
    all->root = myr_fusing_sole_producer(fuse, divide, 1, MYR_KIND_SQRT);
    all->sum = all->root ? myr_fusing_sole_producer(fuse, all->root, 0, MYR_KIND_ADD) : NULL;
    if (!all->mean || !all->sum || !myr_fusing_is_plain(all->sum) || all->mean->inputs[0] != all->subtract->inputs[0] ||
        !is_row_mean(graph, all->mean))
        return false;
    int side = as_number(graph, all->sum, 1, &all->epsilon) ? 0 : 1;
    if (side == 1 && !as_number(graph, all->sum, 0, &all->epsilon))
        return false;
    all->variance = myr_fusing_sole_producer(fuse, all->sum, side, MYR_KIND_REDUCE_MEAN);
    if (!all->variance || !is_row_mean(graph, all->variance))
        return false;
    all->square = myr_fusing_sole_producer(fuse, all->variance, 0, MYR_KIND_POW);
    if (!all->square)
        all->square = myr_fusing_sole_producer(fuse, all->variance, 0, MYR_KIND_MUL);
    int n_reads = all->square && all->square->op->kind == MYR_KIND_MUL ? 3 : 2;
    return all->square && is_square(graph, all->square, difference) && fuse->uses[difference] == n_reads &&
           keeps_shape(graph, all->subtract, 0);
}

/* Room for an input more. */
static bool widen_inputs(myr_node *node, int n)
{
    if (node->n_inputs >= n)
        return true;
    if (!myr_resize(&node->inputs, (size_t)node->n_inputs, (size_t)n, sizeof *node->inputs))
        return false;
    while (node->n_inputs < n)
        node->inputs[node->n_inputs++] = MYR_NO_VALUE;
    return true;
}

myr_status myr_fusing_layer_normalization(myr_fusing *fuse, myr_node *divide)
{
    myr_graph *graph = fuse->graph;
    spread all;
    float *ones;
    int scale;
    if (!myr_fusing_is_plain(divide) || !find_spread(fuse, divide, &all))
        return MYR_OK;
    int x = all.subtract->inputs[0];
    const myr_shape *shape = &graph->values[x].shape;
    myr_shape row = {.rank = 1, .dims = {shape->dims[shape->rank - 1]}};
    if (!graph->values[x].is_shaped || graph->values[x].type != MYR_TYPE_F32 || row.dims[0] < 1)
        return MYR_OK;
    const myr_attribute epsilon = {.name = (char *)"epsilon", .type = MYR_ATTRIBUTE_FLOAT, .real = (float)all.epsilon};
    myr_status status = myr_fusing_add_constant(graph, "fused scale", &row, &scale, &ones);
    if (status != MYR_OK)
        return status;
    for (int64_t i = 0; i < row.dims[0]; i++)
        ones[i] = 1;
    myr_node *gone[] = {all.root, all.sum, all.variance, all.square, all.subtract, all.mean};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        drop(fuse, gone[i]);
    status = become(fuse, divide, "LayerNormalization", x, &epsilon);
    if (status == MYR_OK && !widen_inputs(divide, 2))
        return no_memory(divide);
    divide->inputs[1] = scale;
    return status;
}

/* ---- Rows and numbers ---- */

/* The constant of a pair that is one row along dimension d of the other input, or a number (*n == 1); NULL where it is
 * neither. */
static const float *row_along(const myr_graph *graph, const myr_node *node, int side, int d, size_t *n)
{
    const myr_tensor *constant = myr_node_constant(graph, node, side);
    if (!constant || constant->type != MYR_TYPE_F32 || !keeps_shape(graph, node, 1 - side))
        return NULL;
    const myr_shape *shape = &graph->values[node->outputs[0]].shape;
    *n = myr_shape_count(&constant->shape);
    int at = constant->shape.rank - (shape->rank - d); /* where the dimension is in the constant */
    bool fits = *n == 1 || (at >= 0 && constant->shape.dims[at] == (int64_t)*n && shape->dims[d] == (int64_t)*n);
    return fits ? constant->data : NULL;
}

/* A constant of n numbers, each of the old ones (or `standard` without) times its factor, plus its term. Both rows
 * may be single numbers. */
static myr_status combine(myr_graph *graph, const myr_tensor *old, float standard, int64_t n, const float *factor,
                          size_t n_factor, const float *term, size_t n_term, int *value)
{
    float *to;
    myr_status status = myr_fusing_add_constant(graph, "fused row", &(myr_shape){.rank = 1, .dims = {n}}, value, &to);
    size_t n_old = old ? myr_shape_count(&old->shape) : 0;
    for (int64_t i = 0; status == MYR_OK && i < n; i++) {
        float from = old ? ((const float *)old->data)[n_old == 1 ? 0 : i] : standard;
        to[i] = from * (factor ? factor[n_factor == 1 ? 0 : i] : 1) + (term ? term[n_term == 1 ? 0 : i] : 0);
    }
    return status;
}

/* Whether MatMul multiplies rows by a constant matrix; the row it adds is constant, too. */
static bool is_linear(const myr_graph *graph, const myr_node *node)
{
    const myr_tensor *b = myr_node_constant(graph, node, 1);
    return b && b->shape.rank == 2 && b->type == MYR_TYPE_F32 && myr_fusing_is_plain(node) &&
           graph->values[node->outputs[0]].shape.rank >= 1 && graph->values[node->inputs[0]].shape.rank >= 2 &&
           (node->n_inputs < 3 || node->inputs[2] < 0 || myr_node_constant(graph, node, 2));
}

static bool is_constant_normalisation(const myr_graph *graph, const myr_node *node)
{
    const myr_tensor *scale = myr_node_constant(graph, node, 1);
    int rank = graph->values[node->inputs[0]].shape.rank, axis;
    return scale && myr_node_has_one_output(node) && myr_fusing_is_plain(node) &&
           myr_axis_resolve(myr_node_int(node, "axis", -1), rank, &axis) && axis == rank - 1 &&
           (node->n_inputs < 3 || node->inputs[2] < 0 || myr_node_constant(graph, node, 2));
}

/* The node that makes input `side` of a pair and has a row in it. */
static myr_node *row_owner(const myr_fusing *fuse, const myr_node *pair, int side)
{
    myr_node *matmul = myr_fusing_sole_producer(fuse, pair, side, MYR_KIND_MATMUL);
    myr_node *normalisation = myr_fusing_sole_producer(fuse, pair, side, MYR_KIND_LAYER_NORMALIZATION);
    if (matmul && is_linear(fuse->graph, matmul))
        return matmul;
    return normalisation && is_constant_normalisation(fuse->graph, normalisation) ? normalisation : NULL;
}

myr_status myr_fusing_row(myr_fusing *fuse, myr_node *add)
{
    myr_graph *graph = fuse->graph;
    for (int side = 0; side < 2 && myr_fusing_is_plain(add); side++) {
        myr_node *owner = row_owner(fuse, add, side);
        const myr_shape *shape = &graph->values[add->outputs[0]].shape;
        size_t n;
        int bias;
        const float *row = owner ? row_along(graph, add, 1 - side, shape->rank - 1, &n) : NULL;
        if (!row)
            continue;
        if (!widen_inputs(owner, 3))
            return no_memory(add);
        myr_status status =
            combine(graph, myr_node_constant(graph, owner, 2), 0, shape->dims[shape->rank - 1], NULL, 0, row, n, &bias);
        if (status != MYR_OK)
            return status;
        owner->inputs[2] = bias;
        myr_fusing_absorb(fuse, owner, add);
        return MYR_OK;
    }
    return MYR_OK;
}

/* Each column of MatMul's matrix, and its row, times a factor. */
static myr_status scale_columns(myr_graph *graph, myr_node *matmul, const float *factor, size_t n_factor)
{
    const myr_tensor *b = myr_node_constant(graph, matmul, 1), *bias = myr_node_constant(graph, matmul, 2);
    int64_t n = b->shape.dims[1];
    int weights, row;
    float *to;
    myr_status status = myr_fusing_add_constant(graph, "fused weights", &b->shape, &weights, &to);
    if (status == MYR_OK && bias)
        status = combine(graph, bias, 0, n, factor, n_factor, NULL, 0, &row);
    if (status != MYR_OK)
        return status;
    const float *from = b->data;
    for (int64_t i = 0; i < b->shape.dims[0]; i++)
        for (int64_t j = 0; j < n; j++)
            *to++ = *from++ * factor[n_factor == 1 ? 0 : j];
    matmul->inputs[1] = weights;
    if (bias)
        matmul->inputs[2] = row;
    return MYR_OK;
}

static myr_status scale_normalisation(myr_graph *graph, myr_node *node, const float *factor, size_t n_factor)
{
    const myr_tensor *scale = myr_node_constant(graph, node, 1), *bias = myr_node_constant(graph, node, 2);
    int64_t n = (int64_t)myr_shape_count(&scale->shape);
    int value;
    myr_status status = combine(graph, scale, 1, n, factor, n_factor, NULL, 0, &value);
    if (status == MYR_OK)
        node->inputs[1] = value;
    if (status == MYR_OK && bias)
        status = combine(graph, bias, 0, n, factor, n_factor, NULL, 0, &value);
    if (status == MYR_OK && bias)
        node->inputs[2] = value;
    return status;
}

/* MatMul's result, and with it what it adds, times a number. */
static myr_status scale_product(myr_node *matmul, double number)
{
    myr_attribute *alpha = (myr_attribute *)myr_node_attribute(matmul, "alpha");
    if (!alpha) {
        char *name = myr_strdup("alpha");
        if (!name || !myr_resize(&matmul->attributes, matmul->n_attributes, matmul->n_attributes + 1,
                                 sizeof *matmul->attributes)) {
            free(name);
            return no_memory(matmul);
        }
        alpha = &matmul->attributes[matmul->n_attributes++];
        *alpha = (myr_attribute){.name = name, .type = MYR_ATTRIBUTE_FLOAT, .real = 1};
    }
    alpha->real = (float)((double)alpha->real * number);
    return MYR_OK;
}

/* Mul(Transpose(MatMul(x)), row), the row along what were the columns: the pair is left to the transposition. */
static myr_status scale_through_transpose(myr_fusing *fuse, myr_node *multiply, int side)
{
    myr_graph *graph = fuse->graph;
    myr_node *turned = myr_fusing_sole_producer(fuse, multiply, side, MYR_KIND_TRANSPOSE);
    myr_node *matmul = turned ? myr_fusing_sole_producer(fuse, turned, 0, MYR_KIND_MATMUL) : NULL;
    const myr_attribute *order = turned ? myr_node_attribute(turned, "perm") : NULL;
    size_t n;
    if (!matmul || !order || !is_linear(graph, matmul))
        return MYR_OK;
    int rank = graph->values[matmul->outputs[0]].shape.rank, d = 0;
    while (d < rank && order->numbers[d] != rank - 1)
        d++;
    const float *row = d < rank ? row_along(graph, multiply, 1 - side, d, &n) : NULL;
    myr_status status = row ? scale_columns(graph, matmul, row, n) : MYR_OK;
    if (status == MYR_OK && row)
        myr_fusing_absorb(fuse, turned, multiply);
    return status;
}

myr_status myr_fusing_factor(myr_fusing *fuse, myr_node *node)
{
    myr_graph *graph = fuse->graph;
    bool divides = node->op->kind == MYR_KIND_DIV;
    const myr_shape *shape = &graph->values[node->outputs[0]].shape;
    double number;
    for (int side = 0; side < 2 && myr_fusing_is_plain(node); side++) {
        if (divides && side == 1)
            return MYR_OK;
        myr_node *owner = row_owner(fuse, node, side);
        myr_node *matmul = myr_fusing_sole_producer(fuse, node, side, MYR_KIND_MATMUL);
        size_t n;
        myr_status status = MYR_OK;
        if (!owner && matmul && matmul->n_inputs == 2 && myr_fusing_is_plain(matmul) &&
            keeps_shape(graph, node, side) && as_number(graph, node, 1 - side, &number)) {
            status = scale_product(matmul, divides ? 1 / number : number);
            if (status == MYR_OK)
                myr_fusing_absorb(fuse, matmul, node);
            return status;
        }
        const float *row = owner && !divides ? row_along(graph, node, 1 - side, shape->rank - 1, &n) : NULL;
        if (row) {
            status = owner->op->kind == MYR_KIND_MATMUL ? scale_columns(graph, owner, row, n)
                                                        : scale_normalisation(graph, owner, row, n);
            if (status == MYR_OK)
                myr_fusing_absorb(fuse, owner, node);
            return status;
        }
        if (!divides && !owner)
            status = scale_through_transpose(fuse, node, side);
        if (status != MYR_OK || !node->op)
            return status;
    }
    return MYR_OK;
}

myr_status myr_fusing_scaled_sides(myr_fusing *fuse, myr_node *matmul)
{
    static const myr_kind kinds[] = {MYR_KIND_MUL, MYR_KIND_DIV};
    for (int i = 0; i < 4; i++) {
        int side = i / 2;
        myr_node *scale = myr_fusing_sole_producer(fuse, matmul, side, kinds[i % 2]);
        double number;
        if (!scale || !myr_fusing_is_plain(scale))
            continue;
        int constant = as_number(fuse->graph, scale, 1, &number) ? 1 : 0;
        if ((constant == 0 && (kinds[i % 2] == MYR_KIND_DIV || !as_number(fuse->graph, scale, 0, &number))) ||
            !keeps_shape(fuse->graph, scale, 1 - constant))
            continue;
        myr_status status = scale_product(matmul, kinds[i % 2] == MYR_KIND_DIV ? 1 / number : number);
        if (status != MYR_OK)
            return status;
        matmul->inputs[side] = scale->inputs[1 - constant];
        scale->op = NULL;
    }
    return MYR_OK;
}
