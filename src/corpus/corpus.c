/*
 * The corpus: operands are told apart and handed to the reader of their kind, which
 * adds records; then labels from folders, the digest, and the way items are looked at.
 */
#include "base/alloc.h"
#include "base/checksum.h"
#include "corpus/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static myr_status no_memory(void)
{
    return myr_fail(MYR_ERR_NOMEM, "corpus: not enough memory for the list of items");
}

uint64_t myr_corpus_text(myr_corpus *corpus, const char *text)
{
    uint64_t at = corpus->texts.size;
    myr_buffer_append(&corpus->texts, text, strlen(text) + 1);
    return corpus->texts.failed ? 0 : at;
}

const char *myr_corpus_at(const myr_corpus *corpus, uint64_t text)
{
    return text == 0 ? NULL : corpus->texts.data + text;
}

static bool grow_slots(myr_key_set *set)
{
    size_t n_slots = set->n_slots == 0 ? 1024 : set->n_slots * 2;
    uint64_t *slots = myr_alloc(n_slots, sizeof *slots);
    if (slots == NULL)
        return false;
    for (size_t i = 0; i < set->n; i++) {
        size_t slot = set->entries[i].hash & (n_slots - 1);
        while (slots[slot] != 0)
            slot = (slot + 1) & (n_slots - 1);
        slots[slot] = i + 1;
    }
    free(set->slots);
    set->slots = slots;
    set->n_slots = n_slots;
    return true;
}

myr_status myr_key_set_add(const myr_corpus *corpus, myr_key_set *set, uint64_t text, uint64_t value,
                           const struct myr_key_entry **found)
{
    *found = NULL;
    if (2 * (set->n + 1) > set->n_slots && !grow_slots(set))
        return no_memory();
    if (set->n == set->entry_capacity) {
        size_t capacity = set->n == 0 ? 256 : set->n * 2;
        if (!myr_resize(&set->entries, set->n, capacity, sizeof *set->entries))
            return no_memory();
        set->entry_capacity = capacity;
    }
    const char *key = corpus->texts.data + text;
    uint64_t hash = myr_checksum64(key, strlen(key));
    size_t slot = hash & (set->n_slots - 1);
    for (; set->slots[slot] != 0; slot = (slot + 1) & (set->n_slots - 1)) {
        const struct myr_key_entry *entry = &set->entries[set->slots[slot] - 1];
        if (entry->hash == hash && strcmp(corpus->texts.data + entry->text, key) == 0) {
            *found = entry;
            return MYR_OK;
        }
    }
    set->entries[set->n++] = (struct myr_key_entry){.text = text, .hash = hash, .value = value};
    set->slots[slot] = set->n;
    return MYR_OK;
}

void myr_key_set_free(myr_key_set *set)
{
    free(set->entries);
    free(set->slots);
    *set = (myr_key_set){0};
}

myr_status myr_corpus_add(myr_corpus *corpus, const myr_record *record)
{
    const struct myr_key_entry *found;
    if (record->key == 0 || record->source == 0 || corpus->texts.failed)
        return no_memory();
    if (corpus->n == corpus->capacity) {
        size_t capacity = corpus->n == 0 ? 256 : corpus->n * 2;
        if (!myr_resize(&corpus->records, corpus->n, capacity, sizeof *corpus->records))
            return no_memory();
        corpus->capacity = capacity;
    }
    myr_status status = myr_key_set_add(corpus, &corpus->keys, record->key, corpus->n, &found);
    if (status != MYR_OK)
        return status;
    if (found != NULL)
        return myr_fail(MYR_ERR_FORMAT, "key %s: met twice: in %s and in %s; keys must be unique: %s",
                        myr_corpus_at(corpus, record->key), myr_corpus_at(corpus, corpus->records[found->value].source),
                        myr_corpus_at(corpus, record->source),
                        record->in_tar ? "--key-prefix-tar puts the tar's name in front of them" : "name each picture once");
    myr_record *own = &corpus->records[corpus->n];
    *own = *record;
    if (own->problem == 0 && own->n_bytes > corpus->options.max_file_bytes) {
        own->problem = myr_corpus_text(corpus, "larger than the limit for one picture");
        if (own->problem == 0)
            return no_memory();
    }
    corpus->n++;
    return MYR_OK;
}

