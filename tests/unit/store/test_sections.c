/*
 * Sections: what is written comes back, the same content is the same bytes, and no damage is taken for data.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "myriops/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATH "sections.h5"
#define OTHER "other.h5"

static char place[64];
static const uint32_t links[6] = {1, 2, 3, 4, 5, 4000000000u};
static const float vectors[4] = {0.5f, -1, 3e30f, 0};

static int set_up(void **state)
{
    (void)state;
    strcpy(place, "/tmp/myriops-store-XXXXXX");
    return mkdtemp(place) && chdir(place) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", place);
    return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

static void write_file(const char *path)
{
    myr_sections_writer *writer = NULL;
    assert_int_equal(myr_sections_create(path, &writer), MYR_OK);
    assert_int_equal(myr_sections_add(writer, "links", MYR_SECTION_U32, 2, (size_t[]){2, 3}, links), MYR_OK);
    assert_int_equal(myr_sections_add(writer, "vectors", MYR_SECTION_F32, 1, (size_t[]){4}, vectors), MYR_OK);
    assert_int_equal(myr_sections_add(writer, "none", MYR_SECTION_U8, 1, (size_t[]){0}, NULL), MYR_OK);
    assert_int_equal(myr_sections_set_text(writer, "metric", "cosine"), MYR_OK);
    assert_int_equal(myr_sections_set_i64(writer, "seed", -7), MYR_OK);
    assert_false(myr_path_exists(path));
    assert_int_equal(myr_sections_commit(writer), MYR_OK);
    assert_true(myr_path_exists(path));
}

/* Everything equal to what was written, or an error; true when it was equal. */
static bool read_file(const char *path)
{
    myr_sections *file = NULL;
    size_t dims[2];
    const void *data;
    const char *metric;
    int64_t seed;
    if (myr_sections_open(path, NULL, &file) != MYR_OK)
        return false;
    bool fine = myr_sections_get(file, "links", MYR_SECTION_U32, 2, dims, &data) == MYR_OK;
    if (fine) {
        assert_true(dims[0] == 2 && dims[1] == 3 && (uintptr_t)data % 4096 == 0);
        assert_memory_equal(data, links, sizeof links);
    }
    bool got = myr_sections_get(file, "vectors", MYR_SECTION_F32, 1, dims, &data) == MYR_OK;
    if (got)
        assert_memory_equal(data, vectors, sizeof vectors);
    fine = fine && got;
    got = myr_sections_get(file, "none", MYR_SECTION_U8, 1, dims, &data) == MYR_OK;
    if (got)
        assert_int_equal(dims[0], 0);
    fine = fine && got;
    got = myr_sections_get_text(file, "metric", &metric) == MYR_OK;
    if (got)
        assert_string_equal(metric, "cosine");
    fine = fine && got;
    got = myr_sections_get_i64(file, "seed", &seed) == MYR_OK;
    if (got)
        assert_int_equal(seed, -7);
    myr_sections_close(file);
    return fine && got;
}

static void what_is_written_comes_back(void **state)
{
    (void)state;
    write_file(PATH);
    assert_true(read_file(PATH));
    myr_sections *file = NULL;
    size_t dims[2];
    const void *data;
    assert_int_equal(myr_sections_open(PATH, NULL, &file), MYR_OK);
    assert_int_equal(myr_sections_get(file, "links", MYR_SECTION_I32, 2, dims, &data), MYR_ERR_FORMAT);
    assert_int_equal(myr_sections_get(file, "absent", MYR_SECTION_U32, 2, dims, &data), MYR_ERR_FORMAT);
    assert_non_null(strstr(myr_error_detail(), "absent"));
    myr_sections_close(file);
    assert_int_equal(myr_sections_open("missing.h5", NULL, &file), MYR_ERR_NOT_FOUND);
}

static void equal_content_is_equal_bytes(void **state)
{
    (void)state;
    uint64_t a = 0, b = 1;
    write_file(PATH);
    sleep(1); /* a time stamp inside would show */
    write_file(OTHER);
    assert_int_equal(myr_file_checksum(PATH, &a), MYR_OK);
    assert_int_equal(myr_file_checksum(OTHER, &b), MYR_OK);
    assert_true(a == b);
}

static void an_abandoned_file_leaves_the_old_one(void **state)
{
    (void)state;
    write_file(PATH);
    myr_sections_writer *writer = NULL;
    assert_int_equal(myr_sections_create(PATH, &writer), MYR_OK);
    assert_int_equal(myr_sections_add(writer, "links", MYR_SECTION_U32, 1, (size_t[]){1}, links), MYR_OK);
    myr_sections_abandon(writer);
    assert_true(read_file(PATH));
    assert_false(myr_path_exists(PATH ".partial"));
    assert_int_equal(myr_sections_create("no/such/folder.h5", &writer), MYR_ERR_IO);
}

