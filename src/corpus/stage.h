/*
 * Tars copied to a disk of this host, so that they are read over the network once.
 *
 * One process of a host copies, in the order of the corpus, while all read; who wants a tar that is not there yet reads
 * it where it came from. A copy has the tar's size and time of change in its name, is written under another name and
 * renamed when it is whole: what is there under its name is whole, also when it was left by an earlier run.
 */
#ifndef MYR_CORPUS_STAGE_H
#define MYR_CORPUS_STAGE_H

#include "base/buffer.h"
#include "myriops/corpus.h"

typedef struct myr_stage myr_stage;

/* myr_stage_list - append what is to be known of a corpus' tars: path, size, time of change. One stat a tar, here
 * alone. */
myr_status myr_stage_list(const myr_corpus *corpus, myr_buffer *message);

/*
 * myr_stage_open - begin.
 *
 *  folder   on a disk of this host; made if need be
 *  message  of myr_stage_list, copied
 *  copies   this process is the one that copies, by a thread of its own, as many as there is room for
 *  keeps    the copies stay in the end
 *
 * Returns:  MYR_OK | MYR_ERR_IO (folder) | MYR_ERR_FORMAT (message) | MYR_ERR_NOMEM
 */
myr_status myr_stage_open(const char *folder, const void *message, size_t n_bytes, bool copies, bool keeps,
                          myr_stage **stage);
/* Ends copying; who copies removes all copies of these tars, unless they are to be kept. When nobody reads any more.
 * NULL is fine. */
void myr_stage_close(myr_stage *stage);
/* Path of the copy of a tar, NULL = there is none by now. [borrowed] stage may be NULL. Any number of threads. */
const char *myr_stage_find(const myr_stage *stage, const char *source);
/* Copies made by this process so far. */
int64_t myr_stage_n_copied(const myr_stage *stage);

#endif
