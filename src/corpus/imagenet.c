/*
 * ImageNet's folders: they are named by wnids (n02084071), which a file beside them translates.
 *
 * Each line of it is a wnid, white space, and a name: LOC_synset_mapping.txt, synset_words.txt, words.txt. It is looked
 * for in the first folder given and in those above it, since ILSVRC's pictures lie in Data/CLS-LOC/train. Where there
 * is one, a class is a wnid, wherever its folder lies, and classes are numbered by wnid. A name that the file gives to
 * two wnids ("crane", a bird and a machine) has its wnid behind it.
 * Source: ILSVRC2012 and its Kaggle edition; WordNet 3.0.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "corpus/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEVELS 5 /* the folder itself and four above it */
#define WNID 9   /* n and eight digits */

typedef struct synset {
    const char *wnid; /* [borrowed] from a line; WNID bytes and a NUL */
    const char *name;
    bool shared; /* another wnid has the name as well */
} synset;

typedef struct synsets {
    char **lines; /* [owned] */
    size_t n_lines;
    synset *entries; /* [owned] (n) by wnid */
    size_t n;
} synsets;

static bool is_wnid(const char *text)
{
    return text[0] == 'n' && strspn(text + 1, "0123456789") == WNID - 1;
}

/* The wnid a class's folder is named by: "train/n02084071"; NULL = none. */
static const char *wnid_of(const char *class)
{
    const char *slash = strrchr(class, '/'), *last = slash == NULL ? class : slash + 1;
    return is_wnid(last) && last[WNID] == '\0' ? last : NULL;
}

static int by_wnid(const void *a, const void *b)
{
    return strcmp(((const synset *)a)->wnid, ((const synset *)b)->wnid);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const synset *)a)->name, ((const synset *)b)->name);
}

static void clear(synsets *all)
{
    myr_corpus_lines_free(all->lines, all->n_lines);
    free(all->entries);
}

static myr_status read_synsets(const char *path, synsets *all)
{
    myr_status status = myr_corpus_lines(path, &all->lines, &all->n_lines);
    if (status == MYR_OK && (all->entries = myr_alloc(all->n_lines, sizeof *all->entries)) == NULL)
        status = myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", path);
    if (status != MYR_OK)
        return status;
    for (size_t i = 0; i < all->n_lines; i++) {
        char *line = all->lines[i];
        if (!is_wnid(line) || strchr(" \t", line[WNID]) == NULL)
            return myr_fail(MYR_ERR_FORMAT, "%s: line %zu: not a wnid and a name, as in 'n02084071 dog'", path, i + 1);
        if (line[WNID] == '\0')
            continue; /* without a name */
        line[WNID] = '\0';
        all->entries[all->n++] = (synset){.wnid = line, .name = line + WNID + 1 + strspn(line + WNID + 1, " \t")};
    }
    qsort(all->entries, all->n, sizeof *all->entries, by_name);
    for (size_t i = 1; i < all->n; i++)
        if (strcmp(all->entries[i - 1].name, all->entries[i].name) == 0)
            all->entries[i - 1].shared = all->entries[i].shared = true;
    qsort(all->entries, all->n, sizeof *all->entries, by_wnid);
    return MYR_OK;
}

/* A file of synsets in a folder or above it; NULL = none. [owned by caller] */
static char *find_file(const char *folder)
{
    static const char *const names[] = {"LOC_synset_mapping.txt", "synset_words.txt", "words.txt"};
    myr_buffer at = {0};
    char *found = NULL;
    myr_buffer_puts(&at, folder);
    for (int level = 0; level < LEVELS && found == NULL && !at.failed; level++) {
        for (size_t i = 0; i < sizeof names / sizeof *names && found == NULL; i++) {
            char *path = myr_path_join(at.data, names[i]);
            if (path != NULL && myr_path_exists(path))
                found = path;
            else
                free(path);
        }
        myr_buffer_puts(&at, "/..");
    }
    myr_buffer_free(&at);
    return found;
}

/* A class while it gets its new number. */
typedef struct class_name {
    char *text; /* [owned] the wnid, or the folder as it is */
    size_t old;
} class_name;

static int by_text(const void *a, const void *b)
{
    return strcmp(((const class_name *)a)->text, ((const class_name *)b)->text);
}

/* The name of a class for people, in the arena; 0 without memory. */
static uint64_t put_name(myr_corpus *corpus, const synsets *all, const char *class, int64_t *n_unknown)
{
    const synset *found =
        wnid_of(class) == NULL ? NULL : bsearch(&(synset){.wnid = class}, all->entries, all->n, sizeof *found, by_wnid);
    char *name = NULL;
    *n_unknown += wnid_of(class) != NULL && found == NULL;
    if (found == NULL || !found->shared)
        return myr_corpus_text(corpus, found == NULL ? class : found->name);
    uint64_t text = asprintf(&name, "%s (%s)", found->name, class) < 0 ? 0 : myr_corpus_text(corpus, name);
    free(name);
    return text;
}

static myr_status renumber(myr_corpus *corpus, const char *path, const synsets *all)
{
    size_t n = corpus->n_classes, n_new = 0;
    int64_t n_unknown = 0;
    class_name *names = myr_alloc(n, sizeof *names);
    int32_t *labels = myr_alloc(n, sizeof *labels);
    bool fine = names != NULL && labels != NULL;
    for (size_t i = 0; i < n && fine; i++) {
        const char *class = myr_corpus_class_name(corpus, i), *wnid = wnid_of(class);
        names[i] = (class_name){.text = myr_strdup(wnid != NULL ? wnid : class), .old = i};
        fine = names[i].text != NULL;
    }
    if (fine)
        qsort(names, n, sizeof *names, by_text);
    for (size_t i = 0; i < n && fine; i++) {
        if (i == 0 || strcmp(names[i - 1].text, names[i].text) != 0) {
            corpus->classes[n_new] = put_name(corpus, all, names[i].text, &n_unknown);
            fine = corpus->classes[n_new++] != 0;
        }
        labels[names[i].old] = (int32_t)n_new - 1;
    }
    for (size_t i = 0; i < corpus->n && fine; i++)
        if (corpus->records[i].label >= 0)
            corpus->records[i].label = labels[corpus->records[i].label];
    if (fine)
        corpus->n_classes = n_new;
    if (n_unknown > 0)
        myr_warn("%s: has no name for %lld of %zu classes, which keep their wnids", path, (long long)n_unknown, n_new);
    for (size_t i = 0; names != NULL && i < n; i++)
        free(names[i].text);
    free(names);
    free(labels);
    return fine ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", path);
}

myr_status myr_corpus_name_synsets(myr_corpus *corpus)
{
    bool any = false;
    synsets all = {0};
    char *path = NULL;
    for (size_t i = 0; i < corpus->n_classes && corpus->options.label_from_folder && !any; i++)
        any = wnid_of(myr_corpus_class_name(corpus, i)) != NULL;
    if (corpus->options.synsets != NULL) {
        if (!myr_path_exists(corpus->options.synsets))
            return myr_fail(MYR_ERR_NOT_FOUND, "%s: no such file; check the path of the wnids' names",
                            corpus->options.synsets);
        path = myr_strdup(corpus->options.synsets);
    } else if (any && corpus->first_folder != 0) {
        path = find_file(myr_corpus_at(corpus, corpus->first_folder));
    }
    if (path == NULL)
        return MYR_OK;
    myr_status status = read_synsets(path, &all);
    if (status == MYR_OK)
        status = renumber(corpus, path, &all);
    clear(&all);
    free(path);
    return status;
}
