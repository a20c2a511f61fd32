/*
 * Encoder: from the bytes of a picture file to a vector, under one contract.
 *
 * A model card (conf/models/NAME.conf) names a network and the preprocessing it
 * was trained with. The contract is a hash over both: vectors of different
 * contracts must never be compared.
 */
#ifndef MYRIOPS_ENCODER_H
#define MYRIOPS_ENCODER_H

#include "myriops/calibration.h"
#include "myriops/image.h"
#include "myriops/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A model card, read and checked. Texts are owned by the card. */
typedef struct myr_card {
    char *name;           /* "efficientnet-lite0" */
    char *title;          /* one line for people */
    char *model_path;     /* the ONNX file */
    char *sha256;         /* of that file, 64 hex digits; NULL when the card gives none */
    char *weights_path;   /* a safetensors file, when the ONNX file holds the graph only; or NULL */
    char *weights_sha256; /* of that file; NULL when the card gives none */
    char *source;
    char *licence;
    char *embedding;        /* output tensor that is the vector */
    char *logits;           /* output tensor of a classifier, or NULL */
    char *metric;           /* "cosine" | "l2" | "ip" */
    char *labels_path;      /* one class name a line, or NULL */
    char *calibration_path; /* beside the card, NAME.calibration.json; it need not exist */
    myr_preprocess preprocess;
} myr_card;

/*
 * myr_card_load - find and read a model card.
 *
 * Local.
 *
 *  name  [in]   a card's path (*.conf), an ONNX file (its card is looked for beside it), or a bare
 *               name, looked up in $MYRIOPS_MODELS, ../conf/models and ../share/myriops/models
 *               relative to the program
 *  card  [out]  release with myr_card_free
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND (the text lists where it looked) | MYR_ERR_FORMAT | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_card_load(const char *name, myr_card **card);
MYR_API void myr_card_free(myr_card *card);

/*
 * myr_card_labels - the class names of a classifier, one a line of labels_path.
 *
 *  labels    [out]  n_labels texts; release each, then the array, with free()
 */
MYR_API myr_status myr_card_labels(const myr_card *card, char ***labels, size_t *n_labels);

/*
 * myr_card_model - the card's network, with weights that lie in other files, each file checked against the card.
 *
 * Local. Reads the model file whole, and of the weights file what the network needs.
 *
 *  model     [out, owned]  release with myr_model_free
 *  identity  [out]         64 hex digits over all its files: what its calibration is bound to
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT (another file than the card's sha256 or weights_sha256 says) | what
 *           myr_model_load and myr_model_load_weights return
 */
MYR_API myr_status myr_card_model(const myr_card *card, myr_model **model, char identity[65]);

/*
 * myr_card_calibration - read the card's calibration.
 *
 *  identity     as myr_card_model tells
 *  calibration  [out, owned]  NULL on failure
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND (the card is not calibrated) | what myr_calibration_load returns
 */
MYR_API myr_status myr_card_calibration(const myr_card *card, const char *identity, myr_calibration **calibration);

typedef struct myr_encoder myr_encoder;               /* weights and settings; read only, shared by threads */
typedef struct myr_encoder_worker myr_encoder_worker; /* one thread's memory for it */

typedef struct myr_encoder_options {
    const char *backend;     /* NULL = the fastest that was built in */
    bool logits;             /* give the classifier's logits, not the embedding */
    int batch;               /* pictures a run; 0 = 8 */
    myr_precision precision; /* zero = f32; INT8 needs the card's calibration */
    /* Above 0: in place of precision, the fastest, timed at the opening, of those whose worst picture had at least this
     * cosine to f32 when the card was calibrated; f32 where it was not. */
    double least_cosine;
    myr_image_limits limits; /* zeros = defaults */
} myr_encoder_options;

/*
 * myr_encoder_open - load a card's network, compile it.
 *
 * Local.
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND (8 bits wanted, card not calibrated) | what myr_card_model, myr_card_calibration
 *           and myr_network_create return
 */
MYR_API myr_status myr_encoder_open(const myr_card *card, const myr_encoder_options *options, myr_encoder **encoder);
MYR_API void myr_encoder_free(myr_encoder *encoder);
MYR_API int myr_encoder_dim(const myr_encoder *encoder);
MYR_API int myr_encoder_batch(const myr_encoder *encoder);
/* What the network computes in. */
MYR_API myr_precision myr_encoder_precision(const myr_encoder *encoder);
/* 64 hex digits over model file, weights in other files, output and preprocessing. [borrowed] */
MYR_API const char *myr_encoder_contract(const myr_encoder *encoder);

MYR_API myr_status myr_encoder_worker_create(const myr_encoder *encoder, myr_encoder_worker **worker);
MYR_API void myr_encoder_worker_free(myr_encoder_worker *worker);

/*
 * myr_encoder_prepare - decode and preprocess one picture into a slot of the batch.
 *
 *  slot   0 <= slot < batch
 *  bytes  [in]  n_bytes of a picture file
 *
 * Returns:  MYR_OK | what myr_decoder_decode returns; then the slot is blank, the others unharmed
 */
MYR_API myr_status myr_encoder_prepare(myr_encoder_worker *worker, int slot, const void *bytes, size_t n_bytes);
/* The same of bytes that are not a file, or of a part of a picture; as myr_decoder_read. */
MYR_API myr_status myr_encoder_prepare_form(myr_encoder_worker *worker, int slot, const myr_form *form,
                                            const void *bytes, size_t n_bytes);

/* myr_encoder_run - the network over all slots. A slot's result does not depend on the other slots. */
MYR_API myr_status myr_encoder_run(myr_encoder_worker *worker);

/*
 * myr_encoder_vector - copy a slot's result.
 *
 *  vector  [out]  (dim) f32; of length 1 when the metric is cosine and embeddings were asked for
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT when the network gave NaN or infinity
 */
MYR_API myr_status myr_encoder_vector(const myr_encoder_worker *worker, int slot, float *vector);

#ifdef __cplusplus
}
#endif
#endif
