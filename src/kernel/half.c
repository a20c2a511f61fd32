/*
 * Conversions between float and half by their bits.
 */
#include "kernel/half.h"

#include <string.h>

uint16_t myr_half_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00); /* NaN */
    if (magnitude >= 0x47800000)
        return (uint16_t)(sign | 0x7c00); /* 65536 and more: infinity */
    if (magnitude < 0x33000001)
        return (uint16_t)sign; /* up to half of the smallest subnormal: zero */
    uint32_t exponent = magnitude >> 23, mantissa = magnitude & 0x7fffff, half, rest, middle;
    if (exponent < 113) { /* subnormal half */
        uint32_t shift = 126 - exponent;
        mantissa |= 0x800000;
        half = mantissa >> shift;
        rest = mantissa & ((1u << shift) - 1);
        middle = 1u << (shift - 1);
    } else {
        half = (exponent - 112) << 10 | mantissa >> 13;
        rest = mantissa & 0x1fff;
        middle = 0x1000;
    }
    half += rest > middle || (rest == middle && (half & 1)); /* a carry into the exponent is right */
    return (uint16_t)(sign | half);
}

float myr_half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ff, bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000 | mantissa << 13;
    } else if (exponent > 0) {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    } else if (mantissa == 0) {
        bits = sign;
    } else { /* subnormal: shift until the leading bit is where floats imply it */
        uint32_t shift = 0;
        while (!(mantissa & 0x400)) {
            mantissa <<= 1;
            shift++;
        }
        bits = sign | (113 - shift) << 23 | (mantissa & 0x3ff) << 13;
    }
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
