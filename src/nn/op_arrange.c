/*
 * Operators that repeat, cut and rearrange elements, or make them from nothing: Expand, Tile, Split, DepthToSpace,
 * SpaceToDepth, Trilu, Range, EyeLike, Size.
 */
#include "nn/operator.h"

#include <math.h>
#include <string.h>

/* ---- Expand, Tile ---- */

static myr_status infer_expand(const myr_operation *operation)
{
    const int64_t *wanted;
    size_t n;
    myr_shape shape = {0};
    myr_status status = myr_operation_constants(operation, "", 1, "the shape", &wanted, &n);
    if (status != MYR_OK)
        return status;
    if (n > MYR_TENSOR_MAX_RANK)
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "more than 8 dimensions");
    shape.rank = (int)n;
    for (size_t i = 0; i < n; i++)
        shape.dims[i] = wanted[i];
    if (!myr_shape_is_sane(&shape) || !myr_shape_broadcast(&operation->in[0]->shape, &shape))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the input cannot be stretched to the shape");
    myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    return MYR_OK;
}

static myr_status compute_expand(const myr_operation *operation)
{
    size_t n = myr_shape_count(&operation->out[0].shape), size = myr_type_bytes(operation->out[0].type);
    myr_walk walk;
    myr_walk_begin(&walk, &operation->out[0].shape);
    myr_walk_add(&walk, &operation->in[0]->shape);
    for (size_t i = 0; i < n; i++, myr_walk_step(&walk))
        memcpy((char *)operation->out[0].data + i * size, (const char *)operation->in[0]->data + walk.at[0] * size,
               size);
    return MYR_OK;
}

static myr_status infer_tile(const myr_operation *operation)
{
    const int64_t *repeats;
    size_t n;
    myr_shape shape = operation->in[0]->shape;
    myr_status status = myr_operation_constants(operation, "", 1, "repeats", &repeats, &n);
    if (status != MYR_OK)
        return status;
    if (n != (size_t)shape.rank)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "repeats and dimensions differ in number");
    for (size_t i = 0; i < n; i++) {
        if (repeats[i] < 0 || repeats[i] > INT32_MAX || (repeats[i] > 0 && shape.dims[i] > INT64_MAX / repeats[i]))
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "repeats make no sense");
        shape.dims[i] *= repeats[i];
    }
    myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    return MYR_OK;
}

static myr_status compute_tile(const myr_operation *operation)
{
    const myr_shape *in = &operation->in[0]->shape, *out = &operation->out[0].shape;
    size_t n = myr_shape_count(out), size = myr_type_bytes(operation->out[0].type);
    int64_t place[MYR_TENSOR_MAX_RANK] = {0};
    for (size_t i = 0; i < n; i++, myr_shape_next(out, place)) {
        size_t at = 0;
        for (int d = 0; d < in->rank; d++)
            at = at * (size_t)in->dims[d] + (size_t)(place[d] % in->dims[d]);
        memcpy((char *)operation->out[0].data + i * size, (const char *)operation->in[0]->data + at * size, size);
    }
    return MYR_OK;
}

/* ---- Split ---- */

/* How long part i is: as given, or equal parts, of which the last may be shorter. */
static int64_t part_length(const myr_operation *operation, const int64_t *lengths, int64_t whole, int i)
{
    int64_t n = operation->node->n_outputs, length = (whole + n - 1) / n, rest = whole - length * i;
    return lengths ? lengths[i] : rest < 0 ? 0 : rest < length ? rest : length;
}

static myr_status infer_split(const myr_operation *operation)
{
    const myr_tensor *in = operation->in[0];
    const int64_t *lengths;
    size_t n;
    int axis;
    int64_t sum = 0;
    myr_status status = myr_operation_constants(operation, "split", 1, "split", &lengths, &n);
    if (status == MYR_OK)
        status = myr_operation_axis(operation, 0, in->shape.rank, &axis);
    if (status != MYR_OK)
        return status;
    if (lengths && n != (size_t)operation->node->n_outputs)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "lengths and outputs differ in number");
    for (int i = 0; i < operation->node->n_outputs; i++) {
        myr_shape shape = in->shape;
        shape.dims[axis] = part_length(operation, lengths, in->shape.dims[axis], i);
        if (shape.dims[axis] < 0 || shape.dims[axis] > in->shape.dims[axis])
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "a length makes no sense");
        sum += shape.dims[axis];
        myr_operation_shape(operation, i, in->type, &shape);
    }
    if (sum != in->shape.dims[axis])
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the parts are not as long as the whole");
    return MYR_OK;
}

