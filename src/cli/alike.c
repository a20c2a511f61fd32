/*
 * Rank 0 says what it was given; each rank compares; all agree on the first difference.
 */
#include "cli/alike.h"

#include <stdio.h>
#include <string.h>

static bool is_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Rank 0's message to all. Collective. */
static myr_status share(const myr_comm *comm, myr_buffer *message)
{
    myr_status status = myr_comm_agree(
        comm,
        message->failed ? myr_fail(MYR_ERR_NOMEM, "rank %d: no memory to compare arguments", comm->rank) : MYR_OK);
    return status == MYR_OK ? myr_comm_share(comm, message) : status;
}

static const char *shown(const char *command)
{
    return command ? command : "none";
}

static myr_status compare_command(const myr_comm *comm, const char *command, const myr_buffer *message)
{
    myr_cursor cursor = {.data = message->data, .size = message->size};
    const char *version = myr_cursor_text(&cursor), *other = myr_cursor_text(&cursor);
    if (!is_same(version, MYRIOPS_VERSION))
        return myr_fail(MYR_ERR_ARG,
                        "the ranks were not started alike: rank 0 is Myriops %s, rank %d is %s; install the same "
                        "everywhere",
                        shown(version), comm->rank, MYRIOPS_VERSION);
    if (!is_same(other, command))
        return myr_fail(MYR_ERR_ARG,
                        "the ranks were not started alike: the command of rank 0 is '%s', of rank %d '%s'; give all "
                        "ranks the same arguments",
                        shown(other), comm->rank, shown(command));
    return MYR_OK;
}

myr_status myr_alike_command(const myr_comm *comm, const char *command)
{
    myr_buffer message = {0};
    if (comm->rank == 0) {
        myr_buffer_put_text(&message, MYRIOPS_VERSION);
        myr_buffer_put_text(&message, command);
    }
    myr_status status = share(comm, &message);
    if (status == MYR_OK)
        status = myr_comm_agree(comm, compare_command(comm, command, &message));
    myr_buffer_free(&message);
    return status;
}

static myr_status compare_operands(const myr_comm *comm, const char *const *operands, size_t n_operands,
                                   const myr_buffer *message)
{
    myr_cursor cursor = {.data = message->data, .size = message->size};
    int64_t n = myr_cursor_i64(&cursor);
    if (n != (int64_t)n_operands)
        return myr_fail(MYR_ERR_ARG,
                        "the ranks were not started alike: rank 0 was given %lld operand%s, rank %d %zu; give all "
                        "ranks the same arguments",
                        (long long)n, n == 1 ? "" : "s", comm->rank, n_operands);
    for (size_t i = 0; i < n_operands; i++) {
        const char *other = myr_cursor_text(&cursor);
        if (!is_same(other, operands[i]))
            return myr_fail(MYR_ERR_ARG,
                            "the ranks were not started alike: operand %zu of rank 0 is '%s', of rank %d '%s'; give "
                            "all ranks the same arguments",
                            i + 1, shown(other), comm->rank, operands[i]);
    }
    return MYR_OK;
}

myr_status myr_alike_operands(const myr_comm *comm, const char *const *operands, size_t n_operands)
{
    myr_buffer message = {0};
    if (comm->rank == 0) {
        myr_buffer_put_i64(&message, (int64_t)n_operands);
        for (size_t i = 0; i < n_operands; i++)
            myr_buffer_put_text(&message, operands[i]);
    }
    myr_status status = share(comm, &message);
    if (status == MYR_OK)
        status = myr_comm_agree(comm, compare_operands(comm, operands, n_operands, &message));
    myr_buffer_free(&message);
    return status;
}

myr_status myr_alike_settings(const myr_comm *comm, myr_config *config)
{
    myr_buffer message = {0};
    char who[32];
    snprintf(who, sizeof who, "rank %d", comm->rank);
    if (comm->rank == 0)
        myr_config_pack(config, &message);
    myr_status status = share(comm, &message);
    if (status == MYR_OK)
        status = myr_config_compare(config, message.data, message.size, "threads", who);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_comm_agree(comm, myr_config_adopt(config, message.data, message.size, "threads"));
    myr_buffer_free(&message);
    return status;
}
