/*
 * What tests of networks share: a folder of files that scripts make, gone at the end, and files that must be refused.
 */
#ifndef MYR_TESTS_NN_FILES_H
#define MYR_TESTS_NN_FILES_H

#include "myriops/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/myriops-nn-XXXXXX";
static bool has_models = true; /* false where python3-onnx is missing: then tests that need them skip */

/* A script beside the tests, run on the folder, or one below it. */
static inline void make_files(const char *script, const char *below, const char *what)
{
    char command[1024];
    snprintf(command, sizeof command, "mkdir -p %s%s && /usr/bin/python3 -B %s/tests/unit/nn/%s %s%s %s", folder, below,
             MYRIOPS_SOURCE_DIR, script, folder, below, what);
    has_models = system(command) == 0 && has_models;
    if (!has_models)
        print_message("skipped: python3-onnx is missing\n");
}

static inline int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* A file that is refused, and how. */
typedef struct refusal {
    const char *name;
    myr_status status;
    const char *words; /* in the message */
} refusal;

/* Each is refused on every backend, in its words and within seconds. try_file loads, compiles and runs it. */
static inline void check_refusals(const refusal *cases, size_t n_cases,
                                  myr_status (*try_file)(const char *name, const char *backend))
{
    if (!has_models)
        skip();
    for (size_t i = 0; i < n_cases; i++) {
        for (const char *const *backend = myr_backend_names(); *backend; backend++) {
            clock_t start = clock();
            myr_status status = try_file(cases[i].name, *backend);
            if (status != cases[i].status || !strstr(myr_error_detail(), cases[i].words))
                fail_msg("%s on %s: status %d, '%s' and not '%s'", cases[i].name, *backend, (int)status,
                         status == MYR_OK ? "" : myr_error_detail(), cases[i].words);
            assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 10);
        }
    }
}

#endif
