/*
 * What there is to tell of clusters: examples, labels, and a line for each item.
 *
 * Examples are chosen by what each rank remembers of its items; keys and sources are read once more, when the lines are
 * written. Lines go to rank 0 piece by piece: a rank that is not its turn yet waits in its message.
 */
#include "dist/clusters_internal.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "dist/exchange.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TAG_LINES 31
#define EXAMPLE_SEED 5
#define MOST_COUNTS ((size_t)1 << 27)

/* ---- Labels ---- */

/* Collective. */
static myr_status count_labels(myr_clusters_job *work)
{
    const myr_comm *comm = work->items->comm;
    const int32_t *labels = (const int32_t *)(const void *)work->labels.data;
    myr_clusters *clusters = work->clusters;
    int32_t greatest = -1;
    size_t n_counts;
    for (size_t i = 0; i < work->n_rows; i++)
        greatest = labels[i] > greatest ? labels[i] : greatest;
    MPI_Allreduce(MPI_IN_PLACE, &greatest, 1, MPI_INT32_T, MPI_MAX, comm->mpi);
    if (greatest < 0)
        return MYR_OK;
    if (!myr_mul(clusters->n, (size_t)greatest + 1, &n_counts) || n_counts > MOST_COUNTS) {
        clusters->too_many_labels = true;
        return MYR_OK;
    }
    clusters->labels = myr_alloc(n_counts, sizeof *clusters->labels);
    myr_status status =
        myr_comm_agree(comm, clusters->labels ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for labels"));
    if (status != MYR_OK)
        return status;
    clusters->n_labels = (size_t)greatest + 1;
    for (size_t i = 0; i < work->n_rows; i++)
        if (labels[i] >= 0)
            clusters->labels[work->cluster[i] * clusters->n_labels + (size_t)labels[i]]++;
    MPI_Allreduce(MPI_IN_PLACE, clusters->labels, (int)n_counts, MPI_INT64_T, MPI_SUM, comm->mpi);
    return MYR_OK;
}

/* ---- Examples ---- */

static bool comes_before(const myr_example *a, const myr_example *b)
{
    return b->id < 0 || a->order < b->order || (a->order == b->order && a->id < b->id);
}

/* Into a sorted row of n, whose last one falls out. */
static void offer(myr_example *row, size_t n, const myr_example *one)
{
    if (n == 0 || !comes_before(one, &row[n - 1]))
        return;
    size_t at = n - 1;
    for (; at > 0 && comes_before(one, &row[at - 1]); at--)
        row[at] = row[at - 1];
    row[at] = *one;
}

static void choose_examples(const myr_clusters_job *work, myr_example *nearest, myr_example *drawn)
{
    size_t n = work->clusters->n_examples;
    const int64_t *ids = (const int64_t *)(const void *)work->ids.data;
    for (size_t i = 0; i < work->clusters->n * n; i++)
        nearest[i] = drawn[i] = (myr_example){.id = -1};
    for (size_t i = 0; i < work->n_rows; i++) {
        myr_example one = {.id = ids[i], .distance = work->distance[i], .order = work->distance[i]};
        offer(nearest + work->cluster[i] * n, n, &one);
        one.order = (float)(myr_hash64((uint64_t)ids[i], EXAMPLE_SEED) >> 40);
        offer(drawn + work->cluster[i] * n, n, &one);
    }
}

/* Root: examples of all ranks, which came in rank by rank. */
static void merge_examples(myr_clusters *clusters, const myr_buffer *all)
{
    size_t n = clusters->n * clusters->n_examples;
    const myr_example *from = (const myr_example *)(const void *)all->data;
    for (size_t i = 0; i < n; i++)
        clusters->nearest[i] = clusters->drawn[i] = (myr_example){.id = -1};
    for (size_t i = 0; n > 0 && i < all->size / sizeof *from; i++) {
        myr_example *to = i / n % 2 == 0 ? clusters->nearest : clusters->drawn;
        if (from[i].id >= 0)
            offer(to + i % n / clusters->n_examples * clusters->n_examples, clusters->n_examples, &from[i]);
    }
}

/* Collective. */
static myr_status gather_examples(myr_clusters_job *work)
{
    myr_clusters *clusters = work->clusters;
    size_t n = clusters->n * clusters->n_examples;
    myr_buffer mine = {0}, all = {0};
    clusters->nearest = myr_alloc(n, sizeof *clusters->nearest);
    clusters->drawn = myr_alloc(n, sizeof *clusters->drawn);
    myr_status status = clusters->nearest && clusters->drawn ? MYR_OK : MYR_ERR_NOMEM;
    if (status == MYR_OK) {
        choose_examples(work, clusters->nearest, clusters->drawn);
        myr_buffer_append(&mine, clusters->nearest, n * sizeof *clusters->nearest);
        myr_buffer_append(&mine, clusters->drawn, n * sizeof *clusters->drawn);
    }
    if (status != MYR_OK || mine.failed)
        status = myr_fail(MYR_ERR_NOMEM, "no memory for examples of %zu clusters", clusters->n);
    status = myr_comm_agree(work->items->comm, status);
    if (status == MYR_OK)
        status = myr_gather_bytes(work->items->comm, &mine, &all);
    if (status == MYR_OK && work->items->comm->rank == 0)
        merge_examples(clusters, &all);
    myr_buffer_free(&mine);
    myr_buffer_free(&all);
    return status;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The ids of all examples, ascending, on all ranks. Collective. */
static myr_status share_examples(myr_clusters_job *work, myr_buffer *ids)
{
    const myr_comm *comm = work->items->comm;
    const myr_clusters *clusters = work->clusters;
    for (size_t i = 0; comm->rank == 0 && i < clusters->n * clusters->n_examples; i++) {
        if (clusters->nearest[i].id >= 0)
            myr_buffer_append(ids, &clusters->nearest[i].id, sizeof clusters->nearest[i].id);
        if (clusters->drawn[i].id >= 0)
            myr_buffer_append(ids, &clusters->drawn[i].id, sizeof clusters->drawn[i].id);
    }
    if (ids->size > 0)
        qsort(ids->data, ids->size / sizeof(int64_t), sizeof(int64_t), by_number);
    myr_status status = myr_comm_agree(comm, ids->failed ? myr_fail(MYR_ERR_NOMEM, "no memory for examples") : MYR_OK);
    return status == MYR_OK ? myr_comm_share(comm, ids) : status;
}

/* ---- Lines, and texts of examples ---- */

typedef struct telling {
    myr_clusters_job *work;
    myr_cluster_format format;
    myr_cluster_take take;
    void *context;
    myr_buffer examples; /* ids, ascending */
    myr_buffer facts;    /* of this rank's examples: id, label, key, source */
    size_t at;           /* place of the next piece among this rank's items */
} telling;

static void tell_item(telling *self, const myr_rows *rows, size_t i, myr_buffer *lines)
{
    const myr_clusters_job *work = self->work;
    myr_clustered one = {.cluster = work->cluster[self->at + i],
                         .id = rows->id[i],
                         .distance = work->distance[self->at + i],
                         .label = rows->label[i],
                         .key = rows->key[i],
                         .source = rows->source[i]};
    if (self->format)
        self->format(&one, self->context, lines);
    size_t n = self->examples.size / sizeof one.id;
    if (n == 0 || !bsearch(&one.id, self->examples.data, n, sizeof one.id, by_number))
        return;
    myr_buffer_put_i64(&self->facts, one.id);
    myr_buffer_put_i64(&self->facts, one.label);
    myr_buffer_put_text(&self->facts, one.key);
    myr_buffer_put_text(&self->facts, one.source);
}

/* The lines of one piece, on its owner. */
static myr_status make_lines(telling *self, int64_t piece, myr_buffer *lines)
{
    myr_rows rows = {0};
    myr_status status = myr_clusters_check_stop();
    if (status == MYR_OK)
        status = myr_items_read(self->work->items, piece, true, &rows);
    if (status == MYR_OK && self->at + (size_t)rows.n > self->work->n_rows)
        status = myr_fail(MYR_ERR_FORMAT, "the input changed while it was being read; run the command again");
    for (size_t i = 0; i < (size_t)rows.n && status == MYR_OK; i++)
        tell_item(self, &rows, i, lines);
    self->at += (size_t)rows.n;
    if (status == MYR_OK && (lines->failed || self->facts.failed))
        status = myr_fail(MYR_ERR_NOMEM, "no memory for the lines of %lld items", (long long)rows.n);
    myr_rows_clear(&rows);
    return status;
}

static void send_lines(const myr_comm *comm, const myr_buffer *lines)
{
    uint64_t n_bytes = lines->failed ? 0 : lines->size;
    MPI_Send(&n_bytes, 1, MPI_UINT64_T, 0, TAG_LINES, comm->mpi);
    for (size_t at = 0; at < n_bytes; at += myr_message_bytes) {
        size_t part = n_bytes - at < myr_message_bytes ? n_bytes - at : myr_message_bytes;
        MPI_Send(lines->data + at, (int)part, MPI_BYTE, 0, TAG_LINES, comm->mpi);
    }
}

/* Root: the lines of another rank's piece; taken in any case, handed on while all is well. */
static myr_status receive_lines(telling *self, int owner, myr_buffer *room, myr_status status)
{
    const myr_comm *comm = self->work->items->comm;
    uint64_t n_bytes;
    MPI_Recv(&n_bytes, 1, MPI_UINT64_T, owner, TAG_LINES, comm->mpi, MPI_STATUS_IGNORE);
    for (size_t at = 0; at < n_bytes; at += myr_message_bytes) {
        size_t part = n_bytes - at < myr_message_bytes ? n_bytes - at : myr_message_bytes;
        MPI_Recv(room->data, (int)part, MPI_BYTE, owner, TAG_LINES, comm->mpi, MPI_STATUS_IGNORE);
        if (status == MYR_OK)
            status = self->take(self->context, room->data, part);
    }
    return status;
}

/* All pieces in their order. Collective; a rank that fails sends no more lines, but for the end of each piece. */
static myr_status tell_pieces(telling *self)
{
    const myr_items *items = self->work->items;
    const myr_comm *comm = items->comm;
    myr_buffer room = {0};
    myr_status status = MYR_OK;
    if (comm->rank == 0 && comm->size > 1 && self->format) {
        room.data = malloc(myr_message_bytes);
        status = room.data ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for lines of other ranks");
    }
    status = myr_comm_agree(comm, status);
    if (status != MYR_OK) {
        free(room.data);
        return status;
    }
    for (int64_t piece = 0; piece < items->n_pieces; piece++) {
        int owner = myr_items_owner(items, piece);
        myr_buffer lines = {0};
        if (owner == comm->rank && status == MYR_OK)
            status = make_lines(self, piece, &lines);
        if (status != MYR_OK)
            myr_buffer_free(&lines);
        if (self->format && owner == comm->rank && comm->rank != 0)
            send_lines(comm, &lines);
        else if (self->format && owner == comm->rank && status == MYR_OK)
            status = self->take(self->context, lines.data, lines.size);
        else if (self->format && comm->rank == 0 && owner != 0)
            status = receive_lines(self, owner, &room, status);
        myr_buffer_free(&lines);
    }
    free(room.data);
    return myr_comm_agree(comm, status);
}

static int by_id(const void *a, const void *b)
{
    const myr_example_facts *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* Root. */
static myr_status read_facts(myr_clusters *clusters, size_t n_most)
{
    myr_cursor cursor = {.data = clusters->texts.data, .size = clusters->texts.size};
    clusters->facts = myr_alloc(n_most, sizeof *clusters->facts);
    if (!clusters->facts)
        return myr_fail(MYR_ERR_NOMEM, "no memory for examples");
    while (cursor.at < cursor.size && clusters->n_facts < n_most) {
        myr_example_facts one = {.id = myr_cursor_i64(&cursor), .label = (int32_t)myr_cursor_i64(&cursor)};
        one.key = myr_cursor_text(&cursor);
        one.source = myr_cursor_text(&cursor);
        if (cursor.failed)
            return myr_fail(MYR_ERR_INTERNAL, "a damaged message came in while describing examples");
        clusters->facts[clusters->n_facts++] = one;
    }
    qsort(clusters->facts, clusters->n_facts, sizeof *clusters->facts, by_id);
    return MYR_OK;
}

const myr_example_facts *myr_clusters_facts(const myr_clusters *clusters, int64_t id)
{
    myr_example_facts wanted = {.id = id};
    return clusters->n_facts > 0 ? bsearch(&wanted, clusters->facts, clusters->n_facts, sizeof *clusters->facts, by_id)
                                 : NULL;
}

myr_status myr_clusters_tell(myr_clusters_job *work, myr_cluster_format format, myr_cluster_take take, void *context)
{
    const myr_comm *comm = work->items->comm;
    telling self = {.work = work, .format = format, .take = take, .context = context};
    myr_status status = count_labels(work);
    if (status == MYR_OK)
        status = gather_examples(work);
    if (status == MYR_OK)
        status = share_examples(work, &self.examples);
    if (status == MYR_OK && (format || self.examples.size > 0))
        status = tell_pieces(&self);
    if (status == MYR_OK)
        status = myr_gather_bytes(comm, &self.facts, &work->clusters->texts);
    if (status == MYR_OK && comm->rank == 0)
        status = read_facts(work->clusters, self.examples.size / sizeof(int64_t));
    myr_buffer_free(&self.examples);
    myr_buffer_free(&self.facts);
    return myr_comm_agree(comm, status);
}
