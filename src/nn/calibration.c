/*
 * Calibrations as JSON files:
 *
 *   {"format": "myriops calibration 1", "model": "<sha256>", "pictures": 128, "layers": 50,
 *    "cosine": {"bf16": 0.9962, "int8": 0.995}, "cosine_in_blocks": {"bf16": 0.9997, "int8": 0.9993},
 *    "cosine_in_narrow_blocks": 0.998, "blocks": 16, "wide_blocks": ["name", ...],
 *    "wide": ["name", ...], "ranges": {"name": [low, high], ...}}
 *
 * Without the third line, or with 0 for its cosine, blocks are not narrow.
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

bool myr_names_hold(const myr_names *self, const char *name)
{
    for (size_t i = 0; i < self->n; i++)
        if (strcmp(self->names[i], name) == 0)
            return true;
    return false;
}

myr_way myr_way_choose(const myr_calibration *calibration, myr_precision precision)
{
    if (calibration && calibration->only_way)
        return *calibration->only_way;
    if (precision == MYR_PRECISION_INT8 && calibration && calibration->has_narrow_blocks &&
        myr_block_has_processor(MYR_PRECISION_INT8) && !myr_block_prefers_halves())
        return MYR_IN_NARROW_BLOCKS;
    /* Where blocks would be in f32 only, convolutions one by one are faster in 8 bits. */
    myr_precision least = precision == MYR_PRECISION_INT8 ? MYR_PRECISION_BF16 : MYR_PRECISION_F32;
    return myr_block_has_processor(least) ? MYR_IN_BLOCKS : MYR_LAYER_BY_LAYER;
}

double myr_calibration_cosine(const myr_calibration *calibration, myr_precision precision)
{
    return precision == MYR_PRECISION_F32 ? 1 : calibration->cosine[myr_way_choose(calibration, precision)][precision];
}

size_t myr_calibration_n_layers(const myr_calibration *calibration, size_t *n_wide)
{
    *n_wide = calibration->wide.n;
    return calibration->n_layers;
}

size_t myr_calibration_n_blocks(const myr_calibration *calibration, size_t *n_wide)
{
    *n_wide = calibration->has_narrow_blocks ? calibration->wide_blocks.n : calibration->n_blocks;
    return calibration->n_blocks;
}

static void free_names(myr_names *self)
{
    for (size_t i = 0; i < self->n; i++)
        free(self->names[i]);
    free(self->names);
}

void myr_calibration_free(myr_calibration *calibration)
{
    if (!calibration)
        return;
    for (size_t i = 0; i < calibration->n_ranges; i++)
        free(calibration->ranges[i].name);
    free_names(&calibration->wide);
    free_names(&calibration->wide_blocks);
    free(calibration->ranges);
    free(calibration);
}

/* ---- Writing ---- */

static json_t *print_names(const myr_names *self)
{
    json_t *array = json_array();
    for (size_t i = 0; i < self->n; i++)
        json_array_append_new(array, json_string(self->names[i]));
    return array;
}

static json_t *print_cosine(const double *cosine)
{
    return json_pack("{s: f, s: f}", "bf16", cosine[MYR_PRECISION_BF16], "int8", cosine[MYR_PRECISION_INT8]);
}

char *myr_calibration_print(const myr_calibration *self, const char *model)
{
    json_t *ranges = json_object();
    for (size_t i = 0; i < self->n_ranges; i++)
        json_object_set_new(ranges, self->ranges[i].name,
                            json_pack("[f, f]", (double)self->ranges[i].low, (double)self->ranges[i].high));
    double narrow = self->has_narrow_blocks ? self->cosine[MYR_IN_NARROW_BLOCKS][MYR_PRECISION_INT8] : 0;
    json_t *document = json_pack("{s: s, s: s, s: I, s: I, s: o, s: o, s: f, s: I, s: o, s: o, s: o}", "format", FORMAT,
                                 "model", model, "pictures", (json_int_t)self->n_pictures, "layers",
                                 (json_int_t)self->n_layers, "cosine", print_cosine(self->cosine[MYR_LAYER_BY_LAYER]),
                                 "cosine_in_blocks", print_cosine(self->cosine[MYR_IN_BLOCKS]),
                                 "cosine_in_narrow_blocks", narrow, "blocks", (json_int_t)self->n_blocks, "wide_blocks",
                                 print_names(&self->wide_blocks), "wide", print_names(&self->wide), "ranges", ranges);
    bool whole = document && json_array_size(json_object_get(document, "wide")) == self->wide.n &&
                 json_array_size(json_object_get(document, "wide_blocks")) == self->wide_blocks.n &&
                 json_object_size(ranges) == self->n_ranges;
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

static bool read_names(json_t *array, myr_names *to)
{
    to->names = myr_alloc(json_array_size(array) + 1, sizeof *to->names);
    if (!to->names)
        return false;
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *name = json_string_value(json_array_get(array, i));
        char *copy = name ? myr_strdup(name) : NULL;
        if (!copy)
            return false;
        to->names[to->n++] = copy;
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
    json_t *wide = NULL, *wide_blocks = NULL, *ranges = NULL, *cosine = NULL, *in_blocks = NULL;
    json_int_t n_pictures = 0, n_layers = 0, n_blocks = 0;
    double *narrow = &self->cosine[MYR_IN_NARROW_BLOCKS][MYR_PRECISION_INT8];
    if (json_unpack(document, "{s: s, s: s, s: I, s: I, s: o, s: o, s?F, s?I, s?o, s: o, s: o}", "format", &format,
                    "model", &of, "pictures", &n_pictures, "layers", &n_layers, "cosine", &cosine, "cosine_in_blocks",
                    &in_blocks, "cosine_in_narrow_blocks", narrow, "blocks", &n_blocks, "wide_blocks", &wide_blocks,
                    "wide", &wide, "ranges", &ranges) != 0 ||
        !read_cosine(cosine, self->cosine[MYR_LAYER_BY_LAYER]) ||
        !read_cosine(in_blocks, self->cosine[MYR_IN_BLOCKS]) || !json_is_array(wide) || !json_is_object(ranges) ||
        (wide_blocks && !json_is_array(wide_blocks)) || json_array_size(wide) > MAX_ENTRIES ||
        json_array_size(wide_blocks) > MAX_ENTRIES || json_object_size(ranges) > MAX_ENTRIES || n_pictures < 1 ||
        n_layers < 0 || n_blocks < 0)
        return "not a calibration";
    if (strcmp(format, FORMAT) != 0)
        return "a calibration of another version";
    if (model && strcmp(of, model) != 0)
        return "of another model; calibrate this one";
    self->n_pictures = (size_t)n_pictures;
    self->n_layers = (size_t)n_layers;
    self->n_blocks = (size_t)n_blocks;
    self->has_narrow_blocks = *narrow > 0;
    bool whole =
        read_ranges(ranges, self) && read_names(wide, &self->wide) && read_names(wide_blocks, &self->wide_blocks);
    return whole ? NULL : "a range or a name in it is damaged";
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
