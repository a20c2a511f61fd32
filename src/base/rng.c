/*
 * SplitMix64 and xoshiro256** (public domain algorithms of Blackman and Vigna).
 */
#include "base/rng.h"

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t myr_hash64(uint64_t value, uint64_t seed)
{
    return mix(mix(seed + 0x9e3779b97f4a7c15u) + value * 0x9e3779b97f4a7c15u + 0x9e3779b97f4a7c15u);
}

void myr_rng_seed(myr_rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        rng->state[i] = mix(seed += 0x9e3779b97f4a7c15u);
}

static uint64_t rotate(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

uint64_t myr_rng_next(myr_rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate(s[1] * 5, 7) * 9, shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t myr_rng_below(myr_rng *rng, uint64_t bound)
{
    uint64_t unfair = -bound % bound; /* values below this would favour small results */
    for (;;) {
        uint64_t value = myr_rng_next(rng);
        if (value >= unfair)
            return value % bound;
    }
}

double myr_rng_unit(myr_rng *rng)
{
    return (double)(myr_rng_next(rng) >> 11) * 0x1p-53;
}
