/*
 * Labels as people read them.
 */
#include "cli/labels.h"

#include <stdio.h>

const char *myr_label_name(char *const *classes, size_t n_classes, int64_t label, char room[MYR_LABEL_TEXT])
{
    if (label < 0)
        return NULL;
    if ((size_t)label < n_classes)
        return classes[label];
    snprintf(room, MYR_LABEL_TEXT, "class %lld", (long long)label);
    return room;
}
