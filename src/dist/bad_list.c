/*
 * Lines by chunk, then a file of them all.
 */
#include "dist/bad_list.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void put_field(myr_buffer *lines, const char *text)
{
    for (const char *at = text; *at; at++) {
        unsigned char c = (unsigned char)*at;
        if (c < 0x20 || c == 0x7f || c == '\\')
            myr_buffer_printf(lines, "\\x%02X", c);
        else
            myr_buffer_append(lines, at, 1);
    }
}

void myr_bad_list_put(myr_buffer *lines, int64_t place, const myr_chunk *chunk)
{
    for (int64_t i = 0; i < chunk->n_bad; i++) {
        myr_buffer_printf(lines, "%lld\t", (long long)place);
        put_field(lines, chunk->bad_key[i]);
        myr_buffer_puts(lines, "\t");
        put_field(lines, chunk->bad_source[i]);
        myr_buffer_puts(lines, "\t");
        put_field(lines, chunk->bad_reason[i]);
        myr_buffer_puts(lines, "\n");
    }
}

myr_status myr_bad_list_write(const char *folder, char *const *lines, int64_t n_chunks)
{
    char *path = myr_path_join(folder, MYR_BAD_LIST_NAME);
    myr_buffer text = {0};
    myr_buffer_puts(&text, "chunk\tkey\tsource\treason\n");
    size_t head = text.size;
    for (int64_t i = 0; i < n_chunks; i++)
        if (lines[i])
            myr_buffer_puts(&text, lines[i]);
    myr_status status = MYR_OK;
    if (!path || text.failed)
        status = myr_fail(MYR_ERR_NOMEM, "%s: no memory for the list of bad items", folder);
    else if (text.size > head)
        status = myr_file_replace(path, text.data, text.size);
    else
        unlink(path);
    myr_buffer_free(&text);
    free(path);
    return status;
}
