/*
 * The embedding job.
 *
 * Rank 0 enumerates the corpus and hands out chunks, point to point, to ranks that
 * run low; it works too. A rank's main thread only passes messages: its crew
 * computes and writes. Messages to the root are {kind, a, b, c}; from the root a
 * chunk's packed items or the end. Every rank says goodbye once it was told to
 * end, so that no message is left over, and then all agree on the outcome.
 */
#include "dist/embed.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TAG_TO_ROOT = 1, TAG_CHUNK = 2, TAG_END = 3 };
enum { SAYS_NEED, SAYS_PROGRESS, SAYS_FINISHED, SAYS_GIVING_UP, SAYS_GOODBYE };

#define POLL_NS 500000L
#define REPORT_S 0.5
#define LOCK_PATIENCE_S 15 /* ranks of a killed job may live on for seconds */
#define MANIFEST_NAME "manifest.json"

/* Rank 0's view of the job. */
typedef struct root_state {
    myr_corpus *corpus;
    myr_manifest manifest;
    bool *done;          /* (n_chunks) file in place */
    int64_t next;        /* first chunk never handed out */
    int64_t n_left;      /* chunks without a file */
    bool was_complete;   /* an earlier run has finished it: the manifest stays as it is */
    int64_t *rank_items; /* (size) pictures done by each rank in this run */
    int n_goodbyes;
    bool ended;
    myr_progress progress;
} root_state;

typedef struct job {
    const myr_comm *comm;
    const myr_embed_options *options;
    myr_embed_report *report;
    myr_encoder *encoder;
    myr_crew *crew;
    root_state root;
    bool asked;   /* a request is on its way */
    bool drained; /* the root has no more chunks */
    bool ended;   /* told to end */
    bool gave_up;
    double reported_s;
    int lock; /* rank 0: the output folder is this job's; -1 = not held */
} job;

/* A power of two near n / 256: enough chunks to balance, few enough files. Depends on the corpus only. */
static int64_t choose_chunk_items(int64_t n_items)
{
    int64_t size = 32;
    while (size < 16384 && size * 256 < n_items)
        size *= 2;
    return size;
}

static char *dup_or_fail(const char *text, myr_status *status)
{
    char *copy = myr_strdup(text);
    if (!copy && *status == MYR_OK)
        *status = myr_fail(MYR_ERR_NOMEM, "no memory for the manifest");
    return copy;
}

static myr_status describe(job *work, myr_manifest *manifest)
{
    const myr_embed_options *options = work->options;
    myr_corpus *corpus = work->root.corpus;
    myr_status status = MYR_OK;
    *manifest = (myr_manifest){.dim = myr_encoder_dim(work->encoder), .n_items = myr_corpus_n_items(corpus)};
    manifest->chunk_items = options->chunk_items > 0 ? options->chunk_items : choose_chunk_items(manifest->n_items);
    manifest->n_chunks = (manifest->n_items + manifest->chunk_items - 1) / manifest->chunk_items;
    manifest->corpus_digest = dup_or_fail(myr_corpus_digest(corpus), &status);
    manifest->contract = dup_or_fail(myr_encoder_contract(work->encoder), &status);
    manifest->model = dup_or_fail(options->card->name, &status);
    manifest->metric = dup_or_fail(options->card->metric, &status);
    manifest->storage = dup_or_fail(options->storage == MYR_STORAGE_F16 ? "f16" : "f32", &status);
    manifest->precision = dup_or_fail(myr_precision_name(myr_encoder_precision(work->encoder)), &status);
    manifest->n_classes = myr_corpus_n_classes(corpus);
    manifest->classes = myr_alloc(manifest->n_classes, sizeof(char *));
    for (size_t i = 0; manifest->classes && i < manifest->n_classes; i++)
        manifest->classes[i] = dup_or_fail(myr_corpus_class_name(corpus, i), &status);
    manifest->n_operands = options->n_operands;
    manifest->operands = myr_alloc(manifest->n_operands, sizeof(char *));
    for (size_t i = 0; manifest->operands && i < manifest->n_operands; i++)
        manifest->operands[i] = dup_or_fail(options->operands[i], &status);
    if (!manifest->classes || !manifest->operands)
        status = myr_fail(MYR_ERR_NOMEM, "no memory for the manifest");
    return status;
}

