/*
 * Measuring a calibration, in three steps: the values around every convolution are
 * watched in f32 and get the range with the least squared error in 8 bits; the network
 * is run in bf16 and in 8 bits; where 8 bits lose too much, each layer is tried alone, and the worst
 * ones stay wide, as few as it takes.
 */
#include "nn/calibration.h"

#include "base/alloc.h"
#include "nn/block.h"
#include "nn/fuse.h"
#include "nn/network.h"
#include "nn/operator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 4
#define N_BINS 2048
#define DEFAULT_COSINE 0.99
#define N_TRIAL_PICTURES 16 /* for trying layers alone */

/* Magnitudes of a value, in bins of one width that doubles as larger ones come. */
typedef struct histogram {
    bool has_negative;
    float top; /* end of the last bin; 0 = empty */
    uint64_t counts[N_BINS];
} histogram;

typedef struct measuring {
    const myr_model *model;
    const char *output;
    const char *backend;
    const float *pictures;
    size_t n_pictures, per_picture;
    size_t dim;
    float *truth;             /* (n_pictures, dim) in f32 */
    myr_names layers, blocks; /* [owned] of what the convolutions make, and the depthwise ones among them */
    const myr_calibration_options *options;
} measuring;

static void report(const measuring *self, double done)
{
    if (self->options->progress)
        self->options->progress(self->options->context, done);
}

/* ---- Ranges ---- */

static void widen(histogram *seen, float value)
{
    while (value > seen->top) {
        if (seen->top == 0) {
            seen->top = value;
            return;
        }
        for (size_t i = 0; i < N_BINS / 2; i++)
            seen->counts[i] = seen->counts[2 * i] + seen->counts[2 * i + 1];
        memset(seen->counts + N_BINS / 2, 0, N_BINS / 2 * sizeof *seen->counts);
        seen->top *= 2;
    }
}

/* False where a value is no number or has no end. */
static bool watch(histogram *seen, const float *values, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i]))
            return false;
        most = fmaxf(most, fabsf(values[i]));
    }
    widen(seen, most);
    float per_bin = seen->top > 0 ? (float)N_BINS / seen->top : 0;
    for (size_t i = 0; i < n; i++) {
        size_t bin = (size_t)(fabsf(values[i]) * per_bin);
        seen->counts[bin < N_BINS ? bin : N_BINS - 1]++;
        seen->has_negative |= values[i] < 0;
    }
    return true;
}

/* The magnitude above which values are cut, so that the sum of squared errors by rounding and by cutting is least. */
static float best_threshold(const histogram *seen)
{
    double width = (double)seen->top / N_BINS, levels = seen->has_negative ? 127 : 255, best = INFINITY;
    double n_inside = 0, cut_0 = 0, cut_1 = 0, cut_2 = 0; /* moments of what lies beyond */
    size_t chosen = N_BINS;
    for (size_t i = 1; i < N_BINS; i++) { /* zeros are exact: bin 0 counts for nothing */
        double middle = ((double)i + 0.5) * width, n = (double)seen->counts[i];
        cut_0 += n;
        cut_1 += n * middle;
        cut_2 += n * middle * middle;
    }
    for (size_t i = 1; i < N_BINS; i++) {
        double middle = ((double)i + 0.5) * width, n = (double)seen->counts[i];
        n_inside += n;
        cut_0 -= n;
        cut_1 -= n * middle;
        cut_2 -= n * middle * middle;
        double threshold = (double)(i + 1) * width, step = threshold / levels;
        double error = n_inside * step * step / 12 + cut_2 - 2 * threshold * cut_1 + threshold * threshold * cut_0;
        if (i + 1 >= N_BINS / 32 && error < best) {
            best = error;
            chosen = i + 1;
        }
    }
    return (float)((double)chosen * width);
}

/* The values around convolutions become outputs behind the first. */
static myr_status expose(myr_graph *graph)
{
    int *outputs = myr_alloc(graph->n_values + 1, sizeof *outputs);
    bool *is_wanted = myr_alloc(graph->n_values, sizeof *is_wanted);
    if (!outputs || !is_wanted) {
        free(outputs);
        free(is_wanted);
        return myr_fail(MYR_ERR_NOMEM, "no memory to calibrate");
    }
    for (size_t i = 0; i < graph->n_nodes; i++) {
        const myr_node *node = &graph->nodes[i];
        if (node->op->kind == MYR_KIND_CONV && myr_node_constant(graph, node, 1))
            is_wanted[node->inputs[0]] = is_wanted[node->outputs[0]] = true;
    }
    size_t n = 0;
    outputs[n++] = graph->outputs[0];
    for (size_t i = 0; i < graph->n_values; i++)
        if (is_wanted[i] && !graph->values[i].constant)
            outputs[n++] = (int)i;
    free(is_wanted);
    free(graph->outputs);
    graph->outputs = outputs;
    graph->n_outputs = n;
    return MYR_OK;
}

