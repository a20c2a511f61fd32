/*
 * Calibrations as JSON files:
 *
 *   {"format": "myriops calibration 1", "model": "<sha256>", "pictures": 128, "layers": 50,
 *    "cosine": {"bf16": 0.9962, "int8": 0.995}, "cosine_in_blocks": {"bf16": 0.9997, "int8": 0.9993},
 *    "wide": ["name", ...], "ranges": {"name": [low, high], ...}}
 */
#include "nn/calibration.h"

#include "base/alloc.h"
#include "base/file.h"
#include "nn/block.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "myriops calibration 1"
#define MAX_BYTES ((size_t)16 << 20)
#define MAX_ENTRIES 100000

static int by_name(const void *a, const void *b)
{
    return strcmp(((const myr_range *)a)->name, ((const myr_range *)b)->name);
}

void myr_calibration_sort(myr_calibration *self)
{
    qsort(self->ranges, self->n_ranges, sizeof *self->ranges, by_name);
}

bool myr_calibration_range(const myr_calibration *calibration, const char *value, float *low, float *high)
{
    const myr_range *found = bsearch(&(myr_range){.name = (char *)value}, calibration->ranges, calibration->n_ranges,
                                     sizeof *calibration->ranges, by_name);
    if (!found)
        return false;
    *low = found->low;
    *high = found->high;
    return true;
}

bool myr_calibration_is_wide(const myr_calibration *calibration, const char *value)
{
    for (size_t i = 0; i < calibration->n_wide; i++)
        if (strcmp(calibration->wide[i], value) == 0)
            return true;
    return false;
}

double myr_calibration_cosine(const myr_calibration *calibration, myr_precision precision)
{
    int way = myr_block_has_processor() ? MYR_IN_BLOCKS : MYR_LAYER_BY_LAYER;
    return precision == MYR_PRECISION_F32 ? 1 : calibration->cosine[way][precision];
}

size_t myr_calibration_n_layers(const myr_calibration *calibration, size_t *n_wide)
{
    *n_wide = calibration->n_wide;
    return calibration->n_layers;
}

void myr_calibration_free(myr_calibration *calibration)
{
    if (!calibration)
        return;
    for (size_t i = 0; i < calibration->n_ranges; i++)
        free(calibration->ranges[i].name);
    for (size_t i = 0; i < calibration->n_wide; i++)
        free(calibration->wide[i]);
    free(calibration->ranges);
    free(calibration->wide);
    free(calibration);
}

/* ---- Writing ---- */

static json_t *print_cosine(const double *cosine)
{
    return json_pack("{s: f, s: f}", "bf16", cosine[MYR_PRECISION_BF16], "int8", cosine[MYR_PRECISION_INT8]);
}

char *myr_calibration_print(const myr_calibration *self, const char *model)
{
    json_t *wide = json_array(), *ranges = json_object();
    for (size_t i = 0; i < self->n_wide; i++)
        json_array_append_new(wide, json_string(self->wide[i]));
    for (size_t i = 0; i < self->n_ranges; i++)
        json_object_set_new(ranges, self->ranges[i].name,
                            json_pack("[f, f]", (double)self->ranges[i].low, (double)self->ranges[i].high));
    json_t *document = json_pack("{s: s, s: s, s: I, s: I, s: o, s: o, s: o, s: o}", "format", FORMAT, "model", model,
                                 "pictures", (json_int_t)self->n_pictures, "layers", (json_int_t)self->n_layers,
                                 "cosine", print_cosine(self->cosine[MYR_LAYER_BY_LAYER]), "cosine_in_blocks",
                                 print_cosine(self->cosine[MYR_IN_BLOCKS]), "wide", wide, "ranges", ranges);
    bool whole = document && json_array_size(wide) == self->n_wide && json_object_size(ranges) == self->n_ranges;
    char *text = whole ? json_dumps(document, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(document);
    return text;
}

myr_status myr_calibration_save(const myr_calibration *self, const char *model, const char *path)
{
    char *text = myr_calibration_print(self, model);
    myr_status status = text ? myr_file_replace(path, text, strlen(text))
                             : myr_fail(MYR_ERR_NOMEM, "%s: no memory for a calibration", path);
    free(text);
    return status;
}

/* ---- Reading ---- */

static bool read_ranges(json_t *object, myr_calibration *self)
{
    const char *name;
    json_t *pair;
    self->ranges = myr_alloc(json_object_size(object), sizeof *self->ranges);
    if (!self->ranges)
        return false;
    json_object_foreach(object, name, pair)
    {
        double low = json_number_value(json_array_get(pair, 0)), high = json_number_value(json_array_get(pair, 1));
        bool fine = json_array_size(pair) == 2 && isfinite((float)low) && isfinite((float)high) && low <= high;
        char *copy = fine ? myr_strdup(name) : NULL;
        if (!copy)
            return false;
        self->ranges[self->n_ranges++] = (myr_range){.name = copy, .low = (float)low, .high = (float)high};
    }
    myr_calibration_sort(self);
    return true;
}

static bool read_wide(json_t *array, myr_calibration *self)
{
    self->wide = myr_alloc(json_array_size(array), sizeof *self->wide);
    if (!self->wide)
        return false;
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *name = json_string_value(json_array_get(array, i));
        char *copy = name ? myr_strdup(name) : NULL;
        if (!copy)
            return false;
        self->wide[self->n_wide++] = copy;
    }
    return true;
}

