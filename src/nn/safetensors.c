/*
 * A file is the length of a header (u64, little-endian), the header, which is JSON, and the
 * elements of all tensors, one after the other without a gap:
 *
 *   {"conv.weight": {"dtype": "F16", "shape": [8, 3, 3, 3], "data_offsets": [0, 432]}, ...}
 *
 * with offsets from the end of the header. "__metadata__" is for people.
 */
#include "nn/safetensors.h"

#include "base/alloc.h"
#include "nn/blob.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define MAX_HEADER_BYTES ((uint64_t)100000000)
#define LENGTH_BYTES 8
#define METADATA "__metadata__"

/* Bytes of a tensor, from the end of the header. */
typedef struct span {
    const char *name;
    uint64_t begin, end;
} span;

/* An opened file. */
typedef struct archive {
    myr_blob blob;
    json_t *header;
    uint64_t data; /* where the header ends */
} archive;

/* Widths of the types that are only stepped over here; the others are in element.c. */
static size_t width_of(const char *dtype)
{
    static const struct {
        const char *name;
        size_t bytes;
    } others[] = {{"I8", 1}, {"U8", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I16", 2}, {"U16", 2}, {"U32", 4}, {"U64", 8}};
    const myr_element *element = myr_element_by_name(dtype);
    if (element)
        return element->bytes;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(others[i].name, dtype) == 0)
            return others[i].bytes;
    return 0;
}

static myr_status no_memory(const archive *from)
{
    return myr_fail(MYR_ERR_NOMEM, "%s: no memory for its header", from->blob.path);
}

static myr_status damaged(const archive *from, const char *tensor, const char *what)
{
    return myr_fail(MYR_ERR_FORMAT, "%s: tensor '%s': %s; the file is damaged", from->blob.path, tensor, what);
}

static bool take_offset(const json_t *number, uint64_t *offset)
{
    if (!json_is_integer(number) || json_integer_value(number) < 0)
        return false;
    *offset = (uint64_t)json_integer_value(number);
    return true;
}

/* Bytes of a shape, which may have more dimensions than are read. False where it is none, or they overflow. */
static bool count_bytes(const json_t *shape, size_t width, uint64_t *n_bytes)
{
    *n_bytes = width;
    bool is_empty = false, right = json_is_array(shape);
    for (size_t i = 0; right && i < json_array_size(shape); i++) {
        uint64_t dim = 0;
        right = take_offset(json_array_get(shape, i), &dim);
        is_empty = is_empty || dim == 0;
        /* A zero elsewhere must not hide a product that overflows. */
        right = right && !__builtin_mul_overflow(*n_bytes, dim > 0 ? dim : 1, n_bytes);
    }
    if (is_empty)
        *n_bytes = 0;
    return right;
}

static myr_status check_tensor(const archive *from, const char *name, const json_t *entry, span *place)
{
    const json_t *dtype = json_object_get(entry, "dtype"), *shape = json_object_get(entry, "shape"),
                 *offsets = json_object_get(entry, "data_offsets");
    uint64_t n_bytes, n_data = from->blob.size - from->data;
    *place = (span){.name = name};
    if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !take_offset(json_array_get(offsets, 0), &place->begin) ||
        !take_offset(json_array_get(offsets, 1), &place->end))
        return damaged(from, name, "has no dtype, shape and data_offsets as the format wants them");
    if (place->begin > place->end)
        return damaged(from, name, "ends before it begins");
    if (place->end > n_data)
        return myr_fail(MYR_ERR_FORMAT,
                        "%s: tensor '%s': ends at byte %llu of the data, which has %llu; the file is cut off",
                        from->blob.path, name, (unsigned long long)place->end, (unsigned long long)n_data);
    size_t width = width_of(json_string_value(dtype));
    if (!count_bytes(shape, width > 0 ? width : 1, &n_bytes))
        return damaged(from, name, "has a shape that makes no sense");
    if (width > 0 && n_bytes != place->end - place->begin)
        return myr_fail(
            MYR_ERR_FORMAT, "%s: tensor '%s': has %llu bytes, but its shape needs %llu; the file is damaged",
            from->blob.path, name, (unsigned long long)(place->end - place->begin), (unsigned long long)n_bytes);
    return MYR_OK;
}