/* Pictures [first, first + BATCH) into the input; the last one fills what is left. Returns how many are real. */
static size_t feed(const measuring *self, size_t first, float *input)
{
    size_t n = self->n_pictures - first < BATCH ? self->n_pictures - first : BATCH;
    for (size_t i = 0; i < BATCH; i++)
        memcpy(input + i * self->per_picture, self->pictures + (first + (i < n ? i : n - 1)) * self->per_picture,
               self->per_picture * sizeof *input);
    return n;
}

static myr_status watch_all(measuring *self, const myr_graph *graph, myr_session *session, histogram *seen)
{
    for (size_t first = 0; first < self->n_pictures; first += BATCH) {
        size_t n = feed(self, first, myr_session_input(session));
        myr_status status = myr_session_run(session);
        if (status != MYR_OK)
            return status;
        for (size_t v = 0; v + 1 < graph->n_outputs; v++) {
            myr_shape shape;
            const float *values = myr_session_output_at(session, v + 1, &shape);
            if (!watch(&seen[v], values, myr_shape_count(&shape) / BATCH * n))
                return myr_fail(MYR_ERR_FORMAT, "value '%s' of the network is NaN or infinite for one of the pictures",
                                graph->values[graph->outputs[v + 1]].name);
        }
        memcpy(self->truth + first * self->dim, myr_session_output(session, 0, &self->dim),
               n * self->dim * sizeof *self->truth);
        report(self, 0.3 * (double)(first + n) / (double)self->n_pictures);
    }
    return MYR_OK;
}

static myr_status fill_ranges(const myr_graph *graph, const histogram *seen, myr_calibration *found)
{
    found->ranges = myr_alloc(graph->n_outputs, sizeof *found->ranges);
    if (!found->ranges)
        return myr_fail(MYR_ERR_NOMEM, "no memory to calibrate");
    for (size_t i = 1; i < graph->n_outputs; i++) {
        float threshold = best_threshold(&seen[i - 1]);
        char *name = myr_strdup(graph->values[graph->outputs[i]].name);
        if (!name)
            return myr_fail(MYR_ERR_NOMEM, "no memory to calibrate");
        found->ranges[found->n_ranges++] =
            (myr_range){.name = name, .low = seen[i - 1].has_negative ? -threshold : 0, .high = threshold};
    }
    myr_calibration_sort(found);
    return MYR_OK;
}

/* Values of one picture's input. */
static myr_status count_input(measuring *self)
{
    myr_graph *graph;
    myr_status status = myr_network_graph(self->model, 1, &self->output, 1, &graph);
    if (status != MYR_OK)
        return status;
    self->per_picture = graph->n_inputs > 0 ? myr_shape_count(&graph->values[graph->inputs[0]].shape) : 0;
    myr_graph_free(graph);
    return MYR_OK;
}

static void free_names(myr_names *self)
{
    for (size_t i = 0; i < self->n; i++)
        free(self->names[i]);
    free(self->names);
    *self = (myr_names){0};
}

static bool add_name(myr_names *self, const char *name)
{
    self->names[self->n] = myr_strdup(name);
    return self->names[self->n] && ++self->n;
}

/* What could be narrow or wide. */
static myr_status list_layers(measuring *self, const myr_graph *graph)
{
    self->layers.names = myr_alloc(graph->n_nodes + 1, sizeof *self->layers.names);
    self->blocks.names = myr_alloc(graph->n_nodes + 1, sizeof *self->blocks.names);
    bool is_whole = self->layers.names && self->blocks.names;
    for (size_t i = 0; i < graph->n_nodes && is_whole; i++) {
        const myr_node *node = &graph->nodes[i];
        if (node->op->kind != MYR_KIND_CONV || !myr_node_constant(graph, node, 1))
            continue;
        const char *name = graph->values[node->outputs[0]].name;
        is_whole =
            add_name(&self->layers, name) && (myr_node_int(node, "group", 1) == 1 || add_name(&self->blocks, name));
    }
    return is_whole ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to calibrate");
}

