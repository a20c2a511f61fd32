/*
 * What the user points at, as a numbered list of pictures: bytes, not pixels.
 *
 * Operands: a folder (searched recursively), a picture file, a WebDataset tar
 * ("photos-000000.tar", ".tar.gz"), a list of paths ("@paths", or paths.txt / .lst / .list; "-" is
 * standard input), any of them with braces ("photos-{000000..000004}.tar", "{a,b}.jpg").
 * Data sets as they are published: CIFAR's .bin, IDX files (MNIST, "-images-idx3-ubyte", ".gz") and folders of these or
 * of tars (of img2dataset's, the finished ones); HDF5 ("images.h5", "images.h5:/train/x"); a folder of PASCAL VOC, or a
 * list in its ImageSets; folders named by ImageNet's wnids. Programs ("pipe:...") and addresses are refused.
 * Items come in the order of the operands; inside a folder sorted bytewise by relative
 * path; inside a tar as stored. So an ordinal never depends on ranks or threads.
 */
#ifndef MYRIOPS_CORPUS_H
#define MYRIOPS_CORPUS_H

#include "myriops/form.h"
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

/* What offset counts in. */
typedef enum myr_coding {
    MYR_CODING_PLAIN, /* bytes of the source: a range of them where in_tar, else all */
    MYR_CODING_GZIP,  /* bytes of what the source, a gzip file, unpacks to */
    MYR_CODING_HDF5   /* pictures: source is "file.h5:/dataset", offset the place along its first dimension */
} myr_coding;

/* One picture. Texts are borrowed from the corpus or list that gave the item. */
typedef struct myr_item {
    int64_t ordinal;        /* place in the corpus, from 0 */
    const char *key;        /* unique in the corpus */
    const char *source;     /* path of the file or tar */
    uint64_t offset;        /* first byte in the source; 0 for a file */
    uint64_t n_bytes;
    bool in_tar;            /* a range of bytes of its source, which holds more: a tar, CIFAR, ... and is not packed */
    myr_coding coding;
    myr_form form;
    int32_t label;          /* -1 = none */
    const char *label_name; /* NULL = none */
    const char *problem;    /* NULL, or why it is known to be bad already */
} myr_item;

typedef struct myr_corpus_options {
    bool label_from_folder; /* label = place of the key's folder among the sorted folders; .cls is not read */
    bool key_prefix_tar;    /* keys of tar items begin with "<tar's base name>/" */
    bool crop_objects;      /* PASCAL VOC: each object is an item, with its box */
    bool coarse_labels;     /* CIFAR-100: the 20 coarse classes in place of the 100 fine ones */
    const char *synsets;    /* [borrowed] file of ImageNet's wnids and names; NULL = one found beside the pictures */
    size_t max_file_bytes;  /* a larger item gets a problem; 0 = MYR_CORPUS_MAX_FILE_BYTES */
} myr_corpus_options;

/* What was found, for people. */
typedef struct myr_corpus_facts {
    int64_t n_items, n_problems, n_labelled;
    int64_t n_folders; /* searched, the given ones included */
    int64_t n_tars, n_lists;
    int64_t n_sets;       /* files of many pictures: CIFAR, IDX, HDF5; PASCAL VOC folders */
    int64_t n_unfinished; /* tars of img2dataset left out */
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
 * the first dot of its base name in a tar; "<file>/000123" in CIFAR and IDX, "<file>/<dataset>/000123" in HDF5, from 0;
 * "000005" in VOC, its objects "000005#1" and on. A key met twice is MYR_ERR_FORMAT, as are tar
 * samples whose members are not neighbours.
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOT_FOUND (missing path, no pictures) | MYR_ERR_FORMAT
 *           | MYR_ERR_UNSUPPORTED (tars packed otherwise, pipes, addresses, HDF5 filters) | MYR_ERR_LIMIT
 *           | MYR_ERR_IO | MYR_ERR_NOMEM
 * Cost:     one pass over each folder and one stat a file; tars by their headers, those packed with gzip and CIFAR's
 *           files by reading them once; one annotation a picture in VOC. About 48 bytes an item and its texts.
 * Source:   POSIX.1-2017 pax; GNU tar manual, "Basic Tar Format"; WebDataset's naming rules.
 */
MYR_API myr_status myr_corpus_open(const char *const *operands, size_t n, const myr_corpus_options *options,
                                   myr_corpus **corpus);
MYR_API void myr_corpus_free(myr_corpus *corpus);
/* Whether an HDF5 file is one of pictures, not of vectors: the path names a data set, or the file has one of u8,
 * (n, height, width, 1 or 3). */
MYR_API bool myr_corpus_holds_pictures(const char *path);

MYR_API int64_t myr_corpus_n_items(const myr_corpus *corpus);
/* SHA-256 as text over key, offset, size and label of all items in order, and their form where it is not that of a
 * whole file; not over source, so that the
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
