/*
 * Worker threads of a rank.
 *
 * One mutex guards the list of chunks and every counter; a batch is tens of
 * milliseconds of work, so the lock is never hot.
 */
#include "dist/crew.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/progress.h"
#include "dist/bad_list.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    struct job *next;
    int64_t chunk, n_items;
    int64_t next_item;  /* first item no worker has begun */
    int64_t items_left; /* not yet encoded */
    int32_t *boxes;     /* (n_items, 4) parts of pictures, NULL = all are whole; rows close up as the vectors' do */
    myr_item_list *items;
    myr_ahead_range *range; /* bytes that are read ahead, NULL = none */
    float *vectors;         /* (n_items, dim) */
    char **reasons;         /* (n_items) */
    bool *done;             /* (n_items) vectors taken from the file that is there; NULL = none */
    bool dropped;           /* another rank has made it */
    int64_t n_good, n_bad;
    myr_buffer bad; /* lines of bad.tsv */
} job;

struct myr_crew {
    myr_crew_options options;
    myr_ahead *ahead;
    pthread_mutex_t lock;
    pthread_cond_t work;
    pthread_t *threads;
    int n_started;
    job *waiting, *waiting_end; /* chunks with items no worker has begun, oldest first */
    job *finished;
    int64_t n_waiting_items, n_done;
    job *running; /* all of those, to be released at the end */
    int n_ended;  /* workers */
    double idle_since_s;
    bool stopping;
    myr_status status;
    char detail[1024];
    myr_phases phases;
};

char *myr_chunk_path(const char *folder, int64_t chunk)
{
    char *path = NULL;
    return asprintf(&path, "%s/chunk-%06lld.h5", folder, (long long)chunk) < 0 ? NULL : path;
}

static void free_job(job *done)
{
    if (!done)
        return;
    free(done->boxes);
    for (int64_t i = 0; done->reasons && i < done->n_items; i++)
        free(done->reasons[i]);
    free(done->reasons);
    free(done->vectors);
    free(done->done);
    myr_buffer_free(&done->bad);
    myr_ahead_end(done->range);
    myr_item_list_free(done->items);
    free(done);
}

_Static_assert(sizeof(myr_box) == 4 * sizeof(int32_t), "a box is a row of /box");

/* Room for boxes, where an item is a part of a picture. false without memory. */
static bool make_boxes(job *added)
{
    for (int64_t i = 0; i < added->n_items; i++) {
        myr_item item;
        myr_item_list_item(added->items, i, &item);
        if (item.form.box.width != 0) {
            added->boxes = myr_alloc((size_t)added->n_items, sizeof(myr_box));
            return added->boxes != NULL;
        }
    }
    return true;
}

/* Fill a chunk's row and bad-item arrays, pointing at texts owned by the item list. */
static void split_items(const job *done, size_t dim, myr_chunk *chunk)
{
    for (int64_t i = 0; i < done->n_items; i++) {
        myr_item item;
        myr_item_list_item(done->items, i, &item);
        if (done->reasons[i]) {
            chunk->bad_key[chunk->n_bad] = (char *)item.key;
            chunk->bad_source[chunk->n_bad] = (char *)item.source;
            chunk->bad_reason[chunk->n_bad] = done->reasons[i];
            chunk->bad_n_bytes[chunk->n_bad] = (int64_t)item.n_bytes;
            chunk->bad_ordinal[chunk->n_bad++] = item.ordinal;
            continue;
        }
        if (chunk->n != i) /* rows close up over bad items */
            memmove(done->vectors + (size_t)chunk->n * dim, done->vectors + (size_t)i * dim, dim * sizeof(float));
        if (chunk->box)
            memcpy(chunk->box + 4 * chunk->n, &item.form.box, sizeof item.form.box);
        chunk->key[chunk->n] = (char *)item.key;
        chunk->source[chunk->n] = (char *)item.source;
        chunk->label[chunk->n] = item.label;
        chunk->ordinal[chunk->n++] = item.ordinal;
    }
}

