/*
 * Resize, Upsample, GridSample and AffineGrid.
 *
 * Resizing is done one dimension after the other, in double: each place along a dimension is a
 * weighted sum of places of the dimension before.
 * Source: ONNX operator definitions, Resize-19; Keys 1981 for the cubic kernel.
 */
#include "nn/operator.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Keys' kernel at a distance. */
static double cubic_weight(double distance, double a)
{
    double x = fabs(distance);
    return x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : x <= 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

/* ---- Resize, Upsample ---- */

/* What to do along one dimension. */
typedef struct scaling {
    int64_t in, out;
    double scale, begin, end; /* of the part that is cut out, as shares of the whole (tf_crop_and_resize) */
} scaling;

static bool is_one_of(const char *text, const char *const *list)
{
    while (*list && strcmp(*list, text) != 0)
        list++;
    return *list != NULL;
}

static const char *refuse_resize(const myr_node *node, int64_t opset)
{
    static const char *const modes[] = {"nearest", "linear", "cubic", "bilinear", NULL};
    static const char *const coordinates[] = {
        "half_pixel",           "pytorch_half_pixel", "align_corners",        "asymmetric",
        "tf_half_pixel_for_nn", "tf_crop_and_resize", "half_pixel_symmetric", NULL};
    static const char *const policies[] = {"stretch", "not_larger", "not_smaller", NULL};
    static const char *const nearest[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", NULL};
    (void)opset;
    if (!is_one_of(myr_node_text(node, "mode", "nearest"), modes))
        return "a mode other than nearest, linear, cubic";
    if (!is_one_of(myr_node_text(node, "coordinate_transformation_mode", "half_pixel"), coordinates))
        return "a coordinate_transformation_mode that ONNX does not have";
    if (!is_one_of(myr_node_text(node, "nearest_mode", "floor"), nearest))
        return "a nearest_mode that ONNX does not have";
    return is_one_of(myr_node_text(node, "keep_aspect_ratio_policy", "stretch"), policies)
               ? NULL
               : "a keep_aspect_ratio_policy other than stretch, not_larger, not_smaller";
}

/* An input that may be left out by being empty. */
static const myr_tensor *given_input(const myr_operation *operation, int i)
{
    const myr_tensor *input = myr_operation_input(operation, i);
    return input && myr_shape_count(&input->shape) > 0 ? input : NULL;
}

/* Resize had only scales before operator set 11, as Upsample does. */
static bool is_simple(const myr_operation *operation)
{
    return operation->node->op->name[0] == 'U' || operation->opset < 11;
}

/* The dimension that entry i of the lists belongs to, and whether there is one. */
static bool dimension_of(const myr_operation *operation, size_t i, size_t n, int *dimension)
{
    const myr_attribute *axes = myr_node_attribute(operation->node, "axes");
    int rank = operation->in[0]->shape.rank;
    if (axes)
        return axes->n == n && myr_axis_resolve(axes->numbers[i], rank, dimension);
    *dimension = (int)i;
    return n == (size_t)rank;
}

/* One dimension from entry i of the lists. */
static bool scale_dimension(const myr_tensor *scales, const float *floats, const myr_tensor *sizes, size_t i,
                            scaling *along)
{
    if (sizes && sizes->type == MYR_TYPE_I64) {
        along->out = ((const int64_t *)sizes->data)[i];
        along->scale = (double)along->out / (double)along->in;
    } else {
        along->scale = (double)(scales ? ((const float *)scales->data)[i] : floats[i]);
        double length = floor((double)along->in * along->scale);
        along->out = length >= 0 && length < INT32_MAX ? (int64_t)length : -1;
    }
    return along->out >= 0 && along->scale > 0;
}

/* keep_aspect_ratio_policy: the dimensions with a size get one scale, so that none is larger (or smaller) than asked.
 */
static bool keep_ratio(const myr_operation *operation, size_t n, scaling *all)
{
    const char *policy = myr_node_text(operation->node, "keep_aspect_ratio_policy", "stretch");
    bool larger = strcmp(policy, "not_smaller") == 0;
    double scale = 0;
    int d;
    for (size_t i = 0; i < n && dimension_of(operation, i, n, &d); i++)
        if (i == 0 || (all[d].scale > scale) == larger)
            scale = all[d].scale;
    for (size_t i = 0; i < n && strcmp(policy, "stretch") != 0 && dimension_of(operation, i, n, &d); i++) {
        double length = floor(scale * (double)all[d].in + 0.5);
        if (!(length >= 0 && length < INT32_MAX))
            return false;
        all[d].scale = scale;
        all[d].out = (int64_t)length;
    }
    return true;
}

static myr_status find_scalings(const myr_operation *operation, scaling *all)
{
    const myr_tensor *scales = given_input(operation, is_simple(operation) ? 1 : 2),
                     *sizes = is_simple(operation) ? NULL : given_input(operation, 3);
    const myr_attribute *list = myr_node_attribute(operation->node, "scales");
    const myr_tensor *first = sizes ? sizes : scales, *roi = is_simple(operation) ? NULL : given_input(operation, 1);
    const myr_shape *in = &operation->in[0]->shape;
    bool cuts = strcmp(myr_node_text(operation->node, "coordinate_transformation_mode", ""), "tf_crop_and_resize") == 0;
    if ((first && !first->data) || (cuts && roi && !roi->data))
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "scales, sizes and roi must be constant");
    size_t n = first ? myr_shape_count(&first->shape) : list ? list->n : 0;
    bool fits = (first || list) && (!first || first->type == (sizes ? MYR_TYPE_I64 : MYR_TYPE_F32)) &&
                (!cuts || (roi && roi->type == MYR_TYPE_F32 && myr_shape_count(&roi->shape) == 2 * n));
    for (int d = 0; d < in->rank; d++)
        all[d] = (scaling){.in = in->dims[d], .out = in->dims[d], .scale = 1, .end = 1};
    for (size_t i = 0; i < n && fits; i++) {
        int d;
        fits =
            dimension_of(operation, i, n, &d) && scale_dimension(scales, list ? list->reals : NULL, sizes, i, &all[d]);
        if (fits && cuts) {
            all[d].begin = (double)((const float *)roi->data)[i];
            all[d].end = (double)((const float *)roi->data)[i + n];
        }
    }
    fits = fits && (!sizes || keep_ratio(operation, n, all));
    return fits ? MYR_OK : myr_operation_fail(operation, MYR_ERR_FORMAT, "scales or sizes do not fit the input");
}

static myr_status infer_resize(const myr_operation *operation)
{
    scaling all[MYR_TENSOR_MAX_RANK];
    myr_shape shape = operation->in[0]->shape;
    bool nearest = strcmp(myr_node_text(operation->node, "mode", "nearest"), "nearest") == 0;
    if (operation->in[0]->type != MYR_TYPE_F32 && !nearest)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "only floats are supported");
    myr_status status = find_scalings(operation, all);
    for (int d = 0; d < shape.rank && status == MYR_OK; d++) {
        shape.dims[d] = all[d].out;
        if (all[d].out > 0 && all[d].in == 0)
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "nothing cannot be made larger");
    }
    myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    return status;
}