/* An output folder goes on only with the corpus, contract and chunking it was begun with. */
static myr_status compare(const char *path, const myr_manifest *old, const myr_manifest *new)
{
    if (strcmp(old->contract, new->contract) != 0)
        return myr_fail(MYR_ERR_CONTRACT,
                        "%s: begun with model '%s' under contract %.12s..., this run has '%s', %.12s...; use another "
                        "--out, or remove the folder",
                        path, old->model, old->contract, new->model, new->contract);
    if (strcmp(old->corpus_digest, new->corpus_digest) != 0 || old->n_items != new->n_items)
        return myr_fail(MYR_ERR_CONTRACT,
                        "%s: begun with another corpus (%lld items, now %lld; names, order or sizes changed); use "
                        "another --out, or remove the folder",
                        path, (long long)old->n_items, (long long)new->n_items);
    if (old->chunk_items != new->chunk_items || strcmp(old->storage, new->storage) != 0)
        return myr_fail(MYR_ERR_CONTRACT,
                        "%s: begun with --chunk %lld --dtype %s; go on with the same, or remove the folder", path,
                        (long long)old->chunk_items, old->storage);
    if (strcmp(old->precision, new->precision) != 0)
        return myr_fail(MYR_ERR_CONTRACT,
                        "%s: begun in %s, this run computes in %s; go on with --precision %s on processors that have "
                        "it, or remove the folder",
                        path, old->precision, new->precision, old->precision);
    return MYR_OK;
}

static bool is_chunk_of(const myr_chunk *chunk, const myr_manifest *manifest, int64_t place)
{
    int64_t left = manifest->n_items - place * manifest->chunk_items;
    int64_t n_items = left < manifest->chunk_items ? left : manifest->chunk_items;
    return strcmp(chunk->contract, manifest->contract) == 0 && strcmp(chunk->metric, manifest->metric) == 0 &&
           chunk->dim == manifest->dim && chunk->n + chunk->n_bad == n_items;
}

/* Chunks without the manifest that says what they were made from must not be taken for this run's. */
static myr_status refuse_strays(const char *folder)
{
    DIR *entries = opendir(folder);
    bool found = false;
    for (struct dirent *entry; entries && !found && (entry = readdir(entries));)
        found = strncmp(entry->d_name, "chunk-", 6) == 0;
    if (entries)
        closedir(entries);
    return found ? myr_fail(
                       MYR_ERR_CONTRACT,
                       "%s: it has chunks but no %s, so nobody knows of what; use another --out, or remove the folder",
                       folder, MANIFEST_NAME)
                 : MYR_OK;
}

/* Which chunks are there already. A file that cannot be read is made anew. */
static myr_status look_for_chunks(job *work)
{
    root_state *root = &work->root;
    myr_manifest *manifest = &root->manifest;
    root->done = myr_alloc((size_t)manifest->n_chunks, sizeof *root->done);
    root->rank_items = myr_alloc((size_t)work->comm->size, sizeof *root->rank_items);
    if (!root->done || !root->rank_items)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %lld chunks", (long long)manifest->n_chunks);
    manifest->n_embedded = manifest->n_bad = 0;
    root->n_left = manifest->n_chunks;
    for (int64_t i = 0; i < manifest->n_chunks; i++) {
        char *path = myr_chunk_path(work->options->folder, i);
        if (!path)
            return myr_fail(MYR_ERR_NOMEM, "no memory for a path");
        myr_chunk chunk = {0};
        if (myr_path_exists(path)) {
            myr_status status = myr_chunk_read(path, MYR_CHUNK_BAD, &chunk);
            if (status == MYR_OK && is_chunk_of(&chunk, manifest, i)) {
                root->done[i] = true;
                root->n_left--;
                manifest->n_embedded += chunk.n;
                manifest->n_bad += chunk.n_bad;
                work->report->n_before += chunk.n + chunk.n_bad;
            } else {
                myr_warn("%s: %s; it is made again", path,
                         status != MYR_OK ? myr_error_detail() : "it is not of this run");
            }
            myr_chunk_clear(&chunk);
        }
        free(path);
    }
    return MYR_OK;
}

