/*
 * Vectors of 16 floats in blocks, for files compiled for AVX-512.
 */
#ifndef MYR_NN_BLOCK_LANES_H
#define MYR_NN_BLOCK_LANES_H

#include "nn/block_parts.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

INLINE __mmask16 first_lanes(int n)
{
    return (__mmask16)(n >= MYR_BLOCK_TILE ? 0xffff : (1u << n) - 1);
}

/* 16 values of the input, or as many as the mask has. */
INLINE __m512 load_input(const myr_block *self, const void *in, size_t at, __mmask16 mask)
{
    if (self->shape.reads_floats)
        return _mm512_maskz_loadu_ps(mask, (const float *)in + at);
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)in + at)), 16));
}

INLINE __m512 clip(__m512 value, myr_block_limits limits)
{
    return _mm512_min_ps(_mm512_max_ps(value, _mm512_set1_ps(limits.low)), _mm512_set1_ps(limits.high));
}

#endif
