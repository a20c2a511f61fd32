/*
 * Blocks of vectors from embedding folders and vector files.
 */
#include "dist/source.h"

#include "base/alloc.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/vector.h"
#include "dist/crew.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BLOCK_ROWS 8192 /* fewer where they are long: */
#define FILE_BLOCK_BYTES ((size_t)8 << 20)
#define ROW_STEP 256 /* rows that are multiplied together: blocks are multiples, so that their length leaves no trace  \
                      */

typedef struct myr_source_input {
    char *path;
    bool is_folder;
    int64_t first_block, n_blocks;
    int64_t block_rows; /* of a vector file */
    int64_t first_id;
    myr_manifest sizes; /* of a folder: its items and chunks, no texts */
    size_t n_classes;
    int32_t *class_of; /* (n_classes) label of the source for a label of this folder */
    myr_vectors file;  /* bare vectors */
} myr_source_input;

static myr_status no_memory(const char *path)
{
    return myr_fail(MYR_ERR_NOMEM, "%s: no memory to read it", path);
}

/* The place of a class among those known, added behind them if it is new; -1 without memory. */
static int32_t find_class(myr_source *source, const char *name)
{
    for (size_t i = 0; i < source->n_classes; i++)
        if (strcmp(source->classes[i], name) == 0)
            return (int32_t)i;
    if (!myr_resize(&source->classes, source->n_classes, source->n_classes + 1, sizeof *source->classes))
        return -1;
    source->classes[source->n_classes] = myr_strdup(name);
    return source->classes[source->n_classes] ? (int32_t)source->n_classes++ : -1;
}

/* Folders number their classes each by itself; names tell which are the same. */
static myr_status take_classes(myr_source *source, myr_source_input *input, const myr_manifest *manifest)
{
    input->n_classes = manifest->n_classes;
    input->class_of = myr_alloc(manifest->n_classes, sizeof *input->class_of);
    if (!input->class_of)
        return no_memory(input->path);
    for (size_t i = 0; i < manifest->n_classes; i++) {
        input->class_of[i] = find_class(source, manifest->classes[i]);
        if (input->class_of[i] < 0)
            return no_memory(input->path);
    }
    return MYR_OK;
}

static myr_status open_folder(myr_source *source, myr_source_input *input, myr_buffer *digests)
{
    myr_manifest manifest = {0};
    char *path = myr_path_join(input->path, "manifest.json");
    myr_status status = path ? MYR_OK : no_memory(input->path);
    if (status == MYR_OK && !myr_path_exists(path))
        status = myr_fail(MYR_ERR_NOT_FOUND,
                          "%s: no embedding folder (manifest.json is missing); make one of pictures with `myriops "
                          "embed`, or of vectors with `myriops import`",
                          input->path);
    if (status == MYR_OK)
        status = myr_manifest_read(path, &manifest);
    free(path);
    if (status != MYR_OK)
        goto done;
    if (!manifest.complete)
        status =
            myr_fail(MYR_ERR_FORMAT, "%s: the embedding run has not finished; run the same embed command again first",
                     input->path);
    else if (source->contract && (strcmp(source->contract, manifest.contract) != 0 || source->dim != manifest.dim ||
                                  strcmp(source->metric, manifest.metric) != 0))
        status = myr_fail(MYR_ERR_CONTRACT,
                          "%s: made by '%s' under contract %.12s..., the folder before it under %.12s...: such vectors "
                          "are not compared; make an index for each",
                          input->path, manifest.model, manifest.contract, source->contract);
    if (status != MYR_OK)
        goto done;
    input->is_folder = true;
    input->n_blocks = manifest.n_chunks;
    if (!source->contract) {
        source->dim = manifest.dim;
        source->contract = myr_strdup(manifest.contract);
        source->model = myr_strdup(manifest.model);
        source->metric = myr_strdup(manifest.metric);
        if (!source->contract || !source->model || !source->metric)
            status = no_memory(input->path);
    }
    source->n_ids += manifest.n_items;
    input->sizes =
        (myr_manifest){.n_items = manifest.n_items, .chunk_items = manifest.chunk_items, .guided = manifest.guided};
    if (status == MYR_OK)
        status = take_classes(source, input, &manifest);
    myr_buffer_printf(digests, "%s %s %s %lld%s\n", manifest.contract, manifest.corpus_digest, manifest.storage,
                      (long long)manifest.chunk_items, manifest.guided ? " guided" : "");
done:
    myr_manifest_clear(&manifest);
    return status;
}

static int64_t choose_block_rows(size_t dim)
{
    size_t n = FILE_BLOCK_BYTES / (dim * sizeof(float)) / ROW_STEP * ROW_STEP;
    return (int64_t)(n < ROW_STEP ? ROW_STEP : n < FILE_BLOCK_ROWS ? n : FILE_BLOCK_ROWS);
}