/* Ranges and the f32 truth. */
static myr_status measure_ranges(measuring *self, myr_calibration *found)
{
    myr_graph *graph = NULL, *kept = NULL;
    myr_network *network = NULL;
    myr_session *session = NULL;
    histogram *seen = NULL;
    myr_status status = myr_network_graph(self->model, BATCH, &self->output, 1, &graph);
    if (status == MYR_OK)
        status = myr_graph_fuse(graph);
    if (status == MYR_OK)
        status = expose(graph);
    if (status == MYR_OK)
        status = myr_graph_copy(graph, &kept);
    if (status == MYR_OK) {
        status = myr_network_compile(graph, &(myr_network_options){.backend = self->backend}, false, &network);
        graph = NULL;
    }
    if (status == MYR_OK)
        status = myr_session_create(network, &session);
    if (status != MYR_OK)
        goto done;
    myr_session_output(session, 0, &self->dim);
    seen = myr_alloc(kept->n_outputs, sizeof *seen);
    self->truth = myr_alloc(self->n_pictures * self->dim, sizeof *self->truth);
    if (!seen || !self->truth) {
        status = myr_fail(MYR_ERR_NOMEM, "no memory to calibrate");
        goto done;
    }
    status = watch_all(self, kept, session, seen);
    if (status == MYR_OK)
        status = fill_ranges(kept, seen, found);
    if (status == MYR_OK)
        status = list_layers(self, kept);
done:
    free(seen);
    myr_session_free(session);
    myr_network_free(network);
    myr_graph_free(graph);
    myr_graph_free(kept);
    return status;
}

/* ---- Trials ---- */

/* -1 where there is none: a network that gives NaN or infinity is as wrong as can be. */
static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    if (!isfinite(aa) || !isfinite(bb))
        return -1;
    return aa > 0 && bb > 0 ? ab / sqrt(aa) / sqrt(bb) : aa == bb ? 1 : -1;
}

/* Cosine to f32 over the first n pictures: of the worst one, and the mean. */
static myr_status try_precision(const measuring *self, myr_precision precision, const myr_calibration *with, size_t n,
                                double *worst, double *mean)
{
    myr_network *network = NULL;
    myr_session *session = NULL;
    myr_network_options options = {
        .backend = self->backend, .batch = BATCH, .precision = precision, .calibration = with};
    myr_status status = myr_network_create(self->model, &options, &self->output, 1, &network);
    if (status == MYR_OK)
        status = myr_session_create(network, &session);
    *worst = 1;
    *mean = 0;
    for (size_t first = 0; first < n && status == MYR_OK; first += BATCH) {
        size_t dim, n_here = feed(self, first, myr_session_input(session));
        status = myr_session_run(session);
        const float *result = myr_session_output(session, 0, &dim);
        for (size_t i = 0; i < n_here && status == MYR_OK; i++) {
            double found = cosine(result + i * dim, self->truth + (first + i) * dim, dim);
            *worst = fmin(*worst, found);
            *mean += found / (double)n;
        }
    }
    myr_session_free(session);
    myr_network_free(network);
    return status;
}

typedef struct layer {
    char *name; /* [borrowed] */
    double loss;
} layer;

static int by_loss(const void *a, const void *b)
{
    double x = ((const layer *)a)->loss, y = ((const layer *)b)->loss;
    return (x < y) - (x > y);
}

/* What each of some layers loses alone in 8 bits, the others being wide; the worst first. */
static myr_status rank_layers(const measuring *self, const myr_calibration *found, const myr_names *all,
                              myr_names *wide, layer *layers)
{
    size_t n = self->n_pictures < N_TRIAL_PICTURES ? self->n_pictures : N_TRIAL_PICTURES;
    for (size_t i = 0; i < all->n; i++) {
        double worst, mean;
        wide->n = 0;
        for (size_t j = 0; j < all->n; j++)
            if (j != i)
                wide->names[wide->n++] = all->names[j];
        myr_status status = try_precision(self, MYR_PRECISION_INT8, found, n, &worst, &mean);
        if (status != MYR_OK)
            return status;
        layers[i] = (layer){.name = all->names[i], .loss = 1 - mean};
        report(self, 0.4 + 0.4 * (double)(i + 1) / (double)all->n);
    }
    qsort(layers, all->n, sizeof *layers, by_loss);
    return MYR_OK;
}

/* The fewest of the worst of all layers that must stay wide, by halving. wide: a list of found, whose names become
 * borrowed ones. */
