/*
 * Every setting of Myriops, once: the flags, the environment, the INI file, --help and
 * --dump-config are all made from this table.
 */
#include "cli/cli.h"

/* clang-format off */
const myr_key myr_settings_table[] = {
    /* name, type, default, least, most, choices, value name, help, commands, short flag */
    {"out", MYR_KEY_TEXT, NULL, 0, 0, NULL, "PATH", "folder (embed, index) or file (query, knn-graph, dedup, calibrate, eval: a chart of recall by shards, .svg; bench: answers as raw f32) to write", "embed index query eval knn-graph dedup calibrate bench", 'o'},
    {"model", MYR_KEY_TEXT, "efficientnet-lite0", 0, 0, NULL, "CARD", "model card: a name in conf/models, or a path", "embed query bench plan", 'm'},
    {"backend", MYR_KEY_TEXT, NULL, 0, 0, NULL, "NAME", "network backend: onednn, openblas or reference; default: the fastest built in", "embed query classify calibrate bench info plan", 0},
    {"precision", MYR_KEY_CHOICE, "f32", 0, 0, "f32|bf16|int8|auto", "TYPE", "what the network computes in; auto: the fastest that holds --cosine; int8 and auto want a calibrated card (myriops calibrate)", "embed query classify bench plan", 0},
    {"cosine", MYR_KEY_REAL, "0", 0, 1, NULL, "C", "least cosine to f32 of the worst picture; 0 = 0.9995 with --precision auto, 0.99 for calibrate and bench", "embed query classify calibrate bench plan", 0},
    {"label-from-folder", MYR_KEY_FLAG, "no", 0, 0, NULL, NULL, "a picture's label is the folder it lies in", "embed classify info", 0},
    {"chunk", MYR_KEY_INT, "0", 0, 1048576, NULL, "N", "items in one output file and unit of work; 0 = by the size of the corpus", "embed", 0},
    {"dtype", MYR_KEY_CHOICE, "f32", 0, 0, "f32|f16", "TYPE", "how embeddings are stored", "embed plan", 0},
    {"max-bad", MYR_KEY_REAL, "0.05", 0, 1, NULL, "SHARE", "share of unusable items above which the run fails", "embed", 0},
    {"add", MYR_KEY_FLAG, "no", 0, 0, NULL, NULL, "add to the index in --out, in place of building one; items whose keys it holds are replaced", "index", 0},
    {"delete", MYR_KEY_TEXT, NULL, 0, 0, NULL, "FILE", "take items out of the index in --out: their keys, one a line", "index", 0},
    {"shards", MYR_KEY_INT, "0", 0, 1048576, NULL, "S", "shards of the index; 0 = one for each rank", "index plan", 's'},
    {"partition", MYR_KEY_CHOICE, "kmeans", 0, 0, "kmeans|hash", "RULE", "how vectors find their shard", "index", 0},
    {"metric", MYR_KEY_CHOICE, "l2", 0, 0, "l2|cosine|ip", "NAME", "distance, for vector files (ip: minus the inner product); embeddings bring their own", "index bench", 0},
    {"M", MYR_KEY_INT, "16", 2, 512, NULL, "N", "links of a node on the upper levels; twice that at level 0", "index bench plan", 'M'},
    {"ef-construction", MYR_KEY_INT, "200", 1, 100000, NULL, "N", "candidates kept while building", "index bench plan", 0},
    {"quantize", MYR_KEY_CHOICE, "sq8", 0, 0, "sq8|sq8-f16|none", "NAME", "what walks measure: codes of 8 bits a value (the vectors that rank the best are kept as they are, or in f16 in half the memory), or the vectors themselves", "index bench plan", 0},
    {"seed", MYR_KEY_INT, "1", 0, 9007199254740992.0, NULL, "N", "seed of levels and partition", "index bench", 0},
    {"images", MYR_KEY_REAL, "0", 0, 1e15, NULL, "N", "pictures that there will be, such as 1e9", "plan", 0},
    {"dim", MYR_KEY_INT, "1280", 1, 65536, NULL, "N", "values of a vector", "plan", 0},
    {"ranks", MYR_KEY_INT, "0", 0, 1048576, NULL, "N", "ranks that there will be; 0 = as many as now", "plan", 0},
    {"memory", MYR_KEY_REAL, "0", 0, 1e9, NULL, "GB", "memory that a rank may use; plan: tells how many ranks that takes; 0 = index: what the host has", "index plan", 0},
    {"measure", MYR_KEY_FLAG, "no", 0, 0, NULL, NULL, "measure this machine: pictures as named, vectors as in --vectors or made up", "plan", 0},
    {"index", MYR_KEY_TEXT, NULL, 0, 0, NULL, "FOLDER", "the index to ask", "query eval knn-graph dedup", 'i'},
    {"k", MYR_KEY_INT, "10", 1, 10000, NULL, "N", "nearest neighbours wanted", "query eval knn-graph bench", 'k'},
    {"ef-search", MYR_KEY_INT, "100", 1, 100000, NULL, "N", "candidates kept while searching a shard: more is slower and finds more", "query eval knn-graph dedup plan", 'e'},
    {"recall", MYR_KEY_REAL, "0", 0, 1, NULL, "R", "recall wished for: takes the ef-search, and with --probe auto the shards, that reached it when the index was built; 0 = take --ef-search, and 0.95 for the shards", "query eval knn-graph", 0},
    {"probe", MYR_KEY_TEXT, "all", 0, 0, NULL, "all|auto|N", "shards asked for each query, likeliest first; auto: as many as its neighbours may lie in, by --recall", "query eval knn-graph", 'p'},
    {"query-batch", MYR_KEY_INT, "0", 0, 1048576, NULL, "N", "queries under way together: 1 answers one at a time and tells how long each took; 0 = thousands, for throughput", "query", 0},
    {"traffic", MYR_KEY_TEXT, NULL, 0, 0, NULL, "FILE", "count visits to shards there; with more ranks than shards the most visited are hosted twice", "query", 0},
    {"vectors", MYR_KEY_TEXT, NULL, 0, 0, NULL, "FILE", "queries as vectors: .fbin .u8bin .fvecs .bvecs .npy .hdf5", "query plan", 0},
    {"sample", MYR_KEY_INT, "1000", 1, 1000000, NULL, "N", "items of the index used as queries; knn-graph, dedup: 100 unless set, to tell what walks find", "eval knn-graph dedup", 0},
    {"exact", MYR_KEY_FLAG, "no", 0, 0, NULL, NULL, "look at every vector in place of walking the graphs: slow, and misses nothing", "knn-graph dedup", 0},
    {"threshold", MYR_KEY_REAL, "0.1", 0, 1e30, NULL, "D", "distance up to which two items are near duplicates, as the metric has it; other metrics than cosine have no usual one", "dedup", 0},
    {"groups", MYR_KEY_INT, "100", 1, 100000, NULL, "N", "groups shown by --format html and json, the largest first", "dedup", 0},
    {"pictures", MYR_KEY_INT, "128", 1, 4096, NULL, "N", "pictures to calibrate with, spread over those given", "calibrate bench", 0},
    {"dataset", MYR_KEY_TEXT, NULL, 0, 0, NULL, "PATH", "ann-benchmarks file (.hdf5), or folder with base.*, query.* and groundtruth.* in big-ann's formats", "bench", 0},
    {"ef", MYR_KEY_TEXT, "10,20,30,50,70,100,150,200,300,500", 0, 0, NULL, "LIST", "candidates kept while searching, one point of the curve each", "bench", 0},
    {"batch", MYR_KEY_INT, "8", 1, 4096, NULL, "N", "pictures a run of the network", "bench info", 'b'},
    {"seconds", MYR_KEY_REAL, "3", 0, 3600, NULL, "S", "how long to measure; info: all precisions together, 0 = not at all", "bench info", 0},
    {"input", MYR_KEY_TEXT, NULL, 0, 0, NULL, "FILE", "pictures as raw f32 (n, channels, height, width), in place of noise", "bench", 0},
    {"size", MYR_KEY_INT, "224", 1, 16384, NULL, "N", "height and width of pictures where the model leaves them open", "bench info", 0},
    {"per-node", MYR_KEY_FLAG, "no", 0, 0, NULL, NULL, "tell what each step of the network takes", "bench", 0},
    {"roofline", MYR_KEY_FLAG, "no", 0, 0, NULL, NULL, "tell also how near the network comes to what this core computes and moves at best", "bench", 0},
    {"tensor", MYR_KEY_TEXT, NULL, 0, 0, NULL, "NAME", "the output asked for; default: the card's embedding, or the first", "bench", 0},
    {"top", MYR_KEY_INT, "5", 1, 1000, NULL, "N", "classes named for each picture", "classify", 't'},
    {"format", MYR_KEY_CHOICE, "table", 0, 0, "table|json|tsv|html", "NAME", "output: for people (table), scripts (json, tsv) or a browser (html: query, dedup)", NULL, 'f'},
    {"threads", MYR_KEY_INT, "0", 0, 4096, NULL, "N", "threads of each rank; 0 = the processors it may use, shared among the ranks of a host", NULL, 'j'},
    {"conf", MYR_KEY_TEXT, NULL, 0, 0, NULL, "FILE", "settings file, in place of conf/myriops.conf", NULL, 'c'},
    {"quiet", MYR_KEY_FLAG, "no", 0, 0, NULL, NULL, "no progress line and no notes", NULL, 'q'},
    {"dump-config", MYR_KEY_FLAG, "no", 0, 0, NULL, NULL, "print the settings in force and where each came from, and stop", NULL, 0},
    {"help", MYR_KEY_FLAG, "no", 0, 0, NULL, NULL, "this text", NULL, 'h'},
};
/* clang-format on */
const size_t myr_settings_count = sizeof myr_settings_table / sizeof *myr_settings_table;
