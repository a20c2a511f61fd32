/*
 * Inside of a router, shared by the files of this folder.
 */
#ifndef MYR_PARTITION_ROUTER_H
#define MYR_PARTITION_ROUTER_H

#include "myriops/partition.h"

#include "base/pool.h"

/* Items of a cluster that lie in a shard and in another: seen from one of the two. */
typedef struct router_pair {
    uint32_t cluster, other;
    int64_t n_items;
} router_pair;

struct myr_router {
    size_t n_shards; /* 0 = not packed */
    size_t n_clusters;
    size_t dim;
    size_t n_parts;
    float *centroids;     /* [owned] (n_clusters, dim) */
    float *norms;         /* [owned] (n_clusters) squared lengths of the centroids */
    uint32_t *part_first; /* [owned] (n_clusters + 1) */
    uint32_t *part_shard; /* [owned] (n_parts) */
    uint64_t *part_bound; /* [owned] (n_parts) */
    int64_t *part_items;  /* [owned] (n_parts) of the items it was packed by */
    float softness;       /* 0 = not calibrated */
    float spread;         /* 0 = not known */
    size_t n_copies;
    uint32_t *copy_first; /* [owned] (n_parts + 1), NULL where nothing overlaps */
    uint32_t *copy_shard; /* [owned] (n_copies) */
    int64_t *copy_items;  /* [owned] (n_copies) */
    uint64_t *copy_bound; /* [owned] (n_shards), likewise */
    size_t *pair_first;   /* [owned] (n_shards + 1), likewise: the same copies, by shard, from both sides */
    router_pair *pairs;   /* [owned] (2 n_copies) */
};

/* A hash router has no centroids. */
static inline int router_is_hash(const myr_router *router)
{
    return router->n_clusters == 0;
}

/* Lets go of the copies. */
void myr_partition_clear_copies(myr_router *router);

/* One OpenBLAS thread a caller: the parallel loops are ours, and its own threads would change the sums. */
void myr_partition_blas_init(void);

/*
 * Nearest of n_centroids for each of n vectors, by GEMM over blocks of fixed size.
 * distance may be NULL. MYR_ERR_ARG names the first vector found with a value that is not finite.
 */
myr_status myr_partition_nearest(const float *centroids, const float *norms, size_t n_centroids, size_t dim,
                                 const float *vectors, size_t n, myr_pool *pool, uint32_t *nearest,
                                 float *distance);

/* Squared length, summed in one fixed order. */
float myr_partition_norm(const float *vector, size_t dim);

/* The same of a row of vectors; MYR_ERR_ARG where it is not finite, or nearly so. */
myr_status myr_partition_length(const float *vectors, size_t row, size_t dim, float *squared);

/* Squared distance, summed in one fixed order. */
float myr_partition_distance(const float *a, const float *b, size_t dim);

#endif
