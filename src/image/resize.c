/*
 * Antialiased resizing with Pillow's arithmetic.
 *
 * Every output level is a weighted sum of neighbouring input levels. The filter is stretched by the
 * factor of shrinking; its weights are computed in double, made to sum to 1, and rounded to 22 bits of
 * fraction. A horizontal pass makes rows of the wanted width, rounded to 8 bits, from just the rows that
 * the vertical pass then sums. A pass that would change nothing is left out. Since sums of integers are
 * exact in any order, a window of the result equals the same window of the whole.
 *
 * Source: Pillow, src/libImaging/Resample.c (precompute_coeffs, normalize_coeffs_8bpc, ImagingResample*_8bpc).
 */
#include "image/internal.h"

#include "base/alloc.h"
#include "kernel/kernel.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#define FRACTION_BITS 22 /* Pillow's PRECISION_BITS: 32 - 8 bits of a level - 2 of overshoot */
#define HALF (1 << (FRACTION_BITS - 1))
#define CHANNELS 3

/* Wider vectors where the CPU has them; integers, so the levels are the same. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define WIDER __attribute__((target_clones("default", "avx2")))
#else
#define WIDER
#endif

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Keys' cubic with a = -0.5, in the order of operations Pillow has. */
static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

/* One pass: from n_in levels to n_out, of which [first, first + n) are wanted. */
typedef struct pass {
    int n_in, n_out, first, n;
} pass;

static myr_status reserve_taps(myr_taps *taps, int n, int width)
{
    size_t n_weights, n_bytes;
    if (!myr_mul((size_t)n, (size_t)width, &n_weights) || !myr_mul(n_weights, sizeof *taps->weights, &n_bytes))
        return myr_fail(MYR_ERR_LIMIT, "a resize to %d levels of %d weights each", n, width);
    taps->n = n;
    taps->width = width;
    taps->first = myr_room_reserve(&taps->first_room, (size_t)n * sizeof *taps->first);
    taps->count = myr_room_reserve(&taps->count_room, (size_t)n * sizeof *taps->count);
    taps->weights = myr_room_reserve(&taps->weight_room, n_bytes);
    taps->exact = myr_room_reserve(&taps->exact_room, (size_t)width * sizeof *taps->exact);
    if (taps->first == NULL || taps->count == NULL || taps->weights == NULL || taps->exact == NULL)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %d x %d weights of a resize", n, width);
    return MYR_OK;
}

void myr_taps_free(myr_taps *taps)
{
    myr_room_free(&taps->first_room);
    myr_room_free(&taps->count_room);
    myr_room_free(&taps->weight_room);
    myr_room_free(&taps->exact_room);
    *taps = (myr_taps){0};
}

static int32_t to_fixed(double weight)
{
    double scaled = weight * (1 << FRACTION_BITS);
    return (int32_t)(weight < 0 ? scaled - 0.5 : scaled + 0.5);
}

/* How far a filter reaches, in inputs, and the factor by which it is stretched. */
typedef struct reach {
    double scale, stretch, support;
} reach;

static reach find_reach(const pass *wanted, myr_filter filter)
{
    reach of = {.scale = (double)wanted->n_in / wanted->n_out};
    of.stretch = of.scale < 1.0 ? 1.0 : of.scale;
    of.support = (filter == MYR_FILTER_BILINEAR ? 1.0 : 2.0) * of.stretch;
    return of;
}

/* Inputs [first, end) of output i. */
static void find_inputs(const pass *wanted, const reach *of, int i, double *centre, int *first, int *end)
{
    *centre = (i + 0.5) * of->scale;
    double low = *centre - of->support + 0.5, high = *centre + of->support + 0.5;
    *first = low < 0 ? 0 : (int)low;
    *end = high > wanted->n_in ? wanted->n_in : (int)high;
}

