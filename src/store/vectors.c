/*
 * Files of vectors: which format, and the raw ones.
 *
 * Sources: big-ann-benchmarks README (.fbin and its kin); corpus-texmex.irisa.fr (.fvecs and its kin).
 */
#include "store/vectors.h"

#include "base/alloc.h"
#include "base/file.h"
#include "kernel/half.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DIM 65536

typedef enum layout { HEADED, PER_ROW, NPY, HDF5 } layout;

static const struct format {
    const char *end;
    layout layout;
    myr_element element;
} formats[] = {
    {".fbin", HEADED, MYR_ELEMENT_F32},   {".u8bin", HEADED, MYR_ELEMENT_U8},   {".i8bin", HEADED, MYR_ELEMENT_I8},
    {".ibin", HEADED, MYR_ELEMENT_I32},   {".fvecs", PER_ROW, MYR_ELEMENT_F32}, {".bvecs", PER_ROW, MYR_ELEMENT_U8},
    {".ivecs", PER_ROW, MYR_ELEMENT_I32}, {".npy", NPY, MYR_ELEMENT_F32},       {".hdf5", HDF5, MYR_ELEMENT_F32},
    {".h5", HDF5, MYR_ELEMENT_F32},
};

bool store_ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static const struct format *find_format(const char *path)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (store_ends_with(path, formats[i].end))
            return &formats[i];
    return NULL;
}

size_t store_element_bytes(myr_element element)
{
    static const size_t bytes[] = {4, 2, 8, 1, 1, 4};
    return bytes[element];
}

uint32_t store_u32_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

myr_status store_map_file(const char *path, void **mapping, size_t *n_bytes)
{
    struct stat facts;
    *mapping = NULL;
    *n_bytes = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not make us wait */
    if (file < 0)
        return myr_fail(errno == ENOENT ? MYR_ERR_NOT_FOUND : MYR_ERR_IO, "%s: %s", path, strerror(errno));
    myr_status status = MYR_OK;
    if (fstat(file, &facts) != 0 || !S_ISREG(facts.st_mode))
        status = myr_fail(MYR_ERR_IO, "%s: no regular file", path);
    else if (facts.st_size == 0)
        status = myr_fail(MYR_ERR_FORMAT, "%s: the file is empty", path);
    if (status == MYR_OK) {
        void *bytes = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_SHARED, file, 0);
        if (bytes == MAP_FAILED) {
            status = myr_fail(MYR_ERR_IO, "%s: cannot be mapped: %s", path, strerror(errno));
        } else {
            *mapping = bytes;
            *n_bytes = (size_t)facts.st_size;
        }
    }
    close(file);
    return status;
}

/* u32 n, u32 dim, rows. */
static myr_status read_headed(const char *path, myr_vectors *vectors)
{
    const uint8_t *bytes = vectors->mapping;
    size_t n_values, n_bytes;
    if (vectors->mapping_bytes < 8)
        return myr_fail(MYR_ERR_FORMAT, "%s: %zu bytes are too few for a header", path, vectors->mapping_bytes);
    vectors->n = store_u32_at(bytes);
    vectors->dim = store_u32_at(bytes + 4);
    if (vectors->dim < 1 || vectors->dim > MAX_DIM || !myr_mul(vectors->n, vectors->dim, &n_values) ||
        !myr_mul(n_values, store_element_bytes(vectors->element), &n_bytes) || n_bytes != vectors->mapping_bytes - 8)
        return myr_fail(MYR_ERR_FORMAT,
                        "%s: the header says %zu vectors of %zu values, which is not what %zu bytes hold", path,
                        vectors->n, vectors->dim, vectors->mapping_bytes);
    vectors->rows = bytes + 8;
    vectors->row_bytes = vectors->dim * store_element_bytes(vectors->element);
    return MYR_OK;
}

/* For each row u32 dim, then the values. */
static myr_status read_per_row(const char *path, myr_vectors *vectors)
{
    const uint8_t *bytes = vectors->mapping;
    vectors->dim = vectors->mapping_bytes >= 4 ? store_u32_at(bytes) : 0;
    if (vectors->dim < 1 || vectors->dim > MAX_DIM)
        return myr_fail(MYR_ERR_FORMAT, "%s: a first row of %zu values makes no sense", path, vectors->dim);
    vectors->row_bytes = 4 + vectors->dim * store_element_bytes(vectors->element);
    vectors->n = vectors->mapping_bytes / vectors->row_bytes;
    if (vectors->mapping_bytes % vectors->row_bytes != 0)
        return myr_fail(MYR_ERR_FORMAT, "%s: %zu bytes are not a whole number of rows of %zu values", path,
                        vectors->mapping_bytes, vectors->dim);
    for (size_t i = 0; i < vectors->n; i++)
        if (store_u32_at(bytes + i * vectors->row_bytes) != vectors->dim)
            return myr_fail(MYR_ERR_FORMAT, "%s: row %zu has %u values, the first has %zu", path, i,
                            store_u32_at(bytes + i * vectors->row_bytes), vectors->dim);
    vectors->rows = bytes + 4;
    return MYR_OK;
}

