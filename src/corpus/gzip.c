/*
 * Reading gzip files from any place.
 *
 * Gzip cannot be seeked. Unpacked copies of a corpus beside the output would double its disk; places to start from,
 * found by rank 0 while it enumerates, are 32 KiB each and would have to be kept and sent for every few MiB of every
 * file. So each process unpacks what it reads of, forward and once, for all its threads together: chunks are handed
 * out in ascending order, so that what a thread wants lies ahead, or among the bytes its neighbours have just
 * unpacked, which a ring keeps. For whoever goes back farther, places to start from are noted on the way (the stream's
 * last 32 KiB at the end of a deflate block; zlib's examples/zran.c); when there are many, every other one is dropped.
 * Memory is bounded: 36 MiB a file that is open. Time is, at worst, one pass over a file a process, at about the speed
 * at which a disk reads; no rank waits for another. Who has few large tars and many ranks, unpacks them once.
 *
 * Files of several members, as pigz, bgzip and cat make them, are one stream. Bytes after the last are ignored, as
 * gzip does. Checksums are checked on the way forward.
 *
 * Source: RFC 1952; zlib 1.2.13, zlib.h (Z_BLOCK, inflateGetDictionary, inflatePrime).
 */
#include "corpus/gzip.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define IN_BYTES ((size_t)64 << 10)
#define RING_BYTES ((size_t)32 << 20)
#define STEP_BYTES ((size_t)256 << 10)
#define WINDOW_BYTES 32768
#define MAX_POINTS 128
#define LEAST_SPACING ((uint64_t)2 << 20)
#define GZIP_BITS 31   /* gzip members, checked */
#define RAW_BITS (-15) /* deflate alone: from a place in the middle */
#define TRAILER_BYTES 8

/* A place to start from, at the end of a deflate block. */
typedef struct point {
    uint64_t out_at, in_at; /* in_at: of the first byte that is not used up */
    int bits;               /* of the byte before it that are still to come */
    unsigned n_window;
    unsigned char *window; /* [owned] */
} point;

struct myr_gzip {
    myr_gzip *next; /* of the files open in this process */
    int n_users;
    char *path;
    pthread_mutex_t lock; /* guards all below */
    int fd;
    z_stream stream;
    bool made, raw;
    unsigned char in[IN_BYTES];
    uint64_t in_end;     /* place in the file behind what lies in in */
    unsigned char *ring; /* byte i of the unpacked stream lies at i % RING_BYTES */
    uint64_t out_at;     /* bytes unpacked */
    uint64_t kept;       /* how many of the last are in the ring */
    uint64_t furthest;
    bool ended;
    bool size_known;
    uint64_t size;
    point points[MAX_POINTS];
    size_t n_points;
    uint64_t spacing;
};

static pthread_mutex_t files_lock = PTHREAD_MUTEX_INITIALIZER;
static myr_gzip *files;

static myr_status damaged(const myr_gzip *g, const char *why)
{
    return myr_fail(MYR_ERR_FORMAT, "%s: the gzip file is damaged near byte %llu: %s; fetch or make it again", g->path,
                    (unsigned long long)(g->in_end - g->stream.avail_in), why ? why : "no reason given");
}

static void free_file(myr_gzip *g)
{
    for (size_t i = 0; i < g->n_points; i++)
        free(g->points[i].window);
    if (g->made)
        inflateEnd(&g->stream);
    if (g->fd >= 0)
        close(g->fd);
    pthread_mutex_destroy(&g->lock);
    free(g->ring);
    free(g->path);
    free(g);
}

