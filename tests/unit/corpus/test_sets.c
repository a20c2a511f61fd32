/*
 * Readers of published data sets: sound files, whose bytes are known, and broken ones, all made by make_sets.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/log.h"
#include "corpus/pack.h"
#include "corpus/voc_xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char place[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(place, "/tmp/myriops-sets-XXXXXX");
    myr_log_init("test", false, true);
    return mkdtemp(place) && chdir(place) == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", place);
    return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

static void make(const char *what)
{
    char command[4096];
    snprintf(command, sizeof command, "/usr/bin/python3 -B " MYRIOPS_SOURCE_DIR "/tests/unit/corpus/make_sets.py %s",
             what);
    int code = system(command);
    if (WIFEXITED(code) && WEXITSTATUS(code) == 77) {
        print_message("python3-h5py is missing\n");
        skip();
    }
    assert_int_equal(code, 0);
}

static myr_corpus *open_with(const char *operand, myr_corpus_options options)
{
    myr_corpus *corpus = NULL;
    myr_status status = myr_corpus_open(&operand, 1, &options, &corpus);
    if (status != MYR_OK)
        print_message("%s: %s\n", operand, myr_error_detail());
    assert_int_equal(status, MYR_OK);
    return corpus;
}

static void refuse(const char *operand, myr_status wanted, const char *word)
{
    myr_corpus *corpus = NULL;
    myr_status status = myr_corpus_open(&operand, 1, NULL, &corpus);
    if (status != wanted || !strstr(myr_error_detail(), word))
        print_message("%s: %d, %s\n", operand, (int)status, status == MYR_OK ? "" : myr_error_detail());
    assert_int_equal(status, wanted);
    assert_null(corpus);
    assert_non_null(strstr(myr_error_detail(), word));
}

static void check_item(const myr_corpus *corpus, int64_t i, const char *key, int32_t label)
{
    myr_item item;
    assert_int_equal(myr_corpus_item(corpus, i, &item), MYR_OK);
    assert_string_equal(item.key, key);
    assert_int_equal(item.label, label);
}

/* Every item is read through a message, as another rank reads it; check sees its bytes. */
static void read_all(const myr_corpus *corpus, void (*check)(const myr_item *, const uint8_t *, size_t))
{
    myr_buffer message = {0};
    myr_item_list *list;
    myr_item_reader *reader;
    assert_int_equal(myr_corpus_pack(corpus, 0, myr_corpus_n_items(corpus), &message), MYR_OK);
    assert_int_equal(myr_item_list_unpack(message.data, message.size, &list), MYR_OK);
    assert_int_equal(myr_item_reader_create(&reader), MYR_OK);
    for (int64_t i = 0; i < myr_item_list_n(list); i++) {
        myr_item item;
        const void *bytes;
        size_t n_bytes;
        myr_item_list_item(list, i, &item);
        assert_int_equal(myr_item_reader_read(reader, &item, &bytes, &n_bytes), MYR_OK);
        check(&item, bytes, n_bytes);
        myr_item_reader_prefetch(reader, &item);
    }
    myr_item_reader_free(reader);
    myr_item_list_free(list);
    myr_buffer_free(&message);
}

static void check_cifar(const myr_item *item, const uint8_t *bytes, size_t n_bytes)
{
    int number = atoi(strchr(item->key, '/') + 1);
    assert_int_equal(n_bytes, 3072);
    assert_true(item->form.planar && item->form.width == 32 && item->form.height == 32 && item->form.n_channels == 3);
    for (size_t i = 0; i < n_bytes; i++)
        assert_int_equal(bytes[i], (number + (int)(i / 1024)) % 256);
}