myr_status myr_corpus_add_form(myr_corpus *corpus, const myr_form *form, uint32_t *number)
{
    if (corpus->n_forms > 0 && memcmp(&corpus->forms[corpus->n_forms - 1], form, sizeof *form) == 0) {
        *number = (uint32_t)corpus->n_forms;
        return MYR_OK;
    }
    if (corpus->n_forms == ((size_t)1 << 28) - 1)
        return myr_fail(MYR_ERR_LIMIT, "more than %zu parts of pictures; name fewer at once", corpus->n_forms);
    if (corpus->n_forms == corpus->form_capacity) {
        size_t capacity = corpus->n_forms == 0 ? 16 : corpus->n_forms * 2;
        if (!myr_resize(&corpus->forms, corpus->n_forms, capacity, sizeof *corpus->forms))
            return no_memory();
        corpus->form_capacity = capacity;
    }
    corpus->forms[corpus->n_forms++] = *form;
    *number = (uint32_t)corpus->n_forms;
    return MYR_OK;
}

bool myr_corpus_has_extension(const char *name, const char *extension)
{
    size_t n = strlen(name), n_extension = strlen(extension);
    return n > n_extension && strcasecmp(name + n - n_extension, extension) == 0;
}

bool myr_corpus_is_picture(const char *name)
{
    static const char *const extensions[] = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"};
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++)
        if (myr_corpus_has_extension(name, extensions[i]))
            return true;
    return false;
}

bool myr_corpus_is_tar(const char *path)
{
    return myr_corpus_has_extension(path, ".tar") || myr_corpus_has_extension(path, ".tar.gz") ||
           myr_corpus_has_extension(path, ".tgz");
}

static bool is_list(const char *path)
{
    return strcmp(path, "-") == 0 || myr_corpus_has_extension(path, ".txt") ||
           myr_corpus_has_extension(path, ".lst") || myr_corpus_has_extension(path, ".list");
}

static bool is_packed_tar(const char *path)
{
    static const char *const extensions[] = {".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4"};
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++)
        if (myr_corpus_has_extension(path, extensions[i]))
            return true;
    return false;
}

/* "pipe:curl ...", "https://..." as WebDataset takes them: programs and servers are no files. */
static bool is_remote(const char *path)
{
    size_t n = strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
    return n > 0 && (strncmp(path + n, "://", 3) == 0 || strncmp(path, "pipe:", 5) == 0);
}

static myr_status refuse_remote(const char *path)
{
    bool pipe = strncmp(path, "pipe:", 5) == 0;
    return myr_fail(MYR_ERR_UNSUPPORTED,
                    "%s: %s is not read: what it gives can be neither counted nor read from the middle, by many ranks; "
                    "copy it to a file that all hosts see, and name that",
                    path, pipe ? "the output of a program" : "an address");
}

/* "file.h5:/dataset", where there is such a file. */
static bool holds_set(const char *path)
{
    const char *colon = myr_corpus_is_hdf5(path) ? strstr(path, ":/") : NULL;
    char *file = colon != NULL ? strndup(path, (size_t)(colon - path)) : NULL;
    struct stat st;
    bool holds = file != NULL && stat(file, &st) == 0;
    free(file);
    return holds;
}

static myr_status add_file(myr_corpus *corpus, const char *key, const char *path, uint64_t n_bytes, const char *problem)
{
    myr_record record = {.n_bytes = n_bytes, .label = -1};
    record.source = myr_corpus_text(corpus, path);
    record.key = strcmp(key, path) == 0 ? record.source : myr_corpus_text(corpus, key);
    if (problem != NULL)
        record.problem = myr_corpus_text(corpus, problem);
    return myr_corpus_add(corpus, &record);
}

