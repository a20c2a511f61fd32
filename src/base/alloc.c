/*
 * Aligned, zeroed memory with checked sizes.
 */
#include "base/alloc.h"

#include <stdint.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LINE 64
#define HUGE_PAGE ((size_t)2 << 20)

bool myr_mul(size_t a, size_t b, size_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

static void *aligned(size_t n, size_t size, size_t alignment)
{
    size_t n_bytes;
    if (!myr_mul(n, size, &n_bytes) || n_bytes > PTRDIFF_MAX - alignment)
        return NULL;
    if (n_bytes == 0)
        n_bytes = 1;
    void *block = NULL;
    return posix_memalign(&block, alignment, n_bytes) == 0 ? block : NULL;
}

void *myr_alloc(size_t n, size_t size)
{
    void *block = aligned(n, size, LINE);
    if (block)
        memset(block, 0, n * size);
    return block;
}

void *myr_alloc_huge(size_t n, size_t size)
{
    size_t n_bytes;
    if (!myr_mul(n, size, &n_bytes) || n_bytes < HUGE_PAGE)
        return myr_alloc(n, size);
    void *block = aligned(n, size, HUGE_PAGE);
    if (!block)
        return NULL;
    madvise(block, n_bytes, MADV_HUGEPAGE); /* advice only: without it pages are small */
    memset(block, 0, n_bytes);
    return block;
}

bool myr_resize(void *block, size_t old_n, size_t new_n, size_t size)
{
    void **place = block;
    void *grown = myr_alloc(new_n, size);
    if (!grown)
        return false;
    if (*place)
        memcpy(grown, *place, (old_n < new_n ? old_n : new_n) * size);
    free(*place);
    *place = grown;
    return true;
}

void myr_return_memory(void)
{
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

char *myr_strdup(const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = malloc(n);
    return copy ? memcpy(copy, text, n) : NULL;
}
