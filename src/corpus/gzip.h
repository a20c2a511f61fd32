/*
 * A gzip file as if it lay unpacked, for all threads of a process that read it.
 */
#ifndef MYR_CORPUS_GZIP_H
#define MYR_CORPUS_GZIP_H

#include "myriops/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct myr_gzip myr_gzip;

/*
 * myr_gzip_open - the file, shared with whoever in this process has it open already.
 *
 *  path  [in]          must stay the same file while it is open
 *  gzip  [out, owned]  release with myr_gzip_close
 *
 * Threads:  any number may use what they opened, one after the other inside.
 */
myr_status myr_gzip_open(const char *path, myr_gzip **gzip);
void myr_gzip_close(myr_gzip *gzip); /* NULL is fine */

/*
 * myr_gzip_read - unpacked bytes [at, at + n).
 *
 *  n_read  [out]  less than n only where the unpacked bytes end, be it that the file is cut
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT (damaged; names the file) | MYR_ERR_IO
 * Cost:     a copy within the last 32 MiB unpacked by anyone; unpacking from there on forward; what lies farther back
 *           is unpacked again from a place at most 1/64 of the file before it.
 */
myr_status myr_gzip_read(myr_gzip *gzip, uint64_t at, void *room, size_t n, size_t *n_read);
/* myr_gzip_reach - *reached = end, or how many unpacked bytes there are where that is less. Unpacks up to there. */
myr_status myr_gzip_reach(myr_gzip *gzip, uint64_t end, uint64_t *reached);

#endif
