/*
 * The table of sections as bytes, and what its names and sizes may be.
 */
#include "store/sections_table.h"

#include "base/alloc.h"
#include "base/checksum.h"

#include <stdlib.h>
#include <string.h>

static const size_t type_bytes[SECTION_N_TYPES] = {1, 4, 4, 8, 8, 4};

hid_t store_section_type(int type)
{
    switch (type) {
    case MYR_SECTION_U8:
        return H5T_STD_U8LE;
    case MYR_SECTION_U32:
        return H5T_STD_U32LE;
    case MYR_SECTION_I32:
        return H5T_STD_I32LE;
    case MYR_SECTION_U64:
        return H5T_STD_U64LE;
    case MYR_SECTION_I64:
        return H5T_STD_I64LE;
    default:
        return H5T_IEEE_F32LE;
    }
}

bool store_section_name(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n < SECTION_MAX_NAME &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == n;
}

bool store_section_bytes(myr_section_type type, int rank, const size_t *dims, size_t *n_bytes)
{
    *n_bytes = type_bytes[type];
    for (int i = 0; i < rank; i++)
        if (!myr_mul(*n_bytes, dims[i], n_bytes))
            return false;
    return true;
}

void store_table_put(const section_table *table, myr_buffer *text)
{
    for (size_t i = 0; i < table->n_entries; i++) {
        const section_entry *section = &table->entries[i];
        myr_buffer_put_text(text, section->name);
        myr_buffer_put_i64(text, section->type);
        myr_buffer_put_i64(text, section->rank);
        for (int d = 0; d < section->rank; d++)
            myr_buffer_put_i64(text, (int64_t)section->dims[d]);
        myr_buffer_put_i64(text, (int64_t)section->offset);
        myr_buffer_put_i64(text, (int64_t)section->checksum);
    }
    for (size_t i = 0; i < table->n_facts; i++) {
        myr_buffer_put_text(text, table->facts[i].name);
        myr_buffer_put_text(text, table->facts[i].text);
        myr_buffer_put_i64(text, table->facts[i].number);
    }
}

uint64_t store_table_checksum(const section_table *table, bool *failed)
{
    myr_buffer text = {0};
    store_table_put(table, &text);
    *failed = text.failed;
    uint64_t checksum = text.failed ? 0 : myr_checksum64(text.data ? text.data : "", text.size);
    myr_buffer_free(&text);
    return checksum;
}

static bool take_name(myr_cursor *cursor, char name[SECTION_MAX_NAME])
{
    const char *text = myr_cursor_text(cursor);
    if (!text || !store_section_name(text))
        return false;
    strcpy(name, text);
    return true;
}

static bool take_entry(myr_cursor *cursor, section_entry *section)
{
    *section = (section_entry){0};
    if (!take_name(cursor, section->name))
        return false;
    int64_t type = myr_cursor_i64(cursor), rank = myr_cursor_i64(cursor);
    if (type < 0 || type >= SECTION_N_TYPES || rank < 1 || rank > MYR_SECTION_MAX_RANK)
        return false;
    section->type = (myr_section_type)type;
    section->rank = (int)rank;
    for (int d = 0; d < section->rank; d++)
        section->dims[d] = (size_t)myr_cursor_i64(cursor);
    section->offset = (uint64_t)myr_cursor_i64(cursor);
    section->checksum = (uint64_t)myr_cursor_i64(cursor);
    return !cursor->failed && store_section_bytes(section->type, section->rank, section->dims, &section->n_bytes);
}

static bool take_fact(myr_cursor *cursor, section_fact *fact)
{
    *fact = (section_fact){0};
    if (!take_name(cursor, fact->name))
        return false;
    const char *text = myr_cursor_text(cursor);
    fact->number = myr_cursor_i64(cursor);
    if (cursor->failed || (text && !(fact->text = myr_strdup(text))))
        return false;
    return true;
}

bool store_table_take(const char *bytes, size_t n_bytes, section_table *table)
{
    myr_cursor cursor = {.data = bytes, .size = n_bytes};
    int64_t n_entries = myr_cursor_i64(&cursor), n_facts = myr_cursor_i64(&cursor);
    if (cursor.failed || n_entries < 0 || n_entries > SECTION_MAX_ENTRIES || n_facts < 0 ||
        n_facts > SECTION_MAX_ENTRIES)
        return false;
    for (; table->n_entries < (size_t)n_entries; table->n_entries++)
        if (!take_entry(&cursor, &table->entries[table->n_entries]))
            return false;
    for (; table->n_facts < (size_t)n_facts; table->n_facts++)
        if (!take_fact(&cursor, &table->facts[table->n_facts]))
            return false;
    return cursor.at == n_bytes;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b); /* both structures begin with their name */
}

void store_table_sort(section_table *table)
{
    qsort(table->entries, table->n_entries, sizeof *table->entries, by_name);
    qsort(table->facts, table->n_facts, sizeof *table->facts, by_name);
}

void store_table_clear(section_table *table)
{
    for (size_t i = 0; i < table->n_facts; i++)
        free(table->facts[i].text);
    table->n_facts = table->n_entries = 0;
}
