/*
 * NumPy's .npy: a magic number, a version, a Python dict as text, the data.
 * Source: NumPy Enhancement Proposal 1.
 */
#include "store/vectors.h"

#include "base/alloc.h"

#include <stdio.h>
#include <string.h>

#define MAX_HEADER 4096
#define MAX_DIM 65536

static bool find_element(const char *descr, myr_element *element)
{
    static const struct {
        const char *name;
        myr_element element;
    } types[] = {{"<f4", MYR_ELEMENT_F32}, {"<f2", MYR_ELEMENT_F16}, {"<f8", MYR_ELEMENT_F64},
                 {"|u1", MYR_ELEMENT_U8},  {"|i1", MYR_ELEMENT_I8},  {"<i4", MYR_ELEMENT_I32}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strncmp(descr, types[i].name, 3) == 0) {
            *element = types[i].element;
            return true;
        }
    }
    return false;
}

/* What follows 'key': in the dict, or NULL. */
static const char *find_key(const char *header, const char *key)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s':", key);
    const char *at = strstr(header, quoted);
    if (!at)
        return NULL;
    at += strlen(quoted);
    while (*at == ' ')
        at++;
    return at;
}

static myr_status parse_header(const char *path, const char *header, myr_vectors *vectors)
{
    const char *descr = find_key(header, "descr"), *order = find_key(header, "fortran_order"),
               *shape = find_key(header, "shape");
    unsigned long long n, dim;
    int end = 0;
    if (!descr || !order || !shape)
        return myr_fail(MYR_ERR_FORMAT,
                        "%s: the header of a .npy file has descr, fortran_order and shape; this has not", path);
    if (descr[0] != '\'' || !find_element(descr + 1, &vectors->element) || descr[4] != '\'')
        return myr_fail(MYR_ERR_UNSUPPORTED,
                        "%s: elements must be little-endian float16, float32, float64, int8, uint8 or int32", path);
    if (strncmp(order, "False", 5) != 0)
        return myr_fail(MYR_ERR_UNSUPPORTED, "%s: the array is in Fortran order; save numpy.ascontiguousarray of it",
                        path);
    if (sscanf(shape, "(%llu, %llu)%n", &n, &dim, &end) != 2 || end == 0)
        return myr_fail(MYR_ERR_UNSUPPORTED, "%s: the array must have two dimensions, (vectors, values)", path);
    vectors->n = (size_t)n;
    vectors->dim = (size_t)dim;
    return MYR_OK;
}

myr_status store_read_npy(const char *path, myr_vectors *vectors)
{
    const uint8_t *bytes = vectors->mapping;
    char header[MAX_HEADER + 1];
    size_t start = 0, n_header = 0, n_values, n_bytes;
    if (vectors->mapping_bytes >= 12 && memcmp(bytes, "\x93NUMPY", 6) == 0 && bytes[6] >= 1 && bytes[6] <= 3) {
        start = bytes[6] == 1 ? 10 : 12;
        n_header = bytes[6] == 1 ? (size_t)(bytes[8] | bytes[9] << 8) : store_u32_at(bytes + 8);
    }
    if (n_header == 0 || n_header > MAX_HEADER || n_header > vectors->mapping_bytes - start)
        return myr_fail(MYR_ERR_FORMAT, "%s: no .npy file, or a damaged one", path);
    memcpy(header, bytes + start, n_header);
    header[n_header] = 0;
    myr_status status = parse_header(path, header, vectors);
    if (status != MYR_OK)
        return status;
    vectors->rows = bytes + start + n_header;
    vectors->row_bytes = vectors->dim * store_element_bytes(vectors->element);
    if (vectors->dim < 1 || vectors->dim > MAX_DIM || !myr_mul(vectors->n, vectors->dim, &n_values) ||
        !myr_mul(n_values, store_element_bytes(vectors->element), &n_bytes) ||
        n_bytes != vectors->mapping_bytes - start - n_header)
        return myr_fail(MYR_ERR_FORMAT,
                        "%s: the header says %zu vectors of %zu values, which is not what the file holds", path,
                        vectors->n, vectors->dim);
    return MYR_OK;
}