static myr_status compute_taps(myr_taps *taps, const pass *wanted, myr_filter filter)
{
    double (*weigh)(double) = filter == MYR_FILTER_BILINEAR ? bilinear : bicubic;
    const reach of = find_reach(wanted, filter);
    double width = fmin(ceil(of.support) * 2 + 1, wanted->n_in);
    myr_status status = reserve_taps(taps, wanted->n, (int)width);
    if (status != MYR_OK)
        return status;
    for (int i = 0; i < wanted->n; i++) {
        double centre, sum = 0.0;
        int first, end;
        find_inputs(wanted, &of, wanted->first + i, &centre, &first, &end);
        int32_t *weights = taps->weights + (size_t)i * (size_t)taps->width;
        for (int j = first; j < end; j++) {
            double weight = weigh((j - centre + 0.5) * (1.0 / of.stretch));
            taps->exact[j - first] = weight;
            sum += weight;
        }
        for (int j = 0; j < end - first; j++)
            weights[j] = to_fixed(sum != 0.0 ? taps->exact[j] / sum : taps->exact[j]);
        taps->first[i] = first;
        taps->count[i] = end - first;
    }
    return MYR_OK;
}

void myr_resample_inputs(int n_in, int n_out, myr_filter filter, int *first, int *n)
{
    const pass wanted = {.n_in = n_in, .n_out = n_out, .first = *first, .n = *n};
    const reach of = find_reach(&wanted, filter);
    double centre;
    int last, end;
    if (n_in == n_out)
        return;
    find_inputs(&wanted, &of, wanted.first + wanted.n - 1, &centre, &last, &end);
    find_inputs(&wanted, &of, wanted.first, &centre, first, &last);
    *n = end - *first;
}

/*
 * Two pixels of two rows above each other: R G B and a lane to spare, twice. The spare lanes' results are
 * overwritten or never read. Where vectors are narrower, compilers split these.
 */
typedef int32_t pair __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint64_t pair_words __attribute__((vector_size(32)));

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a word's low half is a pair's earlier lane");

static inline void widen_pixel(const uint8_t *levels, int32_t *lanes)
{
    lanes[0] = levels[0];
    lanes[1] = levels[1];
    lanes[2] = levels[2];
    lanes[3] = 0;
}

/* Pixels [first, end) of two rows, as pairs: 8 lanes each. */
WIDER static void pair_rows(const uint8_t *restrict upper, const uint8_t *restrict lower, int first, int end,
                            int32_t *restrict lanes)
{
    for (int x = first; x < end; x++, lanes += 8) {
        widen_pixel(upper + (size_t)x * CHANNELS, lanes);
        widen_pixel(lower + (size_t)x * CHANNELS, lanes + 4);
    }
}

/* Two rows of the horizontal pass. in[0] is input `first`. Each output row has a byte to spare at its end. */
WIDER static void narrow_pair(const pair *restrict in, int first, const myr_taps *restrict taps, uint8_t *upper,
                              uint8_t *lower)
{
    for (int i = 0; i < taps->n; i++) {
        const pair *pixel = in + (taps->first[i] - first);
        const int32_t *weights = taps->weights + (size_t)i * (size_t)taps->width;
        pair sum = {HALF, HALF, HALF, HALF, HALF, HALF, HALF, HALF};
        for (int j = 0; j < taps->count[i]; j++)
            sum += pixel[j] * weights[j];
        sum >>= FRACTION_BITS;
        sum &= ~(sum >> 31);                   /* below 0: 0 */
        sum = (sum | (255 - sum) >> 31) & 255; /* above 255: all bits, of which 8 stay */
        pair_words words = (pair_words)sum;    /* R and G, B and nothing, twice */
        words |= words >> 24;
        uint32_t above = (uint32_t)(words[0] & 0xffff) | (uint32_t)words[1] << 16;
        uint32_t below = (uint32_t)(words[2] & 0xffff) | (uint32_t)words[3] << 16;
        memcpy(upper + (size_t)i * CHANNELS, &above, sizeof above);
        memcpy(lower + (size_t)i * CHANNELS, &below, sizeof below);
    }
}

