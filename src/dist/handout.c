/*
 * Chunks out are few, some for each rank, so they stand in a plain array that is looked through.
 */
#include "dist/handout.h"

#include "base/alloc.h"

#include <stdlib.h>

#define LATE_TIMES 2.0       /* as long as chunks of that size took so far */
#define LATE_MORE_S 1.0      /* and this, so that short chunks do not fly to and fro */
#define LATE_AT_FIRST_S 30.0 /* while none is finished */

/* A chunk that somebody works on. */
typedef struct loan {
    int64_t chunk;
    int n_holders, holders[MYR_HANDOUT_HOLDERS];
    double since_s[MYR_HANDOUT_HOLDERS]; /* ascending */
} loan;

struct myr_handout {
    const myr_manifest *sizes;
    int n_ranks;
    bool *done;      /* (n_chunks) */
    double *heard_s; /* (n_ranks) */
    int64_t next;    /* first chunk never handed out */
    int64_t n_left, n_repeated;
    loan *loans;
    size_t n_loans, capacity;
    double finished_s, finished_items; /* sums over finished chunks */
};

myr_status myr_handout_create(const myr_manifest *sizes, int n_ranks, myr_handout **out)
{
    myr_handout *handout = myr_alloc(1, sizeof *handout);
    *out = NULL;
    if (handout) {
        *handout = (myr_handout){.sizes = sizes, .n_ranks = n_ranks, .n_left = sizes->n_chunks};
        handout->done = myr_alloc((size_t)sizes->n_chunks, sizeof *handout->done);
        handout->heard_s = myr_alloc((size_t)n_ranks, sizeof *handout->heard_s);
    }
    if (!handout || !handout->done || !handout->heard_s) {
        myr_handout_free(handout);
        return myr_fail(MYR_ERR_NOMEM, "no memory for %lld chunks", (long long)sizes->n_chunks);
    }
    *out = handout;
    return MYR_OK;
}

void myr_handout_free(myr_handout *handout)
{
    if (!handout)
        return;
    free(handout->done);
    free(handout->heard_s);
    free(handout->loans);
    free(handout);
}

void myr_handout_keep(myr_handout *handout, int64_t chunk)
{
    handout->n_left -= !handout->done[chunk];
    handout->done[chunk] = true;
}

bool myr_handout_is_done(const myr_handout *handout, int64_t chunk)
{
    return handout->done[chunk];
}

int64_t myr_handout_left(const myr_handout *handout)
{
    return handout->n_left;
}

int64_t myr_handout_repeated(const myr_handout *handout)
{
    return handout->n_repeated;
}

void myr_handout_heard(myr_handout *handout, int rank, double now_s)
{
    handout->heard_s[rank] = now_s;
}

void myr_handout_forgive(myr_handout *handout, double now_s)
{
    for (int rank = 0; rank < handout->n_ranks; rank++)
        handout->heard_s[rank] = now_s;
}

double myr_handout_silence(const myr_handout *handout, int rank, double now_s)
{
    return now_s - handout->heard_s[rank];
}

/* Whether a rank that has nothing to do may take it too. */
static bool is_late(const myr_handout *handout, const loan *out, int rank, double now_s)
{
    bool all_silent = true;
    for (int i = 0; i < out->n_holders; i++) {
        if (out->holders[i] == rank)
            return false;
        all_silent = all_silent && myr_handout_silence(handout, out->holders[i], now_s) > MYR_HANDOUT_SILENCE_S;
    }
    if (out->n_holders == MYR_HANDOUT_HOLDERS)
        return false;
    int64_t first, n_items = myr_manifest_chunk(handout->sizes, out->chunk, &first);
    double usual_s = handout->finished_items > 0 ? handout->finished_s / handout->finished_items * (double)n_items : 0;
    double limit_s = handout->finished_items > 0 ? LATE_TIMES * usual_s + LATE_MORE_S : LATE_AT_FIRST_S;
    return all_silent || now_s - out->since_s[out->n_holders - 1] > limit_s;
}

static void lend(loan *out, int rank, double now_s)
{
    out->holders[out->n_holders] = rank;
    out->since_s[out->n_holders++] = now_s;
}

int64_t myr_handout_next(myr_handout *handout, int rank, double now_s)
{
    while (handout->next < handout->sizes->n_chunks && handout->done[handout->next])
        handout->next++;
    if (handout->next < handout->sizes->n_chunks) {
        if (handout->n_loans == handout->capacity) {
            size_t capacity = handout->capacity ? 2 * handout->capacity : 64;
            if (!myr_resize(&handout->loans, handout->n_loans, capacity, sizeof *handout->loans))
                return -1; /* when some are back there is room again */
            handout->capacity = capacity;
        }
        loan *out = &handout->loans[handout->n_loans++];
        *out = (loan){.chunk = handout->next++};
        lend(out, rank, now_s);
        return out->chunk;
    }
    loan *longest = NULL;
    for (size_t i = 0; i < handout->n_loans; i++)
        if (is_late(handout, &handout->loans[i], rank, now_s) &&
            (!longest || handout->loans[i].since_s[0] < longest->since_s[0]))
            longest = &handout->loans[i];
    if (!longest)
        return -1;
    lend(longest, rank, now_s);
    handout->n_repeated++;
    return longest->chunk;
}

bool myr_handout_finish(myr_handout *handout, int64_t chunk, int rank, double now_s, int *losers, int *n_losers)
{
    *n_losers = 0;
    if (chunk < 0 || chunk >= handout->sizes->n_chunks || handout->done[chunk])
        return false;
    handout->done[chunk] = true;
    handout->n_left--;
    size_t i = 0;
    while (i < handout->n_loans && handout->loans[i].chunk != chunk)
        i++;
    if (i == handout->n_loans)
        return true;
    const loan *out = &handout->loans[i];
    int64_t first, n_items = myr_manifest_chunk(handout->sizes, chunk, &first);
    for (int j = 0; j < out->n_holders; j++) {
        if (out->holders[j] != rank) {
            losers[(*n_losers)++] = out->holders[j];
            continue;
        }
        handout->finished_s += now_s - out->since_s[j];
        handout->finished_items += (double)n_items;
    }
    handout->loans[i] = handout->loans[--handout->n_loans];
    return true;
}
