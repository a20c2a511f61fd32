/*
 * k-means over all items of a corpus.
 *
 *   1. survey    each rank reads its pieces: ids, labels, the range of values, and a sample chosen by id
 *   2. train     rank 0 finds centroids of the sample
 *   3. passes    every rank assigns its items; new centroids are the means of all (Lloyd 1982)
 *   4. tell      clusters are numbered by size; examples, labels, a line for each item (clusters_tell.c)
 *
 * Means are of sums of whole numbers: a value is rounded to a multiple of a small unit, chosen so that the sum of all
 * items fits into 63 bits. That is 2^-32 of the greatest value with a thousand million items: far finer than a float.
 */
#include "dist/clusters_internal.h"

#include "base/alloc.h"
#include "base/progress.h"
#include "base/rng.h"
#include "dist/exchange.h"
#include "kernel/kernel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SAMPLE 262144
#define MAX_SAMPLE_BYTES ((size_t)256 << 20)
#define SHUFFLE_SEED 11
#define STILL 1000 /* end when fewer than one item in this many changes its cluster */
#define MOST_SUMS ((size_t)1 << 28)

myr_status myr_clusters_check_stop(void)
{
    return myr_stop_requested ? myr_fail(MYR_ERR_STOPPED, "stopped by a signal; nothing was written") : MYR_OK;
}

static bool owns(const myr_clusters_job *work, int64_t piece)
{
    return myr_items_owner(work->items, piece) == work->items->comm->rank;
}

/* ---- Survey ---- */

static bool in_sample(const myr_clusters_job *work, int64_t id)
{
    size_t by_bytes = MAX_SAMPLE_BYTES / (work->items->dim * sizeof(float));
    double share = (double)(by_bytes < MAX_SAMPLE ? by_bytes : MAX_SAMPLE) / (double)work->items->n_ids;
    return share >= 1 || (double)(myr_hash64((uint64_t)id, work->options->seed) >> 11) * 0x1p-53 < share;
}

static myr_status survey_rows(myr_clusters_job *work, const myr_rows *rows, myr_buffer *sample)
{
    size_t dim = work->items->dim;
    for (size_t i = 0; i < (size_t)rows->n * dim; i++) {
        float size = fabsf(rows->vectors[i]);
        if (!isfinite(size))
            return myr_fail(MYR_ERR_ARG, "item %lld has a value that is not finite", (long long)rows->id[i / dim]);
        work->greatest = size > work->greatest ? size : work->greatest;
    }
    for (int64_t i = 0; i < rows->n; i++) {
        if (!in_sample(work, rows->id[i]))
            continue;
        myr_buffer_put_i64(sample, rows->id[i]);
        myr_buffer_append(sample, rows->vectors + (size_t)i * dim, dim * sizeof *rows->vectors);
    }
    myr_buffer_append(&work->ids, rows->id, (size_t)rows->n * sizeof *rows->id);
    myr_buffer_append(&work->labels, rows->label, (size_t)rows->n * sizeof *rows->label);
    work->n_rows += (size_t)rows->n;
    return sample->failed || work->ids.failed || work->labels.failed
               ? myr_fail(MYR_ERR_NOMEM, "no memory for the ids of %zu items, or a sample of them", work->n_rows)
               : MYR_OK;
}

