/*
 * The curve of recall. Some hundred items of the whole index are asked for, wherever they lie, so that the
 * measurement costs little beside the build and does not depend on the ranks.
 */
#include "dist/curve.h"

#define N_QUERIES 500.0
#define HIGH_ENOUGH 0.999

static const size_t efs[] = {12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};
enum { N_EFS = sizeof efs / sizeof *efs };

myr_status myr_curve_add(const myr_hnsw *graph, int64_t n_items, myr_pool *pool, myr_hnsw_curve *sum)
{
    myr_hnsw_curve curve;
    myr_status status =
        myr_hnsw_measure(graph, pool, N_QUERIES / (double)(n_items > 0 ? n_items : 1), efs, N_EFS, &curve);
    sum->n_queries += curve.n_queries;
    sum->n_true += curve.n_true;
    for (size_t i = 0; i < N_EFS; i++)
        sum->n_found[i] += curve.n_found[i];
    return status;
}

void myr_curve_gather(const myr_comm *comm, const myr_hnsw_curve *mine, myr_index_curve *curve)
{
    uint64_t counts[2 + N_EFS] = {mine->n_queries, mine->n_true}, all[2 + N_EFS];
    for (size_t i = 0; i < N_EFS; i++)
        counts[2 + i] = mine->n_found[i];
    MPI_Allreduce(counts, all, 2 + N_EFS, MPI_UINT64_T, MPI_SUM, comm->mpi);
    *curve = (myr_index_curve){.n_queries = (int64_t)all[0]};
    for (size_t i = 0; i < N_EFS && all[1] > 0; i++) {
        double recall = (double)all[2 + i] / (double)all[1];
        curve->points[i].ef = efs[i];
        curve->points[i].recall = recall;
        curve->n_points = i + 1;
        if (recall >= HIGH_ENOUGH)
            break;
    }
}
