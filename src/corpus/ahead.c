/*
 * One lock guards all; the thread lets go of it while it reads. Pieces are read in the order of their batches, and
 * batches are borrowed in that order, so that the piece somebody waits for is always the next to be read or in memory:
 * the bound of memory cannot lock up.
 */
#include "corpus/ahead.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEAST_SHARE 8 /* of a batch's range, one in so many bytes is of its items */

typedef enum piece_state { UNREAD, READY, FAILED } piece_state;

typedef struct piece {
    const char *source; /* of the range's texts */
    uint64_t offset;
    size_t n_bytes;
    int64_t first_batch, n_left; /* batches not returned */
    piece_state state;
    char *bytes; /* [owned] while READY */
} piece;

struct myr_ahead_range {
    myr_ahead *ahead;
    myr_ahead_range *next;
    piece *pieces;
    int32_t *piece_of; /* (n_batches) -1 = none */
    int64_t n_batches, n_pieces, n_read;
    int batch;
    char **sources; /* [owned] */
    size_t n_sources;
    bool reading, ended;
};

struct myr_ahead {
    const myr_stage *stage;
    pthread_mutex_t lock;
    pthread_cond_t more, ready; /* something to read, or room for it; a piece was read */
    pthread_t thread;
    myr_ahead_range *ranges; /* not read to their end, oldest first */
    size_t n_bytes;          /* in memory */
    bool stopping;
    int fd; /* of the thread */
    char *path;
};

/* ---- what to read ---- */

static void free_range(myr_ahead_range *range)
{
    for (int64_t i = 0; range->pieces && i < range->n_pieces; i++)
        free(range->pieces[i].bytes);
    for (size_t i = 0; i < range->n_sources; i++)
        free(range->sources[i]);
    free(range->sources);
    free(range->pieces);
    free(range->piece_of);
    free(range);
}

/* The bytes of a batch where they are one range worth reading; false where they are not. */
static bool span(const myr_item_list *items, int64_t first, int64_t n, myr_item *head, uint64_t *end)
{
    uint64_t n_wanted = 0;
    myr_item item;
    myr_item_list_item(items, first, head);
    *end = head->offset;
    for (int64_t i = 0; i < n; i++) {
        myr_item_list_item(items, first + i, &item);
        if (!item.in_tar || item.problem || strcmp(item.source, head->source) != 0 || item.offset < *end ||
            item.n_bytes > MYR_AHEAD_BATCH_BYTES || item.offset - head->offset > MYR_AHEAD_BATCH_BYTES)
            return false;
        *end = item.offset + item.n_bytes;
        n_wanted += item.n_bytes;
    }
    uint64_t length = *end - head->offset;
    return length > 0 && length <= MYR_AHEAD_BATCH_BYTES && n_wanted >= length / LEAST_SHARE;
}

/* The range's own copy of a source, which is mostly that of the batch before. NULL without memory. */
static const char *own_source(myr_ahead_range *range, const char *source)
{
    if (range->n_sources > 0 && strcmp(range->sources[range->n_sources - 1], source) == 0)
        return range->sources[range->n_sources - 1];
    if (!myr_resize(&range->sources, range->n_sources, range->n_sources + 1, sizeof *range->sources))
        return NULL;
    range->sources[range->n_sources] = myr_strdup(source);
    return range->sources[range->n_sources] ? range->sources[range->n_sources++] : NULL;
}

/* Add a batch to the last piece, or begin one with it. */
static bool add_batch(myr_ahead_range *range, int64_t batch, const myr_item *head, uint64_t end)
{
    piece *last = range->n_pieces > 0 ? &range->pieces[range->n_pieces - 1] : NULL;
    const char *source = own_source(range, head->source);
    if (!source)
        return false;
    if (last && last->source == source && last->first_batch + last->n_left == batch &&
        last->n_bytes < MYR_AHEAD_PIECE_BYTES && head->offset >= last->offset + last->n_bytes &&
        end - last->offset <= MYR_AHEAD_BATCH_BYTES) {
        last->n_bytes = (size_t)(end - last->offset);
        last->n_left++;
    } else {
        last = &range->pieces[range->n_pieces++];
        *last = (piece){.source = source,
                        .offset = head->offset,
                        .n_bytes = (size_t)(end - head->offset),
                        .first_batch = batch,
                        .n_left = 1};
    }
    range->piece_of[batch] = (int32_t)(range->n_pieces - 1);
    return true;
}

