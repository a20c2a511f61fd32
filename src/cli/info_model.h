/*
 * What myriops info says of a network.
 */
#ifndef MYR_CLI_INFO_MODEL_H
#define MYR_CLI_INFO_MODEL_H

#include "cli/cli.h"

/*
 * myr_info_of_model - facts of a card with its network, or of an ONNX file that has none.
 *
 *  path   a card's name or path, or an ONNX file
 *  facts  [out, owned]  NULL without memory
 *
 * A network that cannot be compiled is no error: the facts say why.
 * Cost: a compilation for each precision and one more, and --seconds.
 */
myr_status myr_info_of_model(const myr_cli *cli, const char *path, json_t **facts);

#endif
