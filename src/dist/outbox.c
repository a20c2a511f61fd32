/*
 * Each message keeps its bytes until MPI is done with them.
 */
#include "dist/outbox.h"

#include "base/alloc.h"

#include <stdlib.h>

typedef struct myr_letter {
    struct myr_letter *next;
    MPI_Request request;
    myr_buffer message;
} letter;

myr_status myr_outbox_send(myr_outbox *box, const myr_comm *comm, int rank, int tag, myr_buffer *message)
{
    letter *sent = myr_alloc(1, sizeof *sent);
    myr_status status = MYR_OK;
    if (!sent || message->failed)
        status = myr_fail(MYR_ERR_NOMEM, "no memory for a message to rank %d; use a smaller --chunk", rank);
    else if (message->size > INT32_MAX)
        status = myr_fail(MYR_ERR_LIMIT, "a message to rank %d is over 2 GiB; use a smaller --chunk", rank);
    if (status != MYR_OK) {
        free(sent);
        myr_buffer_free(message);
        return status;
    }
    *sent = (letter){.next = box->letters, .message = *message};
    *message = (myr_buffer){0};
    MPI_Isend(sent->message.data, (int)sent->message.size, MPI_BYTE, rank, tag, comm->mpi, &sent->request);
    box->letters = sent;
    box->sent_bytes += (double)sent->message.size;
    return MYR_OK;
}

static void look_after(myr_outbox *box, bool wait)
{
    for (letter **link = &box->letters; *link;) {
        letter *sent = *link;
        int gone = wait;
        if (wait)
            MPI_Wait(&sent->request, MPI_STATUS_IGNORE);
        else
            MPI_Test(&sent->request, &gone, MPI_STATUS_IGNORE);
        if (!gone) {
            link = &sent->next;
            continue;
        }
        *link = sent->next;
        myr_buffer_free(&sent->message);
        free(sent);
    }
}

void myr_outbox_tend(myr_outbox *box)
{
    look_after(box, false);
}

void myr_outbox_flush(myr_outbox *box)
{
    look_after(box, true);
}
