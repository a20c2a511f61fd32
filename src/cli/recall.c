/*
 * Recall of an index's own items.
 */
#include "cli/recall.h"

#include "base/alloc.h"
#include "dist/knn_graph.h"

#include <stdlib.h>

myr_status myr_items_recall(const int64_t *ids, size_t n, const myr_hit *found, const myr_hit *truth, size_t n_truth,
                            size_t depth, myr_recall *recall)
{
    size_t n_true = n_truth - 1;
    int64_t *true_ids = myr_alloc(n * n_true, sizeof *true_ids);
    float *distance = myr_alloc(n * n_true, sizeof *distance);
    myr_hit *others = myr_alloc(n * depth, sizeof *others), *row = myr_alloc(n_true, sizeof *row);
    myr_status status =
        true_ids && distance && others && row ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for recall");
    for (size_t q = 0; q < n && status == MYR_OK; q++) {
        myr_hits_leave_out(found + q * (depth + 1), depth + 1, ids[q], others + q * depth, depth);
        myr_hits_leave_out(truth + q * n_truth, n_truth, ids[q], row, n_true);
        for (size_t i = 0; i < n_true; i++) {
            true_ids[q * n_true + i] = row[i].id;
            distance[q * n_true + i] = row[i].distance;
        }
    }
    if (status == MYR_OK)
        status = myr_eval_recall(true_ids, distance, n_true, others, n, depth, recall);
    free(true_ids);
    free(distance);
    free(others);
    free(row);
    return status;
}
