/*
 * What the user points at, as a numbered list of pictures: bytes, not pixels.
 *
 * Operands: a folder (searched recursively), a picture file, a WebDataset tar
 * ("photos-000000.tar"), a list of paths ("@paths", or paths.txt / .lst / .list; "-" is
 * standard input), any of them with braces ("photos-{000000..000004}.tar", "{a,b}.jpg").
 * Items come in the order of the operands; inside a folder sorted bytewise by relative
 * path; inside a tar as stored. So an ordinal never depends on ranks or threads.
 */
#ifndef MYRIOPS_CORPUS_H
#define MYRIOPS_CORPUS_H

#include "myriops/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What max_file_bytes = 0 stands for. */
#define MYR_CORPUS_MAX_FILE_BYTES ((size_t)256 << 20)

typedef struct myr_corpus myr_corpus;
typedef struct myr_item_list myr_item_list;
typedef struct myr_item_reader myr_item_reader;

/* One picture. Texts are borrowed from the corpus or list that gave the item. */
typedef struct myr_item {
    int64_t ordinal;        /* place in the corpus, from 0 */
    const char *key;        /* unique in the corpus */
    const char *source;     /* path of the file or tar */
    uint64_t offset;        /* first byte in the source; 0 for a file */
    uint64_t n_bytes;
    bool in_tar;
    int32_t label;          /* -1 = none */
    const char *label_name; /* NULL = none */
    const char *problem;    /* NULL, or why it is known to be bad already */
} myr_item;

typedef struct myr_corpus_options {
    bool label_from_folder; /* label = place of the key's folder among the sorted folders; .cls is not read */
    bool key_prefix_tar;    /* keys of tar items begin with "<tar's base name>/" */
    size_t max_file_bytes;  /* a larger item gets a problem; 0 = MYR_CORPUS_MAX_FILE_BYTES */
} myr_corpus_options;

/* What was found, for people. */
typedef struct myr_corpus_facts {
    int64_t n_items, n_problems, n_labelled;
    int64_t n_folders; /* searched, the given ones included */
    int64_t n_tars, n_lists;
    int64_t n_ignored; /* files and tar samples that are no pictures, or hidden */
    uint64_t n_bytes;  /* of all items */
    size_t n_classes;
} myr_corpus_facts;

/*
 * myr_corpus_open - enumerate what the operands name.
 *
 * Local; one rank does it and sends ranges of items to the others.
 *
 *  operands  [in]         n >= 1 texts as typed
 *  options   [in]         NULL = all zero
 *  corpus    [out, owned] release with myr_corpus_free; NULL on error
 *
 * Keys: path relative to the folder given (with its base name in front where several
 * folders are given); the path as written for files and lines of a list; the member path up to
 * the first dot of its base name in a tar. A key met twice is MYR_ERR_FORMAT, as are tar
 * samples whose members are not neighbours.
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOT_FOUND (missing path, no pictures) | MYR_ERR_FORMAT
 *           | MYR_ERR_UNSUPPORTED (compressed tar) | MYR_ERR_LIMIT | MYR_ERR_IO | MYR_ERR_NOMEM
 * Cost:     one stat a file; tars by their headers. About 48 bytes an item and its texts.
 * Source:   POSIX.1-2017 pax; GNU tar manual, "Basic Tar Format"; WebDataset's naming rules.
 */
MYR_API myr_status myr_corpus_open(const char *const *operands, size_t n, const myr_corpus_options *options,
                                   myr_corpus **corpus);
MYR_API void myr_corpus_free(myr_corpus *corpus);

MYR_API int64_t myr_corpus_n_items(const myr_corpus *corpus);
/* SHA-256 as text over key, offset, size and label of all items in order; not over source, so that the
 * same data under another mount point is the same corpus. [borrowed] */
MYR_API const char *myr_corpus_digest(const myr_corpus *corpus);
/*
 * myr_corpus_digest_with - the digest there would be if some items had other sizes.
 *
 *  ordinals, n_bytes  (n) ascending ordinals, and the size of each
 *  digest             [out] 64 hex digits
 *
 * Returns:  MYR_OK | MYR_ERR_ARG (ordinals) | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_corpus_digest_with(const myr_corpus *corpus, const int64_t *ordinals, const int64_t *n_bytes,
                                          size_t n, char digest[65]);
MYR_API size_t myr_corpus_n_classes(const myr_corpus *corpus);
/* Name of label i, NULL out of range. [borrowed] */
MYR_API const char *myr_corpus_class_name(const myr_corpus *corpus, size_t i);
MYR_API void myr_corpus_describe(const myr_corpus *corpus, myr_corpus_facts *facts);
/* Item by ordinal; MYR_ERR_ARG out of range. */
MYR_API myr_status myr_corpus_item(const myr_corpus *corpus, int64_t ordinal, myr_item *item);

/* myr_item_reader_create - reads items' bytes; keeps the last file open. One a thread. */
MYR_API myr_status myr_item_reader_create(myr_item_reader **reader);
MYR_API void myr_item_reader_free(myr_item_reader *reader);
/* Larger items are refused before memory is taken; 0 = MYR_CORPUS_MAX_FILE_BYTES, as after create. */
MYR_API void myr_item_reader_limit(myr_item_reader *reader, size_t max_file_bytes);

/*
 * myr_item_reader_read - all bytes of an item.
 *
 *  bytes  [out, borrowed] n_bytes bytes, until the next call on this reader; never NULL on success
 *
 * Returns:  MYR_OK | MYR_ERR_LIMIT | MYR_ERR_FORMAT (has a problem, or changed since it was enumerated)
 *           | MYR_ERR_NOT_FOUND | MYR_ERR_IO | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_item_reader_read(myr_item_reader *reader, const myr_item *item, const void **bytes,
                                        size_t *n_bytes);
/* Tell the system that the item will be read soon. A hint: never fails. */
MYR_API void myr_item_reader_prefetch(myr_item_reader *reader, const myr_item *item);

#ifdef __cplusplus
}
#endif
#endif
