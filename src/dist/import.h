/*
 * The import job: vectors made elsewhere into a folder of chunk files, as embed writes them, by all ranks, resumable.
 */
#ifndef MYR_DIST_IMPORT_H
#define MYR_DIST_IMPORT_H

#include "dist/comm.h"
#include "myriops/store.h"

typedef struct myr_import_options {
    const char *const *operands; /* [borrowed] as myr_outside_open takes them, the same on all ranks */
    size_t n_operands;
    const char *dataset; /* of HDF5 files; NULL = found */
    const char *keys;    /* file as in names.h; NULL = the numbers of the rows */
    const char *labels;  /* likewise; NULL = those beside the keys, or none */
    const char *folder;  /* output */
    const char *model;   /* what the vectors are called that they may be compared with; NULL = with no others */
    const char *metric;  /* "cosine", "l2", "ip" */
    bool normalise;      /* to length 1, whatever the metric; cosine always does */
    bool has_storage;    /* else f16 where every input is */
    myr_storage storage;
    int64_t chunk_items; /* 0 = chosen from the number of rows */
    double max_bad;      /* fraction of bad rows above which the job fails */
    bool progress;
} myr_import_options;

typedef struct myr_import_report {
    int64_t n_items, n_imported, n_bad;
    int64_t n_before; /* rows of chunks that earlier runs made */
    int64_t n_chunks;
    int dim;
    myr_storage storage;
    double wall_s;
} myr_import_report;

/*
 * myr_import - Collective over comm. Options must match on all ranks.
 *
 *  report  [out] the same on every rank
 *
 * An item's ordinal is its row, counted through all files. Rows that are of length 1 already, up to the rounding of
 * their type, keep their bits. Rows with NaN or infinity, and zeros where they are to be normalised, are listed as bad.
 *
 * The contract is a hash over model, dimension, metric and whether rows were normalised; without a model also over what
 * the files hold, so that such vectors are compared with nothing but themselves.
 *
 * The files do not depend on the number of ranks. Chunks whose files exist are kept; a folder made from other input is
 * refused.
 *
 * Returns:  MYR_OK | MYR_ERR_STOPPED (finished chunks kept) | MYR_ERR_LIMIT (more than max_bad are bad; all files are
 * in place) | MYR_ERR_CONTRACT | MYR_ERR_FORMAT (keys or labels are not as many as rows, or keys not unique)
 */
myr_status myr_import(const myr_comm *comm, const myr_import_options *options, myr_import_report *report);

#endif
