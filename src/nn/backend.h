/*
 * Backends: ways to compute a bound and fused graph.
 */
#ifndef MYR_NN_BACKEND_H
#define MYR_NN_BACKEND_H

#include "nn/calibration.h"
#include "nn/program.h"

/* A graph on its way to becoming a program. */
typedef struct myr_compiler {
    const myr_graph *graph; /* outlives the program */
    myr_program *program;
    int *buffer;                        /* (n_values) buffer of a value in plain row-major layout, or -1 */
    int *last_use;                      /* (n_values) last node that reads it; INT32_MAX for outputs and inputs */
    bool *is_kept;                      /* (n_values) a constant whose bytes steps read where they are */
    myr_precision asked, precision;     /* precision: what it computes in, F32 unless the backend says otherwise */
    const myr_calibration *calibration; /* [borrowed] NULL unless 8 bits were asked for */
    myr_way way;
    void *state;                        /* [owned] what the backend keeps with the network; freed by release */
} myr_compiler;

typedef struct myr_backend {
    const char *name;
    /* Inputs have their buffers; when it returns, outputs have theirs. */
    myr_status (*compile)(myr_compiler *compiler);
    /* What it computes in on this processor where this is asked for; NULL = always f32. */
    myr_precision (*narrow)(myr_precision asked);
    void (*release)(void *state); /* may be NULL, as the next two */
    myr_status (*open_session)(void *state, void **session);
    void (*close_session)(void *session);
    void (*enter_thread)(void); /* before each run, on the thread that runs */
} myr_backend;

extern const myr_backend myr_backend_reference;
extern const myr_backend myr_backend_openblas;
#ifdef MYRIOPS_ONEDNN
extern const myr_backend myr_backend_onednn;
#endif

/* The plain buffer of a value, made on first use. */
myr_status myr_compiler_buffer(myr_compiler *compiler, int value, int *buffer);
/* Plain buffer of a node's result: a new one, or its input's where the bytes stay as they are. */
myr_status myr_compiler_alias(myr_compiler *compiler, int from, int to);
/* The step added last reads the value, if it is a constant, where it is: constants of which nobody says so are let go
 * once the graph is compiled. */
void myr_compiler_keep(myr_compiler *compiler, int value);
/* A step that computes the node with its reference implementation, on plain buffers. */
myr_status myr_reference_add(myr_compiler *compiler, const myr_node *node);

/* What is fused behind a node, applied in place: y = activation(y + residual). residual may be NULL. */
void myr_apply_fused(const myr_activation *activation, const float *residual, float *y, size_t n);

#endif
