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

typedef enum myr_section_type {
    MYR_SECTION_U8,
    MYR_SECTION_U32,
    MYR_SECTION_I32,
    MYR_SECTION_U64,
    MYR_SECTION_I64,
    MYR_SECTION_F32
} myr_section_type;

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
 *  checksum  [in]  myr_sections_checksum of the file as it should be. NULL = not known: then each section is checked
 *                  as a whole when it is got
 *
 * With its checksum a file of up to myr_sections_eager_bytes is checked here, byte by byte. Of a larger one only the
 * table and the checksums of its blocks are (0.05 % of it), so that it opens at once: it is lazy, and whoever uses its
 * bytes calls myr_sections_touch before. Files without checksums of blocks, of earlier versions, are checked whole.
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND | MYR_ERR_IO | MYR_ERR_FORMAT (names file and section) | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_sections_open(const char *path, const uint64_t *checksum, myr_sections **sections);
MYR_API extern size_t myr_sections_eager_bytes; /* 16 MiB */
MYR_API void myr_sections_close(myr_sections *sections); /* NULL is fine; borrowed pointers end */
/*
 * myr_sections_get - a section's bytes, checked against their checksum unless the file is lazy.
 *
 *  type, rank  must be what was written
 *  dims        [out] (rank)
 *  data        [out, borrowed] aligned to 4096; until close
 *
 * Cost:     one pass over the bytes where the file's checksum is not known; else none.
 */
MYR_API myr_status myr_sections_get(const myr_sections *sections, const char *name, myr_section_type type, int rank,
                                    size_t *dims, const void **data);
MYR_API myr_status myr_sections_get_text(const myr_sections *sections, const char *name, const char **value);
MYR_API myr_status myr_sections_get_i64(const myr_sections *sections, const char *name, int64_t *value);

MYR_API bool myr_sections_is_lazy(const myr_sections *sections);
/*
 * myr_sections_touch - what is wrong with bytes of a section, before they are used for the first time.
 *
 *  data  n_bytes within what was got
 *
 * Returns:  MYR_OK, also where the file is not lazy | MYR_ERR_FORMAT (names file, section and block)
 * Threads:  any number.
 * Cost:     the checksum of 16 KiB the first time, a test of a bit after that.
 */
MYR_API myr_status myr_sections_touch(const myr_sections *sections, const void *data, size_t n_bytes);
/* All bytes that checksums cover, in which the sections lie. [borrowed] */
MYR_API const void *myr_sections_bytes(const myr_sections *sections, size_t *n_bytes);
/* myr_sections_checksum - what names a file's contents: of its trailer, or in earlier versions of all bytes. */
MYR_API myr_status myr_sections_checksum(const char *path, uint64_t *checksum);

/*
 * Text tables: n texts in two sections, <name>_offset (n + 1) u64 and <name>_bytes u8, each text with its NUL.
 */
typedef struct myr_text_table {
    const myr_sections *sections; /* [borrowed] */
    const char *name;             /* [borrowed] */
    const uint64_t *offset;       /* [borrowed] (n + 1) */
    const char *bytes;            /* [borrowed] (n_bytes) */
    size_t n_bytes, n;
} myr_text_table;

/* texts: (n); NULL is stored as "". */
MYR_API myr_status myr_text_table_add(myr_sections_writer *writer, const char *name, const char *const *texts,
                                      size_t n);
/* name: kept. MYR_ERR_FORMAT where offsets do not ascend, or a text does not end in its NUL; in a lazy file that is
 * left to look, or to check. */
MYR_API myr_status myr_text_table_open(const myr_sections *sections, const char *name, myr_text_table *table);
/* Text of a row of a table that was checked. [borrowed] until the sections are closed; row < n. */
MYR_API const char *myr_text_table_get(const myr_text_table *table, size_t row);
/* The same of one that may lie in a lazy file. MYR_ERR_FORMAT: *text is NULL. */
MYR_API myr_status myr_text_table_look(const myr_text_table *table, size_t row, const char **text);
/* All rows, whose bytes were touched. */
MYR_API myr_status myr_text_table_check(const myr_text_table *table);

/*
 * An embedding chunk: the vectors of a range of ordinals, and the items that could not be used.
 *
 * chunk-NNNNNN.h5, readable with h5py:
 *   /embedding [n, dim] f32 | f16     /key, /source [n] vlen string   /ordinal [n] i64   /label [n] i32, -1 none
 *   /bad/{key, source, reason} [n_bad] vlen string, /bad/{ordinal, n_bytes} [n_bad] i64 (n_bytes: not in older files)
 *   attributes of /: schema_version i64 = 1, contract, model, metric (strings), dim i64
 * Behind the end of the HDF5 file, unseen by its readers, 16 bytes: "MYRIOPS1" and XXH3-64 of all bytes before.
 * The same contents give the same bytes.
 * Where an item is a part of a picture there is /box [n, 4] i32 as well: x, y, width, height; zeros = the whole picture.
 */
