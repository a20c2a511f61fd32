/*
 * PASCAL VOC: a folder with JPEGImages/ID.jpg and Annotations/ID.xml; or VOCdevkit, with such a folder for each year.
 *
 * An item is a picture, labelled by its largest object, or with crop_objects each object, labelled by itself, with
 * its box. One pass lists the pictures (or a list of ImageSets does), one reads the annotations; labels are numbered
 * at the end, when all names are known: as VOC's own twenty classes stand, or, where there are others, by name.
 * Objects that are marked difficult or truncated are objects as well.
 *
 * Source: PASCAL VOC Development Kit 2007 and 2012, devkit_doc, "Image sets", "Annotations".
 */
#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "corpus/internal.h"
#include "corpus/voc_xml.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_ANNOTATION ((size_t)4 << 20)
#define PICTURES "JPEGImages"
#define ANNOTATIONS "Annotations"

typedef struct voc_walk {
    myr_corpus *corpus;
    const char *root, *front;
    int pictures, annotations; /* folders */
    char **files;              /* names in JPEGImages */
    size_t n_files, file_capacity;
    myr_record *items; /* to be; label: place of its name in names, until all are known */
    size_t n_items, item_capacity;
    myr_key_set names; /* of classes */
    int64_t n_unannotated, n_damaged, n_without_box;
    char why[512]; /* of the first damaged annotation */
} voc_walk;

static myr_status no_memory(const voc_walk *w)
{
    return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", w->root);
}

static bool has_folder(const char *root, const char *name)
{
    char *path = myr_path_join(root, name);
    bool has = path != NULL && myr_path_is_folder(path);
    free(path);
    return has;
}

bool myr_corpus_is_voc(const char *root)
{
    return has_folder(root, PICTURES) && has_folder(root, ANNOTATIONS);
}

/* ROOT of ROOT/ImageSets/Main/train.txt. */
char *myr_corpus_voc_root(const char *list)
{
    const char middle[] = "/ImageSets/", *found = NULL;
    for (const char *at = list; (at = strstr(at, middle)) != NULL; at++)
        found = at;
    char *root = NULL;
    if (found != NULL)
        root = found > list ? strndup(list, (size_t)(found - list)) : myr_strdup("/");
    else if (strncmp(list, middle + 1, strlen(middle + 1)) == 0)
        root = myr_strdup(".");
    if (root == NULL || myr_corpus_is_voc(root))
        return root;
    free(root);
    return NULL;
}

static myr_status keep_file(voc_walk *w, const char *name)
{
    if (w->n_files == w->file_capacity) {
        size_t more = w->file_capacity == 0 ? 256 : 2 * w->file_capacity;
        if (!myr_resize(&w->files, w->file_capacity, more, sizeof *w->files))
            return no_memory(w);
        w->file_capacity = more;
    }
    w->files[w->n_files] = myr_strdup(name);
    return w->files[w->n_files++] != NULL ? MYR_OK : no_memory(w);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static myr_status scan_pictures(voc_walk *w)
{
    myr_status status = MYR_OK;
    int fd = dup(w->pictures);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    if (folder == NULL) {
        status = myr_fail(MYR_ERR_IO, "%s/" PICTURES ": %s", w->root, strerror(errno));
        if (fd >= 0)
            close(fd);
        return status;
    }
    const struct dirent *entry;
    while (status == MYR_OK && (errno = 0, entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] != '.' && myr_corpus_is_picture(entry->d_name))
            status = keep_file(w, entry->d_name);
        else if (entry->d_name[0] != '.')
            w->corpus->facts.n_ignored++;
    }
    if (status == MYR_OK && errno != 0)
        status = myr_fail(MYR_ERR_IO, "%s/" PICTURES ": %s", w->root, strerror(errno));
    closedir(folder);
    qsort(w->files, w->n_files, sizeof *w->files, by_name);
    return status;
}

/* Lines are "000005", or "000005 -1" in the lists of one class: -1 = it is not in the picture. */
static myr_status read_list(voc_walk *w, const char *list)
{
    char **lines = NULL;
    size_t n = 0;
    if (!myr_path_exists(list))
        return myr_fail(MYR_ERR_NOT_FOUND, "%s: no such list; check the path", list);
    myr_status status = myr_corpus_lines(list, &lines, &n);
    for (size_t i = 0; i < n && status == MYR_OK; i++) {
        char name[256];
        size_t length = strcspn(lines[i], " \t");
        const char *mark = lines[i] + length + strspn(lines[i] + length, " \t");
        if (length == 0 || length > 200 || memchr(lines[i], '/', length) != NULL)
            status = myr_fail(MYR_ERR_FORMAT, "%s: line %zu: no number of a picture", list, i + 1);
        else if (strncmp(mark, "-1", 2) != 0) {
            snprintf(name, sizeof name, "%.*s.jpg", (int)length, lines[i]);
            status = keep_file(w, name);
        }
    }
    myr_corpus_lines_free(lines, n);
    return status;
}

