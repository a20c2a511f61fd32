/*
 * Batches, parcels and answers.
 *
 *   parcel  head, visits (n_visits), vectors (n_queries, dim) f32
 *   answer  head, rows (n_queries, k) hits; the head alone where the host failed
 */
#include "dist/coordinator.h"

#include "base/alloc.h"
#include "base/progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_BATCH = 64, SHARE = 4 }; /* the last batches are 1 / SHARE of what is left, so that ranks end together */

typedef struct head {
    uint32_t batch;
    int32_t status; /* of an answer */
    uint64_t n_queries, n_visits;
} head;

size_t myr_parcel_bytes(const myr_cluster *cluster, size_t n)
{
    size_t of_query = (size_t)cluster->manifest.dim * sizeof(float) + cluster->manifest.n_shards * sizeof(myr_visit);
    return sizeof(head) + n * of_query;
}

size_t myr_answer_bytes(const myr_search_options *options, size_t n)
{
    return sizeof(head) + n * options->k * sizeof(myr_hit);
}

myr_status myr_coordinator_init(myr_cluster *cluster, const myr_search_options *options, myr_mail *mail,
                                const float *queries, size_t n_queries, myr_hit *hits, size_t most, size_t n_batches,
                                myr_coordinator *self)
{
    size_t n_ranks = (size_t)cluster->comm->size;
    *self = (myr_coordinator){.cluster = cluster,
                              .options = options,
                              .mail = mail,
                              .dim = (size_t)cluster->manifest.dim,
                              .n_ranks = n_ranks,
                              .queries = queries,
                              .n = n_queries,
                              .hits = hits,
                              .most = most,
                              .batches = myr_alloc(n_batches, sizeof *self->batches),
                              .load = myr_alloc(n_ranks, sizeof *self->load),
                              .is_free = myr_alloc(n_ranks, sizeof *self->is_free)};
    bool whole = self->batches && self->load && self->is_free;
    for (; whole && self->n_batches < n_batches; self->n_batches++) {
        myr_batch *batch = &self->batches[self->n_batches];
        batch->parcels = myr_alloc(n_ranks, sizeof *batch->parcels);
        whole = batch->parcels != NULL;
        for (size_t r = 0; whole && r < n_ranks; r++)
            batch->parcels[r].sent = MPI_REQUEST_NULL;
    }
    for (size_t i = 0; whole && i < n_queries * options->k; i++)
        hits[i] = (myr_hit){.id = -1, .distance = INFINITY};
    return whole ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to ask %zu ranks", n_ranks);
}

void myr_coordinator_fini(myr_coordinator *self)
{
    for (size_t b = 0; b < self->n_batches; b++) {
        for (size_t r = 0; self->batches[b].parcels && r < self->n_ranks; r++) {
            myr_parcel *parcel = &self->batches[b].parcels[r];
            MPI_Wait(&parcel->sent, MPI_STATUS_IGNORE);
            myr_buffer_free(&parcel->places);
            myr_buffer_free(&parcel->visits);
            myr_buffer_free(&parcel->bytes);
        }
        free(self->batches[b].parcels);
        myr_buffer_free(&self->batches[b].rows);
    }
    free(self->batches);
    free(self->load);
    free(self->is_free);
    myr_buffer_free(&self->batch_s);
    *self = (myr_coordinator){0};
}

/* ---- routing ---- */

static bool visits_all(const myr_coordinator *self)
{
    const myr_search_options *options = self->options;
    size_t n_shards = self->cluster->manifest.n_shards;
    return options->exact || (!options->routed && (options->n_probe == 0 || options->n_probe >= n_shards));
}

/* Ranks that ask others begin at different ones, where several are as busy. */
static size_t choose_host(const myr_coordinator *self, size_t shard)
{
    const myr_hosts *hosts = &self->cluster->hosts;
    size_t me = (size_t)self->cluster->comm->rank, n = myr_hosts_count(hosts, shard), best = self->n_ranks;
    bool is_mine = myr_hosts_has(hosts, shard, (int)me);
    if (is_mine)
        best = me;
    for (size_t i = 0; i < n; i++) {
        size_t rank = (size_t)hosts->rank[hosts->first[shard] + (me + i) % n];
        bool is_asked = !is_mine || self->is_free[rank];
        if (is_asked && (best == self->n_ranks || self->load[rank] < self->load[best]))
            best = rank;
    }
    return best;
}

