/*
 * Vectors, neighbours and hits in HDF5, as ann-benchmarks lays them out: train, test,
 * neighbors, distances.
 */
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/file.h"
#include "store/hdf5_file.h"
#include "store/hdf5_lock.h"
#include "store/vectors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_DIM 65536
#define MAX_EXPANSION 4096 /* of packed and compressed data; deflate gives 1,032 at most, one byte becomes four */

static herr_t list_name(hid_t group, const char *name, const H5L_info_t *info, void *context)
{
    (void)group;
    (void)info;
    myr_buffer *names = context;
    myr_buffer_printf(names, "%s%s", names->size ? ", " : "", name);
    return names->size > 500;
}

static myr_status no_dataset(const char *path, hid_t file, const char *dataset)
{
    myr_buffer names = {0};
    hsize_t at = 0;
    H5Literate(file, H5_INDEX_NAME, H5_ITER_INC, &at, list_name, &names);
    myr_status status = myr_fail(MYR_ERR_NOT_FOUND, "%s: there is no dataset '%s'; it has: %s", path, dataset,
                                 names.data ? names.data : "none");
    myr_buffer_free(&names);
    return status;
}

/* The sizes of a dataset of floats or whole numbers of two dimensions, checked; n: values. */
static myr_status check_matrix(const char *path, hid_t file, const char *dataset, size_t dims[2], size_t *n)
{
    hsize_t found[4];
    int rank;
    H5T_class_t class;
    size_t n_bytes;
    if (H5Lexists(file, dataset, H5P_DEFAULT) <= 0)
        return no_dataset(path, file, dataset);
    if (!store_array_shape(file, dataset, &rank, found, &class))
        return myr_fail(MYR_ERR_FORMAT, "%s: '%s' is no dataset, or a damaged one", path, dataset);
    if (rank != 2 || (class != H5T_FLOAT && class != H5T_INTEGER) || found[1] < 1 || found[1] > MAX_DIM)
        return myr_fail(MYR_ERR_FORMAT, "%s: dataset '%s' is no matrix of numbers, (vectors, values)", path, dataset);
    dims[0] = found[0];
    dims[1] = found[1];
    if (!store_array_is_sound(file, dataset))
        return myr_fail(MYR_ERR_FORMAT, "%s: dataset '%s' is stored in a way that makes no sense: the file is damaged",
                        path, dataset);
    size_t stored = store_array_bytes(file, dataset);
    if (!myr_mul(dims[0], dims[1], n) || !myr_mul(*n, 4, &n_bytes) || n_bytes / MAX_EXPANSION > stored)
        return myr_fail(MYR_ERR_LIMIT, "%s: dataset '%s' says it is larger than the file can hold", path, dataset);
    return MYR_OK;
}

/* Such a dataset as f32 (or i32). */
static myr_status read_matrix(const char *path, hid_t file, const char *dataset, hid_t memory_type, size_t dims[2],
                              void **data)
{
    size_t n;
    *data = NULL;
    myr_status status = check_matrix(path, file, dataset, dims, &n);
    if (status != MYR_OK)
        return status;
    *data = myr_alloc(n, 4);
    if (!*data)
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory for %zu vectors of %zu values", path, dims[0], dims[1]);
    if (n > 0 && !store_read_array(file, dataset, memory_type, *data)) {
        free(*data);
        *data = NULL;
        return myr_fail(MYR_ERR_FORMAT, "%s: dataset '%s' cannot be read: the file is damaged", path, dataset);
    }
    return MYR_OK;
}

/* Where a dataset of f32 that lies in the file as in memory begins; false where it is stored otherwise. */
static bool find_place(hid_t file, const char *dataset, size_t *place)
{
    hid_t set = H5Dopen2(file, dataset, H5P_DEFAULT);
    hid_t type = set >= 0 ? H5Dget_type(set) : -1, create = set >= 0 ? H5Dget_create_plist(set) : -1;
    bool is_plain = type >= 0 && create >= 0 && H5Tequal(type, H5T_IEEE_F32LE) > 0 &&
                    H5Pget_layout(create) == H5D_CONTIGUOUS && H5Pget_external_count(create) == 0;
    haddr_t offset = is_plain ? H5Dget_offset(set) : HADDR_UNDEF;
    if (create >= 0)
        H5Pclose(create);
    if (type >= 0)
        H5Tclose(type);
    if (set >= 0)
        H5Dclose(set);
    *place = (size_t)offset;
    return offset != HADDR_UNDEF;
}

