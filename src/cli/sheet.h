/*
 * The contact sheet of a query's answer, and thumbnails for it, read again from their sources.
 */
#ifndef MYR_CLI_SHEET_H
#define MYR_CLI_SHEET_H

#include "base/buffer.h"
#include "base/topk.h"
#include "dist/cluster.h"

/* Pictures found again by source and key. */
typedef struct myr_album myr_album;
myr_status myr_album_create(myr_album **pictures);
void myr_album_free(myr_album *pictures); /* NULL is fine */
/* A thumbnail as JPEG, [owned by caller]; NULL where there is no picture to show. */
void *myr_album_thumbnail(myr_album *pictures, const char *source, const char *key, size_t *n_bytes);

typedef struct myr_answer_sheet {
    size_t n, k;
    const char *const *names;    /* (n) keys of the queries */
    const char *const *sources;  /* (n) file or tar each is in */
    const myr_hit *hits;         /* (n, k) */
    const myr_item_facts *facts; /* (n, k) */
    const int32_t *labels;       /* (n) of the queries, which are items of the index; NULL = pictures from outside */
    char *const *classes;        /* (n_classes) label names */
    size_t n_classes;
    const char *summary; /* a line under the title */
} myr_answer_sheet;

/*
 * myr_answer_sheet_write - one self-contained HTML page.
 *
 * Local. A picture that cannot be read any more is shown as missing.
 *
 *  html  [in, out]  the page is appended
 *
 * Returns:  MYR_OK | MYR_ERR_NOMEM
 */
myr_status myr_answer_sheet_write(const myr_answer_sheet *answer, myr_buffer *html);

#endif