/* Collective. */
static myr_status survey(myr_clusters_job *work)
{
    const myr_comm *comm = work->items->comm;
    myr_buffer sample = {0};
    myr_status status = MYR_OK;
    for (int64_t piece = 0; piece < work->items->n_pieces && status == MYR_OK; piece++) {
        myr_rows rows = {0};
        if (!owns(work, piece))
            continue;
        status = myr_clusters_check_stop();
        if (status == MYR_OK)
            status = myr_items_read(work->items, piece, false, &rows);
        if (status == MYR_OK)
            status = survey_rows(work, &rows, &sample);
        myr_rows_clear(&rows);
    }
    work->cluster = myr_alloc(work->n_rows, sizeof *work->cluster);
    work->distance = myr_alloc(work->n_rows, sizeof *work->distance);
    if (status == MYR_OK && (!work->cluster || !work->distance))
        status = myr_fail(MYR_ERR_NOMEM, "no memory for the clusters of %zu items", work->n_rows);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK) {
        int64_t n_rows = (int64_t)work->n_rows;
        MPI_Allreduce(&n_rows, &work->n_items, 1, MPI_INT64_T, MPI_SUM, comm->mpi);
        MPI_Allreduce(MPI_IN_PLACE, &work->greatest, 1, MPI_FLOAT, MPI_MAX, comm->mpi);
        status = myr_gather_bytes(comm, &sample, &work->sample);
    }
    myr_buffer_free(&sample);
    if (status == MYR_OK && work->n_items == 0)
        status = myr_fail(MYR_ERR_NOT_FOUND, "there is nothing to cluster: no item has a vector");
    return status;
}

/* ---- First centroids ---- */

/* A random order that ids alone decide, so that ranks leave no trace. */
static int by_chance(const void *a, const void *b)
{
    int64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    uint64_t of_x = myr_hash64((uint64_t)x, SHUFFLE_SEED), of_y = myr_hash64((uint64_t)y, SHUFFLE_SEED);
    return of_x != of_y ? (of_x > of_y) - (of_x < of_y) : (x > y) - (x < y);
}

/* Root: centroids of the sample, onto `centroids`. */
static myr_status train(myr_clusters_job *work, myr_buffer *centroids)
{
    size_t dim = work->items->dim, row_bytes = sizeof(int64_t) + dim * sizeof(float), n = work->sample.size / row_bytes;
    float *vectors = myr_alloc(n, dim * sizeof *vectors);
    myr_router *router = NULL;
    myr_router_view view;
    if (!vectors)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a sample of %zu vectors", n);
    qsort(work->sample.data, n, row_bytes, by_chance);
    for (size_t i = 0; i < n; i++)
        memcpy(vectors + i * dim, work->sample.data + i * row_bytes + sizeof(int64_t), dim * sizeof *vectors);
    myr_buffer_free(&work->sample);
    myr_status status = myr_router_train(vectors, n, dim, work->options->n_clusters, work->options->seed,
                                         myr_items_pool(work->items), &router);
    if (status == MYR_OK) {
        myr_router_export(router, &view);
        myr_buffer_append(centroids, view.centroids, view.n_clusters * dim * sizeof(float));
        if (centroids->failed)
            status = myr_fail(MYR_ERR_NOMEM, "no memory for %u centroids", view.n_clusters);
    }
    myr_router_free(router);
    free(vectors);
    return status;
}

static myr_status make_clusters(myr_clusters_job *work, const myr_buffer *centroids)
{
    myr_clusters *clusters = work->clusters;
    size_t dim = work->items->dim, n = centroids->size / (dim * sizeof(float)), n_sums;
    if (!myr_mul(n, dim + 2, &n_sums) || n_sums > MOST_SUMS)
        return myr_fail(MYR_ERR_LIMIT, "%zu clusters of vectors of %zu values are too many: up to %zu", n, dim,
                        MOST_SUMS / (dim + 2));
    clusters->n = n;
    clusters->dim = dim;
    clusters->n_items = work->n_items;
    clusters->centroids = myr_alloc(n, dim * sizeof *clusters->centroids);
    clusters->sizes = myr_alloc(n, sizeof *clusters->sizes);
    clusters->mean_distance = myr_alloc(n, sizeof *clusters->mean_distance);
    work->sums = myr_alloc(n_sums + 2, sizeof *work->sums);
    if (!clusters->centroids || !clusters->sizes || !clusters->mean_distance || !work->sums)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %zu clusters", n);
    memcpy(clusters->centroids, centroids->data, centroids->size);
    return MYR_OK;
}

