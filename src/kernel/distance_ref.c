/*
 * Distances in plain C: what the other variants must equal bit for bit, and all there is
 * on CPUs they do not know.
 */
#include "kernel/half.h"
#include "kernel/kernel.h"

enum { LANES = 16 };

static uint32_t code_distance(const uint8_t *a, const uint8_t *b, size_t n_bytes)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        int away = a[i] - b[i];
        sum += (uint32_t)(away * away);
    }
    return sum;
}

static void code_distances(const uint8_t *a, const uint8_t *const *rows, size_t n_rows, size_t n_bytes,
                           uint32_t *distances)
{
    for (size_t r = 0; r < n_rows; r++)
        distances[r] = code_distance(a, rows[r], n_bytes);
}

/* The tree: lane i takes lane i + half, and half halves. */
static double sum_of(double *lanes)
{
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    return lanes[0];
}

static double squared_l2(const float *a, const float *b, size_t dim)
{
    double lanes[LANES] = {0};
    for (size_t i = 0; i < dim; i++) {
        double away = (double)a[i] - (double)b[i];
        lanes[i % LANES] += away * away;
    }
    return sum_of(lanes);
}

static double dot(const float *a, const float *b, size_t dim)
{
    double lanes[LANES] = {0};
    for (size_t i = 0; i < dim; i++)
        lanes[i % LANES] += (double)a[i] * (double)b[i];
    return sum_of(lanes);
}

static void widen(const uint16_t *halves, size_t dim, float *values)
{
    for (size_t i = 0; i < dim; i++)
        values[i] = myr_half_to_float(halves[i]);
}

static void project(const float *axes, const float *offsets, size_t dim, size_t n_axes, const float *const *vectors,
                    size_t n, float *const *out)
{
    for (size_t v = 0; v < n; v++)
        for (size_t axis = 0; axis < n_axes; axis++) {
            const float *panel = axes + axis / MYR_PANEL * dim * MYR_PANEL + axis % MYR_PANEL;
            float sum = offsets ? offsets[axis] : 0;
            for (size_t i = 0; i < dim; i++)
                sum = fmaf(vectors[v][i], panel[i * MYR_PANEL], sum);
            out[v][axis] = sum;
        }
}

const myr_kernel myr_kernel_ref = {"reference", code_distance, code_distances, squared_l2, dot, widen, project};
