/*
 * index.json, with jansson. 64-bit checksums are hex texts, since JSON numbers are doubles to many readers.
 */
#include "dist/index_manifest.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/utf8.h"
#include "myriops/hit.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA 2
#define WHOLE_FILES 1 /* the version whose checksums are of all bytes of a file, not of its trailer */
#define MAX_MANIFEST_BYTES ((size_t)256 << 20)
#define MAX_SHARDS (1u << 20)
#define UNSEEN 2 /* candidates for a query that is not in the graph, to those for one that is */

static const char *const quantize_names[] = {"sq8", "sq8-f16", "none"};

const char *myr_quantize_name(myr_quantize quantize)
{
    return quantize_names[quantize];
}

bool myr_quantize_of(const char *name, myr_quantize *quantize)
{
    for (size_t i = 0; i < sizeof quantize_names / sizeof *quantize_names; i++)
        if (strcmp(name, quantize_names[i]) == 0) {
            *quantize = (myr_quantize)i;
            return true;
        }
    return false;
}

static void hex64(uint64_t value, char text[17])
{
    snprintf(text, 17, "%016llx", (unsigned long long)value);
}

static json_t *shard_json(const myr_shard_entry *shard)
{
    char checksum[17];
    hex64(shard->checksum, checksum);
    return json_pack("{s:s, s:I, s:s, s:s}", "file", shard->file, "items", (json_int_t)shard->n_items, "digest",
                     shard->digest, "checksum", checksum);
}

/* Bytes that are no UTF-8 as %XX. */
static json_t *text_json(const char *text)
{
    char *escaped = myr_text_escape(text);
    json_t *value = escaped ? json_string(escaped) : NULL;
    free(escaped);
    return value;
}

static json_t *curve_json(const myr_index_curve *curve)
{
    json_t *points = json_array();
    bool whole = points;
    for (size_t i = 0; i < curve->n_points && whole; i++)
        whole = json_array_append_new(points, json_pack("{s:I, s:f}", "ef", (json_int_t)curve->points[i].ef, "recall",
                                                        curve->points[i].recall)) == 0;
    if (!whole) {
        json_decref(points);
        return NULL;
    }
    return json_pack("{s:i, s:I, s:o}", "k", 10, "queries", (json_int_t)curve->n_queries, "points", points);
}

static json_t *route_json(const myr_route_curve *route)
{
    json_t *points = json_array();
    bool whole = points;
    for (size_t i = 0; i < route->n_points && whole; i++)
        whole =
            json_array_append_new(points, json_pack("{s:f, s:f, s:f}", "left", (double)route->points[i].left, "recall",
                                                    route->points[i].recall, "shards", route->points[i].visits)) == 0;
    if (!whole) {
        json_decref(points);
        return NULL;
    }
    return json_pack("{s:i, s:I, s:o}", "k", 10, "queries", (json_int_t)route->n_queries, "points", points);
}

myr_status myr_index_manifest_write(const char *folder, const myr_index_manifest *manifest)
{
    char checksum[17];
    hex64(manifest->router_checksum, checksum);
    json_t *shards = json_array(), *classes = json_array();
    bool whole = shards && classes;
    for (size_t i = 0; i < manifest->n_shards && whole; i++)
        whole = json_array_append_new(shards, shard_json(&manifest->shards[i])) == 0;
    for (size_t i = 0; i < manifest->n_classes && whole; i++)
        whole = json_array_append_new(classes, text_json(manifest->classes[i])) == 0;
    json_t *document = json_pack(
        "{s:i, s:I, s:I, s:f, s:i, s:s, s:s?, s:o, s:s, s:i, s:i, s:I, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}",
        "schema_version", SCHEMA, "items", (json_int_t)manifest->n_items, "copies", (json_int_t)manifest->n_copies,
        "overlap", manifest->overlap, "dim", manifest->dim, "metric", manifest->metric, "contract", manifest->contract,
        "model", manifest->model ? text_json(manifest->model) : json_null(), "partition", manifest->partition, "M",
        manifest->M, "ef_construction", manifest->ef_construction, "seed", (json_int_t)manifest->seed, "digest",
        manifest->digest, "router_file", manifest->router_file, "router_checksum", checksum, "quantize",
        myr_quantize_name(manifest->quantize), "classes", classes, "recall_curve", curve_json(&manifest->curve),
        "route_curve", route_json(&manifest->route), "shards", shards);
    char *text = document && whole ? json_dumps(document, JSON_INDENT(2)) : NULL;
    char *path = myr_path_join(folder, "index.json");
    myr_status status = text && path ? myr_file_replace(path, text, strlen(text))
                                     : myr_fail(MYR_ERR_NOMEM, "%s: no memory for index.json", folder);
    free(path);
    free(text);
    json_decref(document);
    return status;
}

