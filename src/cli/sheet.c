/*
 * Thumbnails and the page they stand on.
 *
 * A picture is found again by its source and key. The last sources stay open, since
 * the neighbours of a picture often come from the same few tars.
 */
#include "cli/sheet.h"

#include "base/alloc.h"
#include "cli/labels.h"
#include "myriops/corpus.h"
#include "myriops/eval.h"
#include "myriops/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THUMBNAIL_SIDE 192
#define THUMBNAIL_QUALITY 82
#define MAX_OPEN 8

typedef struct open_source {
    char *path;
    myr_corpus *corpus;
} open_source;

struct myr_album {
    open_source open[MAX_OPEN];
    size_t next; /* place to be used next, round robin */
    myr_item_reader *reader;
    myr_decoder *decoder;
};

/* The items of a source, or NULL where it cannot be read. */
static const myr_corpus *find_source(myr_album *pictures, const char *path)
{
    for (size_t i = 0; i < MAX_OPEN; i++)
        if (pictures->open[i].path && strcmp(pictures->open[i].path, path) == 0)
            return pictures->open[i].corpus;
    myr_corpus *corpus = NULL;
    char *copy = myr_strdup(path);
    if (!copy || myr_corpus_open(&path, 1, NULL, &corpus) != MYR_OK) {
        free(copy);
        return NULL;
    }
    open_source *place = &pictures->open[pictures->next++ % MAX_OPEN];
    myr_corpus_free(place->corpus);
    free(place->path);
    *place = (open_source){.path = copy, .corpus = corpus};
    return corpus;
}

/* Whether a key is own, or own behind the name of the folder it was found in. */
static bool is_key(const char *key, const char *own)
{
    size_t n = strlen(key), n_own = strlen(own);
    return n >= n_own && strcmp(key + n - n_own, own) == 0 && (n == n_own || key[n - n_own - 1] == '/');
}

/* The item of a key in its source: a file of its own has one item only. */
static bool find_item(const myr_corpus *corpus, const char *key, myr_item *item)
{
    int64_t n = myr_corpus_n_items(corpus), found = -1;
    for (int64_t i = 0; i < n; i++) {
        if (myr_corpus_item(corpus, i, item) != MYR_OK)
            continue;
        if (n == 1 || strcmp(item->key, key) == 0)
            return true;
        if (found < 0 && is_key(key, item->key))
            found = i;
    }
    return found >= 0 && myr_corpus_item(corpus, found, item) == MYR_OK;
}

static void fit(const myr_image *image, int *width, int *height)
{
    int longer = image->width > image->height ? image->width : image->height;
    double scale = longer > THUMBNAIL_SIDE ? (double)THUMBNAIL_SIDE / longer : 1;
    *width = (int)(image->width * scale + 0.5);
    *height = (int)(image->height * scale + 0.5);
    *width = *width > 0 ? *width : 1;
    *height = *height > 0 ? *height : 1;
}

void *myr_album_thumbnail(myr_album *pictures, const char *source, const char *key, size_t *n_bytes)
{
    const myr_corpus *corpus = source && source[0] ? find_source(pictures, source) : NULL;
    myr_item item;
    myr_image image, small;
    const void *bytes;
    size_t size;
    void *jpeg = NULL;
    int width, height;
    *n_bytes = 0;
    if (!corpus || !find_item(corpus, key, &item) ||
        myr_item_reader_read(pictures->reader, &item, &bytes, &size) != MYR_OK ||
        myr_decoder_read(pictures->decoder, &item.form, bytes, size, &image) != MYR_OK)
        return NULL;
    fit(&image, &width, &height);
    if (myr_decoder_resize(pictures->decoder, &image, width, height, MYR_FILTER_BICUBIC, &small) != MYR_OK ||
        myr_jpeg_encode(&small, THUMBNAIL_QUALITY, &jpeg, n_bytes) != MYR_OK)
        return NULL;
    return jpeg;
}

