/*
 * Operands to vectors on one rank.
 */
#include "cli/pictures.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/progress.h"

#include <stdlib.h>
#include <string.h>

static myr_status list_items(const char *const *operands, size_t n_operands, const myr_corpus_options *options,
                             myr_item_list **items)
{
    myr_corpus *corpus = NULL;
    myr_buffer message = {0};
    myr_status status = myr_corpus_open(operands, n_operands, options, &corpus);
    if (status == MYR_OK)
        status = myr_corpus_pack(corpus, 0, myr_corpus_n_items(corpus), &message);
    if (status == MYR_OK)
        status = myr_item_list_unpack(message.data, message.size, items);
    myr_buffer_free(&message);
    myr_corpus_free(corpus);
    return status;
}

myr_status myr_pictures_encode(const char *const *operands, size_t n_operands, const myr_corpus_options *options,
                               const myr_encoder *encoder, int n_threads, myr_pictures *pictures)
{
    *pictures = (myr_pictures){.dim = myr_encoder_dim(encoder)};
    double start_s = myr_now_s();
    myr_status status = list_items(operands, n_operands, options, &pictures->items);
    if (status != MYR_OK)
        return status;
    int64_t n = myr_item_list_n(pictures->items), n_good = 0;
    pictures->vectors = myr_alloc((size_t)n, (size_t)pictures->dim * sizeof(float));
    pictures->reasons = myr_alloc((size_t)n, sizeof(char *));
    if (!pictures->vectors || !pictures->reasons)
        status = myr_fail(MYR_ERR_NOMEM, "no memory for %lld pictures", (long long)n);
    else
        status = myr_encode_list(encoder, pictures->items, n_threads, pictures->vectors, pictures->reasons);
    pictures->n = n;
    for (int64_t i = 0; i < n && status == MYR_OK; i++) {
        myr_item item;
        myr_item_list_item(pictures->items, i, &item);
        if (pictures->reasons[i])
            myr_warn("%s: %s; skipped", item.key, pictures->reasons[i]);
        else
            n_good++;
    }
    if (status == MYR_OK && n_good == 0)
        status = myr_fail(MYR_ERR_FORMAT, "none of %lld pictures can be used; the first: %s", (long long)n,
                          pictures->reasons[0]);
    pictures->wall_s = myr_now_s() - start_s;
    if (status != MYR_OK)
        myr_pictures_clear(pictures);
    return status;
}

static myr_status prepare_one(myr_item_reader *reader, myr_decoder *decoder, const myr_item *item, const myr_card *card,
                              float *target)
{
    const void *bytes;
    size_t n_bytes;
    myr_image image;
    if (item->problem)
        return myr_fail(MYR_ERR_FORMAT, "%s", item->problem);
    myr_status status = myr_item_reader_read(reader, item, &bytes, &n_bytes);
    if (status == MYR_OK)
        status = myr_decoder_read(decoder, &item->form, bytes, n_bytes, &image);
    return status == MYR_OK ? myr_decoder_prepare(decoder, &image, &card->preprocess, target) : status;
}

myr_status myr_pictures_prepare(const char *const *operands, size_t n_operands, const myr_card *card, size_t n_most,
                                float **prepared, size_t *n)
{
    myr_item_list *items = NULL;
    myr_item_reader *reader = NULL;
    myr_decoder *decoder = NULL;
    size_t per_picture = 3 * (size_t)card->preprocess.width * (size_t)card->preprocess.height;
    *prepared = NULL;
    *n = 0;
    myr_status status = list_items(operands, n_operands, &(myr_corpus_options){0}, &items);
    if (status == MYR_OK)
        status = myr_item_reader_create(&reader);
    if (status == MYR_OK)
        status = myr_decoder_create(&(myr_image_limits){0}, &decoder);
    int64_t n_items = status == MYR_OK ? myr_item_list_n(items) : 0;
    n_most = (int64_t)n_most < n_items ? n_most : (size_t)n_items;
    if (status == MYR_OK) {
        *prepared = myr_alloc(n_most * per_picture, sizeof(float));
        if (!*prepared)
            status = myr_fail(MYR_ERR_NOMEM, "no memory for %zu pictures", n_most);
    }
    for (size_t i = 0; i < n_most && status == MYR_OK; i++) {
        myr_item item;
        myr_item_list_item(items, (int64_t)(i * (size_t)n_items / n_most), &item);
        if (prepare_one(reader, decoder, &item, card, *prepared + *n * per_picture) == MYR_OK)
            ++*n;
        else
            myr_warn("%s: %s; skipped", item.key, myr_error_detail());
    }
    if (status == MYR_OK && *n == 0)
        status = myr_fail(MYR_ERR_FORMAT, "none of the pictures can be used");
    if (status != MYR_OK) {
        free(*prepared);
        *prepared = NULL;
    }
    myr_decoder_free(decoder);
    myr_item_reader_free(reader);
    myr_item_list_free(items);
    return status;
}

void myr_cli_data_sets(const myr_config *config, myr_corpus_options *options)
{
    options->crop_objects = myr_config_flag(config, "crop-objects");
    options->coarse_labels = myr_config_flag(config, "coarse-labels");
    options->synsets = myr_config_text(config, "synsets");
}

#define AUTO_COSINE 0.9995

myr_precision myr_cli_precision(const myr_config *config, double *least_cosine)
{
    const char *name = myr_config_text(config, "precision");
    double wish = myr_config_real(config, "cosine");
    *least_cosine = strcmp(name, "auto") == 0 ? (wish > 0 ? wish : AUTO_COSINE) : 0;
    return strcmp(name, "int8") == 0   ? MYR_PRECISION_INT8
           : strcmp(name, "bf16") == 0 ? MYR_PRECISION_BF16
                                       : MYR_PRECISION_F32;
}

void myr_pictures_clear(myr_pictures *pictures)
{
    for (int64_t i = 0; pictures->reasons && i < pictures->n; i++)
        free(pictures->reasons[i]);
    free(pictures->reasons);
    free(pictures->vectors);
    myr_item_list_free(pictures->items);
    *pictures = (myr_pictures){0};
}