static void add_visit(myr_coordinator *self, myr_batch *batch, size_t query, uint32_t shard)
{
    size_t host = choose_host(self, shard);
    myr_parcel *to = &batch->parcels[host];
    self->load[host]++;
    self->cluster->visits[shard]++;
    if (to->latest != query + 1) {
        uint32_t place = (uint32_t)(query - batch->first);
        myr_buffer_append(&to->places, &place, sizeof place);
        to->latest = query + 1;
        to->n_queries++;
    }
    myr_visit one = {.query = (uint32_t)to->n_queries - 1, .shard = shard};
    myr_buffer_append(&to->visits, &one, sizeof one);
    to->n_visits++;
}

static void visit_everything(myr_coordinator *self, myr_batch *batch, size_t first, size_t n)
{
    size_t n_shards = self->cluster->manifest.n_shards;
    for (size_t q = first; q < first + n; q++)
        for (size_t s = 0; s < n_shards; s++)
            add_visit(self, batch, q, (uint32_t)s);
    self->n_probes += (double)n * (double)n_shards;
}

static myr_status visit_likeliest(myr_coordinator *self, myr_batch *batch, size_t first, size_t n)
{
    const myr_search_options *options = self->options;
    const myr_cluster *cluster = self->cluster;
    size_t n_shards = cluster->manifest.n_shards;
    uint32_t *shards = myr_alloc(n * n_shards, sizeof *shards);
    size_t *n_found = myr_alloc(n, sizeof *n_found);
    myr_status status = shards && n_found ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to route %zu queries", n);
    if (status == MYR_OK)
        status = myr_router_route(cluster->router, self->queries + first * self->dim, n,
                                  options->routed ? n_shards : options->n_probe, options->routed ? options->left : -1,
                                  cluster->pool, shards, NULL, n_found);
    for (size_t q = 0; q < n && status == MYR_OK; q++) {
        for (size_t i = 0; i < n_found[q]; i++)
            add_visit(self, batch, first + q, shards[q * n_shards + i]);
        self->n_probes += (double)n_found[q];
    }
    free(shards);
    free(n_found);
    return status;
}

/* ---- sending ---- */

static myr_status pack(const myr_coordinator *self, size_t number, myr_parcel *parcel)
{
    const float *queries = self->queries + self->batches[number].first * self->dim;
    size_t row_bytes = self->dim * sizeof *self->queries, visits_bytes = parcel->n_visits * sizeof(myr_visit);
    size_t n_bytes = sizeof(head) + visits_bytes + parcel->n_queries * row_bytes;
    if (!myr_reserve(&parcel->bytes, n_bytes))
        return myr_fail(MYR_ERR_NOMEM, "no memory to send %zu queries", parcel->n_queries);
    head front = {.batch = (uint32_t)number, .n_queries = parcel->n_queries, .n_visits = parcel->n_visits};
    const uint32_t *places = (const uint32_t *)(const void *)parcel->places.data;
    char *at = parcel->bytes.data;
    memcpy(at, &front, sizeof front);
    memcpy(at + sizeof front, parcel->visits.data, visits_bytes);
    at += sizeof front + visits_bytes;
    for (size_t i = 0; i < parcel->n_queries; i++, at += row_bytes)
        memcpy(at, queries + places[i] * self->dim, row_bytes);
    return MYR_OK;
}

/* A batch that will not be sent. */
static void take_back(myr_coordinator *self, myr_batch *batch)
{
    for (size_t r = 0; r < self->n_ranks; r++)
        self->load[r] -= batch->parcels[r].n_visits;
}

