/*
 * myriops query: the nearest neighbours of pictures or vectors.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/vector.h"
#include "cli/cli.h"
#include "cli/pictures.h"
#include "cli/shared.h"
#include "cli/sheet.h"
#include "dist/cluster.h"
#include "dist/traffic.h"
#include "myriops/vectors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The questions: pictures on rank 0, vectors on every rank, its slice of them. */
typedef struct questions {
    size_t n;
    size_t n_own;         /* vectors of this rank's slice */
    const float *vectors; /* (n, dim), or (n_own, dim) */
    const char **names;   /* (n) [borrowed] NULL for bare vectors */
    const char **sources; /* (n) [borrowed] file or tar of each */
    myr_pictures pictures;
    float *read; /* [owned] where vectors come from a file */
    double encode_s;
} questions;

static void clear_questions(questions *ask)
{
    myr_pictures_clear(&ask->pictures);
    free(ask->names);
    free(ask->sources);
    free(ask->read);
}

/* Pictures through the index's own contract. Bad ones close up. */
static myr_status ask_pictures(const myr_cli *cli, const myr_index_manifest *index, questions *ask)
{
    myr_card *card = NULL;
    myr_encoder *encoder = NULL;
    if (!index->contract)
        return myr_fail(MYR_ERR_CONTRACT, "this index holds bare vectors; ask it with --vectors FILE");
    const char *model = myr_config_is_set(cli->config, "model") ? myr_config_text(cli->config, "model") : index->model;
    myr_encoder_options options = {.backend = myr_config_text(cli->config, "backend")};
    options.precision = myr_cli_precision(cli->config, &options.least_cosine);
    myr_status status = myr_card_load(model, &card);
    if (status == MYR_ERR_NOT_FOUND && model == index->model)
        status = myr_fail(status, "%s; an index of imported vectors is asked with --vectors FILE", myr_error_detail());
    if (status == MYR_OK)
        status = myr_encoder_open(card, &options, &encoder);
    if (status == MYR_OK && strcmp(myr_encoder_contract(encoder), index->contract) != 0)
        status =
            myr_fail(MYR_ERR_CONTRACT,
                     "the index was made by '%s' under contract %.12s..., model card '%s' here has %.12s...; distances "
                     "between them mean nothing: give the same card with --model",
                     index->model, index->contract, card->name, myr_encoder_contract(encoder));
    if (status == MYR_OK)
        status = myr_pictures_encode(cli->operands, cli->n_operands, &(myr_corpus_options){0}, encoder, cli->n_threads,
                                     &ask->pictures);
    myr_encoder_free(encoder);
    myr_card_free(card);
    if (status != MYR_OK)
        return status;
    myr_pictures *pictures = &ask->pictures;
    ask->names = myr_alloc((size_t)pictures->n, sizeof *ask->names);
    ask->sources = myr_alloc((size_t)pictures->n, sizeof *ask->sources);
    if (!ask->names || !ask->sources)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %lld questions", (long long)pictures->n);
    for (int64_t i = 0; i < pictures->n; i++) {
        myr_item item;
        if (pictures->reasons[i])
            continue;
        myr_item_list_item(pictures->items, i, &item);
        ask->names[ask->n] = item.key;
        ask->sources[ask->n] = item.source;
        memmove(pictures->vectors + ask->n * (size_t)pictures->dim,
                pictures->vectors + (size_t)i * (size_t)pictures->dim, (size_t)pictures->dim * sizeof(float));
        ask->n++;
    }
    ask->vectors = pictures->vectors;
    ask->encode_s = pictures->wall_s;
    return MYR_OK;
}

/* A vector as the metric wants it; false where it has a value that is not finite. */
static bool prepare_vector(const char *metric, float *vector, size_t dim)
{
    if (strcmp(metric, "cosine") == 0)
        return myr_vector_normalise(vector, dim);
    for (size_t d = 0; d < dim; d++)
        if (!isfinite(vector[d]))
            return false;
    return true;
}

