/*
 * The k best hits, in the one order of Myriops: (distance, id) ascending, so
 * that every tie has one answer whatever the number of threads and ranks.
 */
#ifndef MYR_BASE_TOPK_H
#define MYR_BASE_TOPK_H

#include "myriops/hit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool myr_hit_before(myr_hit a, myr_hit b)
{
    return a.distance < b.distance || (a.distance == b.distance && a.id < b.id);
}

/* A bounded max-heap over caller's memory of k hits. */
typedef struct myr_topk {
    myr_hit *hits; /* [borrowed] room for k */
    size_t k;
    size_t n;
} myr_topk;

void myr_topk_init(myr_topk *top, myr_hit *room, size_t k);
/* Keep the hit if it is among the k best so far. NaN distances are dropped. */
void myr_topk_push(myr_topk *top, myr_hit hit);
/* Distance a new hit must not exceed; +infinity until k are held. */
float myr_topk_bound(const myr_topk *top);
/* Sort ascending in place, fill the row to k with id -1; the heap is done with. */
void myr_topk_finish(myr_topk *top);
/* Merge sorted row b (n_b hits, id -1 ends it) into sorted row a of k; equal ids are kept once. */
void myr_topk_merge(myr_hit *a, size_t k, const myr_hit *b, size_t n_b);

/* The k best of n_parts rows for each query: parts (n_queries, n_parts, k) into hits (n_queries, k). Ids are distinct. */
void myr_topk_join(const myr_hit *parts, size_t n_queries, size_t n_parts, size_t k, myr_hit *hits);

#endif
