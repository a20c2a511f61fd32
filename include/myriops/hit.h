/*
 * A hit: one answer of a nearest-neighbour search. Hits stand in the one order of
 * Myriops, (distance, id) ascending, so that every tie has one answer.
 */
#ifndef MYRIOPS_HIT_H
#define MYRIOPS_HIT_H

#include <stdint.h>

typedef struct myr_hit {
    int64_t id; /* global id; -1 fills short rows, with distance +infinity */
    float distance;
} myr_hit;

#endif
