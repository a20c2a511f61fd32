/*
 * Training: k-means by Lloyd's iterations from distinct random vectors of the sample.
 *
 * Each iteration assigns by GEMM (assign.c), lists the members of every cluster in
 * order of their index (a counting sort), and averages each cluster in double
 * precision in that order; so clusters can go to any thread and the sums stay the same.
 * A cluster left without members moves to the vector farthest from its own centroid.
 *
 * Most iterations see the beginning of the sample only, which tells nearly as well where centroids belong: on SIFT with
 * 3,200 clusters training takes a third of the time of 20 iterations over all, and queries visit as many shards.
 */
#include "partition/router.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* What part of the sample is seen how often. */
static const struct {
    size_t divisor;
    int n_iterations;
} stages[] = {{8, 10}, {2, 4}, {1, 3}};

enum {
    N_STAGES = sizeof stages / sizeof *stages,
    FEWEST = 10, /* vectors a cluster, in a part */
    STILL = 1000, /* stop when fewer than one vector in this many changes its cluster */
};

typedef struct training {
    const float *sample;
    size_t n;
    myr_router *router;
    myr_pool *pool;
    uint32_t *nearest; /* (n) */
    uint32_t *earlier; /* (n) nearest of the iteration before */
    float *distance;   /* (n) */
    size_t *first;     /* (K + 1) where each cluster starts in members */
    uint32_t *members; /* (n) */
    double *sums;      /* (n_threads, dim) */
} training;

/* K different indices of the sample, by Floyd's method (Bentley and Floyd 1987), into members. */
static void choose_first_centroids(training *job, uint64_t seed)
{
    size_t n_clusters = job->router->n_clusters, dim = job->router->dim;
    myr_rng rng;

    myr_rng_seed(&rng, seed);
    memset(job->earlier, 0, job->n * sizeof(*job->earlier)); /* 1 = taken */
    for (size_t c = 0, j = job->n - n_clusters; c < n_clusters; c++, j++) {
        size_t pick = (size_t)myr_rng_below(&rng, j + 1);

        if (job->earlier[pick] != 0)
            pick = j;
        job->earlier[pick] = 1;
        memcpy(job->router->centroids + c * dim, job->sample + pick * dim, dim * sizeof(float));
    }
}

static void measure_centroids(myr_router *router)
{
    for (size_t c = 0; c < router->n_clusters; c++)
        router->norms[c] = myr_partition_norm(router->centroids + c * router->dim, router->dim);
}

static size_t count_moves(const training *job)
{
    size_t moves = 0;

    for (size_t i = 0; i < job->n; i++)
        moves += job->nearest[i] != job->earlier[i];
    return moves;
}

static void list_members(training *job)
{
    size_t n_clusters = job->router->n_clusters;

    memset(job->first, 0, (n_clusters + 1) * sizeof(*job->first));
    for (size_t i = 0; i < job->n; i++)
        job->first[job->nearest[i] + 1]++;
    for (size_t c = 0; c < n_clusters; c++)
        job->first[c + 1] += job->first[c];
    for (size_t i = 0; i < job->n; i++)
        job->members[job->first[job->nearest[i]]++] = (uint32_t)i;
    for (size_t c = n_clusters; c > 0; c--)
        job->first[c] = job->first[c - 1];
    job->first[0] = 0;
}

static myr_status average_task(void *context, size_t first, size_t last, int thread)
{
    training *job = context;
    size_t dim = job->router->dim;
    double *sums = job->sums + (size_t)thread * dim;

    for (size_t c = first; c < last; c++) {
        size_t n_members = job->first[c + 1] - job->first[c];
        float *centroid = job->router->centroids + c * dim;

        if (n_members == 0)
            continue;
        memset(sums, 0, dim * sizeof(*sums));
        for (size_t m = job->first[c]; m < job->first[c + 1]; m++) {
            const float *vector = job->sample + (size_t)job->members[m] * dim;

            for (size_t d = 0; d < dim; d++)
                sums[d] += vector[d];
        }
        for (size_t d = 0; d < dim; d++)
            centroid[d] = (float)(sums[d] / (double)n_members);
    }
    return MYR_OK;
}

typedef struct far_vector {
    float distance;
    uint32_t index;
} far_vector;

