/*
 * Status texts and the calling thread's error detail.
 */
#include "myriops/status.h"

#include <stdio.h>
#include <string.h>

static _Thread_local char detail[1024];

const char *myr_status_text(myr_status status)
{
    static const char *const texts[] = {
#define STATUS_TEXT(code, text) text,
        MYR_STATUS_TABLE(STATUS_TEXT)
#undef STATUS_TEXT
    };
    return (unsigned)status < MYR_N_STATUS ? texts[status] : "unknown status";
}

const char *myr_error_detail(void)
{
    return detail;
}

myr_status myr_fail(myr_status status, const char *format, ...)
{
    char text[sizeof detail]; /* the arguments may point into the old detail */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(detail, text, sizeof text);
    return status;
}
