/*
 * myriops: MPI, settings, one subcommand, one exit.
 *
 * Every rank reads the same command line and runs the same subcommand; the outcome
 * is agreed on, and rank 0 prints the one error line.
 */
#include "cli/alike.h"
#include "cli/cli.h"
#include "cli/launch.h"

#include "base/file.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/utf8.h"

#include <cblas.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_STOPPED = 75 };

static const myr_command commands[] = {
    {"embed", "PICTURE-FOLDER | LIST.txt | SHARD-{000..099}.tar ...", "pictures into vectors, resumable",
     "  mpirun -n 4 myriops embed --out emb/ /data/photos\n"
     "  myriops embed --out emb/ cifar-10-batches-bin/ mnist/train-images-idx3-ubyte.gz images.h5:/train\n"
     "  myriops embed --out emb/ --crop-objects VOCdevkit/VOC2012/ImageSets/Main/train.txt\n"
     "  mpirun -n 4 myriops embed --out emb/ --dtype f16 '/data/more-{000..099}.tar'\n"
     "  myriops embed --out emb/ --label-from-folder --model my-card.conf pictures/\n"
     "  myriops embed --out emb/ --retry-bad /data/photos\n"
     "  mpirun -n 64 myriops embed --out emb/ --stage /scratch/tars --key-prefix-tar '/data/more-{000..099}.tar'\n",
     myr_cmd_embed},
    {"index", "EMBEDDINGS... | VECTORS.fbin", "vectors into a sharded HNSW index",
     "  mpirun -n 4 myriops index --out idx/ --shards 8 emb/\n"
     "  myriops index --out idx/ --metric l2 base.u8bin\n"
     "  mpirun -n 4 myriops index --out idx/ --shards 32 --overlap 0.1 emb/\n"
     "  mpirun -n 4 myriops index --out idx/ --add new-emb/\n"
     "  myriops index --out idx/ --delete keys.txt\n",
     myr_cmd_index},
    {"query", "[PICTURE...]", "the nearest neighbours of pictures or vectors",
     "  mpirun -n 4 myriops query --index idx/ -k 10 cat.jpg dog.jpg\n"
     "  mpirun -n 4 myriops query --index idx/ --format html --out hits.html cat.jpg\n"
     "  mpirun -n 4 myriops query --index idx/ --probe auto --recall 0.95 --vectors q.fbin --out hits.hdf5\n",
     myr_cmd_query},
    {"eval", "", "recall of an index against exact search; kNN accuracy where labels exist",
     "  mpirun -n 4 myriops eval --index idx/ --sample 1000\n"
     "  mpirun -n 4 myriops eval --index idx/ --probe auto --recall 0.95 --out shards.svg\n"
     "  mpirun -n 4 myriops eval --index idx/ --labels --sample 10000 --format html --out worst.html\n",
     myr_cmd_eval},
    {"knn-graph", "", "the nearest others of every item of an index, as HDF5 or a page",
     "  mpirun -n 4 myriops knn-graph --index idx/ -k 10 --out graph.h5\n"
     "  mpirun -n 4 myriops knn-graph --index idx/ -k 50 --probe auto --recall 0.95 --out graph.h5\n"
     "  myriops knn-graph --index idx/ --exact --out truth.h5\n"
     "  myriops knn-graph --index idx/ -k 10 --format html --out page.html   # some items beside their nearest\n",
     myr_cmd_knn_graph},
    {"dedup", "", "near duplicates in an index: groups, and which of each to keep",
     "  mpirun -n 4 myriops dedup --index idx/ --out groups.tsv\n"
     "  mpirun -n 4 myriops dedup --index idx/ --threshold 0.05 --format html --out groups.html\n"
     "  awk -F'\\t' '$2 == \"no\" {print $4}' groups.tsv > keys.txt && myriops index --delete keys.txt --out idx/\n",
     myr_cmd_dedup},
    {"cluster", "[EMBEDDINGS... | VECTORS.fbin]", "k-means over a corpus, with examples of each cluster",
     "  mpirun -n 4 myriops cluster --index idx/ -K 100 --out clusters.tsv --centroids centroids.npy\n"
     "  mpirun -n 4 myriops cluster -K 20 --format html --out clusters.html emb/\n"
     "  myriops cluster --index idx/ -K 100 --format json\n",
     myr_cmd_cluster},
    {"classify", "MODEL PICTURE...", "the likeliest classes of pictures",
     "  myriops classify efficientnet-lite0 cat.jpg\n"
     "  myriops classify efficientnet-lite0 --format json 'photos-{000000..000004}.tar'\n",
     myr_cmd_classify},
    {"calibrate", "MODEL PICTURES...", "measure what a network needs to compute in 8 bits",
     "  myriops calibrate efficientnet-lite0 'photos-{000000..000004}.tar'\n"
     "  myriops calibrate my-card.conf --cosine 0.995 --pictures 256 /data/photos\n",
     myr_cmd_calibrate},
    {"plan", "[PICTURE...]", "time, memory and disk that a corpus will take, before any is spent",
     "  myriops plan --images 1e9 --dim 1280 --ranks 64 --threads 16 --memory 128\n"
     "  myriops plan --images 1e7 --measure 'photos-{000000..000004}.tar'\n"
     "  myriops plan --images 4e5 --shards 8 --measure --vectors sample.fbin\n",
     myr_cmd_plan},
    {"bench", "ann | cnn", "how fast this machine searches vectors, or runs a network",
     "  myriops bench ann --dataset sift-128-euclidean.hdf5 --ef 20,50,100\n"
     "  myriops bench cnn --model efficientnet-lite0 --precision bf16 --threads 1\n"
     "  myriops bench cnn --model resnet50.onnx --batch 8 --threads 2 --format json\n"
     "  myriops bench cnn --model resnet50.onnx --precision int8 --per-node\n",
     myr_cmd_bench},
    {"info", "EMBEDDINGS | INDEX | MODEL | CORPUS", "what is this, in words or --format json",
     "  myriops info emb/\n"
     "  myriops info idx/ --format json\n"
     "  myriops info --crop-objects VOCdevkit/VOC2012\n"
     "  myriops info model.onnx\n"
     "  myriops info model.onnx --seconds 0 --format json\n",
     myr_cmd_info},
    {"import", "VECTORS.npy | VECTORS.fbin | VECTORS.hdf5 | CLIP-RETRIEVAL-FOLDER ...",
     "vectors made elsewhere into an embedding folder, resumable",
     "  mpirun -n 4 myriops import --out emb/ --model clip-vit-b32 --keys keys.txt features-0.npy features-1.npy\n"
     "  myriops import --out emb/ --model clip-vit-b32 clip-output/\n"
     "  myriops import --out emb/ --metric l2 --label-file labels.txt --dataset-name features resnet.hdf5\n",
     myr_cmd_import},
    {"export", "EMBEDDINGS... | INDEX", "vectors into the files of other programs",
     "  mpirun -n 4 myriops export --to clip-retrieval --out clip/ emb/\n"
     "  myriops export --to npy --dtype f16 --out vectors.npy emb/\n"
     "  mpirun -n 4 myriops export --to hdf5 --queries 10000 --out photos-1280-angular.hdf5 idx/\n",
     myr_cmd_export},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

myr_status myr_flush_output(void)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        return myr_fail(MYR_ERR_IO, "standard output could not be written; is the disk full or the pipe closed?");
    return MYR_OK;
}

