/*
 * What holds of any resize, with no Pillow at hand: flat stays flat, the same size stays the same, a pass
 * that changes nothing is left out, a resized picture can be resized again; and what prepare makes of levels.
 * Parity of the levels themselves is test_pillow.c's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "myriops/image.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 41
#define HEIGHT 30

static myr_decoder *decoder;
static uint8_t noise[WIDTH * HEIGHT * 3];
static const myr_image picture = {WIDTH, HEIGHT, noise};
static const myr_filter filters[] = {MYR_FILTER_BILINEAR, MYR_FILTER_BICUBIC};

static int set_up(void **state)
{
    (void)state;
    myr_rng rng;
    myr_rng_seed(&rng, 11);
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)myr_rng_next(&rng);
    return myr_decoder_create(NULL, &decoder) == MYR_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    myr_decoder_free(decoder);
    return 0;
}

static void flat_stays_flat(void **state)
{
    (void)state;
    uint8_t flat[WIDTH * HEIGHT * 3];
    const myr_image image = {WIDTH, HEIGHT, flat};
    const int sizes[][2] = {{1, 1}, {13, 7}, {100, 80}, {41, 11}, {9, 30}, {300, 2}};
    myr_image out;
    for (int level = 0; level < 256; level += 51) {
        memset(flat, level, sizeof flat);
        for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) {
            const int *size = sizes[i / 2];
            assert_int_equal(myr_decoder_resize(decoder, &image, size[0], size[1], filters[i % 2], &out), MYR_OK);
            assert_true(out.width == size[0] && out.height == size[1]);
            for (int j = 0; j < size[0] * size[1] * 3; j++)
                assert_int_equal(out.pixels[j], level);
        }
    }
}

static void the_same_size_is_a_copy(void **state)
{
    (void)state;
    myr_image out;
    assert_int_equal(myr_decoder_resize(decoder, &picture, WIDTH, HEIGHT, MYR_FILTER_BICUBIC, &out), MYR_OK);
    assert_true(out.pixels != noise);
    assert_memory_equal(out.pixels, noise, sizeof noise);
}

/* Halving with the bilinear filter weighs four neighbours 1 3 3 1. */
static void halving_weighs_1_3_3_1(void **state)
{
    (void)state;
    const uint8_t row[8 * 3] = {0, 9, 1, 0, 9, 1, 80, 9, 1, 160, 9, 1, 0, 9, 1, 240, 9, 1, 8, 9, 1, 8, 9, 1};
    const myr_image image = {8, 1, row};
    myr_image out;
    assert_int_equal(myr_decoder_resize(decoder, &image, 4, 1, MYR_FILTER_BILINEAR, &out), MYR_OK);
    assert_int_equal(out.pixels[3], 90);  /* (0 + 3 * 80 + 3 * 160 + 0) / 8 */
    assert_int_equal(out.pixels[6], 111); /* (160 + 3 * 0 + 3 * 240 + 8) / 8 = 111 */
    for (size_t i = 0; i < 4; i++)
        assert_true(out.pixels[3 * i + 1] == 9 && out.pixels[3 * i + 2] == 1);
}

static void a_resized_picture_can_be_resized(void **state)
{
    (void)state;
    myr_image once, again, third;
    uint8_t kept[20 * HEIGHT * 3];
    assert_int_equal(myr_decoder_resize(decoder, &picture, 20, HEIGHT, MYR_FILTER_BICUBIC, &once), MYR_OK);
    memcpy(kept, once.pixels, sizeof kept);
    assert_int_equal(myr_decoder_resize(decoder, &once, 20, 90, MYR_FILTER_BICUBIC, &again), MYR_OK);
    assert_memory_equal(kept, once.pixels, sizeof kept);
    const myr_image copy = {20, HEIGHT, kept};
    uint8_t first_again[20 * 90 * 3];
    memcpy(first_again, again.pixels, sizeof first_again);
    assert_int_equal(myr_decoder_resize(decoder, &copy, 20, 90, MYR_FILTER_BICUBIC, &third), MYR_OK);
    assert_memory_equal(first_again, third.pixels, sizeof first_again);
}

static void arguments_are_checked(void **state)
{
    (void)state;
    myr_image out;
    const myr_image hollow = {4, 4, NULL}, flat = {0, 4, noise};
    assert_int_equal(myr_decoder_resize(decoder, &picture, 0, 5, MYR_FILTER_BICUBIC, &out), MYR_ERR_ARG);
    assert_int_equal(myr_decoder_resize(decoder, &picture, 5, -1, MYR_FILTER_BICUBIC, &out), MYR_ERR_ARG);
    assert_int_equal(myr_decoder_resize(decoder, &picture, 5, 5, (myr_filter)7, &out), MYR_ERR_ARG);
    assert_int_equal(myr_decoder_resize(decoder, &hollow, 5, 5, MYR_FILTER_BICUBIC, &out), MYR_ERR_ARG);
    assert_int_equal(myr_decoder_resize(decoder, &flat, 5, 5, MYR_FILTER_BICUBIC, &out), MYR_ERR_ARG);
    assert_int_equal(myr_decoder_resize(decoder, NULL, 5, 5, MYR_FILTER_BICUBIC, &out), MYR_ERR_ARG);
    assert_int_equal(myr_decoder_resize(NULL, &picture, 5, 5, MYR_FILTER_BICUBIC, &out), MYR_ERR_ARG);
    assert_int_equal(myr_decoder_resize(decoder, &picture, INT_MAX, INT_MAX, MYR_FILTER_BICUBIC, &out), MYR_ERR_LIMIT);
    assert_int_equal(myr_decoder_resize(decoder, &picture, 1, INT_MAX, MYR_FILTER_BICUBIC, &out), MYR_ERR_LIMIT);
    assert_int_equal(myr_decoder_resize(decoder, &picture, INT_MAX, 1, MYR_FILTER_BICUBIC, &out), MYR_ERR_LIMIT);
}

