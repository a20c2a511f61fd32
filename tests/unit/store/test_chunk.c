/*
 * Embedding chunks: round trips, the same bytes each time, other readers, every byte flipped.
 */
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/rng.h"
#include "myriops/store.h"
#include "store/half.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ALL (MYR_CHUNK_VECTORS | MYR_CHUNK_KEYS | MYR_CHUNK_BAD)

static char folder[] = "/tmp/myriops-chunk-XXXXXX";

static char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static char *copy_text(const char *format, int64_t i)
{
    char text[2000];
    snprintf(text, sizeof text, format, (long long)i);
    return myr_strdup(text);
}

/* A chunk whose contents follow from its sizes. */
static myr_chunk make_chunk(int64_t n, int dim, int64_t n_bad)
{
    myr_chunk chunk = {.n = n, .dim = dim, .n_bad = n_bad};
    chunk.embedding = myr_alloc((size_t)n * (size_t)dim, sizeof(float));
    chunk.key = myr_alloc((size_t)n, sizeof(char *));
    chunk.source = myr_alloc((size_t)n, sizeof(char *));
    chunk.ordinal = myr_alloc((size_t)n, sizeof(int64_t));
    chunk.label = myr_alloc((size_t)n, sizeof(int32_t));
    chunk.bad_key = myr_alloc((size_t)n_bad, sizeof(char *));
    chunk.bad_source = myr_alloc((size_t)n_bad, sizeof(char *));
    chunk.bad_reason = myr_alloc((size_t)n_bad, sizeof(char *));
    chunk.bad_ordinal = myr_alloc((size_t)n_bad, sizeof(int64_t));
    for (int64_t i = 0; i < n * dim; i++)
        chunk.embedding[i] = (float)sin((double)i);
    for (int64_t i = 0; i < n; i++) {
        chunk.key[i] = copy_text(i == 1 ? "not \xff utf-8 %lld" : i == 2 ? "h\xc3\xa9llo/%lld" : "key/%lld.jpg", i);
        chunk.source[i] = copy_text("/data/%lld.tar", i / 2);
        chunk.ordinal[i] = ((int64_t)1 << 40) + 2 * i;
        chunk.label[i] = (int32_t)(i % 3) - 1;
    }
    for (int64_t i = 0; i < n_bad; i++) {
        chunk.bad_key[i] = copy_text("bad/%lld", i);
        chunk.bad_source[i] = copy_text("/data/bad-%lld.jpg", i);
        chunk.bad_reason[i] = copy_text("JPEG ends early at %lld", i);
        chunk.bad_ordinal[i] = 2 * i + 1;
    }
    chunk.contract = myr_strdup("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    chunk.model = myr_strdup("some-model");
    chunk.metric = myr_strdup("cosine");
    return chunk;
}

static bool same_texts(char *const *a, char *const *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (strcmp(a[i], b[i]) != 0)
            return false;
    return true;
}

static bool same_chunk(const myr_chunk *a, const myr_chunk *b)
{
    size_t n = (size_t)a->n;
    return a->n == b->n && a->dim == b->dim && a->n_bad == b->n_bad && same_texts(a->key, b->key, a->n) &&
           same_texts(a->source, b->source, a->n) &&
           memcmp(a->embedding, b->embedding, n * (size_t)a->dim * sizeof(float)) == 0 &&
           memcmp(a->ordinal, b->ordinal, n * sizeof(int64_t)) == 0 &&
           memcmp(a->label, b->label, n * sizeof(int32_t)) == 0 && same_texts(a->bad_key, b->bad_key, a->n_bad) &&
           same_texts(a->bad_source, b->bad_source, a->n_bad) && same_texts(a->bad_reason, b->bad_reason, a->n_bad) &&
           memcmp(a->bad_ordinal, b->bad_ordinal, (size_t)a->n_bad * sizeof(int64_t)) == 0 &&
           strcmp(a->contract, b->contract) == 0 && strcmp(a->model, b->model) == 0 &&
           strcmp(a->metric, b->metric) == 0;
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{5, 7, 2}, {0, 3, 0}, {0, 3, 4}, {1, 1, 0}, {300, 64, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        myr_chunk chunk = make_chunk(sizes[i][0], (int)sizes[i][1], sizes[i][2]), read;
        assert_int_equal(myr_chunk_write(path_of("a.h5"), &chunk, MYR_STORAGE_F32), MYR_OK);
        if (myr_chunk_read(path_of("a.h5"), ALL, &read) != MYR_OK)
            fail_msg("%s", myr_error_detail());
        assert_true(same_chunk(&chunk, &read));
        myr_chunk_clear(&read);
        assert_int_equal(myr_chunk_read(path_of("a.h5"), MYR_CHUNK_BAD, &read), MYR_OK);
        assert_true(read.n == chunk.n && !read.embedding && !read.key && read.n_bad == chunk.n_bad);
        myr_chunk_clear(&read);
        myr_chunk_clear(&chunk);
    }
    assert_int_equal(myr_chunk_read(path_of("nowhere.h5"), ALL, &(myr_chunk){0}), MYR_ERR_NOT_FOUND);
}

static void halves_are_rounded_to_the_nearest_even(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float value = store_half_to_float((uint16_t)bits);
        if (!isnan(value))
            assert_int_equal(store_half_from_float(value), bits);
    }
    assert_int_equal(store_half_from_float(65519.99f), 0x7bff);
    assert_int_equal(store_half_from_float(65520.0f), 0x7c00);
    assert_int_equal(store_half_from_float(1.00048828125f), 0x3c00); /* half way: to even */
    assert_int_equal(store_half_from_float(1.00146484375f), 0x3c02);
    assert_int_equal(store_half_from_float(0x1p-25f), 0);
    assert_int_equal(store_half_from_float(0x1.8p-25f), 1);
    assert_true(isnan(store_half_to_float(store_half_from_float(NAN))));
    myr_chunk chunk = make_chunk(20, 33, 1), read;
    assert_int_equal(myr_chunk_write(path_of("half.h5"), &chunk, MYR_STORAGE_F16), MYR_OK);
    assert_int_equal(myr_chunk_read(path_of("half.h5"), ALL, &read), MYR_OK);
    for (size_t i = 0; i < 20 * 33; i++)
        assert_true(read.embedding[i] == store_half_to_float(store_half_from_float(chunk.embedding[i])));
    myr_chunk_clear(&read);
    chunk.embedding[7] = 70000;
    assert_int_equal(myr_chunk_write(path_of("half.h5"), &chunk, MYR_STORAGE_F16), MYR_ERR_LIMIT);
    assert_int_equal(myr_chunk_write(path_of("half.h5"), &chunk, MYR_STORAGE_F32), MYR_OK);
    myr_chunk_clear(&chunk);
}

