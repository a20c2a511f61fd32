/*
 * How much memory there is to be had.
 */
#ifndef MYR_BASE_MEMORY_H
#define MYR_BASE_MEMORY_H

/* Bytes that this process and others of its host or cgroup may still take, whichever is less; 0 where nobody tells. */
double myr_memory_available(void);

#endif
