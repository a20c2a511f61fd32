/*
 * HDF5 datasets and attributes, by the few calls the formats here need. All are made
 * between store_lock and store_unlock.
 */
#ifndef MYR_STORE_HDF5_FILE_H
#define MYR_STORE_HDF5_FILE_H

#include "myriops/status.h"

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A new file that has the same bytes whenever it is given the same contents; negative on failure. */
hid_t store_file_create(const char *path);
/* An existing file, read-only, without locks: those fail on shared file systems. Negative on failure. */
hid_t store_file_open(const char *path);

/* file_type is closed by nobody. dims: (rank). */
bool store_write_array(hid_t parent, const char *name, hid_t file_type, hid_t memory_type, int rank,
                       const hsize_t *dims, const void *data);
/* (n) texts as variable-length UTF-8. */
bool store_write_texts(hid_t parent, const char *name, char *const *texts, size_t n);
bool store_write_number(hid_t parent, const char *name, hid_t file_type, hid_t memory_type, const void *value);
bool store_write_text(hid_t parent, const char *name, const char *text);

/* Rank, dims and class of a dataset; false where there is none. dims is set up to 4 dimensions. */
bool store_array_shape(hid_t parent, const char *name, int *rank, hsize_t dims[4], H5T_class_t *class);
/* Bytes a dataset takes in its file, never more than the file has; 0 where it is not there. */
size_t store_array_bytes(hid_t parent, const char *name);
/*
 * Whether a dataset of numbers, of rank 4 at most, is stored in a way that HDF5 1.10 can be trusted to read. It
 * believes what a damaged header says of the sizes of elements, compact data and chunks, and reads past their end.
 * Data kept in other files are refused too.
 */
bool store_array_is_sound(hid_t parent, const char *name);
bool store_read_array(hid_t parent, const char *name, hid_t memory_type, void *data);
/* (n) texts, each and the array [owned by caller]; n must be the dataset's length. NULL on failure. */
char **store_read_texts(hid_t parent, const char *name, size_t n);
void store_free_texts(char **texts, size_t n);
bool store_read_number(hid_t parent, const char *name, hid_t memory_type, void *value);
/* [owned by caller] NULL on failure. */
char *store_read_text(hid_t parent, const char *name);

#endif
