/*
 * Reading whole files, and replacing them atomically.
 */
#include "base/file.h"

#include "base/alloc.h"
#include "base/progress.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PARTIAL ".partial"

/* The reason, and what to do about the two that people meet. */
static myr_status io_error(const char *path, const char *what)
{
    int reason = errno;
    const char *remedy = reason == ENOSPC   ? "; free some space and run the same command again"
                         : reason == EDQUOT ? "; your quota is used up: free some space and run the same command again"
                         : reason == EROFS || reason == EACCES ? "; choose a place that can be written"
                                                               : "";
    return myr_fail(reason == ENOENT ? MYR_ERR_NOT_FOUND : MYR_ERR_IO, "%s: %s: %s%s", path, what, strerror(reason),
                    remedy);
}

myr_status myr_file_read(const char *path, size_t max_bytes, myr_buffer *buffer)
{
    myr_buffer_clear(buffer);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return io_error(path, "cannot be opened");
    myr_status status = MYR_OK;
    for (;;) {
        char piece[65536];
        ssize_t n = read(file, piece, sizeof piece);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            status = io_error(path, "cannot be read");
        if (n <= 0)
            break;
        if ((size_t)n > max_bytes - buffer->size) {
            status = myr_fail(MYR_ERR_LIMIT, "%s: over %zu bytes, more than is read of such a file", path, max_bytes);
            break;
        }
        myr_buffer_append(buffer, piece, (size_t)n);
        if (buffer->failed) {
            status = myr_fail(MYR_ERR_NOMEM, "%s: no memory to read it", path);
            break;
        }
    }
    close(file);
    return status;
}

char *myr_file_partial_name(const char *path)
{
    char *name = NULL;
    return asprintf(&name, "%s%s", path, PARTIAL) < 0 ? NULL : name;
}

static void sync_folder_of(const char *path)
{
    char *folder = myr_strdup(path);
    if (!folder)
        return;
    char *slash = strrchr(folder, '/');
    if (slash == folder)
        slash++;
    if (slash)
        *slash = 0;
    int file = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file >= 0) {
        fsync(file); /* some file systems refuse this for folders; the rename stands all the same */
        close(file);
    }
    free(folder);
}

myr_status myr_file_commit(const char *partial, const char *path)
{
    myr_status status = MYR_OK;
    int file = open(partial, O_RDWR | O_CLOEXEC);
    if (file < 0 || fsync(file) != 0)
        status = io_error(partial, "cannot be brought to disk");
    if (file >= 0)
        close(file);
    if (status == MYR_OK && rename(partial, path) != 0)
        status = io_error(path, "cannot be put in place");
    if (status != MYR_OK)
        unlink(partial);
    else
        sync_folder_of(path);
    return status;
}

myr_status myr_folder_commit(const char *partial, const char *path)
{
    if (rename(partial, path) != 0)
        return io_error(path, "cannot be put in place");
    sync_folder_of(path);
    return MYR_OK;
}

static myr_status write_all(int file, const char *path, const char *bytes, size_t n_bytes)
{
    while (n_bytes > 0) {
        ssize_t n = write(file, bytes, n_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return io_error(path, "cannot be written");
        bytes += n;
        n_bytes -= (size_t)n;
    }
    return MYR_OK;
}

myr_status myr_file_replace(const char *path, const void *bytes, size_t n_bytes)
{
    char *partial = myr_file_partial_name(path);
    if (!partial)
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory for a path", path);
    myr_status status;
    int file = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) {
        status = io_error(path, "cannot be written");
    } else {
        status = write_all(file, path, bytes, n_bytes);
        if (close(file) != 0 && status == MYR_OK)
            status = io_error(path, "cannot be written");
        if (status != MYR_OK)
            unlink(partial);
        else
            status = myr_file_commit(partial, path);
    }
    free(partial);
    return status;
}

myr_status myr_folder_create(const char *path)
{
    char *part = myr_strdup(path);
    if (!part)
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory for a path", path);
    myr_status status = MYR_OK;
    for (char *at = part + 1; status == MYR_OK; at++) {
        bool end = *at == 0;
        if (!end && *at != '/')
            continue;
        *at = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            status = io_error(part, "the folder cannot be made");
        if (end)
            break;
        *at = '/';
    }
    if (status == MYR_OK && !myr_path_is_folder(path))
        status = myr_fail(MYR_ERR_IO, "%s: exists and is no folder", path);
    free(part);
    return status;
}

myr_status myr_folder_sweep(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder)
        return io_error(path, "the folder cannot be read");
    for (struct dirent *entry; (entry = readdir(folder));) {
        size_t n = strlen(entry->d_name), m = strlen(PARTIAL);
        if (n > m && strcmp(entry->d_name + n - m, PARTIAL) == 0)
            unlinkat(dirfd(folder), entry->d_name, 0);
    }
    closedir(folder);
    return MYR_OK;
}

myr_status myr_folder_lock(const char *path, double patience_s, int *lock)
{
    double start_s = myr_now_s();
    *lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock < 0)
        return myr_fail(MYR_ERR_IO, "%s: %s", path, strerror(errno));
    while (flock(*lock, LOCK_EX | LOCK_NB) != 0) {
        bool is_held = errno == EWOULDBLOCK;
        if (is_held && myr_now_s() - start_s < patience_s) {
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
            continue;
        }
        close(*lock);
        *lock = -1;
        return is_held ? myr_fail(MYR_ERR_IO, "%s: another run is writing there; wait for it, or end it", path)
                       : MYR_OK;
    }
    return MYR_OK;
}

void myr_folder_unlock(int lock)
{
    if (lock >= 0)
        close(lock);
}

bool myr_path_exists(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0;
}

bool myr_path_is_folder(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISDIR(facts.st_mode);
}

char *myr_path_join(const char *folder, const char *name)
{
    size_t n = strlen(folder);
    char *path = NULL;
    return asprintf(&path, "%s%s%s", folder, n > 0 && folder[n - 1] == '/' ? "" : "/", name) < 0 ? NULL : path;
}