/* Whether another rank has put the chunk's file in place meanwhile: then that is what is reported, since it is what
 * counts.
 */
static bool is_made(const myr_crew *crew, const char *path, job *done)
{
    myr_chunk made = {0};
    bool fits = !done->done && myr_path_exists(path) && myr_chunk_read(path, MYR_CHUNK_BAD, &made) == MYR_OK &&
                strcmp(made.contract, myr_encoder_contract(crew->options.encoder)) == 0 &&
                strcmp(made.metric, crew->options.metric) == 0 && made.dim == myr_encoder_dim(crew->options.encoder) &&
                made.n + made.n_bad == done->n_items;
    if (fits)
        myr_bad_list_put(&done->bad, done->chunk, &made);
    if (fits && !done->bad.failed) {
        done->n_good = made.n;
        done->n_bad = made.n_bad;
    }
    myr_chunk_clear(&made);
    return fits && !done->bad.failed;
}

static myr_status write_job(const myr_crew *crew, job *done)
{
    const myr_crew_options *options = &crew->options;
    size_t n = (size_t)done->n_items;
    myr_chunk chunk = {.dim = myr_encoder_dim(options->encoder),
                       .embedding = done->vectors,
                       .box = done->boxes,
                       .key = myr_alloc(n, sizeof(char *)),
                       .source = myr_alloc(n, sizeof(char *)),
                       .label = myr_alloc(n, sizeof(int32_t)),
                       .ordinal = myr_alloc(n, sizeof(int64_t)),
                       .bad_key = myr_alloc(n, sizeof(char *)),
                       .bad_source = myr_alloc(n, sizeof(char *)),
                       .bad_reason = myr_alloc(n, sizeof(char *)),
                       .bad_ordinal = myr_alloc(n, sizeof(int64_t)),
                       .bad_n_bytes = myr_alloc(n, sizeof(int64_t)),
                       .contract = (char *)myr_encoder_contract(options->encoder),
                       .model = (char *)options->model,
                       .metric = (char *)options->metric};
    char *path = myr_chunk_path(options->folder, done->chunk), *own_path = NULL, *partial = NULL;
    myr_status status;
    if (path && is_made(crew, path, done)) {
        status = MYR_OK;
        goto released;
    }
    if (path && asprintf(&own_path, "%s.%s", path, options->tag) >= 0)
        partial = myr_file_partial_name(own_path);
    if (partial && chunk.key && chunk.source && chunk.label && chunk.ordinal && chunk.bad_key && chunk.bad_source &&
        chunk.bad_reason && chunk.bad_ordinal && chunk.bad_n_bytes) {
        split_items(done, (size_t)chunk.dim, &chunk);
        done->n_good = chunk.n;
        done->n_bad = chunk.n_bad;
        myr_bad_list_put(&done->bad, done->chunk, &chunk);
        status = done->bad.failed ? myr_fail(MYR_ERR_NOMEM, "no memory to list %lld bad items", (long long)chunk.n_bad)
                                  : myr_chunk_write_by(path, partial, &chunk, options->storage);
    } else {
        status = myr_fail(MYR_ERR_NOMEM, "no memory to write a chunk of %zu items; use a smaller --chunk", n);
    }
released:
    free(path);
    free(own_path);
    free(partial);
    free(chunk.key);
    free(chunk.source);
    free(chunk.label);
    free(chunk.ordinal);
    free(chunk.bad_key);
    free(chunk.bad_source);
    free(chunk.bad_reason);
    free(chunk.bad_ordinal);
    free(chunk.bad_n_bytes);
    return status;
}

/* Called with the lock held. */
static void keep_failure(myr_crew *crew, myr_status status)
{
    if (crew->status != MYR_OK)
        return;
    crew->status = status;
    snprintf(crew->detail, sizeof crew->detail, "%s", myr_error_detail());
    crew->stopping = true;
    pthread_cond_broadcast(&crew->work);
}

