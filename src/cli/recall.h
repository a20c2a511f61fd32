/*
 * Recall of an index's own items, each left out of its own answer, which would make any index look good.
 */
#ifndef MYR_CLI_RECALL_H
#define MYR_CLI_RECALL_H

#include "dist/cluster.h"
#include "myriops/eval.h"

/*
 * myr_items_recall - recall@depth of what was found, against the truth.
 *
 * Local.
 *
 *  ids    [in]  (n) the items asked with
 *  found  [in]  (n, depth + 1) with each item itself as a rule
 *  truth  [in]  (n, n_truth) by exact search, likewise; n_truth > depth
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 */
myr_status myr_items_recall(const int64_t *ids, size_t n, const myr_hit *found, const myr_hit *truth, size_t n_truth,
                            size_t depth, myr_recall *recall);

#endif