typedef struct myr_chunk {
    int64_t n;
    int dim;
    float *embedding; /* (n, dim) */
    char **key;       /* (n) unique in the corpus */
    int64_t *ordinal; /* (n) ascending */
    int32_t *label;   /* (n) */
    char **source;    /* (n) path of the file or tar */
    int32_t *box;     /* (n, 4) x, y, width, height in pixels, zeros = the whole picture; NULL = all are whole */
    int64_t n_bad;
    char **bad_key, **bad_source, **bad_reason; /* (n_bad) */
    int64_t *bad_ordinal;
    int64_t *bad_n_bytes; /* (n_bad) its size when it was listed; NULL = not known */
    char *contract, *model, *metric;
} myr_chunk;

typedef enum myr_storage { MYR_STORAGE_F32, MYR_STORAGE_F16 } myr_storage;

/* Parts to read; attributes and counts always come along. */
#define MYR_CHUNK_VECTORS 1u /* embedding, ordinal, label, box */
#define MYR_CHUNK_KEYS 2u    /* key, source */
#define MYR_CHUNK_BAD 4u     /* bad_* */

/* myr_chunk_write - whole or not at all; the chunk's arrays stay the caller's. Any number of threads may call it. */
MYR_API myr_status myr_chunk_write(const char *path, const myr_chunk *chunk, myr_storage storage);
/* The same by way of a temporary file of that name: where several processes may write one chunk, each needs its own. */
MYR_API myr_status myr_chunk_write_by(const char *path, const char *partial, const myr_chunk *chunk,
                                      myr_storage storage);
/*
 * myr_chunk_read - parts of a chunk; arrays not asked for stay NULL.
 *
 *  chunk  [out]  every array owned by it: release with myr_chunk_clear
 *
 * Returns:  MYR_OK | MYR_ERR_NOT_FOUND | MYR_ERR_FORMAT (checksum, shapes, types) | MYR_ERR_UNSUPPORTED | MYR_ERR_IO |
 * MYR_ERR_NOMEM
 */
MYR_API myr_status myr_chunk_read(const char *path, unsigned parts, myr_chunk *chunk);
MYR_API void myr_chunk_clear(myr_chunk *chunk);

/* manifest.json of an embedding folder: what it was made from, and whether it is whole. Bytes that are no UTF-8, and
 * percent signs, are written as %XX. */
typedef struct myr_manifest {
    char *corpus_digest, *contract, *model, *metric;
    char *storage;   /* "f32" | "f16" */
    char *precision; /* the network computed in: "f32" | "bf16" | "int8" */
    int dim;
    int64_t n_items, chunk_items, n_chunks;
    bool guided; /* chunks become smaller towards the end: myr_manifest_chunk; files without "schedule" are not */
    char **classes; /* (n_classes) label names */
    size_t n_classes;
    char **operands; /* (n_operands) as typed */
    size_t n_operands;
    bool complete; /* every chunk is in place */
    int64_t n_embedded, n_bad;
} myr_manifest;

/* Atomically. */
MYR_API myr_status myr_manifest_write(const char *path, const myr_manifest *manifest);
/* Every field is checked; MYR_ERR_FORMAT names the one that is wrong. */
MYR_API myr_status myr_manifest_read(const char *path, myr_manifest *manifest);
MYR_API void myr_manifest_clear(myr_manifest *manifest);

/*
 * myr_manifest_chunk - the ordinals of a chunk, by n_items, chunk_items and guided alone.
 *
 * Chunks have chunk_items. Guided, those of about the last eighth of the items have a half, those of the last half of that a
 * quarter, of the last half of that an eighth, but none is planned for less than 8: so all ranks end at about one time.
 *
 *  place  0 <= place < n_chunks
 *  first  [out] its first ordinal
 *
 * Returns:  how many items it has, good or bad
 */
MYR_API int64_t myr_manifest_chunk(const myr_manifest *manifest, int64_t place, int64_t *first);
/* How many chunks that makes: what n_chunks must be. */
MYR_API int64_t myr_manifest_count_chunks(const myr_manifest *manifest);

/* myr_file_checksum - XXH3-64 of a whole file. */
MYR_API myr_status myr_file_checksum(const char *path, uint64_t *checksum);

#ifdef __cplusplus
}
#endif
#endif
