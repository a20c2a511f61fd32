/*
 * Enumeration of folders, lists and tars; tars are made by the system's tar.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/log.h"
#include "corpus/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char place[64];

static void run(const char *format, ...) MYR_PRINTF(1, 2);

/* A shell command in the test's folder. */
static void run(const char *format, ...)
{
    char command[4096];
    int n = snprintf(command, sizeof command, "cd %s && ", place);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command + n, sizeof command - (size_t)n, format, arguments);
    va_end(arguments);
    assert_int_equal(system(command), 0);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(place, "/tmp/myriops-corpus-XXXXXX");
    myr_log_init("test", false, true);
    return mkdtemp(place) && chdir(place) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", place);
    return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

static myr_corpus *open_fine(const char *operand, bool label_from_folder)
{
    myr_corpus *corpus = NULL;
    myr_status status = myr_corpus_open(&operand, 1, &(myr_corpus_options){.label_from_folder = label_from_folder}, &corpus);
    if (status != MYR_OK)
        print_message("%s\n", myr_error_detail());
    assert_int_equal(status, MYR_OK);
    return corpus;
}

static void refuse(const char *operand, myr_status status, const char *word)
{
    myr_corpus *corpus = NULL;
    assert_int_equal(myr_corpus_open(&operand, 1, &(myr_corpus_options){0}, &corpus), status);
    assert_null(corpus);
    assert_non_null(strstr(myr_error_detail(), word));
}

static const char *key_of(const myr_corpus *corpus, int64_t i)
{
    myr_item item;
    myr_corpus_item(corpus, i, &item);
    return item.key;
}

static void folders_are_sorted_and_labelled(void **state)
{
    (void)state;
    run("mkdir -p f/b f/a/deep && echo x > f/b/2.PNG && echo xy > f/a/1.jpg && echo z > f/a/deep/0.webp && "
        "echo n > f/a/notes.txt && echo h > f/.hidden.jpg");
    myr_corpus *corpus = open_fine("f/", true);
    assert_int_equal(myr_corpus_n_items(corpus), 3);
    assert_string_equal(key_of(corpus, 0), "a/1.jpg");
    assert_string_equal(key_of(corpus, 1), "a/deep/0.webp");
    assert_string_equal(key_of(corpus, 2), "b/2.PNG");
    assert_int_equal(myr_corpus_n_classes(corpus), 3);
    assert_string_equal(myr_corpus_class_name(corpus, 2), "b");
    myr_corpus_facts facts;
    myr_corpus_describe(corpus, &facts);
    assert_int_equal(facts.n_ignored, 2);
    assert_int_equal(facts.n_labelled, 3);
    myr_item item;
    myr_corpus_item(corpus, 2, &item);
    assert_int_equal(item.label, 2);
    myr_corpus_free(corpus);
}

static void bad_places_are_named(void **state)
{
    (void)state;
    run("mkdir empty && echo x > a.tar.gz");
    refuse("missing", MYR_ERR_NOT_FOUND, "missing");
    refuse("empty", MYR_ERR_NOT_FOUND, "picture");
    refuse("a.tar.gz", MYR_ERR_NOT_FOUND, "a.tar.gz");
    run("echo x > a.tar.xz");
    refuse("a.tar.xz", MYR_ERR_UNSUPPORTED, "a.tar.xz");
    refuse("pipe:cat x", MYR_ERR_UNSUPPORTED, "pipe:cat x: the output of a program");
    refuse("https://host/x.tar", MYR_ERR_UNSUPPORTED, "copy it to a file");
    run("echo pipe:cat > pipes.txt");
    refuse("pipes.txt", MYR_ERR_UNSUPPORTED, "pipe:cat");
}

static void lists_keep_their_order(void **state)
{
    (void)state;
    run("mkdir l && echo x > l/b.jpg && echo x > l/a.jpg && printf 'b.jpg\\r\\na.jpg\\n\\nmissing.jpg' > l/list.txt");
    myr_corpus *corpus = open_fine("l/list.txt", false);
    assert_int_equal(myr_corpus_n_items(corpus), 3);
    assert_string_equal(key_of(corpus, 0), "b.jpg");
    myr_item item;
    myr_corpus_item(corpus, 2, &item);
    assert_non_null(item.problem);
    myr_corpus_free(corpus);
}