myr_status myr_vectors_read(const char *path, const char *dataset, myr_vectors *vectors)
{
    const struct format *format = find_format(path);
    *vectors = (myr_vectors){0};
    if (!myr_path_exists(path))
        return myr_fail(MYR_ERR_NOT_FOUND, "%s: no such file", path);
    if (!format)
        return myr_fail(
            MYR_ERR_UNSUPPORTED,
            "%s: its name must end in .fbin, .u8bin, .i8bin, .ibin, .fvecs, .bvecs, .ivecs, .npy, .hdf5 or .h5", path);
    vectors->element = format->element;
    myr_status status = MYR_OK;
    if (format->layout != HDF5)
        status = store_map_file(path, &vectors->mapping, &vectors->mapping_bytes);
    if (status == MYR_OK) {
        switch (format->layout) {
        case HEADED:
            status = read_headed(path, vectors);
            break;
        case PER_ROW:
            status = read_per_row(path, vectors);
            break;
        case NPY:
            status = store_read_npy(path, vectors);
            break;
        case HDF5:
            status = store_read_hdf5(path, dataset ? dataset : "train", vectors);
            break;
        }
    }
    if (status != MYR_OK)
        myr_vectors_clear(vectors);
    return status;
}

void myr_vectors_clear(myr_vectors *vectors)
{
    if (vectors->mapping)
        munmap(vectors->mapping, vectors->mapping_bytes);
    free(vectors->memory);
    *vectors = (myr_vectors){0};
}

static float value_at(const uint8_t *row, size_t i, myr_element element)
{
    float single;
    double wide;
    uint16_t half;
    int32_t whole;
    switch (element) {
    case MYR_ELEMENT_F32:
        memcpy(&single, row + 4 * i, 4);
        return single;
    case MYR_ELEMENT_F16:
        memcpy(&half, row + 2 * i, 2);
        return myr_half_to_float(half);
    case MYR_ELEMENT_F64:
        memcpy(&wide, row + 8 * i, 8);
        return (float)wide;
    case MYR_ELEMENT_U8:
        return (float)row[i];
    case MYR_ELEMENT_I8:
        return (float)(int8_t)row[i];
    case MYR_ELEMENT_I32:
        memcpy(&whole, row + 4 * i, 4);
        return (float)whole;
    }
    return 0;
}

myr_status myr_vectors_to_f32(const myr_vectors *vectors, size_t first, size_t n, float *out)
{
    size_t dim = vectors->dim;
    if (first > vectors->n || n > vectors->n - first)
        return myr_fail(MYR_ERR_ARG, "rows %zu to %zu of %zu vectors", first, first + n, vectors->n);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *row = vectors->rows + (first + i) * vectors->row_bytes;
        if (vectors->element == MYR_ELEMENT_F32) {
            memcpy(out + i * dim, row, dim * sizeof *out);
            continue;
        }
        for (size_t d = 0; d < dim; d++)
            out[i * dim + d] = value_at(row, d, vectors->element);
    }
    return MYR_OK;
}

/* ---- writing ---- */

/* A value as an element of a whole-number format; false where it does not fit. */
static bool put_value(myr_buffer *out, float value, myr_element element)
{
    float nearest = rintf(value), low = element == MYR_ELEMENT_I8 ? -128 : 0,
          high = element == MYR_ELEMENT_I8 ? 127 : 255;
    if (element == MYR_ELEMENT_F32) {
        myr_buffer_append(out, &value, sizeof value);
        return true;
    }
    if (!(nearest >= low && nearest <= high))
        return false;
    uint8_t byte = element == MYR_ELEMENT_I8 ? (uint8_t)(int8_t)nearest : (uint8_t)nearest;
    myr_buffer_append(out, &byte, 1);
    return true;
}

/* NumPy's header of version 1.0, padded so that the data begin at a multiple of 64. */
static void put_npy_header(myr_buffer *out, size_t n, size_t dim)
{
    myr_buffer dict = {0};
    myr_buffer_printf(&dict, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", n, dim);
    size_t padded = (10 + dict.size + 1 + 63) / 64 * 64 - 10;
    const uint8_t head[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)padded, (uint8_t)(padded >> 8)};
    myr_buffer_append(out, head, sizeof head);
    myr_buffer_append(out, dict.data, dict.size);
    for (size_t i = dict.size; i + 1 < padded; i++)
        myr_buffer_puts(out, " ");
    myr_buffer_puts(out, "\n");
    myr_buffer_free(&dict);
}

myr_status myr_vectors_write(const char *path, const float *rows, size_t n, size_t dim)
{
    const struct format *format = find_format(path);
    myr_buffer out = {0};
    const uint32_t head[2] = {(uint32_t)n, (uint32_t)dim};
    if (!format || format->layout == HDF5 || format->element == MYR_ELEMENT_I32)
        return myr_fail(MYR_ERR_UNSUPPORTED, "%s: vectors are written to .fbin, .u8bin, .i8bin, .fvecs, .bvecs or .npy",
                        path);
    if (dim < 1 || dim > MAX_DIM || (format->layout == HEADED && n > UINT32_MAX))
        return myr_fail(MYR_ERR_LIMIT, "%s: %zu vectors of %zu values do not fit this format", path, n, dim);
    if (format->layout == HEADED)
        myr_buffer_append(&out, head, sizeof head);
    if (format->layout == NPY)
        put_npy_header(&out, n, dim);
    myr_status status = MYR_OK;
    for (size_t i = 0; i < n && status == MYR_OK; i++) {
        if (format->layout == PER_ROW)
            myr_buffer_append(&out, &head[1], sizeof head[1]);
        for (size_t d = 0; d < dim && status == MYR_OK; d++)
            if (!put_value(&out, rows[i * dim + d], format->element))
                status = myr_fail(MYR_ERR_ARG, "%s: value %g of row %zu does not fit its elements", path,
                                  (double)rows[i * dim + d], i);
    }
    if (status == MYR_OK)
        status = out.failed ? myr_fail(MYR_ERR_NOMEM, "%s: no memory for %zu vectors", path, n)
                            : myr_file_replace(path, out.data, out.size);
    myr_buffer_free(&out);
    return status;
}