void myr_index_manifest_seal(myr_index_manifest *manifest)
{
    myr_sha256 *hash = myr_sha256_create();
    for (size_t s = 0; hash && s < manifest->n_shards; s++)
        myr_sha256_update(hash, manifest->shards[s].digest, MYR_SHA256_TEXT - 1);
    if (hash)
        myr_sha256_finish(hash, manifest->digest);
}

/* Of files named like shards: "shard-00007-..." can only be entry 7's. */
static bool is_named(const myr_index_manifest *manifest, const char *name)
{
    if (strcmp(name, manifest->router_file) == 0)
        return true;
    char *end;
    unsigned long long s = strncmp(name, "shard-", 6) == 0 ? strtoull(name + 6, &end, 10) : manifest->n_shards;
    return s < manifest->n_shards && strcmp(name, manifest->shards[s].file) == 0;
}

void myr_index_manifest_sweep(const char *folder, const myr_index_manifest *manifest)
{
    DIR *entries = opendir(folder);
    if (!entries)
        return;
    for (struct dirent *entry; (entry = readdir(entries));) {
        const char *name = entry->d_name;
        bool ours = (strncmp(name, "shard-", 6) == 0 || strncmp(name, "router-", 7) == 0) && strstr(name, ".h5");
        char *path = ours && !is_named(manifest, name) ? myr_path_join(folder, name) : NULL;
        if (path)
            remove(path);
        free(path);
    }
    closedir(entries);
}

/* A plain file name inside the folder: no way out of it. */
static bool take_file(const json_t *value, char file[64])
{
    const char *text = json_string_value(value);
    if (!text || !*text || strlen(text) >= 64 || strchr(text, '/') || text[0] == '.')
        return false;
    strcpy(file, text);
    return true;
}

static bool take_hex(const json_t *value, size_t digits, char *text)
{
    const char *hex = json_string_value(value);
    if (!hex || strlen(hex) != digits || strspn(hex, "0123456789abcdef") != digits)
        return false;
    strcpy(text, hex);
    return true;
}

static bool take_checksum(const json_t *value, uint64_t *checksum)
{
    char hex[17];
    if (!take_hex(value, 16, hex))
        return false;
    *checksum = strtoull(hex, NULL, 16);
    return true;
}

static bool take_text(const json_t *value, bool may_be_null, char **text)
{
    if (json_is_null(value) && may_be_null)
        return true;
    if (!json_is_string(value))
        return false;
    *text = myr_text_unescape(json_string_value(value));
    return *text != NULL;
}

static bool take_int(const json_t *value, int64_t least, int64_t most, int64_t *number)
{
    *number = json_integer_value(value);
    return json_is_integer(value) && *number >= least && *number <= most;
}

static bool take_shards(const json_t *shards, myr_index_manifest *manifest)
{
    size_t n = json_array_size(shards);
    int64_t n_items = 0;
    if (!json_is_array(shards) || n == 0 || n > MAX_SHARDS)
        return false;
    manifest->shards = myr_alloc(n, sizeof *manifest->shards);
    if (!manifest->shards)
        return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(shards, i);
        myr_shard_entry *shard = &manifest->shards[i];
        if (!take_file(json_object_get(entry, "file"), shard->file) ||
            !take_hex(json_object_get(entry, "digest"), 64, shard->digest) ||
            !take_checksum(json_object_get(entry, "checksum"), &shard->checksum) ||
            !take_int(json_object_get(entry, "items"), 0, INT32_MAX, &shard->n_items))
            return false;
        n_items += shard->n_items;
    }
    manifest->n_shards = n;
    return n_items - manifest->n_copies == manifest->n_items;
}

static bool take_classes(const json_t *classes, myr_index_manifest *manifest)
{
    size_t n = json_array_size(classes);
    if (!json_is_array(classes))
        return false;
    manifest->classes = myr_alloc(n, sizeof *manifest->classes);
    for (size_t i = 0; manifest->classes && i < n; i++) {
        if (!take_text(json_array_get(classes, i), false, &manifest->classes[i]))
            return false;
        manifest->n_classes = i + 1;
    }
    return manifest->classes != NULL;
}

