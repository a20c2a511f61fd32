/*
 * Manifests, text tables, and the interchange files of vectors.
 */
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/file.h"
#include "myriops/store.h"
#include "myriops/vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/myriops-formats-XXXXXX";

static const char *path_of(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* ---- manifests ---- */

static char *const operands[] = {"/data/photos", "caf\xe9/100%.tar", "\xc3\xa9t\xc3\xa9"};
static char *const classes[] = {"cat", "\xff\xfe"};

static myr_manifest make_manifest(void)
{
    return (myr_manifest){.corpus_digest = "abc",
                          .contract = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                          .model = "some-model",
                          .metric = "cosine",
                          .storage = "f16",
                          .precision = "bf16",
                          .dim = 1280,
                          .n_items = 1000,
                          .chunk_items = 64,
                          .n_chunks = 16,
                          .classes = (char **)classes,
                          .n_classes = 2,
                          .operands = (char **)operands,
                          .n_operands = 3,
                          .complete = true,
                          .n_embedded = 990,
                          .n_bad = 10};
}

static void manifests_keep_everything(void **state)
{
    (void)state;
    myr_manifest manifest = make_manifest(), read;
    myr_buffer one = {0}, two = {0};
    assert_int_equal(myr_manifest_write(path_of("manifest.json"), &manifest), MYR_OK);
    if (myr_manifest_read(path_of("manifest.json"), &read) != MYR_OK)
        fail_msg("%s", myr_error_detail());
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(read.operands[i], operands[i]);
    assert_string_equal(read.classes[1], classes[1]);
    assert_true(read.complete && read.n_items == 1000 && read.n_chunks == 16 && read.n_embedded == 990 &&
                read.n_bad == 10);
    assert_string_equal(read.storage, "f16");
    assert_int_equal(myr_manifest_write(path_of("again.json"), &read), MYR_OK);
    assert_int_equal(myr_file_read(path_of("manifest.json"), 1 << 20, &one), MYR_OK);
    assert_int_equal(myr_file_read(path_of("again.json"), 1 << 20, &two), MYR_OK);
    assert_string_equal(one.data, two.data);
    myr_buffer_free(&one);
    myr_buffer_free(&two);
    myr_manifest_clear(&read);
}

static void damaged_manifests_name_the_field(void **state)
{
    (void)state;
    static const char *const changes[][3] = {
        {"\"dim\": 1280", "\"dim\": 0", "'dim'"},
        {"\"dim\": 1280", "\"dim\": \"wide\"", "'dim'"},
        {"\"items\": 1000", "\"items\": -1", "'items'"},
        {"\"items\": 1000", "\"items\": 5000", "'chunks'"},
        {"\"chunk_items\": 64", "\"chunk_items\": 0", "'chunk_items'"},
        {"\"metric\": \"cosine\"", "\"metric\": \"taxi\"", "'metric'"},
        {"\"storage\": \"f16\"", "\"storage\": \"f8\"", "'storage'"},
        {"\"complete\": true", "\"complete\": 1", "'complete'"},
        {"\"embedded\": 990", "\"embedded\": 1001", "'embedded'"},
        {"\"cat\"", "7", "'classes'"},
        {"\"contract\": \"0", "\"contract\": \"", "'contract'"},
    };
    myr_manifest manifest = make_manifest(), read;
    myr_buffer text = {0};
    assert_int_equal(myr_manifest_write(path_of("manifest.json"), &manifest), MYR_OK);
    assert_int_equal(myr_file_read(path_of("manifest.json"), 1 << 20, &text), MYR_OK);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        myr_buffer changed = {0};
        char *at = strstr(text.data, changes[i][0]);
        assert_non_null(at);
        myr_buffer_append(&changed, text.data, (size_t)(at - text.data));
        myr_buffer_puts(&changed, changes[i][1]);
        myr_buffer_puts(&changed, at + strlen(changes[i][0]));
        assert_int_equal(myr_file_replace(path_of("changed.json"), changed.data, changed.size), MYR_OK);
        if (myr_manifest_read(path_of("changed.json"), &read) != MYR_ERR_FORMAT ||
            !strstr(myr_error_detail(), changes[i][2]))
            fail_msg("%s: %s", changes[i][1], myr_error_detail());
        myr_buffer_free(&changed);
    }
    for (size_t size = 0; size + 2 < text.size; size += 7) {
        assert_int_equal(myr_file_replace(path_of("cut.json"), text.data, size), MYR_OK);
        assert_int_equal(myr_manifest_read(path_of("cut.json"), &read), MYR_ERR_FORMAT);
    }
    myr_buffer_free(&text);
}

