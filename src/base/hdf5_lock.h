/*
 * HDF5 as built in Debian is not thread safe, and modules that do not know of each other use it at once: a chunk is
 * written while pictures are read. So all of a process's calls are inside this one lock.
 */
#ifndef MYR_BASE_HDF5_LOCK_H
#define MYR_BASE_HDF5_LOCK_H

void myr_hdf5_lock(void);
void myr_hdf5_unlock(void);

#endif
