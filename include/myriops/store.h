/*
 * Files of Myriops: HDF5 with checksums, written whole or not at all.
 */
#ifndef MYRIOPS_STORE_H
#define MYRIOPS_STORE_H

#include "myriops/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Sections: big arrays in one HDF5 file, to be mapped.
 *
 * Every section is a contiguous dataset at a multiple of 4096 bytes, with the XXH3-64 of its bytes
 * in attribute "checksum". Texts and numbers are attributes of the root. Root attribute
 * "table_checksum" covers the names, types, shapes and places of the sections and all other root
 * attributes, so that a changed byte of HDF5's own structure is found too, if it matters.
 */
typedef struct myr_sections_writer myr_sections_writer;
typedef struct myr_sections myr_sections;

typedef enum myr_section_type { MYR_SECTION_U8, MYR_SECTION_U32, MYR_SECTION_I32, MYR_SECTION_U64, MYR_SECTION_I64, MYR_SECTION_F32 } myr_section_type;

#define MYR_SECTION_MAX_RANK 4

/*
 * myr_sections_create - begin a file under a temporary name.
 *
 * Local. Close with commit or abandon, whichever happens.
 */
MYR_API myr_status myr_sections_create(const char *path, myr_sections_writer **writer);
/* Add a section: dims[rank] elements of the type, row-major. An empty one is fine. name: letters, digits, '_'. */
MYR_API myr_status myr_sections_add(myr_sections_writer *writer, const char *name, myr_section_type type, int rank,
                                    const size_t *dims, const void *data);
MYR_API myr_status myr_sections_set_text(myr_sections_writer *writer, const char *name, const char *value);
MYR_API myr_status myr_sections_set_i64(myr_sections_writer *writer, const char *name, int64_t value);
/* fsync, rename into place; the writer is freed, also on failure. */
MYR_API myr_status myr_sections_commit(myr_sections_writer *writer);
MYR_API void myr_sections_abandon(myr_sections_writer *writer); /* NULL is fine */

/*
 * myr_sections_open - map a file read-only.
 *
 * Local. Any number of threads may get from it.
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND | MYR_ERR_IO | MYR_ERR_FORMAT (names file and section) | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_sections_open(const char *path, myr_sections **sections);
MYR_API void myr_sections_close(myr_sections *sections); /* NULL is fine; borrowed pointers end */
/*
 * myr_sections_get - a section's bytes, checked against their checksum.
 *
 *  type, rank  must be what was written
 *  dims        [out] (rank)
 *  data        [out, borrowed] aligned to 4096; until close
 *
 * Cost:     one pass over the bytes.
 */
MYR_API myr_status myr_sections_get(const myr_sections *sections, const char *name, myr_section_type type, int rank,
                                    size_t *dims, const void **data);
MYR_API myr_status myr_sections_get_text(const myr_sections *sections, const char *name, const char **value);
MYR_API myr_status myr_sections_get_i64(const myr_sections *sections, const char *name, int64_t *value);

/* myr_file_checksum - XXH3-64 of a whole file. */
MYR_API myr_status myr_file_checksum(const char *path, uint64_t *checksum);

#ifdef __cplusplus
}
#endif
#endif
