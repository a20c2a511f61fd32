/*
 * Folders: one readdir pass collects relative paths by d_type (a stat only where the type
 * is not told, or a link), then they are sorted bytewise and sized.
 */
#include "base/alloc.h"
#include "base/log.h"
#include "corpus/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH 128

typedef struct walk {
    myr_corpus *corpus;
    const char *root;
    myr_buffer names; /* NUL-terminated relative paths */
    size_t *starts;
    size_t n, capacity;
    int64_t n_ignored, n_tars;
    struct {
        dev_t device;
        ino_t inode;
    } above[MAX_DEPTH]; /* folders we are inside of: a link back to one is a loop */
} walk;

static myr_status keep(walk *w, const char *relative)
{
    if (w->n == w->capacity) {
        size_t capacity = w->n == 0 ? 256 : w->n * 2;
        if (!myr_resize(&w->starts, w->n, capacity, sizeof *w->starts))
            return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory for its file names", w->root);
        w->capacity = capacity;
    }
    w->starts[w->n++] = w->names.size;
    myr_buffer_append(&w->names, relative, strlen(relative) + 1);
    return w->names.failed ? myr_fail(MYR_ERR_NOMEM, "%s: not enough memory for its file names", w->root) : MYR_OK;
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
            w->n_tars += type == DT_REG && myr_corpus_has_extension(name, ".tar");
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
            status = keep(w, path.data);
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

myr_status myr_corpus_add_folder(myr_corpus *corpus, const char *path)
{
    walk w = {.corpus = corpus, .root = path};
    myr_buffer full = {0}, key = {0};
    myr_status status = MYR_OK;
    struct stat st;
    char *front = corpus->several_folders ? base_name(path) : myr_strdup("");
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), top = -1;
    if (fd < 0) {
        status = myr_fail(MYR_ERR_IO, "%s: %s", path, strerror(errno));
        goto done;
    }
    top = dup(fd); /* the walk closes its own */
    status = scan(&w, fd, "", 0);
    if (status != MYR_OK)
        goto done;
    corpus->facts.n_ignored += w.n_ignored;
    if (w.n == 0) {
        status = w.n_tars > 0 ? myr_fail(MYR_ERR_NOT_FOUND, "no pictures in %s, but %lld tars: name them, as in %s/*.tar",
                                         path, (long long)w.n_tars, path)
                              : myr_fail(MYR_ERR_NOT_FOUND, "no pictures in %s (%lld other files)", path,
                                         (long long)w.n_ignored);
        goto done;
    }
    qsort_r(w.starts, w.n, sizeof *w.starts, compare, w.names.data);
    size_t n_path = strlen(path);
    for (size_t i = 0; i < w.n && status == MYR_OK; i++) {
        const char *relative = w.names.data + w.starts[i];
        myr_record record = {.label = -1};
        if (fstatat(top, relative, &st, 0) != 0)
            record.problem = myr_corpus_text(corpus, strerror(errno));
        else
            record.n_bytes = (uint64_t)st.st_size;
        myr_buffer_clear(&full);
        myr_buffer_puts(&full, path);
        if (n_path > 0 && path[n_path - 1] != '/')
            myr_buffer_puts(&full, "/");
        myr_buffer_puts(&full, relative);
        myr_buffer_clear(&key);
        if (front != NULL && front[0] != '\0') {
            myr_buffer_puts(&key, front);
            myr_buffer_puts(&key, "/");
        }
        myr_buffer_puts(&key, relative);
        if (full.failed || key.failed || front == NULL) {
            status = myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", path);
            break;
        }
        record.source = myr_corpus_text(corpus, full.data);
        /* The key is mostly the end of the path: then it costs nothing. */
        bool shared = record.source != 0 && full.size >= key.size &&
                      strcmp(full.data + full.size - key.size, key.data) == 0;
        record.key = shared ? record.source + full.size - key.size : myr_corpus_text(corpus, key.data);
        status = myr_corpus_add(corpus, &record);
    }
done:
    if (top >= 0)
        close(top);
    free(front);
    free(w.starts);
    myr_buffer_free(&w.names);
    myr_buffer_free(&full);
    myr_buffer_free(&key);
    return status;
}