void myr_album_free(myr_album *pictures)
{
    if (!pictures)
        return;
    for (size_t i = 0; i < MAX_OPEN; i++) {
        myr_corpus_free(pictures->open[i].corpus);
        free(pictures->open[i].path);
    }
    myr_item_reader_free(pictures->reader);
    myr_decoder_free(pictures->decoder);
    free(pictures);
}

myr_status myr_album_create(myr_album **pictures)
{
    myr_album *made = *pictures = myr_alloc(1, sizeof *made);
    if (!made)
        return myr_fail(MYR_ERR_NOMEM, "no memory for thumbnails");
    myr_status status = myr_item_reader_create(&made->reader);
    if (status == MYR_OK)
        status = myr_decoder_create(NULL, &made->decoder);
    if (status != MYR_OK) {
        myr_album_free(made);
        *pictures = NULL;
    }
    return status;
}

static const char *label_name(const myr_answer_sheet *answer, int32_t label, char room[MYR_LABEL_TEXT])
{
    return myr_label_name(answer->classes, answer->n_classes, label, room);
}

static myr_status add_hits(const myr_answer_sheet *answer, size_t q, myr_album *pictures, myr_sheet *sheet)
{
    myr_status status = MYR_OK;
    for (size_t i = 0; i < answer->k && status == MYR_OK; i++) {
        const myr_hit *hit = &answer->hits[q * answer->k + i];
        const myr_item_facts *facts = &answer->facts[q * answer->k + i];
        if (hit->id < 0 || !facts->key)
            break;
        size_t n_bytes;
        char room[MYR_LABEL_TEXT];
        void *jpeg = myr_album_thumbnail(pictures, facts->source, facts->key, &n_bytes);
        status = myr_sheet_add_hit(sheet, facts->key, (double)hit->distance, label_name(answer, facts->label, room),
                                   jpeg, n_bytes);
        free(jpeg);
    }
    return status;
}

static myr_status add_asked(const myr_answer_sheet *answer, size_t q, myr_album *pictures, myr_sheet *sheet)
{
    size_t n_bytes;
    char heading[64], room[MYR_LABEL_TEXT];
    void *jpeg = myr_album_thumbnail(pictures, answer->sources[q], answer->names[q], &n_bytes);
    snprintf(heading, sizeof heading, "%s %zu", answer->labels ? "Item" : "Query", q + 1);
    const myr_sheet_section section = {.heading = heading,
                                       .caption = answer->names[q],
                                       .label = answer->labels ? label_name(answer, answer->labels[q], room) : NULL,
                                       .jpeg = jpeg,
                                       .jpeg_bytes = n_bytes};
    myr_status status = myr_sheet_add_section(sheet, &section);
    free(jpeg);
    return status;
}

myr_status myr_answer_sheet_write(const myr_answer_sheet *answer, myr_buffer *html)
{
    myr_album *pictures = NULL;
    myr_sheet *sheet = NULL;
    myr_status status = myr_album_create(&pictures);
    if (status == MYR_OK)
        status = myr_sheet_create(answer->labels ? "Myriops: items and their nearest neighbours"
                                                 : "Myriops: pictures and their nearest neighbours",
                                  &sheet);
    if (status == MYR_OK && answer->summary)
        status = myr_sheet_add_line(sheet, answer->summary);
    if (status == MYR_OK)
        status = myr_sheet_set_legend(sheet, answer->labels ? "A green frame marks neighbours with the item's label."
                                                            : "The smaller a distance, the more alike.");
    for (size_t q = 0; q < answer->n && status == MYR_OK; q++) {
        status = add_asked(answer, q, pictures, sheet);
        if (status == MYR_OK)
            status = add_hits(answer, q, pictures, sheet);
    }
    if (status == MYR_OK)
        status = myr_sheet_finish(sheet, html);
    myr_sheet_free(sheet);
    myr_album_free(pictures);
    return status;
}