myr_status myr_print_json(json_t *document)
{
    if (!document)
        return myr_fail(MYR_ERR_NOMEM, "no memory for the JSON answer");
    json_dumpf(document, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(document);
    putchar('\n');
    return myr_flush_output();
}

json_t *myr_json_text(const char *text)
{
    if (!text)
        return json_null();
    if (myr_text_is_utf8(text))
        return json_string(text);
    char *escaped = myr_text_escape(text);
    json_t *value = escaped ? json_string(escaped) : NULL;
    free(escaped);
    return value;
}

void myr_json_append(json_t **array, json_t *value)
{
    if (*array && json_array_append_new(*array, value) == 0)
        return;
    if (!*array)
        json_decref(value);
    json_decref(*array);
    *array = NULL;
}

/* 0 for "all" and "auto". */
static myr_status read_probe(const myr_config *config, size_t *n_probe, bool *routed)
{
    const char *text = myr_config_text(config, "probe");
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    *n_probe = 0;
    *routed = strcmp(text, "auto") == 0;
    if (*routed || strcmp(text, "all") == 0)
        return MYR_OK;
    if (errno || end == text || *end || n < 1)
        return myr_fail(MYR_ERR_ARG, "probe = %s: it is 'all', 'auto' or a number of shards", text);
    *n_probe = (size_t)n;
    return MYR_OK;
}

myr_status myr_check_probe(const myr_config *config)
{
    size_t n_probe;
    bool routed;
    return read_probe(config, &n_probe, &routed);
}

static myr_status choose_ef(const myr_cli *cli, const myr_index_manifest *index, double wish, size_t k, size_t *ef)
{
    double measured = wish;
    myr_status status = myr_index_ef_for(index, k, &measured, ef);
    if (status == MYR_OK && measured < wish && cli->speaks)
        myr_warn("recall %g was not reached when the index was built; the best was %.4f, at ef-search %zu: a greater "
                 "--ef-search finds more",
                 wish, measured, *ef);
    return status;
}

/* An index of one shard, or of shards that know no place, has no choice. */
static myr_status choose_shards(const myr_cli *cli, const myr_index_manifest *index, double wish,
                                myr_search_options *options)
{
    double measured = wish;
    options->routed = index->n_shards > 1 && strcmp(index->partition, "kmeans") == 0;
    if (!options->routed)
        return MYR_OK;
    myr_status status = myr_index_left_for(index, &measured, &options->left);
    if (status == MYR_OK && measured < wish && cli->speaks)
        myr_warn("recall %g was not reached by fewer than all shards when the index was built; the best was %.4f", wish,
                 measured);
    return status;
}

#define USUAL_RECALL 0.95

myr_status myr_choose_search(const myr_cli *cli, const myr_index_manifest *index, size_t k, myr_search_options *options)
{
    double recall = myr_config_real(cli->config, "recall");
    *options = (myr_search_options){.k = k, .ef = (size_t)myr_config_int(cli->config, "ef-search")};
    myr_status status = read_probe(cli->config, &options->n_probe, &options->routed);
    double half = 1 - (1 - (recall > 0 ? recall : USUAL_RECALL)) / 2;
    if (status == MYR_OK && recall > 0)
        status = choose_ef(cli, index, options->routed ? half : recall, k, &options->ef);
    if (status == MYR_OK && options->routed)
        status = choose_shards(cli, index, half, options);
    options->ef = options->ef > k ? options->ef : k;
    return status;
}

/* Long enough for a job to end by itself, short enough for the launcher that counts to ten. */
#define GRACE_S 7

static void request_stop(int signal_number)
{
    (void)signal_number;
    if (!myr_stop_requested)
        alarm(GRACE_S);
    myr_stop_requested = 1;
}

/* The job did not look at the flag in time. Every file is written under another name first, so nothing is lost. */
static void stop_now(int signal_number)
{
    static const char text[] =
        "myriops: stopped by a signal; finished work is kept, run the same command again to go on\n";
    (void)signal_number;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(EXIT_STOPPED);
    _exit(EXIT_STOPPED);
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = request_stop, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    action.sa_handler = stop_now;
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* a closed pipe or a file size limit is an error with a sentence, not the end */
    signal(SIGXFSZ, SIG_IGN);
}

static void print_overview(FILE *out)
{
    fprintf(out, "myriops %s: millions of pictures into answers, on an MPI cluster\n\n", MYRIOPS_VERSION);
    fprintf(out, "usage: [mpirun -n RANKS] myriops COMMAND [options] ...\n\n");
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\n'myriops COMMAND --help' tells the options of a command.\n");
}

static void print_help(const myr_command *command, const myr_config *config)
{
    myr_buffer flags = {0};
    myr_config_help(config, &flags);
    printf("myriops %s: %s\n\nusage: [mpirun -n RANKS] myriops %s [options] %s\n\n%s\nexamples:\n%s", command->name,
           command->summary, command->name, command->operands, flags.data ? flags.data : "", command->examples);
    myr_buffer_free(&flags);
}

/* conf/myriops.conf beside the program, or the installed one; [owned by caller], NULL if there is none. */
static char *find_settings_file(void)
{
    static const char *const places[] = {"../conf/myriops.conf", "../share/myriops/myriops.conf"};
    char program[4096];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return NULL;
    program[length] = 0;
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = 0;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char *path = myr_path_join(program, places[i]);
        if (path && myr_path_exists(path))
            return path;
        free(path);
    }
    return NULL;
}

