/*
 * The table of a file of sections: where each lies, what it holds, and the texts and numbers beside them.
 */
#ifndef MYR_STORE_SECTIONS_TABLE_H
#define MYR_STORE_SECTIONS_TABLE_H

#include "base/buffer.h"
#include "myriops/store.h"

#include <hdf5.h>

enum { SECTION_MAX_NAME = 48, SECTION_MAX_ENTRIES = 256, SECTION_MAX_TEXT = 65536, SECTION_ALIGNMENT = 4096 };
enum { SECTION_N_TYPES = 6, SECTION_SCHEMA = 2, SECTION_WITHOUT_BLOCKS = 1 };

/* A section's place, or an attribute of the root. */
typedef struct section_entry {
    char name[SECTION_MAX_NAME];
    myr_section_type type;
    int rank;
    size_t dims[MYR_SECTION_MAX_RANK];
    size_t n_bytes;
    uint64_t offset, checksum;
} section_entry;

typedef struct section_fact {
    char name[SECTION_MAX_NAME];
    char *text; /* [owned] NULL = a number */
    int64_t number;
} section_fact;

typedef struct section_table {
    section_entry entries[SECTION_MAX_ENTRIES];
    section_fact facts[SECTION_MAX_ENTRIES];
    size_t n_entries, n_facts;
} section_table;

/* The type in the file, little-endian. */
hid_t store_section_type(int type);
bool store_section_name(const char *name); /* whether it may be one */
/* Bytes of an array; false on overflow. */
bool store_section_bytes(myr_section_type type, int rank, const size_t *dims, size_t *n_bytes);

/* By name, as readers find them in HDF5. */
void store_table_sort(section_table *table);
void store_table_clear(section_table *table);
/* Everything a reader relies on, in order; take: false where it makes no sense. */
void store_table_put(const section_table *table, myr_buffer *text);
bool store_table_take(const char *bytes, size_t n_bytes, section_table *table);
/* Of what is put. */
uint64_t store_table_checksum(const section_table *table, bool *failed);

#endif
