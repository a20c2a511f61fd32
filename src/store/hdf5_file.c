/*
 * HDF5, wrapped. What is read may be hostile: types, ranks and sizes are asked before
 * memory is taken.
 */
#include "store/hdf5_file.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ATTRIBUTE_BYTES 65536

hid_t store_file_create(const char *path)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), create = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18);
    H5Pset_file_locking(access, false, true);
    H5Pset_obj_track_times(create, false);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, create, access);
    H5Pclose(create);
    H5Pclose(access);
    return file;
}

hid_t store_file_open(const char *path)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(access, false, true);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, access);
    H5Pclose(access);
    return file;
}

bool store_write_array(hid_t parent, const char *name, hid_t file_type, hid_t memory_type, int rank,
                       const hsize_t *dims, const void *data)
{
    size_t n = 1;
    for (int i = 0; i < rank; i++)
        n *= dims[i];
    hid_t space = H5Screate_simple(rank, dims, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(create, false);
    H5Pset_layout(create, H5D_CONTIGUOUS);
    hid_t set = H5Dcreate2(parent, name, file_type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    bool fine = set >= 0 && (n == 0 || H5Dwrite(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    if (set >= 0)
        fine = H5Dclose(set) >= 0 && fine;
    H5Pclose(create);
    H5Sclose(space);
    return fine;
}

/* Variable-length UTF-8, to be closed. */
static hid_t text_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

bool store_write_texts(hid_t parent, const char *name, char *const *texts, size_t n)
{
    hid_t type = text_type();
    bool fine = store_write_array(parent, name, type, type, 1, &(hsize_t){n}, texts);
    H5Tclose(type);
    return fine;
}

bool store_write_number(hid_t parent, const char *name, hid_t file_type, hid_t memory_type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR),
          attribute = H5Acreate2(parent, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool fine = attribute >= 0 && H5Awrite(attribute, memory_type, value) >= 0;
    if (attribute >= 0)
        H5Aclose(attribute);
    H5Sclose(space);
    return fine;
}

bool store_write_text(hid_t parent, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, strlen(text) + 1);
    H5Tset_cset(type, H5T_CSET_UTF8);
    bool fine = store_write_number(parent, name, type, type, text);
    H5Tclose(type);
    return fine;
}

bool store_array_shape(hid_t parent, const char *name, int *rank, hsize_t dims[4], H5T_class_t *class)
{
    hid_t set = H5Lexists(parent, name, H5P_DEFAULT) > 0 ? H5Dopen2(parent, name, H5P_DEFAULT) : H5I_INVALID_HID;
    if (set < 0)
        return false;
    hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    *rank = space >= 0 ? H5Sget_simple_extent_ndims(space) : -1;
    bool fine = *rank >= 0 && (*rank > 4 || H5Sget_simple_extent_dims(space, dims, NULL) == *rank) && type >= 0;
    *class = fine ? H5Tget_class(type) : H5T_NO_CLASS;
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    H5Dclose(set);
    return fine;
}

size_t store_array_bytes(hid_t parent, const char *name)
{
    hid_t set = H5Dopen2(parent, name, H5P_DEFAULT);
    hid_t file = set >= 0 ? H5Iget_file_id(set) : H5I_INVALID_HID;
    hsize_t n_bytes = set >= 0 ? H5Dget_storage_size(set) : 0, file_bytes = 0;
    bool fine = file >= 0 && H5Fget_filesize(file, &file_bytes) >= 0;
    if (file >= 0)
        H5Fclose(file);
    if (set >= 0)
        H5Dclose(set);
    return fine ? (size_t)(n_bytes < file_bytes ? n_bytes : file_bytes) : 0;
}

static bool product(hsize_t a, hsize_t b, hsize_t *result)
{
    return !__builtin_mul_overflow(a, b, result);
}

/* Whether chunks are no larger than their dataset can grow, and, unless packed, take the bytes they should. */
static bool chunks_are_sound(hid_t set, hid_t space, hid_t create, size_t element_bytes)
{
    hsize_t dims[4], most[4], chunk[4], n_chunks, n_bytes = element_bytes;
    int rank = H5Sget_simple_extent_ndims(space);
    if (rank < 1 || rank > 4 || H5Sget_simple_extent_dims(space, dims, most) != rank ||
        H5Pget_chunk(create, 4, chunk) != rank || H5Dget_num_chunks(set, space, &n_chunks) < 0)
        return false;
    for (int i = 0; i < rank; i++)
        if ((chunk[i] > dims[i] && chunk[i] > most[i]) || !product(n_bytes, chunk[i], &n_bytes))
            return false;
    return H5Pget_nfilters(create) > 0 || (product(n_chunks, n_bytes, &n_bytes) && n_bytes == H5Dget_storage_size(set));
}

bool store_array_is_sound(hid_t parent, const char *name)
{
    hid_t set = H5Dopen2(parent, name, H5P_DEFAULT);
    if (set < 0)
        return false;
    hid_t space = H5Dget_space(set), type = H5Dget_type(set), create = H5Dget_create_plist(set);
    size_t element_bytes = type >= 0 ? H5Tget_size(type) : 0;
    hssize_t n = space >= 0 ? H5Sget_simple_extent_npoints(space) : -1;
    bool sound = create >= 0 && n >= 0 && element_bytes >= 1 && element_bytes <= 8;
    switch (sound ? H5Pget_layout(create) : H5D_LAYOUT_ERROR) {
    case H5D_CONTIGUOUS: /* HDF5 checks its size */
        sound = H5Pget_external_count(create) == 0;
        break;
    case H5D_COMPACT:
        sound = H5Dget_storage_size(set) / element_bytes >= (hsize_t)n;
        break;
    case H5D_CHUNKED:
        sound = chunks_are_sound(set, space, create, element_bytes);
        break;
    default:
        sound = false;
    }
    if (create >= 0)
        H5Pclose(create);
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    H5Dclose(set);
    return sound;
}

bool store_read_array(hid_t parent, const char *name, hid_t memory_type, void *data)
{
    hid_t set = H5Dopen2(parent, name, H5P_DEFAULT);
    bool fine = set >= 0 && H5Dread(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
    if (set >= 0)
        H5Dclose(set);
    return fine;
}

char **store_read_texts(hid_t parent, const char *name, size_t n)
{
    char **texts = myr_alloc(n, sizeof *texts), **read = myr_alloc(n, sizeof *read);
    hid_t set = H5Dopen2(parent, name, H5P_DEFAULT), type = text_type();
    hid_t space = set >= 0 ? H5Dget_space(set) : H5I_INVALID_HID,
          stored = set >= 0 ? H5Dget_type(set) : H5I_INVALID_HID;
    bool fine = texts && read && space >= 0 && stored >= 0 && H5Tis_variable_str(stored) > 0 &&
                (n == 0 || H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, read) >= 0);
    for (size_t i = 0; i < n && fine; i++) {
        texts[i] = myr_strdup(read[i] ? read[i] : "");
        fine = texts[i] != NULL;
    }
    if (read && space >= 0 && n > 0)
        H5Dvlen_reclaim(type, space, H5P_DEFAULT, read);
    if (stored >= 0)
        H5Tclose(stored);
    if (space >= 0)
        H5Sclose(space);
    if (set >= 0)
        H5Dclose(set);
    H5Tclose(type);
    free(read);
    if (fine)
        return texts;
    store_free_texts(texts, n);
    return NULL;
}

void store_free_texts(char **texts, size_t n)
{
    for (size_t i = 0; texts && i < n; i++)
        free(texts[i]);
    free(texts);
}

bool store_read_number(hid_t parent, const char *name, hid_t memory_type, void *value)
{
    hid_t attribute = H5Aexists(parent, name) > 0 ? H5Aopen(parent, name, H5P_DEFAULT) : H5I_INVALID_HID;
    if (attribute < 0)
        return false;
    hid_t space = H5Aget_space(attribute), type = H5Aget_type(attribute);
    bool fine = space >= 0 && type >= 0 && H5Sget_simple_extent_npoints(space) == 1 &&
                H5Tget_class(type) == H5T_INTEGER && H5Aread(attribute, memory_type, value) >= 0;
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    H5Aclose(attribute);
    return fine;
}

char *store_read_text(hid_t parent, const char *name)
{
    char *text = NULL;
    hid_t attribute = H5Aexists(parent, name) > 0 ? H5Aopen(parent, name, H5P_DEFAULT) : H5I_INVALID_HID;
    if (attribute < 0)
        return NULL;
    hid_t space = H5Aget_space(attribute), type = H5Aget_type(attribute);
    size_t n = type >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 ? H5Tget_size(type) : 0;
    if (space >= 0 && H5Sget_simple_extent_npoints(space) == 1 && n > 0 && n <= MAX_ATTRIBUTE_BYTES)
        text = myr_alloc(n + 1, 1);
    if (text && H5Aread(attribute, type, text) < 0) {
        free(text);
        text = NULL;
    }
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    H5Aclose(attribute);
    return text;
}
