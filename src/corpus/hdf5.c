/*
 * HDF5 files of pictures: which data set holds them, and which their labels.
 *
 * Where the data lie in one piece, an item is a range of bytes of the file, and no rank needs HDF5 to read it. Where
 * they lie in chunks, packed or not, an item is a place along the first dimension, and HDF5 reads it (image_set.c).
 * Files are opened read-only and without locks.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "corpus/image_set.h"
#include "corpus/internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SETS 1024

/* Names of a file's data sets: "/group/name". */
typedef struct name_list {
    char **names; /* [owned] */
    size_t n;
    bool no_memory;
} name_list;

bool myr_corpus_is_hdf5(const char *path)
{
    static const char *const extensions[] = {".h5", ".hdf5", ".hdf"};
    const char *colon = myr_image_set_colon(path);
    size_t n = colon != NULL ? (size_t)(colon - path) : strlen(path);
    char *file = strndup(path, n);
    bool is = false;
    for (size_t i = 0; file != NULL && i < sizeof extensions / sizeof *extensions; i++)
        is = is || myr_corpus_has_extension(file, extensions[i]);
    free(file);
    return is;
}

static void clear_names(name_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->names[i]);
    free(list->names);
}

static herr_t note_name(hid_t object, const char *name, const H5O_info_t *info, void *context)
{
    (void)object;
    name_list *list = context;
    if (info->type != H5O_TYPE_DATASET)
        return 0;
    char *copy = myr_alloc(strlen(name) + 2, 1);
    if (copy == NULL || !myr_resize(&list->names, list->n, list->n + 1, sizeof *list->names)) {
        free(copy);
        list->no_memory = true;
        return 1;
    }
    copy[0] = '/';
    memcpy(copy + 1, name, strlen(name) + 1);
    list->names[list->n++] = copy;
    return list->n == MAX_SETS;
}

static myr_status list_sets(const char *path, hid_t file, name_list *list)
{
    if (H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, note_name, list, H5O_INFO_BASIC) < 0)
        return myr_fail(MYR_ERR_FORMAT, "%s: its data sets cannot be listed; the file is damaged", path);
    return list->no_memory ? myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", path) : MYR_OK;
}

/* Those of four dimensions that hold pictures, in one text; the last of them is *found. */
static size_t count_pictures(hid_t file, const name_list *list, const char **found, myr_buffer *text)
{
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++) {
        hsize_t dims[4];
        hid_t set = H5Dopen2(file, list->names[i], H5P_DEFAULT);
        if (set >= 0 && myr_image_set_dims(set, dims) == 4) {
            myr_buffer_printf(text, "%s%s", n > 0 ? ", " : "", list->names[i]);
            *found = list->names[i];
            n++;
        }
        if (set >= 0)
            H5Dclose(set);
    }
    return n;
}

/* The one data set of pictures. */
static myr_status choose_set(const char *path, hid_t file, const name_list *list, const char **name)
{
    myr_buffer text = {0};
    size_t n = count_pictures(file, list, name, &text);
    myr_status status = MYR_OK;
    if (n == 0)
        status = myr_fail(MYR_ERR_NOT_FOUND,
                          "%s: no data set (n, height, width, 1 or 3) of u8, so no pictures (it has %zu data sets)",
                          path, list->n);
    else if (n > 1)
        status = myr_fail(MYR_ERR_ARG, "%s: has %zu data sets of pictures; name one, as in %s:%s (%s)", path, n, path,
                          *name, text.data);
    myr_buffer_free(&text);
    return status;
}

/* Whether a data set is of n whole numbers, (n) or (n, 1). */
static bool holds_labels(hid_t file, const char *name, hsize_t n)
{
    hsize_t dims[2] = {0};
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    hid_t space = set >= 0 ? H5Dget_space(set) : -1, type = set >= 0 ? H5Dget_type(set) : -1;
    int rank = space >= 0 ? H5Sget_simple_extent_ndims(space) : 0;
    bool holds = (rank == 1 || rank == 2) && H5Sget_simple_extent_dims(space, dims, NULL) == rank && dims[0] == n &&
                 (rank == 1 || dims[1] == 1) && type >= 0 && H5Tget_class(type) == H5T_INTEGER &&
                 H5Tget_size(type) <= 8;
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    if (set >= 0)
        H5Dclose(set);
    return holds;
}