static myr_status write_manifest(job *work)
{
    char *path = myr_path_join(work->options->folder, MANIFEST_NAME);
    myr_status status =
        path ? myr_manifest_write(path, &work->root.manifest) : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    free(path);
    return status;
}

/* Rank 0: enumerate, open or begin the folder. */
static myr_status begin(job *work)
{
    const myr_embed_options *options = work->options;
    root_state *root = &work->root;
    char *path = myr_path_join(options->folder, MANIFEST_NAME);
    if (!path)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    myr_status status = myr_corpus_open(options->operands, options->n_operands, &options->corpus, &root->corpus);
    if (status == MYR_OK)
        status = describe(work, &root->manifest);
    if (status == MYR_OK)
        status = myr_folder_create(options->folder);
    if (status == MYR_OK)
        status = myr_folder_lock(options->folder, LOCK_PATIENCE_S, &work->lock);
    if (status == MYR_OK)
        status = myr_folder_sweep(options->folder);
    if (status == MYR_OK && myr_path_exists(path)) {
        myr_manifest old = {0};
        status = myr_manifest_read(path, &old);
        if (status == MYR_OK)
            status = compare(path, &old, &root->manifest);
        root->was_complete = status == MYR_OK && old.complete;
        myr_manifest_clear(&old);
    } else if (status == MYR_OK) {
        status = refuse_strays(options->folder);
    }
    if (status == MYR_OK)
        status = look_for_chunks(work);
    root->was_complete = root->was_complete && root->n_left == 0;
    if (status == MYR_OK && root->n_left > 0)
        status = write_manifest(work);
    free(path);
    return status;
}

static void tell_root(job *work, int64_t kind, int64_t a, int64_t b, int64_t c)
{
    int64_t message[4] = {kind, a, b, c};
    MPI_Send(message, 4, MPI_INT64_T, 0, TAG_TO_ROOT, work->comm->mpi);
}

/* The next chunk without a file, packed: its number, then its items. Empty when none is left. */
static myr_status pack_next(job *work, myr_buffer *message)
{
    root_state *root = &work->root;
    const myr_manifest *manifest = &root->manifest;
    while (root->next < manifest->n_chunks && root->done[root->next])
        root->next++;
    if (root->next == manifest->n_chunks)
        return MYR_OK;
    int64_t chunk = root->next++, first = chunk * manifest->chunk_items, left = manifest->n_items - first;
    myr_buffer_put_i64(message, chunk);
    return myr_corpus_pack(root->corpus, first, left < manifest->chunk_items ? left : manifest->chunk_items, message);
}

/* Take a packed chunk to this rank's crew. */
static myr_status take_chunk(job *work, const myr_buffer *message)
{
    work->asked = false;
    if (message->size == 0) {
        work->drained = true;
        return MYR_OK;
    }
    myr_cursor cursor = {.data = message->data, .size = message->size};
    int64_t chunk = myr_cursor_i64(&cursor);
    myr_item_list *items = NULL;
    myr_status status = myr_item_list_unpack(message->data + cursor.at, message->size - cursor.at, &items);
    return status == MYR_OK ? myr_crew_add(work->crew, chunk, items) : status;
}

static myr_status hand_out(job *work, int rank)
{
    myr_buffer message = {0};
    myr_status status = pack_next(work, &message);
    if (status == MYR_OK && message.failed)
        status = myr_fail(MYR_ERR_NOMEM, "no memory for a chunk's message; use a smaller --chunk");
    if (status == MYR_OK && message.size > INT32_MAX)
        status = myr_fail(MYR_ERR_LIMIT, "a chunk's item list is over 2 GiB; use a smaller --chunk");
    if (status == MYR_OK) {
        if (rank == 0)
            status = take_chunk(work, &message);
        else
            MPI_Send(message.data, (int)message.size, MPI_BYTE, rank, TAG_CHUNK, work->comm->mpi);
    }
    myr_buffer_free(&message);
    return status;
}

