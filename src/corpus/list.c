/*
 * Lists of paths, one a line, and braces: {000..012} counts with the width it is
 * written in, {a,b} chooses; several in one text multiply, the last running fastest.
 */
#include "base/alloc.h"
#include "corpus/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_EXPANDED ((size_t)1 << 20)

typedef struct expansion {
    char **texts;
    size_t n, capacity;
} expansion;

void myr_corpus_expand_free(char **texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(texts[i]);
    free(texts);
}

static myr_status expand_into(expansion *out, const char *pattern, size_t from, int depth);

/* pattern with [open, close] replaced by part; goes on behind the part. */
static myr_status expand_part(expansion *out, const char *pattern, size_t open, size_t close, const char *part,
                              size_t n_part, int depth)
{
    size_t n_tail = strlen(pattern + close + 1);
    char *text = myr_alloc(open + n_part + n_tail + 1, 1);
    if (text == NULL)
        return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory to expand the braces", pattern);
    memcpy(text, pattern, open);
    memcpy(text + open, part, n_part);
    memcpy(text + open + n_part, pattern + close + 1, n_tail);
    myr_status status = expand_into(out, text, open + n_part, depth + 1);
    free(text);
    return status;
}

/* "000..012": digits only, at most 18 of them. */
static bool parse_range(const char *inside, size_t n, long long *low, long long *high, int *width)
{
    size_t a = strspn(inside, "0123456789");
    if (a == 0 || a > 18 || strncmp(inside + a, "..", 2) != 0)
        return false;
    size_t b = strspn(inside + a + 2, "0123456789");
    if (b == 0 || b > 18 || a + 2 + b != n)
        return false;
    *low = strtoll(inside, NULL, 10);
    *high = strtoll(inside + a + 2, NULL, 10);
    bool padded = (a > 1 && inside[0] == '0') || (b > 1 && inside[a + 2] == '0');
    *width = padded ? (int)(a > b ? a : b) : 0;
    return true;
}

static myr_status expand_into(expansion *out, const char *pattern, size_t from, int depth)
{
    long long low, high;
    int width;
    myr_status status = MYR_OK;
    if (depth > 16)
        return myr_fail(MYR_ERR_LIMIT, "%s: more than 16 braces", pattern);
    for (size_t open = from; pattern[open] != '\0'; open++) {
        if (pattern[open] != '{')
            continue;
        const char *inside = pattern + open + 1;
        size_t n = strcspn(inside, "{}"), close = open + 1 + n;
        if (inside[n] != '}')
            continue;
        if (parse_range(inside, n, &low, &high, &width)) {
            long long step = low <= high ? 1 : -1, count = (high - low) * step;
            if (count >= (long long)MAX_EXPANDED)
                return myr_fail(MYR_ERR_LIMIT, "%s: stands for more than %zu paths", pattern, MAX_EXPANDED);
            for (long long i = 0; i <= count && status == MYR_OK; i++) {
                char number[32];
                int length = snprintf(number, sizeof number, "%0*lld", width, low + i * step);
                status = expand_part(out, pattern, open, close, number, (size_t)length, depth);
            }
            return status;
        }
        if (memchr(inside, ',', n) == NULL)
            continue;
        for (size_t at = 0; at <= n && status == MYR_OK;) {
            size_t length = strcspn(inside + at, ",}");
            status = expand_part(out, pattern, open, close, inside + at, length, depth);
            at += length + 1;
        }
        return status;
    }
    if (out->n == MAX_EXPANDED)
        return myr_fail(MYR_ERR_LIMIT, "%s: the braces stand for more than %zu paths", pattern, MAX_EXPANDED);
    if (out->n == out->capacity) {
        size_t capacity = out->n == 0 ? 8 : out->n * 2;
        if (!myr_resize(&out->texts, out->n, capacity, sizeof *out->texts))
            return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory to expand the braces", pattern);
        out->capacity = capacity;
    }
    if ((out->texts[out->n] = myr_strdup(pattern)) == NULL)
        return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", pattern);
    out->n++;
    return MYR_OK;
}

myr_status myr_corpus_expand(const char *pattern, char ***texts, size_t *n)
{
    expansion out = {0};
    /* A file that really has braces in its name is itself. */
    size_t from = access(pattern, F_OK) == 0 ? strlen(pattern) : 0;
    myr_status status = expand_into(&out, pattern, from, 0);
    if (status != MYR_OK) {
        myr_corpus_expand_free(out.texts, out.n);
        out = (expansion){0};
    }
    *texts = out.texts;
    *n = out.n;
    return status;
}

myr_status myr_corpus_add_list(myr_corpus *corpus, const char *path)
{
    bool standard = strcmp(path, "-") == 0;
    char *voc = standard ? NULL : myr_corpus_voc_root(path);
    if (voc != NULL) {
        myr_status status = myr_corpus_add_voc(corpus, voc, "", path);
        free(voc);
        return status;
    }
    FILE *file = standard ? stdin : fopen(path, "re");
    if (file == NULL)
        return myr_fail(errno == ENOENT ? MYR_ERR_NOT_FOUND : MYR_ERR_IO, "%s: %s; check the path of the list", path,
                        strerror(errno));
    const char *slash = strrchr(path, '/');
    char *base = standard || slash == NULL ? myr_strdup(".") : strndup(path, (size_t)(slash - path) + (slash == path));
    char *line = NULL;
    size_t capacity = 0, before = corpus->n;
    long long number = 0;
    ssize_t n;
    myr_status status = base == NULL ? myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", path) : MYR_OK;
    /* In the current folder the path as written is the path; a "./" in front would only hide that. */
    const char *beside = standard || slash == NULL ? "" : base;
    while (status == MYR_OK && (n = getline(&line, &capacity, file)) >= 0) {
        number++;
        if (n > 0 && line[n - 1] == '\n')
            n--;
        if (n > 0 && line[n - 1] == '\r')
            n--;
        line[n] = '\0';
        if (n == 0)
            continue;
        if (strlen(line) != (size_t)n)
            status = myr_fail(MYR_ERR_FORMAT, "%s: line %lld: a NUL byte; not a list of paths", path, number);
        else
            status = myr_corpus_add_operand(corpus, line, beside);
    }
    if (status == MYR_OK && ferror(file))
        status = myr_fail(MYR_ERR_IO, "%s: %s", path, strerror(errno));
    if (status == MYR_OK && corpus->n == before)
        status = myr_fail(MYR_ERR_NOT_FOUND, "no pictures in %s", standard ? "standard input" : path);
    corpus->facts.n_lists++;
    if (!standard)
        fclose(file);
    free(base);
    free(line);
    return status;
}