static void the_same_contents_give_the_same_bytes(void **state)
{
    (void)state;
    myr_chunk chunk = make_chunk(40, 16, 3);
    myr_buffer one = {0}, two = {0};
    assert_int_equal(myr_chunk_write(path_of("one.h5"), &chunk, MYR_STORAGE_F32), MYR_OK);
    pid_t child = fork();
    if (child == 0)
        _exit(myr_chunk_write(path_of("two.h5"), &chunk, MYR_STORAGE_F32) == MYR_OK ? 0 : 1);
    int how;
    waitpid(child, &how, 0);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    assert_int_equal(myr_file_read(path_of("one.h5"), 1 << 20, &one), MYR_OK);
    assert_int_equal(myr_file_read(path_of("two.h5"), 1 << 20, &two), MYR_OK);
    assert_int_equal(one.size, two.size);
    assert_memory_equal(one.data, two.data, one.size);
    myr_buffer_free(&one);
    myr_buffer_free(&two);
    myr_chunk_clear(&chunk);
}

static void h5py_reads_it(void **state)
{
    (void)state;
    myr_chunk chunk = make_chunk(5, 4, 2);
    assert_int_equal(myr_chunk_write(path_of("h5py.h5"), &chunk, MYR_STORAGE_F16), MYR_OK);
    char command[1024];
    snprintf(command, sizeof command,
             "/usr/bin/python3 -c \"\n"
             "import sys\n"
             "try:\n"
             "    import h5py, numpy as np\n"
             "except ImportError:\n"
             "    sys.exit(77)\n"
             "f = h5py.File('%s')\n"
             "assert f['embedding'].dtype == np.float16 and f['embedding'].shape == (5, 4)\n"
             "assert np.array_equal(f['embedding'][:].ravel(), "
             "np.sin(np.arange(20)).astype(np.float32).astype(np.float16))\n"
             "assert f['key'][2].decode() == 'h\\u00e9llo/2' and f['key'][3] == b'key/3.jpg'\n"
             "assert list(f['label'][:]) == [-1, 0, 1, -1, 0] and f['ordinal'][4] == 2**40 + 8\n"
             "assert f['bad/reason'][1] == b'JPEG ends early at 1'\n"
             "assert f.attrs['schema_version'] == 1 and f.attrs['dim'] == 4\n"
             "\"",
             path_of("h5py.h5"));
    int status = system(command);
    myr_chunk_clear(&chunk);
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: python3-h5py is missing\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* In a child: HDF5 may meet its end in a hostile file, and must not take the test along. Returns how the child ended.
 */
static int read_in_child(const char *path, const myr_chunk *wanted)
{
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        alarm(20);
        myr_chunk read;
        myr_status status = myr_chunk_read(path, ALL, &read);
        _exit(status != MYR_OK ? 1 : same_chunk(wanted, &read) ? 0 : 2);
    }
    int how;
    waitpid(child, &how, 0);
    return WIFEXITED(how) ? WEXITSTATUS(how) : 100 + WTERMSIG(how);
}

