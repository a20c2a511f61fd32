/*
 * Union and find (Tarjan 1975, with path halving) over ids in a hash table with open addresses. The root of a tree is
 * the least id in it.
 */
#include "dist/forest.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <stdlib.h>
#include <string.h>

#define FOREST_SEED 3
#define LEAST_ROOM 1024

void myr_forest_free(myr_forest *forest)
{
    free(forest->id);
    free(forest->parent);
    free(forest->slots);
    *forest = (myr_forest){0};
}

/* The slot of an id, or the free one where it belongs. */
static size_t find_slot(const myr_forest *forest, int64_t id)
{
    size_t at = myr_hash64((uint64_t)id, FOREST_SEED) & (forest->n_slots - 1);
    while (forest->slots[at] != 0 && forest->id[forest->slots[at] - 1] != id)
        at = (at + 1) & (forest->n_slots - 1);
    return at;
}

static myr_status grow(myr_forest *forest)
{
    size_t room = forest->room ? 2 * forest->room : LEAST_ROOM;
    if (room > (size_t)1 << 31)
        return myr_fail(MYR_ERR_LIMIT, "more than 2^31 items are near others; take a smaller threshold");
    uint32_t *slots = myr_alloc(2 * room, sizeof *slots);
    if (!slots || !myr_resize(&forest->id, forest->room, room, sizeof *forest->id) ||
        !myr_resize(&forest->parent, forest->room, room, sizeof *forest->parent)) {
        free(slots);
        return myr_fail(MYR_ERR_NOMEM, "no memory for %zu items that are near others; take a smaller threshold", room);
    }
    free(forest->slots);
    forest->slots = slots;
    forest->n_slots = 2 * room;
    forest->room = room;
    for (size_t i = 0; i < forest->n; i++)
        slots[find_slot(forest, forest->id[i])] = (uint32_t)i + 1;
    return MYR_OK;
}

/* The place of an id, which is added where it is new; there is room for one. */
static uint32_t place_of(myr_forest *forest, int64_t id)
{
    size_t slot = find_slot(forest, id);
    if (forest->slots[slot] == 0) {
        forest->id[forest->n] = id;
        forest->parent[forest->n] = (uint32_t)forest->n;
        forest->slots[slot] = (uint32_t)++forest->n;
    }
    return forest->slots[slot] - 1;
}

static uint32_t root_of(myr_forest *forest, uint32_t place)
{
    uint32_t *parent = forest->parent;
    while (parent[place] != place) {
        parent[place] = parent[parent[place]];
        place = parent[place];
    }
    return place;
}

myr_status myr_forest_link(myr_forest *forest, int64_t a, int64_t b)
{
    while (forest->n + 2 > forest->room) {
        myr_status status = grow(forest);
        if (status != MYR_OK)
            return status;
    }
    uint32_t x = root_of(forest, place_of(forest, a)), y = root_of(forest, place_of(forest, b));
    if (forest->id[x] < forest->id[y])
        forest->parent[y] = x;
    else
        forest->parent[x] = y;
    return MYR_OK;
}

myr_status myr_forest_members(myr_forest *forest, myr_member **members, size_t *n)
{
    *n = 0;
    *members = myr_alloc(forest->n, sizeof **members);
    if (!*members)
        return myr_fail(MYR_ERR_NOMEM, "no memory for the groups of %zu items", forest->n);
    for (size_t i = 0; i < forest->n; i++) {
        uint32_t root = root_of(forest, (uint32_t)i);
        if (root != i)
            (*members)[(*n)++] = (myr_member){.first = forest->id[root], .id = forest->id[i]};
    }
    return MYR_OK;
}
