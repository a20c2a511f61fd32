/*
 * Reading ranges with pread: a file that another process shortens gives an error, where a
 * mapped one would end the program.
 */
#include "nn/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)1 << 16) /* a multiple of every element */

myr_status myr_blob_open(const char *path, myr_blob *blob)
{
    struct stat facts;
    *blob = (myr_blob){.path = path, .file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (blob->file < 0)
        return myr_fail(errno == ENOENT ? MYR_ERR_NOT_FOUND : MYR_ERR_IO, "%s: cannot be opened: %s", path,
                        strerror(errno));
    if (fstat(blob->file, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        myr_blob_close(blob);
        return myr_fail(MYR_ERR_IO, "%s: not a regular file; weights are read from files only", path);
    }
    blob->size = (uint64_t)facts.st_size;
    return MYR_OK;
}

void myr_blob_of_memory(const char *name, const void *bytes, size_t n_bytes, myr_blob *blob)
{
    *blob = (myr_blob){.path = name, .file = -1, .bytes = bytes, .size = n_bytes};
}

void myr_blob_close(myr_blob *blob)
{
    if (blob->file >= 0)
        close(blob->file);
    blob->file = -1;
}

myr_status myr_blob_read(const myr_blob *blob, uint64_t offset, void *to, size_t n_bytes)
{
    char *at = to;
    bool fits = offset <= blob->size && n_bytes <= blob->size - offset;
    if (fits && blob->file < 0 && n_bytes > 0)
        memcpy(to, blob->bytes + offset, n_bytes);
    for (size_t done = 0; fits && blob->file >= 0 && done < n_bytes;) {
        ssize_t n = pread(blob->file, at + done, n_bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return myr_fail(MYR_ERR_IO, "%s: cannot be read: %s", blob->path, strerror(errno));
        fits = n > 0; /* it has become shorter */
        done += (size_t)n;
    }
    return fits ? MYR_OK
                : myr_fail(MYR_ERR_FORMAT, "%s: ends before byte %llu; it is cut off", blob->path,
                           (unsigned long long)offset + n_bytes);
}

myr_status myr_blob_tensor(const myr_blob *blob, const myr_element *element, const myr_shape *shape, uint64_t offset,
                           const char *name, myr_tensor **out)
{
    uint8_t piece[PIECE_BYTES];
    myr_tensor *tensor;
    size_t n = myr_shape_count(shape), n_each = PIECE_BYTES / element->bytes; /* sane: no product overflows */
    *out = NULL;
    if (offset > blob->size || n * element->bytes > blob->size - offset)
        return myr_fail(MYR_ERR_FORMAT,
                        "tensor '%s': its %zu bytes from %llu on are not in %s, which has %llu; the file is cut off",
                        name, n * element->bytes, (unsigned long long)offset, blob->path,
                        (unsigned long long)blob->size);
    myr_status status = myr_tensor_create(element->type, shape, &tensor);
    if (status != MYR_OK)
        return myr_fail(status, "tensor '%s' in %s: %s", name, blob->path, myr_error_detail());
    for (size_t i = 0; i < n && status == MYR_OK; i += n_each) {
        size_t n_now = n - i < n_each ? n - i : n_each;
        status = myr_blob_read(blob, offset + i * element->bytes, piece, n_now * element->bytes);
        if (status == MYR_OK)
            myr_element_widen(element, piece, i, n_now, tensor);
    }
    if (status != MYR_OK) {
        myr_tensor_free(tensor);
        return myr_fail(status, "tensor '%s': %s", name, myr_error_detail());
    }
    *out = tensor;
    return MYR_OK;
}
