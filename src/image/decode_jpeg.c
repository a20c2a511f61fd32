/*
 * JPEG, through libjpeg-turbo: the exact transform (ISLOW) and smooth chroma upsampling, as Pillow has them.
 *
 * libjpeg leaves by longjmp on errors. All that changes between setjmp and longjmp lives in `reading`,
 * which belongs to the caller of the function with the setjmp, so that none of it is lost.
 *
 * Damage: data that ends early (end of file, or a marker where pixels should be) is an error at once;
 * other complaints of the library are tolerated, as they are in browsers and Pillow.
 */
#include "image/internal.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

/* A progressive file needs about ten scans; a few bytes can ask for one more walk over the whole picture. */
#define MAX_SCANS 500
#define MAX_SCANNED_PIXELS 8000000000u

#define MARKER_EXIF (JPEG_APP0 + 1)

typedef struct reading {
    struct jpeg_error_mgr errors; /* first: libjpeg's pointer to it is a pointer to this */
    struct jpeg_progress_mgr progress;
    struct jpeg_decompress_struct library;
    jmp_buf escape;
    myr_status status;
    myr_decoder *decoder;
    const uint8_t *bytes;
    size_t n_bytes;
    int orientation;
} reading;

static reading *reading_of(j_common_ptr library)
{
    return (reading *)(void *)library->err;
}

static myr_status status_of(int code)
{
    switch (code) {
    case JERR_OUT_OF_MEMORY:
        return MYR_ERR_NOMEM;
    case JERR_IMAGE_TOO_BIG:
        return MYR_ERR_LIMIT;
    case JERR_ARITH_NOTIMPL:
    case JERR_BAD_PRECISION:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_SOF_UNSUPPORTED:
        return MYR_ERR_UNSUPPORTED;
    default:
        return MYR_ERR_FORMAT;
    }
}

static void leave(j_common_ptr library)
{
    reading *jpeg = reading_of(library);
    char text[JMSG_LENGTH_MAX];
    jpeg->errors.format_message(library, text);
    jpeg->status = myr_fail(status_of(jpeg->errors.msg_code), "JPEG: %s", text);
    longjmp(jpeg->escape, 1);
}

/* Warnings (level -1) and traces. */
static void judge_warning(j_common_ptr library, int level)
{
    reading *jpeg = reading_of(library);
    int code = jpeg->errors.msg_code;
    if (level >= 0)
        return;
    if (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER) {
        jpeg->status = myr_fail(MYR_ERR_FORMAT, "JPEG ends early%s",
                                code == JWRN_HIT_MARKER ? ": a marker stands where pixels are missing" : "");
        longjmp(jpeg->escape, 1);
    }
    jpeg->errors.num_warnings++;
}

static void stay_silent(j_common_ptr library)
{
    (void)library;
}

static void count_scans(j_common_ptr library)
{
    reading *jpeg = reading_of(library);
    uint64_t n_pixels = (uint64_t)jpeg->library.image_width * jpeg->library.image_height;
    uint64_t n_scans = (uint64_t)jpeg->library.input_scan_number;
    if (n_scans <= 1 || (n_scans <= MAX_SCANS && n_pixels <= MAX_SCANNED_PIXELS / n_scans))
        return;
    jpeg->status = myr_fail(MYR_ERR_LIMIT, "JPEG of %llu scans or more, too many for %u x %u pixels",
                            (unsigned long long)n_scans, jpeg->library.image_width, jpeg->library.image_height);
    longjmp(jpeg->escape, 1);
}

static int find_orientation(const struct jpeg_decompress_struct *library)
{
    for (jpeg_saved_marker_ptr marker = library->marker_list; marker != NULL; marker = marker->next) {
        if (marker->marker == MARKER_EXIF && marker->data_length >= 6 && memcmp(marker->data, "Exif\0\0", 6) == 0)
            return myr_exif_orientation(marker->data, marker->data_length);
    }
    return 1;
}

static void read_header(reading *jpeg)
{
    struct jpeg_decompress_struct *library = &jpeg->library;
    jpeg_create_decompress(library);
    library->progress = &jpeg->progress;
    jpeg_mem_src(library, jpeg->bytes, (unsigned long)jpeg->n_bytes);
    jpeg_save_markers(library, MARKER_EXIF, 0xffff);
    jpeg_read_header(library, TRUE);
    jpeg->orientation = find_orientation(library);
    if (library->num_components != 1 && library->num_components != 3 && library->num_components != 4) {
        jpeg->status = myr_fail(MYR_ERR_UNSUPPORTED, "JPEG of %d components", library->num_components);
        longjmp(jpeg->escape, 1);
    }
    library->out_color_space = library->num_components == 4 ? JCS_CMYK : JCS_RGB;
    library->dct_method = JDCT_ISLOW;
    library->do_fancy_upsampling = TRUE;
}

static uint32_t divide_by_255(uint32_t product)
{
    uint32_t rounded = product + 128;
    return ((rounded >> 8) + rounded) >> 8;
}

/* Inks are stored inverted, 255 = none, as Adobe does; Pillow takes every file to be so. */
static void inks_to_levels(const uint8_t *inks, uint8_t *levels, size_t n_pixels)
{
    for (size_t i = 0; i < n_pixels; i++) {
        uint32_t light = inks[4 * i + 3];
        for (size_t j = 0; j < 3; j++)
            levels[3 * i + j] = (uint8_t)(light - divide_by_255((255u - inks[4 * i + j]) * light));
    }
}

