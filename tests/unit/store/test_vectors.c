/*
 * Files of vectors and neighbours: against NumPy and h5py, and against headers that lie.
 */
#include "base/buffer.h"
#include "base/file.h"
#include "myriops/vectors.h"
#include "store/hdf5_rows.h"

#include <math.h>
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

#define N 7
#define DIM 5

static char folder[] = "/tmp/myriops-vectors-XXXXXX";

static const char *path_of(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* Runs Python in the folder, with a = (N, DIM) values of -17 to 17; skips the test where h5py or numpy is missing. */
static void run_python(const char *program)
{
    char command[8192];
    int n = snprintf(command, sizeof command,
                     "cd %s && /usr/bin/python3 -c \"\n"
                     "import sys\n"
                     "try:\n"
                     "    import h5py, numpy as np\n"
                     "except ImportError:\n"
                     "    sys.exit(77)\n"
                     "a = np.arange(%d).reshape(%d, %d) - 17\n"
                     "%s\"",
                     folder, N * DIM, N, DIM, program);
    assert_true(n > 0 && (size_t)n < sizeof command);
    int status = system(command);
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: python3-h5py or python3-numpy is missing\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void expect(const char *name, myr_status wanted, const char *said)
{
    myr_vectors file;
    myr_status status = myr_vectors_read(path_of(name), NULL, &file);
    if (status != wanted || (status != MYR_OK && !strstr(myr_error_detail(), said)))
        fail_msg("%s: status %d, %s", name, (int)status, status ? myr_error_detail() : "taken");
    if (status != MYR_OK)
        assert_true(!file.mapping && !file.memory && file.n == 0);
    myr_vectors_clear(&file);
}

/* Rows value by value as Python wrote them. */
static void expect_rows(const char *name, size_t n, float offset)
{
    myr_vectors file;
    float rows[N * DIM];
    if (myr_vectors_read(path_of(name), NULL, &file) != MYR_OK)
        fail_msg("%s", myr_error_detail());
    if (file.n != n || file.dim != DIM)
        fail_msg("%s: %zu rows of %zu", name, file.n, file.dim);
    assert_int_equal(myr_vectors_to_f32(&file, 0, n, rows), MYR_OK);
    for (size_t i = 0; i < n * DIM; i++)
        if (rows[i] != (float)i - 17 + offset)
            fail_msg("%s: value %zu is %g", name, i, (double)rows[i]);
    assert_int_equal(myr_vectors_to_f32(&file, n, 0, rows), MYR_OK);
    assert_int_equal(myr_vectors_to_f32(&file, n, 1, rows), MYR_ERR_ARG);
    assert_int_equal(myr_vectors_to_f32(&file, 1, SIZE_MAX, rows), MYR_ERR_ARG);
    myr_vectors_clear(&file);
}

static void numpy_files_are_read(void **state)
{
    (void)state;
    run_python("def headed(name, x):\n"
               "    open(name, 'wb').write(np.array(x.shape, '<u4').tobytes() + x.tobytes())\n"
               "def rows(name, x):\n"
               "    d = np.array([x.shape[1]], '<u4').tobytes()\n"
               "    open(name, 'wb').write(b''.join(d + r.tobytes() for r in x))\n"
               "headed('a.fbin', a.astype('f4')); headed('a.u8bin', (a + 17).astype('u1'))\n"
               "headed('a.i8bin', a.astype('i1')); headed('a.ibin', a.astype('i4'))\n"
               "rows('a.fvecs', a.astype('f4')); rows('a.bvecs', (a + 17).astype('u1')); "
               "rows('a.ivecs', a.astype('i4'))\n"
               "for t in ('f2', 'f4', 'f8', 'i1', 'i4'):\n"
               "    np.save(t + '.npy', a.astype(t))\n"
               "np.save('u1.npy', (a + 17).astype('u1'))\n"
               "for v in (1, 2, 3):\n"
               "    np.lib.format.write_array(open('v%d.npy' % v, 'wb'), a.astype('f4'), (v, 0))\n"
               "np.save('none.npy', np.zeros((0, 5), 'f4')); headed('none.fbin', np.zeros((0, 5), 'f4'))\n"
               "np.save('fortran.npy', np.asfortranarray(a.astype('f4')))\n"
               "np.save('flat.npy', a.ravel().astype('f4')); np.save('point.npy', np.float32(1))\n"
               "np.save('deep.npy', a.reshape(7, 5, 1).astype('f4')); np.save('thin.npy', np.zeros((3, 0), 'f4'))\n"
               "for t in ('i8', 'u4', '>f4', 'c8', '?', 'U3', 'i2'):\n"
               "    np.save('t' + t.strip('>?') + '.npy', a.astype(t))\n"
               "np.save('fields.npy', np.zeros((7, 5), [('x', '<f4')]))\n");
    static const char *const signed_names[] = {"a.fbin", "a.i8bin", "a.ibin", "a.fvecs", "a.ivecs", "f2.npy", "f4.npy",
                                               "f8.npy", "i1.npy",  "i4.npy", "v1.npy",  "v2.npy",  "v3.npy"};
    for (size_t i = 0; i < sizeof signed_names / sizeof *signed_names; i++)
        expect_rows(signed_names[i], N, 0);
    expect_rows("a.u8bin", N, 17);
    expect_rows("a.bvecs", N, 17);
    expect_rows("u1.npy", N, 17);
    expect_rows("none.npy", 0, 0);
    expect_rows("none.fbin", 0, 0);
    expect("fortran.npy", MYR_ERR_UNSUPPORTED, "Fortran");
    expect("flat.npy", MYR_ERR_UNSUPPORTED, "two dimensions");
    expect("point.npy", MYR_ERR_UNSUPPORTED, "two dimensions");
    expect("deep.npy", MYR_ERR_UNSUPPORTED, "two dimensions");
    expect("thin.npy", MYR_ERR_FORMAT, "thin.npy");
    static const char *const types[] = {"ti8.npy", "tu4.npy", "tf4.npy", "tc8.npy",
                                        "t.npy",   "tU3.npy", "ti2.npy", "fields.npy"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        expect(types[i], MYR_ERR_UNSUPPORTED, "elements");
}

static void expect_bytes(const char *name, const void *bytes, size_t n, myr_status wanted)
{
    assert_int_equal(myr_file_replace(path_of(name), bytes, n), MYR_OK);
    expect(name, wanted, name);
}

static void headers_that_lie_are_refused(void **state)
{
    (void)state;
    uint32_t words[64] = {2, 3, 0};
    expect_bytes("x.fbin", words, 8 + 24, MYR_OK);
    expect_bytes("x.fbin", words, 8 + 23, MYR_ERR_FORMAT);
    expect_bytes("x.fbin", words, 8 + 25, MYR_ERR_FORMAT);
    expect_bytes("x.u8bin", words, 8 + 6, MYR_OK);
    expect_bytes("x.i8bin", words, 8 + 7, MYR_ERR_FORMAT);
    expect_bytes("x.fbin", words, 7, MYR_ERR_FORMAT);
    expect_bytes("x.fbin", words, 0, MYR_ERR_FORMAT);
    static const uint32_t lies[][2] = {{UINT32_MAX, 3}, {2, UINT32_MAX},          {UINT32_MAX, UINT32_MAX}, {2, 0},
                                       {0, 0},          {0x80000000, 0x80000000}, {0x40000000, 65536},      {1, 65537}};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        memcpy(words, lies[i], sizeof lies[i]);
        expect_bytes("x.fbin", words, sizeof words, MYR_ERR_FORMAT);
        expect_bytes("x.fbin", words, 8, MYR_ERR_FORMAT);
        expect_bytes("x.u8bin", words, sizeof words, MYR_ERR_FORMAT);
    }
    uint32_t rows[8] = {3, 1, 2, 3, 3, 4, 5, 6};
    expect_bytes("x.fvecs", rows, 32, MYR_OK);
    expect_bytes("x.fvecs", rows, 31, MYR_ERR_FORMAT);
    expect_bytes("x.fvecs", rows, 28, MYR_ERR_FORMAT);
    expect_bytes("x.fvecs", rows, 3, MYR_ERR_FORMAT);
    rows[4] = 2; /* ragged */
    expect_bytes("x.fvecs", rows, 32, MYR_ERR_FORMAT);
    static const uint32_t firsts[] = {0, 65537, UINT32_MAX, 0x80000003, 0x40000003};
    for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
        rows[0] = rows[4] = firsts[i];
        expect_bytes("x.fvecs", rows, 32, MYR_ERR_FORMAT);
        expect_bytes("x.bvecs", rows, 32, MYR_ERR_FORMAT);
    }
}

/* A version 1.0 header around this dict, and then so many bytes. */
static void expect_npy(const char *dict, size_t n_data, myr_status wanted)
{
    myr_buffer file = {0};
    static const char zeros[256];
    size_t n = strlen(dict);
    const uint8_t head[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)n, (uint8_t)(n >> 8)};
    myr_buffer_append(&file, head, sizeof head);
    myr_buffer_append(&file, dict, n);
    myr_buffer_append(&file, zeros, n_data);
    assert_int_equal(myr_file_replace(path_of("x.npy"), file.data, file.size), MYR_OK);
    myr_buffer_free(&file);
    myr_vectors vectors;
    myr_status status = myr_vectors_read(path_of("x.npy"), NULL, &vectors);
    if (status != wanted)
        fail_msg("%s with %zu bytes: status %d, %s", dict, n_data, (int)status, status ? myr_error_detail() : "taken");
    myr_vectors_clear(&vectors);
}

