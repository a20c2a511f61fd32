/*
 * Bare levels and parts of pictures.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "myriops/image.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static myr_decoder *decoder;

static int open_decoder(void **state)
{
    (void)state;
    return myr_decoder_create(&(myr_image_limits){.max_pixels = 1000000}, &decoder) == MYR_OK ? 0 : -1;
}

static int close_decoder(void **state)
{
    (void)state;
    myr_decoder_free(decoder);
    return 0;
}

/* (2, 3) pixels: red 1.., green 11.., blue 21.. */
static const uint8_t interleaved[18] = {1, 11, 21, 2, 12, 22, 3, 13, 23, 4, 14, 24, 5, 15, 25, 6, 16, 26};
static const uint8_t planar[18] = {1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16, 21, 22, 23, 24, 25, 26};

static void layouts_are_the_same(void **state)
{
    (void)state;
    myr_image image;
    myr_form form = {.width = 3, .height = 2, .n_channels = 3};
    assert_int_equal(myr_decoder_read(decoder, &form, interleaved, 18, &image), MYR_OK);
    assert_memory_equal(image.pixels, interleaved, 18);
    form.planar = true;
    assert_int_equal(myr_decoder_read(decoder, &form, planar, 18, &image), MYR_OK);
    assert_memory_equal(image.pixels, interleaved, 18);
    assert_true(image.width == 3 && image.height == 2);
    form.n_channels = 1;
    for (int i = 0; i < 2; i++, form.planar = !form.planar) {
        assert_int_equal(myr_decoder_read(decoder, &form, planar, 6, &image), MYR_OK);
        for (int j = 0; j < 18; j++)
            assert_int_equal(image.pixels[j], j / 3 + 1);
    }
}

static void wrong_sizes_are_refused(void **state)
{
    (void)state;
    static const struct {
        myr_form form;
        size_t n_bytes;
        myr_status status;
    } cases[] = {{{.width = 3, .height = 2, .n_channels = 3}, 17, MYR_ERR_FORMAT},
                 {{.width = 3, .height = 2, .n_channels = 3}, 19, MYR_ERR_FORMAT},
                 {{.width = 3, .height = 2, .n_channels = 2}, 12, MYR_ERR_FORMAT},
                 {{.width = 3, .height = 0, .n_channels = 3}, 0, MYR_ERR_FORMAT},
                 {{.width = -3, .height = 2, .n_channels = 3}, 18, MYR_ERR_FORMAT},
                 {{.width = INT_MAX, .height = INT_MAX, .n_channels = 3}, 18, MYR_ERR_LIMIT},
                 {{.width = 1001, .height = 1000, .n_channels = 1}, 18, MYR_ERR_LIMIT}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        myr_image image;
        uint8_t bytes[19] = {0};
        assert_int_equal(myr_decoder_read(decoder, &cases[i].form, bytes, cases[i].n_bytes, &image), cases[i].status);
    }
    myr_image image;
    assert_int_equal(myr_decoder_read(decoder, &(myr_form){0}, "no file", 7, &image), MYR_ERR_FORMAT);
    assert_int_equal(myr_decoder_read(NULL, &(myr_form){0}, "no file", 7, &image), MYR_ERR_ARG);
}

static void parts_are_cut_out(void **state)
{
    (void)state;
    static const struct {
        myr_box box;
        int width, height, first; /* 0 = nothing is left */
    } cases[] = {{{1, 0, 2, 2}, 2, 2, 2},
                 {{0, 1, 1, 1}, 1, 1, 4},
                 {{2, 1, 100, 100}, 1, 1, 6},
                 {{-5, -5, 7, 6}, 2, 1, 1},
                 {{3, 0, 1, 1}, 0, 0, 0},
                 {{0, 2, 1, 1}, 0, 0, 0},
                 {{-4, 0, 4, 2}, 0, 0, 0},
                 {{INT_MAX, 0, INT_MAX, 1}, 0, 0, 0},
                 {{INT_MIN, INT_MIN, INT_MAX, INT_MAX}, 0, 0, 0},
                 {{0, 0, 1, 0}, 0, 0, 0},
                 {{0, 0, -1, 1}, 0, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        myr_image image;
        myr_form form = {.width = 3, .height = 2, .n_channels = 3, .box = cases[i].box};
        myr_status status = myr_decoder_read(decoder, &form, interleaved, 18, &image);
        assert_int_equal(status, cases[i].width ? MYR_OK : MYR_ERR_FORMAT);
        if (status != MYR_OK) {
            assert_non_null(strstr(myr_error_detail(), "outside"));
            continue;
        }
        assert_true(image.width == cases[i].width && image.height == cases[i].height);
        for (int y = 0; y < image.height; y++)
            for (int x = 0; x < image.width; x++)
                assert_int_equal(image.pixels[3 * (y * image.width + x)], cases[i].first + 3 * y + x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_are_the_same),
        cmocka_unit_test(wrong_sizes_are_refused),
        cmocka_unit_test(parts_are_cut_out),
    };
    return cmocka_run_group_tests(tests, open_decoder, close_decoder);
}
