/*
 * What several commands do alike.
 */
#include "cli/shared.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

myr_status myr_on_index(const myr_cli *cli, const char *question, myr_index_work work)
{
    const char *folder = myr_config_text(cli->config, "index");
    myr_cluster cluster;
    if (!folder)
        return myr_fail(MYR_ERR_ARG, "--index FOLDER is missing: %s", question);
    if (cli->n_operands > 0)
        return myr_fail(MYR_ERR_ARG, "'%s': this command takes options only, see --help", cli->operands[0]);
    myr_status status = myr_cluster_open(cli->comm, folder, cli->n_threads, NULL, &cluster);
    if (status != MYR_OK)
        return status;
    status = work(cli, &cluster);
    myr_cluster_close(&cluster);
    return status;
}

bool myr_wants_tsv(const myr_cli *cli)
{
    const char *format = myr_config_text(cli->config, "format");
    return strcmp(format, "table") == 0 || strcmp(format, "tsv") == 0;
}

myr_status myr_put_json(json_t *document, myr_buffer *out)
{
    char *text = document ? json_dumps(document, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(document);
    if (text) {
        myr_buffer_puts(out, text);
        myr_buffer_puts(out, "\n");
    }
    free(text);
    return text && !out->failed ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for the JSON answer");
}

myr_status myr_append_json(json_t *document, myr_writer *out)
{
    myr_buffer text = {0};
    myr_status status = myr_put_json(document, &text);
    if (status == MYR_OK)
        status = myr_writer_append(out, text.data, text.size);
    myr_buffer_free(&text);
    return status;
}

const char *myr_crew_text(const myr_cli *cli, char room[MYR_CREW_TEXT])
{
    snprintf(room, MYR_CREW_TEXT, "%d rank%s x %d thread%s", cli->comm->size, cli->comm->size == 1 ? "" : "s",
             cli->n_threads, cli->n_threads == 1 ? "" : "s");
    return room;
}
