/*
 * Looking for chunks costs a read of each; after that only counts and lines of bad items are kept.
 */
#include "dist/output.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "dist/bad_list.h"
#include "dist/crew.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#define LOCK_PATIENCE_S 15 /* ranks of a killed job may live on for seconds */

int64_t myr_output_chunk_items(int64_t n_items)
{
    int64_t size = 32;
    while (size < 16384 && size * 256 < n_items)
        size *= 2;
    return size;
}

myr_status myr_output_open_folder(const char *folder, int *lock)
{
    myr_status status = myr_folder_create(folder);
    if (status == MYR_OK)
        status = myr_folder_lock(folder, LOCK_PATIENCE_S, lock);
    return status == MYR_OK ? myr_folder_sweep(folder) : status;
}

myr_status myr_output_refuse_strays(const char *folder)
{
    DIR *entries = opendir(folder);
    bool found = false;
    for (struct dirent *entry; entries && !found && (entry = readdir(entries));)
        found = strncmp(entry->d_name, "chunk-", 6) == 0;
    if (entries)
        closedir(entries);
    return found ? myr_fail(
                       MYR_ERR_CONTRACT,
                       "%s: it has chunks but no %s, so nobody knows of what; use another --out, or remove the folder",
                       folder, MYR_MANIFEST_NAME)
                 : MYR_OK;
}

/* Append what is bad in a chunk, where its sizes are known; false without memory. */
static bool add_sizes(const myr_chunk *chunk, int64_t **ordinals, int64_t **n_bytes, size_t *n)
{
    size_t n_bad = chunk->bad_n_bytes ? (size_t)chunk->n_bad : 0;
    if (!myr_resize(ordinals, *n, *n + n_bad, sizeof **ordinals) ||
        !myr_resize(n_bytes, *n, *n + n_bad, sizeof **n_bytes))
        return false;
    for (size_t i = 0; i < n_bad; i++) {
        (*ordinals)[*n] = chunk->bad_ordinal[i];
        (*n_bytes)[(*n)++] = chunk->bad_n_bytes[i];
    }
    return true;
}

myr_status myr_output_accept_repairs(const char *folder, const myr_corpus *corpus, myr_manifest *manifest)
{
    int64_t *ordinals = NULL, *n_bytes = NULL;
    size_t n = 0;
    char digest[65];
    bool fine = true;
    if (manifest->n_items != myr_corpus_n_items(corpus) ||
        strcmp(manifest->corpus_digest, myr_corpus_digest(corpus)) == 0)
        return MYR_OK;
    for (int64_t i = 0; i < manifest->n_chunks && fine; i++) {
        char *path = myr_chunk_path(folder, i);
        myr_chunk chunk = {0};
        if (path && myr_chunk_read(path, MYR_CHUNK_BAD, &chunk) == MYR_OK)
            fine = add_sizes(&chunk, &ordinals, &n_bytes, &n);
        fine = fine && path;
        myr_chunk_clear(&chunk);
        free(path);
    }
    /* Ordinals that make no sense are those of another corpus. */
    bool is_same = fine && myr_corpus_digest_with(corpus, ordinals, n_bytes, n, digest) == MYR_OK &&
                   strcmp(digest, manifest->corpus_digest) == 0;
    if (is_same) {
        free(manifest->corpus_digest);
        manifest->corpus_digest = myr_strdup(myr_corpus_digest(corpus));
        fine = manifest->corpus_digest != NULL;
    }
    free(ordinals);
    free(n_bytes);
    return fine ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for the sizes of %zu bad items", n);
}

static bool is_chunk_of(const myr_chunk *chunk, const myr_manifest *manifest, int64_t place)
{
    int64_t first, n_items = myr_manifest_chunk(manifest, place, &first);
    return strcmp(chunk->contract, manifest->contract) == 0 && strcmp(chunk->metric, manifest->metric) == 0 &&
           chunk->dim == manifest->dim && chunk->n + chunk->n_bad == n_items;
}

void myr_output_count(myr_output *output, int64_t chunk, int64_t n_good, int64_t n_bad, char *lines)
{
    output->manifest.n_embedded += n_good;
    output->manifest.n_bad += n_bad;
    free(output->bad[chunk]);
    output->bad[chunk] = lines;
}

/* A chunk that fits: keep it, or only its good items. */
static myr_status keep(myr_output *output, int64_t place, const myr_chunk *chunk, bool retry_bad, int64_t *n_before)
{
    if (retry_bad && chunk->n_bad > 0) {
        output->retry[place] = true;
        *n_before += chunk->n;
        return MYR_OK;
    }
    myr_buffer lines = {0};
    myr_bad_list_put(&lines, place, chunk);
    if (lines.failed) {
        myr_buffer_free(&lines);
        return myr_fail(MYR_ERR_NOMEM, "no memory to list %lld bad items", (long long)chunk->n_bad);
    }
    myr_handout_keep(output->handout, place);
    myr_output_count(output, place, chunk->n, chunk->n_bad, lines.data);
    *n_before += chunk->n + chunk->n_bad;
    return MYR_OK;
}

static myr_status look_at(myr_output *output, int64_t place, bool retry_bad, int64_t *n_before)
{
    char *path = myr_chunk_path(output->folder, place);
    if (!path)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    myr_chunk chunk = {0};
    myr_status status = MYR_OK;
    if (myr_path_exists(path)) {
        myr_status read = myr_chunk_read(path, MYR_CHUNK_BAD, &chunk);
        if (read == MYR_OK && is_chunk_of(&chunk, &output->manifest, place))
            status = keep(output, place, &chunk, retry_bad, n_before);
        else
            myr_warn("%s: %s; it is made again", path, read != MYR_OK ? myr_error_detail() : "it is not of this run");
    }
    myr_chunk_clear(&chunk);
    free(path);
    return status;
}

myr_status myr_output_look(myr_output *output, int n_ranks, bool retry_bad, int64_t *n_before)
{
    myr_manifest *manifest = &output->manifest;
    *n_before = manifest->n_embedded = manifest->n_bad = 0;
    output->bad = myr_alloc((size_t)manifest->n_chunks, sizeof *output->bad);
    output->retry = myr_alloc((size_t)manifest->n_chunks, sizeof *output->retry);
    if (!output->bad || !output->retry)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %lld chunks", (long long)manifest->n_chunks);
    myr_status status = myr_handout_create(manifest, n_ranks, &output->handout);
    for (int64_t i = 0; i < manifest->n_chunks && status == MYR_OK; i++)
        status = look_at(output, i, retry_bad, n_before);
    return status;
}

myr_status myr_output_write_manifest(const myr_output *output)
{
    char *path = myr_path_join(output->folder, MYR_MANIFEST_NAME);
    myr_status status =
        path ? myr_manifest_write(path, &output->manifest) : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    free(path);
    return status;
}

myr_status myr_output_complete(myr_output *output)
{
    output->manifest.complete = true;
    myr_status status = myr_bad_list_write(output->folder, output->bad, output->manifest.n_chunks);
    if (status == MYR_OK && !output->was_complete)
        status = myr_output_write_manifest(output);
    return status;
}

void myr_output_clear(myr_output *output)
{
    for (int64_t i = 0; output->bad && i < output->manifest.n_chunks; i++)
        free(output->bad[i]);
    free(output->bad);
    free(output->retry);
    myr_handout_free(output->handout);
    myr_manifest_clear(&output->manifest);
    *output = (myr_output){0};
}
