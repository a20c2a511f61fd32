/*
 * A page of a graph of neighbours: some items of an index, each beside its nearest others.
 */
#ifndef MYR_CLI_KNN_PAGE_H
#define MYR_CLI_KNN_PAGE_H

#include "cli/cli.h"
#include "dist/cluster.h"

/*
 * myr_knn_page_write - a contact sheet of n_wanted items, spread evenly over the shards.
 *
 * Collective. Which items are shown does not depend on the number of ranks.
 *
 *  search  its k is one more than the neighbours shown: an item finds itself
 *  path    the file to write, whole or not at all
 */
myr_status myr_knn_page_write(const myr_cli *cli, myr_cluster *cluster, const myr_search_options *search,
                              size_t n_wanted, const char *path);

#endif
