/*
 * Threads: a fixed pool and one loop over it.
 */
#ifndef MYR_BASE_POOL_H
#define MYR_BASE_POOL_H

#include "myriops/status.h"

#include <stddef.h>

/* CPUs this process may really use: affinity mask and cgroup quota honoured, at least 1. */
int myr_usable_cpus(void);

typedef struct myr_pool myr_pool;

/* myr_pool_create - n_threads >= 1 in all: n_threads - 1 are started, the caller is the last. */
myr_status myr_pool_create(int n_threads, myr_pool **pool);
void myr_pool_free(myr_pool *pool);
int myr_pool_n_threads(const myr_pool *pool);

/*
 * One task of a loop: items [first, last) on thread `thread` (0-based, for scratch
 * memory). The first failing task's status and detail are what the loop returns.
 */
typedef myr_status (*myr_task)(void *context, size_t first, size_t last, int thread);

/*
 * myr_pool_for - run task over [0, n) in pieces of `grain` items; returns when all ended.
 *
 * Pieces start at multiples of grain whatever the number of threads; which thread runs
 * which piece is open, so results must not depend on it. pool NULL = this thread alone.
 * Threads:  one caller at a time; not from inside a task.
 */
myr_status myr_pool_for(myr_pool *pool, size_t n, size_t grain, myr_task task, void *context);

#endif