static myr_status compute_split(const myr_operation *operation)
{
    const myr_tensor *in = operation->in[0];
    const int64_t *lengths;
    size_t n, outer, whole, inner, before = 0;
    int axis;
    myr_status status = myr_operation_constants(operation, "split", 1, "split", &lengths, &n);
    if (status == MYR_OK)
        status = myr_operation_axis(operation, 0, in->shape.rank, &axis);
    if (status != MYR_OK)
        return status;
    myr_shape_split(&in->shape, axis, axis + 1, &outer, &whole, &inner);
    inner *= myr_type_bytes(in->type);
    for (int i = 0; i < operation->node->n_outputs; i++) {
        size_t length = (size_t)part_length(operation, lengths, (int64_t)whole, i);
        for (size_t row = 0; row < outer && myr_operation_wants(operation, i); row++)
            memcpy((char *)operation->out[i].data + row * length * inner,
                   (const char *)in->data + (row * whole + before) * inner, length * inner);
        before += length;
    }
    return MYR_OK;
}

/* ---- DepthToSpace, SpaceToDepth ---- */

static const char *refuse_depth(const myr_node *node, int64_t opset)
{
    (void)opset;
    const char *mode = myr_node_text(node, "mode", "DCR");
    if (strcmp(mode, "DCR") != 0 && strcmp(mode, "CRD") != 0)
        return "a mode other than DCR, CRD";
    int64_t block = myr_node_int(node, "blocksize", 0);
    return block < 1 || block > INT16_MAX ? "no blocksize" : NULL;
}

static myr_status infer_depth(const myr_operation *operation)
{
    int64_t block = myr_node_int(operation->node, "blocksize", 1);
    bool to_space = operation->node->op->name[0] == 'D';
    myr_shape shape = operation->in[0]->shape;
    bool fits = shape.rank == 4 && (to_space ? shape.dims[1] % (block * block) == 0
                                             : shape.dims[2] % block == 0 && shape.dims[3] % block == 0);
    if (!fits)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the input does not fall into blocks");
    shape.dims[1] = to_space ? shape.dims[1] / (block * block) : shape.dims[1] * block * block;
    for (int d = 2; d < 4; d++)
        shape.dims[d] = to_space ? shape.dims[d] * block : shape.dims[d] / block;
    myr_operation_shape(operation, 0, operation->in[0]->type, &shape);
    return MYR_OK;
}

/* Walks the tensor with the larger pictures; each of its elements has one place in the deeper one. */
static myr_status compute_depth(const myr_operation *operation)
{
    int64_t block = myr_node_int(operation->node, "blocksize", 1), place[MYR_TENSOR_MAX_RANK] = {0};
    bool to_space = operation->node->op->name[0] == 'D';
    bool by_columns = strcmp(myr_node_text(operation->node, "mode", "DCR"), "CRD") == 0;
    const myr_shape *wide = to_space ? &operation->out[0].shape : &operation->in[0]->shape,
                    *deep = to_space ? &operation->in[0]->shape : &operation->out[0].shape;
    size_t n = myr_shape_count(wide), size = myr_type_bytes(operation->out[0].type);
    for (size_t i = 0; i < n; i++, myr_shape_next(wide, place)) {
        int64_t inside = place[2] % block * block + place[3] % block;
        int64_t channel = by_columns ? place[1] * block * block + inside : inside * wide->dims[1] + place[1];
        size_t at = (size_t)(((place[0] * deep->dims[1] + channel) * deep->dims[2] + place[2] / block) * deep->dims[3] +
                             place[3] / block);
        memcpy((char *)operation->out[0].data + (to_space ? i : at) * size,
               (const char *)operation->in[0]->data + (to_space ? at : i) * size, size);
    }
    return MYR_OK;
}

/* ---- Trilu ---- */

static myr_status infer_trilu(const myr_operation *operation)
{
    const myr_tensor *diagonal = myr_operation_input(operation, 1);
    if (operation->in[0]->shape.rank < 2 ||
        (diagonal && (diagonal->type != MYR_TYPE_I64 || myr_shape_count(&diagonal->shape) != 1)))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the input is no matrix, or k is no whole number");
    myr_operation_shape(operation, 0, operation->in[0]->type, &operation->in[0]->shape);
    return MYR_OK;
}

static myr_status compute_trilu(const myr_operation *operation)
{
    const myr_tensor *diagonal = myr_operation_input(operation, 1);
    const myr_shape *shape = &operation->in[0]->shape;
    int64_t place[MYR_TENSOR_MAX_RANK] = {0}, shift = diagonal ? *(const int64_t *)diagonal->data : 0;
    bool upper = myr_node_int(operation->node, "upper", 1) != 0;
    size_t n = myr_shape_count(shape), size = myr_type_bytes(operation->out[0].type);
    memset(operation->out[0].data, 0, n * size);
    for (size_t i = 0; i < n; i++, myr_shape_next(shape, place)) {
        int64_t distance = place[shape->rank - 1] - place[shape->rank - 2];
        if (upper ? distance >= shift : distance <= shift)
            memcpy((char *)operation->out[0].data + i * size, (const char *)operation->in[0]->data + i * size, size);
    }
    return MYR_OK;
}

