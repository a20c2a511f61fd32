/*
 * The growing buffer and the bounded cursor over a message.
 */
#include "base/buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_TEXT UINT32_MAX

static bool reserve(myr_buffer *buffer, size_t n_more)
{
    size_t needed;
    if (buffer->failed || __builtin_add_overflow(buffer->size, n_more, &needed) || needed >= PTRDIFF_MAX / 2) {
        buffer->failed = true;
        return false;
    }
    if (needed + 1 <= buffer->capacity)
        return true;
    size_t capacity = buffer->capacity < 256 ? 256 : buffer->capacity;
    while (capacity < needed + 1)
        capacity *= 2;
    char *data = realloc(buffer->data, capacity);
    if (!data) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void myr_buffer_append(myr_buffer *buffer, const void *bytes, size_t n_bytes)
{
    if (!reserve(buffer, n_bytes))
        return;
    if (n_bytes > 0)
        memcpy(buffer->data + buffer->size, bytes, n_bytes);
    buffer->size += n_bytes;
    buffer->data[buffer->size] = 0;
}

void myr_buffer_puts(myr_buffer *buffer, const char *text)
{
    myr_buffer_append(buffer, text, strlen(text));
}

void myr_buffer_printf(myr_buffer *buffer, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    if (length < 0)
        buffer->failed = true;
    else if (reserve(buffer, (size_t)length)) {
        vsnprintf(buffer->data + buffer->size, (size_t)length + 1, format, again);
        buffer->size += (size_t)length;
    }
    va_end(again);
    va_end(arguments);
}

void myr_buffer_put_text(myr_buffer *buffer, const char *text)
{
    size_t length = text ? strlen(text) : 0;
    if (length >= NO_TEXT) {
        buffer->failed = true;
        return;
    }
    uint32_t head = text ? (uint32_t)length : NO_TEXT;
    myr_buffer_append(buffer, &head, sizeof head);
    if (text)
        myr_buffer_append(buffer, text, length + 1);
}

void myr_buffer_put_i64(myr_buffer *buffer, int64_t value)
{
    myr_buffer_append(buffer, &value, sizeof value);
}

void myr_buffer_clear(myr_buffer *buffer)
{
    buffer->size = 0;
    buffer->failed = false;
    if (buffer->data)
        buffer->data[0] = 0;
}

void myr_buffer_free(myr_buffer *buffer)
{
    free(buffer->data);
    *buffer = (myr_buffer){0};
}

const void *myr_cursor_bytes(myr_cursor *cursor, size_t n_bytes)
{
    if (cursor->failed || n_bytes > cursor->size - cursor->at) {
        cursor->failed = true;
        return NULL;
    }
    const char *bytes = cursor->data + cursor->at;
    cursor->at += n_bytes;
    return bytes;
}

int64_t myr_cursor_i64(myr_cursor *cursor)
{
    int64_t value = 0;
    const void *bytes = myr_cursor_bytes(cursor, sizeof value);
    if (bytes)
        memcpy(&value, bytes, sizeof value);
    return value;
}

const char *myr_cursor_text(myr_cursor *cursor)
{
    uint32_t length = NO_TEXT;
    const void *head = myr_cursor_bytes(cursor, sizeof length);
    if (head)
        memcpy(&length, head, sizeof length);
    if (length == NO_TEXT)
        return NULL;
    const char *text = myr_cursor_bytes(cursor, (size_t)length + 1);
    if (text && text[length] != 0) {
        cursor->failed = true;
        return NULL;
    }
    return text;
}
