/*
 * Embedding chunks: round trips, the same bytes each time, other readers, every byte flipped.
 */
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/rng.h"
#include "myriops/store.h"
#include "kernel/half.h"

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
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
    chunk.bad_n_bytes = myr_alloc((size_t)n_bad, sizeof(int64_t));
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
        chunk.bad_n_bytes[i] = ((int64_t)1 << 40) + i;
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
           memcmp(a->bad_n_bytes, b->bad_n_bytes, (size_t)a->n_bad * sizeof(int64_t)) == 0 &&
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

static void boxes_come_back(void **state)
{
    (void)state;
    myr_chunk chunk = make_chunk(3, 2, 1), read;
    myr_buffer bytes = {0};
    assert_int_equal(myr_chunk_write(path_of("no-box.h5"), &chunk, MYR_STORAGE_F32), MYR_OK);
    assert_int_equal(myr_file_read(path_of("no-box.h5"), 1 << 20, &bytes), MYR_OK);
    assert_null(memmem(bytes.data, bytes.size, "box", 4)); /* files of whole pictures are what they were */
    chunk.box = myr_alloc(3, 4 * sizeof(int32_t));
    for (int i = 0; i < 12; i++)
        chunk.box[i] = 100 * i - 5;
    assert_int_equal(myr_chunk_write(path_of("box.h5"), &chunk, MYR_STORAGE_F32), MYR_OK);
    assert_int_equal(myr_chunk_read(path_of("box.h5"), ALL, &read), MYR_OK);
    assert_true(same_chunk(&chunk, &read));
    assert_memory_equal(chunk.box, read.box, 12 * sizeof(int32_t));
    myr_chunk_clear(&read);
    assert_int_equal(myr_chunk_read(path_of("no-box.h5"), ALL, &read), MYR_OK);
    assert_null(read.box);
    myr_chunk_clear(&read);
    myr_chunk_clear(&chunk);
    myr_buffer_free(&bytes);
}

static void halves_are_rounded_to_the_nearest_even(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float value = myr_half_to_float((uint16_t)bits);
        if (!isnan(value))
            assert_int_equal(myr_half_from_float(value), bits);
    }
    assert_int_equal(myr_half_from_float(65519.99f), 0x7bff);
    assert_int_equal(myr_half_from_float(65520.0f), 0x7c00);
    assert_int_equal(myr_half_from_float(1.00048828125f), 0x3c00); /* half way: to even */
    assert_int_equal(myr_half_from_float(1.00146484375f), 0x3c02);
    assert_int_equal(myr_half_from_float(0x1p-25f), 0);
    assert_int_equal(myr_half_from_float(0x1.8p-25f), 1);
    assert_true(isnan(myr_half_to_float(myr_half_from_float(NAN))));
    myr_chunk chunk = make_chunk(20, 33, 1), read;
    assert_int_equal(myr_chunk_write(path_of("half.h5"), &chunk, MYR_STORAGE_F16), MYR_OK);
    assert_int_equal(myr_chunk_read(path_of("half.h5"), ALL, &read), MYR_OK);
    for (size_t i = 0; i < 20 * 33; i++)
        assert_true(read.embedding[i] == myr_half_to_float(myr_half_from_float(chunk.embedding[i])));
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

static void texts_of_any_length_come_back(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 4095, 4096, 65535, 65536, 1 << 20};
    enum { N = sizeof lengths / sizeof *lengths };
    myr_chunk chunk = make_chunk(N, 2, N), read;
    for (size_t i = 0; i < N; i++) {
        char **places[] = {&chunk.key[i], &chunk.source[i], &chunk.bad_reason[i]};
        for (size_t p = 0; p < 3; p++) {
            free(*places[p]);
            char *text = *places[p] = malloc(lengths[i] + 1);
            assert_non_null(text);
            for (size_t c = 0; c < lengths[i]; c++)
                text[c] = (char)(1 + (c * 7 + p) % 255); /* no UTF-8 */
            text[lengths[i]] = 0;
        }
    }
    assert_int_equal(myr_chunk_write(path_of("long.h5"), &chunk, MYR_STORAGE_F16), MYR_OK);
    if (myr_chunk_read(path_of("long.h5"), MYR_CHUNK_KEYS | MYR_CHUNK_BAD, &read) != MYR_OK)
        fail_msg("%s", myr_error_detail());
    assert_true(same_texts(chunk.key, read.key, N) && same_texts(chunk.source, read.source, N) &&
                same_texts(chunk.bad_reason, read.bad_reason, N));
    assert_null(read.embedding);
    myr_chunk_clear(&read);
    myr_chunk_clear(&read); /* once more is fine */
    myr_chunk_clear(&chunk);
}