/* Among the data sets of as many whole numbers as there are pictures: that of a usual name in the same group, or in
 * any; else the only one. */
static const char *choose_labels(hid_t file, const name_list *list, const char *pictures, hsize_t n)
{
    static const char *const usual[] = {"label", "labels", "y", "target", "targets"};
    size_t n_group = (size_t)(strrchr(pictures, '/') - pictures), n_usual = sizeof usual / sizeof *usual;
    const char *only = NULL, *best = NULL;
    size_t n_found = 0, best_rank = 2 * n_usual;
    for (size_t i = 0; i < list->n; i++) {
        const char *name = list->names[i], *last = strrchr(name, '/');
        if (!holds_labels(file, name, n))
            continue;
        only = name;
        n_found++;
        bool beside = (size_t)(last - name) == n_group && strncmp(name, pictures, n_group) == 0;
        for (size_t j = 0; j < n_usual; j++)
            if (strcmp(last + 1, usual[j]) == 0 && j + (beside ? 0 : n_usual) < best_rank) {
                best_rank = j + (beside ? 0 : n_usual);
                best = name;
            }
    }
    return best != NULL ? best : n_found == 1 ? only : NULL;
}

/* [owned by caller] *labels: (n); NULL where there are none. */
static myr_status read_labels(const char *path, hid_t file, const char *name, hsize_t n, int64_t **labels)
{
    char what[512];
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT), type = set >= 0 ? H5Dget_type(set) : -1;
    snprintf(what, sizeof what, "%s:%s", path, name);
    myr_status status = type >= 0 ? myr_image_set_check_stored(what, set, H5Tget_size(type))
                                  : myr_fail(MYR_ERR_FORMAT, "%s: cannot be opened", what);
    if (status == MYR_OK && (*labels = myr_alloc((size_t)n, sizeof **labels)) == NULL)
        status = myr_fail(MYR_ERR_NOMEM, "%s: not enough memory for its labels", path);
    if (status == MYR_OK && n > 0 && H5Dread(set, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, *labels) < 0)
        status = myr_fail(MYR_ERR_FORMAT, "%s: cannot be read: the file is damaged", what);
    if (type >= 0)
        H5Tclose(type);
    if (set >= 0)
        H5Dclose(set);
    return status;
}

static myr_status find_labels(const char *path, const name_list *list, const char *pictures, const myr_image_set *rows,
                              int64_t **labels)
{
    myr_corpus_hdf5_lock();
    const char *name = choose_labels(rows->file, list, pictures, rows->dims[0]);
    myr_status status = name != NULL ? read_labels(path, rows->file, name, rows->dims[0], labels) : MYR_OK;
    myr_corpus_hdf5_unlock();
    if (name == NULL)
        myr_warn("%s:%s: no data set of %llu whole numbers that could be its labels; its pictures have none", path,
                 pictures, (unsigned long long)rows->dims[0]);
    return status;
}

/* Where the data begin, if they lie in one piece; false where HDF5 is to read them. */
static bool lies_in_one_piece(const myr_image_set *rows, uint64_t *offset)
{
    myr_corpus_hdf5_lock();
    hid_t create = H5Dget_create_plist(rows->set);
    haddr_t at = create >= 0 && H5Pget_layout(create) == H5D_CONTIGUOUS ? H5Dget_offset(rows->set) : HADDR_UNDEF;
    if (create >= 0)
        H5Pclose(create);
    myr_corpus_hdf5_unlock();
    *offset = at;
    return at != HADDR_UNDEF;
}

