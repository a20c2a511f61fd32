/*
 * What myriops bench can measure. Local: one rank measures.
 */
#ifndef MYR_CLI_BENCH_H
#define MYR_CLI_BENCH_H

#include "cli/cli.h"

myr_status myr_bench_ann(const myr_cli *cli);

#endif