myr_status myr_corpus_add_operand(myr_corpus *corpus, const char *operand, const char *list_base)
{
    struct stat st;
    char *joined = NULL;
    const char *path = operand;
    myr_status status;
    if (list_base == NULL && (operand[0] == '@' || is_list(operand))) {
        if (operand[0] == '@' || strcmp(operand, "-") == 0 || stat(operand, &st) != 0 || !S_ISDIR(st.st_mode))
            return myr_corpus_add_list(corpus, operand[0] == '@' ? operand + 1 : operand);
    }
    if (list_base != NULL && list_base[0] != '\0' && operand[0] != '/') {
        size_t n = strlen(list_base) + strlen(operand) + 2;
        joined = myr_alloc(n, 1);
        if (joined == NULL)
            return no_memory();
        memcpy(joined, list_base, strlen(list_base));
        joined[strlen(list_base)] = '/';
        memcpy(joined + strlen(list_base) + 1, operand, strlen(operand) + 1);
        if (stat(joined, &st) == 0 || holds_set(joined))
            path = joined;
    }
    if (stat(path, &st) != 0) {
        const char *why = strerror(errno);
        if (is_remote(path))
            status = refuse_remote(path);
        else if (holds_set(path))
            status = myr_corpus_add_hdf5(corpus, path);
        else if (list_base != NULL)
            status = add_file(corpus, operand, path, 0, why); /* one bad line must not stop a long list */
        else
            status = myr_fail(errno == ENOENT || errno == ENOTDIR ? MYR_ERR_NOT_FOUND : MYR_ERR_IO,
                              "%s: %s; check the path", path, why);
    } else if (S_ISDIR(st.st_mode)) {
        status = myr_corpus_add_folder(corpus, path);
    } else if (!S_ISREG(st.st_mode)) {
        status = myr_fail(MYR_ERR_ARG, "%s: neither a file nor a folder; for a list of paths write @%s", path, path);
    } else if (is_packed_tar(path)) {
        status = myr_fail(MYR_ERR_UNSUPPORTED,
                          "%s: of packed tars only .tar.gz is read; unpack it to a plain .tar", path);
    } else if (myr_corpus_is_tar(path)) {
        status = myr_corpus_add_tar(corpus, path);
    } else if (myr_corpus_is_idx(path)) {
        status = myr_corpus_add_idx(corpus, path, "");
    } else if (myr_corpus_has_extension(path, ".bin")) {
        status = myr_corpus_add_cifar(corpus, path, "");
    } else if (myr_corpus_is_hdf5(path)) {
        status = myr_corpus_add_hdf5(corpus, path);
    } else {
        status = add_file(corpus, operand, path, (uint64_t)st.st_size, NULL);
    }
    free(joined);
    return status;
}

static void hash_form(myr_sha256 *hash, const myr_form *form)
{
    const int32_t numbers[8] = {form->width, form->height, form->n_channels, form->planar,
                                form->box.x, form->box.y,  form->box.width,  form->box.height};
    unsigned char bytes[32];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)((uint32_t)numbers[i / 4] >> (8 * (i % 4)));
    myr_sha256_update(hash, bytes, sizeof bytes);
}

/* The folder part of a key, as length; 0 = none. */
static size_t folder_length(const char *key)
{
    const char *slash = strrchr(key, '/');
    return slash == NULL ? 0 : (size_t)(slash - key);
}

static int compare_texts(const void *a, const void *b, void *corpus)
{
    return strcmp(myr_corpus_at(corpus, *(const uint64_t *)a), myr_corpus_at(corpus, *(const uint64_t *)b));
}

