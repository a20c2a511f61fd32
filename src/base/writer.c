/*
 * Writing in pieces: a stream into the temporary name, which is committed at the end.
 */
#include "base/writer.h"

#include "base/alloc.h"
#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct myr_writer {
    char *path, *partial; /* NULL for standard output */
    FILE *stream;
};

static myr_status cannot_write(const myr_writer *writer)
{
    int reason = errno;
    return myr_fail(MYR_ERR_IO, "%s: cannot be written: %s", writer->path ? writer->path : "standard output",
                    strerror(reason));
}

static void release(myr_writer *writer)
{
    free(writer->path);
    free(writer->partial);
    free(writer);
}

myr_status myr_writer_create(const char *path, myr_writer **out)
{
    myr_writer *writer = *out = myr_alloc(1, sizeof *writer);
    if (!writer)
        return myr_fail(MYR_ERR_NOMEM, "no memory to write a file");
    writer->stream = stdout;
    if (!path)
        return MYR_OK;
    writer->path = myr_strdup(path);
    writer->partial = myr_file_partial_name(path);
    myr_status status = MYR_OK;
    if (!writer->path || !writer->partial)
        status = myr_fail(MYR_ERR_NOMEM, "%s: no memory for a path", path);
    else if (!(writer->stream = fopen(writer->partial, "wbe")))
        status = cannot_write(writer);
    if (status != MYR_OK) {
        release(writer);
        *out = NULL;
    }
    return status;
}

myr_status myr_writer_append(myr_writer *writer, const void *bytes, size_t n_bytes)
{
    return n_bytes == 0 || fwrite(bytes, 1, n_bytes, writer->stream) == n_bytes ? MYR_OK : cannot_write(writer);
}

myr_status myr_writer_commit(myr_writer *writer)
{
    myr_status status = fflush(writer->stream) == 0 ? MYR_OK : cannot_write(writer);
    if (writer->path) {
        if (fclose(writer->stream) != 0 && status == MYR_OK)
            status = cannot_write(writer);
        if (status == MYR_OK)
            status = myr_file_commit(writer->partial, writer->path);
        else
            unlink(writer->partial);
    }
    release(writer);
    return status;
}

void myr_writer_abandon(myr_writer *writer)
{
    if (!writer)
        return;
    if (writer->path) {
        fclose(writer->stream);
        unlink(writer->partial);
    }
    release(writer);
}