static void make_samples(void)
{
    run("mkdir s && for i in 0 1 2; do printf 'picture%%s' $i > s/x$i.jpg; printf $i > s/x$i.cls; echo '{}' > s/x$i.json; done");
}

static void tars_are_enumerated(void **state)
{
    (void)state;
    static const char *const formats[] = {"ustar", "gnu", "pax"};
    make_samples();
    run("n=$(printf 'd%%.0s' $(seq 90)); mkdir -p s/$n/$n && printf long > s/$n/$n/y.v1.png");
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        run("tar --format=%s --sort=name -cf t.tar -C s .", formats[i]);
        myr_corpus *corpus = open_fine("t.tar", false);
        assert_int_equal(myr_corpus_n_items(corpus), 4);
        myr_item_reader *reader = NULL;
        assert_int_equal(myr_item_reader_create(&reader), MYR_OK);
        int n_long = 0;
        for (int64_t j = 0; j < 4; j++) {
            myr_item item;
            const void *bytes;
            size_t n_bytes;
            myr_corpus_item(corpus, j, &item);
            assert_int_equal(myr_item_reader_read(reader, &item, &bytes, &n_bytes), MYR_OK);
            if (strlen(item.key) > 180) {
                n_long++;
                assert_string_equal(item.key + strlen(item.key) - 2, "/y");
                assert_memory_equal(bytes, "long", 4);
            } else {
                char expected[16];
                snprintf(expected, sizeof expected, "picture%d", item.label);
                assert_int_equal(n_bytes, strlen(expected));
                assert_memory_equal(bytes, expected, n_bytes);
            }
        }
        assert_int_equal(n_long, 1);
        myr_item_reader_free(reader);
        myr_corpus_free(corpus);
    }
}

static void a_cut_tar_keeps_what_is_whole(void **state)
{
    (void)state;
    run("mkdir c && head -c 3000 /dev/zero > c/a.jpg && head -c 3000 /dev/zero > c/b.jpg && "
        "tar --format=ustar --sort=name -cf c.tar -C c a.jpg b.jpg && head -c 5500 c.tar > cut.tar");
    myr_corpus *corpus = open_fine("cut.tar", false);
    assert_int_equal(myr_corpus_n_items(corpus), 2);
    myr_item item;
    myr_corpus_item(corpus, 0, &item);
    assert_null(item.problem);
    myr_corpus_item(corpus, 1, &item);
    assert_non_null(strstr(item.problem, "cut inside"));
    myr_corpus_free(corpus);
}

static void packed_tars_are_the_same_corpus(void **state)
{
    (void)state;
    make_samples();
    run("head -c 300000 /dev/urandom > s/y.jpg && printf 3 > s/y.cls && tar --format=gnu --sort=name -cf t.tar -C s . && "
        "gzip -k t.tar && cp t.tar.gz u.tgz && cp t.tar.gz hidden.tar");
    static const char *const names[] = {"t.tar", "t.tar.gz", "u.tgz", "hidden.tar"};
    char digest[65] = "";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        myr_corpus *corpus = open_fine(names[i], false);
        myr_item item;
        myr_item_reader *reader = NULL;
        const void *bytes;
        size_t n_bytes;
        assert_int_equal(myr_corpus_n_items(corpus), 4);
        if (i == 0)
            strcpy(digest, myr_corpus_digest(corpus));
        assert_string_equal(myr_corpus_digest(corpus), digest);
        assert_int_equal(myr_item_reader_create(&reader), MYR_OK);
        for (int64_t j = 3; j >= 0; j--) { /* backwards */
            myr_corpus_item(corpus, j, &item);
            assert_int_equal(item.coding, i == 0 ? MYR_CODING_PLAIN : MYR_CODING_GZIP);
            assert_int_equal(item.in_tar, i == 0); /* only then are its bytes a range of the source's */
            assert_int_equal(myr_item_reader_read(reader, &item, &bytes, &n_bytes), MYR_OK);
            assert_int_equal(n_bytes, j == 3 ? 300000 : 8);
            assert_true(j == 3 || memcmp(bytes, "picture", 7) == 0);
        }
        myr_item_reader_free(reader);
        myr_corpus_free(corpus);
    }
    run("head -c 200000 t.tar.gz > cut.tar.gz && (head -c 100000 t.tar.gz; head -c 100 /dev/zero; tail -c +100101 t.tar.gz) "
        "> bad.tar.gz && echo text | gzip > text.tar.gz && : | gzip > empty.tar.gz");
    myr_corpus *corpus = open_fine("cut.tar.gz", false);
    myr_item item;
    assert_int_equal(myr_corpus_n_items(corpus), 4);
    myr_corpus_item(corpus, 3, &item);
    assert_non_null(strstr(item.problem, "cut inside"));
    myr_corpus_free(corpus);
    refuse("bad.tar.gz", MYR_ERR_FORMAT, "damaged");
    refuse("text.tar.gz", MYR_ERR_NOT_FOUND, "no pictures");
    refuse("empty.tar.gz", MYR_ERR_NOT_FOUND, "no pictures");
}

