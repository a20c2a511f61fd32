/*
 * Items as a message: magic, count, first ordinal; then for each item key, source (absent =
 * as the item before), offset, size, flags, form (only where the flags say so), label, label name,
 * problem.
 */
#include "corpus/pack.h"
#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

#define MAGIC INT64_C(0x324d455449525950) /* "PYRITEM2" in a little-endian file */
#define LEAST_ITEM_BYTES 32               /* four numbers alone; more than any honest item falls below */

enum { FLAG_PART = 1, FLAG_FORM = 2, CODING_SHIFT = 2, FLAGS_END = (MYR_CODING_HDF5 + 1) << CODING_SHIFT };

struct myr_item_list {
    void *message; /* [owned] the texts live here */
    myr_item *items;
    int64_t n;
};

static bool is_file(const myr_form *form)
{
    return form->width == 0 && form->box.width == 0;
}

static void put_form(myr_buffer *message, const myr_form *form)
{
    const myr_box *box = &form->box;
    const int64_t numbers[8] = {form->width, form->height, form->n_channels, form->planar,
                                box->x,      box->y,       box->width,       box->height};
    for (size_t i = 0; i < 8; i++)
        myr_buffer_put_i64(message, numbers[i]);
}

/* false where the numbers make no sense. */
static bool take_form(myr_cursor *cursor, myr_form *form)
{
    int64_t numbers[8];
    for (size_t i = 0; i < 8; i++) {
        numbers[i] = myr_cursor_i64(cursor);
        if (numbers[i] > INT32_MAX || numbers[i] < (i == 4 || i == 5 ? INT32_MIN : 0))
            return false;
    }
    *form = (myr_form){.width = (int32_t)numbers[0], .height = (int32_t)numbers[1], .n_channels = (int32_t)numbers[2],
                       .planar = numbers[3] != 0,
                       .box = {(int32_t)numbers[4], (int32_t)numbers[5], (int32_t)numbers[6], (int32_t)numbers[7]}};
    return !cursor->failed && numbers[3] <= 1;
}

myr_status myr_corpus_pack(const myr_corpus *corpus, int64_t first, int64_t n, myr_buffer *message)
{
    int64_t n_items = myr_corpus_n_items(corpus);
    if (first < 0 || n < 0 || first > n_items || n > n_items - first)
        return myr_fail(MYR_ERR_ARG, "items from %lld, %lld of them: the corpus has %lld", (long long)first,
                        (long long)n, (long long)n_items);
    const char *source = NULL;
    myr_buffer_put_i64(message, MAGIC);
    myr_buffer_put_i64(message, n);
    myr_buffer_put_i64(message, first);
    for (int64_t i = 0; i < n; i++) {
        myr_item item;
        myr_status status = myr_corpus_item(corpus, first + i, &item);
        if (status != MYR_OK)
            return status;
        myr_buffer_put_text(message, item.key);
        myr_buffer_put_text(message, source == item.source ? NULL : item.source);
        myr_buffer_put_i64(message, (int64_t)item.offset);
        myr_buffer_put_i64(message, (int64_t)item.n_bytes);
        int64_t flags = (item.in_tar ? FLAG_PART : 0) | (is_file(&item.form) ? 0 : FLAG_FORM);
        myr_buffer_put_i64(message, flags | (int64_t)item.coding << CODING_SHIFT);
        if (flags & FLAG_FORM)
            put_form(message, &item.form);
        myr_buffer_put_i64(message, item.label);
        myr_buffer_put_text(message, item.label_name);
        myr_buffer_put_text(message, item.problem);
        source = item.source;
    }
    if (message->failed)
        return myr_fail(MYR_ERR_NOMEM, "not enough memory for a message of %lld items", (long long)n);
    return MYR_OK;
}

myr_status myr_item_list_unpack(const void *message, size_t n_bytes, myr_item_list **out)
{
    *out = NULL;
    const char *why = "cut or damaged";
    myr_status status = MYR_OK;
    myr_item_list *list = myr_alloc(1, sizeof *list);
    if (list == NULL || (list->message = myr_alloc(n_bytes, 1)) == NULL) {
        status = myr_fail(MYR_ERR_NOMEM, "not enough memory for a message of %zu bytes", n_bytes);
        goto done;
    }
    if (n_bytes > 0)
        memcpy(list->message, message, n_bytes);
    myr_cursor cursor = {.data = list->message, .size = n_bytes};
    int64_t magic = myr_cursor_i64(&cursor), n = myr_cursor_i64(&cursor), first = myr_cursor_i64(&cursor);
    if (cursor.failed || magic != MAGIC || n < 0 || first < 0 || first > INT64_MAX - n ||
        (uint64_t)n > n_bytes / LEAST_ITEM_BYTES)
        goto damaged;
    list->items = myr_alloc((size_t)n, sizeof *list->items);
    if (list->items == NULL) {
        status = myr_fail(MYR_ERR_NOMEM, "not enough memory for %lld items", (long long)n);
        goto done;
    }
    const char *source = NULL;
    for (int64_t i = 0; i < n; i++) {
        const char *key = myr_cursor_text(&cursor), *own_source = myr_cursor_text(&cursor);
        int64_t offset = myr_cursor_i64(&cursor), size = myr_cursor_i64(&cursor);
        int64_t flags = myr_cursor_i64(&cursor);
        myr_form form = {0};
        if (flags < 0 || flags >= FLAGS_END || (flags & FLAG_FORM && !take_form(&cursor, &form)))
            goto damaged;
        int64_t label = myr_cursor_i64(&cursor);
        const char *label_name = myr_cursor_text(&cursor), *problem = myr_cursor_text(&cursor);
        if (own_source != NULL)
            source = own_source;
        if (cursor.failed || key == NULL || source == NULL || offset < 0 || size < 0 || size > INT64_MAX - offset ||
            label < -1 || label > INT32_MAX)
            goto damaged;
        list->items[i] = (myr_item){.ordinal = first + i, .key = key, .source = source, .offset = (uint64_t)offset,
                                    .n_bytes = (uint64_t)size, .in_tar = (flags & FLAG_PART) != 0,
                                    .coding = (myr_coding)(flags >> CODING_SHIFT), .form = form,
                                    .label = (int32_t)label, .label_name = label_name, .problem = problem};
    }
    list->n = n;
    if (cursor.at != cursor.size) {
        why = "longer than what it holds";
        goto damaged;
    }
    goto done;
damaged:
    status = myr_fail(MYR_ERR_FORMAT, "message of items: %s", why);
done:
    if (status == MYR_OK)
        *out = list;
    else
        myr_item_list_free(list);
    return status;
}

void myr_item_list_free(myr_item_list *list)
{
    if (list == NULL)
        return;
    free(list->message);
    free(list->items);
    free(list);
}

int64_t myr_item_list_n(const myr_item_list *list)
{
    return list->n;
}

void myr_item_list_item(const myr_item_list *list, int64_t i, myr_item *item)
{
    *item = list->items[i];
}
