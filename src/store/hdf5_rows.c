/*
 * Rows of a matrix in an HDF5 file. The file is opened anew for each block: that costs little beside reading it, and
 * nothing is held between.
 */
#include "store/hdf5_rows.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "store/hdf5_file.h"
#include "store/hdf5_lock.h"

#include <stdlib.h>
#include <string.h>

#define MAX_DIM 65536
#define MAX_EXPANSION 4096 /* of packed and compressed data; deflate gives 1,032 at most, one byte becomes four */

static bool is_matrix(hid_t file, const char *name, hsize_t dims[4])
{
    int rank;
    H5T_class_t class;
    return store_array_shape(file, name, &rank, dims, &class) && rank == 2 &&
           (class == H5T_FLOAT || class == H5T_INTEGER);
}

static herr_t list_matrix(hid_t group, const char *name, const H5L_info_t *info, void *context)
{
    (void)info;
    myr_buffer *names = context;
    hsize_t dims[4];
    H5O_info_t object;
    if (H5Oget_info_by_name1(group, name, &object, H5P_DEFAULT) >= 0 && object.type == H5O_TYPE_DATASET &&
        is_matrix(group, name, dims))
        myr_buffer_append(names, name, strlen(name) + 1);
    return names->size > 2000;
}

/* The name of the matrix meant. [owned by caller] NULL after saying why there is none. */
static char *find_matrix(const char *path, hid_t file, const char *wanted, myr_status *status)
{
    static const char *const usual[] = {"train", "embedding"};
    hsize_t dims[4], at = 0;
    *status = MYR_OK;
    if (wanted && H5Lexists(file, wanted, H5P_DEFAULT) > 0)
        return myr_strdup(wanted);
    for (size_t i = 0; !wanted && i < sizeof usual / sizeof *usual; i++)
        if (H5Lexists(file, usual[i], H5P_DEFAULT) > 0 && is_matrix(file, usual[i], dims))
            return myr_strdup(usual[i]);
    myr_buffer names = {0};
    H5Literate(file, H5_INDEX_NAME, H5_ITER_INC, &at, list_matrix, &names);
    char *only = names.size > 0 && strlen(names.data) + 1 == names.size && !wanted ? myr_strdup(names.data) : NULL;
    if (!only) {
        for (size_t i = 0; i + 1 < names.size; i++)
            if (names.data[i] == 0)
                names.data[i] = ' ';
        const char *found = names.size ? names.data : "none";
        *status = wanted ? myr_fail(MYR_ERR_NOT_FOUND, "%s: there is no dataset '%s'; matrices at its root: %s", path,
                                    wanted, found)
                         : myr_fail(MYR_ERR_NOT_FOUND,
                                    "%s: which dataset has the vectors? Name it with --dataset-name; matrices at its "
                                    "root: %s",
                                    path, found);
    }
    myr_buffer_free(&names);
    return only;
}

static bool is_half(hid_t file, const char *name)
{
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT), type = set >= 0 ? H5Dget_type(set) : H5I_INVALID_HID;
    bool half = type >= 0 && H5Tget_class(type) == H5T_FLOAT && H5Tget_size(type) == 2;
    if (type >= 0)
        H5Tclose(type);
    if (set >= 0)
        H5Dclose(set);
    return half;
}

static myr_status look(const char *path, hid_t file, const char *dataset, myr_hdf5_rows *rows)
{
    hsize_t dims[4];
    size_t n_values, n_bytes;
    myr_status status;
    rows->dataset = find_matrix(path, file, dataset, &status);
    if (status != MYR_OK)
        return status;
    if (!rows->dataset)
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory to read it", path);
    const char *name = rows->dataset;
    if (!is_matrix(file, name, dims) || dims[1] < 1 || dims[1] > MAX_DIM)
        return myr_fail(MYR_ERR_FORMAT, "%s: dataset '%s' is no matrix of numbers, (vectors, values)", path, name);
    if (!store_array_is_sound(file, name))
        return myr_fail(MYR_ERR_FORMAT, "%s: dataset '%s' is stored in a way that makes no sense: the file is damaged",
                        path, name);
    if (!myr_mul(dims[0], dims[1], &n_values) || !myr_mul(n_values, sizeof(float), &n_bytes) ||
        n_bytes / MAX_EXPANSION > store_array_bytes(file, name))
        return myr_fail(MYR_ERR_LIMIT, "%s: dataset '%s' says it is larger than the file can hold", path, name);
    rows->n = dims[0];
    rows->dim = dims[1];
    rows->is_half = is_half(file, name);
    return MYR_OK;
}

myr_status myr_hdf5_rows_look(const char *path, const char *dataset, myr_hdf5_rows *rows)
{
    *rows = (myr_hdf5_rows){0};
    store_lock();
    hid_t file = store_file_open(path);
    myr_status status = file >= 0 ? look(path, file, dataset, rows)
                                  : myr_fail(MYR_ERR_FORMAT, "%s: no HDF5 file, or a damaged one", path);
    if (file >= 0)
        H5Fclose(file);
    store_unlock();
    if (status != MYR_OK)
        myr_hdf5_rows_clear(rows);
    return status;
}

static bool read_rows(hid_t file, const myr_hdf5_rows *rows, size_t first, size_t n, float *out)
{
    hid_t set = H5Dopen2(file, rows->dataset, H5P_DEFAULT);
    hid_t space = set >= 0 ? H5Dget_space(set) : H5I_INVALID_HID;
    hsize_t start[2] = {first, 0}, count[2] = {n, rows->dim}, dims[2];
    bool fine = space >= 0 && H5Sget_simple_extent_ndims(space) == 2 &&
                H5Sget_simple_extent_dims(space, dims, NULL) == 2 && dims[0] == rows->n && dims[1] == rows->dim &&
                H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0;
    hid_t memory = fine ? H5Screate_simple(2, count, NULL) : H5I_INVALID_HID;
    fine = memory >= 0 && H5Dread(set, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, out) >= 0;
    if (memory >= 0)
        H5Sclose(memory);
    if (space >= 0)
        H5Sclose(space);
    if (set >= 0)
        H5Dclose(set);
    return fine;
}

myr_status myr_hdf5_rows_read(const char *path, const myr_hdf5_rows *rows, size_t first, size_t n, float *out)
{
    store_lock();
    hid_t file = store_file_open(path);
    bool fine = file >= 0 && read_rows(file, rows, first, n, out);
    if (file >= 0)
        H5Fclose(file);
    store_unlock();
    return fine ? MYR_OK
                : myr_fail(MYR_ERR_FORMAT, "%s: rows %zu to %zu of dataset '%s' cannot be read: the file is damaged",
                           path, first, first + n, rows->dataset);
}

void myr_hdf5_rows_clear(myr_hdf5_rows *rows)
{
    free(rows->dataset);
    *rows = (myr_hdf5_rows){0};
}
