/*
 * What the files of image/ share: the decoder's memory, and one function a kind of file.
 *
 * A kind's function checks the sizes its header declares, takes room for the pixels and fills it;
 * decode.c chooses among them and turns what they made upright.
 */
#ifndef MYR_IMAGE_INTERNAL_H
#define MYR_IMAGE_INTERNAL_H

#include "myriops/image.h"

/* Memory that is kept from picture to picture. Its bytes are undefined after a reserve. */
typedef struct myr_room {
    uint8_t *bytes; /* [owned] */
    size_t capacity;
} myr_room;

/* What each output of a resampling pass is made of: weights of neighbouring inputs, in fixed point. */
typedef struct myr_taps {
    myr_room first_room, count_room, weight_room, exact_room;
    int *first, *count; /* of output i: inputs [first[i], first[i] + count[i]) */
    int32_t *weights;   /* of output i: count[i] of them from weights[i * width] */
    double *exact;      /* one output's weights before they are rounded */
    int n, width;
} myr_taps;

struct myr_decoder {
    myr_image_limits limits;
    myr_room pixels;     /* as the file has them */
    myr_room turned;     /* the same, upright */
    myr_room line;       /* of CMYK; of two rows as the horizontal pass reads them; of sums */
    myr_room narrowed;   /* after the horizontal pass */
    myr_room resized[2]; /* used in turn, so that a resized picture can be resized again */
    int next_resized;
    myr_room window;  /* what a crop shows */
    myr_room cropped; /* a part cut out of a picture */
    myr_taps across, down;
    myr_room quads[2]; /* their weights as the AVX-512 passes have them */
    bool uses_avx512;
    const myr_preprocess *shown; /* what of the next picture will be seen; NULL = all of it */
};

/* The part of a resized picture that is wanted. */
typedef struct myr_window {
    int x, y, width, height;
} myr_window;

/* At least n_bytes, or NULL. Memory far above what is asked for goes back to the system. */
void *myr_room_reserve(myr_room *room, size_t n_bytes);
void myr_room_free(myr_room *room);

/*
 * myr_decoder_reserve - room for the pixels of a picture just declared, in decoder->pixels.
 *
 *  kind        "JPEG", for the sentence
 *  n_channels  bytes a pixel while it is decoded
 *  n_kept      bytes a pixel that the kind's library takes besides, such as the coefficients of a progressive JPEG
 */
myr_status myr_decoder_reserve(myr_decoder *decoder, const char *kind, uint64_t width, uint64_t height,
                               size_t n_channels, size_t n_kept);

/* R G B A to R G B on white, in place. */
void myr_lay_on_white(uint8_t *pixels, size_t n_pixels);

/* Each decodes into decoder->pixels. orientation: 1..8 as in EXIF. */
myr_status myr_decode_jpeg(myr_decoder *decoder, const uint8_t *bytes, size_t n_bytes, myr_image *image,
                           int *orientation);
myr_status myr_decode_png(myr_decoder *decoder, const uint8_t *bytes, size_t n_bytes, myr_image *image,
                          int *orientation);
myr_status myr_decode_webp(myr_decoder *decoder, const uint8_t *bytes, size_t n_bytes, myr_image *image,
                           int *orientation);

/* myr_exif_orientation - 1..8 from an EXIF block, with or without "Exif\0\0" before it; 1 where it says nothing or
 * nonsense. */
int myr_exif_orientation(const uint8_t *bytes, size_t n_bytes);
/* myr_turn_upright - the picture as orientation says it is to be seen; image then borrows decoder->turned. */
myr_status myr_turn_upright(myr_decoder *decoder, int orientation, myr_image *image);

/*
 * myr_resample - a window of the picture resized to width x height, in out.
 *
 * Only what the window shows is computed.
 */
myr_status myr_resample(myr_decoder *decoder, const myr_image *in, int width, int height, const myr_window *window,
                        myr_filter filter, myr_room *out);
void myr_taps_free(myr_taps *taps);

/* Whether the processor can, and MYRIOPS_DISABLE_CPU lets it. */
bool myr_resample_may_use_avx512(void);
/*
 * myr_resample_avx512 - both passes at once, with the same levels; decoder->across and down are computed.
 *
 *  out   [out]  window->width x window->height pixels
 *  done  [out]  false: a weight is too large for it, and out is as it was
 */
myr_status myr_resample_avx512(myr_decoder *decoder, const myr_image *in, const myr_window *window, uint8_t *out,
                               bool *done);

/*
 * myr_lay_out_avx512 - n pixels to n values in each of three planes: (level - mean) / std.
 *
 *  mean, std, planes  in the order of the pixels' channels
 */
void myr_lay_out_avx512(const uint8_t *levels, size_t n, const float mean[3], const float std[3],
                        float *const planes[3]);

/* myr_resample_inputs - from outputs [first, first + n) of n_out to the inputs of n_in that they are made of. */
void myr_resample_inputs(int n_in, int n_out, myr_filter filter, int *first, int *n);

/* myr_prepare_inputs - the part of a picture of width x height that myr_decoder_prepare will read; all where it will
 * fail. */
myr_window myr_prepare_inputs(const myr_preprocess *preprocess, int width, int height);

/* NULL pixels, sizes below 1: MYR_ERR_ARG. */
myr_status myr_image_check(const myr_image *image);

#endif
