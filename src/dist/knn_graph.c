/*
 * The graph of nearest neighbours, piece by piece: read, ask, write.
 */
#include "dist/knn_graph.h"

#include "base/alloc.h"
#include "base/progress.h"
#include "dist/sweep.h"
#include "store/knn_file.h"

#include <math.h>
#include <stdlib.h>

#define A_PIECE 65536
#define PIECE_BYTES ((size_t)32 << 20)

typedef struct job {
    myr_cluster *cluster;
    const myr_knn_options *options;
    myr_sweep sweep;
    myr_knn_file *file; /* root */
    myr_hit *hits;      /* root: (piece, k + 1) */
    myr_hit *row;       /* (k) */
    int64_t *neighbours;
    float *distances;
    double n_probes, n_found, nearest, farthest;
    int64_t n_done, n_short, n_linked;
} job;

void myr_hits_leave_out(const myr_hit *from, size_t n, int64_t self, myr_hit *to, size_t depth)
{
    size_t n_taken = 0;
    for (size_t i = 0; i < n && n_taken < depth; i++)
        if (from[i].id >= 0 && from[i].id != self)
            to[n_taken++] = from[i];
    while (n_taken < depth)
        to[n_taken++] = (myr_hit){.id = -1, .distance = INFINITY};
}

static void take_row(job *work, size_t i)
{
    size_t k = work->options->k, n = 0;
    myr_hits_leave_out(work->hits + i * (k + 1), k + 1, work->sweep.ids[i], work->row, k);
    for (size_t j = 0; j < k; j++) {
        work->neighbours[i * k + j] = work->row[j].id;
        work->distances[i * k + j] = work->row[j].distance;
        n += work->row[j].id >= 0;
    }
    work->n_found += (double)n;
    work->n_short += n < k;
    if (n == 0)
        return;
    work->n_linked++;
    work->nearest += (double)work->row[0].distance;
    work->farthest += (double)work->row[n - 1].distance;
}

/* Root. */
static myr_status write_piece(job *work)
{
    const myr_sweep *sweep = &work->sweep;
    for (size_t i = 0; i < sweep->n; i++)
        take_row(work, i);
    return myr_knn_file_append(work->file, sweep->n, sweep->ids, work->neighbours, work->distances, sweep->keys);
}

static myr_status make_room(job *work)
{
    size_t n = (size_t)work->sweep.most, k = work->options->k;
    work->hits = myr_alloc(n, (k + 1) * sizeof *work->hits);
    work->row = myr_alloc(k, sizeof *work->row);
    work->neighbours = myr_alloc(n, k * sizeof *work->neighbours);
    work->distances = myr_alloc(n, k * sizeof *work->distances);
    return work->hits && work->row && work->neighbours && work->distances
               ? MYR_OK
               : myr_fail(MYR_ERR_NOMEM, "no memory for the neighbours of %zu items", n);
}

/* Root. */
static myr_status open_file(job *work)
{
    const myr_index_manifest *index = &work->cluster->manifest;
    myr_knn_facts facts = {.n = (size_t)index->n_items,
                           .k = work->options->k,
                           .has_keys = index->contract != NULL,
                           .metric = index->metric,
                           .model = index->model,
                           .contract = index->contract,
                           .index_digest = index->digest};
    myr_status status = make_room(work);
    return status == MYR_OK ? myr_knn_file_create(work->options->path, &facts, &work->file) : status;
}

/* Collective. */
static myr_status sweep_all(job *work)
{
    const myr_comm *comm = work->cluster->comm;
    myr_progress line;
    myr_progress_start(&line, "asking", "items", work->cluster->manifest.n_items, 0,
                       work->options->progress && comm->rank == 0);
    myr_status status = myr_sweep_next(&work->sweep);
    while (status == MYR_OK && work->sweep.n > 0) {
        myr_search_report search = {0};
        status = myr_cluster_search(work->cluster, work->sweep.vectors, work->sweep.n, &work->options->search,
                                    work->hits, &search);
        if (status == MYR_OK)
            status = myr_comm_agree(comm, comm->rank == 0 ? write_piece(work) : MYR_OK);
        work->n_probes += search.probes_per_query * (double)work->sweep.n;
        work->n_done += (int64_t)work->sweep.n;
        myr_progress_update(&line, work->n_done);
        if (status == MYR_OK)
            status = myr_sweep_next(&work->sweep);
    }
    if (status == MYR_OK)
        myr_progress_finish(&line, work->n_done);
    return status;
}

myr_status myr_knn_graph(myr_cluster *cluster, const myr_knn_options *options, myr_knn_report *report)
{
    const myr_comm *comm = cluster->comm;
    job work = {.cluster = cluster, .options = options};
    size_t by_hits = PIECE_BYTES / ((options->k + 1) * sizeof(myr_hit)),
           a_piece = by_hits < A_PIECE ? by_hits : A_PIECE;
    double start_s = myr_now_s();
    myr_status status =
        myr_sweep_start(cluster, cluster->manifest.n_items, a_piece, cluster->manifest.contract != NULL, &work.sweep);
    if (status == MYR_OK)
        status = myr_comm_agree(comm, comm->rank == 0 ? open_file(&work) : MYR_OK);
    if (status == MYR_OK)
        status = sweep_all(&work);
    if (status == MYR_OK && work.file) {
        status = myr_knn_file_commit(work.file);
        work.file = NULL;
    }
    status = myr_comm_agree(comm, status);
    double n = work.n_done > 0 ? (double)work.n_done : 1, n_linked = work.n_linked > 0 ? (double)work.n_linked : 1;
    *report = (myr_knn_report){.n_items = work.n_done,
                               .n_short = work.n_short,
                               .mean_degree = work.n_found / n,
                               .nearest = work.nearest / n_linked,
                               .farthest = work.farthest / n_linked,
                               .probes_per_query = work.n_probes / n,
                               .wall_s = myr_now_s() - start_s};
    myr_knn_file_abandon(work.file);
    myr_sweep_end(&work.sweep);
    free(work.hits);
    free(work.row);
    free(work.neighbours);
    free(work.distances);
    return status;
}
