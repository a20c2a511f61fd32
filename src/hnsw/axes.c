/*
 * Axes on which wide vectors are told apart by fewer values.
 *
 * Embeddings of many values vary along few directions. Codes of a vector's place along these, some hundred bytes, rank
 * neighbours nearly as codes of all values do, and a walk reads a fraction of the memory. What a search reports is
 * measured on the whole vectors as ever. A projection on axes of length 1 at right angles never makes two vectors
 * farther from each other, so what is told by codes to be too far is.
 *
 * The axes span the directions of the greatest variance of a sample, found by subspace iteration: a few times all axes
 * are multiplied by the sample's covariance, which is never made, and set at right angles. Any base of that space is as
 * good as the principal one. All sums have one order, so that the axes are the same bits for any number of threads
 * and on any processor.
 *
 * Source: Halko, Martinsson and Tropp 2011, "Finding structure with randomness", Algorithm 4.4.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SAMPLE = 4096, /* vectors at most */
    ROUNDS = 3,    /* more of them find no more variance, measured on embeddings of pictures */
    TOGETHER = 4,  /* vectors that are projected in one go */
    WIDE = 256,    /* fewer values are few enough */
};

/* Of the variance that axes are to hold for codes to be made along them. Embeddings of CIFAR-10, 1,280 values: 128 axes
 * hold 0.72, 192 0.78. */
#define ENOUGH 0.75
/* Vectors no longer than this have products that floats hold. */
#define LONGEST 1e15

typedef struct fit {
    const float *const *rows; /* (n) of dim values */
    size_t n, dim, n_sample, n_axes;
    const myr_kernel *kernel;
    double *mean;    /* (dim) */
    float *sample;   /* (n_sample, dim) less the mean */
    float *turned;   /* (dim, n_sample) the same */
    double variance; /* sum of the sample's squares */
    double *columns; /* (n_axes, dim) the axes, one behind the other */
    float *axes;     /* their panels */
    float *places;   /* (n_sample, n_axes) of the sample along the axes */
    float *panels;   /* the same as panels */
    double held;     /* of the variance */
} fit;

/* ---- the sample ---- */

static void take_sample(fit *all)
{
    for (size_t s = 0; s < all->n_sample; s++) {
        const float *row = all->rows[s * all->n / all->n_sample];
        for (size_t i = 0; i < all->dim; i++)
            all->mean[i] += row[i];
    }
    for (size_t i = 0; i < all->dim; i++)
        all->mean[i] /= (double)all->n_sample;
    for (size_t s = 0; s < all->n_sample; s++) {
        const float *row = all->rows[s * all->n / all->n_sample];
        for (size_t i = 0; i < all->dim; i++) {
            float value = (float)(row[i] - all->mean[i]);
            all->sample[s * all->dim + i] = all->turned[i * all->n_sample + s] = value;
            all->variance += (double)value * value;
        }
    }
}

/* ---- axes ---- */

/* The place of a value of row i in panels of n rows. */
static inline size_t place_of(size_t n, size_t i, size_t axis)
{
    return (axis / MYR_PANEL * n + i) * MYR_PANEL + axis % MYR_PANEL;
}

static void pack_axes(fit *all)
{
    for (size_t axis = 0; axis < all->n_axes; axis++)
        for (size_t i = 0; i < all->dim; i++)
            all->axes[place_of(all->dim, i, axis)] = (float)all->columns[axis * all->dim + i];
}

static void draw_axes(fit *all, uint64_t seed)
{
    myr_rng rng;
    myr_rng_seed(&rng, seed);
    for (size_t i = 0; i < all->n_axes * all->dim; i++)
        all->columns[i] = myr_rng_unit(&rng) - 0.5;
}