static void end_all(job *work)
{
    if (work->root.ended)
        return;
    work->root.ended = true;
    for (int rank = 1; rank < work->comm->size; rank++)
        MPI_Send(NULL, 0, MPI_BYTE, rank, TAG_END, work->comm->mpi);
}

static void count_finished(root_state *root, int64_t chunk, int64_t n_good, int64_t n_bad)
{
    if (chunk < 0 || chunk >= root->manifest.n_chunks || root->done[chunk])
        return;
    root->done[chunk] = true;
    root->n_left--;
    root->manifest.n_embedded += n_good;
    root->manifest.n_bad += n_bad;
}

/* Rank 0: one message from another rank, if there is one. */
static myr_status hear_one(job *work, bool *heard)
{
    int there;
    MPI_Status from;
    *heard = false;
    MPI_Iprobe(MPI_ANY_SOURCE, TAG_TO_ROOT, work->comm->mpi, &there, &from);
    if (!there)
        return MYR_OK;
    *heard = true;
    int64_t message[4];
    MPI_Recv(message, 4, MPI_INT64_T, from.MPI_SOURCE, TAG_TO_ROOT, work->comm->mpi, MPI_STATUS_IGNORE);
    switch (message[0]) {
    case SAYS_NEED:
        return work->root.ended ? MYR_OK : hand_out(work, from.MPI_SOURCE);
    case SAYS_PROGRESS:
        work->root.rank_items[from.MPI_SOURCE] = message[1];
        return MYR_OK;
    case SAYS_FINISHED:
        count_finished(&work->root, message[1], message[2], message[3]);
        return MYR_OK;
    case SAYS_GIVING_UP:
        end_all(work);
        return MYR_OK;
    default:
        work->root.n_goodbyes++;
        return MYR_OK;
    }
}

/* Other ranks: one message from the root, if there is one. */
static myr_status obey_one(job *work, bool *heard)
{
    int there, n_bytes;
    MPI_Status from;
    *heard = false;
    MPI_Iprobe(0, MPI_ANY_TAG, work->comm->mpi, &there, &from);
    if (!there)
        return MYR_OK;
    *heard = true;
    MPI_Get_count(&from, MPI_BYTE, &n_bytes);
    myr_buffer message = {.data = malloc((size_t)n_bytes + 1), .size = (size_t)n_bytes};
    if (!message.data) { /* the message cannot be left there: what comes behind it would never be heard */
        myr_error("rank %d: no memory for a message of %d bytes; use a smaller --chunk", work->comm->rank, n_bytes);
        MPI_Abort(work->comm->mpi, 1);
    }
    MPI_Recv(message.data, n_bytes, MPI_BYTE, 0, from.MPI_TAG, work->comm->mpi, MPI_STATUS_IGNORE);
    myr_status status = MYR_OK;
    if (from.MPI_TAG == TAG_END)
        work->ended = true;
    else if (!work->gave_up)
        status = take_chunk(work, &message);
    free(message.data);
    return status;
}

/* Report finished chunks and counts to the root, and ask for more when the crew runs low. */
static myr_status tend_crew(job *work)
{
    bool is_root = work->comm->rank == 0;
    myr_crew_finished finished;
    while (myr_crew_take_finished(work->crew, &finished)) {
        if (is_root)
            count_finished(&work->root, finished.chunk, finished.n_good, finished.n_bad);
        else
            tell_root(work, SAYS_FINISHED, finished.chunk, finished.n_good, finished.n_bad);
    }
    double now_s = myr_now_s();
    if (now_s - work->reported_s > REPORT_S) {
        work->reported_s = now_s;
        if (is_root)
            work->root.rank_items[0] = myr_crew_done(work->crew);
        else
            tell_root(work, SAYS_PROGRESS, myr_crew_done(work->crew), 0, 0);
    }
    if (!work->asked && !work->drained && myr_crew_waiting(work->crew) < 2 * work->options->n_threads) {
        work->asked = true;
        if (is_root)
            return hand_out(work, 0);
        tell_root(work, SAYS_NEED, 0, 0, 0);
    }
    return myr_crew_status(work->crew);
}

