/*
 * JPEG files written: they can be read again, quality costs bytes and buys likeness, wrong arguments are refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "myriops/image.h"

#include <stdlib.h>

#define WIDTH 300
#define HEIGHT 211

static uint8_t pixels[WIDTH * HEIGHT * 3];
static const myr_image picture = {WIDTH, HEIGHT, pixels};

static int set_up(void **state)
{
    (void)state;
    for (int i = 0; i < WIDTH * HEIGHT; i++) {
        pixels[3 * i] = (uint8_t)(i % WIDTH * 255 / WIDTH);
        pixels[3 * i + 1] = (uint8_t)(i / WIDTH);
        pixels[3 * i + 2] = (uint8_t)((i % WIDTH / 20 + i / WIDTH / 20) % 2 * 90 + 60);
    }
    return 0;
}

/* Mean difference of levels after writing and reading. */
static double loss(int quality, size_t *n_bytes)
{
    myr_decoder *decoder = NULL;
    myr_image read;
    void *bytes = NULL;
    double sum = 0;
    assert_int_equal(myr_jpeg_encode(&picture, quality, &bytes, n_bytes), MYR_OK);
    assert_int_equal(myr_decoder_create(NULL, &decoder), MYR_OK);
    assert_int_equal(myr_decoder_decode(decoder, bytes, *n_bytes, &read), MYR_OK);
    assert_true(read.width == WIDTH && read.height == HEIGHT);
    for (size_t i = 0; i < sizeof pixels; i++)
        sum += abs((int)pixels[i] - (int)read.pixels[i]);
    myr_decoder_free(decoder);
    free(bytes);
    return sum / sizeof pixels;
}

static void what_is_written_can_be_read(void **state)
{
    (void)state;
    size_t small = 0, large = 0;
    double rough = loss(10, &small), fine = loss(100, &large);
    assert_true(fine < 2 && fine < rough && rough < 20);
    assert_true(small > 0 && 2 * small < large);
}

/* Larger than the first buffer, so that it grows. */
static void large_pictures_grow_the_buffer(void **state)
{
    (void)state;
    enum { SIDE = 700 };
    uint8_t *noise = malloc((size_t)SIDE * SIDE * 3);
    void *bytes = NULL;
    size_t n_bytes = 0;
    uint32_t value = 1;
    assert_non_null(noise);
    for (size_t i = 0; i < (size_t)SIDE * SIDE * 3; i++)
        noise[i] = (uint8_t)((value = value * 1664525 + 1013904223) >> 24);
    const myr_image image = {SIDE, SIDE, noise};
    assert_int_equal(myr_jpeg_encode(&image, 95, &bytes, &n_bytes), MYR_OK);
    assert_true(n_bytes > 200000);
    const uint8_t *file = bytes;
    assert_true(file[0] == 0xff && file[1] == 0xd8 && file[n_bytes - 2] == 0xff && file[n_bytes - 1] == 0xd9);
    free(bytes);
    free(noise);
}

static void arguments_are_checked(void **state)
{
    (void)state;
    void *bytes = NULL;
    size_t n_bytes = 1;
    const myr_image wide = {70000, 1, pixels}, none = {3, 3, NULL};
    assert_int_equal(myr_jpeg_encode(&picture, 0, &bytes, &n_bytes), MYR_ERR_ARG);
    assert_int_equal(myr_jpeg_encode(&picture, 101, &bytes, &n_bytes), MYR_ERR_ARG);
    assert_int_equal(myr_jpeg_encode(&none, 80, &bytes, &n_bytes), MYR_ERR_ARG);
    assert_int_equal(myr_jpeg_encode(NULL, 80, &bytes, &n_bytes), MYR_ERR_ARG);
    assert_int_equal(myr_jpeg_encode(&picture, 80, NULL, &n_bytes), MYR_ERR_ARG);
    assert_int_equal(myr_jpeg_encode(&wide, 80, &bytes, &n_bytes), MYR_ERR_LIMIT);
    assert_null(bytes);
    assert_int_equal(n_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_can_be_read),
        cmocka_unit_test(large_pictures_grow_the_buffer),
        cmocka_unit_test(arguments_are_checked),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
