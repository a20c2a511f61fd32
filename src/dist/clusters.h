/*
 * Clusters of a corpus: k-means over all items, examples of each cluster, labels in it.
 */
#ifndef MYR_DIST_CLUSTERS_H
#define MYR_DIST_CLUSTERS_H

#include "dist/items.h"

typedef struct myr_clusters_options {
    size_t n_clusters; /* >= 1; reduced to the number of items */
    uint64_t seed;
    int n_passes;      /* over all items, at most */
    size_t n_examples; /* of each kind, for a cluster */
    bool progress;
} myr_clusters_options;

/* An item shown of a cluster. */
typedef struct myr_example {
    int64_t id; /* -1 = the cluster has no more */
    float distance;
    float order; /* by which examples were chosen: the distance, or a number drawn for the id */
} myr_example;

/* What is known of an example; texts are borrowed from `texts`. */
typedef struct myr_example_facts {
    int64_t id;
    int32_t label;
    const char *key, *source;
} myr_example_facts;

/* Numbered from the largest on; ties by where they were first. */
typedef struct myr_clusters {
    size_t n, dim;
    int64_t n_items;
    float *centroids;      /* (n, dim), on all ranks */
    int64_t *sizes;        /* (n) items, on all ranks; 0 where there are fewer different items than clusters */
    double *mean_distance; /* (n) of the items to the centroid */
    double mean_squared;   /* squared distance of an item to its centroid, mean of all: what k-means makes small */
    int n_passes;
    int64_t n_moved; /* items that changed their cluster in the last pass */

    size_t n_labels; /* greatest label plus one; 0 = none, or too many to count */
    bool too_many_labels;
    int64_t *labels; /* root: (n, n_labels) items of each label in each cluster */

    size_t n_examples;
    myr_example *nearest, *drawn; /* root: (n, n_examples) */
    myr_example_facts *facts;     /* root: (n_facts) by id */
    size_t n_facts;
    myr_buffer texts;
} myr_clusters;

/* An item and its cluster. Texts are borrowed for the call. */
typedef struct myr_clustered {
    int64_t cluster, id;
    float distance;
    int32_t label;
    const char *key, *source;
} myr_clustered;

/* Writes what an item looks like in the answer, onto `out`. Called on the rank that has the item. */
typedef void (*myr_cluster_format)(const myr_clustered *item, const void *context, myr_buffer *out);
/* Takes what format wrote, on the root, in the order of pieces. */
typedef myr_status (*myr_cluster_take)(void *context, const void *bytes, size_t n_bytes);

/*
 * myr_clusters_find - k-means.
 *
 * Collective. Starts from centroids of a sample (myr_router_train), then goes over all items until fewer than one in a
 * thousand changes its cluster, or n_passes. Sums are whole numbers, so that they are the same in any order: the same
 * clusters come out for any number of ranks and threads, on one kind of CPU.
 *
 *  format, take  for each item; format NULL = not wanted
 *  clusters      [out] release with myr_clusters_free
 *
 * Distances are Euclidean, whatever the metric; vectors of length 1 stay on their sphere, centroids do not.
 *
 * Memory:   16 bytes for each item on its rank, 8 * n_clusters * dim on every rank.
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND (no items) | MYR_ERR_ARG (values not finite) | MYR_ERR_LIMIT | MYR_ERR_NOMEM |
 *           MYR_ERR_STOPPED | what take returns
 */
myr_status myr_clusters_find(const myr_items *items, const myr_clusters_options *options, myr_cluster_format format,
                             myr_cluster_take take, void *context, myr_clusters *clusters);
void myr_clusters_free(myr_clusters *clusters);
/* What is known of an example, or NULL. Root. */
const myr_example_facts *myr_clusters_facts(const myr_clusters *clusters, int64_t id);

#endif
