/*
 * Keys, sources and labels by lines. The file is mapped and marked every 1,024 rows, so any range of rows is found at
 * once and no rank holds more than it works on.
 */
#include "dist/names.h"

#include "base/alloc.h"
#include "base/checksum.h"
#include "store/vectors.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_CLASSES ((size_t)1 << 20)

typedef struct span {
    const char *at;
    size_t n;
} span;

static const char *const column_names[MYR_NAMES_COLUMNS] = {"key", "source", "label"};

static myr_status no_memory(const char *path)
{
    return myr_fail(MYR_ERR_NOMEM, "%s: no memory to read it", path);
}

/* The line that begins at a byte, without its end; *next is where the one behind it begins. */
static span line_at(const myr_names *names, size_t at, size_t *next)
{
    const char *begin = (const char *)names->mapping + at;
    const char *end = memchr(begin, '\n', names->n_bytes - at);
    size_t n = end ? (size_t)(end - begin) : names->n_bytes - at;
    *next = at + n + (end != NULL);
    return (span){.at = begin, .n = n > 0 && begin[n - 1] == '\r' ? n - 1 : n};
}

/* A field of a line, empty where the line has fewer. */
static span field_of(span line, int field)
{
    for (; field > 0; field--) {
        const char *tab = memchr(line.at, '\t', line.n);
        if (!tab)
            return (span){.at = line.at + line.n};
        line.n -= (size_t)(tab + 1 - line.at);
        line.at = tab + 1;
    }
    const char *tab = memchr(line.at, '\t', line.n);
    return (span){.at = line.at, .n = tab ? (size_t)(tab - line.at) : line.n};
}

static span column_at(const myr_names *names, myr_names_column column, size_t at, size_t *next)
{
    span line = line_at(names, at, next);
    return names->field[column] < 0 ? (span){.at = line.at}
           : names->has_header      ? field_of(line, names->field[column])
                                    : line;
}

static bool is_text(span text, const char *word)
{
    return text.n == strlen(word) && memcmp(text.at, word, text.n) == 0;
}

/* Which columns the first line names, if it is a header of the column asked for. */
static void read_header(myr_names *names, myr_names_column column)
{
    size_t next;
    span line = line_at(names, 0, &next);
    int n_fields = 1;
    for (size_t i = 0; i < line.n; i++)
        n_fields += line.at[i] == '\t';
    for (int c = 0; c < MYR_NAMES_COLUMNS; c++) {
        names->field[c] = -1;
        for (int f = n_fields - 1; f >= 0; f--)
            if (is_text(field_of(line, f), column_names[c]))
                names->field[c] = f;
    }
    names->has_header = names->field[column] >= 0;
    if (names->has_header) {
        names->first_byte = next;
        return;
    }
    for (int c = 0; c < MYR_NAMES_COLUMNS; c++)
        names->field[c] = c == (int)column ? 0 : -1;
}

static myr_status mark_rows(myr_names *names)
{
    size_t capacity = 0;
    for (size_t at = names->first_byte, next; at < names->n_bytes; at = next, names->n++) {
        size_t place = (size_t)(names->n / MYR_NAMES_STRIDE);
        if (names->n % MYR_NAMES_STRIDE == 0) {
            if (place == capacity) {
                size_t more = capacity ? 2 * capacity : 64;
                if (!myr_resize(&names->mark, capacity, more, sizeof *names->mark))
                    return no_memory(names->path);
                capacity = more;
            }
            names->mark[place] = (int64_t)at;
        }
        line_at(names, at, &next);
    }
    return MYR_OK;
}

myr_status myr_names_open(const char *path, myr_names_column column, myr_names *names)
{
    *names = (myr_names){.path = path};
    myr_status status = store_map_file(path, &names->mapping, &names->n_bytes);
    if (status != MYR_OK)
        return status;
    names->checksum = myr_checksum64(names->mapping, names->n_bytes);
    read_header(names, column);
    status = mark_rows(names);
    if (status != MYR_OK)
        myr_names_close(names);
    return status;
}

void myr_names_close(myr_names *names)
{
    if (names->mapping)
        munmap(names->mapping, names->n_bytes);
    free(names->mark);
    *names = (myr_names){0};
}

/* ---- texts ---- */

void myr_names_escape(myr_buffer *out, const char *text)
{
    static const char plain[] = "\t\n\r\\", marks[] = "tnr\\";
    for (; *text; text++) {
        const char *which = strchr(plain, *text);
        const char escaped[2] = {'\\', which ? marks[which - plain] : 0};
        myr_buffer_append(out, which ? escaped : text, which ? 2 : 1);
    }
}

/* [owned by caller] NULL without memory. */
static char *copy_text(const myr_names *names, span text)
{
    static const char from[] = "tnr\\", to[] = "\t\n\r\\";
    char *copy = malloc(text.n + 1), *out = copy;
    for (size_t i = 0; copy && i < text.n; i++) {
        const char *which =
            names->has_header && text.at[i] == '\\' && i + 1 < text.n ? strchr(from, text.at[i + 1]) : NULL;
        if (which && *which) {
            *out++ = to[which - from];
            i++;
        } else {
            *out++ = text.at[i];
        }
    }
    if (copy)
        *out = 0;
    return copy;
}

static size_t find_row(const myr_names *names, int64_t row)
{
    size_t at = (size_t)names->mark[row / MYR_NAMES_STRIDE];
    for (int64_t i = row % MYR_NAMES_STRIDE; i > 0; i--)
        line_at(names, at, &at);
    return at;
}

