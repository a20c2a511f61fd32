/*
 * The embedding job.
 *
 * Rank 0 enumerates the corpus and hands out chunks, point to point, to ranks that
 * run low; it works too. A rank's main thread only passes messages (embed_talk.c):
 * its crew computes and writes. In the end all agree on the outcome, unless a rank
 * does not answer: then rank 0 concludes alone, and whoever called ends the job,
 * since no collective call can be made any more.
 */
#include "dist/embed_job.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

typedef myr_embed_job job;

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
    const myr_corpus *corpus = work->root.corpus;
    myr_status status = MYR_OK;
    *manifest = (myr_manifest){.dim = myr_encoder_dim(work->encoder), .n_items = myr_corpus_n_items(corpus)};
    manifest->chunk_items = options->chunk_items > 0 ? options->chunk_items : myr_output_chunk_items(manifest->n_items);
    manifest->guided = options->chunk_items == 0;
    manifest->n_chunks = myr_manifest_count_chunks(manifest);
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
static myr_status compare(const char *path, const myr_manifest *old, myr_manifest *new)
{
    if (new->guided && !old->guided) { /* as earlier versions began it */
        new->guided = false;
        new->n_chunks = myr_manifest_count_chunks(new);
    }
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
    if (old->chunk_items != new->chunk_items || old->guided != new->guided || strcmp(old->storage, new->storage) != 0)
        return myr_fail(MYR_ERR_CONTRACT,
                        "%s: begun with --chunk %lld --dtype %s; go on with the same, or remove the folder", path,
                        (long long)(old->guided ? 0 : old->chunk_items), old->storage);
    if (strcmp(old->precision, new->precision) != 0)
        return myr_fail(MYR_ERR_CONTRACT,
                        "%s: begun in %s, this run computes in %s; go on with --precision %s on processors that have "
                        "it, or remove the folder",
                        path, old->precision, new->precision, old->precision);
    return MYR_OK;
}

/* Room for what rank 0 knows of the ranks. */
static myr_status make_root(myr_embed_root *root, const char *folder, size_t n_ranks)
{
    root->hosts = myr_alloc(n_ranks, MYR_HOST_BYTES);
    root->rank_items = myr_alloc(n_ranks, sizeof *root->rank_items);
    root->wants = myr_alloc(n_ranks, sizeof *root->wants);
    root->gone = myr_alloc(n_ranks, sizeof *root->gone);
    if (!root->hosts || !root->rank_items || !root->wants || !root->gone)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %zu ranks", n_ranks);
    root->output.folder = folder;
    root->gone[0] = true;
    root->n_gone = 1;
    return MYR_OK;
}

/* Names for temporary files that no other rank and no other run has; where each rank is, for rank 0. Collective. */
static myr_status introduce(job *work)
{
    const myr_comm *comm = work->comm;
    char host[MYR_HOST_BYTES] = "";
    int length;
    int64_t run = (int64_t)time(NULL) << 22 | (getpid() & 0x3fffff);
    MPI_Get_processor_name(host, &length);
    MPI_Bcast(&run, 1, MPI_INT64_T, 0, comm->mpi);
    snprintf(work->tag, sizeof work->tag, "%llx-%d", (unsigned long long)run, comm->rank);
    myr_status status = MYR_OK;
    if (comm->rank == 0)
        status = make_root(&work->root, work->options->folder, (size_t)comm->size);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        MPI_Gather(host, MYR_HOST_BYTES, MPI_CHAR, work->root.hosts, MYR_HOST_BYTES, MPI_CHAR, 0, comm->mpi);
    return status;
}

