/*
 * Element by element, in whichever order the inputs already have; joining of values.
 */
#include "base/alloc.h"
#include "nn/openblas.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Functions ---- */

typedef struct function {
    const myr_openblas_kernels *kernels;
    myr_function which;
    float a, b;
    size_t n;
    myr_activation activation;
    int in, out;
} function;

static myr_status run_function(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    (void)scratch;
    const function *self = step->state;
    float *out = (float *)address[self->out];
    self->kernels->apply(self->which, self->a, self->b, (const float *)address[self->in], out, self->n);
    myr_openblas_activate(self->kernels, &self->activation, out, self->n);
    return MYR_OK;
}

static const myr_step_kind function_step = {.name = "OpenBLAS", .run = run_function, .free = free};

/* Which function a node is, with its parameters. */
static bool find_function(const myr_graph *graph, const myr_node *node, function *self)
{
    static const char *const names[] = {[MYR_FUNCTION_CLIP] = "Clip",
                                        [MYR_FUNCTION_SIGMOID] = "Sigmoid",
                                        [MYR_FUNCTION_TANH] = "Tanh",
                                        [MYR_FUNCTION_ERF] = "Erf",
                                        [MYR_FUNCTION_EXP] = "Exp",
                                        [MYR_FUNCTION_SQRT] = "Sqrt",
                                        [MYR_FUNCTION_HARD_SIGMOID] = "HardSigmoid",
                                        [MYR_FUNCTION_HARD_SWISH] = "HardSwish",
                                        [MYR_FUNCTION_LEAKY_RELU] = "LeakyRelu",
                                        [MYR_FUNCTION_SWISH] = "Swish",
                                        [MYR_FUNCTION_GELU] = "Gelu"};
    bool is_relu = strcmp(node->op->name, "Relu") == 0;
    size_t i = 0;
    while (!is_relu && i < sizeof names / sizeof *names && strcmp(names[i], node->op->name) != 0)
        i++;
    if (i == sizeof names / sizeof *names)
        return false;
    self->which = (myr_function)i;
    if (is_relu)
        self->b = INFINITY;
    else if (self->which == MYR_FUNCTION_CLIP) {
        const myr_tensor *low = myr_node_constant(graph, node, 1), *high = myr_node_constant(graph, node, 2);
        bool known =
            (low || node->n_inputs < 2 || node->inputs[1] < 0) && (high || node->n_inputs < 3 || node->inputs[2] < 0);
        self->a = low ? *(const float *)low->data : myr_node_float(node, "min", -INFINITY);
        self->b = high ? *(const float *)high->data : myr_node_float(node, "max", INFINITY);
        return known;
    } else if (self->which == MYR_FUNCTION_HARD_SIGMOID) {
        self->a = myr_node_float(node, "alpha", 0.2f);
        self->b = myr_node_float(node, "beta", 0.5f);
    } else if (self->which == MYR_FUNCTION_LEAKY_RELU) {
        self->a = myr_node_float(node, "alpha", 0.01f);
    } else if (self->which == MYR_FUNCTION_SWISH) {
        self->a = myr_node_float(node, "alpha", 1);
    } else if (self->which == MYR_FUNCTION_GELU && strcmp(myr_node_text(node, "approximate", "none"), "tanh") == 0) {
        self->which = MYR_FUNCTION_GELU_TANH;
    }
    return true;
}

myr_status myr_openblas_function(myr_openblas_builder *build, const myr_node *node, bool *taken)
{
    function found = {.kernels = build->kernels, .activation = node->activation};
    if (!myr_openblas_is_computed(build, node, 0) || node->residual >= 0 || !find_function(build->graph, node, &found))
        return MYR_OK;
    function *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_openblas_no_memory(node);
    *self = found;
    self->n = myr_shape_count(&build->graph->values[node->outputs[0]].shape);
    bool by_pixel = myr_openblas_is_by_pixel(build, node->inputs[0]);
    myr_status status = by_pixel ? myr_openblas_bring_pixels(build, node->inputs[0], &self->in)
                                 : myr_openblas_bring_plain(build, node->inputs[0], &self->in);
    if (status == MYR_OK)
        status = by_pixel ? myr_openblas_settle_pixels(build, node->outputs[0], &self->out)
                          : myr_openblas_settle_plain(build, node->outputs[0], &self->out);
    if (status != MYR_OK) {
        free(self);
        return status;
    }
    *taken = true;
    return myr_program_add_step(build->compiler->program, &function_step, node->name, self,
                                (int[]){self->in, self->out}, 2, 0);
}

/* ---- Pairs ---- */

