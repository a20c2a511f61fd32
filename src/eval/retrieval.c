/*
 * Metrics of labelled retrieval: is what came back of the same class, and is it first?
 */
#include "myriops/eval.h"

#include "base/alloc.h"

#include <stdbool.h>
#include <stdlib.h>

typedef struct vote {
    int32_t label;
    uint32_t first; /* rank at which the label was met first */
    uint32_t n;
} vote;

static int by_label(const void *left, const void *right)
{
    const vote *a = left, *b = right;

    if (a->label != b->label)
        return a->label < b->label ? -1 : 1;
    return a->first < b->first ? -1 : a->first > b->first;
}

/* The label with most of the k hits, -1 where none has one. Sorted runs keep k = 10^5 affordable. */
static int32_t winner_of(const int32_t *labels, size_t k, vote *votes)
{
    vote best = {-1, 0, 0};
    size_t n = 0;

    for (size_t i = 0; i < k; i++) {
        if (labels[i] >= 0)
            votes[n++] = (vote){labels[i], (uint32_t)i, 1};
    }
    qsort(votes, n, sizeof(*votes), by_label);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && votes[end].label == votes[i].label; end++)
            votes[i].n++;
        if (votes[i].n > best.n || (votes[i].n == best.n && votes[i].first < best.first))
            best = votes[i];
    }
    return best.label;
}

myr_status myr_eval_retrieval(const int32_t *query_label, const int32_t *hit_label, size_t n_queries,
                              size_t k, const int64_t *n_relevant, myr_retrieval *result)
{
    myr_retrieval sum = {.k = k};
    vote *votes;

    if (query_label == NULL || hit_label == NULL || result == NULL || n_queries == 0 || k == 0 ||
        k > UINT32_MAX)
        return myr_fail(MYR_ERR_ARG,
                        "retrieval metrics: %zu queries with %zu hits each: give at least one of both",
                        n_queries, k);
    votes = myr_alloc(k, sizeof(*votes));
    if (votes == NULL)
        return myr_fail(MYR_ERR_NOMEM, "retrieval metrics: no memory for %zu votes", k);
    for (size_t q = 0; q < n_queries; q++) {
        const int32_t *labels = hit_label + q * k;
        int32_t wanted = query_label[q];
        size_t n_right = 0, possible;
        double precisions = 0.0;

        if (wanted < 0)
            continue;
        sum.n_scored++;
        for (size_t i = 0; i < k; i++) {
            if (labels[i] == wanted)
                precisions += (double)++n_right / (double)(i + 1);
        }
        /* R below what was found is a caller's miscount; the mean stays within [0, 1] all the same. */
        possible = n_relevant != NULL && n_relevant[q] > (int64_t)n_right ? (size_t)n_relevant[q] : n_right;
        possible = possible < k ? possible : k;
        sum.knn_accuracy += winner_of(labels, k, votes) == wanted;
        sum.precision += (double)n_right / (double)k;
        sum.map += possible > 0 ? precisions / (double)possible : 0.0;
    }
    free(votes);
    if (sum.n_scored > 0) {
        sum.knn_accuracy /= (double)sum.n_scored;
        sum.precision /= (double)sum.n_scored;
        sum.map /= (double)sum.n_scored;
    }
    *result = sum;
    return MYR_OK;
}
