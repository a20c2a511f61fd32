/*
 * The first brace group is replaced by each of its choices, and the result expanded again.
 */
#include "corpus/brace.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PATHS 10000000

typedef struct paths_list {
    char **paths;
    size_t n, capacity;
} paths_list;

static myr_status keep(paths_list *list, const char *path)
{
    if (list->n == MAX_PATHS)
        return myr_fail(MYR_ERR_LIMIT, "a brace range stands for over %d paths", MAX_PATHS);
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        if (!myr_resize(&list->paths, list->capacity, capacity, sizeof *list->paths))
            return myr_fail(MYR_ERR_NOMEM, "no memory for the paths of a brace range");
        list->capacity = capacity;
    }
    list->paths[list->n] = myr_strdup(path);
    if (!list->paths[list->n])
        return myr_fail(MYR_ERR_NOMEM, "no memory for the paths of a brace range");
    list->n++;
    return MYR_OK;
}

static myr_status expand(paths_list *list, const char *pattern);

static myr_status expand_with(paths_list *list, const char *pattern, size_t head, const char *choice, size_t n_choice,
                              const char *tail)
{
    char *text = NULL;
    if (asprintf(&text, "%.*s%.*s%s", (int)head, pattern, (int)n_choice, choice, tail) < 0)
        return myr_fail(MYR_ERR_NOMEM, "no memory for the paths of a brace range");
    myr_status status = expand(list, text);
    free(text);
    return status;
}

/* "000..012": every number from the first to the last, as wide as the wider is written. */
static bool is_range(const char *group, size_t n, long long *first, long long *last, int *width)
{
    char text[64];
    int a_end = 0, b_start = 0, b_end = 0;
    if (n >= sizeof text)
        return false;
    memcpy(text, group, n);
    text[n] = 0;
    if (sscanf(text, "%18lld%n..%n%18lld%n", first, &a_end, &b_start, last, &b_end) != 2 || (size_t)b_end != n ||
        *first < 0 || *last < *first)
        return false;
    bool padded = (text[0] == '0' && a_end > 1) || (text[b_start] == '0' && b_end - b_start > 1);
    *width = !padded ? 0 : a_end > b_end - b_start ? a_end : b_end - b_start;
    return true;
}

static myr_status expand(paths_list *list, const char *pattern)
{
    const char *open = strchr(pattern, '{'), *close = open ? strchr(open, '}') : NULL;
    if (!close)
        return keep(list, pattern);
    size_t head = (size_t)(open - pattern), n_group = (size_t)(close - open - 1);
    const char *group = open + 1;
    long long first, last;
    int width;
    myr_status status = MYR_OK;
    if (is_range(group, n_group, &first, &last, &width)) {
        for (long long i = first; i <= last && status == MYR_OK; i++) {
            char number[32];
            int n = snprintf(number, sizeof number, "%0*lld", width, i);
            status = expand_with(list, pattern, head, number, (size_t)n, close + 1);
        }
        return status;
    }
    if (!memchr(group, ',', n_group))
        return keep(list, pattern);
    for (const char *at = group; status == MYR_OK;) {
        const char *comma = memchr(at, ',', (size_t)(close - at));
        const char *end = comma ? comma : close;
        status = expand_with(list, pattern, head, at, (size_t)(end - at), close + 1);
        if (!comma)
            break;
        at = comma + 1;
    }
    return status;
}

myr_status corpus_expand_braces(const char *pattern, bool literal, char ***paths, size_t *n_paths)
{
    paths_list list = {0};
    myr_status status = literal ? keep(&list, pattern) : expand(&list, pattern);
    *paths = list.paths;
    *n_paths = list.n;
    return status;
}