static const char *program; /* this test, to be started again */

/* What a program does that is started with a path: writes one chunk there. */
static int write_only(const char *path)
{
    myr_chunk chunk = make_chunk(40, 16, 3);
    myr_status status = myr_chunk_write(path, &chunk, MYR_STORAGE_F16);
    myr_chunk_clear(&chunk);
    return status == MYR_OK ? 0 : 1;
}

/* Memory that was used before, or that malloc fills with other bytes, must not show in a file. */
static void old_memory_leaves_no_trace(void **state)
{
    (void)state;
    static const char *const fills[] = {"0", "85", "170"};
    uint64_t wanted, found;
    char command[768];
    for (int64_t i = 0; i < 3; i++) {
        myr_chunk other = make_chunk(100 + i, 8, 30);
        assert_int_equal(myr_chunk_write(path_of("other.h5"), &other, MYR_STORAGE_F32), MYR_OK);
        myr_chunk_clear(&other);
    }
    assert_int_equal(write_only(path_of("here.h5")), 0);
    assert_int_equal(myr_file_checksum(path_of("here.h5"), &wanted), MYR_OK);
    for (size_t i = 0; i < sizeof fills / sizeof *fills; i++) {
        snprintf(command, sizeof command, "MALLOC_PERTURB_=%s '%s' %s", fills[i], program, path_of("there.h5"));
        assert_int_equal(system(command), 0);
        assert_int_equal(myr_file_checksum(path_of("there.h5"), &found), MYR_OK);
        if (found != wanted)
            fail_msg("other bytes with MALLOC_PERTURB_=%s", fills[i]);
    }
}

static void *write_and_read(void *argument)
{
    int64_t id = *(const int64_t *)argument;
    char path[256];
    size_t n_wrong = 0;
    snprintf(path, sizeof path, "%s/thread-%d.h5", folder, (int)id);
    for (int64_t round = 0; round < 20; round++) {
        myr_chunk chunk = make_chunk(10 + id, 3 + (int)round, id), read;
        bool fine = myr_chunk_write(path, &chunk, MYR_STORAGE_F32) == MYR_OK &&
                    myr_chunk_read(path, ALL, &read) == MYR_OK && same_chunk(&chunk, &read);
        n_wrong += !fine;
        if (fine)
            myr_chunk_clear(&read);
        myr_chunk_clear(&chunk);
    }
    return n_wrong == 0 ? NULL : (void *)folder;
}

static void threads_write_at_the_same_time(void **state)
{
    (void)state;
    pthread_t threads[4];
    int64_t ids[4] = {0, 1, 2, 3};
    void *wrong;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_and_read, &ids[i]), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
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

/* A seal as chunk.c makes it. */
static void seal(const char *path)
{
    myr_buffer bytes = {0};
    assert_int_equal(myr_file_read(path, 1 << 24, &bytes), MYR_OK);
    uint64_t sum = myr_checksum64(bytes.data, bytes.size);
    myr_buffer_append(&bytes, "MYRIOPS1", 8);
    for (int i = 0; i < 8; i++)
        myr_buffer_append(&bytes, &(uint8_t){(uint8_t)(sum >> (8 * i))}, 1);
    assert_int_equal(myr_file_replace(path, bytes.data, bytes.size), MYR_OK);
    myr_buffer_free(&bytes);
}

