/*
 * Bytes of items. The last file stays open, since the next item is mostly in the same tar;
 * the buffer is kept and only grows. Packed files are shared by all readers (gzip.c).
 */
#include "base/alloc.h"
#include "corpus/ahead.h"
#include "myriops/corpus.h"
#include "corpus/gzip.h"
#include "corpus/image_set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct myr_item_reader {
    char *source; /* of what is open: */
    int fd;       /* -1 = none */
    myr_gzip *gzip;
    myr_image_set rows;
    char *bytes;
    size_t capacity, max_bytes;
    const char *lent_source, *lent; /* [borrowed] bytes of a source from lent_offset, NULL = none */
    uint64_t lent_offset;
    size_t n_lent;
};

myr_status myr_item_reader_create(myr_item_reader **out)
{
    myr_item_reader *reader = myr_alloc(1, sizeof *reader);
    *out = reader;
    if (reader == NULL)
        return myr_fail(MYR_ERR_NOMEM, "not enough memory for a reader");
    reader->fd = -1;
    reader->rows = (myr_image_set){.file = -1, .set = -1};
    reader->max_bytes = MYR_CORPUS_MAX_FILE_BYTES;
    return MYR_OK;
}

static void close_source(myr_item_reader *reader)
{
    if (reader->fd >= 0)
        close(reader->fd);
    reader->fd = -1;
    myr_gzip_close(reader->gzip);
    reader->gzip = NULL;
    myr_image_set_close(&reader->rows);
    free(reader->source);
    reader->source = NULL;
}

static myr_status open_plain(myr_item_reader *reader, const char *source)
{
    /* O_NONBLOCK: a path that became a pipe must not hang a rank. */
    reader->fd = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (reader->fd < 0)
        return myr_fail(errno == ENOENT ? MYR_ERR_NOT_FOUND : MYR_ERR_IO, "%s: %s", source, strerror(errno));
    return MYR_OK;
}

static myr_status changed(const myr_item *item)
{
    return myr_fail(MYR_ERR_FORMAT, "%s: %s: the file changed since it was listed; start again", item->source,
                    item->key);
}

static myr_status check_size(const myr_item_reader *reader, const myr_item *item)
{
    struct stat st;
    if (fstat(reader->fd, &st) != 0)
        return myr_fail(MYR_ERR_IO, "%s: %s", item->source, strerror(errno));
    uint64_t size = S_ISREG(st.st_mode) && st.st_size > 0 ? (uint64_t)st.st_size : 0;
    bool fine = item->offset <= size && item->n_bytes <= size - item->offset && (item->in_tar || size == item->n_bytes);
    return fine ? MYR_OK : changed(item);
}

static myr_status make_room(myr_item_reader *reader, const myr_item *item, size_t n)
{
    if (n + 1 <= reader->capacity)
        return MYR_OK;
    size_t capacity = n + n / 4 + 4096;
    char *room = myr_alloc(capacity, 1);
    if (room == NULL)
        return myr_fail(MYR_ERR_NOMEM, "%s: %s: no memory for %zu bytes", item->source, item->key, n);
    free(reader->bytes);
    reader->bytes = room;
    reader->capacity = capacity;
    return MYR_OK;
}

