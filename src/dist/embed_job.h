/*
 * The embedding job from inside: what embed.c (begin and end) and embed_talk.c (what ranks say to each other) share.
 */
#ifndef MYR_DIST_EMBED_JOB_H
#define MYR_DIST_EMBED_JOB_H

#include "base/progress.h"
#include "dist/embed.h"
#include "dist/outbox.h"
#include "dist/output.h"

#define MYR_HOST_BYTES MPI_MAX_PROCESSOR_NAME

/* Rank 0's view of the job. */
typedef struct myr_embed_root {
    myr_corpus *corpus;
    myr_output output;
    myr_outbox outbox;
    char *hosts;         /* (size, MYR_HOST_BYTES) names */
    int64_t *rank_items; /* (size) items tried by each rank in this run */
    bool *wants;         /* (size) asked for a chunk, has none yet */
    bool *gone;          /* (size) said goodbye; the root itself from the start */
    int n_gone;
    bool ended;
    double ended_s, served_s, looped_s;
    myr_progress progress;
} myr_embed_root;

typedef struct myr_embed_job {
    const myr_comm *comm;
    const myr_embed_options *options;
    myr_embed_report *report;
    myr_encoder *encoder;
    myr_crew *crew;
    myr_stage *stage;    /* NULL = none */
    myr_embed_root root; /* rank 0 */
    bool asked;          /* a request is on its way */
    bool ended;          /* told to end */
    bool gave_up;
    double begun_s, reported_s;
    double sent_bytes;    /* to the root; what the root sends, its outbox counts */
    double idle_at_end_s; /* since the first worker had nothing to do */
    char tag[40];         /* in the names of this rank's temporary files: no other rank and no other run has it */
    int lock;             /* rank 0: the output folder is this job's; -1 = not held */
} myr_embed_job;

/*
 * myr_embed_talk - hand out and take chunks until the job ends.
 *
 * Collective. On return no message is left over, and no worker has anything in hand, except where report->n_lost is set
 * on rank 0: then some ranks do not answer.
 *
 * Returns:  this rank's own outcome, to be agreed on
 */
myr_status myr_embed_talk(myr_embed_job *job);

#endif
