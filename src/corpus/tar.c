/*
 * WebDataset tars, enumerated by their headers: neighbours with one key are one sample,
 * its picture is the item, its .cls (or else .json) gives the label.
 *
 * Packed with gzip or not. Formats: ustar, GNU long names (L, K), pax (x, g: path, size), base-256 numbers. A window
 * of one page serves a header, the small members behind it and often the next header.
 * Source: POSIX.1-2017 "pax Interchange Format"; GNU tar manual, "Basic Tar Format".
 */
#include "base/alloc.h"
#include "base/log.h"
#include "corpus/input.h"
#include "corpus/internal.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BLOCK 512
#define WINDOW 4096
#define MAX_EXTRA ((uint64_t)1 << 20) /* a long name or pax record */
#define MAX_PADDING ((uint64_t)16 << 20)
#define MAX_CLS 64
#define MAX_JSON 65536

typedef struct sample {
    uint64_t key; /* text; 0 = none yet */
    bool has_picture, extra_picture, cls_seen;
    myr_record record;
    uint64_t json_offset, json_bytes;
} sample;

typedef struct tar_walk {
    myr_corpus *corpus;
    const char *path;
    myr_input file;
    uint64_t source;
    uint64_t window_at;
    size_t window_bytes;
    char window[WINDOW];
    myr_buffer name, global_name, key; /* long name or pax path of the next member, if any */
    bool name_set, global_name_set, size_set;
    uint64_t pax_size;
    sample now;
    myr_key_set keys; /* of this tar: value = offset of the sample's first header */
    int64_t n_bad_labels, n_extra;
} tar_walk;

static myr_status out_of_memory(const tar_walk *t)
{
    return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", t->path);
}

static myr_status damaged(const tar_walk *t, uint64_t at, const char *why)
{
    return myr_fail(MYR_ERR_FORMAT, "%s: at byte %llu: %s; make the tar again", t->path, (unsigned long long)at, why);
}

static myr_status read_at(tar_walk *t, uint64_t at, void *room, size_t n)
{
    size_t n_read;
    myr_status status = myr_input_read(&t->file, at, room, n, &n_read);
    return status == MYR_OK && n_read < n ? damaged(t, at, "became shorter while it was read") : status;
}

/* How many of the n bytes from here on there are. */
static myr_status count_left(tar_walk *t, uint64_t at, uint64_t n, uint64_t *left)
{
    myr_status status = myr_input_reach(&t->file, n <= UINT64_MAX - at ? at + n : UINT64_MAX, left);
    *left -= at;
    return status;
}

/* n <= WINDOW bytes inside the file, through the window. */
static myr_status look(tar_walk *t, uint64_t at, size_t n, const char **bytes)
{
    if (at < t->window_at || at + n > t->window_at + t->window_bytes) {
        t->window_at = at;
        t->window_bytes = 0;
        myr_status status = myr_input_read(&t->file, at, t->window, WINDOW, &t->window_bytes);
        if (status == MYR_OK && t->window_bytes < n)
            status = damaged(t, at, "became shorter while it was read");
        if (status != MYR_OK)
            return status;
    }
    *bytes = t->window + (at - t->window_at);
    return MYR_OK;
}

/* Octal text, or big-endian base 256 where the first bit is set. */
static bool parse_number(const char *field, size_t n, uint64_t *value)
{
    const unsigned char *bytes = (const unsigned char *)field;
    size_t i = 0;
    *value = 0;
    if (bytes[0] & 0x80) {
        if (bytes[0] & 0x40)
            return false; /* negative */
        *value = bytes[0] & 0x3f;
        for (i = 1; i < n; i++) {
            if (*value >> 55)
                return false;
            *value = *value << 8 | bytes[i];
        }
        return true;
    }
    while (i < n && bytes[i] == ' ')
        i++;
    for (; i < n && bytes[i] >= '0' && bytes[i] <= '7'; i++) {
        if (*value >> 60)
            return false;
        *value = *value << 3 | (bytes[i] - '0');
    }
    return i == n || bytes[i] == ' ' || bytes[i] == '\0';
}

/* Sums of unsigned bytes are the rule; old tars summed signed ones. */
static bool checksum_holds(const char *header)
{
    uint64_t told;
    int64_t plain = 0, with_sign = 0;
    for (int i = 0; i < BLOCK; i++) {
        char c = i >= 148 && i < 156 ? ' ' : header[i];
        plain += (unsigned char)c;
        with_sign += (signed char)c;
    }
    return parse_number(header + 148, 8, &told) && ((int64_t)told == plain || (int64_t)told == with_sign);
}

