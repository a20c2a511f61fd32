/*
 * From what each rank found to groups on the root, and what is known of their items.
 */
#ifndef MYR_DIST_GROUPS_H
#define MYR_DIST_GROUPS_H

#include "dist/dedup.h"
#include "dist/forest.h"

/* One group: members[first .. first + n - 1), and the item they go by. */
typedef struct myr_group {
    int64_t kept;
    size_t first, n; /* n items with the one kept */
} myr_group;

typedef struct myr_groups {
    myr_member *members; /* [owned] by group, then by id */
    size_t n_members;
    myr_group *groups; /* [owned] the largest first, equal ones by the item they go by */
    size_t n_groups;
} myr_groups;

/* myr_groups_gather - link on the root what all ranks have linked; groups are empty elsewhere. Collective. */
myr_status myr_groups_gather(const myr_comm *comm, myr_forest *forest, myr_groups *groups);
void myr_groups_free(myr_groups *groups);
/* myr_groups_tell - hand all items of all groups to take, on the root, in bounded pieces. Collective. */
myr_status myr_groups_tell(myr_cluster *cluster, const myr_groups *groups, myr_dedup_take take, void *context);

#endif
