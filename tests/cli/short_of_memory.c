/*
 * One rank that finds no memory: a library that is loaded before the program (LD_PRELOAD).
 *
 *   SHORT_RANK   the rank (OMPI_COMM_WORLD_RANK) that it is about
 *   SHORT_FROM   its allocations of 4 KiB and more that the program itself makes fail from this one on, counted from 1;
 *                0 = none does
 *   SHORT_COUNT  file that is told at the end how many there were
 *
 * What MPI and other libraries take for themselves they get: their failures are their own.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LEAST_BYTES = 4096 };

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static uintptr_t first_code, last_code; /* of the program; both 0 before it is known, and in other ranks */
static long fails_from;
static atomic_long n_seen;

/* The program is the first object that there is. */
static int find_program(struct dl_phdr_info *object, size_t n_bytes, void *context)
{
    (void)n_bytes;
    (void)context;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X)) {
            first_code = object->dlpi_addr + part->p_vaddr;
            last_code = first_code + part->p_memsz;
        }
    }
    return 1;
}

__attribute__((constructor)) static void begin(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *whose = getenv("SHORT_RANK"), *from = getenv("SHORT_FROM");
    fails_from = from ? atol(from) : 0;
    if (rank && whose && strcmp(rank, whose) == 0)
        dl_iterate_phdr(find_program, NULL);
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("SHORT_COUNT");
    FILE *file = last_code && path ? fopen(path, "w") : NULL;
    if (!file)
        return;
    fprintf(file, "%ld\n", atomic_load(&n_seen));
    fclose(file);
}

static bool fails(const void *caller, size_t n_bytes)
{
    uintptr_t place = (uintptr_t)caller;
    if (n_bytes < LEAST_BYTES || place < first_code || place >= last_code)
        return false;
    long n = atomic_fetch_add(&n_seen, 1) + 1;
    if (fails_from == 0 || n < fails_from)
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n_bytes)
{
    return fails(__builtin_return_address(0), n_bytes) ? NULL : __libc_malloc(n_bytes);
}

void *calloc(size_t n, size_t n_bytes)
{
    bool is_large = n_bytes > 0 && n > LEAST_BYTES / n_bytes;
    return fails(__builtin_return_address(0), is_large ? LEAST_BYTES : n * n_bytes) ? NULL : __libc_calloc(n, n_bytes);
}

void *realloc(void *old, size_t n_bytes)
{
    return fails(__builtin_return_address(0), n_bytes) ? NULL : __libc_realloc(old, n_bytes);
}

void *aligned_alloc(size_t alignment, size_t n_bytes)
{
    return fails(__builtin_return_address(0), n_bytes) ? NULL : __libc_memalign(alignment, n_bytes);
}

int posix_memalign(void **room, size_t alignment, size_t n_bytes)
{
    if (fails(__builtin_return_address(0), n_bytes))
        return ENOMEM;
    void *found = __libc_memalign(alignment, n_bytes);
    if (!found)
        return ENOMEM;
    *room = found;
    return 0;
}

void *mmap(void *where, size_t n_bytes, int protection, int flags, int fd, off_t offset)
{
    static void *(*next)(void *, size_t, int, int, int, off_t);
    if (!next)
        next = (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
    return fails(__builtin_return_address(0), n_bytes) ? MAP_FAILED
                                                       : next(where, n_bytes, protection, flags, fd, offset);
}
