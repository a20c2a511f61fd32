/*
 * Communicators and agreement.
 */
#include "dist/comm.h"

#include <stdlib.h>
#include <string.h>

#define DETAIL_BYTES 1024

volatile sig_atomic_t myr_stop_requested;

size_t myr_message_bytes = (size_t)1 << 28;

myr_status myr_comm_create(MPI_Comm parent, myr_comm *comm)
{
    if (MPI_Comm_dup(parent, &comm->mpi) != MPI_SUCCESS)
        return myr_fail(MYR_ERR_COMM,
                        "MPI_Comm_dup failed; is the launcher's Open MPI the one Myriops was built with?");
    MPI_Comm_rank(comm->mpi, &comm->rank);
    MPI_Comm_size(comm->mpi, &comm->size);
    return MYR_OK;
}

void myr_comm_free(myr_comm *comm)
{
    if (comm->size > 0)
        MPI_Comm_free(&comm->mpi);
    *comm = (myr_comm){0};
}

myr_status myr_comm_agree(const myr_comm *comm, myr_status mine)
{
    int failing = mine == MYR_OK ? comm->size : comm->rank, lowest;
    if (MPI_Allreduce(&failing, &lowest, 1, MPI_INT, MPI_MIN, comm->mpi) != MPI_SUCCESS)
        return myr_fail(MYR_ERR_COMM, "a rank could not be reached while agreeing on the outcome");
    if (lowest == comm->size)
        return MYR_OK;
    struct {
        int status;
        char detail[DETAIL_BYTES];
    } outcome = {.status = mine};
    if (comm->rank == lowest)
        strncpy(outcome.detail, myr_error_detail(), DETAIL_BYTES - 1);
    MPI_Bcast(&outcome, sizeof outcome, MPI_BYTE, lowest, comm->mpi);
    outcome.detail[DETAIL_BYTES - 1] = 0;
    return myr_fail((myr_status)outcome.status, "%s", outcome.detail);
}

myr_status myr_comm_share(const myr_comm *comm, myr_buffer *bytes)
{
    uint64_t n_bytes = bytes->size;
    MPI_Bcast(&n_bytes, 1, MPI_UINT64_T, 0, comm->mpi);
    char *room = bytes->data;
    myr_status status = MYR_OK;
    if (comm->rank != 0) {
        room = malloc(n_bytes + 1);
        if (!room)
            status = myr_fail(MYR_ERR_NOMEM, "rank %d: no memory for %llu bytes from rank 0", comm->rank,
                              (unsigned long long)n_bytes);
    }
    status = myr_comm_agree(comm, status);
    if (status != MYR_OK) {
        if (comm->rank != 0)
            free(room);
        return status;
    }
    for (size_t at = 0; at < n_bytes; at += myr_message_bytes) {
        size_t piece = n_bytes - at < myr_message_bytes ? n_bytes - at : myr_message_bytes;
        MPI_Bcast(room + at, (int)piece, MPI_BYTE, 0, comm->mpi);
    }
    if (comm->rank != 0) {
        myr_buffer_free(bytes);
        room[n_bytes] = 0;
        *bytes = (myr_buffer){.data = room, .size = n_bytes, .capacity = n_bytes + 1};
    }
    return MYR_OK;
}
