/*
 * Folders: one readdir pass collects relative paths by d_type (a stat only where the type
 * is not told, or a link), then they are sorted bytewise and sized.
 *
 * A folder that has no pictures of its own may hold files of many, which the same pass notes in its first level: tars,
 * of which img2dataset marks the finished ones with a file of counts beside ("00000.tar", "00000_stats.json"), CIFAR
 * and IDX. PASCAL VOC is told by its two folders, its
 * development kit by what is in VOC2007, VOC2012...
 * Source: img2dataset's README, "Output format".
 */
#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "corpus/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH 128
#define STATS "_stats.json"

/* Names in one piece of memory. */
typedef struct name_list {
    myr_buffer text; /* NUL-terminated names */
    size_t *starts;
    size_t n, capacity;
} name_list;

typedef struct walk {
    myr_corpus *corpus;
    const char *root;
    name_list pictures; /* relative paths */
    name_list sets;     /* files of many pictures, and of counts, in the folder itself */
    int64_t n_ignored;
    struct {
        dev_t device;
        ino_t inode;
    } above[MAX_DEPTH]; /* folders we are inside of: a link back to one is a loop */
} walk;

static const char *name_at(const name_list *list, size_t i)
{
    return list->text.data + list->starts[i];
}

static void free_names(name_list *list)
{
    free(list->starts);
    myr_buffer_free(&list->text);
}

static myr_status keep(const walk *w, name_list *list, const char *name)
{
    if (list->n == list->capacity) {
        size_t capacity = list->n == 0 ? 256 : list->n * 2;
        if (!myr_resize(&list->starts, list->n, capacity, sizeof *list->starts))
            return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory for its file names", w->root);
        list->capacity = capacity;
    }
    list->starts[list->n++] = list->text.size;
    myr_buffer_append(&list->text, name, strlen(name) + 1);
    return list->text.failed ? myr_fail(MYR_ERR_NOMEM, "%s: not enough memory for its file names", w->root) : MYR_OK;
}

static bool is_set(const char *name)
{
    return myr_corpus_is_tar(name) || myr_corpus_is_idx(name) || myr_corpus_is_cifar(name);
}

static myr_status scan(walk *w, int fd, const char *relative, int depth)
{
    struct stat st;
    myr_buffer path = {0};
    myr_status status = MYR_OK;
    const struct dirent *entry;
    DIR *folder = fdopendir(fd);
    if (folder == NULL || fstat(fd, &st) != 0) {
        status = myr_fail(MYR_ERR_IO, "%s/%s: %s", w->root, relative, strerror(errno));
        if (folder == NULL)
            close(fd);
        goto done;
    }
    for (int i = 0; i < depth; i++)
        if (w->above[i].device == st.st_dev && w->above[i].inode == st.st_ino) {
            myr_warn("%s/%s: a link back to a folder above it; skipped", w->root, relative);
            goto done;
        }
    if (depth == MAX_DEPTH) {
        status = myr_fail(MYR_ERR_LIMIT, "%s/%s: more than %d folders deep", w->root, relative, MAX_DEPTH);
        goto done;
    }
    w->above[depth].device = st.st_dev;
    w->above[depth].inode = st.st_ino;
    w->corpus->facts.n_folders++;
    while (status == MYR_OK && (errno = 0, entry = readdir(folder)) != NULL) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        unsigned char type = entry->d_type;
        if (name[0] != '.' && (type == DT_UNKNOWN || type == DT_LNK)) {
            if (fstatat(fd, name, &st, 0) != 0)
                type = DT_REG; /* a dangling link: an item if its name says picture, with its problem */
            else
                type = S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_FIFO;
        }
        if (name[0] == '.' || (type != DT_DIR && (type != DT_REG || !myr_corpus_is_picture(name)))) {
            w->n_ignored += type != DT_DIR;
            if (depth == 0 && name[0] != '.' && type == DT_REG &&
                (is_set(name) || myr_corpus_has_extension(name, STATS)))
                status = keep(w, &w->sets, name);
            continue;
        }
        myr_buffer_clear(&path);
        if (relative[0] != '\0') {
            myr_buffer_puts(&path, relative);
            myr_buffer_puts(&path, "/");
        }
        myr_buffer_puts(&path, name);
        if (path.failed) {
            status = myr_fail(MYR_ERR_NOMEM, "%s: not enough memory for its file names", w->root);
        } else if (type == DT_REG) {
            status = keep(w, &w->pictures, path.data);
        } else {
            int inner = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            status = inner < 0 ? myr_fail(MYR_ERR_IO, "%s/%s: %s", w->root, path.data, strerror(errno))
                               : scan(w, inner, path.data, depth + 1);
        }
    }
    if (status == MYR_OK && errno != 0)
        status = myr_fail(MYR_ERR_IO, "%s/%s: %s", w->root, relative, strerror(errno));
