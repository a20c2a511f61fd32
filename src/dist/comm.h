/*
 * The ranks of a job: a private communicator, and agreement on errors.
 *
 * Only dist/ and cli/ see mpi.h. The communicator is a duplicate owned by the
 * job, so that its messages never meet another job's.
 */
#ifndef MYR_DIST_COMM_H
#define MYR_DIST_COMM_H

#include "base/buffer.h"

#include <mpi.h>
#include <signal.h>

typedef struct myr_comm {
    MPI_Comm mpi; /* [owned] duplicate */
    int rank, size;
} myr_comm;

/* Collective over parent. Calls of one thread only (MPI_THREAD_FUNNELED) are made through comm. */
myr_status myr_comm_create(MPI_Comm parent, myr_comm *comm);
/* Collective. */
void myr_comm_free(myr_comm *comm);

/*
 * myr_comm_agree - one outcome for all ranks.
 *
 * Collective. If any rank failed, every rank returns the status of the lowest failing rank, and its
 * sentence becomes myr_error_detail() everywhere. Every phase in which a rank can fail alone ends so,
 * before the next collective call: that is how no rank is left waiting for one that gave up.
 */
myr_status myr_comm_agree(const myr_comm *comm, myr_status mine);

/* Collective. Rank 0's bytes to all; the other ranks' buffer is replaced. Bytes past 2^31 go in pieces. */
myr_status myr_comm_share(const myr_comm *comm, myr_buffer *bytes);

/* What one message holds, and one round of an exchange: counts of MPI are ints, and memory is bounded. 256 MiB; tests
 * take less, to see that what is longer goes in pieces. Alike on all ranks. */
extern size_t myr_message_bytes;

/* Set by SIGTERM, SIGINT and SIGUSR1; jobs look at it between pieces of work and end with MYR_ERR_STOPPED. */
extern volatile sig_atomic_t myr_stop_requested;

#endif