static void cifar_is_read(void **state)
{
    (void)state;
    make("cifar");
    myr_corpus *corpus = open_with("ten", (myr_corpus_options){0});
    assert_int_equal(myr_corpus_n_items(corpus), 300);
    check_item(corpus, 299, "data_batch_1/000299", 9);
    assert_string_equal(myr_corpus_class_name(corpus, 9), "class 9");
    assert_int_equal(myr_corpus_n_classes(corpus), 10);
    read_all(corpus, check_cifar);
    myr_corpus_free(corpus);
    corpus = open_with("hundred/train.bin", (myr_corpus_options){0});
    check_item(corpus, 129, "train/000129", 29);
    assert_string_equal(myr_corpus_class_name(corpus, 29), "fine 29");
    read_all(corpus, check_cifar);
    myr_corpus_free(corpus);
    corpus = open_with("hundred/train.bin", (myr_corpus_options){.coarse_labels = true});
    check_item(corpus, 129, "train/000129", 9);
    assert_string_equal(myr_corpus_class_name(corpus, 9), "coarse 9");
    myr_corpus_free(corpus);
    corpus = open_with("packed/test.bin", (myr_corpus_options){0});
    read_all(corpus, check_cifar);
    myr_corpus_free(corpus);
    corpus = open_with("both/test.bin", (myr_corpus_options){0});
    assert_int_equal(myr_corpus_n_items(corpus), 3073);
    myr_corpus_free(corpus);
    corpus = open_with("alone/test.bin", (myr_corpus_options){0});
    assert_int_equal(myr_corpus_n_items(corpus), 3074);
    myr_corpus_free(corpus);
    refuse("cut.bin", MYR_ERR_FORMAT, "no whole number");
    refuse("empty.bin", MYR_ERR_FORMAT, "0 bytes");
    refuse("label10.bin", MYR_ERR_FORMAT, "record 3: label 10");
    refuse("coarse.bin", MYR_ERR_FORMAT, "record 2: label 20");
    refuse("fine.bin", MYR_ERR_FORMAT, "record 2: label 100");
    refuse("few", MYR_ERR_FORMAT, "2 names");
}

static void classes_of_several_sets(void **state)
{
    (void)state;
    make("cifar");
    make("voc");
    static const char *const operands[] = {"ten", "hundred", "voc"};
    myr_corpus *corpus = NULL;
    assert_int_equal(myr_corpus_open(operands, 3, NULL, &corpus), MYR_OK);
    assert_int_equal(myr_corpus_n_classes(corpus), 10 + 100 + 20);
    check_item(corpus, 3, "ten/data_batch_1/000003", 3);
    check_item(corpus, 300 + 3, "hundred/train/000003", 13);
    check_item(corpus, 300 + 130, "voc/01", 110 + 11);
    myr_corpus_free(corpus);
    assert_int_equal(myr_corpus_open(operands, 3, &(myr_corpus_options){.label_from_folder = true}, &corpus), MYR_OK);
    assert_int_equal(myr_corpus_n_classes(corpus), 3);
    assert_string_equal(myr_corpus_class_name(corpus, 2), "voc");
    myr_corpus_free(corpus);
}

static void check_idx(const myr_item *item, const uint8_t *bytes, size_t n_bytes)
{
    int number = atoi(strchr(item->key, '/') + 1);
    assert_int_equal(n_bytes, 20);
    assert_true(item->form.width == 4 && item->form.height == 5 && item->form.n_channels == 1);
    for (int i = 0; i < 20; i++)
        assert_int_equal(bytes[i], number * 20 + i);
}

