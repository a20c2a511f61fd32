/*
 * HDF5 as built in Debian is not thread safe: every sequence of its calls is inside this lock.
 */
#ifndef MYR_STORE_HDF5_LOCK_H
#define MYR_STORE_HDF5_LOCK_H

/* Take the lock; the first time, HDF5's own printing of errors is turned off. */
void store_lock(void);
void store_unlock(void);

#endif