static myr_status read_plain(myr_item_reader *reader, const myr_item *item, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(reader->fd, reader->bytes + done, n - done, (off_t)(item->offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return myr_fail(MYR_ERR_IO, "%s: %s: %s", item->source, item->key, strerror(errno));
        if (got == 0)
            return myr_fail(MYR_ERR_FORMAT, "%s: %s: the file became shorter while it was read", item->source,
                            item->key);
        done += (size_t)got;
    }
    return MYR_OK;
}

static myr_status read_packed(myr_item_reader *reader, const myr_item *item, size_t n)
{
    size_t n_read;
    myr_status status = myr_gzip_read(reader->gzip, item->offset, reader->bytes, n, &n_read);
    return status == MYR_OK && n_read < n ? changed(item) : status;
}

void myr_item_reader_free(myr_item_reader *reader)
{
    if (reader == NULL)
        return;
    close_source(reader);
    free(reader->bytes);
    free(reader);
}

void myr_item_reader_limit(myr_item_reader *reader, size_t max_file_bytes)
{
    reader->max_bytes = max_file_bytes == 0 ? MYR_CORPUS_MAX_FILE_BYTES : max_file_bytes;
}

void myr_item_reader_borrow(myr_item_reader *reader, const char *source, uint64_t offset, const char *bytes,
                            size_t n_bytes)
{
    reader->lent_source = source;
    reader->lent_offset = offset;
    reader->lent = bytes;
    reader->n_lent = n_bytes;
}

/* The item's bytes among those lent, or NULL. */
static const char *find_lent(const myr_item_reader *reader, const myr_item *item)
{
    if (!reader->lent || !item->in_tar || item->offset < reader->lent_offset ||
        strcmp(item->source, reader->lent_source) != 0)
        return NULL;
    uint64_t at = item->offset - reader->lent_offset;
    return at <= reader->n_lent && item->n_bytes <= reader->n_lent - at ? reader->lent + at : NULL;
}

static bool is_open(const myr_item_reader *reader, const myr_item *item)
{
    bool fitting = item->coding == MYR_CODING_GZIP   ? reader->gzip != NULL
                   : item->coding == MYR_CODING_HDF5 ? reader->rows.file >= 0
                                                     : reader->fd >= 0;
    return fitting && reader->source != NULL && strcmp(reader->source, item->source) == 0;
}

static myr_status open_source(myr_item_reader *reader, const myr_item *item)
{
    if (is_open(reader, item) && (item->in_tar || item->coding != MYR_CODING_PLAIN))
        return MYR_OK;
    close_source(reader);
    reader->source = myr_strdup(item->source);
    if (reader->source == NULL)
        return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", item->source);
    myr_status status = item->coding == MYR_CODING_GZIP   ? myr_gzip_open(item->source, &reader->gzip)
                        : item->coding == MYR_CODING_HDF5 ? myr_image_set_open(item->source, &reader->rows)
                                                          : open_plain(reader, item->source);
    if (status != MYR_OK)
        close_source(reader);
    return status;
}

myr_status myr_item_reader_read(myr_item_reader *reader, const myr_item *item, const void **bytes, size_t *n_bytes)
{
    *bytes = NULL;
    *n_bytes = 0;
    if (item->n_bytes > reader->max_bytes)
        return myr_fail(MYR_ERR_LIMIT, "%s: %s: %llu bytes, above the limit of %zu", item->source, item->key,
                        (unsigned long long)item->n_bytes, reader->max_bytes);
    if (item->problem != NULL)
        return myr_fail(MYR_ERR_FORMAT, "%s: %s: %s", item->source, item->key, item->problem);
    *bytes = find_lent(reader, item);
    *n_bytes = (size_t)item->n_bytes;
    if (*bytes)
        return MYR_OK;
    *n_bytes = 0;
    myr_status status = open_source(reader, item);
    if (status != MYR_OK)
        return status;
    size_t n = (size_t)item->n_bytes;
    if (item->coding == MYR_CODING_PLAIN)
        status = check_size(reader, item);
    if (status == MYR_OK)
        status = make_room(reader, item, n);
    if (status == MYR_OK)
        status = item->coding == MYR_CODING_GZIP ? read_packed(reader, item, n)
                 : item->coding == MYR_CODING_HDF5
                     ? myr_image_set_read(&reader->rows, item->source, item->offset, reader->bytes, n)
                     : read_plain(reader, item, n);
    if (status != MYR_OK)
        return status;
    *bytes = reader->bytes;
    *n_bytes = n;
    return MYR_OK;
}

void myr_item_reader_prefetch(myr_item_reader *reader, const myr_item *item)
{
    if (item->problem != NULL || item->n_bytes > reader->max_bytes || item->coding != MYR_CODING_PLAIN)
        return;
    bool own = !is_open(reader, item);
    int fd = own ? open(item->source, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : reader->fd;
    if (fd < 0)
        return;
    (void)posix_fadvise(fd, (off_t)item->offset, (off_t)item->n_bytes, POSIX_FADV_WILLNEED);
    if (own)
        close(fd);
}
