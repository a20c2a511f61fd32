/*
 * How near are the distance kernels to what the core can do?
 *
 *   bench_kernels [BYTES...]      lengths of code rows; default 64 128 512 1280
 *
 * For each variant this processor has and each length: code distances over rows that lie in the first cache (what the
 * instructions cost) and over 256 MiB of rows in order (what memory allows), in GB/s of codes; beside them the rate at
 * which a plain sum of all bytes is read from both places by the compiler's best code, and the rate at which the core
 * issues the kernel's instructions on registers alone, with the kernel's share of it. Medians of seven turns.
 */
#include "base/alloc.h"
#include "base/progress.h"
#include "base/rng.h"
#include "kernels_issue.h"
#include "kernel/kernel.h"

#include <stdio.h>
#include <stdlib.h>

enum { TURNS = 7, CACHE_BYTES = 16 << 10, MEMORY_BYTES = 256 << 20, AT_ONCE = 32 };

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

static uint64_t measure_rows(const myr_kernel *kernel, const uint8_t *query, const uint8_t *rows, size_t n_bytes,
                             size_t row_bytes)
{
    const uint8_t *list[AT_ONCE];
    uint32_t distances[AT_ONCE];
    uint64_t sum = 0;
    size_t n = n_bytes / row_bytes;
    for (size_t i = 0; i < n; i += AT_ONCE) {
        size_t n_now = n - i < AT_ONCE ? n - i : AT_ONCE;
        for (size_t j = 0; j < n_now; j++)
            list[j] = rows + (i + j) * row_bytes;
        kernel->code_distances(query, list, n_now, row_bytes, distances);
        sum += distances[0];
    }
    return sum;
}

/* GB/s over n_bytes, read often enough to be measured; kernel NULL: the plain sum. */
static double rate(const myr_kernel *kernel, const uint8_t *query, const uint8_t *rows, size_t n_bytes,
                   size_t row_bytes)
{
    double rates[TURNS];
    size_t repeats = n_bytes < MEMORY_BYTES ? (size_t)(64 << 20) / n_bytes : 1;
    n_bytes = n_bytes / row_bytes * row_bytes;
    for (int turn = 0; turn < TURNS; turn++) {
        double start_s = myr_now_s();
        for (size_t i = 0; i < repeats; i++)
            sink += kernel ? measure_rows(kernel, query, rows, n_bytes, row_bytes) : sum_bytes(rows, n_bytes);
        rates[turn] = (double)(n_bytes * repeats) / (myr_now_s() - start_s) / 1e9;
    }
    qsort(rates, TURNS, sizeof *rates, by_value);
    return rates[TURNS / 2];
}

/* GB/s of codes at which a variant's instructions are issued; 0 where there is no such loop. */
static double issue_rate(const char *variant)
{
    const size_t n = 1 << 20, step_bytes = 256;
    double rates[TURNS];
    for (int turn = 0; turn < TURNS; turn++) {
        double start_s = myr_now_s();
        if (!issue_loop(variant, n))
            return 0;
        rates[turn] = (double)(n * step_bytes) / (myr_now_s() - start_s) / 1e9;
    }
    qsort(rates, TURNS, sizeof *rates, by_value);
    return rates[TURNS / 2];
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
            const myr_kernel *kernel = myr_kernel_variant(v);
            double cached = rate(kernel, query, rows, CACHE_BYTES, length), issued = issue_rate(kernel->name);
            printf("%-12s %6zu %14.1f %14.1f", kernel->name, length, cached,
                   rate(kernel, query, rows, MEMORY_BYTES, length));
            if (issued > 0)
                printf(" %14.1f %9.0f %%", issued, 100 * cached / issued);
            printf("\n");
        }
    free(rows);
    free(query);
    return 0;
}
