/*
 * Elements stand in raw_data, in the field of their type, or in another file.
 *
 * A model is fetched from strangers, so the name of that other file is too: it must not
 * make us read what lies outside the model's folder.
 * Source: ONNX IR specification, "Serializing Models / External Tensor Data".
 */
#include "nn/onnx_tensor.h"

#include "base/alloc.h"
#include "base/file.h"
#include "kernel/half.h"
#include "nn/blob.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How many elements the field of their type has. */
static size_t count_fields(const Onnx__TensorProto *from)
{
    switch (from->data_type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT:
        return from->n_float_data;
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE:
        return from->n_double_data;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT64:
        return from->n_int64_data;
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT32:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT64:
        return from->n_uint64_data;
    default:
        return from->n_int32_data;
    }
}

/* Elements kept in the field of their type; their number is right. */
static void widen_fields(const Onnx__TensorProto *from, myr_tensor *tensor)
{
    size_t n = myr_shape_count(&tensor->shape);
    float *reals = tensor->data;
    int64_t *numbers = tensor->data;
    for (size_t i = 0; i < n; i++) {
        switch (from->data_type) {
        case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT:
            reals[i] = from->float_data[i];
            break;
        case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE:
            reals[i] = (float)from->double_data[i];
            break;
        case ONNX__TENSOR_PROTO__DATA_TYPE__INT64:
            numbers[i] = from->int64_data[i];
            break;
        case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16:
            reals[i] = myr_half_to_float((uint16_t)from->int32_data[i]);
            break;
        case ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16:
            reals[i] = myr_element_bfloat16((uint16_t)from->int32_data[i]);
            break;
        case ONNX__TENSOR_PROTO__DATA_TYPE__UINT32:
        case ONNX__TENSOR_PROTO__DATA_TYPE__UINT64:
            numbers[i] = (int64_t)from->uint64_data[i];
            break;
        default:
            numbers[i] = from->int32_data[i];
            break;
        }
    }
}

/* What a tensor says of its data in another file. */
typedef struct placement {
    const char *location; /* NULL = not said */
    uint64_t offset, length;
    bool has_length;
} placement;

static bool parse_number(const char *text, uint64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0;
}

/* Keys that are not read here, such as a checksum, are allowed by the format. */
static bool read_placement(const Onnx__TensorProto *from, placement *place)
{
    bool right = true;
    *place = (placement){0};
    for (size_t i = 0; i < from->n_external_data && right; i++) {
        const char *key = from->external_data[i]->key, *value = from->external_data[i]->value;
        if (!key || !value)
            right = false;
        else if (strcmp(key, "location") == 0)
            place->location = value;
        else if (strcmp(key, "offset") == 0)
            right = parse_number(value, &place->offset);
        else if (strcmp(key, "length") == 0)
            right = place->has_length = parse_number(value, &place->length);
    }
    return right && place->location && place->location[0] != 0;
}

/* Whether a relative path has no ".." in it. */
static bool stays_below(const char *path)
{
    for (const char *part = path; *part;) {
        size_t length = strcspn(part, "/");
        if (length == 2 && part[0] == '.' && part[1] == '.')
            return false;
        part += length + (part[length] == '/');
    }
    return path[0] != '/';
}

/* "" where the model's path has no folder: then it is the current one. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return myr_strdup(".");
    return slash == path ? myr_strdup("/") : strndup(path, (size_t)(slash - path));
}

/* The file with all links followed, which must still be in the model's folder. [owned by caller] */
static myr_status find_data_file(const char *model, const char *tensor, const char *location, char **path)
{
    *path = NULL;
    if (!stays_below(location))
        return myr_fail(MYR_ERR_FORMAT,
                        "%s: tensor '%s' is kept in '%s'; only files in the model's own folder are read", model, tensor,
                        location);
    char *folder = folder_of(model), *whole = folder ? realpath(folder, NULL) : NULL;
    char *wanted = whole ? myr_path_join(whole, location) : NULL;
    int reason = 0;
    if (wanted && !(*path = realpath(wanted, NULL)))
        reason = errno;
    size_t length = whole ? strlen(whole) : 0;
    myr_status status = MYR_OK;
    if (!wanted)
        status = myr_fail(MYR_ERR_NOMEM, "%s: tensor '%s': no memory for the path of its data", model, tensor);
    else if (reason)
        status =
            myr_fail(reason == ENOENT ? MYR_ERR_NOT_FOUND : MYR_ERR_IO,
                     "%s: tensor '%s' is kept in '%s', which cannot be opened (%s); put that file beside the model",
                     model, tensor, location, strerror(reason));
    else if (length > 1 && (strncmp(*path, whole, length) != 0 || (*path)[length] != '/'))
        status =
            myr_fail(MYR_ERR_FORMAT,
                     "%s: tensor '%s' is kept in '%s', a link out of the model's folder; put the file itself there",
                     model, tensor, location);
    if (status != MYR_OK) {
        free(*path);
        *path = NULL;
    }
    free(folder);
    free(whole);
    free(wanted);
    return status;
}

