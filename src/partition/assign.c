/*
 * Vectors against centroids: |v - c|^2 = |v|^2 - 2 v.c + |c|^2, the products as one GEMM
 * for a block of vectors and a tile of centroids.
 *
 * Blocks start at multiples of a constant, and each is computed by one thread, so
 * the sums do not depend on how many threads there are. |v|^2 plays no part in the
 * comparison and is added only where a distance is asked for.
 */
#include "partition/router.h"

#include "base/alloc.h"

#include <cblas.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK = 256, /* vectors of one GEMM */
    TILE = 512,  /* centroids of one GEMM: BLOCK * TILE products are 512 KiB, about one L2 cache */
};

static void blas_single_thread(void)
{
    openblas_set_num_threads(1);
}

void myr_partition_blas_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, blas_single_thread);
}

/* Eight running sums let the compiler use vector registers and still fix the order. */
float myr_partition_norm(const float *vector, size_t dim)
{
    float sums[8] = {0};
    size_t i = 0;

    for (; i + 8 <= dim; i += 8) {
        for (size_t j = 0; j < 8; j++)
            sums[j] += vector[i + j] * vector[i + j];
    }
    for (size_t j = 0; i < dim; i++, j++)
        sums[j] += vector[i] * vector[i];
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

float myr_partition_distance(const float *a, const float *b, size_t dim)
{
    float sums[8] = {0};
    size_t i = 0;

    for (; i + 8 <= dim; i += 8) {
        for (size_t j = 0; j < 8; j++)
            sums[j] += (a[i + j] - b[i + j]) * (a[i + j] - b[i + j]);
    }
    for (size_t j = 0; i < dim; i++, j++)
        sums[j] += (a[i] - b[i]) * (a[i] - b[i]);
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

typedef struct blocks {
    const float *centroids;
    const float *norms;
    size_t n_centroids;
    size_t dim;
    const float *vectors;
    float *products; /* (n_threads, BLOCK, TILE) */
    /* nearest */
    uint32_t *nearest;
    float *distance;
    /* route */
    const myr_router *router;
    float *shard_distance; /* (n_threads, n_shards) */
    size_t n_probe;
    uint32_t *shards;
    size_t *n_found;
} blocks;

/* products[row, column] = vector . centroid for rows [first, last) and columns [from, to). */
static void multiply(const blocks *job, size_t first, size_t last, size_t from, size_t to, float *products)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)(last - first), (blasint)(to - from),
                (blasint)job->dim, 1.0f, job->vectors + first * job->dim, (blasint)job->dim,
                job->centroids + from * job->dim, (blasint)job->dim, 0.0f, products, TILE);
}

static myr_status check_finite(const blocks *job, size_t row, float *norm)
{
    *norm = myr_partition_norm(job->vectors + row * job->dim, job->dim);
    if (!(*norm <= FLT_MAX / 8))
        return myr_fail(MYR_ERR_ARG, "partition: vector %zu holds a value that is not finite or too large",
                        row);
    return MYR_OK;
}

static myr_status nearest_task(void *context, size_t first, size_t last, int thread)
{
    const blocks *job = context;
    float *products = job->products + (size_t)thread * BLOCK * TILE;
    float norms[BLOCK];
    float best[BLOCK];

    for (size_t row = first; row < last; row++) {
        myr_status status = check_finite(job, row, &norms[row - first]);

        if (status != MYR_OK)
            return status;
        best[row - first] = INFINITY;
        job->nearest[row] = 0;
    }
    for (size_t from = 0; from < job->n_centroids; from += TILE) {
        size_t to = from + TILE < job->n_centroids ? from + TILE : job->n_centroids;

        multiply(job, first, last, from, to, products);
        for (size_t row = first; row < last; row++) {
            const float *line = products + (row - first) * TILE;
            float least = best[row - first];
            uint32_t at = job->nearest[row];

            for (size_t c = from; c < to; c++) {
                float score = job->norms[c] - 2.0f * line[c - from];

                if (score < least) {
                    least = score;
                    at = (uint32_t)c;
                }
            }
            best[row - first] = least;
            job->nearest[row] = at;
        }
    }
    if (job->distance != NULL) {
        for (size_t row = first; row < last; row++)
            job->distance[row] = fmaxf(best[row - first] + norms[row - first], 0.0f);
    }
    return MYR_OK;
}

static size_t n_threads_of(myr_pool *pool)
{
    return pool == NULL ? 1 : (size_t)myr_pool_n_threads(pool);
}

myr_status myr_partition_nearest(const float *centroids, const float *norms, size_t n_centroids, size_t dim,
                                 const float *vectors, size_t n, myr_pool *pool, uint32_t *nearest,
                                 float *distance)
{
    blocks job = {.centroids = centroids,
                  .norms = norms,
                  .n_centroids = n_centroids,
                  .dim = dim,
                  .vectors = vectors,
                  .nearest = nearest,
                  .distance = distance};
    myr_status status;

    myr_partition_blas_init();
    job.products = myr_alloc(n_threads_of(pool), sizeof(float) * BLOCK * TILE);
    if (job.products == NULL)
        return myr_fail(MYR_ERR_NOMEM, "partition: no memory for a block of products");
    status = myr_pool_for(pool, n, BLOCK, nearest_task, &job);
    free(job.products);
    return status;
}

