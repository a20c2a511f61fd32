/*
 * The import job. Chunk c is made by rank c mod size: all rows cost the same, so nothing need be handed out. A rank
 * holds one chunk at a time.
 */
#include "dist/import.h"

#include "base/alloc.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/vector.h"
#include "dist/crew.h"
#include "dist/names.h"
#include "dist/output.h"
#include "dist/outside.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    const myr_comm *comm;
    const myr_import_options *options;
    myr_outside outside;
    myr_names keys, labels;
    const myr_names *label_from; /* [borrowed] NULL = no labels */
    myr_manifest manifest;
    myr_storage storage;
    bool normalise;
    int64_t n_before; /* of this rank */
    myr_progress progress;
    int lock; /* rank 0 */
} job;

/* ---- what there is ---- */

static myr_status open_names(job *work)
{
    const myr_import_options *options = work->options;
    myr_status status = MYR_OK;
    if (options->keys)
        status = myr_names_open(options->keys, MYR_NAMES_KEY, &work->keys);
    if (status == MYR_OK && options->labels)
        status = myr_names_open(options->labels, MYR_NAMES_LABEL, &work->labels);
    if (status != MYR_OK)
        return status;
    work->label_from = options->labels                                           ? &work->labels
                       : options->keys && work->keys.field[MYR_NAMES_LABEL] >= 0 ? &work->keys
                                                                                 : NULL;
    for (int i = 0; i < 2; i++) {
        const myr_names *names = i == 0 ? &work->keys : &work->labels;
        if (names->mapping && names->n != work->outside.n)
            return myr_fail(MYR_ERR_FORMAT, "%s: %lld lines of %s for %lld vectors; there must be one for each%s",
                            names->path, (long long)names->n, i == 0 ? "keys" : "labels", (long long)work->outside.n,
                            names->has_header ? "" : " (a first line is a header only if it names the column)");
    }
    return options->keys ? myr_names_check_keys(&work->keys, work->comm->rank, work->comm->size) : MYR_OK;
}

/* What may be compared with what. */
static void make_contract(const job *work, char contract[MYR_SHA256_TEXT])
{
    myr_buffer text = {0};
    const char *model = work->options->model;
    myr_buffer_printf(&text, "imported\nmodel %s\ndim %d\nmetric %s\nnormalised %d\n", model ? model : "",
                      work->outside.dim, work->options->metric, work->normalise);
    if (!model)
        myr_buffer_printf(&text, "unnamed %s\n", work->outside.digest);
    myr_sha256_text(text.data ? text.data : "", text.size, contract);
    myr_buffer_free(&text);
}

static void make_digest(const job *work, char digest[MYR_SHA256_TEXT])
{
    myr_buffer text = {0};
    myr_buffer_printf(&text, "%s\nkeys %016llx %d\nlabels %016llx %d\n", work->outside.digest,
                      (unsigned long long)work->keys.checksum, work->options->keys != NULL,
                      (unsigned long long)work->labels.checksum, work->options->labels != NULL);
    myr_sha256_text(text.data ? text.data : "", text.size, digest);
    myr_buffer_free(&text);
}

static myr_status describe(job *work)
{
    const myr_import_options *options = work->options;
    char contract[MYR_SHA256_TEXT], digest[MYR_SHA256_TEXT];
    work->normalise = options->normalise || strcmp(options->metric, "cosine") == 0;
    work->storage = options->has_storage ? options->storage : work->outside.is_half ? MYR_STORAGE_F16 : MYR_STORAGE_F32;
    make_contract(work, contract);
    make_digest(work, digest);
    myr_manifest *manifest = &work->manifest;
    *manifest = (myr_manifest){.dim = work->outside.dim, .n_items = work->outside.n};
    manifest->chunk_items = options->chunk_items > 0 ? options->chunk_items : myr_output_chunk_items(manifest->n_items);
    manifest->n_chunks = myr_manifest_count_chunks(manifest);
    manifest->corpus_digest = myr_strdup(digest);
    manifest->contract = myr_strdup(contract);
    manifest->model = myr_strdup(options->model ? options->model : "imported");
    manifest->metric = myr_strdup(options->metric);
    manifest->storage = myr_strdup(work->storage == MYR_STORAGE_F16 ? "f16" : "f32");
    manifest->precision = myr_strdup("f32");
    manifest->operands = myr_alloc(options->n_operands, sizeof(char *));
    bool fine = manifest->corpus_digest && manifest->contract && manifest->model && manifest->metric &&
                manifest->storage && manifest->precision && manifest->operands;
    for (size_t i = 0; fine && i < options->n_operands; i++, manifest->n_operands = i)
        fine = (manifest->operands[i] = myr_strdup(options->operands[i])) != NULL;
    if (!fine)
        return myr_fail(MYR_ERR_NOMEM, "no memory for the manifest");
    return work->label_from ? myr_names_classes(work->label_from, &manifest->classes, &manifest->n_classes) : MYR_OK;
}

