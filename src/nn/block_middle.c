/*
 * A block's way from its input to its output.
 *
 * What makes an inverted residual slow layer by layer is its middle: six times wider than the ends, written to memory
 * and read again twice. Here it never leaves the cache. For 32 middle channels at a time, rows of the input are
 * expanded into a ring of as many rows as the depthwise kernel is high; each row of the depthwise result goes,
 * narrowed, to where the projection reads its factors, which runs once all channels are there:
 *
 *     for 32 channels c of the middle
 *         for each output row y
 *             expand the input rows that y needs and the ring has not   [products]
 *             depthwise row y of the channels c                          [narrowed]
 *     project                                                            [products]
 *
 * The ring has columns of zeros for the padding, so the depthwise part knows no borders.
 */
#include "nn/block_parts.h"

#include <string.h>

#define GROUP MYR_BLOCK_GROUP
#define TILE MYR_BLOCK_TILE

/* Where in the scratch memory things are, in bytes: the ring, a row of floats, scales of pixels, the projection's
 * factors, the expansion's. */
typedef struct places {
    size_t ring, spare, scales, middle, factors, end;
} places;

static size_t ring_row_bytes(const myr_block *self)
{
    return (size_t)self->ring_width * GROUP * self->products->ring_bytes;
}

static places divide(const myr_block *self)
{
    const myr_block_options *shape = &self->shape;
    size_t n_in = (size_t)shape->height * (size_t)shape->width, factor = self->products->factor_bytes,
           n_out = (size_t)shape->out_height * (size_t)shape->out_width,
           padded_k = (size_t)(self->k + TILE - 1) / TILE * TILE;
    places at = {0};
    at.spare = at.ring + (size_t)shape->kernel * ring_row_bytes(self);
    at.scales = at.spare + (size_t)shape->out_width * GROUP * sizeof(float);
    at.middle =
        at.scales + (shape->precision == MYR_PRECISION_INT8 ? (n_in + TILE - 1) / TILE * TILE * sizeof(float) : 0);
    at.factors = at.middle + n_out * (size_t)myr_block_middle_channels(self) * factor;
    at.end = at.factors + (self->expands ? n_in * padded_k * factor : 0);
    return at;
}

size_t myr_block_scratch_bytes(const myr_block *self)
{
    return divide(self).end;
}

/* ---- One group of middle channels ---- */

/* Rows of the ring that lie above or below the input are zeros; all of a row's padding stays zero. */
static void fill_middle(const myr_block *self, const void *in, uint8_t *scratch, const places *at, int group)
{
    const myr_block_options *shape = &self->shape;
    const myr_block_products *by = self->products;
    size_t row_bytes = ring_row_bytes(self);
    uint8_t *ring = scratch + at->ring;
    int next = -shape->pad_top; /* the first input row that the ring has not had */
    memset(ring, 0, (size_t)shape->kernel * row_bytes);
    for (int y = 0; y < shape->out_height; y++) {
        void *rows[MYR_BLOCK_MAX_KERNEL];
        int first = y * shape->stride - shape->pad_top;
        for (; next < first + shape->kernel; next++) {
            uint8_t *row = ring + (size_t)((next + shape->pad_top) % shape->kernel) * row_bytes;
            if (next < first)
                continue;
            if (next < 0 || next >= shape->height)
                memset(row, 0, row_bytes);
            else if (self->expands)
                by->expand_row(self, scratch + at->factors, (float *)(void *)(scratch + at->scales), group, next, row);
            else
                by->copy_row(self, in, group, next, row);
        }
        for (int ky = 0; ky < shape->kernel; ky++)
            rows[ky] = ring + (size_t)((first + ky + shape->pad_top) % shape->kernel) * row_bytes;
        by->depthwise_row(self, rows, group, y, scratch + at->middle, (float *)(void *)(scratch + at->spare));
    }
}

void myr_block_run(const myr_block *self, const void *in, float *out, void *scratch)
{
    const places at = divide(self);
    uint8_t *bytes = scratch;
    if (self->expands)
        self->products->take_input(self, in, bytes + at.factors, (float *)(void *)(bytes + at.scales));
    if (self->products->begin)
        self->products->begin(self);
    for (int group = 0; group < self->n_groups; group++)
        fill_middle(self, in, bytes, &at, group);
    self->products->project(self, bytes + at.middle, in, out);
    if (self->products->end)
        self->products->end();
}
