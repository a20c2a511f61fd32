/*
 * What is free is less than what there is, and what this process takes is free no longer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void taken_memory_is_not_free(void **state)
{
    const size_t n_bytes = (size_t)512 << 20;
    double there_is = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE), before = myr_memory_available();
    (void)state;
    assert_true(before > 0 && before <= there_is);
    if (before < 4.0 * (double)n_bytes)
        skip();
    char *taken = malloc(n_bytes);
    assert_non_null(taken);
    memset(taken, 1, n_bytes);
    double after = myr_memory_available(); /* others may take and give meanwhile */
    assert_true(after < before - (double)n_bytes / 4 && after > before - 4.0 * (double)n_bytes);
    free(taken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(taken_memory_is_not_free)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
