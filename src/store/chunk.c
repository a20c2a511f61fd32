/*
 * Embedding chunks: HDF5 that other programs read, sealed with a checksum.
 */
#include "base/alloc.h"
#include "base/checksum.h"
#include "base/file.h"
#include "myriops/store.h"
#include "kernel/half.h"
#include "store/hdf5_file.h"
#include "store/hdf5_lock.h"
#include "store/vectors.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SCHEMA 1
#define MAX_ITEMS ((int64_t)1 << 28)
#define MAX_DIM 65536

/* ---- the seal ---- */

/*
 * Sixteen bytes behind the end of what HDF5 knows: "MYRIOPS1", then XXH3-64 of all bytes before, little-endian.
 * It is checked before HDF5 sees the file, since HDF5 does not survive every damage; other readers do not notice it.
 */
#define SEAL_BYTES 16
static const char seal_magic[8] = "MYRIOPS1";

static void make_seal(const void *bytes, size_t n_bytes, uint8_t seal[SEAL_BYTES])
{
    uint64_t sum = myr_checksum64(bytes, n_bytes);
    memcpy(seal, seal_magic, sizeof seal_magic);
    for (int i = 0; i < 8; i++)
        seal[8 + i] = (uint8_t)(sum >> (8 * i));
}

static myr_status append_seal(const char *path)
{
    uint8_t seal[SEAL_BYTES];
    void *bytes;
    size_t n_bytes;
    myr_status status = store_map_file(path, &bytes, &n_bytes);
    if (status != MYR_OK)
        return status;
    make_seal(bytes, n_bytes, seal);
    munmap(bytes, n_bytes);
    FILE *file = fopen(path, "ab");
    bool fine = file && fwrite(seal, 1, sizeof seal, file) == sizeof seal;
    int reason = errno;
    if (file && fclose(file) != 0) {
        fine = false;
        reason = errno;
    }
    return fine ? MYR_OK : myr_fail(MYR_ERR_IO, "%s: cannot be written: %s", path, strerror(reason));
}

static myr_status check_seal(const char *path)
{
    uint8_t seal[SEAL_BYTES];
    void *bytes;
    size_t n_bytes;
    myr_status status = store_map_file(path, &bytes, &n_bytes);
    if (status != MYR_OK)
        return status;
    const uint8_t *end = (const uint8_t *)bytes + n_bytes - SEAL_BYTES;
    if (n_bytes > SEAL_BYTES)
        make_seal(bytes, n_bytes - SEAL_BYTES, seal);
    if (n_bytes <= SEAL_BYTES || memcmp(end, seal_magic, sizeof seal_magic) != 0)
        status = myr_fail(MYR_ERR_FORMAT,
                          "%s: no embedding chunk, or one that was cut or rewritten; remove it and embed again", path);
    else if (memcmp(end, seal, SEAL_BYTES) != 0)
        status =
            myr_fail(MYR_ERR_FORMAT,
                     "%s: its bytes do not match their checksum: the file is damaged; remove it and embed again", path);
    munmap(bytes, n_bytes);
    return status;
}

/* ---- writing ---- */

/* IEEE half as HDF5 describes it, to be closed; h5py reads it as float16. */
static hid_t half_type(void)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    return type;
}

/* What is stored: the values rounded to the storage. [owned by caller] NULL without memory. */
static float *round_values(const myr_chunk *chunk, myr_storage storage)
{
    size_t n = (size_t)chunk->n * (size_t)chunk->dim;
    float *values = myr_alloc(n, sizeof *values);
    for (size_t i = 0; values && i < n; i++)
        values[i] = storage == MYR_STORAGE_F16 ? myr_half_to_float(myr_half_from_float(chunk->embedding[i]))
                                               : chunk->embedding[i];
    return values;
}

/* Whether rounding made nothing infinite. */
static bool fits_storage(const myr_chunk *chunk, const float *rounded)
{
    size_t n = (size_t)chunk->n * (size_t)chunk->dim;
    for (size_t i = 0; i < n; i++)
        if (isinf(rounded[i]) && !isinf(chunk->embedding[i]))
            return false;
    return true;
}

