/*
 * Reading ahead: the bytes of tars in large pieces, before they are asked for.
 *
 * Items of a list that are neighbours in a tar are one range of its bytes. A thread of its own reads such ranges in
 * order, in pieces of some MiB, as far ahead as a bound of memory allows; whoever works on a batch of items borrows the
 * piece that holds it. On a parallel file system a few large reads cost what a few small ones do. Files of their own,
 * and batches that lie far apart or across two tars, are left to the item reader.
 */
#ifndef MYR_CORPUS_AHEAD_H
#define MYR_CORPUS_AHEAD_H

#include "corpus/pack.h"
#include "corpus/stage.h"

typedef struct myr_ahead myr_ahead;
typedef struct myr_ahead_range myr_ahead_range;

#define MYR_AHEAD_PIECE_BYTES ((size_t)4 << 20)  /* a piece ends after the batch that reaches it */
#define MYR_AHEAD_BATCH_BYTES ((size_t)16 << 20) /* a longer batch is not read ahead */
#define MYR_AHEAD_MAX_BYTES ((size_t)48 << 20)   /* of all pieces in memory */

/* myr_ahead_create - start the thread. stage: where tars may be nearer, NULL = nowhere. [borrowed] */
myr_status myr_ahead_create(const myr_stage *stage, myr_ahead **ahead);
/* All ranges have ended, nothing is lent. NULL is fine. */
void myr_ahead_free(myr_ahead *ahead);

/*
 * myr_ahead_add - read the items of a list, after those of the lists before.
 *
 *  batch  items are borrowed in batches of so many, from 0
 *  range  [out, owned] end it with myr_ahead_end; NULL where nothing of it can be read ahead
 */
myr_status myr_ahead_add(myr_ahead *ahead, const myr_item_list *items, int batch, myr_ahead_range **range);
/* What is not lent is not needed any more. NULL is fine. Does not wait. */
void myr_ahead_end(myr_ahead_range *range);

/*
 * myr_ahead_lend - lend the bytes of the batch that begins with item first to a reader; waits for them.
 *
 * Each batch is borrowed once, in any order that waits for no batch behind it, and returned.
 *
 * Threads:  any number; a reader is one thread's. Nothing may be lent to a reader twice.
 */
void myr_ahead_lend(myr_ahead_range *range, int64_t first, myr_item_reader *reader);
void myr_ahead_return(myr_ahead_range *range, int64_t first, myr_item_reader *reader);

/* What the reader is asked for next, if it lies in these n_bytes of the source, from offset, need not be read. All of
 * it is borrowed until the next call; NULL = nothing. */
void myr_item_reader_borrow(myr_item_reader *reader, const char *source, uint64_t offset, const char *bytes,
                            size_t n_bytes);

#endif
