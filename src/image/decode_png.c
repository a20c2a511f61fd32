/*
 * PNG, through libspng: every colour type and depth becomes R G B of 8 bits. Of 16 bits the high byte is
 * kept; alpha, also that of a palette or of one transparent colour, is laid on white. The file is read to
 * its last chunk, so that one without an end is found out, and for the orientation, which may stand there.
 */
#include "image/internal.h"

#include <limits.h>
#include <spng.h>

#define MAX_CHUNK_BYTES ((size_t)16 << 20) /* of one chunk that is not pixels */
#define MAX_KEPT_BYTES ((size_t)32 << 20)  /* of all that are kept */

static myr_status explain(int code)
{
    switch (code) {
    case SPNG_IO_EOF:
    case SPNG_EIDAT_TOO_SHORT:
        return myr_fail(MYR_ERR_FORMAT, "PNG ends early");
    case SPNG_EMEM:
        return myr_fail(MYR_ERR_NOMEM, "not enough memory for a PNG");
    case SPNG_ECHUNK_LIMITS:
    case SPNG_EOVERFLOW:
        return myr_fail(MYR_ERR_LIMIT, "PNG above the limit: %s", spng_strerror(code));
    default:
        return myr_fail(MYR_ERR_FORMAT, "PNG: %s", spng_strerror(code));
    }
}

static int open_bytes(spng_ctx *png, const uint8_t *bytes, size_t n_bytes)
{
    int code = spng_set_crc_action(png, SPNG_CRC_ERROR, SPNG_CRC_ERROR);
    if (code == 0)
        code = spng_set_image_limits(png, INT_MAX, INT_MAX);
    if (code == 0)
        code = spng_set_chunk_limits(png, MAX_CHUNK_BYTES, MAX_KEPT_BYTES);
    return code == 0 ? spng_set_png_buffer(png, bytes, n_bytes) : code;
}

static myr_status decode_pixels(myr_decoder *decoder, spng_ctx *png, const struct spng_ihdr *header)
{
    struct spng_trns transparency;
    size_t n_bytes;
    bool has_alpha =
        header->color_type == SPNG_COLOR_TYPE_GRAYSCALE_ALPHA || header->color_type == SPNG_COLOR_TYPE_TRUECOLOR_ALPHA;
    int code = has_alpha ? 0 : spng_get_trns(png, &transparency);
    if (code != 0 && code != SPNG_ECHUNKAVAIL)
        return explain(code);
    has_alpha = code == 0;
    int format = has_alpha ? SPNG_FMT_RGBA8 : SPNG_FMT_RGB8;
    myr_status status = myr_decoder_reserve(decoder, "PNG", header->width, header->height, has_alpha ? 4 : 3, 0);
    if (status != MYR_OK)
        return status;
    code = spng_decoded_image_size(png, format, &n_bytes);
    if (code == 0 && n_bytes > decoder->pixels.capacity)
        return myr_fail(MYR_ERR_INTERNAL, "PNG of %zu bytes in a room of %zu", n_bytes, decoder->pixels.capacity);
    if (code == 0)
        code = spng_decode_image(png, decoder->pixels.bytes, n_bytes, format, has_alpha ? SPNG_DECODE_TRNS : 0);
    if (code != 0)
        return explain(code);
    if (has_alpha)
        myr_lay_on_white(decoder->pixels.bytes, (size_t)header->width * header->height);
    return MYR_OK;
}

static myr_status decode_file(myr_decoder *decoder, spng_ctx *png, myr_image *image, int *orientation)
{
    struct spng_ihdr header;
    struct spng_exif exif;
    int code = spng_get_ihdr(png, &header);
    if (code != 0)
        return explain(code);
    myr_status status = decode_pixels(decoder, png, &header);
    if (status != MYR_OK)
        return status;
    code = spng_decode_chunks(png);
    if (code != 0)
        return explain(code);
    if (spng_get_exif(png, &exif) == 0)
        *orientation = myr_exif_orientation((const uint8_t *)exif.data, exif.length);
    *image = (myr_image){.width = (int)header.width, .height = (int)header.height, .pixels = decoder->pixels.bytes};
    return MYR_OK;
}

myr_status myr_decode_png(myr_decoder *decoder, const uint8_t *bytes, size_t n_bytes, myr_image *image,
                          int *orientation)
{
    spng_ctx *png = spng_ctx_new(0);
    if (png == NULL)
        return explain(SPNG_EMEM);
    int code = open_bytes(png, bytes, n_bytes);
    myr_status status = code == 0 ? decode_file(decoder, png, image, orientation) : explain(code);
    spng_ctx_free(png);
    return status;
}
