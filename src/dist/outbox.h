/*
 * Messages on their way that must not hold up who sends them: a rank that does not receive, because its host hangs or
 * it was stopped, must not stop the others.
 */
#ifndef MYR_DIST_OUTBOX_H
#define MYR_DIST_OUTBOX_H

#include "dist/comm.h"

typedef struct myr_outbox {
    struct myr_letter *letters; /* [owned] sent, not known to have arrived */
    double sent_bytes;          /* so far */
} myr_outbox;

/* myr_outbox_send - begin to send; message is taken over and left empty, also on failure. */
myr_status myr_outbox_send(myr_outbox *box, const myr_comm *comm, int rank, int tag, myr_buffer *message);
/* Let go of what has arrived. */
void myr_outbox_tend(myr_outbox *box);
/* Wait until all has arrived. */
void myr_outbox_flush(myr_outbox *box);

#endif
