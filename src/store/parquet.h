/*
 * Parquet files of texts and numbers, for those who read metadata with pandas, pyarrow or fastparquet.
 */
#ifndef MYR_STORE_PARQUET_H
#define MYR_STORE_PARQUET_H

#include "myriops/status.h"

#include <stddef.h>
#include <stdint.h>

/* A column: texts or numbers, one of them NULL. A text that is NULL, and a negative number, is a null. */
typedef struct myr_parquet_column {
    const char *name;
    const char *const *texts; /* (n) what is no UTF-8 is written with %XX for the bytes that are not */
    const int32_t *numbers;   /* (n) */
} myr_parquet_column;

/*
 * myr_parquet_write - a table, whole or not at all; the same table gives the same bytes.
 *
 *  columns  (n_columns) with distinct names
 *
 * One row group, pages of about a megabyte, PLAIN, not compressed; texts are strings (UTF8).
 *
 * Returns:  MYR_OK | MYR_ERR_LIMIT (a text of a gigabyte) | MYR_ERR_IO | MYR_ERR_NOMEM
 * Cost:     memory for the file
 * Source:   Apache Parquet format 2.10, parquet.thrift and Encodings.md; Thrift compact protocol.
 */
myr_status myr_parquet_write(const char *path, const myr_parquet_column *columns, size_t n_columns, size_t n_rows);

#endif
