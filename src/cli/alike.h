/*
 * Whether the ranks of a job were started alike: the same version, command, operands and settings.
 *
 * What a launcher was told for some ranks only (`mpirun -n 1 myriops index a : -n 1 myriops index b`), a settings file
 * that differs from host to host, or another program on one of them: each ends the job before any work, with a sentence
 * that names the first thing that differs.
 */
#ifndef MYR_CLI_ALIKE_H
#define MYR_CLI_ALIKE_H

#include "base/config.h"
#include "dist/comm.h"

/*
 * myr_alike_command - whether all ranks are of one version and were given one command.
 *
 * Collective.
 *
 *  command  [in] this rank's; NULL = none
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM, the same on every rank.
 */
myr_status myr_alike_command(const myr_comm *comm, const char *command);

/* The same of operands, one by one. Collective. */
myr_status myr_alike_operands(const myr_comm *comm, const char *const *operands, size_t n_operands);

/*
 * myr_alike_settings - whether all ranks have the same settings in force.
 *
 * Collective. Threads are each rank's own affair. What rank 0 has from its environment alone is everybody's: launchers
 * do not pass environments on to other hosts.
 *
 *  config  [in, out] this rank's; afterwards rank 0's but for the threads
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM, the same on every rank.
 */
myr_status myr_alike_settings(const myr_comm *comm, myr_config *config);

#endif
