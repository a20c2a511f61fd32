/*
 * Queries over the shards of a cluster, in rounds.
 *
 * Every rank coordinates its slice of a round: it routes its queries, sends each to the hosts of the shards that it
 * visits, once a host, and merges what they answer. Every rank serves, too (desk.h). All merges are by (distance, id),
 * so that neither ranks nor threads nor rounds show in the hits.
 *
 * A round's messages: how many queries and visits go from each rank to each; visits; vectors; rows of hits. A shard
 * with several hosts is asked where this coordinator has sent least in the round.
 */
#include "dist/desk.h"

#include "base/alloc.h"
#include "base/progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROUND_QUERIES = 4096 }; /* a rank */

/* What a coordinator sends to one host. */
typedef struct parcel {
    myr_buffer queries; /* uint32_t places in the coordinator's slice */
    myr_buffer visits;
    size_t n_queries, n_visits;
    size_t latest; /* place of the query added last, plus one */
} parcel;

typedef struct engine {
    myr_cluster *cluster;
    const myr_search_options *options;
    size_t dim, n_ranks;
    double n_probes; /* of this rank's slices */

    /* as a coordinator */
    float *slice; /* (n_slice, dim) */
    size_t n_slice;
    parcel *parcels; /* (n_ranks) */
    myr_hit *hits;   /* (n_slice, k) */
    size_t *load;    /* (n_ranks) visits sent */
    myr_buffer sent_visits, sent_vectors, answers;

    myr_desk desk; /* as a host */

    int (*counts_out)[2];                             /* (n_ranks) queries and visits */
    int *sizes, *places, *other_sizes, *other_places; /* (n_ranks) of a message's parts */

    myr_search_phases phases;
    double sent_bytes; /* to other ranks */
    double *round_s;   /* root: (n_rounds) */
    size_t n_rounds;
} engine;

static void clear_hits(myr_hit *hits, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hits[i] = (myr_hit){.id = -1, .distance = INFINITY};
}

/* ---- The coordinator: visits, parcels ---- */

static bool visits_all(const myr_cluster *cluster, const myr_search_options *options)
{
    size_t n_shards = cluster->manifest.n_shards;
    return options->exact || (!options->routed && (options->n_probe == 0 || options->n_probe >= n_shards));
}

/* The host of a shard to which least was sent. Ranks begin at different ones. */
static size_t choose_host(const engine *self, size_t shard)
{
    const myr_hosts *hosts = &self->cluster->hosts;
    size_t n = myr_hosts_count(hosts, shard), start = (size_t)self->cluster->comm->rank % n, best = 0;
    for (size_t i = 0; i < n; i++) {
        size_t rank = (size_t)hosts->rank[hosts->first[shard] + (start + i) % n];
        if (i == 0 || self->load[rank] < self->load[best])
            best = rank;
    }
    return best;
}

static void add_visit(engine *self, size_t query, uint32_t shard)
{
    size_t host = choose_host(self, shard);
    parcel *to = &self->parcels[host];
    self->load[host]++;
    self->cluster->visits[shard]++;
    if (to->latest != query + 1) {
        uint32_t place = (uint32_t)query;
        myr_buffer_append(&to->queries, &place, sizeof place);
        to->latest = query + 1;
        to->n_queries++;
    }
    myr_visit one = {.query = (uint32_t)to->n_queries - 1, .shard = shard};
    myr_buffer_append(&to->visits, &one, sizeof one);
    to->n_visits++;
}

static void visit_everything(engine *self)
{
    const myr_cluster *cluster = self->cluster;
    for (size_t q = 0; q < self->n_slice; q++)
        for (size_t s = 0; s < cluster->manifest.n_shards; s++)
            add_visit(self, q, (uint32_t)s);
    self->n_probes += (double)self->n_slice * (double)cluster->manifest.n_shards;
}

static myr_status visit_likeliest(engine *self)
{
    const myr_search_options *options = self->options;
    const myr_cluster *cluster = self->cluster;
    size_t n = self->n_slice, n_shards = cluster->manifest.n_shards;
    uint32_t *shards = myr_alloc(n * n_shards, sizeof *shards);
    size_t *n_found = myr_alloc(n, sizeof *n_found);
    myr_status status = shards && n_found ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to route %zu queries", n);
    if (status == MYR_OK)
        status = myr_router_route(cluster->router, self->slice, n, options->routed ? n_shards : options->n_probe,
                                  options->routed ? options->left : -1, cluster->pool, shards, NULL, n_found);
    for (size_t q = 0; q < n && status == MYR_OK; q++) {
        for (size_t i = 0; i < n_found[q]; i++)
            add_visit(self, q, shards[q * n_shards + i]);
        self->n_probes += (double)n_found[q];
    }
    free(shards);
    free(n_found);
    return status;
}