static void clear_batch(myr_coordinator *self, myr_batch *batch)
{
    batch->began_s = myr_now_s();
    for (size_t r = 0; r < self->n_ranks; r++) {
        myr_parcel *parcel = &batch->parcels[r];
        MPI_Wait(&parcel->sent, MPI_STATUS_IGNORE); /* it was answered: it has long been sent */
        myr_buffer_clear(&parcel->places);
        myr_buffer_clear(&parcel->visits);
        parcel->n_queries = parcel->n_visits = parcel->latest = 0;
        parcel->is_waiting = false;
    }
}

/* All or nothing is sent. */
static myr_status send_batch(myr_coordinator *self, size_t number)
{
    myr_batch *batch = &self->batches[number];
    size_t me = (size_t)self->cluster->comm->rank;
    myr_status status = MYR_OK;
    for (size_t r = 0; r < self->n_ranks && status == MYR_OK; r++) {
        myr_parcel *parcel = &batch->parcels[r];
        if (parcel->places.failed || parcel->visits.failed)
            status = myr_fail(MYR_ERR_NOMEM, "no memory for the visits of a batch");
        else if (r != me && parcel->n_visits > 0)
            status = pack(self, number, parcel);
    }
    if (status != MYR_OK)
        return status;
    for (size_t i = 0; i < self->n_ranks; i++) {
        size_t r = (me + i) % self->n_ranks; /* not everybody to the same host first */
        myr_parcel *parcel = &batch->parcels[r];
        if (parcel->n_visits == 0)
            continue;
        parcel->is_waiting = true;
        batch->n_waiting++;
        if (r == me)
            continue;
        self->sent_bytes += (double)parcel->bytes.size;
        myr_mail_send(self->mail, MYR_MAIL_PARCEL, (int)r, parcel->bytes.data, parcel->bytes.size, &parcel->sent);
    }
    return MYR_OK;
}

static void end_batch(myr_coordinator *self, myr_batch *batch)
{
    double passed_s = myr_now_s() - batch->began_s;
    myr_buffer_append(&self->batch_s, &passed_s, sizeof passed_s);
}

static size_t choose_size(const myr_coordinator *self)
{
    size_t left = self->n - self->next, most = self->most;
    if (self->n_ranks > 1 && self->options->batch == 0 && most > left / SHARE)
        most = left / SHARE > LEAST_BATCH ? left / SHARE : LEAST_BATCH;
    most = most < self->most ? most : self->most;
    return left < most ? left : most;
}

static myr_status ask_batch(myr_coordinator *self, size_t number)
{
    myr_batch *batch = &self->batches[number];
    size_t first = self->next, n = choose_size(self);
    myr_status status = MYR_OK;
    clear_batch(self, batch);
    batch->first = first;
    if (visits_all(self))
        visit_everything(self, batch, first, n);
    else
        status = visit_likeliest(self, batch, first, n);
    if (status == MYR_OK)
        status = send_batch(self, number);
    if (status != MYR_OK) {
        take_back(self, batch);
        return status;
    }
    self->next += n;
    if (batch->n_waiting == 0) /* nobody has anything for these */
        end_batch(self, batch);
    return MYR_OK;
}

static bool is_away(const myr_coordinator *self, const myr_batch *batch)
{
    return batch->n_waiting > (size_t)batch->parcels[self->cluster->comm->rank].is_waiting;
}

myr_status myr_coordinator_ask(myr_coordinator *self)
{
    double start_s = myr_now_s();
    myr_status status = MYR_OK;
    bool goes_on = true;
    for (size_t b = 0; b < self->n_batches; b++) /* what lies on the desk alone comes first */
        goes_on = goes_on && (self->batches[b].n_waiting == 0 || is_away(self, &self->batches[b]));
    for (size_t b = 0; b < self->n_batches && goes_on && status == MYR_OK; b++) {
        if (self->batches[b].n_waiting > 0)
            continue;
        if (self->next == self->n || self->has_stopped)
            break;
        status = ask_batch(self, b);
        goes_on = is_away(self, &self->batches[b]);
    }
    self->route_s += myr_now_s() - start_s;
    return status;
}

