/*
 * Pictures by their form: bare levels are laid out as R G B; then a part is cut out.
 */
#include "image/internal.h"

#include <string.h>

static myr_status read_levels(myr_decoder *decoder, const myr_form *form, const uint8_t *bytes, size_t n_bytes,
                              myr_image *image)
{
    if (form->width < 1 || form->height < 1 || (form->n_channels != 1 && form->n_channels != 3))
        return myr_fail(MYR_ERR_FORMAT, "bare levels of %d x %d x %d: only 1 and 3 channels make a picture",
                        form->height, form->width, form->n_channels);
    myr_status status = myr_decoder_reserve(decoder, "picture", (uint64_t)form->width, (uint64_t)form->height, 3, 0);
    if (status != MYR_OK)
        return status;
    size_t n_pixels = (size_t)form->width * (size_t)form->height, n_channels = (size_t)form->n_channels;
    if (n_bytes != n_pixels * n_channels)
        return myr_fail(MYR_ERR_FORMAT, "%zu bytes where %d x %d x %d levels were told", n_bytes, form->height,
                        form->width, form->n_channels);
    uint8_t *pixels = decoder->pixels.bytes;
    size_t pixel_step = form->planar ? 1 : n_channels, channel_step = form->planar ? n_pixels : 1;
    if (n_channels == 1)
        channel_step = 0; /* grey: the same level three times */
    for (size_t i = 0; i < n_pixels; i++)
        for (size_t channel = 0; channel < 3; channel++)
            pixels[3 * i + channel] = bytes[i * pixel_step + channel * channel_step];
    *image = (myr_image){.width = form->width, .height = form->height, .pixels = pixels};
    return MYR_OK;
}

/* [from, from + n) within [0, whole), in 64 bits since boxes come from files. */
static bool clip(int32_t from, int32_t n, int whole, int *first, int *count)
{
    int64_t last = (int64_t)from + n;
    *first = from > 0 ? from : 0;
    last = last < whole ? last : whole;
    *count = last > *first ? (int)(last - *first) : 0;
    return *count > 0;
}

myr_status myr_decoder_crop(myr_decoder *decoder, const myr_image *in, const myr_box *box, myr_image *out)
{
    int x, y, width, height;
    myr_status status = myr_image_check(in);
    if (status != MYR_OK)
        return status;
    if (!clip(box->x, box->width, in->width, &x, &width) || !clip(box->y, box->height, in->height, &y, &height))
        return myr_fail(MYR_ERR_FORMAT, "the box %d x %d at (%d, %d) lies outside of the picture of %d x %d pixels",
                        box->width, box->height, box->x, box->y, in->width, in->height);
    size_t row_bytes = 3 * (size_t)width;
    uint8_t *pixels = myr_room_reserve(&decoder->cropped, row_bytes * (size_t)height);
    if (pixels == NULL)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a part of %d x %d pixels", width, height);
    for (int row = 0; row < height; row++)
        memcpy(pixels + (size_t)row * row_bytes, in->pixels + 3 * ((size_t)(y + row) * (size_t)in->width + (size_t)x),
               row_bytes);
    *out = (myr_image){.width = width, .height = height, .pixels = pixels};
    return MYR_OK;
}

myr_status myr_decoder_read(myr_decoder *decoder, const myr_form *form, const void *bytes, size_t n_bytes,
                            myr_image *image)
{
    if (decoder == NULL || form == NULL || bytes == NULL || image == NULL)
        return myr_fail(MYR_ERR_ARG, "no decoder, no form, no bytes or no place for the picture");
    myr_image whole;
    myr_status status = form->width == 0 ? myr_decoder_decode(decoder, bytes, n_bytes, &whole)
                                         : read_levels(decoder, form, bytes, n_bytes, &whole);
    if (status == MYR_OK && form->box.width != 0)
        return myr_decoder_crop(decoder, &whole, &form->box, image);
    if (status == MYR_OK)
        *image = whole;
    return status;
}
