/*
 * Groups of items that are linked to each other: a forest of union and find over the ids that have a link at all.
 *
 * Memory goes with the items that were linked, not with those that exist. What comes out does not depend on the order
 * of links: a group goes by its least id.
 */
#ifndef MYR_DIST_FOREST_H
#define MYR_DIST_FOREST_H

#include "myriops/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct myr_forest {
    size_t n, room;   /* items */
    int64_t *id;      /* (room) */
    uint32_t *parent; /* (room) place of another, or its own */
    size_t n_slots;   /* a power of two */
    uint32_t *slots;  /* (n_slots) place plus one; 0 = free */
} myr_forest;

/* An item and the least id of its group. */
typedef struct myr_member {
    int64_t first, id;
} myr_member;

void myr_forest_free(myr_forest *forest);
/* myr_forest_link - two ids, >= 0, into one group. MYR_ERR_LIMIT beyond 2^31 items | MYR_ERR_NOMEM */
myr_status myr_forest_link(myr_forest *forest, int64_t a, int64_t b);
/*
 * myr_forest_members - all items but the first of each group, as they lie: what another forest must link to be alike.
 *
 *  members  [out, owned]  (*n) release with free
 */
myr_status myr_forest_members(myr_forest *forest, myr_member **members, size_t *n);

#endif