/* Where place x of the output lies in the input. */
static double source_place(const char *mode, const scaling *along, int64_t place)
{
    double x = (double)place, in = (double)along->in, out = (double)along->out;
    if (strcmp(mode, "asymmetric") == 0)
        return x / along->scale;
    if (strcmp(mode, "align_corners") == 0) /* by the scaled length before it is cut to whole cells, as ONNX has it */
        return out <= 1 ? 0 : x * (in - 1) / (along->scale * in - 1);
    if (strcmp(mode, "tf_half_pixel_for_nn") == 0)
        return (x + 0.5) / along->scale;
    if (strcmp(mode, "tf_crop_and_resize") == 0)
        return out > 1 ? along->begin * (in - 1) + x * (along->end - along->begin) * (in - 1) / (out - 1)
                       : 0.5 * (along->begin + along->end) * (in - 1);
    if (strcmp(mode, "pytorch_half_pixel") == 0 && out <= 1)
        return 0;
    double middle = (x + 0.5) / along->scale - 0.5;
    if (strcmp(mode, "half_pixel_symmetric") == 0)
        return middle + in / 2 * (1 - out / (along->scale * in));
    return middle;
}

/* One place as a weighted sum of others. */
typedef struct taps {
    int64_t n, room;
    int64_t *at;    /* [owned] (room) */
    double *weight; /* [owned] (room) */
    bool outside;
} taps;

static void free_taps(taps *self)
{
    free(self->at);
    free(self->weight);
}

/* How much wider the kernel becomes, so that a smaller picture is made of all its pixels. */
static double widening(const myr_operation *operation, const scaling *along)
{
    return myr_node_int(operation->node, "antialias", 0) != 0 && along->scale < 1 ? 1 / along->scale : 1;
}

/* Room for as many places as a kernel can see along a dimension. */
static bool make_taps(const myr_operation *operation, const scaling *along, taps *self)
{
    double reach = along->out > 0 ? 4 * widening(operation, along) + 4 : 4;
    *self = (taps){.room = reach < INT32_MAX ? (int64_t)reach : 0};
    self->at = myr_alloc((size_t)self->room, sizeof *self->at);
    self->weight = myr_alloc((size_t)self->room, sizeof *self->weight);
    return self->room > 0 && self->at && self->weight;
}

