/*
 * Pictures: decoding, antialiased resizing, preparation for a network.
 *
 * The arithmetic of resizing is Pillow's, grey level for grey level, because
 * the networks people bring were trained and published behind it.
 */
#ifndef MYRIOPS_IMAGE_H
#define MYRIOPS_IMAGE_H

#include "myriops/form.h"
#include "myriops/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Pixels: (height, width, 3) u8, R G B, no padding between rows. */
typedef struct myr_image {
    int width, height;
    const uint8_t *pixels; /* [borrowed] from the decoder that made it */
} myr_image;

/* What a hostile file may cost. Checked against the header, before memory is taken. 0 = the default. */
typedef struct myr_image_limits {
    uint64_t max_pixels; /* width x height; default 178,956,970 (Pillow's limit, twice its warning) */
    uint64_t max_bytes;  /* of the file; default 256 MiB */
    uint64_t max_memory; /* bytes for its pixels and what the kind's library keeps of them; default 1 GiB */
} myr_image_limits;

typedef enum myr_filter { MYR_FILTER_BILINEAR, MYR_FILTER_BICUBIC } myr_filter;

typedef enum myr_resize_rule {
    MYR_RESIZE_SHORTER, /* the shorter side becomes resize_to, then a centre crop */
    MYR_RESIZE_STRETCH, /* both sides become width and height */
    MYR_RESIZE_LONGER   /* the whole picture fits into width x height, centred on white */
} myr_resize_rule;

/* How a picture is prepared for a network: value = (level - mean) / std, levels in 0..255. */
typedef struct myr_preprocess {
    int width, height; /* of the network's input */
    myr_resize_rule rule;
    int resize_to; /* MYR_RESIZE_SHORTER only; >= width and height wherever the crop needs it, else edges are white */
    myr_filter filter;
    float mean[3], std[3]; /* by channel, in the order the network wants them */
    bool bgr;              /* the network wants B G R */
} myr_preprocess;

/* Memory for decoding and resizing, reused from picture to picture. One a thread. */
typedef struct myr_decoder myr_decoder;

/* limits: NULL = defaults. */
MYR_API myr_status myr_decoder_create(const myr_image_limits *limits, myr_decoder **decoder);
MYR_API void myr_decoder_free(myr_decoder *decoder); /* NULL is fine; its images end */

/*
 * myr_decoder_decode - the pixels of a JPEG, PNG or WebP file, told apart by their first bytes.
 *
 * Local. Palette, grey, 16-bit, CMYK and YCCK become 8-bit RGB; alpha is composited on white;
 * EXIF orientation is applied. An animated WebP gives its first frame.
 *
 *  bytes  [in]             n_bytes of a whole file
 *  image  [out, borrowed]  until the next decode on this decoder
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT (damaged, ends early, no picture) | MYR_ERR_UNSUPPORTED (a kind that is
 *           not read: GIF, TIFF, BMP, HEIF, AVIF..., named) | MYR_ERR_LIMIT | MYR_ERR_NOMEM. The detail is one
 *           sentence without the file's name, which the decoder does not know.
 */
MYR_API myr_status myr_decoder_decode(myr_decoder *decoder, const void *bytes, size_t n_bytes, myr_image *image);

/*
 * myr_decoder_crop - a part of a picture.
 *
 * Local.
 *
 *  in   [in]             may be what this decoder decoded
 *  box  [in]             what of it lies outside of the picture is left out
 *  out  [out, borrowed]  until the next crop on this decoder
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_FORMAT (nothing is left) | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_decoder_crop(myr_decoder *decoder, const myr_image *in, const myr_box *box, myr_image *out);

/*
 * myr_decoder_read - the picture that an item's bytes are: a file decoded or bare levels, then the part that is wanted.
 *
 * Local. Bare levels are taken as they are: R G B, or grey.
 *
 *  bytes  [in]             n_bytes; of bare levels exactly width x height x n_channels
 *  image  [out, borrowed]  until the next decode, read or crop on this decoder
 *
 * Returns:  as myr_decoder_decode and myr_decoder_crop
 */
MYR_API myr_status myr_decoder_read(myr_decoder *decoder, const myr_form *form, const void *bytes, size_t n_bytes,
                                    myr_image *image);

/*
 * myr_decoder_resize - antialiased resize.
 *
 * Local. Separable: horizontal, then vertical, 8-bit levels between the two, coefficients in
 * fixed point of 22 bits. The filter's support grows with the factor of shrinking.
 *
 *  in            [in]             may be what this decoder decoded
 *  out           [out, borrowed]  width x height; until the next resize or prepare on this decoder
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_LIMIT | MYR_ERR_NOMEM
 * Source:   Pillow, Image.resize with BILINEAR and BICUBIC (a = -0.5).
 */
MYR_API myr_status myr_decoder_resize(myr_decoder *decoder, const myr_image *in, int width, int height, myr_filter filter,
                                      myr_image *out);

/*
 * myr_decoder_prepare - resize, crop, normalise, lay out for a network.
 *
 * Local.
 *
 *  out  [out]  (3, height, width) f32
 *
 * MYR_RESIZE_SHORTER: the other side is rounded half to even; crop offsets are rounded down. Equal to resizing the
 * whole picture and cropping, but only what the crop shows is computed.
 */
MYR_API myr_status myr_decoder_prepare(myr_decoder *decoder, const myr_image *image, const myr_preprocess *preprocess,
                                       float *out);

/*
 * myr_decoder_read_prepared - myr_decoder_read, then myr_decoder_prepare: the same values, the same errors, sooner.
 *
 * Local. Of a JPEG only the part that the network will see is turned into pixels.
 *
 *  out  [out]  (3, height, width) f32
 *
 * Returns:  as myr_decoder_read and myr_decoder_prepare
 */
MYR_API myr_status myr_decoder_read_prepared(myr_decoder *decoder, const myr_form *form, const void *bytes,
                                             size_t n_bytes, const myr_preprocess *preprocess, float *out);

/*
 * myr_jpeg_encode - a picture as a JPEG file.
 *
 *  quality  1..100
 *  bytes    [out, owned by caller]  release with free()
 */
MYR_API myr_status myr_jpeg_encode(const myr_image *image, int quality, void **bytes, size_t *n_bytes);

#ifdef __cplusplus
}
#endif
#endif