static void show_progress(job *work)
{
    root_state *root = &work->root;
    int64_t done = work->report->n_before;
    for (int rank = 0; rank < work->comm->size; rank++)
        done += root->rank_items[rank];
    myr_progress_update(&root->progress, done);
}

/* The main thread's loop: pass messages until the job ends; the crew works meanwhile. */
static myr_status pass_messages(job *work)
{
    bool is_root = work->comm->rank == 0;
    myr_status status = MYR_OK;
    while (is_root ? !(work->root.ended && work->root.n_goodbyes == work->comm->size - 1) : !work->ended) {
        bool heard = false;
        myr_status now = is_root ? hear_one(work, &heard) : obey_one(work, &heard);
        if (now == MYR_OK && !work->gave_up)
            now = tend_crew(work);
        if (now == MYR_OK && !work->gave_up && myr_stop_requested)
            now = myr_fail(MYR_ERR_STOPPED,
                           "stopped by a signal; finished chunks are kept, run the same command again to go on");
        if (now != MYR_OK && status == MYR_OK) {
            status = now;
            work->gave_up = true;
            if (is_root)
                end_all(work);
            else
                tell_root(work, SAYS_GIVING_UP, 0, 0, 0);
        }
        if (is_root && work->root.n_left == 0)
            end_all(work);
        if (is_root)
            show_progress(work);
        if (!heard)
            nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    }
    if (!is_root)
        tell_root(work, SAYS_GOODBYE, 0, 0, 0);
    return status;
}

/* Rank 0 writes the final manifest; all ranks get the same report. */
static myr_status conclude(job *work, double start_s)
{
    const myr_comm *comm = work->comm;
    myr_embed_report *report = work->report;
    root_state *root = &work->root;
    myr_phases phases = {0};
    myr_status status = MYR_OK;
    myr_crew_free(work->crew, &phases);
    work->crew = NULL;
    MPI_Allreduce(&phases, &report->phases, sizeof phases / sizeof(double), MPI_DOUBLE, MPI_SUM, comm->mpi);
    if (comm->rank == 0) {
        root->manifest.complete = true;
        status = root->was_complete ? MYR_OK : write_manifest(work);
        report->n_items = root->manifest.n_items;
        report->n_embedded = root->manifest.n_embedded;
        report->n_bad = root->manifest.n_bad;
        report->n_chunks = root->manifest.n_chunks;
        report->dim = root->manifest.dim;
        report->wall_s = myr_now_s() - start_s;
        double share = report->n_items > 0 ? (double)report->n_bad / (double)report->n_items : 0;
        if (status == MYR_OK && share > work->options->max_bad)
            status =
                myr_fail(MYR_ERR_LIMIT,
                         "%lld of %lld items (%.1f %%) could not be used, more than --max-bad allows (%.1f %%); the "
                         "reasons are in %s/chunk-*.h5 under /bad",
                         (long long)report->n_bad, (long long)report->n_items, 100 * share,
                         100 * work->options->max_bad, work->options->folder);
    }
    myr_phases summed = report->phases;
    MPI_Bcast(report, sizeof *report, MPI_BYTE, 0, comm->mpi);
    report->phases = summed;
    return status;
}

/* What rank 0's network computes in, which every rank's must: vectors of one folder are of one precision. Collective.
 */
static myr_status share_precision(const myr_comm *comm, myr_precision *precision)
{
    myr_buffer message = {0};
    if (comm->rank == 0)
        myr_buffer_append(&message, precision, sizeof *precision);
    myr_status status =
        myr_comm_agree(comm, message.failed ? myr_fail(MYR_ERR_NOMEM, "no memory to share the precision") : MYR_OK);
    if (status == MYR_OK)
        status = myr_comm_share(comm, &message);
    if (status == MYR_OK && message.size == sizeof *precision)
        memcpy(precision, message.data, sizeof *precision);
    myr_buffer_free(&message);
    return status;
}