static int64_t clamp(int64_t x, int64_t last)
{
    return x < 0 ? 0 : x > last ? last : x;
}

static int64_t round_place(const char *how, double x)
{
    if (strcmp(how, "floor") == 0)
        return (int64_t)floor(x);
    if (strcmp(how, "ceil") == 0)
        return (int64_t)ceil(x);
    return (int64_t)(strcmp(how, "round_prefer_ceil") == 0 ? floor(x + 0.5) : ceil(x - 0.5));
}

/* Weights that sum to 1; where asked for, places outside have none. */
static void even_out(taps *self, int64_t in, bool exclude)
{
    double sum = 0;
    for (int64_t i = 0; i < self->n; i++) {
        if (exclude && (self->at[i] < 0 || self->at[i] >= in))
            self->weight[i] = 0;
        sum += self->weight[i];
    }
    for (int64_t i = 0; i < self->n && sum != 0; i++)
        self->weight[i] /= sum;
}

/* The places around x under a kernel: two for linear, four for cubic, more where it is widened. */
static void spread(const myr_operation *operation, const scaling *along, double x, bool cubic, taps *self)
{
    double wide = widening(operation, along), a = (double)myr_node_float(operation->node, "cubic_coeff_a", -0.75f);
    double reach = (cubic ? 2 : 1) * wide, first = floor(x) - ceil(reach) + 1, last = floor(x) + ceil(reach);
    bool exclude = cubic && myr_node_int(operation->node, "exclude_outside", 0) != 0;
    self->n = 0;
    for (double at = first; at <= last && self->n < self->room; at++) {
        double distance = (at - x) / wide;
        self->at[self->n] = (int64_t)at;
        self->weight[self->n++] = cubic ? cubic_weight(distance, a) : fmax(0, 1 - fabs(distance));
    }
    if (exclude || wide > 1)
        even_out(self, along->in, exclude || myr_node_int(operation->node, "exclude_outside", 0) != 0);
}

static void find_taps(const myr_operation *operation, const scaling *along, int64_t place, taps *self)
{
    const myr_node *node = operation->node;
    bool simple = is_simple(operation);
    const char *mode = myr_node_text(node, "mode", "nearest"),
               *how = simple ? "asymmetric" : myr_node_text(node, "coordinate_transformation_mode", "half_pixel"),
               *nearest = simple ? "floor" : myr_node_text(node, "nearest_mode", "round_prefer_floor");
    double x = source_place(how, along, place);
    self->outside = strcmp(how, "tf_crop_and_resize") == 0 && !(x >= 0 && x <= (double)(along->in - 1));
    x = x > -1e15 && x < 1e15 ? x : 0;
    if (strcmp(mode, "nearest") == 0) {
        self->n = 1;
        self->at[0] = round_place(nearest, x);
        self->weight[0] = 1;
    } else {
        spread(operation, along, x, strcmp(mode, "cubic") == 0, self);
    }
    for (int64_t i = 0; i < self->n; i++)
        self->at[i] = clamp(self->at[i], along->in - 1);
}

/* from (outer, in, inner) to (outer, out, inner); false without memory. */
static bool resize_along(const myr_operation *operation, const scaling *along, size_t outer, size_t inner,
                         const double *from, double *to)
{
    double filling = (double)myr_node_float(operation->node, "extrapolation_value", 0);
    taps around;
    bool has_room = make_taps(operation, along, &around);
    for (int64_t x = 0; x < along->out && has_room; x++) {
        find_taps(operation, along, x, &around);
        for (size_t o = 0; o < outer; o++) {
            for (size_t i = 0; i < inner; i++) {
                double sum = around.outside ? filling : 0;
                for (int64_t k = 0; k < around.n && !around.outside; k++)
                    sum += around.weight[k] * from[(o * (size_t)along->in + (size_t)around.at[k]) * inner + i];
                to[(o * (size_t)along->out + (size_t)x) * inner + i] = sum;
            }
        }
    }
    free_taps(&around);
    return has_room;
}

