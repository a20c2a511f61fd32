/*
 * Laying out on processors with AVX-512: 16 pixels at a time, with prepare.c's values. Levels are few enough for a
 * table, but a load for each value takes longer than computing it; a division rounds as that of the table did.
 */
#include "image/internal.h"

#include <immintrin.h>

#define N_AT_ONCE 16
#define CHANNELS 3

/* Four pixels to each lane of 16 bytes: 12 bytes of it. */
static inline __m512i load_pixels(const uint8_t *levels, size_t n)
{
    const __m512i spread = _mm512_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
    __mmask64 there = ((__mmask64)1 << (CHANNELS * n)) - 1;
    return _mm512_permutexvar_epi32(spread, _mm512_maskz_loadu_epi8(there, levels));
}

/* One channel of the pixels: its byte of each, widened. */
static inline __m512 take_channel(__m512i pixels, int channel)
{
    const __m128i bytes = _mm_setr_epi8(0, -1, -1, -1, 3, -1, -1, -1, 6, -1, -1, -1, 9, -1, -1, -1);
    const __m128i step = _mm_setr_epi8(1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0);
    __m128i from = channel == 0 ? bytes : _mm_add_epi8(bytes, channel == 1 ? step : _mm_add_epi8(step, step));
    return _mm512_cvtepi32_ps(_mm512_shuffle_epi8(pixels, _mm512_broadcast_i32x4(from)));
}

void myr_lay_out_avx512(const uint8_t *levels, size_t n, const float mean[3], const float std[3], float *const planes[3])
{
    for (size_t x = 0; x < n; x += N_AT_ONCE) {
        size_t n_now = n - x < N_AT_ONCE ? n - x : N_AT_ONCE;
        __mmask16 there = (__mmask16)((1u << n_now) - 1);
        __m512i pixels = load_pixels(levels + CHANNELS * x, n_now);
        for (int channel = 0; channel < CHANNELS; channel++) {
            __m512 away = _mm512_sub_ps(take_channel(pixels, channel), _mm512_set1_ps(mean[channel]));
            _mm512_mask_storeu_ps(planes[channel] + x, there, _mm512_div_ps(away, _mm512_set1_ps(std[channel])));
        }
    }
}
