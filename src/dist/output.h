/*
 * The output folder of embed and import, as rank 0 sees it: how it is opened and cut into chunks; and of embed,
 * manifest, chunks that are there, list of bad items.
 */
#ifndef MYR_DIST_OUTPUT_H
#define MYR_DIST_OUTPUT_H

#include "dist/handout.h"
#include "myriops/corpus.h"

#define MYR_MANIFEST_NAME "manifest.json"

typedef struct myr_output {
    const char *folder;    /* [borrowed] */
    myr_manifest manifest; /* [owned] n_embedded and n_bad: of the chunks that are done */
    myr_handout *handout;  /* [owned] */
    char **bad;            /* (n_chunks) [owned] lines of bad.tsv of each chunk, NULL = none */
    bool *retry;           /* (n_chunks) the chunk is there, its bad items are tried again */
    bool was_complete;     /* an earlier run has finished it: the manifest stays as it is */
} myr_output;

/* The usual size of a chunk, a power of two near n_items / 256: enough chunks to share, few enough files. */
int64_t myr_output_chunk_items(int64_t n_items);
/* Make a folder this job's own, and clear it of what killed ones left half written. *lock: for myr_folder_unlock, also
 * after an error. */
myr_status myr_output_open_folder(const char *folder, int *lock);
/* Chunks without the manifest that says what they were made from must not be taken for this run's. */
myr_status myr_output_refuse_strays(const char *folder);
/*
 * myr_output_accept_repairs - whether a corpus is that of a folder but for the sizes of what is bad there: pictures
 * that were mended, or that came later. Then the folder's manifest gets the digest of the corpus as it is now.
 *
 * Local. What cannot be read is not bad.
 */
myr_status myr_output_accept_repairs(const char *folder, const myr_corpus *corpus, myr_manifest *manifest);
/*
 * myr_output_look - which chunks are there already; a file that cannot be read is made anew.
 *
 * Local. folder and manifest are set; what is made here is released by myr_output_clear.
 *
 *  retry_bad  chunks with bad items are to be made again
 *  n_before   [out] items that need not be tried
 */
myr_status myr_output_look(myr_output *output, int n_ranks, bool retry_bad, int64_t *n_before);
/* A chunk is in place. lines: of bad.tsv, taken over; NULL = none. */
void myr_output_count(myr_output *output, int64_t chunk, int64_t n_good, int64_t n_bad, char *lines);
myr_status myr_output_write_manifest(const myr_output *output);
/* All chunks are in place: bad.tsv, and then the manifest that says so. */
myr_status myr_output_complete(myr_output *output);
void myr_output_clear(myr_output *output);

#endif
