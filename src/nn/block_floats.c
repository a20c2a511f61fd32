/*
 * A block's products by AVX-512: factors are floats, one a dot.
 */
#include "nn/block_lanes.h"

typedef float factor_type;
#define PER_DOT 1

INLINE __m512i dot(__m512i sums, __m512i left, __m512i right)
{
    return (__m512i)_mm512_fmadd_ps((__m512)left, (__m512)right, (__m512)sums);
}

INLINE factor_type narrow(float value)
{
    return value;
}

INLINE void store_factors(factor_type *to, __m512 values)
{
    _mm512_storeu_ps(to, values);
}

#include "nn/block_wide.h"

const myr_block_products myr_block_floats = {.factor_bytes = sizeof(factor_type),
                                             .ring_bytes = sizeof(float),
                                             .set_steps = set_steps,
                                             .pack = pack,
                                             .take_input = take_input,
                                             .expand_row = expand_row,
                                             .copy_row = myr_block_copy_floats,
                                             .depthwise_row = depthwise_row,
                                             .project = project};
