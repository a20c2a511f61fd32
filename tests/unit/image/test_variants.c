/*
 * The resize of processors with AVX-512 against the plain one: the same levels, bit by bit, over random sizes, windows
 * and filters, and the same values for a network. Each picture ends where its memory ends, so that a sanitised build
 * sees a read behind it; what lies behind the result stays as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "image/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_PICTURES 3000
#define MAX_SIDE 90
#define SKIPPED 77
#define GUARD_BYTES 64
#define GUARD 0xa5

static myr_decoder *plain, *wide;

static int below(myr_rng *rng, int n)
{
    return (int)myr_rng_below(rng, (uint64_t)n);
}

/* Noise, or only the levels between which a cubic overshoots most. */
static uint8_t *make_levels(myr_rng *rng, size_t n)
{
    uint8_t *levels = malloc(n);
    bool extreme = below(rng, 2) == 0;
    assert_non_null(levels);
    for (size_t i = 0; i < n; i++) {
        uint8_t level = (uint8_t)myr_rng_next(rng);
        levels[i] = extreme ? (uint8_t)(level % 2 * 255) : level;
    }
    return levels;
}

static myr_window make_window(myr_rng *rng, int width, int height)
{
    myr_window window = {.x = below(rng, width), .y = below(rng, height)};
    window.width = 1 + below(rng, width - window.x);
    window.height = 1 + below(rng, height - window.y);
    return window;
}

static void compare(const myr_image *image, int width, int height, const myr_window *window, myr_filter filter)
{
    myr_room *ours = &wide->window, *theirs = &plain->window;
    size_t n_bytes = (size_t)window->width * (size_t)window->height * 3;
    uint8_t *room = myr_room_reserve(ours, n_bytes + GUARD_BYTES);
    assert_non_null(room);
    memset(room + n_bytes, GUARD, GUARD_BYTES);
    assert_int_equal(myr_resample(plain, image, width, height, window, filter, theirs), MYR_OK);
    assert_int_equal(myr_resample(wide, image, width, height, window, filter, ours), MYR_OK);
    assert_ptr_equal(ours->bytes, room);
    for (size_t i = 0; i < GUARD_BYTES; i++)
        assert_int_equal(room[n_bytes + i], GUARD);
    if (memcmp(ours->bytes, theirs->bytes, n_bytes) != 0)
        fail_msg("%d x %d to %d x %d, window %d x %d at (%d, %d), filter %d: other levels", image->width, image->height,
                 width, height, window->width, window->height, window->x, window->y, (int)filter);
}

static void random_sizes_give_the_same_levels(void **state)
{
    (void)state;
    myr_rng rng;
    myr_rng_seed(&rng, 3);
    for (int i = 0; i < N_PICTURES; i++) {
        /* Now and then much larger than what becomes of it. */
        int most = i % 20 == 0 ? 10 * MAX_SIDE : MAX_SIDE;
        myr_image image = {.width = 1 + below(&rng, most), .height = 1 + below(&rng, most)};
        int width = 1 + below(&rng, MAX_SIDE), height = 1 + below(&rng, MAX_SIDE);
        uint8_t *levels = make_levels(&rng, (size_t)image.width * (size_t)image.height * 3);
        const myr_window window = make_window(&rng, width, height);
        image.pixels = levels;
        compare(&image, width, height, &window, i % 2 ? MYR_FILTER_BICUBIC : MYR_FILTER_BILINEAR);
        free(levels);
    }
}

static void inputs_of_networks_are_the_same(void **state)
{
    (void)state;
    myr_rng rng;
    myr_rng_seed(&rng, 4);
    for (int i = 0; i < N_PICTURES / 3; i++) {
        myr_image image = {.width = 1 + below(&rng, 3 * MAX_SIDE), .height = 1 + below(&rng, 3 * MAX_SIDE)};
        uint8_t *levels = make_levels(&rng, (size_t)image.width * (size_t)image.height * 3);
        const myr_preprocess preprocess = {.width = 1 + below(&rng, MAX_SIDE),
                                           .height = 1 + below(&rng, MAX_SIDE),
                                           .rule = (myr_resize_rule)(i % 3),
                                           .resize_to = 1 + below(&rng, MAX_SIDE),
                                           .filter = i % 2 ? MYR_FILTER_BICUBIC : MYR_FILTER_BILINEAR,
                                           .mean = {123.675f, 116.28f, 103.53f},
                                           .std = {58.395f, 57.12f, -57.375f},
                                           .bgr = below(&rng, 2) == 0};
        size_t n_bytes = 3 * (size_t)preprocess.width * (size_t)preprocess.height * sizeof(float);
        float *ours = malloc(n_bytes), *theirs = malloc(n_bytes);
        assert_true(ours && theirs);
        memset(ours, 0xff, n_bytes); /* what is not written is not a number */
        image.pixels = levels;
        assert_int_equal(myr_decoder_prepare(plain, &image, &preprocess, theirs), MYR_OK);
        assert_int_equal(myr_decoder_prepare(wide, &image, &preprocess, ours), MYR_OK);
        if (memcmp(ours, theirs, n_bytes) != 0)
            fail_msg("%d x %d for %d x %d, rule %d: other values", image.width, image.height, preprocess.width,
                     preprocess.height, (int)preprocess.rule);
        free(ours);
        free(theirs);
        free(levels);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_sizes_give_the_same_levels),
                                       cmocka_unit_test(inputs_of_networks_are_the_same)};
    if (myr_decoder_create(NULL, &plain) != MYR_OK || myr_decoder_create(NULL, &wide) != MYR_OK)
        return 1;
    if (!wide->uses_avx512) {
        fprintf(stderr, "this processor has no AVX-512 VNNI: nothing to compare\n");
        return SKIPPED;
    }
    plain->uses_avx512 = false;
    int result = cmocka_run_group_tests(tests, NULL, NULL);
    myr_decoder_free(plain);
    myr_decoder_free(wide);
    return result;
}