static bool plan(myr_ahead_range *range, const myr_item_list *items)
{
    int64_t n_items = myr_item_list_n(items);
    for (int64_t batch = 0; batch < range->n_batches; batch++) {
        int64_t first = batch * range->batch, n = n_items - first < range->batch ? n_items - first : range->batch;
        myr_item head;
        uint64_t end;
        range->piece_of[batch] = -1;
        if (span(items, first, n, &head, &end) && !add_batch(range, batch, &head, end))
            return false;
    }
    return true;
}

myr_status myr_ahead_add(myr_ahead *ahead, const myr_item_list *items, int batch, myr_ahead_range **out)
{
    *out = NULL;
    int64_t n_batches = (myr_item_list_n(items) + batch - 1) / batch;
    myr_ahead_range *range = myr_alloc(1, sizeof *range);
    if (range && n_batches <= INT32_MAX) {
        *range = (myr_ahead_range){.ahead = ahead, .n_batches = n_batches, .batch = batch};
        range->pieces = myr_alloc((size_t)n_batches, sizeof *range->pieces);
        range->piece_of = myr_alloc((size_t)n_batches, sizeof *range->piece_of);
    }
    if (!range || !range->pieces || !range->piece_of || !plan(range, items)) {
        if (range)
            free_range(range);
        return myr_fail(MYR_ERR_NOMEM, "no memory to read ahead");
    }
    if (range->n_pieces == 0) {
        free_range(range);
        return MYR_OK;
    }
    pthread_mutex_lock(&ahead->lock);
    myr_ahead_range **link = &ahead->ranges;
    while (*link)
        link = &(*link)->next;
    *link = range;
    pthread_cond_signal(&ahead->more);
    pthread_mutex_unlock(&ahead->lock);
    *out = range;
    return MYR_OK;
}

/* ---- the thread ---- */