static myr_status make_file(const char *path, myr_gzip **out)
{
    myr_gzip *g = myr_alloc(1, sizeof *g);
    if (g == NULL)
        return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", path);
    myr_status status = MYR_OK;
    pthread_mutex_init(&g->lock, NULL);
    g->spacing = LEAST_SPACING;
    g->fd = -1;
    g->path = myr_strdup(path);
    g->ring = malloc(RING_BYTES); /* pages that nobody writes to cost nothing */
    g->made = g->path != NULL && g->ring != NULL && inflateInit2(&g->stream, GZIP_BITS) == Z_OK;
    if (!g->made)
        status = myr_fail(MYR_ERR_NOMEM, "%s: not enough memory to unpack it", path);
    else if ((g->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0)
        status = myr_fail(errno == ENOENT ? MYR_ERR_NOT_FOUND : MYR_ERR_IO, "%s: %s", path, strerror(errno));
    if (status != MYR_OK)
        free_file(g);
    else
        *out = g;
    return status;
}

myr_status myr_gzip_open(const char *path, myr_gzip **out)
{
    myr_status status = MYR_OK;
    *out = NULL;
    pthread_mutex_lock(&files_lock);
    myr_gzip *g = files;
    while (g != NULL && strcmp(g->path, path) != 0)
        g = g->next;
    if (g == NULL && (status = make_file(path, &g)) == MYR_OK) {
        g->next = files;
        files = g;
    }
    if (status == MYR_OK) {
        g->n_users++;
        *out = g;
    }
    pthread_mutex_unlock(&files_lock);
    return status;
}

void myr_gzip_close(myr_gzip *gzip)
{
    if (gzip == NULL)
        return;
    pthread_mutex_lock(&files_lock);
    bool last = --gzip->n_users == 0;
    for (myr_gzip **link = &files; last && *link != NULL; link = &(*link)->next)
        if (*link == gzip) {
            *link = gzip->next;
            break;
        }
    pthread_mutex_unlock(&files_lock);
    if (last)
        free_file(gzip);
}

/* At least want bytes of input, or all that are left. */
static myr_status fill(myr_gzip *g, size_t want)
{
    z_stream *z = &g->stream;
    if (z->avail_in >= want)
        return MYR_OK;
    if (z->avail_in > 0)
        memmove(g->in, z->next_in, z->avail_in);
    z->next_in = g->in;
    while (z->avail_in < want) {
        ssize_t got = pread(g->fd, g->in + z->avail_in, IN_BYTES - z->avail_in, (off_t)g->in_end);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return myr_fail(MYR_ERR_IO, "%s: %s", g->path, strerror(errno));
        if (got == 0)
            break;
        z->avail_in += (unsigned)got;
        g->in_end += (uint64_t)got;
    }
    return MYR_OK;
}

static void end_here(myr_gzip *g)
{
    g->ended = true;
    g->size_known = true;
    g->size = g->out_at;
}

/* Behind the end of a member: another one, or the end. */
static myr_status next_member(myr_gzip *g)
{
    z_stream *z = &g->stream;
    size_t skipped = g->raw ? TRAILER_BYTES : 0;
    myr_status status = fill(g, skipped + 2);
    if (status != MYR_OK)
        return status;
    if (z->avail_in < skipped + 2 || z->next_in[skipped] != 0x1f || z->next_in[skipped + 1] != 0x8b) {
        end_here(g);
        return MYR_OK;
    }
    z->next_in += skipped;
    z->avail_in -= (unsigned)skipped;
    g->raw = false;
    return inflateReset2(z, GZIP_BITS) == Z_OK ? MYR_OK : damaged(g, z->msg);
}

/* Room for one more point. */
static void thin_out(myr_gzip *g)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n_points; i++) {
        if (i % 2 == 0)
            g->points[n++] = g->points[i];
        else
            free(g->points[i].window);
    }
    g->n_points = n;
    g->spacing *= 2;
}

/* Without memory there are fewer places to start from: no more than slower. */
static void note_point(myr_gzip *g)
{
    uint64_t last = g->n_points > 0 ? g->points[g->n_points - 1].out_at : 0;
    if (g->out_at < last || g->out_at - last < g->spacing)
        return;
    if (g->n_points == MAX_POINTS)
        thin_out(g);
    point *here = &g->points[g->n_points];
    *here = (point){.out_at = g->out_at, .in_at = g->in_end - g->stream.avail_in, .bits = g->stream.data_type & 7};
    here->window = malloc(WINDOW_BYTES);
    if (here->window == NULL)
        return;
    if (inflateGetDictionary(&g->stream, here->window, &here->n_window) == Z_OK)
        g->n_points++;
    else
        free(here->window);
}

