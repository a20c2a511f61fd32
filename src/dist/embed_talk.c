/*
 * What the ranks of an embedding job say to each other.
 *
 * Messages to the root are {kind, a, b, c}, and text behind them; from the root a chunk's packed items, the number of a
 * chunk that another rank has made, or the end. Every rank says goodbye once it was told to end and its workers have,
 * so that no message is left over.
 *
 * A rank that does not answer holds nobody up. What it was given is handed out again (handout.h), and the root waits
 * for no message to arrive (outbox.h). When all chunks are in place the output is made complete at once; then the root
 * waits for goodbyes, but not for long from a rank that says nothing.
 */
#include "base/log.h"
#include "dist/embed_job.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TAG_TO_ROOT = 1, TAG_CHUNK = 2, TAG_END = 3, TAG_DROP = 4 };
enum { SAYS_NEED, SAYS_PROGRESS, SAYS_FINISHED, SAYS_GIVING_UP, SAYS_GOODBYE };

#define POLL_NS 2000000L
#define LEAD_S 0.05 /* work that a rank has in hand when it asks for more: messages take some polls */
#define REPORT_S 0.5
#define SERVE_S 0.05   /* how often ranks that wait for a chunk are thought of */
#define GAP_S 1.0      /* a turn that took longer: the root was stopped itself, and heard nobody */
#define SILENCE_S 30.0 /* a rank not heard of for so long in the end is left behind */
#define LINGER_S 300.0 /* and one that lives but does not end */

static void tell_root(myr_embed_job *job, int64_t kind, int64_t a)
{
    int64_t message[4] = {kind, a, 0, 0};
    MPI_Send(message, sizeof message, MPI_BYTE, 0, TAG_TO_ROOT, job->comm->mpi);
    job->sent_bytes += sizeof message;
}

/* Take a packed chunk to this rank's crew. */
static myr_status take_chunk(myr_embed_job *job, const myr_buffer *message)
{
    job->asked = false;
    myr_cursor cursor = {.data = message->data, .size = message->size};
    int64_t chunk = myr_cursor_i64(&cursor), retry = myr_cursor_i64(&cursor);
    myr_item_list *items = NULL;
    myr_status status = myr_item_list_unpack(message->data + cursor.at, message->size - cursor.at, &items);
    return status == MYR_OK ? myr_crew_add(job->crew, chunk, items, retry != 0) : status;
}

/* ---- rank 0 ---- */

/* Give a rank that wants one a chunk, if there is one: its number, whether to retry, then its items. */
static myr_status hand_out(myr_embed_job *job, int rank)
{
    myr_embed_root *root = &job->root;
    myr_buffer message = {0};
    if (root->ended || !root->wants[rank])
        return MYR_OK;
    int64_t chunk = myr_handout_next(root->output.handout, rank, myr_now_s()), first;
    if (chunk < 0)
        return MYR_OK;
    int64_t n = myr_manifest_chunk(&root->output.manifest, chunk, &first);
    root->wants[rank] = false;
    myr_buffer_put_i64(&message, chunk);
    myr_buffer_put_i64(&message, root->output.retry[chunk]);
    myr_status status = myr_corpus_pack(root->corpus, first, n, &message);
    if (status == MYR_OK && rank != 0)
        return myr_outbox_send(&root->outbox, job->comm, rank, TAG_CHUNK, &message);
    if (status == MYR_OK)
        status = take_chunk(job, &message);
    myr_buffer_free(&message);
    return status;
}

/* Now and then, to ranks that got nothing when they asked: a chunk may be late by now. */
static myr_status hand_out_late(myr_embed_job *job)
{
    myr_embed_root *root = &job->root;
    myr_status status = MYR_OK;
    double now_s = myr_now_s();
    if (now_s - root->served_s < SERVE_S)
        return MYR_OK;
    root->served_s = now_s;
    for (int rank = 0; rank < job->comm->size && status == MYR_OK; rank++)
        status = hand_out(job, rank);
    return status;
}

