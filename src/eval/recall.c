/*
 * recall@k against exact search, with an interval that stays honest near 1.
 *
 * The k neighbours of one query succeed or fail together, so n * k trials would promise too
 * much: the interval is by how much queries differ (interval.h).
 */
#include "myriops/eval.h"

#include "base/alloc.h"
#include "base/topk.h"
#include "eval/interval.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static int by_id(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

    return a < b ? -1 : a > b;
}

static bool holds(const int64_t *sorted, size_t n, int64_t id)
{
    return n > 0 && bsearch(&id, sorted, n, sizeof(*sorted), by_id) != NULL;
}

/* Recall of one query; room has space for k_truth + k ids. */
static double recall_of(const int64_t *truth, const float *truth_distance, size_t k_truth,
                        const myr_hit *hits, size_t k, int64_t *room)
{
    int64_t *found = room + k_truth;
    size_t n_truth = 0, n_right = 0, n_found = 0, wanted;
    float bound = -INFINITY;

    while (n_truth < k_truth && truth[n_truth] >= 0)
        n_truth++;
    wanted = n_truth < k ? n_truth : k;
    if (wanted == 0)
        return 1.0; /* nothing could be found, nothing was missed */
    if (truth_distance != NULL)
        bound = truth_distance[wanted - 1];
    for (n_truth = 0; n_truth < k_truth && truth[n_truth] >= 0; n_truth++) {
        if (n_truth >= wanted && !(truth_distance != NULL && truth_distance[n_truth] <= bound))
            break;
        room[n_truth] = truth[n_truth];
    }
    qsort(room, n_truth, sizeof(*room), by_id);
    for (size_t i = 0; i < k && hits[i].id >= 0; i++) {
        if (hits[i].distance <= bound || holds(room, n_truth, hits[i].id))
            found[n_found++] = hits[i].id;
    }
    qsort(found, n_found, sizeof(*found), by_id);
    for (size_t i = 0; i < n_found; i++)
        n_right += i == 0 || found[i] != found[i - 1];
    return (double)(n_right < wanted ? n_right : wanted) / (double)wanted;
}

myr_status myr_eval_recall(const int64_t *truth, const float *truth_distance, size_t k_truth,
                           const myr_hit *hits, size_t n_queries, size_t k, myr_recall *result)
{
    eval_mean mean = {0};
    double worst = 1.0;
    int64_t *room;

    if (truth == NULL || hits == NULL || result == NULL || n_queries == 0 || k == 0 || k_truth < k ||
        k_truth > SIZE_MAX / 2)
        return myr_fail(
            MYR_ERR_ARG,
            "recall@%zu of %zu queries from %zu true neighbours: give at least one query and k neighbours", k,
            n_queries, k_truth);
    room = myr_alloc(k_truth + k, sizeof(*room));
    if (room == NULL)
        return myr_fail(MYR_ERR_NOMEM, "recall: no memory for %zu neighbours", k_truth);
    for (size_t q = 0; q < n_queries; q++) {
        double one =
            recall_of(truth + q * k_truth, truth_distance == NULL ? NULL : truth_distance + q * k_truth,
                      k_truth, hits + q * k, k, room);

        eval_mean_add(&mean, one);
        worst = one < worst ? one : worst;
    }
    free(room);
    *result = (myr_recall){.recall = fmin(fmax(mean.mean, 0.0), 1.0), .worst = worst, .n_queries = n_queries, .k = k};
    eval_mean_interval(&mean, (double)k, &result->low, &result->high);
    return MYR_OK;
}
