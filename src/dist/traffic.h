/*
 * Which shards queries have visited: a file that runs add to, and that tells which shards to host more than once.
 *
 *   {"index": digest, "visits": [number for each shard]}
 */
#ifndef MYR_DIST_TRAFFIC_H
#define MYR_DIST_TRAFFIC_H

#include "dist/index_manifest.h"

/*
 * myr_traffic_read - visits of an index's shards.
 *
 * Local. A file that is not there, or is of another index, tells of none.
 *
 *  visits  [out] (n_shards)
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT | MYR_ERR_IO | MYR_ERR_NOMEM
 */
myr_status myr_traffic_read(const char *path, const myr_index_manifest *manifest, uint64_t *visits);
/* Adds to what the file tells, atomically. Local. */
myr_status myr_traffic_add(const char *path, const myr_index_manifest *manifest, const uint64_t *visits);

#endif
