/*
 * Files that hold tensors as raw bytes: read by range, a piece at a time, so that a
 * tensor takes its own memory and little more, and a file that lies about its size none.
 */
#ifndef MYR_NN_BLOB_H
#define MYR_NN_BLOB_H

#include "nn/element.h"

typedef struct myr_blob {
    const char *path;     /* [borrowed] for messages */
    int file;             /* or -1: */
    const uint8_t *bytes; /* [borrowed] memory instead */
    uint64_t size;
} myr_blob;

/* A regular file; others, which could block or have no end, are refused. MYR_ERR_NOT_FOUND | MYR_ERR_IO. */
myr_status myr_blob_open(const char *path, myr_blob *blob);
/* The same of n bytes that outlive the blob. */
void myr_blob_of_memory(const char *name, const void *bytes, size_t n_bytes, myr_blob *blob);
void myr_blob_close(myr_blob *blob);

/* n bytes from offset; MYR_ERR_FORMAT where the file is shorter. */
myr_status myr_blob_read(const myr_blob *blob, uint64_t offset, void *to, size_t n_bytes);

/*
 * myr_blob_tensor - a tensor whose elements lie in the file, from offset on.
 *
 *  name    for messages, which give the file too
 *  tensor  [out, owned by caller]
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT (the file is shorter; nothing was allocated) | MYR_ERR_IO | MYR_ERR_NOMEM
 */
myr_status myr_blob_tensor(const myr_blob *blob, const myr_element *element, const myr_shape *shape, uint64_t offset,
                           const char *name, myr_tensor **tensor);

#endif
