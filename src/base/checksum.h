/*
 * Checksums: SHA-256 (nettle) where a digest is shown to people or must resist
 * collisions (models, contracts, corpus); XXH3-64 where only damage is to be found.
 */
#ifndef MYR_BASE_CHECKSUM_H
#define MYR_BASE_CHECKSUM_H

#include "myriops/status.h"

#include <stddef.h>
#include <stdint.h>

#define MYR_SHA256_TEXT 65 /* 64 hex digits and a NUL */

void myr_sha256_text(const void *bytes, size_t n_bytes, char text[MYR_SHA256_TEXT]);
myr_status myr_sha256_file(const char *path, char text[MYR_SHA256_TEXT]);

/* Incremental SHA-256. [owned] create, update any number of times, finish frees it. */
typedef struct myr_sha256 myr_sha256;
myr_sha256 *myr_sha256_create(void);
void myr_sha256_update(myr_sha256 *hash, const void *bytes, size_t n_bytes);
void myr_sha256_finish(myr_sha256 *hash, char text[MYR_SHA256_TEXT]);

uint64_t myr_checksum64(const void *bytes, size_t n_bytes);

#endif
