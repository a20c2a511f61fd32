/*
 * One way to look into plain and packed files.
 */
#include "corpus/input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

myr_status myr_input_open(const char *path, myr_input *input)
{
    struct stat st;
    unsigned char magic[2];
    size_t n;
    *input = (myr_input){.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (input->fd < 0 || fstat(input->fd, &st) != 0)
        return myr_fail(errno == ENOENT ? MYR_ERR_NOT_FOUND : MYR_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return myr_fail(MYR_ERR_ARG, "%s: no ordinary file", path);
    input->size = st.st_size > 0 ? (uint64_t)st.st_size : 0;
    myr_status status = myr_input_read(input, 0, magic, sizeof magic, &n);
    if (status == MYR_OK && n == 2 && magic[0] == 0x1f && magic[1] == 0x8b)
        status = myr_gzip_open(path, &input->gzip);
    return status;
}

void myr_input_close(myr_input *input)
{
    myr_gzip_close(input->gzip);
    if (input->fd >= 0)
        close(input->fd);
    input->gzip = NULL;
    input->fd = -1;
}

myr_status myr_input_read(myr_input *input, uint64_t at, void *room, size_t n, size_t *n_read)
{
    if (input->gzip != NULL)
        return myr_gzip_read(input->gzip, at, room, n, n_read);
    *n_read = 0;
    while (*n_read < n && at + *n_read < input->size) {
        ssize_t got = pread(input->fd, (char *)room + *n_read, n - *n_read, (off_t)(at + *n_read));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return myr_fail(MYR_ERR_IO, "%s: %s", input->path, strerror(errno));
        if (got == 0)
            break;
        *n_read += (size_t)got;
    }
    return MYR_OK;
}

myr_status myr_input_reach(myr_input *input, uint64_t end, uint64_t *reached)
{
    if (input->gzip != NULL)
        return myr_gzip_reach(input->gzip, end, reached);
    *reached = end < input->size ? end : input->size;
    return MYR_OK;
}

myr_status myr_input_take(myr_input *input, uint64_t at, void *room, size_t n)
{
    size_t n_read;
    myr_status status = myr_input_read(input, at, room, n, &n_read);
    if (status == MYR_OK && n_read < n)
        status = myr_fail(MYR_ERR_FORMAT, "%s: ends after %llu bytes, where more should come; it is cut or changed",
                          input->path, (unsigned long long)(at + n_read));
    return status;
}
