/*
 * Visits to shards, with jansson.
 */
#include "dist/traffic.h"

#include "base/alloc.h"
#include "base/file.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 64 << 20 };

static bool take_visits(const json_t *root, const myr_index_manifest *manifest, uint64_t *visits)
{
    const char *digest = json_string_value(json_object_get(root, "index"));
    const json_t *list = json_object_get(root, "visits");
    if (!digest || !json_is_array(list))
        return false;
    if (strcmp(digest, manifest->digest) != 0)
        return true; /* of another index */
    if (json_array_size(list) != manifest->n_shards)
        return false;
    for (size_t s = 0; s < manifest->n_shards; s++) {
        const json_t *number = json_array_get(list, s);
        if (!json_is_integer(number) || json_integer_value(number) < 0)
            return false;
        visits[s] = (uint64_t)json_integer_value(number);
    }
    return true;
}

myr_status myr_traffic_read(const char *path, const myr_index_manifest *manifest, uint64_t *visits)
{
    myr_buffer text = {0};
    memset(visits, 0, manifest->n_shards * sizeof *visits);
    if (!myr_path_exists(path))
        return MYR_OK;
    myr_status status = myr_file_read(path, MOST_BYTES, &text);
    if (status != MYR_OK)
        return status;
    json_t *root = json_loadb(text.data ? text.data : "", text.size, 0, NULL);
    if (!root || !take_visits(root, manifest, visits)) {
        memset(visits, 0, manifest->n_shards * sizeof *visits);
        status = myr_fail(MYR_ERR_FORMAT, "%s: no file of visits to shards; remove it, or name another", path);
    }
    json_decref(root);
    myr_buffer_free(&text);
    return status;
}

myr_status myr_traffic_add(const char *path, const myr_index_manifest *manifest, const uint64_t *visits)
{
    uint64_t *sum = myr_alloc(manifest->n_shards, sizeof *sum);
    myr_status status = sum ? myr_traffic_read(path, manifest, sum) : MYR_ERR_NOMEM;
    json_t *list = json_array();
    for (size_t s = 0; status == MYR_OK && s < manifest->n_shards; s++)
        if (!list || json_array_append_new(list, json_integer((json_int_t)(sum[s] + visits[s]))) != 0)
            status = MYR_ERR_NOMEM;
    json_t *root = json_pack("{s:s, s:O?}", "index", manifest->digest, "visits", list);
    char *text = status == MYR_OK && root ? json_dumps(root, JSON_COMPACT) : NULL;
    if (text)
        status = myr_file_replace(path, text, strlen(text));
    else if (status == MYR_OK || status == MYR_ERR_NOMEM)
        status = myr_fail(MYR_ERR_NOMEM, "%s: no memory for the visits to shards", path);
    free(text);
    json_decref(list);
    json_decref(root);
    free(sum);
    return status;
}