/* This rank's slice of the vectors in a file. Local. */
static myr_status ask_vectors(const char *path, const myr_comm *comm, const myr_index_manifest *index, questions *ask)
{
    myr_vectors file = {0};
    myr_status status = myr_vectors_read(path, "test", &file);
    if (status != MYR_OK)
        return status;
    size_t dim = (size_t)index->dim, first;
    ask->n = file.n;
    myr_cluster_slice(comm, file.n, &first, &ask->n_own);
    if (file.dim != dim)
        status = myr_fail(MYR_ERR_CONTRACT, "%s: vectors of %zu values, the index has %zu", path, file.dim, dim);
    else if (!(ask->read = myr_alloc(ask->n_own, dim * sizeof(float))))
        status = myr_fail(MYR_ERR_NOMEM, "%s: no memory for %zu vectors", path, ask->n_own);
    else
        status = myr_vectors_to_f32(&file, first, ask->n_own, ask->read);
    for (size_t i = 0; i < ask->n_own && status == MYR_OK; i++)
        if (!prepare_vector(index->metric, ask->read + i * dim, dim))
            status = myr_fail(MYR_ERR_FORMAT, "%s: vector %zu has a value that is NaN or infinite", path, first + i);
    ask->vectors = ask->read;
    myr_vectors_clear(&file);
    return status;
}

/* All ranks see one file. Collective. */
static myr_status agree_on_number(const char *path, const myr_comm *comm, const questions *ask)
{
    int64_t n = (int64_t)ask->n;
    MPI_Bcast(&n, 1, MPI_INT64_T, 0, comm->mpi);
    myr_status status =
        (int64_t)ask->n == n
            ? MYR_OK
            : myr_fail(MYR_ERR_FORMAT, "%s: rank %d sees %zu vectors here, rank 0 %lld; all must see one file", path,
                       comm->rank, ask->n, (long long)n);
    return myr_comm_agree(comm, status);
}

typedef struct answers {
    size_t k, ef;
    myr_hit *hits;         /* (n, k) */
    myr_item_facts *facts; /* (n, k) */
    myr_buffer texts;
    myr_search_report search;
} answers;

static json_t *answer_json(const questions *ask, const answers *found, size_t q)
{
    json_t *hits = json_array();
    for (size_t i = 0; i < found->k; i++) {
        myr_hit hit = found->hits[q * found->k + i];
        myr_item_facts facts = found->facts[q * found->k + i];
        if (hit.id < 0)
            break;
        myr_json_append(&hits, json_pack("{s:I, s:f, s:o, s:o, s:i}", "id", (json_int_t)hit.id, "distance",
                                         (double)hit.distance, "key", myr_json_text(facts.key), "source",
                                         myr_json_text(facts.source), "label", (int)facts.label));
    }
    return json_pack("{s:o, s:o}", "query", myr_json_text(ask->names ? ask->names[q] : NULL), "hits", hits);
}

static void write_table(const questions *ask, const answers *found, bool tsv, myr_buffer *out)
{
    for (size_t q = 0; q < ask->n; q++) {
        char number[32];
        snprintf(number, sizeof number, "%zu", q);
        const char *name = ask->names ? ask->names[q] : number;
        if (!tsv)
            myr_buffer_printf(out, "%s\n", name);
        for (size_t i = 0; i < found->k; i++) {
            myr_hit hit = found->hits[q * found->k + i];
            const char *key = found->facts[q * found->k + i].key;
            if (hit.id < 0)
                break;
            if (tsv)
                myr_buffer_printf(out, "%s\t%zu\t%lld\t%.7g\t%s\n", name, i + 1, (long long)hit.id,
                                  (double)hit.distance, key ? key : "");
            else
                myr_buffer_printf(out, "%4zu  %.5f  %s\n", i + 1, (double)hit.distance, key ? key : "");
        }
    }
}

static myr_status write_json(const myr_cli *cli, const questions *ask, const answers *found, myr_buffer *out)
{
    json_t *queries = json_array();
    for (size_t q = 0; queries && q < ask->n; q++)
        myr_json_append(&queries, answer_json(ask, found, q));
    const myr_search_report *search = &found->search;
    const myr_search_phases *phases = &search->phases;
    json_t *spent = json_pack("{s:f, s:f, s:f, s:f, s:f}", "route", phases->route_s, "exchange", phases->exchange_s,
                              "search", phases->search_s, "merge", phases->merge_s, "wait", phases->wait_s);
    json_t *document = json_pack("{s:o, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:I, s:f, s:f, s:f, s:f, s:o}", "queries",
                                 queries, "k", (int)found->k, "ef", (int)found->ef, "ranks", cli->comm->size, "threads",
                                 cli->n_threads, "encode_s", ask->encode_s, "search_s", search->wall_s,
                                 "probes_per_query", search->probes_per_query, "batches", (json_int_t)search->n_rounds,
                                 "batch_p50_ms", 1e3 * search->round_p50_s, "batch_p99_ms", 1e3 * search->round_p99_s,
                                 "imbalance", search->imbalance, "sent_bytes", search->sent_bytes, "phases", spent);
    return myr_put_json(document, out);
}