static myr_status add_rows(myr_corpus *corpus, const char *path, const char *source, const char *front,
                           const myr_image_set *rows, const int64_t *labels)
{
    const myr_form *shape = &rows->form;
    uint64_t offset, n_bytes = (uint64_t)shape->width * (uint64_t)shape->height * (uint64_t)shape->n_channels;
    bool plain = lies_in_one_piece(rows, &offset);
    uint32_t form = 0;
    int64_t n_wrong = 0;
    myr_status status = myr_corpus_add_form(corpus, shape, &form);
    uint64_t text = myr_corpus_text(corpus, plain ? path : source);
    for (hsize_t i = 0; i < rows->dims[0] && status == MYR_OK; i++) {
        bool known = labels != NULL && labels[i] >= 0 && labels[i] <= INT32_MAX;
        n_wrong += labels != NULL && !known;
        myr_record record = {.source = text,
                             .offset = plain ? offset + i * n_bytes : i,
                             .n_bytes = n_bytes,
                             .in_tar = plain,
                             .form = form,
                             .label = known ? (int32_t)labels[i] : -1,
                             .coding = plain ? MYR_CODING_PLAIN : MYR_CODING_HDF5};
        status = myr_corpus_add_numbered(corpus, front, i, &record);
    }
    if (n_wrong > 0)
        myr_warn("%s: %lld labels are no class numbers; those pictures have none", source, (long long)n_wrong);
    return status;
}

/* "<file without extension>/<dataset>/" */
static char *front_of_keys(const char *path, const char *set)
{
    const char *dot = strrchr(path, '.');
    char *stem = myr_corpus_key_front("", path, strlen(dot)), *front = NULL;
    myr_buffer text = {0};
    if (stem != NULL)
        myr_buffer_printf(&text, "%s%s/", stem, set + 1);
    front = text.failed ? NULL : myr_strdup(text.data ? text.data : "");
    myr_buffer_free(&text);
    free(stem);
    return front;
}

static myr_status add_set(myr_corpus *corpus, const char *path, const name_list *list, const char *set)
{
    myr_image_set rows = {.file = -1, .set = -1};
    int64_t *labels = NULL;
    myr_buffer source = {0};
    char *front = front_of_keys(path, set);
    myr_buffer_printf(&source, "%s:%s", path, set);
    myr_status status = source.failed || front == NULL ? myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", path)
                                                       : myr_image_set_open(source.data, &rows);
    if (status == MYR_OK)
        status = find_labels(path, list, set, &rows, &labels);
    if (status == MYR_OK)
        status = add_rows(corpus, path, source.data, front, &rows, labels);
    corpus->facts.n_sets++;
    myr_image_set_close(&rows);
    myr_buffer_free(&source);
    free(labels);
    free(front);
    return status;
}

myr_status myr_corpus_add_hdf5(myr_corpus *corpus, const char *operand)
{
    const char *colon = myr_image_set_colon(operand), *set = colon != NULL ? colon + 1 : NULL;
    char *path = colon != NULL ? strndup(operand, (size_t)(colon - operand)) : myr_strdup(operand);
    name_list list = {0};
    if (path == NULL)
        return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", operand);
    if (!myr_path_exists(path)) {
        myr_status missing = myr_fail(MYR_ERR_NOT_FOUND, "%s: no such file; check the path", path);
        free(path);
        return missing;
    }
    myr_corpus_hdf5_lock();
    hid_t file = myr_image_set_open_file(path);
    myr_status status =
        file >= 0 ? list_sets(path, file, &list) : myr_fail(MYR_ERR_FORMAT, "%s: no HDF5 file, or a damaged one", path);
    if (status == MYR_OK && set == NULL)
        status = choose_set(path, file, &list, &set);
    if (file >= 0)
        H5Fclose(file);
    myr_corpus_hdf5_unlock();
    if (status == MYR_OK)
        status = add_set(corpus, path, &list, set);
    clear_names(&list);
    free(path);
    return status;
}

bool myr_corpus_holds_pictures(const char *path)
{
    name_list list = {0};
    const char *found = NULL;
    myr_buffer text = {0};
    if (!myr_corpus_is_hdf5(path) || myr_image_set_colon(path) != NULL)
        return myr_corpus_is_hdf5(path);
    myr_corpus_hdf5_lock();
    hid_t file = myr_image_set_open_file(path);
    bool holds = file >= 0 && list_sets(path, file, &list) == MYR_OK && count_pictures(file, &list, &found, &text) > 0;
    if (file >= 0)
        H5Fclose(file);
    myr_corpus_hdf5_unlock();
    myr_buffer_free(&text);
    clear_names(&list);
    return holds;
}
