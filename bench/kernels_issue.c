#include "kernels_issue.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>

/* The value may be another from here on, for all that the compiler knows. */
#define KEEP(value) __asm__ volatile("" : "+v"(value))

__attribute__((target("avx512f,avx512bw,avx512vnni"))) static inline __m512i step_512(__m512i sums, __m512i a,
                                                                                      __m512i b)
{
    const __m512i low = _mm512_set1_epi16(0xff);
    __m512i away = _mm512_sub_epi8(_mm512_max_epu8(a, b), _mm512_min_epu8(a, b));
    __m512i even = _mm512_and_si512(away, low), odd = _mm512_srli_epi16(away, 8);
    return _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(sums, even, even), odd, odd);
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) static void loop_512(size_t n)
{
    __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5), sums[8] = {a, b, a, b, a, b, a, b};
    for (size_t i = 0; i < n / 2; i++) {
        for (int j = 0; j < 8; j++) {
            KEEP(b);
            sums[j] = step_512(sums[j], a, b);
        }
        KEEP(a);
    }
    for (int j = 0; j < 8; j++)
        KEEP(sums[j]);
}

__attribute__((target("avx2"))) static inline __m256i step_256(__m256i sums, __m256i a, __m256i b)
{
    const __m256i low = _mm256_set1_epi16(0xff);
    __m256i away = _mm256_sub_epi8(_mm256_max_epu8(a, b), _mm256_min_epu8(a, b));
    __m256i even = _mm256_and_si256(away, low), odd = _mm256_srli_epi16(away, 8);
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(even, even));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(odd, odd));
}

__attribute__((target("avx2"))) static void loop_256(size_t n)
{
    __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5), sums[8] = {a, b, a, b, a, b, a, b};
    for (size_t i = 0; i < n; i++) {
        for (int j = 0; j < 8; j++) {
            KEEP(b);
            sums[j] = step_256(sums[j], a, b);
        }
        KEEP(a);
    }
    for (int j = 0; j < 8; j++)
        KEEP(sums[j]);
}
#endif

bool issue_loop(const char *variant, size_t n)
{
#if defined(__x86_64__)
    if (strcmp(variant, "avx512vnni") == 0)
        return loop_512(n), true;
    if (strcmp(variant, "avx2") == 0)
        return loop_256(n), true;
#endif
    (void)variant;
    (void)n;
    return false;
}