static bool write_vectors(hid_t file, const myr_chunk *chunk, const float *values, myr_storage storage)
{
    hsize_t dims[2] = {(hsize_t)chunk->n, (hsize_t)chunk->dim};
    hid_t half = half_type();
    bool fine = store_write_array(file, "embedding", storage == MYR_STORAGE_F16 ? half : H5T_IEEE_F32LE,
                                  H5T_NATIVE_FLOAT, 2, dims, values) &&
                store_write_array(file, "ordinal", H5T_STD_I64LE, H5T_NATIVE_INT64, 1, dims, chunk->ordinal) &&
                store_write_array(file, "label", H5T_STD_I32LE, H5T_NATIVE_INT32, 1, dims, chunk->label);
    dims[1] = 4;
    fine =
        fine && (!chunk->box || store_write_array(file, "box", H5T_STD_I32LE, H5T_NATIVE_INT32, 2, dims, chunk->box));
    H5Tclose(half);
    return fine;
}

static bool write_bad(hid_t file, const myr_chunk *chunk)
{
    hid_t create = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_obj_track_times(create, false);
    hid_t group = H5Gcreate2(file, "bad", H5P_DEFAULT, create, H5P_DEFAULT);
    size_t n = (size_t)chunk->n_bad;
    bool fine =
        group >= 0 && store_write_texts(group, "key", chunk->bad_key, n) &&
        store_write_texts(group, "source", chunk->bad_source, n) &&
        store_write_texts(group, "reason", chunk->bad_reason, n) &&
        store_write_array(group, "ordinal", H5T_STD_I64LE, H5T_NATIVE_INT64, 1, &(hsize_t){n}, chunk->bad_ordinal) &&
        (!chunk->bad_n_bytes ||
         store_write_array(group, "n_bytes", H5T_STD_I64LE, H5T_NATIVE_INT64, 1, &(hsize_t){n}, chunk->bad_n_bytes));
    if (group >= 0)
        H5Gclose(group);
    H5Pclose(create);
    return fine;
}

static bool write_attributes(hid_t file, const myr_chunk *chunk)
{
    int64_t schema = SCHEMA, dim = chunk->dim;
    return store_write_number(file, "schema_version", H5T_STD_I64LE, H5T_NATIVE_INT64, &schema) &&
           store_write_number(file, "dim", H5T_STD_I64LE, H5T_NATIVE_INT64, &dim) &&
           store_write_text(file, "contract", chunk->contract) && store_write_text(file, "model", chunk->model) &&
           store_write_text(file, "metric", chunk->metric);
}

static bool write_file(const char *path, const myr_chunk *chunk, const float *values, myr_storage storage)
{
    hid_t file = store_file_create(path);
    if (file < 0)
        return false;
    bool fine = write_vectors(file, chunk, values, storage) &&
                store_write_texts(file, "key", chunk->key, (size_t)chunk->n) &&
                store_write_texts(file, "source", chunk->source, (size_t)chunk->n) && write_bad(file, chunk) &&
                write_attributes(file, chunk);
    return H5Fclose(file) >= 0 && fine;
}

myr_status myr_chunk_write_by(const char *path, const char *partial, const myr_chunk *chunk, myr_storage storage)
{
    float *values = round_values(chunk, storage);
    myr_status status = MYR_OK;
    if (!values) {
        status = myr_fail(MYR_ERR_NOMEM, "%s: no memory to write it", path);
        goto done;
    }
    if (!fits_storage(chunk, values)) {
        status = myr_fail(MYR_ERR_LIMIT, "%s: a value is too large for half precision; use --dtype f32", path);
        goto done;
    }
    errno = 0;
    store_lock();
    bool fine = write_file(partial, chunk, values, storage);
    int reason = errno;
    store_unlock();
    status = fine ? append_seal(partial)
                  : myr_fail(MYR_ERR_IO, "%s: cannot be written: %s", path,
                             reason ? strerror(reason) : "HDF5 gave no reason");
    if (status == MYR_OK)
        status = myr_file_commit(partial, path);
    else
        unlink(partial);
done:
    free(values);
    return status;
}

myr_status myr_chunk_write(const char *path, const myr_chunk *chunk, myr_storage storage)
{
    char *partial = myr_file_partial_name(path);
    myr_status status = partial ? myr_chunk_write_by(path, partial, chunk, storage)
                                : myr_fail(MYR_ERR_NOMEM, "%s: no memory to write it", path);
    free(partial);
    return status;
}

/* ---- reading ---- */