/* ---- text tables ---- */

static void text_tables_keep_their_texts(void **state)
{
    (void)state;
    const char *const texts[] = {"one", "", "three \xff", NULL};
    myr_sections_writer *writer;
    myr_sections *file;
    myr_text_table table;
    assert_int_equal(myr_sections_create(path_of("table.h5"), &writer), MYR_OK);
    assert_int_equal(myr_text_table_add(writer, "key", texts, 4), MYR_OK);
    assert_int_equal(myr_text_table_add(writer, "none", texts, 0), MYR_OK);
    assert_int_equal(myr_sections_commit(writer), MYR_OK);
    assert_int_equal(myr_sections_open(path_of("table.h5"), NULL, &file), MYR_OK);
    assert_int_equal(myr_text_table_open(file, "key", &table), MYR_OK);
    assert_int_equal(table.n, 4);
    assert_string_equal(myr_text_table_get(&table, 0), "one");
    assert_string_equal(myr_text_table_get(&table, 2), "three \xff");
    assert_string_equal(myr_text_table_get(&table, 3), "");
    assert_int_equal(myr_text_table_open(file, "none", &table), MYR_OK);
    assert_int_equal(table.n, 0);
    assert_int_not_equal(myr_text_table_open(file, "missing", &table), MYR_OK);
    myr_sections_close(file);
}

/* Sections with right checksums and wrong contents. */
static void lying_text_tables_are_refused(void **state)
{
    (void)state;
    static const uint64_t offsets[][3] = {{0, 9, 4}, {1, 2, 4}, {0, 2, 3}, {0, 0, 4}, {0, 3, 4}, {0, 1ull << 60, 4}};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        myr_sections_writer *writer;
        myr_sections *file;
        myr_text_table table;
        size_t n_offsets = 3, n_bytes = 4;
        assert_int_equal(myr_sections_create(path_of("lies.h5"), &writer), MYR_OK);
        assert_int_equal(myr_sections_add(writer, "key_offset", MYR_SECTION_U64, 1, &n_offsets, offsets[i]), MYR_OK);
        assert_int_equal(myr_sections_add(writer, "key_bytes", MYR_SECTION_U8, 1, &n_bytes, "a\0b"), MYR_OK);
        assert_int_equal(myr_sections_commit(writer), MYR_OK);
        assert_int_equal(myr_sections_open(path_of("lies.h5"), NULL, &file), MYR_OK);
        if (myr_text_table_open(file, "key", &table) != MYR_ERR_FORMAT)
            fail_msg("offsets %zu were taken", i);
        myr_sections_close(file);
    }
}

/* ---- vectors ---- */

static void rows_survive_each_format(void **state)
{
    (void)state;
    static const char *const names[] = {"a.fbin", "a.fvecs", "a.npy", "a.u8bin", "a.bvecs", "a.i8bin"};
    float rows[5 * 3], read[5 * 3];
    for (int i = 0; i < 15; i++)
        rows[i] = (float)(i * 7 % 120);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        myr_vectors file;
        assert_int_equal(myr_vectors_write(path_of(names[i]), rows, 5, 3), MYR_OK);
        if (myr_vectors_read(path_of(names[i]), NULL, &file) != MYR_OK)
            fail_msg("%s", myr_error_detail());
        assert_true(file.n == 5 && file.dim == 3);
        assert_int_equal(myr_vectors_to_f32(&file, 0, 5, read), MYR_OK);
        assert_memory_equal(rows, read, sizeof rows);
        assert_int_equal(myr_vectors_to_f32(&file, 2, 2, read), MYR_OK);
        assert_memory_equal(rows + 6, read, 6 * sizeof *rows);
        assert_int_equal(myr_vectors_to_f32(&file, 4, 2, read), MYR_ERR_ARG);
        myr_vectors_clear(&file);
    }
    rows[3] = 300;
    assert_int_equal(myr_vectors_write(path_of("b.u8bin"), rows, 5, 3), MYR_ERR_ARG);
    assert_int_equal(myr_vectors_write(path_of("b.hdf5"), rows, 5, 3), MYR_ERR_UNSUPPORTED);
    assert_int_equal(myr_vectors_read(path_of("b.csv"), NULL, &(myr_vectors){0}), MYR_ERR_NOT_FOUND);
}

