/*
 * Which shard an item lives in, and which shards a query must visit.
 *
 * A router is K centroids (K about 100 times the S shards), each mapped to its
 * shard. Build: train on a sample, assign every item to its nearest centroid,
 * sum the counts over all ranks, pack, then ask the shard of each item. Every rank that
 * packs the same router with the same counts gets the same map. Calibrate, with queries whose
 * neighbours are known. Query: route.
 *
 * A hash router spreads items evenly without looking at them; a query must then
 * visit every shard.
 */
#ifndef MYRIOPS_PARTITION_H
#define MYRIOPS_PARTITION_H

#include "myriops/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct myr_pool myr_pool;
typedef struct myr_router myr_router;

/* Limits that a damaged file cannot push beyond. */
#define MYR_ROUTER_MAX_SHARDS (1u << 20)
#define MYR_ROUTER_MAX_CLUSTERS (1u << 24)
#define MYR_ROUTER_MAX_DIM (1u << 16)

/*
 * The arrays of a router, as a file keeps them.
 *
 * Cluster c consists of the parts [part_first[c], part_first[c + 1]): one as a rule,
 * several where the cluster is too big for one shard. An item of the cluster belongs to the first
 * part whose bound is not below its id's fraction (64 bits); the last bound is UINT64_MAX.
 * A hash router has n_clusters = dim = n_parts = 0 and no arrays.
 */
typedef struct myr_router_view {
    uint32_t n_shards;   /* 0 = trained, but not packed yet (then n_parts = 0 and no parts) */
    uint32_t n_clusters; /* K */
    uint32_t dim;
    uint32_t n_parts;           /* K at least once packed */
    const float *centroids;     /* (n_clusters, dim) f32 row-major */
    const uint32_t *part_first; /* (n_clusters + 1) */
    const uint32_t *part_shard; /* (n_parts), below n_shards */
    const uint64_t *part_bound; /* (n_parts), rising inside a cluster */
    const int64_t *part_items;  /* (n_parts) items, when the router was packed; >= 0 */
    float softness;             /* squared distance in which a cluster's weight falls to 1/e; 0 = not calibrated */
    float spread;               /* mean squared distance of a sample to its centroids; 0 = not known */
    /* Where shards overlap, part p has the copies [copy_first[p], copy_first[p + 1]): so many of its items lie in
     * another shard too. Elsewhere n_copies = 0 and the arrays are NULL. */
    uint32_t n_copies;
    const uint32_t *copy_first; /* (n_parts + 1) */
    const uint32_t *copy_shard; /* (n_copies), rising inside a part, never the part's own */
    const int64_t *copy_items;  /* (n_copies) >= 0 */
    const uint64_t *copy_bound; /* (n_shards) an item nearer than this lies there too (myr_router_second) */
} myr_router_view;

/*
 * myr_router_n_clusters - the K to train for: 100 a shard, at least 40 sample vectors a
 * cluster, at least one cluster a shard, 1 where one shard makes routing idle.
 */
MYR_API size_t myr_router_n_clusters(size_t n_sample, size_t n_shards);

/*
 * myr_router_train - k-means centroids of a sample.
 *
 * Local.
 *
 *  sample      [in]    (n, dim) f32 row-major, finite, n >= 1, in random order: its beginning is used most
 *  n_clusters  >= 1; reduced to n where the sample is smaller
 *  seed        chooses the first centroids
 *  pool        [borrowed] or NULL
 *  router      [out, owned by caller] not packed yet; free with myr_router_free
 *
 * Returns:  MYR_OK | MYR_ERR_ARG (sizes, a value that is not finite) | MYR_ERR_LIMIT | MYR_ERR_NOMEM
 * Threads:  the result is the same for any number of threads on one kind of CPU.
 * Cost:     2 * n * n_clusters * dim flops in GEMM, 7 times; 17 times where there are few vectors a cluster.
 * Source:   Lloyd 1982; empty clusters move to the vectors farthest from their centroids.
 */
MYR_API myr_status myr_router_train(const float *sample, size_t n, size_t dim, size_t n_clusters,
                                    uint64_t seed, myr_pool *pool, myr_router **router);

