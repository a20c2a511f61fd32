/*
 * A set of keys that every rank knows.
 */
#ifndef MYR_DIST_KEYS_H
#define MYR_DIST_KEYS_H

#include "dist/comm.h"

#include <stdbool.h>

/* Keys, sorted. */
typedef struct myr_key_set {
    myr_buffer texts; /* each ends in 0 */
    const char **keys;
    size_t n;
} myr_key_set;

/* myr_keys_read - the lines of a list, each with its 0, behind texts. Local. MYR_ERR_NOT_FOUND where there is none. */
myr_status myr_keys_read(const char *path, myr_buffer *texts);
/* myr_keys_share - rank 0's texts become a set on every rank, equal keys counted once. Collective. */
myr_status myr_keys_share(const myr_comm *comm, myr_key_set *set);
bool myr_keys_hold(const myr_key_set *set, const char *key);
void myr_keys_free(myr_key_set *set);

#endif
