/*
 * ann-benchmarks' HDF5: some items are held out as queries, the others are to be searched, and the true neighbours of
 * the queries among them go along.
 *
 * Every rank knows all queries. It searches each of its blocks exactly while it writes the block, and keeps the best of
 * all; rank 0 merges what the ranks have kept.
 */
#include "base/alloc.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/topk.h"
#include "base/vector.h"
#include "dist/export_job.h"
#include "myriops/exact.h"

#include <stdlib.h>
#include <string.h>

#define N_NEIGHBOURS 100 /* as ann-benchmarks has them */
#define TAG_HITS 7

typedef struct held_out {
    int64_t n;
    int64_t *row;   /* (n) rows of the output's order, ascending */
    float *vectors; /* (n, dim) */
    size_t k;
    myr_hit *best; /* (n, k) of this rank's blocks; ids are rows of train */
    myr_hit *more; /* (n, k) of one block */
    myr_metric metric;
    myr_pool *pool;
} held_out;

static myr_status no_memory(void)
{
    return myr_fail(MYR_ERR_NOMEM, "no memory for the queries and their neighbours; use fewer --queries");
}

/* One row of each of n ranges of equal length: evenly drawn, whatever order the items have. */
static void draw(held_out *test, int64_t n_rows)
{
    for (int64_t i = 0; i < test->n; i++) {
        int64_t low = (int64_t)((__int128)i * n_rows / test->n), high = (int64_t)((__int128)(i + 1) * n_rows / test->n);
        test->row[i] = low + (int64_t)(myr_hash64((uint64_t)i, 1) % (uint64_t)(high - low));
    }
}

