/*
 * Names of files are bytes; JSON wants UTF-8.
 */
#ifndef MYR_BASE_UTF8_H
#define MYR_BASE_UTF8_H

#include <stdbool.h>

bool myr_text_is_utf8(const char *text);
/* Each byte that is no UTF-8, and each percent sign, as %XX: nothing is lost. [owned by caller] NULL without memory. */
char *myr_text_escape(const char *text);
/* The inverse. [owned by caller] NULL without memory. */
char *myr_text_unescape(const char *text);

#endif
