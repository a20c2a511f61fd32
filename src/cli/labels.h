/*
 * Labels as people read them.
 */
#ifndef MYR_CLI_LABELS_H
#define MYR_CLI_LABELS_H

#include <stddef.h>
#include <stdint.h>

#define MYR_LABEL_TEXT 32

/* The name of a label: of its class, else its number, which is written into room; NULL where there is none. [borrowed]
 */
const char *myr_label_name(char *const *classes, size_t n_classes, int64_t label, char room[MYR_LABEL_TEXT]);

#endif