/* Rank 0: enumerate, open or begin the folder. */
static myr_status begin(job *work)
{
    const myr_embed_options *options = work->options;
    myr_embed_root *root = &work->root;
    myr_output *output = &root->output;
    char *path = myr_path_join(options->folder, MYR_MANIFEST_NAME);
    if (!path)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    myr_status status = myr_corpus_open(options->operands, options->n_operands, &options->corpus, &root->corpus);
    if (status == MYR_OK)
        status = describe(work, &output->manifest);
    if (status == MYR_OK)
        status = myr_output_open_folder(options->folder, &work->lock);
    if (status == MYR_OK && myr_path_exists(path)) {
        myr_manifest old = {0};
        status = myr_manifest_read(path, &old);
        if (status == MYR_OK && options->retry_bad)
            status = myr_output_accept_repairs(options->folder, root->corpus, &old);
        if (status == MYR_OK)
            status = compare(path, &old, &output->manifest);
        output->was_complete = status == MYR_OK && old.complete;
        myr_manifest_clear(&old);
    } else if (status == MYR_OK) {
        status = myr_output_refuse_strays(options->folder);
    }
    if (status == MYR_OK)
        status = myr_output_look(output, work->comm->size, options->retry_bad, &work->report->n_before);
    bool is_whole = status == MYR_OK && myr_handout_left(output->handout) == 0;
    output->was_complete = output->was_complete && is_whole;
    if (status == MYR_OK && !is_whole)
        status = myr_output_write_manifest(output);
    free(path);
    return status;
}

/* Rank 0: what there is to tell, and whether too much is bad. */
static myr_status sum_up(job *work, double start_s)
{
    myr_embed_report *report = work->report;
    const myr_output *output = &work->root.output;
    const myr_manifest *manifest = &output->manifest;
    report->n_items = manifest->n_items;
    report->n_embedded = manifest->n_embedded;
    report->n_bad = manifest->n_bad;
    report->n_chunks = manifest->n_chunks;
    report->n_repeated = myr_handout_repeated(output->handout);
    report->dim = manifest->dim;
    report->wall_s = myr_now_s() - start_s;
    double share = report->n_items > 0 ? (double)report->n_bad / (double)report->n_items : 0;
    if (share <= work->options->max_bad)
        return MYR_OK;
    return myr_fail(MYR_ERR_LIMIT,
                    "%lld of %lld items (%.1f %%) could not be used, more than --max-bad allows (%.1f %%); which, and "
                    "why, is in %s/bad.tsv",
                    (long long)report->n_bad, (long long)report->n_items, 100 * share, 100 * work->options->max_bad,
                    work->options->folder);
}

static int64_t peak_bytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (int64_t)usage.ru_maxrss * 1024 : 0;
}

/* What of this rank's threads' time its workers did not see. */
static void add_outside(const job *work, double start_s, myr_phases *phases)
{
    double all_s = (myr_now_s() - start_s) * (double)work->options->n_threads;
    phases->outside_s = all_s - phases->read_s - phases->prepare_s - phases->infer_s - phases->write_s -
                        phases->wait_s - phases->other_s;
}

/* Neither waiting nor before or after the work. */
static double busy_seconds(const myr_phases *phases)
{
    return phases->read_s + phases->prepare_s + phases->infer_s + phases->write_s + phases->other_s;
}

/* All ranks get the same report. */
static myr_status conclude(job *work, double start_s)
{
    const myr_comm *comm = work->comm;
    myr_embed_report *report = work->report;
    myr_phases phases = {0}, summed;
    double idle_s, busiest_s;
    int64_t peak = peak_bytes(), other_peak = comm->rank == 0 ? 0 : peak, most;
    int64_t n_staged = myr_stage_n_copied(work->stage), all_staged;
    myr_status status = MYR_OK;
    myr_crew_free(work->crew, &phases);
    work->crew = NULL;
    add_outside(work, start_s, &phases);
    double busy_s = busy_seconds(&phases), sent = work->sent_bytes + work->root.outbox.sent_bytes, all_sent;
    MPI_Allreduce(&phases, &summed, sizeof phases / sizeof(double), MPI_DOUBLE, MPI_SUM, comm->mpi);
    MPI_Allreduce(&work->idle_at_end_s, &idle_s, 1, MPI_DOUBLE, MPI_MAX, comm->mpi);
    MPI_Allreduce(&busy_s, &busiest_s, 1, MPI_DOUBLE, MPI_MAX, comm->mpi);
    MPI_Allreduce(&sent, &all_sent, 1, MPI_DOUBLE, MPI_SUM, comm->mpi);
    MPI_Allreduce(&other_peak, &most, 1, MPI_INT64_T, MPI_MAX, comm->mpi);
    MPI_Allreduce(&n_staged, &all_staged, 1, MPI_INT64_T, MPI_SUM, comm->mpi);
    if (comm->rank == 0) {
        status = sum_up(work, start_s);
        report->n_staged = all_staged;
        report->phases = summed;
        busy_s = busy_seconds(&summed);
        report->imbalance = busy_s > 0 ? busiest_s * comm->size / busy_s : 1;
        report->sent_bytes = all_sent;
        report->idle_at_end_s = idle_s;
        report->root_peak_bytes = peak;
        report->other_peak_bytes = most;
    }
    MPI_Bcast(report, sizeof *report, MPI_BYTE, 0, comm->mpi);
    return status;
}