/* [first, first + n) and `margin` more on each side, within [0, whole). */
static void widen(int *first, int *n, int margin, int whole)
{
    int end = *first + *n < whole - margin ? *first + *n + margin : whole;
    *first = *first > margin ? *first - margin : 0;
    *n = end - *first;
}

/*
 * What has to become pixels. Where colours are stored coarser than light, upsampling looks at neighbours: a block more
 * on each side. All of files that are turned, in inks, of several scans or arithmetically coded, which are few.
 */
static myr_window find_window(const reading *jpeg)
{
    const struct jpeg_decompress_struct *library = &jpeg->library;
    int width = (int)library->image_width, height = (int)library->image_height;
    const myr_window whole = {.width = width, .height = height};
    if (jpeg->decoder->shown == NULL || jpeg->orientation > 1 || library->out_color_space == JCS_CMYK ||
        library->progressive_mode || library->arith_code || library->comps_in_scan != library->num_components)
        return whole;
    myr_window wanted = myr_prepare_inputs(jpeg->decoder->shown, width, height);
    if (library->max_h_samp_factor > 1 || library->max_v_samp_factor > 1) {
        widen(&wanted.x, &wanted.width, DCTSIZE * library->max_h_samp_factor, width);
        widen(&wanted.y, &wanted.height, DCTSIZE * library->max_v_samp_factor, height);
    }
    return wanted;
}

static void read_row(reading *jpeg, uint8_t *line)
{
    struct jpeg_decompress_struct *library = &jpeg->library;
    JSAMPROW row = line;
    jpeg_read_scanlines(library, &row, 1);
}

/* The window's rows, in their places in the whole picture. Nothing else of it is written. */
static void read_window(reading *jpeg, const myr_window *window, uint8_t *pixels, uint8_t *line)
{
    struct jpeg_decompress_struct *library = &jpeg->library;
    JDIMENSION left = (JDIMENSION)window->x, n = (JDIMENSION)window->width, height = library->output_height;
    JDIMENSION bottom = (JDIMENSION)(window->y + window->height);
    size_t stride = (size_t)library->image_width * 3;
    if (n < library->output_width)
        jpeg_crop_scanline(library, &left, &n); /* may begin sooner */
    if (window->y > 0)
        jpeg_skip_scanlines(library, (JDIMENSION)window->y);
    while (library->output_scanline < bottom) {
        uint8_t *out = pixels + (size_t)library->output_scanline * stride + (size_t)left * 3;
        read_row(jpeg, line ? line : out);
        if (line)
            inks_to_levels(line, out, n);
    }
    if (bottom + 1 < height)
        jpeg_skip_scanlines(library, height - 1 - bottom);
    if (bottom < height) /* the last row is read, since skipping it would skip whether the file has it */
        read_row(jpeg, pixels + (size_t)(height - 1) * stride + (size_t)left * 3);
}

static void read_pixels(reading *jpeg)
{
    struct jpeg_decompress_struct *library = &jpeg->library;
    myr_decoder *decoder = jpeg->decoder;
    size_t width = library->image_width;
    bool inks = library->out_color_space == JCS_CMYK;
    /* Scans that complete each other: all coefficients, of 2 bytes, are kept until the last. */
    size_t n_kept = jpeg_has_multiple_scans(library) ? 2 * (size_t)library->num_components : 0;
    jpeg->status = myr_decoder_reserve(decoder, "JPEG", width, library->image_height, 3, n_kept);
    if (jpeg->status != MYR_OK)
        return;
    uint8_t *line = inks ? myr_room_reserve(&decoder->line, width * 4) : NULL;
    if (inks && line == NULL) {
        jpeg->status = myr_fail(MYR_ERR_NOMEM, "no memory for a row of %zu pixels", width);
        return;
    }
    const myr_window window = find_window(jpeg);
    jpeg_start_decompress(library);
    read_window(jpeg, &window, decoder->pixels.bytes, line);
    jpeg_finish_decompress(library); /* reads on to the end marker: a file without one ends early */
}

static void read_picture(reading *jpeg)
{
    if (setjmp(jpeg->escape) != 0)
        return;
    read_header(jpeg);
    read_pixels(jpeg);
}

myr_status myr_decode_jpeg(myr_decoder *decoder, const uint8_t *bytes, size_t n_bytes, myr_image *image,
                           int *orientation)
{
    reading jpeg = {.decoder = decoder, .bytes = bytes, .n_bytes = n_bytes, .orientation = 1};
    jpeg.library.err = jpeg_std_error(&jpeg.errors);
    jpeg.errors.error_exit = leave;
    jpeg.errors.emit_message = judge_warning;
    jpeg.errors.output_message = stay_silent;
    jpeg.progress.progress_monitor = count_scans;
    read_picture(&jpeg);
    if (jpeg.status == MYR_OK) {
        *image = (myr_image){.width = (int)jpeg.library.image_width,
                             .height = (int)jpeg.library.image_height,
                             .pixels = decoder->pixels.bytes};
        *orientation = jpeg.orientation;
    }
    jpeg_destroy_decompress(&jpeg.library);
    return jpeg.status;
}
