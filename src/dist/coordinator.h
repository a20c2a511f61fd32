/*
 * A rank's coordinator: it has queries of its own, and finds their hits.
 *
 * It cuts its queries into batches, routes each, sends every host one parcel of what the batch asks of it, and merges
 * the answers as they come. Several batches are under way at once: a window, so that hosts never wait and memory is
 * bounded. What its own rank can serve goes to the desk without a message.
 *
 * Of a shard's hosts the least busy is asked: the one that has fewest visits of this coordinator unanswered. A rank
 * that hosts the shard itself prefers itself, unless another is free, with no queries of its own left.
 */
#ifndef MYR_DIST_COORDINATOR_H
#define MYR_DIST_COORDINATOR_H

#include "dist/desk.h"
#include "dist/mail.h"

/* What a batch asks of one host. */
typedef struct myr_parcel {
    myr_buffer places; /* uint32_t rows among the batch's queries */
    myr_buffer visits; /* myr_visit */
    myr_buffer bytes;  /* the message, to another rank */
    size_t n_queries, n_visits;
    size_t latest; /* the query added last, plus one */
    bool is_waiting;
    MPI_Request sent;
} myr_parcel;

/* A batch under way. */
typedef struct myr_batch {
    size_t first;        /* of its queries */
    size_t n_waiting;    /* parcels not answered; 0 = nothing is under way here */
    myr_parcel *parcels; /* (n_ranks) */
    myr_buffer rows;     /* hits of its own rank's part */
    double began_s;
} myr_batch;

typedef struct myr_coordinator {
    myr_cluster *cluster;              /* [borrowed] */
    const myr_search_options *options; /* [borrowed] */
    myr_mail *mail;                    /* [borrowed] */
    size_t dim, n_ranks;
    const float *queries; /* (n, dim) [borrowed] */
    size_t n, next;       /* all, and the first that is not asked yet */
    myr_hit *hits;        /* (n, k) [borrowed] */
    size_t most;          /* queries of a batch */
    size_t n_batches;     /* the window */
    myr_batch *batches;
    size_t *load;     /* (n_ranks) visits sent and not answered */
    bool *is_free;    /* (n_ranks) it has nothing left to ask */
    bool has_stopped; /* no more batches: a rank failed */
    double n_probes, sent_bytes;
    double route_s, merge_s;
    myr_buffer batch_s; /* double: seconds of every batch */
} myr_coordinator;

/* Bytes of the largest parcel and answer that a batch of n queries makes. */
size_t myr_parcel_bytes(const myr_cluster *cluster, size_t n);
size_t myr_answer_bytes(const myr_search_options *options, size_t n);

/* n_queries of this rank, all its own; most and n_batches: queries of a batch, batches under way. Local. */
myr_status myr_coordinator_init(myr_cluster *cluster, const myr_search_options *options, myr_mail *mail,
                                const float *queries, size_t n_queries, myr_hit *hits, size_t most, size_t n_batches,
                                myr_coordinator *self);
/* By then nothing is under way. */
void myr_coordinator_fini(myr_coordinator *self);

/* Sends batches until the window is full, the last one lies on this rank's desk alone, or none is left. Local. */
myr_status myr_coordinator_ask(myr_coordinator *self);
/* Nothing is left to ask, or may be, and nothing is under way. */
bool myr_coordinator_is_done(const myr_coordinator *self);

/* This rank's own parts of batches that wait to be served: their numbers, at most n. */
size_t myr_coordinator_own(const myr_coordinator *self, size_t *batches, size_t n);
/* The job of one. MYR_ERR_NOMEM without room for its rows. */
myr_status myr_coordinator_job(myr_coordinator *self, size_t batch, myr_job *job);
/* It was served, or failed. */
void myr_coordinator_serve(myr_coordinator *self, size_t batch, myr_status status);
/* An answer has come. */
void myr_coordinator_merge(myr_coordinator *self, const myr_letter *letter);

/* The other side: the job in a parcel, whose rows lie in the letter's reply; and the bytes of that reply. */
myr_job myr_parcel_job(const myr_letter *letter);
size_t myr_parcel_reply(const myr_letter *letter, const myr_search_options *options, myr_status status);

#endif
