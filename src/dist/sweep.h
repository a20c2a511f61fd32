/*
 * The items of an index, one after the other in the order of their ids, in pieces of bounded size on the root: to be
 * asked with, all of them or a sample. Pieces do not depend on the number of ranks.
 */
#ifndef MYR_DIST_SWEEP_H
#define MYR_DIST_SWEEP_H

#include "dist/cluster.h"

typedef struct myr_sweep {
    myr_cluster *cluster; /* [borrowed] */
    double share;         /* of the items that is taken, drawn by a hash of their ids; 1 = all */
    bool with_keys;
    int64_t most;   /* items of a piece */
    int64_t next;   /* least id of the next piece */
    size_t n;       /* items of the piece in hand, known on all ranks */
    float *vectors; /* root: (n, dim) f32 */
    int64_t *ids;   /* root: (n) ascending */
    int32_t *labels;
    const char **keys; /* root: (n), where wanted */
    myr_buffer texts;  /* what came in, in which keys lie */
} myr_sweep;

/*
 * myr_sweep_start - make ready; nothing is read yet but what a large shard must be checked for.
 *
 * Collective. n_wanted: items to take, about; as many as the index has, or more, are all. a_piece: items that a piece
 * may have at most, >= 1; it is made smaller where their vectors would take more than 32 MiB.
 */
myr_status myr_sweep_start(myr_cluster *cluster, int64_t n_wanted, size_t a_piece, bool with_keys, myr_sweep *sweep);
/*
 * myr_sweep_next - the next piece, in place of the one in hand; n is 0 behind the last.
 *
 * Collective. MYR_ERR_STOPPED after a signal.
 */
myr_status myr_sweep_next(myr_sweep *sweep);
void myr_sweep_end(myr_sweep *sweep);

/*
 * myr_cluster_labels - labels of many items.
 *
 * Collective. n must match on all ranks.
 *
 *  ids     [in, root]   (n); -1 and unknown ids give -1
 *  labels  [out, root]  (n)
 */
myr_status myr_cluster_labels(myr_cluster *cluster, const int64_t *ids, size_t n, int32_t *labels);

/*
 * myr_cluster_count_labels - how many items of the index have each label.
 *
 * Collective.
 *
 *  counts    [out, owned by caller]  (n_labels) on every rank; NULL where no item has a label
 *  n_labels  [out]  the greatest label plus one
 *
 * Returns:  MYR_OK | MYR_ERR_LIMIT (a label of 2^24 or more) | MYR_ERR_NOMEM
 */
myr_status myr_cluster_count_labels(myr_cluster *cluster, int64_t **counts, size_t *n_labels);

#endif
