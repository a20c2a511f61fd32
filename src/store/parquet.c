/*
 * Parquet, the part that is needed to write a table.
 *
 * A file is "PAR1", pages of values column by column, a footer that says where they are, the footer's length (u32) and
 * "PAR1". Headers of pages and the footer are structures of Thrift's compact protocol: a field is a byte, its distance
 * from the field before in the upper four bits and its type in the lower, then its value; whole numbers are zigzag
 * varints. Every column may hold nulls: a page begins with a bit for each row (definition levels, run-length encoded),
 * then come the values that there are.
 */
#include "store/parquet.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES ((size_t)1 << 20)
#define MAX_TEXT ((size_t)1 << 30)

/* ---- Thrift's compact protocol ---- */

enum { THRIFT_I32 = 5, THRIFT_I64 = 6, THRIFT_TEXT = 8, THRIFT_LIST = 9, THRIFT_STRUCT = 12 };

static void put_byte(myr_buffer *out, unsigned value)
{
    uint8_t byte = (uint8_t)value;
    myr_buffer_append(out, &byte, 1);
}

static void put_varint(myr_buffer *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        put_byte(out, (unsigned)(value & 0x7f) | 0x80);
    put_byte(out, (unsigned)value);
}

/* `last` is the number of the field before in this structure, kept by the caller. */
static void put_field(myr_buffer *out, int *last, int field, int type)
{
    put_byte(out, (unsigned)((field - *last) << 4 | type));
    *last = field;
}

static void put_number(myr_buffer *out, int *last, int field, int type, int64_t value)
{
    put_field(out, last, field, type);
    put_varint(out, (uint64_t)value << 1 ^ (uint64_t)(value >> 63));
}

static void put_text(myr_buffer *out, const char *text)
{
    put_varint(out, strlen(text));
    myr_buffer_puts(out, text);
}

static void put_list(myr_buffer *out, int *last, int field, int type, size_t n)
{
    put_field(out, last, field, THRIFT_LIST);
    put_byte(out, (unsigned)((n < 15 ? n : 15) << 4 | (unsigned)type));
    if (n >= 15)
        put_varint(out, n);
}

static void end_struct(myr_buffer *out)
{
    put_byte(out, 0);
}

/* ---- pages ---- */

enum { TYPE_INT32 = 1, TYPE_BYTE_ARRAY = 6 };
enum { ENCODING_PLAIN = 0, ENCODING_RLE = 3 };
enum { REPETITION_OPTIONAL = 1 };

static void put_u32(myr_buffer *out, uint32_t value)
{
    const uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    myr_buffer_append(out, bytes, sizeof bytes);
}

static bool is_null(const myr_parquet_column *column, size_t row)
{
    return column->texts ? !column->texts[row] : column->numbers[row] < 0;
}

/* One bit for each row, in runs of equal ones. */
static void put_levels(myr_buffer *out, const myr_parquet_column *column, size_t first, size_t n)
{
    myr_buffer runs = {0};
    for (size_t at = 0, length; at < n; at += length) {
        bool null = is_null(column, first + at);
        for (length = 1; at + length < n && is_null(column, first + at + length) == null;)
            length++;
        put_varint(&runs, (uint64_t)length << 1);
        put_byte(&runs, !null);
    }
    put_u32(out, (uint32_t)runs.size);
    myr_buffer_append(out, runs.data, runs.size);
    out->failed = out->failed || runs.failed;
    myr_buffer_free(&runs);
}

static myr_status put_value(myr_buffer *out, const myr_parquet_column *column, size_t row)
{
    if (!column->texts) {
        put_u32(out, (uint32_t)column->numbers[row]);
        return MYR_OK;
    }
    const char *text = column->texts[row];
    char *escaped = myr_text_is_utf8(text) ? NULL : myr_text_escape(text);
    size_t n = strlen(escaped ? escaped : text);
    if (n > MAX_TEXT || (!escaped && !myr_text_is_utf8(text))) {
        free(escaped);
        return n > MAX_TEXT ? myr_fail(MYR_ERR_LIMIT, "a text of %zu bytes does not fit a page", n)
                            : myr_fail(MYR_ERR_NOMEM, "no memory for a page");
    }
    put_u32(out, (uint32_t)n);
    myr_buffer_append(out, escaped ? escaped : text, n);
    free(escaped);
    return MYR_OK;
}

/* A page of rows from `first` on, as many as fill it; *n of them. */
static myr_status put_page(myr_buffer *out, const myr_parquet_column *column, size_t first, size_t n_rows, size_t *n)
{
    myr_buffer values = {0}, page = {0};
    myr_status status = MYR_OK;
    size_t row = first;
    for (; row < n_rows && values.size < PAGE_BYTES && row - first < PAGE_BYTES && status == MYR_OK; row++)
        if (!is_null(column, row))
            status = put_value(&values, column, row);
    *n = row - first;
    put_levels(&page, column, first, *n);
    myr_buffer_append(&page, values.data, values.size);
    int last = 0, inner = 0;
    put_number(out, &last, 1, THRIFT_I32, 0); /* a data page */
    put_number(out, &last, 2, THRIFT_I32, (int64_t)page.size);
    put_number(out, &last, 3, THRIFT_I32, (int64_t)page.size);
    put_field(out, &last, 5, THRIFT_STRUCT);
    put_number(out, &inner, 1, THRIFT_I32, (int64_t)*n);
    put_number(out, &inner, 2, THRIFT_I32, ENCODING_PLAIN);
    put_number(out, &inner, 3, THRIFT_I32, ENCODING_RLE);
    put_number(out, &inner, 4, THRIFT_I32, ENCODING_RLE);
    end_struct(out);
    end_struct(out);
    myr_buffer_append(out, page.data, page.size);
    out->failed = out->failed || page.failed || values.failed;
    myr_buffer_free(&values);
    myr_buffer_free(&page);
    return status;
}

