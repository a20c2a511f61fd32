/*
 * Files written whole or not at all: temporary name, fsync, rename, fsync of the folder.
 * Temporary names end in ".partial" so that a later run can sweep them.
 */
#ifndef MYR_BASE_FILE_H
#define MYR_BASE_FILE_H

#include "base/buffer.h"

/* myr_file_read - whole file into buffer (cleared first). MYR_ERR_LIMIT above max_bytes. */
myr_status myr_file_read(const char *path, size_t max_bytes, myr_buffer *buffer);
/* myr_file_replace - write bytes to path, atomically. */
myr_status myr_file_replace(const char *path, const void *bytes, size_t n_bytes);
/* myr_file_partial_name - the temporary name for path: "<path>.partial". [owned by caller] NULL without memory. */
char *myr_file_partial_name(const char *path);
/* myr_file_commit - fsync partial, rename it to path, fsync the folder. On failure partial is removed. */
myr_status myr_file_commit(const char *partial, const char *path);
/* myr_folder_commit - rename a folder, whose files were committed, to path, which must not be there or be empty. */
myr_status myr_folder_commit(const char *partial, const char *path);
/* myr_folder_create - mkdir -p; MYR_ERR_IO names the folder and the reason. */
myr_status myr_folder_create(const char *path);
/* myr_folder_sweep - remove "*.partial" files directly in the folder. */
myr_status myr_folder_sweep(const char *path);
/*
 * myr_folder_lock - this process alone writes in the folder, until unlock or its end.
 *
 *  patience_s  how long to wait for another that holds it
 *  lock        [out] for myr_folder_unlock; -1 where the file system has no locks: then nothing is guarded
 */
myr_status myr_folder_lock(const char *path, double patience_s, int *lock);
void myr_folder_unlock(int lock); /* -1 is fine */
bool myr_path_exists(const char *path);
bool myr_path_is_folder(const char *path);
/* myr_path_join - "folder/name". [owned by caller] NULL without memory. */
char *myr_path_join(const char *folder, const char *name);

#endif
