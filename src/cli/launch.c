/*
 * Looking at the launcher's traces: its environment, the ranks' affinities.
 */
#include "cli/launch.h"

#include "base/log.h"
#include "base/pool.h"

#include <mpi.h>
#include <sched.h>
#include <stdlib.h>

static int number_of(const char *name)
{
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

myr_launch myr_launch_read(void)
{
    myr_launch launch = {.by_mpirun = number_of("OMPI_COMM_WORLD_SIZE"), .by_other = number_of("PMI_SIZE")};
    if (getenv("SLURM_STEP_ID") && !getenv("PMIX_RANK"))
        launch.by_srun = number_of("SLURM_STEP_NUM_TASKS");
    return launch;
}

myr_status myr_launch_check(const myr_launch *launch, int size)
{
    if (launch->by_mpirun > 0)
        return launch->by_mpirun == size
                   ? MYR_OK
                   : myr_fail(MYR_ERR_COMM,
                              "mpirun started %d ranks, which found %d of each other: is it the mpirun "
                              "of the Open MPI that Myriops was built with?",
                              launch->by_mpirun, size);
    if (size == 1 && launch->by_srun > 1)
        return myr_fail(
            MYR_ERR_COMM,
            "srun started %d ranks that do not know of each other: start them with srun --mpi=pmix, or with "
            "mpirun inside the allocation",
            launch->by_srun);
    if (size == 1 && launch->by_other > 1)
        return myr_fail(
            MYR_ERR_COMM,
            "the launcher started %d ranks that do not know of each other: it belongs to another MPI; use Open "
            "MPI's mpirun",
            launch->by_other);
    return MYR_OK;
}

/* The ranks of a host and the processors they may use. */
typedef struct host {
    int n_ranks;
    int mine;     /* processors of this rank */
    int sum;      /* of all ranks, those shared counted for each */
    int together; /* processors there are */
} host;

static host look_around(void)
{
    host here = {.n_ranks = 1};
    cpu_set_t mask, all;
    MPI_Comm comm;
    CPU_ZERO(&mask);
    if (sched_getaffinity(0, sizeof mask, &mask) != 0)
        CPU_SET(0, &mask);
    here.mine = here.sum = here.together = CPU_COUNT(&mask);
    if (MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &comm) == MPI_SUCCESS) {
        MPI_Comm_size(comm, &here.n_ranks);
        MPI_Allreduce(&mask, &all, (int)sizeof mask, MPI_BYTE, MPI_BOR, comm);
        MPI_Allreduce(&here.mine, &here.sum, 1, MPI_INT, MPI_SUM, comm);
        here.together = CPU_COUNT(&all);
        MPI_Comm_free(&comm);
    }
    int usable = myr_usable_cpus();
    if (usable < here.mine) /* a quota, which all ranks of the cgroup share */
        here.together = usable < here.together ? usable : here.together;
    return here;
}

int myr_launch_threads(int asked, bool will_run)
{
    host here = look_around();
    int share = (int)((long long)here.mine * here.together / here.sum), n_threads = share > 0 ? share : 1, rank;
    n_threads = asked > 0 ? asked : n_threads;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (will_run && rank == 0 && (long long)n_threads * here.n_ranks > here.together)
        myr_note("%d rank%s x %d thread%s on %d processor%s: they will wait for each other; fewer are faster",
                 here.n_ranks, here.n_ranks == 1 ? "" : "s", n_threads, n_threads == 1 ? "" : "s", here.together,
                 here.together == 1 ? "" : "s");
    return n_threads;
}