/* ---- the footer ---- */

typedef struct place {
    size_t at, n_bytes;
} place;

static void put_schema(myr_buffer *out, const myr_parquet_column *columns, size_t n_columns)
{
    int last = 0;
    put_number(out, &last, 3, THRIFT_I32, 0);
    put_field(out, &last, 4, THRIFT_TEXT);
    put_text(out, "schema");
    put_number(out, &last, 5, THRIFT_I32, (int64_t)n_columns);
    end_struct(out);
    for (size_t i = 0; i < n_columns; i++) {
        last = 0;
        put_number(out, &last, 1, THRIFT_I32, columns[i].texts ? TYPE_BYTE_ARRAY : TYPE_INT32);
        put_number(out, &last, 3, THRIFT_I32, REPETITION_OPTIONAL);
        put_field(out, &last, 4, THRIFT_TEXT);
        put_text(out, columns[i].name);
        if (columns[i].texts) {
            int logical = 0;
            put_number(out, &last, 6, THRIFT_I32, 0); /* UTF8, for older readers */
            put_field(out, &last, 10, THRIFT_STRUCT);
            put_field(out, &logical, 1, THRIFT_STRUCT); /* STRING, which has no fields */
            end_struct(out);
            end_struct(out);
        }
        end_struct(out);
    }
}

static void put_column(myr_buffer *out, const myr_parquet_column *column, place where, size_t n_rows)
{
    int last = 0, inner = 0;
    put_number(out, &last, 2, THRIFT_I64, (int64_t)where.at);
    put_field(out, &last, 3, THRIFT_STRUCT);
    put_number(out, &inner, 1, THRIFT_I32, column->texts ? TYPE_BYTE_ARRAY : TYPE_INT32);
    put_list(out, &inner, 2, THRIFT_I32, 2);
    put_varint(out, ENCODING_PLAIN << 1);
    put_varint(out, ENCODING_RLE << 1);
    put_list(out, &inner, 3, THRIFT_TEXT, 1);
    put_text(out, column->name);
    put_number(out, &inner, 4, THRIFT_I32, 0); /* not compressed */
    put_number(out, &inner, 5, THRIFT_I64, (int64_t)n_rows);
    put_number(out, &inner, 6, THRIFT_I64, (int64_t)where.n_bytes);
    put_number(out, &inner, 7, THRIFT_I64, (int64_t)where.n_bytes);
    put_number(out, &inner, 9, THRIFT_I64, (int64_t)where.at);
    end_struct(out);
    end_struct(out);
}

static void put_footer(myr_buffer *out, const myr_parquet_column *columns, const place *places, size_t n_columns,
                       size_t n_rows)
{
    int last = 0, inner = 0;
    size_t n_bytes = 0;
    for (size_t i = 0; i < n_columns; i++)
        n_bytes += places[i].n_bytes;
    put_number(out, &last, 1, THRIFT_I32, 1);
    put_list(out, &last, 2, THRIFT_STRUCT, n_columns + 1);
    put_schema(out, columns, n_columns);
    put_number(out, &last, 3, THRIFT_I64, (int64_t)n_rows);
    put_list(out, &last, 4, THRIFT_STRUCT, n_rows > 0);
    if (n_rows > 0) {
        put_list(out, &inner, 1, THRIFT_STRUCT, n_columns);
        for (size_t i = 0; i < n_columns; i++)
            put_column(out, &columns[i], places[i], n_rows);
        put_number(out, &inner, 2, THRIFT_I64, (int64_t)n_bytes);
        put_number(out, &inner, 3, THRIFT_I64, (int64_t)n_rows);
        end_struct(out);
    }
    put_field(out, &last, 6, THRIFT_TEXT);
    put_text(out, "myriops");
    end_struct(out);
}

myr_status myr_parquet_write(const char *path, const myr_parquet_column *columns, size_t n_columns, size_t n_rows)
{
    static const char magic[4] = {'P', 'A', 'R', '1'};
    myr_buffer out = {0};
    place *places = myr_alloc(n_columns, sizeof *places);
    myr_status status = places ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "%s: no memory to write it", path);
    myr_buffer_append(&out, magic, sizeof magic);
    for (size_t i = 0; i < n_columns && status == MYR_OK; i++) {
        places[i].at = out.size;
        for (size_t row = 0, n; row < n_rows && status == MYR_OK; row += n)
            status = put_page(&out, &columns[i], row, n_rows, &n);
        places[i].n_bytes = out.size - places[i].at;
    }
    if (status == MYR_OK) {
        size_t footer = out.size;
        put_footer(&out, columns, places, n_columns, n_rows);
        put_u32(&out, (uint32_t)(out.size - footer));
        myr_buffer_append(&out, magic, sizeof magic);
        status = out.failed ? myr_fail(MYR_ERR_NOMEM, "%s: no memory to write it", path)
                            : myr_file_replace(path, out.data, out.size);
    }
    myr_buffer_free(&out);
    free(places);
    return status;
}
