/*
 * Manifests: every field missing, of another type or out of range is named; the same contents give the same bytes.
 */
#include "base/buffer.h"
#include "base/file.h"
#include "base/rng.h"
#include "myriops/store.h"

#include <jansson.h>
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

static char folder[] = "/tmp/myriops-manifest-XXXXXX";

static const char *path_of(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static char every_byte[256]; /* 1 to 255 */
static char *operands[] = {"/data/photos", "caf\xe9/100%.tar", "%41%", "line\nbreak \"quoted\"", every_byte, ""};
static char *classes[] = {"cat", "\xff\xfe", "\xc3\xa9t\xc3\xa9"};

static myr_manifest make_manifest(void)
{
    return (myr_manifest){.corpus_digest = "abc",
                          .contract = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                          .model = "some \xff model",
                          .metric = "cosine",
                          .storage = "f16",
                          .precision = "bf16",
                          .dim = 1280,
                          .n_items = 1000,
                          .chunk_items = 64,
                          .n_chunks = 16,
                          .classes = classes,
                          .n_classes = 3,
                          .operands = operands,
                          .n_operands = 6,
                          .complete = true,
                          .n_embedded = 990,
                          .n_bad = 10};
}

static void read_bytes(const char *name, myr_buffer *bytes)
{
    assert_int_equal(myr_file_read(path_of(name), 1 << 20, bytes), MYR_OK);
}

static void everything_comes_back(void **state)
{
    (void)state;
    myr_manifest manifest = make_manifest(), read;
    myr_buffer one = {0}, two = {0};
    assert_int_equal(myr_manifest_write(path_of("one.json"), &manifest), MYR_OK);
    if (myr_manifest_read(path_of("one.json"), &read) != MYR_OK)
        fail_msg("%s", myr_error_detail());
    assert_string_equal(read.corpus_digest, manifest.corpus_digest);
    assert_string_equal(read.contract, manifest.contract);
    assert_string_equal(read.model, manifest.model);
    assert_string_equal(read.metric, manifest.metric);
    assert_string_equal(read.storage, manifest.storage);
    assert_true(read.dim == 1280 && read.n_items == 1000 && read.chunk_items == 64 && read.n_chunks == 16);
    assert_true(read.complete && read.n_embedded == 990 && read.n_bad == 10);
    assert_true(read.n_operands == 6 && read.n_classes == 3);
    for (size_t i = 0; i < read.n_operands; i++)
        assert_string_equal(read.operands[i], operands[i]);
    for (size_t i = 0; i < read.n_classes; i++)
        assert_string_equal(read.classes[i], classes[i]);
    assert_int_equal(myr_manifest_write(path_of("two.json"), &read), MYR_OK);
    read_bytes("one.json", &one);
    read_bytes("two.json", &two);
    assert_int_equal(one.size, two.size);
    assert_memory_equal(one.data, two.data, one.size);
    myr_manifest_clear(&read);
    myr_manifest_clear(&read); /* once more is fine */

    myr_manifest empty = {.corpus_digest = "", .contract = manifest.contract, .model = "", .metric = "ip"};
    empty.storage = "f32";
    empty.precision = "f32";
    empty.dim = 1;
    empty.chunk_items = 1;
    assert_int_equal(myr_manifest_write(path_of("empty.json"), &empty), MYR_OK);
    if (myr_manifest_read(path_of("empty.json"), &read) != MYR_OK)
        fail_msg("%s", myr_error_detail());
    assert_true(read.n_items == 0 && read.n_operands == 0 && !read.complete);
    myr_manifest_clear(&read);
    manifest.guided = true;
    manifest.n_chunks = myr_manifest_count_chunks(&manifest);
    assert_int_equal(myr_manifest_write(path_of("guided.json"), &manifest), MYR_OK);
    assert_int_equal(myr_manifest_read(path_of("guided.json"), &read), MYR_OK);
    assert_true(read.guided && read.n_chunks == manifest.n_chunks && read.n_chunks > 16);
    myr_manifest_clear(&read);
    myr_buffer_free(&one);
    myr_buffer_free(&two);
}

/* Chunks follow each other without a gap, hold every item once, and become smaller. */
static void check_schedule(int64_t n_items, int64_t chunk_items, bool guided)
{
    myr_manifest manifest = {.n_items = n_items, .chunk_items = chunk_items, .guided = guided};
    int64_t n_chunks = myr_manifest_count_chunks(&manifest), next = 0, before = chunk_items, first;
    for (int64_t i = 0; i < n_chunks; i++) {
        int64_t n = myr_manifest_chunk(&manifest, i, &first);
        assert_true(first == next && n >= 1 && (n <= before || n <= 8));
        assert_true(guided || n == chunk_items || i == n_chunks - 1);
        next += n;
        before = n;
    }
    assert_true(next == n_items);
}

static void every_item_is_in_one_chunk(void **state)
{
    (void)state;
    for (int64_t n_items = 0; n_items < 700; n_items++)
        for (int64_t chunk_items = 1; chunk_items < 70; chunk_items += 1 + chunk_items / 4)
            for (int guided = 0; guided < 2; guided++)
                check_schedule(n_items, chunk_items, guided);
    check_schedule(1000003, 4096, true);
    myr_manifest million = {.n_items = 1000000, .chunk_items = 4096, .guided = true};
    int64_t first;
    assert_int_equal(myr_manifest_count_chunks(&million), 339); /* 245 of one size */
    assert_int_equal(myr_manifest_chunk(&million, 0, &first), 4096);
    assert_int_equal(myr_manifest_chunk(&million, 213, &first), 2048);
    assert_true(first == 872448); /* seven eighths */
    assert_int_equal(myr_manifest_chunk(&million, 337, &first), 512);
    million.n_items = (int64_t)1 << 48; /* as many as a folder can have */
    int64_t n_chunks = myr_manifest_count_chunks(&million), n = myr_manifest_chunk(&million, n_chunks - 1, &first);
    assert_true(first + n == million.n_items && n <= 512);
}

static json_t *good_manifest(void)
{
    myr_manifest manifest = make_manifest();
    assert_int_equal(myr_manifest_write(path_of("good.json"), &manifest), MYR_OK);
    json_t *root = json_load_file(path_of("good.json"), 0, NULL);
    assert_non_null(root);
    return root;
}

static void expect(json_t *root, myr_status wanted, const char *name, const char *what)
{
    char quoted[64];
    myr_manifest read;
    snprintf(quoted, sizeof quoted, "'%s'", name);
    assert_int_equal(json_dump_file(root, path_of("changed.json"), 0), 0);
    myr_status status = myr_manifest_read(path_of("changed.json"), &read);
    if (status != wanted || (wanted == MYR_ERR_FORMAT && !strstr(myr_error_detail(), quoted)) ||
        (wanted != MYR_OK && !strstr(myr_error_detail(), "changed.json")))
        fail_msg("%s %s: status %d, %s", name, what, (int)status, status ? myr_error_detail() : "taken");
    myr_manifest_clear(&read);
}

static void wrong_fields_are_named(void **state)
{
    (void)state;
    json_t *good = good_manifest();
    const char *name;
    json_t *value;
    /* Each missing, and each of every type it is not. */
    static const char *const others[] = {"null", "true", "7.5", "\"words\"", "[7]", "{}", "-1", "9223372036854775807"};
    json_object_foreach(good, name, value)
    {
        json_t *changed = json_copy(good);
        json_object_del(changed, name);
        bool may_miss = strcmp(name, "precision") == 0; /* which older files do not have */
        expect(changed, may_miss ? MYR_OK : MYR_ERR_FORMAT, name, "missing");
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
            json_t *other = json_loads(others[i], JSON_DECODE_ANY, NULL);
            assert_non_null(other);
            bool is_version = strcmp(name, "schema_version") == 0 && json_is_integer(other);
            bool is_free_text = json_is_string(other) && (strcmp(name, "model") == 0 || strcmp(name, "corpus") == 0);
            bool is_fine = is_free_text || (json_is_boolean(value) && json_is_boolean(other));
            json_object_set_new(changed, name, other);
            expect(changed, is_version ? MYR_ERR_UNSUPPORTED : is_fine ? MYR_OK : MYR_ERR_FORMAT, name, others[i]);
        }
        json_decref(changed);
    }
    static const struct {
        const char *name, *value, *blamed;
    } cases[] = {
        {"dim", "0", "dim"},
        {"dim", "65537", "dim"},
        {"dim", "1280.0", "dim"},
        {"chunk_items", "0", "chunk_items"},
        {"chunk_items", "268435457", "chunk_items"},
        {"items", "281474976710657", "items"},
        {"items", "281474976710656", "chunks"},
        {"chunks", "15", "chunks"},
        {"chunks", "17", "chunks"},
        {"embedded", "1001", "embedded"},
        {"bad", "1001", "bad"},
        {"bad", "11", "bad"}, /* 990 + 11 of 1,000 */
        {"metric", "\"Cosine\"", "metric"},
        {"storage", "\"f64\"", "storage"},
        {"contract", "\"\"", "contract"},
        {"operands", "[\"a\", null]", "operands"},
        {"classes", "[[\"a\"]]", "classes"},
        {"schedule", "\"odd\"", "schedule"},
        {"schedule", "null", "schedule"},
        {"schedule", "\"guided\"", "chunks"}, /* which are more then */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *changed = json_copy(good);
        json_object_set_new(changed, cases[i].name, json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        expect(changed, MYR_ERR_FORMAT, cases[i].blamed, cases[i].value);
        json_decref(changed);
    }
    json_decref(good);
}

static void check_text(const char *text, size_t n, myr_status wanted)
{
    myr_manifest read;
    assert_int_equal(myr_file_replace(path_of("text.json"), text, n), MYR_OK);
    myr_status status = myr_manifest_read(path_of("text.json"), &read);
    if (status != wanted)
        fail_msg("'%.40s': status %d", text, (int)status);
    myr_manifest_clear(&read);
}

static void other_files_are_refused(void **state)
{
    (void)state;
    myr_manifest read;
    char deep[20000];
    memset(deep, '[', sizeof deep);
    check_text("", 0, MYR_ERR_FORMAT);
    check_text("[]", 2, MYR_ERR_FORMAT);
    check_text("{}", 2, MYR_ERR_FORMAT);
    check_text("7", 1, MYR_ERR_FORMAT);
    check_text("\0\0\0", 3, MYR_ERR_FORMAT);
    check_text("{\"schema_version\": 2}", 21, MYR_ERR_UNSUPPORTED);
    check_text("{\"schema_version\": 99999999999999999999}", 40, MYR_ERR_FORMAT);
    check_text(deep, sizeof deep, MYR_ERR_FORMAT);
    assert_int_equal(myr_manifest_read(path_of("nowhere.json"), &read), MYR_ERR_NOT_FOUND);
    assert_int_equal(myr_manifest_read(folder, &read), MYR_ERR_IO);
}

/* Every byte changed, and every length: an error or a manifest that can be used, never a crash. */
static void damage_is_survived(void **state)
{
    (void)state;
    myr_manifest manifest = make_manifest(), read;
    myr_buffer text = {0};
    myr_rng rng;
    myr_rng_seed(&rng, 9);
    assert_int_equal(myr_manifest_write(path_of("whole.json"), &manifest), MYR_OK);
    read_bytes("whole.json", &text);
    for (size_t i = 0; i < text.size; i++) {
        char kept = text.data[i];
        text.data[i] = (char)(kept ^ (1 + (int)myr_rng_below(&rng, 255)));
        assert_int_equal(myr_file_replace(path_of("broken.json"), text.data, text.size), MYR_OK);
        myr_manifest_read(path_of("broken.json"), &read);
        myr_manifest_clear(&read);
        text.data[i] = kept;
    }
    for (size_t size = 0; size + 1 < text.size; size++) { /* the last byte is the end of the line */
        assert_int_equal(myr_file_replace(path_of("broken.json"), text.data, size), MYR_OK);
        assert_int_equal(myr_manifest_read(path_of("broken.json"), &read), MYR_ERR_FORMAT);
    }
    myr_buffer_free(&text);
}

static void a_full_disk_keeps_the_old_file(void **state)
{
    (void)state;
    myr_manifest manifest = make_manifest(), read;
    assert_int_equal(myr_manifest_write(path_of("kept.json"), &manifest), MYR_OK);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){100, 100});
        manifest.n_bad = 0;
        myr_status status = myr_manifest_write(path_of("kept.json"), &manifest);
        _exit(status == MYR_ERR_IO && strstr(myr_error_detail(), "kept.json") ? 0 : 1);
    }
    int how;
    waitpid(child, &how, 0);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    assert_false(myr_path_exists(path_of("kept.json.partial")));
    assert_int_equal(myr_manifest_read(path_of("kept.json"), &read), MYR_OK);
    assert_int_equal(read.n_bad, 10);
    myr_manifest_clear(&read);
    assert_int_equal(myr_manifest_write(path_of("kept.json/below.json"), &manifest), MYR_ERR_IO);
    assert_non_null(strstr(myr_error_detail(), "kept.json/below.json"));
}

static int make_folder(void **state)
{
    (void)state;
    for (int i = 0; i < 255; i++)
        every_byte[i] = (char)(i + 1);
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
        cmocka_unit_test(every_item_is_in_one_chunk), cmocka_unit_test(everything_comes_back),
        cmocka_unit_test(wrong_fields_are_named),     cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(damage_is_survived),         cmocka_unit_test(a_full_disk_keeps_the_old_file),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