/* Layers: default < file < environment < flags. The flags are read twice, since --conf names the file. */
static myr_status read_settings(myr_config *config, int argc, char **argv, const char ***operands, size_t *n_operands)
{
    myr_status status = myr_config_read_arguments(config, argc, argv, operands, n_operands);
    if (status != MYR_OK)
        return status;
    char *path =
        myr_config_text(config, "conf") ? realpath(myr_config_text(config, "conf"), NULL) : find_settings_file();
    if (!path && myr_config_text(config, "conf"))
        return myr_fail(MYR_ERR_NOT_FOUND, "%s: no such settings file", myr_config_text(config, "conf"));
    if (path)
        status = myr_config_read_file(config, path);
    free(path);
    if (status == MYR_OK)
        status = myr_config_read_environment(config);
    free(*operands);
    *operands = NULL;
    if (status == MYR_OK)
        status = myr_config_read_arguments(config, argc, argv, operands, n_operands);
    return status;
}

static myr_status run_command(const myr_command *command, int argc, char **argv, const myr_comm *comm)
{
    myr_config *config = NULL;
    const char **operands = NULL;
    size_t n_operands = 0;
    myr_status status = myr_config_create(myr_settings_table, myr_settings_count, command->name, &config);
    if (status == MYR_OK)
        status = read_settings(config, argc, argv, &operands, &n_operands);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_alike_settings(comm, config);
    if (status == MYR_OK)
        status = myr_alike_operands(comm, operands, n_operands);
    if (status != MYR_OK)
        goto done;
    bool speaks = comm->rank == 0, quiet = myr_config_flag(config, "quiet");
    myr_log_init(command->name, speaks, quiet);
    int n_threads = myr_launch_threads((int)myr_config_int(config, "threads"), command->run != myr_cmd_plan);
    if (myr_config_flag(config, "help")) {
        if (speaks)
            print_help(command, config);
    } else if (myr_config_flag(config, "dump-config")) {
        myr_buffer dump = {0};
        myr_config_dump(config, &dump);
        if (speaks)
            fputs(dump.data ? dump.data : "", stdout);
        myr_buffer_free(&dump);
    } else {
        status = command->run(&(myr_cli){.config = config,
                                         .operands = operands,
                                         .n_operands = n_operands,
                                         .comm = comm,
                                         .n_threads = n_threads,
                                         .progress = speaks && !quiet,
                                         .speaks = speaks});
        status = myr_comm_agree(comm, status);
    }
    if (status == MYR_OK && speaks)
        status = myr_flush_output();
done:
    free(operands);
    myr_config_free(config);
    return status;
}