static myr_status pack_parcels(engine *self)
{
    size_t n_queries = 0, n_visits = 0, row_bytes = self->dim * sizeof *self->slice;
    for (size_t r = 0; r < self->n_ranks; r++) {
        n_queries += self->parcels[r].n_queries;
        n_visits += self->parcels[r].n_visits;
        if (self->parcels[r].queries.failed || self->parcels[r].visits.failed)
            return myr_fail(MYR_ERR_NOMEM, "no memory for the visits of %zu queries", self->n_slice);
    }
    if (!myr_reserve(&self->sent_visits, n_visits * sizeof(myr_visit)) ||
        !myr_reserve(&self->sent_vectors, n_queries * row_bytes) ||
        !myr_reserve(&self->answers, n_queries * self->options->k * sizeof(myr_hit)))
        return myr_fail(MYR_ERR_NOMEM, "no memory to send %zu queries", n_queries);
    char *visits = self->sent_visits.data, *vectors = self->sent_vectors.data;
    for (size_t r = 0; r < self->n_ranks; r++) {
        const parcel *to = &self->parcels[r];
        const uint32_t *places = (const uint32_t *)(const void *)to->queries.data;
        if (to->n_visits > 0)
            memcpy(visits, to->visits.data, to->n_visits * sizeof(myr_visit));
        visits += to->n_visits * sizeof(myr_visit);
        for (size_t i = 0; i < to->n_queries; i++, vectors += row_bytes)
            memcpy(vectors, self->slice + places[i] * self->dim, row_bytes);
        self->counts_out[r][0] = (int)to->n_queries;
        self->counts_out[r][1] = (int)to->n_visits;
    }
    return MYR_OK;
}

static myr_status make_parcels(engine *self)
{
    myr_status status = MYR_OK;
    for (size_t r = 0; r < self->n_ranks; r++) {
        parcel *to = &self->parcels[r];
        to->queries.size = to->visits.size = 0;
        to->n_queries = to->n_visits = to->latest = 0;
        self->load[r] = 0;
    }
    if (visits_all(self->cluster, self->options))
        visit_everything(self);
    else
        status = visit_likeliest(self);
    return status == MYR_OK ? pack_parcels(self) : status;
}

/* What the hosts found, merged, in the order of ranks. */
static void merge_answers(engine *self)
{
    size_t k = self->options->k;
    const myr_hit *row = (const myr_hit *)(const void *)self->answers.data;
    clear_hits(self->hits, self->n_slice * k);
    for (size_t r = 0; r < self->n_ranks; r++) {
        const uint32_t *places = (const uint32_t *)(const void *)self->parcels[r].queries.data;
        for (size_t i = 0; i < self->parcels[r].n_queries; i++, row += k)
            myr_topk_merge(self->hits + places[i] * k, k, row, k);
    }
}

/* ---- Messages ---- */

/* Parts of a message in bytes, one behind the other: counts (n_ranks)[2], of which `which` counts elements. */
static void lay_out(const engine *self, int (*counts)[2], int which, size_t element_bytes, int *sizes, int *places)
{
    size_t at = 0;
    for (size_t r = 0; r < self->n_ranks; r++) {
        sizes[r] = (int)((size_t)counts[r][which] * element_bytes);
        places[r] = (int)at;
        at += (size_t)sizes[r];
    }
}

/* Collective. */
static void exchange(engine *self, int (*out)[2], int (*in)[2], int which, size_t element_bytes, const myr_buffer *from,
                     myr_buffer *to)
{
    lay_out(self, out, which, element_bytes, self->sizes, self->places);
    lay_out(self, in, which, element_bytes, self->other_sizes, self->other_places);
    MPI_Alltoallv(from->data, self->sizes, self->places, MPI_BYTE, to->data, self->other_sizes, self->other_places,
                  MPI_BYTE, self->cluster->comm->mpi);
    for (size_t r = 0; r < self->n_ranks; r++)
        self->sent_bytes += r == (size_t)self->cluster->comm->rank ? 0 : self->sizes[r];
}

static size_t slice_begin(const engine *self, size_t n, size_t rank)
{
    return n * rank / self->n_ranks;
}

/* Rows of a round from the root to their coordinators, or the other way. Collective. */
static void lay_out_slices(const engine *self, size_t n, size_t row_bytes)
{
    for (size_t r = 0; r < self->n_ranks; r++) {
        self->places[r] = (int)(slice_begin(self, n, r) * row_bytes);
        self->sizes[r] = (int)((slice_begin(self, n, r + 1) - slice_begin(self, n, r)) * row_bytes);
    }
}

