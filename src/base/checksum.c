/*
 * SHA-256 by nettle, XXH3 by xxHash.
 */
#include "base/checksum.h"

#include "base/alloc.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define READ_BYTES ((size_t)1 << 20)

struct myr_sha256 {
    struct sha256_ctx context;
};

static void to_text(struct sha256_ctx *context, char text[MYR_SHA256_TEXT])
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(context, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

void myr_sha256_text(const void *bytes, size_t n_bytes, char text[MYR_SHA256_TEXT])
{
    struct sha256_ctx context;
    sha256_init(&context);
    if (n_bytes > 0)
        sha256_update(&context, n_bytes, bytes);
    to_text(&context, text);
}

myr_status myr_sha256_file(const char *path, char text[MYR_SHA256_TEXT])
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return myr_fail(errno == ENOENT ? MYR_ERR_NOT_FOUND : MYR_ERR_IO, "%s: %s", path, strerror(errno));
    struct sha256_ctx context;
    sha256_init(&context);
    uint8_t *bytes = malloc(READ_BYTES);
    size_t n = 0;
    while (bytes && (n = fread(bytes, 1, READ_BYTES, file)) > 0)
        sha256_update(&context, n, bytes);
    myr_status status = !bytes         ? myr_fail(MYR_ERR_NOMEM, "%s: no memory to read it", path)
                        : ferror(file) ? myr_fail(MYR_ERR_IO, "%s: %s", path, strerror(errno))
                                       : MYR_OK;
    free(bytes);
    fclose(file);
    to_text(&context, text);
    return status;
}

myr_sha256 *myr_sha256_create(void)
{
    myr_sha256 *hash = myr_alloc(1, sizeof *hash);
    if (hash)
        sha256_init(&hash->context);
    return hash;
}

void myr_sha256_update(myr_sha256 *hash, const void *bytes, size_t n_bytes)
{
    if (n_bytes > 0)
        sha256_update(&hash->context, n_bytes, bytes);
}

void myr_sha256_finish(myr_sha256 *hash, char text[MYR_SHA256_TEXT])
{
    to_text(&hash->context, text);
    free(hash);
}

uint64_t myr_checksum64(const void *bytes, size_t n_bytes)
{
    return XXH3_64bits(bytes, n_bytes);
}
