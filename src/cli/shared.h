/*
 * What several commands do alike: opening an index to work on, closing a JSON document, telling who worked.
 */
#ifndef MYR_CLI_SHARED_H
#define MYR_CLI_SHARED_H

#include "base/buffer.h"
#include "base/writer.h"
#include "cli/cli.h"

typedef myr_status (*myr_index_work)(const myr_cli *cli, myr_cluster *cluster);

/*
 * myr_on_index - work on the index in --index; for commands that take nothing but options.
 *
 * Collective.
 *
 *  question  what is asked where --index is missing, as "whose items shall be linked?"
 *
 * Returns:  MYR_ERR_ARG (no --index, or an operand) | what myr_cluster_open and work return
 */
myr_status myr_on_index(const myr_cli *cli, const char *question, myr_index_work work);

/* Whether --format is a table, which in a file has its fields separated by tabs. */
bool myr_wants_tsv(const myr_cli *cli);
/* Append a JSON document, which is released, with the end of its line. NULL = there was no memory to make it. */
myr_status myr_put_json(json_t *document, myr_buffer *out);
myr_status myr_append_json(json_t *document, myr_writer *out);

enum { MYR_CREW_TEXT = 64 };
/* "2 ranks x 1 thread". Returns room. */
const char *myr_crew_text(const myr_cli *cli, char room[MYR_CREW_TEXT]);

#endif
