/*
 * A hit: one answer of a nearest-neighbour search, and the metric of its distance. Hits stand in the one order of
 * Myriops, (distance, id) ascending, so that every tie has one answer.
 */
#ifndef MYRIOPS_HIT_H
#define MYRIOPS_HIT_H

#include "myriops/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum myr_metric {
    MYR_METRIC_L2,     /* distance: Euclidean, not squared */
    MYR_METRIC_COSINE, /* distance: 1 - cosine, in [0, 2]; vectors and queries must be of length 1 */
    MYR_METRIC_IP,     /* distance: minus the inner product, of any sign */
} myr_metric;

/* "l2", "cosine", "ip"; NULL where there is no such metric. */
MYR_API const char *myr_metric_name(myr_metric metric);
/* The metric of a name; false where there is none. */
MYR_API bool myr_metric_of(const char *name, myr_metric *metric);

typedef struct myr_hit {
    int64_t id; /* global id; -1 fills short rows, with distance +infinity */
    float distance;
} myr_hit;

#ifdef __cplusplus
}
#endif
#endif