static int by_place(const void *a, const void *b)
{
    const span *one = a, *other = b;
    if (one->begin != other->begin)
        return one->begin < other->begin ? -1 : 1;
    return one->end < other->end ? -1 : one->end > other->end;
}

/* Every tensor is right, and each begins where the one before ends. */
static myr_status check_header(const archive *from)
{
    size_t n = 0;
    const char *name;
    json_t *entry;
    span *spans = myr_alloc(json_object_size(from->header), sizeof *spans);
    if (!spans)
        return no_memory(from);
    myr_status status = MYR_OK;
    json_object_foreach(from->header, name, entry)
    {
        if (strcmp(name, METADATA) == 0)
            continue;
        status = check_tensor(from, name, entry, &spans[n++]);
        if (status != MYR_OK)
            goto done;
    }
    qsort(spans, n, sizeof *spans, by_place);
    for (size_t i = 0; i < n && status == MYR_OK; i++) {
        uint64_t end = i > 0 ? spans[i - 1].end : 0;
        if (spans[i].begin < end)
            status = myr_fail(MYR_ERR_FORMAT, "%s: tensor '%s': lies over tensor '%s'; the file is damaged",
                              from->blob.path, spans[i].name, spans[i - 1].name);
        else if (spans[i].begin > end)
            status = damaged(from, spans[i].name, "there are bytes in front of it that belong to no tensor");
    }
    uint64_t end = n > 0 ? spans[n - 1].end : 0;
    if (status == MYR_OK && end != from->blob.size - from->data)
        status = myr_fail(MYR_ERR_FORMAT, "%s: %llu bytes at its end belong to no tensor; the file is damaged",
                          from->blob.path, (unsigned long long)(from->blob.size - from->data - end));
done:
    free(spans);
    return status;
}

static myr_status read_header(archive *from)
{
    uint8_t length[LENGTH_BYTES];
    uint64_t n_bytes = 0;
    json_error_t error;
    if (from->blob.size < LENGTH_BYTES)
        return myr_fail(MYR_ERR_FORMAT, "%s: no safetensors file: it has %llu bytes", from->blob.path,
                        (unsigned long long)from->blob.size);
    myr_status status = myr_blob_read(&from->blob, 0, length, sizeof length);
    if (status != MYR_OK)
        return status;
    for (int i = LENGTH_BYTES; i-- > 0;)
        n_bytes = n_bytes << 8 | length[i];
    /* The file's size first: a file of another kind gives any number here. */
    if (n_bytes > from->blob.size - LENGTH_BYTES)
        return myr_fail(MYR_ERR_FORMAT, "%s: no safetensors file, or cut off: its header should have %llu bytes",
                        from->blob.path, (unsigned long long)n_bytes);
    if (n_bytes > MAX_HEADER_BYTES)
        return myr_fail(MYR_ERR_LIMIT, "%s: its header has %llu bytes, more than the %llu that are read",
                        from->blob.path, (unsigned long long)n_bytes, (unsigned long long)MAX_HEADER_BYTES);
    from->data = LENGTH_BYTES + n_bytes;
    char *text = myr_alloc(n_bytes, 1);
    if (!text)
        return no_memory(from);
    status = myr_blob_read(&from->blob, LENGTH_BYTES, text, n_bytes);
    if (status == MYR_OK && !(from->header = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &error)))
        status = myr_fail(MYR_ERR_FORMAT, "%s: its header is no JSON, or names a tensor twice: %s", from->blob.path,
                          error.text);
    free(text);
    if (status == MYR_OK && !json_is_object(from->header))
        status = myr_fail(MYR_ERR_FORMAT, "%s: its header is no JSON object", from->blob.path);
    return status == MYR_OK ? check_header(from) : status;
}

/* Whether a shape is one that the input is declared with; no shape declared takes any. */
static bool fits(const myr_shape *shape, const myr_shape *declared)
{
    bool same = declared->rank == 0 || declared->rank == shape->rank;
    for (int i = 0; same && i < declared->rank; i++)
        same = declared->dims[i] < 0 || declared->dims[i] == shape->dims[i];
    return same;
}

