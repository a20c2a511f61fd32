/*
 * Queries over ranks, against an oracle that knows of no ranks: each shard's file opened and asked on its own, one
 * query at a time, and all that was found sorted. Run by ctest under mpirun with several numbers of ranks.
 *
 * Here all ranks are of one node. So that messages are tested, hosts are also taken as on nodes of their own, or two to
 * a node: every rank has all shards open, whoever is said to host them.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "base/rng.h"
#include "dist/build.h"
#include "dist/cluster.h"
#include "myriops/vectors.h"
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 3000, DIM = 24, SHARDS = 5, ASKED = 230, K = 6, EF = 20 };

static float rows[N * DIM], queries[ASKED * DIM];

/* ---- an index ---- */

static void make_data(void)
{
    for (size_t i = 0; i < N * DIM; i++)
        rows[i] = (float)(myr_hash64(i / DIM % 20 * DIM + i % DIM, 5) % 200 + myr_hash64(i, 9) % 50);
    for (size_t i = 0; i < ASKED * DIM; i++)
        queries[i] = rows[i * 11] + (float)(myr_hash64(i, 3) % 8);
}

static void build(const char *folder, char index[128])
{
    char file[128];
    snprintf(file, sizeof file, "%s/rows.fbin", folder);
    snprintf(index, 128, "%s/index", folder);
    if (comm.rank == 0)
        check(myr_vectors_write(file, rows, N, DIM) == MYR_OK);
    MPI_Barrier(comm.mpi);
    const char *operands[] = {file};
    myr_build_options options = {.operands = operands,
                                 .n_operands = 1,
                                 .folder = index,
                                 .metric = "l2",
                                 .n_shards = SHARDS,
                                 .M = 8,
                                 .ef_construction = 60,
                                 .seed = 1,
                                 .n_threads = 1};
    myr_build_report report;
    check(myr_build(&comm, &options, &report) == MYR_OK && report.n_shards == SHARDS);
}

/* ---- the oracle ---- */

static int by_hit(const void *a, const void *b)
{
    return myr_hit_before(*(const myr_hit *)a, *(const myr_hit *)b) ? -1 : 1;
}

static size_t list_shards(const myr_cluster *cluster, const float *query, const myr_search_options *options,
                          uint32_t *shards)
{
    size_t n = SHARDS;
    for (uint32_t s = 0; s < SHARDS; s++)
        shards[s] = s;
    if (options->routed || options->n_probe > 0)
        check(myr_router_route(cluster->router, query, 1, options->routed ? SHARDS : options->n_probe,
                               options->routed ? options->left : -1, NULL, shards, NULL, &n) == MYR_OK);
    return n;
}

static void ask_oracle(const myr_cluster *cluster, const myr_search_options *options, myr_hit *hits)
{
    for (size_t q = 0; q < ASKED; q++) {
        myr_hit found[SHARDS * K];
        uint32_t shards[SHARDS];
        const float *query = queries + q * DIM;
        size_t n = list_shards(cluster, query, options, shards), n_found = n * K;
        for (size_t i = 0; i < n; i++) {
            const myr_hnsw *graph = cluster->shards[shards[i]].graph;
            myr_hnsw_searcher *searcher = NULL;
            if (options->exact) {
                check(myr_hnsw_search_exact(graph, NULL, query, 1, K, found + i * K) == MYR_OK);
                continue;
            }
            check(myr_hnsw_searcher_create(graph, &searcher) == MYR_OK &&
                  myr_hnsw_search(searcher, query, K, EF, found + i * K, NULL) == MYR_OK);
            myr_hnsw_searcher_free(searcher);
        }
        qsort(found, n_found, sizeof *found, by_hit);
        for (size_t i = 0; i < K; i++)
            hits[q * K + i] = i < n_found && found[i].id >= 0 ? found[i] : (myr_hit){.id = -1, .distance = INFINITY};
    }
}

static bool are_same(const myr_hit *a, const myr_hit *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i].id != b[i].id || memcmp(&a[i].distance, &b[i].distance, sizeof a[i].distance) != 0)
            return false;
    return true;
}

/* ---- hosts ---- */

/* As if so many ranks at a time were of one node. Collective. */
static void open_as(const char *index, int n_threads, int a_node, myr_cluster *cluster)
{
    check(myr_cluster_open(&comm, index, n_threads, NULL, cluster) == MYR_OK);
    int *node = myr_alloc((size_t)comm.size, sizeof *node);
    for (int r = 0; r < comm.size; r++)
        node[r] = r / a_node * a_node;
    myr_hosts_free(&cluster->hosts);
    check(myr_hosts_create(SHARDS, comm.size, NULL, &cluster->hosts) == MYR_OK);
    check(myr_hosts_share(&cluster->hosts, comm.size, node) == MYR_OK);
    for (size_t s = 0; s < SHARDS; s++)
        check(myr_hosts_keeps(&cluster->hosts, s, (int)s % comm.size) && cluster->shards[s].graph);
    free(node);
}

static void neighbours_host_each_others_shards(void)
{
    static const int node[] = {0, 0, 2, 2};
    myr_hosts hosts;
    check(myr_hosts_create(6, 4, NULL, &hosts) == MYR_OK && myr_hosts_share(&hosts, 4, node) == MYR_OK);
    for (size_t s = 0; s < 6; s++) {
        int keeper = (int)s % 4;
        check(myr_hosts_count(&hosts, s) == 2 && myr_hosts_keeps(&hosts, s, keeper));
        for (int r = 0; r < 4; r++)
            check(myr_hosts_has(&hosts, s, r) == (node[r] == node[keeper]));
    }
    myr_hosts_free(&hosts);
}