/* Indexes of older versions have none: sq8. */
static bool take_quantize(const json_t *value, myr_quantize *quantize)
{
    const char *name = json_string_value(value);
    *quantize = MYR_QUANTIZE_SQ8;
    return !value || (name && myr_quantize_of(name, quantize));
}

/* Indexes of older versions have none. */
static bool take_curve(const json_t *curve, myr_index_curve *taken)
{
    const json_t *points = json_object_get(curve, "points");
    int64_t ef = 0;
    if (!curve)
        return true;
    if (!take_int(json_object_get(curve, "queries"), 0, INT64_MAX, &taken->n_queries) || !json_is_array(points) ||
        json_array_size(points) > sizeof taken->points / sizeof *taken->points)
        return false;
    for (size_t i = 0; i < json_array_size(points); i++) {
        const json_t *point = json_array_get(points, i);
        double recall = json_number_value(json_object_get(point, "recall"));
        if (!take_int(json_object_get(point, "ef"), ef + 1, 100000, &ef) || !(recall >= 0 && recall <= 1))
            return false;
        taken->points[i].ef = (size_t)ef;
        taken->points[i].recall = recall;
        taken->n_points = i + 1;
    }
    return true;
}

/* Likewise. */
static bool take_route(const json_t *route, myr_route_curve *taken)
{
    const json_t *points = json_object_get(route, "points");
    int64_t n_queries;
    if (!route)
        return true;
    if (!take_int(json_object_get(route, "queries"), 0, INT32_MAX, &n_queries) || !json_is_array(points) ||
        json_array_size(points) > MYR_ROUTE_POINTS)
        return false;
    taken->n_queries = (size_t)n_queries;
    for (size_t i = 0; i < json_array_size(points); i++) {
        const json_t *point = json_array_get(points, i);
        double left = json_number_value(json_object_get(point, "left"));
        double recall = json_number_value(json_object_get(point, "recall"));
        double visits = json_number_value(json_object_get(point, "shards"));
        if (!(left >= 0 && left <= 1 && recall >= 0 && recall <= 1 && visits >= 0 && visits <= MAX_SHARDS))
            return false;
        taken->points[i].left = (float)left;
        taken->points[i].recall = recall;
        taken->points[i].visits = visits;
        taken->n_points = i + 1;
    }
    return true;
}

/* Likewise: nothing overlaps. */
static bool take_overlap(const json_t *root, myr_index_manifest *manifest)
{
    const json_t *overlap = json_object_get(root, "overlap"), *copies = json_object_get(root, "copies");
    manifest->overlap = json_number_value(overlap);
    return (!overlap || (json_is_number(overlap) && manifest->overlap >= 0 && manifest->overlap <= 1)) &&
           (!copies || take_int(copies, 0, manifest->n_items, &manifest->n_copies));
}

static const char *wrong_field(const json_t *root, myr_index_manifest *manifest)
{
    int64_t dim = 0, M = 0, ef_construction = 0;
    if (!take_int(json_object_get(root, "items"), 0, INT64_MAX, &manifest->n_items))
        return "items";
    if (!take_overlap(root, manifest))
        return "overlap";
    if (!take_int(json_object_get(root, "dim"), 1, 65536, &dim))
        return "dim";
    if (!take_int(json_object_get(root, "M"), 2, 512, &M))
        return "M";
    if (!take_int(json_object_get(root, "ef_construction"), 1, 100000, &ef_construction))
        return "ef_construction";
    if (!take_int(json_object_get(root, "seed"), INT64_MIN, INT64_MAX, &manifest->seed))
        return "seed";
    manifest->dim = (int)dim;
    manifest->M = (int)M;
    manifest->ef_construction = (int)ef_construction;
    if (!take_text(json_object_get(root, "metric"), false, &manifest->metric) ||
        !myr_metric_of(manifest->metric, &(myr_metric){0}))
        return "metric";
    if (!take_text(json_object_get(root, "contract"), true, &manifest->contract))
        return "contract";
    if (!take_text(json_object_get(root, "model"), true, &manifest->model))
        return "model";
    if (!take_text(json_object_get(root, "partition"), false, &manifest->partition))
        return "partition";
    if (!take_quantize(json_object_get(root, "quantize"), &manifest->quantize))
        return "quantize";
    if (!take_hex(json_object_get(root, "digest"), 64, manifest->digest))
        return "digest";
    if (!take_file(json_object_get(root, "router_file"), manifest->router_file))
        return "router_file";
    if (!take_checksum(json_object_get(root, "router_checksum"), &manifest->router_checksum))
        return "router_checksum";
    if (!take_classes(json_object_get(root, "classes"), manifest))
        return "classes";
    if (!take_curve(json_object_get(root, "recall_curve"), &manifest->curve))
        return "recall_curve";
    if (!take_route(json_object_get(root, "route_curve"), &manifest->route))
        return "route_curve";
    return take_shards(json_object_get(root, "shards"), manifest) ? NULL : "shards";
}

