/*
 * UTF-8 by its bits (RFC 3629), and an escape for what is none.
 */
#include "base/utf8.h"

#include "base/alloc.h"
#include "base/buffer.h"

/* Length of the sequence at text, or 0 where there is none. */
static size_t sequence_length(const unsigned char *text)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t least;
    } forms[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (size_t n = 1; n <= 4; n++) {
        if ((text[0] & forms[n - 1].mask) != forms[n - 1].lead)
            continue;
        uint32_t point = text[0] & (unsigned char)~forms[n - 1].mask;
        for (size_t i = 1; i < n; i++) {
            if ((text[i] & 0xc0) != 0x80)
                return 0;
            point = point << 6 | (text[i] & 0x3f);
        }
        return point >= forms[n - 1].least && point <= 0x10ffff && (point < 0xd800 || point > 0xdfff) ? n : 0;
    }
    return 0;
}

bool myr_text_is_utf8(const char *text)
{
    while (*text) {
        size_t n = sequence_length((const unsigned char *)text);
        if (n == 0)
            return false;
        text += n;
    }
    return true;
}

char *myr_text_escape(const char *text)
{
    myr_buffer out = {0};
    myr_buffer_puts(&out, "");
    while (*text) {
        size_t n = sequence_length((const unsigned char *)text);
        if (n == 0 || *text == '%')
            myr_buffer_printf(&out, "%%%02X", (unsigned char)*text);
        else
            myr_buffer_append(&out, text, n);
        text += n > 0 ? n : 1;
    }
    char *copy = out.failed ? NULL : myr_strdup(out.data ? out.data : "");
    myr_buffer_free(&out);
    return copy;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

char *myr_text_unescape(const char *text)
{
    char *out = myr_strdup(text), *to = out;
    for (const char *at = text; out && *at; at++) {
        int high = at[0] == '%' ? hex_digit(at[1]) : -1, low = high >= 0 ? hex_digit(at[2]) : -1;
        *to++ = low >= 0 ? (char)(high * 16 + low) : *at;
        at += low >= 0 ? 2 : 0;
    }
    if (out)
        *to = 0;
    return out;
}
