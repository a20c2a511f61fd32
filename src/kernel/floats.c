/*
 * Distances of float rows for walks that know no codes.
 *
 * No squared distance is negative, and floats that are not order as their bits do as whole numbers; so what compares
 * code distances compares these, too. The sums are those of the chosen kernel in double, whose order is the same for
 * every instruction set.
 */
#include "kernel/kernel.h"

#include <pthread.h>

static myr_kernel floats;

static uint32_t distance(const uint8_t *a, const uint8_t *b, size_t n_bytes)
{
    const float *x = (const float *)(const void *)a, *y = (const float *)(const void *)b;
    float squared = (float)floats.squared_l2(x, y, n_bytes / sizeof *x);
    uint32_t bits;
    memcpy(&bits, &squared, sizeof bits);
    return bits;
}

static void distances(const uint8_t *a, const uint8_t *const *rows, size_t n_rows, size_t n_bytes, uint32_t *out)
{
    for (size_t i = 0; i < n_rows; i++)
        out[i] = distance(a, rows[i], n_bytes);
}

static void make(void)
{
    floats = *myr_kernel_get();
    floats.code_distance = distance;
    floats.code_distances = distances;
}

const myr_kernel *myr_kernel_floats(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make);
    return &floats;
}