static void note_idle(myr_embed_job *job)
{
    double since_s = myr_crew_idle_since(job->crew);
    job->idle_at_end_s = since_s > 0 ? myr_now_s() - since_s : 0;
}

static void end_all(myr_embed_job *job)
{
    myr_embed_root *root = &job->root;
    if (root->ended)
        return;
    root->ended = true;
    root->ended_s = myr_now_s();
    note_idle(job);
    myr_crew_stop(job->crew);
    for (int rank = 1; rank < job->comm->size; rank++) {
        myr_buffer nothing = {0};
        if (myr_outbox_send(&root->outbox, job->comm, rank, TAG_END, &nothing) != MYR_OK)
            MPI_Send(NULL, 0, MPI_BYTE, rank, TAG_END, job->comm->mpi);
    }
}

/* A chunk is in place; who else works on it stops. */
static myr_status count_finished(myr_embed_job *job, int rank, const myr_crew_finished *finished)
{
    myr_embed_root *root = &job->root;
    int losers[MYR_HANDOUT_HOLDERS], n_losers;
    myr_status status = MYR_OK;
    if (!myr_handout_finish(root->output.handout, finished->chunk, rank, myr_now_s(), losers, &n_losers)) {
        free(finished->bad.data);
        return MYR_OK;
    }
    myr_output_count(&root->output, finished->chunk, finished->n_good, finished->n_bad, finished->bad.data);
    for (int i = 0; i < n_losers && status == MYR_OK; i++) {
        myr_buffer message = {0};
        if (losers[i] == 0) {
            myr_crew_drop(job->crew, finished->chunk);
            continue;
        }
        myr_buffer_put_i64(&message, finished->chunk);
        status = myr_outbox_send(&root->outbox, job->comm, losers[i], TAG_DROP, &message);
    }
    return status;
}

/* A message, received. There is room for it or the job ends: what comes behind it would never be heard. */
static myr_buffer receive(const myr_embed_job *job, const MPI_Status *from)
{
    int n_bytes;
    MPI_Get_count(from, MPI_BYTE, &n_bytes);
    myr_buffer message = {.data = malloc((size_t)n_bytes + 1), .size = (size_t)n_bytes};
    if (!message.data) {
        myr_error("rank %d: no memory for a message of %d bytes; use a smaller --chunk", job->comm->rank, n_bytes);
        MPI_Abort(job->comm->mpi, 1);
    }
    message.data[n_bytes] = 0;
    MPI_Recv(message.data, n_bytes, MPI_BYTE, from->MPI_SOURCE, from->MPI_TAG, job->comm->mpi, MPI_STATUS_IGNORE);
    return message;
}

/* Do what a message says; text stands behind its numbers. */
static myr_status follow(myr_embed_job *job, int rank, const int64_t message[4], const char *text)
{
    myr_embed_root *root = &job->root;
    myr_crew_finished finished = {.chunk = message[1], .n_good = message[2], .n_bad = message[3]};
    switch (message[0]) {
    case SAYS_NEED:
        root->wants[rank] = true;
        return hand_out(job, rank);
    case SAYS_PROGRESS:
        root->rank_items[rank] = message[1];
        return MYR_OK;
    case SAYS_FINISHED:
        if (*text)
            myr_buffer_puts(&finished.bad, text);
        if (finished.bad.failed)
            return myr_fail(MYR_ERR_NOMEM, "no memory to list %lld bad items", (long long)message[3]);
        return count_finished(job, rank, &finished);
    case SAYS_GIVING_UP:
        end_all(job);
        return MYR_OK;
    default:
        root->n_gone += !root->gone[rank];
        root->gone[rank] = true;
        return MYR_OK;
    }
}

/* One message from another rank, if there is one. */
static myr_status hear_one(myr_embed_job *job, bool *heard)
{
    int there;
    int64_t numbers[4];
    MPI_Status from;
    MPI_Iprobe(MPI_ANY_SOURCE, TAG_TO_ROOT, job->comm->mpi, &there, &from);
    *heard = there;
    if (!there)
        return MYR_OK;
    myr_buffer message = receive(job, &from);
    myr_handout_heard(job->root.output.handout, from.MPI_SOURCE, myr_now_s());
    memcpy(numbers, message.data, sizeof numbers);
    myr_status status = follow(job, from.MPI_SOURCE, numbers, message.data + sizeof numbers);
    free(message.data);
    return status;
}

