/*
 * myriops info: what is this folder or file?
 *
 * What the operand is, is told by what it holds: manifest.json makes an embedding
 * folder, index.json an index, .onnx and .conf a model, a file of vectors by its name's end;
 * all else is taken for a corpus. Facts are gathered once as JSON, which is also what the words
 * are made from.
 */
#include "base/file.h"
#include "cli/cli.h"
#include "cli/info_model.h"
#include "cli/pictures.h"
#include "dist/index_manifest.h"
#include "myriops/encoder.h"
#include "myriops/store.h"
#include "myriops/corpus.h"
#include "myriops/vectors.h"
#include "store/hdf5_rows.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool holds(const char *folder, const char *name)
{
    char *path = myr_path_join(folder, name);
    bool there = path && myr_path_exists(path);
    free(path);
    return there;
}

/* Bytes of a file, -1 where it is not there. */
static int64_t file_bytes(const char *folder, const char *name)
{
    char *path = myr_path_join(folder, name);
    struct stat facts;
    int64_t n = path && stat(path, &facts) == 0 ? (int64_t)facts.st_size : -1;
    free(path);
    return n;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_chunk(const struct dirent *entry)
{
    return strncmp(entry->d_name, "chunk-", 6) == 0 && ends_with(entry->d_name, ".h5");
}

static myr_status read_chunk(const char *folder, const char *name, myr_chunk *chunk)
{
    char *path = myr_path_join(folder, name);
    myr_status status =
        path ? myr_chunk_read(path, MYR_CHUNK_BAD, chunk) : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    free(path);
    return status;
}

/* Items of the chunks that are there, by their heads; up to 20 bad items are listed. */
static myr_status count_chunks(const char *folder, int64_t *n_done, int64_t *n_good, int64_t *n_bad, json_t *bad)
{
    struct dirent **names = NULL;
    int n = scandir(folder, &names, is_chunk, by_name);
    myr_status status = n >= 0 ? MYR_OK : myr_fail(MYR_ERR_IO, "%s: cannot be listed", folder);
    for (int i = 0; i < n; i++) {
        myr_chunk chunk = {0};
        if (status == MYR_OK)
            status = read_chunk(folder, names[i]->d_name, &chunk);
        free(names[i]);
        if (status != MYR_OK)
            continue;
        *n_done += 1;
        *n_good += chunk.n;
        *n_bad += chunk.n_bad;
        for (int64_t j = 0; j < chunk.n_bad && json_array_size(bad) < 20; j++)
            json_array_append_new(bad, json_pack("{s:o, s:o, s:o}", "key", myr_json_text(chunk.bad_key[j]), "source",
                                                 myr_json_text(chunk.bad_source[j]), "reason",
                                                 myr_json_text(chunk.bad_reason[j])));
        myr_chunk_clear(&chunk);
    }
    free(names);
    return status;
}

static myr_status embeddings_info(const char *folder, json_t **facts)
{
    myr_manifest manifest;
    int64_t n_done = 0, n_good = 0, n_bad = 0;
    char *path = myr_path_join(folder, "manifest.json");
    myr_status status = path ? myr_manifest_read(path, &manifest) : myr_fail(MYR_ERR_NOMEM, "no memory for a path");
    free(path);
    if (status != MYR_OK)
        return status;
    json_t *bad = json_array();
    status = count_chunks(folder, &n_done, &n_good, &n_bad, bad);
    if (status == MYR_OK)
        *facts = json_pack("{s:s, s:o, s:o, s:s, s:s, s:i, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:s, s:O}",
                           "kind", "embeddings", "path", myr_json_text(folder), "model", myr_json_text(manifest.model),
                           "contract", manifest.contract, "metric", manifest.metric, "dim", manifest.dim, "storage",
                           manifest.storage, "precision", manifest.precision, "complete", manifest.complete, "items",
                           (json_int_t)manifest.n_items, "embedded", (json_int_t)n_good, "bad", (json_int_t)n_bad,
                           "chunks", (json_int_t)manifest.n_chunks, "chunks_done", (json_int_t)n_done, "chunk_items",
                           (json_int_t)manifest.chunk_items, "classes", (int)manifest.n_classes, "corpus",
                           manifest.corpus_digest, "bad_items", bad);
    json_decref(bad);
    myr_manifest_clear(&manifest);
    return status;
}

static myr_status index_info(const char *folder, json_t **facts)
{
    myr_index_manifest index;
    myr_status status = myr_index_manifest_read(folder, &index);
    if (status != MYR_OK)
        return status;
    json_t *shards = json_array();
    int64_t n_bytes = 0;
    for (size_t s = 0; s < index.n_shards; s++) {
        int64_t bytes = file_bytes(folder, index.shards[s].file);
        n_bytes += bytes > 0 ? bytes : 0;
        json_array_append_new(shards, json_pack("{s:s, s:I, s:I, s:s}", "file", index.shards[s].file, "items",
                                                (json_int_t)index.shards[s].n_items, "bytes", (json_int_t)bytes,
                                                "digest", index.shards[s].digest));
        if (bytes < 0)
            status = myr_fail(MYR_ERR_NOT_FOUND, "%s/%s: the shard is missing; build the index again", folder,
                              index.shards[s].file);
    }
    if (status == MYR_OK)
        *facts =
            json_pack("{s:s, s:o, s:s, s:o, s:s?, s:s, s:i, s:I, s:I, s:i, s:i, s:I, s:s, s:i, s:I, s:O}", "kind",
                      "index", "path", myr_json_text(folder), "digest", index.digest, "model",
                      myr_json_text(index.model), "contract", index.contract, "metric", index.metric, "dim", index.dim,
                      "items", (json_int_t)index.n_items, "copies", (json_int_t)index.n_copies, "M", index.M,
                      "ef_construction", index.ef_construction, "seed", (json_int_t)index.seed, "partition",
                      index.partition, "classes", (int)index.n_classes, "bytes", (json_int_t)n_bytes, "shards", shards);
    json_decref(shards);
    myr_index_manifest_clear(&index);
    return status;
}

static bool is_vectors(const char *path)
{
    static const char *const ends[] = {".fbin",  ".u8bin", ".i8bin", ".ibin", ".fvecs",
                                       ".bvecs", ".ivecs", ".npy",   ".hdf5", ".h5"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(path, ends[i]))
            return true;
    return false;
}

/* What query and knn-graph write; false where it is neither, or has vectors as well. */
static bool neighbours_info(const char *path, json_t **facts)
{
    myr_hdf5_rows rows = {0};
    if (myr_hdf5_rows_look(path, "train", &rows) == MYR_OK) {
        myr_hdf5_rows_clear(&rows);
        return false;
    }
    bool is_graph = myr_hdf5_rows_look(path, "neighbours", &rows) == MYR_OK;
    if (!is_graph && myr_hdf5_rows_look(path, "neighbors", &rows) != MYR_OK)
        return false;
    *facts = json_pack("{s:s, s:o, s:I, s:I}", "kind", is_graph ? "graph of neighbours" : "answers", "path",
                       myr_json_text(path), is_graph ? "items" : "queries", (json_int_t)rows.n, "neighbours",
                       (json_int_t)rows.dim);
    myr_hdf5_rows_clear(&rows);
    return true;
}

static myr_status vectors_info(const char *path, json_t **facts)
{
    static const char *const types[] = {"f32", "f16", "f64", "u8", "i8", "i32"};
    myr_vectors file;
    if ((ends_with(path, ".h5") || ends_with(path, ".hdf5")) && neighbours_info(path, facts))
        return MYR_OK;
    myr_status status = myr_vectors_read(path, NULL, &file);
    if (status != MYR_OK)
        return status;
    *facts = json_pack("{s:s, s:o, s:I, s:I, s:s}", "kind", "vectors", "path", myr_json_text(path), "vectors",
                       (json_int_t)file.n, "dim", (json_int_t)file.dim, "element", types[file.element]);
    myr_vectors_clear(&file);
    return MYR_OK;
}

static myr_status corpus_info(const myr_cli *cli, json_t **facts)
{
    myr_corpus *corpus = NULL;
    myr_corpus_facts found;
    myr_corpus_options options = {.label_from_folder = myr_config_flag(cli->config, "label-from-folder")};
    myr_cli_data_sets(cli->config, &options);
    myr_status status = myr_corpus_open(cli->operands, cli->n_operands, &options, &corpus);
    if (status != MYR_OK)
        return status;
    myr_corpus_describe(corpus, &found);
    *facts = json_pack(
        "{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "kind", "corpus", "path",
        myr_json_text(cli->operands[0]), "items", (json_int_t)found.n_items, "bad", (json_int_t)found.n_problems,
        "labelled", (json_int_t)found.n_labelled, "folders", (json_int_t)found.n_folders, "tars",
        (json_int_t)found.n_tars, "lists", (json_int_t)found.n_lists, "sets", (json_int_t)found.n_sets, "unfinished",
        (json_int_t)found.n_unfinished, "ignored", (json_int_t)found.n_ignored, "bytes", (json_int_t)found.n_bytes,
        "classes", (json_int_t)found.n_classes, "corpus", myr_corpus_digest(corpus));
    myr_corpus_free(corpus);
    return MYR_OK;
}

/* Whether a bare word names a model card rather than something on disk. */
static bool is_model(const char *operand)
{
    myr_card *card = NULL;
    if (ends_with(operand, ".onnx") || ends_with(operand, ".conf"))
        return true;
    if (myr_path_exists(operand) || strchr(operand, '/') || strchr(operand, '{') || operand[0] == '@' ||
        myr_card_load(operand, &card) != MYR_OK)
        return false;
    myr_card_free(card);
    return true;
}

static myr_status gather(const myr_cli *cli, json_t **facts)
{
    const char *operand = cli->operands[0];
    if (myr_path_is_folder(operand) && holds(operand, "index.json"))
        return index_info(operand, facts);
    if (myr_path_is_folder(operand) && holds(operand, "manifest.json"))
        return embeddings_info(operand, facts);
    if (is_model(operand))
        return myr_info_of_model(cli, operand, facts);
    if (is_vectors(operand) && !myr_path_is_folder(operand) && !myr_corpus_holds_pictures(operand))
        return vectors_info(operand, facts);
    return corpus_info(cli, facts);
}

/* An object within one: names and values in one line, without those that say nothing. */
static void print_line(const char *name, json_t *object)
{
    const char *key, *before = "";
    json_t *value;
    printf("  %-16s ", name);
    json_object_foreach(object, key, value)
    {
        if (json_is_null(value))
            continue;
        char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(5));
        printf("%s%s %s", before, key, json_is_string(value) ? json_string_value(value) : text ? text : "");
        free(text);
        before = ", ";
    }
    putchar('\n');
}

