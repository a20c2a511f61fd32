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
    bool in_tar;
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
    uint64_t *classes; /* texts, sorted bytewise */
    size_t n_classes;
    myr_key_set keys; /* only while opening */
    bool several_folders;
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
bool myr_corpus_is_picture(const char *name);
bool myr_corpus_has_extension(const char *name, const char *extension); /* ".tar"; ASCII case ignored */

/* myr_corpus_add_operand - one path after braces; list_base: NULL for an operand, else a list's folder. */
myr_status myr_corpus_add_operand(myr_corpus *corpus, const char *operand, const char *list_base);
myr_status myr_corpus_add_folder(myr_corpus *corpus, const char *path);
myr_status myr_corpus_add_tar(myr_corpus *corpus, const char *path);
myr_status myr_corpus_add_list(myr_corpus *corpus, const char *path);

/* myr_corpus_expand - texts that a brace pattern stands for. [owned by caller] each and the array. */
myr_status myr_corpus_expand(const char *pattern, char ***texts, size_t *n);
void myr_corpus_expand_free(char **texts, size_t n);

#endif
