/*
 * How much a network computes and moves, and what this processor could at best.
 */
#ifndef MYR_NN_WORK_H
#define MYR_NN_WORK_H

#include "nn/program.h"

/* Multiply-adds of one node, times two; 0 for operators that are not products. Shapes must be known. */
uint64_t myr_node_flops(const myr_graph *graph, const myr_node *node);

/*
 * flops[i]: of step i. Nodes that were put into the step of a later one count there.
 *
 *  flops  [out]  (program->n_steps)
 */
void myr_program_flops(const myr_graph *graph, const myr_program *program, double *flops);

/* Bytes that a step moves at least: each buffer it touches and its weights, once. */
size_t myr_step_bytes(const myr_program *program, const myr_step *step);

/*
 * myr_peak_measure - GFLOP/s of this core on convolutions that suit it: the best of a few sizes.
 *
 *  backend    NULL = the first
 *  precision  one that the backend has here
 *
 * Returns:  MYR_OK | what myr_network_compile and sessions return
 */
myr_status myr_peak_measure(const char *backend, myr_precision precision, double seconds, double *gflops);

/*
 * myr_bandwidth_measure - bytes read and written a second, in GB, by copying a block of n_bytes over and over.
 *
 * Returns:  MYR_OK | MYR_ERR_NOMEM
 */
myr_status myr_bandwidth_measure(size_t n_bytes, double seconds, double *gb_s);

#endif
