/*
 * CIFAR-10 and CIFAR-100 in their binary version: records of a fixed size, one after the other, without a header.
 *
 *   CIFAR-10    label u8 (0..9), then 32 x 32 red levels, row by row, then as many green and blue: 3,073 bytes
 *   CIFAR-100   coarse label u8 (0..19), fine label u8 (0..99), then the same: 3,074 bytes
 *
 * Nothing in the file says which it is: its size does, and where both fit, the names of classes beside it. Labels
 * out of range tell a file that is neither.
 * Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
 */
#include "base/alloc.h"
#include "base/file.h"
#include "corpus/input.h"
#include "corpus/internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define SIDE 32
#define PICTURE_BYTES (3 * SIDE * SIDE)
#define BLOCK_RECORDS 256
#define MAX_CLASSES 100

typedef struct kind {
    const char *name;
    size_t n_labels; /* bytes before the levels */
    int n_classes[2];
    const char *names[2]; /* files beside: of the first label, of the second */
} kind;

static const kind ten = {"CIFAR-10", 1, {10}, {"batches.meta.txt"}};
static const kind hundred = {"CIFAR-100", 2, {20, 100}, {"coarse_label_names.txt", "fine_label_names.txt"}};

bool myr_corpus_is_cifar(const char *name)
{
    static const char *const others[] = {"test_batch.bin", "train.bin", "test.bin"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(name, others[i]) == 0)
            return true;
    const char front[] = "data_batch_";
    size_t n = sizeof front - 1;
    return strncmp(name, front, n) == 0 && isdigit((unsigned char)name[n]) && strcmp(name + n + 1, ".bin") == 0;
}

static bool is_beside(const char *path, const char *name)
{
    char *beside = myr_corpus_beside(path, name);
    bool there = beside != NULL && myr_path_exists(beside);
    free(beside);
    return there;
}

/* Which it is, by its size. */
static myr_status choose(const char *path, uint64_t size, const kind **chosen)
{
    bool fits_ten = size > 0 && size % (ten.n_labels + PICTURE_BYTES) == 0;
    bool fits_hundred = size > 0 && size % (hundred.n_labels + PICTURE_BYTES) == 0;
    if (!fits_ten && !fits_hundred)
        return myr_fail(MYR_ERR_FORMAT,
                        "%s: %llu bytes are no whole number of CIFAR-10's records of 3073 bytes, nor of CIFAR-100's of "
                        "3074; the file is cut, or something else: fetch it again, or leave it out",
                        path, (unsigned long long)size);
    if (fits_ten && fits_hundred)
        fits_ten = !is_beside(path, hundred.names[1]);
    *chosen = fits_ten ? &ten : &hundred;
    return MYR_OK;
}

/* What the labels of the file are in the corpus: the same, unless other data sets brought other classes before. */
static myr_status name_labels(myr_corpus *corpus, const char *path, const kind *set, size_t which,
                              int32_t labels[MAX_CLASSES])
{
    char *beside = myr_corpus_beside(path, set->names[which]), **names = NULL;
    size_t n = 0;
    myr_status status =
        beside == NULL ? myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", path) : myr_corpus_lines(beside, &names, &n);
    for (int i = 0; i < MAX_CLASSES; i++)
        labels[i] = i;
    if (status == MYR_OK && n > 0 && n != (size_t)set->n_classes[which])
        status = myr_fail(MYR_ERR_FORMAT, "%s: %zu names, where %s has %d classes; fetch it again, or remove it",
                          beside, n, set->name, set->n_classes[which]);
    if (status == MYR_OK && n > 0)
        status = myr_corpus_add_classes(corpus, (const char *const *)names, n, labels);
    myr_corpus_lines_free(names, n);
    free(beside);
    return status;
}

static myr_status add_records(myr_corpus *corpus, myr_input *file, const kind *set, uint64_t n, const char *front,
                              const myr_record *like)
{
    size_t stride = set->n_labels + PICTURE_BYTES, which = set->n_labels > 1 && !corpus->options.coarse_labels;
    int32_t labels[MAX_CLASSES];
    uint8_t *block = myr_alloc(BLOCK_RECORDS, stride);
    if (block == NULL)
        return myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", file->path);
    myr_status status = name_labels(corpus, file->path, set, which, labels);
    for (uint64_t first = 0; first < n && status == MYR_OK; first += BLOCK_RECORDS) {
        size_t count = n - first < BLOCK_RECORDS ? (size_t)(n - first) : BLOCK_RECORDS;
        status = myr_input_take(file, first * stride, block, count * stride);
        for (size_t i = 0; i < count && status == MYR_OK; i++) {
            const uint8_t *told = block + i * stride;
            for (size_t j = 0; j < set->n_labels && status == MYR_OK; j++)
                if (told[j] >= set->n_classes[j])
                    status =
                        myr_fail(MYR_ERR_FORMAT,
                                 "%s: record %llu: label %d, where %s has %d classes; the file is damaged, or "
                                 "something else: fetch it again, or leave it out",
                                 file->path, (unsigned long long)(first + i), told[j], set->name, set->n_classes[j]);
            myr_record record = *like;
            record.offset = (first + i) * stride + set->n_labels;
            record.label = status == MYR_OK ? labels[told[which]] : -1;
            if (status == MYR_OK)
                status = myr_corpus_add_numbered(corpus, front, first + i, &record);
        }
    }
    free(block);
    return status;
}

myr_status myr_corpus_add_cifar(myr_corpus *corpus, const char *path, const char *front)
{
    myr_input file;
    uint64_t size;
    uint32_t form;
    const kind *set = NULL;
    char *key_front = myr_corpus_key_front(front, path, strlen(".bin"));
    myr_status status = myr_input_open(path, &file);
    if (status == MYR_OK)
        status = myr_input_reach(&file, UINT64_MAX, &size);
    if (status == MYR_OK)
        status = choose(path, size, &set);
    if (status == MYR_OK && key_front == NULL)
        status = myr_fail(MYR_ERR_NOMEM, "%s: not enough memory", path);
    if (status == MYR_OK)
        status = myr_corpus_add_form(
            corpus, &(myr_form){.width = SIDE, .height = SIDE, .n_channels = 3, .planar = true}, &form);
    if (status == MYR_OK) {
        myr_record like = {.source = myr_corpus_text(corpus, path),
                           .n_bytes = PICTURE_BYTES,
                           .in_tar = file.gzip == NULL,
                           .coding = file.gzip == NULL ? MYR_CODING_PLAIN : MYR_CODING_GZIP};
        like.form = form;
        status = add_records(corpus, &file, set, size / (set->n_labels + PICTURE_BYTES), key_front, &like);
        corpus->facts.n_sets++;
    }
    myr_input_close(&file);
    free(key_front);
    return status;
}