myr_status myr_router_assign(const myr_router *router, const float *vectors, size_t n, myr_pool *pool,
                             uint32_t *cluster, float *distance)
{
    if (router == NULL || (n > 0 && (cluster == NULL || (vectors == NULL && !router_is_hash(router)))))
        return myr_fail(MYR_ERR_ARG, "partition: assign: a router, vectors and room for clusters are needed");
    if (n == 0)
        return MYR_OK;
    if (router_is_hash(router)) {
        memset(cluster, 0, n * sizeof(*cluster));
        if (distance != NULL)
            memset(distance, 0, n * sizeof(*distance));
        return MYR_OK;
    }
    return myr_partition_nearest(router->centroids, router->norms, router->n_clusters, router->dim, vectors,
                                 n, pool, cluster, distance);
}

/* The n_probe nearest of n_shards by insertion: probes are few. Returns how many were found. */
static size_t select_shards(const float *distance, size_t n_shards, size_t n_probe, uint32_t *shards)
{
    size_t n = 0;

    for (size_t s = 0; s < n_shards; s++) {
        size_t at = n;

        if (isinf(distance[s]) || (n == n_probe && distance[s] >= distance[shards[n - 1]]))
            continue;
        if (n == n_probe)
            at = n - 1;
        else
            n++;
        for (; at > 0 && distance[s] < distance[shards[at - 1]]; at--)
            shards[at] = shards[at - 1];
        shards[at] = (uint32_t)s;
    }
    return n;
}

static myr_status route_task(void *context, size_t first, size_t last, int thread)
{
    const blocks *job = context;
    const myr_router *router = job->router;
    size_t n_shards = router->n_shards;
    float *products = job->products + (size_t)thread * BLOCK * TILE;
    float *nearest = job->shard_distance + (size_t)thread * BLOCK * n_shards;
    float norms[BLOCK];

    for (size_t row = first; row < last; row++) {
        myr_status status = check_finite(job, row, &norms[row - first]);

        if (status != MYR_OK)
            return status;
    }
    for (size_t i = 0; i < (last - first) * n_shards; i++)
        nearest[i] = INFINITY;
    for (size_t from = 0; from < job->n_centroids; from += TILE) {
        size_t to = from + TILE < job->n_centroids ? from + TILE : job->n_centroids;

        multiply(job, first, last, from, to, products);
        for (size_t row = 0; row < last - first; row++) {
            for (size_t c = from; c < to; c++) {
                float away = fmaxf(job->norms[c] - 2.0f * products[row * TILE + c - from] + norms[row], 0.0f);

                for (uint32_t p = router->part_first[c]; p < router->part_first[c + 1]; p++) {
                    float *slot = &nearest[row * n_shards + router->part_shard[p]];

                    *slot = away < *slot ? away : *slot;
                }
            }
        }
    }
    for (size_t row = first; row < last; row++) {
        const float *line = nearest + (row - first) * n_shards;
        uint32_t *shards = job->shards + row * n_shards;

        job->n_found[row] = select_shards(line, n_shards, job->n_probe, shards);
        for (size_t i = 0; job->distance != NULL && i < job->n_found[row]; i++)
            job->distance[row * n_shards + i] = line[shards[i]];
    }
    return MYR_OK;
}

myr_status myr_router_route(const myr_router *router, const float *queries, size_t n_queries, size_t n_probe,
                            myr_pool *pool, uint32_t *shards, float *distance, size_t *n_found)
{
    blocks job = {
        .router = router, .vectors = queries, .shards = shards, .distance = distance, .n_found = n_found};
    myr_status status;
    size_t row_size;

    if (router == NULL || router->n_shards == 0)
        return myr_fail(MYR_ERR_ARG, "partition: route: the router is not packed into shards yet");
    if (n_probe == 0 || (n_queries > 0 && (shards == NULL || n_found == NULL)))
        return myr_fail(MYR_ERR_ARG,
                        "partition: route: at least one probe and room for the answer are needed");
    if (n_queries == 0)
        return MYR_OK;
    if (router_is_hash(router)) {
        for (size_t q = 0; q < n_queries; q++) {
            for (size_t s = 0; s < router->n_shards; s++) {
                shards[q * router->n_shards + s] = (uint32_t)s;
                if (distance != NULL)
                    distance[q * router->n_shards + s] = 0.0f;
            }
            n_found[q] = router->n_shards;
        }
        return MYR_OK;
    }
    if (queries == NULL)
        return myr_fail(MYR_ERR_ARG, "partition: route: there are no queries");
    myr_partition_blas_init();
    job.n_probe = n_probe < router->n_shards ? n_probe : router->n_shards;
    job.centroids = router->centroids;
    job.norms = router->norms;
    job.n_centroids = router->n_clusters;
    job.dim = router->dim;
    job.products = myr_alloc(n_threads_of(pool), sizeof(float) * BLOCK * TILE);
    job.shard_distance = myr_mul(BLOCK * sizeof(float), router->n_shards, &row_size)
                             ? myr_alloc(n_threads_of(pool), row_size)
                             : NULL;
    if (job.products == NULL || job.shard_distance == NULL)
        status = myr_fail(MYR_ERR_NOMEM, "partition: route: no memory for a block of %d queries", BLOCK);
    else
        status = myr_pool_for(pool, n_queries, BLOCK, route_task, &job);
    free(job.products);
    free(job.shard_distance);
    return status;
}