static void idx_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *operand, *key;
        int32_t label;
    } good[] = {{"good", "t10k-images/000006", 6},
                {"good/t10k-images-idx3-ubyte", "t10k-images/000006", 6},
                {"packed", "t10k-images/000006", 6},
                {"dots", "train-images/000006", 6},
                {"alone", "x-images/000006", -1}};
    make("idx");
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        myr_corpus *corpus = open_with(good[i].operand, (myr_corpus_options){0});
        assert_int_equal(myr_corpus_n_items(corpus), 7);
        check_item(corpus, 6, good[i].key, good[i].label);
        read_all(corpus, check_idx);
        myr_corpus_free(corpus);
    }
    static const struct {
        const char *name, *word;
        bool only_plain;
    } bad[] = {{"magic", "begins with"},  {"type", "begins with"},       {"short", "shorter"},
               {"long", "longer"},        {"head", "ends after 11"},     {"nothing", "ends after 0"},
               {"flat", "pictures of 0"}, {"wide", "pictures of 65536"}, {"many", "shorter"},
               {"swapped", "begins with"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int packed = 0; packed < 2; packed++) {
            char path[128];
            snprintf(path, sizeof path, "%s-images-idx3-ubyte%s", bad[i].name, packed ? ".gz" : "");
            refuse(path, MYR_ERR_FORMAT, bad[i].word);
        }
    refuse("huge-images-idx3-ubyte", MYR_ERR_LIMIT, "more than a file can hold");
    refuse("cutgz-images-idx3-ubyte.gz", MYR_ERR_FORMAT, "shorter");
    refuse("none", MYR_ERR_NOT_FOUND, "no pictures");
    refuse("labels-count", MYR_ERR_FORMAT, "do not belong together");
    refuse("labels-kind", MYR_ERR_FORMAT, "begins with");
    refuse("labels-less", MYR_ERR_FORMAT, "shorter");
}

static void check_hdf5(const myr_item *item, const uint8_t *bytes, size_t n_bytes)
{
    int number = atoi(strrchr(item->key, '/') + 1);
    assert_int_equal(n_bytes, 90);
    assert_true(item->form.width == 5 && item->form.height == 6 && item->form.n_channels == 3 && !item->form.planar);
    for (int i = 0; i < 90; i++)
        assert_int_equal(bytes[i], (number * 90 + i) % 256);
}