/*
 * myr_router_create_hash - a router that spreads items by id alone.
 *
 * Local. Needs no train, assign or pack (all three are allowed and change nothing).
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_router_create_hash(size_t n_shards, myr_router **router);

/* myr_router_free - NULL is fine. */
MYR_API void myr_router_free(myr_router *router);

/*
 * myr_router_assign - nearest centroid of each vector; ties go to the lower cluster.
 *
 * Local.
 *
 *  vectors   [in]   (n, dim) f32 row-major, finite
 *  pool      [borrowed] or NULL
 *  cluster   [out]  (n) cluster of each vector; 0 everywhere for a hash router
 *  distance  [out]  (n) squared L2 to that centroid, or NULL
 *
 * Returns:  MYR_OK | MYR_ERR_ARG (a value that is not finite) | MYR_ERR_NOMEM
 * Threads:  the same for any number of threads; callers that share a router need a pool each.
 */
MYR_API myr_status myr_router_assign(const myr_router *router, const float *vectors, size_t n, myr_pool *pool,
                                     uint32_t *cluster, float *distance);

/*
 * myr_router_pack - map clusters to shards: near ones together, no shard above 1.05 of its share.
 *
 * Local. A cluster that fits no shard whole is cut by id. The map of an earlier pack is replaced.
 *
 *  cluster_counts  [in]  (n_clusters) items of the whole set in each cluster, >= 0
 *  n_shards        >= 1, may exceed n_clusters
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_LIMIT | MYR_ERR_NOMEM; on error the old map stays.
 * Cost:     a few passes of n_clusters * n_shards * dim.
 */
MYR_API myr_status myr_router_pack(myr_router *router, const int64_t *cluster_counts, size_t n_shards);

/*
 * myr_router_shard_of - the shard of an item.
 *
 * Local. Only on a packed router; cluster < n_clusters.
 * Items of a cut cluster are spread by the fraction of id * golden ratio (Knuth, TAOCP 3, 6.4):
 * running ids meet the quota to a few items, arbitrary ids to within chance. Where the limit
 * must hold for a few thousand items too, number a cluster's items 0, 1, 2... and give that as id.
 */
MYR_API uint32_t myr_router_shard_of(const myr_router *router, uint32_t cluster, int64_t id);

/* myr_router_part_of - the part of its cluster that an item belongs to: an index of the view's arrays. Likewise, but not
 * for a hash router. */
MYR_API uint32_t myr_router_part_of(const myr_router *router, uint32_t cluster, int64_t id);

/*
 * myr_router_second - the shard, beside its own, in which an item would be of most use, and of how much.
 *
 * Local. Only on a packed router that was trained here or knows its spread. A query near the item is likely to visit the
 * shards whose clusters have most mass there (myr_router_route): the greatest mass of another shard to that of its own
 * tells how near to a boundary, or beyond it, the item lies.
 *
 *  vectors   [in]   (n, dim) f32 row-major, finite
 *  ids       [in]   (n)
 *  home      [in]   (n) the items' own shards
 *  pool      [borrowed] or NULL
 *  second    [out]  (n); UINT32_MAX where no other shard has mass
 *  nearness  [out]  (n) rises with the ratio of the masses, in its upper 32 bits; the lower ones, by the id, make a
 *                   difference between items of one place. 0 where there is no second
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 * Threads:  the result is the same for any number of threads on one kind of CPU.
 * Cost:     2 * dim * n_clusters flops in GEMM an item.
 */
MYR_API myr_status myr_router_second(const myr_router *router, const float *vectors, const int64_t *ids, size_t n,
                                     const uint32_t *home, myr_pool *pool, uint32_t *second, uint64_t *nearness);

