/*
 * The export job.
 *
 * First the ranks count the rows of all blocks, so that each block's place in the output is known. Then they go through
 * the blocks in rounds, one block a rank: vectors are written at once where they belong; the lines of names, whose
 * lengths differ, after the ranks have told each other how long theirs are. Last, all is renamed.
 */
#include "dist/export_job.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/vector.h"
#include "dist/names.h"
#include "kernel/half.h"
#include "store/parquet.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

myr_status myr_export_stopped(void)
{
    return myr_stop_requested
               ? myr_fail(MYR_ERR_STOPPED, "stopped by a signal; nothing is left of this export, run it again")
               : MYR_OK;
}

static myr_status no_memory(void)
{
    return myr_fail(MYR_ERR_NOMEM, "no memory for a block of vectors");
}

/* ---- counting ---- */

/* Collective. */
static myr_status count_rows(myr_export_job *work)
{
    int64_t n_blocks = work->stock.n_blocks;
    work->first = myr_alloc((size_t)n_blocks + 1, sizeof *work->first);
    work->part = myr_alloc((size_t)n_blocks + 1, sizeof *work->part);
    myr_status status = work->first && work->part ? MYR_OK : no_memory();
    if (status == MYR_OK && n_blocks > INT32_MAX)
        status = myr_fail(MYR_ERR_LIMIT, "%lld blocks of vectors are too many", (long long)n_blocks);
    for (int64_t b = work->comm->rank; b < n_blocks && status == MYR_OK; b += work->comm->size) {
        status = myr_stock_count(&work->stock, b, &work->first[b]);
        if (status == MYR_OK)
            status = myr_export_stopped();
    }
    status = myr_comm_agree(work->comm, status);
    if (status != MYR_OK)
        return status;
    MPI_Allreduce(MPI_IN_PLACE, work->first, (int)n_blocks, MPI_INT64_T, MPI_SUM, work->comm->mpi);
    int64_t n_parts = 0;
    for (int64_t b = 0; b <= n_blocks; b++) {
        int64_t here = b < n_blocks ? work->first[b] : 0;
        work->first[b] = work->n_rows;
        work->part[b] = n_parts;
        work->n_rows += here;
        n_parts += here > 0;
    }
    return MYR_OK;
}

/* ---- where it goes ---- */

/* Removes what an export that was killed has left in its temporary folder. */
static void sweep_folder(const char *folder)
{
    static const char *const inner[] = {"img_emb", "metadata", ""};
    for (size_t i = 0; i < sizeof inner / sizeof *inner; i++) {
        char *path = myr_path_join(folder, inner[i]);
        DIR *entries = path ? opendir(path) : NULL;
        for (struct dirent *entry; entries && (entry = readdir(entries));)
            unlinkat(dirfd(entries), entry->d_name, 0); /* folders stay */
        if (entries)
            closedir(entries);
        if (path)
            rmdir(path);
        free(path);
    }
}

static bool is_free(const char *path)
{
    DIR *entries = opendir(path);
    int n = 0;
    for (struct dirent *entry; entries && (entry = readdir(entries));)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (!entries)
        return errno == ENOENT;
    closedir(entries);
    return n == 0;
}

static char *without_slash(const char *path)
{
    char *copy = myr_strdup(path);
    for (size_t n = copy ? strlen(copy) : 0; n > 1 && copy[n - 1] == '/'; n--)
        copy[n - 1] = 0;
    return copy;
}

/* Names of all that is written. Local. */
static myr_status name_files(myr_export_job *work)
{
    const myr_export_options *options = work->options;
    char *path = without_slash(options->path), *names = NULL;
    myr_status status = path ? MYR_OK : no_memory();
    if (status == MYR_OK && options->format == MYR_EXPORT_CLIP) {
        work->folder = myr_file_partial_name(path);
        names = work->folder ? myr_path_join(work->folder, "keys.tsv") : NULL;
    } else if (status == MYR_OK && options->format == MYR_EXPORT_TSV) {
        names = myr_strdup(path);
    } else if (status == MYR_OK) {
        status = myr_shared_file_name(path, &work->rows);
        if (asprintf(&names, "%s.tsv", path) < 0)
            names = NULL;
    }
    if (status == MYR_OK)
        status = names ? myr_shared_file_name(names, &work->names) : no_memory();
    free(names);
    free(path);
    return status;
}

