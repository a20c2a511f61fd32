/*
 * A block's products by AVX-512 BF16: factors are bf16, two a dot.
 * Source: Intel Architecture Instruction Set Extensions Programming Reference, VDPBF16PS.
 */
#include "nn/block_lanes.h"

typedef uint16_t factor_type;
#define PER_DOT 2

INLINE __m512i dot(__m512i sums, __m512i left, __m512i right)
{
    return (__m512i)_mm512_dpbf16_ps((__m512)sums, (__m512bh)left, (__m512bh)right);
}

INLINE factor_type narrow(float value)
{
    return (factor_type)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(value)), 0);
}

INLINE void store_factors(factor_type *to, __m512 values)
{
    _mm256_storeu_si256((__m256i *)(void *)to, (__m256i)_mm512_cvtneps_pbh(values));
}

#include "nn/block_wide.h"

const myr_block_products myr_block_halves = {.factor_bytes = sizeof(factor_type),
                                             .ring_bytes = sizeof(float),
                                             .set_steps = set_steps,
                                             .pack = pack,
                                             .take_input = take_input,
                                             .expand_row = expand_row,
                                             .copy_row = myr_block_copy_floats,
                                             .depthwise_row = depthwise_row,
                                             .project = project};
