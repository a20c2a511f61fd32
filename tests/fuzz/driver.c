/*
 * Fuzzing without a fuzzer: files of a corpus, changed at random from a fixed seed, so that every ordinary
 * test build looks for crashes, always the same ones.
 *
 * usage: fuzz_NAME FOLDER [RUNS [SECONDS [SEED]]]     every file as it is, then RUNS changed ones, SECONDS at most
 *        fuzz_NAME FILE                               one file, such as one that made it crash
 *
 * The input that crashes is left in crash-NAME in the current folder: written before each run,
 * since nothing can be written after it.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "base/rng.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MOST_BYTES ((size_t)1 << 17)
#define SKIPPED 77
#define PATIENCE_S 60 /* for one input; the signal ends the program, as a crash does */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct corpus {
    size_t n;
    myr_buffer *files;
} corpus;

static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* In the order of their names, so that a run can be repeated. */
static void read_corpus(const char *folder, corpus *all)
{
    struct dirent **names;
    int n = scandir(folder, &names, NULL, compare_names);
    all->files = myr_alloc(n > 0 ? (size_t)n : 1, sizeof *all->files);
    for (int i = 0; i < n; i++) {
        char *path = myr_path_join(folder, names[i]->d_name);
        if (all->files && path && !myr_path_is_folder(path) &&
            myr_file_read(path, MOST_BYTES, &all->files[all->n]) == MYR_OK && all->files[all->n].size > 0)
            all->n++;
        else if (all->files)
            myr_buffer_free(&all->files[all->n]);
        free(path);
        free(names[i]);
    }
    if (n >= 0)
        free(names);
}

static size_t below(myr_rng *rng, size_t n)
{
    return (size_t)myr_rng_below(rng, n);
}

/* Numbers where counts and signs turn over. */
static uint64_t odd_number(myr_rng *rng)
{
    static const uint64_t odd[] = {0,     1,     2,         127,        128,       255,       256,
                                   32767, 65535, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX};
    return odd[below(rng, sizeof odd / sizeof *odd)];
}

/* One change in place; *size may shrink or grow up to MOST_BYTES. other: a file of the corpus to take bytes from. */
static void change(myr_rng *rng, uint8_t *data, size_t *size, const myr_buffer *other)
{
    size_t at = below(rng, *size), n = 1 + below(rng, 16);
    uint64_t number = odd_number(rng);
    /* Mostly in place: lengths stand in front of everything in these files, so that others end at once. */
    static const unsigned char kinds[] = {0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 3, 4, 5, 6, 7};
    switch (kinds[below(rng, sizeof kinds)]) {
    case 0:
        data[at] ^= (uint8_t)(1u << below(rng, 8));
        break;
    case 1:
        data[at] = (uint8_t)myr_rng_next(rng);
        break;
    case 2:
        data[at] = (uint8_t)(data[at] + (int)below(rng, 9) - 4);
        break;
    case 3: /* a number over what is there */
        n = *size - at < sizeof number ? *size - at : sizeof number;
        memcpy(data + at, &number, n);
        break;
    case 4: /* bytes less */
        n = *size - at < n ? *size - at : n;
        memmove(data + at, data + at + n, *size - at - n);
        *size -= n;
        break;
    case 5: /* bytes twice */
        n = *size - at < n ? *size - at : n;
        if (*size + n <= MOST_BYTES) {
            memmove(data + at + n, data + at, *size - at);
            *size += n;
        }
        break;
    case 6: /* bytes of another file */
        n = 1 + below(rng, 64);
        n = n < *size - at ? n : *size - at;
        if (other->size >= n)
            memcpy(data + at, other->data + below(rng, other->size - n + 1), n);
        break;
    default: /* cut off, seldom */
        if (below(rng, 8) == 0)
            *size = at + 1;
        break;
    }
    if (*size == 0)
        data[(*size)++] = 0;
}

/* Where the input lies that is being tried: a mapped file outlives a crash. */
static uint8_t *open_witness(const char *program, char *name, size_t room)
{
    const char *slash = strrchr(program, '/');
    snprintf(name, room, "crash-%s", slash ? slash + 1 : program);
    int file = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0 || ftruncate(file, (off_t)MOST_BYTES) != 0)
        return NULL;
    uint8_t *witness = mmap(NULL, MOST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return witness != MAP_FAILED ? witness : NULL;
}

/* A copy of its own size, so that the sanitizer sees a read behind its end. */
static void try_bytes(const uint8_t *bytes, size_t size, uint8_t *witness, const char *name)
{
    uint8_t *copy = malloc(size);
    if (!copy)
        return;
    memcpy(copy, bytes, size);
    memcpy(witness, bytes, size);
    alarm(PATIENCE_S);
    if (truncate(name, (off_t)size) == 0)
        LLVMFuzzerTestOneInput(copy, size);
    if (truncate(name, (off_t)MOST_BYTES) != 0)
        abort();
    free(copy);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int fuzz(const corpus *all, size_t n_runs, double limit, uint64_t seed, const char *program)
{
    char name[128];
    uint8_t *witness = open_witness(program, name, sizeof name), *data = malloc(MOST_BYTES);
    double start = seconds(), slowest = 0;
    size_t done = 0;
    myr_rng rng;
    myr_rng_seed(&rng, seed);
    if (!witness || !data)
        return 1;
    for (size_t i = 0; i < all->n; i++)
        try_bytes((const uint8_t *)all->files[i].data, all->files[i].size, witness, name);
    for (; done < n_runs && seconds() - start < limit; done++) {
        const myr_buffer *file = &all->files[below(&rng, all->n)], *other = &all->files[below(&rng, all->n)];
        size_t size = file->size, n_changes = 1 + below(&rng, 1 + below(&rng, 4));
        double before = seconds();
        memcpy(data, file->data, size);
        for (size_t i = 0; i < n_changes; i++)
            change(&rng, data, &size, other);
        try_bytes(data, size, witness, name);
        slowest = seconds() - before > slowest ? seconds() - before : slowest;
    }
    printf("%zu files as they are, %zu changed, %.1f s, the slowest %.2f s\n", all->n, done, seconds() - start,
           slowest);
    munmap(witness, MOST_BYTES);
    unlink(name);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    corpus all = {0};
    if (argc < 2) {
        fprintf(stderr, "usage: %s FOLDER [RUNS [SECONDS [SEED]]] | FILE\n", argv[0]);
        return 2;
    }
    if (!myr_path_is_folder(argv[1])) {
        myr_buffer file = {0};
        if (myr_file_read(argv[1], MOST_BYTES, &file) != MYR_OK) {
            fprintf(stderr, "%s\n", myr_error_detail());
            return argc > 2 ? SKIPPED : 1; /* as a test: no corpus was made */
        }
        int result = LLVMFuzzerTestOneInput((const uint8_t *)file.data, file.size);
        myr_buffer_free(&file);
        return result;
    }
    read_corpus(argv[1], &all);
    int result = all.n > 0
                     ? fuzz(&all, argc > 2 ? strtoul(argv[2], NULL, 10) : 1000, argc > 3 ? strtod(argv[3], NULL) : 10,
                            argc > 4 ? strtoull(argv[4], NULL, 10) : 1, argv[0])
                     : SKIPPED;
    for (size_t i = 0; i < all.n; i++)
        myr_buffer_free(&all.files[i]);
    free(all.files);
    return result;
}