#define NPY(shape) "{'descr': '<f4', 'fortran_order': False, 'shape': " shape ", }\n"

static void npy_headers_that_lie_are_refused(void **state)
{
    (void)state;
    expect_npy(NPY("(2, 3)"), 24, MYR_OK);
    expect_npy(NPY("(2, 3)"), 23, MYR_ERR_FORMAT);
    expect_npy(NPY("(2, 3)"), 25, MYR_ERR_FORMAT);
    expect_npy(NPY("(2, 3)"), 0, MYR_ERR_FORMAT);
    expect_npy(NPY("(2, 0)"), 0, MYR_ERR_FORMAT);
    expect_npy(NPY("(-2, 3)"), 24, MYR_ERR_FORMAT);
    expect_npy(NPY("(-2, -3)"), 24, MYR_ERR_FORMAT);
    expect_npy(NPY("(4611686018427387904, 4)"), 0, MYR_ERR_FORMAT);      /* 2^64 values */
    expect_npy(NPY("(4611686018427387904, 1)"), 0, MYR_ERR_FORMAT);      /* 2^64 bytes */
    expect_npy(NPY("(99999999999999999999999, 1)"), 0, MYR_ERR_FORMAT);  /* of no type */
    expect_npy(NPY("(2, 99999999999999999999999)"), 24, MYR_ERR_FORMAT); /* of no type */
    expect_npy(NPY("(2, 3"), 24, MYR_ERR_UNSUPPORTED);
    expect_npy(NPY("(2, 3, 1)"), 24, MYR_ERR_UNSUPPORTED);
    expect_npy(NPY("()"), 4, MYR_ERR_UNSUPPORTED);
    expect_npy(NPY("None"), 4, MYR_ERR_UNSUPPORTED);
    expect_npy("{'descr': '<f4', 'fortran_order': False}", 4, MYR_ERR_FORMAT);
    expect_npy("{'descr':", 4, MYR_ERR_FORMAT);
    expect_npy("{'shape': (2, 3), 'fortran_order': False, 'descr': '", 24, MYR_ERR_UNSUPPORTED);
    expect_npy("{'shape': (2, 3), 'descr': '<f4', 'fortran_order':", 24, MYR_ERR_UNSUPPORTED);
    expect_npy("", 24, MYR_ERR_FORMAT);
    static const uint8_t long_header[] = {0x93, 'N', 'U', 'M', 'P', 'Y', 2, 0, 0xff, 0xff, 0xff, 0xff, '{', '}'};
    for (size_t n = 0; n <= sizeof long_header; n++)
        expect_bytes("x.npy", long_header, n, MYR_ERR_FORMAT);
}

