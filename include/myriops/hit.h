/*
 * A hit: one answer of a nearest-neighbour search, and the metric of its distance. Hits stand in the one order of
 * Myriops, (distance, id) ascending, so that every tie has one answer.
 */
#ifndef MYRIOPS_HIT_H
#define MYRIOPS_HIT_H

#include <stdint.h>

typedef enum myr_metric { MYR_METRIC_L2, MYR_METRIC_COSINE } myr_metric;

typedef struct myr_hit {
    int64_t id; /* global id; -1 fills short rows, with distance +infinity */
    float distance;
} myr_hit;

#endif
