/*
 * A packing of clusters into shards while it is made: shared by pack.c and refine.c.
 */
#ifndef MYR_PARTITION_PACK_H
#define MYR_PARTITION_PACK_H

#include "partition/router.h"

#include <stdbool.h>

typedef struct part {
    uint32_t cluster;
    uint32_t shard;
    int64_t n_items;
} part;

typedef struct packing {
    const myr_router *router;
    const int64_t *counts;
    size_t n_shards;
    int64_t share;   /* an even share, rounded up */
    int64_t limit;   /* 1.05 of it */
    float *centres;  /* (n_shards, dim) */
    double *weights; /* (n_shards) */
    double *sums;    /* (n_shards, dim) */
    uint32_t *home;  /* (K) nearest centre */
    float *regret;   /* (K) */
    uint32_t *order; /* (K) clusters in order of placing */
    float *away;     /* (n_shards) distance of the cluster in hand */
    int64_t *load;   /* (n_shards) items placed */
    int64_t *cut;    /* (n_shards) of these, items of cut clusters */
    part *parts;
    size_t n_parts, room;
} packing;

static inline const float *packing_centroid(const packing *job, size_t c)
{
    return job->router->centroids + c * job->router->dim;
}

/* What a shard may hold in whole clusters: the limit, less four standard deviations of its cut ones. */
int64_t myr_packing_room(const packing *job, size_t s);

/* Moves whole clusters among shards, within their room, so that neighbours lie together. */
myr_status myr_packing_refine(packing *job);

#endif
