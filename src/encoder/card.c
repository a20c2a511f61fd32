/*
 * Model cards: INI files read with inih into a checked structure.
 *
 * Every key is one row of a table; an unknown key is an error, since a typing
 * mistake in "mean" would otherwise give wrong vectors without a word.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "myriops/encoder.h"

#include <ini.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_LABELS_BYTES ((size_t)64 << 20)

typedef struct reading {
    myr_card *card;
    const char *path;
    char *file;    /* as written in the card, relative to its folder */
    char *weights; /* likewise, as the next */
    char *labels;
    myr_status status;
} reading;

static bool set_text(char **target, const char *value)
{
    free(*target);
    *target = myr_strdup(value);
    return *target != NULL;
}

static bool parse_int(const char *value, int least, int most, int *result)
{
    char *end;
    long number = strtol(value, &end, 10);
    if (end == value || *end || number < least || number > most)
        return false;
    *result = (int)number;
    return true;
}

/* "127, 127, 127", or one number for all three channels. */
static bool parse_triple(const char *value, float result[3])
{
    char rest;
    if (sscanf(value, " %f , %f , %f %c", &result[0], &result[1], &result[2], &rest) == 3)
        return isfinite(result[0]) && isfinite(result[1]) && isfinite(result[2]);
    if (sscanf(value, " %f %c", &result[0], &rest) != 1 || !isfinite(result[0]))
        return false;
    result[1] = result[2] = result[0];
    return true;
}

/* The place of value in a "a|b|c" list, or -1. */
static int choice(const char *value, const char *choices)
{
    size_t length = strlen(value);
    int place = 0;
    for (const char *at = choices; at; place++) {
        const char *bar = strchr(at, '|');
        size_t n = bar ? (size_t)(bar - at) : strlen(at);
        if (n == length && memcmp(at, value, n) == 0)
            return place;
        at = bar ? bar + 1 : NULL;
    }
    return -1;
}

static bool set_choice(const char *value, const char *choices, int *result)
{
    *result = choice(value, choices);
    return *result >= 0;
}

/* One key of the card. Returns 1 when it was understood, as inih wants it. */
static int take_key(void *context, const char *section, const char *key, const char *value)
{
    reading *read = context;
    myr_card *card = read->card;
    myr_preprocess *prep = &card->preprocess;
    int number = 0;
    bool fine;
    if (read->status != MYR_OK)
        return 0;
    if (strcmp(section, "model") == 0 && strcmp(key, "name") == 0)
        fine = set_text(&card->name, value);
    else if (strcmp(section, "model") == 0 && strcmp(key, "title") == 0)
        fine = set_text(&card->title, value);
    else if (strcmp(section, "model") == 0 && strcmp(key, "file") == 0)
        fine = set_text(&read->file, value);
    else if (strcmp(section, "model") == 0 && strcmp(key, "sha256") == 0)
        fine = strlen(value) == 64 && set_text(&card->sha256, value);
    else if (strcmp(section, "model") == 0 && strcmp(key, "weights") == 0)
        fine = value[0] != 0 && set_text(&read->weights, value);
    else if (strcmp(section, "model") == 0 && strcmp(key, "weights_sha256") == 0)
        fine = strlen(value) == 64 && set_text(&card->weights_sha256, value);
    else if (strcmp(section, "model") == 0 && strcmp(key, "source") == 0)
        fine = set_text(&card->source, value);
    else if (strcmp(section, "model") == 0 && strcmp(key, "licence") == 0)
        fine = set_text(&card->licence, value);
    else if (strcmp(section, "input") == 0 && strcmp(key, "tensor") == 0)
        fine = true; /* a network has one picture input; the name is for people */
    else if (strcmp(section, "input") == 0 && strcmp(key, "width") == 0)
        fine = parse_int(value, 1, 8192, &prep->width);
    else if (strcmp(section, "input") == 0 && strcmp(key, "height") == 0)
        fine = parse_int(value, 1, 8192, &prep->height);
    else if (strcmp(section, "input") == 0 && strcmp(key, "channels") == 0) {
        fine = set_choice(value, "RGB|BGR", &number);
        prep->bgr = number == 1;
    } else if (strcmp(section, "input") == 0 && strcmp(key, "resize") == 0) {
        fine = set_choice(value, "shorter|stretch|longer", &number);
        prep->rule = number == 0 ? MYR_RESIZE_SHORTER : number == 1 ? MYR_RESIZE_STRETCH : MYR_RESIZE_LONGER;
    } else if (strcmp(section, "input") == 0 && strcmp(key, "resize_to") == 0)
        fine = parse_int(value, 1, 16384, &prep->resize_to);
    else if (strcmp(section, "input") == 0 && strcmp(key, "filter") == 0) {
        fine = set_choice(value, "bilinear|bicubic", &number);
        prep->filter = number == 0 ? MYR_FILTER_BILINEAR : MYR_FILTER_BICUBIC;
    } else if (strcmp(section, "input") == 0 && strcmp(key, "crop") == 0)
        fine = choice(value, "center") == 0;
    else if (strcmp(section, "input") == 0 && strcmp(key, "mean") == 0)
        fine = parse_triple(value, prep->mean);
    else if (strcmp(section, "input") == 0 && strcmp(key, "std") == 0)
        fine = parse_triple(value, prep->std) && prep->std[0] > 0 && prep->std[1] > 0 && prep->std[2] > 0;
    else if (strcmp(section, "output") == 0 && strcmp(key, "embedding") == 0)
        fine = set_text(&card->embedding, value);
    else if (strcmp(section, "output") == 0 && strcmp(key, "logits") == 0)
        fine = set_text(&card->logits, value);
    else if (strcmp(section, "output") == 0 && strcmp(key, "metric") == 0)
        fine = choice(value, "cosine|l2|ip") >= 0 && set_text(&card->metric, value);
    else if (strcmp(section, "output") == 0 && strcmp(key, "labels") == 0)
        fine = set_text(&read->labels, value);
    else if (strcmp(section, "output") == 0 && strcmp(key, "labels_source") == 0)
        fine = true; /* for people */
    else {
        read->status = myr_fail(MYR_ERR_FORMAT, "%s: unknown key '%s' in [%s]; see conf/models/README.md", read->path,
                                key, section);
        return 0;
    }
    if (!fine)
        read->status =
            myr_fail(MYR_ERR_FORMAT, "%s: [%s] %s = %s: not a value this key takes; see conf/models/README.md",
                     read->path, section, key, value);
    return fine;
}

