/*
 * What detectors need: RoiAlign and NonMaxSuppression.
 */
#include "nn/operator.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- RoiAlign ---- */

static const char *refuse_align(const myr_node *node, int64_t opset)
{
    (void)opset;
    const char *mode = myr_node_text(node, "mode", "avg"),
               *how = myr_node_text(node, "coordinate_transformation_mode", "half_pixel");
    int64_t height = myr_node_int(node, "output_height", 1), width = myr_node_int(node, "output_width", 1),
            ratio = myr_node_int(node, "sampling_ratio", 0);
    if (strcmp(mode, "avg") != 0 && strcmp(mode, "max") != 0)
        return "a mode other than avg, max";
    if (strcmp(how, "half_pixel") != 0 && strcmp(how, "output_half_pixel") != 0)
        return "a coordinate_transformation_mode other than half_pixel, output_half_pixel";
    return height < 1 || width < 1 || height > INT16_MAX || width > INT16_MAX || ratio < 0 || ratio > INT16_MAX
               ? "an output size that makes no sense"
               : NULL;
}

static myr_status infer_align(const myr_operation *operation)
{
    const myr_shape *in = &operation->in[0]->shape, *regions = &operation->in[1]->shape,
                    *batch = &operation->in[2]->shape;
    if (in->rank != 4 || regions->rank != 2 || regions->dims[1] != 4 || batch->rank != 1 ||
        batch->dims[0] != regions->dims[0] || operation->in[2]->type != MYR_TYPE_I64)
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "regions and their pictures do not fit together");
    myr_shape shape = {.rank = 4,
                       .dims = {regions->dims[0], in->dims[1], myr_node_int(operation->node, "output_height", 1),
                                myr_node_int(operation->node, "output_width", 1)}};
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &shape);
    return myr_operation_floats(operation, 2);
}

/* One region: where its first cell begins, how large cells are, how many samples each takes along a side. */
typedef struct region {
    double start[2], cell[2];
    int64_t n[2];
    bool largest;
} region;

static region find_region(const myr_operation *operation, size_t i)
{
    const myr_node *node = operation->node;
    const float *corners = (const float *)operation->in[1]->data + 4 * i;
    double scale = (double)myr_node_float(node, "spatial_scale", 1);
    /* Before operator set 16 there was no half pixel. */
    const char *standard = operation->opset < 16 ? "output_half_pixel" : "half_pixel";
    bool half = strcmp(myr_node_text(node, "coordinate_transformation_mode", standard), "half_pixel") == 0;
    int64_t cells[2] = {myr_node_int(node, "output_height", 1), myr_node_int(node, "output_width", 1)};
    region self = {.largest = strcmp(myr_node_text(node, "mode", "avg"), "max") == 0};
    for (int d = 0; d < 2; d++) {
        self.start[d] = (double)corners[1 - d] * scale - (half ? 0.5 : 0);
        double length = (double)corners[3 - d] * scale - (half ? 0.5 : 0) - self.start[d];
        length = half ? length : fmax(length, 1);
        self.cell[d] = length / (double)cells[d];
        self.n[d] = myr_node_int(node, "sampling_ratio", 0);
        if (self.n[d] == 0)
            self.n[d] = self.cell[d] > 0 && self.cell[d] < INT16_MAX ? (int64_t)ceil(self.cell[d]) : 0;
    }
    return self;
}

/* The two cells around a coordinate and the share of the second; false too far outside. */
static bool around(double at, int64_t n, int64_t cells[2], double *share)
{
    if (!(at >= -1 && at <= (double)n) || n == 0)
        return false;
    at = fmax(at, 0);
    cells[0] = (int64_t)at;
    if (cells[0] >= n - 1) {
        cells[0] = cells[1] = n - 1;
        *share = 0;
        return true;
    }
    cells[1] = cells[0] + 1;
    *share = at - (double)cells[0];
    return true;
}

/* One cell of the output: the mean of samples between four pixels, or the largest of their weighted pixels. */
static double align(const region *self, const float *plane, const myr_shape *in, int64_t y, int64_t x)
{
    double sum = 0, best = -INFINITY;
    for (int64_t s = 0; s < self->n[0] * self->n[1]; s++) {
        double ay =
            self->start[0] + self->cell[0] * ((double)y + ((double)(s / self->n[1]) + 0.5) / (double)self->n[0]);
        double ax =
            self->start[1] + self->cell[1] * ((double)x + ((double)(s % self->n[1]) + 0.5) / (double)self->n[1]);
        int64_t rows[2], columns[2];
        double down, right;
        if (!around(ay, in->dims[2], rows, &down) || !around(ax, in->dims[3], columns, &right)) {
            best = fmax(best, 0);
            continue;
        }
        for (int k = 0; k < 4; k++) {
            double weight = (k / 2 ? down : 1 - down) * (k % 2 ? right : 1 - right);
            double value = weight * (double)plane[rows[k / 2] * in->dims[3] + columns[k % 2]];
            sum += value;
            best = fmax(best, value);
        }
    }
    int64_t n = self->n[0] * self->n[1];
    return n == 0 ? 0 : self->largest ? best : sum / (double)n;
}

static myr_status compute_align(const myr_operation *operation)
{
    const myr_shape *in = &operation->in[0]->shape, *out = &operation->out[0].shape;
    size_t plane = (size_t)(in->dims[2] * in->dims[3]), cells = (size_t)(out->dims[2] * out->dims[3]);
    float *to = operation->out[0].data;
    for (int64_t i = 0; i < out->dims[0]; i++) {
        int64_t picture = ((const int64_t *)operation->in[2]->data)[i];
        region self = find_region(operation, (size_t)i);
        if (picture < 0 || picture >= in->dims[0])
            return myr_operation_fail(operation, MYR_ERR_FORMAT, "a region lies in no picture");
        for (int64_t c = 0; c < out->dims[1]; c++) {
            const float *from = (const float *)operation->in[0]->data + (size_t)(picture * in->dims[1] + c) * plane;
            for (size_t k = 0; k < cells; k++)
                *to++ = (float)align(&self, from, in, (int64_t)k / out->dims[3], (int64_t)k % out->dims[3]);
        }
    }
    return MYR_OK;
}

