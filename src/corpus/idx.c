/*
 * MNIST and its kin: IDX files of u8, plain or packed with gzip. Numbers are big-endian.
 *
 *   images  offset 0  u32 0x00000803   4  u32 n   8  u32 rows   12  u32 columns   16  n x rows x columns levels
 *   labels  offset 0  u32 0x00000801   4  u32 n   8  n labels
 *
 * The labels lie beside the images, under the name that has "labels" and "idx1" in place of "images" and "idx3".
 * Source: https://yann.lecun.com/exdb/mnist/, "File formats for the MNIST database".
 */
#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "corpus/input.h"
#include "corpus/internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC_IMAGES 0x00000803u
#define MAGIC_LABELS 0x00000801u
#define IMAGES_HEAD 16
#define LABELS_HEAD 8
#define MAX_SIDE 65535

bool myr_corpus_is_idx(const char *name)
{
    const char *slash = strrchr(name, '/');
    return strstr(slash == NULL ? name : slash, "idx3") != NULL &&
           (myr_corpus_has_extension(name, "ubyte") || myr_corpus_has_extension(name, "ubyte.gz"));
}

static uint32_t big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* The head's numbers, magic and all; that the file is as long as they say. */
static myr_status read_head(myr_input *file, uint32_t magic, size_t n_dims, uint32_t dims[3])
{
    uint8_t head[IMAGES_HEAD];
    size_t n_head = 4 + 4 * n_dims;
    uint64_t wanted = 1, reached;
    myr_status status = myr_input_take(file, 0, head, n_head);
    if (status != MYR_OK)
        return status;
    if (big_endian(head) != magic)
        return myr_fail(MYR_ERR_FORMAT, "%s: begins with 0x%08x where an IDX file of u8 in %zu dimensions has 0x%08x",
                        file->path, big_endian(head), n_dims, magic);
    for (size_t i = 0; i < n_dims; i++) {
        dims[i] = big_endian(head + 4 + 4 * i);
        if (i > 0 && (dims[i] < 1 || dims[i] > MAX_SIDE))
            return myr_fail(MYR_ERR_FORMAT, "%s: pictures of %u in one dimension; the file is damaged", file->path,
                            dims[i]);
        wanted *= dims[i]; /* below 2^64 */
    }
    status = wanted > INT64_MAX ? myr_fail(MYR_ERR_LIMIT, "%s: tells of more than a file can hold", file->path)
                                : myr_input_reach(file, n_head + wanted + 1, &reached);
    if (status == MYR_OK && reached != n_head + wanted)
        status = myr_fail(MYR_ERR_FORMAT, "%s: %s than its head says, %llu bytes; fetch it again", file->path,
                          reached < n_head + wanted ? "shorter" : "longer", (unsigned long long)(n_head + wanted));
    return status;
}

/* path with the last from in its base name replaced; NULL where there is none. [owned by caller] */
static char *replace(const char *path, const char *from, const char *to)
{
    const char *slash = strrchr(path, '/'), *found = NULL;
    for (const char *at = slash == NULL ? path : slash; (at = strstr(at, from)) != NULL; at++)
        found = at;
    char *replaced = NULL;
    if (found == NULL || asprintf(&replaced, "%.*s%s%s", (int)(found - path), path, to, found + strlen(from)) < 0)
        return NULL;
    return replaced;
}

/* The file of labels beside, plain or packed; NULL where there is none. [owned by caller] */
static char *find_labels(const char *path)
{
    char *with_name = replace(path, "images", "labels");
    char *found = with_name == NULL ? NULL : replace(with_name, "idx3", "idx1");
    free(with_name);
    if (found == NULL || myr_path_exists(found))
        return found;
    char *other = NULL;
    size_t n = strlen(found);
    bool packed = myr_corpus_has_extension(found, ".gz");
    int length = packed ? asprintf(&other, "%.*s", (int)(n - 3), found) : asprintf(&other, "%s.gz", found);
    free(found);
    if (length < 0)
        return NULL;
    if (myr_path_exists(other))
        return other;
    free(other);
    return NULL;
}

/* [owned by caller] *labels: (n); NULL where there are none. */
static myr_status read_labels(const char *images, uint32_t n, uint8_t **labels)
{
    myr_input file;
    uint32_t n_labels[3] = {0};
    *labels = NULL;
    char *path = find_labels(images);
    if (path == NULL) {
        myr_warn("%s: no file of labels beside it; its pictures have none", images);
        return MYR_OK;
    }
    myr_status status = myr_input_open(path, &file);
    if (status == MYR_OK)
        status = read_head(&file, MAGIC_LABELS, 1, n_labels);
    if (status == MYR_OK && n_labels[0] != n)
        status = myr_fail(MYR_ERR_FORMAT, "%s: %u labels for %u pictures in %s; they do not belong together", path,
                          n_labels[0], n, images);
    if (status == MYR_OK && (*labels = myr_alloc(n, 1)) == NULL)
        status = myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", path);
    if (status == MYR_OK)
        status = myr_input_take(&file, LABELS_HEAD, *labels, n);
    myr_input_close(&file);
    free(path);
    return status;
}

/* "train-images-idx3-ubyte.gz" to "<front>train-images/". */
static char *front_of_keys(const char *path, const char *front)
{
    const char *slash = strrchr(path, '/'), *idx = strstr(slash == NULL ? path : slash, "idx3");
    const char *end = path + strlen(path);
    if (idx > path && (idx[-1] == '-' || idx[-1] == '.' || idx[-1] == '_'))
        idx--;
    return myr_corpus_key_front(front, path, (size_t)(end - idx));
}

static myr_status add_all(myr_corpus *corpus, myr_input *file, const uint32_t dims[3], const char *front)
{
    uint8_t *labels = NULL;
    uint32_t form = 0;
    uint64_t n_bytes = (uint64_t)dims[1] * dims[2];
    myr_status status = read_labels(file->path, dims[0], &labels);
    if (status == MYR_OK)
        status = myr_corpus_add_form(
            corpus, &(myr_form){.width = (int32_t)dims[2], .height = (int32_t)dims[1], .n_channels = 1}, &form);
    uint64_t source = myr_corpus_text(corpus, file->path);
    for (uint32_t i = 0; i < dims[0] && status == MYR_OK; i++) {
        myr_record record = {.source = source,
                             .offset = IMAGES_HEAD + i * n_bytes,
                             .n_bytes = n_bytes,
                             .form = form,
                             .label = labels != NULL ? labels[i] : -1,
                             .in_tar = file->gzip == NULL,
                             .coding = file->gzip == NULL ? MYR_CODING_PLAIN : MYR_CODING_GZIP};
        status = myr_corpus_add_numbered(corpus, front, i, &record);
    }
    free(labels);
    return status;
}

myr_status myr_corpus_add_idx(myr_corpus *corpus, const char *path, const char *front)
{
    myr_input file;
    uint32_t dims[3] = {0};
    char *key_front = front_of_keys(path, front);
    myr_status status = myr_input_open(path, &file);
    if (status == MYR_OK)
        status = read_head(&file, MAGIC_IMAGES, 3, dims);
    if (status == MYR_OK && key_front == NULL)
        status = myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", path);
    if (status == MYR_OK)
        status = add_all(corpus, &file, dims, key_front);
    corpus->facts.n_sets++;
    myr_input_close(&file);
    free(key_front);
    return status;
}
