/*
 * How near a network comes to what one core computes and moves at best.
 * Source: Williams, Waterman and Patterson 2009, "Roofline".
 */
#ifndef MYR_CLI_ROOFLINE_H
#define MYR_CLI_ROOFLINE_H

#include "cli/cli.h"
#include "nn/network.h"

typedef struct myr_roofline {
    double peak_gflops, memory_gb_s, cache_gb_s; /* of one core, measured */
    double flops, bytes, weight_bytes;           /* of a run */
    double *step_flops;                          /* (n_steps) [owned] of a run */
} myr_roofline;

/* Takes about two seconds. MYR_OK | MYR_ERR_NOMEM | what a network for measuring returns. Clear it after failures too.
 */
myr_status myr_roofline_measure(const myr_network *network, myr_roofline *found);
void myr_roofline_clear(myr_roofline *found);

/* runs_per_s: of one thread. */
void myr_roofline_print(const myr_roofline *limits, double runs_per_s);
json_t *myr_roofline_json(const myr_roofline *limits, double runs_per_s);
/* One step of a profile of n_runs: two columns, or two facts more of an object, which may be NULL. */
void myr_roofline_print_step(const myr_roofline *limits, size_t i, const myr_step_time *step, size_t n_runs);
void myr_roofline_add_step(const myr_roofline *limits, size_t i, const myr_step_time *step, size_t n_runs,
                           json_t *object);

#endif
