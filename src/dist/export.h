/*
 * The export job: vectors in store into the files of other programs, by all ranks.
 */
#ifndef MYR_DIST_EXPORT_H
#define MYR_DIST_EXPORT_H

#include "dist/comm.h"
#include "dist/stock.h"

typedef enum myr_export_format {
    MYR_EXPORT_CLIP, /* folder: img_emb/img_emb_{i}.npy f16 of length 1, metadata/metadata_{i}.parquet, keys.tsv */
    MYR_EXPORT_NPY,  /* file, and PATH.tsv */
    MYR_EXPORT_FBIN, /* file, and PATH.tsv */
    MYR_EXPORT_HDF5, /* ann-benchmarks: train, test, neighbors, distances */
    MYR_EXPORT_TSV   /* key, source, label */
} myr_export_format;

typedef struct myr_export_options {
    const char *const *operands; /* [borrowed] as myr_stock_open takes them, the same on all ranks */
    size_t n_operands;
    const char *metric; /* of a vector file */
    myr_export_format format;
    const char *path;
    bool has_storage; /* npy: else as stored */
    myr_storage storage;
    bool with_values;  /* TSV: the vectors too */
    int64_t n_queries; /* HDF5: items held out as test, drawn evenly */
    int n_threads;     /* HDF5: that look for their neighbours */
    bool progress;
} myr_export_options;

typedef struct myr_export_report {
    int64_t n_rows;
    int64_t n_files;
    int dim;
    double wall_s;
} myr_export_report;

/*
 * myr_export - Collective over comm. Options must match on all ranks.
 *
 *  report  [out] the same on every rank
 *
 * Rows come in the order of their ids; the bytes do not depend on the number of ranks. A rank holds one block of rows
 * at a time, and for HDF5 the test vectors with their 100 neighbours. Everything is written under names that end in
 * ".partial" and renamed when all ranks are done. A file that is there is replaced; a folder must be empty.
 *
 * Returns:  MYR_OK | MYR_ERR_STOPPED | MYR_ERR_LIMIT (a value is too large for f16; too many rows for the format) |
 *           MYR_ERR_UNSUPPORTED (HDF5 of inner products) | what the readers and writers return
 */
myr_status myr_export(const myr_comm *comm, const myr_export_options *options, myr_export_report *report);

#endif
