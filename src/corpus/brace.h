/*
 * Brace ranges: photos-{000000..000004}.tar and {a,b}, as shells write them.
 */
#ifndef MYR_CORPUS_BRACE_H
#define MYR_CORPUS_BRACE_H

#include "myriops/status.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * corpus_expand_braces - all paths a pattern stands for, in order. literal: no expansion.
 *
 *  paths  [out, owned by caller]  n_paths texts; set also on failure, free what is there
 *
 * Returns:  MYR_OK | MYR_ERR_LIMIT (over ten million paths) | MYR_ERR_NOMEM
 */
myr_status corpus_expand_braces(const char *pattern, bool literal, char ***paths, size_t *n_paths);

#endif
