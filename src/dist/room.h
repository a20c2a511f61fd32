/*
 * Memory that the ranks of a host need together, against what there is: refused before it is taken.
 */
#ifndef MYR_DIST_ROOM_H
#define MYR_DIST_ROOM_H

#include "dist/comm.h"

/*
 * myr_room_check - whether the ranks of each host find what they need.
 *
 * Collective. rank_bytes must match on all ranks.
 *
 *  mine        bytes that this rank will take
 *  rank_bytes  bytes that a rank may take; 0 = together as many as the host, or their cgroup, has free
 *  purpose     "build their shards", for the sentence
 *  remedy      what to do where there is too little
 *
 * Returns:  MYR_OK | MYR_ERR_NOMEM, the same on every rank.
 */
myr_status myr_room_check(const myr_comm *comm, double mine, double rank_bytes, const char *purpose,
                          const char *remedy);

#endif