/* A plain dataset is mapped, so that nobody holds more of it than is used; others are read. */
myr_status store_read_hdf5(const char *path, const char *dataset, myr_vectors *vectors)
{
    size_t dims[2], n, place = 0;
    bool is_plain = false;
    store_lock();
    hid_t file = store_file_open(path);
    myr_status status = file >= 0 ? check_matrix(path, file, dataset, dims, &n)
                                  : myr_fail(MYR_ERR_FORMAT, "%s: no HDF5 file, or a damaged one", path);
    if (status == MYR_OK) {
        is_plain = find_place(file, dataset, &place);
        if (!is_plain)
            status = read_matrix(path, file, dataset, H5T_NATIVE_FLOAT, dims, &vectors->memory);
    }
    if (file >= 0)
        H5Fclose(file);
    store_unlock();
    if (status == MYR_OK && is_plain)
        status = store_map_file(path, &vectors->mapping, &vectors->mapping_bytes);
    if (status == MYR_OK && is_plain &&
        (place > vectors->mapping_bytes || n > (vectors->mapping_bytes - place) / sizeof(float)))
        status = myr_fail(MYR_ERR_FORMAT, "%s: dataset '%s' reaches beyond the end of the file", path, dataset);
    if (status != MYR_OK)
        return status;
    vectors->element = MYR_ELEMENT_F32;
    vectors->n = dims[0];
    vectors->dim = dims[1];
    vectors->rows = is_plain ? (const uint8_t *)vectors->mapping + place : vectors->memory;
    vectors->row_bytes = dims[1] * sizeof(float);
    return MYR_OK;
}

/* -1 ends a short row; HDF5 gives ids past 2^31 as its largest number, bare files give them as negative ones. */
static myr_status check_ids(const char *path, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < -1 || ids[i] == INT32_MAX)
            return myr_fail(MYR_ERR_LIMIT, "%s: neighbour %zu has an id that is negative or past 2^31 - 2", path, i);
    return MYR_OK;
}

static myr_status read_truth(const char *path, hid_t file, myr_truth *truth)
{
    size_t dims[2], distance_dims[2];
    myr_status status = read_matrix(path, file, "neighbors", H5T_NATIVE_INT32, dims, (void **)&truth->ids);
    if (status == MYR_OK)
        status = check_ids(path, truth->ids, dims[0] * dims[1]);
    if (status != MYR_OK)
        return status;
    truth->n = dims[0];
    truth->k = dims[1];
    if (H5Lexists(file, "distances", H5P_DEFAULT) <= 0)
        return MYR_OK;
    status = read_matrix(path, file, "distances", H5T_NATIVE_FLOAT, distance_dims, (void **)&truth->distances);
    if (status == MYR_OK && memcmp(dims, distance_dims, sizeof dims) != 0)
        status = myr_fail(MYR_ERR_FORMAT, "%s: neighbors and distances differ in shape", path);
    return status;
}

static myr_status truth_from_hdf5(const char *path, myr_truth *truth)
{
    store_lock();
    hid_t file = store_file_open(path);
    myr_status status = file >= 0 ? read_truth(path, file, truth)
                                  : myr_fail(MYR_ERR_FORMAT, "%s: no HDF5 file, or a damaged one", path);
    if (file >= 0)
        H5Fclose(file);
    store_unlock();
    return status;
}

