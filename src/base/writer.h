/*
 * A file that is written piece by piece, whole or not at all.
 */
#ifndef MYR_BASE_WRITER_H
#define MYR_BASE_WRITER_H

#include "myriops/status.h"

#include <stddef.h>

typedef struct myr_writer myr_writer;

/* myr_writer_create - begin a file under a temporary name. path NULL = standard output, where whole or not at all
 * cannot be. Close with commit or abandon. */
myr_status myr_writer_create(const char *path, myr_writer **writer);
myr_status myr_writer_append(myr_writer *writer, const void *bytes, size_t n_bytes);
/* fsync, rename into place; freed also on failure. */
myr_status myr_writer_commit(myr_writer *writer);
void myr_writer_abandon(myr_writer *writer); /* NULL is fine */

#endif
