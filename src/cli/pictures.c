/*
 * Operands to vectors on one rank.
 */
#include "cli/pictures.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/progress.h"

#include <stdlib.h>

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

void myr_pictures_clear(myr_pictures *pictures)
{
    for (int64_t i = 0; pictures->reasons && i < pictures->n; i++)
        free(pictures->reasons[i]);
    free(pictures->reasons);
    free(pictures->vectors);
    myr_item_list_free(pictures->items);
    *pictures = (myr_pictures){0};
}
