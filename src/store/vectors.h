/*
 * What the readers and writers of vector files share.
 */
#ifndef MYR_STORE_VECTORS_H
#define MYR_STORE_VECTORS_H

#include "myriops/vectors.h"

#include <stdbool.h>

/* A whole file mapped read-only; *n_bytes its size. */
myr_status store_map_file(const char *path, void **mapping, size_t *n_bytes);
bool store_ends_with(const char *text, const char *end);
uint32_t store_u32_at(const uint8_t *bytes); /* little-endian, not aligned */
size_t store_element_bytes(myr_element element);

/* Readers by format; the mapping is in vectors already. */
myr_status store_read_npy(const char *path, myr_vectors *vectors);
/* Reads into memory of its own. */
myr_status store_read_hdf5(const char *path, const char *dataset, myr_vectors *vectors);

#endif