static void check_status(const char *name, const void *bytes, size_t n, myr_status wanted)
{
    myr_vectors file;
    assert_int_equal(myr_file_replace(path_of(name), bytes, n), MYR_OK);
    myr_status status = myr_vectors_read(path_of(name), NULL, &file);
    if (status != wanted)
        fail_msg("%s: status %d, not %d (%s)", name, (int)status, (int)wanted, myr_error_detail());
    myr_vectors_clear(&file);
}

static void lying_headers_are_refused(void **state)
{
    (void)state;
    const uint32_t good[4] = {1, 2, 0, 0}, many[4] = {0xffffffff, 0xffffffff, 0, 0}, flat[4] = {1, 0, 0, 0};
    const uint32_t ragged[8] = {3, 1, 2, 3, 2, 1, 2, 3}, rows[8] = {3, 1, 2, 3, 3, 1, 2, 3};
    check_status("x.fbin", good, 16, MYR_OK);
    check_status("x.fbin", good, 15, MYR_ERR_FORMAT);
    check_status("x.fbin", good, 4, MYR_ERR_FORMAT);
    check_status("x.fbin", "", 0, MYR_ERR_FORMAT);
    check_status("x.fbin", many, 16, MYR_ERR_FORMAT);
    check_status("x.fbin", flat, 8, MYR_ERR_FORMAT);
    check_status("x.fvecs", rows, 32, MYR_OK);
    check_status("x.fvecs", ragged, 32, MYR_ERR_FORMAT);
    check_status("x.fvecs", rows, 31, MYR_ERR_FORMAT);
    check_status("x.fvecs", many, 16, MYR_ERR_FORMAT);
    check_status("x.npy", "\x93NUMPY\x01\x00\xff\xff{}", 12, MYR_ERR_FORMAT);
    check_status("x.npy", "no numpy at all", 15, MYR_ERR_FORMAT);
    check_status("x.hdf5", "no hdf5 at all", 14, MYR_ERR_FORMAT);
    check_status("x.csv", "1,2,3", 5, MYR_ERR_UNSUPPORTED);
}

/* Files by numpy and h5py, and what they read of ours. */
static void numpy_and_h5py_agree(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        myr_status status;
        size_t n, dim;
        float last;
    } files[] = {
        {"f4.npy", MYR_OK, 4, 3, 11},
        {"f8.npy", MYR_OK, 4, 3, 11},
        {"f2.npy", MYR_OK, 4, 3, 11},
        {"i1.npy", MYR_OK, 4, 3, 11},
        {"v2.npy", MYR_OK, 4, 3, 11},
        {"f.npy", MYR_ERR_UNSUPPORTED, 0, 0, 0},
        {"3d.npy", MYR_ERR_UNSUPPORTED, 0, 0, 0},
        {"i8.npy", MYR_ERR_UNSUPPORTED, 0, 0, 0},
        {"ann.hdf5", MYR_OK, 4, 3, 11},     /* lies there as in memory: mapped */
        {"chunked.hdf5", MYR_OK, 4, 3, 11}, /* these are read */
        {"f8.hdf5", MYR_OK, 4, 3, 11},
        {"be.hdf5", MYR_OK, 4, 3, 11},
        {"unwritten.hdf5", MYR_OK, 4, 3, 0},
        {"none.hdf5", MYR_ERR_NOT_FOUND, 0, 0, 0},
    };
    char command[3072];
    const int64_t ids[4] = {3, 1, 0, -1};
    const float distances[4] = {0, 1, 2, 3};
    assert_int_equal(myr_hits_write_hdf5(path_of("hits.hdf5"), 2, 2, ids, distances), MYR_OK);
    snprintf(
        command, sizeof command,
        "cd %s && /usr/bin/python3 -c \"\n"
        "import sys\n"
        "try:\n"
        "    import h5py, numpy as np\n"
        "except ImportError:\n"
        "    sys.exit(77)\n"
        "a = np.arange(12).reshape(4, 3)\n"
        "for t in ('f4', 'f8', 'f2', 'i1', 'i8'):\n"
        "    np.save(t + '.npy', a.astype(t))\n"
        "np.save('f.npy', np.asfortranarray(a.astype('f4')))\n"
        "np.save('3d.npy', a.reshape(2, 2, 3).astype('f4'))\n"
        "np.lib.format.write_array(open('v2.npy', 'wb'), a.astype('f4'), (2, 0))\n"
        "f = h5py.File('ann.hdf5', 'w')\n"
        "f['train'] = a.astype('f4'); f['test'] = a[:1].astype('f4')\n"
        "f['neighbors'] = a[:2].astype('i4'); f['distances'] = a[:2].astype('f4')\n"
        "f.close()\n"
        "h5py.File('none.hdf5', 'w')['other'] = a\n"
        "h5py.File('chunked.hdf5', 'w').create_dataset('train', data=a.astype('f4'), chunks=(2, 3), compression=1)\n"
        "h5py.File('f8.hdf5', 'w')['train'] = a.astype('f8')\n"
        "h5py.File('be.hdf5', 'w')['train'] = a.astype('>f4')\n"
        "h5py.File('unwritten.hdf5', 'w').create_dataset('train', (4, 3), 'f4')\n"
        "h5py.File('huge.hdf5', 'w').create_dataset('train', (2**40, 64), 'f4', chunks=(1024, 64))\n"
        "h = h5py.File('hits.hdf5')\n"
        "assert h['neighbors'].dtype == np.int32 and h['neighbors'][:].tolist() == [[3, 1], [0, -1]]\n"
        "assert h['distances'].dtype == np.float32 and h['distances'][1, 1] == 3\n"
        "\"",
        folder);
    int status = system(command);
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: python3-h5py is missing\n");
        skip();
    }
    assert_int_equal(status, 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        myr_vectors file;
        float row[3];
        myr_status found = myr_vectors_read(path_of(files[i].name), NULL, &file);
        if (found != files[i].status)
            fail_msg("%s: %s", files[i].name, myr_error_detail());
        if (found != MYR_OK)
            continue;
        assert_true(file.n == files[i].n && file.dim == files[i].dim);
        assert_true(strstr(files[i].name, "hdf5") == NULL ||
                    (file.mapping != NULL) == (strcmp(files[i].name, "ann.hdf5") == 0));
        assert_int_equal(myr_vectors_to_f32(&file, 3, 1, row), MYR_OK);
        assert_true(row[2] == files[i].last);
        myr_vectors_clear(&file);
    }
    assert_int_equal(myr_vectors_read(path_of("huge.hdf5"), NULL, &(myr_vectors){0}), MYR_ERR_LIMIT);
    assert_int_equal(myr_vectors_read(path_of("none.hdf5"), "test", &(myr_vectors){0}), MYR_ERR_NOT_FOUND);
    assert_non_null(strstr(myr_error_detail(), "other"));
    myr_truth truth;
    assert_int_equal(myr_truth_read(path_of("ann.hdf5"), &truth), MYR_OK);
    assert_true(truth.n == 2 && truth.k == 3 && truth.ids[5] == 5 && truth.distances[5] == 5);
    myr_truth_clear(&truth);
}

