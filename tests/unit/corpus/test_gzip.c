/*
 * Gzip files read from any place, against the bytes they were made of by Python's gzip.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/rng.h"
#include "corpus/gzip.h"
#include "corpus/input.h"

#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGE ((uint64_t)300 << 20)
#define SMALL ((uint64_t)3 << 20)

static char place[64];

/* Byte i of the stream; make_sets.py has the same. */
static uint8_t wanted(uint64_t i)
{
    return (uint8_t)((i >> 6) * 2654435761u >> 11 & 0x3f);
}

static int make_files(void **state)
{
    (void)state;
    strcpy(place, "/tmp/myriops-gzip-XXXXXX");
    if (mkdtemp(place) == NULL || chdir(place) != 0)
        return -1;
    return system("/usr/bin/python3 -B " MYRIOPS_SOURCE_DIR "/tests/unit/corpus/make_sets.py gzip");
}

static int remove_files(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", place);
    return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

static bool holds(myr_gzip *gzip, uint64_t at, size_t n, uint64_t size)
{
    uint8_t *bytes = malloc(n + 1);
    size_t n_read, n_wanted = at >= size ? 0 : size - at < n ? (size_t)(size - at) : n;
    bool fine = bytes && myr_gzip_read(gzip, at, bytes, n, &n_read) == MYR_OK && n_read == n_wanted;
    for (size_t i = 0; fine && i < n_read; i++)
        fine = bytes[i] == wanted(at + i);
    free(bytes);
    return fine;
}

static void any_place_is_read(void **state)
{
    (void)state;
    myr_gzip *gzip;
    uint64_t reached;
    myr_rng rng;
    myr_rng_seed(&rng, 5);
    assert_int_equal(myr_gzip_open("large.gz", &gzip), MYR_OK);
    assert_true(holds(gzip, 0, 100, LARGE));
    assert_true(holds(gzip, (uint64_t)40 << 20, 70000, LARGE));   /* ahead */
    assert_true(holds(gzip, ((uint64_t)39 << 20) + 5, 5, LARGE)); /* in the ring */
    assert_true(holds(gzip, 3, 5, LARGE));                        /* from the beginning */
    assert_int_equal(myr_gzip_reach(gzip, UINT64_MAX, &reached), MYR_OK);
    assert_int_equal(reached, LARGE);
    assert_true(holds(gzip, LARGE - 3, 10, LARGE));
    assert_true(holds(gzip, LARGE, 10, LARGE));
    for (int i = 0; i < 60; i++) /* from points noted on the way, of which some were dropped */
        assert_true(holds(gzip, myr_rng_below(&rng, LARGE), 1 + (size_t)myr_rng_below(&rng, 200000), LARGE));
    assert_true(holds(gzip, (uint64_t)100 << 20, (size_t)33 << 20, LARGE)); /* more than the ring holds */
    myr_gzip_close(gzip);
}

/* A reader that goes forward in strides, as a thread among others does. */
static void *read_strides(void *context)
{
    myr_gzip *gzip;
    uint64_t first = *(const uint64_t *)context;
    if (myr_gzip_open("large.gz", &gzip) != MYR_OK)
        return "open";
    const char *wrong = NULL;
    for (uint64_t at = first * 100000; at < ((uint64_t)60 << 20) && !wrong; at += 400000)
        if (!holds(gzip, at, 100000, LARGE))
            wrong = "bytes";
    myr_gzip_close(gzip);
    return (void *)wrong;
}

static void threads_share_a_file(void **state)
{
    (void)state;
    pthread_t threads[4];
    uint64_t first[4] = {0, 1, 2, 3};
    myr_gzip *one, *other;
    assert_int_equal(myr_gzip_open("large.gz", &one), MYR_OK);
    assert_int_equal(myr_gzip_open("large.gz", &other), MYR_OK);
    assert_ptr_equal(one, other);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_strides, &first[i]), 0);
    for (int i = 0; i < 4; i++) {
        void *wrong;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    myr_gzip_close(one);
    myr_gzip_close(other);
}