/* How many queries are drawn from rows before this one. */
static int64_t drawn_before(const held_out *test, int64_t row)
{
    int64_t low = 0, high = test->n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (test->row[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static myr_status prepare(const myr_export_job *work, held_out *test)
{
    int64_t n_train = work->n_rows - work->options->n_queries;
    size_t n_values, n_hits;
    test->n = work->options->n_queries;
    if (!myr_metric_of(work->stock.metric, &test->metric) || test->metric == MYR_METRIC_IP)
        return myr_fail(
            MYR_ERR_UNSUPPORTED,
            "ann-benchmarks' files have euclidean or angular distances, these vectors inner products; export "
            "to npy or fbin");
    if (n_train < 1)
        return myr_fail(MYR_ERR_ARG, "%lld vectors are too few to hold out --queries %lld of them",
                        (long long)work->n_rows, (long long)test->n);
    if (n_train >= INT32_MAX)
        return myr_fail(MYR_ERR_LIMIT, "ann-benchmarks' files count at most 2^31 - 2 vectors, these are %lld",
                        (long long)n_train);
    test->k = n_train < N_NEIGHBOURS ? (size_t)n_train : N_NEIGHBOURS;
    if (!myr_mul((size_t)test->n, (size_t)work->stock.dim, &n_values) || !myr_mul((size_t)test->n, test->k, &n_hits))
        return no_memory();
    test->row = myr_alloc((size_t)test->n, sizeof *test->row);
    test->vectors = myr_alloc(n_values, sizeof *test->vectors);
    test->best = myr_alloc(n_hits, sizeof *test->best);
    test->more = myr_alloc(n_hits, sizeof *test->more);
    if (!test->row || !test->vectors || !test->best || !test->more)
        return no_memory();
    for (size_t i = 0; i < n_hits; i++)
        test->best[i] = (myr_hit){.id = -1, .distance = __builtin_inff()};
    draw(test, work->n_rows);
    return myr_pool_create(work->options->n_threads, &test->pool);
}

/* Rows of a block; under cosine of length 1 to the last bit that f32 has. */
static myr_status read_block(const myr_export_job *work, const held_out *test, int64_t block, myr_rows *rows)
{
    size_t dim = (size_t)work->stock.dim;
    myr_status status = myr_stock_read(&work->stock, block, rows);
    for (int64_t i = 0; i < rows->n && status == MYR_OK && test->metric == MYR_METRIC_COSINE; i++)
        myr_vector_normalise(rows->vectors + (size_t)i * dim, dim); /* finite: the reader has seen to it */
    if (status == MYR_OK && rows->n != work->first[block + 1] - work->first[block])
        status = myr_fail(MYR_ERR_FORMAT, "block %lld changed while it was exported", (long long)block);
    return status == MYR_OK ? myr_export_stopped() : status;
}

/* Collective: the queries, found by whoever has their blocks. */
static myr_status gather(const myr_export_job *work, held_out *test)
{
    const myr_comm *comm = work->comm;
    size_t dim = (size_t)work->stock.dim;
    myr_status status = MYR_OK;
    for (int64_t b = comm->rank; b < work->stock.n_blocks && status == MYR_OK; b += comm->size) {
        int64_t q = drawn_before(test, work->first[b]), end = drawn_before(test, work->first[b + 1]);
        myr_rows rows = {0};
        if (q < end)
            status = read_block(work, test, b, &rows);
        for (; q < end && status == MYR_OK; q++)
            memcpy(test->vectors + (size_t)q * dim, rows.vectors + (size_t)(test->row[q] - work->first[b]) * dim,
                   dim * sizeof(float));
        myr_rows_clear(&rows);
    }
    status = myr_comm_agree(comm, status);
    for (int64_t q = 0; q < test->n && status == MYR_OK; q += 1024) {
        int64_t n = test->n - q < 1024 ? test->n - q : 1024; /* 2^26 values at most; the other ranks have zeros */
        MPI_Allreduce(MPI_IN_PLACE, test->vectors + (size_t)q * dim, (int)((size_t)n * dim), MPI_UINT32_T, MPI_BOR,
                      comm->mpi);
    }
    return status;
}

/* Takes the queries out of a block's rows; ids become rows of train, from `first` on. */
static void leave_out(const myr_export_job *work, const held_out *test, int64_t block, int64_t first, myr_rows *rows)
{
    size_t dim = (size_t)work->stock.dim;
    int64_t q = drawn_before(test, work->first[block]), n = 0;
    for (int64_t i = 0; i < rows->n; i++) {
        if (q < test->n && test->row[q] == work->first[block] + i) {
            q++;
            continue;
        }
        memmove(rows->vectors + (size_t)n * dim, rows->vectors + (size_t)i * dim, dim * sizeof(float));
        rows->id[n] = first + n;
        n++;
    }
    for (int64_t i = n; i < rows->n; i++) {
        free(rows->key[i]);
        free(rows->source[i]);
    }
    rows->n = n;
}

static myr_status search(held_out *test, const myr_rows *rows, size_t dim)
{
    myr_exact *set = NULL;
    if (rows->n == 0)
        return MYR_OK;
    myr_status status = myr_exact_create(rows->vectors, (size_t)rows->n, dim, rows->id, test->metric, test->pool, &set);
    if (status == MYR_OK)
        status = myr_exact_search(set, test->pool, test->vectors, (size_t)test->n, test->k, test->more);
    for (int64_t q = 0; q < test->n && status == MYR_OK; q++)
        myr_topk_merge(test->best + (size_t)q * test->k, test->k, test->more + (size_t)q * test->k, test->k);
    myr_exact_free(set);
    return status;
}

static myr_status write_blocks(myr_export_job *work, held_out *test, const myr_ann_layout *layout)
{
    const myr_comm *comm = work->comm;
    size_t dim = (size_t)work->stock.dim;
    myr_status status = MYR_OK;
    for (int64_t b = comm->rank; b < work->stock.n_blocks && status == MYR_OK; b += comm->size) {
        int64_t first = work->first[b] - drawn_before(test, work->first[b]);
        myr_rows rows = {0};
        status = read_block(work, test, b, &rows);
        if (status == MYR_OK) {
            leave_out(work, test, b, first, &rows);
            status =
                myr_layout_put(work->rows.file, work->rows.partial, rows.vectors, (size_t)rows.n * dim * sizeof(float),
                               layout->train + (uint64_t)first * dim * sizeof(float));
        }
        if (status == MYR_OK)
            status = search(test, &rows, dim);
        myr_rows_clear(&rows);
        myr_progress_update(&work->progress, work->first[b + 1]);
    }
    return status;
}

/* Collective: rank 0 merges the best of all ranks, one after the other. */
static void merge(const myr_comm *comm, held_out *test)
{
    MPI_Datatype row;
    MPI_Type_contiguous((int)(test->k * sizeof(myr_hit)), MPI_BYTE, &row);
    MPI_Type_commit(&row);
    if (comm->rank > 0)
        MPI_Send(test->best, (int)test->n, row, 0, TAG_HITS, comm->mpi);
    for (int rank = 1; comm->rank == 0 && rank < comm->size; rank++) {
        MPI_Recv(test->more, (int)test->n, row, rank, TAG_HITS, comm->mpi, MPI_STATUS_IGNORE);
        for (int64_t q = 0; q < test->n; q++)
            myr_topk_merge(test->best + (size_t)q * test->k, test->k, test->more + (size_t)q * test->k, test->k);
    }
    MPI_Type_free(&row);
}

/* Rank 0: queries and their neighbours. */
static myr_status write_truth(const myr_export_job *work, held_out *test, const myr_ann_layout *layout)
{
    size_t n = (size_t)test->n * test->k;
    int file = work->rows.file;
    const char *path = work->rows.partial;
    int32_t *ids = myr_alloc(n, sizeof *ids);
    float *distances = myr_alloc(n, sizeof *distances);
    myr_status status = ids && distances ? MYR_OK : no_memory();
    for (size_t i = 0; i < n && status == MYR_OK; i++) {
        ids[i] = (int32_t)test->best[i].id;
        distances[i] = test->best[i].distance;
    }
    if (status == MYR_OK)
        status = myr_layout_put(file, path, test->vectors, (size_t)test->n * (size_t)work->stock.dim * sizeof(float),
                                layout->test);
    if (status == MYR_OK)
        status = myr_layout_put(file, path, ids, n * sizeof *ids, layout->neighbors);
    if (status == MYR_OK)
        status = myr_layout_put(file, path, distances, n * sizeof *distances, layout->distances);
    free(ids);
    free(distances);
    return status;
}

/* Collective: the file, made by rank 0 and open on all. */
static myr_status begin(myr_export_job *work, const held_out *test, myr_ann_layout *layout)
{
    const myr_comm *comm = work->comm;
    *layout = (myr_ann_layout){.n_train = (uint64_t)(work->n_rows - test->n),
                               .n_test = (uint64_t)test->n,
                               .dim = (uint64_t)work->stock.dim,
                               .k = test->k};
    myr_status status = myr_shared_file_name(work->options->path, &work->rows);
    if (status == MYR_OK && comm->rank == 0)
        status =
            myr_layout_ann(work->rows.partial, test->metric == MYR_METRIC_COSINE ? "angular" : "euclidean", layout);
    status = myr_comm_agree(comm, status);
    if (status != MYR_OK)
        return status;
    MPI_Bcast(layout, sizeof *layout, MPI_BYTE, 0, comm->mpi);
    return myr_comm_agree(comm, myr_shared_file_open(&work->rows));
}

myr_status myr_export_ann(myr_export_job *work)
{
    const myr_comm *comm = work->comm;
    held_out test = {0};
    myr_ann_layout layout;
    myr_status status = myr_comm_agree(comm, prepare(work, &test));
    if (status == MYR_OK)
        status = gather(work, &test);
    if (status == MYR_OK)
        status = begin(work, &test, &layout);
    if (status == MYR_OK)
        status = myr_comm_agree(comm, write_blocks(work, &test, &layout));
    if (status == MYR_OK) {
        merge(comm, &test);
        status = comm->rank == 0 ? write_truth(work, &test, &layout) : MYR_OK;
        if (status == MYR_OK)
            status = myr_shared_file_close(&work->rows);
        status = myr_comm_agree(comm, status);
    }
    if (status == MYR_OK)
        status = myr_comm_agree(comm, comm->rank == 0 ? myr_shared_file_commit(&work->rows) : MYR_OK);
    myr_pool_free(test.pool);
    free(test.row);
    free(test.vectors);
    free(test.best);
    free(test.more);
    return status;
}