/* Collective. */
static myr_status begin(myr_clusters_job *work)
{
    const myr_comm *comm = work->items->comm;
    myr_buffer centroids = {0};
    myr_status status = myr_comm_agree(comm, comm->rank == 0 ? train(work, &centroids) : MYR_OK);
    if (status == MYR_OK)
        status = myr_comm_share(comm, &centroids);
    if (status == MYR_OK)
        status = myr_comm_agree(comm, make_clusters(work, &centroids));
    myr_buffer_free(&centroids);
    return status;
}

/* ---- Passes ---- */

/* The unit of whole numbers such that n_items of up to `greatest` sum up to less than 2^62; as its inverse. */
static double per_unit(const myr_clusters_job *work, double greatest)
{
    int exponent;
    frexp((double)work->n_items * (greatest > 0 ? greatest : 1), &exponent);
    return ldexp(1, 62 - exponent);
}

typedef struct sums {
    int64_t *values, *counts, *distances, *moved, *squares; /* of work->sums */
    double per_value, per_distance, per_square;
} sums;

static sums lay_out(const myr_clusters_job *work)
{
    size_t n = work->clusters->n, dim = work->clusters->dim;
    double farthest = 2 * sqrt((double)dim) * (double)work->greatest;
    sums all = {.values = work->sums, .per_value = per_unit(work, (double)work->greatest)};
    all.counts = all.values + n * dim;
    all.distances = all.counts + n;
    all.moved = all.distances + n;
    all.squares = all.moved + 1;
    all.per_distance = per_unit(work, farthest);
    all.per_square = per_unit(work, farthest * farthest);
    return all;
}

/* A piece that is being added. */
typedef struct adding {
    myr_clusters_job *work;
    const sums *all;
    const myr_rows *rows;
    const uint32_t *nearest;
    double *squared; /* (n) distances to the centroids */
} adding;

static myr_status measure_task(void *context, size_t first, size_t last, int thread)
{
    const adding *self = context;
    size_t dim = self->work->clusters->dim;
    (void)thread;
    for (size_t i = first; i < last; i++)
        self->squared[i] = myr_kernel_get()->squared_l2(self->rows->vectors + i * dim,
                                                        self->work->clusters->centroids + self->nearest[i] * dim, dim);
    return MYR_OK;
}

/* Threads take dimensions, so that none adds where another does. */
static myr_status add_task(void *context, size_t first, size_t last, int thread)
{
    const adding *self = context;
    size_t dim = self->work->clusters->dim;
    (void)thread;
    for (size_t i = 0; i < (size_t)self->rows->n; i++) {
        const float *vector = self->rows->vectors + i * dim;
        int64_t *values = self->all->values + self->nearest[i] * dim;
        for (size_t d = first; d < last; d++)
            values[d] += llrint((double)vector[d] * self->all->per_value);
    }
    return MYR_OK;
}

static void count_rows(const adding *self, size_t at)
{
    const sums *all = self->all;
    myr_clusters_job *work = self->work;
    for (size_t i = 0; i < (size_t)self->rows->n; i++) {
        uint32_t c = self->nearest[i];
        double squared = self->squared[i];
        all->counts[c]++;
        all->distances[c] += llrint(sqrt(squared) * all->per_distance);
        *all->squares += llrint(squared * all->per_square);
        *all->moved += work->cluster[at + i] != c;
        work->cluster[at + i] = c;
        work->distance[at + i] = (float)sqrt(squared);
    }
}

