/*
 * Steps, buffers, and the arena.
 *
 * Buffers are placed from the largest to the smallest, each at the lowest offset at which
 * it meets no placed buffer that lives at the same time (greedy by size; Pisarchyk and Lee 2020).
 */
#include "nn/program.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64

static myr_status no_memory(void)
{
    return myr_fail(MYR_ERR_NOMEM, "no memory to compile the network");
}

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static bool make_room(void *array, size_t n, size_t *room, size_t size)
{
    size_t wanted = *room ? 2 * *room : 64;
    if (n < *room)
        return true;
    if (!myr_resize(array, *room, wanted, size))
        return false;
    *room = wanted;
    return true;
}

myr_status myr_program_add_buffer(myr_program *program, size_t bytes, int *buffer)
{
    if (!make_room(&program->buffers, program->n_buffers, &program->buffers_room, sizeof *program->buffers))
        return no_memory();
    program->buffers[program->n_buffers] =
        (myr_slot){.bytes = aligned(bytes > 0 ? bytes : 1), .first = INT32_MAX, .last = -1};
    *buffer = (int)program->n_buffers++;
    return MYR_OK;
}

myr_status myr_program_add_step(myr_program *program, const myr_step_kind *kind, const char *label, void *state,
                                const int *buffers, int n_buffers, size_t scratch_bytes)
{
    bool fits = make_room(&program->steps, program->n_steps, &program->steps_room, sizeof *program->steps);
    char *name = myr_strdup(label);
    int *copy = myr_alloc((size_t)n_buffers, sizeof *copy);
    if (!fits || !name || !copy) {
        free(name);
        free(copy);
        kind->free(state);
        return no_memory();
    }
    int place = (int)program->n_steps++;
    for (int i = 0; i < n_buffers; i++) {
        myr_slot *slot = &program->buffers[buffers[i]];
        copy[i] = buffers[i];
        slot->first = place < slot->first ? place : slot->first;
        slot->last = place;
    }
    program->steps[place] = (myr_step){.kind = kind,
                                       .label = name,
                                       .state = state,
                                       .n_buffers = n_buffers,
                                       .buffers = copy,
                                       .scratch_bytes = aligned(scratch_bytes)};
    return MYR_OK;
}

void myr_program_add_packed(myr_program *program, size_t bytes)
{
    program->steps[program->n_steps - 1].weight_bytes += bytes;
    program->packed_bytes += bytes;
}

/* ---- The arena ---- */

/* More buffers than this living at once are not searched for gaps between them. */
#define MAX_NEIGHBOURS 1024

/*
 * The placed buffers, by lifetime: a tree over all buffers in the order of their first step, whose nodes know the
 * latest last step of the placed ones below. It finds those that live together with one without looking at the others.
 */
typedef struct lifetimes {
    size_t n_leaves;  /* a power of 2 */
    myr_slot **slots; /* (n_slots) ascending by first step */
    size_t n_slots;
    int *latest; /* (2 * n_leaves) node i has children 2i and 2i + 1; leaves at the end; -1 = nothing placed */
} lifetimes;

/* Those that lie still live all the time. */
static int first_step(const myr_slot *slot)
{
    return slot->kept ? 0 : slot->first;
}

static int last_step(const myr_slot *slot)
{
    return slot->kept ? INT32_MAX : slot->last;
}