static myr_status compute_resize(const myr_operation *operation)
{
    scaling all[MYR_TENSOR_MAX_RANK];
    myr_shape shape = operation->in[0]->shape;
    size_t n = myr_shape_count(&shape);
    myr_status status = find_scalings(operation, all);
    if (status != MYR_OK)
        return status;
    double *values = myr_alloc(n, sizeof *values);
    for (size_t i = 0; i < n && values; i++)
        values[i] = myr_tensor_real(operation->in[0], i);
    bool cuts = strcmp(myr_node_text(operation->node, "coordinate_transformation_mode", ""), "tf_crop_and_resize") == 0;
    for (int d = 0; d < shape.rank && values; d++) {
        size_t outer, length, inner;
        if (all[d].out == all[d].in && all[d].scale == 1 && !cuts)
            continue;
        myr_shape_split(&shape, d, d + 1, &outer, &length, &inner);
        shape.dims[d] = all[d].out;
        double *next = myr_alloc(myr_shape_count(&shape), sizeof *next);
        if (next && !resize_along(operation, &all[d], outer, inner, values, next)) {
            free(next);
            next = NULL;
        }
        free(values);
        values = next;
    }
    if (!values)
        return myr_operation_fail(operation, MYR_ERR_NOMEM, "no memory to resize");
    n = myr_shape_count(&operation->out[0].shape);
    for (size_t i = 0; i < n; i++)
        myr_tensor_put_real(&operation->out[0], i, values[i]);
    free(values);
    return MYR_OK;
}

/* ---- GridSample ---- */

static const char *refuse_grid(const myr_node *node, int64_t opset)
{
    static const char *const modes[] = {"bilinear", "nearest", "bicubic", "linear", "cubic", NULL};
    static const char *const paddings[] = {"zeros", "border", "reflection", NULL};
    (void)opset;
    if (!is_one_of(myr_node_text(node, "mode", "bilinear"), modes))
        return "a mode other than linear, nearest, cubic";
    return is_one_of(myr_node_text(node, "padding_mode", "zeros"), paddings)
               ? NULL
               : "a padding_mode other than zeros, border, reflection";
}

static myr_status infer_grid(const myr_operation *operation)
{
    const myr_shape *in = &operation->in[0]->shape, *grid = &operation->in[1]->shape;
    if (in->rank != 4 || grid->rank != 4)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "only pictures (rank 4) can be sampled");
    if (grid->dims[3] != 2 || grid->dims[0] != in->dims[0])
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the grid does not fit the input");
    myr_operation_shape(operation, 0, MYR_TYPE_F32,
                        &(myr_shape){.rank = 4, .dims = {in->dims[0], in->dims[1], grid->dims[1], grid->dims[2]}});
    return myr_operation_floats(operation, 2);
}

/* Mirrored at both ends until it lies between them. */
static double reflect(double x, double low, double high)
{
    double span = high - low;
    if (span <= 0)
        return 0;
    double past = fmod(fabs(x - low), 2 * span);
    return low + (past > span ? 2 * span - past : past);
}

typedef struct sampling {
    const float *plane;
    int64_t size[2]; /* height, width */
    char padding;    /* 'z', 'b', 'r' */
    bool corners;
} sampling;

/* A coordinate brought inside, as the padding asks for; -1 and beyond stay for zeros. */
static double pad_place(const sampling *self, int d, double x)
{
    double last = (double)(self->size[d] - 1);
    if (self->padding == 'z')
        return x;
    if (self->padding == 'r')
        x = self->corners ? reflect(x, 0, last) : reflect(x, -0.5, last + 0.5);
    return fmin(fmax(x, 0), last);
}

/* A pixel, 0 outside. */
static double pixel(const sampling *self, double y, double x)
{
    y = pad_place(self, 0, y);
    x = pad_place(self, 1, x);
    bool inside = y >= 0 && x >= 0 && y < (double)self->size[0] && x < (double)self->size[1];
    return inside ? (double)self->plane[(int64_t)y * self->size[1] + (int64_t)x] : 0;
}

static double sample(const sampling *self, char mode, const float place[2])
{
    double at[2], below[2], weights[2][4] = {{0}}, sum = 0;
    for (int d = 0; d < 2; d++) { /* the grid has x first */
        double size = (double)self->size[d], x = (double)place[1 - d];
        at[d] = self->corners ? (x + 1) / 2 * (size - 1) : ((x + 1) * size - 1) / 2;
        if (mode != 'c')
            at[d] = pad_place(self, d, at[d]);
        below[d] = floor(at[d]);
        for (int i = 0; i < 4 && mode == 'c'; i++)
            weights[d][i] = cubic_weight(below[d] - 1 + i - at[d], -0.75);
        weights[d][1] = mode == 'c' ? weights[d][1] : 1 - (at[d] - below[d]);
        weights[d][2] = mode == 'c' ? weights[d][2] : at[d] - below[d];
    }
    if (mode == 'n')
        return pixel(self, nearbyint(at[0]), nearbyint(at[1]));
    for (int k = 0; k < 16; k++)
        if (weights[0][k / 4] != 0 && weights[1][k % 4] != 0)
            sum += weights[0][k / 4] * weights[1][k % 4] * pixel(self, below[0] + k / 4 - 1, below[1] + k % 4 - 1);
    return sum;
}

