/*
 * What is handed out: which chunks are done, who works on which, and what a rank gets next.
 *
 * Kept by rank 0 of the embedding job. Chunks are handed out in their order; when all are, one that takes long is
 * handed out once more to a rank that has nothing to do, and the first to finish it wins: both write the same bytes
 * under names of their own, and a rename replaces a file as a whole. A chunk takes long when its holders have not been
 * heard of for MYR_HANDOUT_SILENCE_S, or when it is out for twice the time that chunks of its size took so far, and a
 * second. No MPI here.
 */
#ifndef MYR_DIST_HANDOUT_H
#define MYR_DIST_HANDOUT_H

#include "myriops/store.h"

typedef struct myr_handout myr_handout;

#define MYR_HANDOUT_SILENCE_S 10.0 /* ranks report twice a second */
#define MYR_HANDOUT_HOLDERS 4      /* ranks that may work on one chunk at the same time */

/* myr_handout_create - sizes: n_items, chunk_items, guided and n_chunks are read, now and later. [borrowed] */
myr_status myr_handout_create(const myr_manifest *sizes, int n_ranks, myr_handout **handout);
void myr_handout_free(myr_handout *handout);

/* The chunk is there from an earlier run. Before anything is handed out. */
void myr_handout_keep(myr_handout *handout, int64_t chunk);
bool myr_handout_is_done(const myr_handout *handout, int64_t chunk);
/* Chunks that are not done. */
int64_t myr_handout_left(const myr_handout *handout);
/* Chunks that were handed out once more. */
int64_t myr_handout_repeated(const myr_handout *handout);

/* A rank has said something. */
void myr_handout_heard(myr_handout *handout, int rank, double now_s);
/* Nothing was listened to for a while: nobody is silent. */
void myr_handout_forgive(myr_handout *handout, double now_s);
/* Seconds since a rank was heard of. */
double myr_handout_silence(const myr_handout *handout, int rank, double now_s);

/* The chunk that the rank shall make now, which is noted; -1 = none at this time. */
int64_t myr_handout_next(myr_handout *handout, int rank, double now_s);
/*
 * myr_handout_finish - a rank has made a chunk.
 *
 *  losers    [out] (MYR_HANDOUT_HOLDERS) ranks that still work on it, to be told to drop it
 *  n_losers  [out]
 *
 * Returns:  whether it is the first; what another says of the chunk is to be ignored
 */
bool myr_handout_finish(myr_handout *handout, int64_t chunk, int rank, double now_s, int *losers, int *n_losers);

#endif