static bool is_zero(const char *block)
{
    for (int i = 0; i < BLOCK; i++)
        if (block[i] != 0)
            return false;
    return true;
}

/* "LENGTH KEY=VALUE\n" records; only path and size matter here. */
static myr_status read_pax(tar_walk *t, uint64_t at, const char *bytes, size_t n, bool global)
{
    for (size_t i = 0; i < n && bytes[i] != '\0';) {
        size_t length = 0, j = i;
        for (; j < n && bytes[j] >= '0' && bytes[j] <= '9' && length <= n; j++)
            length = length * 10 + (size_t)(bytes[j] - '0');
        if (j == i || j >= n || bytes[j] != ' ' || length > n - i || length < j - i + 3 || bytes[i + length - 1] != '\n')
            return damaged(t, at, "a pax record of a wrong length");
        const char *key = bytes + j + 1, *end = bytes + i + length - 1;
        const char *equals = memchr(key, '=', (size_t)(end - key));
        if (equals == NULL)
            return damaged(t, at, "a pax record without '='");
        size_t n_key = (size_t)(equals - key), n_value = (size_t)(end - equals - 1);
        if (n_key == 4 && memcmp(key, "path", 4) == 0) {
            myr_buffer *name = global ? &t->global_name : &t->name;
            myr_buffer_clear(name);
            myr_buffer_append(name, equals + 1, n_value);
            *(global ? &t->global_name_set : &t->name_set) = true;
        } else if (n_key == 4 && memcmp(key, "size", 4) == 0 && !global) {
            uint64_t size = 0;
            for (size_t k = 0; k < n_value; k++) {
                char c = equals[1 + k];
                if (c < '0' || c > '9' || size > (UINT64_MAX >> 1) / 10 - 1)
                    return damaged(t, at, "a pax size that is no number");
                size = size * 10 + (uint64_t)(c - '0');
            }
            t->pax_size = size;
            t->size_set = true;
        }
        i += length;
    }
    return MYR_OK;
}

/* A member that only describes the next one: 'L' 'K' 'x' 'g'. */
static myr_status read_extra(tar_walk *t, char type, uint64_t at, uint64_t n_bytes)
{
    if (type == 'K')
        return MYR_OK; /* name of a link's target: links are no pictures */
    if (n_bytes > MAX_EXTRA)
        return damaged(t, at, "a name longer than 1 MiB");
    char *bytes = myr_alloc((size_t)n_bytes + 1, 1);
    if (bytes == NULL)
        return out_of_memory(t);
    myr_status status = read_at(t, at, bytes, (size_t)n_bytes);
    if (status == MYR_OK && type == 'L') {
        myr_buffer_clear(&t->name);
        myr_buffer_puts(&t->name, bytes);
        t->name_set = true;
    } else if (status == MYR_OK) {
        status = read_pax(t, at, bytes, (size_t)n_bytes, type == 'g');
    }
    if (status == MYR_OK && (t->name.failed || t->global_name.failed))
        status = out_of_memory(t);
    free(bytes);
    return status;
}

static bool valid_label(long long value)
{
    return value >= 0 && value <= INT32_MAX;
}

static myr_status read_cls(tar_walk *t, uint64_t at, uint64_t n_bytes)
{
    char text[MAX_CLS + 1] = {0}, *end = text;
    const char *bytes;
    long long value = -1;
    t->now.cls_seen = true;
    if (n_bytes > 0 && n_bytes <= MAX_CLS) {
        myr_status status = look(t, at, (size_t)n_bytes, &bytes);
        if (status != MYR_OK)
            return status;
        memcpy(text, bytes, (size_t)n_bytes);
        value = strtoll(text, &end, 10);
    }
    if (end == text || end[strspn(end, " \t\r\n")] != '\0' || !valid_label(value))
        t->n_bad_labels++;
    else
        t->now.record.label = (int32_t)value;
    return MYR_OK;
}

static myr_status read_json(tar_walk *t)
{
    char *text = myr_alloc((size_t)t->now.json_bytes, 1);
    if (text == NULL)
        return out_of_memory(t);
    myr_status status = read_at(t, t->now.json_offset, text, (size_t)t->now.json_bytes);
    json_t *root = status == MYR_OK ? json_loadb(text, (size_t)t->now.json_bytes, 0, NULL) : NULL;
    json_t *label = json_object_get(root, "label");
    if (label == NULL)
        label = json_object_get(root, "cls");
    if (json_is_integer(label) && valid_label(json_integer_value(label)))
        t->now.record.label = (int32_t)json_integer_value(label);
    json_decref(root);
    free(text);
    return status;
}