/* First number the distinct folders as they come, then sort the names and renumber. */
static myr_status label_by_folder(myr_corpus *corpus)
{
    myr_key_set set = {0};
    int32_t *rank = NULL;
    myr_status status = MYR_OK;
    for (size_t i = 0; i < corpus->n && status == MYR_OK; i++) {
        const char *key = myr_corpus_at(corpus, corpus->records[i].key);
        size_t n = folder_length(key);
        corpus->records[i].label = -1;
        if (n == 0)
            continue;
        size_t before = corpus->texts.size;
        char *name = strndup(key, n);
        uint64_t text = name == NULL ? 0 : myr_corpus_text(corpus, name);
        free(name);
        const struct myr_key_entry *found = NULL;
        status = text == 0 ? no_memory() : myr_key_set_add(corpus, &set, text, set.n, &found);
        if (status != MYR_OK)
            break;
        if (found != NULL)
            corpus->texts.size = before; /* known: give the copy back */
        corpus->records[i].label = (int32_t)(found != NULL ? found->value : set.n - 1);
    }
    free(corpus->classes); /* of CIFAR and the like: their pictures are labelled by folder as well */
    corpus->n_classes = 0;
    corpus->classes = myr_alloc(set.n, sizeof *corpus->classes);
    rank = myr_alloc(set.n, sizeof *rank);
    if (status == MYR_OK && (corpus->classes == NULL || rank == NULL))
        status = no_memory();
    if (status != MYR_OK)
        goto done;
    corpus->n_classes = set.n;
    for (size_t i = 0; i < set.n; i++)
        corpus->classes[i] = set.entries[i].text;
    qsort_r(corpus->classes, set.n, sizeof *corpus->classes, compare_texts, corpus);
    for (size_t i = 0; i < set.n; i++) {
        const struct myr_key_entry *found = NULL;
        status = myr_key_set_add(corpus, &set, corpus->classes[i], 0, &found);
        if (status != MYR_OK)
            goto done;
        rank[found->value] = (int32_t)i;
    }
    for (size_t i = 0; i < corpus->n; i++)
        if (corpus->records[i].label >= 0)
            corpus->records[i].label = rank[corpus->records[i].label];
done:
    free(rank);
    myr_key_set_free(&set);
    return status;
}

myr_status myr_corpus_digest_with(const myr_corpus *corpus, const int64_t *ordinals, const int64_t *n_bytes, size_t n,
                                  char digest[65])
{
    for (size_t i = 0; i < n; i++)
        if (ordinals[i] < (i > 0 ? ordinals[i - 1] + 1 : 0) || ordinals[i] >= (int64_t)corpus->n)
            return myr_fail(MYR_ERR_ARG, "item %lld: out of order, or not of the corpus", (long long)ordinals[i]);
    myr_sha256 *hash = myr_sha256_create();
    if (hash == NULL)
        return no_memory();
    for (size_t i = 0, other = 0; i < corpus->n; i++) {
        const myr_record *record = &corpus->records[i];
        const char *key = myr_corpus_at(corpus, record->key);
        uint64_t numbers[3] = {record->offset, record->n_bytes, (uint64_t)(int64_t)record->label};
        if (other < n && ordinals[other] == (int64_t)i)
            numbers[1] = (uint64_t)n_bytes[other++];
        unsigned char bytes[24];
        if (record->form != 0)
            hash_form(hash, &corpus->forms[record->form - 1]);
        for (size_t j = 0; j < sizeof bytes; j++)
            bytes[j] = (unsigned char)(numbers[j / 8] >> (8 * (j % 8)));
        myr_sha256_update(hash, key, strlen(key) + 1);
        myr_sha256_update(hash, bytes, sizeof bytes);
    }
    myr_sha256_finish(hash, digest);
    return MYR_OK;
}

static myr_status finish(myr_corpus *corpus)
{
    myr_corpus_facts *facts = &corpus->facts;
    for (size_t i = 0; i < corpus->n; i++) {
        const myr_record *record = &corpus->records[i];
        facts->n_problems += record->problem != 0;
        facts->n_labelled += record->label >= 0;
        facts->n_bytes += record->n_bytes;
    }
    facts->n_items = (int64_t)corpus->n;
    facts->n_classes = corpus->n_classes;
    return myr_corpus_digest_with(corpus, NULL, NULL, 0, corpus->digest);
}