/* Seconds since then, which becomes now. */
static double lap(double *then_s)
{
    double now_s = myr_now_s(), passed_s = now_s - *then_s;
    *then_s = now_s;
    return passed_s;
}

/* One round. Collective. queries and hits on the root. */
static myr_status run_round(engine *self, const float *queries, size_t n, myr_hit *hits)
{
    const myr_comm *comm = self->cluster->comm;
    size_t row_bytes = self->dim * sizeof *queries, hit_bytes = self->options->k * sizeof *hits;
    double then_s = myr_now_s();
    self->n_slice = slice_begin(self, n, (size_t)comm->rank + 1) - slice_begin(self, n, (size_t)comm->rank);
    lay_out_slices(self, n, row_bytes);
    MPI_Scatterv(queries, self->sizes, self->places, MPI_BYTE, self->slice, self->sizes[comm->rank], MPI_BYTE, 0,
                 comm->mpi);

    self->phases.exchange_s += lap(&then_s);
    memset(self->counts_out, 0, self->n_ranks * sizeof *self->counts_out);
    myr_status status = make_parcels(self);
    self->phases.route_s += lap(&then_s);
    MPI_Alltoall(self->counts_out, 2, MPI_INT, self->desk.counts, 2, MPI_INT, comm->mpi);
    status = myr_comm_agree(comm, status == MYR_OK ? myr_desk_expect(&self->desk) : status);
    if (status != MYR_OK)
        return status;
    exchange(self, self->counts_out, self->desk.counts, 1, sizeof(myr_visit), &self->sent_visits, &self->desk.visits);
    exchange(self, self->counts_out, self->desk.counts, 0, row_bytes, &self->sent_vectors, &self->desk.vectors);
    self->phases.exchange_s += lap(&then_s);
    status = myr_desk_serve(&self->desk);
    self->phases.search_s += lap(&then_s);
    status = myr_comm_agree(comm, status);
    self->phases.wait_s += lap(&then_s);
    if (status != MYR_OK)
        return status;
    exchange(self, self->desk.counts, self->counts_out, 0, hit_bytes, &self->desk.replies, &self->answers);
    self->phases.exchange_s += lap(&then_s);
    merge_answers(self);
    self->phases.merge_s += lap(&then_s);
    lay_out_slices(self, n, hit_bytes);
    MPI_Gatherv(self->hits, self->sizes[comm->rank], MPI_BYTE, hits, self->sizes, self->places, MPI_BYTE, 0, comm->mpi);
    self->phases.exchange_s += lap(&then_s);
    return MYR_OK;
}

/* ---- The whole ---- */

/* Queries a round: bounded in number, in the bytes of every message, and in what a rank finds before it merges. */
static size_t choose_round(const myr_cluster *cluster, const myr_search_options *options, size_t n_queries)
{
    size_t most = options->batch > 0 ? options->batch : (size_t)ROUND_QUERIES * (size_t)cluster->comm->size;
    size_t by_hits = ((size_t)64 << 20) / (options->k * sizeof(myr_hit));
    size_t by_queries = ((size_t)256 << 20) / ((size_t)cluster->manifest.dim * sizeof(float));
    size_t by_visits = ((size_t)1 << 26) / cluster->manifest.n_shards;
    size_t hosted = (cluster->manifest.n_shards - 1) / (size_t)cluster->comm->size + 1; /* shards of a rank */
    size_t by_found = ((size_t)256 << 20) / (options->k * sizeof(myr_hit)) / hosted;
    most = most < by_hits ? most : by_hits;
    most = most < by_queries ? most : by_queries;
    most = most < by_visits ? most : by_visits;
    most = most < by_found ? most : by_found;
    most = most > 0 ? most : 1;
    return n_queries < most ? n_queries : most;
}

static myr_status make_engine(myr_cluster *cluster, const myr_search_options *options, size_t a_round, size_t n_rounds,
                              engine *self)
{
    size_t n_ranks = (size_t)cluster->comm->size, dim = (size_t)cluster->manifest.dim, n_slice = a_round / n_ranks + 1;
    *self = (engine){.cluster = cluster,
                     .options = options,
                     .dim = dim,
                     .n_ranks = n_ranks,
                     .slice = myr_alloc(n_slice, dim * sizeof(float)),
                     .hits = myr_alloc(n_slice, options->k * sizeof(myr_hit)),
                     .parcels = myr_alloc(n_ranks, sizeof(parcel)),
                     .load = myr_alloc(n_ranks, sizeof(size_t)),
                     .counts_out = myr_alloc(n_ranks, sizeof *self->counts_out),
                     .sizes = myr_alloc(n_ranks, sizeof(int)),
                     .places = myr_alloc(n_ranks, sizeof(int)),
                     .other_sizes = myr_alloc(n_ranks, sizeof(int)),
                     .other_places = myr_alloc(n_ranks, sizeof(int)),
                     .round_s = myr_alloc(cluster->comm->rank == 0 ? n_rounds : 0, sizeof(double))};
    bool whole = self->slice && self->hits && self->parcels && self->load && self->counts_out && self->sizes &&
                 self->places && self->other_sizes && self->other_places && self->round_s;
    return whole ? myr_desk_init(cluster, options, &self->desk)
                 : myr_fail(MYR_ERR_NOMEM, "no memory for a round of %zu queries", a_round);
}

