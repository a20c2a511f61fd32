/*
 * Parquet's bytes against the specification by hand, and the files whose rows come later. What other programs read of
 * them is tested in tests/cli/test_export.py.
 */
#include "base/buffer.h"
#include "base/file.h"
#include "myriops/vectors.h"
#include "store/hdf5_rows.h"
#include "store/layout.h"
#include "store/parquet.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/myriops-parquet-XXXXXX";

static const char *path_of(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* Three rows of one column, every byte as the specification has it. */
static void a_small_table_byte_by_byte(void **state)
{
    (void)state;
    static const char *const texts[] = {"ab", NULL, "\xff"};
    static const uint8_t page[] = {
        0x15, 0x00,                               /* 1: type, data page */
        0x15, 0x2e, 0x15, 0x2e,                   /* 2, 3: 23 bytes */
        0x2c, 0x15, 0x06, 0x15, 0x00, 0x15, 0x06, /* 5: {1: 3 values, 2: PLAIN, 3: RLE, */
        0x15, 0x06, 0x00, 0x00,                   /* 4: RLE} */
        6,    0,    0,    0,                      /* levels: six bytes, */
        0x02, 1,    0x02, 0,    0x02, 1,          /* there, not there, there */
        2,    0,    0,    0,    'a',  'b',        /* */
        3,    0,    0,    0,    '%',  'F',  'F',  /* what is no UTF-8 */
    };
    static const uint8_t footer[] = {
        0x15, 0x02,                                                 /* 1: version 1 */
        0x19, 0x2c,                                                 /* 2: two elements */
        0x35, 0x00, 0x18, 6,    's',  'c',  'h',  'e',  'm',  'a',  /* root: required, its name, */
        0x15, 0x02, 0x00,                                           /* one child */
        0x15, 0x0c, 0x25, 0x02, 0x18, 1,    'k',  0x25, 0x00,       /* BYTE_ARRAY, optional, "k", UTF8, */
        0x4c, 0x1c, 0x00, 0x00, 0x00,                               /* STRING */
        0x16, 0x06,                                                 /* 3: three rows */
        0x19, 0x1c, 0x19, 0x1c,                                     /* 4: one group, of one column: */
        0x26, 0x08, 0x1c,                                           /* from byte 4; */
        0x15, 0x0c, 0x19, 0x25, 0x00, 0x06,                         /* type, encodings, */
        0x19, 0x18, 1,    'k',  0x15, 0x00, 0x16, 0x06,             /* path, not compressed, three values, */
        0x16, 0x50, 0x16, 0x50, 0x26, 0x08, 0x00, 0x00,             /* 40 bytes, from byte 4 */
        0x16, 0x50, 0x16, 0x06, 0x00,                               /* of the group: bytes, rows */
        0x28, 7,    'm',  'y',  'r',  'i',  'o',  'p',  's',  0x00, /* 6: by whom */
    };
    const myr_parquet_column column = {.name = "k", .texts = texts};
    myr_buffer bytes = {0};
    assert_int_equal(myr_parquet_write(path_of("small.parquet"), &column, 1, 3), MYR_OK);
    assert_int_equal(myr_file_read(path_of("small.parquet"), 1 << 20, &bytes), MYR_OK);
    assert_int_equal(bytes.size, 4 + sizeof page + sizeof footer + 8);
    const uint8_t *at = (const uint8_t *)bytes.data;
    assert_memory_equal(at, "PAR1", 4);
    assert_memory_equal(at + 4, page, sizeof page);
    assert_memory_equal(at + 4 + sizeof page, footer, sizeof footer);
    assert_int_equal(at[bytes.size - 8], sizeof footer);
    assert_memory_equal(at + bytes.size - 4, "PAR1", 4);
    myr_buffer_free(&bytes);
}

static void an_empty_table_and_no_folder(void **state)
{
    (void)state;
    const int32_t numbers[2] = {1, -1};
    const myr_parquet_column column = {.name = "label", .numbers = numbers};
    assert_int_equal(myr_parquet_write(path_of("empty.parquet"), &column, 1, 0), MYR_OK);
    assert_int_equal(myr_parquet_write(path_of("none/x.parquet"), &column, 1, 2), MYR_ERR_NOT_FOUND);
    assert_non_null(strstr(myr_error_detail(), "none/x.parquet"));
}

/* Headers of files too long to be written: sparse, and whole in size. */
static void headers_of_long_files(void **state)
{
    (void)state;
    struct stat facts;
    myr_layout layout;
    char start[129] = {0};
    const uint64_t n = 3000000000;
    assert_int_equal(myr_layout_npy(path_of("long.npy"), n, 3, MYR_STORAGE_F16, &layout), MYR_OK);
    assert_int_equal(stat(path_of("long.npy"), &facts), 0);
    assert_int_equal(facts.st_size, 128 + n * 6);
    int file = open(path_of("long.npy"), O_RDWR);
    assert_int_equal(pread(file, start, 128, 0), 128);
    assert_memory_equal(
        start, "\x93NUMPY\x01\x00\x76\x00{'descr': '<f2', 'fortran_order': False, 'shape': (3000000000, 3), }", 76);
    assert_int_equal(start[127], '\n');
    const uint16_t last[3] = {1, 2, 3};
    assert_int_equal(myr_layout_put(file, "long.npy", last, sizeof last, layout.rows + (n - 1) * 6), MYR_OK);
    close(file);
    myr_vectors read;
    assert_int_equal(myr_vectors_read(path_of("long.npy"), NULL, &read), MYR_OK);
    assert_int_equal(read.n, n);
    assert_memory_equal(read.rows + (n - 1) * read.row_bytes, last, sizeof last);
    myr_vectors_clear(&read);
    assert_int_equal(myr_layout_fbin(path_of("long.fbin"), UINT32_MAX, 2, &layout), MYR_OK);
    assert_int_equal(stat(path_of("long.fbin"), &facts), 0);
    assert_int_equal(facts.st_size, 8 + (int64_t)UINT32_MAX * 8);
    assert_int_equal(myr_layout_fbin(path_of("long.fbin"), (uint64_t)UINT32_MAX + 1, 2, &layout), MYR_ERR_LIMIT);
    assert_int_equal(myr_layout_npy(path_of("long.npy"), UINT64_MAX / 4, 8, MYR_STORAGE_F32, &layout), MYR_ERR_LIMIT);
    unlink(path_of("long.npy"));
    unlink(path_of("long.fbin"));
}

static void rows_of_hdf5_come_by_blocks(void **state)
{
    (void)state;
    float rows[5][2], read[3][2];
    myr_ann_layout layout = {.n_train = 5, .n_test = 1, .dim = 2, .k = 1};
    for (int i = 0; i < 10; i++)
        rows[i / 2][i % 2] = (float)i;
    assert_int_equal(myr_layout_ann(path_of("ann.hdf5"), "euclidean", &layout), MYR_OK);
    int file = open(path_of("ann.hdf5"), O_WRONLY);
    assert_int_equal(myr_layout_put(file, "ann.hdf5", rows, sizeof rows, layout.train), MYR_OK);
    close(file);
    myr_hdf5_rows found;
    assert_int_equal(myr_hdf5_rows_look(path_of("ann.hdf5"), NULL, &found), MYR_OK);
    assert_string_equal(found.dataset, "train");
    assert_true(found.n == 5 && found.dim == 2 && !found.is_half);
    assert_int_equal(myr_hdf5_rows_read(path_of("ann.hdf5"), &found, 2, 3, &read[0][0]), MYR_OK);
    assert_memory_equal(read, rows[2], sizeof read);
    assert_int_equal(myr_hdf5_rows_read(path_of("ann.hdf5"), &found, 3, 3, &read[0][0]), MYR_ERR_FORMAT);
    myr_hdf5_rows_clear(&found);
    assert_int_equal(myr_hdf5_rows_look(path_of("ann.hdf5"), "nothing", &found), MYR_ERR_NOT_FOUND);
    assert_non_null(strstr(myr_error_detail(), "distances neighbors test train"));
}

/* Cut anywhere, or with a byte changed, a file is refused or read within its bounds. */
static void damaged_hdf5_is_survived(void **state)
{
    (void)state;
    myr_buffer whole = {0};
    int n_refused = 0;
    float *read = malloc(64 * 65536 * sizeof *read);
    assert_int_equal(myr_file_read(path_of("ann.hdf5"), 1 << 20, &whole), MYR_OK);
    for (size_t i = 0; i < 600; i++) {
        myr_hdf5_rows found;
        char *copy = malloc(whole.size);
        memcpy(copy, whole.data, whole.size);
        size_t n_bytes = i < 200 ? whole.size * i / 200 : whole.size;
        if (i >= 200)
            copy[(i - 200) * whole.size / 400] ^= (char)(1 << i % 8);
        assert_int_equal(myr_file_replace(path_of("damaged.hdf5"), copy, n_bytes), MYR_OK);
        free(copy);
        if (myr_hdf5_rows_look(path_of("damaged.hdf5"), NULL, &found) != MYR_OK) {
            n_refused++;
            continue;
        }
        size_t n = found.n < 64 ? found.n : 64;
        if (n > 0 && myr_hdf5_rows_read(path_of("damaged.hdf5"), &found, 0, n, read) != MYR_OK)
            n_refused++;
        myr_hdf5_rows_clear(&found);
    }
    assert_true(n_refused > 150);
    free(read);
    myr_buffer_free(&whole);
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"small.parquet", "empty.parquet", "ann.hdf5", "damaged.hdf5"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(path_of(names[i]));
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_table_byte_by_byte), cmocka_unit_test(an_empty_table_and_no_folder),
        cmocka_unit_test(headers_of_long_files),      cmocka_unit_test(rows_of_hdf5_come_by_blocks),
        cmocka_unit_test(damaged_hdf5_is_survived),
    };
    if (!mkdtemp(folder))
        return 1;
    return cmocka_run_group_tests(tests, NULL, remove_folder);
}
