/*
 * Files that lie, end early or were damaged: an error with a sentence, never a crash, never memory for a
 * size that is only declared. Built with MYRIOPS_SANITIZE this is a small fuzzer with a fixed seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/rng.h"
#include "myriops/image.h"

#include <spng.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <webp/encode.h>

#define WIDTH 37
#define HEIGHT 29
#define N_DAMAGED 3000

typedef struct file {
    const char *kind;
    uint8_t *bytes; /* [owned] malloc */
    size_t n_bytes;
} file;

static myr_decoder *decoder;
static uint8_t pixels[WIDTH * HEIGHT * 4];
static file files[5];

static uint8_t *copy_bytes(const void *bytes, size_t n_bytes)
{
    uint8_t *copy = malloc(n_bytes ? n_bytes : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, n_bytes);
    return copy;
}

static file make_jpeg(int quality)
{
    const myr_image image = {WIDTH, HEIGHT, pixels};
    file made = {.kind = "JPEG"};
    void *bytes = NULL;
    assert_int_equal(myr_jpeg_encode(&image, quality, &bytes, &made.n_bytes), MYR_OK);
    made.bytes = bytes;
    return made;
}

static file make_png(uint8_t color_type, bool interlaced)
{
    file made = {.kind = "PNG"};
    int code = 0;
    struct spng_ihdr header = {.width = WIDTH,
                               .height = HEIGHT,
                               .bit_depth = 8,
                               .color_type = color_type,
                               .interlace_method = interlaced ? SPNG_INTERLACE_ADAM7 : SPNG_INTERLACE_NONE};
    spng_ctx *png = spng_ctx_new(SPNG_CTX_ENCODER);
    assert_non_null(png);
    spng_set_option(png, SPNG_ENCODE_TO_BUFFER, 1);
    spng_set_ihdr(png, &header);
    size_t n_channels = color_type == SPNG_COLOR_TYPE_TRUECOLOR_ALPHA ? 4 : 3;
    assert_int_equal(spng_encode_image(png, pixels, WIDTH * HEIGHT * n_channels, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE),
                     0);
    made.bytes = spng_get_png_buffer(png, &made.n_bytes, &code);
    assert_int_equal(code, 0);
    spng_ctx_free(png);
    return made;
}

static file make_webp(bool lossless)
{
    file made = {.kind = "WebP"};
    uint8_t *bytes = NULL;
    made.n_bytes = lossless ? WebPEncodeLosslessRGBA(pixels, WIDTH, HEIGHT, WIDTH * 4, &bytes)
                            : WebPEncodeRGBA(pixels, WIDTH, HEIGHT, WIDTH * 4, 75, &bytes);
    made.bytes = copy_bytes(bytes, made.n_bytes);
    WebPFree(bytes);
    return made;
}

static int set_up(void **state)
{
    (void)state;
    myr_rng rng;
    myr_rng_seed(&rng, 7);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i / 5 + myr_rng_below(&rng, 24));
    assert_int_equal(myr_decoder_create(NULL, &decoder), MYR_OK);
    files[0] = make_jpeg(80);
    files[1] = make_png(SPNG_COLOR_TYPE_TRUECOLOR, false);
    files[2] = make_png(SPNG_COLOR_TYPE_TRUECOLOR_ALPHA, true);
    files[3] = make_webp(false);
    files[4] = make_webp(true);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        free(files[i].bytes);
    myr_decoder_free(decoder);
    return 0;
}

/* Decodes from a block of just that size, so that a read past its end is seen; touches every pixel made. */
static myr_status decode(const void *bytes, size_t n_bytes)
{
    myr_image image;
    uint8_t *exact = copy_bytes(bytes, n_bytes);
    myr_status status = myr_decoder_decode(decoder, exact, n_bytes, &image);
    free(exact);
    if (status != MYR_OK) {
        assert_null(image.pixels);
        assert_true(strlen(myr_error_detail()) > 0);
        return status;
    }
    volatile unsigned sum = 0;
    for (size_t i = 0; i < (size_t)image.width * (size_t)image.height * 3; i++)
        sum += image.pixels[i];
    return MYR_OK;
}