static void free_engine(engine *self)
{
    for (size_t r = 0; self->parcels && r < self->n_ranks; r++) {
        myr_buffer_free(&self->parcels[r].queries);
        myr_buffer_free(&self->parcels[r].visits);
    }
    myr_buffer_free(&self->sent_visits);
    myr_buffer_free(&self->sent_vectors);
    myr_buffer_free(&self->answers);
    myr_desk_fini(&self->desk);
    free(self->slice);
    free(self->hits);
    free(self->parcels);
    free(self->load);
    free(self->counts_out);
    free(self->sizes);
    free(self->places);
    free(self->other_sizes);
    free(self->other_places);
    free(self->round_s);
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Of all ranks, on the root. Collective. */
static void make_report(engine *self, size_t n_queries, double wall_s, myr_search_report *report)
{
    const myr_search_phases *phases = &self->phases;
    double n = n_queries > 0 ? (double)n_queries : 1, n_ranks = (double)self->n_ranks, slowest_s = 0;
    double mine[9] = {self->n_probes,  phases->route_s, phases->exchange_s, phases->search_s,
                      phases->merge_s, phases->wait_s,  self->sent_bytes},
           all[9] = {0};
    for (int i = 0; i < myr_pool_n_threads(self->cluster->pool); i++) {
        mine[7] += (double)self->desk.stats[i].n_hops;
        mine[8] += (double)self->desk.stats[i].n_distances;
    }
    MPI_Reduce(mine, all, 9, MPI_DOUBLE, MPI_SUM, 0, self->cluster->comm->mpi);
    MPI_Reduce(&phases->search_s, &slowest_s, 1, MPI_DOUBLE, MPI_MAX, 0, self->cluster->comm->mpi);
    if (!report)
        return;
    *report = (myr_search_report){.probes_per_query = all[0] / n,
                                  .hops_per_query = all[7] / n,
                                  .distances_per_query = all[8] / n,
                                  .wall_s = wall_s,
                                  .n_rounds = self->n_rounds,
                                  .phases = {.route_s = all[1] / n_ranks,
                                             .exchange_s = all[2] / n_ranks,
                                             .search_s = all[3] / n_ranks,
                                             .merge_s = all[4] / n_ranks,
                                             .wait_s = all[5] / n_ranks},
                                  .imbalance = all[3] > 0 ? slowest_s * n_ranks / all[3] : 1,
                                  .sent_bytes = all[6]};
    if (self->cluster->comm->rank == 0 && self->n_rounds > 0) {
        qsort(self->round_s, self->n_rounds, sizeof *self->round_s, by_value);
        report->round_p50_s = self->round_s[self->n_rounds / 2];
        report->round_p99_s = self->round_s[self->n_rounds * 99 / 100];
    }
}

myr_status myr_cluster_search(myr_cluster *cluster, const float *queries, size_t n_queries,
                              const myr_search_options *options, myr_hit *hits, myr_search_report *report)
{
    if (strcmp(cluster->manifest.metric, "ip") == 0 && !visits_all(cluster, options))
        return myr_fail(MYR_ERR_UNSUPPORTED,
                        "the greatest inner products may lie in any shard: ask all of them (--probe all)");
    size_t dim = (size_t)cluster->manifest.dim, a_round = choose_round(cluster, options, n_queries);
    size_t n_rounds = a_round > 0 ? (n_queries + a_round - 1) / a_round : 0;
    double start_s = myr_now_s(), then_s = start_s;
    engine self;
    myr_status status = myr_comm_agree(cluster->comm, make_engine(cluster, options, a_round, n_rounds, &self));
    for (size_t first = 0; first < n_queries && status == MYR_OK; first += a_round) {
        size_t n = n_queries - first < a_round ? n_queries - first : a_round;
        status = run_round(&self, queries ? queries + first * dim : NULL, n, hits ? hits + first * options->k : NULL);
        double now_s = myr_now_s();
        if (cluster->comm->rank == 0)
            self.round_s[self.n_rounds++] = now_s - then_s;
        then_s = now_s;
    }
    if (status == MYR_OK)
        make_report(&self, n_queries, myr_now_s() - start_s, report);
    free_engine(&self);
    return status;
}
