/*
 * Headers first, rows later. In HDF5 the datasets are contiguous and allocated when they are made, so each has one
 * place in the file that HDF5 tells.
 *
 * Sources: NumPy Enhancement Proposal 1; big-ann-benchmarks README; ann-benchmarks README.
 */
#include "store/layout.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/file.h"
#include "store/hdf5_file.h"
#include "store/hdf5_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NPY_HEAD 128 /* a multiple of 64 that holds any shape */

myr_status myr_layout_put(int file, const char *path, const void *bytes, size_t n_bytes, uint64_t at)
{
    const char *from = bytes;
    while (n_bytes > 0) {
        ssize_t n = pwrite(file, from, n_bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return myr_fail(MYR_ERR_IO, "%s: cannot be written: %s", path, n < 0 ? strerror(errno) : "no room");
        from += n;
        n_bytes -= (size_t)n;
        at += (uint64_t)n;
    }
    return MYR_OK;
}

/* A new file with its header, as long as it will be. */
static myr_status begin(const char *path, const void *head, size_t n_head, uint64_t n_rows, size_t row_bytes)
{
    size_t n_bytes;
    if (!myr_mul(n_rows, row_bytes, &n_bytes) || n_bytes > INT64_MAX - n_head)
        return myr_fail(MYR_ERR_LIMIT, "%s: %llu rows are more than a file holds", path, (unsigned long long)n_rows);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0)
        return myr_fail(MYR_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    myr_status status = MYR_OK;
    if (ftruncate(file, (off_t)(n_bytes + n_head)) != 0)
        status = myr_fail(MYR_ERR_IO, "%s: cannot be made %zu bytes long: %s", path, n_bytes + n_head, strerror(errno));
    if (status == MYR_OK)
        status = myr_layout_put(file, path, head, n_head, 0);
    close(file);
    return status;
}

myr_status myr_layout_npy(const char *path, uint64_t n, size_t dim, myr_storage storage, myr_layout *layout)
{
    char head[NPY_HEAD + 1] = "\x93NUMPY\x01";
    head[8] = NPY_HEAD - 10;
    int length = snprintf(head + 10, NPY_HEAD - 10, "{'descr': '<f%d', 'fortran_order': False, 'shape': (%llu, %zu), }",
                          storage == MYR_STORAGE_F16 ? 2 : 4, (unsigned long long)n, dim);
    memset(head + 10 + length, ' ', (size_t)(NPY_HEAD - 11 - length));
    head[NPY_HEAD - 1] = '\n';
    layout->rows = NPY_HEAD;
    return begin(path, head, NPY_HEAD, n, dim * (storage == MYR_STORAGE_F16 ? 2 : 4));
}

myr_status myr_layout_fbin(const char *path, uint64_t n, size_t dim, myr_layout *layout)
{
    const uint32_t head[2] = {(uint32_t)n, (uint32_t)dim};
    if (n > UINT32_MAX)
        return myr_fail(MYR_ERR_LIMIT, "%s: .fbin counts at most 2^32 - 1 vectors, these are %llu; export to npy", path,
                        (unsigned long long)n);
    layout->rows = sizeof head;
    return begin(path, head, sizeof head, n, dim * sizeof(float));
}

/* A dataset allocated at once; *at its byte in the file. */
static bool make_dataset(hid_t file, const char *name, hid_t type, uint64_t n, uint64_t width, uint64_t *at)
{
    hsize_t dims[2] = {n, width};
    hid_t space = H5Screate_simple(2, dims, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(create, false);
    H5Pset_layout(create, H5D_CONTIGUOUS);
    H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(create, H5D_FILL_TIME_NEVER);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    haddr_t offset = set >= 0 ? H5Dget_offset(set) : HADDR_UNDEF;
    if (set >= 0)
        H5Dclose(set);
    H5Pclose(create);
    H5Sclose(space);
    *at = offset;
    return offset != HADDR_UNDEF;
}

/* A text of variable length, which h5py gives as str. */
static bool write_text(hid_t file, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    bool fine = store_write_number(file, name, type, type, &text);
    H5Tclose(type);
    return fine;
}

static bool make_ann(hid_t file, const char *distance, myr_ann_layout *layout)
{
    int64_t dim = (int64_t)layout->dim;
    return make_dataset(file, "train", H5T_IEEE_F32LE, layout->n_train, layout->dim, &layout->train) &&
           make_dataset(file, "test", H5T_IEEE_F32LE, layout->n_test, layout->dim, &layout->test) &&
           make_dataset(file, "neighbors", H5T_STD_I32LE, layout->n_test, layout->k, &layout->neighbors) &&
           make_dataset(file, "distances", H5T_IEEE_F32LE, layout->n_test, layout->k, &layout->distances) &&
           write_text(file, "type", "dense") && write_text(file, "distance", distance) &&
           write_text(file, "point_type", "float") &&
           store_write_number(file, "dimension", H5T_STD_I64LE, H5T_NATIVE_INT64, &dim);
}

myr_status myr_layout_ann(const char *path, const char *distance, myr_ann_layout *layout)
{
    errno = 0;
    store_lock();
    hid_t file = store_file_create(path);
    bool fine = file >= 0 && make_ann(file, distance, layout);
    if (file >= 0)
        fine = H5Fclose(file) >= 0 && fine;
    int reason = errno;
    store_unlock();
    return fine ? MYR_OK
                : myr_fail(MYR_ERR_IO, "%s: cannot be written: %s", path,
                           reason ? strerror(reason) : "HDF5 gave no reason");
}
