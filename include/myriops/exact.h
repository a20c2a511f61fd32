/*
 * Exact search: the true nearest neighbours of many queries, by matrix products over plain vectors.
 *
 * For ground truth, and for sets that need no graph. Products find the few vectors that can be among the k nearest;
 * those are measured as every other search of Myriops measures them, so hits agree with the naive loop to the last
 * bit, whatever the processor and the number of threads.
 */
#ifndef MYRIOPS_EXACT_H
#define MYRIOPS_EXACT_H

#include "myriops/hit.h"
#include "myriops/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct myr_pool myr_pool;
typedef struct myr_exact myr_exact; /* a set of vectors to be searched; read only, shared by threads */

/*
 * myr_exact_create - a set of n vectors.
 *
 *  vectors  [borrowed]   (n, dim) f32, finite; must stay until the set is freed
 *  ids      [borrowed]   (n) distinct, >= 0, in any order; likewise
 *  metric   COSINE: vectors must be of length 1
 *  pool     [borrowed]   NULL = this thread alone
 *  set      [out, owned] release with myr_exact_free
 *
 * Returns:  MYR_OK | MYR_ERR_ARG (no dimension; a value that is not finite) | MYR_ERR_LIMIT (dim >= 2^24) |
 *           MYR_ERR_NOMEM. n = 0 is fine.
 * Cost:     one pass over the vectors; 4 bytes a vector
 */
MYR_API myr_status myr_exact_create(const float *vectors, size_t n, size_t dim, const int64_t *ids, myr_metric metric,
                                    myr_pool *pool, myr_exact **set);
MYR_API void myr_exact_free(myr_exact *set); /* NULL is fine */

/*
 * myr_exact_search - the k nearest of each query.
 *
 *  queries  [in]   (n_queries, dim) f32, finite; of length 1 where the metric is cosine. Some hundreds at once are
 *                  several times as fast as one by one.
 *  hits     [out]  (n_queries, k) ascending (distance, id); rows of sets with fewer than k vectors end in id -1
 *
 * Thread:   any number of threads may search one set, each with a pool of its own, or none.
 * Units:    distance as the metric has it (hit.h); in double, summed in a fixed order
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 * Source:   the bound on a product's rounding is Higham 2002, Accuracy and Stability of Numerical Algorithms, 3.1.
 */
MYR_API myr_status myr_exact_search(const myr_exact *set, myr_pool *pool, const float *queries, size_t n_queries,
                                    size_t k, myr_hit *hits);

#ifdef __cplusplus
}
#endif
#endif
