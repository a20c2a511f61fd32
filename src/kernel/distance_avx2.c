/*
 * Distances for AVX2. Code differences are made absolute in 8 bits and squared in 16
 * (madd keeps the full 32-bit sums; maddubs would saturate).
 */
#include "kernel/kernel.h"

#include <immintrin.h>
#include <string.h>

enum { LANES = 16 };

/* sums + the squared differences of 32 codes. */
static inline __m256i add_squares(__m256i sums, __m256i a, __m256i b)
{
    const __m256i low = _mm256_set1_epi16(0xff);
    __m256i away = _mm256_sub_epi8(_mm256_max_epu8(a, b), _mm256_min_epu8(a, b));
    __m256i even = _mm256_and_si256(away, low), odd = _mm256_srli_epi16(away, 8);
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(even, even));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(odd, odd));
}

static inline __m256i codes_at(const uint8_t *row, size_t i)
{
    return _mm256_load_si256((const __m256i *)(const void *)(row + i));
}

static inline __m128i fold(__m256i sums)
{
    return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

static uint32_t code_distance(const uint8_t *a, const uint8_t *b, size_t n_bytes)
{
    __m256i first = _mm256_setzero_si256(), second = first;
    for (size_t i = 0; i < n_bytes; i += 64) {
        first = add_squares(first, codes_at(a, i), codes_at(b, i));
        second = add_squares(second, codes_at(a, i + 32), codes_at(b, i + 32));
    }
    __m128i four = fold(_mm256_add_epi32(first, second));
    four = _mm_hadd_epi32(four, four);
    four = _mm_hadd_epi32(four, four);
    return (uint32_t)_mm_cvtsi128_si32(four);
}

/* The sums of four rows, one behind the other: lanes of two rows are interleaved and added, then those of both pairs. */
static inline __m128i fold_four(__m256i s0, __m256i s1, __m256i s2, __m256i s3)
{
    __m256i first = _mm256_add_epi32(_mm256_unpacklo_epi32(s0, s1), _mm256_unpackhi_epi32(s0, s1));
    __m256i second = _mm256_add_epi32(_mm256_unpacklo_epi32(s2, s3), _mm256_unpackhi_epi32(s2, s3));
    return fold(_mm256_add_epi32(_mm256_unpacklo_epi64(first, second), _mm256_unpackhi_epi64(first, second)));
}

static void code_distances(const uint8_t *a, const uint8_t *const *rows, size_t n_rows, size_t n_bytes,
                           uint32_t *distances)
{
    size_t r = 0;
    for (; r + 4 <= n_rows; r += 4) {
        const uint8_t *r0 = rows[r], *r1 = rows[r + 1], *r2 = rows[r + 2], *r3 = rows[r + 3];
        __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
        for (size_t i = 0; i < n_bytes; i += 32) {
            __m256i codes = codes_at(a, i);
            s0 = add_squares(s0, codes, codes_at(r0, i));
            s1 = add_squares(s1, codes, codes_at(r1, i));
            s2 = add_squares(s2, codes, codes_at(r2, i));
            s3 = add_squares(s3, codes, codes_at(r3, i));
        }
        _mm_storeu_si128((__m128i *)(void *)(distances + r), fold_four(s0, s1, s2, s3));
    }
    for (; r < n_rows; r++)
        distances[r] = code_distance(a, rows[r], n_bytes);
}

/* Four sums of four lanes each: the tree of the reference. */
static inline double sum_of(const __m256d s[4])
{
    __m256d four = _mm256_add_pd(_mm256_add_pd(s[0], s[2]), _mm256_add_pd(s[1], s[3]));
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

static inline void add_l2(__m256d s[4], const float *a, const float *b)
{
    for (int j = 0; j < 4; j++) {
        __m256d away =
            _mm256_sub_pd(_mm256_cvtps_pd(_mm_loadu_ps(a + 4 * j)), _mm256_cvtps_pd(_mm_loadu_ps(b + 4 * j)));
        s[j] = _mm256_add_pd(s[j], _mm256_mul_pd(away, away));
    }
}

static inline void add_dot(__m256d s[4], const float *a, const float *b)
{
    for (int j = 0; j < 4; j++) {
        __m256d product =
            _mm256_mul_pd(_mm256_cvtps_pd(_mm_loadu_ps(a + 4 * j)), _mm256_cvtps_pd(_mm_loadu_ps(b + 4 * j)));
        s[j] = _mm256_add_pd(s[j], product);
    }
}

/* The last dim % 16 values, zeros behind them: adding zero changes no lane. */
static inline void tail(const float *row, size_t dim, size_t from, float padded[LANES])
{
    memset(padded, 0, LANES * sizeof *padded);
    memcpy(padded, row + from, (dim - from) * sizeof *padded);
}

static double squared_l2(const float *a, const float *b, size_t dim)
{
    __m256d s[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()};
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES)
        add_l2(s, a + i, b + i);
    if (i < dim) {
        float last_a[LANES], last_b[LANES];
        tail(a, dim, i, last_a);
        tail(b, dim, i, last_b);
        add_l2(s, last_a, last_b);
    }
    return sum_of(s);
}

static double dot(const float *a, const float *b, size_t dim)
{
    __m256d s[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()};
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES)
        add_dot(s, a + i, b + i);
    if (i < dim) {
        float last_a[LANES], last_b[LANES];
        tail(a, dim, i, last_a);
        tail(b, dim, i, last_b);
        add_dot(s, last_a, last_b);
    }
    return sum_of(s);
}

static void widen(const uint16_t *halves, size_t dim, float *values)
{
    size_t i = 0;
    for (; i + 8 <= dim; i += 8)
        _mm256_storeu_ps(values + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(halves + i))));
    for (; i < dim; i++)
        values[i] = _cvtsh_ss(halves[i]);
}

static void project(const float *axes, const float *offsets, size_t dim, size_t n_axes, const float *const *vectors,
                    size_t n, float *const *out)
{
    enum { PARTS = MYR_PANEL / 8 };
    for (size_t axis = 0; axis < n_axes; axis += MYR_PANEL, axes += dim * MYR_PANEL)
        for (size_t v = 0; v < n; v++) {
            __m256 sums[PARTS];
            for (int p = 0; p < PARTS; p++)
                sums[p] = offsets ? _mm256_loadu_ps(offsets + axis + 8 * p) : _mm256_setzero_ps();
            for (size_t i = 0; i < dim; i++) {
                __m256 value = _mm256_broadcast_ss(vectors[v] + i);
                for (int p = 0; p < PARTS; p++)
                    sums[p] = _mm256_fmadd_ps(value, _mm256_loadu_ps(axes + i * MYR_PANEL + 8 * p), sums[p]);
            }
            for (int p = 0; p < PARTS; p++)
                _mm256_storeu_ps(out[v] + axis + 8 * p, sums[p]);
        }
}

const myr_kernel myr_kernel_avx2 = {"avx2", code_distance, code_distances, squared_l2, dot, widen, project};