static const myr_preprocess by_channel = {.width = 24,
                                          .height = 20,
                                          .rule = MYR_RESIZE_SHORTER,
                                          .resize_to = 25,
                                          .filter = MYR_FILTER_BICUBIC,
                                          .mean = {123.675f, 116.28f, 103.53f},
                                          .std = {58.395f, 57.12f, 57.375f}};

/* prepare is resize, crop, and (level - mean) / std, exactly; also when the network wants B G R. */
static void prepare_is_resize_crop_normalise(void **state)
{
    (void)state;
    enum { WHOLE_WIDTH = 34 }; /* 41 * 25 / 30 = 34.17 */
    myr_preprocess preprocess = by_channel;
    float out[3 * 20 * 24];
    myr_image whole;
    for (int bgr = 0; bgr < 2; bgr++) {
        preprocess.bgr = bgr;
        assert_int_equal(myr_decoder_prepare(decoder, &picture, &preprocess, out), MYR_OK);
        assert_int_equal(myr_decoder_resize(decoder, &picture, WHOLE_WIDTH, 25, MYR_FILTER_BICUBIC, &whole), MYR_OK);
        for (int i = 0; i < 3 * 20 * 24; i++) {
            int channel = i / (20 * 24), y = i / 24 % 20 + 2, x = i % 24 + 5;
            uint8_t level = whole.pixels[(y * WHOLE_WIDTH + x) * 3 + (bgr ? 2 - channel : channel)];
            assert_true(out[i] == ((float)level - by_channel.mean[channel]) / by_channel.std[channel]);
        }
    }
}

/* A picture prepared twice, with larger ones between, gives the same bits: nothing is left over in the rooms. */
static void memory_leaves_no_trace(void **state)
{
    (void)state;
    float first[3 * 20 * 24], again[3 * 20 * 24];
    myr_image large;
    assert_int_equal(myr_decoder_prepare(decoder, &picture, &by_channel, first), MYR_OK);
    assert_int_equal(myr_decoder_resize(decoder, &picture, 700, 500, MYR_FILTER_BILINEAR, &large), MYR_OK);
    assert_int_equal(myr_decoder_prepare(decoder, &large, &by_channel, again), MYR_OK);
    assert_int_equal(myr_decoder_prepare(decoder, &picture, &by_channel, again), MYR_OK);
    assert_memory_equal(first, again, sizeof first);
}

static void what_is_not_covered_is_white(void **state)
{
    (void)state;
    uint8_t black[10 * 3] = {0};
    const myr_image line = {10, 1, black};
    const myr_preprocess longer = {
        .width = 20, .height = 9, .rule = MYR_RESIZE_LONGER, .filter = MYR_FILTER_BILINEAR, .std = {1, 1, 1}};
    float out[3 * 20 * 9];
    assert_int_equal(myr_decoder_prepare(decoder, &line, &longer, out), MYR_OK);
    for (int i = 0; i < 3 * 20 * 9; i++) {
        int y = i / 20 % 9; /* the picture becomes 20 x 2, in rows 3 and 4 */
        assert_true(out[i] == (y == 3 || y == 4 ? 0 : 255));
    }
}

/* One pixel high and a million long: only what the crop shows is computed. */
static void a_very_long_picture_is_cheap(void **state)
{
    (void)state;
    enum { LENGTH = 1000000 };
    uint8_t *pixels = malloc((size_t)LENGTH * 3);
    assert_non_null(pixels);
    memset(pixels, 200, (size_t)LENGTH * 3);
    const myr_image lines[] = {{LENGTH, 1, pixels}, {1, LENGTH, pixels}};
    myr_preprocess preprocess = by_channel;
    float out[3 * 20 * 24];
    for (int i = 0; i < 2; i++) {
        preprocess.resize_to = 25;
        assert_int_equal(myr_decoder_prepare(decoder, &lines[i], &preprocess, out), MYR_OK);
        assert_true(out[0] == (200 - by_channel.mean[0]) / by_channel.std[0]);
        preprocess.resize_to = 100000;
        assert_int_equal(myr_decoder_prepare(decoder, &lines[i], &preprocess, out), MYR_ERR_LIMIT);
    }
    free(pixels);
}

static void preprocessing_is_checked(void **state)
{
    (void)state;
    float out[3 * 20 * 24];
    myr_preprocess wrong[7];
    for (size_t i = 0; i < 7; i++)
        wrong[i] = by_channel;
    wrong[0].width = 0;
    wrong[1].resize_to = 0;
    wrong[2].std[1] = 0;
    wrong[3].mean[2] = NAN;
    wrong[4].filter = (myr_filter)9;
    wrong[5].rule = (myr_resize_rule)9;
    wrong[6].std[0] = INFINITY;
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(myr_decoder_prepare(decoder, &picture, &wrong[i], out), MYR_ERR_ARG);
    assert_int_equal(myr_decoder_prepare(decoder, &picture, NULL, out), MYR_ERR_ARG);
    assert_int_equal(myr_decoder_prepare(decoder, &picture, &by_channel, NULL), MYR_ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flat_stays_flat),
        cmocka_unit_test(the_same_size_is_a_copy),
        cmocka_unit_test(halving_weighs_1_3_3_1),
        cmocka_unit_test(a_resized_picture_can_be_resized),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(prepare_is_resize_crop_normalise),
        cmocka_unit_test(memory_leaves_no_trace),
        cmocka_unit_test(what_is_not_covered_is_white),
        cmocka_unit_test(a_very_long_picture_is_cheap),
        cmocka_unit_test(preprocessing_is_checked),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
