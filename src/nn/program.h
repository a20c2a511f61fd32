/*
 * What a backend compiles a graph into: steps that read and write buffers, and a plan
 * that lays the buffers out in one block of memory by their lifetimes.
 */
#ifndef MYR_NN_PROGRAM_H
#define MYR_NN_PROGRAM_H

#include "nn/graph.h"

typedef struct myr_step myr_step;

/* How a sort of step is run. */
typedef struct myr_step_kind {
    const char *name; /* who computes, for profiles: "oneDNN"; NULL = the backend's own name */
    /* One session's part, made once its memory is there; may be NULL. session: of the backend. */
    myr_status (*bind)(const myr_step *step, void *session, char *const *address, char *scratch, void **bound);
    void (*unbind)(void *bound);
    myr_status (*run)(const myr_step *step, void *bound, char *const *address, char *scratch);
    void (*free)(void *state);
} myr_step_kind;

struct myr_step {
    const myr_step_kind *kind;
    char *label; /* [owned] the node's name */
    void *state; /* [owned] read only once compiled: shared by all sessions */
    int n_buffers;
    int *buffers; /* [owned] all it touches; address[buffers[i]] is where one lies */
    size_t scratch_bytes;
    size_t weight_bytes; /* constants that a run reads */
};

typedef struct myr_slot {
    size_t bytes;
    bool kept;       /* inputs and outputs lie still from run to run */
    int first, last; /* steps that touch it */
    size_t offset;   /* in the arena */
} myr_slot;

typedef struct myr_program {
    size_t n_steps, steps_room;
    myr_step *steps;
    size_t n_buffers, buffers_room;
    myr_slot *buffers;
    size_t scratch_offset, arena_bytes;
    size_t packed_bytes; /* constants in copies of the steps' own */
} myr_program;

myr_status myr_program_add_buffer(myr_program *program, size_t bytes, int *buffer);
/* state is taken over, also on failure. */
myr_status myr_program_add_step(myr_program *program, const myr_step_kind *kind, const char *label, void *state,
                                const int *buffers, int n_buffers, size_t scratch_bytes);
/* The step added last reads this many bytes of constants, in a copy of its own. */
void myr_program_add_packed(myr_program *program, size_t bytes);
/* Offsets for all buffers, those that live at the same time apart; aligned to 64. */
myr_status myr_program_lay_out(myr_program *program);
void myr_program_clear(myr_program *program);

#endif
