/*
 * Which Myriops this is.
 */
#ifndef MYRIOPS_VERSION_H
#define MYRIOPS_VERSION_H

#include "myriops/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "1.2.3". Static storage. */
MYR_API const char *myr_version(void);

#ifdef __cplusplus
}
#endif
#endif
