/*
 * Files written in pieces: whole or not at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/writer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_writer(void **state)
{
    char folder[] = "/tmp/myriops-writer-XXXXXX";
    myr_writer *writer;
    myr_buffer text = {0};
    (void)state;
    assert_non_null(mkdtemp(folder));
    char *path = myr_path_join(folder, "file"), *partial = myr_file_partial_name(path);

    assert_int_equal(myr_writer_create(path, &writer), MYR_OK);
    assert_int_equal(myr_writer_append(writer, "one ", 4), MYR_OK);
    assert_false(myr_path_exists(path));
    myr_writer_abandon(writer);
    assert_false(myr_path_exists(path));
    assert_false(myr_path_exists(partial));

    assert_int_equal(myr_writer_create(path, &writer), MYR_OK);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(myr_writer_append(writer, "0123456789", 10), MYR_OK);
    assert_int_equal(myr_writer_append(writer, NULL, 0), MYR_OK);
    assert_false(myr_path_exists(path));
    assert_int_equal(myr_writer_commit(writer), MYR_OK);
    assert_false(myr_path_exists(partial));
    assert_int_equal(myr_file_read(path, 1 << 20, &text), MYR_OK);
    assert_int_equal(text.size, 100000);
    assert_memory_equal(text.data + 99990, "0123456789", 10);

    unlink(path);
    rmdir(folder);
    assert_int_equal(myr_writer_create(path, &writer), MYR_ERR_IO);
    assert_null(writer);
    myr_writer_abandon(NULL);
    assert_int_equal(myr_writer_create("/dev/full.partial/none", &writer), MYR_ERR_IO);
    myr_buffer_free(&text);
    free(path);
    free(partial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_writer)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
