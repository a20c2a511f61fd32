/*
 * Any bytes as a WebDataset tar: enumerated, and every item's bytes read.
 *
 * A header carries a checksum, behind which no damage would ever be seen: where the last byte of the input is odd,
 * those of all blocks that look like headers are made right first.
 */
#include "base/log.h"
#include "myriops/corpus.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BLOCK = 512, MAGIC_AT = 257, SUM_AT = 148, SUM_BYTES = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void repair(uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at + BLOCK <= size; at += BLOCK) {
        uint8_t *header = bytes + at;
        unsigned sum = 0;
        if (memcmp(header + MAGIC_AT, "ustar", 5) != 0)
            continue;
        memset(header + SUM_AT, ' ', SUM_BYTES);
        for (int i = 0; i < BLOCK; i++)
            sum += header[i];
        char text[SUM_BYTES + 1];
        snprintf(text, sizeof text, "%06o", sum);
        memcpy(header + SUM_AT, text, SUM_BYTES - 1);
    }
}

static char name[64]; /* ends in .tar, and stands for bytes that lie in memory */

static void remove_name(void)
{
    unlink(name);
}

static int open_file(void)
{
    int file = memfd_create("fuzz", 0);
    char target[64];
    snprintf(target, sizeof target, "/proc/%d/fd/%d", (int)getpid(), file);
    snprintf(name, sizeof name, "fuzz-%d.tar", (int)getpid());
    unlink(name);
    if (file < 0 || symlink(target, name) != 0 || atexit(remove_name) != 0)
        abort();
    return file;
}

static void read_all(void)
{
    const char *operand = name;
    myr_corpus *corpus = NULL;
    myr_item_reader *reader = NULL;
    if (myr_corpus_open(&operand, 1, &(myr_corpus_options){.key_prefix_tar = true}, &corpus) == MYR_OK &&
        myr_item_reader_create(&reader) == MYR_OK) {
        for (int64_t i = 0; i < myr_corpus_n_items(corpus); i++) {
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
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    if (size > 0 && data[size - 1] % 2)
        repair(copy, size);
    if (ftruncate(file, 0) != 0 || pwrite(file, copy, size, 0) != (ssize_t)size)
        abort();
    read_all();
    free(copy);
    return 0;
}
