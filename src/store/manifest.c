/*
 * manifest.json, written with jansson in one order of keys.
 *
 * Paths may hold bytes that are no UTF-8, which JSON cannot. Such a byte, and a percent sign, is
 * written as %XX, so that what is read back is what was given.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "base/utf8.h"
#include "myriops/store.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA 1
#define MAX_BYTES ((size_t)256 << 20)
#define LEAST_GUIDED 8 /* items of a chunk: a run of the network is not split */
#define N_SIZES 4      /* chunk_items, and its half, quarter and eighth */

/* The chunks of each size, in the order they come in; the last one of all may be cut by the end of the items. */
typedef struct schedule {
    int64_t items[N_SIZES], n[N_SIZES];
} schedule;

static int64_t chunks_for(int64_t n_items, int64_t size)
{
    return n_items / size + (n_items % size > 0);
}

static schedule plan(const myr_manifest *manifest)
{
    schedule sizes = {.items = {manifest->chunk_items}};
    int64_t left = manifest->n_items;
    if (!manifest->guided) {
        sizes.n[0] = chunks_for(left, manifest->chunk_items);
        return sizes;
    }
    for (int i = 0; i < N_SIZES; i++) {
        int64_t size = manifest->chunk_items >> i, planned = i == 0 ? left - left / 8 : left / 2;
        sizes.items[i] = size > LEAST_GUIDED ? size : LEAST_GUIDED;
        sizes.n[i] = i == N_SIZES - 1 ? chunks_for(left, sizes.items[i]) : planned / sizes.items[i];
        left -= sizes.n[i] * sizes.items[i];
    }
    return sizes;
}

int64_t myr_manifest_count_chunks(const myr_manifest *manifest)
{
    schedule sizes = plan(manifest);
    int64_t n = 0;
    for (int i = 0; i < N_SIZES; i++)
        n += sizes.n[i];
    return n;
}

int64_t myr_manifest_chunk(const myr_manifest *manifest, int64_t place, int64_t *first)
{
    schedule sizes = plan(manifest);
    int i = 0;
    *first = 0;
    for (; i < N_SIZES - 1 && place >= sizes.n[i]; i++) {
        place -= sizes.n[i];
        *first += sizes.n[i] * sizes.items[i];
    }
    *first += place * sizes.items[i];
    int64_t left = manifest->n_items - *first;
    return left < sizes.items[i] ? left : sizes.items[i];
}

static json_t *encode_text(const char *text)
{
    char *escaped = myr_text_escape(text);
    json_t *value = escaped ? json_string(escaped) : NULL;
    free(escaped);
    return value;
}

