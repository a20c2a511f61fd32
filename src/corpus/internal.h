/*
 * What the readers of src/corpus share: the growing corpus they add items to.
 * Texts live in one arena and are named by their offset, 0 meaning none, so that millions
 * of items stay small. A pointer into the arena dies with the next text added.
 */
#ifndef MYR_CORPUS_INTERNAL_H
#define MYR_CORPUS_INTERNAL_H

#include "base/buffer.h"
#include "myriops/corpus.h"

typedef struct myr_record {
    uint64_t key, source, problem; /* texts */
    uint64_t offset, n_bytes;
    int32_t label;
    uint32_t form : 28; /* number of its form + 1; 0 = a whole picture file */
    uint32_t coding : 2;
    uint32_t in_tar : 1;
} myr_record;

/* Open addressing over texts of the arena; slots hold entry number + 1. */
typedef struct myr_key_set {
    struct myr_key_entry {
        uint64_t text, hash, value;
    } *entries;
    uint64_t *slots;
    size_t n, entry_capacity, n_slots;
} myr_key_set;

struct myr_corpus {
    myr_corpus_options options;
    myr_corpus_facts facts;
    myr_buffer texts;
    myr_record *records;
    size_t n, capacity;
    myr_form *forms;
    size_t n_forms, form_capacity;
    uint64_t *classes; /* texts */
    size_t n_classes;
    myr_key_set keys; /* only while opening */
    bool several_folders;
    uint64_t first_folder; /* text: beside it ImageNet's names are looked for */
    const char *tar_front; /* [borrowed] what keys of a folder's tars begin with; NULL = nothing */
    char digest[65];
};

/* myr_corpus_text - copy a text into the arena; 0 without memory. */
uint64_t myr_corpus_text(myr_corpus *corpus, const char *text);
const char *myr_corpus_at(const myr_corpus *corpus, uint64_t text);
/* myr_key_set_add - *found = the entry that holds the key already (then nothing is added), else NULL. */
myr_status myr_key_set_add(const myr_corpus *corpus, myr_key_set *set, uint64_t text, uint64_t value,
                           const struct myr_key_entry **found);
void myr_key_set_free(myr_key_set *set);
/* myr_corpus_add - append an item; refuses a key met before. */
myr_status myr_corpus_add(myr_corpus *corpus, const myr_record *record);
/* myr_corpus_add_form - *number = what a record's form is set to; the one that was added last is not added again. */
myr_status myr_corpus_add_form(myr_corpus *corpus, const myr_form *form, uint32_t *number);
/*
 * myr_corpus_add_classes - names of classes, and the labels they have in this corpus.
 *
 *  names   (n)
 *  labels  [out] (n) their places where the corpus has no classes yet; names it has keep theirs
 */
myr_status myr_corpus_add_classes(myr_corpus *corpus, const char *const *names, size_t n, int32_t *labels);
bool myr_corpus_is_picture(const char *name);
bool myr_corpus_has_extension(const char *name, const char *extension); /* ".tar"; ASCII case ignored */

/* myr_corpus_add_operand - one path after braces; list_base: NULL for an operand, else a list's folder. */
myr_status myr_corpus_add_operand(myr_corpus *corpus, const char *operand, const char *list_base);
myr_status myr_corpus_add_folder(myr_corpus *corpus, const char *path);
myr_status myr_corpus_add_tar(myr_corpus *corpus, const char *path);
bool myr_corpus_is_tar(const char *name); /* .tar, .tar.gz, .tgz */
/* Files of many pictures; front: "" or what their keys begin with, such as "folder/". */
myr_status myr_corpus_add_cifar(myr_corpus *corpus, const char *path, const char *front);
myr_status myr_corpus_add_idx(myr_corpus *corpus, const char *path, const char *front);
bool myr_corpus_is_cifar(const char *name);
bool myr_corpus_is_idx(const char *name);
/* path: "file.h5" or "file.h5:/dataset". */
myr_status myr_corpus_add_hdf5(myr_corpus *corpus, const char *path);
bool myr_corpus_is_hdf5(const char *path);
/* myr_corpus_add_voc - a folder with JPEGImages and Annotations. list: a file of ImageSets, NULL = all pictures. */
myr_status myr_corpus_add_voc(myr_corpus *corpus, const char *root, const char *front, const char *list);
bool myr_corpus_is_voc(const char *root);
/* myr_corpus_add_devkit - each of VOC2005 to VOC2012 below a folder that is such a folder; keys begin with its name.
 * *n_years: how many. */
myr_status myr_corpus_add_devkit(myr_corpus *corpus, const char *root, const char *front, int *n_years);
/* myr_corpus_voc_root - the folder to which a list in ImageSets belongs; NULL where it is none. [owned by caller] */
char *myr_corpus_voc_root(const char *list);
/* myr_corpus_name_synsets - labels and names of pictures in folders named by wnids, where a file that maps them is
 * known. */
myr_status myr_corpus_name_synsets(myr_corpus *corpus);
/* myr_corpus_key_front - "<front><base name of the path, without n_cut bytes at its end>/". [owned by caller] */
char *myr_corpus_key_front(const char *front, const char *path, size_t n_cut);
/* myr_corpus_add_numbered - myr_corpus_add with the key "<front>000123". */
myr_status myr_corpus_add_numbered(myr_corpus *corpus, const char *front, uint64_t number, myr_record *record);
/* myr_corpus_beside - path of a file in the same folder as another. [owned by caller] */
char *myr_corpus_beside(const char *path, const char *name);
/* myr_corpus_lines - lines of a text file that are not empty; *n = 0 where there is no such file. [owned by caller] */
myr_status myr_corpus_lines(const char *path, char ***lines, size_t *n);
void myr_corpus_lines_free(char **lines, size_t n);
myr_status myr_corpus_add_list(myr_corpus *corpus, const char *path);

/* myr_corpus_expand - texts that a brace pattern stands for. [owned by caller] each and the array. */
myr_status myr_corpus_expand(const char *pattern, char ***texts, size_t *n);
void myr_corpus_expand_free(char **texts, size_t n);

#endif
