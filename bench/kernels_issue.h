/*
 * What the core issues at best of the instructions that a code distance is made of: the same ones for each 64 bytes, on
 * registers alone, in eight chains that do not wait for each other; no loads, no sums across lanes at the end.
 */
#ifndef BENCH_KERNELS_ISSUE_H
#define BENCH_KERNELS_ISSUE_H

#include <stdbool.h>
#include <stddef.h>

/* Runs them for n times 256 bytes of codes, as the variant of this name does; false where it has no such loop. */
bool issue_loop(const char *variant, size_t n);

#endif
