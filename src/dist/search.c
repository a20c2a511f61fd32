/*
 * Queries over the shards of a cluster.
 *
 * Every rank is coordinator (coordinator.h) and host (desk.h) at once, in one loop: take what has arrived, ask more,
 * serve what lies on the desk. A rank that has all answers says so to all others, and goes on serving until all have
 * said it: then nothing is under way, and the loop ends everywhere. A rank that fails answers parcels with its failure,
 * asks no more, and says with its farewell that it failed, so that the others ask no more either; agreement on the
 * error follows the loop.
 *
 * With a batch given, ranks take turns, one batch at a time: a rank asks when those before it have said that they are
 * done. All merges are by (distance, id), so that neither ranks nor threads nor batches show in the hits.
 */
#include "dist/coordinator.h"

#include "base/alloc.h"
#include "base/progress.h"
#include "dist/exchange.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = 4096,   /* queries: of fewer, too few visit a shard while it is in the cache */
    WINDOW = 4,     /* batches under way */
    MOST_JOBS = 16, /* on the desk at once */
    PATIENCE = 1000 /* looks for mail in vain before others get the processor */
};

/* What a rank says when it has all its answers. */
typedef struct farewell {
    int has_failed;
} farewell;

typedef struct engine {
    myr_cluster *cluster;
    const myr_search_options *options;
    myr_mail mail;
    myr_coordinator coordinator;
    myr_desk desk;
    myr_letter parcels[MOST_JOBS]; /* that wait to be served */
    size_t n_parcels;
    size_t most_hits; /* found at once, in all visits on the desk */
    myr_status status;
    char detail[1024]; /* of the first failure */
    farewell farewell;
    MPI_Request *farewells; /* (n_ranks) */
    bool has_left;
    size_t n_left;    /* ranks that have said farewell, this one included */
    size_t n_earlier; /* of those, the ones before this rank */
    size_t n_idle;
    double exchange_s, search_s, wait_s;
} engine;

static bool visits_all(const myr_cluster *cluster, const myr_search_options *options)
{
    size_t n_shards = cluster->manifest.n_shards;
    return options->exact || (!options->routed && (options->n_probe == 0 || options->n_probe >= n_shards));
}

/* Adds the seconds since then, which becomes now, but for those that the coordinator has counted. */
static void lap(const engine *self, double *then_s, double *counted_s, double *phase_s)
{
    double now_s = myr_now_s(), all_s = self->coordinator.route_s + self->coordinator.merge_s;
    *phase_s += now_s - *then_s - (all_s - *counted_s);
    *counted_s = all_s;
    *then_s = now_s;
}

/* The first failure counts: what follows from it says less. */
static void note(engine *self, myr_status status)
{
    if (status == MYR_OK)
        return;
    if (self->status == MYR_OK) {
        self->status = status;
        snprintf(self->detail, sizeof self->detail, "%s", myr_error_detail());
    }
    self->coordinator.has_stopped = true;
}

/* ---- One step each ---- */

static void take_farewell(engine *self, const myr_letter *letter)
{
    farewell said;
    memcpy(&said, letter->bytes, sizeof said);
    self->n_left++;
    self->n_earlier += letter->from < self->cluster->comm->rank;
    self->coordinator.is_free[letter->from] = true;
    self->coordinator.has_stopped = self->coordinator.has_stopped || said.has_failed;
}

/* Takes what has arrived. Parcels stay in their boxes until they are served. */
static bool take_mail(engine *self)
{
    myr_letter letter;
    bool any = false;
    myr_mail_poll(&self->mail);
    while (self->n_parcels < MOST_JOBS && myr_mail_take(&self->mail, &letter)) {
        any = true;
        if (letter.kind == MYR_MAIL_PARCEL) {
            self->parcels[self->n_parcels++] = letter;
            continue;
        }
        if (letter.kind == MYR_MAIL_ANSWER)
            myr_coordinator_merge(&self->coordinator, &letter);
        else
            take_farewell(self, &letter);
        myr_mail_return(&self->mail, &letter);
    }
    return any;
}

static void move_mail(void *context)
{
    engine *self = context;
    myr_mail_poll(&self->mail);
}

static bool has_turn(const engine *self)
{
    return self->options->batch == 0 || self->n_earlier == (size_t)self->cluster->comm->rank;
}

static void say_farewell(engine *self)
{
    const myr_comm *comm = self->cluster->comm;
    self->farewell.has_failed = self->status != MYR_OK;
    self->has_left = true;
    self->n_left++;
    self->coordinator.is_free[comm->rank] = true;
    for (int r = 0; r < comm->size; r++)
        if (r != comm->rank)
            myr_mail_send(&self->mail, MYR_MAIL_NEWS, r, &self->farewell, sizeof self->farewell, &self->farewells[r]);
}

