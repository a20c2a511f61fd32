/*
 * EXIF: the one tag that changes what is seen, the orientation, and the turning it asks for.
 *
 * An EXIF block is a TIFF file of either byte order: a header with the place of the first
 * directory, and in it entries of 12 bytes (tag, type, count, value). Every offset comes from
 * the file and is checked before it is followed; a block that makes no sense turns nothing.
 *
 * Source: CIPA DC-008 (Exif 2.32), 4.6.2 and 4.6.4.
 */
#include "image/internal.h"

#include <string.h>

#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT 3
#define TYPE_LONG 4
#define ENTRY_BYTES 12
#define BAND 16 /* rows turned together: what is read for them shares cache lines */

typedef struct block {
    const uint8_t *bytes;
    size_t n_bytes;
    bool big_endian;
} block;

static uint32_t read_u16(const block *exif, size_t at)
{
    const uint8_t *p = exif->bytes + at;
    return exif->big_endian ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint32_t read_u32(const block *exif, size_t at)
{
    uint32_t a = read_u16(exif, at), b = read_u16(exif, at + 2);
    return exif->big_endian ? a << 16 | b : b << 16 | a;
}

/* The orientation in one directory entry, or 0. */
static uint32_t entry_orientation(const block *exif, size_t at)
{
    if (read_u16(exif, at) != TAG_ORIENTATION || read_u32(exif, at + 4) != 1)
        return 0;
    uint32_t type = read_u16(exif, at + 2);
    if (type == TYPE_SHORT)
        return read_u16(exif, at + 8);
    return type == TYPE_LONG ? read_u32(exif, at + 8) : 0;
}

int myr_exif_orientation(const uint8_t *bytes, size_t n_bytes)
{
    if (n_bytes >= 6 && memcmp(bytes, "Exif\0\0", 6) == 0) {
        bytes += 6;
        n_bytes -= 6;
    }
    if (n_bytes < 8 || (memcmp(bytes, "II*\0", 4) != 0 && memcmp(bytes, "MM\0*", 4) != 0))
        return 1;
    block exif = {.bytes = bytes, .n_bytes = n_bytes, .big_endian = bytes[0] == 'M'};
    size_t directory = read_u32(&exif, 4);
    if (directory > n_bytes - 2)
        return 1;
    size_t n_entries = read_u16(&exif, directory);
    size_t n_whole = (n_bytes - directory - 2) / ENTRY_BYTES;
    for (size_t i = 0; i < n_entries && i < n_whole; i++) {
        uint32_t orientation = entry_orientation(&exif, directory + 2 + i * ENTRY_BYTES);
        if (orientation >= 1 && orientation <= 8)
            return (int)orientation;
    }
    return 1;
}

/* Where in the file's pixels an upright picture begins, and how far apart its neighbours lie, in bytes. */
typedef struct walk {
    ptrdiff_t origin, right, down;
} walk;

static walk find_walk(int orientation, ptrdiff_t width, ptrdiff_t height)
{
    const ptrdiff_t pixel = 3, row = 3 * width;
    const ptrdiff_t last_column = (width - 1) * pixel, last_row = (height - 1) * row;
    switch (orientation) {
    case 2: /* mirrored */
        return (walk){last_column, -pixel, row};
    case 3: /* upside down */
        return (walk){last_row + last_column, -pixel, -row};
    case 4: /* mirrored, upside down */
        return (walk){last_row, pixel, -row};
    case 5: /* mirrored, lying on its left side */
        return (walk){0, row, pixel};
    case 6: /* a quarter turn clockwise is wanted */
        return (walk){last_row, -row, pixel};
    case 7: /* mirrored, lying on its right side */
        return (walk){last_row + last_column, -row, -pixel};
    case 8: /* a quarter turn anticlockwise is wanted */
        return (walk){last_column, row, -pixel};
    default:
        return (walk){0, pixel, row};
    }
}

static void turn_band(const uint8_t *in, walk step, uint8_t *out, int width, int n_rows)
{
    for (int x = 0; x < width; x++) {
        for (int y = 0; y < n_rows; y++) {
            const uint8_t *from = in + x * step.right + y * step.down;
            uint8_t *to = out + ((size_t)y * (size_t)width + (size_t)x) * 3;
            to[0] = from[0];
            to[1] = from[1];
            to[2] = from[2];
        }
    }
}

myr_status myr_turn_upright(myr_decoder *decoder, int orientation, myr_image *image)
{
    if (orientation <= 1 || orientation > 8)
        return MYR_OK;
    size_t n_bytes = (size_t)image->width * (size_t)image->height * 3; /* of a picture that is in memory already */
    uint8_t *out = myr_room_reserve(&decoder->turned, n_bytes);
    if (out == NULL)
        return myr_fail(MYR_ERR_NOMEM, "no memory to turn a picture of %d x %d pixels", image->width, image->height);
    walk step = find_walk(orientation, image->width, image->height);
    int width = orientation >= 5 ? image->height : image->width;
    int height = orientation >= 5 ? image->width : image->height;
    for (int y = 0; y < height; y += BAND)
        turn_band(image->pixels + step.origin + y * step.down, step, out + (size_t)y * (size_t)width * 3, width,
                  height - y < BAND ? height - y : BAND);
    *image = (myr_image){.width = width, .height = height, .pixels = out};
    return MYR_OK;
}
