/*
 * The crew of a rank: worker threads that turn chunks of items into chunk files.
 *
 * The rank's main thread, the only one that talks MPI, adds chunks and takes
 * finished ones; workers take batches. The worker that completes a chunk's last
 * batch writes its file. No MPI here.
 */
#ifndef MYR_DIST_CREW_H
#define MYR_DIST_CREW_H

#include "corpus/ahead.h"
#include "dist/encode.h"
#include "myriops/store.h"

typedef struct myr_crew myr_crew;

typedef struct myr_crew_options {
    const myr_encoder *encoder; /* [borrowed] */
    const char *folder;         /* [borrowed] where chunk-NNNNNN.h5 go */
    const char *model, *metric; /* [borrowed] attributes of each chunk */
    const char *tag;            /* [borrowed] in the names of temporary files: no two ranks have the same */
    myr_storage storage;
    const myr_stage *stage; /* [borrowed] copies of tars on this host, NULL = none */
    int n_threads;
} myr_crew_options;

typedef struct myr_crew_finished {
    int64_t chunk, n_good, n_bad;
    myr_buffer bad; /* [owned by who takes it] lines of bad.tsv */
} myr_crew_finished;

myr_status myr_crew_create(const myr_crew_options *options, myr_crew **crew);
/* Stops the workers, drops what is not finished, releases everything. phases [out] may be NULL: seconds summed over
 * threads. */
void myr_crew_free(myr_crew *crew, myr_phases *phases);

/* Tell the workers to end after the batch in hand; returns at once. */
void myr_crew_stop(myr_crew *crew);
/* Whether all workers have ended. */
bool myr_crew_is_over(myr_crew *crew);

/*
 * myr_crew_add - add a chunk.
 *
 *  items  taken over, also on failure
 *  retry  the chunk's file is there: only what is bad in it is tried again, and the file is written anew. Where it
 * cannot be read all items are
 */
myr_status myr_crew_add(myr_crew *crew, int64_t chunk, myr_item_list *items, bool retry);
/* Another rank has made the chunk: what is left of it is not done, and no file written, unless that has begun. */
void myr_crew_drop(myr_crew *crew, int64_t chunk);
/* When the first of the workers had nothing to do, if since then no chunk was added; 0 = all are at work. */
double myr_crew_idle_since(myr_crew *crew);
/* Batches no worker has begun yet. */
int64_t myr_crew_waiting(myr_crew *crew);
/* Items tried so far, good or bad. */
int64_t myr_crew_done(myr_crew *crew);
/* A chunk whose file is in place; false when there is none just now. */
bool myr_crew_take_finished(myr_crew *crew, myr_crew_finished *finished);
/* The first failure of a worker, its sentence as this thread's detail. */
myr_status myr_crew_status(myr_crew *crew);

/* "<folder>/chunk-000042.h5". [owned by caller] */
char *myr_chunk_path(const char *folder, int64_t chunk);

#endif
