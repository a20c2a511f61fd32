/*
 * Where an index's vectors come from: embedding folders, or a file of bare vectors.
 * Both are read in blocks whose borders do not depend on the number of ranks.
 */
#ifndef MYR_DIST_SOURCE_H
#define MYR_DIST_SOURCE_H

#include "myriops/store.h"
#include "myriops/vectors.h"

typedef struct myr_source {
    size_t n_inputs;
    struct myr_source_input *inputs; /* [owned] */
    int64_t n_blocks;
    int64_t n_ids; /* ids are below this; bad items leave gaps */
    int dim;
    char *metric, *contract, *model; /* [owned] contract and model NULL for bare vectors */
    char **classes;                  /* [owned] */
    size_t n_classes;
    char *digest; /* [owned] over all inputs */
} myr_source;

/* One block's rows. */
typedef struct myr_rows {
    int64_t n;
    float *vectors;       /* (n, dim) */
    int64_t *id;          /* (n) */
    int32_t *label;       /* (n), -1 none */
    char **key, **source; /* (n) */
} myr_rows;

/*
 * myr_source_open - Local. operands: embedding folders, all of one contract, or one vector file.
 * metric: used for a vector file only.
 */
myr_status myr_source_open(const char *const *operands, size_t n_operands, const char *metric, myr_source *source);
void myr_source_close(myr_source *source);
/* One block, all values finite. Local. MYR_ERR_FORMAT names the item where they are not. */
myr_status myr_source_read(const myr_source *source, int64_t block, myr_rows *rows);
/* How many rows a block has: those of a chunk without the bad. Local. */
myr_status myr_source_count(const myr_source *source, int64_t block, int64_t *n);
void myr_rows_clear(myr_rows *rows);

#endif
