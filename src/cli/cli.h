/*
 * What every subcommand gets, and the table they stand in.
 */
#ifndef MYR_CLI_CLI_H
#define MYR_CLI_CLI_H

#include "base/config.h"
#include "dist/cluster.h"
#include "dist/comm.h"
#include "dist/index_manifest.h"

#include <jansson.h>

typedef struct myr_cli {
    const myr_config *config;
    const char *const *operands; /* [borrowed] from argv */
    size_t n_operands;
    const myr_comm *comm;
    int n_threads; /* of this rank */
    bool progress; /* show the progress line (rank 0 draws it) */
    bool speaks;   /* rank 0: the one that prints results */
} myr_cli;

typedef struct myr_command {
    const char *name;
    const char *operands;                  /* "PICTURE..." for the usage line */
    const char *summary;                   /* one line */
    const char *examples;                  /* whole lines */
    myr_status (*run)(const myr_cli *cli); /* Collective: every rank calls it */
} myr_command;

extern const myr_key myr_settings_table[];
extern const size_t myr_settings_count;

myr_status myr_cmd_embed(const myr_cli *cli);
myr_status myr_cmd_index(const myr_cli *cli);
myr_status myr_cmd_query(const myr_cli *cli);
myr_status myr_cmd_eval(const myr_cli *cli);
myr_status myr_cmd_knn_graph(const myr_cli *cli);
myr_status myr_cmd_dedup(const myr_cli *cli);
myr_status myr_cmd_cluster(const myr_cli *cli);
myr_status myr_cmd_classify(const myr_cli *cli);
myr_status myr_cmd_calibrate(const myr_cli *cli);
myr_status myr_cmd_plan(const myr_cli *cli);
myr_status myr_cmd_bench(const myr_cli *cli);
myr_status myr_cmd_info(const myr_cli *cli);
myr_status myr_cmd_import(const myr_cli *cli);
myr_status myr_cmd_export(const myr_cli *cli);

/* A text as JSON; bytes that are no UTF-8 are shown as %XX. NULL becomes null. */
json_t *myr_json_text(const char *text);
/* Append value, which is taken over; a failure releases the array and leaves NULL, which json_pack then hands on. */
void myr_json_append(json_t **array, json_t *value);
/* Whether --probe is "all", "auto" or a number of shards; MYR_ERR_ARG for anything else. */
myr_status myr_check_probe(const myr_config *config);
/*
 * k, ef and the shards to visit, by --ef-search, --probe and --recall. What --recall allows to miss is halved between
 * the shards not visited and the walks in those that are, where both are chosen. Alike on all ranks.
 */
myr_status myr_choose_search(const myr_cli *cli, const myr_index_manifest *index, size_t k,
                             myr_search_options *options);
/* Print a JSON document on standard output and release it. NULL = there was no memory to make it. */
myr_status myr_print_json(json_t *document);
/* What the program ends with. */
int myr_exit_status(myr_status status);
/* Flush standard output; a full disk or closed pipe there is an error like any other. */
myr_status myr_flush_output(void);

#endif