static void damaged_tars_are_refused(void **state)
{
    (void)state;
    make_samples();
    run("tar --format=ustar --hard-dereference -cf twice.tar -C s x0.jpg x1.jpg x0.jpg");
    refuse("twice.tar", MYR_ERR_FORMAT, "not neighbours");
    run("cp twice.tar bad.tar && printf Z | dd of=bad.tar bs=1 seek=3 conv=notrunc 2>/dev/null");
    refuse("bad.tar", MYR_ERR_FORMAT, "checksum");
    run("head -c 2000 /dev/urandom > noise.tar");
    refuse("noise.tar", MYR_ERR_FORMAT, "noise.tar");
}

static void braces_are_expanded(void **state)
{
    (void)state;
    run("mkdir r && for i in 008 009 010; do echo x > r/a-$i.jpg; echo x > r/a-$i.png; done");
    static const char *const expected[] = {"r/a-008.jpg", "r/a-008.png", "r/a-009.jpg",
                                           "r/a-009.png", "r/a-010.jpg", "r/a-010.png"};
    myr_corpus *corpus = open_fine("r/a-{008..010}.{jpg,png}", false);
    assert_int_equal(myr_corpus_n_items(corpus), 6);
    for (int64_t i = 0; i < 6; i++)
        assert_string_equal(key_of(corpus, i), expected[i]);
    myr_corpus_free(corpus);
}

static void packed_items_come_back(void **state)
{
    (void)state;
    make_samples();
    myr_corpus *corpus = open_fine("s", true);
    myr_buffer message = {0};
    assert_int_equal(myr_corpus_pack(corpus, 1, 2, &message), MYR_OK);
    myr_item_list *list = NULL;
    assert_int_equal(myr_item_list_unpack(message.data, message.size, &list), MYR_OK);
    assert_int_equal(myr_item_list_n(list), 2);
    myr_item item;
    myr_item_list_item(list, 0, &item);
    assert_int_equal(item.ordinal, 1);
    assert_string_equal(item.key, key_of(corpus, 1));
    myr_item_list_free(list);
    for (size_t cut = 0; cut < message.size; cut++)
        assert_int_equal(myr_item_list_unpack(message.data, cut, &list), MYR_ERR_FORMAT);
    for (size_t i = 0; i < message.size; i++) { /* any flipped byte: an error or another list, never a crash */
        message.data[i] ^= 0x55;
        if (myr_item_list_unpack(message.data, message.size, &list) == MYR_OK)
            myr_item_list_free(list);
        message.data[i] ^= 0x55;
    }
    myr_buffer_free(&message);
    myr_corpus_free(corpus);
}

static void real_tars_are_read(void **state)
{
    (void)state;
    const char *data = getenv("MYRIOPS_DATA");
    if (!data) {
        print_message("MYRIOPS_DATA is not set: real tars are not read\n");
        skip();
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/photos/photos-{000000..000004}.tar", data);
    myr_corpus *corpus = open_fine(path, false);
    assert_int_equal(myr_corpus_n_items(corpus), 500);
    for (int64_t i = 0; i < 500; i++) {
        myr_item item;
        myr_corpus_item(corpus, i, &item);
        assert_in_range(item.label, 0, 999);
    }
    myr_corpus_free(corpus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(folders_are_sorted_and_labelled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_places_are_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lists_keep_their_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tars_are_enumerated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cut_tar_keeps_what_is_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(packed_tars_are_the_same_corpus, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_tars_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(braces_are_expanded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(packed_items_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(real_tars_are_read, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