/* ---- Range, EyeLike, Size ---- */

static myr_status infer_range(const myr_operation *operation)
{
    double bounds[3];
    for (int i = 0; i < 3; i++) {
        const myr_tensor *in = operation->in[i];
        if (!in->data)
            return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "start, limit and delta must be constant");
        if (myr_shape_count(&in->shape) != 1 || in->type != operation->in[0]->type)
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "start, limit and delta must be single numbers");
        bounds[i] = myr_tensor_real(in, 0);
    }
    double n = ceil((bounds[1] - bounds[0]) / bounds[2]);
    if (!(n < 1e9))
        return myr_operation_fail(operation, MYR_ERR_LIMIT, "it has more than 1e9 elements");
    myr_operation_shape(operation, 0, operation->in[0]->type,
                        &(myr_shape){.rank = 1, .dims = {n > 0 ? (int64_t)n : 0}});
    return MYR_OK;
}

static myr_status compute_range(const myr_operation *operation)
{
    size_t n = myr_shape_count(&operation->out[0].shape);
    for (size_t i = 0; i < n; i++) {
        if (operation->out[0].type == MYR_TYPE_F32)
            ((float *)operation->out[0].data)[i] =
                (float)(myr_tensor_real(operation->in[0], 0) + (double)i * myr_tensor_real(operation->in[2], 0));
        else
            ((int64_t *)operation->out[0].data)[i] =
                (int64_t)((uint64_t)myr_tensor_number(operation->in[0], 0) +
                          (uint64_t)i * (uint64_t)myr_tensor_number(operation->in[2], 0));
    }
    return MYR_OK;
}

static const char *refuse_eye(const myr_node *node, int64_t opset)
{
    myr_type type;
    (void)opset;
    return myr_type_of_file(myr_node_int(node, "dtype", 1), &type) ? NULL : "an element type that is not supported";
}

static myr_status infer_eye(const myr_operation *operation)
{
    myr_type type = operation->in[0]->type;
    if (myr_node_attribute(operation->node, "dtype") &&
        !myr_type_of_file(myr_node_int(operation->node, "dtype", 1), &type))
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "an element type that is not supported");
    if (operation->in[0]->shape.rank != 2)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the input is no matrix");
    myr_operation_shape(operation, 0, type, &operation->in[0]->shape);
    return MYR_OK;
}

static myr_status compute_eye(const myr_operation *operation)
{
    const myr_shape *shape = &operation->out[0].shape;
    int64_t shift = myr_node_int(operation->node, "k", 0), place[MYR_TENSOR_MAX_RANK] = {0};
    size_t n = myr_shape_count(shape);
    for (size_t i = 0; i < n; i++, myr_shape_next(shape, place))
        myr_tensor_put_real(&operation->out[0], i, place[1] - place[0] == shift);
    return MYR_OK;
}

static myr_status infer_size(const myr_operation *operation)
{
    myr_operation_shape(operation, 0, MYR_TYPE_I64, &(myr_shape){.rank = 0});
    return MYR_OK;
}

static myr_status compute_size(const myr_operation *operation)
{
    *(int64_t *)operation->out[0].data = (int64_t)myr_shape_count(&operation->in[0]->shape);
    return MYR_OK;
}

const myr_operator myr_arrange_operators[] = {
    {"Expand", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_expand, compute_expand},
    {"Tile", MYR_KIND_OTHER, 2, 2, 1, "", NULL, infer_tile, compute_tile},
    {"Split", MYR_KIND_SPLIT, 1, 2, INT32_MAX, "axis:int num_outputs:int split:ints ", NULL, infer_split,
     compute_split},
    {"DepthToSpace", MYR_KIND_OTHER, 1, 1, 1, "blocksize:int mode:text ", refuse_depth, infer_depth, compute_depth},
    {"SpaceToDepth", MYR_KIND_OTHER, 1, 1, 1, "blocksize:int ", refuse_depth, infer_depth, compute_depth},
    {"Trilu", MYR_KIND_OTHER, 1, 2, 1, "upper:int ", NULL, infer_trilu, compute_trilu},
    {"Range", MYR_KIND_OTHER, 3, 3, 1, "", NULL, infer_range, compute_range},
    {"EyeLike", MYR_KIND_OTHER, 1, 1, 1, "dtype:int k:int ", refuse_eye, infer_eye, compute_eye},
    {"Size", MYR_KIND_SHAPE, 1, 1, 1, "", NULL, infer_size, compute_size},
    {0},
};
