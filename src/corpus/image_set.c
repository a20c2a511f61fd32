/*
 * Pictures out of HDF5, one at a time. What is packed in chunks is unpacked by HDF5, whose cache is made to hold one
 * chunk: the pictures of a chunk are read one after the other, and each would unpack it anew.
 */
#include "corpus/image_set.h"

#include "base/alloc.h"
#include "base/hdf5_lock.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHUNK_BYTES ((hsize_t)64 << 20)
#define MAX_SIDE 65535
#define MAX_EXPANSION 4096 /* of packed data: deflate gives 1,032 at most */

void myr_corpus_hdf5_lock(void)
{
    static bool is_open;
    myr_hdf5_lock();
    if (!is_open) {
        H5dont_atexit();
        is_open = true;
    }
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void myr_corpus_hdf5_unlock(void)
{
    myr_hdf5_unlock();
}

const char *myr_image_set_colon(const char *source)
{
    const char *found = NULL;
    for (const char *at = source; (at = strstr(at, ":/")) != NULL; at++)
        found = at;
    return found;
}

hid_t myr_image_set_open_file(const char *path)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(access, false, true);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, access);
    H5Pclose(access);
    return file;
}

int myr_image_set_dims(hid_t set, hsize_t dims[4])
{
    hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    int rank = space >= 0 ? H5Sget_simple_extent_ndims(space) : 0;
    bool fine = (rank == 3 || rank == 4) && H5Sget_simple_extent_dims(space, dims, NULL) == rank && type >= 0 &&
                (H5Tequal(type, H5T_STD_U8LE) > 0 || H5Tequal(type, H5T_STD_U8BE) > 0) && dims[1] >= 1 &&
                dims[1] <= MAX_SIDE && dims[2] >= 1 && dims[2] <= MAX_SIDE &&
                (rank == 3 || dims[3] == 1 || dims[3] == 3);
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    return fine ? rank : 0;
}

static bool multiply(hsize_t *product, hsize_t factor)
{
    return !__builtin_mul_overflow(*product, factor, product);
}

/* The bytes of one chunk, 0 where its head makes no sense. */
static hsize_t chunk_bytes(hid_t set, hid_t space, hid_t create, size_t n_bytes)
{
    hsize_t dims[4], most[4], chunk[4], n_chunks, bytes = n_bytes;
    int rank = H5Sget_simple_extent_ndims(space);
    if (rank < 1 || rank > 4 || H5Sget_simple_extent_dims(space, dims, most) != rank ||
        H5Pget_chunk(create, 4, chunk) != rank || H5Dget_num_chunks(set, space, &n_chunks) < 0)
        return 0;
    for (int i = 0; i < rank; i++)
        if (chunk[i] < 1 || (chunk[i] > dims[i] && chunk[i] > most[i]) || !multiply(&bytes, chunk[i]))
            return 0;
    hsize_t stored = bytes;
    if (H5Pget_nfilters(create) == 0 && (!multiply(&stored, n_chunks) || stored != H5Dget_storage_size(set)))
        return 0;
    return bytes;
}

static myr_status check_filters(const char *what, hid_t create)
{
    for (int i = 0; i < H5Pget_nfilters(create); i++) {
        unsigned flags, config;
        size_t n_values = 0;
        char name[64] = "";
        H5Z_filter_t filter = H5Pget_filter2(create, (unsigned)i, &flags, &n_values, NULL, sizeof name, name, &config);
        if (filter < 0 || H5Zfilter_avail(filter) <= 0)
            return myr_fail(MYR_ERR_UNSUPPORTED,
                            "%s: packed by filter %d (%s), which HDF5 has not here; write it anew, as with h5repack -f "
                            "GZIP=4",
                            what, (int)filter, name);
    }
    return MYR_OK;
}

/* Bytes of the file a data set is in; 0 where they are not told. */
static hsize_t size_of_file(hid_t set)
{
    hsize_t n_bytes = 0;
    hid_t file = H5Iget_file_id(set);
    if (file < 0)
        return 0;
    if (H5Fget_filesize(file, &n_bytes) < 0)
        n_bytes = 0;
    H5Fclose(file);
    return n_bytes;
}

static myr_status check_layout(const char *what, hid_t set, hid_t space, hid_t create, size_t n_bytes)
{
    hsize_t wanted = n_bytes, stored = H5Dget_storage_size(set), file_bytes = size_of_file(set), chunk;
    hssize_t n = H5Sget_simple_extent_npoints(space);
    bool sound = n >= 0 && multiply(&wanted, (hsize_t)n) && file_bytes > 0;
    switch (sound ? H5Pget_layout(create) : H5D_LAYOUT_ERROR) {
    case H5D_CONTIGUOUS:
        if (H5Pget_external_count(create) != 0)
            return myr_fail(MYR_ERR_UNSUPPORTED, "%s: kept in other files; write it anew, as with h5repack", what);
        sound = stored == wanted && stored <= file_bytes;
        break;
    case H5D_COMPACT:
        sound = stored == wanted;
        break;
    case H5D_CHUNKED:
        chunk = chunk_bytes(set, space, create, n_bytes);
        if (chunk > MAX_CHUNK_BYTES)
            return myr_fail(MYR_ERR_LIMIT,
                            "%s: in chunks of %llu bytes, which every thread would hold; write it in chunks of at most "
                            "%llu, as with h5repack -l CHUNK=",
                            what, (unsigned long long)chunk, (unsigned long long)MAX_CHUNK_BYTES);
        sound = chunk > 0 && stored <= file_bytes && wanted / MAX_EXPANSION <= stored;
        break;
    case H5D_VIRTUAL:
        return myr_fail(MYR_ERR_UNSUPPORTED, "%s: a virtual data set; name the files it is made of", what);
    default:
        sound = false;
    }
    return sound ? check_filters(what, create)
                 : myr_fail(MYR_ERR_FORMAT,
                            "%s: not stored as its head says; the file is damaged, or was never written to", what);
}