static myr_status choose_wide(const measuring *self, const myr_calibration *found, const myr_names *all,
                              myr_names *wide, double wanted)
{
    double worst, mean;
    wide->names = myr_alloc(all->n + 1, sizeof *wide->names);
    layer *layers = myr_alloc(all->n + 1, sizeof *layers);
    myr_status status = wide->names && layers
                            ? try_precision(self, MYR_PRECISION_INT8, found, self->n_pictures, &worst, &mean)
                            : myr_fail(MYR_ERR_NOMEM, "no memory to calibrate");
    if (status != MYR_OK || worst >= wanted) {
        free(layers);
        return status;
    }
    status = rank_layers(self, found, all, wide, layers);
    size_t low = 0, high = all->n; /* low wide ones are too few, high are enough */
    while (high - low > 1 && status == MYR_OK) {
        size_t middle = (low + high) / 2;
        wide->n = middle;
        for (size_t i = 0; i < middle; i++)
            wide->names[i] = layers[i].name;
        status = try_precision(self, MYR_PRECISION_INT8, found, self->n_pictures, &worst, &mean);
        *(worst >= wanted ? &high : &low) = middle;
        report(self, 0.8 + 0.2 * (1 - (double)(high - low) / (double)all->n));
    }
    wide->n = status == MYR_OK ? high : 0;
    for (size_t i = 0; i < wide->n; i++)
        wide->names[i] = layers[i].name;
    free(layers);
    return status;
}

/* Layers that stay wide where convolutions go one by one, which every processor can, and blocks that do. */
static myr_status choose_all(const measuring *self, myr_calibration *found, double wanted)
{
    static const myr_way layer_by_layer = MYR_LAYER_BY_LAYER, in_narrow_blocks = MYR_IN_NARROW_BLOCKS;
    found->only_way = &layer_by_layer;
    myr_status status = choose_wide(self, found, &self->layers, &found->wide, wanted);
    found->has_narrow_blocks = myr_block_has_processor(MYR_PRECISION_INT8) && self->blocks.n > 0;
    if (status != MYR_OK || !found->has_narrow_blocks)
        return status;
    found->only_way = &in_narrow_blocks;
    found->n_blocks = self->blocks.n;
    return choose_wide(self, found, &self->blocks, &found->wide_blocks, wanted);
}

/* What both narrow precisions lose on every way; one that this processor has not is as layer by layer. */
static myr_status measure_losses(const measuring *self, myr_calibration *found)
{
    double mean;
    myr_status status = MYR_OK;
    for (myr_way way = 0; way < MYR_N_WAYS; way++) {
        found->only_way = &way;
        for (myr_precision precision = MYR_PRECISION_BF16; precision <= MYR_PRECISION_INT8 && status == MYR_OK;
             precision++)
            status = try_precision(self, precision, found, self->n_pictures, &found->cosine[way][precision], &mean);
    }
    found->only_way = NULL;
    return status;
}

/* Borrowed names become a list's own. */
static myr_status own_names(myr_names *self)
{
    for (size_t i = 0; i < self->n; i++) {
        self->names[i] = myr_strdup(self->names[i]);
        if (!self->names[i]) {
            self->n = i;
            return myr_fail(MYR_ERR_NOMEM, "no memory to calibrate");
        }
    }
    return MYR_OK;
}

myr_status myr_calibration_measure(const myr_model *model, const char *output, const float *pictures, size_t n_pictures,
                                   const myr_calibration_options *options, myr_calibration **out)
{
    measuring self = {.model = model,
                      .output = output,
                      .backend = options->backend,
                      .pictures = pictures,
                      .n_pictures = n_pictures,
                      .options = options};
    double wanted = options->cosine > 0 ? options->cosine : DEFAULT_COSINE;
    *out = NULL;
    myr_calibration *found = myr_alloc(1, sizeof *found);
    if (!found)
        return myr_fail(MYR_ERR_NOMEM, "no memory to calibrate");
    found->n_pictures = n_pictures;
    myr_status status = n_pictures > 0 ? MYR_OK : myr_fail(MYR_ERR_ARG, "no pictures to calibrate with");
    if (status == MYR_OK)
        status = count_input(&self);
    if (status == MYR_OK)
        status = measure_ranges(&self, found);
    found->n_layers = self.layers.n;
    if (status == MYR_OK && found->n_layers == 0)
        status = myr_fail(MYR_ERR_UNSUPPORTED, "the network has no convolution that could run in 8 bits");
    if (status == MYR_OK)
        status = choose_all(&self, found, wanted);
    if (status == MYR_OK)
        status = measure_losses(&self, found);
    myr_names *lists[] = {&found->wide, &found->wide_blocks};
    for (size_t i = 0; i < 2; i++) {
        if (status == MYR_OK)
            status = own_names(lists[i]);
        else
            lists[i]->n = 0; /* its names are borrowed still */
    }
    free_names(&self.layers);
    free_names(&self.blocks);
    free(self.truth);
    if (status != MYR_OK) {
        myr_calibration_free(found);
        return status;
    }
    report(&self, 1);
    *out = found;
    return MYR_OK;
}
