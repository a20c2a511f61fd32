/*
 * A file that is enumerated, plain or packed with gzip: its first two bytes tell which.
 */
#ifndef MYR_CORPUS_INPUT_H
#define MYR_CORPUS_INPUT_H

#include "corpus/gzip.h"

#include <stdbool.h>

typedef struct myr_input {
    const char *path; /* [borrowed] */
    int fd;
    uint64_t size;  /* of a plain file */
    myr_gzip *gzip; /* NULL = plain */
} myr_input;

/* myr_input_open - for myr_input_close, also after a failure. Folders and pipes are MYR_ERR_ARG. */
myr_status myr_input_open(const char *path, myr_input *input);
void myr_input_close(myr_input *input);
/* myr_input_read - bytes [at, at + n), *n_read fewer only where they end. */
myr_status myr_input_read(myr_input *input, uint64_t at, void *room, size_t n, size_t *n_read);
/* myr_input_reach - *reached = end, or the number of bytes there are where that is less. */
myr_status myr_input_reach(myr_input *input, uint64_t end, uint64_t *reached);
/* myr_input_take - exactly n bytes; MYR_ERR_FORMAT where they end before. */
myr_status myr_input_take(myr_input *input, uint64_t at, void *room, size_t n);

#endif
