/*
 * IEEE 754 binary16, without F16C: the baseline of x86-64 has none.
 */
#ifndef MYR_KERNEL_HALF_H
#define MYR_KERNEL_HALF_H

#include <stdint.h>

/* Nearest half, ties to even; too large becomes infinity. */
uint16_t myr_half_from_float(float value);
/* Exact. */
float myr_half_to_float(uint16_t half);

#endif
