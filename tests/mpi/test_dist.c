/*
 * Agreement, sharing, gathering, and an index built and asked in one process group. Run by
 * ctest under mpirun with 1, 2, 3 and 5 ranks.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "base/rng.h"
#include "dist/build.h"
#include "dist/cluster.h"
#include "dist/exchange.h"
#include "dist/router_file.h"
#include "myriops/vectors.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void every_shard_has_a_keeper(void)
{
    static const uint64_t visits[] = {50, 9, 109, 9}; /* as 5, 1, 11, 1 */
    for (int n_ranks = 1; n_ranks <= 13; n_ranks++) {
        myr_hosts hosts;
        size_t n_hosts = 0, n_kept = 0;
        check(myr_hosts_create(4, n_ranks, visits, &hosts) == MYR_OK);
        for (size_t s = 0; s < 4; s++) {
            n_hosts += myr_hosts_count(&hosts, s);
            for (int r = 0; r < n_ranks; r++) {
                check(!myr_hosts_keeps(&hosts, s, r) || myr_hosts_has(&hosts, s, r));
                n_kept += myr_hosts_keeps(&hosts, s, r);
            }
        }
        check(n_hosts == (size_t)(n_ranks > 4 ? n_ranks : 4) && n_kept == 4);
        check(n_ranks != 5 || (myr_hosts_count(&hosts, 2) == 2 && myr_hosts_has(&hosts, 2, 4)));
        check(n_ranks != 6 || myr_hosts_has(&hosts, 2, 5)); /* 110 / 2 are more than 51 */
        check(n_ranks != 7 || myr_hosts_has(&hosts, 0, 6));
        check(n_ranks != 13 || (myr_hosts_count(&hosts, 2) == 7 && myr_hosts_count(&hosts, 0) == 4));
        myr_hosts_free(&hosts);
    }
}

static void every_rank_learns_of_any_failure(void)
{
    check(myr_comm_agree(&comm, MYR_OK) == MYR_OK);
    for (int failing = 0; failing < comm.size; failing++) {
        myr_status mine = comm.rank == failing ? myr_fail(MYR_ERR_IO, "rank %d has no disk", failing) : MYR_OK;
        char wanted[64];
        check(myr_comm_agree(&comm, mine) == MYR_ERR_IO);
        snprintf(wanted, sizeof wanted, "rank %d has no disk", failing);
        check(strcmp(myr_error_detail(), wanted) == 0);
    }
    /* Several failures: the lowest rank's is everybody's. */
    myr_status mine = comm.rank + 2 >= comm.size ? myr_fail(MYR_ERR_LIMIT, "rank %d", comm.rank) : MYR_OK;
    check(myr_comm_agree(&comm, mine) == MYR_ERR_LIMIT);
    char lowest[16];
    snprintf(lowest, sizeof lowest, "rank %d", comm.size > 2 ? comm.size - 2 : 0);
    check(strcmp(myr_error_detail(), lowest) == 0);
}

static void bytes_are_shared_and_gathered(size_t message_bytes)
{
    size_t usual = myr_message_bytes;
    myr_message_bytes = message_bytes;
    myr_buffer bytes = {0}, mine = {0}, all = {0};
    if (comm.rank == 0)
        for (int i = 0; i < 100000; i++)
            myr_buffer_put_i64(&bytes, i);
    check(myr_comm_share(&comm, &bytes) == MYR_OK);
    check(bytes.size == 800000 && bytes.data[8 * 77] == 77 && bytes.data[8 * 99840] == 0);
    check(myr_gather_bytes(&comm, &mine, &all) == MYR_OK && all.size == 0);
    for (int i = 0; i < comm.rank * 1000; i++)
        myr_buffer_put_i64(&mine, comm.rank);
    myr_buffer_free(&all);
    check(myr_gather_bytes(&comm, &mine, &all) == MYR_OK);
    size_t wanted = comm.rank == 0 ? (size_t)(comm.size * (comm.size - 1) / 2) * 8000 : 0;
    check(all.size == wanted);
    myr_cursor cursor = {.data = all.data, .size = all.size};
    for (int64_t rank = 1; rank < comm.size && comm.rank == 0; rank++)
        for (int i = 0; i < rank * 1000; i++)
            check(myr_cursor_i64(&cursor) == rank);
    myr_buffer_free(&bytes);
    myr_buffer_free(&mine);
    myr_buffer_free(&all);
    myr_message_bytes = usual;
}