static void hdf5_files_are_read(void **state)
{
    (void)state;
    run_python("def make(name, **sets):\n"
               "    f = h5py.File(name, 'w')\n"
               "    for k, v in sets.items():\n"
               "        f[k] = v\n"
               "    return f\n"
               "for t in ('f2', 'f4', 'f8', 'i1', 'i8', '>f4'):\n"
               "    make('t%s.h5' % t.strip('>'), train=a.astype(t)).close()\n"
               "make('none.hdf5', train=np.zeros((0, 5), 'f4')).close()\n"
               "f = make('packed.hdf5'); f.create_dataset('train', data=a.astype('f4'), chunks=(2, 5), "
               "compression='gzip', shuffle=True, fletcher32=True); f.close()\n"
               "f = make('grown.hdf5'); f.create_dataset('train', data=a.astype('f4'), chunks=(64, 5), "
               "maxshape=(None, 5)); f.close()\n"
               "f = h5py.File('latest.hdf5', 'w', libver='latest'); f.create_dataset('train', data=a.astype('f4'), "
               "chunks=(2, 5), maxshape=(None, 5)); f.close()\n"
               "f = make('compact.hdf5')\n"
               "p = h5py.h5p.create(h5py.h5p.DATASET_CREATE); p.set_layout(h5py.h5d.COMPACT)\n"
               "d = h5py.h5d.create(f.id, b'train', h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple(a.shape), p)\n"
               "d.write(h5py.h5s.ALL, h5py.h5s.ALL, a.astype('f4')); f.close()\n"
               "make('other.hdf5', one=a, two=a).close(); make('bare.hdf5').close()\n"
               "make('flat.hdf5', train=a.ravel()).close(); make('texts.hdf5', train=[[b'a', b'b']]).close()\n"
               "make('deep.hdf5', train=np.zeros((1, 1, 1, 1, 1))).close()\n"
               "make('empty.hdf5', train=h5py.Empty('f4')).close(); make('thin.hdf5', train=np.zeros((3, 0))).close()\n"
               "f = make('folder.hdf5'); f.create_group('train'); f.close()\n"
               "f = make('link.hdf5'); f['train'] = h5py.SoftLink('/nowhere'); f.close()\n"
               "f = make('huge.hdf5'); f.create_dataset('train', (2**40, 64), 'f4', chunks=(1024, 64)); f.close()\n"
               "f = make('claim.hdf5'); f.create_dataset('train', (2**34, 64), 'f4'); f.close()\n"
               "open('beside', 'wb').write(a.astype('f4').tobytes()); f = make('beside.hdf5'); "
               "f.create_dataset('train', a.shape, 'f4', external=[('beside', 0, 140)]); f.close()\n");
    static const char *const names[] = {"tf2.h5",      "tf4.h5",     "tf8.h5",      "ti1.h5",      "ti8.h5",
                                        "packed.hdf5", "grown.hdf5", "latest.hdf5", "compact.hdf5"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        expect_rows(names[i], N, 0);
    expect_rows("none.hdf5", 0, 0);
    expect("other.hdf5", MYR_ERR_NOT_FOUND, "it has: one, two");
    expect("bare.hdf5", MYR_ERR_NOT_FOUND, "it has: none");
    expect("folder.hdf5", MYR_ERR_FORMAT, "'train'");
    expect("link.hdf5", MYR_ERR_FORMAT, "'train'");
    static const char *const no_matrix[] = {"flat.hdf5",  "texts.hdf5", "deep.hdf5",
                                            "empty.hdf5", "thin.hdf5",  "beside.hdf5"};
    for (size_t i = 0; i < sizeof no_matrix / sizeof *no_matrix; i++)
        expect(no_matrix[i], MYR_ERR_FORMAT, "'train'");
    expect("huge.hdf5", MYR_ERR_LIMIT, "larger");
    expect("claim.hdf5", MYR_ERR_LIMIT, "larger");
    myr_vectors file;
    assert_int_equal(myr_vectors_read(path_of("other.hdf5"), "two", &file), MYR_OK);
    assert_true(file.n == N && file.dim == DIM);
    myr_vectors_clear(&file);
    assert_int_equal(myr_vectors_read(path_of("other.hdf5"), "", &file), MYR_ERR_NOT_FOUND);
    assert_int_equal(myr_vectors_read(path_of("other.hdf5"), "no/such/place", &file), MYR_ERR_NOT_FOUND);
}

/* The place of some bytes in a file that are there once. */
static size_t find_once(const myr_buffer *file, const void *bytes, size_t n)
{
    size_t place = 0, n_found = 0;
    for (size_t i = 0; i + n <= file->size; i++) {
        if (memcmp(file->data + i, bytes, n) == 0) {
            place = i;
            n_found++;
        }
    }
    assert_int_equal(n_found, 1);
    return place;
}

/* One byte changed in a sound file; in a child, since HDF5 1.10 itself dies of some of these when it is let. */
static void expect_changed(const char *name, const void *bytes, size_t n, size_t offset, uint8_t value)
{
    myr_buffer file = {0};
    assert_int_equal(myr_file_read(path_of(name), 1 << 20, &file), MYR_OK);
    file.data[find_once(&file, bytes, n) + offset] = (char)value;
    assert_int_equal(myr_file_replace(path_of("changed.hdf5"), file.data, file.size), MYR_OK);
    myr_buffer_free(&file);
    pid_t child = fork();
    if (child == 0) {
        myr_vectors vectors;
        signal(SIGSEGV, SIG_DFL);
        alarm(20);
        _exit((int)myr_vectors_read(path_of("changed.hdf5"), NULL, &vectors));
    }
    int how;
    waitpid(child, &how, 0);
    if (!WIFEXITED(how) || WEXITSTATUS(how) != MYR_ERR_FORMAT)
        fail_msg("%s, byte %zu = %02x: ended with %x", name, offset, value, (unsigned)how);
}

static void hdf5_is_not_trusted_with_damaged_sizes(void **state)
{
    (void)state;
    run_python("f = h5py.File('packed.hdf5', 'w'); f.create_dataset('train', data=a.astype('f4'), chunks=(3, 5), "
               "compression='gzip'); f.close()\n"
               "f = h5py.File('plain.hdf5', 'w'); f['train'] = a.astype('f4'); f.close()\n");
    /* HDF5 File Format Specification 2.0, IV.A.2.d and i: a type is class and version, 3 bytes, u32 size; a chunked
     * layout ends in u32 sizes of a chunk and of an element. */
    static const uint8_t type[] = {0x11, 0x20, 0x1f, 0x00, 4, 0, 0, 0}, sizes[] = {3, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0};
    expect_changed("packed.hdf5", type, sizeof type, 6, 0x20); /* elements of 2 MiB */
    expect_changed("packed.hdf5", sizes, sizeof sizes, 5, 0x20);
    expect_changed("packed.hdf5", sizes, sizeof sizes, 6, 0x02);
    expect_changed("packed.hdf5", sizes, sizeof sizes, 1, 0x20);
    /* A message of type 8 and 24 bytes, version 3, class contiguous. In version 2 that is compact, of no bytes. */
    static const uint8_t layout[] = {8, 0, 24, 0, 0, 0, 0, 0, 3, 1};
    expect_changed("plain.hdf5", layout, sizeof layout, 8, 2);
    expect_changed("plain.hdf5", layout, sizeof layout, 9, 0);
}

/* Two gigabytes that the header alone has: no memory is taken for them. */
static void hdf5_holds_no_more_than_its_file(void **state)
{
    (void)state;
    run_python("import struct\n"
               "f = h5py.File('small.hdf5', 'w'); f['train'] = np.zeros((7777, 3), 'f4'); f.close()\n"
               "data = open('small.hdf5', 'rb').read()\n"
               "for small, large in ((struct.pack('<QQ', 7777, 3), struct.pack('<QQ', 7777 << 15, 3)),\n"
               "                     (struct.pack('<Q', 7777 * 12), struct.pack('<Q', 7777 * 12 << 15))):\n"
               "    assert data.count(small) >= 1\n"
               "    data = data.replace(small, large)\n"
               "open('large.hdf5', 'wb').write(data)\n"
               "with h5py.File('large.hdf5', 'r') as f: assert f['train'].id.get_storage_size() == 7777 * 12 << 15\n");
    expect("large.hdf5", MYR_ERR_LIMIT, "larger than the file can hold");
    myr_hdf5_rows rows;
    assert_int_equal(myr_hdf5_rows_look(path_of("large.hdf5"), "train", &rows), MYR_ERR_LIMIT);
    assert_non_null(strstr(myr_error_detail(), "larger than the file can hold"));
}

static void rows_are_written_for_numpy(void **state)
{
    (void)state;
    float rows[N * DIM];
    for (int i = 0; i < N * DIM; i++)
        rows[i] = (float)i + 0.5f;
    assert_int_equal(myr_vectors_write(path_of("out.npy"), rows, N, DIM), MYR_OK);
    assert_int_equal(myr_vectors_write(path_of("out.fbin"), rows, N, DIM), MYR_OK);
    assert_int_equal(myr_vectors_write(path_of("out.fvecs"), rows, N, DIM), MYR_OK);
    assert_int_equal(myr_vectors_write(path_of("out.bvecs"), rows, N, DIM), MYR_OK);
    assert_int_equal(myr_vectors_write(path_of("out.u8bin"), rows, N, DIM), MYR_OK);
    assert_int_equal(myr_vectors_write(path_of("out.i8bin"), rows, N, DIM), MYR_OK);
    assert_int_equal(myr_vectors_write(path_of("no.npy"), rows, 0, DIM), MYR_OK);
    run_python("w = (np.arange(35, dtype='f4') + 0.5).reshape(7, 5)\n"
               "r = np.rint(w) # to even\n"
               "x = np.load('out.npy'); assert x.dtype == '<f4' and (x == w).all()\n"
               "assert open('out.npy', 'rb').read().index(b'\\n') % 64 == 63\n"
               "x = open('out.fbin', 'rb').read(); assert np.frombuffer(x, '<u4', 2).tolist() == [7, 5]\n"
               "assert (np.frombuffer(x, '<f4', offset=8).reshape(7, 5) == w).all()\n"
               "x = np.fromfile('out.fvecs', '<i4').reshape(7, 6)\n"
               "assert (x[:, 0] == 5).all() and (x[:, 1:].copy().view('<f4') == w).all()\n"
               "x = np.fromfile('out.bvecs', 'u1').reshape(7, 9)\n"
               "assert (x[:, 4:] == r).all() and (x[:, :4] == [5, 0, 0, 0]).all()\n"
               "for n, t in (('out.u8bin', 'u1'), ('out.i8bin', 'i1')):\n"
               "    assert (np.fromfile(n, t)[8:].reshape(7, 5) == r).all()\n"
               "assert np.load('no.npy').shape == (0, 5)\n");
    static const struct {
        const char *name;
        float value;
        myr_status status;
    } cases[] = {
        {"out.u8bin", 255.4f, MYR_OK},   {"out.u8bin", 255.6f, MYR_ERR_ARG},   {"out.u8bin", -0.5f, MYR_OK},
        {"out.u8bin", -1, MYR_ERR_ARG},  {"out.i8bin", -128.5f, MYR_OK},       {"out.i8bin", -129, MYR_ERR_ARG},
        {"out.i8bin", 127, MYR_OK},      {"out.i8bin", 127.6f, MYR_ERR_ARG},   {"out.u8bin", NAN, MYR_ERR_ARG},
        {"out.bvecs", 256, MYR_ERR_ARG}, {"out.u8bin", INFINITY, MYR_ERR_ARG}, {"out.fbin", INFINITY, MYR_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        myr_status status = myr_vectors_write(path_of(cases[i].name), &cases[i].value, 1, 1);
        if (status != cases[i].status)
            fail_msg("%s of %g: status %d", cases[i].name, (double)cases[i].value, (int)status);
    }
    assert_int_equal(myr_vectors_write(path_of("out.fbin"), rows, 1, 0), MYR_ERR_LIMIT);
    assert_int_equal(myr_vectors_write(path_of("out.fbin"), rows, 0, 65537), MYR_ERR_LIMIT);
    assert_int_equal(myr_vectors_write(path_of("out.ibin"), rows, N, DIM), MYR_ERR_UNSUPPORTED);
    assert_int_equal(myr_vectors_write(path_of("out.txt"), rows, N, DIM), MYR_ERR_UNSUPPORTED);
}

static void expect_truth(const char *name, const void *bytes, size_t n, myr_status wanted)
{
    myr_truth truth;
    assert_int_equal(myr_file_replace(path_of(name), bytes, n), MYR_OK);
    myr_status status = myr_truth_read(path_of(name), &truth);
    if (status != wanted || (status != MYR_OK && !strstr(myr_error_detail(), name)))
        fail_msg("%s, %zu bytes: status %d, %s", name, n, (int)status, status ? myr_error_detail() : "taken");
    if (status != MYR_OK)
        assert_true(!truth.ids && !truth.distances && truth.n == 0);
    myr_truth_clear(&truth);
}

static void truth_is_read_from_each_format(void **state)
{
    (void)state;
    uint32_t words[10] = {2, 2, 7, UINT32_MAX, 9, 0, 0, 0x3f800000, 0x40000000, 0x7f800000};
    expect_truth("t.bin", words, 24, MYR_OK);
    expect_truth("t.ibin", words, 40, MYR_OK);
    expect_truth("t.bin", words, 25, MYR_ERR_FORMAT);
    expect_truth("t.bin", words, 39, MYR_ERR_FORMAT);
    expect_truth("t.bin", words, 7, MYR_ERR_FORMAT);
    expect_truth("t.bin", words, 0, MYR_ERR_FORMAT);
    myr_truth truth;
    assert_int_equal(myr_truth_read(path_of("t.ibin"), &truth), MYR_OK);
    assert_true(truth.n == 2 && truth.k == 2 && truth.ids[1] == -1 && truth.ids[2] == 9);
    assert_true(truth.distances[1] == 1 && truth.distances[2] == 2 && isinf(truth.distances[3]));
    myr_truth_clear(&truth);
    static const uint32_t heads[][2] = {
        {2, 0}, {UINT32_MAX, 2}, {2, UINT32_MAX}, {UINT32_MAX, UINT32_MAX}, {0x80000000, 0x80000000}};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        memcpy(words, heads[i], sizeof heads[i]);
        expect_truth("t.bin", words, 40, MYR_ERR_FORMAT);
    }
    const uint32_t rows[6] = {2, 5, 6, 2, 7, UINT32_MAX};
    expect_truth("t.ivecs", rows, 24, MYR_OK);
    expect_truth("t.ivecs", rows, 20, MYR_ERR_FORMAT);
    /* Ids past 2^31 are no negative ones. */
    static const uint32_t far[] = {UINT32_MAX - 1, 0x80000000, 0x7fffffff};
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
        expect_truth("t.bin", (const uint32_t[]){1, 1, far[i]}, 12, MYR_ERR_LIMIT);
        expect_truth("t.ivecs", (const uint32_t[]){1, far[i]}, 8, MYR_ERR_LIMIT);
    }
    expect_truth("t.hdf5", words, 40, MYR_ERR_FORMAT);
    assert_int_equal(myr_truth_read(path_of("nowhere.bin"), &truth), MYR_ERR_NOT_FOUND);
}