done:
    if (folder != NULL)
        closedir(folder);
    myr_buffer_free(&path);
    return status;
}

static int compare(const void *a, const void *b, void *names)
{
    return strcmp((const char *)names + *(const size_t *)a, (const char *)names + *(const size_t *)b);
}

/* The folder's own name: "." and ".." are asked what they are. [owned] */
static char *base_name(const char *path)
{
    char *real = realpath(path, NULL);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t start = n;
    while (start > 0 && path[start - 1] != '/')
        start--;
    bool dots = (n - start == 1 && path[start] == '.') || (n - start == 2 && strncmp(path + start, "..", 2) == 0);
    char *name = !dots ? strndup(path + start, n - start)
                 : real != NULL ? myr_strdup(strrchr(real, '/') + 1)
                                : NULL;
    free(real);
    return name;
}

/* Whether img2dataset counted what is in a tar, which it does when it has finished it. */
static bool is_finished(const name_list *sorted, const char *tar)
{
    char stats[512];
    size_t low = 0, high = sorted->n;
    if (snprintf(stats, sizeof stats, "%.*s" STATS, (int)strcspn(tar, "."), tar) >= (int)sizeof stats)
        return false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(name_at(sorted, middle), stats) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sorted->n && strcmp(name_at(sorted, low), stats) == 0;
}

static myr_status add_set(walk *w, const char *name, const char *front)
{
    char *path = myr_path_join(w->root, name);
    myr_status status;
    if (path == NULL) {
        status = myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", w->root);
    } else if (myr_corpus_is_tar(name)) {
        w->corpus->tar_front = front;
        status = myr_corpus_add_tar(w->corpus, path);
        w->corpus->tar_front = NULL;
    } else {
        status = myr_corpus_is_idx(name) ? myr_corpus_add_idx(w->corpus, path, front)
                                         : myr_corpus_add_cifar(w->corpus, path, front);
    }
    free(path);
    return status;
}

/* A folder without pictures: the files of many that it holds. */
static myr_status add_sets(walk *w, const char *front)
{
    name_list *sets = &w->sets;
    int64_t n_stats = 0, n_taken = 0, n_unfinished = 0;
    myr_status status = MYR_OK;
    if (sets->n > 0)
        qsort_r(sets->starts, sets->n, sizeof *sets->starts, compare, sets->text.data);
    for (size_t i = 0; i < sets->n; i++)
        n_stats += !is_set(name_at(sets, i));
    for (size_t i = 0; i < sets->n && status == MYR_OK; i++) {
        const char *name = name_at(sets, i);
        if (!is_set(name))
            continue;
        if (n_stats > 0 && myr_corpus_is_tar(name) && !is_finished(sets, name)) {
            n_unfinished++;
            continue;
        }
        status = add_set(w, name, front);
        n_taken++;
    }
    w->corpus->facts.n_ignored -= n_taken;
    w->corpus->facts.n_unfinished += n_unfinished;
    if (n_unfinished > 0)
        myr_warn("%s: %lld tars have no " STATS " beside them, so img2dataset has not finished them; left out", w->root,
                 (long long)n_unfinished);
    if (status == MYR_OK && n_taken == 0)
        status = myr_fail(MYR_ERR_NOT_FOUND,
                          "no pictures in %s: %lld other files; pictures are known by .jpg, .png, .webp and the like, "
                          "tars by .tar",
                          w->root, (long long)w->n_ignored);
    return status;
}