static void a_router_is_shared(void)
{
    myr_router *router = NULL;
    float sample[400];
    for (int i = 0; i < 400; i++)
        sample[i] = (float)(myr_hash64((uint64_t)i, 1) % 97);
    if (comm.rank == 0)
        check(myr_router_train(sample, 100, 4, 8, 1, NULL, &router) == MYR_OK);
    check(myr_router_share(&comm, &router) == MYR_OK);
    uint32_t cluster[100], lowest, highest;
    check(router && myr_router_assign(router, sample, 100, NULL, cluster, NULL) == MYR_OK);
    MPI_Allreduce(&cluster[50], &lowest, 1, MPI_UINT32_T, MPI_MIN, comm.mpi);
    MPI_Allreduce(&cluster[50], &highest, 1, MPI_UINT32_T, MPI_MAX, comm.mpi);
    check(lowest == highest);
    myr_router_free(router);
}

#define N 3000
#define DIM 24

static void an_index_is_built_and_asked(const char *folder)
{
    char file[128], index[128];
    float *rows = myr_alloc(N * DIM, sizeof *rows);
    for (size_t i = 0; i < N * DIM; i++)
        rows[i] = (float)(myr_hash64(i, 9) % 256);
    snprintf(file, sizeof file, "%s/rows.fbin", folder);
    snprintf(index, sizeof index, "%s/index", folder);
    if (comm.rank == 0)
        check(myr_vectors_write(file, rows, N, DIM) == MYR_OK);
    MPI_Barrier(comm.mpi);
    const char *operands[] = {file};
    myr_build_options options = {.operands = operands,
                                 .n_operands = 1,
                                 .folder = index,
                                 .metric = "l2",
                                 .n_shards = 4,
                                 .M = 8,
                                 .ef_construction = 60,
                                 .seed = 1,
                                 .n_threads = 1};
    myr_build_report report, again;
    check(myr_build(&comm, &options, &report) == MYR_OK);
    check(report.n_items == N && report.n_shards == 4);
    size_t usual = myr_message_bytes;
    myr_message_bytes = 20000; /* as if rows and sample were too long for one message */
    check(myr_build(&comm, &options, &again) == MYR_OK);
    check(again.n_items == N && strcmp(again.digest, report.digest) == 0 && again.n_kept == 0);
    myr_cluster cluster;
    check(myr_cluster_open(&comm, index, 1, NULL, &cluster) == MYR_OK);
    myr_hit hits[50 * 3];
    myr_search_report searched;
    check(myr_cluster_search(&cluster, rows, 50, &(myr_search_options){.k = 3, .exact = true}, hits, &searched) == MYR_OK);
    for (int q = 0; q < 50 && comm.rank == 0; q++)
        check(hits[3 * q].id == q && hits[3 * q].distance == 0 && hits[3 * q + 1].distance <= hits[3 * q + 2].distance);
    int64_t ids[3] = {7, -1, N + 5};
    myr_item_facts facts[3];
    myr_buffer texts = {0};
    check(myr_cluster_describe(&cluster, ids, 3, &texts, facts) == MYR_OK);
    if (comm.rank == 0)
        check(facts[0].key && strcmp(facts[0].key, "7") == 0 && !facts[1].key && !facts[2].key);
    myr_buffer_free(&texts);
    myr_cluster_close(&cluster);
    myr_message_bytes = usual;
    check(myr_cluster_open(&comm, "/nowhere", 1, NULL, &cluster) == MYR_ERR_NOT_FOUND);
    free(rows);
}

int main(int argc, char **argv)
{
    char folder[FOLDER_BYTES];
    begin_test(&argc, &argv, folder);
    every_shard_has_a_keeper();
    every_rank_learns_of_any_failure();
    bytes_are_shared_and_gathered(myr_message_bytes);
    bytes_are_shared_and_gathered(1000); /* in pieces */
    a_router_is_shared();
    an_index_is_built_and_asked(folder);
    return end_test(folder);
}