/* The jobs on the desk: this rank's own, then others' in the order in which they came, as many as memory bears. */
static size_t gather_jobs(engine *self, myr_job *jobs, size_t *own, size_t *n_own, size_t *n_taken)
{
    size_t n = 0, n_hits = 0, n_wanted = myr_coordinator_own(&self->coordinator, own, MOST_JOBS);
    *n_own = *n_taken = 0;
    for (; *n_own < n_wanted && self->status == MYR_OK; ++*n_own, n++) {
        note(self, myr_coordinator_job(&self->coordinator, own[*n_own], &jobs[n]));
        n_hits += jobs[n].n_visits * self->options->k;
    }
    for (; *n_taken < self->n_parcels; ++*n_taken, n++) {
        jobs[n] = myr_parcel_job(&self->parcels[*n_taken]);
        n_hits += jobs[n].n_visits * self->options->k;
        if (n > 0 && n_hits > self->most_hits)
            break;
    }
    if (self->status != MYR_OK)
        *n_own = n_wanted; /* all are ended, unserved */
    return n;
}

/* Serves what lies on the desk; false where there is nothing. */
static bool serve(engine *self)
{
    myr_job jobs[2 * MOST_JOBS];
    size_t own[MOST_JOBS], n_own, n_taken, n_jobs = gather_jobs(self, jobs, own, &n_own, &n_taken);
    if (n_own + n_taken == 0)
        return false;
    if (self->status == MYR_OK)
        note(self, myr_desk_serve(&self->desk, jobs, n_jobs));
    for (size_t i = 0; i < n_taken; i++)
        myr_mail_answer(&self->mail, &self->parcels[i],
                        myr_parcel_reply(&self->parcels[i], self->options, self->status));
    self->n_parcels -= n_taken;
    memmove(self->parcels, self->parcels + n_taken, self->n_parcels * sizeof *self->parcels);
    for (size_t i = 0; i < n_own; i++)
        myr_coordinator_serve(&self->coordinator, own[i], self->status);
    return true;
}

/* Others get the processor where there are more ranks than processors. */
static void idle(engine *self, bool any)
{
    self->n_idle = any ? 0 : self->n_idle + 1;
    if (self->n_idle > PATIENCE)
        sched_yield();
}

static void run(engine *self)
{
    size_t n_ranks = (size_t)self->cluster->comm->size;
    double then_s = myr_now_s(), counted_s = 0;
    while (self->n_left < n_ranks || self->n_parcels > 0) {
        bool any = take_mail(self);
        lap(self, &then_s, &counted_s, any ? &self->exchange_s : &self->wait_s);
        if (self->status == MYR_OK && myr_stop_requested)
            note(self, myr_fail(MYR_ERR_STOPPED, "stopped by a signal"));
        if (has_turn(self) && !self->coordinator.has_stopped)
            note(self, myr_coordinator_ask(&self->coordinator));
        lap(self, &then_s, &counted_s, &self->exchange_s);
        if (serve(self)) {
            any = true;
            lap(self, &then_s, &counted_s, &self->search_s);
        }
        if (!self->has_left && myr_coordinator_is_done(&self->coordinator))
            say_farewell(self);
        else
            idle(self, any);
    }
}

/* ---- The whole ---- */

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Queries of a batch: bounded in number, and in the bytes of messages, of what hosts find, and of all parcels. */
static size_t choose_batch(const myr_cluster *cluster, const myr_search_options *options)
{
    size_t n_shards = cluster->manifest.n_shards, n_ranks = (size_t)cluster->comm->size;
    size_t hit_bytes = options->k * sizeof(myr_hit), row_bytes = (size_t)cluster->manifest.dim * sizeof(float);
    size_t hosts = least(n_ranks, options->n_probe > 0 ? least(options->n_probe, n_shards) : n_shards),
           most = options->batch > 0 ? options->batch : BATCH;
    most = least(most, ((size_t)1 << 26) / n_shards);               /* visits */
    most = least(most, ((size_t)256 << 20) / hit_bytes / n_shards); /* found */
    if (n_ranks > 1) {
        most = least(most, ((size_t)4 << 20) / myr_parcel_bytes(cluster, 1));
        most = least(most, ((size_t)4 << 20) / hit_bytes);
        most = least(most, ((size_t)64 << 20) / (row_bytes + hit_bytes) / hosts);
    }
    return most > 0 ? most : 1;
}