/* A path written in the card, relative to the card's folder. */
static char *beside(const char *card_path, const char *name)
{
    const char *slash = strrchr(card_path, '/');
    if (name[0] == '/' || !slash)
        return myr_strdup(name);
    char *path = NULL;
    if (asprintf(&path, "%.*s/%s", (int)(slash - card_path), card_path, name) < 0)
        return NULL;
    return path;
}

static myr_status read_card(const char *path, myr_card *card)
{
    reading read = {.card = card, .path = path};
    card->preprocess = (myr_preprocess){.rule = MYR_RESIZE_SHORTER, .filter = MYR_FILTER_BILINEAR, .std = {1, 1, 1}};
    int line = ini_parse(path, take_key, &read);
    myr_status status = read.status;
    if (status != MYR_OK)
        goto done;
    if (line < 0)
        status = myr_fail(MYR_ERR_IO, "%s: cannot be read", path);
    else if (line > 0)
        status = myr_fail(MYR_ERR_FORMAT, "%s: line %d is no 'key = value'", path, line);
    else if (!card->name || !read.file || !card->embedding || !card->preprocess.width || !card->preprocess.height)
        status = myr_fail(MYR_ERR_FORMAT, "%s: a card needs at least name, file, width, height and embedding", path);
    else if (card->weights_sha256 && !read.weights)
        status = myr_fail(MYR_ERR_FORMAT, "%s: weights_sha256 without weights", path);
    if (status != MYR_OK)
        goto done;
    if (!card->preprocess.resize_to)
        card->preprocess.resize_to =
            card->preprocess.height < card->preprocess.width ? card->preprocess.height : card->preprocess.width;
    if (!card->metric)
        card->metric = myr_strdup("cosine");
    card->model_path = beside(path, read.file);
    card->weights_path = read.weights ? beside(path, read.weights) : NULL;
    card->labels_path = read.labels ? beside(path, read.labels) : NULL;
    if (asprintf(&card->calibration_path, "%.*s.calibration.json", (int)(strlen(path) - strlen(".conf")), path) < 0)
        card->calibration_path = NULL;
    if (!card->model_path || !card->metric || !card->calibration_path || (read.weights && !card->weights_path) ||
        (read.labels && !card->labels_path))
        status = myr_fail(MYR_ERR_NOMEM, "%s: no memory for a model card", path);
done:
    free(read.file);
    free(read.weights);
    free(read.labels);
    return status;
}