/* The number of rows of a one-dimensional dataset of this class, -1 where it is not that. */
static int64_t length_of(hid_t parent, const char *name, H5T_class_t wanted)
{
    hsize_t dims[4];
    int rank;
    H5T_class_t class;
    if (!store_array_shape(parent, name, &rank, dims, &class) || rank != 1 || class != wanted ||
        dims[0] > (hsize_t)MAX_ITEMS)
        return -1;
    return (int64_t)dims[0];
}

static const char no_memory[] = "memory";

/* Counts and attributes; NULL, or what is wrong. */
static const char *read_head(hid_t file, hid_t bad, myr_chunk *chunk)
{
    hsize_t dims[4];
    int rank;
    int64_t dim = 0;
    H5T_class_t class;
    if (!store_read_number(file, "dim", H5T_NATIVE_INT64, &dim) || dim < 1 || dim > MAX_DIM)
        return "attribute 'dim'";
    if (!store_array_shape(file, "embedding", &rank, dims, &class) || rank != 2 || class != H5T_FLOAT ||
        dims[1] != (hsize_t)dim || dims[0] > (hsize_t)MAX_ITEMS)
        return "/embedding";
    if (dims[0] * dims[1] > store_array_bytes(file, "embedding") / sizeof(uint16_t)) /* 2^44 at most */
        return "/embedding";
    chunk->n = (int64_t)dims[0];
    chunk->dim = (int)dim;
    if (length_of(file, "ordinal", H5T_INTEGER) != chunk->n || length_of(file, "label", H5T_INTEGER) != chunk->n ||
        length_of(file, "key", H5T_STRING) != chunk->n || length_of(file, "source", H5T_STRING) != chunk->n)
        return "/ordinal, /label, /key or /source";
    chunk->n_bad = length_of(bad, "ordinal", H5T_INTEGER);
    if (chunk->n_bad < 0 || length_of(bad, "key", H5T_STRING) != chunk->n_bad ||
        length_of(bad, "source", H5T_STRING) != chunk->n_bad || length_of(bad, "reason", H5T_STRING) != chunk->n_bad) {
        chunk->n_bad = 0;
        return "/bad";
    }
    chunk->contract = store_read_text(file, "contract");
    chunk->model = store_read_text(file, "model");
    chunk->metric = store_read_text(file, "metric");
    return chunk->contract && chunk->model && chunk->metric ? NULL : "attributes";
}

/* Absent where all items are whole pictures. */
static const char *read_boxes(hid_t file, myr_chunk *chunk)
{
    hsize_t dims[4];
    int rank;
    H5T_class_t class;
    if (H5Lexists(file, "box", H5P_DEFAULT) <= 0)
        return NULL;
    if (!store_array_shape(file, "box", &rank, dims, &class) || rank != 2 || class != H5T_INTEGER ||
        dims[0] != (hsize_t)chunk->n || dims[1] != 4)
        return "/box";
    chunk->box = myr_alloc((size_t)chunk->n, 4 * sizeof *chunk->box);
    if (!chunk->box)
        return no_memory;
    return chunk->n == 0 || store_read_array(file, "box", H5T_NATIVE_INT32, chunk->box) ? NULL : "/box";
}

static const char *read_vectors(hid_t file, myr_chunk *chunk)
{
    size_t n = (size_t)chunk->n, n_values;
    if (myr_mul(n, (size_t)chunk->dim, &n_values))
        chunk->embedding = myr_alloc(n_values, sizeof *chunk->embedding);
    chunk->ordinal = myr_alloc(n, sizeof *chunk->ordinal);
    chunk->label = myr_alloc(n, sizeof *chunk->label);
    if (!chunk->embedding || !chunk->ordinal || !chunk->label)
        return no_memory;
    if (n > 0 && (!store_read_array(file, "embedding", H5T_NATIVE_FLOAT, chunk->embedding) ||
                  !store_read_array(file, "ordinal", H5T_NATIVE_INT64, chunk->ordinal) ||
                  !store_read_array(file, "label", H5T_NATIVE_INT32, chunk->label)))
        return "/embedding, /ordinal or /label";
    return read_boxes(file, chunk);
}

