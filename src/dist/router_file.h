/*
 * The router as a file, and as a message to all ranks.
 */
#ifndef MYR_DIST_ROUTER_FILE_H
#define MYR_DIST_ROUTER_FILE_H

#include "dist/comm.h"
#include "myriops/partition.h"

/* myr_router_write - a packed router to path, whole or not at all. */
myr_status myr_router_write(const char *path, const myr_router *router);
/* myr_router_read - checksum: what index.json says of the whole file. */
myr_status myr_router_read(const char *path, uint64_t checksum, myr_router **router);
/* myr_router_share - Collective. Rank 0's router to all; *router is NULL on the others before. */
myr_status myr_router_share(const myr_comm *comm, myr_router **router);

#endif