static void expect(myr_status status, const char *sentence, const void *bytes, size_t n_bytes)
{
    assert_int_equal(decode(bytes, n_bytes), status);
    if (strstr(myr_error_detail(), sentence) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", myr_error_detail(), sentence);
}

static void what_is_no_picture_says_so(void **state)
{
    (void)state;
    expect(MYR_ERR_FORMAT, "the file is empty", "", 0);
    expect(MYR_ERR_FORMAT, "begins with \"Not found\"", "Not found", 9);
    expect(MYR_ERR_FORMAT, "begins with \"<!DOCTYPE html> \"", "<!DOCTYPE html>\n<html><svg>", 20);
    expect(MYR_ERR_FORMAT, "begins with 00 01 fe", "\0\1\xfe", 3);
    expect(MYR_ERR_FORMAT, "begins with", "BM is a shop", 12);
    for (int byte = 0; byte < 256; byte++)
        assert_int_equal(decode(&(uint8_t){(uint8_t)byte}, 1), MYR_ERR_FORMAT);
}

static void other_kinds_are_named(void **state)
{
    (void)state;
    const struct {
        const char *name, *bytes;
        size_t n_bytes;
    } others[] = {
        {"GIF", "GIF89a\1\0\1\0", 10},
        {"BMP", "BM\x46\0\0\0\0\0\0\0\x36\0\0\0", 14},
        {"TIFF", "II*\0\x08\0\0\0", 8},
        {"TIFF", "MM\0*\0\0\0\x08", 8},
        {"AVIF",
         "\0\0\0\x1c"
         "ftypavif\0\0\0\0",
         16},
        {"HEIF",
         "\0\0\0\x1c"
         "ftypheic\0\0\0\0",
         16},
        {"JPEG XL", "\xff\x0a\xfa\x1f", 4},
        {"JPEG 2000", "\0\0\0\x0cjP  \r\n\x87\n", 12},
        {"ICO", "\0\0\1\0\1\0", 6},
        {"PSD", "8BPS\0\1", 6},
        {"PNM", "P6\n2 2\n255\n", 11},
        {"SVG", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>", 41},
        {"SVG", "<?xml version=\"1.0\"?>\n<svg width=\"1\"/>", 38},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        expect(MYR_ERR_UNSUPPORTED, others[i].name, others[i].bytes, others[i].n_bytes);
}

static void sound_files_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        assert_int_equal(decode(files[i].bytes, files[i].n_bytes), MYR_OK);
}

static void every_prefix_is_an_error(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        /* Of a PNG's end only the checksum of nothing may be missing. */
        size_t n_spare = strcmp(files[i].kind, "PNG") == 0 ? 4 : 0;
        for (size_t n = 0; n < files[i].n_bytes - n_spare; n++) {
            if (decode(files[i].bytes, n) == MYR_OK)
                fail_msg("%s: %zu of %zu bytes were taken for a whole file", files[i].kind, n, files[i].n_bytes);
        }
        for (size_t quarters = 1; quarters < 4; quarters++)
            assert_int_equal(decode(files[i].bytes, files[i].n_bytes * quarters / 4), MYR_ERR_FORMAT);
        assert_non_null(strstr(myr_error_detail(), "ends early"));
    }
}

/* Checksums cover all of a PNG. */
static void damage_to_a_png_is_always_found(void **state)
{
    (void)state;
    const file *sound = &files[1];
    uint8_t *bytes = copy_bytes(sound->bytes, sound->n_bytes);
    for (size_t i = 0; i < sound->n_bytes - 4; i++) {
        bytes[i] ^= 0x10;
        assert_int_not_equal(decode(bytes, sound->n_bytes), MYR_OK);
        bytes[i] ^= 0x10;
    }
    free(bytes);
}

static void damage_never_crashes(void **state)
{
    (void)state;
    myr_rng rng;
    myr_rng_seed(&rng, 20);
    size_t n_errors = 0;
    for (size_t i = 0; i < N_DAMAGED; i++) {
        const file *sound = &files[i % (sizeof files / sizeof *files)];
        uint8_t *bytes = copy_bytes(sound->bytes, sound->n_bytes);
        for (uint64_t j = myr_rng_below(&rng, 3) + 1; j > 0; j--)
            bytes[myr_rng_below(&rng, sound->n_bytes)] = (uint8_t)myr_rng_next(&rng);
        n_errors += decode(bytes, sound->n_bytes) != MYR_OK;
        free(bytes);
    }
    assert_true(n_errors > N_DAMAGED / 10);
}

static void put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t crc_of(const uint8_t *bytes, size_t n_bytes)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n_bytes; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320 & -(crc & 1));
    }
    return ~crc;
}

