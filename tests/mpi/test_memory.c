/*
 * What a rank holds while an index is built, asked and changed: its share, and the bounded rest, never the whole set.
 *
 * The system refuses a rank more: RLIMIT_DATA counts all private memory, touched or not, and mapped files not, whose
 * pages it can take back. The bounds of sample and messages are lowered, so that the set is large beside them.
 */
#include "base/alloc.h"
#include "base/rng.h"
#include "dist/build.h"
#include "dist/change.h"
#include "dist/cluster.h"
#include "myriops/hnsw.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { N = 49152, FEW = 60, DIM = 1024, SHARDS = 20, M = 4, BLOBS = 50, MEBI = 1 << 20 };

/* Rank 0: rows around a few places, one after the other. */
static void write_set(const char *path, uint32_t n)
{
    const uint32_t head[2] = {n, DIM};
    static uint8_t row[DIM];
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(head, sizeof head, 1, file) != 1) {
        check(!"the set cannot be written");
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t blob = myr_hash64(i, 1) % BLOBS;
        for (uint64_t d = 0; d < DIM; d++)
            row[d] = (uint8_t)(myr_hash64(blob * DIM + d, 2) % 200 + myr_hash64(i * DIM + d, 3) % 50);
        check(fwrite(row, sizeof row, 1, file) == 1);
    }
    check(fclose(file) == 0);
}

/* Private memory of this process in bytes. */
static double data_bytes(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    double kib = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmData: %lf kB", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib * 1024;
}

/* OpenBLAS takes 128 MiB when it first multiplies, and keeps them. */
static void multiply_once(void)
{
    static float rows[256 * 64];
    myr_router *router = NULL;
    for (uint64_t i = 0; i < sizeof rows / sizeof *rows; i++)
        rows[i] = (float)(myr_hash64(i, 4) % 100);
    check(myr_router_train(rows, 256, 64, 16, 1, NULL, &router) == MYR_OK);
    myr_router_free(router);
}

static myr_status build(const char *set, const char *folder, myr_build_report *report)
{
    const char *operands[1] = {set};
    myr_build_options options = {.operands = operands,
                                 .n_operands = 1,
                                 .folder = folder,
                                 .metric = "l2",
                                 .overlap = 0.05,
                                 .n_shards = SHARDS,
                                 .M = M,
                                 .ef_construction = 8,
                                 .seed = 1,
                                 .n_threads = 1};
    return myr_build(&comm, &options, report);
}

/* Exact search is the phase that reads most at once. */
static void ask(const char *folder)
{
    enum { QUERIES = 20, K = 5 };
    myr_cluster cluster;
    float *queries = NULL;
    int64_t *ids = NULL;
    size_t n = 0;
    check(myr_cluster_open(&comm, folder, 1, NULL, &cluster) == MYR_OK);
    check(myr_cluster_sample(&cluster, QUERIES, &queries, &ids, &n) == MYR_OK && n > 0);
    myr_hit *hits = myr_alloc(n * K, sizeof *hits);
    myr_search_report report;
    check(hits && myr_cluster_search(&cluster, queries, n, &(myr_search_options){.k = K, .ef = K, .exact = true}, hits,
                                     &report) == MYR_OK);
    for (size_t q = 0; q < n && comm.rank == 0; q++)
        check(hits[q * K].id == ids[q] && hits[q * K].distance == 0);
    free(hits);
    free(queries);
    free(ids);
    myr_cluster_close(&cluster);
}

static void ranks_stay_within_their_share(const char *folder)
{
    char set[128], few[128], index[128], warm[128];
    const double vector = sizeof(float) * DIM, all = N * vector;
    double n_hosted = (SHARDS - 1) / comm.size + 1, shard = 1.05 * 1.05 * N / SHARDS; /* rows, at most */
    double rows = n_hosted * shard * (vector + 150), graph = shard * (vector + DIM + 16 * M + 100);
    double bounds = 3 * (double)myr_sample_bytes + 4 * (double)myr_message_bytes + 3.0 * 8 * MEBI + 8 * MEBI;
    struct rlimit before, limit;
    myr_build_report report;
    snprintf(set, sizeof set, "%s/set.u8bin", folder);
    snprintf(few, sizeof few, "%s/few.u8bin", folder);
    snprintf(index, sizeof index, "%s/index", folder);
    snprintf(warm, sizeof warm, "%s/warm", folder);
    if (comm.rank == 0) {
        write_set(set, N);
        write_set(few, FEW);
    }
    MPI_Barrier(comm.mpi);
    multiply_once();
    check(build(few, warm, &report) == MYR_OK); /* libraries take what they keep */

    myr_return_memory();
    check(getrlimit(RLIMIT_DATA, &before) == 0);
    limit = before;
    limit.rlim_cur = (rlim_t)(data_bytes() + rows + graph + bounds);
    if (comm.rank == 0)
        printf("%d ranks: %.0f MiB each, beside what libraries keep, for a set of %.0f MiB\n", comm.size,
               (rows + graph + bounds) / MEBI, all / MEBI);
    check(comm.size == 1 || rows + graph + bounds < all);
    check(setrlimit(RLIMIT_DATA, &limit) == 0);
    char *volatile too_much = malloc((size_t)(rows + graph + bounds) + MEBI); /* what nobody reads must not vanish */
    check(!too_much);                                                         /* the limit is one */
    free(too_much);
    check(build(set, index, &report) == MYR_OK && report.n_items == N && report.n_rows > N);
    ask(index);
    myr_change_report changed;
    const char *operands[1] = {few};
    myr_change_options options = {.folder = index, .operands = operands, .n_operands = 1, .n_threads = 1};
    check(myr_change(&comm, &options, &changed) == MYR_OK && changed.n_items == N + FEW);
    check(setrlimit(RLIMIT_DATA, &before) == 0);
}

int main(int argc, char **argv)
{
    char folder[FOLDER_BYTES];
#ifdef __SANITIZE_ADDRESS__
    printf("skipped: the sanitizer's own memory is beyond any limit\n");
    return 0;
#endif
    begin_test(&argc, &argv, folder);
    myr_message_bytes = MEBI;
    myr_sample_bytes = 4 * MEBI;
    ranks_stay_within_their_share(folder);
    return end_test(folder);
}
