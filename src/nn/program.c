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

/* Larger first; of equal ones the older. */
static int by_size(const void *a, const void *b)
{
    const myr_slot *x = *(const myr_slot *const *)a, *y = *(const myr_slot *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return (x > y) - (x < y);
}

/* The lowest offset at which the slot meets none of the placed ones, which ascend by offset. */
static size_t find_gap(const myr_slot *slot, myr_slot *const *placed, size_t n_placed)
{
    size_t offset = 0;
    for (size_t i = 0; i < n_placed; i++) {
        const myr_slot *other = placed[i];
        bool together = slot->kept || other->kept || (slot->first <= other->last && other->first <= slot->last);
        if (!together || other->offset + other->bytes <= offset)
            continue;
        if (other->offset >= offset + slot->bytes)
            break;
        offset = other->offset + other->bytes;
    }
    return offset;
}

myr_status myr_program_lay_out(myr_program *program)
{
    size_t n = program->n_buffers, top = 0, scratch = 0;
    myr_slot **order = myr_alloc(n, sizeof(myr_slot *)), **placed = myr_alloc(n, sizeof(myr_slot *));
    if (!order || !placed) {
        free(order);
        free(placed);
        return no_memory();
    }
    for (size_t i = 0; i < n; i++)
        order[i] = &program->buffers[i];
    qsort(order, n, sizeof *order, by_size);
    for (size_t i = 0; i < n; i++) {
        order[i]->offset = find_gap(order[i], placed, i);
        size_t at = i;
        for (; at > 0 && placed[at - 1]->offset > order[i]->offset; at--)
            placed[at] = placed[at - 1];
        placed[at] = order[i];
        if (order[i]->offset + order[i]->bytes > top)
            top = order[i]->offset + order[i]->bytes;
    }
    for (size_t i = 0; i < program->n_steps; i++)
        scratch = program->steps[i].scratch_bytes > scratch ? program->steps[i].scratch_bytes : scratch;
    program->scratch_offset = top;
    program->arena_bytes = top + scratch;
    free(order);
    free(placed);
    return MYR_OK;
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