static void damage_is_found(void **state)
{
    (void)state;
    myr_chunk chunk = make_chunk(4, 3, 1);
    myr_buffer bytes = {0};
    size_t n_found = 0, n_harmless = 0, n_wrong = 0, n_crashed = 0;
    assert_int_equal(myr_chunk_write(path_of("whole.h5"), &chunk, MYR_STORAGE_F32), MYR_OK);
    assert_int_equal(myr_file_read(path_of("whole.h5"), 1 << 20, &bytes), MYR_OK);
    for (size_t place = 0; place < bytes.size; place++) {
        bytes.data[place] ^= 1 << (place % 8);
        FILE *file = fopen(path_of("broken.h5"), "wb");
        assert_int_equal(fwrite(bytes.data, 1, bytes.size, file), bytes.size);
        fclose(file);
        bytes.data[place] ^= 1 << (place % 8);
        int how = read_in_child(path_of("broken.h5"), &chunk);
        n_found += how == 1;
        n_harmless += how == 0;
        n_wrong += how == 2;
        n_crashed += how > 2;
    }
    print_message("%zu bytes: %zu changes found, %zu harmless, %zu crashes\n", bytes.size, n_found, n_harmless,
                  n_crashed);
    assert_int_equal(n_wrong, 0);
    assert_int_equal(n_crashed, 0);
    assert_true(n_found > 0);
    for (size_t size = 0; size < bytes.size; size += 97) {
        FILE *file = fopen(path_of("broken.h5"), "wb");
        assert_int_equal(fwrite(bytes.data, 1, size, file), size);
        fclose(file);
        assert_int_equal(read_in_child(path_of("broken.h5"), &chunk), 1);
    }
    myr_buffer_free(&bytes);
    myr_chunk_clear(&chunk);
}

/* Writes under a limit on the size of files, as on a full disk, then ends as a program does. */
static int write_under_limit(const myr_chunk *chunk, rlim_t limit)
{
    pid_t child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, limit});
        myr_status status = myr_chunk_write(path_of("limited.h5"), chunk, MYR_STORAGE_F32);
        exit(status == MYR_ERR_IO && strstr(myr_error_detail(), "limited.h5") ? 0 : 1);
    }
    int how;
    waitpid(child, &how, 0);
    return WIFEXITED(how) ? WEXITSTATUS(how) : 100 + WTERMSIG(how);
}

static void a_full_disk_is_an_error(void **state)
{
    (void)state;
    myr_chunk chunk = make_chunk(200, 64, 3);
    for (rlim_t limit = 0; limit < 51200; limit += 5000) {
        assert_int_equal(write_under_limit(&chunk, limit), 0);
        assert_false(myr_path_exists(path_of("limited.h5")));
        assert_false(myr_path_exists(path_of("limited.h5.partial")));
    }
    assert_int_equal(myr_chunk_write("/proc/nowhere/x.h5", &chunk, MYR_STORAGE_F32), MYR_ERR_IO);
    myr_chunk_clear(&chunk);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
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
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(halves_are_rounded_to_the_nearest_even),
        cmocka_unit_test(the_same_contents_give_the_same_bytes),
        cmocka_unit_test(h5py_reads_it),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(a_full_disk_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