/* u32 n, u32 k, ids, and distances if the file is that long. */
static myr_status truth_from_bin(const char *path, myr_truth *truth)
{
    void *mapping;
    size_t mapping_bytes, n_values, n_bytes = 0;
    myr_status status = store_map_file(path, &mapping, &mapping_bytes);
    if (status != MYR_OK)
        return status;
    const uint8_t *bytes = mapping;
    bool fits = mapping_bytes >= 8;
    truth->n = fits ? store_u32_at(bytes) : 0;
    truth->k = fits ? store_u32_at(bytes + 4) : 0;
    fits = fits && truth->k >= 1 && myr_mul(truth->n, truth->k, &n_values) && myr_mul(n_values, 4, &n_bytes);
    bool has_distances = fits && mapping_bytes - 8 == 2 * n_bytes;
    if (!fits || (!has_distances && mapping_bytes - 8 != n_bytes)) {
        status =
            myr_fail(MYR_ERR_FORMAT, "%s: the header says %zu rows of %zu neighbours, which is not what %zu bytes hold",
                     path, truth->n, truth->k, mapping_bytes);
    } else {
        truth->ids = myr_alloc(n_values, sizeof *truth->ids);
        truth->distances = has_distances ? myr_alloc(n_values, sizeof *truth->distances) : NULL;
        if (!truth->ids || (has_distances && !truth->distances))
            status = myr_fail(MYR_ERR_NOMEM, "%s: no memory for %zu neighbours", path, n_values);
        else
            memcpy(truth->ids, bytes + 8, n_bytes);
        if (status == MYR_OK)
            status = check_ids(path, truth->ids, n_values);
        if (status == MYR_OK && has_distances)
            memcpy(truth->distances, bytes + 8 + n_bytes, n_bytes);
    }
    munmap(mapping, mapping_bytes);
    return status;
}

static myr_status truth_from_ivecs(const char *path, myr_truth *truth)
{
    myr_vectors rows;
    myr_status status = myr_vectors_read(path, NULL, &rows);
    if (status != MYR_OK)
        return status;
    truth->n = rows.n;
    truth->k = rows.dim;
    truth->ids = myr_alloc(rows.n, rows.dim * sizeof *truth->ids);
    if (!truth->ids)
        status = myr_fail(MYR_ERR_NOMEM, "%s: no memory for %zu neighbours", path, rows.n * rows.dim);
    for (size_t i = 0; i < rows.n && status == MYR_OK; i++)
        memcpy(truth->ids + i * rows.dim, rows.rows + i * rows.row_bytes, rows.dim * sizeof *truth->ids);
    if (status == MYR_OK)
        status = check_ids(path, truth->ids, rows.n * rows.dim);
    myr_vectors_clear(&rows);
    return status;
}

myr_status myr_truth_read(const char *path, myr_truth *truth)
{
    *truth = (myr_truth){0};
    myr_status status;
    if (!myr_path_exists(path))
        return myr_fail(MYR_ERR_NOT_FOUND, "%s: no such file", path);
    if (store_ends_with(path, ".hdf5") || store_ends_with(path, ".h5"))
        status = truth_from_hdf5(path, truth);
    else if (store_ends_with(path, ".ivecs"))
        status = truth_from_ivecs(path, truth);
    else
        status = truth_from_bin(path, truth);
    if (status != MYR_OK)
        myr_truth_clear(truth);
    return status;
}

void myr_truth_clear(myr_truth *truth)
{
    free(truth->ids);
    free(truth->distances);
    *truth = (myr_truth){0};
}

static bool write_hits(const char *path, size_t n, size_t k, const int64_t *ids, const float *distances)
{
    hsize_t dims[2] = {n, k};
    bool narrow = true;
    for (size_t i = 0; i < n * k && narrow; i++)
        narrow = ids[i] < INT32_MAX; /* which readers take for an id that did not fit */
    hid_t file = store_file_create(path);
    if (file < 0)
        return false;
    bool fine =
        store_write_array(file, "neighbors", narrow ? H5T_STD_I32LE : H5T_STD_I64LE, H5T_NATIVE_INT64, 2, dims, ids) &&
        store_write_array(file, "distances", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, dims, distances);
    return H5Fclose(file) >= 0 && fine;
}

myr_status myr_hits_write_hdf5(const char *path, size_t n, size_t k, const int64_t *ids, const float *distances)
{
    char *partial = myr_file_partial_name(path);
    if (!partial)
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory to write it", path);
    errno = 0;
    store_lock();
    bool fine = write_hits(partial, n, k, ids, distances);
    int reason = errno;
    store_unlock();
    myr_status status = MYR_OK;
    if (fine) {
        status = myr_file_commit(partial, path);
    } else {
        unlink(partial);
        status =
            myr_fail(MYR_ERR_IO, "%s: cannot be written: %s", path, reason ? strerror(reason) : "HDF5 gave no reason");
    }
    free(partial);
    return status;
}
