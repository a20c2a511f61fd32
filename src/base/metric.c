/*
 * The names of metrics, as options and files have them.
 */
#include "myriops/hit.h"

#include <string.h>

static const char *const names[] = {
    [MYR_METRIC_L2] = "l2",
    [MYR_METRIC_COSINE] = "cosine",
    [MYR_METRIC_IP] = "ip",
};

enum { N_METRICS = sizeof names / sizeof *names };

const char *myr_metric_name(myr_metric metric)
{
    return (unsigned)metric < N_METRICS ? names[metric] : NULL;
}

bool myr_metric_of(const char *name, myr_metric *metric)
{
    for (unsigned i = 0; i < N_METRICS; i++) {
        if (strcmp(name, names[i]) == 0) {
            *metric = (myr_metric)i;
            return true;
        }
    }
    return false;
}