static inline uint8_t to_level(int32_t sum)
{
    int32_t level = sum >> FRACTION_BITS;
    return (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
}

/* sums += four rows; fewer where weights are 0. */
WIDER static void add_rows(int32_t *restrict sums, const uint8_t *const rows[4], const int32_t weights[4], size_t n)
{
    const uint8_t *restrict a = rows[0], *restrict b = rows[1], *restrict c = rows[2], *restrict d = rows[3];
    const int32_t of_a = weights[0], of_b = weights[1], of_c = weights[2], of_d = weights[3];
    for (size_t i = 0; i < n; i++)
        sums[i] += a[i] * of_a + b[i] * of_b + c[i] * of_c + d[i] * of_d;
}

WIDER static void round_sums(const int32_t *restrict sums, uint8_t *restrict out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = to_level(sums[i]);
}

/* One row of the result from rows `stride` bytes apart. */
static void sum_rows(const uint8_t *in, size_t stride, const int32_t *weights, int n_rows, int32_t *sums, uint8_t *out,
                     size_t n)
{
    for (size_t i = 0; i < n; i++)
        sums[i] = HALF;
    for (int j = 0; j < n_rows; j += 4) {
        const uint8_t *rows[4];
        int32_t of_rows[4];
        for (int k = 0; k < 4; k++) {
            bool there = j + k < n_rows;
            rows[k] = in + (size_t)(there ? j + k : j) * stride;
            of_rows[k] = there ? weights[j + k] : 0;
        }
        add_rows(sums, rows, of_rows, n);
    }
    round_sums(sums, out, n);
}

/* Rows of pixels, `stride` bytes apart. */
typedef struct rows {
    const uint8_t *first;
    size_t stride;
} rows;

/* The weights of the horizontal pass, which is to make n rows. */
static myr_status compute_across(myr_decoder *decoder, const myr_image *in, int width, const myr_window *window,
                                 myr_filter filter, int n)
{
    const pass across = {.n_in = in->width, .n_out = width, .first = window->x, .n = window->width};
    if ((uint64_t)window->width * (uint64_t)n > decoder->limits.max_pixels)
        return myr_fail(MYR_ERR_LIMIT, "a resize by way of %d x %d pixels, above the limit of %llu in all",
                        window->width, n, (unsigned long long)decoder->limits.max_pixels);
    return compute_taps(&decoder->across, &across, filter);
}

/* The horizontal pass over rows [first, first + n) of the picture, into decoder->narrowed. */
static myr_status narrow(myr_decoder *decoder, const myr_image *in, const myr_window *window, int first, int n,
                         rows *out)
{
    const myr_taps *taps = &decoder->across;
    size_t in_stride = (size_t)in->width * CHANNELS, stride = (size_t)window->width * CHANNELS + 1, n_bytes;
    if (!myr_mul(stride, (size_t)n, &n_bytes))
        return myr_fail(MYR_ERR_LIMIT, "a resize by way of %d x %d pixels", window->width, n);
    int left = taps->first[0], right = taps->first[taps->n - 1] + taps->count[taps->n - 1];
    pair *pairs = myr_room_reserve(&decoder->line, (size_t)(right - left) * sizeof *pairs);
    uint8_t *narrowed = myr_room_reserve(&decoder->narrowed, n_bytes);
    if (narrowed == NULL || pairs == NULL)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %d x %d pixels between two passes", window->width, n);
    for (int y = 0; y < n; y += 2) {
        int other = y + 1 < n ? y + 1 : y; /* the last row of an odd number is paired with itself */
        const uint8_t *upper = in->pixels + (size_t)(first + y) * in_stride;
        const uint8_t *lower = in->pixels + (size_t)(first + other) * in_stride;
        pair_rows(upper, lower, left, right, (int32_t *)pairs);
        narrow_pair(pairs, left, taps, narrowed + (size_t)y * stride, narrowed + (size_t)other * stride);
    }
    *out = (rows){.first = narrowed, .stride = stride};
    return MYR_OK;
}

/* The vertical pass: in's first row is the first that the first row of the window needs. */
static myr_status flatten(myr_decoder *decoder, rows in, const myr_window *window, uint8_t *out)
{
    const myr_taps *down = &decoder->down;
    size_t n = (size_t)window->width * CHANNELS;
    int32_t *sums = myr_room_reserve(&decoder->line, n * sizeof *sums);
    if (sums == NULL)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a row of %d sums", window->width);
    for (int y = 0; y < window->height; y++)
        sum_rows(in.first + (size_t)(down->first[y] - down->first[0]) * in.stride, in.stride,
                 down->weights + (size_t)y * (size_t)down->width, down->count[y], sums, out + (size_t)y * n, n);
    return MYR_OK;
}

bool myr_resample_may_use_avx512(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") && myr_cpu_may_use("avx2") &&
           myr_cpu_may_use("avx512");
#else
    return false;
#endif
}

#if !defined(__x86_64__)
myr_status myr_resample_avx512(myr_decoder *decoder, const myr_image *in, const myr_window *window, uint8_t *out,
                               bool *done)
{
    (void)decoder, (void)in, (void)window, (void)out;
    *done = false;
    return MYR_OK;
}
#endif

myr_status myr_resample(myr_decoder *decoder, const myr_image *in, int width, int height, const myr_window *window,
                        myr_filter filter, myr_room *out)
{
    size_t n_pixels = 0, n = (size_t)window->width * CHANNELS, in_stride = (size_t)in->width * CHANNELS;
    bool change_width = in->width != width, change_height = in->height != height, done = false;
    int first = window->y, n_rows = window->height;
    myr_status status = MYR_OK;
    if (!myr_mul((size_t)window->width, (size_t)window->height, &n_pixels) || n_pixels > decoder->limits.max_pixels)
        return myr_fail(MYR_ERR_LIMIT, "a resize to %d x %d pixels, above the limit of %llu in all", window->width,
                        window->height, (unsigned long long)decoder->limits.max_pixels);
    uint8_t *pixels = myr_room_reserve(out, n_pixels * CHANNELS);
    if (pixels == NULL)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %d x %d pixels", window->width, window->height);
    if (change_height) {
        const pass down = {.n_in = in->height, .n_out = height, .first = window->y, .n = window->height};
        status = compute_taps(&decoder->down, &down, filter);
        if (status != MYR_OK)
            return status;
        int last = window->height - 1;
        first = decoder->down.first[0];
        n_rows = decoder->down.first[last] + decoder->down.count[last] - first;
    }
    if (change_width)
        status = compute_across(decoder, in, width, window, filter, n_rows);
    if (status == MYR_OK && change_width && change_height && decoder->uses_avx512)
        status = myr_resample_avx512(decoder, in, window, pixels, &done);
    if (status != MYR_OK || done)
        return status;
    rows between = {.first = in->pixels + (size_t)first * in_stride + (size_t)window->x * CHANNELS,
                    .stride = in_stride};
    if (change_width)
        status = narrow(decoder, in, window, first, n_rows, &between);
    if (status != MYR_OK)
        return status;
    if (change_height)
        return flatten(decoder, between, window, pixels);
    for (int y = 0; y < window->height; y++)
        memcpy(pixels + (size_t)y * n, between.first + (size_t)y * between.stride, n);
    return MYR_OK;
}

myr_status myr_decoder_resize(myr_decoder *decoder, const myr_image *in, int width, int height, myr_filter filter,
                              myr_image *out)
{
    myr_status status = myr_image_check(in);
    if (status != MYR_OK)
        return status;
    if (decoder == NULL || out == NULL || width < 1 || height < 1)
        return myr_fail(MYR_ERR_ARG, "a resize to %d x %d pixels", width, height);
    if (filter != MYR_FILTER_BILINEAR && filter != MYR_FILTER_BICUBIC)
        return myr_fail(MYR_ERR_ARG, "no filter has the number %d", (int)filter);
    const myr_window whole = {.width = width, .height = height};
    myr_room *room = &decoder->resized[decoder->next_resized];
    status = myr_resample(decoder, in, width, height, &whole, filter, room);
    if (status != MYR_OK)
        return status;
    decoder->next_resized = 1 - decoder->next_resized;
    *out = (myr_image){.width = width, .height = height, .pixels = room->bytes};
    return MYR_OK;
}
