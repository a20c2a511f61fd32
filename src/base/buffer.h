/*
 * A growing byte buffer: messages between ranks, JSON, HTML, file contents.
 *
 * A failed growth sets `failed` and later appends do nothing, so that a writer
 * checks once at the end. The contents are always followed by a NUL byte.
 */
#ifndef MYR_BASE_BUFFER_H
#define MYR_BASE_BUFFER_H

#include "myriops/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct myr_buffer {
    char *data; /* [owned] size bytes and a NUL; NULL while empty */
    size_t size;
    size_t capacity;
    bool failed;
} myr_buffer;

void myr_buffer_append(myr_buffer *buffer, const void *bytes, size_t n_bytes);
void myr_buffer_puts(myr_buffer *buffer, const char *text);
void myr_buffer_printf(myr_buffer *buffer, const char *format, ...) MYR_PRINTF(2, 3);
/* Text with its length in front (u32), for messages. NULL is kept apart from "". */
void myr_buffer_put_text(myr_buffer *buffer, const char *text);
void myr_buffer_put_i64(myr_buffer *buffer, int64_t value);
void myr_buffer_clear(myr_buffer *buffer); /* empty, memory kept */
void myr_buffer_free(myr_buffer *buffer);

/* A reader over such a message; out-of-bounds reads set `failed` and give 0 / NULL. */
typedef struct myr_cursor {
    const char *data;
    size_t size;
    size_t at;
    bool failed;
} myr_cursor;

int64_t myr_cursor_i64(myr_cursor *cursor);
const char *myr_cursor_text(myr_cursor *cursor); /* [borrowed] NUL-terminated inside the message */
const void *myr_cursor_bytes(myr_cursor *cursor, size_t n_bytes);

#endif
