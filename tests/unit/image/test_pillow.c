/*
 * Parity with Pillow: pillow_oracle.py makes pictures of every kind and says what Pillow makes of them;
 * ours may differ by one level in one value of a thousand. Where the shared photographs are there, they are
 * compared as well. The fraction of identical values is printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/file.h"
#include "myriops/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ORACLE "/usr/bin/python3 " MYRIOPS_SOURCE_DIR "/tests/unit/image/pillow_oracle.py "
#define PHOTOS MYRIOPS_SOURCE_DIR "/../shared/data/photos"
#define MAX_FILE ((size_t)1 << 30)

static char place[64];

/* One line of the manifest. */
typedef struct comparison {
    char action[16], file[64], reference[64], filter[16], rule[16];
    int width, height, resize_to;
} comparison;

typedef struct tally {
    size_t n_comparisons, n_values, n_different;
} tally;

static bool read_line(FILE *manifest, comparison *line)
{
    char text[512];
    *line = (comparison){0};
    if (fgets(text, sizeof text, manifest) == NULL)
        return false;
    int n = sscanf(text, "%15s %63s %63s %d %d %15s %15s %d", line->action, line->file, line->reference, &line->width,
                   &line->height, line->filter, line->rule, &line->resize_to);
    assert_true(n >= 5);
    return true;
}

static void read_whole(const char *name, myr_buffer *buffer)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", place, name);
    assert_int_equal(myr_file_read(path, MAX_FILE, buffer), MYR_OK);
}

static myr_filter filter_of(const comparison *line)
{
    return strcmp(line->filter, "bilinear") == 0 ? MYR_FILTER_BILINEAR : MYR_FILTER_BICUBIC;
}

static myr_resize_rule rule_of(const comparison *line)
{
    if (strcmp(line->rule, "shorter") == 0)
        return MYR_RESIZE_SHORTER;
    return strcmp(line->rule, "longer") == 0 ? MYR_RESIZE_LONGER : MYR_RESIZE_STRETCH;
}

/* The network's input with mean 0 and std 1: the levels themselves, brought back to rows of pixels. */
static void prepare_levels(myr_decoder *decoder, const myr_image *image, const comparison *line, uint8_t *levels)
{
    const myr_preprocess preprocess = {.width = line->width,
                                       .height = line->height,
                                       .rule = rule_of(line),
                                       .resize_to = line->resize_to,
                                       .filter = filter_of(line),
                                       .std = {1, 1, 1}};
    size_t n = (size_t)line->width * (size_t)line->height;
    float *planes = myr_alloc(3 * n, sizeof *planes);
    assert_non_null(planes);
    assert_int_equal(myr_decoder_prepare(decoder, image, &preprocess, planes), MYR_OK);
    for (size_t i = 0; i < 3 * n; i++)
        levels[i] = (uint8_t)planes[i % 3 * n + i / 3];
    free(planes);
}

static void compare_levels(const comparison *line, const uint8_t *ours, const myr_buffer *theirs, tally *sum)
{
    size_t n = (size_t)line->width * (size_t)line->height * 3, n_different = 0;
    assert_int_equal(theirs->size, n);
    for (size_t i = 0; i < n; i++) {
        int difference = abs((int)ours[i] - (int)(uint8_t)theirs->data[i]);
        n_different += difference != 0;
        if (difference > 1)
            fail_msg("%s %s %dx%d %s %s: value %zu is %d, Pillow has %d", line->action, line->file, line->width,
                     line->height, line->filter, line->rule, i, ours[i], (uint8_t)theirs->data[i]);
    }
    if (n_different > 0)
        print_message("%s %s %dx%d %s %s: %zu of %zu values differ by one\n", line->action, line->file, line->width,
                      line->height, line->filter, line->rule, n_different, n);
    assert_true(n_different * 1000 <= n);
    sum->n_comparisons++;
    sum->n_values += n;
    sum->n_different += n_different;
}

static void compare(myr_decoder *decoder, const comparison *line, tally *sum)
{
    myr_buffer file = {0}, reference = {0};
    myr_image decoded, result;
    uint8_t *levels = NULL;
    read_whole(line->file, &file);
    read_whole(line->reference, &reference);
    if (myr_decoder_decode(decoder, file.data, file.size, &decoded) != MYR_OK)
        fail_msg("%s: %s", line->file, myr_error_detail());
    result = decoded;
    if (strcmp(line->action, "resize") == 0)
        assert_int_equal(myr_decoder_resize(decoder, &decoded, line->width, line->height, filter_of(line), &result),
                         MYR_OK);
    if (strcmp(line->action, "prepare") == 0) {
        levels = myr_alloc((size_t)line->width * (size_t)line->height, 3);
        assert_non_null(levels);
        prepare_levels(decoder, &decoded, line, levels);
        result = (myr_image){line->width, line->height, levels};
    }
    if (result.width != line->width || result.height != line->height)
        fail_msg("%s is %d x %d, Pillow has %d x %d", line->file, result.width, result.height, line->width,
                 line->height);
    compare_levels(line, result.pixels, &reference, sum);
    free(levels);
    myr_buffer_free(&file);
    myr_buffer_free(&reference);
}

static void pillow_agrees(void **state)
{
    (void)state;
    char path[160];
    comparison line;
    tally sum = {0};
    myr_decoder *decoder = NULL;
    snprintf(path, sizeof path, "%s/manifest.txt", place);
    FILE *manifest = fopen(path, "r");
    assert_non_null(manifest);
    assert_int_equal(myr_decoder_create(NULL, &decoder), MYR_OK);
    while (read_line(manifest, &line))
        compare(decoder, &line, &sum);
    fclose(manifest);
    myr_decoder_free(decoder);
    assert_true(sum.n_comparisons > 100);
    print_message("%zu comparisons, %zu values, %.6f %% identical\n", sum.n_comparisons, sum.n_values,
                  100.0 * (double)(sum.n_values - sum.n_different) / (double)sum.n_values);
}

static int set_up(void **state)
{
    (void)state;
    char command[512];
    strcpy(place, "/tmp/myriops-image-XXXXXX");
    if (mkdtemp(place) == NULL)
        return -1;
    bool has_photos = myr_path_is_folder(PHOTOS);
    if (!has_photos)
        print_message("no photographs at %s: generated pictures only\n", PHOTOS);
    snprintf(command, sizeof command, ORACLE "%s %s", place, has_photos ? PHOTOS : "");
    return system(command) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", place);
    return system(command) == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pillow_agrees)};
    if (access("/usr/bin/python3", X_OK) != 0) {
        puts("skipped: no /usr/bin/python3");
        return 77;
    }
    int status = system(ORACLE "--check");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        return 77;
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
