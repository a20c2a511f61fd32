/*
 * Any bytes as a picture: decoded, turned upright, resized and prepared for a network, as `embed` does it.
 *
 * A PNG's chunks carry checksums, behind which no damage would ever be seen: where the last byte of the input is
 * odd they are made right first.
 */
#include "myriops/image.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MOST_PIXELS (1u << 20)
#define SIDE 32
#define N_VALUES ((size_t)3 * SIDE * SIDE)

enum { SIGNATURE = 8, BEFORE_DATA = 8, CRC = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Chunks are {length, type, data, CRC-32 of type and data}. */
static void repair_png(uint8_t *bytes, size_t size)
{
    for (size_t at = SIGNATURE; at + BEFORE_DATA + CRC <= size;) {
        size_t length = big_endian(bytes + at), left = size - at - BEFORE_DATA - CRC;
        if (length > left)
            return;
        uint32_t sum = (uint32_t)crc32(0, bytes + at + 4, (uInt)(4 + length));
        uint8_t *crc = bytes + at + BEFORE_DATA + length;
        for (int i = 0; i < CRC; i++)
            crc[i] = (uint8_t)(sum >> (24 - 8 * i));
        at += BEFORE_DATA + length + CRC;
    }
}

static myr_status decode_all(myr_decoder *decoder, const uint8_t *bytes, size_t size, const myr_preprocess *preprocess,
                             float *values)
{
    myr_image image;
    myr_status status = myr_decoder_decode(decoder, bytes, size, &image);
    return status == MYR_OK ? myr_decoder_prepare(decoder, &image, preprocess, values) : status;
}

/* Decoding all and decoding what the network will see must come to the same. */
static void use(const uint8_t *bytes, size_t size)
{
    static float input[N_VALUES], whole[N_VALUES];
    static const myr_resize_rule rules[] = {MYR_RESIZE_SHORTER, MYR_RESIZE_STRETCH, MYR_RESIZE_LONGER};
    static myr_decoder *decoders[2]; /* for all files, so that what one picture leaves behind meets the next */
    for (int i = 0; i < 2; i++)
        if (!decoders[i] &&
            myr_decoder_create(&(myr_image_limits){.max_pixels = MOST_PIXELS}, &decoders[i]) != MYR_OK)
            abort();
    const myr_preprocess preprocess = {.width = SIDE,
                                       .height = SIDE,
                                       .rule = rules[size % 3],
                                       .resize_to = SIDE + 4,
                                       .filter = size % 2 ? MYR_FILTER_BICUBIC : MYR_FILTER_BILINEAR,
                                       .std = {1, 1, 1}};
    myr_status status = decode_all(decoders[0], bytes, size, &preprocess, whole);
    if (myr_decoder_read_prepared(decoders[1], &(myr_form){0}, bytes, size, &preprocess, input) != status)
        abort();
    if (status != MYR_OK)
        return;
    for (size_t i = 0; i < N_VALUES; i++) /* overshoot of bicubic is clipped: levels are bytes */
        if (!(input[i] >= 0 && input[i] <= 255) || input[i] != whole[i])
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t png[SIGNATURE] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    if (size > SIGNATURE && memcmp(data, png, SIGNATURE) == 0 && data[size - 1] % 2) {
        uint8_t *copy = malloc(size);
        if (!copy)
            return 0;
        memcpy(copy, data, size);
        repair_png(copy, size);
        use(copy, size);
        free(copy);
    } else {
        use(data, size);
    }
    return 0;
}
