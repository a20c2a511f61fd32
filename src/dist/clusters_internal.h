/*
 * What clusters.c and clusters_tell.c share.
 */
#ifndef MYR_DIST_CLUSTERS_INTERNAL_H
#define MYR_DIST_CLUSTERS_INTERNAL_H

#include "dist/clusters.h"

/* What this rank remembers of its items, piece by piece. */
typedef struct myr_clusters_job {
    const myr_items *items;
    const myr_clusters_options *options;
    myr_clusters *clusters;
    size_t n_rows;
    myr_buffer ids, labels; /* (n_rows) int64_t, int32_t */
    uint32_t *cluster;      /* (n_rows) */
    float *distance;        /* (n_rows) */
    int64_t n_items;        /* of all ranks */
    float greatest;         /* of all values, without sign */
    myr_buffer sample;      /* root: rows of {id, vector} */
    myr_router *router;     /* the centroids in hand */
    int64_t *sums;          /* (n, dim), then (n) counts, (n) sums of distances, moves, sum of squares */
} myr_clusters_job;

/* Examples, labels and texts of what was found. Collective. */
myr_status myr_clusters_tell(myr_clusters_job *work, myr_cluster_format format, myr_cluster_take take, void *context);

/* Whether this rank should end. */
myr_status myr_clusters_check_stop(void);

#endif
