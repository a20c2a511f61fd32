/*
 * Keys from a list or from ranks, sorted texts in one buffer.
 */
#include "dist/keys.h"

#include "base/alloc.h"
#include "base/file.h"

#include <stdlib.h>
#include <string.h>

#define MAX_LIST_BYTES ((size_t)4 << 30)

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool myr_keys_hold(const myr_key_set *set, const char *key)
{
    return set->n > 0 && bsearch(&key, set->keys, set->n, sizeof *set->keys, by_text);
}

void myr_keys_free(myr_key_set *set)
{
    free(set->keys);
    myr_buffer_free(&set->texts);
}

myr_status myr_keys_share(const myr_comm *comm, myr_key_set *set)
{
    myr_status status =
        myr_comm_agree(comm, set->texts.failed ? myr_fail(MYR_ERR_NOMEM, "no memory for a list of keys") : MYR_OK);
    if (status == MYR_OK)
        status = myr_comm_share(comm, &set->texts);
    if (status != MYR_OK)
        return status;
    size_t n = 0;
    for (size_t i = 0; i < set->texts.size; i++)
        n += set->texts.data[i] == 0;
    set->keys = myr_alloc(n, sizeof *set->keys);
    if (set->keys) {
        const char *at = set->texts.data;
        for (size_t i = 0; i < n; i++, at += strlen(at) + 1)
            set->keys[i] = at;
        if (n > 0)
            qsort(set->keys, n, sizeof *set->keys, by_text);
        for (size_t i = 0; i < n; i++)
            if (i == 0 || strcmp(set->keys[i], set->keys[i - 1]) != 0)
                set->keys[set->n++] = set->keys[i];
    }
    return myr_comm_agree(comm, set->keys ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %zu keys", n));
}

myr_status myr_keys_read(const char *path, myr_buffer *texts)
{
    myr_buffer bytes = {0};
    myr_status status = myr_path_exists(path)
                            ? myr_file_read(path, MAX_LIST_BYTES, &bytes)
                            : myr_fail(MYR_ERR_NOT_FOUND, "%s: the list of keys to take out is not there", path);
    for (size_t at = 0; status == MYR_OK && at < bytes.size;) {
        const char *line = bytes.data + at, *end = memchr(line, '\n', bytes.size - at);
        size_t length = end ? (size_t)(end - line) : bytes.size - at;
        at += length + 1;
        length -= length > 0 && line[length - 1] == '\r';
        if (length == 0 || memchr(line, 0, length))
            continue;
        myr_buffer_append(texts, line, length);
        myr_buffer_append(texts, "", 1);
    }
    myr_buffer_free(&bytes);
    return status;
}