typedef struct pairing {
    const myr_openblas_kernels *kernels;
    myr_pairing which;
    int rank; /* dimensions of the result in its order, the last one run through by the kernel */
    int64_t dims[MYR_TENSOR_MAX_RANK];
    size_t strides[2][MYR_TENSOR_MAX_RANK]; /* floats; 0 where stretched */
    float *constants[2];                    /* [owned] in the result's order, NULL where computed */
    myr_activation activation;
    int in[2], out;
} pairing;

static void free_pairing(void *memory)
{
    pairing *self = memory;
    if (self) {
        free(self->constants[0]);
        free(self->constants[1]);
    }
    free(self);
}

static myr_status run_pairing(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    (void)scratch;
    const pairing *self = step->state;
    int last = self->rank - 1;
    int64_t place[MYR_TENSOR_MAX_RANK] = {0};
    const float *at[2];
    float *out = (float *)address[self->out];
    size_t n_rows = 1, n = (size_t)self->dims[last];
    for (int d = 0; d < last; d++)
        n_rows *= (size_t)self->dims[d];
    for (int side = 0; side < 2; side++)
        at[side] = self->constants[side] ? self->constants[side] : (const float *)address[self->in[side]];
    for (size_t i = 0; i < n_rows; i++, out += n) {
        self->kernels->pair(self->which, at[0], self->strides[0][last] != 0, at[1], self->strides[1][last] != 0, out,
                            n);
        myr_openblas_activate(self->kernels, &self->activation, out, n);
        for (int d = last - 1; d >= 0; d--) {
            at[0] += self->strides[0][d];
            at[1] += self->strides[1][d];
            if (++place[d] < self->dims[d])
                break;
            at[0] -= self->strides[0][d] * (size_t)self->dims[d];
            at[1] -= self->strides[1][d] * (size_t)self->dims[d];
            place[d] = 0;
        }
    }
    return MYR_OK;
}

static const myr_step_kind pairing_step = {.name = "OpenBLAS", .run = run_pairing, .free = free_pairing};

/* Dimensions of a shape in an order, stretched by ones in front to a rank. */
static void order_dims(const myr_shape *shape, int rank, bool by_pixel, int64_t *dims)
{
    int64_t plain[MYR_TENSOR_MAX_RANK];
    for (int i = 0; i < rank; i++)
        plain[i] = i < rank - shape->rank ? 1 : shape->dims[i - (rank - shape->rank)];
    for (int i = 0; i < rank; i++)
        dims[i] = !by_pixel || i == 0 ? plain[i] : i == rank - 1 ? plain[1] : plain[i + 1];
}

static void plan_strides(pairing *self, const myr_shape *sides[2], const myr_shape *out, bool by_pixel)
{
    self->rank = out->rank;
    order_dims(out, out->rank, by_pixel, self->dims);
    for (int side = 0; side < 2; side++) {
        int64_t dims[MYR_TENSOR_MAX_RANK];
        size_t stride = 1;
        order_dims(sides[side], out->rank, by_pixel, dims);
        for (int d = out->rank - 1; d >= 0; d--) {
            self->strides[side][d] = dims[d] == 1 ? 0 : stride;
            stride *= (size_t)dims[d];
        }
    }
}

/* Dimensions that both sides walk through without a jump become one. */
static void join_dims(pairing *self)
{
    int kept = self->rank - 1;
    for (int d = self->rank - 2; d >= 0; d--) {
        bool joins = true;
        for (int side = 0; side < 2; side++)
            joins = joins && self->strides[side][d] == self->strides[side][kept] * (size_t)self->dims[kept];
        if (self->dims[d] == 1) /* its stride says nothing */
            continue;
        if (self->dims[kept] == 1) {
            for (int side = 0; side < 2; side++)
                self->strides[side][kept] = self->strides[side][d];
            self->dims[kept] = self->dims[d];
        } else if (joins) {
            self->dims[kept] *= self->dims[d];
        } else {
            kept--;
            self->dims[kept] = self->dims[d];
            for (int side = 0; side < 2; side++)
                self->strides[side][kept] = self->strides[side][d];
        }
    }
    self->rank -= kept;
    memmove(self->dims, self->dims + kept, (size_t)self->rank * sizeof *self->dims);
    for (int side = 0; side < 2; side++)
        memmove(self->strides[side], self->strides[side] + kept, (size_t)self->rank * sizeof **self->strides);
}

/* A copy of a constant in the result's order. */
static float *order_constant(const myr_openblas_kernels *kernels, const myr_tensor *constant, bool by_pixel)
{
    const myr_shape *shape = &constant->shape;
    size_t n = myr_shape_count(shape);
    float *copy = myr_alloc(n, sizeof *copy);
    if (!copy)
        return NULL;
    if (!by_pixel || shape->rank < 3 || n == 0) { /* below rank 3 there is no channel to move */
        memcpy(copy, constant->data, n * sizeof *copy);
        return copy;
    }
    size_t pictures = shape->rank == 4 ? (size_t)shape->dims[0] : 1;
    size_t n_channels = (size_t)shape->dims[shape->rank - 3], one = pictures ? n / pictures : 0;
    for (size_t i = 0; i < pictures; i++)
        kernels->transpose((const float *)constant->data + i * one, n_channels, one / n_channels, copy + i * one);
    return copy;
}

