/*
 * Distances for AVX-512 with VNNI: vpdpwssd squares 16-bit differences and adds them in
 * pairs to 32-bit sums, in one instruction.
 */
#include "kernel/kernel.h"

#include <immintrin.h>

enum { LANES = 16 };

/* sums + the squared differences of 64 codes. */
static inline __m512i add_squares(__m512i sums, __m512i a, __m512i b)
{
    const __m512i low = _mm512_set1_epi16(0xff);
    __m512i away = _mm512_sub_epi8(_mm512_max_epu8(a, b), _mm512_min_epu8(a, b));
    __m512i even = _mm512_and_si512(away, low), odd = _mm512_srli_epi16(away, 8);
    return _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(sums, even, even), odd, odd);
}

static inline __m128i fold(__m512i sums)
{
    __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64(sums, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
}

static uint32_t code_distance(const uint8_t *a, const uint8_t *b, size_t n_bytes)
{
    __m512i sums = _mm512_setzero_si512();
    for (size_t i = 0; i < n_bytes; i += 64)
        sums = add_squares(sums, _mm512_load_si512(a + i), _mm512_load_si512(b + i));
    __m128i four = fold(sums);
    four = _mm_hadd_epi32(four, four);
    four = _mm_hadd_epi32(four, four);
    return (uint32_t)_mm_cvtsi128_si32(four);
}

/* The sums of four rows, one behind the other: lanes of two rows are interleaved and added, then those of both pairs. */
static inline __m128i fold_four(__m512i s0, __m512i s1, __m512i s2, __m512i s3)
{
    __m512i first = _mm512_add_epi32(_mm512_unpacklo_epi32(s0, s1), _mm512_unpackhi_epi32(s0, s1));
    __m512i second = _mm512_add_epi32(_mm512_unpacklo_epi32(s2, s3), _mm512_unpackhi_epi32(s2, s3));
    return fold(_mm512_add_epi32(_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second)));
}

static void code_distances(const uint8_t *a, const uint8_t *const *rows, size_t n_rows, size_t n_bytes,
                           uint32_t *distances)
{
    size_t r = 0;
    for (; r + 4 <= n_rows; r += 4) {
        const uint8_t *r0 = rows[r], *r1 = rows[r + 1], *r2 = rows[r + 2], *r3 = rows[r + 3];
        __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
        for (size_t i = 0; i < n_bytes; i += 64) {
            __m512i codes = _mm512_load_si512(a + i);
            s0 = add_squares(s0, codes, _mm512_load_si512(r0 + i));
            s1 = add_squares(s1, codes, _mm512_load_si512(r1 + i));
            s2 = add_squares(s2, codes, _mm512_load_si512(r2 + i));
            s3 = add_squares(s3, codes, _mm512_load_si512(r3 + i));
        }
        _mm_storeu_si128((__m128i *)(void *)(distances + r), fold_four(s0, s1, s2, s3));
    }
    for (; r < n_rows; r++)
        distances[r] = code_distance(a, rows[r], n_bytes);
}

/* Two sums of eight lanes: the tree of the reference. */
static inline double sum_of(__m512d low, __m512d high)
{
    __m512d eight = _mm512_add_pd(low, high);
    __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd(eight, 1));
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

/* Sixteen floats as two times eight doubles; lanes outside the mask are zero, and adding zero changes no sum. */
typedef struct wide {
    __m512d low, high;
} wide;

static inline wide load(const float *row, __mmask16 mask)
{
    __m512 values = _mm512_maskz_loadu_ps(mask, row);
    __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(values), 1));
    return (wide){_mm512_cvtps_pd(_mm512_castps512_ps256(values)), _mm512_cvtps_pd(high)};
}

static inline __mmask16 mask_of(size_t n_left)
{
    return n_left >= LANES ? (__mmask16)0xffff : (__mmask16)((1u << n_left) - 1);
}

static double squared_l2(const float *a, const float *b, size_t dim)
{
    __m512d low = _mm512_setzero_pd(), high = low;
    for (size_t i = 0; i < dim; i += LANES) {
        __mmask16 mask = mask_of(dim - i);
        wide x = load(a + i, mask), y = load(b + i, mask);
        __m512d away_low = _mm512_sub_pd(x.low, y.low), away_high = _mm512_sub_pd(x.high, y.high);
        low = _mm512_add_pd(low, _mm512_mul_pd(away_low, away_low));
        high = _mm512_add_pd(high, _mm512_mul_pd(away_high, away_high));
    }
    return sum_of(low, high);
}

static double dot(const float *a, const float *b, size_t dim)
{
    __m512d low = _mm512_setzero_pd(), high = low;
    for (size_t i = 0; i < dim; i += LANES) {
        __mmask16 mask = mask_of(dim - i);
        wide x = load(a + i, mask), y = load(b + i, mask);
        low = _mm512_add_pd(low, _mm512_mul_pd(x.low, y.low));
        high = _mm512_add_pd(high, _mm512_mul_pd(x.high, y.high));
    }
    return sum_of(low, high);
}

static void widen(const uint16_t *halves, size_t dim, float *values)
{
    for (size_t i = 0; i < dim; i += LANES) {
        __mmask16 mask = mask_of(dim - i);
        _mm512_mask_storeu_ps(values + i, mask, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, halves + i)));
    }
}

/* One panel for n <= 4 vectors, whose sums stay in registers. */
static inline __attribute__((always_inline)) void project_panel(const float *panel, const float *offsets, size_t dim,
                                                                const float *const *vectors, size_t n,
                                                                float *const *out, size_t axis)
{
    enum { PARTS = MYR_PANEL / LANES };
    __m512 sums[4][PARTS];
    for (size_t v = 0; v < n; v++)
        for (int p = 0; p < PARTS; p++)
            sums[v][p] = offsets ? _mm512_loadu_ps(offsets + LANES * p) : _mm512_setzero_ps();
    for (size_t i = 0; i < dim; i++, panel += MYR_PANEL) {
        __m512 parts[PARTS];
        for (int p = 0; p < PARTS; p++)
            parts[p] = _mm512_loadu_ps(panel + LANES * p);
        for (size_t v = 0; v < n; v++) {
            __m512 value = _mm512_set1_ps(vectors[v][i]);
            for (int p = 0; p < PARTS; p++)
                sums[v][p] = _mm512_fmadd_ps(value, parts[p], sums[v][p]);
        }
    }
    for (size_t v = 0; v < n; v++)
        for (int p = 0; p < PARTS; p++)
            _mm512_storeu_ps(out[v] + axis + LANES * p, sums[v][p]);
}

static void project(const float *axes, const float *offsets, size_t dim, size_t n_axes, const float *const *vectors,
                    size_t n, float *const *out)
{
    for (size_t axis = 0; axis < n_axes; axis += MYR_PANEL, axes += dim * MYR_PANEL) {
        const float *mine = offsets ? offsets + axis : NULL;
        size_t v = 0;
        for (; v + 4 <= n; v += 4)
            project_panel(axes, mine, dim, vectors + v, 4, out + v, axis);
        for (; v < n; v++)
            project_panel(axes, mine, dim, vectors + v, 1, out + v, axis);
    }
}

const myr_kernel myr_kernel_avx512 = {"avx512vnni", code_distance, code_distances, squared_l2, dot, widen, project};