static long peak_kib(void)
{
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_maxrss;
}

static void sizes_are_checked_before_memory_is_taken(void **state)
{
    (void)state;
    const uint32_t sides[][2] = {{100000, 100000}, {0x7fffffff, 0x7fffffff}, {0x7fffffff, 1}};
    long before = peak_kib();
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        uint8_t *png = copy_bytes(files[1].bytes, files[1].n_bytes);
        put_u32(png + 16, sides[i][0]);
        put_u32(png + 20, sides[i][1]);
        put_u32(png + 29, crc_of(png + 12, 17));
        expect(MYR_ERR_LIMIT, "above the limit", png, files[1].n_bytes);
        free(png);
    }
    uint8_t *jpeg = copy_bytes(files[0].bytes, files[0].n_bytes);
    uint8_t *frame = memmem(jpeg, files[0].n_bytes, "\xff\xc0", 2);
    assert_non_null(frame);
    memset(frame + 5, 0xfa, 4);
    expect(MYR_ERR_LIMIT, "above the limit", jpeg, files[0].n_bytes);
    free(jpeg);
    assert_true(peak_kib() - before < 64 << 10);
}

/* A size within the limit, but nothing behind it: an error, and no pages touched for it. */
static void a_size_that_is_only_declared_costs_little(void **state)
{
    (void)state;
    uint8_t *png = copy_bytes(files[1].bytes, files[1].n_bytes);
    put_u32(png + 16, 13000);
    put_u32(png + 20, 13000);
    put_u32(png + 29, crc_of(png + 12, 17));
    long before = peak_kib();
    expect(MYR_ERR_FORMAT, "PNG", png, files[1].n_bytes);
    free(png);
#ifndef __SANITIZE_ADDRESS__
    assert_true(peak_kib() - before < 64 << 10);
#else
    (void)before;
#endif
}

static void limits_are_the_callers(void **state)
{
    (void)state;
    myr_decoder *strict = NULL;
    myr_image image;
    myr_image_limits limits = {.max_pixels = WIDTH * HEIGHT - 1};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        assert_int_equal(myr_decoder_create(&limits, &strict), MYR_OK);
        assert_int_equal(myr_decoder_decode(strict, files[i].bytes, files[i].n_bytes, &image), MYR_ERR_LIMIT);
        assert_non_null(strstr(myr_error_detail(), files[i].kind));
        myr_decoder_free(strict);
    }
    limits = (myr_image_limits){.max_bytes = 10};
    assert_int_equal(myr_decoder_create(&limits, &strict), MYR_OK);
    assert_int_equal(myr_decoder_decode(strict, files[0].bytes, files[0].n_bytes, &image), MYR_ERR_LIMIT);
    myr_decoder_free(strict);
    myr_decoder_free(NULL);
    assert_int_equal(myr_decoder_decode(NULL, files[0].bytes, 1, &image), MYR_ERR_ARG);
    assert_int_equal(myr_decoder_decode(decoder, NULL, 1, &image), MYR_ERR_ARG);
    assert_int_equal(myr_decoder_decode(decoder, files[0].bytes, 1, NULL), MYR_ERR_ARG);
}

/* What is taken besides the pixels counts: coefficients of a progressive file, the whole of a lossless one. */
static void memory_is_limited_as_well(void **state)
{
    (void)state;
    enum { MANY = WIDTH * HEIGHT };
    static const uint64_t bytes_a_pixel[] = {3, 3, 4, 4 + 1, 4 + 4}; /* as `files` are; WebP: alpha, all levels */
    myr_decoder *strict = NULL;
    myr_image image;
    myr_buffer progressive = {0};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        for (int short_of = 0; short_of < 2; short_of++) {
            myr_image_limits limits = {.max_memory = MANY * bytes_a_pixel[i] - (uint64_t)short_of};
            assert_int_equal(myr_decoder_create(&limits, &strict), MYR_OK);
            assert_int_equal(myr_decoder_decode(strict, files[i].bytes, files[i].n_bytes, &image),
                             short_of ? MYR_ERR_LIMIT : MYR_OK);
            assert_true(!short_of || strstr(myr_error_detail(), "bytes in all"));
            myr_decoder_free(strict);
        }
    }
    static const uint8_t head[] = {0xff, 0xd8, 0xff, 0xc2, 0, 17,   8, 0x30, 0,    0x30, 0,
                                   3,    1,    0x11, 0,    2, 0x11, 0, 3,    0x11, 0}; /* 12288 x 12288, 3 components */
    static const uint8_t scan[] = {0xff, 0xda, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 0, 0};
    myr_buffer_append(&progressive, head, sizeof head);
    myr_buffer_append(&progressive, scan, sizeof scan);
    long before = peak_kib();
    expect(MYR_ERR_LIMIT, "9 bytes a pixel", progressive.data, progressive.size);
    assert_true(peak_kib() - before < 64 << 10);
    myr_buffer_free(&progressive);
}

