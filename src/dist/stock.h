/*
 * Vectors in store, to be taken out again: of embedding folders or a vector file, as they are, or of an index. In
 * blocks of ascending ids, whose borders do not depend on the number of ranks.
 */
#ifndef MYR_DIST_STOCK_H
#define MYR_DIST_STOCK_H

#include "dist/index_manifest.h"
#include "dist/shard.h"

typedef struct myr_stock {
    bool is_index;
    int64_t n_blocks; /* some may be empty */
    int dim;
    const char *metric; /* [borrowed] from what is below */
    char *const *classes;
    size_t n_classes;
    myr_storage storage; /* f16 where all folders are */
    myr_source source;   /* unless is_index */
    myr_index_manifest index;
    myr_shard *shards; /* (index.n_shards) mapped */
} myr_stock;

/*
 * myr_stock_open - Local; every rank may open all of it, since files are mapped.
 *
 *  operands  embedding folders of one contract, one vector file, or one index
 *  metric    of a vector file
 */
myr_status myr_stock_open(const char *const *operands, size_t n_operands, const char *metric, myr_stock *stock);
void myr_stock_close(myr_stock *stock);
/* How many rows a block has. Local. */
myr_status myr_stock_count(const myr_stock *stock, int64_t block, int64_t *n);
/* The rows of a block, ascending by id, each id once. Local. Release with myr_rows_clear. */
myr_status myr_stock_read(const myr_stock *stock, int64_t block, myr_rows *rows);

#endif