static myr_status make_engine(myr_cluster *cluster, const myr_search_options *options, const float *queries, size_t n,
                              myr_hit *hits, engine *self)
{
    size_t n_ranks = (size_t)cluster->comm->size, most = choose_batch(cluster, options);
    size_t window = options->batch > 0 || n_ranks == 1 ? 1 : WINDOW;
    const size_t most_bytes[MYR_MAIL_KINDS] = {
        [MYR_MAIL_PARCEL] = myr_parcel_bytes(cluster, most),
        [MYR_MAIL_ANSWER] = myr_answer_bytes(options, most),
        [MYR_MAIL_NEWS] = sizeof(farewell),
    };
    *self = (engine){.cluster = cluster,
                     .options = options,
                     .most_hits = ((size_t)256 << 20) / sizeof(myr_hit),
                     .farewells = myr_alloc(n_ranks, sizeof *self->farewells)};
    if (!self->farewells)
        return myr_fail(MYR_ERR_NOMEM, "no memory to search with %zu ranks", n_ranks);
    for (size_t r = 0; r < n_ranks; r++)
        self->farewells[r] = MPI_REQUEST_NULL;
    myr_status status = myr_desk_init(cluster, options, &self->desk);
    self->desk.between = move_mail;
    self->desk.context = self;
    if (status == MYR_OK)
        status =
            myr_coordinator_init(cluster, options, &self->mail, queries, n, hits, most, window, &self->coordinator);
    for (size_t r = 0; status == MYR_OK && r < n_ranks; r++)
        self->coordinator.is_free[r] = options->batch > 0; /* they wait for their turns */
    return status == MYR_OK ? myr_mail_open(cluster->comm, most_bytes, &self->mail) : status;
}