/* ---- NonMaxSuppression ---- */

typedef struct box {
    double low[2], high[2];
    float score;
    int64_t place;
} box;

static int by_score(const void *a, const void *b)
{
    const box *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->place < y->place ? -1 : 1;
}

/* A single number given as an input, or a default. */
static double limit(const myr_operation *operation, int i, double standard)
{
    const myr_tensor *input = myr_operation_input(operation, i);
    return input && myr_shape_count(&input->shape) > 0 ? myr_tensor_real(input, 0) : standard;
}

static box read_box(const myr_operation *operation, size_t i, float score, int64_t place)
{
    const float *from = (const float *)operation->in[0]->data + 4 * i;
    bool centred = myr_node_int(operation->node, "center_point_box", 0) != 0;
    box self = {.score = score, .place = place};
    for (int d = 0; d < 2; d++) {
        double a = (double)from[d], b = (double)from[d + 2];
        self.low[d] = centred ? a - b / 2 : fmin(a, b);
        self.high[d] = centred ? a + b / 2 : fmax(a, b);
    }
    return self;
}

static double area(const box *self)
{
    return (self->high[0] - self->low[0]) * (self->high[1] - self->low[1]);
}

static bool overlap(const box *a, const box *b, double threshold)
{
    double common = 1;
    for (int d = 0; d < 2; d++)
        common *= fmax(0, fmin(a->high[d], b->high[d]) - fmax(a->low[d], b->low[d]));
    double joined = area(a) + area(b) - common;
    return joined > 0 && common / joined > threshold;
}

/* Boxes of one picture and class that stay, the best first, at the front of `boxes`. NaN scores count as none. */
static size_t keep_best(const myr_operation *operation, int64_t picture, int64_t class, box *boxes)
{
    const myr_shape *scores = &operation->in[1]->shape;
    size_t n_boxes = (size_t)scores->dims[2], n = 0, kept = 0;
    double most = limit(operation, 2, 0), threshold = limit(operation, 3, 0), least = limit(operation, 4, -INFINITY);
    const float *from = (const float *)operation->in[1]->data + (size_t)(picture * scores->dims[1] + class) * n_boxes;
    for (size_t i = 0; i < n_boxes; i++)
        if ((double)from[i] > least)
            boxes[n++] = read_box(operation, (size_t)picture * n_boxes + i, from[i], (int64_t)i);
    qsort(boxes, n, sizeof *boxes, by_score);
    for (size_t i = 0; i < n && (double)kept < most; i++) {
        bool stays = true;
        for (size_t j = 0; j < kept && stays; j++)
            stays = !overlap(&boxes[j], &boxes[i], threshold);
        if (stays)
            boxes[kept++] = boxes[i];
    }
    return kept;
}

/* All that stay, counted, and written to `rows` unless that is NULL. */
static myr_status suppress(const myr_operation *operation, int64_t *rows, int64_t *n_rows)
{
    const myr_shape *scores = &operation->in[1]->shape;
    box *boxes = myr_alloc((size_t)scores->dims[2], sizeof *boxes);
    if (!boxes)
        return myr_operation_fail(operation, MYR_ERR_NOMEM, "no memory for its boxes");
    *n_rows = 0;
    for (int64_t picture = 0; picture < scores->dims[0]; picture++) {
        for (int64_t class = 0; class < scores->dims[1]; class ++) {
            size_t kept = keep_best(operation, picture, class, boxes);
            for (size_t i = 0; i < kept && rows; i++)
                memcpy(rows + 3 * (*n_rows + (int64_t)i), (int64_t[3]){picture, class, boxes[i].place},
                       3 * sizeof *rows);
            *n_rows += (int64_t)kept;
        }
    }
    free(boxes);
    return MYR_OK;
}

static myr_status infer_suppression(const myr_operation *operation)
{
    const myr_shape *boxes = &operation->in[0]->shape, *scores = &operation->in[1]->shape;
    int64_t n;
    for (int i = 0; i < operation->node->n_inputs; i++)
        if (operation->in[i] && !operation->in[i]->data)
            return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED,
                                      "how many boxes it keeps depends on the picture; cut the network before it");
    if (boxes->rank != 3 || boxes->dims[2] != 4 || scores->rank != 3 || scores->dims[0] != boxes->dims[0] ||
        scores->dims[2] != boxes->dims[1])
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "boxes and scores do not fit together");
    myr_status status = myr_operation_floats(operation, 2);
    if (status == MYR_OK)
        status = suppress(operation, NULL, &n);
    if (status == MYR_OK)
        myr_operation_shape(operation, 0, MYR_TYPE_I64, &(myr_shape){.rank = 2, .dims = {n, 3}});
    return status;
}

static myr_status compute_suppression(const myr_operation *operation)
{
    int64_t n;
    return suppress(operation, operation->out[0].data, &n);
}

const myr_operator myr_detect_operators[] = {
    {"RoiAlign", MYR_KIND_OTHER, 3, 3, 1,
     "coordinate_transformation_mode:text mode:text output_height:int output_width:int sampling_ratio:int "
     "spatial_scale:float ",
     refuse_align, infer_align, compute_align},
    {"NonMaxSuppression", MYR_KIND_OTHER, 2, 5, 1, "center_point_box:int ", NULL, infer_suppression,
     compute_suppression},
    {0},
};
