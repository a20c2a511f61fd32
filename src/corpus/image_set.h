/*
 * A data set of pictures in an HDF5 file: (n, height, width, channels) u8, or (n, height, width).
 */
#ifndef MYR_CORPUS_IMAGE_SET_H
#define MYR_CORPUS_IMAGE_SET_H

#include "myriops/form.h"
#include "myriops/status.h"

#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

typedef struct myr_image_set {
    hid_t file, set; /* -1 = not open */
    int rank;        /* 3 or 4 */
    hsize_t dims[4];
    myr_form form;
} myr_image_set;

/* Every call of HDF5 of this module is between these two. The first time, what HDF5 does at exit, and its own printing
 * of errors, are turned off. */
void myr_corpus_hdf5_lock(void);
void myr_corpus_hdf5_unlock(void);

/* The following are called with the lock held. */

/* A file read-only, without locks: those fail on shared file systems. Negative on failure. */
hid_t myr_image_set_open_file(const char *path);
/* The data set's dims where it is of u8 and three or four dimensions; its rank, 0 where it is not. */
int myr_image_set_dims(hid_t set, hsize_t dims[4]);
/*
 * myr_image_set_check_stored - that elements of n_bytes each are stored in a way that HDF5 can be trusted to read.
 *
 * HDF5 1.10 believes what a damaged head says of chunks and compact data.
 *
 *  what  for the sentence: "file.h5:/dataset"
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT | MYR_ERR_UNSUPPORTED (other files, a filter that is not there) | MYR_ERR_LIMIT
 */
myr_status myr_image_set_check_stored(const char *what, hid_t set, size_t n_bytes);

/*
 * myr_image_set_open - "file.h5:/dataset", to be closed, also after a failure.
 *
 * Takes the lock itself, as the next two do.
 */
myr_status myr_image_set_open(const char *source, myr_image_set *rows);
void myr_image_set_close(myr_image_set *rows);
/* myr_image_set_read - one picture: height x width x channels bytes. */
myr_status myr_image_set_read(myr_image_set *rows, const char *source, uint64_t row, void *room, size_t n_bytes);
/* Where "file.h5:/dataset" is divided: of the colon; NULL where there is none. */
const char *myr_image_set_colon(const char *source);

#endif
