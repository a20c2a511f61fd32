/*
 * What the launcher made of this job: as many ranks as it promised, and the processors they share.
 */
#ifndef MYR_CLI_LAUNCH_H
#define MYR_CLI_LAUNCH_H

#include "myriops/status.h"

#include <stdbool.h>

/* How many ranks each kind of launcher says that it started; 0 = it did not. */
typedef struct myr_launch {
    int by_mpirun, by_srun, by_other;
} myr_launch;

/* Before MPI_Init, which leaves traces of its own. */
myr_launch myr_launch_read(void);

/*
 * myr_launch_check - whether ranks found each other.
 *
 * Local. A launcher that Open MPI does not understand starts n programs that are worlds of one, each of which would do
 * the whole work, all into the same folder.
 *
 *  size  of MPI_COMM_WORLD
 *
 * Returns:  MYR_OK | MYR_ERR_COMM (says what to do)
 */
myr_status myr_launch_check(const myr_launch *launch, int size);

/*
 * myr_launch_threads - threads for this rank: those asked for, or its share of the processors.
 *
 * Collective over all ranks. Ranks on one host share the processors that both may use, and have those for themselves
 * that they were bound to alone; a cgroup's quota is shared by all. Where threads are more than processors, rank 0 says
 * so.
 *
 *  asked     0 = as many as there is room for
 *  will_run  here; a plan's threads are those of other machines
 */
int myr_launch_threads(int asked, bool will_run);

#endif