static void hits_and_truth_go_through_h5py(void **state)
{
    (void)state;
    const int64_t ids[6] = {5, 0, -1, INT32_MAX - 1, 2, 1};
    const int64_t wide[2] = {(int64_t)1 << 40, -1}, edge[2] = {INT32_MAX, 0};
    const float distances[6] = {0, 0.5f, INFINITY, 1, 2, 3};
    assert_int_equal(myr_hits_write_hdf5(path_of("hits.hdf5"), 2, 3, ids, distances), MYR_OK);
    assert_int_equal(myr_hits_write_hdf5(path_of("wide.hdf5"), 1, 2, wide, distances), MYR_OK);
    assert_int_equal(myr_hits_write_hdf5(path_of("edge.hdf5"), 1, 2, edge, distances), MYR_OK);
    assert_int_equal(myr_hits_write_hdf5(path_of("none.hdf5"), 0, 10, ids, distances), MYR_OK);
    run_python("f = h5py.File('hits.hdf5', 'r'); i = f['neighbors']; d = f['distances']\n"
               "assert i.dtype == '<i4' and i[:].tolist() == [[5, 0, -1], [2**31 - 2, 2, 1]]\n"
               "assert d.dtype == '<f4' and d[0, 1] == 0.5 and np.isinf(d[0, 2])\n"
               "f = h5py.File('wide.hdf5', 'r'); i = f['neighbors']\n"
               "assert i.dtype == '<i8' and i[:].tolist() == [[2**40, -1]]\n"
               "assert h5py.File('edge.hdf5', 'r')['neighbors'].dtype == '<i8'\n"
               "assert h5py.File('none.hdf5', 'r')['neighbors'].shape == (0, 10)\n"
               "def make(name, **sets):\n"
               "    f = h5py.File(name, 'w')\n"
               "    for k, v in sets.items():\n"
               "        f[k] = v\n"
               "    f.close()\n"
               "make('alone.hdf5', neighbors=np.array([[1, 2]], 'i8'))\n"
               "make('shape.hdf5', neighbors=np.array([[1, 2]]), distances=np.zeros((2, 2), 'f4'))\n"
               "make('texts.hdf5', neighbors=np.array([[1, 2]]), distances=[[b'a', b'b']])\n"
               "make('wrong.hdf5', train=np.zeros((2, 2)))\n");
    myr_truth truth;
    assert_int_equal(myr_truth_read(path_of("hits.hdf5"), &truth), MYR_OK);
    assert_true(truth.n == 2 && truth.k == 3 && truth.ids[2] == -1 && truth.ids[3] == INT32_MAX - 1);
    assert_true(truth.distances[1] == 0.5f);
    myr_truth_clear(&truth);
    assert_int_equal(myr_truth_read(path_of("alone.hdf5"), &truth), MYR_OK);
    assert_true(truth.ids[1] == 2 && !truth.distances);
    myr_truth_clear(&truth);
    assert_int_equal(myr_truth_read(path_of("wide.hdf5"), &truth), MYR_ERR_LIMIT);
    assert_int_equal(myr_truth_read(path_of("shape.hdf5"), &truth), MYR_ERR_FORMAT);
    assert_int_equal(myr_truth_read(path_of("texts.hdf5"), &truth), MYR_ERR_FORMAT);
    assert_true(!truth.ids && !truth.distances);
    assert_int_equal(myr_truth_read(path_of("wrong.hdf5"), &truth), MYR_ERR_NOT_FOUND);
    assert_non_null(strstr(myr_error_detail(), "it has: train"));
}

