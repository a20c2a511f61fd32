/*
 * Decoding: which kind of file it is, told by its first bytes and never by its name; what it may
 * cost, told by its header before memory is taken; and the pixels, upright and on white.
 */
#include "image/internal.h"

#include "base/alloc.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PIXELS 178956970u           /* Pillow's: twice the 1 GiB / 4 / 3 it warns at */
#define MAX_BYTES ((uint64_t)256 << 20) /* of a file */
#define MAX_MEMORY ((uint64_t)1 << 30)  /* of one picture while it is decoded */
#define KEPT_BYTES ((size_t)64 << 20)   /* a room no larger than this is never given back */
#define TEXT_BYTES 512                  /* how far into a text "<svg" is looked for */
#define SHOWN_BYTES 16                  /* how much of an unknown file is shown */

myr_status myr_decoder_create(const myr_image_limits *limits, myr_decoder **out)
{
    if (out == NULL)
        return myr_fail(MYR_ERR_ARG, "no place for the decoder");
    myr_decoder *decoder = myr_alloc(1, sizeof *decoder);
    *out = decoder;
    if (decoder == NULL)
        return myr_fail(MYR_ERR_NOMEM, "not enough memory for a decoder");
    if (limits != NULL)
        decoder->limits = *limits;
    if (decoder->limits.max_pixels == 0)
        decoder->limits.max_pixels = MAX_PIXELS;
    if (decoder->limits.max_bytes == 0)
        decoder->limits.max_bytes = MAX_BYTES;
    if (decoder->limits.max_memory == 0)
        decoder->limits.max_memory = MAX_MEMORY;
    decoder->uses_avx512 = myr_resample_may_use_avx512();
    return MYR_OK;
}

void myr_decoder_free(myr_decoder *decoder)
{
    if (decoder == NULL)
        return;
    myr_room_free(&decoder->pixels);
    myr_room_free(&decoder->turned);
    myr_room_free(&decoder->line);
    myr_room_free(&decoder->narrowed);
    myr_room_free(&decoder->resized[0]);
    myr_room_free(&decoder->resized[1]);
    myr_room_free(&decoder->window);
    myr_room_free(&decoder->cropped);
    myr_taps_free(&decoder->across);
    myr_taps_free(&decoder->down);
    myr_room_free(&decoder->quads[0]);
    myr_room_free(&decoder->quads[1]);
    free(decoder);
}

void *myr_room_reserve(myr_room *room, size_t n_bytes)
{
    if (n_bytes == 0)
        n_bytes = 1;
    bool wasteful = room->capacity > KEPT_BYTES && n_bytes < room->capacity / 4;
    if (n_bytes <= room->capacity && !wasteful)
        return room->bytes;
    /* Nothing is copied, and calloc leaves large memory untouched: a header that lies costs no pages. */
    size_t slack = n_bytes / 8;
    size_t capacity = n_bytes <= SIZE_MAX - slack ? n_bytes + slack : n_bytes;
    myr_room_free(room);
    room->bytes = calloc(capacity, 1);
    room->capacity = room->bytes != NULL ? capacity : 0;
    return room->bytes;
}

void myr_room_free(myr_room *room)
{
    free(room->bytes);
    *room = (myr_room){0};
}

myr_status myr_decoder_reserve(myr_decoder *decoder, const char *kind, uint64_t width, uint64_t height,
                               size_t n_channels, size_t n_kept)
{
    size_t n_pixels, n_bytes;
    if (width == 0 || height == 0)
        return myr_fail(MYR_ERR_FORMAT, "%s of %llu x %llu pixels", kind, (unsigned long long)width,
                        (unsigned long long)height);
    if (width > INT_MAX || height > INT_MAX || !myr_mul((size_t)width, (size_t)height, &n_pixels) ||
        !myr_mul(n_pixels, n_channels, &n_bytes) || n_pixels > decoder->limits.max_pixels)
        return myr_fail(MYR_ERR_LIMIT, "%s of %llu x %llu pixels, above the limit of %llu in all", kind,
                        (unsigned long long)width, (unsigned long long)height,
                        (unsigned long long)decoder->limits.max_pixels);
    if ((n_channels + n_kept) > decoder->limits.max_memory / n_pixels)
        return myr_fail(MYR_ERR_LIMIT,
                        "%s of %llu x %llu pixels, which takes %zu bytes a pixel to decode: above the limit of %llu "
                        "bytes in all",
                        kind, (unsigned long long)width, (unsigned long long)height, n_channels + n_kept,
                        (unsigned long long)decoder->limits.max_memory);
    if (myr_room_reserve(&decoder->pixels, n_bytes) == NULL)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a %s of %llu x %llu pixels", kind, (unsigned long long)width,
                        (unsigned long long)height);
    return MYR_OK;
}