myr_status myr_corpus_open(const char *const *operands, size_t n, const myr_corpus_options *options, myr_corpus **out)
{
    *out = NULL;
    if (operands == NULL || n == 0)
        return myr_fail(MYR_ERR_ARG, "no pictures named: give folders, files, lists or tars");
    char **paths = NULL;
    size_t n_paths = 0, n_folders = 0;
    myr_status status = MYR_OK;
    myr_corpus *corpus = myr_alloc(1, sizeof *corpus);
    if (corpus == NULL)
        return no_memory();
    if (options != NULL)
        corpus->options = *options;
    if (corpus->options.synsets != NULL)
        corpus->options.label_from_folder = true; /* it names folders */
    if (corpus->options.max_file_bytes == 0)
        corpus->options.max_file_bytes = MYR_CORPUS_MAX_FILE_BYTES;
    myr_buffer_append(&corpus->texts, "", 1); /* offset 0 means none */
    struct stat st;
    for (size_t i = 0; i < n; i++) {
        char **more = NULL;
        size_t n_more = 0;
        status = myr_corpus_expand(operands[i], &more, &n_more);
        if (status != MYR_OK)
            goto done;
        if (!myr_resize(&paths, n_paths, n_paths + n_more, sizeof *paths)) {
            myr_corpus_expand_free(more, n_more);
            status = no_memory();
            goto done;
        }
        for (size_t j = 0; j < n_more; j++) {
            paths[n_paths++] = more[j];
            n_folders += stat(more[j], &st) == 0 && S_ISDIR(st.st_mode);
        }
        free(more);
    }
    corpus->several_folders = n_folders > 1;
    for (size_t i = 0; i < n_paths && status == MYR_OK; i++)
        status = myr_corpus_add_operand(corpus, paths[i], NULL);
    if (status == MYR_OK && corpus->n == 0)
        status = myr_fail(MYR_ERR_NOT_FOUND, "no pictures in %s%s", operands[0], n > 1 ? " and the others named" : "");
    myr_key_set_free(&corpus->keys);
    if (status == MYR_OK && corpus->options.label_from_folder)
        status = label_by_folder(corpus);
    if (status == MYR_OK)
        status = myr_corpus_name_synsets(corpus);
    if (status == MYR_OK)
        status = finish(corpus);
done:
    myr_corpus_expand_free(paths, n_paths);
    if (status == MYR_OK)
        *out = corpus;
    else
        myr_corpus_free(corpus);
    return status;
}

void myr_corpus_free(myr_corpus *corpus)
{
    if (corpus == NULL)
        return;
    myr_key_set_free(&corpus->keys);
    myr_buffer_free(&corpus->texts);
    free(corpus->records);
    free(corpus->forms);
    free(corpus->classes);
    free(corpus);
}

int64_t myr_corpus_n_items(const myr_corpus *corpus)
{
    return (int64_t)corpus->n;
}

const char *myr_corpus_digest(const myr_corpus *corpus)
{
    return corpus->digest;
}

size_t myr_corpus_n_classes(const myr_corpus *corpus)
{
    return corpus->n_classes;
}

const char *myr_corpus_class_name(const myr_corpus *corpus, size_t i)
{
    return i < corpus->n_classes ? myr_corpus_at(corpus, corpus->classes[i]) : NULL;
}

void myr_corpus_describe(const myr_corpus *corpus, myr_corpus_facts *facts)
{
    *facts = corpus->facts;
}

myr_status myr_corpus_item(const myr_corpus *corpus, int64_t ordinal, myr_item *item)
{
    if (ordinal < 0 || ordinal >= (int64_t)corpus->n)
        return myr_fail(MYR_ERR_ARG, "item %lld: the corpus has %zu", (long long)ordinal, corpus->n);
    const myr_record *record = &corpus->records[ordinal];
    *item = (myr_item){
        .ordinal = ordinal,
        .key = myr_corpus_at(corpus, record->key),
        .source = myr_corpus_at(corpus, record->source),
        .offset = record->offset,
        .n_bytes = record->n_bytes,
        .in_tar = record->in_tar,
        .coding = (myr_coding)record->coding,
        .form = record->form == 0 ? (myr_form){0} : corpus->forms[record->form - 1],
        .label = record->label,
        .label_name = record->label < 0 ? NULL : myr_corpus_class_name(corpus, (size_t)record->label),
        .problem = myr_corpus_at(corpus, record->problem),
    };
    return MYR_OK;
}
