/*
 * Files that all ranks write into: made by rank 0, written by offsets, brought to disk by every rank, renamed by rank
 * 0.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "dist/export_job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

myr_status myr_shared_file_name(const char *path, myr_shared_file *file)
{
    *file = (myr_shared_file){.path = myr_strdup(path), .partial = myr_file_partial_name(path), .file = -1};
    return file->path && file->partial ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
}

myr_status myr_shared_file_open(myr_shared_file *file)
{
    file->file = open(file->partial, O_WRONLY | O_CLOEXEC);
    return file->file >= 0 ? MYR_OK
                           : myr_fail(MYR_ERR_IO, "%s: cannot be written: %s; all ranks must see one file system",
                                      file->partial, strerror(errno));
}

myr_status myr_shared_file_close(myr_shared_file *file)
{
    bool fine = file->file < 0 || fsync(file->file) == 0;
    int reason = errno;
    if (file->file >= 0 && close(file->file) != 0 && fine) {
        fine = false;
        reason = errno;
    }
    file->file = -1;
    return fine ? MYR_OK : myr_fail(MYR_ERR_IO, "%s: cannot be brought to disk: %s", file->partial, strerror(reason));
}

myr_status myr_shared_file_commit(const myr_shared_file *file)
{
    return myr_file_commit(file->partial, file->path);
}

void myr_shared_file_free(myr_shared_file *file, bool is_root)
{
    if (file->path && file->file >= 0)
        close(file->file);
    if (is_root && file->partial)
        unlink(file->partial);
    free(file->path);
    free(file->partial);
    *file = (myr_shared_file){.file = -1};
}