/* The card for a bare name, or NULL; places gets the folders looked in. */
static char *find_card(const char *name, myr_buffer *places)
{
    char program[4096];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = 0;
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = 0;
    const char *models = getenv("MYRIOPS_MODELS");
    for (int place = 0; place < 4; place++) {
        char *path = NULL;
        int n = -1;
        if (place == 0 && models)
            n = asprintf(&path, "%s/%s.conf", models, name);
        else if (place == 1 && length > 0)
            n = asprintf(&path, "%s/../conf/models/%s.conf", program, name);
        else if (place == 2 && length > 0)
            n = asprintf(&path, "%s/../share/myriops/models/%s.conf", program, name);
        else if (place == 3)
            n = asprintf(&path, "conf/models/%s.conf", name);
        if (n < 0)
            continue;
        if (myr_path_exists(path))
            return path;
        myr_buffer_printf(places, "%s%s", places->size ? ", " : "", path);
        free(path);
    }
    return NULL;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static char *card_path(const char *name, myr_status *status)
{
    if (ends_with(name, ".conf"))
        return myr_strdup(name);
    if (ends_with(name, ".onnx")) {
        char *path = NULL;
        if (asprintf(&path, "%.*s.conf", (int)(strlen(name) - 5), name) < 0)
            return NULL;
        if (!myr_path_exists(path)) {
            *status = myr_fail(MYR_ERR_NOT_FOUND,
                               "%s: no model card %s beside it; a card says how pictures are prepared for the "
                               "network, see conf/models/README.md",
                               name, path);
            free(path);
            return NULL;
        }
        return path;
    }
    myr_buffer places = {0};
    char *path = find_card(name, &places);
    if (!path)
        *status = myr_fail(MYR_ERR_NOT_FOUND,
                           "no model card named '%s' (looked at %s); give a card's path or set MYRIOPS_MODELS", name,
                           places.size ? places.data : "nothing");
    myr_buffer_free(&places);
    return path;
}

myr_status myr_card_load(const char *name, myr_card **out)
{
    *out = NULL;
    myr_status status = MYR_OK;
    char *path = card_path(name, &status);
    if (!path)
        return status != MYR_OK ? status : myr_fail(MYR_ERR_NOMEM, "%s: no memory for a model card", name);
    myr_card *card = myr_alloc(1, sizeof *card);
    if (!card)
        status = myr_fail(MYR_ERR_NOMEM, "%s: no memory for a model card", name);
    else if (!myr_path_exists(path))
        status = myr_fail(MYR_ERR_NOT_FOUND, "%s: no such model card", path);
    else
        status = read_card(path, card);
    free(path);
    if (status != MYR_OK) {
        myr_card_free(card);
        return status;
    }
    *out = card;
    return MYR_OK;
}

void myr_card_free(myr_card *card)
{
    if (!card)
        return;
    free(card->name);
    free(card->title);
    free(card->model_path);
    free(card->sha256);
    free(card->weights_path);
    free(card->weights_sha256);
    free(card->source);
    free(card->licence);
    free(card->embedding);
    free(card->logits);
    free(card->metric);
    free(card->labels_path);
    free(card->calibration_path);
    free(card);
}

myr_status myr_card_labels(const myr_card *card, char ***labels, size_t *n_labels)
{
    *labels = NULL;
    *n_labels = 0;
    if (!card->labels_path)
        return myr_fail(MYR_ERR_NOT_FOUND, "%s: the card names no labels file", card->name);
    myr_buffer text = {0};
    myr_status status = myr_file_read(card->labels_path, MAX_LABELS_BYTES, &text);
    if (status != MYR_OK)
        goto done;
    size_t n_lines = 0;
    for (size_t i = 0; i < text.size; i++)
        n_lines += text.data[i] == '\n' || i + 1 == text.size;
    char **names = myr_alloc(n_lines, sizeof *names);
    if (!names) {
        status = myr_fail(MYR_ERR_NOMEM, "%s: no memory for %zu labels", card->labels_path, n_lines);
        goto done;
    }
    *labels = names;
    char *line = text.data;
    for (size_t i = 0; i < n_lines; i++) {
        char *end = memchr(line, '\n', (size_t)(text.data + text.size - line));
        if (end)
            *end = 0;
        names[i] = myr_strdup(line);
        if (!names[i]) {
            status = myr_fail(MYR_ERR_NOMEM, "%s: no memory for %zu labels", card->labels_path, n_lines);
            goto done;
        }
        *n_labels = i + 1;
        line = end ? end + 1 : line;
    }
done:
    if (status != MYR_OK && *labels) {
        for (size_t i = 0; i < *n_labels; i++)
            free((*labels)[i]);
        free(*labels);
        *labels = NULL;
        *n_labels = 0;
    }
    myr_buffer_free(&text);
    return status;
}