static myr_status open_vectors(myr_source *source, myr_source_input *input, const char *metric, myr_buffer *digests)
{
    myr_status status = myr_vectors_read(input->path, NULL, &input->file);
    if (status != MYR_OK)
        return status;
    char hash[MYR_SHA256_TEXT];
    status = myr_sha256_file(input->path, hash);
    if (status != MYR_OK)
        return status;
    input->block_rows = choose_block_rows(input->file.dim);
    input->n_blocks = ((int64_t)input->file.n + input->block_rows - 1) / input->block_rows;
    source->dim = (int)input->file.dim;
    source->n_ids = (int64_t)input->file.n;
    source->metric = myr_strdup(metric);
    myr_buffer_printf(digests, "vectors %s %s\n", metric, hash);
    return source->metric ? MYR_OK : no_memory(input->path);
}

myr_status myr_source_open(const char *const *operands, size_t n_operands, const char *metric, myr_source *source)
{
    *source = (myr_source){0};
    myr_buffer digests = {0};
    myr_status status = MYR_OK;
    source->inputs = myr_alloc(n_operands, sizeof *source->inputs);
    if (!source->inputs)
        status = no_memory("the inputs");
    for (size_t i = 0; i < n_operands && status == MYR_OK; i++) {
        myr_source_input *input = &source->inputs[i];
        source->n_inputs = i + 1;
        input->path = myr_strdup(operands[i]);
        input->first_block = source->n_blocks;
        input->first_id = source->n_ids;
        if (!input->path)
            status = no_memory(operands[i]);
        else if (!myr_path_exists(operands[i]))
            status = myr_fail(MYR_ERR_NOT_FOUND, "%s: no such embedding folder or vector file", operands[i]);
        else if (myr_path_is_folder(operands[i]))
            status = open_folder(source, input, &digests);
        else if (n_operands > 1)
            status = myr_fail(MYR_ERR_ARG, "%s: a vector file must be the only input", operands[i]);
        else
            status = open_vectors(source, input, metric, &digests);
        source->n_blocks += input->n_blocks;
    }
    if (status == MYR_OK) {
        char hash[MYR_SHA256_TEXT];
        myr_sha256_text(digests.data, digests.size, hash);
        source->digest = myr_strdup(hash);
        if (digests.failed || !source->digest)
            status = no_memory("the inputs");
    }
    myr_buffer_free(&digests);
    if (status != MYR_OK)
        myr_source_close(source);
    return status;
}

void myr_source_close(myr_source *source)
{
    for (size_t i = 0; i < source->n_inputs; i++) {
        free(source->inputs[i].path);
        free(source->inputs[i].class_of);
        myr_vectors_clear(&source->inputs[i].file);
    }
    for (size_t i = 0; i < source->n_classes; i++)
        free(source->classes[i]);
    free(source->classes);
    free(source->inputs);
    free(source->metric);
    free(source->contract);
    free(source->model);
    free(source->digest);
    *source = (myr_source){0};
}

static myr_status rows_create(myr_rows *rows, int64_t n, int dim)
{
    size_t n_values;
    *rows = (myr_rows){.n = n};
    if (myr_mul((size_t)n, (size_t)dim, &n_values))
        rows->vectors = myr_alloc(n_values, sizeof(float));
    rows->id = myr_alloc((size_t)n, sizeof *rows->id);
    rows->label = myr_alloc((size_t)n, sizeof *rows->label);
    rows->key = myr_alloc((size_t)n, sizeof *rows->key);
    rows->source = myr_alloc((size_t)n, sizeof *rows->source);
    if (rows->vectors && rows->id && rows->label && rows->key && rows->source)
        return MYR_OK;
    myr_rows_clear(rows);
    return myr_fail(MYR_ERR_NOMEM, "no memory for a block of %lld vectors", (long long)n);
}

void myr_rows_clear(myr_rows *rows)
{
    for (int64_t i = 0; i < rows->n; i++) {
        if (rows->key)
            free(rows->key[i]);
        if (rows->source)
            free(rows->source[i]);
    }
    free(rows->vectors);
    free(rows->id);
    free(rows->label);
    free(rows->key);
    free(rows->source);
    *rows = (myr_rows){0};
}

/* Ordinals ascend inside the chunk's range, labels are known: a chunk may be damaged, or of another folder. */
static bool chunk_fits(const myr_source_input *input, int64_t place, const myr_chunk *chunk)
{
    int64_t first, n = myr_manifest_chunk(&input->sizes, place, &first), last = first + n;
    for (int64_t i = 0; i < chunk->n; i++)
        if (chunk->ordinal[i] < first || chunk->ordinal[i] >= last ||
            (i > 0 && chunk->ordinal[i] <= chunk->ordinal[i - 1]) || chunk->label[i] < -1)
            return false;
    return true;
}

/* Labels by the source's classes. Numbers without names (from .cls files) are what they are. */
static int32_t map_label(const myr_source_input *input, int32_t label)
{
    return label >= 0 && (size_t)label < input->n_classes ? input->class_of[label] : label;
}

