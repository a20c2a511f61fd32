/*
 * The version, from the build.
 */
#include "myriops/version.h"

const char *myr_version(void)
{
    return MYRIOPS_VERSION;
}