static void damage_is_never_data(void **state)
{
    (void)state;
    myr_buffer whole = {0};
    write_file(PATH);
    assert_int_equal(myr_file_read(PATH, SIZE_MAX / 2, &whole), MYR_OK);
    size_t n_found = 0;
    uint64_t sound = 0;
    myr_sections *file;
    assert_int_equal(myr_sections_checksum(PATH, &sound), MYR_OK);
    for (size_t i = 0; i < whole.size; i += i < 4096 ? 1 : 7) { /* the head holds most of the structure */
        whole.data[i] ^= 0x21;
        assert_int_equal(myr_file_replace(OTHER, whole.data, whole.size), MYR_OK);
        n_found += !read_file(OTHER);
        assert_int_equal(myr_sections_open(OTHER, &sound, &file), MYR_ERR_FORMAT);
        assert_null(file);
        whole.data[i] ^= 0x21;
    }
    assert_true(n_found > 100);
    for (size_t cut = 0; cut < whole.size; cut += 61) {
        assert_int_equal(myr_file_replace(OTHER, whole.data, cut), MYR_OK);
        assert_false(read_file(OTHER));
    }
    myr_buffer_free(&whole);
}

/* ---- large files ---- */

enum { N_LARGE = 40000 };

/* Two sections of 10 blocks each. */
static uint64_t write_large(void)
{
    static uint32_t values[N_LARGE];
    uint64_t checksum = 0;
    myr_sections_writer *writer = NULL;
    for (uint32_t i = 0; i < N_LARGE; i++)
        values[i] = i * 2654435761u;
    assert_int_equal(myr_sections_create(PATH, &writer), MYR_OK);
    assert_int_equal(myr_sections_add(writer, "one", MYR_SECTION_U32, 1, (size_t[]){N_LARGE}, values), MYR_OK);
    assert_int_equal(myr_sections_add(writer, "two", MYR_SECTION_U32, 1, (size_t[]){N_LARGE}, values), MYR_OK);
    assert_int_equal(myr_sections_set_i64(writer, "seed", -7), MYR_OK);
    assert_int_equal(myr_sections_set_text(writer, "metric", "ip"), MYR_OK);
    assert_int_equal(myr_sections_commit(writer), MYR_OK);
    assert_int_equal(myr_sections_checksum(PATH, &checksum), MYR_OK);
    return checksum;
}

static const uint32_t *get_large(const myr_sections *file, const char *name)
{
    size_t n;
    const void *data;
    assert_int_equal(myr_sections_get(file, name, MYR_SECTION_U32, 1, &n, &data), MYR_OK);
    assert_int_equal(n, N_LARGE);
    return data;
}

/* A byte of a file replaced; SIZE_MAX: none. */
static void copy_damaged(const myr_buffer *whole, size_t at)
{
    if (at != SIZE_MAX)
        whole->data[at] ^= 0x21;
    assert_int_equal(myr_file_replace(OTHER, whole->data, whole->size), MYR_OK);
    if (at != SIZE_MAX)
        whole->data[at] ^= 0x21;
}

static void large_files_are_checked_where_they_are_touched(void **state)
{
    (void)state;
    uint64_t checksum = write_large();
    myr_buffer whole = {0};
    myr_sections *file;
    const char *text;
    int64_t seed;
    myr_sections_eager_bytes = 0;
    assert_int_equal(myr_file_read(PATH, SIZE_MAX / 2, &whole), MYR_OK);
    assert_int_equal(myr_sections_open(PATH, &checksum, &file), MYR_OK);
    assert_true(myr_sections_is_lazy(file));
    assert_int_equal(myr_sections_get_i64(file, "seed", &seed), MYR_OK);
    assert_int_equal(myr_sections_get_text(file, "metric", &text), MYR_OK);
    assert_true(seed == -7 && strcmp(text, "ip") == 0);
    const uint32_t *two = get_large(file, "two");
    size_t n_bytes, at = (size_t)((const char *)(two + 20000) - (const char *)myr_sections_bytes(file, &n_bytes));
    assert_int_equal(myr_sections_touch(file, two, N_LARGE * sizeof *two), MYR_OK);
    myr_sections_close(file);

    copy_damaged(&whole, at);
    assert_int_equal(myr_sections_open(OTHER, &checksum, &file), MYR_OK);
    two = get_large(file, "two");
    assert_int_equal(myr_sections_touch(file, get_large(file, "one"), N_LARGE * sizeof *two), MYR_OK);
    assert_int_equal(myr_sections_touch(file, two, sizeof *two), MYR_OK);
    for (int turn = 0; turn < 2; turn++) { /* a wrong block stays wrong */
        assert_int_equal(myr_sections_touch(file, two + 20000, sizeof *two), MYR_ERR_FORMAT);
        assert_non_null(strstr(myr_error_detail(), "two: bytes "));
    }
    assert_int_equal(myr_sections_touch(file, two, N_LARGE * sizeof *two), MYR_ERR_FORMAT);
    myr_sections_close(file);

    for (size_t i = n_bytes; i < whole.size; i++) { /* the trailer: nothing of it is taken on trust */
        copy_damaged(&whole, i);
        assert_int_equal(myr_sections_open(OTHER, &checksum, &file), MYR_ERR_FORMAT);
    }
    for (size_t cut = whole.size - 1; cut > whole.size - 400; cut--) {
        assert_int_equal(myr_file_replace(OTHER, whole.data, cut), MYR_OK);
        assert_int_equal(myr_sections_open(OTHER, &checksum, &file), MYR_ERR_FORMAT);
    }
    checksum ^= 1;
    assert_int_equal(myr_sections_open(PATH, &checksum, &file), MYR_ERR_FORMAT);
    myr_buffer_free(&whole);
    myr_sections_eager_bytes = (size_t)16 << 20;
}

