/*
 * Texts as two sections: offsets, and bytes with a NUL after each text.
 */
#include "base/alloc.h"
#include "myriops/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NAME 32

static myr_status section_names(const char *name, char offset[MAX_NAME + 8], char bytes[MAX_NAME + 8])
{
    if (strlen(name) > MAX_NAME)
        return myr_fail(MYR_ERR_ARG, "'%s' is too long for the name of a text table", name);
    snprintf(offset, MAX_NAME + 8, "%s_offset", name);
    snprintf(bytes, MAX_NAME + 8, "%s_bytes", name);
    return MYR_OK;
}

static myr_status damaged(const char *name)
{
    return myr_fail(MYR_ERR_FORMAT, "text table '%s' is damaged: offsets and bytes do not fit together", name);
}

myr_status myr_text_table_add(myr_sections_writer *writer, const char *name, const char *const *texts, size_t n)
{
    char offset_name[MAX_NAME + 8], bytes_name[MAX_NAME + 8];
    size_t n_offsets = n + 1, n_bytes = 0;
    myr_status status = section_names(name, offset_name, bytes_name);
    if (status != MYR_OK)
        return status;
    uint64_t *offset = myr_alloc(n_offsets, sizeof *offset);
    for (size_t i = 0; offset && i < n; i++) {
        offset[i] = n_bytes;
        n_bytes += strlen(texts[i] ? texts[i] : "") + 1;
    }
    char *bytes = myr_alloc(n_bytes, 1);
    if (offset && bytes) {
        offset[n] = n_bytes;
        for (size_t i = 0; i < n; i++)
            memcpy(bytes + offset[i], texts[i] ? texts[i] : "", offset[i + 1] - offset[i]);
        status = myr_sections_add(writer, offset_name, MYR_SECTION_U64, 1, &n_offsets, offset);
        if (status == MYR_OK)
            status = myr_sections_add(writer, bytes_name, MYR_SECTION_U8, 1, &n_bytes, bytes);
    } else {
        status = myr_fail(MYR_ERR_NOMEM, "no memory for the text table '%s'", name);
    }
    free(offset);
    free(bytes);
    return status;
}

myr_status myr_text_table_open(const myr_sections *sections, const char *name, myr_text_table *table)
{
    char offset_name[MAX_NAME + 8], bytes_name[MAX_NAME + 8];
    size_t n_offsets, n_bytes;
    const void *offset, *bytes;
    *table = (myr_text_table){0};
    myr_status status = section_names(name, offset_name, bytes_name);
    if (status == MYR_OK)
        status = myr_sections_get(sections, offset_name, MYR_SECTION_U64, 1, &n_offsets, &offset);
    if (status == MYR_OK)
        status = myr_sections_get(sections, bytes_name, MYR_SECTION_U8, 1, &n_bytes, &bytes);
    if (status != MYR_OK)
        return status;
    if (n_offsets == 0)
        return damaged(name);
    *table = (myr_text_table){
        .sections = sections, .name = name, .offset = offset, .bytes = bytes, .n_bytes = n_bytes, .n = n_offsets - 1};
    status = myr_sections_is_lazy(sections) ? MYR_OK : myr_text_table_check(table);
    if (status != MYR_OK)
        *table = (myr_text_table){0};
    return status;
}

static bool is_text(const myr_text_table *table, size_t row)
{
    const uint64_t *at = table->offset + row;
    return at[0] < at[1] && at[1] <= table->n_bytes && table->bytes[at[1] - 1] == 0;
}

myr_status myr_text_table_check(const myr_text_table *table)
{
    bool fits = table->offset[0] == 0 && table->offset[table->n] == table->n_bytes;
    for (size_t row = 0; row < table->n && fits; row++)
        fits = is_text(table, row);
    return fits ? MYR_OK : damaged(table->name);
}

const char *myr_text_table_get(const myr_text_table *table, size_t row)
{
    return table->bytes + table->offset[row];
}

myr_status myr_text_table_look(const myr_text_table *table, size_t row, const char **text)
{
    const uint64_t *at = table->offset + row;
    myr_status status = myr_sections_touch(table->sections, at, 2 * sizeof *at);
    if (status == MYR_OK && (at[0] >= at[1] || at[1] > table->n_bytes))
        status = damaged(table->name);
    if (status == MYR_OK)
        status = myr_sections_touch(table->sections, table->bytes + at[0], at[1] - at[0]);
    if (status == MYR_OK && !is_text(table, row))
        status = damaged(table->name);
    *text = status == MYR_OK ? myr_text_table_get(table, row) : NULL;
    return status;
}
