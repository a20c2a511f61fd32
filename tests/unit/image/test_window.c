/*
 * Decoding only what a network will see against decoding all: JPEGs of every sampling, size and crop give the same
 * values, and damaged ones the same error in the same words or the same values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "myriops/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#define N_PICTURES 1500
#define N_DAMAGED 6000
#define MOST_SIDE 300

static myr_decoder *windows, *whole;
static float seen[3 * MOST_SIDE * MOST_SIDE], wanted[3 * MOST_SIDE * MOST_SIDE];

typedef struct file {
    unsigned char *bytes;
    unsigned long n_bytes;
} file;

typedef struct kind {
    int width, height, across, down; /* sampling of the first component */
    bool grey, progressive, arithmetic;
    unsigned restart;
} kind;

static int below(myr_rng *rng, int n)
{
    return (int)myr_rng_below(rng, (uint64_t)n);
}

static kind kind_at_random(myr_rng *rng)
{
    static const int samplings[][2] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 1}, {1, 4}, {4, 2}};
    const int *sampling = samplings[below(rng, 7)];
    return (kind){.width = 1 + below(rng, MOST_SIDE),
                  .height = 1 + below(rng, MOST_SIDE),
                  .across = sampling[0],
                  .down = sampling[1],
                  .grey = below(rng, 8) == 0,
                  .progressive = below(rng, 8) == 0,
                  .arithmetic = below(rng, 12) == 0,
                  .restart = below(rng, 3) ? 0 : 1 + (unsigned)below(rng, 9)};
}

/* Waves of colour and noise. */
static void write_rows(struct jpeg_compress_struct *library, myr_rng *rng, bool grey)
{
    static uint8_t row[3 * MOST_SIDE];
    JSAMPROW rows = row;
    int n_channels = grey ? 1 : 3, step = 1 + below(rng, 40), noise = 1 + below(rng, 120);
    while (library->next_scanline < library->image_height) {
        int y = (int)library->next_scanline;
        for (int x = 0; x < (int)library->image_width; x++)
            for (int channel = 0; channel < n_channels; channel++)
                row[x * n_channels + channel] =
                    (uint8_t)((x / step * (37 + 50 * channel) + y / step * (91 - 20 * channel) + below(rng, noise)) &
                              255);
        jpeg_write_scanlines(library, &rows, 1);
    }
}

static file encode(myr_rng *rng, const kind *of)
{
    file out = {0};
    struct jpeg_error_mgr errors; /* ends the program on an error */
    struct jpeg_compress_struct library = {.err = jpeg_std_error(&errors)};
    jpeg_create_compress(&library);
    jpeg_mem_dest(&library, &out.bytes, &out.n_bytes);
    library.image_width = (JDIMENSION)of->width;
    library.image_height = (JDIMENSION)of->height;
    library.input_components = of->grey ? 1 : 3;
    library.in_color_space = of->grey ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&library);
    jpeg_set_quality(&library, 30 + below(rng, 71), TRUE);
    library.comp_info[0].h_samp_factor = of->across;
    library.comp_info[0].v_samp_factor = of->down;
    library.restart_interval = of->restart;
    library.arith_code = of->arithmetic;
    if (of->progressive)
        jpeg_simple_progression(&library);
    jpeg_start_compress(&library, TRUE);
    write_rows(&library, rng, of->grey);
    jpeg_finish_compress(&library);
    jpeg_destroy_compress(&library);
    return out;
}

static myr_preprocess preprocess_at_random(myr_rng *rng)
{
    return (myr_preprocess){.width = 1 + below(rng, 60),
                            .height = 1 + below(rng, 60),
                            .rule = below(rng, 4) ? MYR_RESIZE_SHORTER : (myr_resize_rule)below(rng, 3),
                            .resize_to = 1 + below(rng, below(rng, 2) ? 80 : MOST_SIDE),
                            .filter = below(rng, 2) ? MYR_FILTER_BICUBIC : MYR_FILTER_BILINEAR,
                            .std = {1, 1, 1}};
}

/* Whether the picture could be used. */
static bool compare(const uint8_t *bytes, size_t n_bytes, const myr_preprocess *preprocess, const kind *of)
{
    char words[512] = "";
    myr_image image;
    size_t n_values = 3 * (size_t)preprocess->width * (size_t)preprocess->height;
    myr_status status = myr_decoder_decode(whole, bytes, n_bytes, &image);
    if (status == MYR_OK)
        status = myr_decoder_prepare(whole, &image, preprocess, wanted);
    if (status != MYR_OK)
        snprintf(words, sizeof words, "%s", myr_error_detail());
    myr_status sooner = myr_decoder_read_prepared(windows, &(myr_form){0}, bytes, n_bytes, preprocess, seen);
    if (sooner != status || (status != MYR_OK && strcmp(words, myr_error_detail()) != 0))
        fail_msg("%d x %d: '%s' where all decoded give '%s'", of->width, of->height,
                 sooner == MYR_OK ? "fine" : myr_error_detail(), words);
    if (status == MYR_OK && memcmp(seen, wanted, n_values * sizeof *seen) != 0)
        fail_msg("%d x %d, sampling %d x %d%s%s, restart %u, for %d x %d, rule %d, to %d: values differ", of->width,
                 of->height, of->across, of->down, of->grey ? ", grey" : "", of->progressive ? ", progressive" : "",
                 of->restart, preprocess->width, preprocess->height, (int)preprocess->rule, preprocess->resize_to);
    return status == MYR_OK;
}

static void whole_files(void **state)
{
    (void)state;
    myr_rng rng;
    myr_rng_seed(&rng, 1);
    for (int i = 0; i < N_PICTURES; i++) {
        kind of = kind_at_random(&rng);
        file picture = encode(&rng, &of);
        myr_preprocess preprocess = preprocess_at_random(&rng);
        assert_true(compare(picture.bytes, picture.n_bytes, &preprocess, &of));
        free(picture.bytes);
    }
}

/* Cut somewhere, or with a few bytes changed behind the headers. */
static void damaged_files(void **state)
{
    (void)state;
    myr_rng rng;
    int n_usable = 0;
    myr_rng_seed(&rng, 2);
    for (int i = 0; i < N_DAMAGED; i++) {
        kind of = kind_at_random(&rng);
        of.width = 1 + of.width / 3;
        of.height = 1 + of.height / 3;
        file picture = encode(&rng, &of);
        myr_preprocess preprocess = preprocess_at_random(&rng);
        size_t n_bytes = picture.n_bytes, n_changes = 1 + (size_t)below(&rng, 4);
        if (i % 3 == 0)
            n_bytes = 1 + (size_t)below(&rng, (int)n_bytes);
        for (size_t j = 0; i % 3 != 0 && j < n_changes; j++)
            picture.bytes[n_bytes / 3 + (size_t)below(&rng, (int)(n_bytes - n_bytes / 3))] =
                (uint8_t)myr_rng_next(&rng);
        n_usable += compare(picture.bytes, n_bytes, &preprocess, &of);
        free(picture.bytes);
    }
    print_message("%d damaged files, %d of them could be used\n", N_DAMAGED, n_usable);
    assert_in_range(n_usable, N_DAMAGED / 20, N_DAMAGED * 19 / 20);
}

static int set_up(void **state)
{
    (void)state;
    return myr_decoder_create(NULL, &windows) == MYR_OK && myr_decoder_create(NULL, &whole) == MYR_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    myr_decoder_free(windows);
    myr_decoder_free(whole);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_files), cmocka_unit_test(damaged_files)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