myr_status myr_image_set_check_stored(const char *what, hid_t set, size_t n_bytes)
{
    hid_t space = H5Dget_space(set), create = H5Dget_create_plist(set);
    myr_status status = space >= 0 && create >= 0
                            ? check_layout(what, set, space, create, n_bytes)
                            : myr_fail(MYR_ERR_FORMAT, "%s: its head cannot be read; the file is damaged", what);
    if (create >= 0)
        H5Pclose(create);
    if (space >= 0)
        H5Sclose(space);
    return status;
}

/* With room for one chunk in the cache. */
static hid_t open_set(hid_t file, const char *name)
{
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
    H5Pset_chunk_cache(access, 1009, MAX_CHUNK_BYTES, 1);
    hid_t set = H5Dopen2(file, name, access);
    H5Pclose(access);
    return set;
}

static myr_status open_locked(const char *source, const char *path, const char *name, myr_image_set *rows)
{
    rows->file = myr_image_set_open_file(path);
    if (rows->file < 0)
        return myr_fail(MYR_ERR_FORMAT, "%s: no HDF5 file, or a damaged one", path);
    rows->set = open_set(rows->file, name);
    rows->rank = rows->set >= 0 ? myr_image_set_dims(rows->set, rows->dims) : 0;
    if (rows->rank == 0)
        return myr_fail(MYR_ERR_FORMAT, "%s: no data set (n, height, width, 1 or 3) of u8", source);
    rows->form = (myr_form){.width = (int32_t)rows->dims[2],
                            .height = (int32_t)rows->dims[1],
                            .n_channels = rows->rank == 3 ? 1 : (int32_t)rows->dims[3]};
    return myr_image_set_check_stored(source, rows->set, 1);
}

myr_status myr_image_set_open(const char *source, myr_image_set *rows)
{
    *rows = (myr_image_set){.file = -1, .set = -1};
    const char *colon = myr_image_set_colon(source);
    if (colon == NULL)
        return myr_fail(MYR_ERR_ARG, "%s: names no data set, as in file.h5:/images", source);
    char *path = strndup(source, (size_t)(colon - source));
    if (path == NULL)
        return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", source);
    myr_corpus_hdf5_lock();
    myr_status status = open_locked(source, path, colon + 1, rows);
    myr_corpus_hdf5_unlock();
    free(path);
    return status;
}

void myr_image_set_close(myr_image_set *rows)
{
    if (rows->file < 0)
        return;
    myr_corpus_hdf5_lock();
    if (rows->set >= 0)
        H5Dclose(rows->set);
    H5Fclose(rows->file);
    myr_corpus_hdf5_unlock();
    *rows = (myr_image_set){.file = -1, .set = -1};
}

static bool read_locked(myr_image_set *rows, uint64_t row, void *room)
{
    hsize_t first[4] = {row}, count[4] = {1, rows->dims[1], rows->dims[2], rows->dims[3]};
    hid_t from = H5Dget_space(rows->set), to = H5Screate_simple(rows->rank, count, NULL);
    bool fine = from >= 0 && to >= 0 && H5Sselect_hyperslab(from, H5S_SELECT_SET, first, NULL, count, NULL) >= 0 &&
                H5Dread(rows->set, H5T_NATIVE_UINT8, to, from, H5P_DEFAULT, room) >= 0;
    if (to >= 0)
        H5Sclose(to);
    if (from >= 0)
        H5Sclose(from);
    return fine;
}

myr_status myr_image_set_read(myr_image_set *rows, const char *source, uint64_t row, void *room, size_t n_bytes)
{
    size_t wanted = (size_t)rows->form.width * (size_t)rows->form.height * (size_t)rows->form.n_channels;
    if (row >= rows->dims[0] || n_bytes != wanted)
        return myr_fail(MYR_ERR_FORMAT, "%s: the file changed since it was listed; start again", source);
    myr_corpus_hdf5_lock();
    bool fine = read_locked(rows, row, room);
    myr_corpus_hdf5_unlock();
    return fine ? MYR_OK
                : myr_fail(MYR_ERR_FORMAT, "%s: picture %llu cannot be read: the file is damaged", source,
                           (unsigned long long)row);
}