/* Whole HDF5 files with a right seal and wrong contents, by h5py. */
static void sealed_lies_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *change, *blamed;
        myr_status status;
    } cases[] = {
        {"pass", "", MYR_OK},
        {"del f.attrs['schema_version']", "no embedding chunk", MYR_ERR_FORMAT},
        {"f.attrs['schema_version'] = 2", "version 2", MYR_ERR_UNSUPPORTED},
        {"f.attrs['schema_version'] = 'one'", "no embedding chunk", MYR_ERR_FORMAT},
        {"del f.attrs['dim']", "'dim'", MYR_ERR_FORMAT},
        {"f.attrs['dim'] = 0", "'dim'", MYR_ERR_FORMAT},
        {"f.attrs['dim'] = 4", "/embedding", MYR_ERR_FORMAT},
        {"f.attrs['dim'] = 3.0", "'dim'", MYR_ERR_FORMAT},
        {"f.attrs['dim'] = [3, 3]", "'dim'", MYR_ERR_FORMAT},
        {"del f.attrs['model']", "attributes", MYR_ERR_FORMAT},
        {"f.attrs['metric'] = 7", "attributes", MYR_ERR_FORMAT},
        {"del f['embedding']", "/embedding", MYR_ERR_FORMAT},
        {"put('embedding', np.zeros((2, 3), 'i4'))", "/embedding", MYR_ERR_FORMAT},
        {"put('embedding', np.zeros((2, 3, 1), 'f4'))", "/embedding", MYR_ERR_FORMAT},
        {"put('embedding', np.zeros((2, 3, 1, 1, 1), 'f4'))", "/embedding", MYR_ERR_FORMAT},
        {"put('embedding', np.zeros((3, 3), 'f4'))", "/ordinal", MYR_ERR_FORMAT},
        /* sizes that are only said */
        {"del f['embedding']; f.create_dataset('embedding', (2**28, 3), 'f4')", "/embedding", MYR_ERR_FORMAT},
        {"put('embedding', np.zeros((7777, 3), 'f4'))\n"
         "name = f.filename; f.close(); data = open(name, 'rb').read(); n = lambda *v: np.array(v, '<u8').tobytes()\n"
         "data = data.replace(n(7777, 3), n(7777 << 15, 3)).replace(n(7777 * 12), n(7777 * 12 << 15))\n"
         "open(name, 'wb').write(data)",
         "/embedding", MYR_ERR_FORMAT},
        {"put('ordinal', np.zeros(3, 'i8'))", "/ordinal", MYR_ERR_FORMAT},
        {"put('label', np.zeros(2, 'f4'))", "/label", MYR_ERR_FORMAT},
        {"del f['key']; f.create_group('key')", "/key", MYR_ERR_FORMAT},
        {"put('key', np.array([b'a', b'b']))", "/key", MYR_ERR_FORMAT}, /* not of variable length */
        {"put('source', np.zeros(2, 'i4'))", "/source", MYR_ERR_FORMAT},
        {"del f['bad']", "/bad", MYR_ERR_FORMAT},
        {"del f['bad']; f['bad'] = 7", "/bad", MYR_ERR_FORMAT},
        {"del f['bad/reason']", "/bad", MYR_ERR_FORMAT},
        {"put('bad/ordinal', np.zeros(5, 'i8'))", "/bad", MYR_ERR_FORMAT},
        {"put('bad/n_bytes', np.zeros(5, 'i8'))", "/bad", MYR_ERR_FORMAT},
        {"put('bad/n_bytes', np.zeros(1, 'f8'))", "/bad", MYR_ERR_FORMAT},
    };
    char script[4096];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(script, sizeof script,
                 "/usr/bin/python3 -c \"\n"
                 "import sys\n"
                 "try:\n"
                 "    import h5py, numpy as np\n"
                 "except ImportError:\n"
                 "    sys.exit(77)\n"
                 "f = h5py.File('%s', 'w')\n"
                 "def put(name, data):\n"
                 "    del f[name]\n"
                 "    f[name] = data\n"
                 "text = h5py.string_dtype()\n"
                 "f['embedding'] = np.zeros((2, 3), 'f4'); f['ordinal'] = np.arange(2); "
                 "f['label'] = np.zeros(2, 'i4')\n"
                 "for name, n in (('key', 2), ('source', 2), ('bad/key', 1), ('bad/source', 1), ('bad/reason', 1)):\n"
                 "    f.create_dataset(name, data=['x'] * n, dtype=text)\n"
                 "f['bad/ordinal'] = np.arange(1); f['bad/n_bytes'] = np.arange(1)\n"
                 "f.attrs['schema_version'] = 1; f.attrs['dim'] = 3\n"
                 "for name in ('contract', 'model', 'metric'):\n"
                 "    f.attrs[name] = np.string_('x')\n"
                 "%s\n"
                 "f.close()\n"
                 "\"",
                 path_of("lies.h5"), cases[i].change);
        int how = system(script);
        if (WEXITSTATUS(how) == 77) {
            print_message("skipped: python3-h5py or python3-numpy is missing\n");
            skip();
        }
        assert_int_equal(how, 0);
        seal(path_of("lies.h5"));
        myr_chunk read;
        myr_status status = myr_chunk_read(path_of("lies.h5"), ALL, &read);
        if (status != cases[i].status || (status != MYR_OK && !strstr(myr_error_detail(), cases[i].blamed)))
            fail_msg("%s: status %d, %s", cases[i].change, (int)status, status ? myr_error_detail() : "taken");
        myr_chunk_clear(&read);
    }
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
    for (size_t size = 0; size < bytes.size; size++) { /* the seal is gone: HDF5 never sees it */
        myr_chunk read;
        FILE *file = fopen(path_of("broken.h5"), "wb");
        assert_int_equal(fwrite(bytes.data, 1, size, file), size);
        fclose(file);
        assert_int_equal(myr_chunk_read(path_of("broken.h5"), ALL, &read), MYR_ERR_FORMAT);
        assert_non_null(strstr(myr_error_detail(), "broken.h5"));
    }
    FILE *file = fopen(path_of("broken.h5"), "wb");
    assert_int_equal(fwrite(bytes.data, 1, bytes.size, file), bytes.size);
    fputc(0, file);
    fclose(file);
    assert_int_equal(read_in_child(path_of("broken.h5"), &chunk), 1);
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

