/*
 * Checksums of a file's blocks, so that a file of any size is opened at once and each part of it is checked when it is
 * first read.
 *
 * They are a trailer behind the end of the HDF5 file, unseen by its readers; numbers are little-endian:
 *
 *  offset                  bytes    what
 *  n                       t        the table of sections (sections_table.h), so that opening does not ask HDF5
 *  n + t                   8 b      XXH3-64 of each of the b = ceil(n / 16384) blocks of the n bytes before
 *  n + t + 8 b             8        n
 *  n + t + 8 b + 8         8        t
 *  n + t + 8 b + 16        8        root: XXH3-64 of the trailer so far
 *  n + t + 8 b + 24        8        "MYRIOPS2"
 *
 * Who knows the root knows every byte: a hash tree of two levels.
 */
#ifndef MYR_STORE_BLOCKS_H
#define MYR_STORE_BLOCKS_H

#include "base/buffer.h"

#include <stdatomic.h>

enum { STORE_BLOCK = 16384 };

typedef struct store_blocks {
    const unsigned char *bytes; /* [borrowed] the mapped file */
    size_t n_bytes;             /* before the trailer */
    size_t n_blocks;
    uint64_t root;
    const char *table; /* [borrowed] (n_table_bytes) in the trailer */
    size_t n_table_bytes;
    uint64_t *sums;            /* (n_blocks) */
    _Atomic uint64_t *checked; /* a bit for each block found to be right */
} store_blocks;

/* Puts the trailer behind the end of a file that is being made. False: errno says why. */
bool store_blocks_append(const char *path, const myr_buffer *table);
/*
 * Takes the trailer of a mapped file; the root is checked against the trailer, blocks are not.
 *
 *  found  [out] whether there is one; older files have none
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT | MYR_ERR_NOMEM; the detail does not name the file
 */
myr_status store_blocks_open(const unsigned char *bytes, size_t n_bytes, store_blocks *blocks, bool *found);
void store_blocks_free(store_blocks *blocks);
/*
 * Checks the blocks that hold n_bytes > 0 bytes from an offset, those that were not checked before. Any thread; two may
 * check the same one.
 *
 *  bad  [out] the block that is wrong, where false is returned
 */
bool store_blocks_check(const store_blocks *blocks, size_t offset, size_t n_bytes, size_t *bad);

#endif