static myr_status look(job *work)
{
    myr_status status =
        myr_outside_open(work->options->operands, work->options->n_operands, work->options->dataset, &work->outside);
    if (status == MYR_OK)
        status = open_names(work);
    return status == MYR_OK ? describe(work) : status;
}

/* ---- the folder ---- */

static myr_status compare(const char *path, const myr_manifest *old, const myr_manifest *new)
{
    if (strcmp(old->contract, new->contract) != 0)
        return myr_fail(
            MYR_ERR_CONTRACT,
            "%s: begun with '%s', %d values, %s, under contract %.12s..., this run has '%s', %d, %s, %.12s...; "
            "use another --out, or remove the folder",
            path, old->model, old->dim, old->metric, old->contract, new->model, new->dim, new->metric, new->contract);
    if (strcmp(old->corpus_digest, new->corpus_digest) != 0 || old->n_items != new->n_items)
        return myr_fail(MYR_ERR_CONTRACT,
                        "%s: begun with other vectors, keys or labels (%lld rows, now %lld); use another --out, or "
                        "remove the folder",
                        path, (long long)old->n_items, (long long)new->n_items);
    if (old->chunk_items != new->chunk_items || strcmp(old->storage, new->storage) != 0)
        return myr_fail(MYR_ERR_CONTRACT,
                        "%s: begun with --chunk %lld --dtype %s; go on with the same, or remove the folder", path,
                        (long long)old->chunk_items, old->storage);
    return MYR_OK;
}

/* Rank 0: open or begin the folder. */
static myr_status begin(job *work)
{
    const char *folder = work->options->folder;
    char *path = myr_path_join(folder, MYR_MANIFEST_NAME);
    if (!path)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    myr_status status = myr_output_open_folder(folder, &work->lock);
    if (status == MYR_OK && myr_path_exists(path)) {
        myr_manifest old = {0};
        status = myr_manifest_read(path, &old);
        if (status == MYR_OK)
            status = compare(path, &old, &work->manifest);
        myr_manifest_clear(&old);
    } else if (status == MYR_OK) {
        status = myr_output_refuse_strays(folder);
        if (status == MYR_OK)
            status = myr_manifest_write(path, &work->manifest);
    }
    free(path);
    return status;
}

/* ---- one chunk ---- */

/* Rounding to the type the vectors came in leaves a length of 1 that near. */
static double unit_tolerance(const job *work)
{
    return work->outside.is_half || work->storage == MYR_STORAGE_F16 ? 0x1p-10 : 0x1p-20;
}

/* NULL, or why a vector cannot be used; it is normalised where it is to be. */
static const char *fix_vector(const job *work, float *vector, char room[64])
{
    size_t dim = (size_t)work->outside.dim;
    double square = 0;
    for (size_t d = 0; d < dim; d++) {
        if (!isfinite(vector[d])) {
            snprintf(room, 64, "value %zu is %s", d, isnan(vector[d]) ? "NaN" : "infinite");
            return room;
        }
        square += (double)vector[d] * (double)vector[d];
    }
    if (!work->normalise)
        return NULL;
    if (square == 0)
        return "all values are zero: no direction, and so no cosine";
    if (fabs(square - 1) > 2 * unit_tolerance(work))
        myr_vector_normalise(vector, dim);
    return NULL;
}

static myr_status chunk_alloc(myr_chunk *chunk, int64_t n_items, int dim)
{
    size_t n = (size_t)n_items, n_values;
    *chunk = (myr_chunk){.dim = dim};
    if (myr_mul(n, (size_t)dim, &n_values))
        chunk->embedding = myr_alloc(n_values, sizeof(float));
    chunk->key = myr_alloc(n, sizeof *chunk->key);
    chunk->source = myr_alloc(n, sizeof *chunk->source);
    chunk->ordinal = myr_alloc(n, sizeof *chunk->ordinal);
    chunk->label = myr_alloc(n, sizeof *chunk->label);
    chunk->bad_key = myr_alloc(n, sizeof *chunk->bad_key);
    chunk->bad_source = myr_alloc(n, sizeof *chunk->bad_source);
    chunk->bad_reason = myr_alloc(n, sizeof *chunk->bad_reason);
    chunk->bad_ordinal = myr_alloc(n, sizeof *chunk->bad_ordinal);
    bool fine = chunk->embedding && chunk->key && chunk->source && chunk->ordinal && chunk->label && chunk->bad_key &&
                chunk->bad_source && chunk->bad_reason && chunk->bad_ordinal;
    return fine ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for a chunk of %zu vectors; use a smaller --chunk", n);
}

