/*
 * Calibration: what a network must know to compute in 8 bits.
 *
 * The ranges of its inner values, measured on pictures, and the layers that lose too
 * much in 8 bits and stay wider. Kept in a JSON file beside the model card.
 */
#ifndef MYRIOPS_CALIBRATION_H
#define MYRIOPS_CALIBRATION_H

#include "myriops/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct myr_calibration_options {
    const char *backend; /* NULL = the fastest */
    double cosine;       /* least cosine to f32 of the worst picture in 8 bits; layers are kept wide until it holds.
                            0 = 0.99 */
    /* Called now and then with the share done, in [0, 1]; may be NULL. */
    void (*progress)(void *context, double done);
    void *context;
} myr_calibration_options;

/*
 * myr_calibration_measure - run a network over pictures in f32, bf16 and 8 bits.
 *
 * Local. Takes some hundred runs of the network, and up to as many compilations as it has convolutions.
 *
 *  output       the tensor that counts, (batch, dim)
 *  pictures     [in]   (n_pictures, input of one picture) f32, prepared for the network; 32 to 256 typical ones
 *  calibration  [out, owned]  release with myr_calibration_free
 *
 * Returns:  MYR_OK | MYR_ERR_ARG (no pictures) | MYR_ERR_UNSUPPORTED (no convolution to narrow) | what
 *           myr_network_create returns
 * Source:   thresholds by least squared error over histograms; one scale for each output channel of weights
 *           (Krishnamoorthi 2018, arXiv:1806.08342).
 */
MYR_API myr_status myr_calibration_measure(const myr_model *model, const char *output, const float *pictures,
                                           size_t n_pictures, const myr_calibration_options *options,
                                           myr_calibration **calibration);
MYR_API void myr_calibration_free(myr_calibration *calibration); /* NULL is fine */

/* Cosine to f32 of the worst picture measured: of BF16 or INT8. */
MYR_API double myr_calibration_cosine(const myr_calibration *calibration, myr_precision precision);
/* Convolutions of the network, and how many of them stay wide. */
MYR_API size_t myr_calibration_n_layers(const myr_calibration *calibration, size_t *n_wide);
/* Inverted residuals of the network that run in one piece, and how many of them are not in 8 bits; 0 where the processor
 * that measured has none in 8 bits. */
MYR_API size_t myr_calibration_n_blocks(const myr_calibration *calibration, size_t *n_wide);

/* The text it is saved as, JSON; model: digest of the network's files, kept with it. [owned by caller] NULL without
 * memory. */
MYR_API char *myr_calibration_print(const myr_calibration *calibration, const char *model);
/* myr_calibration_save - that text in a file, whole or not at all. */
MYR_API myr_status myr_calibration_save(const myr_calibration *calibration, const char *model, const char *path);
/*
 * myr_calibration_load - read a file made by myr_calibration_save.
 *
 *  model  as given to myr_calibration_save; NULL = any
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND | MYR_ERR_FORMAT (damaged, or of another model) | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_calibration_load(const char *path, const char *model, myr_calibration **calibration);
/* The same from its text; name: for errors. */
MYR_API myr_status myr_calibration_parse(const char *text, size_t size, const char *name, const char *model,
                                         myr_calibration **calibration);

#ifdef __cplusplus
}
#endif
#endif