/* Weights decide what vectors mean, also those the model's own file does not hold. */
static myr_status add_to_digest(myr_onnx_origin *origin, const char *name, const myr_tensor *tensor)
{
    if (!origin->external && !(origin->external = myr_sha256_create()))
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory for a digest of its weights", origin->path);
    myr_sha256_update(origin->external, name, strlen(name) + 1);
    myr_sha256_update(origin->external, tensor->data, myr_tensor_bytes(tensor));
    return MYR_OK;
}

static myr_status take_external(myr_onnx_origin *origin, const Onnx__TensorProto *from, const myr_element *element,
                                const myr_shape *shape, myr_tensor **tensor)
{
    const char *name = from->name ? from->name : "";
    size_t n_bytes = myr_shape_count(shape) * element->bytes;
    placement place;
    myr_blob blob;
    char *path;
    if (!read_placement(from, &place))
        return myr_fail(MYR_ERR_FORMAT,
                        "%s: tensor '%s' is kept in another file, but location, offset or length is "
                        "missing or no number; the file is damaged",
                        origin->path, name);
    if (place.has_length && place.length != n_bytes)
        return myr_fail(MYR_ERR_FORMAT, "%s: tensor '%s' has %llu bytes in '%s', but its shape needs %zu", origin->path,
                        name, (unsigned long long)place.length, place.location, n_bytes);
    if (!origin->is_file)
        return myr_fail(MYR_ERR_FORMAT, "%s: tensor '%s' is kept in '%s', but this model is no file", origin->path,
                        name, place.location);
    myr_status status = find_data_file(origin->path, name, place.location, &path);
    if (status != MYR_OK)
        return status;
    status = myr_blob_open(path, &blob);
    if (status == MYR_OK) {
        status = myr_blob_tensor(&blob, element, shape, place.offset, name, tensor);
        myr_blob_close(&blob);
    } else {
        status = myr_fail(status, "tensor '%s': %s", name, myr_error_detail());
    }
    if (status != MYR_OK)
        status = myr_fail(status, "%s: %s", origin->path, myr_error_detail());
    else
        status = add_to_digest(origin, name, *tensor);
    if (status != MYR_OK) {
        myr_tensor_free(*tensor);
        *tensor = NULL;
    }
    free(path);
    return status;
}

static myr_status take_internal(const char *path, const Onnx__TensorProto *from, const myr_element *element,
                                const myr_shape *shape, myr_tensor **tensor)
{
    const char *name = from->name ? from->name : "";
    size_t n = myr_shape_count(shape), n_there = count_fields(from);
    bool fits = from->has_raw_data ? from->raw_data.len == n * element->bytes : n_there == n;
    if (!fits && from->has_raw_data)
        return myr_fail(MYR_ERR_FORMAT, "%s: tensor '%s' has %zu bytes, but its shape needs %zu; the file is damaged",
                        path, name, from->raw_data.len, n * element->bytes);
    if (!fits)
        return myr_fail(MYR_ERR_FORMAT,
                        "%s: tensor '%s' has %zu elements, but its shape needs %zu; the file is damaged", path, name,
                        n_there, n);
    myr_status status = myr_tensor_create(element->type, shape, tensor);
    if (status != MYR_OK)
        return myr_fail(status, "%s: tensor '%s': %s", path, name, myr_error_detail());
    if (from->has_raw_data)
        myr_element_widen(element, from->raw_data.data, 0, n, *tensor);
    else
        widen_fields(from, *tensor);
    return MYR_OK;
}

myr_status myr_onnx_take_tensor(myr_onnx_origin *origin, const Onnx__TensorProto *from, myr_tensor **tensor,
                                const char **problem)
{
    const myr_element *element = myr_element_by_number(from->has_data_type ? from->data_type : 0);
    const char *name = from->name ? from->name : "";
    myr_shape shape = {.rank = (int)from->n_dims};
    *tensor = NULL;
    *problem = NULL;
    if (!element)
        *problem = "element type other than float, half, bfloat16, double, bool and whole numbers";
    else if (from->n_dims > MYR_TENSOR_MAX_RANK)
        *problem = "tensor of more than 8 dimensions";
    else if (from->segment)
        *problem = "weights kept in segments";
    if (*problem)
        return MYR_OK;
    for (size_t i = 0; i < from->n_dims; i++)
        shape.dims[i] = from->dims[i];
    char text[256];
    if (!myr_shape_is_sane(&shape))
        return myr_fail(MYR_ERR_FORMAT, "%s: tensor '%s' has a shape that makes no sense, %s", origin->path, name,
                        myr_shape_text(&shape, text, sizeof text));
    bool is_external = from->has_data_location && from->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    return is_external ? take_external(origin, from, element, &shape, tensor)
                       : take_internal(origin->path, from, element, &shape, tensor);
}
