/*
 * Writing a graph of nearest neighbours: datasets of their whole size are made first, pieces go to their places in
 * them.
 */
#include "store/knn_file.h"

#include "base/alloc.h"
#include "base/file.h"
#include "store/hdf5_file.h"
#include "store/hdf5_lock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IDS, NEIGHBOURS, DISTANCES, KEYS, N_SETS };

struct myr_knn_file {
    char *path, *partial;
    size_t n, k, at;
    hid_t file;
    hid_t sets[N_SETS]; /* negative = there is none */
};

static myr_status cannot_write(const myr_knn_file *self, int reason)
{
    return myr_fail(MYR_ERR_IO, "%s: cannot be written: %s", self->path,
                    reason ? strerror(reason) : "HDF5 gave no reason");
}

static hid_t make_set(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dims)
{
    hid_t space = H5Screate_simple(rank, dims, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(create, false);
    H5Pset_layout(create, H5D_CONTIGUOUS);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    H5Pclose(create);
    H5Sclose(space);
    return set;
}

/* Variable-length UTF-8, to be closed. */
static hid_t text_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

static bool make_file(myr_knn_file *self, const myr_knn_facts *facts)
{
    hsize_t dims[2] = {facts->n, facts->k};
    int64_t version = 1, k = (int64_t)facts->k;
    self->file = store_file_create(self->partial);
    if (self->file < 0)
        return false;
    bool fine = store_write_number(self->file, "schema_version", H5T_STD_I64LE, H5T_NATIVE_INT64, &version) &&
                store_write_number(self->file, "k", H5T_STD_I64LE, H5T_NATIVE_INT64, &k) &&
                store_write_text(self->file, "metric", facts->metric ? facts->metric : "") &&
                store_write_text(self->file, "model", facts->model ? facts->model : "") &&
                store_write_text(self->file, "contract", facts->contract ? facts->contract : "") &&
                store_write_text(self->file, "index_digest", facts->index_digest ? facts->index_digest : "");
    self->sets[IDS] = make_set(self->file, "ids", H5T_STD_I64LE, 1, dims);
    self->sets[NEIGHBOURS] = make_set(self->file, "neighbours", H5T_STD_I64LE, 2, dims);
    self->sets[DISTANCES] = make_set(self->file, "distances", H5T_IEEE_F32LE, 2, dims);
    fine = fine && self->sets[IDS] >= 0 && self->sets[NEIGHBOURS] >= 0 && self->sets[DISTANCES] >= 0;
    if (facts->has_keys) {
        hid_t type = text_type();
        self->sets[KEYS] = make_set(self->file, "key", type, 1, dims);
        H5Tclose(type);
        fine = fine && self->sets[KEYS] >= 0;
    }
    return fine;
}

static bool close_file(myr_knn_file *self)
{
    bool fine = true;
    for (int i = 0; i < N_SETS; i++) {
        if (self->sets[i] >= 0)
            fine = H5Dclose(self->sets[i]) >= 0 && fine;
        self->sets[i] = H5I_INVALID_HID;
    }
    if (self->file >= 0)
        fine = H5Fclose(self->file) >= 0 && fine;
    self->file = H5I_INVALID_HID;
    return fine;
}

static void release(myr_knn_file *self)
{
    free(self->path);
    free(self->partial);
    free(self);
}

myr_status myr_knn_file_create(const char *path, const myr_knn_facts *facts, myr_knn_file **file)
{
    myr_knn_file *self = *file = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory to write it", path);
    *self = (myr_knn_file){.path = myr_strdup(path),
                           .partial = myr_file_partial_name(path),
                           .n = facts->n,
                           .k = facts->k,
                           .file = H5I_INVALID_HID,
                           .sets = {H5I_INVALID_HID, H5I_INVALID_HID, H5I_INVALID_HID, H5I_INVALID_HID}};
    myr_status status =
        self->path && self->partial ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "%s: no memory for a path", path);
    if (status == MYR_OK) {
        errno = 0;
        store_lock();
        status = make_file(self, facts) ? MYR_OK : cannot_write(self, errno);
        store_unlock();
    }
    if (status != MYR_OK) {
        myr_knn_file_abandon(self);
        *file = NULL;
    }
    return status;
}

/* n rows of a dataset from row `at` on. */
static bool put_rows(hid_t set, hid_t type, int rank, size_t at, size_t n, size_t k, const void *data)
{
    hsize_t start[2] = {at, 0}, count[2] = {n, k};
    hid_t place = H5Dget_space(set), room = H5Screate_simple(rank, count, NULL);
    bool fine = place >= 0 && room >= 0 && H5Sselect_hyperslab(place, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                H5Dwrite(set, type, room, place, H5P_DEFAULT, data) >= 0;
    if (room >= 0)
        H5Sclose(room);
    if (place >= 0)
        H5Sclose(place);
    return fine;
}

myr_status myr_knn_file_append(myr_knn_file *self, size_t n, const int64_t *ids, const int64_t *neighbours,
                               const float *distances, const char *const *keys)
{
    if (n > self->n - self->at || (self->sets[KEYS] >= 0 && !keys))
        return myr_fail(MYR_ERR_ARG, "%s: %zu rows more than it was made for, or no keys", self->path, n);
    if (n == 0)
        return MYR_OK;
    errno = 0;
    store_lock();
    bool fine = put_rows(self->sets[IDS], H5T_NATIVE_INT64, 1, self->at, n, 1, ids) &&
                put_rows(self->sets[NEIGHBOURS], H5T_NATIVE_INT64, 2, self->at, n, self->k, neighbours) &&
                put_rows(self->sets[DISTANCES], H5T_NATIVE_FLOAT, 2, self->at, n, self->k, distances);
    if (fine && self->sets[KEYS] >= 0) {
        hid_t type = text_type();
        fine = put_rows(self->sets[KEYS], type, 1, self->at, n, 1, keys);
        H5Tclose(type);
    }
    int reason = errno;
    store_unlock();
    self->at += n;
    return fine ? MYR_OK : cannot_write(self, reason);
}

myr_status myr_knn_file_commit(myr_knn_file *self)
{
    errno = 0;
    store_lock();
    bool fine = close_file(self);
    int reason = errno;
    store_unlock();
    myr_status status = fine ? MYR_OK : cannot_write(self, reason);
    if (fine && self->at != self->n)
        status = myr_fail(MYR_ERR_INTERNAL, "%s: %zu of %zu rows were written", self->path, self->at, self->n);
    if (status == MYR_OK)
        status = myr_file_commit(self->partial, self->path);
    else
        unlink(self->partial);
    release(self);
    return status;
}

void myr_knn_file_abandon(myr_knn_file *self)
{
    if (!self)
        return;
    store_lock();
    close_file(self);
    store_unlock();
    if (self->partial)
        unlink(self->partial);
    release(self);
}