static void kinds_of_files(void **state)
{
    (void)state;
    static const char *const names[] = {"one.gz", "members.gz", "named.gz", "garbage.gz", "zeros.gz"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        myr_gzip *gzip;
        uint64_t reached;
        assert_int_equal(myr_gzip_open(names[i], &gzip), MYR_OK);
        assert_int_equal(myr_gzip_reach(gzip, SMALL + 1, &reached), MYR_OK);
        assert_int_equal(reached, SMALL);
        assert_true(holds(gzip, 0, SMALL + 5, SMALL));
        assert_true(holds(gzip, 700000, 1000, SMALL));
        myr_gzip_close(gzip);
    }
    myr_input input;
    uint64_t reached;
    char bytes[4];
    assert_int_equal(myr_input_open("empty.gz", &input), MYR_OK);
    assert_int_equal(myr_input_reach(&input, 10, &reached), MYR_OK);
    assert_int_equal(reached, 0);
    assert_int_equal(myr_input_take(&input, 0, bytes, 1), MYR_ERR_FORMAT);
    myr_input_close(&input);
    assert_int_equal(myr_input_open("plain", &input), MYR_OK);
    assert_null(input.gzip);
    assert_int_equal(myr_input_take(&input, SMALL - 4, bytes, 4), MYR_OK);
    assert_int_equal(bytes[3], wanted(SMALL - 1));
    assert_int_equal(myr_input_take(&input, SMALL - 3, bytes, 4), MYR_ERR_FORMAT);
    myr_input_close(&input);
    assert_int_equal(myr_input_open("/", &input), MYR_ERR_ARG);
    myr_input_close(&input);
    assert_int_equal(myr_input_open("missing", &input), MYR_ERR_NOT_FOUND);
    myr_input_close(&input);
}

static void cut_files_end_early(void **state)
{
    (void)state;
    static const char *const names[] = {"cut-head.gz", "cut-middle.gz", "cut-trailer.gz"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        myr_gzip *gzip;
        uint64_t reached;
        assert_int_equal(myr_gzip_open(names[i], &gzip), MYR_OK);
        assert_int_equal(myr_gzip_reach(gzip, SMALL, &reached), MYR_OK);
        assert_true(i == 2 ? reached == SMALL : reached < SMALL);
        assert_true(holds(gzip, 0, SMALL, reached));
        myr_gzip_close(gzip);
    }
}

static void damage_is_found(void **state)
{
    (void)state;
    glob_t found;
    int n_damaged = 0;
    assert_int_equal(glob("flipped-*.gz", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        myr_gzip *gzip;
        uint64_t reached;
        assert_int_equal(myr_gzip_open(found.gl_pathv[i], &gzip), MYR_OK);
        myr_status status = myr_gzip_reach(gzip, UINT64_MAX, &reached);
        if (status != MYR_OK) {
            assert_int_equal(status, MYR_ERR_FORMAT);
            assert_non_null(strstr(myr_error_detail(), found.gl_pathv[i]));
            n_damaged++;
        }
        myr_gzip_close(gzip);
    }
    assert_true(n_damaged > (int)found.gl_pathc * 8 / 10); /* a few change nothing, or cut the end */
    globfree(&found);
    myr_gzip *gzip;
    uint64_t reached;
    assert_int_equal(myr_gzip_open("sum.gz", &gzip), MYR_OK);
    assert_int_equal(myr_gzip_reach(gzip, UINT64_MAX, &reached), MYR_ERR_FORMAT);
    assert_true(holds(gzip, 0, 1000, SMALL)); /* another place can still be read */
    myr_gzip_close(gzip);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_place_is_read),   cmocka_unit_test(threads_share_a_file), cmocka_unit_test(kinds_of_files),
        cmocka_unit_test(cut_files_end_early), cmocka_unit_test(damage_is_found),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
