/*
 * One line a message, written at once so that ranks' lines do not mix.
 */
#include "base/log.h"

#include <stdio.h>

static const char *command_name = "";
static bool this_rank_speaks = true, notes_dropped;

void myr_log_init(const char *command, bool speaks, bool quiet)
{
    command_name = command;
    this_rank_speaks = speaks;
    notes_dropped = quiet;
}

static void say(const char *kind, const char *format, va_list arguments)
{
    char text[2048];
    vsnprintf(text, sizeof text, format, arguments);
    fprintf(stderr, "myriops%s%s: %s%s\n", *command_name ? " " : "", command_name, kind, text);
}

void myr_note(const char *format, ...)
{
    if (!this_rank_speaks || notes_dropped)
        return;
    va_list arguments;
    va_start(arguments, format);
    say("", format, arguments);
    va_end(arguments);
}

void myr_warn(const char *format, ...)
{
    if (!this_rank_speaks)
        return;
    va_list arguments;
    va_start(arguments, format);
    say("warning: ", format, arguments);
    va_end(arguments);
}

void myr_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say("", format, arguments);
    va_end(arguments);
}