/* The step added last has copies of all the node's constants. */
static myr_status count_copies(myr_openblas_builder *build, const myr_node *node)
{
    for (int i = 0; i < node->n_inputs; i++)
        if (myr_node_constant(build->graph, node, i))
            myr_program_add_packed(build->compiler->program,
                                   myr_tensor_bytes(myr_node_constant(build->graph, node, i)));
    return MYR_OK;
}

/* Both sides in the result's order: a buffer, or a constant of its own. */
static myr_status bring_sides(myr_openblas_builder *build, const myr_node *node, bool by_pixel, pairing *self,
                              int *buffers, int *n_buffers)
{
    myr_status status = MYR_OK;
    for (int side = 0; side < 2 && status == MYR_OK; side++) {
        const myr_tensor *constant = build->graph->values[node->inputs[side]].constant;
        if (constant) {
            self->constants[side] = order_constant(build->kernels, constant, by_pixel);
            status = self->constants[side] ? MYR_OK : myr_openblas_no_memory(node);
            continue;
        }
        status = by_pixel ? myr_openblas_bring_pixels(build, node->inputs[side], &self->in[side])
                          : myr_openblas_bring_plain(build, node->inputs[side], &self->in[side]);
        buffers[(*n_buffers)++] = self->in[side];
    }
    return status;
}

/* By pixel where a side is; not where a computed side has another rank, whose channels are elsewhere. */
static bool chooses_pixels(const myr_openblas_builder *build, const myr_node *node)
{
    const myr_value *values = build->graph->values;
    bool any = false;
    for (int side = 0; side < 2; side++) {
        const myr_value *value = &values[node->inputs[side]];
        if (!value->constant && value->shape.rank != 4)
            return false;
        any = any || myr_openblas_is_by_pixel(build, node->inputs[side]);
    }
    return any && values[node->outputs[0]].shape.rank == 4;
}

myr_status myr_openblas_pair(myr_openblas_builder *build, const myr_node *node, bool *taken)
{
    const myr_value *values = build->graph->values, *out = &values[node->outputs[0]];
    const myr_shape *sides[2] = {myr_openblas_shape(build, node->inputs[0]),
                                 myr_openblas_shape(build, node->inputs[1])};
    if (node->residual >= 0 || out->shape.rank < 1)
        return MYR_OK;
    pairing *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_openblas_no_memory(node);
    char letter = node->op->name[0];
    *self = (pairing){.kernels = build->kernels,
                      .which = letter == 'A'   ? MYR_PAIRING_ADD
                               : letter == 'S' ? MYR_PAIRING_SUBTRACT
                               : letter == 'M' ? MYR_PAIRING_MULTIPLY
                                               : MYR_PAIRING_DIVIDE,
                      .activation = node->activation};
    bool by_pixel = chooses_pixels(build, node);
    int buffers[3], n_buffers = 0;
    plan_strides(self, sides, &out->shape, by_pixel);
    join_dims(self);
    myr_status status = bring_sides(build, node, by_pixel, self, buffers, &n_buffers);
    if (status == MYR_OK)
        status = by_pixel ? myr_openblas_settle_pixels(build, node->outputs[0], &self->out)
                          : myr_openblas_settle_plain(build, node->outputs[0], &self->out);
    if (status != MYR_OK) {
        free_pairing(self);
        return status;
    }
    *taken = true;
    buffers[n_buffers++] = self->out;
    status = myr_program_add_step(build->compiler->program, &pairing_step, node->name, self, buffers, n_buffers, 0);
    return status == MYR_OK ? count_copies(build, node) : status;
}

/* ---- Concat ---- */

typedef struct joining {
    const myr_openblas_kernels *kernels;
    size_t n_rows, n_out; /* floats of a row of the result */
    myr_activation activation;
    int out, n_parts;
    int *in;          /* [owned] (n_parts) buffers, -1 where constant */
    float **parts;    /* [owned] (n_parts) [owned] constants, NULL where computed */
    size_t *n_floats; /* [owned] (n_parts) of a row */
} joining;

static void free_joining(void *memory)
{
    joining *self = memory;
    if (!self)
        return;
    for (int i = 0; self->parts && i < self->n_parts; i++)
        free(self->parts[i]);
    free(self->in);
    free(self->parts);
    free(self->n_floats);
    free(self);
}