static bool read_cosine(json_t *object, double *cosine)
{
    return json_unpack(object, "{s: F, s: F}", "bf16", &cosine[MYR_PRECISION_BF16], "int8",
                       &cosine[MYR_PRECISION_INT8]) == 0;
}

/* NULL = fine; else what is wrong. */
static const char *read_document(json_t *document, const char *model, myr_calibration *self)
{
    const char *format = NULL, *of = NULL;
    json_t *wide = NULL, *ranges = NULL, *cosine = NULL, *in_blocks = NULL;
    json_int_t n_pictures = 0, n_layers = 0;
    if (json_unpack(document, "{s: s, s: s, s: I, s: I, s: o, s: o, s: o, s: o}", "format", &format, "model", &of,
                    "pictures", &n_pictures, "layers", &n_layers, "cosine", &cosine, "cosine_in_blocks", &in_blocks,
                    "wide", &wide, "ranges", &ranges) != 0 ||
        !read_cosine(cosine, self->cosine[MYR_LAYER_BY_LAYER]) ||
        !read_cosine(in_blocks, self->cosine[MYR_IN_BLOCKS]) || !json_is_array(wide) || !json_is_object(ranges) ||
        json_array_size(wide) > MAX_ENTRIES || json_object_size(ranges) > MAX_ENTRIES || n_pictures < 1 || n_layers < 0)
        return "not a calibration";
    if (strcmp(format, FORMAT) != 0)
        return "a calibration of another version";
    if (model && strcmp(of, model) != 0)
        return "of another model; calibrate this one";
    self->n_pictures = (size_t)n_pictures;
    self->n_layers = (size_t)n_layers;
    return read_ranges(ranges, self) && read_wide(wide, self) ? NULL : "a range or a name in it is damaged";
}

myr_status myr_calibration_parse(const char *text, size_t size, const char *name, const char *model,
                                 myr_calibration **out)
{
    json_error_t problem;
    *out = NULL;
    json_t *document = json_loadb(text, size, JSON_REJECT_DUPLICATES, &problem);
    if (!document)
        return myr_fail(MYR_ERR_FORMAT, "%s: no calibration: line %d: %s", name, problem.line, problem.text);
    myr_calibration *self = myr_alloc(1, sizeof *self);
    const char *wrong = self ? read_document(document, model, self) : "no memory";
    json_decref(document);
    if (wrong) {
        myr_calibration_free(self);
        return myr_fail(self ? MYR_ERR_FORMAT : MYR_ERR_NOMEM, "%s: %s", name, wrong);
    }
    *out = self;
    return MYR_OK;
}

myr_status myr_calibration_load(const char *path, const char *model, myr_calibration **out)
{
    myr_buffer text = {0};
    *out = NULL;
    myr_status status = myr_file_read(path, MAX_BYTES, &text);
    if (status == MYR_OK)
        status = myr_calibration_parse(text.data, text.size, path, model, out);
    myr_buffer_free(&text);
    return status;
}
