/*
 * bad.tsv: the items of an embedding folder that could not be used, for people.
 *
 * One line an item, in the order of the corpus: chunk, key, source, reason, after a line that names these columns. A
 * tab, a line break, any other control character and a backslash are written as \xNN. It is made from /bad of the
 * chunks.
 */
#ifndef MYR_DIST_BAD_LIST_H
#define MYR_DIST_BAD_LIST_H

#include "base/buffer.h"
#include "myriops/store.h"

#define MYR_BAD_LIST_NAME "bad.tsv"

/* Append the lines of a chunk's bad items; bad_key, bad_source and bad_reason are read. */
void myr_bad_list_put(myr_buffer *lines, int64_t place, const myr_chunk *chunk);
/*
 * myr_bad_list_write - write the file, or remove it where nothing is bad.
 *
 *  lines  (n_chunks) of each chunk, NULL = none
 */
myr_status myr_bad_list_write(const char *folder, char *const *lines, int64_t n_chunks);

#endif