static void show_progress(myr_embed_job *job)
{
    myr_embed_root *root = &job->root;
    int64_t done = job->report->n_before, total = root->output.manifest.n_items;
    for (int rank = 0; rank < job->comm->size; rank++)
        done += root->rank_items[rank];
    myr_progress_update(&root->progress, done < total ? done : total); /* what is done twice counts once */
}

/* After the end: whether to go on without this rank. */
static bool is_lost(const myr_embed_root *root, int rank, double now_s)
{
    double silent_s = myr_handout_silence(root->output.handout, rank, now_s), since_s = now_s - root->ended_s;
    return !root->gone[rank] && ((since_s > SILENCE_S && silent_s > SILENCE_S) || since_s > LINGER_S);
}

/* Whether all ranks have ended, or are not waited for any longer. */
static bool is_over(myr_embed_job *job)
{
    myr_embed_root *root = &job->root;
    int n_lost = 0, size = job->comm->size;
    double now_s = myr_now_s();
    if (!root->ended)
        return false;
    for (int rank = 0; rank < size && root->n_gone < size; rank++)
        n_lost += is_lost(root, rank, now_s);
    if (root->n_gone + n_lost < size)
        return false;
    for (int rank = 0; rank < size && n_lost > 0; rank++)
        if (is_lost(root, rank, now_s))
            myr_warn("rank %d on %s has not answered for %.0f s; the job ends without it", rank,
                     root->hosts + (size_t)rank * MYR_HOST_BYTES,
                     myr_handout_silence(root->output.handout, rank, now_s));
    job->report->n_lost = n_lost;
    return true;
}

/* A turn: messages that have arrived, ranks that wait, the end. */
static myr_status tend_ranks(myr_embed_job *job)
{
    myr_embed_root *root = &job->root;
    double now_s = myr_now_s();
    myr_status status = MYR_OK;
    if (now_s - root->looped_s > GAP_S)
        myr_handout_forgive(root->output.handout, now_s);
    root->looped_s = now_s;
    myr_outbox_tend(&root->outbox);
    if (root->ended)
        return MYR_OK;
    if (myr_handout_left(root->output.handout) > 0) {
        status = hand_out_late(job);
    } else {
        status = myr_output_complete(&root->output);
        end_all(job);
    }
    show_progress(job);
    return status;
}

/* ---- other ranks ---- */

/* One message from the root, if there is one. */
static myr_status obey_one(myr_embed_job *job, bool *heard)
{
    int there;
    MPI_Status from;
    MPI_Iprobe(0, MPI_ANY_TAG, job->comm->mpi, &there, &from);
    *heard = there;
    if (!there)
        return MYR_OK;
    myr_buffer message = receive(job, &from);
    myr_cursor cursor = {.data = message.data, .size = message.size};
    myr_status status = MYR_OK;
    if (from.MPI_TAG == TAG_END)
        job->ended = true;
    else if (from.MPI_TAG == TAG_DROP)
        myr_crew_drop(job->crew, myr_cursor_i64(&cursor));
    else if (!job->gave_up)
        status = take_chunk(job, &message);
    free(message.data);
    return status;
}

/* ---- all ---- */