/* Take the next batch of the oldest chunk. Called with the lock held. */
static job *take_batch(myr_crew *crew, int64_t *first, int *n)
{
    job *oldest = crew->waiting;
    int64_t batch = myr_encoder_batch(crew->options.encoder), left = oldest->n_items - oldest->next_item;
    *first = oldest->next_item;
    *n = (int)(left < batch ? left : batch);
    oldest->next_item += *n;
    crew->n_waiting_items -= *n;
    if (oldest->next_item == oldest->n_items) {
        crew->waiting = oldest->next;
        if (!crew->waiting)
            crew->waiting_end = NULL;
        oldest->next = crew->running;
        crew->running = oldest;
    }
    return oldest;
}

/* Called with the lock held, as the next. */
static void leave_running(myr_crew *crew, job *done)
{
    job **link = &crew->running;
    while (*link != done)
        link = &(*link)->next;
    *link = done->next;
}

static void finish_job(myr_crew *crew, job *done)
{
    leave_running(crew, done);
    done->next = crew->finished;
    crew->finished = done;
}

/* Items of a batch that are to be tried. */
static int64_t count_tries(const job *mine, int64_t first, int n)
{
    int64_t n_tries = 0;
    for (int i = 0; i < n; i++)
        n_tries += !mine->done || !mine->done[first + i];
    return n_tries;
}

/* Encode a batch, with its bytes where they were read ahead. */
static myr_status encode(const myr_crew *crew, myr_encode_tools *tools, const job *mine, int64_t first, int n)
{
    size_t dim = (size_t)myr_encoder_dim(crew->options.encoder);
    double start_s = myr_now_s();
    if (mine->range)
        myr_ahead_lend(mine->range, first, tools->reader);
    tools->phases.read_s += myr_now_s() - start_s;
    myr_status status =
        myr_encode_batch(tools, crew->options.encoder, mine->items, first, n, mine->done ? mine->done + first : NULL,
                         mine->vectors + (size_t)first * dim, mine->reasons + first);
    if (mine->range)
        myr_ahead_return(mine->range, first, tools->reader);
    return status;
}

static void *work(void *context)
{
    myr_crew *crew = context;
    myr_encode_tools tools;
    double begun_s = myr_now_s(), wait_s = 0;
    myr_status status = myr_encode_tools_create(crew->options.encoder, &tools);
    pthread_mutex_lock(&crew->lock);
    if (status != MYR_OK)
        keep_failure(crew, status);
    for (;;) {
        while (!crew->stopping && !crew->waiting) {
            double idle_s = myr_now_s();
            if (crew->idle_since_s == 0)
                crew->idle_since_s = idle_s;
            pthread_cond_wait(&crew->work, &crew->lock);
            wait_s += myr_now_s() - idle_s;
        }
        if (crew->stopping)
            break;
        int64_t first;
        int n;
        job *mine = take_batch(crew, &first, &n);
        pthread_mutex_unlock(&crew->lock);
        status = encode(crew, &tools, mine, first, n);
        pthread_mutex_lock(&crew->lock);
        crew->n_done += count_tries(mine, first, n);
        mine->items_left -= n;
        if (status == MYR_OK && mine->items_left == 0 && mine->dropped) {
            leave_running(crew, mine);
            free_job(mine);
        } else if (status == MYR_OK && mine->items_left == 0 && !crew->stopping) {
            pthread_mutex_unlock(&crew->lock);
            double start_s = myr_now_s();
            status = write_job(crew, mine);
            tools.phases.write_s += myr_now_s() - start_s;
            pthread_mutex_lock(&crew->lock);
            if (status == MYR_OK)
                finish_job(crew, mine);
        }
        if (status != MYR_OK)
            keep_failure(crew, status);
    }
    crew->phases.read_s += tools.phases.read_s;
    crew->phases.prepare_s += tools.phases.prepare_s;
    crew->phases.infer_s += tools.phases.infer_s;
    crew->phases.write_s += tools.phases.write_s;
    crew->phases.wait_s += wait_s;
    crew->phases.other_s += myr_now_s() - begun_s - wait_s - tools.phases.read_s - tools.phases.prepare_s -
                            tools.phases.infer_s - tools.phases.write_s;
    crew->n_ended++;
    pthread_mutex_unlock(&crew->lock);
    myr_encode_tools_free(&tools);
    return NULL;
}

