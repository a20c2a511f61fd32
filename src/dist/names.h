/*
 * Lines that say what rows of vectors are: keys, and with them sources and labels.
 *
 * A file has one line for each row. Where its first line is a header, fields apart by tabs of which one is the column
 * asked for ("key", "source", "label"), the lines below are such fields, with \t, \n, \r and \\ for what would break a
 * line; so `export` writes them. Else each line as a whole is a key, or a label.
 */
#ifndef MYR_DIST_NAMES_H
#define MYR_DIST_NAMES_H

#include "base/buffer.h"

typedef enum myr_names_column { MYR_NAMES_KEY, MYR_NAMES_SOURCE, MYR_NAMES_LABEL, MYR_NAMES_COLUMNS } myr_names_column;

#define MYR_NAMES_HEADER "key\tsource\tlabel"

typedef struct myr_names {
    const char *path;             /* [borrowed] */
    void *mapping;                /* [owned] */
    size_t n_bytes, first_byte;   /* of the file; of its first row */
    int field[MYR_NAMES_COLUMNS]; /* where each column stands in a line, -1 = nowhere */
    bool has_header;
    int64_t n;         /* rows */
    int64_t *mark;     /* (n / MYR_NAMES_STRIDE + 1) [owned] byte of every so manieth row */
    uint64_t checksum; /* of all bytes */
} myr_names;

#define MYR_NAMES_STRIDE 1024

/* myr_names_open - Local. column: what a file without header has. One pass over the file; 8 bytes for 1,024 rows. */
myr_status myr_names_open(const char *path, myr_names_column column, myr_names *names);
void myr_names_close(myr_names *names);

/*
 * myr_names_read - a column of rows [first, first + n).
 *
 *  texts  [out] (n) each [owned by caller]; "" where a line has no such field; nothing is left there on failure
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT (a NUL byte) | MYR_ERR_NOMEM
 */
myr_status myr_names_read(const myr_names *names, myr_names_column column, int64_t first, int64_t n, char **texts);

/*
 * myr_names_check_keys - no key is empty, none stands there twice.
 *
 * Local. Looks at the keys whose hash leaves `part` when divided by n_parts, so that ranks share the work and the
 * memory: 16 bytes a key.
 */
myr_status myr_names_check_keys(const myr_names *names, int part, int n_parts);

/*
 * myr_names_classes - the distinct labels, ascending by bytes.
 *
 * Where all of them are whole numbers there are none: labels are numbers then.
 *
 *  classes  [out] (*n) [owned by caller]
 */
myr_status myr_names_classes(const myr_names *names, char ***classes, size_t *n);
/* A label's number among classes, or as it stands there; -1 of "" and of what is none. */
int32_t myr_names_label(const char *text, char *const *classes, size_t n_classes);

/* Append a field of a line with a header. */
void myr_names_escape(myr_buffer *out, const char *text);

#endif