static double dot(const double *a, const double *b, size_t n)
{
    double sums[4] = {0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t j = 0; j < 4; j++)
            sums[j] += a[i + j] * b[i + j];
    for (; i < n; i++)
        sums[0] += a[i] * b[i];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

typedef struct leveling {
    const fit *all;
    size_t axis; /* whose direction is taken out of those behind it */
} leveling;

static myr_status level_task(void *context, size_t first, size_t last, int thread)
{
    const leveling *now = context;
    const fit *all = now->all;
    const double *unit = all->columns + now->axis * all->dim;
    (void)thread;
    for (size_t at = first; at < last; at++) {
        double *column = all->columns + (now->axis + 1 + at) * all->dim, share = dot(column, unit, all->dim);
        for (size_t i = 0; i < all->dim; i++)
            column[i] -= share * unit[i];
    }
    return MYR_OK;
}

/* Modified Gram-Schmidt; what has no direction of its own becomes zero. */
static myr_status square_axes(fit *all, myr_pool *pool)
{
    myr_status status = MYR_OK;
    for (size_t axis = 0; status == MYR_OK && axis < all->n_axes; axis++) {
        double *column = all->columns + axis * all->dim, length = sqrt(dot(column, column, all->dim));
        double least = 1e-9 * sqrt(all->variance);
        for (size_t i = 0; i < all->dim; i++)
            column[i] = length > least ? column[i] / length : 0;
        status = myr_pool_for(pool, all->n_axes - axis - 1, 16, level_task, &(leveling){all, axis});
    }
    return status;
}

/* ---- products ---- */

static myr_status place_task(void *context, size_t first, size_t last, int thread)
{
    fit *all = context;
    (void)thread;
    for (size_t s = first; s < last; s += TOGETHER) {
        const float *rows[TOGETHER];
        float *out[TOGETHER];
        size_t n = last - s < TOGETHER ? last - s : TOGETHER;
        for (size_t v = 0; v < n; v++) {
            rows[v] = all->sample + (s + v) * all->dim;
            out[v] = all->places + (s + v) * all->n_axes;
        }
        all->kernel->project(all->axes, NULL, all->dim, all->n_axes, rows, n, out);
        for (size_t v = 0; v < n; v++)
            for (size_t axis = 0; axis < all->n_axes; axis++)
                all->panels[place_of(all->n_sample, s + v, axis)] = out[v][axis];
    }
    return MYR_OK;
}

/* The sample's transpose times its places: the covariance times the axes. */
static myr_status turn_task(void *context, size_t first, size_t last, int thread)
{
    fit *all = context;
    float sums[TOGETHER][MOST_AXES];
    (void)thread;
    for (size_t i = first; i < last; i += TOGETHER) {
        const float *rows[TOGETHER];
        float *out[TOGETHER];
        size_t n = last - i < TOGETHER ? last - i : TOGETHER;
        for (size_t v = 0; v < n; v++) {
            rows[v] = all->turned + (i + v) * all->n_sample;
            out[v] = sums[v];
        }
        all->kernel->project(all->panels, NULL, all->n_sample, all->n_axes, rows, n, out);
        for (size_t v = 0; v < n; v++)
            for (size_t axis = 0; axis < all->n_axes; axis++)
                all->columns[axis * all->dim + i + v] = sums[v][axis];
    }
    return MYR_OK;
}

/* n_axes axes, and how much of the variance they hold. */
static myr_status find_axes(fit *all, uint64_t seed, myr_pool *pool)
{
    draw_axes(all, seed);
    myr_status status = square_axes(all, pool);
    for (int round = 0; status == MYR_OK && round <= ROUNDS; round++) {
        pack_axes(all);
        status = myr_pool_for(pool, all->n_sample, 4 * TOGETHER, place_task, all);
        if (status != MYR_OK || round == ROUNDS)
            break;
        status = myr_pool_for(pool, all->dim, 4 * TOGETHER, turn_task, all);
        if (status == MYR_OK)
            status = square_axes(all, pool);
        if (status == MYR_OK && round == ROUNDS - 1)
            status = square_axes(all, pool); /* once more: right to the last bits */
    }
    double held = 0;
    for (size_t i = 0; i < all->n_sample * all->n_axes; i++)
        held += (double)all->places[i] * all->places[i];
    all->held = all->variance > 0 ? held / all->variance : 1;
    return status;
}

/* ---- the whole ---- */

/* The graph's axes, a hair shorter than 1 so that rounding them does not make them longer; offsets, range of codes. */
static myr_status keep_axes(const fit *all, myr_hnsw *graph)
{
    size_t n_values = all->n_axes * all->dim;
    float *axes = myr_alloc_huge(n_values, sizeof *axes), *offsets = myr_alloc(all->n_axes, sizeof *offsets);
    graph->axes = axes;
    graph->offsets = offsets;
    if (!axes || !offsets)
        return MYR_ERR_NOMEM;
    for (size_t axis = 0; axis < all->n_axes; axis++) {
        const double *column = all->columns + axis * all->dim;
        offsets[axis] = (float)-dot(column, all->mean, all->dim);
        for (size_t i = 0; i < all->dim; i++)
            axes[place_of(all->dim, i, axis)] = (float)(column[i] * (1 - 1e-5));
    }
    float most = 0;
    for (size_t i = 0; i < all->n_sample * all->n_axes; i++)
        most = fabsf(all->places[i]) > most ? fabsf(all->places[i]) : most;
    graph->n_axes = all->n_axes;
    graph->code_max = most;
    graph->code_min = -most;
    return MYR_OK;
}

static void free_fit(fit *all)
{
    free(all->mean);
    free(all->sample);
    free(all->turned);
    free(all->columns);
    free(all->axes);
    free(all->places);
    free(all->panels);
}

static bool reserve(fit *all, size_t most_axes)
{
    size_t n_places = all->n_sample * most_axes, n_columns = most_axes * all->dim;
    all->mean = myr_alloc(all->dim, sizeof *all->mean);
    all->sample = myr_alloc_huge(all->n_sample, all->dim * sizeof *all->sample);
    all->turned = myr_alloc_huge(all->dim, all->n_sample * sizeof *all->turned);
    all->columns = myr_alloc_huge(n_columns, sizeof *all->columns);
    all->axes = myr_alloc_huge(n_columns, sizeof *all->axes);
    all->places = myr_alloc_huge(n_places, sizeof *all->places);
    all->panels = myr_alloc_huge(n_places, sizeof *all->panels);
    return all->mean && all->sample && all->turned && all->columns && all->axes && all->places && all->panels;
}

/* Whether the vectors are such that axes may be had of them: finite, and not too long. */
static bool are_fit(const fit *all)
{
    for (size_t i = 0; i < all->n; i++)
        if (!(all->kernel->dot(all->rows[i], all->rows[i], all->dim) <= LONGEST * LONGEST))
            return false;
    return true;
}

/* Least first; the last that is no more than half of the values is tried last. */
static const size_t tried[] = {128, 192, 256, 384, 512};

myr_status hnsw_make_axes(myr_hnsw *graph, const float *const *rows, int wanted, myr_pool *pool)
{
    bool chooses = wanted == MYR_HNSW_AXES_BY_DATA;
    size_t asked = chooses ? 0 : ((size_t)wanted + MYR_PANEL - 1) / MYR_PANEL * MYR_PANEL;
    fit all = {.rows = rows,
               .n = graph->n,
               .dim = graph->dim,
               .n_sample = graph->n < SAMPLE ? graph->n : SAMPLE,
               .kernel = myr_kernel_get()};
    if (wanted == 0 || (chooses && graph->dim < WIDE) || asked >= graph->dim || all.n_sample < 2 * tried[0] ||
        !are_fit(&all))
        return MYR_OK;
    size_t most = chooses ? tried[sizeof tried / sizeof *tried - 1] : asked;
    myr_status status = reserve(&all, most) ? MYR_OK : MYR_ERR_NOMEM;
    if (status == MYR_OK)
        take_sample(&all);
    all.n_axes = asked;
    if (status == MYR_OK && !chooses)
        status = find_axes(&all, graph->seed, pool);
    for (size_t i = 0; chooses && status == MYR_OK && i < sizeof tried / sizeof *tried && 2 * tried[i] <= all.dim;
         i++) {
        all.n_axes = tried[i];
        status = find_axes(&all, graph->seed, pool);
        if (all.held >= ENOUGH)
            break;
    }
    if (status == MYR_OK && (!chooses || all.held >= ENOUGH))
        status = keep_axes(&all, graph);
    free_fit(&all);
    return status;
}

myr_status hnsw_copy_axes(const myr_hnsw *from, myr_hnsw *graph)
{
    size_t n_values = from->n_axes * from->dim;
    graph->n_axes = from->n_axes;
    if (from->n_axes == 0)
        return MYR_OK;
    float *axes = myr_alloc_huge(n_values, sizeof *axes), *offsets = myr_alloc(from->n_axes, sizeof *offsets);
    graph->axes = axes;
    graph->offsets = offsets;
    if (!axes || !offsets)
        return MYR_ERR_NOMEM;
    memcpy(axes, from->axes, n_values * sizeof *axes);
    memcpy(offsets, from->offsets, from->n_axes * sizeof *offsets);
    return MYR_OK;
}

double hnsw_axes_slack(const myr_hnsw *graph, double squared)
{
    /* Of sums of dim fused steps in float, Higham 2002, section 3.1: |error| <= gamma |a| |v| of each axis. */
    double gamma = ((double)graph->dim + 2) * 0x1p-24, offsets = 0;
    gamma /= 1 - gamma;
    for (size_t i = 0; i < graph->n_axes; i++)
        offsets += (double)graph->offsets[i] * graph->offsets[i];
    return gamma * sqrt((double)graph->n_axes) * (sqrt(squared) + sqrt(offsets));
}