bool myr_coordinator_is_done(const myr_coordinator *self)
{
    if (self->next < self->n && !self->has_stopped)
        return false;
    for (size_t b = 0; b < self->n_batches; b++)
        if (self->batches[b].n_waiting > 0)
            return false;
    return true;
}

/* ---- answers ---- */

/* Part of a batch, answered by a host. */
static void merge_rows(myr_coordinator *self, size_t number, size_t host, const myr_hit *rows, myr_status status)
{
    myr_batch *batch = &self->batches[number];
    myr_parcel *parcel = &batch->parcels[host];
    const uint32_t *places = (const uint32_t *)(const void *)parcel->places.data;
    size_t k = self->options->k;
    myr_hit *hits = self->hits + batch->first * k;
    double start_s = myr_now_s();
    for (size_t i = 0; i < parcel->n_queries && status == MYR_OK; i++)
        myr_topk_merge(hits + places[i] * k, k, rows + i * k, k);
    self->has_stopped = self->has_stopped || status != MYR_OK;
    self->load[host] -= parcel->n_visits;
    parcel->is_waiting = false;
    if (--batch->n_waiting == 0)
        end_batch(self, batch);
    self->merge_s += myr_now_s() - start_s;
}

size_t myr_coordinator_own(const myr_coordinator *self, size_t *batches, size_t n)
{
    size_t n_own = 0;
    for (size_t b = 0; b < self->n_batches && n_own < n; b++)
        if (self->batches[b].n_waiting > 0 && self->batches[b].parcels[self->cluster->comm->rank].is_waiting)
            batches[n_own++] = b;
    return n_own;
}

myr_status myr_coordinator_job(myr_coordinator *self, size_t number, myr_job *job)
{
    myr_batch *batch = &self->batches[number];
    const myr_parcel *parcel = &batch->parcels[self->cluster->comm->rank];
    if (!myr_reserve(&batch->rows, parcel->n_queries * self->options->k * sizeof(myr_hit)))
        return myr_fail(MYR_ERR_NOMEM, "no memory for the hits of %zu queries", parcel->n_queries);
    *job = (myr_job){.visits = (const myr_visit *)(const void *)parcel->visits.data,
                     .n_visits = parcel->n_visits,
                     .n_queries = parcel->n_queries,
                     .vectors = self->queries + batch->first * self->dim,
                     .places = (const uint32_t *)(const void *)parcel->places.data,
                     .rows = (myr_hit *)(void *)batch->rows.data};
    return MYR_OK;
}

void myr_coordinator_serve(myr_coordinator *self, size_t number, myr_status status)
{
    merge_rows(self, number, (size_t)self->cluster->comm->rank,
               (const myr_hit *)(const void *)self->batches[number].rows.data, status);
}

void myr_coordinator_merge(myr_coordinator *self, const myr_letter *letter)
{
    head front;
    memcpy(&front, letter->bytes, sizeof front);
    self->sent_bytes += (double)letter->n_bytes;
    merge_rows(self, front.batch, (size_t)letter->from, (const myr_hit *)(const void *)(letter->bytes + sizeof front),
               (myr_status)front.status);
}

/* ---- the other side ---- */

myr_job myr_parcel_job(const myr_letter *letter)
{
    head front;
    memcpy(&front, letter->bytes, sizeof front);
    const char *visits = letter->bytes + sizeof front, *vectors = visits + front.n_visits * sizeof(myr_visit);
    return (myr_job){.visits = (const myr_visit *)(const void *)visits,
                     .n_visits = front.n_visits,
                     .n_queries = front.n_queries,
                     .vectors = (const float *)(const void *)vectors,
                     .rows = (myr_hit *)(void *)(letter->reply + sizeof front)};
}

size_t myr_parcel_reply(const myr_letter *letter, const myr_search_options *options, myr_status status)
{
    head front;
    memcpy(&front, letter->bytes, sizeof front);
    front.status = (int32_t)status;
    memcpy(letter->reply, &front, sizeof front);
    return status == MYR_OK ? myr_answer_bytes(options, front.n_queries) : sizeof front;
}