static int count_open_files(void)
{
    DIR *list = opendir("/proc/self/fd");
    int n = 0;
    if (!list)
        return -1;
    while (readdir(list))
        n++;
    closedir(list);
    return n;
}

/* Failures leave nothing open, and once there is room the same program can write the same file. */
static void a_program_goes_on_after_a_full_disk(void **state)
{
    (void)state;
    myr_chunk chunk = make_chunk(200, 64, 3);
    assert_int_equal(myr_chunk_write(path_of("again.h5"), &chunk, MYR_STORAGE_F16), MYR_OK);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit old;
        myr_chunk read;
        signal(SIGXFSZ, SIG_IGN);
        getrlimit(RLIMIT_FSIZE, &old);
        int n_open = count_open_files();
        for (rlim_t limit = 0; limit < 51200; limit += 1700) {
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, old.rlim_max});
            if (myr_chunk_write(path_of("again.h5"), &chunk, MYR_STORAGE_F32) != MYR_ERR_IO)
                _exit(1);
        }
        setrlimit(RLIMIT_FSIZE, &old);
        /* the old file is still there */
        if (myr_chunk_read(path_of("again.h5"), ALL, &read) != MYR_OK)
            _exit(2);
        myr_chunk_clear(&read);
        if (myr_chunk_write(path_of("again.h5"), &chunk, MYR_STORAGE_F32) != MYR_OK)
            _exit(3);
        if (myr_chunk_read(path_of("again.h5"), ALL, &read) != MYR_OK || !same_chunk(&chunk, &read))
            _exit(4);
        myr_chunk_clear(&read);
        if (count_open_files() != n_open) {
            fprintf(stderr, "%d files open, %d before\n", count_open_files(), n_open);
            _exit(5);
        }
        exit(0);
    }
    int how;
    waitpid(child, &how, 0);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
    myr_chunk_clear(&chunk);
}

static void places_that_are_no_files_are_errors(void **state)
{
    (void)state;
    myr_chunk chunk = make_chunk(2, 2, 1), read;
    char below[300];
    assert_int_equal(myr_chunk_write(path_of("file.h5"), &chunk, MYR_STORAGE_F32), MYR_OK);
    snprintf(below, sizeof below, "%s/chunk.h5", path_of("file.h5"));
    assert_int_equal(myr_chunk_write(below, &chunk, MYR_STORAGE_F32), MYR_ERR_IO);
    assert_non_null(strstr(myr_error_detail(), below));
    assert_int_equal(mkdir(path_of("folder.h5"), 0777), 0);
    assert_int_equal(myr_chunk_write(path_of("folder.h5"), &chunk, MYR_STORAGE_F32), MYR_ERR_IO);
    assert_false(myr_path_exists(path_of("folder.h5.partial")));
    assert_int_equal(myr_chunk_read(path_of("folder.h5"), ALL, &read), MYR_ERR_IO);
    assert_int_equal(mkfifo(path_of("pipe.h5"), 0666), 0);
    assert_int_equal(read_in_child(path_of("pipe.h5"), &chunk), 1);
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

int main(int argc, char **argv)
{
    program = argv[0];
    if (argc == 2)
        return write_only(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(boxes_come_back),
        cmocka_unit_test(halves_are_rounded_to_the_nearest_even),
        cmocka_unit_test(the_same_contents_give_the_same_bytes),
        cmocka_unit_test(texts_of_any_length_come_back),
        cmocka_unit_test(old_memory_leaves_no_trace),
        cmocka_unit_test(threads_write_at_the_same_time),
        cmocka_unit_test(h5py_reads_it),
        cmocka_unit_test(sealed_lies_are_refused),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(a_program_goes_on_after_a_full_disk),
        cmocka_unit_test(places_that_are_no_files_are_errors),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
