/*
 * Encoding a batch: read, prepare into slots, run once, copy out.
 */
#include "dist/encode.h"

#include "base/alloc.h"
#include "base/pool.h"
#include "base/progress.h"
#include "dist/comm.h"

#include <stdlib.h>
#include <string.h>

myr_status myr_encode_tools_create(const myr_encoder *encoder, myr_encode_tools *tools)
{
    *tools = (myr_encode_tools){0};
    myr_status status = myr_encoder_worker_create(encoder, &tools->worker);
    if (status == MYR_OK)
        status = myr_item_reader_create(&tools->reader);
    if (status != MYR_OK)
        myr_encode_tools_free(tools);
    return status;
}

void myr_encode_tools_free(myr_encode_tools *tools)
{
    myr_encoder_worker_free(tools->worker);
    myr_item_reader_free(tools->reader);
    tools->worker = NULL;
    tools->reader = NULL;
}

/* Whether a failure is the item's own, to be counted and passed over. */
static bool is_item_fault(myr_status status)
{
    return status != MYR_ERR_INTERNAL && status != MYR_ERR_ARG;
}

static myr_status prepare_item(myr_encode_tools *tools, const myr_item *item, int slot)
{
    if (item->problem)
        return myr_fail(MYR_ERR_FORMAT, "%s", item->problem);
    const void *bytes = NULL;
    size_t n_bytes = 0;
    double start_s = myr_now_s();
    myr_status status = myr_item_reader_read(tools->reader, item, &bytes, &n_bytes);
    if (status == MYR_ERR_IO) /* shared file systems have moments; an item counted as bad is not tried by later runs */
        status = myr_item_reader_read(tools->reader, item, &bytes, &n_bytes);
    double read_s = myr_now_s();
    tools->phases.read_s += read_s - start_s;
    if (status == MYR_OK)
        status = myr_encoder_prepare_form(tools->worker, slot, &item->form, bytes, n_bytes);
    tools->phases.prepare_s += myr_now_s() - read_s;
    return status;
}

/* Keep the failure's sentence as the item's reason; other failures go up. */
static myr_status note_reason(myr_status status, char **reason)
{
    if (status == MYR_OK)
        return MYR_OK;
    if (!is_item_fault(status))
        return status;
    *reason = myr_strdup(myr_error_detail());
    return *reason ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for the reason of a bad item");
}

myr_status myr_encode_batch(myr_encode_tools *tools, const myr_encoder *encoder, const myr_item_list *items,
                            int64_t first, int n, const bool *done, float *vectors, char **reasons)
{
    size_t dim = (size_t)myr_encoder_dim(encoder);
    int n_good = 0;
    for (int slot = 0; slot < n; slot++)
        reasons[slot] = NULL;
    for (int slot = 0; slot < n; slot++) {
        myr_item item;
        if (done && done[slot])
            continue;
        memset(vectors + (size_t)slot * dim, 0, dim * sizeof *vectors);
        myr_item_list_item(items, first + slot, &item);
        myr_status status = note_reason(prepare_item(tools, &item, slot), &reasons[slot]);
        if (status != MYR_OK)
            return status;
        n_good += reasons[slot] == NULL;
    }
    if (n_good == 0)
        return MYR_OK;
    double start_s = myr_now_s();
    myr_status status = myr_encoder_run(tools->worker);
    tools->phases.infer_s += myr_now_s() - start_s;
    for (int slot = 0; slot < n && status == MYR_OK; slot++) {
        if (reasons[slot] || (done && done[slot]))
            continue;
        status = note_reason(myr_encoder_vector(tools->worker, slot, vectors + (size_t)slot * dim), &reasons[slot]);
    }
    return status;
}

typedef struct list_job {
    const myr_encoder *encoder;
    const myr_item_list *items;
    myr_encode_tools *tools; /* one a thread, made on first use */
    float *vectors;
    char **reasons;
} list_job;

static myr_status encode_piece(void *context, size_t first, size_t last, int thread)
{
    list_job *job = context;
    if (myr_stop_requested)
        return myr_fail(MYR_ERR_STOPPED, "stopped by a signal");
    myr_encode_tools *tools = &job->tools[thread];
    if (!tools->worker) {
        myr_status status = myr_encode_tools_create(job->encoder, tools);
        if (status != MYR_OK)
            return status;
    }
    return myr_encode_batch(tools, job->encoder, job->items, (int64_t)first, (int)(last - first), NULL,
                            job->vectors + first * (size_t)myr_encoder_dim(job->encoder), job->reasons + first);
}

myr_status myr_encode_list(const myr_encoder *encoder, const myr_item_list *items, int n_threads, float *vectors,
                           char **reasons)
{
    myr_pool *pool = NULL;
    list_job job = {.encoder = encoder, .items = items, .vectors = vectors, .reasons = reasons};
    job.tools = myr_alloc((size_t)n_threads, sizeof *job.tools);
    if (!job.tools)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %d encoding threads", n_threads);
    myr_status status = myr_pool_create(n_threads, &pool);
    if (status == MYR_OK)
        status =
            myr_pool_for(pool, (size_t)myr_item_list_n(items), (size_t)myr_encoder_batch(encoder), encode_piece, &job);
    for (int thread = 0; thread < n_threads; thread++)
        myr_encode_tools_free(&job.tools[thread]);
    free(job.tools);
    myr_pool_free(pool);
    return status;
}
