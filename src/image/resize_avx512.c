/*
 * Both passes of a resize on processors that sum products of bytes (AVX-512 VNNI), with the plain version's levels.
 *
 * A weight of 24 bits is three signed bytes, w = 65536 a + 256 b + c; for each of the three one instruction adds four
 * products of a level and such a byte to each of 16 sums. All is exact in 32 bits, so that putting the three sums
 * together gives the very sum that the plain version has.
 *
 * Levels are kept four by four along the direction that is summed. The horizontal pass takes four rows at once: of
 * four neighbouring pixels 3 channels (and one to spare) x 4 rows x 4 pixels are 64 bytes. Its result for a pixel,
 * 4 channels x 4 rows, is what the vertical pass sums along: of four pixels again 64 bytes.
 */
#include "image/internal.h"

#include "base/alloc.h"

#include <immintrin.h>
#include <string.h>

#define FRACTION_BITS 22
#define HALF (1 << (FRACTION_BITS - 1))
#define CHANNELS 3
#define QUAD 4
#define BLOCK 64                                 /* bytes of a vector */
#define MAX_WEIGHT ((1 << 23) - (1 << 15) - 256) /* what three signed bytes hold, and some less */

/* The weights of output i: n_quads[i] of them from quads[i * width], for inputs from 4 * first[i]. */
typedef struct quad_taps {
    int *first, *n_quads;
    uint32_t *quads; /* three words each: four bytes of the high, the middle and the low part */
    size_t width;
} quad_taps;

static void split(int32_t weight, uint8_t *high, uint8_t *middle, uint8_t *low)
{
    int32_t rest = weight - (int8_t)(weight & 0xff);
    *low = (uint8_t)(weight & 0xff);
    rest /= 256; /* exact */
    *middle = (uint8_t)(rest & 0xff);
    *high = (uint8_t)((rest - (int8_t)(rest & 0xff)) / 256);
}

/* Inputs are counted from origin. fits: false where a weight is too large, which Pillow's filters never give. */
static myr_status split_taps(const myr_taps *taps, int origin, myr_room *room, quad_taps *out, bool *fits)
{
    size_t n = (size_t)taps->n, n_words, n_bytes;
    out->width = (size_t)taps->width / QUAD + 2;
    if (!myr_mul(n, 3 * out->width + 2, &n_words) || !myr_mul(n_words, sizeof *out->quads, &n_bytes))
        return myr_fail(MYR_ERR_LIMIT, "a resize to %d levels of %d weights each", taps->n, taps->width);
    uint32_t *words = myr_room_reserve(room, n_bytes);
    if (words == NULL)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %d x %d weights of a resize", taps->n, taps->width);
    memset(words, 0, n_bytes);
    out->first = (int *)(words + 3 * out->width * n);
    out->n_quads = out->first + n;
    out->quads = words;
    *fits = true;
    for (size_t i = 0; i < n; i++) {
        const int32_t *weights = taps->weights + i * (size_t)taps->width;
        int first = taps->first[i] - origin, shift = first % QUAD;
        uint8_t *bytes = (uint8_t *)(words + 3 * out->width * i);
        out->first[i] = first / QUAD;
        out->n_quads[i] = (shift + taps->count[i] + QUAD - 1) / QUAD;
        for (int j = 0; j < taps->count[i]; j++) {
            size_t at = (size_t)(shift + j);
            uint8_t *word = bytes + at / QUAD * 12 + at % QUAD;
            *fits = *fits && weights[j] < MAX_WEIGHT && weights[j] > -MAX_WEIGHT;
            split(weights[j], word, word + 4, word + 8);
        }
    }
    return MYR_OK;
}

/* 16 levels: of sums of n_quads vectors, `stride` bytes apart. */
static inline __m128i sum_quads(const uint8_t *in, size_t stride, const uint32_t *quads, int n_quads)
{
    __m512i high = _mm512_setzero_si512(), middle = high, low = _mm512_set1_epi32(HALF);
    for (int i = 0; i < n_quads; i++, in += stride, quads += 3) {
        __m512i levels = _mm512_loadu_si512(in);
        high = _mm512_dpbusd_epi32(high, levels, _mm512_set1_epi32((int)quads[0]));
        middle = _mm512_dpbusd_epi32(middle, levels, _mm512_set1_epi32((int)quads[1]));
        low = _mm512_dpbusd_epi32(low, levels, _mm512_set1_epi32((int)quads[2]));
    }
    __m512i sum = _mm512_add_epi32(_mm512_add_epi32(low, _mm512_slli_epi32(middle, 8)), _mm512_slli_epi32(high, 16));
    sum = _mm512_max_epi32(_mm512_srai_epi32(sum, FRACTION_BITS), _mm512_setzero_si512());
    return _mm512_cvtusepi32_epi8(sum);
}

