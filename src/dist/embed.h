/*
 * The embedding job: a corpus into a folder of chunk files, by all ranks, resumable.
 */
#ifndef MYR_DIST_EMBED_H
#define MYR_DIST_EMBED_H

#include "dist/comm.h"
#include "dist/crew.h"

typedef struct myr_embed_options {
    const char *const *operands; /* [borrowed, root] what the user pointed at */
    size_t n_operands;
    myr_corpus_options corpus;
    const char *folder;   /* output */
    const myr_card *card; /* [borrowed] */
    const char *backend;  /* NULL = fastest */
    myr_precision precision;
    double least_cosine; /* as in myr_encoder_options */
    myr_storage storage;
    int n_threads;       /* of this rank */
    int64_t chunk_items; /* 0 = chosen from the size of the corpus, fewer towards its end */
    double max_bad;      /* fraction of bad items above which the job fails */
    bool retry_bad;      /* items that could not be used by earlier runs are tried again */
    const char *stage;   /* folder on a disk of each host to which tars are copied, NULL = none */
    bool keep_stage;     /* the copies stay */
    bool progress;
} myr_embed_options;

typedef struct myr_embed_report {
    int64_t n_items, n_embedded, n_bad;
    int64_t n_before; /* done by earlier runs */
    int64_t n_chunks;
    int64_t n_staged;   /* tars copied, on all hosts */
    int64_t n_repeated; /* chunks handed out once more, to a second rank */
    int n_lost;         /* root: ranks that did not answer in the end */
    int dim;
    myr_precision precision; /* computed in */
    double wall_s;
    double idle_at_end_s; /* from the first worker of any rank that had nothing more to do, to the end */
    int64_t root_peak_bytes, other_peak_bytes; /* memory of rank 0, and the most of another */
    myr_phases phases;                         /* summed over all threads of all ranks */
    double imbalance;  /* seconds in which the busiest rank's threads worked to the mean rank's */
    double sent_bytes; /* by all ranks to others, once the job had begun */
} myr_embed_report;

/*
 * myr_embed - embed a corpus.
 *
 * Collective over comm. options must match on all ranks except those marked [root].
 *
 *  report  [out] the same on every rank
 *
 * The files do not depend on the number of ranks or threads. Chunks whose files exist are kept; a
 * folder made from another corpus or contract is refused.
 *
 * Returns:  MYR_OK | MYR_ERR_STOPPED (finished chunks kept; call again to go on) | MYR_ERR_LIMIT (more
 *           than max_bad failed; all files are in place) | MYR_ERR_CONTRACT | what the parts return
 *
 * A rank that stops answering holds up nothing: its chunks are made by others. Where it is still silent 30 s after the
 * end, report->n_lost is not 0 on the root, which alone returns; the caller prints what there is to print, and ends the
 * job with MPI_Abort, since the others wait in a collective call.
 *
 * Threads:  the calling thread talks MPI; n_threads more are started.
 */
myr_status myr_embed(const myr_comm *comm, const myr_embed_options *options, myr_embed_report *report);

#endif