static myr_status compute_grid(const myr_operation *operation)
{
    const myr_shape *in = &operation->in[0]->shape, *out = &operation->out[0].shape;
    const char *mode = myr_node_text(operation->node, "mode", "bilinear");
    char which = strstr(mode, "cubic") ? 'c' : strstr(mode, "linear") ? 'l' : 'n';
    sampling self = {.size = {in->dims[2], in->dims[3]},
                     .padding = myr_node_text(operation->node, "padding_mode", "zeros")[0],
                     .corners = myr_node_int(operation->node, "align_corners", 0) != 0};
    size_t cells = (size_t)(out->dims[2] * out->dims[3]), plane = (size_t)(in->dims[2] * in->dims[3]);
    float *to = operation->out[0].data;
    for (int64_t i = 0; i < out->dims[0] * out->dims[1]; i++) {
        const float *grid = (const float *)operation->in[1]->data + (size_t)(i / out->dims[1]) * cells * 2;
        self.plane = (const float *)operation->in[0]->data + (size_t)i * plane;
        for (size_t k = 0; k < cells; k++)
            *to++ = (float)(plane > 0 ? sample(&self, which, grid + 2 * k) : 0);
    }
    return MYR_OK;
}

/* ---- AffineGrid ---- */

static myr_status infer_affine(const myr_operation *operation)
{
    const myr_shape *theta = &operation->in[0]->shape;
    const int64_t *size;
    size_t n;
    myr_status status = myr_operation_constants(operation, "", 1, "size", &size, &n);
    if (status != MYR_OK)
        return status;
    if ((n != 4 && n != 5) || theta->rank != 3 || theta->dims[0] != size[0] || theta->dims[1] != (int64_t)n - 2 ||
        theta->dims[2] != (int64_t)n - 1)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "theta and size do not fit together");
    myr_shape shape = {.rank = (int)n, .dims = {size[0]}};
    for (size_t i = 2; i < n; i++)
        shape.dims[i - 1] = size[i];
    shape.dims[n - 1] = (int64_t)n - 2;
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &shape);
    return myr_operation_floats(operation, 1);
}

static myr_status compute_affine(const myr_operation *operation)
{
    bool corners = myr_node_int(operation->node, "align_corners", 0) != 0;
    const myr_shape *out = &operation->out[0].shape;
    int dims = out->rank - 2;
    myr_shape cells = {.rank = out->rank - 1};
    memcpy(cells.dims, out->dims, (size_t)cells.rank * sizeof *cells.dims);
    size_t n = myr_shape_count(&cells);
    int64_t place[MYR_TENSOR_MAX_RANK] = {0};
    for (size_t i = 0; i < n; i++, myr_shape_next(&cells, place)) {
        const float *theta = (const float *)operation->in[0]->data + place[0] * dims * (dims + 1);
        for (int row = 0; row < dims; row++) {
            double sum = (double)theta[row * (dims + 1) + dims];
            for (int k = 0; k < dims; k++) { /* x, the last dimension, comes first */
                double length = (double)cells.dims[dims - k], x = (double)place[dims - k];
                double at = corners ? (length > 1 ? 2 * x / (length - 1) - 1 : 0) : (2 * x + 1) / length - 1;
                sum += (double)theta[row * (dims + 1) + k] * at;
            }
            ((float *)operation->out[0].data)[i * (size_t)dims + (size_t)row] = (float)sum;
        }
    }
    return MYR_OK;
}

const myr_operator myr_resize_operators[] = {
    {"AffineGrid", MYR_KIND_OTHER, 2, 2, 1, "align_corners:int ", NULL, infer_affine, compute_affine},
    {"Resize", MYR_KIND_OTHER, 1, 4, 1,
     "antialias:int axes:ints coordinate_transformation_mode:text cubic_coeff_a:float exclude_outside:int "
     "extrapolation_value:float keep_aspect_ratio_policy:text mode:text nearest_mode:text ",
     refuse_resize, infer_resize, compute_resize},
    {"Upsample", MYR_KIND_OTHER, 1, 2, 1, "mode:text scales:floats ", refuse_resize, infer_resize, compute_resize},
    {"GridSample", MYR_KIND_OTHER, 2, 2, 1, "align_corners:int mode:text padding_mode:text ", refuse_grid, infer_grid,
     compute_grid},
    {0},
};