static myr_status run_joining(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    (void)scratch;
    const joining *self = step->state;
    float *out = (float *)address[self->out];
    for (int i = 0; i < self->n_parts; i++) {
        const float *from = self->parts[i] ? self->parts[i] : (const float *)address[self->in[i]];
        size_t n = self->n_floats[i];
        for (size_t row = 0; row < self->n_rows && n > 0; row++)
            memcpy(out + row * self->n_out, from + row * n, n * sizeof *out);
        out += n;
    }
    myr_openblas_activate(self->kernels, &self->activation, (float *)address[self->out], self->n_rows * self->n_out);
    return MYR_OK;
}

static const myr_step_kind joining_step = {.name = "OpenBLAS", .run = run_joining, .free = free_joining};

static myr_status bring_parts(myr_openblas_builder *build, const myr_node *node, bool by_pixel, int axis, joining *self)
{
    const myr_value *values = build->graph->values;
    int rank = values[node->outputs[0]].shape.rank;
    int64_t dims[MYR_TENSOR_MAX_RANK];
    myr_status status = MYR_OK;
    for (int i = 0; i < node->n_inputs && status == MYR_OK; i++) {
        const myr_value *value = &values[node->inputs[i]];
        order_dims(myr_openblas_shape(build, node->inputs[i]), rank, by_pixel, dims);
        self->n_floats[i] = 1;
        for (int d = axis; d < rank; d++)
            self->n_floats[i] *= (size_t)dims[d];
        self->in[i] = -1;
        if (value->constant)
            self->parts[i] = order_constant(build->kernels, value->constant, by_pixel);
        if (value->constant && !self->parts[i])
            status = myr_openblas_no_memory(node);
        else if (!value->constant)
            status = by_pixel ? myr_openblas_bring_pixels(build, node->inputs[i], &self->in[i])
                              : myr_openblas_bring_plain(build, node->inputs[i], &self->in[i]);
    }
    return status;
}

static myr_status add_joining(myr_openblas_builder *build, const myr_node *node, bool by_pixel, joining *self)
{
    int n_buffers = 0, *buffers = myr_alloc((size_t)node->n_inputs + 1, sizeof *buffers);
    myr_status status = buffers ? MYR_OK : myr_openblas_no_memory(node);
    if (status == MYR_OK)
        status = by_pixel ? myr_openblas_settle_pixels(build, node->outputs[0], &self->out)
                          : myr_openblas_settle_plain(build, node->outputs[0], &self->out);
    if (status != MYR_OK) {
        free(buffers);
        free_joining(self);
        return status;
    }
    for (int i = 0; i < self->n_parts; i++)
        if (self->in[i] >= 0)
            buffers[n_buffers++] = self->in[i];
    buffers[n_buffers++] = self->out;
    status = myr_program_add_step(build->compiler->program, &joining_step, node->name, self, buffers, n_buffers, 0);
    free(buffers);
    return status == MYR_OK ? count_copies(build, node) : status;
}

myr_status myr_openblas_concat(myr_openblas_builder *build, const myr_node *node, bool *taken)
{
    const myr_shape *out = &build->graph->values[node->outputs[0]].shape;
    int axis;
    bool by_pixel = false;
    if (node->residual >= 0 || !myr_axis_resolve(myr_node_int(node, "axis", 1), out->rank, &axis))
        return MYR_OK;
    for (int i = 0; i < node->n_inputs; i++) {
        if (node->inputs[i] < 0)
            return MYR_OK;
        by_pixel = by_pixel || myr_openblas_is_by_pixel(build, node->inputs[i]);
    }
    joining *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_openblas_no_memory(node);
    size_t n = (size_t)node->n_inputs;
    *self = (joining){.kernels = build->kernels,
                      .activation = node->activation,
                      .n_rows = 1,
                      .n_out = 1,
                      .n_parts = node->n_inputs,
                      .in = myr_alloc(n, sizeof(int)),
                      .parts = myr_alloc(n, sizeof(float *)),
                      .n_floats = myr_alloc(n, sizeof(size_t))};
    int64_t dims[MYR_TENSOR_MAX_RANK];
    order_dims(out, out->rank, by_pixel, dims);
    if (by_pixel)
        axis = axis == 0 ? 0 : axis == 1 ? 3 : axis - 1;
    for (int d = 0; d < out->rank; d++)
        *(d < axis ? &self->n_rows : &self->n_out) *= (size_t)dims[d];
    myr_status status = self->in && self->parts && self->n_floats ? bring_parts(build, node, by_pixel, axis, self)
                                                                  : myr_openblas_no_memory(node);
    if (status != MYR_OK) {
        free_joining(self);
        return status;
    }
    *taken = true;
    return add_joining(build, node, by_pixel, self);
}
