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
    uint32_t *nearest;
    float *distance;
} blocks;

/* products[row, column] = vector . centroid for rows [first, last) and columns [from, to). */
static void multiply(const blocks *job, size_t first, size_t last, size_t from, size_t to, float *products)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)(last - first), (blasint)(to - from),
                (blasint)job->dim, 1.0f, job->vectors + first * job->dim, (blasint)job->dim,
                job->centroids + from * job->dim, (blasint)job->dim, 0.0f, products, TILE);
}

myr_status myr_partition_length(const float *vectors, size_t row, size_t dim, float *squared)
{
    *squared = myr_partition_norm(vectors + row * dim, dim);
    if (!(*squared <= FLT_MAX / 8))
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
        myr_status status = myr_partition_length(job->vectors, row, job->dim, &norms[row - first]);

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