/* Larger first; of equal ones the older. */
static int by_size(const void *a, const void *b)
{
    const myr_slot *x = *(const myr_slot *const *)a, *y = *(const myr_slot *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return (x > y) - (x < y);
}

static int by_first_step(const void *a, const void *b)
{
    const myr_slot *x = *(const myr_slot *const *)a, *y = *(const myr_slot *const *)b;
    int left = first_step(x), right = first_step(y);
    return left != right ? (left > right) - (left < right) : (x > y) - (x < y);
}

static int by_offset(const void *a, const void *b)
{
    const myr_slot *x = *(const myr_slot *const *)a, *y = *(const myr_slot *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Gathers the placed buffers below a node that live together with `slot`, in `found`; false if they are too many. */
static bool find_neighbours(const lifetimes *all, size_t node, size_t first_leaf, size_t n_below, const myr_slot *slot,
                            myr_slot **found, size_t *n_found)
{
    bool none = first_leaf >= all->n_slots || first_step(all->slots[first_leaf]) > last_step(slot) ||
                all->latest[node] < first_step(slot);
    if (none)
        return true;
    if (n_below == 1) {
        if (*n_found == MAX_NEIGHBOURS)
            return false;
        found[(*n_found)++] = all->slots[first_leaf];
        return true;
    }
    size_t half = n_below / 2;
    return find_neighbours(all, 2 * node, first_leaf, half, slot, found, n_found) &&
           find_neighbours(all, 2 * node + 1, first_leaf + half, half, slot, found, n_found);
}

/* Where in the order of first steps a buffer stands. */
static size_t find_leaf(const lifetimes *all, const myr_slot *slot)
{
    size_t low = 0, high = all->n_slots;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (by_first_step(&all->slots[middle], &slot) <= 0)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static void note_placed(lifetimes *all, const myr_slot *slot)
{
    for (size_t node = all->n_leaves + find_leaf(all, slot); node > 0; node /= 2)
        if (all->latest[node] < last_step(slot))
            all->latest[node] = last_step(slot);
}

/* The lowest offset at which the slot meets none of its neighbours, which are put in order. */
static size_t find_gap(const myr_slot *slot, myr_slot **neighbours, size_t n)
{
    size_t offset = 0;
    qsort(neighbours, n, sizeof(myr_slot *), by_offset);
    for (size_t i = 0; i < n; i++) {
        const myr_slot *other = neighbours[i];
        if (other->offset + other->bytes <= offset)
            continue;
        if (other->offset >= offset + slot->bytes)
            break;
        offset = other->offset + other->bytes;
    }
    return offset;
}

/* Offsets for all buffers, in this order. Returns the end of the last. */
static size_t place(lifetimes *all, myr_slot *const *order)
{
    myr_slot *neighbours[MAX_NEIGHBOURS];
    size_t top = 0;
    for (size_t i = 0; i < all->n_slots; i++) {
        myr_slot *slot = order[i];
        size_t n = 0;
        bool few = find_neighbours(all, 1, 0, all->n_leaves, slot, neighbours, &n);
        slot->offset = few ? find_gap(slot, neighbours, n) : top;
        top = slot->offset + slot->bytes > top ? slot->offset + slot->bytes : top;
        note_placed(all, slot);
    }
    return top;
}

myr_status myr_program_lay_out(myr_program *program)
{
    size_t n = program->n_buffers, scratch = 0;
    lifetimes all = {.n_leaves = 1, .n_slots = n};
    while (all.n_leaves < n)
        all.n_leaves *= 2;
    myr_slot **order = myr_alloc(n, sizeof(myr_slot *));
    all.slots = myr_alloc(n, sizeof(myr_slot *));
    all.latest = myr_alloc(2 * all.n_leaves, sizeof *all.latest);
    myr_status status = order && all.slots && all.latest ? MYR_OK : no_memory();
    for (size_t i = 0; i < n && status == MYR_OK; i++)
        order[i] = all.slots[i] = &program->buffers[i];
    for (size_t i = 0; i < 2 * all.n_leaves && status == MYR_OK; i++)
        all.latest[i] = -1;
    if (status == MYR_OK) {
        qsort(order, n, sizeof(myr_slot *), by_size);
        qsort(all.slots, n, sizeof(myr_slot *), by_first_step);
        program->scratch_offset = place(&all, order);
    }
    for (size_t i = 0; i < program->n_steps; i++)
        scratch = program->steps[i].scratch_bytes > scratch ? program->steps[i].scratch_bytes : scratch;
    program->arena_bytes = program->scratch_offset + scratch;
    free(order);
    free(all.slots);
    free(all.latest);
    return status;
}

void myr_program_clear(myr_program *program)
{
    for (size_t i = 0; i < program->n_steps; i++) {
        program->steps[i].kind->free(program->steps[i].state);
        free(program->steps[i].label);
        free(program->steps[i].buffers);
    }
    free(program->steps);
    free(program->buffers);
    *program = (myr_program){0};
}
