/*
 * The thread pool: threads sleep on a condition until a loop is posted, then take
 * pieces from one atomic counter.
 */
#include "base/pool.h"

#include "base/alloc.h"

#include <pthread.h>
#include <stdbool.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct myr_pool {
    int n_threads;
    pthread_t *threads;
    int n_started;
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    unsigned generation; /* counts loops, so that a thread joins each once */
    int n_busy;
    bool closing;
    size_t n, grain;
    myr_task task;
    void *context;
    atomic_size_t next_piece;
    myr_status status; /* of the first failing task */
    char detail[1024];
};

typedef struct member {
    myr_pool *pool;
    int thread;
} member;

/* CPU quota of the cgroup in whole CPUs, rounded up; 0 = none. */
static int cgroup_cpus(void)
{
    long long quota = -1, period = 0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (file) {
        if (fscanf(file, "%lld %lld", &quota, &period) != 2)
            quota = -1;
        fclose(file);
    } else {
        FILE *a = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r"),
             *b = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r");
        if (!a || !b || fscanf(a, "%lld", &quota) != 1 || fscanf(b, "%lld", &period) != 1)
            quota = -1;
        if (a)
            fclose(a);
        if (b)
            fclose(b);
    }
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int myr_usable_cpus(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int quota = cgroup_cpus();
    if (quota > 0 && quota < n)
        n = quota;
    return n > 0 ? n : 1;
}

static void take_pieces(myr_pool *pool, int thread)
{
    size_t n_pieces = pool->n / pool->grain + (pool->n % pool->grain != 0);
    for (size_t piece; (piece = atomic_fetch_add(&pool->next_piece, 1)) < n_pieces;) {
        size_t first = piece * pool->grain;
        size_t last = pool->n - first < pool->grain ? pool->n : first + pool->grain;
        myr_status status = pool->task(pool->context, first, last, thread);
        if (status == MYR_OK)
            continue;
        pthread_mutex_lock(&pool->lock);
        if (pool->status == MYR_OK) {
            pool->status = status;
            snprintf(pool->detail, sizeof pool->detail, "%s", myr_error_detail());
        }
        pthread_mutex_unlock(&pool->lock);
        atomic_store(&pool->next_piece, n_pieces); /* the rest is not begun */
    }
}

static void *serve(void *argument)
{
    member self = *(member *)argument;
    free(argument);
    myr_pool *pool = self.pool;
    unsigned seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->closing && pool->generation == seen)
            pthread_cond_wait(&pool->begin, &pool->lock);
        if (pool->closing)
            break;
        seen = pool->generation;
        pthread_mutex_unlock(&pool->lock);
        take_pieces(pool, self.thread);
        pthread_mutex_lock(&pool->lock);
        if (--pool->n_busy == 0)
            pthread_cond_signal(&pool->end);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

myr_status myr_pool_create(int n_threads, myr_pool **out)
{
    *out = NULL;
    if (n_threads < 1)
        return myr_fail(MYR_ERR_ARG, "a pool needs at least one thread, not %d", n_threads);
    myr_pool *pool = myr_alloc(1, sizeof *pool);
    if (!pool)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a thread pool");
    pool->n_threads = n_threads;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->begin, NULL);
    pthread_cond_init(&pool->end, NULL);
    pool->threads = myr_alloc((size_t)n_threads, sizeof *pool->threads);
    for (int i = 1; pool->threads && i < n_threads; i++) {
        member *self = malloc(sizeof *self);
        if (!self)
            break;
        *self = (member){.pool = pool, .thread = i};
        if (pthread_create(&pool->threads[i - 1], NULL, serve, self) != 0) {
            free(self);
            break;
        }
        pool->n_started++;
    }
    if (!pool->threads || pool->n_started < n_threads - 1) {
        myr_pool_free(pool);
        return myr_fail(MYR_ERR_NOMEM, "%d threads could not be started; use fewer --threads", n_threads);
    }
    *out = pool;
    return MYR_OK;
}

void myr_pool_free(myr_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->begin);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->n_started; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->begin);
    pthread_cond_destroy(&pool->end);
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool);
}

int myr_pool_n_threads(const myr_pool *pool)
{
    return pool ? pool->n_threads : 1;
}

static myr_status run_alone(size_t n, size_t grain, myr_task task, void *context)
{
    for (size_t first = 0; first < n;) {
        size_t last = n - first < grain ? n : first + grain;
        myr_status status = task(context, first, last, 0);
        if (status != MYR_OK)
            return status;
        first = last;
    }
    return MYR_OK;
}

myr_status myr_pool_for(myr_pool *pool, size_t n, size_t grain, myr_task task, void *context)
{
    if (grain == 0)
        grain = 1;
    if (!pool || pool->n_threads == 1 || n <= grain)
        return run_alone(n, grain, task, context);
    pthread_mutex_lock(&pool->lock);
    pool->n = n;
    pool->grain = grain;
    pool->task = task;
    pool->context = context;
    pool->status = MYR_OK;
    atomic_store(&pool->next_piece, 0);
    pool->n_busy = pool->n_started;
    pool->generation++;
    pthread_cond_broadcast(&pool->begin);
    pthread_mutex_unlock(&pool->lock);
    take_pieces(pool, 0);
    pthread_mutex_lock(&pool->lock);
    while (pool->n_busy > 0)
        pthread_cond_wait(&pool->end, &pool->lock);
    myr_status status = pool->status;
    pthread_mutex_unlock(&pool->lock);
    return status == MYR_OK ? MYR_OK : myr_fail(status, "%s", pool->detail);
}