/* Unpack some more. */
static myr_status advance(myr_gzip *g)
{
    z_stream *z = &g->stream;
    size_t place = (size_t)(g->out_at % RING_BYTES);
    unsigned room = (unsigned)(RING_BYTES - place < STEP_BYTES ? RING_BYTES - place : STEP_BYTES);
    myr_status status = fill(g, 1);
    if (status != MYR_OK)
        return status;
    if (z->avail_in == 0) {
        end_here(g); /* in the middle: cut */
        return MYR_OK;
    }
    z->next_out = g->ring + place;
    z->avail_out = room;
    int code = inflate(z, Z_BLOCK);
    uint64_t n_new = room - z->avail_out;
    g->out_at += n_new;
    g->kept = g->kept + n_new < RING_BYTES ? g->kept + n_new : RING_BYTES;
    g->furthest = g->out_at > g->furthest ? g->out_at : g->furthest;
    if (code == Z_STREAM_END)
        return next_member(g);
    if (code == Z_MEM_ERROR)
        return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory to unpack it", g->path);
    if (code != Z_OK && code != Z_BUF_ERROR)
        return damaged(g, code == Z_NEED_DICT ? "it wants a dictionary" : z->msg);
    if ((z->data_type & 128) && !(z->data_type & 64))
        note_point(g);
    return MYR_OK;
}

/* Go on from a point; NULL = from the beginning. */
static myr_status start_from(myr_gzip *g, const point *from)
{
    z_stream *z = &g->stream;
    myr_status status = MYR_OK;
    z->avail_in = 0;
    z->next_in = g->in;
    g->ended = false;
    g->raw = from != NULL;
    g->out_at = from != NULL ? from->out_at : 0;
    g->kept = 0;
    g->in_end = from == NULL ? 0 : from->in_at - (from->bits > 0);
    if (inflateReset2(z, from != NULL ? RAW_BITS : GZIP_BITS) != Z_OK)
        return damaged(g, z->msg);
    if (from != NULL && from->bits > 0) {
        status = fill(g, 1);
        if (status == MYR_OK && z->avail_in == 0)
            status = damaged(g, "it became shorter while it was read");
        if (status != MYR_OK)
            return status;
        int byte = *z->next_in++;
        z->avail_in--;
        if (inflatePrime(z, from->bits, byte >> (8 - from->bits)) != Z_OK)
            return damaged(g, z->msg);
    }
    if (from != NULL && from->n_window > 0 && inflateSetDictionary(z, from->window, from->n_window) != Z_OK)
        return damaged(g, z->msg);
    return MYR_OK;
}

/* The last point at or before a place. */
static const point *point_before(const myr_gzip *g, uint64_t at)
{
    size_t low = 0, high = g->n_points;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (g->points[middle].out_at <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? &g->points[low - 1] : NULL;
}

/* Bytes from the ring, where at lies in it. */
static size_t copy_out(const myr_gzip *g, uint64_t at, char *room, size_t n)
{
    size_t place = (size_t)(at % RING_BYTES);
    uint64_t there = g->out_at - at;
    n = n < there ? n : (size_t)there;
    n = n < RING_BYTES - place ? n : RING_BYTES - place;
    memcpy(room, g->ring + place, n);
    return n;
}

static myr_status read_locked(myr_gzip *g, uint64_t at, char *room, size_t n, size_t *n_read)
{
    myr_status status = MYR_OK;
    while (*n_read < n && status == MYR_OK && !(g->size_known && at >= g->size)) {
        const point *before = point_before(g, at);
        if (at < g->out_at && g->out_at - at <= g->kept) {
            size_t copied = copy_out(g, at, room + *n_read, n - *n_read);
            *n_read += copied;
            at += copied;
        } else if (at < g->out_at || (before != NULL && before->out_at > g->out_at)) {
            status = start_from(g, before);
        } else if (g->ended) {
            break;
        } else {
            status = advance(g);
        }
    }
    return status;
}

myr_status myr_gzip_read(myr_gzip *gzip, uint64_t at, void *room, size_t n, size_t *n_read)
{
    *n_read = 0;
    pthread_mutex_lock(&gzip->lock);
    myr_status status = read_locked(gzip, at, room, n, n_read);
    pthread_mutex_unlock(&gzip->lock);
    return status;
}

myr_status myr_gzip_reach(myr_gzip *gzip, uint64_t end, uint64_t *reached)
{
    myr_status status = MYR_OK;
    pthread_mutex_lock(&gzip->lock);
    while (status == MYR_OK && !gzip->size_known && gzip->furthest < end)
        status = advance(gzip);
    *reached = gzip->size_known && gzip->size < end ? gzip->size : end;
    pthread_mutex_unlock(&gzip->lock);
    return status;
}