/* The tensor of one input; its entry passed check_tensor. */
static myr_status take_tensor(const archive *from, const myr_value *input, const json_t *entry, myr_tensor **tensor)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype")), *path = from->blob.path;
    const json_t *dims = json_object_get(entry, "shape");
    const myr_element *element = myr_element_by_name(dtype);
    uint64_t begin = (uint64_t)json_integer_value(json_array_get(json_object_get(entry, "data_offsets"), 0));
    myr_shape shape = {.rank = (int)json_array_size(dims)};
    char got[256], want[256];
    if (!element)
        return myr_fail(MYR_ERR_UNSUPPORTED,
                        "%s: tensor '%s': elements of type %s; F32, F16, BF16, F64, I64, I32 and BOOL are read", path,
                        input->name, dtype);
    if (json_array_size(dims) > MYR_TENSOR_MAX_RANK)
        return myr_fail(MYR_ERR_UNSUPPORTED, "%s: tensor '%s': has more than %d dimensions", path, input->name,
                        MYR_TENSOR_MAX_RANK);
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = json_integer_value(json_array_get(dims, (size_t)i));
    if (!myr_shape_is_sane(&shape))
        return damaged(from, input->name, "has a shape that makes no sense");
    if (!fits(&shape, &input->shape))
        return myr_fail(MYR_ERR_FORMAT, "%s: tensor '%s': has shape %s, but the network's input of this name %s", path,
                        input->name, myr_shape_text(&shape, got, sizeof got),
                        myr_shape_text(&input->shape, want, sizeof want));
    if (element->type != input->type)
        return myr_fail(MYR_ERR_FORMAT,
                        "%s: tensor '%s': has elements of type %s, but the network's input of this name "
                        "takes %s",
                        path, input->name, dtype, input->type == MYR_TYPE_F32 ? "floats" : "whole numbers");
    return myr_blob_tensor(&from->blob, element, &shape, from->data + begin, input->name, tensor);
}

/* Inputs with a tensor are none any more. The batch is what the file says of the first that is left. */
static void settle(myr_graph *graph, myr_tensor **tensors)
{
    size_t n = 0;
    for (size_t i = 0; i < graph->n_inputs; i++) {
        if (tensors[i])
            graph->values[graph->inputs[i]].constant = tensors[i];
        else
            graph->inputs[n++] = graph->inputs[i];
    }
    graph->n_inputs = n;
    const myr_shape *first = n > 0 ? &graph->values[graph->inputs[0]].shape : NULL;
    graph->file_batch = first && first->rank > 0 ? first->dims[0] : -1;
}

static myr_status take_all(const archive *from, myr_graph *graph, size_t *n_taken)
{
    myr_status status = MYR_OK;
    myr_tensor **tensors = myr_alloc(graph->n_inputs, sizeof *tensors);
    size_t n = 0;
    if (!tensors)
        return no_memory(from);
    for (size_t i = 0; i < graph->n_inputs && status == MYR_OK; i++) {
        const myr_value *input = &graph->values[graph->inputs[i]];
        const json_t *entry = strcmp(input->name, METADATA) != 0 ? json_object_get(from->header, input->name) : NULL;
        if (!entry)
            continue;
        status = take_tensor(from, input, entry, &tensors[i]);
        n++;
    }
    if (status == MYR_OK) {
        settle(graph, tensors);
        *n_taken = n;
    }
    for (size_t i = 0; status != MYR_OK && i < graph->n_inputs; i++)
        myr_tensor_free(tensors[i]);
    free(tensors);
    return status;
}

static myr_status take(archive *from, myr_graph *graph, size_t *n_taken)
{
    *n_taken = 0;
    myr_status status = read_header(from);
    if (status == MYR_OK)
        status = take_all(from, graph, n_taken);
    json_decref(from->header);
    return status;
}

myr_status myr_safetensors_load(const char *path, myr_graph *graph, size_t *n_taken)
{
    archive from = {0};
    *n_taken = 0;
    myr_status status = myr_blob_open(path, &from.blob);
    if (status != MYR_OK)
        return status;
    status = take(&from, graph, n_taken);
    myr_blob_close(&from.blob);
    return status;
}

myr_status myr_safetensors_parse(const char *name, const void *bytes, size_t n_bytes, myr_graph *graph, size_t *n_taken)
{
    archive from = {0};
    myr_blob_of_memory(name, bytes, n_bytes, &from.blob);
    return take(&from, graph, n_taken);
}