/* Rank 0: a folder that was begun goes on in its precision, whichever would be the fastest now. */
static void keep_begun_precision(const char *folder, myr_encoder_options *wanted)
{
    char *path = myr_path_join(folder, MANIFEST_NAME);
    myr_manifest begun;
    if (path && myr_path_exists(path) && myr_manifest_read(path, &begun) == MYR_OK) {
        for (myr_precision each = MYR_PRECISION_F32; each <= MYR_PRECISION_INT8; each++)
            if (strcmp(begun.precision, myr_precision_name(each)) == 0)
                wanted->precision = each;
        wanted->least_cosine = 0;
        myr_manifest_clear(&begun);
    }
    free(path);
}

static myr_status check_precision(const myr_comm *comm, const myr_encoder *encoder, myr_precision precision)
{
    const char *mine = myr_precision_name(myr_encoder_precision(encoder)), *wanted = myr_precision_name(precision);
    if (strcmp(mine, wanted) == 0)
        return MYR_OK;
    return myr_fail(
        MYR_ERR_UNSUPPORTED,
        "rank %d computes in %s where rank 0 computes in %s, since their processors differ; give --precision "
        "%s, or hosts that are alike",
        comm->rank, mine, wanted, mine);
}

/* Where the precision is to be chosen, rank 0 opens its network first and the others follow. Collective. */
static myr_status open_encoders(job *work)
{
    const myr_embed_options *options = work->options;
    const myr_comm *comm = work->comm;
    myr_encoder_options wanted = {
        .backend = options->backend, .precision = options->precision, .least_cosine = options->least_cosine};
    myr_precision precision = MYR_PRECISION_F32;
    myr_status status = MYR_OK;
    bool chooses = options->least_cosine > 0;
    if (chooses && comm->rank == 0)
        keep_begun_precision(options->folder, &wanted);
    if (!chooses || comm->rank == 0)
        status = myr_encoder_open(options->card, &wanted, &work->encoder);
    if (status == MYR_OK && comm->rank == 0)
        precision = myr_encoder_precision(work->encoder);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = share_precision(comm, &precision);
    if (status != MYR_OK)
        return status;
    wanted.precision = precision;
    wanted.least_cosine = 0;
    if (!work->encoder)
        status = myr_encoder_open(options->card, &wanted, &work->encoder);
    if (status == MYR_OK)
        status = check_precision(comm, work->encoder, precision);
    work->report->precision = precision;
    if (comm->rank == 0 && !chooses && precision != options->precision)
        myr_warn("no %s on this processor and backend; computing in %s", myr_precision_name(options->precision),
                 myr_precision_name(precision));
    return myr_comm_agree(comm, status);
}

myr_status myr_embed(const myr_comm *comm, const myr_embed_options *options, myr_embed_report *report)
{
    job work = {.comm = comm, .options = options, .report = report, .lock = -1};
    double start_s = myr_now_s();
    *report = (myr_embed_report){0};
    myr_status status = open_encoders(&work);
    if (status != MYR_OK)
        goto done;
    if (comm->rank == 0)
        status = begin(&work);
    status = myr_comm_agree(comm, status);
    if (status != MYR_OK)
        goto done;
    status = myr_crew_create(&(myr_crew_options){.encoder = work.encoder,
                                                 .folder = options->folder,
                                                 .model = options->card->name,
                                                 .metric = options->card->metric,
                                                 .storage = options->storage,
                                                 .n_threads = options->n_threads},
                             &work.crew);
    status = myr_comm_agree(comm, status);
    if (status != MYR_OK)
        goto done;
    if (comm->rank == 0)
        myr_progress_start(&work.root.progress, "embedding", "images", work.root.manifest.n_items, report->n_before,
                           options->progress);
    status = pass_messages(&work);
    if (comm->rank == 0)
        myr_progress_finish(&work.root.progress, work.root.manifest.n_embedded + work.root.manifest.n_bad);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_comm_agree(comm, conclude(&work, start_s));
done:
    myr_crew_free(work.crew, NULL);
    myr_folder_unlock(work.lock);
    myr_encoder_free(work.encoder);
    myr_corpus_free(work.root.corpus);
    myr_manifest_clear(&work.root.manifest);
    free(work.root.done);
    free(work.root.rank_items);
    return status;
}