static bool open_file(myr_ahead *ahead, const char *path)
{
    if (ahead->fd >= 0 && ahead->path && strcmp(ahead->path, path) == 0)
        return true;
    if (ahead->fd >= 0)
        close(ahead->fd);
    free(ahead->path);
    ahead->path = myr_strdup(path);
    ahead->fd = ahead->path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (ahead->fd >= 0)
        (void)posix_fadvise(ahead->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return ahead->fd >= 0;
}

/* All bytes of the piece, or NULL: then the item reader finds out what is wrong, item by item. */
static char *read_piece(myr_ahead *ahead, const piece *wanted)
{
    const char *nearer = myr_stage_find(ahead->stage, wanted->source);
    struct stat facts;
    if (!(nearer && open_file(ahead, nearer)) && !open_file(ahead, wanted->source))
        return NULL;
    if (fstat(ahead->fd, &facts) != 0 || !S_ISREG(facts.st_mode) ||
        (uint64_t)facts.st_size < wanted->offset + wanted->n_bytes)
        return NULL;
    char *bytes = malloc(wanted->n_bytes);
    for (size_t done = 0; bytes && done < wanted->n_bytes;) {
        ssize_t got = pread(ahead->fd, bytes + done, wanted->n_bytes - done, (off_t)(wanted->offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            free(bytes);
            return NULL;
        }
        done += (size_t)got;
    }
    return bytes;
}

/* The next piece to read, NULL = none, or no room. Called with the lock held. */
static piece *next_piece(const myr_ahead *ahead)
{
    const myr_ahead_range *range = ahead->ranges;
    piece *next = range ? &range->pieces[range->n_read] : NULL;
    bool fits = next && (ahead->n_bytes == 0 || next->n_bytes <= MYR_AHEAD_MAX_BYTES - ahead->n_bytes);
    return fits ? next : NULL;
}

static void *run(void *context)
{
    myr_ahead *ahead = context;
    pthread_mutex_lock(&ahead->lock);
    while (!ahead->stopping) {
        piece *next = next_piece(ahead);
        if (!next) {
            pthread_cond_wait(&ahead->more, &ahead->lock);
            continue;
        }
        myr_ahead_range *range = ahead->ranges;
        range->reading = true;
        ahead->n_bytes += next->n_bytes;
        pthread_mutex_unlock(&ahead->lock);
        char *bytes = read_piece(ahead, next);
        pthread_mutex_lock(&ahead->lock);
        range->reading = false;
        next->bytes = bytes;
        next->state = bytes ? READY : FAILED;
        if (!bytes)
            ahead->n_bytes -= next->n_bytes;
        if (++range->n_read == range->n_pieces || range->ended) {
            myr_ahead_range **link = &ahead->ranges;
            while (*link != range)
                link = &(*link)->next;
            *link = range->next;
        }
        if (range->ended) {
            ahead->n_bytes -= bytes ? next->n_bytes : 0;
            free_range(range);
        }
        pthread_cond_broadcast(&ahead->ready);
    }
    pthread_mutex_unlock(&ahead->lock);
    return NULL;
}

myr_status myr_ahead_create(const myr_stage *stage, myr_ahead **out)
{
    *out = NULL;
    myr_ahead *ahead = myr_alloc(1, sizeof *ahead);
    if (!ahead)
        return myr_fail(MYR_ERR_NOMEM, "no memory to read ahead");
    ahead->stage = stage;
    ahead->fd = -1;
    pthread_mutex_init(&ahead->lock, NULL);
    pthread_cond_init(&ahead->more, NULL);
    pthread_cond_init(&ahead->ready, NULL);
    if (pthread_create(&ahead->thread, NULL, run, ahead) != 0) {
        free(ahead);
        return myr_fail(MYR_ERR_NOMEM, "no thread can be started to read ahead; use fewer --threads");
    }
    *out = ahead;
    return MYR_OK;
}

void myr_ahead_free(myr_ahead *ahead)
{
    if (!ahead)
        return;
    pthread_mutex_lock(&ahead->lock);
    ahead->stopping = true;
    pthread_cond_signal(&ahead->more);
    pthread_mutex_unlock(&ahead->lock);
    pthread_join(ahead->thread, NULL);
    if (ahead->fd >= 0)
        close(ahead->fd);
    free(ahead->path);
    pthread_cond_destroy(&ahead->more);
    pthread_cond_destroy(&ahead->ready);
    pthread_mutex_destroy(&ahead->lock);
    free(ahead);
}

/* ---- who borrows ---- */

static piece *piece_at(const myr_ahead_range *range, int64_t first)
{
    int32_t place = range->piece_of[first / range->batch];
    return place < 0 ? NULL : &range->pieces[place];
}

void myr_ahead_lend(myr_ahead_range *range, int64_t first, myr_item_reader *reader)
{
    piece *wanted = piece_at(range, first);
    if (!wanted)
        return;
    myr_ahead *ahead = range->ahead;
    pthread_mutex_lock(&ahead->lock);
    while (wanted->state == UNREAD)
        pthread_cond_wait(&ahead->ready, &ahead->lock);
    if (wanted->state == READY)
        myr_item_reader_borrow(reader, wanted->source, wanted->offset, wanted->bytes, wanted->n_bytes);
    pthread_mutex_unlock(&ahead->lock);
}

/* Called with the lock held. */
static void let_go(myr_ahead *ahead, piece *read)
{
    if (read->bytes)
        ahead->n_bytes -= read->n_bytes;
    free(read->bytes);
    read->bytes = NULL;
    pthread_cond_signal(&ahead->more);
}

void myr_ahead_return(myr_ahead_range *range, int64_t first, myr_item_reader *reader)
{
    piece *lent = piece_at(range, first);
    if (!lent)
        return;
    myr_item_reader_borrow(reader, NULL, 0, NULL, 0);
    pthread_mutex_lock(&range->ahead->lock);
    if (--lent->n_left == 0)
        let_go(range->ahead, lent);
    pthread_mutex_unlock(&range->ahead->lock);
}

void myr_ahead_end(myr_ahead_range *range)
{
    if (!range)
        return;
    myr_ahead *ahead = range->ahead;
    pthread_mutex_lock(&ahead->lock);
    for (int64_t i = 0; i < range->n_read; i++)
        let_go(ahead, &range->pieces[i]);
    range->ended = true;
    bool reading = range->reading; /* then the thread lets go of it */
    if (!reading) {
        for (myr_ahead_range **link = &ahead->ranges; *link; link = &(*link)->next)
            if (*link == range) {
                *link = range->next;
                break;
            }
        free_range(range);
    }
    pthread_mutex_unlock(&ahead->lock);
}