/* Texts of the rows of a chunk before they are told apart. */
typedef struct texts {
    int64_t n;
    char **key, **source, **label;
    const char **file; /* [borrowed] */
} texts;

static void free_list(char **list, int64_t n)
{
    for (int64_t i = 0; list && i < n; i++)
        free(list[i]);
    free(list);
}

static void texts_free(texts *rows)
{
    free_list(rows->key, rows->n);
    free_list(rows->source, rows->n);
    free_list(rows->label, rows->n);
    free(rows->file);
}

static myr_status texts_read(const job *work, int64_t first, int64_t n, texts *rows)
{
    *rows = (texts){.n = n};
    rows->key = myr_alloc((size_t)n, sizeof *rows->key);
    rows->source = myr_alloc((size_t)n, sizeof *rows->source);
    rows->label = myr_alloc((size_t)n, sizeof *rows->label);
    rows->file = myr_alloc((size_t)n, sizeof *rows->file);
    if (!rows->key || !rows->source || !rows->label || !rows->file)
        return myr_fail(MYR_ERR_NOMEM, "no memory for the keys of a chunk");
    myr_status status = MYR_OK;
    if (work->options->keys)
        status = myr_names_read(&work->keys, MYR_NAMES_KEY, first, n, rows->key);
    if (status == MYR_OK && work->options->keys && work->keys.field[MYR_NAMES_SOURCE] >= 0)
        status = myr_names_read(&work->keys, MYR_NAMES_SOURCE, first, n, rows->source);
    if (status == MYR_OK && work->label_from)
        status = myr_names_read(work->label_from, MYR_NAMES_LABEL, first, n, rows->label);
    return status;
}

/* A row's key and source, which nobody gave: its number, its file. */
static bool name_row(texts *rows, int64_t i, int64_t ordinal)
{
    char number[32];
    snprintf(number, sizeof number, "%lld", (long long)ordinal);
    if (!rows->key[i])
        rows->key[i] = myr_strdup(number);
    if (!rows->source[i])
        rows->source[i] = myr_strdup(rows->file[i]);
    return rows->key[i] && rows->source[i];
}

/* Rows into the good and the bad; texts change hands. */
static myr_status sort_rows(const job *work, int64_t first, texts *rows, myr_chunk *chunk)
{
    size_t dim = (size_t)work->outside.dim;
    for (int64_t i = 0; i < rows->n; i++) {
        char room[64];
        float *vector = chunk->embedding + (size_t)i * dim;
        const char *reason = fix_vector(work, vector, room);
        char *copy = reason ? myr_strdup(reason) : NULL;
        if (!name_row(rows, i, first + i) || (reason && !copy)) {
            free(copy);
            return myr_fail(MYR_ERR_NOMEM, "no memory for the keys of a chunk");
        }
        if (reason) {
            int64_t at = chunk->n_bad++;
            chunk->bad_key[at] = rows->key[i];
            chunk->bad_source[at] = rows->source[i];
            chunk->bad_reason[at] = copy;
            chunk->bad_ordinal[at] = first + i;
        } else {
            int64_t at = chunk->n++;
            memmove(chunk->embedding + (size_t)at * dim, vector, dim * sizeof *vector);
            chunk->key[at] = rows->key[i];
            chunk->source[at] = rows->source[i];
            chunk->ordinal[at] = first + i;
            chunk->label[at] =
                rows->label[i] ? myr_names_label(rows->label[i], work->manifest.classes, work->manifest.n_classes) : -1;
        }
        rows->key[i] = rows->source[i] = NULL;
    }
    return MYR_OK;
}

static myr_status make_chunk(job *work, const char *path, int64_t place, myr_chunk *chunk)
{
    const myr_manifest *manifest = &work->manifest;
    int64_t first, n = myr_manifest_chunk(manifest, place, &first);
    texts rows = {0};
    myr_status status = chunk_alloc(chunk, n, manifest->dim);
    if (status == MYR_OK)
        status = texts_read(work, first, n, &rows);
    if (status == MYR_OK)
        status = myr_outside_read(&work->outside, first, n, chunk->embedding, rows.file);
    if (status == MYR_OK)
        status = sort_rows(work, first, &rows, chunk);
    chunk->contract = myr_strdup(manifest->contract);
    chunk->model = myr_strdup(manifest->model);
    chunk->metric = myr_strdup(manifest->metric);
    if (status == MYR_OK && (!chunk->contract || !chunk->model || !chunk->metric))
        status = myr_fail(MYR_ERR_NOMEM, "no memory for a chunk");
    if (status == MYR_OK)
        status = myr_chunk_write(path, chunk, work->storage);
    texts_free(&rows);
    return status;
}