/* round((level * alpha + 255 * (255 - alpha)) / 255), as Pillow's alpha_composite does it with 7 more bits. */
static uint8_t level_on_white(uint32_t level, uint32_t alpha)
{
    uint32_t sum = (level * alpha + 255 * (255 - alpha)) * 128 + 128 * 128;
    return (uint8_t)((((sum >> 8) + sum) >> 8) >> 7);
}

void myr_lay_on_white(uint8_t *pixels, size_t n_pixels)
{
    for (size_t i = 0; i < n_pixels; i++) {
        const uint8_t *in = pixels + 4 * i;
        uint8_t *out = pixels + 3 * i; /* never ahead of in */
        uint8_t red = in[0], green = in[1], blue = in[2], alpha = in[3];
        out[0] = level_on_white(red, alpha);
        out[1] = level_on_white(green, alpha);
        out[2] = level_on_white(blue, alpha);
    }
}

myr_status myr_image_check(const myr_image *image)
{
    if (image == NULL || image->pixels == NULL || image->width < 1 || image->height < 1)
        return myr_fail(MYR_ERR_ARG, "no picture, or one without pixels");
    return MYR_OK;
}

typedef myr_status (*kind_decoder)(myr_decoder *, const uint8_t *, size_t, myr_image *, int *);

/* Bytes that begin a kind of file, at an offset. The first match counts. */
typedef struct kind {
    const char *name;
    kind_decoder decode; /* NULL = known by name only */
    size_t at, n_bytes;
    const char *bytes;
} kind;

/* clang-format off */
static const kind kinds[] = {
    {"JPEG",             myr_decode_jpeg, 0,  3, "\xff\xd8\xff"},
    {"PNG",              myr_decode_png,  0,  8, "\x89PNG\r\n\x1a\n"},
    {"WebP",             myr_decode_webp, 8,  4, "WEBP"},
    {"GIF",              NULL,            0,  6, "GIF87a"},
    {"GIF",              NULL,            0,  6, "GIF89a"},
    {"TIFF",             NULL,            0,  4, "II*\0"},
    {"TIFF",             NULL,            0,  4, "MM\0*"},
    {"BigTIFF",          NULL,            0,  4, "II+\0"},
    {"BigTIFF",          NULL,            0,  4, "MM\0+"},
    {"AVIF",             NULL,            4,  8, "ftypavif"},
    {"AVIF",             NULL,            4,  8, "ftypavis"},
    {"HEIF",             NULL,            4,  7, "ftyphei"},
    {"HEIF",             NULL,            4,  7, "ftyphev"},
    {"HEIF",             NULL,            4,  8, "ftypmif1"},
    {"HEIF",             NULL,            4,  8, "ftypmsf1"},
    {"Canon raw (CR3)",  NULL,            4,  8, "ftypcrx "},
    {"MP4 or QuickTime", NULL,            4,  4, "ftyp"},
    {"JPEG XL",          NULL,            0, 12, "\0\0\0\x0cJXL \r\n\x87\n"},
    {"JPEG XL",          NULL,            0,  2, "\xff\x0a"},
    {"JPEG 2000",        NULL,            0, 12, "\0\0\0\x0cjP  \r\n\x87\n"},
    {"JPEG 2000",        NULL,            0,  4, "\xff\x4f\xff\x51"},
    {"ICO",              NULL,            0,  4, "\0\0\1\0"},
    {"CUR",              NULL,            0,  4, "\0\0\2\0"},
    {"PSD",              NULL,            0,  4, "8BPS"},
    {"PDF",              NULL,            0,  5, "%PDF-"},
    {"MNG",              NULL,            0,  8, "\x8aMNG\r\n\x1a\n"},
    {"QOI",              NULL,            0,  4, "qoif"},
    {"OpenEXR",          NULL,            0,  4, "\x76\x2f\x31\x01"},
    {"Radiance HDR",     NULL,            0, 10, "#?RADIANCE"},
    {"DDS",              NULL,            0,  4, "DDS "},
};
/* clang-format on */

