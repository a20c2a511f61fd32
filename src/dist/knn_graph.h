/*
 * The graph of nearest neighbours: the k nearest others of every item of an index.
 */
#ifndef MYR_DIST_KNN_GRAPH_H
#define MYR_DIST_KNN_GRAPH_H

#include "dist/cluster.h"

typedef struct myr_knn_options {
    size_t k;
    myr_search_options search; /* its k is one more: an item finds itself */
    const char *path;          /* the file to write (store/knn_file.h) */
    bool progress;
} myr_knn_options;

typedef struct myr_knn_report {
    int64_t n_items;
    int64_t n_short;          /* rows with fewer than k neighbours */
    double mean_degree;       /* neighbours of an item */
    double nearest, farthest; /* distance to the first and to the last neighbour, means over the items */
    double probes_per_query;
    double wall_s;
} myr_knn_report;

/*
 * myr_knn_graph - write the graph.
 *
 * Collective. Items are asked with in the order of their ids, some thousands at a time: no rank holds more than its
 * shards, and of the rest what a piece takes, about 100 MiB. An item is left out of its own row; others with the same
 * vector are not. The file has the same bytes for any number of ranks and threads.
 *
 *  report  [out, root]
 *
 * Returns:  what myr_cluster_search returns | MYR_ERR_IO; on error there is no file.
 */
myr_status myr_knn_graph(myr_cluster *cluster, const myr_knn_options *options, myr_knn_report *report);

/* The first `depth` of n hits without the item itself; id -1 where there are fewer. */
void myr_hits_leave_out(const myr_hit *from, size_t n, int64_t self, myr_hit *to, size_t depth);

#endif