static myr_status create_folder(const myr_export_job *work)
{
    if (!is_free(work->options->path))
        return myr_fail(MYR_ERR_IO, "%s: is there, and not an empty folder; use another --out, or remove it",
                        work->options->path);
    sweep_folder(work->folder);
    myr_status status = MYR_OK;
    static const char *const inner[] = {"img_emb", "metadata"};
    for (size_t i = 0; i < 2 && status == MYR_OK; i++) {
        char *path = myr_path_join(work->folder, inner[i]);
        status = path ? myr_folder_create(path) : no_memory();
        free(path);
    }
    return status;
}

/* The header of a file of names; *end its length. */
static myr_status create_names(const myr_export_job *work, int64_t *end)
{
    myr_buffer line = {0};
    myr_buffer_puts(&line, MYR_NAMES_HEADER);
    for (int d = 0; work->options->with_values && d < work->stock.dim; d++)
        myr_buffer_printf(&line, "\tv%d", d);
    myr_buffer_puts(&line, "\n");
    int file = line.failed ? -1 : open(work->names.partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    myr_status status = file >= 0
                            ? myr_layout_put(file, work->names.partial, line.data, line.size, 0)
                            : myr_fail(MYR_ERR_IO, "%s: cannot be written: %s", work->names.partial, strerror(errno));
    if (file >= 0)
        close(file);
    *end = (int64_t)line.size;
    myr_buffer_free(&line);
    return status;
}

/* Rank 0. */
static myr_status create_files(myr_export_job *work)
{
    size_t dim = (size_t)work->stock.dim;
    myr_status status = MYR_OK;
    if (work->options->format == MYR_EXPORT_CLIP)
        status = create_folder(work);
    else if (work->options->format == MYR_EXPORT_NPY)
        status = myr_layout_npy(work->rows.partial, (uint64_t)work->n_rows, dim, work->storage, &work->layout);
    else if (work->options->format == MYR_EXPORT_FBIN)
        status = myr_layout_fbin(work->rows.partial, (uint64_t)work->n_rows, dim, &work->layout);
    return status == MYR_OK ? create_names(work, &work->names_end) : status;
}

/* ---- a block ---- */

/* Rows in the storage that is written, in place; n_bytes [out]. */
static myr_status pack_rows(const myr_export_job *work, myr_rows *rows, size_t *n_bytes)
{
    size_t n = (size_t)rows->n * (size_t)work->stock.dim;
    *n_bytes = n * sizeof(float);
    if (work->storage == MYR_STORAGE_F32)
        return MYR_OK;
    uint8_t *out = (uint8_t *)rows->vectors;
    for (size_t i = 0; i < n; i++) {
        float value = rows->vectors[i];
        uint16_t half = myr_half_from_float(value);
        if (isinf(myr_half_to_float(half)))
            return myr_fail(MYR_ERR_LIMIT, "item %s: value %g is too large for half precision; use --dtype f32",
                            rows->key[i / (size_t)work->stock.dim], (double)value);
        memcpy(out + 2 * i, &half, sizeof half);
    }
    *n_bytes = n * sizeof(uint16_t);
    return MYR_OK;
}

static void put_label(const myr_stock *stock, int32_t label, myr_buffer *line)
{
    if (label >= 0 && (size_t)label < stock->n_classes)
        myr_names_escape(line, stock->classes[label]);
    else if (label >= 0)
        myr_buffer_printf(line, "%d", (int)label);
}

static myr_status put_names(const myr_export_job *work, const myr_rows *rows, myr_buffer *lines)
{
    size_t dim = (size_t)work->stock.dim;
    for (int64_t i = 0; i < rows->n; i++) {
        myr_names_escape(lines, rows->key[i]);
        myr_buffer_puts(lines, "\t");
        myr_names_escape(lines, rows->source[i]);
        myr_buffer_puts(lines, "\t");
        put_label(&work->stock, rows->label[i], lines);
        for (size_t d = 0; work->options->with_values && d < dim; d++)
            myr_buffer_printf(lines, "\t%.9g", (double)rows->vectors[(size_t)i * dim + d]);
        myr_buffer_puts(lines, "\n");
    }
    return lines->failed ? no_memory() : MYR_OK;
}

/* folder/inner/inner_{part}.end, with as many digits as clip-retrieval gives it: readers sort by name. */
static char *part_path(const myr_export_job *work, const char *inner, int64_t part, const char *end)
{
    int64_t n_parts = work->part[work->stock.n_blocks];
    char *path;
    int digits = 1;
    for (int64_t n = n_parts; n >= 10; n /= 10)
        digits++;
    return asprintf(&path, "%s/%s/%s_%0*lld.%s", work->folder, inner, inner, digits, (long long)part, end) < 0 ? NULL
                                                                                                               : path;
}

static myr_status write_part_rows(const myr_export_job *work, int64_t part, myr_rows *rows)
{
    size_t n_bytes = 0;
    myr_layout layout;
    myr_shared_file file = {.file = -1};
    char *path = part_path(work, "img_emb", part, "npy");
    myr_status status = path ? myr_shared_file_name(path, &file) : no_memory();
    if (status == MYR_OK)
        status = pack_rows(work, rows, &n_bytes);
    if (status == MYR_OK)
        status = myr_layout_npy(file.partial, (uint64_t)rows->n, (size_t)work->stock.dim, work->storage, &layout);
    if (status == MYR_OK)
        status = myr_shared_file_open(&file);
    if (status == MYR_OK)
        status = myr_layout_put(file.file, file.partial, rows->vectors, n_bytes, layout.rows);
    if (status == MYR_OK)
        status = myr_shared_file_close(&file);
    if (status == MYR_OK)
        status = myr_shared_file_commit(&file);
    myr_shared_file_free(&file, true);
    free(path);
    return status;
}

static myr_status write_part_names(const myr_export_job *work, int64_t part, const myr_rows *rows)
{
    const myr_stock *stock = &work->stock;
    char *path = part_path(work, "metadata", part, "parquet");
    const char **captions = myr_alloc((size_t)rows->n, sizeof *captions);
    myr_status status = path && captions ? MYR_OK : no_memory();
    for (int64_t i = 0; i < rows->n && captions; i++)
        if (rows->label[i] >= 0 && (size_t)rows->label[i] < stock->n_classes)
            captions[i] = stock->classes[rows->label[i]];
    const myr_parquet_column columns[] = {{.name = "image_path", .texts = (const char *const *)rows->source},
                                          {.name = "key", .texts = (const char *const *)rows->key},
                                          {.name = "caption", .texts = captions},
                                          {.name = "label", .numbers = rows->label}};
    if (status == MYR_OK)
        status = myr_parquet_write(path, columns, sizeof columns / sizeof *columns, (size_t)rows->n);
    free(captions);
    free(path);
    return status;
}

static myr_status write_block(myr_export_job *work, int64_t block, myr_rows *rows)
{
    size_t dim = (size_t)work->stock.dim, n_bytes;
    if (rows->n == 0 || work->options->format == MYR_EXPORT_TSV)
        return MYR_OK;
    if (work->options->format == MYR_EXPORT_CLIP) {
        for (int64_t i = 0; i < rows->n; i++)
            if (!myr_vector_normalise(rows->vectors + (size_t)i * dim, dim))
                return myr_fail(MYR_ERR_FORMAT, "item %s: a value is NaN or infinite", rows->key[i]);
        myr_status status = write_part_names(work, work->part[block], rows);
        return status == MYR_OK ? write_part_rows(work, work->part[block], rows) : status;
    }
    myr_status status = pack_rows(work, rows, &n_bytes);
    uint64_t row_bytes = dim * (work->storage == MYR_STORAGE_F16 ? 2 : 4);
    return status == MYR_OK ? myr_layout_put(work->rows.file, work->rows.partial, rows->vectors, n_bytes,
                                             work->layout.rows + (uint64_t)work->first[block] * row_bytes)
                            : status;
}

/* This rank's block of a round: its vectors go out, its names into lines. */
static myr_status do_block(myr_export_job *work, int64_t block, myr_buffer *lines)
{
    myr_rows rows = {0};
    if (block >= work->stock.n_blocks)
        return MYR_OK;
    myr_status status = myr_stock_read(&work->stock, block, &rows);
    if (status == MYR_OK && rows.n != work->first[block + 1] - work->first[block])
        status = myr_fail(MYR_ERR_FORMAT, "block %lld changed while it was exported", (long long)block);
    if (status == MYR_OK)
        status = put_names(work, &rows, lines);
    if (status == MYR_OK)
        status = write_block(work, block, &rows);
    myr_rows_clear(&rows);
    return status == MYR_OK ? myr_export_stopped() : status;
}

/* Collective: lines behind those of the ranks before this one. */
static myr_status write_names(myr_export_job *work, const myr_buffer *lines, int64_t *sizes)
{
    int64_t mine = (int64_t)lines->size, at = work->names_end;
    MPI_Allgather(&mine, 1, MPI_INT64_T, sizes, 1, MPI_INT64_T, work->comm->mpi);
    for (int rank = 0; rank < work->comm->size; rank++) {
        at += rank < work->comm->rank ? sizes[rank] : 0;
        work->names_end += sizes[rank];
    }
    return myr_layout_put(work->names.file, work->names.partial, lines->data, lines->size, (uint64_t)at);
}

/* Collective. */
static myr_status write_all(myr_export_job *work)
{
    const myr_comm *comm = work->comm;
    int64_t n_rounds = (work->stock.n_blocks + comm->size - 1) / comm->size;
    int64_t *sizes = myr_alloc((size_t)comm->size, sizeof *sizes);
    myr_status status = myr_comm_agree(comm, sizes ? MYR_OK : no_memory());
    for (int64_t round = 0; round < n_rounds && status == MYR_OK; round++) {
        myr_buffer lines = {0};
        status = myr_comm_agree(comm, do_block(work, round * comm->size + comm->rank, &lines));
        if (status == MYR_OK)
            status = myr_comm_agree(comm, write_names(work, &lines, sizes));
        myr_buffer_free(&lines);
        int64_t done = (round + 1) * comm->size;
        myr_progress_update(&work->progress, work->first[done < work->stock.n_blocks ? done : work->stock.n_blocks]);
    }
    free(sizes);
    return status;
}

/* Rank 0: what is written gets its name. */
static myr_status commit(myr_export_job *work)
{
    myr_status status = myr_shared_file_commit(&work->names);
    if (status == MYR_OK && work->rows.path)
        status = myr_shared_file_commit(&work->rows);
    char *path = work->folder ? without_slash(work->options->path) : NULL;
    if (status == MYR_OK && work->folder)
        status = path ? myr_folder_commit(work->folder, path) : no_memory();
    free(path);
    return status;
}

/* Collective: all formats but HDF5. */
static myr_status write_files(myr_export_job *work)
{
    const myr_comm *comm = work->comm;
    myr_status status = name_files(work);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_comm_agree(comm, comm->rank == 0 ? create_files(work) : MYR_OK);
    if (status != MYR_OK)
        return status;
    uint64_t places[2] = {work->layout.rows, (uint64_t)work->names_end};
    MPI_Bcast(places, 2, MPI_UINT64_T, 0, comm->mpi);
    work->layout.rows = places[0];
    work->names_end = (int64_t)places[1];
    status = myr_shared_file_open(&work->names);
    if (status == MYR_OK && work->rows.path)
        status = myr_shared_file_open(&work->rows);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = write_all(work);
    myr_status closed = myr_shared_file_close(&work->names);
    if (closed == MYR_OK && work->rows.path)
        closed = myr_shared_file_close(&work->rows);
    if (status == MYR_OK)
        status = myr_comm_agree(comm, closed);
    return status == MYR_OK ? myr_comm_agree(comm, comm->rank == 0 ? commit(work) : MYR_OK) : status;
}

static int64_t count_files(const myr_export_job *work)
{
    switch (work->options->format) {
    case MYR_EXPORT_CLIP:
        return 2 * work->part[work->stock.n_blocks] + 1;
    case MYR_EXPORT_NPY:
    case MYR_EXPORT_FBIN:
        return 2;
    default:
        return 1;
    }
}

myr_status myr_export(const myr_comm *comm, const myr_export_options *options, myr_export_report *report)
{
    myr_export_job work = {.comm = comm, .options = options, .rows.file = -1, .names.file = -1};
    double start_s = myr_now_s();
    *report = (myr_export_report){0};
    myr_status status =
        myr_comm_agree(comm, myr_stock_open(options->operands, options->n_operands, options->metric, &work.stock));
    if (status == MYR_OK)
        status = count_rows(&work);
    work.storage = options->format == MYR_EXPORT_CLIP  ? MYR_STORAGE_F16
                   : options->format != MYR_EXPORT_NPY ? MYR_STORAGE_F32
                   : options->has_storage              ? options->storage
                                                       : work.stock.storage;
    if (status == MYR_OK) {
        myr_progress_start(&work.progress, "exporting", "vectors", work.n_rows, 0, options->progress);
        status = options->format == MYR_EXPORT_HDF5 ? myr_export_ann(&work) : write_files(&work);
        myr_progress_finish(&work.progress, work.n_rows);
    }
    if (status == MYR_OK)
        *report = (myr_export_report){.n_rows = work.n_rows,
                                      .n_files = count_files(&work),
                                      .dim = work.stock.dim,
                                      .wall_s = myr_now_s() - start_s};
    myr_shared_file_free(&work.rows, comm->rank == 0);
    myr_shared_file_free(&work.names, comm->rank == 0);
    if (comm->rank == 0 && work.folder)
        sweep_folder(work.folder);
    free(work.folder);
    free(work.first);
    free(work.part);
    myr_stock_close(&work.stock);
    return status;
}
