/*
 * Memory that is free, by /proc/meminfo (proc(5)) and the limits of the process's cgroup (cgroups(7), version 2 and 1).
 */
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A file of one number; INFINITY for "max", or where there is no such file. */
static double number_in(const char *path)
{
    double number = INFINITY;
    FILE *file = fopen(path, "r");
    if (!file)
        return INFINITY;
    if (fscanf(file, "%lf", &number) != 1)
        number = INFINITY;
    fclose(file);
    return number;
}

/* The number behind a name at the beginning of a line; INFINITY where there is none. */
static double number_of(const char *path, const char *name)
{
    char line[128];
    double number = INFINITY;
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0 && sscanf(line + strlen(name), "%lf", &number) == 1)
            break;
    if (file)
        fclose(file);
    return number;
}

/* The limit less what programs hold: files in the cache give way. */
static double free_in_cgroup(const char *limit, const char *stat, const char *held)
{
    double most = number_in(limit), bytes = most - number_of(stat, held);
    return isfinite(most) && bytes >= 0 ? bytes : INFINITY;
}

double myr_memory_available(void)
{
    double bytes = number_of("/proc/meminfo", "MemAvailable:") * 1024;
    bytes = fmin(bytes, free_in_cgroup("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.stat", "anon "));
    bytes = fmin(bytes, free_in_cgroup("/sys/fs/cgroup/memory/memory.limit_in_bytes",
                                       "/sys/fs/cgroup/memory/memory.stat", "total_rss "));
    return isfinite(bytes) ? bytes : 0;
}
