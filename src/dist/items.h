/*
 * The items of an index, of embedding folders or of a file of vectors, in pieces whose borders do not depend on the
 * number of ranks. A piece is read by the rank that has it at hand.
 */
#ifndef MYR_DIST_ITEMS_H
#define MYR_DIST_ITEMS_H

#include "dist/cluster.h"
#include "dist/source.h"

typedef struct myr_items {
    const myr_comm *comm; /* [borrowed] */
    bool is_index;
    myr_cluster cluster; /* of an index, */
    myr_source source;   /* or what else there is */
    myr_pool *pool;      /* [owned] where there is no cluster */
    size_t dim;
    int64_t n_ids;        /* about as many items as there are, or more */
    int64_t n_pieces;     /* of all ranks */
    int64_t rows;         /* of a piece of an index */
    int64_t *first_piece; /* (n_shards + 1) of an index */
    const char *metric;   /* [borrowed] */
    char *const *classes; /* [borrowed] (n_classes) label names */
    size_t n_classes;
} myr_items;

/*
 * myr_items_open - Collective.
 *
 *  index     folder of an index, or of embeddings; NULL: operands tell
 *  operands  embedding folders, or one file of vectors
 *  metric    of a file of vectors: under cosine they are brought to length 1
 */
myr_status myr_items_open(const myr_comm *comm, const char *index, const char *const *operands, size_t n_operands,
                          const char *metric, int n_threads, myr_items *items);
void myr_items_close(myr_items *items);
/* The threads of this rank. [borrowed] */
myr_pool *myr_items_pool(const myr_items *items);
/* The rank that reads a piece. */
int myr_items_owner(const myr_items *items, int64_t piece);
/*
 * myr_items_read - a piece's rows. Local; on its owner.
 *
 *  with_texts  keys and sources too; else they may be NULL
 *  rows        [out] release with myr_rows_clear
 */
myr_status myr_items_read(const myr_items *items, int64_t piece, bool with_texts, myr_rows *rows);

#endif
