/*
 * Memory: aligned, zeroed, with every size product checked for overflow.
 */
#ifndef MYR_BASE_ALLOC_H
#define MYR_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

/* myr_alloc - n * size zeroed bytes aligned to 64, or NULL (overflow or no memory). Release with free(). n = 0 gives a
 * valid pointer. */
void *myr_alloc(size_t n, size_t size);

/* myr_alloc_huge - as myr_alloc, aligned to 2 MiB with MADV_HUGEPAGE when large enough to gain from it. Release with
 * free(). */
void *myr_alloc_huge(size_t n, size_t size);

/* myr_resize - grow *block from old_n to new_n elements, the new ones zeroed; false leaves *block as it was. */
bool myr_resize(void *block, size_t old_n, size_t new_n, size_t size);

/* myr_strdup - copy of a text, or NULL. */
char *myr_strdup(const char *text);

/* myr_return_memory - hand pages of released memory back to the system, which the C library keeps else: after something
 * large that comes once, such as loading a network. */
void myr_return_memory(void);

/* myr_mul - *product = a * b; false on overflow. */
bool myr_mul(size_t a, size_t b, size_t *product);

#endif
