/*
 * From a picture to the numbers a network takes.
 *
 * The rule says how large the whole picture would become and which window of that the network sees;
 * only the window is resampled. Then each level goes through a table of its channel's 256 values into
 * the channel's plane. What the picture does not cover is white.
 */
#include "image/internal.h"

#include <limits.h>
#include <math.h>

#define LEVELS 256
#define MAX_SIDE (INT_MAX / 8) /* of a resized picture of which only a window is made */

typedef struct table {
    float values[3][LEVELS];
} table;

/* Where the window of the resized picture lies in the network's input. */
typedef struct layout {
    int width, height; /* of the whole picture, resized */
    myr_window window;
    int left, top; /* of the window, in the input */
} layout;

static myr_status check(const myr_preprocess *preprocess)
{
    if (preprocess->width < 1 || preprocess->height < 1)
        return myr_fail(MYR_ERR_ARG, "a network's input of %d x %d pixels", preprocess->width, preprocess->height);
    if (preprocess->filter != MYR_FILTER_BILINEAR && preprocess->filter != MYR_FILTER_BICUBIC)
        return myr_fail(MYR_ERR_ARG, "no filter has the number %d", (int)preprocess->filter);
    if (preprocess->rule == MYR_RESIZE_SHORTER && preprocess->resize_to < 1)
        return myr_fail(MYR_ERR_ARG, "the shorter side cannot become %d pixels", preprocess->resize_to);
    if (preprocess->rule != MYR_RESIZE_SHORTER && preprocess->rule != MYR_RESIZE_STRETCH &&
        preprocess->rule != MYR_RESIZE_LONGER)
        return myr_fail(MYR_ERR_ARG, "no resize rule has the number %d", (int)preprocess->rule);
    for (int i = 0; i < 3; i++) {
        if (!isfinite(preprocess->mean[i]) || !isfinite(preprocess->std[i]) || preprocess->std[i] == 0)
            return myr_fail(MYR_ERR_ARG, "channel %d: mean %g and std %g", i, (double)preprocess->mean[i],
                            (double)preprocess->std[i]);
    }
    return MYR_OK;
}

/* side * numerator / denominator, half to even; at least 1. nearbyint: the default rounding is half to even. */
static int scale_side(int side, int numerator, int denominator)
{
    double scaled = nearbyint((double)side * numerator / denominator);
    return scaled < 1 ? 1 : scaled > MAX_SIDE ? MAX_SIDE + 1 : (int)scaled;
}

static void find_size(int width, int height, const myr_preprocess *preprocess, layout *place)
{
    bool wide = width > height;
    /* Does the width of the input bind first? */
    bool by_width = (int64_t)preprocess->width * height <= (int64_t)preprocess->height * width;
    place->width = preprocess->width;
    place->height = preprocess->height;
    if (preprocess->rule == MYR_RESIZE_SHORTER) {
        int side = preprocess->resize_to;
        place->width = wide ? scale_side(width, side, height) : side;
        place->height = wide ? side : scale_side(height, side, width);
    } else if (preprocess->rule == MYR_RESIZE_LONGER && by_width) {
        place->height = scale_side(height, preprocess->width, width);
    } else if (preprocess->rule == MYR_RESIZE_LONGER) {
        place->width = scale_side(width, preprocess->height, height);
    }
}

/* Centres `whole` behind `input`: what shows of it, and where. */
static void centre(int whole, int input, int *from, int *n, int *at)
{
    *from = whole > input ? (whole - input) / 2 : 0;
    *n = whole > input ? input : whole;
    *at = whole > input ? 0 : (input - whole) / 2;
}

/* Where everything goes; false: too narrow a picture. */
static bool find_layout(int width, int height, const myr_preprocess *preprocess, layout *place)
{
    find_size(width, height, preprocess, place);
    if (place->width > MAX_SIDE || place->height > MAX_SIDE)
        return false;
    centre(place->width, preprocess->width, &place->window.x, &place->window.width, &place->left);
    centre(place->height, preprocess->height, &place->window.y, &place->window.height, &place->top);
    return true;
}

myr_window myr_prepare_inputs(const myr_preprocess *preprocess, int width, int height)
{
    layout place = {0};
    if (!find_layout(width, height, preprocess, &place))
        return (myr_window){.width = width, .height = height};
    myr_window *window = &place.window;
    myr_resample_inputs(width, place.width, preprocess->filter, &window->x, &window->width);
    myr_resample_inputs(height, place.height, preprocess->filter, &window->y, &window->height);
    return *window;
}

static void fill_table(const myr_preprocess *preprocess, table *values)
{
    for (int channel = 0; channel < 3; channel++) {
        for (int level = 0; level < LEVELS; level++)
            values->values[channel][level] = ((float)level - preprocess->mean[channel]) / preprocess->std[channel];
    }
}

static void fill(float *out, size_t n, float value)
{
    for (size_t i = 0; i < n; i++)
        out[i] = value;
}