myr_status myr_crew_create(const myr_crew_options *options, myr_crew **out)
{
    *out = NULL;
    myr_crew *crew = myr_alloc(1, sizeof *crew);
    if (!crew)
        return myr_fail(MYR_ERR_NOMEM, "no memory for worker threads");
    crew->options = *options;
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->work, NULL);
    crew->threads = myr_alloc((size_t)options->n_threads, sizeof *crew->threads);
    for (int i = 0; crew->threads && i < options->n_threads; i++) {
        if (pthread_create(&crew->threads[i], NULL, work, crew) != 0)
            break;
        crew->n_started++;
    }
    if (crew->n_started == options->n_threads && myr_ahead_create(options->stage, &crew->ahead) != MYR_OK) {
        myr_crew_free(crew, NULL);
        return MYR_ERR_NOMEM;
    }
    if (crew->n_started < options->n_threads) {
        int n_started = crew->n_started;
        myr_crew_free(crew, NULL);
        return myr_fail(MYR_ERR_NOMEM, "only %d of %d worker threads could be started; use fewer --threads", n_started,
                        options->n_threads);
    }
    *out = crew;
    return MYR_OK;
}

static void free_jobs(job *list)
{
    while (list) {
        job *next = list->next;
        free_job(list);
        list = next;
    }
}

void myr_crew_stop(myr_crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->stopping = true;
    pthread_cond_broadcast(&crew->work);
    pthread_mutex_unlock(&crew->lock);
}

bool myr_crew_is_over(myr_crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    bool over = crew->n_ended == crew->n_started;
    pthread_mutex_unlock(&crew->lock);
    return over;
}

void myr_crew_free(myr_crew *crew, myr_phases *phases)
{
    if (!crew)
        return;
    myr_crew_stop(crew);
    for (int i = 0; i < crew->n_started; i++)
        pthread_join(crew->threads[i], NULL);
    if (phases)
        *phases = crew->phases;
    free_jobs(crew->waiting);
    free_jobs(crew->running);
    free_jobs(crew->finished);
    myr_ahead_free(crew->ahead);
    pthread_cond_destroy(&crew->work);
    pthread_mutex_destroy(&crew->lock);
    free(crew->threads);
    free(crew);
}

/* Take the vectors of the chunk's file; what is not in it is tried. Without a file that fits, everything is. */
static void take_old_vectors(const myr_crew *crew, job *added)
{
    char *path = myr_chunk_path(crew->options.folder, added->chunk);
    size_t dim = (size_t)myr_encoder_dim(crew->options.encoder);
    myr_chunk old = {0};
    myr_item item;
    if (path && myr_chunk_read(path, MYR_CHUNK_VECTORS, &old) == MYR_OK && (size_t)old.dim == dim &&
        strcmp(old.contract, myr_encoder_contract(crew->options.encoder)) == 0)
        added->done = myr_alloc((size_t)added->n_items, sizeof *added->done);
    for (int64_t i = 0, row = 0; added->done && i < added->n_items && row < old.n; i++) {
        myr_item_list_item(added->items, i, &item);
        if (old.ordinal[row] != item.ordinal)
            continue;
        memcpy(added->vectors + (size_t)i * dim, old.embedding + (size_t)row++ * dim, dim * sizeof(float));
        added->done[i] = true;
    }
    myr_chunk_clear(&old);
    free(path);
}