static const char *read_bad(hid_t bad, myr_chunk *chunk)
{
    size_t n = (size_t)chunk->n_bad;
    chunk->bad_key = store_read_texts(bad, "key", n);
    chunk->bad_source = store_read_texts(bad, "source", n);
    chunk->bad_reason = store_read_texts(bad, "reason", n);
    chunk->bad_ordinal = myr_alloc(n, sizeof *chunk->bad_ordinal);
    if (!chunk->bad_key || !chunk->bad_source || !chunk->bad_reason || !chunk->bad_ordinal ||
        (n > 0 && !store_read_array(bad, "ordinal", H5T_NATIVE_INT64, chunk->bad_ordinal)))
        return "/bad";
    if (H5Lexists(bad, "n_bytes", H5P_DEFAULT) <= 0) /* of an earlier version */
        return NULL;
    if (length_of(bad, "n_bytes", H5T_INTEGER) != chunk->n_bad)
        return "/bad";
    chunk->bad_n_bytes = myr_alloc(n, sizeof *chunk->bad_n_bytes);
    if (!chunk->bad_n_bytes)
        return no_memory;
    return n == 0 || store_read_array(bad, "n_bytes", H5T_NATIVE_INT64, chunk->bad_n_bytes) ? NULL : "/bad";
}

static const char *read_parts(hid_t file, hid_t bad, unsigned parts, myr_chunk *chunk)
{
    const char *wrong = read_head(file, bad, chunk);
    if (wrong)
        return wrong;
    if (parts & MYR_CHUNK_VECTORS)
        wrong = read_vectors(file, chunk);
    if (!wrong && parts & MYR_CHUNK_KEYS) {
        chunk->key = store_read_texts(file, "key", (size_t)chunk->n);
        chunk->source = store_read_texts(file, "source", (size_t)chunk->n);
        wrong = chunk->key && chunk->source ? NULL : "/key or /source";
    }
    if (!wrong && parts & MYR_CHUNK_BAD)
        wrong = read_bad(bad, chunk);
    return wrong;
}

static myr_status read_open(const char *path, hid_t file, unsigned parts, myr_chunk *chunk)
{
    int64_t schema = 0;
    if (!store_read_number(file, "schema_version", H5T_NATIVE_INT64, &schema))
        return myr_fail(MYR_ERR_FORMAT, "%s: no embedding chunk", path);
    if (schema != SCHEMA)
        return myr_fail(MYR_ERR_UNSUPPORTED, "%s: schema version %lld; this Myriops reads version %d", path,
                        (long long)schema, SCHEMA);
    hid_t bad = H5Lexists(file, "bad", H5P_DEFAULT) > 0 ? H5Gopen2(file, "bad", H5P_DEFAULT) : H5I_INVALID_HID;
    const char *wrong = bad >= 0 ? read_parts(file, bad, parts, chunk) : "/bad";
    if (bad >= 0)
        H5Gclose(bad);
    if (wrong == no_memory)
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory to read it", path);
    if (wrong)
        return myr_fail(MYR_ERR_FORMAT,
                        "%s: %s is missing or makes no sense: the file is damaged; remove it and embed again", path,
                        wrong);
    return MYR_OK;
}

myr_status myr_chunk_read(const char *path, unsigned parts, myr_chunk *chunk)
{
    *chunk = (myr_chunk){0};
    if (!myr_path_exists(path))
        return myr_fail(MYR_ERR_NOT_FOUND, "%s: no such chunk", path);
    myr_status status = check_seal(path);
    if (status != MYR_OK)
        return status;
    store_lock();
    hid_t file = store_file_open(path);
    status = file >= 0 ? read_open(path, file, parts, chunk)
                       : myr_fail(MYR_ERR_FORMAT, "%s: cannot be opened as HDF5", path);
    if (file >= 0)
        H5Fclose(file);
    store_unlock();
    if (status != MYR_OK)
        myr_chunk_clear(chunk);
    return status;
}

void myr_chunk_clear(myr_chunk *chunk)
{
    store_free_texts(chunk->key, (size_t)chunk->n);
    store_free_texts(chunk->source, (size_t)chunk->n);
    store_free_texts(chunk->bad_key, (size_t)chunk->n_bad);
    store_free_texts(chunk->bad_source, (size_t)chunk->n_bad);
    store_free_texts(chunk->bad_reason, (size_t)chunk->n_bad);
    free(chunk->embedding);
    free(chunk->ordinal);
    free(chunk->label);
    free(chunk->box);
    free(chunk->bad_ordinal);
    free(chunk->bad_n_bytes);
    free(chunk->contract);
    free(chunk->model);
    free(chunk->metric);
    *chunk = (myr_chunk){0};
}
