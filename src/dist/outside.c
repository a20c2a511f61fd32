/*
 * Vector files one behind the other.
 *
 * The digest names their contents without reading all of them: each file's shape, type and size, and 256 pieces of 4
 * KiB spread over it. Vectors of another model differ everywhere, so a sample tells them apart; where the files lie and
 * when they were written is left out, so that copies of them are the same input.
 */
#include "dist/outside.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/file.h"
#include "myriops/vectors.h"
#include "store/hdf5_rows.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define N_SAMPLES 256
#define SAMPLE_BYTES 4096

typedef struct myr_outside_file {
    char *path;
    bool is_hdf5;
    myr_vectors mapped;
    myr_hdf5_rows hdf5;
    int64_t first, n; /* rows */
} myr_outside_file;

static myr_status no_memory(const char *path)
{
    return myr_fail(MYR_ERR_NOMEM, "%s: no memory to read it", path);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* ---- which files ---- */

/* The number before ".npy", -1 where there is none. */
static long long number_of(const char *path)
{
    const char *end = path + strlen(path) - strlen(".npy"), *at = end;
    while (at > path && at[-1] >= '0' && at[-1] <= '9')
        at--;
    return at == end ? -1 : strtoll(at, NULL, 10);
}

static int by_number(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    long long m = number_of(*x), n = number_of(*y);
    return m != n ? (m > n) - (m < n) : strcmp(*x, *y);
}

typedef struct paths {
    char **at;
    size_t n;
} paths;

/* path is taken over. */
static myr_status add_path(paths *list, char *path)
{
    if (!path || !myr_resize(&list->at, list->n, list->n + 1, sizeof *list->at)) {
        free(path);
        return no_memory("the inputs");
    }
    list->at[list->n++] = path;
    return MYR_OK;
}

static myr_status add_folder(paths *list, const char *folder)
{
    size_t before = list->n;
    char *inner = myr_path_join(folder, "img_emb");
    if (!inner)
        return no_memory(folder);
    const char *place = myr_path_is_folder(inner) ? inner : folder;
    DIR *entries = opendir(place);
    myr_status status =
        entries ? MYR_OK : myr_fail(MYR_ERR_IO, "%s: the folder cannot be read: %s", place, strerror(errno));
    for (struct dirent *entry; status == MYR_OK && (entry = readdir(entries));)
        if (ends_with(entry->d_name, ".npy"))
            status = add_path(list, myr_path_join(place, entry->d_name));
    if (entries)
        closedir(entries);
    if (status == MYR_OK && list->n == before)
        status = myr_fail(
            MYR_ERR_NOT_FOUND,
            "%s: it has no .npy files, nor an img_emb folder with some; an embedding folder needs no import", folder);
    if (status == MYR_OK)
        qsort(list->at + before, list->n - before, sizeof *list->at, by_number);
    free(inner);
    return status;
}

/* ---- what they hold ---- */

static myr_status sample(const char *path, myr_buffer *digests)
{
    struct stat facts;
    uint8_t piece[SAMPLE_BYTES];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    bool fine = file >= 0 && fstat(file, &facts) == 0;
    int64_t size = fine ? (int64_t)facts.st_size : 0;
    uint64_t sum = 0;
    for (int64_t i = 0; fine && i < N_SAMPLES; i++) {
        int64_t room = size > SAMPLE_BYTES ? size - SAMPLE_BYTES : 0;
        int64_t at = room < N_SAMPLES * (int64_t)SAMPLE_BYTES ? i * SAMPLE_BYTES : room / (N_SAMPLES - 1) * i;
        ssize_t n = pread(file, piece, sizeof piece, (off_t)at);
        fine = n >= 0;
        if (n > 0)
            sum = sum * 0x9e3779b97f4a7c15u + myr_checksum64(piece, (size_t)n);
    }
    int reason = errno;
    if (file >= 0)
        close(file);
    myr_buffer_printf(digests, " %lld bytes %016llx\n", (long long)size, (unsigned long long)sum);
    return fine ? MYR_OK : myr_fail(MYR_ERR_IO, "%s: cannot be read: %s", path, strerror(reason));
}

static myr_status open_file(const char *dataset, myr_outside_file *file, int *dim, bool *is_half, myr_buffer *digests)
{
    file->is_hdf5 = ends_with(file->path, ".hdf5") || ends_with(file->path, ".h5");
    myr_status status;
    if (!myr_path_exists(file->path))
        return myr_fail(MYR_ERR_NOT_FOUND, "%s: no such file", file->path);
    if (file->is_hdf5) {
        status = myr_hdf5_rows_look(file->path, dataset, &file->hdf5);
        file->n = (int64_t)file->hdf5.n;
        *dim = (int)file->hdf5.dim;
        *is_half = file->hdf5.is_half;
    } else {
        status = myr_vectors_read(file->path, NULL, &file->mapped);
        file->n = (int64_t)file->mapped.n;
        *dim = (int)file->mapped.dim;
        *is_half = file->mapped.element == MYR_ELEMENT_F16;
    }
    if (status != MYR_OK)
        return status;
    myr_buffer_printf(digests, "%lld x %d %s", (long long)file->n, *dim, file->is_hdf5 ? file->hdf5.dataset : "raw");
    if (!file->is_hdf5)
        myr_buffer_printf(digests, " %d", (int)file->mapped.element);
    return sample(file->path, digests);
}

static myr_status open_files(myr_outside *outside, const char *dataset, myr_buffer *digests)
{
    myr_status status = MYR_OK;
    outside->is_half = outside->n_files > 0;
    for (size_t i = 0; i < outside->n_files && status == MYR_OK; i++) {
        myr_outside_file *file = &outside->files[i];
        int dim = 0;
        bool is_half = false;
        status = open_file(dataset, file, &dim, &is_half, digests);
        if (status == MYR_OK && i > 0 && dim != outside->dim)
            status = myr_fail(MYR_ERR_CONTRACT, "%s: vectors of %d values, %s has %d", file->path, dim,
                              outside->files[0].path, outside->dim);
        outside->dim = dim;
        outside->is_half = outside->is_half && is_half;
        file->first = outside->n;
        outside->n += file->n;
    }
    return status;
}

myr_status myr_outside_open(const char *const *operands, size_t n_operands, const char *dataset, myr_outside *outside)
{
    paths list = {0};
    myr_buffer digests = {0};
    myr_status status = MYR_OK;
    *outside = (myr_outside){0};
    for (size_t i = 0; i < n_operands && status == MYR_OK; i++)
        status =
            myr_path_is_folder(operands[i]) ? add_folder(&list, operands[i]) : add_path(&list, myr_strdup(operands[i]));
    outside->files = myr_alloc(list.n, sizeof *outside->files);
    if (status == MYR_OK && !outside->files)
        status = no_memory("the inputs");
    for (size_t i = 0; i < list.n; i++) {
        if (outside->files)
            outside->files[outside->n_files++].path = list.at[i];
        else
            free(list.at[i]);
    }
    free(list.at);
    if (status == MYR_OK)
        status = open_files(outside, dataset, &digests);
    if (status == MYR_OK && digests.failed)
        status = no_memory("the inputs");
    if (status == MYR_OK)
        myr_sha256_text(digests.data, digests.size, outside->digest);
    myr_buffer_free(&digests);
    if (status != MYR_OK)
        myr_outside_close(outside);
    return status;
}

void myr_outside_close(myr_outside *outside)
{
    for (size_t i = 0; i < outside->n_files; i++) {
        free(outside->files[i].path);
        myr_vectors_clear(&outside->files[i].mapped);
        myr_hdf5_rows_clear(&outside->files[i].hdf5);
    }
    free(outside->files);
    *outside = (myr_outside){0};
}

myr_status myr_outside_read(const myr_outside *outside, int64_t first, int64_t n, float *rows, const char **file)
{
    myr_status status = MYR_OK;
    size_t low = 0, high = outside->n_files; /* the last file that begins at or before `first` */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (outside->files[middle].first <= first)
            low = middle;
        else
            high = middle;
    }
    for (size_t i = low; n > 0 && status == MYR_OK; i++) {
        const myr_outside_file *from = &outside->files[i];
        int64_t at = first - from->first, here = from->n - at < n ? from->n - at : n;
        if (here <= 0)
            continue;
        status = from->is_hdf5 ? myr_hdf5_rows_read(from->path, &from->hdf5, (size_t)at, (size_t)here, rows)
                               : myr_vectors_to_f32(&from->mapped, (size_t)at, (size_t)here, rows);
        for (int64_t r = 0; r < here; r++)
            *file++ = from->path;
        rows += (size_t)here * (size_t)outside->dim;
        first += here;
        n -= here;
    }
    return status;
}
