/*
 * Mail between ranks: messages of bounded size that arrive while something else is done.
 *
 * Receives are posted before anything is sent. What arrives stays in its box until it is returned, and the box is
 * posted again. There are boxes for each kind, so that no kind waits for another: an answer is taken as soon as it
 * comes, and so an answer can always be sent, whatever lies in the boxes of parcels.
 *
 * Calls come from one thread, that of MPI.
 */
#ifndef MYR_DIST_MAIL_H
#define MYR_DIST_MAIL_H

#include "dist/comm.h"

#include <stdbool.h>

typedef enum myr_mail_kind { MYR_MAIL_PARCEL, MYR_MAIL_ANSWER, MYR_MAIL_NEWS, MYR_MAIL_KINDS } myr_mail_kind;

/* What has arrived. All is [borrowed] from its box. */
typedef struct myr_letter {
    myr_mail_kind kind;
    int from;
    char *bytes;
    size_t n_bytes;
    char *reply; /* room for an answer, where it is a parcel */
    size_t box;
} myr_letter;

typedef struct myr_mail {
    const myr_comm *comm; /* [borrowed] */
    size_t most_bytes[MYR_MAIL_KINDS];
    size_t n_boxes;
    myr_letter *letters;   /* (n_boxes) */
    bool *is_answering;    /* (n_boxes) its reply is under way */
    MPI_Request *requests; /* (n_boxes) */
    int *ended;            /* (n_boxes) */
    MPI_Status *statuses;  /* (n_boxes) */
    size_t *arrived;       /* (n_boxes) a ring: boxes in the order in which they were filled */
    size_t first, n_arrived;
} myr_mail;

/*
 * myr_mail_open - take memory for the boxes and post them. Local; nothing is sent before all ranks have it open.
 *
 *  most_bytes  of each kind; an answer is no longer than that, either
 *
 * Returns:  MYR_OK | MYR_ERR_NOMEM | MYR_ERR_LIMIT (more bytes than MPI counts)
 */
myr_status myr_mail_open(const myr_comm *comm, const size_t most_bytes[MYR_MAIL_KINDS], myr_mail *mail);
/* Ends what is posted. Local; by then, all that was sent to this rank has been taken. */
void myr_mail_close(myr_mail *mail);

/* Moves messages on. Returns at once. */
void myr_mail_poll(myr_mail *mail);
/* The next letter that has arrived; false where there is none. */
bool myr_mail_take(myr_mail *mail, myr_letter *letter);
/* Done with a letter. */
void myr_mail_return(myr_mail *mail, const myr_letter *letter);
/* Done with a parcel, whose reply of n_bytes goes back to where it came from. */
void myr_mail_answer(myr_mail *mail, const myr_letter *letter, size_t n_bytes);
/* bytes stay as they are until the request has ended. */
void myr_mail_send(const myr_mail *mail, myr_mail_kind kind, int to, const void *bytes, size_t n_bytes,
                   MPI_Request *request);

#endif
