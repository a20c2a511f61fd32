/*
 * The crew of a rank: worker threads that turn chunks of items into chunk files.
 *
 * The rank's main thread, the only one that talks MPI, adds chunks and takes
 * finished ones; workers take batches. The worker that completes a chunk's last
 * batch writes its file. No MPI here.
 */
#ifndef MYR_DIST_CREW_H
#define MYR_DIST_CREW_H

#include "dist/encode.h"
#include "myriops/store.h"

typedef struct myr_crew myr_crew;

typedef struct myr_crew_options {
    const myr_encoder *encoder; /* [borrowed] */
    const char *folder;         /* [borrowed] where chunk-NNNNNN.h5 go */
    const char *model, *metric; /* [borrowed] attributes of each chunk */
    myr_storage storage;
    int n_threads;
} myr_crew_options;

typedef struct myr_crew_finished {
    int64_t chunk, n_good, n_bad;
} myr_crew_finished;

myr_status myr_crew_create(const myr_crew_options *options, myr_crew **crew);
/* Stops the workers, drops what is not finished, releases everything. phases [out] may be NULL: seconds summed over
 * threads. */
void myr_crew_free(myr_crew *crew, myr_phases *phases);

/* Add a chunk; items is taken over, also on failure. */
myr_status myr_crew_add(myr_crew *crew, int64_t chunk, myr_item_list *items);
/* Batches no worker has begun yet. */
int64_t myr_crew_waiting(myr_crew *crew);
/* Pictures through the network so far, good or bad. */
int64_t myr_crew_done(myr_crew *crew);
/* A chunk whose file is in place; false when there is none just now. */
bool myr_crew_take_finished(myr_crew *crew, myr_crew_finished *finished);
/* The first failure of a worker, its sentence as this thread's detail. */
myr_status myr_crew_status(myr_crew *crew);

/* "<folder>/chunk-000042.h5". [owned by caller] */
char *myr_chunk_path(const char *folder, int64_t chunk);

#endif