/* A chunk that an earlier run has made; one that cannot be read is made anew. */
static bool is_there(const job *work, const char *path, int64_t place, myr_chunk *chunk)
{
    const myr_manifest *manifest = &work->manifest;
    int64_t first, n_items = myr_manifest_chunk(manifest, place, &first);
    if (!myr_path_exists(path))
        return false;
    myr_status status = myr_chunk_read(path, 0, chunk);
    if (status == MYR_OK && strcmp(chunk->contract, manifest->contract) == 0 && chunk->dim == manifest->dim &&
        chunk->n + chunk->n_bad == n_items)
        return true;
    myr_warn("%s: %s; it is made again", path, status != MYR_OK ? myr_error_detail() : "it is not of this run");
    myr_chunk_clear(chunk);
    return false;
}

static myr_status do_chunk(job *work, int64_t place)
{
    char *path = myr_chunk_path(work->options->folder, place);
    if (!path)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    myr_chunk chunk = {0};
    myr_status status = MYR_OK;
    if (is_there(work, path, place, &chunk))
        work->n_before += chunk.n + chunk.n_bad;
    else
        status = make_chunk(work, path, place, &chunk);
    if (status == MYR_OK) {
        work->manifest.n_embedded += chunk.n;
        work->manifest.n_bad += chunk.n_bad;
    }
    myr_chunk_clear(&chunk);
    free(path);
    return status;
}

static myr_status do_chunks(job *work)
{
    myr_manifest *manifest = &work->manifest;
    myr_status status = MYR_OK;
    for (int64_t c = work->comm->rank; c < manifest->n_chunks && status == MYR_OK; c += work->comm->size) {
        status = do_chunk(work, c);
        int64_t done = (manifest->n_embedded + manifest->n_bad) * work->comm->size;
        if (work->comm->rank == 0)
            myr_progress_update(&work->progress, done < manifest->n_items ? done : manifest->n_items);
        if (status == MYR_OK && myr_stop_requested)
            status = myr_fail(MYR_ERR_STOPPED,
                              "stopped by a signal; finished chunks are kept, run the same command again to go on");
    }
    return status;
}

/* ---- the end ---- */

static myr_status write_manifest(job *work)
{
    char *path = myr_path_join(work->options->folder, MYR_MANIFEST_NAME);
    work->manifest.complete = true;
    myr_status status =
        path ? myr_manifest_write(path, &work->manifest) : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    free(path);
    return status;
}

static myr_status conclude(job *work, myr_import_report *report)
{
    myr_manifest *manifest = &work->manifest;
    int64_t mine[3] = {manifest->n_embedded, manifest->n_bad, work->n_before}, all[3];
    MPI_Allreduce(mine, all, 3, MPI_INT64_T, MPI_SUM, work->comm->mpi);
    manifest->n_embedded = all[0];
    manifest->n_bad = all[1];
    *report = (myr_import_report){.n_items = manifest->n_items,
                                  .n_imported = all[0],
                                  .n_bad = all[1],
                                  .n_before = all[2],
                                  .n_chunks = manifest->n_chunks,
                                  .dim = manifest->dim,
                                  .storage = work->storage};
    myr_status status = work->comm->rank == 0 ? write_manifest(work) : MYR_OK;
    double share = report->n_items > 0 ? (double)report->n_bad / (double)report->n_items : 0;
    if (status == MYR_OK && share > work->options->max_bad)
        status = myr_fail(MYR_ERR_LIMIT,
                          "%lld of %lld vectors (%.1f %%) could not be used, more than --max-bad allows (%.1f %%); the "
                          "reasons are in %s/chunk-*.h5 under /bad",
                          (long long)report->n_bad, (long long)report->n_items, 100 * share,
                          100 * work->options->max_bad, work->options->folder);
    return myr_comm_agree(work->comm, status);
}

myr_status myr_import(const myr_comm *comm, const myr_import_options *options, myr_import_report *report)
{
    job work = {.comm = comm, .options = options, .lock = -1};
    double start_s = myr_now_s();
    myr_status status = myr_comm_agree(comm, look(&work));
    if (status == MYR_OK)
        status = myr_comm_agree(comm, comm->rank == 0 ? begin(&work) : MYR_OK);
    if (status == MYR_OK) {
        if (comm->rank == 0)
            myr_progress_start(&work.progress, "importing", "vectors", work.manifest.n_items, 0, options->progress);
        status = do_chunks(&work);
        if (comm->rank == 0)
            myr_progress_finish(&work.progress, work.manifest.n_items);
        status = myr_comm_agree(comm, status);
    }
    if (status == MYR_OK)
        status = conclude(&work, report);
    report->wall_s = myr_now_s() - start_s;
    myr_folder_unlock(work.lock);
    myr_names_close(&work.keys);
    myr_names_close(&work.labels);
    myr_outside_close(&work.outside);
    myr_manifest_clear(&work.manifest);
    return status;
}