/* A progressive file may repeat a scan without end; the header and last scan of one, some hundred times over. */
static void scan_bombs_are_refused(void **state)
{
    (void)state;
    static const uint8_t head[] = {
        0xff, 0xd8, 0xff, 0xc2, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0,       /* one component, 8 x 8, progressive */
        0xff, 0xdb, 0,    67,   0, 1,  1, 1, 1, 1, 1, 1, 1, 1,    1, 1, 1, /* all divisors 1 */
        1,    1,    1,    1,    1, 1,  1, 1, 1, 1, 1, 1, 1, 1,    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1,    1,    1,    1,    1, 1,  1, 1, 1, 1, 1, 1, 1, 1,    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1,    1,    0xff, 0xc4, 0, 20, 0, 1, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* code 0: difference 0
                                                                                                 */
    };
    static const uint8_t scan[] = {0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0, 0x7f};
    static const uint8_t end[] = {0xff, 0xd9};
    for (int n_scans = 10; n_scans <= 1000; n_scans *= 10) {
        myr_buffer bomb = {0};
        myr_buffer_append(&bomb, head, sizeof head);
        for (int i = 0; i < n_scans; i++)
            myr_buffer_append(&bomb, scan, sizeof scan);
        myr_buffer_append(&bomb, end, sizeof end);
        if (n_scans < 500)
            assert_int_equal(decode(bomb.data, bomb.size), MYR_OK);
        else
            expect(MYR_ERR_LIMIT, "scans", bomb.data, bomb.size);
        myr_buffer_free(&bomb);
    }
}

/* An orientation block whose every byte lies: the picture is still there. */
static void hostile_exif_turns_nothing_over(void **state)
{
    (void)state;
    static const uint8_t sound[] = {'E',  'x', 'i', 'f', 0, 0, 'I', 'I', '*', 0, 8, 0, 0, 0, 1, 0,
                                    0x12, 1,   3,   0,   1, 0, 0,   0,   6,   0, 0, 0, 0, 0, 0, 0};
    myr_rng rng;
    myr_rng_seed(&rng, 5);
    for (int i = 0; i < 2000; i++) {
        uint8_t block[sizeof sound];
        size_t n = i < (int)sizeof sound ? (size_t)i : sizeof sound;
        memcpy(block, sound, sizeof sound);
        if (n == sizeof sound)
            block[6 + myr_rng_below(&rng, n - 6)] = (uint8_t)myr_rng_next(&rng);
        const uint8_t marker[] = {0xff, 0xd8, 0xff, 0xe1, 0, (uint8_t)(n + 2)};
        myr_buffer jpeg = {0};
        myr_buffer_append(&jpeg, marker, sizeof marker);
        myr_buffer_append(&jpeg, block, n);
        myr_buffer_append(&jpeg, files[0].bytes + 2, files[0].n_bytes - 2);
        assert_int_equal(decode(jpeg.data, jpeg.size), MYR_OK);
        myr_buffer_free(&jpeg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_picture_says_so),
        cmocka_unit_test(other_kinds_are_named),
        cmocka_unit_test(sound_files_are_read),
        cmocka_unit_test(sizes_are_checked_before_memory_is_taken),
        cmocka_unit_test(a_size_that_is_only_declared_costs_little),
        cmocka_unit_test(every_prefix_is_an_error),
        cmocka_unit_test(damage_to_a_png_is_always_found),
        cmocka_unit_test(damage_never_crashes),
        cmocka_unit_test(limits_are_the_callers),
        cmocka_unit_test(memory_is_limited_as_well),
        cmocka_unit_test(scan_bombs_are_refused),
        cmocka_unit_test(hostile_exif_turns_nothing_over),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
