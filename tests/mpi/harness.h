/*
 * What the tests under mpirun share: a communicator, checks that leave no rank waiting, a folder that all ranks know.
 * ctest runs each test with several numbers of ranks, fewer and more than there is work.
 */
#ifndef MYR_TESTS_MPI_HARNESS_H
#define MYR_TESTS_MPI_HARNESS_H

#include "dist/comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FOLDER_BYTES = 64 };

static myr_comm comm;
static int n_failed;

/* A failure is counted and shown; the others go on, so that no rank is left waiting. */
#define check(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            n_failed++;                                                                                                \
            fprintf(stderr, "rank %d of %d: %s:%d: %s (%s)\n", comm.rank, comm.size, __FILE__, __LINE__, #condition,   \
                    myr_error_detail());                                                                               \
        }                                                                                                              \
    } while (0)

/* Starts MPI; ends the process where that fails. folder: a new one, the same on all ranks, made by rank 0; NULL = none.
 */
static inline void begin_test(int *argc, char ***argv, char *folder)
{
    int provided;
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    if (myr_comm_create(MPI_COMM_WORLD, &comm) != MYR_OK)
        exit(1);
    if (!folder)
        return;
    snprintf(folder, FOLDER_BYTES, "/tmp/myriops-mpi-XXXXXX");
    if (comm.rank == 0)
        check(mkdtemp(folder) != NULL);
    MPI_Bcast(folder, FOLDER_BYTES, MPI_CHAR, 0, comm.mpi);
}

/* Tells how many checks failed on all ranks, removes the folder and ends MPI. Returns the status of the process. */
static inline int end_test(const char *folder)
{
    int all_failed = 0;
    MPI_Allreduce(&n_failed, &all_failed, 1, MPI_INT, MPI_SUM, comm.mpi);
    if (comm.rank == 0) {
        char command[FOLDER_BYTES + 16];
        snprintf(command, sizeof command, "rm -rf %s", folder ? folder : "");
        if (folder && system(command) != 0)
            all_failed++;
        printf("%d ranks: %d checks failed\n", comm.size, all_failed);
    }
    myr_comm_free(&comm);
    MPI_Finalize();
    return all_failed == 0 ? 0 : 1;
}

#endif