/* One row of one channel, white left and right of the window. levels: 3 bytes apart. */
static void lay_out_row(const uint8_t *levels, const layout *place, const float values[LEVELS], int width, float *out)
{
    float white = values[LEVELS - 1];
    int right = place->left + place->window.width;
    fill(out, (size_t)place->left, white);
    for (int x = 0; x < place->window.width; x++)
        out[place->left + x] = values[levels[3 * x]];
    fill(out + right, (size_t)(width - right), white);
}

#if defined(__x86_64__)
static void whiten(const myr_preprocess *preprocess, float *out)
{
    size_t n_plane = (size_t)preprocess->width * (size_t)preprocess->height;
    for (int channel = 0; channel < 3; channel++)
        fill(out + (size_t)channel * n_plane, n_plane,
             ((float)(LEVELS - 1) - preprocess->mean[channel]) / preprocess->std[channel]);
}

/* lay_out with the same values, a row of all channels at a time. */
static void lay_out_widely(const uint8_t *pixels, const layout *place, const myr_preprocess *preprocess, float *out)
{
    size_t n_plane = (size_t)preprocess->width * (size_t)preprocess->height, n = (size_t)place->window.width;
    float mean[3], std[3], *planes[3];
    if (place->window.width < preprocess->width || place->window.height < preprocess->height)
        whiten(preprocess, out);
    for (int channel = 0; channel < 3; channel++) { /* in the picture's order */
        int wanted = preprocess->bgr ? 2 - channel : channel;
        mean[channel] = preprocess->mean[wanted];
        std[channel] = preprocess->std[wanted];
        planes[channel] = out + (size_t)wanted * n_plane + (size_t)place->top * (size_t)preprocess->width + place->left;
    }
    for (int y = 0; y < place->window.height; y++) {
        myr_lay_out_avx512(pixels + (size_t)y * n * 3, n, mean, std, planes);
        for (int channel = 0; channel < 3; channel++)
            planes[channel] += preprocess->width;
    }
}
#endif

static void lay_out(const uint8_t *pixels, const layout *place, const myr_preprocess *preprocess, float *out)
{
    size_t width = (size_t)preprocess->width, height = (size_t)preprocess->height;
    size_t top = (size_t)place->top, bottom = top + (size_t)place->window.height;
    table values;
    fill_table(preprocess, &values);
    for (int channel = 0; channel < 3; channel++) {
        float *plane = out + (size_t)channel * width * height;
        const float *of_levels = values.values[channel];
        const uint8_t *levels = pixels + (preprocess->bgr ? 2 - channel : channel);
        fill(plane, top * width, of_levels[LEVELS - 1]);
        for (size_t y = top; y < bottom; y++)
            lay_out_row(levels + (y - top) * (size_t)place->window.width * 3, place, of_levels, preprocess->width,
                        plane + y * width);
        fill(plane + bottom * width, (height - bottom) * width, of_levels[LEVELS - 1]);
    }
}

myr_status myr_decoder_prepare(myr_decoder *decoder, const myr_image *image, const myr_preprocess *preprocess,
                               float *out)
{
    layout place = {0};
    myr_status status = myr_image_check(image);
    if (status != MYR_OK)
        return status;
    if (decoder == NULL || preprocess == NULL || out == NULL)
        return myr_fail(MYR_ERR_ARG, "no decoder, no preprocessing or no place for the network's input");
    status = check(preprocess);
    if (status != MYR_OK)
        return status;
    if (!find_layout(image->width, image->height, preprocess, &place))
        return myr_fail(MYR_ERR_LIMIT,
                        "a picture of %d x %d pixels is too narrow: its longer side would become more than %d",
                        image->width, image->height, MAX_SIDE);
    status =
        myr_resample(decoder, image, place.width, place.height, &place.window, preprocess->filter, &decoder->window);
    if (status != MYR_OK)
        return status;
#if defined(__x86_64__)
    if (decoder->uses_avx512) {
        lay_out_widely(decoder->window.bytes, &place, preprocess, out);
        return MYR_OK;
    }
#endif
    lay_out(decoder->window.bytes, &place, preprocess, out);
    return MYR_OK;
}

myr_status myr_decoder_read_prepared(myr_decoder *decoder, const myr_form *form, const void *bytes, size_t n_bytes,
                                     const myr_preprocess *preprocess, float *out)
{
    myr_image image;
    if (decoder == NULL || form == NULL || preprocess == NULL)
        return myr_fail(MYR_ERR_ARG, "no decoder, no form or no preprocessing");
    myr_status status = check(preprocess);
    if (status != MYR_OK)
        return status;
    decoder->shown = form->box.width == 0 ? preprocess : NULL;
    status = myr_decoder_read(decoder, form, bytes, n_bytes, &image);
    decoder->shown = NULL;
    return status == MYR_OK ? myr_decoder_prepare(decoder, &image, preprocess, out) : status;
}
