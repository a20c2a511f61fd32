/*
 * A sum over the ranks of a host.
 */
#include "dist/room.h"

#include "base/memory.h"

myr_status myr_room_check(const myr_comm *comm, double mine, double rank_bytes, const char *purpose, const char *remedy)
{
    double all = mine, available = rank_bytes > 0 ? rank_bytes : myr_memory_available();
    int n_here = 1;
    MPI_Comm host;
    if (rank_bytes <= 0 &&
        MPI_Comm_split_type(comm->mpi, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host) == MPI_SUCCESS) {
        MPI_Allreduce(&mine, &all, 1, MPI_DOUBLE, MPI_SUM, host);
        MPI_Comm_size(host, &n_here);
        MPI_Comm_free(&host);
    }
    myr_status status = MYR_OK;
    if (available > 0 && all > available)
        status = myr_fail(MYR_ERR_NOMEM, "%d rank%s of a host need%s %.3g GB to %s, and there is %.3g GB: %s", n_here,
                          n_here == 1 ? "" : "s", n_here == 1 ? "s" : "", all / 1e9, purpose, available / 1e9, remedy);
    return myr_comm_agree(comm, status);
}