static myr_status add_rows(myr_clusters_job *work, const sums *all, const myr_rows *rows, const uint32_t *nearest,
                           size_t at)
{
    myr_pool *pool = myr_items_pool(work->items);
    adding self = {.work = work, .all = all, .rows = rows, .nearest = nearest};
    self.squared = myr_alloc((size_t)rows->n, sizeof *self.squared);
    myr_status status =
        self.squared ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %lld distances", (long long)rows->n);
    if (status == MYR_OK)
        status = myr_pool_for(pool, (size_t)rows->n, 256, measure_task, &self);
    if (status == MYR_OK)
        status = myr_pool_for(pool, work->clusters->dim, 64, add_task, &self);
    if (status == MYR_OK)
        count_rows(&self, at);
    free(self.squared);
    return status;
}

static myr_status assign_piece(myr_clusters_job *work, const sums *all, int64_t piece, size_t *at)
{
    myr_rows rows = {0};
    uint32_t *nearest = NULL;
    myr_status status = myr_items_read(work->items, piece, false, &rows);
    if (status == MYR_OK && !(nearest = myr_alloc((size_t)rows.n, sizeof *nearest)))
        status = myr_fail(MYR_ERR_NOMEM, "no memory to assign %lld items", (long long)rows.n);
    if (status == MYR_OK && *at + (size_t)rows.n > work->n_rows)
        status = myr_fail(MYR_ERR_FORMAT, "the input changed while it was being read; run the command again");
    if (status == MYR_OK)
        status =
            myr_router_assign(work->router, rows.vectors, (size_t)rows.n, myr_items_pool(work->items), nearest, NULL);
    if (status == MYR_OK)
        status = add_rows(work, all, &rows, nearest, *at);
    *at += (size_t)rows.n;
    free(nearest);
    myr_rows_clear(&rows);
    return status;
}

static myr_status take_centroids(myr_clusters_job *work)
{
    myr_clusters *clusters = work->clusters;
    myr_router_view view = {
        .n_clusters = (uint32_t)clusters->n, .dim = (uint32_t)clusters->dim, .centroids = clusters->centroids};
    myr_router_free(work->router);
    work->router = NULL;
    return myr_router_import(&view, &work->router);
}

/* All items to their nearest centroids, and what they sum up to on all ranks. Collective. */
static myr_status assign_all(myr_clusters_job *work, const sums *all)
{
    const myr_comm *comm = work->items->comm;
    size_t n_sums = work->clusters->n * (work->clusters->dim + 2) + 2, at = 0;
    memset(work->sums, 0, n_sums * sizeof *work->sums);
    myr_status status = take_centroids(work);
    for (int64_t piece = 0; piece < work->items->n_pieces && status == MYR_OK; piece++) {
        if (!owns(work, piece))
            continue;
        status = myr_clusters_check_stop();
        if (status == MYR_OK)
            status = assign_piece(work, all, piece, &at);
    }
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        MPI_Allreduce(MPI_IN_PLACE, work->sums, (int)n_sums, MPI_INT64_T, MPI_SUM, comm->mpi);
    return status;
}

/* Means of the items; a cluster without any stays where it is. */
static void move_centroids(myr_clusters_job *work, const sums *all)
{
    size_t dim = work->clusters->dim;
    for (size_t c = 0; c < work->clusters->n; c++)
        for (size_t d = 0; d < dim && all->counts[c] > 0; d++)
            work->clusters->centroids[c * dim + d] =
                (float)((double)all->values[c * dim + d] / ((double)all->counts[c] * all->per_value));
}

/* Collective. */
static myr_status iterate(myr_clusters_job *work)
{
    myr_clusters *clusters = work->clusters;
    const myr_comm *comm = work->items->comm;
    sums all = lay_out(work);
    myr_progress line;
    memset(work->cluster, 0xff, work->n_rows * sizeof *work->cluster); /* no cluster */
    myr_progress_start(&line, "clustering", "passes at most", work->options->n_passes, 0,
                       work->options->progress && comm->rank == 0);
    myr_status status = assign_all(work, &all);
    for (clusters->n_passes = 1; status == MYR_OK; clusters->n_passes++) {
        myr_progress_update(&line, clusters->n_passes);
        if (clusters->n_passes >= work->options->n_passes || *all.moved <= work->n_items / STILL)
            break;
        move_centroids(work, &all);
        status = assign_all(work, &all);
    }
    if (status != MYR_OK)
        return status;
    myr_progress_finish(&line, clusters->n_passes);
    clusters->n_moved = clusters->n_passes > 1 ? *all.moved : 0;
    clusters->mean_squared = (double)*all.squares / all.per_square / (double)work->n_items;
    for (size_t c = 0; c < clusters->n; c++) {
        clusters->sizes[c] = all.counts[c];
        if (all.counts[c] > 0)
            clusters->mean_distance[c] = (double)all.distances[c] / all.per_distance / (double)all.counts[c];
    }
    return MYR_OK;
}