/*
 * myr_router_overlap - tell a packed router which items lie in a second shard: those whose nearness is greater than
 * bound[second], and how many of each part that are. Routing counts with them from then on.
 *
 *  bound        [in]  (n_shards)
 *  n_copies     of the whole set
 *  copy_first, copy_shard, copy_items  [in]  as in myr_router_view
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_FORMAT (arrays that do not fit together) | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_router_overlap(myr_router *router, const uint64_t *bound, uint32_t n_copies,
                                      const uint32_t *copy_first, const uint32_t *copy_shard,
                                      const int64_t *copy_items);

/*
 * myr_router_route - the shards likeliest to hold each query's neighbours, likeliest first.
 *
 * Local. How likely is told by the clusters of a shard: by their items, fewer as they are farther. Shards so far that
 * nothing is expected of them follow by the distance of their nearest centroid; ties go to the lower shard.
 *
 *  queries    [in]   (n_queries, dim) f32 row-major, finite
 *  n_wanted   >= 1 shards wanted; more than there are = all. A hash router always answers all.
 *  enough     a row ends before the shard at which no more than this is left, but never before the first; below 0 = there
 *             is never enough
 *  pool       [borrowed] or NULL
 *  shards     [out]  (n_queries, n_shards): the first n_found of a row are set
 *  left       [out]  (n_queries, n_shards) share of the neighbours that is not to be expected in the shards before this
 *                    one: 1 for the first, then falling; or NULL
 *  n_found    [out]  (n_queries) shards in each row; below n_wanted where it was enough, or shards have no cluster
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 * Threads:  the result is the same for any number of threads on one kind of CPU.
 * Cost:     2 * dim * n_clusters flops in GEMM a query.
 */
MYR_API myr_status myr_router_route(const myr_router *router, const float *queries, size_t n_queries,
                                    size_t n_wanted, float enough, myr_pool *pool, uint32_t *shards, float *left,
                                    size_t *n_found);

/*
 * myr_router_reach - the shards that may hold a vector within a distance of each query.
 *
 * Local. Not likely ones, as route gives them, but all that can: items lie in the cluster of their nearest centroid, so
 * a cluster has none within r of a query that lies more than r beyond the plane halfway between its centroid and the
 * query's nearest one.
 *
 *  queries   [in]   (n_queries, dim) f32 row-major, finite
 *  radius    Euclidean, >= 0
 *  rounding  share of its length by which a vector, or a query, may be off what it was when it was assigned; 2^-11
 *            where it was rounded to 16 bits since, 0 where it was not
 *  pool      [borrowed] or NULL
 *  reached   [out]  (n_queries, n_shards) 1 or 0; all 1 for a hash router
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 * Cost:     2 * dim * n_clusters flops in GEMM a query, and 3 * dim for each cluster that is about as near as the nearest.
 */
MYR_API myr_status myr_router_reach(const myr_router *router, const float *queries, size_t n_queries, float radius,
                                    float rounding, myr_pool *pool, uint8_t *reached);

enum { MYR_ROUTE_POINTS = 48, MYR_ROUTER_HOMES = 2 };

/* What is found where queries visit shards while more than `left` is left: left falls, recall and visits rise. */
typedef struct myr_route_curve {
    size_t n_queries, n_points;
    struct {
        float left;
        double recall; /* share of the neighbours that lie in the shards visited */
        double visits; /* shards a query */
    } points[MYR_ROUTE_POINTS];
} myr_route_curve;

/*
 * myr_router_calibrate - how softly to weigh clusters, so that the fewest visits find the neighbours.
 *
 * Local. Keeps what it finds in the router, which routes by the nearest centroid alone before.
 *
 *  queries  [in]   (n, dim) f32 row-major, finite; some hundreds or more
 *  homes    [in]   (n, k, MYR_ROUTER_HOMES) the shards in which the nearest neighbours of each lie; UINT32_MAX where a
 *                  neighbour lies in one only, or there are fewer neighbours
 *  curve    [out]  of the router as it then is; no points for a hash router
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_router_calibrate(myr_router *router, const float *queries, size_t n, size_t k,
                                        const uint32_t *homes, myr_pool *pool, myr_route_curve *curve);

/* myr_router_export - the router's arrays. [borrowed] until pack or free. */
MYR_API void myr_router_export(const myr_router *router, myr_router_view *view);

/*
 * myr_router_import - a router from a file's arrays, which are copied and fully checked.
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT (says what is wrong) | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_router_import(const myr_router_view *view, myr_router **router);

MYR_API size_t myr_router_n_shards(const myr_router *router); /* 0 before pack */
MYR_API size_t myr_router_dim(const myr_router *router);      /* 0 for a hash router */

#ifdef __cplusplus
}
#endif
#endif