static void free_engine(engine *self)
{
    for (int r = 0; self->farewells && r < self->cluster->comm->size; r++)
        MPI_Wait(&self->farewells[r], MPI_STATUS_IGNORE);
    myr_coordinator_fini(&self->coordinator);
    myr_mail_close(&self->mail);
    myr_desk_fini(&self->desk);
    free(self->farewells);
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* How long batches took, of all ranks. Collective. */
static myr_status report_batches(const engine *self, myr_search_report *report)
{
    myr_buffer all = {0};
    const myr_buffer *mine = &self->coordinator.batch_s;
    myr_status status = mine->failed ? myr_fail(MYR_ERR_NOMEM, "no memory for the times of batches") : MYR_OK;
    status = myr_comm_agree(self->cluster->comm, status);
    if (status == MYR_OK)
        status = myr_gather_bytes(self->cluster->comm, mine, &all);
    size_t n = all.size / sizeof(double);
    if (status == MYR_OK && self->cluster->comm->rank == 0 && report && n > 0) {
        double *batch_s = (double *)(void *)all.data;
        qsort(batch_s, n, sizeof *batch_s, by_value);
        report->n_rounds = n;
        report->round_p50_s = batch_s[n / 2];
        report->round_p99_s = batch_s[n * 99 / 100];
    }
    myr_buffer_free(&all);
    return status;
}

/* Of all ranks, on the root. Collective. */
static myr_status make_report(const engine *self, size_t n_own, double wall_s, myr_search_report *report)
{
    const myr_coordinator *asked = &self->coordinator;
    double n_ranks = (double)self->cluster->comm->size, slowest_s = 0;
    double mine[10] = {asked->n_probes, asked->route_s, self->exchange_s, self->search_s,
                       asked->merge_s,  self->wait_s,   asked->sent_bytes},
           all[10] = {0};
    for (int i = 0; i < myr_pool_n_threads(self->cluster->pool); i++) {
        mine[7] += (double)self->desk.stats[i].n_hops;
        mine[8] += (double)self->desk.stats[i].n_distances;
    }
    mine[9] = (double)n_own;
    MPI_Reduce(mine, all, 10, MPI_DOUBLE, MPI_SUM, 0, self->cluster->comm->mpi);
    MPI_Reduce(&self->search_s, &slowest_s, 1, MPI_DOUBLE, MPI_MAX, 0, self->cluster->comm->mpi);
    double n = all[9] > 0 ? all[9] : 1;
    if (report)
        *report = (myr_search_report){.probes_per_query = all[0] / n,
                                      .hops_per_query = all[7] / n,
                                      .distances_per_query = all[8] / n,
                                      .wall_s = wall_s,
                                      .phases = {.route_s = all[1] / n_ranks,
                                                 .exchange_s = all[2] / n_ranks,
                                                 .search_s = all[3] / n_ranks,
                                                 .merge_s = all[4] / n_ranks,
                                                 .wait_s = all[5] / n_ranks},
                                      .imbalance = all[3] > 0 ? slowest_s * n_ranks / all[3] : 1,
                                      .sent_bytes = all[6]};
    return report_batches(self, report);
}

myr_status myr_cluster_search_own(myr_cluster *cluster, const float *queries, size_t n_queries,
                                  const myr_search_options *options, myr_hit *hits, myr_search_report *report)
{
    const myr_comm *comm = cluster->comm;
    if (strcmp(cluster->manifest.metric, "ip") == 0 && !visits_all(cluster, options))
        return myr_fail(MYR_ERR_UNSUPPORTED,
                        "the greatest inner products may lie in any shard: ask all of them (--probe all)");
    engine self;
    myr_status status = myr_comm_agree(comm, make_engine(cluster, options, queries, n_queries, hits, &self));
    double start_s = myr_now_s();
    if (status == MYR_OK) {
        run(&self);
        double end_s = myr_now_s();
        if (self.status != MYR_OK)
            status = myr_fail(self.status, "%s", self.detail);
        status = myr_comm_agree(comm, status);
        self.wait_s += myr_now_s() - end_s;
    }
    if (status == MYR_OK)
        status = make_report(&self, n_queries, myr_now_s() - start_s, report);
    free_engine(&self);
    return status;
}

/* ---- Queries of the root ---- */

/* First of a rank's slice. */
static size_t slice_begin(const myr_comm *comm, size_t n, int rank)
{
    return n / (size_t)comm->size * (size_t)rank + n % (size_t)comm->size * (size_t)rank / (size_t)comm->size;
}

/* Rows of the root to the ranks' slices, or back, in pieces. Collective. */
static void move_slices(const myr_comm *comm, bool out, void *root, size_t n, size_t row_bytes, void *mine)
{
    enum { TAG = 710 };
    size_t piece = myr_message_bytes / row_bytes > 0 ? myr_message_bytes / row_bytes : 1;
    for (int r = 0; r < comm->size; r++) {
        if (comm->rank != 0 && comm->rank != r)
            continue;
        size_t first = slice_begin(comm, n, r), last = slice_begin(comm, n, r + 1);
        for (size_t at = first; at < last; at += piece) {
            int n_bytes = (int)((last - at < piece ? last - at : piece) * row_bytes);
            char *here = (char *)mine + (at - first) * row_bytes;
            char *there = comm->rank == 0 ? (char *)root + at * row_bytes : NULL;
            if (r == 0)
                memcpy(out ? here : there, out ? there : here, (size_t)n_bytes);
            else if ((comm->rank == 0) == out)
                MPI_Send(out ? there : here, n_bytes, MPI_BYTE, out ? r : 0, TAG, comm->mpi);
            else
                MPI_Recv(out ? here : there, n_bytes, MPI_BYTE, out ? 0 : r, TAG, comm->mpi, MPI_STATUS_IGNORE);
        }
    }
}

void myr_cluster_slice(const myr_comm *comm, size_t n, size_t *first, size_t *n_own)
{
    *first = slice_begin(comm, n, comm->rank);
    *n_own = slice_begin(comm, n, comm->rank + 1) - *first;
}

void myr_cluster_gather(const myr_comm *comm, const myr_hit *mine, size_t n, size_t k, myr_hit *hits)
{
    move_slices(comm, false, hits, n, k * sizeof *hits, (void *)(uintptr_t)mine);
}

myr_status myr_cluster_search(myr_cluster *cluster, const float *queries, size_t n_queries,
                              const myr_search_options *options, myr_hit *hits, myr_search_report *report)
{
    const myr_comm *comm = cluster->comm;
    size_t dim = (size_t)cluster->manifest.dim, first, n_own;
    if (comm->size == 1)
        return myr_cluster_search_own(cluster, queries, n_queries, options, hits, report);
    myr_cluster_slice(comm, n_queries, &first, &n_own);
    float *own = myr_alloc(n_own, dim * sizeof *own);
    myr_hit *found = myr_alloc(n_own, options->k * sizeof *found);
    myr_status status = own && found ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %zu queries", n_own);
    status = myr_comm_agree(comm, status);
    double start_s = myr_now_s();
    if (status == MYR_OK) {
        move_slices(comm, true, (void *)(uintptr_t)queries, n_queries, dim * sizeof *own, own);
        double moved_s = myr_now_s() - start_s;
        status = myr_cluster_search_own(cluster, own, n_own, options, found, report);
        if (status == MYR_OK) {
            double then_s = myr_now_s();
            myr_cluster_gather(comm, found, n_queries, options->k, hits);
            moved_s += myr_now_s() - then_s;
        }
        if (status == MYR_OK && report && comm->rank == 0) {
            report->wall_s += moved_s;
            report->phases.exchange_s += moved_s;
        }
    }
    free(own);
    free(found);
    return status;
}