myr_status myr_index_manifest_parse(const char *path, const char *text, size_t n_bytes, myr_index_manifest *manifest)
{
    *manifest = (myr_index_manifest){0};
    json_error_t error;
    json_t *root = json_loadb(text, n_bytes, 0, &error);
    myr_status status = MYR_OK;
    if (!root)
        return myr_fail(MYR_ERR_FORMAT, "%s: line %d: %s; the index is damaged, build it again", path, error.line,
                        error.text);
    int64_t schema = json_integer_value(json_object_get(root, "schema_version"));
    bool is_known = schema == SCHEMA || schema == WHOLE_FILES;
    const char *wrong = is_known ? wrong_field(root, manifest) : NULL;
    if (!is_known)
        status = myr_fail(MYR_ERR_UNSUPPORTED, "%s: schema version %lld; this Myriops reads version %d", path,
                          (long long)schema, SCHEMA);
    else if (wrong)
        status = myr_fail(MYR_ERR_FORMAT, "%s: '%s' is missing or makes no sense; the index is damaged, build it again",
                          path, wrong);
    if (status != MYR_OK)
        myr_index_manifest_clear(manifest);
    json_decref(root);
    return status;
}

myr_status myr_index_manifest_read(const char *folder, myr_index_manifest *manifest)
{
    *manifest = (myr_index_manifest){0};
    myr_buffer text = {0};
    char *path = myr_path_join(folder, "index.json");
    if (!path)
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory for a path", folder);
    myr_status status =
        myr_path_exists(path)
            ? myr_file_read(path, MAX_MANIFEST_BYTES, &text)
            : myr_fail(MYR_ERR_NOT_FOUND,
                       "%s: no index here (index.json is missing); build one of embeddings or vectors with "
                       "`myriops index --out`",
                       folder);
    if (status == MYR_OK)
        status = myr_index_manifest_parse(path, text.data ? text.data : "", text.size, manifest);
    myr_buffer_free(&text);
    free(path);
    return status;
}

void myr_index_manifest_clear(myr_index_manifest *manifest)
{
    for (size_t i = 0; i < manifest->n_classes; i++)
        free(manifest->classes[i]);
    free(manifest->classes);
    free(manifest->metric);
    free(manifest->contract);
    free(manifest->model);
    free(manifest->partition);
    free(manifest->shards);
    *manifest = (myr_index_manifest){0};
}

myr_status myr_index_ef_for(const myr_index_manifest *manifest, size_t k, double *recall, size_t *ef)
{
    const myr_index_curve *curve = &manifest->curve;
    if (curve->n_points == 0 || curve->n_queries == 0)
        return myr_fail(MYR_ERR_NOT_FOUND,
                        "this index holds no curve of recall, which `myriops index` measures when it "
                        "builds one: build it again, or give --ef-search in place of --recall");
    size_t at = 0;
    for (; at + 1 < curve->n_points; at++) {
        double measured = curve->points[at].recall;
        double half = 1.96 * sqrt(measured * (1 - measured) / (double)curve->n_queries);
        if (measured - half >= *recall)
            break;
    }
    *recall = curve->points[at].recall;
    *ef = UNSEEN * curve->points[at].ef;
    if (k > 10)
        *ef = (*ef * k + 9) / 10;
    return MYR_OK;
}

myr_status myr_index_left_for(const myr_index_manifest *manifest, double *recall, float *left)
{
    const myr_route_curve *route = &manifest->route;
    if (route->n_points == 0)
        return myr_fail(
            MYR_ERR_NOT_FOUND,
            "this index holds no curve of what its shards hold, which `myriops index` measures when it builds "
            "one of several shards by k-means: give --probe all or a number");
    for (size_t at = 0; at < route->n_points; at++) {
        if (route->points[at].recall < *recall)
            continue;
        double before = at > 0 ? route->points[at - 1].recall : 0, step = route->points[at].recall - before;
        double share = at > 0 && step > 0 ? (*recall - before) / step : 1;
        float from = route->points[at > 0 ? at - 1 : 0].left;
        *left = from + (float)share * (route->points[at].left - from);
        return MYR_OK;
    }
    *recall = route->points[route->n_points - 1].recall;
    *left = 0;
    return MYR_OK;
}