/* One line for each fact; lists of more than one line are kept to their length, but for operators and tensors. */
static void print_words(const json_t *facts)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)facts, name, value)
    {
        char *text = NULL;
        bool is_list = json_is_array(value) && json_array_size(value) > 0 && json_is_object(json_array_get(value, 0));
        if (json_is_null(value))
            continue;
        if (is_list || json_is_object(value)) {
            size_t i;
            const char *key;
            json_t *entry;
            printf("%s\n", name);
            json_array_foreach(value, i, entry)
            {
                text = json_dumps(entry, JSON_COMPACT | JSON_ENCODE_ANY);
                printf("  %s\n", text ? text : "");
                free(text);
            }
            json_object_foreach(value, key, entry)
            {
                if (json_is_object(entry)) {
                    print_line(key, entry);
                    continue;
                }
                text = json_dumps(entry, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(7));
                printf("  %-16s %s\n", key, json_is_string(entry) ? json_string_value(entry) : text ? text : "");
                free(text);
            }
            continue;
        }
        text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        printf("%-18s %s\n", name, json_is_string(value) ? json_string_value(value) : text ? text : "");
        free(text);
    }
}

myr_status myr_cmd_info(const myr_cli *cli)
{
    json_t *facts = NULL;
    if (cli->n_operands == 0)
        return myr_fail(MYR_ERR_ARG,
                        "name something: an embedding folder, an index, a model, a file of vectors, or pictures");
    if (!cli->speaks)
        return MYR_OK; /* reading a few headers is work for one rank */
    myr_status status = gather(cli, &facts);
    if (status != MYR_OK)
        return status;
    if (strcmp(myr_config_text(cli->config, "format"), "json") == 0 || !facts)
        return myr_print_json(facts);
    print_words(facts);
    json_decref(facts);
    return myr_flush_output();
}