/* Four pixels of each of four rows: bytes of a pixel's four neighbours come together, then the rows of a channel. */
static inline __m512i block_of(const uint8_t *const rows[QUAD], size_t at, __mmask16 there)
{
    const __m512i neighbours =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
    const __m512i turn = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i all = _mm512_castsi128_si512(_mm_maskz_loadu_epi8(there, rows[0] + at));
    all = _mm512_inserti32x4(all, _mm_maskz_loadu_epi8(there, rows[1] + at), 1);
    all = _mm512_inserti32x4(all, _mm_maskz_loadu_epi8(there, rows[2] + at), 2);
    all = _mm512_inserti32x4(all, _mm_maskz_loadu_epi8(there, rows[3] + at), 3);
    return _mm512_permutexvar_epi32(turn, _mm512_shuffle_epi8(all, neighbours));
}

/* Pixels [left, right) of four rows as blocks; what is missing of the last is 0. */
static void block_rows(const uint8_t *const rows[QUAD], int left, int right, uint8_t *blocks)
{
    for (int x = left; x < right; x += QUAD, blocks += BLOCK) {
        int n = right - x < QUAD ? right - x : QUAD;
        __mmask16 there = (__mmask16)((1u << (CHANNELS * n)) - 1);
        _mm512_storeu_si512(blocks, block_of(rows, (size_t)x * CHANNELS, there));
    }
}

/* The horizontal pass: n_rows from row first, four by four; a last row is repeated, with weight 0. */
static void narrow(const myr_image *in, int first, int n_rows, int left, int right, const quad_taps *taps, int width,
                   size_t stride, uint8_t *blocks, uint8_t *out)
{
    for (int y = 0; y < n_rows; y += QUAD, out += stride) {
        const uint8_t *rows[QUAD];
        for (int i = 0; i < QUAD; i++) {
            int row = first + (y + i < n_rows ? y + i : n_rows - 1);
            rows[i] = in->pixels + (size_t)row * (size_t)in->width * CHANNELS;
        }
        block_rows(rows, left, right, blocks);
        for (int x = 0; x < width; x++) {
            __m128i levels = sum_quads(blocks + (size_t)taps->first[x] * BLOCK, BLOCK,
                                       taps->quads + 3 * taps->width * (size_t)x, taps->n_quads[x]);
            _mm_storeu_si128((__m128i *)(void *)(out + (size_t)x * 16), levels);
        }
    }
}

/* The vertical pass; of each pixel's four bytes three are kept. */
static void flatten(const uint8_t *in, size_t stride, const quad_taps *taps, const myr_window *window, uint8_t *out)
{
    const __m128i three = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    for (int y = 0; y < window->height; y++) {
        const uint8_t *rows = in + (size_t)taps->first[y] * stride;
        const uint32_t *quads = taps->quads + 3 * taps->width * (size_t)y;
        for (int x = 0; x < window->width; x += QUAD) {
            int n = window->width - x < QUAD ? window->width - x : QUAD;
            __m128i levels = sum_quads(rows + (size_t)x * 16, stride, quads, taps->n_quads[y]);
            _mm_mask_storeu_epi8(out, (__mmask16)((1u << (CHANNELS * n)) - 1), _mm_shuffle_epi8(levels, three));
            out += (size_t)n * CHANNELS;
        }
    }
}

myr_status myr_resample_avx512(myr_decoder *decoder, const myr_image *in, const myr_window *window, uint8_t *out,
                               bool *done)
{
    const myr_taps *across = &decoder->across, *down = &decoder->down;
    int left = across->first[0], right = across->first[across->n - 1] + across->count[across->n - 1];
    int first = down->first[0], n_rows = down->first[down->n - 1] + down->count[down->n - 1] - first;
    size_t n_groups = ((size_t)n_rows + QUAD - 1) / QUAD, n_blocks = ((size_t)(right - left) + QUAD - 1) / QUAD;
    size_t stride = ((size_t)window->width + QUAD - 1) / QUAD * BLOCK, n_bytes;
    quad_taps of_columns, of_rows;
    bool columns_fit = false, rows_fit = false;
    *done = false;
    myr_status status = split_taps(across, left, &decoder->quads[0], &of_columns, &columns_fit);
    if (status == MYR_OK)
        status = split_taps(down, first, &decoder->quads[1], &of_rows, &rows_fit);
    if (status != MYR_OK || !columns_fit || !rows_fit)
        return status;
    if (!myr_mul(stride, n_groups, &n_bytes))
        return myr_fail(MYR_ERR_LIMIT, "a resize by way of %d x %d pixels", window->width, n_rows);
    uint8_t *blocks = myr_room_reserve(&decoder->line, n_blocks * BLOCK);
    uint8_t *narrowed = myr_room_reserve(&decoder->narrowed, n_bytes);
    if (blocks == NULL || narrowed == NULL)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %d x %d pixels between two passes", window->width, n_rows);
    narrow(in, first, n_rows, left, right, &of_columns, window->width, stride, blocks, narrowed);
    flatten(narrowed, stride, &of_rows, window, out);
    *done = true;
    return MYR_OK;
}
