/*
 * The list of tars is sorted by path for look-ups, and copied in its own order.
 */
#include "corpus/stage.h"

#include "base/alloc.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)4 << 20)
#define SPARE_BYTES ((uint64_t)64 << 20) /* left free on the disk */

typedef struct tar {
    const char *source; /* [borrowed] of the message */
    uint64_t n_bytes;
    char *copy; /* [owned] path */
    atomic_bool is_there;
} tar;

struct myr_stage {
    myr_buffer message;
    tar *tars;    /* (n) in the order of the corpus */
    tar **sorted; /* (n) by source */
    size_t n;
    bool copies, keeps, started;
    pthread_t thread;
    atomic_bool stopping;
    atomic_llong n_copied;
};

myr_status myr_stage_list(const myr_corpus *corpus, myr_buffer *message)
{
    const char *before = NULL;
    for (int64_t i = 0; i < myr_corpus_n_items(corpus); i++) {
        myr_item item;
        struct stat facts;
        myr_status status = myr_corpus_item(corpus, i, &item);
        if (status != MYR_OK)
            return status;
        if (!item.in_tar || item.source == before)
            continue;
        before = item.source;
        if (stat(item.source, &facts) != 0)
            return myr_fail(MYR_ERR_IO, "%s: %s", item.source, strerror(errno));
        myr_buffer_put_text(message, item.source);
        myr_buffer_put_i64(message, facts.st_size);
        myr_buffer_put_i64(message, (int64_t)facts.st_mtim.tv_sec * 1000000000 + facts.st_mtim.tv_nsec);
    }
    return message->failed ? myr_fail(MYR_ERR_NOMEM, "no memory for the list of tars") : MYR_OK;
}

static int by_source(const void *a, const void *b)
{
    return strcmp((*(tar *const *)a)->source, (*(tar *const *)b)->source);
}

/* "<folder>/<digest of path, size and time>-<base name>" */
static char *name_copy(const char *folder, const char *source, int64_t n_bytes, int64_t changed)
{
    myr_buffer facts = {0};
    char *path = NULL, hash[MYR_SHA256_TEXT];
    const char *slash = strrchr(source, '/');
    char *whole = realpath(source, NULL); /* the same tar by another way has the same name */
    myr_buffer_printf(&facts, "%s %lld %lld", whole ? whole : source, (long long)n_bytes, (long long)changed);
    free(whole);
    if (!facts.failed) {
        myr_sha256_text(facts.data, facts.size, hash);
        if (asprintf(&path, "%s/%.16s-%s", folder, hash, slash ? slash + 1 : source) < 0)
            path = NULL;
    }
    myr_buffer_free(&facts);
    return path;
}

/* The list, from the message. */
static myr_status read_list(myr_stage *stage, const char *folder)
{
    myr_cursor cursor = {.data = stage->message.data, .size = stage->message.size};
    size_t capacity = stage->message.size / 20 + 1; /* a text's length and two numbers */
    stage->tars = myr_alloc(capacity, sizeof *stage->tars);
    stage->sorted = myr_alloc(capacity, sizeof *stage->sorted);
    if (!stage->tars || !stage->sorted)
        return myr_fail(MYR_ERR_NOMEM, "no memory for the list of tars");
    while (cursor.at < cursor.size) {
        const char *source = myr_cursor_text(&cursor);
        int64_t n_bytes = myr_cursor_i64(&cursor), changed = myr_cursor_i64(&cursor);
        if (cursor.failed || !source || n_bytes < 0 || stage->n == capacity)
            return myr_fail(MYR_ERR_FORMAT, "list of tars: cut or damaged");
        tar *added = &stage->tars[stage->n];
        added->source = source;
        added->n_bytes = (uint64_t)n_bytes;
        added->copy = name_copy(folder, source, n_bytes, changed);
        stage->sorted[stage->n++] = added;
        if (!added->copy)
            return myr_fail(MYR_ERR_NOMEM, "no memory for the list of tars");
    }
    qsort(stage->sorted, stage->n, sizeof *stage->sorted, by_source);
    return MYR_OK;
}

static bool is_whole(const char *path, uint64_t n_bytes)
{
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISREG(facts.st_mode) && (uint64_t)facts.st_size == n_bytes;
}

static bool has_room(const char *path, uint64_t n_bytes)
{
    struct statvfs facts;
    char *folder = myr_strdup(path);
    bool fits = false;
    if (folder) {
        *strrchr(folder, '/') = 0;
        fits = statvfs(folder, &facts) == 0 && (uint64_t)facts.f_bavail * facts.f_frsize >= n_bytes + SPARE_BYTES;
    }
    free(folder);
    return fits;
}

