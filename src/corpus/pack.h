/*
 * A range of items as a message between ranks: the other side needs no corpus.
 */
#ifndef MYR_CORPUS_PACK_H
#define MYR_CORPUS_PACK_H

#include "base/buffer.h"
#include "myriops/corpus.h"

/* myr_corpus_pack - append items [first, first + n) to message. MYR_ERR_ARG outside the corpus. */
myr_status myr_corpus_pack(const myr_corpus *corpus, int64_t first, int64_t n, myr_buffer *message);

/* myr_item_list_unpack - the items of such a message, which is copied. MYR_ERR_FORMAT if damaged. */
myr_status myr_item_list_unpack(const void *message, size_t n_bytes, myr_item_list **list);
void myr_item_list_free(myr_item_list *list);
int64_t myr_item_list_n(const myr_item_list *list);
/* Item i, 0 <= i < n. Texts are borrowed from the list. */
void myr_item_list_item(const myr_item_list *list, int64_t i, myr_item *item);

#endif
