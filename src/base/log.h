/*
 * Messages for people on standard error: "myriops <command>: text".
 * Only the speaking rank prints notes and warnings; errors are printed once by cli/.
 */
#ifndef MYR_BASE_LOG_H
#define MYR_BASE_LOG_H

#include "myriops/status.h"

#include <stdbool.h>

/* command: [borrowed] for the life of the process. speaks: this rank prints. quiet: notes are dropped. */
void myr_log_init(const char *command, bool speaks, bool quiet);
void myr_note(const char *format, ...) MYR_PRINTF(1, 2);
void myr_warn(const char *format, ...) MYR_PRINTF(1, 2);
void myr_error(const char *format, ...) MYR_PRINTF(1, 2); /* printed by every rank that calls it */

#endif
