/*
 * Any bytes as a data set of many pictures: enumerated, and every item's bytes read. The first byte tells of which
 * kind, the others are the file: CIFAR, IDX, IDX and tar packed with gzip, HDF5; or an annotation of VOC.
 */
#include "base/log.h"
#include "corpus/voc_xml.h"
#include "myriops/corpus.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { KIND_VOC = 5 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const endings[] = {".bin", "-images-idx3-ubyte", "-images-idx3-ubyte.gz", ".tar.gz", ".h5"};
enum { N_ENDINGS = sizeof endings / sizeof *endings };
static char names[N_ENDINGS][64]; /* all stand for the same bytes, that lie in memory */

static void remove_names(void)
{
    for (int i = 0; i < N_ENDINGS; i++)
        unlink(names[i]);
}

static int open_file(void)
{
    int file = memfd_create("fuzz", 0);
    char target[64];
    snprintf(target, sizeof target, "/proc/%d/fd/%d", (int)getpid(), file);
    for (int i = 0; i < N_ENDINGS; i++) {
        snprintf(names[i], sizeof names[i], "fuzz-%d%s", (int)getpid(), endings[i]);
        unlink(names[i]);
        if (symlink(target, names[i]) != 0)
            abort();
    }
    if (file < 0 || atexit(remove_names) != 0)
        abort();
    return file;
}

static void read_all(const char *operand)
{
    myr_corpus *corpus = NULL;
    myr_item_reader *reader = NULL;
    if (myr_corpus_open(&operand, 1, NULL, &corpus) == MYR_OK && myr_item_reader_create(&reader) == MYR_OK) {
        int64_t n = myr_corpus_n_items(corpus);
        for (int64_t i = 0; i < n && i < 100; i++) {
            myr_item item;
            const void *bytes;
            size_t n_bytes;
            volatile unsigned sum = 0; /* every byte is read, so that the sanitizer sees them all */
            if (myr_corpus_item(corpus, i, &item) == MYR_OK &&
                myr_item_reader_read(reader, &item, &bytes, &n_bytes) == MYR_OK)
                for (size_t j = 0; j < n_bytes; j++)
                    sum = sum + ((const uint8_t *)bytes)[j];
        }
    }
    myr_item_reader_free(reader);
    myr_corpus_free(corpus);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int file = -1;
    if (file < 0) {
        file = open_file();
        myr_log_init("fuzz", false, true); /* a warning for most of the inputs */
    }
    if (size == 0)
        return 0;
    int kind = data[0] % (KIND_VOC + 1);
    if (kind == KIND_VOC) {
        myr_voc_objects objects;
        if (myr_voc_parse(data + 1, size - 1, &objects) == MYR_OK)
            myr_voc_clear(&objects);
        return 0;
    }
    if (ftruncate(file, 0) != 0 || pwrite(file, data + 1, size - 1, 0) != (ssize_t)(size - 1))
        abort();
    read_all(names[kind]);
    return 0;
}
