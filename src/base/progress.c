/*
 * The progress line.
 */
#include "base/progress.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define REDRAW_S 0.1
#define PLAIN_LINE_S 5.0

double myr_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void myr_progress_start(myr_progress *progress, const char *verb, const char *unit, int64_t total, int64_t before,
                        bool enabled)
{
    double now_s = myr_now_s();
    *progress = (myr_progress){.verb = verb,
                               .unit = unit,
                               .total = total,
                               .before = before,
                               .start_s = now_s,
                               .last_s = now_s,
                               .enabled = enabled,
                               .terminal = isatty(STDERR_FILENO)};
}

/* "1,234,567" */
static const char *grouped(int64_t number, char text[32])
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%lld", (long long)number), at = 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = 0;
    return text;
}

static void draw(myr_progress *progress, int64_t done)
{
    char a[32], b[32], left[48] = "";
    double seconds = myr_now_s() - progress->start_s;
    double rate = seconds > 0 ? (double)(done - progress->before) / seconds : 0;
    if (rate > 0 && progress->total > done) {
        long long s = (long long)((double)(progress->total - done) / rate + 0.5);
        if (s >= 3600)
            snprintf(left, sizeof left, "  %lldh%02lldm left", s / 3600, s / 60 % 60);
        else
            snprintf(left, sizeof left, "  %lldm%02llds left", s / 60, s % 60);
    }
    fprintf(stderr, "%s%s  %s", progress->terminal ? "\r\033[K" : "", progress->verb, grouped(done, a));
    if (progress->total > 0)
        fprintf(stderr, " / %s %s  %.1f %%", grouped(progress->total, b), progress->unit,
                100.0 * (double)done / (double)progress->total);
    else
        fprintf(stderr, " %s", progress->unit);
    fprintf(stderr, "  %.1f/s%s%s", rate, left, progress->terminal ? "" : "\n");
    progress->drawn = true;
}

void myr_progress_update(myr_progress *progress, int64_t done)
{
    if (!progress->enabled)
        return;
    double now_s = myr_now_s();
    if (now_s - progress->last_s < (progress->terminal ? REDRAW_S : PLAIN_LINE_S))
        return;
    progress->last_s = now_s;
    draw(progress, done);
}

void myr_progress_finish(myr_progress *progress, int64_t done)
{
    if (!progress->enabled || !progress->drawn)
        return;
    draw(progress, done);
    if (progress->terminal)
        fputc('\n', stderr);
}