/* To the root, the lines of bad items behind the numbers. */
static myr_status report_finished(myr_embed_job *job, const myr_crew_finished *finished)
{
    if (job->comm->rank == 0)
        return count_finished(job, 0, finished);
    int64_t numbers[4] = {SAYS_FINISHED, finished->chunk, finished->n_good, finished->n_bad};
    myr_buffer message = {0};
    myr_buffer_append(&message, numbers, sizeof numbers);
    if (finished->bad.size > 0)
        myr_buffer_append(&message, finished->bad.data, finished->bad.size);
    free(finished->bad.data);
    myr_status status = MYR_OK;
    if (message.failed)
        status = myr_fail(MYR_ERR_NOMEM, "no memory to report %lld bad items", (long long)finished->n_bad);
    else if (message.size > INT32_MAX)
        status = myr_fail(MYR_ERR_LIMIT, "a chunk's list of bad items is over 2 GiB; use a smaller --chunk");
    else
        MPI_Send(message.data, (int)message.size, MPI_BYTE, 0, TAG_TO_ROOT, job->comm->mpi);
    job->sent_bytes += (double)message.size;
    myr_buffer_free(&message);
    return status;
}

/* Twice a second, also as a sign of life. */
static void report_progress(myr_embed_job *job)
{
    double now_s = myr_now_s();
    if (now_s - job->reported_s < REPORT_S)
        return;
    job->reported_s = now_s;
    if (job->comm->rank == 0)
        job->root.rank_items[0] = myr_crew_done(job->crew);
    else
        tell_root(job, SAYS_PROGRESS, myr_crew_done(job->crew));
}

/* Whether the crew will soon have nothing to do, at the rate it has gone so far. */
static bool runs_low(const myr_embed_job *job)
{
    double passed_s = myr_now_s() - job->begun_s;
    double per_s = passed_s > 0 ? (double)myr_crew_done(job->crew) / myr_encoder_batch(job->encoder) / passed_s : 0;
    double least = 2.0 * job->options->n_threads, wanted = LEAD_S * per_s;
    return (double)myr_crew_waiting(job->crew) < (wanted > least ? wanted : least);
}

/* Report finished chunks, and ask for more when the crew runs low. */
static myr_status tend_crew(myr_embed_job *job)
{
    myr_crew_finished finished;
    myr_status status = MYR_OK;
    while (status == MYR_OK && myr_crew_take_finished(job->crew, &finished))
        status = report_finished(job, &finished);
    if (status == MYR_OK && !job->asked && runs_low(job)) {
        job->asked = true;
        if (job->comm->rank != 0) {
            tell_root(job, SAYS_NEED, 0);
        } else {
            job->root.wants[0] = true;
            status = hand_out(job, 0);
        }
    }
    return status == MYR_OK ? myr_crew_status(job->crew) : status;
}

/* Told to end: say so when no worker has anything in hand, and meanwhile that this rank is alive. */
static void take_leave(myr_embed_job *job)
{
    note_idle(job);
    myr_crew_stop(job->crew);
    while (!myr_crew_is_over(job->crew)) {
        report_progress(job);
        nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    }
    tell_root(job, SAYS_GOODBYE, 0);
}

myr_status myr_embed_talk(myr_embed_job *job)
{
    bool is_root = job->comm->rank == 0;
    myr_status status = MYR_OK;
    job->begun_s = myr_now_s();
    if (is_root)
        myr_handout_forgive(job->root.output.handout, job->root.looped_s = myr_now_s());
    while (is_root ? !is_over(job) : !job->ended) {
        bool heard = false, is_done = is_root && job->root.ended;
        myr_status now = is_root ? hear_one(job, &heard) : obey_one(job, &heard);
        report_progress(job);
        if (now == MYR_OK && !job->gave_up && !is_done)
            now = tend_crew(job);
        if (now == MYR_OK && is_root)
            now = tend_ranks(job);
        if (now == MYR_OK && !job->gave_up && !is_done && myr_stop_requested)
            now = myr_fail(MYR_ERR_STOPPED,
                           "stopped by a signal; finished chunks are kept, run the same command again to go on");
        if (now != MYR_OK && status == MYR_OK) {
            status = now;
            job->gave_up = true;
            if (is_root)
                end_all(job);
            else
                tell_root(job, SAYS_GIVING_UP, 0);
        }
        if (!heard)
            nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    }
    if (!is_root)
        take_leave(job);
    else if (job->report->n_lost == 0)
        myr_outbox_flush(&job->root.outbox);
    return status;
}