/* A chunk's arrays become the rows'; nothing is copied. */
static myr_status read_chunk(const myr_source *source, const myr_source_input *input, int64_t place, myr_rows *rows)
{
    char *path = myr_chunk_path(input->path, place);
    if (!path)
        return no_memory(input->path);
    myr_chunk chunk = {0};
    myr_status status = myr_chunk_read(path, MYR_CHUNK_VECTORS | MYR_CHUNK_KEYS, &chunk);
    if (status == MYR_OK && (chunk.dim != source->dim || strcmp(chunk.contract, source->contract) != 0))
        status = myr_fail(MYR_ERR_CONTRACT, "%s: not of the same contract as the folder's manifest", path);
    if (status == MYR_OK && !chunk_fits(input, place, &chunk))
        status = myr_fail(MYR_ERR_FORMAT,
                          "%s: its items are not those the folder's manifest names; remove it and embed again", path);
    if (status == MYR_OK) {
        *rows = (myr_rows){.n = chunk.n,
                           .vectors = chunk.embedding,
                           .id = chunk.ordinal,
                           .label = chunk.label,
                           .key = chunk.key,
                           .source = chunk.source};
        chunk.embedding = NULL;
        chunk.ordinal = NULL;
        chunk.label = NULL;
        chunk.key = NULL;
        chunk.source = NULL;
        for (int64_t i = 0; i < rows->n; i++) {
            rows->id[i] += input->first_id;
            rows->label[i] = map_label(input, rows->label[i]);
        }
    }
    myr_chunk_clear(&chunk);
    free(path);
    return status;
}

static myr_status read_slice(const myr_source *source, const myr_source_input *input, int64_t place, myr_rows *rows)
{
    int64_t first = place * input->block_rows, left = (int64_t)input->file.n - first;
    int64_t n = left < input->block_rows ? left : input->block_rows;
    myr_status status = rows_create(rows, n, source->dim);
    if (status != MYR_OK)
        return status;
    status = myr_vectors_to_f32(&input->file, (size_t)first, (size_t)n, rows->vectors);
    for (int64_t i = 0; i < n && status == MYR_OK; i++) {
        char key[32];
        snprintf(key, sizeof key, "%lld", (long long)(first + i));
        float *vector = rows->vectors + (size_t)i * (size_t)source->dim;
        if (strcmp(source->metric, "cosine") == 0 && !myr_vector_normalise(vector, (size_t)source->dim)) {
            status = myr_fail(MYR_ERR_FORMAT, "%s: vector %lld has a value that is NaN or infinite", input->path,
                              (long long)(first + i));
            break;
        }
        rows->id[i] = first + i;
        rows->label[i] = -1;
        rows->key[i] = myr_strdup(key);
        rows->source[i] = myr_strdup("");
        if (!rows->key[i] || !rows->source[i])
            status = no_memory(input->path);
    }
    if (status != MYR_OK)
        myr_rows_clear(rows);
    return status;
}

static myr_status check_values(const myr_source *source, const myr_rows *rows)
{
    size_t dim = (size_t)source->dim;
    for (int64_t i = 0; i < rows->n; i++)
        for (size_t d = 0; d < dim; d++)
            if (!isfinite(rows->vectors[(size_t)i * dim + d]))
                return myr_fail(MYR_ERR_FORMAT, "item %s: value %zu is NaN or infinite", rows->key[i], d);
    return MYR_OK;
}

static const myr_source_input *input_of(const myr_source *source, int64_t block)
{
    size_t i = source->n_inputs - 1;
    while (i > 0 && block < source->inputs[i].first_block)
        i--;
    return &source->inputs[i];
}

myr_status myr_source_read(const myr_source *source, int64_t block, myr_rows *rows)
{
    const myr_source_input *input = input_of(source, block);
    *rows = (myr_rows){0};
    int64_t place = block - input->first_block;
    myr_status status =
        input->is_folder ? read_chunk(source, input, place, rows) : read_slice(source, input, place, rows);
    if (status == MYR_OK)
        status = check_values(source, rows);
    if (status != MYR_OK)
        myr_rows_clear(rows);
    return status;
}

myr_status myr_source_count(const myr_source *source, int64_t block, int64_t *n)
{
    const myr_source_input *input = input_of(source, block);
    int64_t place = block - input->first_block, left = (int64_t)input->file.n - place * FILE_BLOCK_ROWS;
    *n = left < FILE_BLOCK_ROWS ? left : FILE_BLOCK_ROWS;
    if (!input->is_folder)
        return MYR_OK;
    char *path = myr_chunk_path(input->path, place);
    myr_chunk chunk = {0};
    myr_status status = path ? myr_chunk_read(path, 0, &chunk) : no_memory(input->path);
    *n = chunk.n;
    myr_chunk_clear(&chunk);
    free(path);
    return status;
}
