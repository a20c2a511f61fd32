/*
 * eval --labels: how well the neighbours of items tell their labels.
 */
#ifndef MYR_CLI_EVAL_LABELS_H
#define MYR_CLI_EVAL_LABELS_H

#include "cli/cli.h"

/* Collective. Asks with --sample of the index's items, each left out of its own answer, and prints or writes what
 * --format and --out say. */
myr_status myr_eval_labels(const myr_cli *cli, myr_cluster *cluster);

#endif
