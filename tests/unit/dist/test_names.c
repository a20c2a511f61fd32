/*
 * Lines of keys, sources and labels: any row range reads as the whole does, and what is written comes back.
 */
#include "base/file.h"
#include "base/rng.h"
#include "dist/names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/myriops-names-XXXXXX";

static void write_lines(const char *text, size_t n)
{
    assert_int_equal(myr_file_replace(path, text, n), MYR_OK);
}

static void expect(myr_names *names, myr_names_column column, int64_t row, const char *wanted)
{
    char *text = NULL;
    assert_int_equal(myr_names_read(names, column, row, 1, &text), MYR_OK);
    assert_string_equal(text, wanted);
    free(text);
}

static void any_range_of_many_rows(void **state)
{
    (void)state;
    enum { N = 5000 };
    static char *keys[N], *read[N];
    myr_buffer out = {0};
    myr_rng rng;
    myr_rng_seed(&rng, 5);
    myr_buffer_puts(&out, "source\tkey\n");
    for (int i = 0; i < N; i++) {
        char key[32];
        size_t n = 1 + myr_rng_below(&rng, 12);
        for (size_t c = 0; c < n; c++)
            key[c] = "\\\t\n\rabntr%\xff"[myr_rng_below(&rng, 11)];
        snprintf(key + n, sizeof key - n, "%d", i);
        keys[i] = strdup(key);
        myr_buffer_puts(&out, "s\t");
        myr_names_escape(&out, key);
        myr_buffer_puts(&out, i + 1 < N ? "\n" : "");
    }
    write_lines(out.data, out.size);
    myr_buffer_free(&out);
    myr_names names;
    assert_int_equal(myr_names_open(path, MYR_NAMES_KEY, &names), MYR_OK);
    assert_true(names.has_header && names.n == N && names.field[MYR_NAMES_LABEL] == -1);
    static const int64_t starts[][2] = {{0, N}, {0, 0}, {1023, 2}, {1024, 1024}, {4999, 1}, {77, 3000}};
    for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
        int64_t first = starts[s][0], n = starts[s][1];
        assert_int_equal(myr_names_read(&names, MYR_NAMES_KEY, first, n, read), MYR_OK);
        for (int64_t i = 0; i < n; i++) {
            assert_string_equal(read[i], keys[first + i]);
            free(read[i]);
        }
    }
    expect(&names, MYR_NAMES_LABEL, 9, "");
    expect(&names, MYR_NAMES_SOURCE, 9, "s");
    for (int parts = 1; parts <= 3; parts++)
        for (int part = 0; part < parts; part++)
            assert_int_equal(myr_names_check_keys(&names, part, parts), MYR_OK);
    myr_names_close(&names);
    for (int i = 0; i < N; i++)
        free(keys[i]);
}

static void plain_lines_stay_as_they_are(void **state)
{
    (void)state;
    static const char text[] = "a\\tb\tc\r\n\nlast";
    myr_names names;
    write_lines(text, sizeof text - 1);
    assert_int_equal(myr_names_open(path, MYR_NAMES_KEY, &names), MYR_OK);
    assert_true(!names.has_header && names.n == 3);
    expect(&names, MYR_NAMES_KEY, 0, "a\\tb\tc");
    expect(&names, MYR_NAMES_KEY, 2, "last");
    assert_int_equal(myr_names_check_keys(&names, 0, 1), MYR_ERR_FORMAT);
    assert_non_null(strstr(myr_error_detail(), "row 1 has an empty key"));
    myr_names_close(&names);
    write_lines("", 0);
    assert_int_equal(myr_names_open(path, MYR_NAMES_KEY, &names), MYR_ERR_FORMAT);
}

static void a_key_met_twice_is_found_by_one_part(void **state)
{
    (void)state;
    static const char text[] = "one\ntwo\nthree\ntwo\n";
    myr_names names;
    int n_found = 0;
    write_lines(text, sizeof text - 1);
    assert_int_equal(myr_names_open(path, MYR_NAMES_KEY, &names), MYR_OK);
    for (int part = 0; part < 3; part++)
        n_found += myr_names_check_keys(&names, part, 3) == MYR_ERR_FORMAT;
    assert_int_equal(n_found, 1);
    assert_non_null(strstr(myr_error_detail(), "rows 1 and 3 have the same key 'two'"));
    myr_names_close(&names);
}

static void labels_are_numbers_or_names(void **state)
{
    (void)state;
    myr_names names;
    char **classes;
    size_t n;
    static const char numbers[] = "7\n\n-1\n2147483647\n", mixed[] = "7\nzebra\n\nape\n7\nape\n";
    write_lines(numbers, sizeof numbers - 1);
    assert_int_equal(myr_names_open(path, MYR_NAMES_LABEL, &names), MYR_OK);
    assert_int_equal(myr_names_classes(&names, &classes, &n), MYR_OK);
    assert_true(n == 0 && classes == NULL);
    assert_int_equal(myr_names_label("7", NULL, 0), 7);
    assert_int_equal(myr_names_label("", NULL, 0), -1);
    assert_int_equal(myr_names_label("2147483648", NULL, 0), -1);
    myr_names_close(&names);
    write_lines(mixed, sizeof mixed - 1);
    assert_int_equal(myr_names_open(path, MYR_NAMES_LABEL, &names), MYR_OK);
    assert_int_equal(myr_names_classes(&names, &classes, &n), MYR_OK);
    assert_int_equal(n, 3);
    assert_string_equal(classes[0], "7");
    assert_string_equal(classes[2], "zebra");
    assert_int_equal(myr_names_label("ape", classes, n), 1);
    assert_int_equal(myr_names_label("", classes, n), -1);
    for (size_t i = 0; i < n; i++)
        free(classes[i]);
    free(classes);
    myr_names_close(&names);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_range_of_many_rows),
        cmocka_unit_test(plain_lines_stay_as_they_are),
        cmocka_unit_test(a_key_met_twice_is_found_by_one_part),
        cmocka_unit_test(labels_are_numbers_or_names),
    };
    int file = mkstemp(path);
    if (file < 0)
        return 1;
    close(file);
    return cmocka_run_group_tests(tests, NULL, remove_file);
}