static json_t *encode_list(char *const *texts, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++) {
        if (json_array_append_new(list, encode_text(texts[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

myr_status myr_manifest_write(const char *path, const myr_manifest *manifest)
{
    json_t *root = json_pack(
        "{s:i, s:o, s:s, s:s, s:s, s:i, s:s, s:s, s:I, s:I, s:s*, s:I, s:b, s:I, s:I, s:o, s:o}", "schema_version",
        SCHEMA, "model", encode_text(manifest->model), "contract", manifest->contract, "corpus",
        manifest->corpus_digest, "metric", manifest->metric, "dim", manifest->dim, "storage", manifest->storage,
        "precision", manifest->precision, "items", (json_int_t)manifest->n_items, "chunk_items",
        (json_int_t)manifest->chunk_items, "schedule", manifest->guided ? "guided" : NULL, "chunks",
        (json_int_t)manifest->n_chunks, "complete", manifest->complete, "embedded", (json_int_t)manifest->n_embedded,
        "bad", (json_int_t)manifest->n_bad, "operands", encode_list(manifest->operands, manifest->n_operands),
        "classes", encode_list(manifest->classes, manifest->n_classes));
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    if (!text)
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory to write it", path);
    myr_buffer bytes = {0};
    myr_buffer_printf(&bytes, "%s\n", text);
    free(text);
    myr_status status = bytes.failed ? myr_fail(MYR_ERR_NOMEM, "%s: no memory to write it", path)
                                     : myr_file_replace(path, bytes.data, bytes.size);
    myr_buffer_free(&bytes);
    return status;
}

static bool take_text(const json_t *root, const char *name, char **text)
{
    const char *value = json_string_value(json_object_get(root, name));
    *text = value ? myr_text_unescape(value) : NULL;
    return *text != NULL;
}

static bool take_number(const json_t *root, const char *name, int64_t least, int64_t most, int64_t *number)
{
    const json_t *value = json_object_get(root, name);
    *number = json_integer_value(value);
    return json_is_integer(value) && *number >= least && *number <= most;
}

static bool take_list(const json_t *root, const char *name, char ***texts, size_t *n)
{
    const json_t *list = json_object_get(root, name);
    *texts = json_is_array(list) ? myr_alloc(json_array_size(list), sizeof **texts) : NULL;
    for (size_t i = 0; *texts && i < json_array_size(list); i++) {
        const char *value = json_string_value(json_array_get(list, i));
        char *copy = value ? myr_text_unescape(value) : NULL;
        if (!copy)
            return false;
        (*texts)[(*n)++] = copy;
    }
    return *texts != NULL;
}

/* NULL, or the name of the first field that is wrong. */
static const char *take_fields(const json_t *root, myr_manifest *manifest)
{
    int64_t dim;
    if (!take_text(root, "model", &manifest->model))
        return "model";
    if (!take_text(root, "contract", &manifest->contract) || strlen(manifest->contract) != 64)
        return "contract";
    if (!take_text(root, "corpus", &manifest->corpus_digest))
        return "corpus";
    if (!take_text(root, "metric", &manifest->metric) ||
        (strcmp(manifest->metric, "cosine") != 0 && strcmp(manifest->metric, "l2") != 0 &&
         strcmp(manifest->metric, "ip") != 0))
        return "metric";
    if (!take_text(root, "storage", &manifest->storage) ||
        (strcmp(manifest->storage, "f32") != 0 && strcmp(manifest->storage, "f16") != 0))
        return "storage";
    if (!json_object_get(root, "precision")) /* files made before there was a choice */
        manifest->precision = myr_strdup("f32");
    else if (!take_text(root, "precision", &manifest->precision))
        return "precision";
    if (!manifest->precision || (strcmp(manifest->precision, "f32") != 0 && strcmp(manifest->precision, "bf16") != 0 &&
                                 strcmp(manifest->precision, "int8") != 0))
        return "precision";
    if (!take_number(root, "dim", 1, 65536, &dim))
        return "dim";
    manifest->dim = (int)dim;
    if (!take_number(root, "items", 0, (int64_t)1 << 48, &manifest->n_items))
        return "items";
    if (!take_number(root, "chunk_items", 1, (int64_t)1 << 28, &manifest->chunk_items))
        return "chunk_items";
    const json_t *rule = json_object_get(root, "schedule"); /* not there: all chunks are of one size */
    manifest->guided = rule != NULL;
    if (rule && (!json_is_string(rule) || strcmp(json_string_value(rule), "guided") != 0))
        return "schedule";
    int64_t n_chunks = myr_manifest_count_chunks(manifest);
    if (!take_number(root, "chunks", n_chunks, n_chunks, &manifest->n_chunks))
        return "chunks";
    if (!json_is_boolean(json_object_get(root, "complete")))
        return "complete";
    manifest->complete = json_is_true(json_object_get(root, "complete"));
    if (!take_number(root, "embedded", 0, manifest->n_items, &manifest->n_embedded))
        return "embedded";
    if (!take_number(root, "bad", 0, manifest->n_items - manifest->n_embedded, &manifest->n_bad))
        return "bad";
    if (!take_list(root, "operands", &manifest->operands, &manifest->n_operands))
        return "operands";
    return take_list(root, "classes", &manifest->classes, &manifest->n_classes) ? NULL : "classes";
}

myr_status myr_manifest_read(const char *path, myr_manifest *manifest)
{
    myr_buffer bytes = {0};
    json_error_t error;
    *manifest = (myr_manifest){0};
    myr_status status = myr_file_read(path, MAX_BYTES, &bytes);
    if (status != MYR_OK)
        return status;
    json_t *root = json_loadb(bytes.data ? bytes.data : "", bytes.size, 0, &error);
    myr_buffer_free(&bytes);
    if (!root)
        return myr_fail(MYR_ERR_FORMAT, "%s: line %d: %s; remove the folder and embed again", path, error.line,
                        error.text);
    const json_t *version = json_object_get(root, "schema_version");
    json_int_t schema = json_integer_value(version);
    const char *wrong = !json_is_integer(version) ? "schema_version"
                        : schema == SCHEMA        ? take_fields(root, manifest)
                                                  : NULL;
    if (json_is_integer(version) && schema != SCHEMA)
        status = myr_fail(MYR_ERR_UNSUPPORTED, "%s: schema version %lld; this Myriops reads version %d", path,
                          (long long)schema, SCHEMA);
    else if (wrong)
        status = myr_fail(MYR_ERR_FORMAT, "%s: '%s' is missing or makes no sense; remove the folder and embed again",
                          path, wrong);
    if (status != MYR_OK)
        myr_manifest_clear(manifest);
    json_decref(root);
    return status;
}

void myr_manifest_clear(myr_manifest *manifest)
{
    for (size_t i = 0; i < manifest->n_classes; i++)
        free(manifest->classes[i]);
    for (size_t i = 0; i < manifest->n_operands; i++)
        free(manifest->operands[i]);
    free(manifest->classes);
    free(manifest->operands);
    free(manifest->corpus_digest);
    free(manifest->contract);
    free(manifest->model);
    free(manifest->metric);
    free(manifest->storage);
    free(manifest->precision);
    *manifest = (myr_manifest){0};
}
