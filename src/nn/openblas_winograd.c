/*
 * 3x3 convolutions with fewer multiplications: F(4x4, 3x3) of Lavin & Gray 2016 (arXiv:1509.09308), by pixel.
 *
 * A tile of 6x6 input pixels gives 4x4 results. Input tiles and weights are transformed to 36 places; at each place the
 * tiles of a block are a matrix, multiplied by that place's weights; the products are transformed back. 36 products
 * stand for 144. Blocks are small enough for a cache where that leaves the products enough rows.
 */
#include "base/alloc.h"
#include "nn/openblas.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    PLACES = MYR_WINOGRAD_PLACES,
    IN = 6,                /* edge of an input tile */
    OUT = 4,               /* and of its results */
    MULTIPLE = 16,         /* channels are whole vectors on every processor */
    MIN_CHANNELS = 32,     /* fewer, and the transforms cost more than they spare */
    MIN_TILES = 32,        /* fewer, and so does reading the transformed weights, four times as large */
    MAX_COLUMNS = 320,     /* of a product: short sums round less */
    FEWEST_ROWS = 28,      /* of a block, two full tiles of the widest kernel */
    BLOCK_FLOATS = 3 << 17 /* of a block, both sides: 1.5 MB */
};

typedef struct winograd {
    const myr_openblas_kernels *kernels;
    myr_window window;
    int64_t batch, n_in, n_out; /* channels */
    int64_t tiles_y, tiles_x, n_tiles, n_block;
    size_t n_panels; /* floats of a place's weights */
    float *weights;  /* [owned] (PLACES, in panels) */
    float *bias;     /* [owned] (n_out) */
    float *no_bias;  /* [owned] (n_out and a panel) zeros */
    myr_activation activation;
    int in, out, residual; /* buffers; residual may be -1 */
} winograd;

