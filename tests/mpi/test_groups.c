/*
 * Forests of several ranks become the groups that all links together make. Run by ctest under mpirun with 1, 2, 3 and 5
 * ranks.
 */
#include "base/alloc.h"
#include "base/rng.h"
#include "dist/groups.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

enum { N = 5000, N_LINKS = 3500 };

/* Ids are far apart, so that they are no places. */
static int64_t id_of(uint64_t i)
{
    return (int64_t)(i * 1000003 + 17);
}

/* The least of each group, by going over all links until nothing changes. */
static void plain_groups(const uint64_t *links, uint64_t *least)
{
    for (uint64_t i = 0; i < N; i++)
        least[i] = i;
    for (int changed = 1; changed;) {
        changed = 0;
        for (size_t l = 0; l < N_LINKS; l++) {
            uint64_t *a = &least[links[2 * l]], *b = &least[links[2 * l + 1]];
            changed = changed || *a != *b;
            *a = *b = *a < *b ? *a : *b;
        }
    }
}

static void compare(const myr_groups *groups, const uint64_t *least)
{
    size_t n_members = 0, n_groups = 0;
    for (uint64_t i = 0; i < N; i++)
        n_members += least[i] != i;
    check(groups->n_members == n_members);
    for (size_t g = 0; g < groups->n_groups; g++) {
        const myr_group *group = &groups->groups[g];
        check(group->n >= 2 &&
              (g == 0 || group->n < group[-1].n || (group->n == group[-1].n && group->kept > group[-1].kept)));
        n_groups += group->n - 1;
        for (size_t m = group->first; m < group->first + group->n - 1; m++) {
            uint64_t i = (uint64_t)(groups->members[m].id - 17) / 1000003;
            check(groups->members[m].first == group->kept && id_of(least[i]) == group->kept);
            check(m == group->first || groups->members[m].id > groups->members[m - 1].id);
        }
    }
    check(n_groups == n_members);
}

static void links_of_all_ranks_make_groups(size_t message_bytes)
{
    size_t usual = myr_message_bytes;
    uint64_t *links = myr_alloc(2 * N_LINKS, sizeof *links), *least = myr_alloc(N, sizeof *least);
    myr_forest forest = {0};
    myr_groups groups;
    myr_rng rng;
    myr_message_bytes = message_bytes;
    myr_rng_seed(&rng, 5);
    for (size_t i = 0; i < 2 * N_LINKS; i++)
        links[i] = myr_rng_below(&rng, N);
    for (size_t l = (size_t)comm.rank; l < N_LINKS; l += (size_t)comm.size) /* each twice, from both sides */
        check(myr_forest_link(&forest, id_of(links[2 * l]), id_of(links[2 * l + 1])) == MYR_OK &&
              myr_forest_link(&forest, id_of(links[2 * l + 1]), id_of(links[2 * l])) == MYR_OK);
    check(myr_groups_gather(&comm, &forest, &groups) == MYR_OK);
    plain_groups(links, least);
    if (comm.rank == 0)
        compare(&groups, least);
    else
        check(groups.n_groups == 0 && groups.n_members == 0);
    myr_groups_free(&groups);
    myr_forest_free(&forest);
    check(myr_groups_gather(&comm, &forest, &groups) == MYR_OK && groups.n_groups == 0); /* nothing is linked */
    myr_groups_free(&groups);
    myr_message_bytes = usual;
    free(links);
    free(least);
}

int main(int argc, char **argv)
{
    begin_test(&argc, &argv, NULL);
    links_of_all_ranks_make_groups(myr_message_bytes);
    links_of_all_ranks_make_groups(1000); /* in pieces */
    return end_test(NULL);
}