myr_status myr_crew_add(myr_crew *crew, int64_t chunk, myr_item_list *items, bool retry)
{
    size_t n = (size_t)myr_item_list_n(items), n_values;
    job *added = myr_alloc(1, sizeof *added);
    if (!added) {
        myr_item_list_free(items);
        return myr_fail(MYR_ERR_NOMEM, "no memory for chunk %lld", (long long)chunk);
    }
    *added = (job){.chunk = chunk, .n_items = (int64_t)n, .items_left = (int64_t)n, .items = items};
    if (n > 0 && myr_mul(n, (size_t)myr_encoder_dim(crew->options.encoder), &n_values)) {
        added->vectors = myr_alloc(n_values, sizeof(float));
        added->reasons = myr_alloc(n, sizeof(char *));
    }
    if (!added->vectors || !added->reasons || !make_boxes(added)) {
        free_job(added);
        return myr_fail(MYR_ERR_NOMEM, "no memory for chunk %lld of %zu items; use a smaller --chunk", (long long)chunk,
                        n);
    }
    if (retry) {
        take_old_vectors(crew, added);
    } else if (myr_ahead_add(crew->ahead, items, myr_encoder_batch(crew->options.encoder), &added->range) != MYR_OK) {
        free_job(added);
        return MYR_ERR_NOMEM;
    }
    pthread_mutex_lock(&crew->lock);
    crew->idle_since_s = 0;
    if (crew->waiting_end)
        crew->waiting_end->next = added;
    else
        crew->waiting = added;
    crew->waiting_end = added;
    crew->n_waiting_items += (int64_t)n;
    pthread_cond_broadcast(&crew->work);
    pthread_mutex_unlock(&crew->lock);
    return MYR_OK;
}

/* Take a chunk with items that no worker has begun out of the line; it runs on for those in hand. */
static void stop_waiting(myr_crew *crew, job *unwanted)
{
    job *before = NULL;
    for (job *each = crew->waiting; each != unwanted; each = each->next)
        before = each;
    *(before ? &before->next : &crew->waiting) = unwanted->next;
    if (crew->waiting_end == unwanted)
        crew->waiting_end = before;
    int64_t n_unbegun = unwanted->n_items - unwanted->next_item;
    crew->n_waiting_items -= n_unbegun;
    unwanted->items_left -= n_unbegun;
    unwanted->next = crew->running;
    crew->running = unwanted;
}

void myr_crew_drop(myr_crew *crew, int64_t chunk)
{
    pthread_mutex_lock(&crew->lock);
    job *found = crew->waiting;
    while (found && found->chunk != chunk)
        found = found->next;
    if (found) {
        stop_waiting(crew, found);
        if (found->items_left == 0) { /* nobody has a batch of it in hand */
            leave_running(crew, found);
            free_job(found);
            found = NULL;
        }
    } else {
        found = crew->running;
        while (found && found->chunk != chunk)
            found = found->next;
    }
    if (found && found->items_left > 0) /* else its file is being written */
        found->dropped = true;
    pthread_mutex_unlock(&crew->lock);
}

double myr_crew_idle_since(myr_crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    double since_s = crew->idle_since_s;
    pthread_mutex_unlock(&crew->lock);
    return since_s;
}

int64_t myr_crew_waiting(myr_crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    int64_t batch = myr_encoder_batch(crew->options.encoder);
    int64_t n = (crew->n_waiting_items + batch - 1) / batch;
    pthread_mutex_unlock(&crew->lock);
    return n;
}

int64_t myr_crew_done(myr_crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    int64_t n = crew->n_done;
    pthread_mutex_unlock(&crew->lock);
    return n;
}

bool myr_crew_take_finished(myr_crew *crew, myr_crew_finished *finished)
{
    pthread_mutex_lock(&crew->lock);
    job *done = crew->finished;
    if (done)
        crew->finished = done->next;
    pthread_mutex_unlock(&crew->lock);
    if (!done)
        return false;
    *finished =
        (myr_crew_finished){.chunk = done->chunk, .n_good = done->n_good, .n_bad = done->n_bad, .bad = done->bad};
    done->bad = (myr_buffer){0};
    free_job(done);
    return true;
}

myr_status myr_crew_status(myr_crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    myr_status status = crew->status;
    if (status != MYR_OK)
        myr_fail(status, "%s", crew->detail);
    pthread_mutex_unlock(&crew->lock);
    return status;
}