static void free_winograd(void *memory)
{
    winograd *self = memory;
    if (self) {
        free(self->weights);
        free(self->bias);
        free(self->no_bias);
    }
    free(self);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Picture, row and column of a tile's first result. */
static void find_tile(const winograd *self, int64_t tile, int64_t place[3])
{
    place[0] = tile / (self->tiles_y * self->tiles_x);
    place[1] = tile / self->tiles_x % self->tiles_y * OUT;
    place[2] = tile % self->tiles_x * OUT;
}

/* Input tiles [first, first + n) transformed to (PLACES, n, n_in). zeros: (n_in), what lies outside the picture. */
static void transform_input(const winograd *self, const float *in, int64_t first, int64_t n, const float *zeros,
                            float *to)
{
    const myr_window *window = &self->window;
    const float *cells[PLACES];
    for (int64_t i = 0; i < n; i++) {
        int64_t at[3];
        find_tile(self, first + i, at);
        const float *picture = in + at[0] * window->in[0] * window->in[1] * self->n_in;
        for (int64_t p = 0; p < PLACES; p++) {
            int64_t y = at[1] + p / IN - window->pad_begin[0], x = at[2] + p % IN - window->pad_begin[1];
            bool is_inside = y >= 0 && y < window->in[0] && x >= 0 && x < window->in[1];
            cells[p] = is_inside ? picture + (y * window->in[1] + x) * self->n_in : zeros;
        }
        self->kernels->winograd_in(cells, (size_t)self->n_in, to + i * self->n_in, (size_t)(n * self->n_in));
    }
}

/* (n, n_in) times (n_in, n_out) at each place. */
static void multiply(const winograd *self, const float *left, int64_t n, float *out)
{
    for (int64_t p = 0; p < PLACES; p++)
        for (int64_t begin = 0; begin < self->n_in; begin += MAX_COLUMNS) {
            int64_t end = smaller(begin + MAX_COLUMNS, self->n_in);
            self->kernels->multiply(&(myr_rows_by_panels){.n_rows = (size_t)n,
                                                          .n_out = (size_t)self->n_out,
                                                          .first = (size_t)begin,
                                                          .last = (size_t)end,
                                                          .depth = (size_t)self->n_in,
                                                          .left = left + p * n * self->n_in + begin,
                                                          .left_stride = (size_t)self->n_in,
                                                          .panels = self->weights + (size_t)p * self->n_panels,
                                                          .bias = self->no_bias,
                                                          .out = out + p * n * self->n_out,
                                                          .out_stride = (size_t)self->n_out,
                                                          .low = -INFINITY,
                                                          .high = INFINITY});
        }
}

/* Products (PLACES, n, n_out) back into results; bias, residual and bounds. */
static void transform_output(const winograd *self, const float *from, int64_t first, int64_t n, const float *residual,
                             float *out)
{
    const myr_window *window = &self->window;
    myr_activation_kind kind = self->activation.kind;
    myr_winograd_result result = {.n_channels = (size_t)self->n_out,
                                  .stride = (size_t)(n * self->n_out),
                                  .bias = self->bias,
                                  .low = kind == MYR_ACTIVATION_CLIP   ? self->activation.low
                                         : kind == MYR_ACTIVATION_RELU ? 0
                                                                       : -INFINITY,
                                  .high = kind == MYR_ACTIVATION_CLIP ? self->activation.high : INFINITY};
    for (int64_t i = 0; i < n; i++) {
        int64_t at[3];
        find_tile(self, first + i, at);
        for (int64_t p = 0; p < OUT * OUT; p++) {
            int64_t y = at[1] + p / OUT, x = at[2] + p % OUT;
            int64_t pixel = ((at[0] * window->out[0] + y) * window->out[1] + x) * self->n_out;
            bool is_inside = y < window->out[0] && x < window->out[1];
            result.out[p] = is_inside ? out + pixel : NULL;
            result.residual[p] = is_inside && residual ? residual + pixel : NULL;
        }
        self->kernels->winograd_out(&result, from + i * self->n_out);
    }
}

static myr_status run(const myr_step *step, void *bound, char *const *address, char *scratch)
{
    (void)bound;
    const winograd *self = step->state;
    const float *in = (const float *)address[self->in];
    const float *residual = self->residual >= 0 ? (const float *)address[self->residual] : NULL;
    float *out = (float *)address[self->out], *zeros = (float *)scratch, *left = zeros + self->n_in;
    float *products = left + PLACES * self->n_block * self->n_in;
    bool is_other = self->activation.kind != MYR_ACTIVATION_NONE && self->activation.kind != MYR_ACTIVATION_RELU &&
                    self->activation.kind != MYR_ACTIVATION_CLIP;
    memset(zeros, 0, (size_t)self->n_in * sizeof *zeros);
    for (int64_t first = 0; first < self->n_tiles; first += self->n_block) {
        int64_t n = smaller(self->n_block, self->n_tiles - first);
        transform_input(self, in, first, n, zeros, left);
        multiply(self, left, n, products);
        transform_output(self, products, first, n, residual, out);
    }
    if (is_other)
        myr_openblas_activate(self->kernels, &self->activation, out,
                              (size_t)(self->batch * self->window.out[0] * self->window.out[1] * self->n_out));
    return MYR_OK;
}

static const myr_step_kind winograd_step = {.name = "OpenBLAS", .run = run, .free = free_winograd};

/* G w G^T of one window. */
static void transform_window(const float *window, double to[PLACES])
{
    static const double g[IN][3] = {{1.0 / 4, 0, 0},
                                    {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                    {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                    {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                    {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                    {0, 0, 1}};
    for (int i = 0; i < IN; i++)
        for (int j = 0; j < IN; j++) {
            double sum = 0;
            for (int a = 0; a < 3; a++)
                for (int b = 0; b < 3; b++)
                    sum += g[i][a] * (double)window[3 * a + b] * g[j][b];
            to[i * IN + j] = sum;
        }
}

static bool take_constants(winograd *self, const myr_tensor *weights, const myr_tensor *bias)
{
    size_t width = self->kernels->panel_width, n_out = (size_t)self->n_out, n_in = (size_t)self->n_in, n;
    size_t half = width / 2;
    const float *window = weights->data;
    if (!myr_mul((n_out + half - 1) / half * half, n_in, &self->n_panels) || !myr_mul(self->n_panels, PLACES, &n))
        return false;
    self->weights = myr_alloc_huge(n, sizeof(float));
    self->bias = myr_alloc(n_out, sizeof(float));
    self->no_bias = myr_alloc(n_out + width, sizeof(float));
    if (!self->weights || !self->bias || !self->no_bias)
        return false;
    for (size_t o = 0; o < n_out; o++) {
        size_t first = o / width * width, own_width = n_out - first > half ? width : half;
        for (size_t c = 0; c < n_in; c++, window += 9) {
            double places[PLACES];
            transform_window(window, places);
            for (size_t p = 0; p < PLACES; p++)
                self->weights[p * self->n_panels + first * n_in + c * own_width + o % width] = (float)places[p];
        }
    }
    if (bias)
        memcpy(self->bias, bias->data, n_out * sizeof(float));
    return true;
}

static bool fits(const winograd *self, int64_t n_groups)
{
    const myr_window *window = &self->window;
    for (int i = 0; i < 2; i++)
        if (window->kernel[i] != 3 || window->stride[i] != 1 || window->dilation[i] != 1)
            return false;
    return n_groups == 1 && self->kernels->panel_width > 0 && self->n_in % MULTIPLE == 0 &&
           self->n_out % MULTIPLE == 0 && self->n_in >= MIN_CHANNELS && self->n_in <= 1 << 14 &&
           self->n_out <= 1 << 14 && self->n_tiles >= MIN_TILES;
}

myr_status myr_openblas_winograd(myr_openblas_builder *build, const myr_node *node, const myr_window *window,
                                 bool *taken)
{
    const myr_graph *graph = build->graph;
    const myr_tensor *weights = myr_node_constant(graph, node, 1), *bias = myr_node_constant(graph, node, 2);
    winograd found = {.kernels = build->kernels,
                      .window = *window,
                      .batch = graph->values[node->inputs[0]].shape.dims[0],
                      .n_in = weights->shape.dims[1],
                      .n_out = weights->shape.dims[0],
                      .tiles_y = (window->out[0] + OUT - 1) / OUT,
                      .tiles_x = (window->out[1] + OUT - 1) / OUT,
                      .activation = node->activation,
                      .residual = -1};
    found.n_tiles = found.batch * found.tiles_y * found.tiles_x;
    if (!fits(&found, myr_node_int(node, "group", 1)))
        return MYR_OK;
    int64_t most = BLOCK_FLOATS / (PLACES * (found.n_in + found.n_out));
    most = most < FEWEST_ROWS ? FEWEST_ROWS : most;
    int64_t n_blocks = (found.n_tiles + most - 1) / most;
    found.n_block = (found.n_tiles + n_blocks - 1) / n_blocks;
    winograd *self = myr_alloc(1, sizeof *self);
    if (!self)
        return myr_openblas_no_memory(node);
    *self = found;
    *taken = true;
    myr_status status = take_constants(self, weights, bias) ? MYR_OK : myr_openblas_no_memory(node);
    if (status == MYR_OK)
        status = myr_openblas_bring_pixels(build, node->inputs[0], &self->in);
    if (status == MYR_OK && node->residual >= 0)
        status = myr_openblas_bring_pixels(build, node->residual, &self->residual);
    if (status == MYR_OK)
        status = myr_openblas_settle_pixels(build, node->outputs[0], &self->out);
    if (status != MYR_OK) {
        free_winograd(self);
        return status;
    }
    size_t scratch = (size_t)(self->n_in + PLACES * self->n_block * (self->n_in + self->n_out)) * sizeof(float);
    int buffers[3] = {self->in, self->out, self->residual};
    status = myr_program_add_step(build->compiler->program, &winograd_step, node->name, self, buffers,
                                  self->residual >= 0 ? 3 : 2, scratch);
    if (status == MYR_OK)
        myr_program_add_packed(build->compiler->program,
                               (PLACES * self->n_panels + (size_t)self->n_out) * sizeof(float));
    return status;
}
