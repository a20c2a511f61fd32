/*
 * The corpus inside: compact rows and an arena of texts, filled by the readers.
 */
#ifndef MYR_CORPUS_CORPUS_H
#define MYR_CORPUS_CORPUS_H

#include "base/buffer.h"
#include "base/checksum.h"
#include "myriops/corpus.h"

#define NO_TEXT SIZE_MAX

typedef struct row {
    size_t key, source, problem, parent; /* places in the texts; NO_TEXT = none */
    uint64_t offset, n_bytes;
    int32_t label;
    bool in_tar;
} row;

struct myr_corpus {
    myr_corpus_options options;
    bool prefix_keys; /* several operands: keys begin with the operand's name */
    row *rows;
    size_t n_rows, capacity;
    myr_buffer texts; /* NUL-terminated, one after the other */
    int64_t n_ignored;
    char **classes;
    size_t n_classes;
    char digest[MYR_SHA256_TEXT];
};

/* Keep a text; NO_TEXT without memory. */
size_t corpus_keep(myr_corpus *corpus, const char *text, size_t length);
/* Append a row; its texts are kept already. */
myr_status corpus_add(myr_corpus *corpus, const row *added);
const char *corpus_text(const myr_corpus *corpus, size_t place);
/* Whether a name ends like a picture's: jpg jpeg jpe jfif png webp, in any case. */
bool corpus_is_picture(const char *name);

/* The readers: each adds the rows of one operand. */
myr_status corpus_read_folder(myr_corpus *corpus, const char *path);
myr_status corpus_read_file(myr_corpus *corpus, const char *path, const char *key);
myr_status corpus_read_list(myr_corpus *corpus, const char *path);
myr_status corpus_read_tar(myr_corpus *corpus, const char *path);

#endif
