/*
 * Encode items in batches formed by place, never by arrival, so that results do
 * not depend on threads. Shared by the embedding crew, classify and query.
 */
#ifndef MYR_DIST_ENCODE_H
#define MYR_DIST_ENCODE_H

#include "corpus/pack.h"
#include "myriops/corpus.h"
#include "myriops/encoder.h"

/* Seconds of threads; all together they are those of the threads from the job's begin to its end. */
typedef struct myr_phases {
    double read_s, prepare_s, infer_s, write_s;
    double wait_s;    /* for work */
    double other_s;   /* of a worker's life beside these: its tools, taking batches, waiting for each other */
    double outside_s; /* before workers begin and after they have ended: opening the network and the corpus */
} myr_phases;

/* One thread's tools. */
typedef struct myr_encode_tools {
    myr_encoder_worker *worker;
    myr_item_reader *reader;
    myr_phases phases;
} myr_encode_tools;

myr_status myr_encode_tools_create(const myr_encoder *encoder, myr_encode_tools *tools);
void myr_encode_tools_free(myr_encode_tools *tools);

/*
 * myr_encode_batch - items [first, first + n) of a list, n <= the encoder's batch.
 *
 * Local.
 *
 *  done     (n) items whose vectors are there already, or NULL = none: their rows are left as they are
 *  vectors  [out] (n, dim) f32; rows of bad items are zeros
 *  reasons  [out] (n) NULL where fine, else why the item could not be used; [owned by caller]
 *
 * Returns:  MYR_OK even when items are bad; else a failure of the machine
 */
myr_status myr_encode_batch(myr_encode_tools *tools, const myr_encoder *encoder, const myr_item_list *items,
                            int64_t first, int n, const bool *done, float *vectors, char **reasons);

/*
 * myr_encode_list - a whole list on n_threads threads.
 *
 *  vectors, reasons  as above, for all items of the list
 */
myr_status myr_encode_list(const myr_encoder *encoder, const myr_item_list *items, int n_threads, float *vectors,
                           char **reasons);

#endif