/* Files of earlier versions: no trailer, schema 1, and the checksum is that of all bytes. */
static void files_without_blocks_are_checked_whole(void **state)
{
    (void)state;
    uint64_t checksum = write_large();
    myr_buffer whole = {0};
    myr_sections *file;
    size_t n_bytes;
    assert_int_equal(myr_sections_open(PATH, &checksum, &file), MYR_OK);
    myr_sections_bytes(file, &n_bytes);
    myr_sections_close(file);
    assert_int_equal(myr_file_read(PATH, SIZE_MAX / 2, &whole), MYR_OK);
    assert_int_equal(myr_file_replace(OTHER, whole.data, n_bytes), MYR_OK);
    assert_int_equal(myr_sections_checksum(OTHER, &checksum), MYR_OK);
    assert_int_equal(myr_sections_open(OTHER, &checksum, &file), MYR_ERR_FORMAT); /* the trailer was cut off */
    assert_int_equal(
        system("/usr/bin/python3 -c \"import h5py; h5py.File('" OTHER "', 'r+').attrs.modify('schema_version', 1)\""),
        0);
    assert_int_equal(myr_sections_checksum(OTHER, &checksum), MYR_OK);
    assert_int_equal(myr_file_read(OTHER, SIZE_MAX / 2, &whole), MYR_OK);
    assert_int_equal(myr_sections_checksum(OTHER, &checksum), MYR_OK);
    assert_int_equal(myr_sections_open(OTHER, &checksum, &file), MYR_OK);
    assert_false(myr_sections_is_lazy(file));
    assert_int_equal(get_large(file, "one")[3], (uint32_t)(3 * 2654435761u));
    myr_sections_close(file);
    for (size_t i = 0; i < whole.size; i += 4001) {
        copy_damaged(&whole, i);
        assert_int_equal(myr_sections_open(OTHER, &checksum, &file), MYR_ERR_FORMAT);
    }
    myr_buffer_free(&whole);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The best of five, of a file of so many MiB. */
static double time_to_open(size_t n_mib)
{
    size_t n = n_mib << 20;
    uint64_t checksum;
    double best = 1e9;
    uint8_t *zeros = calloc(n, 1);
    myr_sections_writer *writer;
    assert_non_null(zeros);
    assert_int_equal(myr_sections_create(PATH, &writer), MYR_OK);
    assert_int_equal(myr_sections_add(writer, "zeros", MYR_SECTION_U8, 1, &n, zeros), MYR_OK);
    assert_int_equal(myr_sections_commit(writer), MYR_OK);
    assert_int_equal(myr_sections_checksum(PATH, &checksum), MYR_OK);
    for (int turn = 0; turn < 5; turn++) {
        myr_sections *file;
        const void *data;
        double begun = seconds();
        assert_int_equal(myr_sections_open(PATH, &checksum, &file), MYR_OK);
        assert_int_equal(myr_sections_get(file, "zeros", MYR_SECTION_U8, 1, &n, &data), MYR_OK);
        assert_int_equal(myr_sections_touch(file, (const char *)data + n / 2, 1), MYR_OK);
        best = seconds() - begun < best ? seconds() - begun : best;
        myr_sections_close(file);
    }
    free(zeros);
    return best;
}

/* The table of 10 GiB has 5 MiB; 256 MiB take a fortieth of its time. */
static void a_large_file_opens_at_once(void **state)
{
    (void)state;
    double took = time_to_open(256);
    print_message("256 MiB opened in %.3f ms\n", 1e3 * took);
    assert_true(took < 0.05 / 40 * 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(equal_content_is_equal_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_abandoned_file_leaves_the_old_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_never_data, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_files_are_checked_where_they_are_touched, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_large_file_opens_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_without_blocks_are_checked_whole, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