static void hdf5_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *operand, *key;
        int32_t label;
        myr_coding coding;
    } good[] = {{"plain.h5", "plain/x/000010", 2, MYR_CODING_PLAIN},
                {"plain.h5:/x", "plain/x/000010", 2, MYR_CODING_PLAIN},
                {"chunked.h5", "chunked/x/000010", 2, MYR_CODING_HDF5},
                {"crossed.h5", "crossed/x/000010", 2, MYR_CODING_HDF5},
                {"packed.h5", "packed/x/000010", 2, MYR_CODING_HDF5},
                {"grown.h5", "grown/x/000010", -1, MYR_CODING_HDF5},
                {"compact.h5", "compact/x/000010", -1, MYR_CODING_HDF5},
                {"names.h5", "names/a/x/000010", 2, MYR_CODING_PLAIN},
                {"wrong-labels.h5", "wrong-labels/x/000010", 0, MYR_CODING_PLAIN},
                {"unlabelled.h5", "unlabelled/x/000010", -1, MYR_CODING_PLAIN}};
    make("hdf5");
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        myr_item item;
        myr_corpus *corpus = open_with(good[i].operand, (myr_corpus_options){0});
        assert_int_equal(myr_corpus_n_items(corpus), 11);
        check_item(corpus, 10, good[i].key, good[i].label);
        myr_corpus_item(corpus, 10, &item);
        assert_int_equal(item.coding, good[i].coding);
        assert_int_equal(item.in_tar, good[i].coding == MYR_CODING_PLAIN);
        read_all(corpus, check_hdf5);
        myr_corpus_free(corpus);
    }
    static const struct {
        const char *name;
        myr_status status;
        const char *word;
    } bad[] = {{"unwritten.h5", MYR_ERR_FORMAT, "never written"},
               {"bomb.h5", MYR_ERR_FORMAT, "not stored as its head says"},
               {"coarse-chunks.h5", MYR_ERR_LIMIT, "chunks of 276480000 bytes"},
               {"lzf.h5", MYR_ERR_UNSUPPORTED, "lzf"},
               {"elsewhere.h5", MYR_ERR_UNSUPPORTED, "other files"},
               {"virtual.h5", MYR_ERR_UNSUPPORTED, "virtual"},
               {"no-pictures.h5", MYR_ERR_NOT_FOUND, "4 data sets"},
               {"nothing.h5", MYR_ERR_NOT_FOUND, "0 data sets"},
               {"tall.h5", MYR_ERR_NOT_FOUND, "no pictures"},
               {"cut.h5", MYR_ERR_FORMAT, "no HDF5 file"},
               {"text.h5", MYR_ERR_FORMAT, "no HDF5 file"},
               {"plain.h5:/y", MYR_ERR_FORMAT, "u8"},
               {"plain.h5:/z", MYR_ERR_FORMAT, "u8"},
               {"missing.h5:/x", MYR_ERR_NOT_FOUND, "missing.h5"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuse(bad[i].name, bad[i].status, bad[i].word);
    assert_true(myr_corpus_holds_pictures("plain.h5"));
    assert_true(myr_corpus_holds_pictures("x.h5:/y"));
    assert_false(myr_corpus_holds_pictures("no-pictures.h5"));
    assert_false(myr_corpus_holds_pictures("text.h5"));
    assert_false(myr_corpus_holds_pictures("missing.h5"));
}

/* A file that is replaced after it was enumerated. */
static void a_changed_file_is_told(void **state)
{
    (void)state;
    make("hdf5");
    make("idx");
    static const struct {
        const char *operand, *path, *command;
    } cases[] = {{"chunked.h5", "chunked.h5", "cp no-pictures.h5 chunked.h5"},
                 {"packed.h5", "packed.h5", "cp grown.h5 packed.h5 && truncate -s 3000 packed.h5"},
                 {"plain.h5", "plain.h5", "truncate -s 900 plain.h5"},
                 {"packed/t10k-images-idx3-ubyte.gz", "", "echo | gzip > packed/t10k-images-idx3-ubyte.gz"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        myr_corpus *corpus = open_with(cases[i].operand, (myr_corpus_options){0});
        myr_item item;
        myr_item_reader *reader;
        const void *bytes;
        size_t n_bytes;
        assert_int_equal(system(cases[i].command), 0);
        assert_int_equal(myr_corpus_item(corpus, myr_corpus_n_items(corpus) - 1, &item), MYR_OK);
        assert_int_equal(myr_item_reader_create(&reader), MYR_OK);
        assert_int_equal(myr_item_reader_read(reader, &item, &bytes, &n_bytes), MYR_ERR_FORMAT);
        myr_item_reader_free(reader);
        myr_corpus_free(corpus);
    }
}

static void check_voc(const myr_item *item, const uint8_t *bytes, size_t n_bytes)
{
    assert_true(n_bytes >= 7 && memcmp(bytes, "picture", 7) == 0);
    assert_int_equal(item->form.width, 0);
}

static void check_box(const myr_corpus *corpus, int64_t i, const char *key, int32_t label, myr_box box)
{
    myr_item item;
    check_item(corpus, i, key, label);
    myr_corpus_item(corpus, i, &item);
    assert_memory_equal(&item.form.box, &box, sizeof box);
}

static void voc_is_read(void **state)
{
    (void)state;
    /* Cat and a larger dog; person; the one box that holds, a sheep's; a bird beside a larger thing without a name; no
     * object; four that cannot be read; a cat without a sound box; boat; too large; none. */
    static const int32_t labels[13] = {11, 14, 16, 2, -1, -1, -1, -1, -1, 7, 3, -1, -1};
    make("voc");
    myr_corpus *corpus = open_with("voc/", (myr_corpus_options){0});
    assert_int_equal(myr_corpus_n_items(corpus), 13);
    assert_int_equal(myr_corpus_n_classes(corpus), 20);
    assert_string_equal(myr_corpus_class_name(corpus, 19), "tvmonitor");
    for (int i = 0; i < 13; i++) {
        char key[16];
        snprintf(key, sizeof key, "%02d", i + 1);
        check_item(corpus, i, key, labels[i]);
    }
    read_all(corpus, check_voc);
    myr_corpus_free(corpus);
    corpus = open_with("voc", (myr_corpus_options){.crop_objects = true});
    assert_int_equal(myr_corpus_n_items(corpus), 7);
    check_box(corpus, 0, "01#1", 7, (myr_box){0, 0, 10, 10});
    check_box(corpus, 1, "01#2", 11, (myr_box){4, 4, 11, 11});
    check_box(corpus, 2, "02#1", 14, (myr_box){1, 2, 9, 6});
    check_box(corpus, 3, "03#4", 16, (myr_box){2, 2, 2, 2});
    check_box(corpus, 4, "04#1", -1, (myr_box){0, 0, 100, 100});
    check_box(corpus, 5, "04#2", 2, (myr_box){6, 7, 1, 1});
    check_box(corpus, 6, "11#1", 3, (myr_box){0, 1, 3, 3});
    read_all(corpus, check_voc);
    myr_corpus_free(corpus);
    corpus = open_with("voc/ImageSets/Main/val.txt", (myr_corpus_options){0});
    assert_int_equal(myr_corpus_n_items(corpus), 3);
    myr_item item;
    check_item(corpus, 2, "01", 11);
    myr_corpus_item(corpus, 1, &item);
    assert_non_null(item.problem);
    myr_corpus_free(corpus);
    refuse("voc/ImageSets/Main/bad.txt", MYR_ERR_FORMAT, "line 1");
    corpus = open_with("other", (myr_corpus_options){0});
    assert_int_equal(myr_corpus_n_classes(corpus), 2);
    check_item(corpus, 0, "1", 1);
    check_item(corpus, 1, "2", 0);
    myr_corpus_free(corpus);
}

/* Any flipped byte of a message with forms: an error or another list, never a crash. */
static void damaged_messages_are_refused(void **state)
{
    (void)state;
    make("voc");
    myr_corpus *corpus = open_with("voc", (myr_corpus_options){.crop_objects = true});
    myr_buffer message = {0};
    myr_item_list *list;
    int n_refused = 0;
    assert_int_equal(myr_corpus_pack(corpus, 0, 3, &message), MYR_OK);
    for (size_t cut = 0; cut < message.size; cut++)
        assert_int_equal(myr_item_list_unpack(message.data, cut, &list), MYR_ERR_FORMAT);
    for (size_t i = 0; i < message.size; i++)
        for (int bit = 0; bit < 8; bit++) {
            message.data[i] ^= (char)(1 << bit);
            if (myr_item_list_unpack(message.data, message.size, &list) == MYR_OK)
                myr_item_list_free(list);
            else
                n_refused++;
            message.data[i] ^= (char)(1 << bit);
        }
    assert_true(n_refused > (int)message.size);
    myr_buffer_free(&message);
    myr_corpus_free(corpus);
}

static void annotations_are_parsed(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        myr_status status;
        size_t n;
    } cases[] = {{"<annotation/>", MYR_OK, 0},
                 {"<annotation><object/><object/></annotation>", MYR_OK, 2},
                 {"<other><object/></other>", MYR_OK, 0},
                 {"<annotation><object></annotation>", MYR_ERR_FORMAT, 0},
                 {"<!DOCTYPE annotation><annotation/>", MYR_ERR_FORMAT, 0},
                 {"<annotation>\xff\xfe</annotation>", MYR_ERR_FORMAT, 0},
                 {"", MYR_ERR_FORMAT, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        myr_voc_objects objects;
        assert_int_equal(myr_voc_parse(cases[i].text, strlen(cases[i].text), &objects), cases[i].status);
        assert_int_equal(objects.n, cases[i].n);
        myr_voc_clear(&objects);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(cifar_is_read, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(classes_of_several_sets, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(idx_is_read, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(hdf5_is_read, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_changed_file_is_told, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(voc_is_read, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(damaged_messages_are_refused, make_folder, remove_folder),
        cmocka_unit_test(annotations_are_parsed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
