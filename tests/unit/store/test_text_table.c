/*
 * Text tables: random texts come back; offsets of every kind that lies are refused.
 */
#include "base/buffer.h"
#include "base/rng.h"
#include "myriops/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_TEXTS 2000

static char folder[] = "/tmp/myriops-texts-XXXXXX";
static char path[64];

static void random_texts_come_back(void **state)
{
    (void)state;
    static char *texts[N_TEXTS];
    myr_rng rng;
    myr_rng_seed(&rng, 11);
    for (size_t i = 0; i < N_TEXTS; i++) {
        size_t n = myr_rng_below(&rng, i == 7 ? 300000 : 60);
        texts[i] = malloc(n + 1);
        assert_non_null(texts[i]);
        for (size_t c = 0; c < n; c++)
            texts[i][c] = (char)(1 + myr_rng_below(&rng, 255)); /* any byte but NUL: no UTF-8 */
        texts[i][n] = 0;
    }
    myr_sections_writer *writer;
    myr_sections *file;
    myr_text_table table;
    assert_int_equal(myr_sections_create(path, &writer), MYR_OK);
    assert_int_equal(myr_text_table_add(writer, "key", (const char *const *)texts, N_TEXTS), MYR_OK);
    assert_int_equal(myr_text_table_add(writer, "none", NULL, 0), MYR_OK);
    assert_int_equal(myr_text_table_add(writer, "a_name_of_thirty_three_letters_xx", NULL, 0), MYR_ERR_ARG);
    assert_int_equal(myr_sections_commit(writer), MYR_OK);
    assert_int_equal(myr_sections_open(path, NULL, &file), MYR_OK);
    assert_int_equal(myr_text_table_open(file, "key", &table), MYR_OK);
    assert_int_equal(table.n, N_TEXTS);
    for (size_t i = 0; i < N_TEXTS; i++) {
        assert_string_equal(myr_text_table_get(&table, i), texts[i]);
        free(texts[i]);
    }
    assert_int_equal(myr_text_table_open(file, "none", &table), MYR_OK);
    assert_int_equal(table.n, 0);
    assert_int_equal(myr_text_table_open(file, "missing", &table), MYR_ERR_FORMAT);
    assert_non_null(strstr(myr_error_detail(), "missing"));
    myr_sections_close(file);
}

/* In a lazy file rows are checked as they are looked at, and all of them by check. */
static void assert_same_lazily(size_t n_bytes, myr_status whole)
{
    uint64_t checksum;
    myr_sections *file;
    myr_text_table table;
    const char *text;
    myr_sections_eager_bytes = 0;
    assert_int_equal(myr_sections_checksum(path, &checksum), MYR_OK);
    assert_int_equal(myr_sections_open(path, &checksum, &file), MYR_OK);
    if (myr_text_table_open(file, "key", &table) == MYR_OK) {
        for (size_t i = 0; i < table.n; i++)
            if (myr_text_table_look(&table, i, &text) == MYR_OK)
                assert_true(strlen(text) < n_bytes);
        assert_int_equal(myr_text_table_check(&table), whole);
    }
    myr_sections_close(file);
    myr_sections_eager_bytes = (size_t)16 << 20;
}

/* A file of two sections with right checksums, whatever they hold. */
static myr_status open_table(const uint64_t *offsets, size_t n_offsets, const void *bytes, size_t n_bytes)
{
    myr_sections_writer *writer;
    myr_sections *file;
    myr_text_table table;
    assert_int_equal(myr_sections_create(path, &writer), MYR_OK);
    assert_int_equal(myr_sections_add(writer, "key_offset", MYR_SECTION_U64, 1, &n_offsets, offsets), MYR_OK);
    assert_int_equal(myr_sections_add(writer, "key_bytes", MYR_SECTION_U8, 1, &n_bytes, bytes), MYR_OK);
    assert_int_equal(myr_sections_commit(writer), MYR_OK);
    assert_int_equal(myr_sections_open(path, NULL, &file), MYR_OK);
    myr_status status = myr_text_table_open(file, "key", &table);
    if (status == MYR_OK) { /* what is taken must be safe to use */
        size_t n_used = 0;
        for (size_t i = 0; i < table.n; i++)
            n_used += strlen(myr_text_table_get(&table, i)) + 1;
        assert_true(n_used <= n_bytes);
    } else {
        assert_true(table.n == 0 && !table.offset && !table.bytes);
    }
    myr_sections_close(file);
    assert_same_lazily(n_bytes, status);
    return status;
}

static void lies_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *why;
        size_t n_offsets, n_bytes;
        uint64_t offsets[4];
        const char *bytes;
        myr_status status;
    } cases[] = {
        {"sound", 3, 4, {0, 2, 4}, "a\0b", MYR_OK},
        {"no offsets at all", 0, 0, {0}, "", MYR_ERR_FORMAT},
        {"bytes of nobody", 1, 4, {0}, "a\0b", MYR_ERR_FORMAT},
        {"a first offset past 0", 2, 4, {2, 4}, "a\0b", MYR_ERR_FORMAT},
        {"a last offset before the end", 3, 4, {0, 2, 3}, "a\0b", MYR_ERR_FORMAT},
        {"a last offset past the end", 3, 4, {0, 2, 5}, "a\0b", MYR_ERR_FORMAT},
        {"descending", 4, 4, {0, 4, 2, 4}, "a\0b", MYR_ERR_FORMAT},
        {"a text of no bytes", 4, 4, {0, 2, 2, 4}, "a\0b", MYR_ERR_FORMAT},
        {"an offset far outside", 4, 4, {0, UINT64_MAX, 2, 4}, "a\0b", MYR_ERR_FORMAT},
        {"a text without its NUL", 3, 4, {0, 1, 4}, "ab\0", MYR_ERR_FORMAT},
        {"a last text without its NUL", 3, 4, {0, 2, 4}, "a\0bc", MYR_ERR_FORMAT},
        {"texts, but no bytes", 3, 0, {0, 2, 4}, "", MYR_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        myr_status status = open_table(cases[i].offsets, cases[i].n_offsets, cases[i].bytes, cases[i].n_bytes);
        if (status != cases[i].status)
            fail_msg("%s: status %d", cases[i].why, (int)status);
    }
}

static void random_offsets_are_refused_or_safe(void **state)
{
    (void)state;
    static const char bytes[16] = "ab\0c\0\0def\0gh\0i\0";
    size_t n_taken = 0;
    myr_rng rng;
    myr_rng_seed(&rng, 5);
    for (int round = 0; round < 300; round++) {
        uint64_t offsets[5] = {0, 0, 0, 0, sizeof bytes};
        for (int i = 1; i < 4; i++)
            offsets[i] = myr_rng_below(&rng, 18);
        n_taken += open_table(offsets, 5, bytes, sizeof bytes) == MYR_OK;
    }
    assert_true(n_taken < 300);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/table.h5", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_texts_come_back),
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(random_offsets_are_refused_or_safe),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