int myr_exit_status(myr_status status)
{
    return status == MYR_OK            ? EXIT_DONE
           : status == MYR_ERR_ARG     ? EXIT_USAGE
           : status == MYR_ERR_STOPPED ? EXIT_STOPPED
                                       : EXIT_FAILED;
}

/* The subcommand, or NULL after saying why not. */
static const myr_command *find_command(const char *name, bool speaks, int *code)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (name && strcmp(name, commands[i].name) == 0)
            return &commands[i];
    bool wants_help = name && (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0);
    bool wants_version = name && strcmp(name, "--version") == 0;
    *code = wants_help || wants_version ? EXIT_DONE : EXIT_USAGE;
    if (!speaks)
        return NULL;
    if (wants_version) {
        printf("myriops %s\n", MYRIOPS_VERSION);
    } else {
        if (name && !wants_help)
            fprintf(stderr, "myriops: unknown command '%s'\n\n", name);
        print_overview(wants_help ? stdout : stderr);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int provided, code = EXIT_FAILED;
    myr_launch launch = myr_launch_read();
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    catch_signals();
    openblas_set_num_threads(1); /* our threads are the parallelism; BLAS stays inside each */
    myr_comm comm = {0};
    if (myr_comm_create(MPI_COMM_WORLD, &comm) != MYR_OK) {
        fprintf(stderr, "myriops: %s\n", myr_error_detail());
        MPI_Abort(MPI_COMM_WORLD, EXIT_FAILED);
    }
    const char *name = argc > 1 ? argv[1] : NULL;
    myr_status alike = myr_alike_command(&comm, name);
    const myr_command *command = alike == MYR_OK ? find_command(name, comm.rank == 0, &code) : NULL;
    if (alike != MYR_OK) {
        if (comm.rank == 0)
            fprintf(stderr, "myriops: %s\n", myr_error_detail());
        code = myr_exit_status(alike);
    } else if (command && myr_launch_check(&launch, comm.size) != MYR_OK) {
        if (comm.rank == 0)
            fprintf(stderr, "myriops %s: %s\n", command->name, myr_error_detail());
        code = EXIT_FAILED;
    } else if (command) {
        myr_status status = run_command(command, argc - 2, argv + 2, &comm);
        if (status != MYR_OK && comm.rank == 0)
            fprintf(stderr, "myriops %s: %s\n", command->name, myr_error_detail());
        code = myr_exit_status(status);
    }
    myr_comm_free(&comm);
    MPI_Finalize();
    return code;
}
