/*
 * The progress line: count, rate and time left. On a terminal one line is redrawn,
 * ten times a second at most; elsewhere a plain line every few seconds.
 */
#ifndef MYR_BASE_PROGRESS_H
#define MYR_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* Seconds of the monotonic clock. */
double myr_now_s(void);

typedef struct myr_progress {
    const char *verb; /* [borrowed] "embedding" */
    const char *unit; /* [borrowed] "images" */
    int64_t total;    /* -1 = not known */
    int64_t before;   /* done by an earlier run: counted, but not in the rate */
    double start_s, last_s;
    bool enabled, terminal, drawn;
} myr_progress;

void myr_progress_start(myr_progress *progress, const char *verb, const char *unit, int64_t total, int64_t before,
                        bool enabled);
void myr_progress_update(myr_progress *progress, int64_t done);
void myr_progress_finish(myr_progress *progress, int64_t done);

#endif
