/*
 * How near are the distance kernels to what the core can do?
 *
 *   bench_kernels [BYTES...]      lengths of code rows; default 64 128 512 1280
 *
 * For each variant this processor has and each length: code distances over rows that lie in the first cache (what the
 * instructions cost) and over 256 MiB of rows in order (what memory allows), in GB/s of codes; beside them the rate at
 * which a plain sum of all bytes is read from both places by the compiler's best code, and the rate at which the core
 * issues the kernel's instructions on registers alone, with the kernel's share of it. Medians of seven turns, in
 * time of the processor.
 */
#include "base/alloc.h"
#include "base/rng.h"
#include "kernels_issue.h"
#include "kernel/kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TURNS = 7, CACHE_BYTES = 16 << 10, MEMORY_BYTES = 256 << 20, LISTED = 256, AT_ONCE = 32 };

static volatile uint64_t sink; /* so that nothing is left out */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint64_t sum_bytes(const uint8_t *bytes, size_t n)
{
    const uint64_t *words = (const uint64_t *)(const void *)bytes;
    uint64_t sum[8] = {0};
    for (size_t i = 0; i < n / 8; i += 8)
        for (size_t j = 0; j < 8; j++)
            sum[j] += words[i + j];
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

/* All rows, passes times; those of a list, which is made once, before those behind. */
static uint64_t measure_rows(const myr_kernel *kernel, const uint8_t *query, const uint8_t *rows, size_t n_bytes,
                             size_t row_bytes, size_t passes)
{
    const uint8_t *list[LISTED];
    uint32_t distances[AT_ONCE];
    uint64_t sum = 0;
    size_t n = n_bytes / row_bytes;
    for (size_t first = 0; first < n; first += LISTED) {
        size_t n_listed = n - first < LISTED ? n - first : LISTED;
        for (size_t i = 0; i < n_listed; i++)
            list[i] = rows + (first + i) * row_bytes;
        for (size_t pass = 0; pass < passes; pass++)
            for (size_t i = 0; i < n_listed; i += AT_ONCE) {
                kernel->code_distances(query, list + i, n_listed - i < AT_ONCE ? n_listed - i : AT_ONCE, row_bytes,
                                       distances);
                sum += distances[0];
            }
    }
    return sum;
}

static double median(double *values)
{
    qsort(values, TURNS, sizeof *values, by_value);
    return values[TURNS / 2];
}

/* Of the processor, not of the clock on the wall: others may run beside. */
static double spent_s(void)
{
    struct timespec spent;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    return (double)spent.tv_sec + 1e-9 * (double)spent.tv_nsec;
}

/* GB/s over n_bytes, read often enough to be measured; kernel NULL: the plain sum. */
static double rate_once(const myr_kernel *kernel, const uint8_t *query, const uint8_t *rows, size_t n_bytes,
                        size_t row_bytes)
{
    size_t passes = n_bytes < MEMORY_BYTES ? (size_t)(64 << 20) / n_bytes : 1;
    n_bytes = n_bytes / row_bytes * row_bytes;
    double start_s = spent_s();
    if (kernel)
        sink += measure_rows(kernel, query, rows, n_bytes, row_bytes, passes);
    for (size_t i = 0; i < passes && !kernel; i++)
        sink += sum_bytes(rows, n_bytes);
    return (double)(n_bytes * passes) / (spent_s() - start_s) / 1e9;
}

static double rate(const myr_kernel *kernel, const uint8_t *query, const uint8_t *rows, size_t n_bytes,
                   size_t row_bytes)
{
    double rates[TURNS];
    for (int turn = 0; turn < TURNS; turn++)
        rates[turn] = rate_once(kernel, query, rows, n_bytes, row_bytes);
    return median(rates);
}

/* GB/s of codes at which a variant's instructions are issued; 0 where there is no such loop. */
static double issue_once(const char *variant)
{
    const size_t n = 1 << 20, step_bytes = 256;
    double start_s = spent_s();
    if (!issue_loop(variant, n))
        return 0;
    return (double)(n * step_bytes) / (spent_s() - start_s) / 1e9;
}

static void measure(const myr_kernel *kernel, const uint8_t *query, const uint8_t *rows, size_t row_bytes)
{
    double cached[TURNS], issued[TURNS], shares[TURNS];
    for (int turn = 0; turn < TURNS; turn++) { /* in turn, so that both see the same clock */
        cached[turn] = rate_once(kernel, query, rows, CACHE_BYTES, row_bytes);
        issued[turn] = issue_once(kernel->name);
        shares[turn] = issued[turn] > 0 ? 100 * cached[turn] / issued[turn] : 0;
    }
    printf("%-12s %6zu %14.1f %14.1f", kernel->name, row_bytes, median(cached),
           rate(kernel, query, rows, MEMORY_BYTES, row_bytes));
    if (median(issued) > 0)
        printf(" %14.1f %9.0f %%", median(issued), median(shares));
    printf("\n");
}

int main(int argc, char **argv)
{
    static const size_t usual[] = {64, 128, 512, 1280};
    int n_lengths = argc > 1 ? argc - 1 : (int)(sizeof usual / sizeof *usual);
    uint8_t *rows = myr_alloc_huge(MEMORY_BYTES, 1), *query = myr_alloc(1, MYR_CODE_MAX_DIM);
    myr_rng rng;
    if (!rows || !query) {
        fprintf(stderr, "kernels: no memory\n");
        return 1;
    }
    myr_rng_seed(&rng, 1);
    for (size_t i = 0; i < MEMORY_BYTES; i++)
        rows[i] = (uint8_t)myr_rng_below(&rng, 256);
    printf("%-12s %6s %14s %14s %14s %10s\n", "variant", "bytes", "cache, GB/s", "memory, GB/s", "issue, GB/s",
           "of issue");
    printf("%-12s %6s %14.1f %14.1f\n", "plain sum", "", rate(NULL, query, rows, CACHE_BYTES, 64),
           rate(NULL, query, rows, MEMORY_BYTES, 64));
    for (size_t v = 0; myr_kernel_variant(v); v++)
        for (int i = 0; i < n_lengths; i++) {
            size_t length = argc > 1 ? myr_code_bytes(strtoul(argv[i + 1], NULL, 10)) : usual[i];
            if (length < 64 || length > MYR_CODE_MAX_DIM) {
                fprintf(stderr, "usage: bench_kernels [BYTES...]      64 to %d\n", MYR_CODE_MAX_DIM);
                return 2;
            }
            measure(myr_kernel_variant(v), query, rows, length);
        }
    free(rows);
    free(query);
    return 0;
}
