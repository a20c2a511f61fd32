/*
 * What readers of whole data sets share: keys that count, names of classes, the small files beside.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "corpus/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT ((size_t)64 << 20)

static myr_status no_memory(const char *path)
{
    return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", path);
}

char *myr_corpus_key_front(const char *front, const char *path, size_t n_cut)
{
    const char *slash = strrchr(path, '/'), *base = slash == NULL ? path : slash + 1;
    size_t n = strlen(base);
    char *key = NULL;
    n = n_cut < n ? n - n_cut : n;
    return asprintf(&key, "%s%.*s/", front, (int)n, base) < 0 ? NULL : key;
}

myr_status myr_corpus_add_numbered(myr_corpus *corpus, const char *front, uint64_t number, myr_record *record)
{
    myr_buffer key = {0};
    myr_buffer_printf(&key, "%s%06llu", front, (unsigned long long)number);
    record->key = key.failed ? 0 : myr_corpus_text(corpus, key.data);
    myr_buffer_free(&key);
    return myr_corpus_add(corpus, record);
}

char *myr_corpus_beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    char *beside = NULL;
    int n = slash == NULL ? 0 : (int)(slash - path) + 1;
    return asprintf(&beside, "%.*s%s", n, path, name) < 0 ? NULL : beside;
}

void myr_corpus_lines_free(char **lines, size_t n)
{
    for (size_t i = 0; lines != NULL && i < n; i++)
        free(lines[i]);
    free(lines);
}

myr_status myr_corpus_lines(const char *path, char ***lines, size_t *n)
{
    myr_buffer text = {0};
    size_t capacity = 0;
    *lines = NULL;
    *n = 0;
    if (!myr_path_exists(path))
        return MYR_OK;
    myr_status status = myr_file_read(path, MAX_TEXT, &text);
    for (size_t at = 0; status == MYR_OK && at < text.size;) {
        size_t length = strcspn(text.data + at, "\r\n"); /* a NUL byte ends a line as well */
        if (length > 0 && *n == capacity) {
            size_t more = capacity == 0 ? 64 : 2 * capacity;
            if (!myr_resize(lines, capacity, more, sizeof **lines))
                status = no_memory(path);
            else
                capacity = more;
        }
        if (length > 0 && status == MYR_OK && ((*lines)[(*n)++] = strndup(text.data + at, length)) == NULL)
            status = no_memory(path);
        at += length + 1;
    }
    myr_buffer_free(&text);
    if (status != MYR_OK) {
        myr_corpus_lines_free(*lines, *n);
        *lines = NULL;
        *n = 0;
    }
    return status;
}

/* The label of a name among the first n classes; -1 = none. */
static int32_t find_class(const myr_corpus *corpus, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(myr_corpus_at(corpus, corpus->classes[i]), name) == 0)
            return (int32_t)i;
    return -1;
}

myr_status myr_corpus_add_classes(myr_corpus *corpus, const char *const *names, size_t n, int32_t *labels)
{
    size_t before = corpus->n_classes;
    if (!myr_resize(&corpus->classes, before, before + n, sizeof *corpus->classes))
        return no_memory("names of classes");
    for (size_t i = 0; i < n; i++) {
        labels[i] = find_class(corpus, before, names[i]);
        if (labels[i] >= 0)
            continue;
        uint64_t text = myr_corpus_text(corpus, names[i]);
        if (text == 0)
            return no_memory("names of classes");
        labels[i] = (int32_t)corpus->n_classes;
        corpus->classes[corpus->n_classes++] = text;
    }
    return MYR_OK;
}