/* From one open file to another; NULL, or what went wrong. */
static const char *copy_bytes(const myr_stage *stage, int from, int to, char *room, uint64_t n_bytes)
{
    (void)posix_fadvise(from, 0, 0, POSIX_FADV_SEQUENTIAL);
    uint64_t done = 0;
    while (!stage->stopping) {
        ssize_t n = read(from, room, PIECE_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return strerror(errno);
        if (n == 0)
            return done == n_bytes ? NULL : "it changed since it was listed";
        for (ssize_t at = 0; at < n;) {
            ssize_t written = write(to, room + at, (size_t)(n - at));
            if (written < 0 && errno != EINTR)
                return strerror(errno);
            at += written > 0 ? written : 0;
        }
        done += (uint64_t)n;
    }
    return "stopped";
}

/* The copy's temporary file, locked; -1 where another job makes the same copy, or has made it, or nothing can be
 * written. */
static int open_partial(const tar *wanted, const char *partial, const char **wrong)
{
    int to = open(partial, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (to < 0)
        *wrong = strerror(errno);
    bool is_mine = to >= 0 && (flock(to, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) &&
                   !is_whole(wanted->copy, wanted->n_bytes);
    if (is_mine && ftruncate(to, 0) == 0)
        return to;
    if (is_mine)
        *wrong = strerror(errno);
    if (to >= 0)
        close(to);
    return -1;
}

static void copy_tar(myr_stage *stage, const tar *wanted, char *room)
{
    const char *wrong = NULL;
    char *partial = myr_file_partial_name(wanted->copy);
    int from = open(wanted->source, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        wrong = strerror(errno);
    int to = partial && from >= 0 ? open_partial(wanted, partial, &wrong) : -1;
    if (to >= 0) {
        wrong = copy_bytes(stage, from, to, room, wanted->n_bytes);
        if (wrong)
            unlink(partial);
        else if (myr_file_commit(partial, wanted->copy) != MYR_OK)
            wrong = myr_error_detail();
        stage->n_copied += !wrong;
        close(to);
    }
    if (from >= 0)
        close(from);
    if (wrong && !stage->stopping)
        myr_warn("%s: no copy at %s: %s; it is read where it is", wanted->source, wanted->copy, wrong);
    free(partial);
}

static void *copy_all(void *context)
{
    myr_stage *stage = context;
    char *room = malloc(PIECE_BYTES);
    for (size_t i = 0; i < stage->n && room && !stage->stopping; i++) {
        tar *wanted = &stage->tars[i];
        if (is_whole(wanted->copy, wanted->n_bytes))
            continue;
        if (!has_room(wanted->copy, wanted->n_bytes)) {
            myr_warn("%s: no room there for %s (%.1f MB); it and what comes after is read where it is", wanted->copy,
                     wanted->source, (double)wanted->n_bytes / 1e6);
            break;
        }
        copy_tar(stage, wanted, room);
    }
    free(room);
    return NULL;
}

/* What a run that was killed had begun to copy, if nobody copies it now. */
static void remove_partial(const tar *wanted)
{
    char *partial = myr_file_partial_name(wanted->copy);
    int file = partial ? open(partial, O_WRONLY | O_CLOEXEC) : -1;
    if (file >= 0 && flock(file, LOCK_EX | LOCK_NB) == 0)
        unlink(partial);
    if (file >= 0)
        close(file);
    free(partial);
}

myr_status myr_stage_open(const char *folder, const void *message, size_t n_bytes, bool copies, bool keeps,
                          myr_stage **out)
{
    *out = NULL;
    myr_stage *stage = myr_alloc(1, sizeof *stage);
    if (!stage)
        return myr_fail(MYR_ERR_NOMEM, "no memory for the list of tars");
    stage->copies = copies;
    stage->keeps = keeps;
    if (n_bytes > 0)
        myr_buffer_append(&stage->message, message, n_bytes);
    myr_status status =
        stage->message.failed ? myr_fail(MYR_ERR_NOMEM, "no memory for the list of tars") : myr_folder_create(folder);
    if (status == MYR_OK)
        status = read_list(stage, folder);
    if (status == MYR_OK && copies) {
        stage->started = pthread_create(&stage->thread, NULL, copy_all, stage) == 0;
        if (!stage->started)
            status = myr_fail(MYR_ERR_NOMEM, "no thread can be started to copy tars");
    }
    if (status == MYR_OK)
        *out = stage;
    else
        myr_stage_close(stage);
    return status;
}

void myr_stage_close(myr_stage *stage)
{
    if (!stage)
        return;
    stage->stopping = true;
    if (stage->started)
        pthread_join(stage->thread, NULL);
    for (size_t i = 0; i < stage->n; i++) {
        if (stage->copies && stage->tars[i].copy)
            remove_partial(&stage->tars[i]);
        if (stage->copies && !stage->keeps && stage->tars[i].copy)
            unlink(stage->tars[i].copy);
        free(stage->tars[i].copy);
    }
    free(stage->tars);
    free(stage->sorted);
    myr_buffer_free(&stage->message);
    free(stage);
}

const char *myr_stage_find(const myr_stage *stage, const char *source)
{
    if (!stage || stage->n == 0)
        return NULL;
    tar wanted = {.source = source}, *key = &wanted;
    tar **found = bsearch(&key, stage->sorted, stage->n, sizeof *stage->sorted, by_source);
    if (!found)
        return NULL;
    if (!(*found)->is_there && is_whole((*found)->copy, (*found)->n_bytes))
        (*found)->is_there = true;
    return (*found)->is_there ? (*found)->copy : NULL;
}

int64_t myr_stage_n_copied(const myr_stage *stage)
{
    return stage ? stage->n_copied : 0;
}