/* ---- tests ---- */

static void hits_are_those_of_the_oracle(const char *index)
{
    static const myr_search_options kinds[] = {{.k = K, .ef = EF},
                                               {.k = K, .ef = EF, .n_probe = 2},
                                               {.k = K, .ef = EF, .routed = true, .left = 0.05F},
                                               {.k = K, .ef = EF, .exact = true}};
    static const size_t batches[] = {1, 7, 0};
    static myr_hit wanted[ASKED * K], hits[ASKED * K];
    for (int variant = 0; variant < 6; variant++) {
        myr_cluster cluster;
        int n_threads = variant % 2 + 1, a_node = variant / 2 == 2 ? comm.size : variant / 2 + 1;
        open_as(index, n_threads, a_node, &cluster);
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            ask_oracle(&cluster, &kinds[i], wanted);
            for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
                myr_search_options options = kinds[i];
                myr_search_report report;
                options.batch = batches[b];
                memset(hits, 0, sizeof hits);
                check(myr_cluster_search(&cluster, comm.rank == 0 ? queries : NULL, ASKED, &options, hits, &report) ==
                      MYR_OK);
                if (comm.rank != 0)
                    continue;
                check(are_same(hits, wanted, ASKED * K));
                check(report.n_rounds >= (batches[b] ? ASKED / batches[b] : 1) && report.round_p50_s > 0);
                check(report.probes_per_query > 0.99 && (i != 1 || fabs(report.probes_per_query - 2) < 1e-9));
                check(a_node >= comm.size || options.exact || report.sent_bytes > 0);
            }
        }
        myr_cluster_close(&cluster);
    }
}

/* Queries that only one rank has, fewer than ranks, or none. */
static void any_rank_may_have_the_queries(const char *index)
{
    static myr_hit wanted[ASKED * K], hits[ASKED * K];
    myr_cluster cluster;
    myr_search_options options = {.k = K, .ef = EF};
    open_as(index, 1, 1, &cluster);
    ask_oracle(&cluster, &options, wanted);
    for (int asking = 0; asking < comm.size; asking++) {
        size_t n = comm.rank == asking ? ASKED : 0;
        options.batch = asking % 2 ? 50 : 0;
        check(myr_cluster_search_own(&cluster, queries, n, &options, hits, NULL) == MYR_OK);
        check(are_same(hits, wanted, n * K));
    }
    for (size_t n = 0; n < 3; n++) {
        myr_search_report report;
        options.batch = n % 2;
        check(myr_cluster_search(&cluster, queries, n, &options, hits, &report) == MYR_OK);
        check(comm.rank != 0 ||
              (are_same(hits, wanted, n * K) && report.n_rounds <= n && (report.n_rounds > 0) == (n > 0)));
    }
    myr_cluster_close(&cluster);
}

/* One rank fails: as host, as coordinator, by a signal. All end with its error, and can search again. */
static void one_failure_is_everybodys(const char *index)
{
    static myr_hit wanted[ASKED * K], hits[ASKED * K];
    static float spoilt[ASKED * DIM];
    myr_cluster cluster;
    const myr_search_options options = {.k = K, .ef = EF};
    open_as(index, 2, 1, &cluster);
    ask_oracle(&cluster, &options, wanted);
    memcpy(spoilt, queries, sizeof spoilt);
    for (size_t i = 100 * DIM; i < ASKED * DIM; i++)
        spoilt[i] = NAN;
    for (int failing = 0; failing < comm.size; failing++)
        for (size_t batch = 0; batch < 40; batch += 13) {
            bool fails = comm.rank == failing;
            myr_search_options here = options;
            here.batch = batch;
            here.ef = fails ? K - 1 : EF; /* which no search takes; with more ranks than shards it may go unasked */
            myr_status status = myr_cluster_search_own(&cluster, queries, ASKED, &here, hits, NULL);
            check(status == MYR_ERR_ARG);
            here = options;
            here.batch = batch;
            here.n_probe = 2;
            status = myr_cluster_search_own(&cluster, fails ? spoilt : queries, ASKED, &here, hits, NULL);
            check(status != MYR_OK && strstr(myr_error_detail(), "finite"));
            here.n_probe = 0;
            status = myr_cluster_search_own(&cluster, fails ? spoilt : queries, ASKED, &here, hits, NULL);
            check(status == MYR_ERR_ARG && strstr(myr_error_detail(), "finite"));
            myr_stop_requested = fails;
            check(myr_cluster_search_own(&cluster, queries, ASKED, &here, hits, NULL) == MYR_ERR_STOPPED);
            myr_stop_requested = false;
            check(myr_cluster_search_own(&cluster, queries, ASKED, &here, hits, NULL) == MYR_OK);
            check(are_same(hits, wanted, ASKED * K));
        }
    myr_cluster_close(&cluster);
}

int main(int argc, char **argv)
{
    char folder[FOLDER_BYTES], index[128];
    begin_test(&argc, &argv, folder);
    make_data();
    build(folder, index);
    neighbours_host_each_others_shards();
    hits_are_those_of_the_oracle(index);
    any_rank_may_have_the_queries(index);
    one_failure_is_everybodys(index);
    return end_test(folder);
}
