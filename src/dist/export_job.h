/*
 * What the parts of the export job share.
 */
#ifndef MYR_DIST_EXPORT_JOB_H
#define MYR_DIST_EXPORT_JOB_H

#include "base/progress.h"
#include "dist/export.h"
#include "store/layout.h"

/* A file that all ranks write into, at places of their own. */
typedef struct myr_shared_file {
    char *path, *partial; /* [owned] */
    int file;             /* -1 = not open */
} myr_shared_file;

typedef struct myr_export_job {
    const myr_comm *comm;
    const myr_export_options *options;
    myr_stock stock;
    int64_t *first; /* (n_blocks + 1) row at which each block begins in the output */
    int64_t *part;  /* (n_blocks + 1) how many blocks before it have rows */
    int64_t n_rows;
    myr_storage storage; /* of what is written */
    myr_shared_file rows, names;
    char *folder; /* [owned] clip-retrieval: where the parts go, until the folder is renamed */
    myr_layout layout;
    int64_t names_end; /* bytes of names so far, alike on all ranks */
    myr_progress progress;
} myr_export_job;

/* Names a file; nothing is made. Local. */
myr_status myr_shared_file_name(const char *path, myr_shared_file *file);
/* Opens what rank 0 has made under the temporary name. Local. */
myr_status myr_shared_file_open(myr_shared_file *file);
/* To disk, and closed. Local. */
myr_status myr_shared_file_close(myr_shared_file *file);
/* Rank 0, after all have closed it. */
myr_status myr_shared_file_commit(const myr_shared_file *file);
/* Closes; rank 0 removes the temporary file if there is one. */
void myr_shared_file_free(myr_shared_file *file, bool is_root);

/* Stopped by a signal? Local. */
myr_status myr_export_stopped(void);
/* ann-benchmarks' HDF5. Collective. */
myr_status myr_export_ann(myr_export_job *work);

#endif
