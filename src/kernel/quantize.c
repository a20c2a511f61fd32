/*
 * Values to codes and back. In double, where the difference of two floats and its multiple neither
 * overflow nor vanish, and in plain C, so that every CPU gives the same codes.
 */
#include "kernel/kernel.h"

#include <math.h>
#include <string.h>

myr_scale myr_scale_of(float least, float most)
{
    double width = (double)most - (double)least;
    return (myr_scale){.least = least, .per_value = width > 0 ? 255.0 / width : 0.0, .step = width / 255.0};
}

/* Nearest whole number, ties to even, of a value in [0, 255]: the sum has no bits left for a fraction. */
static inline double nearest(double value)
{
    const double whole = 0x1.8p52;
    return (value + whole) - whole;
}

bool myr_quantise(const myr_scale *scale, const float *vector, size_t dim, uint8_t *codes, float *residual)
{
    double sum = 0, zero = 0;
    for (size_t i = 0; i < dim; i++) {
        double value = vector[i], code = (value - scale->least) * scale->per_value;
        zero += value * 0.0;        /* NaN once a value is not finite */
        code = code > 0 ? code : 0; /* NaN becomes 0 */
        code = nearest(code < 255 ? code : 255);
        codes[i] = (uint8_t)code;
        double away = value - (scale->least + code * scale->step);
        sum += away * away;
    }
    memset(codes + dim, 0, myr_code_bytes(dim) - dim);
    /* The sum of up to 65536 rounded terms is right to about 1e-11; the step up to a float covers far more. */
    *residual = sum > 0 ? nextafterf((float)(sqrt(sum) * (1 + 1e-7)), INFINITY) : 0.0f;
    return zero == 0;
}

void myr_dequantise(const myr_scale *scale, const uint8_t *codes, size_t dim, float *vector)
{
    for (size_t i = 0; i < dim; i++)
        vector[i] = (float)(scale->least + codes[i] * scale->step);
}
