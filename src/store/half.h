/*
 * IEEE 754 binary16, without F16C: the baseline of x86-64 has none.
 */
#ifndef MYR_STORE_HALF_H
#define MYR_STORE_HALF_H

#include <stdint.h>

/* Nearest half, ties to even; too large becomes infinity. */
uint16_t store_half_from_float(float value);
/* Exact. */
float store_half_to_float(uint16_t half);

#endif