static myr_status write_hdf5(const char *path, const questions *ask, const answers *found)
{
    size_t n = ask->n * found->k;
    int64_t *ids = myr_alloc(n, sizeof *ids);
    float *distances = myr_alloc(n, sizeof *distances);
    myr_status status = ids && distances ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %zu hits", n);
    for (size_t i = 0; i < n && status == MYR_OK; i++) {
        ids[i] = found->hits[i].id;
        distances[i] = found->hits[i].distance;
    }
    if (status == MYR_OK)
        status = myr_hits_write_hdf5(path, ask->n, found->k, ids, distances);
    free(ids);
    free(distances);
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool is_hdf5(const char *path)
{
    return path && (ends_with(path, ".hdf5") || ends_with(path, ".h5"));
}

static myr_status write_sheet(const myr_index_manifest *index, const questions *ask, const answers *found,
                              myr_buffer *out)
{
    char summary[256];
    snprintf(summary, sizeof summary,
             "%zu pictures asked against %lld in %zu shards, %.2f ms each to search, %.2f shards probed", ask->n,
             (long long)index->n_items, index->n_shards, ask->n ? 1e3 * found->search.wall_s / (double)ask->n : 0,
             found->search.probes_per_query);
    myr_answer_sheet answer = {.n = ask->n,
                               .k = found->k,
                               .names = ask->names,
                               .sources = ask->sources,
                               .hits = found->hits,
                               .facts = found->facts,
                               .classes = index->classes,
                               .n_classes = index->n_classes,
                               .summary = summary};
    return myr_answer_sheet_write(&answer, out);
}

static myr_status write_answers(const myr_cli *cli, const myr_index_manifest *index, const questions *ask,
                                const answers *found)
{
    const char *format = myr_config_text(cli->config, "format"), *path = myr_config_text(cli->config, "out");
    myr_buffer out = {0};
    myr_status status = MYR_OK;
    if (is_hdf5(path))
        return write_hdf5(path, ask, found);
    if (strcmp(format, "json") == 0)
        status = write_json(cli, ask, found, &out);
    else if (strcmp(format, "html") == 0)
        status = write_sheet(index, ask, found, &out);
    else
        write_table(ask, found, strcmp(format, "tsv") == 0, &out);
    if (status == MYR_OK && out.failed)
        status = myr_fail(MYR_ERR_NOMEM, "no memory for the answer");
    if (status == MYR_OK && path)
        status = myr_file_replace(path, out.data ? out.data : "", out.size);
    else if (status == MYR_OK) {
        fwrite(out.data, 1, out.size, stdout);
        status = myr_flush_output();
    }
    myr_buffer_free(&out);
    return status;
}

/* Every rank coordinates the slice that it read; rank 0 gets all hits. Collective. */
static myr_status search_slices(myr_cluster *cluster, const questions *ask, const myr_search_options *options,
                                answers *found)
{
    const myr_comm *comm = cluster->comm;
    if (comm->size == 1)
        return myr_cluster_search_own(cluster, ask->vectors, ask->n, options, found->hits, &found->search);
    myr_hit *own = myr_alloc(ask->n_own, options->k * sizeof *own);
    myr_status status = own ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for the hits of %zu queries", ask->n_own);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_cluster_search_own(cluster, ask->vectors, ask->n_own, options, own, &found->search);
    double start_s = myr_now_s();
    if (status == MYR_OK)
        myr_cluster_gather(comm, own, ask->n, options->k, found->hits);
    double passed_s = myr_now_s() - start_s;
    found->search.wall_s += passed_s;
    found->search.phases.exchange_s += passed_s;
    free(own);
    return status;
}

/* Collective. */
static myr_status answer(const myr_cli *cli, myr_cluster *cluster, questions *ask, answers *found)
{
    const myr_config *config = cli->config;
    int64_t n = (int64_t)ask->n;
    MPI_Bcast(&n, 1, MPI_INT64_T, 0, cli->comm->mpi);
    found->k = (size_t)myr_config_int(config, "k");
    size_t n_hits = (size_t)n * found->k;
    myr_search_options options;
    myr_status status = myr_choose_search(cli, &cluster->manifest, found->k, &options);
    found->ef = options.ef;
    if (status == MYR_OK && cli->speaks) {
        found->hits = myr_alloc(n_hits, sizeof *found->hits);
        found->facts = myr_alloc(n_hits, sizeof *found->facts);
        if (!found->hits || !found->facts)
            status = myr_fail(MYR_ERR_NOMEM, "no memory for %zu hits", n_hits);
    }
    options.batch = (size_t)myr_config_int(config, "query-batch");
    status = myr_comm_agree(cli->comm, status);
    if (status == MYR_OK)
        status = ask->read
                     ? search_slices(cluster, ask, &options, found)
                     : myr_cluster_search(cluster, ask->vectors, (size_t)n, &options, found->hits, &found->search);
    if (status != MYR_OK)
        return status;
    if (is_hdf5(myr_config_text(config, "out")))
        return MYR_OK; /* ids and distances are all that goes there */
    int64_t *ids = myr_alloc(cli->speaks ? n_hits : 0, sizeof *ids);
    for (size_t i = 0; ids && cli->speaks && i < n_hits; i++)
        ids[i] = found->hits[i].id;
    status = myr_comm_agree(cli->comm, ids ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %zu ids", n_hits));
    if (status == MYR_OK)
        status = myr_cluster_describe(cluster, ids, n_hits, &found->texts, found->facts);
    free(ids);
    return status;
}

/* Collective. */
static myr_status add_traffic(const myr_cli *cli, const myr_cluster *cluster, const char *path)
{
    uint64_t *visits = myr_alloc(cluster->manifest.n_shards, sizeof *visits);
    myr_status status =
        myr_comm_agree(cli->comm, visits ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for the visits to shards"));
    if (status == MYR_OK)
        myr_cluster_visits(cluster, visits);
    if (status == MYR_OK)
        status = myr_comm_agree(cli->comm, cli->speaks ? myr_traffic_add(path, &cluster->manifest, visits) : MYR_OK);
    free(visits);
    return status;
}

static myr_status check_usage(const myr_cli *cli)
{
    const char *vectors = myr_config_text(cli->config, "vectors");
    if (!myr_config_text(cli->config, "index"))
        return myr_fail(MYR_ERR_ARG, "--index FOLDER is missing: which index shall be asked?");
    if ((cli->n_operands == 0) == (vectors == NULL))
        return myr_fail(MYR_ERR_ARG, "name pictures, or give --vectors FILE, one of the two");
    if (vectors && strcmp(myr_config_text(cli->config, "format"), "html") == 0)
        return myr_fail(MYR_ERR_ARG, "--format html shows pictures; --vectors has none");
    return myr_check_probe(cli->config);
}

myr_status myr_cmd_query(const myr_cli *cli)
{
    myr_status status = check_usage(cli);
    if (status != MYR_OK)
        return status;
    myr_cluster cluster;
    questions ask = {0};
    answers found = {0};
    const char *vectors = myr_config_text(cli->config, "vectors"), *traffic = myr_config_text(cli->config, "traffic");
    status = myr_cluster_open(cli->comm, myr_config_text(cli->config, "index"), cli->n_threads, traffic, &cluster);
    if (status != MYR_OK)
        return status;
    status = myr_cluster_check_memory(&cluster, myr_config_real(cli->config, "memory") * 1e9);
    if (status == MYR_OK && vectors)
        status = ask_vectors(vectors, cli->comm, &cluster.manifest, &ask);
    else if (status == MYR_OK && cli->speaks)
        status = ask_pictures(cli, &cluster.manifest, &ask);
    status = myr_comm_agree(cli->comm, status);
    if (status == MYR_OK && vectors)
        status = agree_on_number(vectors, cli->comm, &ask);
    if (status == MYR_OK)
        status = answer(cli, &cluster, &ask, &found);
    if (status == MYR_OK && traffic)
        status = add_traffic(cli, &cluster, traffic);
    if (status == MYR_OK && cli->speaks) {
        status = write_answers(cli, &cluster.manifest, &ask, &found);
        myr_note("%zu quer%s: %.2f s to encode, %.3f ms each to search, %.2f shards probed, ef %zu", ask.n,
                 ask.n == 1 ? "y" : "ies", ask.encode_s, ask.n ? 1e3 * found.search.wall_s / (double)ask.n : 0,
                 found.search.probes_per_query, found.ef);
        if (myr_config_int(cli->config, "query-batch") > 0)
            myr_note("batches of %lld: %.3f ms at the median, %.3f ms for the slowest in a hundred",
                     (long long)myr_config_int(cli->config, "query-batch"), 1e3 * found.search.round_p50_s,
                     1e3 * found.search.round_p99_s);
    }
    clear_questions(&ask);
    free(found.hits);
    free(found.facts);
    myr_buffer_free(&found.texts);
    myr_cluster_close(&cluster);
    return status;
}