static myr_status end_sample(tar_walk *t)
{
    sample *now = &t->now;
    myr_status status = MYR_OK;
    if (now->key != 0 && !now->has_picture)
        t->corpus->facts.n_ignored++;
    if (now->has_picture) {
        if (!now->cls_seen && now->json_bytes > 0 && !t->corpus->options.label_from_folder)
            status = read_json(t);
        t->n_extra += now->extra_picture;
        if (status == MYR_OK)
            status = myr_corpus_add(t->corpus, &now->record);
    }
    t->now = (sample){.record.label = -1};
    return status;
}

/* Starts a sample where the key changes. */
static myr_status follow_key(tar_walk *t, const char *path, const char *base, uint64_t header_at)
{
    const char *front = strrchr(t->path, '/');
    front = front == NULL ? t->path : front + 1;
    myr_buffer_clear(&t->key);
    if (t->corpus->tar_front != NULL)
        myr_buffer_puts(&t->key, t->corpus->tar_front);
    if (t->corpus->options.key_prefix_tar) {
        size_t n_front = strlen(front);
        if (myr_corpus_has_extension(front, ".gz"))
            n_front -= strlen(".gz");
        myr_buffer_append(&t->key, front, n_front - strlen(".tar")); /* or ".tgz" */
        myr_buffer_puts(&t->key, "/");
    }
    myr_buffer_append(&t->key, path, (size_t)(base - path) + strcspn(base, "."));
    if (t->key.failed)
        return out_of_memory(t);
    if (t->now.key != 0 && strcmp(myr_corpus_at(t->corpus, t->now.key), t->key.data) == 0)
        return MYR_OK;
    myr_status status = end_sample(t);
    if (status != MYR_OK)
        return status;
    const struct myr_key_entry *found;
    t->now.key = myr_corpus_text(t->corpus, t->key.data);
    if (t->now.key == 0)
        return out_of_memory(t);
    status = myr_key_set_add(t->corpus, &t->keys, t->now.key, header_at, &found);
    if (status == MYR_OK && found != NULL)
        status = myr_fail(MYR_ERR_FORMAT,
                          "%s: key %s: its members are not neighbours: at byte %llu and again at byte %llu; sort the "
                          "files by name when the tar is made", t->path, t->key.data,
                          (unsigned long long)found->value, (unsigned long long)header_at);
    return status;
}

/* One real member; cut = its data goes past the end of the file. */
static myr_status take_member(tar_walk *t, const char *path, uint64_t header_at, uint64_t data_at, uint64_t n_bytes,
                              bool cut)
{
    while (strncmp(path, "./", 2) == 0)
        path += 2;
    const char *base = strrchr(path, '/');
    base = base == NULL ? path : base + 1;
    if (base[0] == '.' || base[0] == '\0') {
        t->corpus->facts.n_ignored++;
        return MYR_OK;
    }
    myr_status status = follow_key(t, path, base, header_at);
    if (status != MYR_OK)
        return status;
    sample *now = &t->now;
    if (myr_corpus_is_picture(base)) {
        if (now->has_picture) {
            now->extra_picture = true;
            return MYR_OK;
        }
        now->has_picture = true;
        now->record.key = now->key;
        now->record.source = t->source;
        now->record.offset = data_at;
        now->record.n_bytes = n_bytes;
        now->record.in_tar = t->file.gzip == NULL;
        now->record.coding = t->file.gzip == NULL ? MYR_CODING_PLAIN : MYR_CODING_GZIP;
        if (cut && (now->record.problem = myr_corpus_text(t->corpus, "the tar is cut inside this member")) == 0)
            return out_of_memory(t);
    } else if (!cut && myr_corpus_has_extension(base, ".cls") && !t->corpus->options.label_from_folder) {
        return read_cls(t, data_at, n_bytes);
    } else if (!cut && myr_corpus_has_extension(base, ".json") && n_bytes <= MAX_JSON) {
        now->json_offset = data_at;
        now->json_bytes = n_bytes;
    }
    return MYR_OK;
}

/* Behind the end mark of a packed tar: its padding, then the checksum of all that was unpacked. */
static myr_status drain(tar_walk *t, uint64_t at)
{
    uint64_t reached;
    return t->file.gzip != NULL ? myr_input_reach(&t->file, at + MAX_PADDING, &reached) : MYR_OK;
}

