/*
 * A picture as a JPEG file: thumbnails for result sheets, pictures for tests.
 *
 * libjpeg's own memory destination loses track of its buffer when an error leaves it; this one
 * keeps the buffer in `writing`, where it can be released whatever happened.
 */
#include "image/internal.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>
#include <jerror.h>

#define FIRST_BYTES ((size_t)32 << 10)

typedef struct writing {
    struct jpeg_error_mgr errors; /* first: libjpeg's pointer to it is a pointer to this */
    struct jpeg_destination_mgr destination;
    struct jpeg_compress_struct library;
    jmp_buf escape;
    myr_status status;
    uint8_t *bytes; /* [owned] */
    size_t capacity;
} writing;

static void leave(j_common_ptr library)
{
    writing *jpeg = (writing *)(void *)library->err;
    char text[JMSG_LENGTH_MAX];
    jpeg->errors.format_message(library, text);
    jpeg->status = myr_fail(jpeg->errors.msg_code == JERR_OUT_OF_MEMORY ? MYR_ERR_NOMEM : MYR_ERR_INTERNAL,
                            "writing a JPEG: %s", text);
    longjmp(jpeg->escape, 1);
}

static void stay_silent(j_common_ptr library)
{
    (void)library;
}

static void grow(writing *jpeg)
{
    size_t used = jpeg->capacity, capacity = used == 0 ? FIRST_BYTES : 2 * used;
    uint8_t *grown = capacity > used ? realloc(jpeg->bytes, capacity) : NULL;
    if (grown == NULL)
        ERREXIT1(&jpeg->library, JERR_OUT_OF_MEMORY, 0);
    jpeg->bytes = grown;
    jpeg->capacity = capacity;
    jpeg->destination.next_output_byte = grown + used;
    jpeg->destination.free_in_buffer = capacity - used;
}

static void begin(j_compress_ptr library)
{
    grow((writing *)(void *)library->err);
}

static boolean empty(j_compress_ptr library)
{
    grow((writing *)(void *)library->err);
    return TRUE;
}

static void end(j_compress_ptr library)
{
    (void)library;
}

static void write_picture(writing *jpeg, const myr_image *image, int quality)
{
    struct jpeg_compress_struct *library = &jpeg->library;
    if (setjmp(jpeg->escape) != 0)
        return;
    jpeg_create_compress(library);
    library->dest = &jpeg->destination;
    library->image_width = (JDIMENSION)image->width;
    library->image_height = (JDIMENSION)image->height;
    library->input_components = 3;
    library->in_color_space = JCS_RGB;
    jpeg_set_defaults(library);
    jpeg_set_quality(library, quality, TRUE);
    jpeg_start_compress(library, TRUE);
    while (library->next_scanline < library->image_height) {
        size_t at = (size_t)library->next_scanline * (size_t)image->width * 3;
        JSAMPROW row = (JSAMPROW)(uintptr_t)(image->pixels + at); /* libjpeg does not write to it */
        jpeg_write_scanlines(library, &row, 1);
    }
    jpeg_finish_compress(library);
}

myr_status myr_jpeg_encode(const myr_image *image, int quality, void **bytes, size_t *n_bytes)
{
    if (bytes == NULL || n_bytes == NULL)
        return myr_fail(MYR_ERR_ARG, "no place for the JPEG");
    *bytes = NULL;
    *n_bytes = 0;
    myr_status status = myr_image_check(image);
    if (status != MYR_OK)
        return status;
    if (quality < 1 || quality > 100)
        return myr_fail(MYR_ERR_ARG, "a JPEG's quality is 1 to 100, not %d", quality);
    if (image->width > JPEG_MAX_DIMENSION || image->height > JPEG_MAX_DIMENSION)
        return myr_fail(MYR_ERR_LIMIT, "a JPEG has at most %ld pixels a side, this picture %d x %d",
                        (long)JPEG_MAX_DIMENSION, image->width, image->height);
    writing jpeg = {.destination = {.init_destination = begin, .empty_output_buffer = empty, .term_destination = end}};
    jpeg.library.err = jpeg_std_error(&jpeg.errors);
    jpeg.errors.error_exit = leave;
    jpeg.errors.output_message = stay_silent;
    write_picture(&jpeg, image, quality);
    if (jpeg.status == MYR_OK) {
        *bytes = jpeg.bytes;
        *n_bytes = jpeg.capacity - jpeg.destination.free_in_buffer;
    } else {
        free(jpeg.bytes);
    }
    jpeg_destroy_compress(&jpeg.library);
    return jpeg.status;
}
