/*
 * Halves: against NumPy, and through HDF5, which converts them by itself.
 */
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/rng.h"
#include "myriops/store.h"
#include "kernel/half.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_HALVES 65536
#define N_RANDOM 200000

static char folder[] = "/tmp/myriops-half-XXXXXX";

static const char *path_of(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* Runs Python on the folder; skips the test where h5py or numpy is missing. */
static void run_python(const char *program)
{
    char command[4096];
    snprintf(command, sizeof command,
             "cd %s && /usr/bin/python3 -c \"\n"
             "import sys\n"
             "try:\n"
             "    import h5py, numpy as np\n"
             "except ImportError:\n"
             "    sys.exit(77)\n"
             "%s\"",
             folder, program);
    int status = system(command);
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: python3-h5py or python3-numpy is missing\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void write_bytes(const char *name, const void *bytes, size_t n)
{
    assert_int_equal(myr_file_replace(path_of(name), bytes, n), MYR_OK);
}

static void read_bytes(const char *name, size_t n, myr_buffer *bytes)
{
    assert_int_equal(myr_file_read(path_of(name), 1 << 24, bytes), MYR_OK);
    assert_int_equal(bytes->size, n);
}

/* Equal bits; of NaN only that it is one. */
static bool same_half(uint16_t a, uint16_t b)
{
    bool a_is_nan = (a & 0x7fff) > 0x7c00, b_is_nan = (b & 0x7fff) > 0x7c00;
    return a_is_nan || b_is_nan ? a_is_nan && b_is_nan : a == b;
}

static void numpy_widens_alike(void **state)
{
    (void)state;
    run_python("np.arange(65536).astype('u2').view('f2').astype('f4').tofile('wide')\n");
    myr_buffer wide = {0};
    read_bytes("wide", N_HALVES * sizeof(float), &wide);
    for (uint32_t bits = 0; bits < N_HALVES; bits++) {
        float ours = myr_half_to_float((uint16_t)bits), theirs;
        memcpy(&theirs, wide.data + bits * sizeof theirs, sizeof theirs);
        if (isnan(theirs))
            assert_true(isnan(ours));
        else
            assert_memory_equal(&ours, &theirs, sizeof ours);
    }
    myr_buffer_free(&wide);
}

static void numpy_narrows_alike(void **state)
{
    (void)state;
    /* Random bits; then each half's neighbourhood and the middle to the next, where ties are. */
    size_t n = N_RANDOM + 3 * N_HALVES, at = 0;
    float *values = myr_alloc(n, sizeof *values);
    myr_rng rng;
    myr_rng_seed(&rng, 3);
    for (; at < N_RANDOM; at++) {
        uint32_t bits = (uint32_t)myr_rng_below(&rng, (uint64_t)1 << 32);
        memcpy(&values[at], &bits, sizeof bits);
    }
    for (uint32_t bits = 0; bits < N_HALVES; bits++) {
        float half = myr_half_to_float((uint16_t)bits), next = myr_half_to_float((uint16_t)(bits ^ 1));
        float middle = (half + next) / 2;
        values[at++] = middle;
        values[at++] = nextafterf(middle, INFINITY);
        values[at++] = nextafterf(middle, -INFINITY);
    }
    write_bytes("floats", values, n * sizeof *values);
    run_python("np.seterr(all='ignore')\n"
               "np.fromfile('floats', 'f4').astype('f2').tofile('halves')\n");
    myr_buffer halves = {0};
    read_bytes("halves", n * sizeof(uint16_t), &halves);
    for (size_t i = 0; i < n; i++) {
        uint16_t theirs;
        memcpy(&theirs, halves.data + i * sizeof theirs, sizeof theirs);
        if (!same_half(myr_half_from_float(values[i]), theirs))
            fail_msg("%a: %04x, NumPy %04x", (double)values[i], myr_half_from_float(values[i]), theirs);
    }
    myr_buffer_free(&halves);
    free(values);
}

/* All halves in a chunk, written and read through HDF5's own conversion. */
static void every_half_survives_a_chunk(void **state)
{
    (void)state;
    char *texts[256];
    int64_t ordinals[256];
    int32_t labels[256] = {0};
    for (int i = 0; i < 256; i++) {
        texts[i] = "key";
        ordinals[i] = i;
    }
    myr_chunk chunk = {.n = 256,
                       .dim = 256,
                       .embedding = myr_alloc(N_HALVES, sizeof(float)),
                       .key = texts,
                       .source = texts,
                       .ordinal = ordinals,
                       .label = labels,
                       .contract = "",
                       .model = "m",
                       .metric = "l2"},
              read;
    for (uint32_t bits = 0; bits < N_HALVES; bits++)
        chunk.embedding[bits] = myr_half_to_float((uint16_t)bits);
    if (myr_chunk_write(path_of("all.h5"), &chunk, MYR_STORAGE_F16) != MYR_OK)
        fail_msg("%s", myr_error_detail());
    assert_int_equal(myr_chunk_read(path_of("all.h5"), MYR_CHUNK_VECTORS, &read), MYR_OK);
    for (uint32_t bits = 0; bits < N_HALVES; bits++) {
        float wanted = chunk.embedding[bits], found = read.embedding[bits];
        if (isnan(wanted) ? !isnan(found) : memcmp(&wanted, &found, sizeof found) != 0)
            fail_msg("half %04x: %a came back as %a", bits, (double)wanted, (double)found);
    }
    myr_chunk_clear(&read);
    free(chunk.embedding);
    run_python("f = h5py.File('all.h5', 'r')\n"
               "found = f['embedding'][:].ravel()\n"
               "assert found.dtype == np.dtype('<f2')\n"
               "bits = np.arange(65536).astype('u2')\n"
               "wanted = bits.view('f2')\n"
               "assert (np.isnan(wanted) == np.isnan(found)).all()\n"
               "assert (found.view('u2') == bits)[~np.isnan(wanted)].all()\n");
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
        cmocka_unit_test(numpy_widens_alike),
        cmocka_unit_test(numpy_narrows_alike),
        cmocka_unit_test(every_half_survives_a_chunk),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
