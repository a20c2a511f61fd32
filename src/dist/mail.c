/*
 * Boxes of posted receives.
 */
#include "dist/mail.h"

#include "base/alloc.h"

#include <limits.h>
#include <stdlib.h>

enum { FIRST_TAG = 700 };

enum { FEWEST_BOXES = 8, MOST_BOXES = 64 };

/* Of parcels and answers as many as ranks may send at once, within 64 MiB. */
static size_t count_boxes(const myr_comm *comm, myr_mail_kind kind, const size_t most_bytes[MYR_MAIL_KINDS])
{
    size_t bytes = most_bytes[kind] + (kind == MYR_MAIL_PARCEL ? most_bytes[MYR_MAIL_ANSWER] : 0);
    size_t n = ((size_t)64 << 20) / (bytes > 0 ? bytes : 1), n_others = (size_t)comm->size - 1;
    n = n < n_others ? n : n_others;
    n = n < FEWEST_BOXES ? FEWEST_BOXES : n < MOST_BOXES ? n : MOST_BOXES;
    return kind == MYR_MAIL_NEWS ? 1 : n;
}

static void post(myr_mail *mail, size_t box)
{
    const myr_letter *letter = &mail->letters[box];
    mail->is_answering[box] = false;
    MPI_Irecv(letter->bytes, (int)mail->most_bytes[letter->kind], MPI_BYTE, MPI_ANY_SOURCE,
              FIRST_TAG + (int)letter->kind, mail->comm->mpi, &mail->requests[box]);
}

static bool fill_box(myr_mail *mail, myr_mail_kind kind, size_t box)
{
    myr_letter *letter = &mail->letters[box];
    size_t reply_bytes = kind == MYR_MAIL_PARCEL ? mail->most_bytes[MYR_MAIL_ANSWER] : 0;
    *letter = (myr_letter){
        .kind = kind, .bytes = myr_alloc(mail->most_bytes[kind], 1), .reply = myr_alloc(reply_bytes, 1), .box = box};
    return letter->bytes && letter->reply;
}

myr_status myr_mail_open(const myr_comm *comm, const size_t most_bytes[MYR_MAIL_KINDS], myr_mail *mail)
{
    *mail = (myr_mail){.comm = comm};
    size_t n_boxes = 0, box = 0;
    for (int kind = 0; kind < MYR_MAIL_KINDS && comm->size > 1; kind++) {
        mail->most_bytes[kind] = most_bytes[kind];
        n_boxes += count_boxes(comm, (myr_mail_kind)kind, most_bytes);
        if (most_bytes[kind] > INT_MAX)
            return myr_fail(MYR_ERR_LIMIT, "a message of %zu bytes is too long; ask for fewer neighbours (-k)",
                            most_bytes[kind]);
    }
    mail->letters = myr_alloc(n_boxes, sizeof *mail->letters);
    mail->is_answering = myr_alloc(n_boxes, sizeof *mail->is_answering);
    mail->requests = myr_alloc(n_boxes, sizeof *mail->requests);
    mail->ended = myr_alloc(n_boxes, sizeof *mail->ended);
    mail->statuses = myr_alloc(n_boxes, sizeof *mail->statuses);
    mail->arrived = myr_alloc(n_boxes, sizeof *mail->arrived);
    bool whole =
        mail->letters && mail->is_answering && mail->requests && mail->ended && mail->statuses && mail->arrived;
    mail->n_boxes = whole ? n_boxes : 0;
    for (box = 0; box < mail->n_boxes; box++)
        mail->requests[box] = MPI_REQUEST_NULL;
    box = 0;
    for (int kind = 0; kind < MYR_MAIL_KINDS; kind++)
        for (size_t i = count_boxes(comm, (myr_mail_kind)kind, most_bytes); i > 0 && box < mail->n_boxes; i--)
            whole = fill_box(mail, (myr_mail_kind)kind, box++) && whole;
    if (!whole)
        return myr_fail(MYR_ERR_NOMEM, "no memory for messages of %zu bytes", most_bytes[MYR_MAIL_PARCEL]);
    for (box = 0; box < mail->n_boxes; box++)
        post(mail, box);
    return MYR_OK;
}

void myr_mail_close(myr_mail *mail)
{
    for (size_t box = 0; box < mail->n_boxes; box++) {
        if (mail->requests[box] != MPI_REQUEST_NULL && !mail->is_answering[box])
            MPI_Cancel(&mail->requests[box]);
        MPI_Wait(&mail->requests[box], MPI_STATUS_IGNORE);
        free(mail->letters[box].bytes);
        free(mail->letters[box].reply);
    }
    free(mail->letters);
    free(mail->is_answering);
    free(mail->requests);
    free(mail->ended);
    free(mail->statuses);
    free(mail->arrived);
    *mail = (myr_mail){0};
}

void myr_mail_poll(myr_mail *mail)
{
    int n = 0;
    if (mail->n_boxes == 0)
        return;
    MPI_Testsome((int)mail->n_boxes, mail->requests, &n, mail->ended, mail->statuses);
    for (int i = 0; i < n; i++) { /* MPI_UNDEFINED, where nothing is posted, is negative */
        size_t box = (size_t)mail->ended[i];
        int n_bytes = 0;
        if (mail->is_answering[box]) {
            post(mail, box);
            continue;
        }
        MPI_Get_count(&mail->statuses[i], MPI_BYTE, &n_bytes);
        mail->letters[box].from = mail->statuses[i].MPI_SOURCE;
        mail->letters[box].n_bytes = (size_t)n_bytes;
        mail->arrived[(mail->first + mail->n_arrived++) % mail->n_boxes] = box;
    }
}

bool myr_mail_take(myr_mail *mail, myr_letter *letter)
{
    if (mail->n_arrived == 0)
        return false;
    *letter = mail->letters[mail->arrived[mail->first]];
    mail->first = (mail->first + 1) % mail->n_boxes;
    mail->n_arrived--;
    return true;
}

void myr_mail_return(myr_mail *mail, const myr_letter *letter)
{
    post(mail, letter->box);
}

void myr_mail_answer(myr_mail *mail, const myr_letter *letter, size_t n_bytes)
{
    mail->is_answering[letter->box] = true;
    MPI_Isend(letter->reply, (int)n_bytes, MPI_BYTE, letter->from, FIRST_TAG + (int)MYR_MAIL_ANSWER, mail->comm->mpi,
              &mail->requests[letter->box]);
}

void myr_mail_send(const myr_mail *mail, myr_mail_kind kind, int to, const void *bytes, size_t n_bytes,
                   MPI_Request *request)
{
    MPI_Isend(bytes, (int)n_bytes, MPI_BYTE, to, FIRST_TAG + (int)kind, mail->comm->mpi, request);
}