static myr_status walk_tar(tar_walk *t)
{
    uint64_t at = 0;
    const char *bytes;
    char header[BLOCK], path[257];
    for (;;) {
        uint64_t n_bytes, n_left, header_at = at;
        myr_status status = count_left(t, at, BLOCK, &n_left);
        if (status == MYR_OK && n_left < BLOCK)
            break;
        if (status == MYR_OK)
            status = look(t, at, BLOCK, &bytes);
        if (status != MYR_OK)
            return status;
        memcpy(header, bytes, BLOCK);
        if (is_zero(header))
            return drain(t, at);
        if (!checksum_holds(header))
            return damaged(t, at, "a header whose checksum does not hold");
        if (!parse_number(header + 124, 12, &n_bytes))
            return damaged(t, at, "a header without a valid size");
        char type = header[156];
        bool extra = type == 'L' || type == 'K' || type == 'x' || type == 'g';
        if (!extra && t->size_set)
            n_bytes = t->pax_size;
        if (!extra && (type >= '1' && type <= '6'))
            n_bytes = 0; /* links, devices, folders: no data whatever the field says */
        if (type == 'S')
            return myr_fail(MYR_ERR_UNSUPPORTED, "%s: at byte %llu: a sparse member; make the tar without --sparse",
                            t->path, (unsigned long long)at);
        at += BLOCK;
        status = count_left(t, at, n_bytes, &n_left);
        if (status != MYR_OK)
            return status;
        bool cut = n_left < n_bytes;
        if (extra && !cut) {
            status = read_extra(t, type, at, n_bytes);
        } else if (type == '0' || type == '\0' || type == '7') {
            const char *name = path;
            if (t->name_set || t->global_name_set) {
                const myr_buffer *long_name = t->name_set ? &t->name : &t->global_name;
                if (long_name->size == 0 || memchr(long_name->data, '\0', long_name->size) != NULL)
                    return damaged(t, header_at, "an empty name, or one with a NUL byte");
                name = long_name->data;
            } else {
                size_t n = 0;
                /* Only POSIX headers ("ustar" and a NUL) have a prefix; GNU keeps times there. */
                if (memcmp(header + 257, "ustar", 6) == 0 && header[345] != '\0') {
                    n = strnlen(header + 345, 155);
                    memcpy(path, header + 345, n);
                    path[n++] = '/';
                }
                size_t n_name = strnlen(header, 100);
                memcpy(path + n, header, n_name);
                path[n + n_name] = '\0';
            }
            status = take_member(t, name, header_at, at, n_bytes, cut);
        }
        if (status != MYR_OK)
            return status;
        if (cut) {
            myr_warn("%s: cut inside the member at byte %llu; what comes before it is used", t->path,
                     (unsigned long long)header_at);
            return MYR_OK;
        }
        if (!extra)
            t->name_set = t->size_set = false;
        uint64_t padded = n_bytes + (BLOCK - n_bytes % BLOCK) % BLOCK;
        status = count_left(t, at, padded, &n_left);
        if (status != MYR_OK)
            return status;
        at += n_left;
    }
    myr_warn("%s: no end-of-archive mark at byte %llu; it may be cut", t->path, (unsigned long long)at);
    return MYR_OK;
}

myr_status myr_corpus_add_tar(myr_corpus *corpus, const char *path)
{
    size_t before = corpus->n;
    myr_status status;
    tar_walk *t = myr_alloc(1, sizeof *t);
    if (t == NULL)
        return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", path);
    t->corpus = corpus;
    t->path = path;
    t->now.record.label = -1;
    status = myr_input_open(path, &t->file);
    if (status != MYR_OK)
        goto done;
    (void)posix_fadvise(t->file.fd, 0, 0, t->file.gzip != NULL ? POSIX_FADV_SEQUENTIAL : POSIX_FADV_RANDOM);
    t->source = myr_corpus_text(corpus, path);
    status = t->source == 0 ? out_of_memory(t) : walk_tar(t);
    if (status == MYR_OK)
        status = end_sample(t);
    if (status == MYR_OK && corpus->n == before)
        status = myr_fail(MYR_ERR_NOT_FOUND, "no pictures in %s", path);
    if (t->n_bad_labels > 0)
        myr_warn("%s: %lld .cls members hold no class number; those items have no label", path,
                 (long long)t->n_bad_labels);
    if (t->n_extra > 0)
        myr_warn("%s: %lld samples hold several pictures; the first of each is used", path, (long long)t->n_extra);
    corpus->facts.n_tars++;
done:
    myr_input_close(&t->file);
    myr_key_set_free(&t->keys);
    myr_buffer_free(&t->name);
    myr_buffer_free(&t->global_name);
    myr_buffer_free(&t->key);
    free(t);
    return status;
}