myr_status myr_names_read(const myr_names *names, myr_names_column column, int64_t first, int64_t n, char **texts)
{
    myr_status status = MYR_OK;
    size_t at = n > 0 ? find_row(names, first) : 0;
    int64_t i = 0;
    for (; i < n && status == MYR_OK; i++) {
        span text = column_at(names, column, at, &at);
        texts[i] = copy_text(names, text);
        if (!texts[i])
            status = no_memory(names->path);
        else if (memchr(text.at, 0, text.n))
            status = myr_fail(MYR_ERR_FORMAT, "%s: the line of row %lld has a NUL byte: it is no text file",
                              names->path, (long long)(first + i));
    }
    while (status != MYR_OK && i > 0) {
        free(texts[--i]);
        texts[i] = NULL;
    }
    return status;
}

/* ---- keys ---- */

typedef struct hashed_key {
    uint64_t hash;
    int64_t row;
} hashed_key;

static int by_hash(const void *a, const void *b)
{
    const hashed_key *x = a, *y = b;
    return x->hash != y->hash ? (x->hash > y->hash) - (x->hash < y->hash) : (x->row > y->row) - (x->row < y->row);
}

static span key_of(const myr_names *names, int64_t row)
{
    size_t at = find_row(names, row), next;
    return column_at(names, MYR_NAMES_KEY, at, &next);
}

/* Rows of one hash, all compared with each other: they are few, unless a key stands there often. */
static myr_status find_equal(const myr_names *names, const hashed_key *keys, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++) {
        span one = key_of(names, keys[i].row);
        for (size_t j = i + 1; j < n && keys[j].hash == keys[i].hash; j++) {
            span two = key_of(names, keys[j].row);
            if (one.n == two.n && memcmp(one.at, two.at, one.n) == 0)
                return myr_fail(MYR_ERR_FORMAT, "%s: rows %lld and %lld have the same key '%.*s'; keys must be unique",
                                names->path, (long long)keys[i].row, (long long)keys[j].row,
                                (int)(one.n < 200 ? one.n : 200), one.at);
        }
    }
    return MYR_OK;
}

myr_status myr_names_check_keys(const myr_names *names, int part, int n_parts)
{
    size_t n = 0, capacity = 0;
    hashed_key *keys = NULL;
    myr_status status = MYR_OK;
    size_t at = names->first_byte;
    for (int64_t row = 0; row < names->n && status == MYR_OK; row++) {
        span key = column_at(names, MYR_NAMES_KEY, at, &at);
        uint64_t hash = myr_checksum64(key.at, key.n);
        if (key.n == 0)
            status = myr_fail(MYR_ERR_FORMAT, "%s: row %lld has an empty key", names->path, (long long)row);
        if (status != MYR_OK || hash % (uint64_t)n_parts != (uint64_t)part)
            continue;
        if (n == capacity) {
            size_t more = capacity ? 2 * capacity : 1024;
            if (!myr_resize(&keys, capacity, more, sizeof *keys)) {
                status = no_memory(names->path);
                break;
            }
            capacity = more;
        }
        keys[n++] = (hashed_key){.hash = hash, .row = row};
    }
    if (status == MYR_OK && n > 0) {
        qsort(keys, n, sizeof *keys, by_hash);
        status = find_equal(names, keys, n);
    }
    free(keys);
    return status;
}

/* ---- labels ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int by_pointed_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_number(const char *text, int32_t *number)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    bool fine = !errno && end != text && *end == 0 && value >= -1 && value <= INT32_MAX;
    *number = fine ? (int32_t)value : -1;
    return fine;
}

static myr_status collect(const myr_names *names, void **tree, char ***found, size_t *n, bool *all_numbers)
{
    size_t at = names->first_byte, capacity = 0;
    *all_numbers = true;
    for (int64_t row = 0; row < names->n; row++) {
        int32_t number;
        span text = column_at(names, MYR_NAMES_LABEL, at, &at);
        if (text.n == 0)
            continue;
        char *label = copy_text(names, text);
        void *const *node = label ? tsearch(label, tree, by_text) : NULL;
        if (!node) {
            free(label);
            return no_memory(names->path);
        }
        if (*node != label) {
            free(label);
            continue;
        }
        if (*n == capacity) {
            size_t more = capacity ? 2 * capacity : 64;
            if (more > MAX_CLASSES || !myr_resize(found, capacity, more, sizeof **found)) {
                tdelete(label, tree, by_text);
                free(label);
                return more > MAX_CLASSES
                           ? myr_fail(MYR_ERR_LIMIT, "%s: more than %zu different labels", names->path, MAX_CLASSES / 2)
                           : no_memory(names->path);
            }
            capacity = more;
        }
        (*found)[(*n)++] = label;
        *all_numbers = *all_numbers && is_number(label, &number);
    }
    return MYR_OK;
}

static void keep_label(void *label)
{
    (void)label; /* the array owns it */
}

myr_status myr_names_classes(const myr_names *names, char ***classes, size_t *n)
{
    void *tree = NULL;
    bool all_numbers;
    *classes = NULL;
    *n = 0;
    myr_status status = collect(names, &tree, classes, n, &all_numbers);
    tdestroy(tree, keep_label);
    if (status == MYR_OK && !all_numbers) {
        qsort(*classes, *n, sizeof **classes, by_pointed_text);
        return MYR_OK;
    }
    while (*n > 0)
        free((*classes)[--*n]);
    free(*classes);
    *classes = NULL;
    return status;
}

int32_t myr_names_label(const char *text, char *const *classes, size_t n_classes)
{
    int32_t number = -1;
    if (n_classes == 0) {
        is_number(text, &number);
        return number;
    }
    char *const *found = bsearch(&text, classes, n_classes, sizeof *classes, by_pointed_text);
    return found ? (int32_t)(found - classes) : -1;
}