/* ---- Numbers by size ---- */

typedef struct rank_of_cluster {
    int64_t size;
    uint32_t was;
    double mean_distance;
} rank_of_cluster;

static int largest_first(const void *a, const void *b)
{
    const rank_of_cluster *x = a, *y = b;
    return x->size != y->size ? (x->size < y->size) - (x->size > y->size) : (x->was > y->was) - (x->was < y->was);
}

static myr_status renumber(myr_clusters_job *work)
{
    myr_clusters *clusters = work->clusters;
    size_t n = clusters->n, dim = clusters->dim;
    rank_of_cluster *order = myr_alloc(n, sizeof *order);
    uint32_t *number = myr_alloc(n, sizeof *number);
    float *centroids = myr_alloc(n, dim * sizeof *centroids);
    myr_status status =
        order && number && centroids ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %zu clusters", n);
    for (size_t c = 0; c < n && status == MYR_OK; c++)
        order[c] = (rank_of_cluster){
            .size = clusters->sizes[c], .was = (uint32_t)c, .mean_distance = clusters->mean_distance[c]};
    if (status == MYR_OK)
        qsort(order, n, sizeof *order, largest_first);
    for (size_t c = 0; c < n && status == MYR_OK; c++) {
        number[order[c].was] = (uint32_t)c;
        memcpy(centroids + c * dim, clusters->centroids + order[c].was * dim, dim * sizeof *centroids);
        clusters->sizes[c] = order[c].size;
        clusters->mean_distance[c] = order[c].mean_distance;
    }
    for (size_t i = 0; i < work->n_rows && status == MYR_OK; i++)
        work->cluster[i] = number[work->cluster[i]];
    if (status == MYR_OK) {
        free(clusters->centroids);
        clusters->centroids = centroids;
        centroids = NULL;
    }
    free(order);
    free(number);
    free(centroids);
    return myr_comm_agree(work->items->comm, status);
}

/* ---- The whole ---- */

void myr_clusters_free(myr_clusters *clusters)
{
    free(clusters->centroids);
    free(clusters->sizes);
    free(clusters->mean_distance);
    free(clusters->labels);
    free(clusters->nearest);
    free(clusters->drawn);
    free(clusters->facts);
    myr_buffer_free(&clusters->texts);
    *clusters = (myr_clusters){0};
}

myr_status myr_clusters_find(const myr_items *items, const myr_clusters_options *options, myr_cluster_format format,
                             myr_cluster_take take, void *context, myr_clusters *clusters)
{
    myr_clusters_job work = {.items = items, .options = options, .clusters = clusters};
    *clusters = (myr_clusters){.n_examples = options->n_examples};
    myr_status status = survey(&work);
    if (status == MYR_OK)
        status = begin(&work);
    if (status == MYR_OK)
        status = iterate(&work);
    if (status == MYR_OK)
        status = renumber(&work);
    if (status == MYR_OK)
        status = myr_clusters_tell(&work, format, take, context);
    myr_router_free(work.router);
    myr_buffer_free(&work.sample);
    myr_buffer_free(&work.ids);
    myr_buffer_free(&work.labels);
    free(work.cluster);
    free(work.distance);
    free(work.sums);
    return status;
}