/* Rank 0, without ranks that do not answer: no collective call any more. */
static myr_status conclude_alone(job *work, double start_s)
{
    myr_crew_free(work->crew, &work->report->phases);
    work->crew = NULL;
    add_outside(work, start_s, &work->report->phases);
    work->report->idle_at_end_s = work->idle_at_end_s;
    work->report->imbalance = 1;
    work->report->sent_bytes = work->root.outbox.sent_bytes;
    work->report->root_peak_bytes = peak_bytes();
    myr_status swept = myr_folder_sweep(work->options->folder); /* of what the others had begun to write */
    myr_status status = sum_up(work, start_s);
    return swept != MYR_OK ? swept : status;
}

/* All learn of the tars from rank 0, and one rank of each host begins to copy them. Collective. */
static myr_status open_stage(job *work)
{
    const myr_comm *comm = work->comm;
    const myr_embed_options *options = work->options;
    myr_buffer list = {0};
    MPI_Comm host = MPI_COMM_NULL;
    int place = 0;
    if (!options->stage)
        return MYR_OK;
    myr_status status = comm->rank == 0 ? myr_stage_list(work->root.corpus, &list) : MYR_OK;
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_comm_share(comm, &list);
    if (status == MYR_OK) {
        MPI_Comm_split_type(comm->mpi, MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, &host);
        MPI_Comm_rank(host, &place);
        MPI_Comm_free(&host);
        status = myr_comm_agree(
            comm, myr_stage_open(options->stage, list.data, list.size, place == 0, options->keep_stage, &work->stage));
    }
    myr_buffer_free(&list);
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
    char *path = myr_path_join(folder, MYR_MANIFEST_NAME);
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
    const myr_manifest *manifest = &work.root.output.manifest;
    double start_s = myr_now_s();
    *report = (myr_embed_report){0};
    myr_status status = open_encoders(&work);
    if (status != MYR_OK)
        goto done;
    status = introduce(&work);
    if (status != MYR_OK)
        goto done;
    if (comm->rank == 0)
        status = begin(&work);
    status = myr_comm_agree(comm, status);
    if (status != MYR_OK)
        goto done;
    status = open_stage(&work);
    if (status != MYR_OK)
        goto done;
    status = myr_crew_create(&(myr_crew_options){.encoder = work.encoder,
                                                 .folder = options->folder,
                                                 .model = options->card->name,
                                                 .metric = options->card->metric,
                                                 .tag = work.tag,
                                                 .stage = work.stage,
                                                 .storage = options->storage,
                                                 .n_threads = options->n_threads},
                             &work.crew);
    status = myr_comm_agree(comm, status);
    if (status != MYR_OK)
        goto done;
    if (comm->rank == 0)
        myr_progress_start(&work.root.progress, "embedding", "images", manifest->n_items, report->n_before,
                           options->progress);
    status = myr_embed_talk(&work);
    if (comm->rank == 0)
        myr_progress_finish(&work.root.progress, manifest->n_embedded + manifest->n_bad);
    if (report->n_lost > 0) {
        if (status == MYR_OK)
            status = conclude_alone(&work, start_s);
        goto done;
    }
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_comm_agree(comm, conclude(&work, start_s));
done:
    myr_crew_free(work.crew, NULL);
    myr_stage_close(work.stage);
    myr_folder_unlock(work.lock);
    myr_encoder_free(work.encoder);
    myr_corpus_free(work.root.corpus);
    myr_output_clear(&work.root.output);
    free(work.root.hosts);
    free(work.root.rank_items);
    free(work.root.wants);
    free(work.root.gone);
    return status;
}