static void ground_truth_is_read(void **state)
{
    (void)state;
    const uint32_t plain[6] = {2, 2, 5, 6, 7, 8};
    myr_truth truth;
    assert_int_equal(myr_file_replace(path_of("gt.bin"), plain, sizeof plain), MYR_OK);
    assert_int_equal(myr_truth_read(path_of("gt.bin"), &truth), MYR_OK);
    assert_true(truth.n == 2 && truth.k == 2 && truth.ids[3] == 8 && !truth.distances);
    myr_truth_clear(&truth);
    assert_int_equal(myr_file_replace(path_of("gt.bin"), plain, sizeof plain - 1), MYR_OK);
    assert_int_equal(myr_truth_read(path_of("gt.bin"), &truth), MYR_ERR_FORMAT);
    const uint32_t wide[4] = {1, 2, 5, 0xfffffff0};
    assert_int_equal(myr_file_replace(path_of("gt.bin"), wide, sizeof wide), MYR_OK);
    assert_int_equal(myr_truth_read(path_of("gt.bin"), &truth), MYR_ERR_LIMIT);
    const char *data = getenv("MYRIOPS_DATA");
    char path[512];
    snprintf(path, sizeof path, "%s/sift/groundtruth.bin", data ? data : MYRIOPS_SOURCE_DIR "/../shared/data");
    if (!myr_path_exists(path)) {
        print_message("%s is missing: not looked at\n", path);
        return;
    }
    assert_int_equal(myr_truth_read(path, &truth), MYR_OK);
    assert_true(truth.n == 5000 && truth.k == 100 && truth.distances && truth.distances[0] <= truth.distances[1]);
    myr_truth_clear(&truth);
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
        cmocka_unit_test(manifests_keep_everything),    cmocka_unit_test(damaged_manifests_name_the_field),
        cmocka_unit_test(text_tables_keep_their_texts), cmocka_unit_test(lying_text_tables_are_refused),
        cmocka_unit_test(rows_survive_each_format),     cmocka_unit_test(lying_headers_are_refused),
        cmocka_unit_test(numpy_and_h5py_agree),         cmocka_unit_test(ground_truth_is_read),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