static int farthest_first(const void *left, const void *right)
{
    const far_vector *a = left, *b = right;

    if (a->distance != b->distance)
        return a->distance < b->distance ? 1 : -1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* Gives each empty cluster the farthest vector not given yet; vectors that lie on their centroid are no use.
 */
static myr_status move_empty(training *job, size_t *n_moved)
{
    size_t dim = job->router->dim, next = 0, n_empty = 0;
    far_vector *far;

    *n_moved = 0;
    for (size_t c = 0; c < job->router->n_clusters; c++)
        n_empty += job->first[c] == job->first[c + 1];
    if (n_empty == 0)
        return MYR_OK;
    far = myr_alloc(job->n, sizeof(*far));
    if (far == NULL)
        return myr_fail(MYR_ERR_NOMEM, "partition: no memory to re-seed empty clusters");
    for (size_t i = 0; i < job->n; i++)
        far[i] = (far_vector){job->distance[i], (uint32_t)i};
    qsort(far, job->n, sizeof(*far), farthest_first);
    for (size_t c = 0; c < job->router->n_clusters && next < job->n && far[next].distance > 0.0f; c++) {
        if (job->first[c] != job->first[c + 1])
            continue;
        memcpy(job->router->centroids + c * dim, job->sample + (size_t)far[next++].index * dim,
               dim * sizeof(float));
        (*n_moved)++;
    }
    free(far);
    return MYR_OK;
}

/* Over the first n vectors of the sample. */
static myr_status iterate(training *job, size_t n, int n_iterations)
{
    myr_router *router = job->router;

    job->n = n;
    memset(job->earlier, 0xff, job->n * sizeof(*job->earlier)); /* no cluster */
    for (int i = 0; i < n_iterations; i++) {
        uint32_t *other;
        size_t n_moved;
        bool still;
        myr_status status;

        measure_centroids(router);
        status = myr_partition_nearest(router->centroids, router->norms, router->n_clusters, router->dim,
                                       job->sample, job->n, job->pool, job->nearest, job->distance);
        if (status != MYR_OK)
            return status;
        still = count_moves(job) <= job->n / STILL;
        list_members(job);
        status = myr_pool_for(job->pool, router->n_clusters, 1, average_task, job);
        if (status == MYR_OK)
            status = move_empty(job, &n_moved);
        if (status != MYR_OK)
            return status;
        if (still && n_moved == 0)
            break;
        other = job->nearest;
        job->nearest = job->earlier;
        job->earlier = other;
    }
    measure_centroids(router);
    return MYR_OK;
}

/* By the distances of the last iteration, which saw all of the sample. */
static void measure_spread(training *job)
{
    double sum = 0;

    for (size_t i = 0; i < job->n; i++)
        sum += job->distance[i];
    job->router->spread = (float)(sum / (double)job->n);
}

myr_status myr_router_train(const float *sample, size_t n, size_t dim, size_t n_clusters, uint64_t seed,
                            myr_pool *pool, myr_router **router)
{
    training job = {.sample = sample, .n = n, .pool = pool};
    size_t n_threads = pool == NULL ? 1 : (size_t)myr_pool_n_threads(pool);
    size_t n_values;
    myr_status status = MYR_OK;

    if (sample == NULL || router == NULL || n == 0 || dim == 0 || n_clusters == 0)
        return myr_fail(MYR_ERR_ARG,
                        "partition: train: %zu vectors of dim %zu into %zu clusters: none may be 0", n, dim,
                        n_clusters);
    n_clusters = n_clusters < n ? n_clusters : n;
    if (n >= UINT32_MAX || dim > MYR_ROUTER_MAX_DIM || n_clusters > MYR_ROUTER_MAX_CLUSTERS)
        return myr_fail(
            MYR_ERR_LIMIT,
            "partition: train: %zu vectors of dim %zu into %zu clusters: too many; take a smaller sample", n,
            dim, n_clusters);
    job.router = myr_alloc(1, sizeof(*job.router));
    job.nearest = myr_alloc(n, sizeof(*job.nearest));
    job.earlier = myr_alloc(n, sizeof(*job.earlier));
    job.distance = myr_alloc(n, sizeof(*job.distance));
    job.first = myr_alloc(n_clusters + 1, sizeof(*job.first));
    job.members = myr_alloc(n, sizeof(*job.members));
    job.sums = myr_alloc(n_threads, dim * sizeof(*job.sums));
    if (job.router != NULL && myr_mul(n_clusters, dim, &n_values)) {
        job.router->n_clusters = n_clusters;
        job.router->dim = dim;
        job.router->centroids = myr_alloc(n_values, sizeof(float));
        job.router->norms = myr_alloc(n_clusters, sizeof(float));
    }
    if (job.router == NULL || job.nearest == NULL || job.earlier == NULL || job.distance == NULL ||
        job.first == NULL || job.members == NULL || job.sums == NULL || job.router->centroids == NULL ||
        job.router->norms == NULL) {
        status =
            myr_fail(MYR_ERR_NOMEM, "partition: train: no memory for %zu vectors and %zu clusters of dim %zu",
                     n, n_clusters, dim);
        goto done;
    }
    choose_first_centroids(&job, seed);
    for (size_t i = 0; i < N_STAGES && status == MYR_OK; i++) {
        size_t part = n / stages[i].divisor, least = n_clusters > n / FEWEST ? n : n_clusters * FEWEST;

        status = iterate(&job, part > least ? part : least, stages[i].n_iterations);
    }
    if (status != MYR_OK)
        goto done;
    measure_spread(&job);
    *router = job.router;
    job.router = NULL;
done:
    myr_router_free(job.router);
    free(job.nearest);
    free(job.earlier);
    free(job.distance);
    free(job.first);
    free(job.members);
    free(job.sums);
    return status;
}