/* "" or "<folder's own name>/", which keys begin with where several folders are given. [owned] NULL without memory. */
static char *front_of_keys(const myr_corpus *corpus, const char *path)
{
    char *name = corpus->several_folders ? base_name(path) : NULL, *front = NULL;
    if (!corpus->several_folders)
        return myr_strdup("");
    if (name != NULL && asprintf(&front, "%s%s", name, name[0] != '\0' ? "/" : "") < 0)
        front = NULL;
    free(name);
    return front;
}

static myr_status add_picture(walk *w, int top, const char *relative, const char *front, myr_buffer *full,
                              myr_buffer *key)
{
    struct stat st;
    size_t n_root = strlen(w->root);
    myr_record record = {.label = -1};
    if (fstatat(top, relative, &st, 0) != 0)
        record.problem = myr_corpus_text(w->corpus, strerror(errno));
    else
        record.n_bytes = (uint64_t)st.st_size;
    myr_buffer_clear(full);
    myr_buffer_puts(full, w->root);
    if (n_root > 0 && w->root[n_root - 1] != '/')
        myr_buffer_puts(full, "/");
    myr_buffer_puts(full, relative);
    myr_buffer_clear(key);
    myr_buffer_puts(key, front);
    myr_buffer_puts(key, relative);
    if (full->failed || key->failed)
        return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", w->root);
    record.source = myr_corpus_text(w->corpus, full->data);
    /* The key is mostly the end of the path: then it costs nothing. */
    bool shared = record.source != 0 && full->size >= key->size &&
                  strcmp(full->data + full->size - key->size, key->data) == 0;
    record.key = shared ? record.source + full->size - key->size : myr_corpus_text(w->corpus, key->data);
    return myr_corpus_add(w->corpus, &record);
}

static myr_status add_pictures(walk *w, int top, const char *front)
{
    name_list *pictures = &w->pictures;
    myr_buffer full = {0}, key = {0};
    myr_status status = MYR_OK;
    qsort_r(pictures->starts, pictures->n, sizeof *pictures->starts, compare, pictures->text.data);
    for (size_t i = 0; i < pictures->n && status == MYR_OK; i++)
        status = add_picture(w, top, name_at(pictures, i), front, &full, &key);
    myr_buffer_free(&full);
    myr_buffer_free(&key);
    return status;
}

myr_status myr_corpus_add_folder(myr_corpus *corpus, const char *path)
{
    walk w = {.corpus = corpus, .root = path};
    int fd = -1, top = -1, n_years = 0;
    myr_status status = MYR_OK;
    char *front = front_of_keys(corpus, path);
    if (front == NULL)
        return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", path);
    if (corpus->first_folder == 0)
        corpus->first_folder = myr_corpus_text(corpus, path);
    if (myr_corpus_is_voc(path)) {
        status = myr_corpus_add_voc(corpus, path, front, NULL);
        goto done;
    }
    status = myr_corpus_add_devkit(corpus, path, front, &n_years);
    if (status != MYR_OK || n_years > 0)
        goto done;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        status = myr_fail(MYR_ERR_IO, "%s: %s", path, strerror(errno));
        goto done;
    }
    top = dup(fd); /* the walk closes its own */
    status = scan(&w, fd, "", 0);
    corpus->facts.n_ignored += w.n_ignored;
    if (status == MYR_OK)
        status = w.pictures.n > 0 ? add_pictures(&w, top, front) : add_sets(&w, front);
done:
    if (top >= 0)
        close(top);
    free(front);
    free_names(&w.pictures);
    free_names(&w.sets);
    return status;
}
