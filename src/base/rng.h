/*
 * Seeded random numbers, the same on every machine: SplitMix64 as a hash and to
 * seed, xoshiro256** as a stream (Blackman and Vigna 2018).
 */
#ifndef MYR_BASE_RNG_H
#define MYR_BASE_RNG_H

#include <stdint.h>

typedef struct myr_rng {
    uint64_t state[4];
} myr_rng;

uint64_t myr_hash64(uint64_t value, uint64_t seed);
void myr_rng_seed(myr_rng *rng, uint64_t seed);
uint64_t myr_rng_next(myr_rng *rng);
/* Uniform in [0, bound), unbiased; bound > 0. */
uint64_t myr_rng_below(myr_rng *rng, uint64_t bound);
/* Uniform in [0, 1). */
double myr_rng_unit(myr_rng *rng);

#endif
