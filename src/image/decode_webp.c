/*
 * WebP, through libwebp: still pictures straight into the decoder's room, lossy, lossless or with alpha;
 * of an animation the first frame on its canvas. Alpha is laid on white.
 */
#include "image/internal.h"

#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

#define RIFF_HEADER_BYTES 8

static myr_status explain(VP8StatusCode code)
{
    switch (code) {
    case VP8_STATUS_OUT_OF_MEMORY:
        return myr_fail(MYR_ERR_NOMEM, "not enough memory for a WebP");
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return myr_fail(MYR_ERR_FORMAT, "WebP ends early");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return myr_fail(MYR_ERR_UNSUPPORTED, "WebP with a feature libwebp does not know");
    default:
        return myr_fail(MYR_ERR_FORMAT, "WebP: its data is damaged");
    }
}

/* The container says how long it is: a file shorter than that was cut. */
static bool is_cut(const uint8_t *bytes, size_t n_bytes)
{
    uint32_t declared =
        (uint32_t)bytes[4] | (uint32_t)bytes[5] << 8 | (uint32_t)bytes[6] << 16 | (uint32_t)bytes[7] << 24;
    return n_bytes - RIFF_HEADER_BYTES < declared;
}

static int find_orientation(const uint8_t *bytes, size_t n_bytes)
{
    WebPData data = {.bytes = bytes, .size = n_bytes};
    WebPChunkIterator chunk;
    int orientation = 1;
    if (memmem(bytes, n_bytes, "EXIF", 4) == NULL)
        return 1;
    WebPDemuxer *parts = WebPDemux(&data);
    if (parts == NULL)
        return 1;
    if (WebPDemuxGetChunk(parts, "EXIF", 1, &chunk)) {
        orientation = myr_exif_orientation(chunk.chunk.bytes, chunk.chunk.size);
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    WebPDemuxDelete(parts);
    return orientation;
}

static myr_status decode_still(uint8_t *pixels, const uint8_t *bytes, size_t n_bytes,
                               const WebPBitstreamFeatures *features)
{
    WebPDecoderConfig config;
    size_t stride = (size_t)features->width * (features->has_alpha ? 4 : 3);
    if (!WebPInitDecoderConfig(&config))
        return myr_fail(MYR_ERR_INTERNAL, "libwebp is of another version than its header");
    config.output.colorspace = features->has_alpha ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = pixels;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = stride * (size_t)features->height;
    VP8StatusCode code = WebPDecode(bytes, n_bytes, &config);
    WebPFreeDecBuffer(&config.output);
    return code == VP8_STATUS_OK ? MYR_OK : explain(code);
}

static myr_status decode_first_frame(uint8_t *pixels, const uint8_t *bytes, size_t n_bytes,
                                     const WebPBitstreamFeatures *features)
{
    WebPData data = {.bytes = bytes, .size = n_bytes};
    WebPAnimDecoderOptions options;
    WebPAnimInfo info;
    uint8_t *canvas;
    int end_ms;
    if (!WebPAnimDecoderOptionsInit(&options))
        return myr_fail(MYR_ERR_INTERNAL, "libwebpdemux is of another version than its header");
    options.color_mode = MODE_RGBA;
    WebPAnimDecoder *frames = WebPAnimDecoderNew(&data, &options);
    if (frames == NULL)
        return explain(VP8_STATUS_BITSTREAM_ERROR);
    bool fine = WebPAnimDecoderGetInfo(frames, &info) && info.canvas_width == (uint32_t)features->width &&
                info.canvas_height == (uint32_t)features->height && WebPAnimDecoderGetNext(frames, &canvas, &end_ms);
    if (fine)
        memcpy(pixels, canvas, (size_t)features->width * (size_t)features->height * 4);
    WebPAnimDecoderDelete(frames);
    return fine ? MYR_OK : explain(VP8_STATUS_BITSTREAM_ERROR);
}

/* Bytes a pixel that libwebp takes: two canvases and a frame of an animation; the whole of a lossless picture. */
static size_t kept_bytes(const WebPBitstreamFeatures *features)
{
    enum { LOSSY = 1 };
    if (features->has_animation)
        return 12;
    return features->format != LOSSY ? 4 : features->has_alpha ? 1 : 0;
}

myr_status myr_decode_webp(myr_decoder *decoder, const uint8_t *bytes, size_t n_bytes, myr_image *image,
                           int *orientation)
{
    WebPBitstreamFeatures features;
    VP8StatusCode code = WebPGetFeatures(bytes, n_bytes, &features);
    if (code != VP8_STATUS_OK)
        return explain(code);
    if (features.width < 1 || features.height < 1)
        return explain(VP8_STATUS_BITSTREAM_ERROR);
    if (is_cut(bytes, n_bytes))
        return explain(VP8_STATUS_NOT_ENOUGH_DATA);
    bool has_alpha = features.has_alpha || features.has_animation;
    myr_status status = myr_decoder_reserve(decoder, "WebP", (uint64_t)features.width, (uint64_t)features.height,
                                            has_alpha ? 4 : 3, kept_bytes(&features));
    if (status != MYR_OK)
        return status;
    uint8_t *pixels = decoder->pixels.bytes;
    status = features.has_animation ? decode_first_frame(pixels, bytes, n_bytes, &features)
                                    : decode_still(pixels, bytes, n_bytes, &features);
    if (status != MYR_OK)
        return status;
    if (has_alpha)
        myr_lay_on_white(pixels, (size_t)features.width * (size_t)features.height);
    *orientation = find_orientation(bytes, n_bytes);
    *image = (myr_image){.width = features.width, .height = features.height, .pixels = pixels};
    return MYR_OK;
}