static bool begins_so(const kind *row, const uint8_t *bytes, size_t n_bytes)
{
    if (n_bytes < row->at + row->n_bytes || memcmp(bytes + row->at, row->bytes, row->n_bytes) != 0)
        return false;
    return row->decode != myr_decode_webp || memcmp(bytes, "RIFF", 4) == 0;
}

/* "BM" and "P6" could begin a text as well, and SVG is one: these take more than a row of the table. */
static const char *looser_kind(const uint8_t *bytes, size_t n_bytes)
{
    if (n_bytes >= 14 && memcmp(bytes, "BM", 2) == 0 && memcmp(bytes + 6, "\0\0\0\0", 4) == 0)
        return "BMP";
    if (n_bytes >= 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '7' &&
        (bytes[2] == '\n' || bytes[2] == '\r' || bytes[2] == ' '))
        return "PNM";
    if (bytes[0] == '<' || (n_bytes >= 4 && memcmp(bytes, "\xef\xbb\xbf<", 4) == 0)) {
        bool html = n_bytes >= 5 && memcmp(bytes, "<html", 5) == 0;
        size_t n_text = n_bytes < TEXT_BYTES ? n_bytes : TEXT_BYTES;
        if (!html && memmem(bytes, n_text, "<svg", 4) != NULL)
            return "SVG";
    }
    return NULL;
}

/* The first bytes for people: as text where all of them are, in hexadecimal elsewhere. */
static void show_bytes(const uint8_t *bytes, size_t n_bytes, char *text, size_t n_text)
{
    size_t n = n_bytes < SHOWN_BYTES ? n_bytes : SHOWN_BYTES;
    bool readable = true;
    for (size_t i = 0; i < n; i++)
        readable = readable && ((bytes[i] >= ' ' && bytes[i] <= '~') || bytes[i] == '\n' || bytes[i] == '\r');
    if (readable) {
        for (size_t i = 0; i < n; i++)
            text[i + 1] = bytes[i] >= ' ' ? (char)bytes[i] : ' ';
        text[0] = text[n + 1] = '"';
        text[n + 2] = '\0';
        return;
    }
    text[0] = '\0';
    for (size_t i = 0; i < n; i++)
        snprintf(text + 3 * i, n_text - 3 * i, i + 1 < n ? "%02x " : "%02x", bytes[i]);
}

static myr_status find_kind(const uint8_t *bytes, size_t n_bytes, kind_decoder *decode)
{
    const char *name = NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && name == NULL; i++) {
        if (!begins_so(&kinds[i], bytes, n_bytes))
            continue;
        name = kinds[i].name;
        *decode = kinds[i].decode;
    }
    if (name == NULL)
        name = looser_kind(bytes, n_bytes);
    if (name == NULL) {
        char shown[3 * SHOWN_BYTES + 1];
        show_bytes(bytes, n_bytes, shown, sizeof shown);
        return myr_fail(MYR_ERR_FORMAT, "no picture: begins with %s", shown);
    }
    if (*decode == NULL)
        return myr_fail(MYR_ERR_UNSUPPORTED, "%s is not read; only JPEG, PNG and WebP are", name);
    return MYR_OK;
}

myr_status myr_decoder_decode(myr_decoder *decoder, const void *bytes, size_t n_bytes, myr_image *image)
{
    kind_decoder decode = NULL;
    int orientation = 1;
    if (image != NULL)
        *image = (myr_image){0};
    if (decoder == NULL || image == NULL || (bytes == NULL && n_bytes > 0))
        return myr_fail(MYR_ERR_ARG, "no decoder, no bytes or no place for the picture");
    if (n_bytes == 0)
        return myr_fail(MYR_ERR_FORMAT, "the file is empty");
    if (n_bytes > decoder->limits.max_bytes)
        return myr_fail(MYR_ERR_LIMIT, "%zu bytes, above the limit of %llu", n_bytes,
                        (unsigned long long)decoder->limits.max_bytes);
    myr_image decoded = {0};
    myr_status status = find_kind(bytes, n_bytes, &decode);
    if (status == MYR_OK)
        status = decode(decoder, bytes, n_bytes, &decoded, &orientation);
    if (status == MYR_OK)
        status = myr_turn_upright(decoder, orientation, &decoded);
    if (status == MYR_OK)
        *image = decoded;
    return status;
}