/* Bytes of Annotations/ID.xml; MYR_ERR_NOT_FOUND where there is none. */
static myr_status read_annotation(voc_walk *w, const char *id, size_t n_id, myr_buffer *bytes)
{
    char name[512];
    snprintf(name, sizeof name, "%.*s.xml", (int)n_id, id);
    int fd = openat(w->annotations, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? MYR_ERR_NOT_FOUND
                               : myr_fail(MYR_ERR_IO, "%s/" ANNOTATIONS "/%s: %s", w->root, name, strerror(errno));
    char block[16384];
    ssize_t got;
    myr_status status = MYR_OK;
    myr_buffer_clear(bytes);
    while (status == MYR_OK && (got = read(fd, block, sizeof block)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            status = myr_fail(MYR_ERR_IO, "%s/" ANNOTATIONS "/%s: %s", w->root, name, strerror(errno));
        else if (bytes->size + (size_t)got > MAX_ANNOTATION)
            status = myr_fail(MYR_ERR_FORMAT, "larger than %zu bytes", MAX_ANNOTATION);
        else
            myr_buffer_append(bytes, block, (size_t)got);
    }
    close(fd);
    return status == MYR_OK && bytes->failed ? no_memory(w) : status;
}

/* The number of a class by its name, met before or not. */
static myr_status number_name(voc_walk *w, const char *name, int32_t *number)
{
    const struct myr_key_entry *found;
    size_t before = w->corpus->texts.size;
    *number = -1;
    if (name == NULL)
        return MYR_OK;
    uint64_t text = myr_corpus_text(w->corpus, name);
    if (text == 0)
        return no_memory(w);
    myr_status status = myr_key_set_add(w->corpus, &w->names, text, w->names.n, &found);
    if (status != MYR_OK)
        return status;
    if (found != NULL)
        w->corpus->texts.size = before; /* known: give the copy back */
    *number = (int32_t)(found != NULL ? found->value : w->names.n - 1);
    return MYR_OK;
}

static int64_t area(const myr_box *box)
{
    return (int64_t)box->width * box->height;
}

static myr_status keep_item(voc_walk *w, const myr_record *record)
{
    if (w->n_items == w->item_capacity) {
        size_t more = w->item_capacity == 0 ? 256 : 2 * w->item_capacity;
        if (!myr_resize(&w->items, w->item_capacity, more, sizeof *w->items))
            return no_memory(w);
        w->item_capacity = more;
    }
    w->items[w->n_items++] = *record;
    return MYR_OK;
}

/* The picture as one item, labelled by its largest object (of equals the first). */
static myr_status keep_picture(voc_walk *w, const myr_voc_objects *objects, myr_record record)
{
    const myr_voc_object *largest = NULL;
    for (size_t i = 0; i < objects->n; i++)
        if (objects->objects[i].name != NULL &&
            (largest == NULL || area(&objects->objects[i].box) > area(&largest->box)))
            largest = &objects->objects[i];
    myr_status status = number_name(w, largest != NULL ? largest->name : NULL, &record.label);
    return status == MYR_OK ? keep_item(w, &record) : status;
}

/* Each object as an item, "000005#1" and on. */
static myr_status keep_objects(voc_walk *w, const myr_voc_objects *objects, myr_record record)
{
    myr_status status = MYR_OK;
    uint64_t picture = record.key;
    w->corpus->facts.n_ignored += objects->n == 0;
    for (size_t i = 0; i < objects->n && status == MYR_OK; i++) {
        const myr_voc_object *object = &objects->objects[i];
        uint32_t form = 0;
        char *key = NULL;
        if (object->box.width == 0) {
            w->n_without_box++;
            continue;
        }
        if (asprintf(&key, "%s#%zu", myr_corpus_at(w->corpus, picture), i + 1) < 0)
            return no_memory(w);
        record.key = myr_corpus_text(w->corpus, key);
        free(key);
        if (record.key == 0)
            return no_memory(w);
        status = myr_corpus_add_form(w->corpus, &(myr_form){.box = object->box}, &form);
        record.form = form;
        if (status == MYR_OK)
            status = number_name(w, object->name, &record.label);
        if (status == MYR_OK)
            status = keep_item(w, &record);
    }
    return status;
}

/* What the annotation of a picture tells; nothing where there is none, or a damaged one. */
static myr_status look_up(voc_walk *w, const char *file, size_t n_id, myr_buffer *bytes, myr_voc_objects *objects)
{
    myr_status status = read_annotation(w, file, n_id, bytes);
    *objects = (myr_voc_objects){0};
    if (status == MYR_OK)
        status = myr_voc_parse(bytes->data != NULL ? bytes->data : "", bytes->size, objects);
    if (status == MYR_ERR_NOT_FOUND)
        w->n_unannotated++;
    else if (status == MYR_ERR_FORMAT || status == MYR_ERR_LIMIT) {
        if (w->n_damaged++ == 0)
            snprintf(w->why, sizeof w->why, "%.*s.xml: %s", (int)n_id, file, myr_error_detail());
    } else {
        return status;
    }
    return MYR_OK;
}

static myr_status take_file(voc_walk *w, const char *file, myr_buffer *bytes)
{
    struct stat st;
    myr_voc_objects objects;
    const char *dot = strrchr(file, '.');
    char *key = NULL, *path = NULL;
    myr_record record = {.label = -1};
    myr_status status = look_up(w, file, (size_t)(dot - file), bytes, &objects);
    if (status != MYR_OK)
        return status;
    if (asprintf(&key, "%s%.*s", w->front, (int)(dot - file), file) < 0 ||
        asprintf(&path, "%s/" PICTURES "/%s", w->root, file) < 0) {
        status = no_memory(w);
        goto done;
    }
    if (fstatat(w->pictures, file, &st, 0) == 0)
        record.n_bytes = (uint64_t)st.st_size;
    else
        record.problem = myr_corpus_text(w->corpus, strerror(errno));
    record.key = myr_corpus_text(w->corpus, key);
    record.source = myr_corpus_text(w->corpus, path);
    if (record.key == 0 || record.source == 0)
        status = no_memory(w);
    else if (w->corpus->options.crop_objects)
        status = keep_objects(w, &objects, record);
    else
        status = keep_picture(w, &objects, record);
done:
    free(key);
    free(path);
    myr_voc_clear(&objects);
    return status;
}

/* VOC's own classes where no others were met, else those that were met, by name. */
static myr_status number_classes(voc_walk *w, int32_t *labels)
{
    static const char *const twenty[] = {
        "aeroplane",   "bicycle", "bird",  "boat",      "bottle", "bus",         "car",   "cat",  "chair", "cow",
        "diningtable", "dog",     "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"};
    size_t n_twenty = sizeof twenty / sizeof *twenty, n = w->names.n, n_others = 0;
    const char **sorted = myr_alloc(n + n_twenty, sizeof *sorted);
    int32_t *numbers = myr_alloc(n + n_twenty, sizeof *numbers);
    char **copies = myr_alloc(n, sizeof *copies); /* texts of the arena move while more are added */
    myr_status status = sorted && numbers && copies ? MYR_OK : no_memory(w);
    for (size_t i = 0; i < n && status == MYR_OK; i++) {
        copies[i] = myr_strdup(myr_corpus_at(w->corpus, w->names.entries[i].text));
        if (copies[i] == NULL)
            status = no_memory(w);
        else
            n_others += bsearch(&copies[i], twenty, n_twenty, sizeof *twenty, by_name) == NULL;
    }
    if (status == MYR_OK) {
        size_t n_sorted = n_others > 0 ? n : n_twenty;
        memcpy(sorted, n_others > 0 ? (const char *const *)copies : twenty, n_sorted * sizeof *sorted);
        qsort(sorted, n_sorted, sizeof *sorted, by_name);
        status = n > 0 ? myr_corpus_add_classes(w->corpus, sorted, n_sorted, numbers) : MYR_OK;
        for (size_t i = 0; i < n && status == MYR_OK; i++) {
            const char **place = bsearch(&copies[i], sorted, n_sorted, sizeof *sorted, by_name);
            labels[i] = numbers[place - sorted];
        }
    }
    for (size_t i = 0; copies != NULL && i < n; i++)
        free(copies[i]);
    free(copies);
    free(numbers);
    free(sorted);
    return status;
}

static myr_status add_items(voc_walk *w)
{
    int32_t *labels = myr_alloc(w->names.n, sizeof *labels);
    myr_status status = labels != NULL ? number_classes(w, labels) : no_memory(w);
    for (size_t i = 0; i < w->n_items && status == MYR_OK; i++) {
        myr_record *record = &w->items[i];
        if (record->label >= 0)
            record->label = labels[record->label];
        status = myr_corpus_add(w->corpus, record);
    }
    free(labels);
    return status;
}

static void tell_oddities(const voc_walk *w)
{
    if (w->n_unannotated > 0)
        myr_warn("%s: %lld pictures have no annotation, and so no label", w->root, (long long)w->n_unannotated);
    if (w->n_damaged > 0)
        myr_warn("%s: %lld annotations cannot be read, the first %s; their pictures have no label", w->root,
                 (long long)w->n_damaged, w->why);
    if (w->n_without_box > 0)
        myr_warn("%s: %lld objects have no box and were left out", w->root, (long long)w->n_without_box);
}

static myr_status open_folders(voc_walk *w)
{
    char *pictures = myr_path_join(w->root, PICTURES), *annotations = myr_path_join(w->root, ANNOTATIONS);
    myr_status status = MYR_OK;
    if (pictures == NULL || annotations == NULL)
        status = no_memory(w);
    else if ((w->pictures = open(pictures, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
             (w->annotations = open(annotations, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        status = myr_fail(MYR_ERR_IO, "%s: %s", w->root, strerror(errno));
    free(pictures);
    free(annotations);
    return status;
}

myr_status myr_corpus_add_voc(myr_corpus *corpus, const char *root, const char *front, const char *list)
{
    voc_walk w = {.corpus = corpus, .root = root, .front = front, .pictures = -1, .annotations = -1};
    myr_buffer bytes = {0};
    size_t before = corpus->n;
    myr_status status = open_folders(&w);
    if (status == MYR_OK)
        status = list != NULL ? read_list(&w, list) : scan_pictures(&w);
    for (size_t i = 0; i < w.n_files && status == MYR_OK; i++)
        status = take_file(&w, w.files[i], &bytes);
    if (status == MYR_OK)
        status = add_items(&w);
    if (status == MYR_OK && corpus->n == before)
        status = myr_fail(MYR_ERR_NOT_FOUND, "no %s in %s", corpus->options.crop_objects ? "objects" : "pictures",
                          list != NULL ? list : root);
    tell_oddities(&w);
    corpus->facts.n_sets++;
    corpus->facts.n_lists += list != NULL;
    corpus->facts.n_folders += list == NULL;
    if (w.pictures >= 0)
        close(w.pictures);
    if (w.annotations >= 0)
        close(w.annotations);
    myr_corpus_lines_free(w.files, w.n_files);
    free(w.items);
    myr_key_set_free(&w.names);
    myr_buffer_free(&bytes);
    return status;
}

/* ---- Development kit ---- */

enum { FIRST_YEAR = 2005, LAST_YEAR = 2012 }; /* of the challenge */

static myr_status add_year(myr_corpus *corpus, const char *root, const char *front, const char *name, int *n_years)
{
    char *path = myr_path_join(root, name);
    myr_buffer keys = {0};
    myr_buffer_printf(&keys, "%s%s/", front, name);
    myr_status status = path != NULL && !keys.failed ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", root);
    if (status == MYR_OK && myr_corpus_is_voc(path)) {
        status = myr_corpus_add_voc(corpus, path, (const char *)keys.data, NULL);
        (*n_years)++;
    }
    myr_buffer_free(&keys);
    free(path);
    return status;
}

/* Asked for by name: a large folder of pictures should not be read once more for this. */
myr_status myr_corpus_add_devkit(myr_corpus *corpus, const char *root, const char *front, int *n_years)
{
    myr_status status = MYR_OK;
    *n_years = 0;
    for (int year = FIRST_YEAR; year <= LAST_YEAR && status == MYR_OK; year++) {
        char name[16];
        snprintf(name, sizeof name, "VOC%d", year);
        status = add_year(corpus, root, front, name, n_years);
    }
    if (status == MYR_OK && *n_years > 0)
        myr_note("%s: PASCAL VOC of %d year%s; nothing else in it is looked at", root, *n_years,
                 *n_years == 1 ? "" : "s");
    return status;
}