static void real_truth_is_sound(void **state)
{
    (void)state;
    static const char path[] = MYRIOPS_SOURCE_DIR "/../shared/data/sift/groundtruth.bin";
    if (!myr_path_exists(path)) {
        print_message("skipped: %s is missing\n", path);
        skip();
    }
    myr_truth truth;
    if (myr_truth_read(path, &truth) != MYR_OK)
        fail_msg("%s", myr_error_detail());
    assert_true(truth.n == 5000 && truth.k == 100 && truth.distances);
    for (size_t i = 0; i < truth.n * truth.k; i++) {
        assert_true(truth.ids[i] >= 0 && truth.distances[i] >= 0);
        if (i % truth.k > 0)
            assert_true(truth.distances[i - 1] <= truth.distances[i]);
    }
    myr_truth_clear(&truth);
}

static void failed_writes_leave_nothing(void **state)
{
    (void)state;
    static float rows[400 * DIM];
    static int64_t ids[400 * DIM];
    pid_t child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        for (rlim_t limit = 0; limit < 12000; limit += 700) {
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, RLIM_INFINITY});
            if (myr_hits_write_hdf5(path_of("full.hdf5"), 400, DIM, ids, rows) != MYR_ERR_IO ||
                !strstr(myr_error_detail(), "full.hdf5"))
                _exit(1);
            if (limit < 8000 && (myr_vectors_write(path_of("full.npy"), rows, 400, DIM) != MYR_ERR_IO ||
                                 !strstr(myr_error_detail(), "full.npy")))
                _exit(2);
        }
        exit(0); /* through HDF5's end, too */
    }
    int how;
    waitpid(child, &how, 0);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
    static const char *const names[] = {"full.hdf5", "full.hdf5.partial", "full.npy", "full.npy.partial"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_false(myr_path_exists(path_of(names[i])));
    assert_int_equal(myr_file_replace(path_of("file"), "x", 1), MYR_OK);
    assert_int_equal(myr_hits_write_hdf5(path_of("file/hits.hdf5"), 1, 1, ids, rows), MYR_ERR_IO);
    assert_non_null(strstr(myr_error_detail(), "file/hits.hdf5"));
    assert_int_equal(myr_vectors_write(path_of("file/rows.npy"), rows, 1, 1), MYR_ERR_IO);
    assert_non_null(strstr(myr_error_detail(), "file/rows.npy"));
}

static void pipes_and_folders_are_no_files(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(path_of("pipe.fbin"), 0666), 0);
    assert_int_equal(mkdir(path_of("folder.fbin"), 0777), 0);
    alarm(60); /* opening a pipe would wait for a writer */
    expect("pipe.fbin", MYR_ERR_IO, "no regular file");
    expect("folder.fbin", MYR_ERR_IO, "no regular file");
    alarm(0);
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
        cmocka_unit_test(numpy_files_are_read),
        cmocka_unit_test(headers_that_lie_are_refused),
        cmocka_unit_test(npy_headers_that_lie_are_refused),
        cmocka_unit_test(hdf5_files_are_read),
        cmocka_unit_test(hdf5_is_not_trusted_with_damaged_sizes),
        cmocka_unit_test(hdf5_holds_no_more_than_its_file),
        cmocka_unit_test(rows_are_written_for_numpy),
        cmocka_unit_test(truth_is_read_from_each_format),
        cmocka_unit_test(hits_and_truth_go_through_h5py),
        cmocka_unit_test(real_truth_is_sound),
        cmocka_unit_test(failed_writes_leave_nothing),
        cmocka_unit_test(pipes_and_folders_are_no_files),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
