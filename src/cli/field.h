/*
 * Fields of tables that are separated by tabs.
 */
#ifndef MYR_CLI_FIELD_H
#define MYR_CLI_FIELD_H

#include "base/buffer.h"

/* Appends a text, of which a tab or the end of a line is written as %XX; NULL is "". */
static inline void myr_put_field(myr_buffer *line, const char *text)
{
    for (const char *at = text ? text : ""; *at; at++) {
        if (*at == '\t' || *at == '\n' || *at == '\r')
            myr_buffer_printf(line, "%%%02X", (unsigned char)*at);
        else
            myr_buffer_append(line, at, 1);
    }
}

#endif
