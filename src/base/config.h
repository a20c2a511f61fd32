/*
 * Settings from one typed table: key, type, default, bounds, help.
 *
 * A value comes from, weakest first: the table's default, conf/myriops.conf or
 * --conf FILE (INI), the environment (MYRIOPS_EF_SEARCH for "ef-search"), the flag
 * (--ef-search). myr_config_dump prints what is in force and where it came from.
 */
#ifndef MYR_BASE_CONFIG_H
#define MYR_BASE_CONFIG_H

#include "base/buffer.h"

typedef enum myr_key_type { MYR_KEY_FLAG, MYR_KEY_INT, MYR_KEY_REAL, MYR_KEY_TEXT, MYR_KEY_CHOICE } myr_key_type;

typedef struct myr_key {
    const char *name; /* "ef-search": flag --ef-search, environment MYRIOPS_EF_SEARCH */
    myr_key_type type;
    const char *standard;   /* default as text; NULL = none */
    double least, most;     /* bounds of INT and REAL, both inclusive */
    const char *choices;    /* "l2|cosine|ip" for CHOICE */
    const char *value_name; /* "N", "DIR" in --help */
    const char *help;       /* one line */
    const char *commands;   /* "embed query": the commands that take it; NULL = all */
    char short_flag;        /* 'k' or 0 */
} myr_key;

typedef struct myr_config myr_config;

/* table: [borrowed] n_keys rows. command filters the flags accepted. */
myr_status myr_config_create(const myr_key *table, size_t n_keys, const char *command, myr_config **config);
void myr_config_free(myr_config *config);
/* Unknown keys in the file are an error that names them; path is remembered as the origin. */
myr_status myr_config_read_file(myr_config *config, const char *path);
myr_status myr_config_read_environment(myr_config *config);
/* Flags and operands in any order, "--" ends flags; --key=value and --key value. operands: [owned by caller] array of
 * borrowed argv texts. */
myr_status myr_config_read_arguments(myr_config *config, int argc, char **argv, const char ***operands,
                                     size_t *n_operands);

bool myr_config_flag(const myr_config *config, const char *name);
int64_t myr_config_int(const myr_config *config, const char *name);
double myr_config_real(const myr_config *config, const char *name);
const char *myr_config_text(const myr_config *config, const char *name); /* [borrowed] NULL if unset */
bool myr_config_is_set(const myr_config *config, const char *name);      /* by file, environment or flag */

/* All values that are set, as a message to another process; adopt takes them over, but for the key named `except`. */
void myr_config_pack(const myr_config *config, myr_buffer *message);
myr_status myr_config_adopt(myr_config *config, const void *message, size_t n_bytes, const char *except);

/*
 * Whether another process, whose packed message this is, has the same values in force; MYR_ERR_ARG names the first that
 * differs. Left out are the key named `except`, and what only the other's environment says: it may not have been passed
 * on.
 *
 *  who  this process, in the sentence; the other is rank 0
 */
myr_status myr_config_compare(const myr_config *config, const void *message, size_t n_bytes, const char *except,
                              const char *who);

void myr_config_dump(const myr_config *config, myr_buffer *out);
void myr_config_help(const myr_config *config, myr_buffer *out); /* the table of flags for --help */

#endif
