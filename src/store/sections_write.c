/*
 * Writing sections: one contiguous, page-aligned dataset of HDF5 each, and behind HDF5's end the checksums of the
 * file's blocks (blocks.h).
 */
#include "base/alloc.h"
#include "base/checksum.h"
#include "base/file.h"
#include "store/blocks.h"
#include "store/hdf5_lock.h"
#include "store/sections_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct myr_sections_writer {
    hid_t file;
    char *path, *partial;
    section_table contents;
};

static myr_status write_failed(const myr_sections_writer *writer, const char *name)
{
    return myr_fail(MYR_ERR_IO, "%s: '%s' cannot be written: %s; is the disk full or read-only?", writer->path, name,
                    errno ? strerror(errno) : "HDF5 refused");
}

myr_status myr_sections_create(const char *path, myr_sections_writer **out)
{
    *out = NULL;
    myr_sections_writer *writer = myr_alloc(1, sizeof *writer);
    if (writer) {
        writer->path = myr_strdup(path);
        writer->partial = myr_file_partial_name(path);
        writer->file = H5I_INVALID_HID;
    }
    if (!writer || !writer->path || !writer->partial) {
        myr_sections_abandon(writer);
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory to write it", path);
    }
    errno = 0;
    store_lock();
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), create = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_alignment(access, 1, SECTION_ALIGNMENT);
    H5Pset_file_locking(access, false, true);
    H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18);
    H5Pset_obj_track_times(create, false); /* the same content gives the same bytes */
    writer->file = H5Fcreate(writer->partial, H5F_ACC_TRUNC, create, access);
    H5Pclose(create);
    H5Pclose(access);
    store_unlock();
    if (writer->file < 0) {
        myr_status status = write_failed(writer, "the file");
        myr_sections_abandon(writer);
        return status;
    }
    *out = writer;
    return MYR_OK;
}

static bool write_number(hid_t object, const char *name, hid_t type, hid_t memory_type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR), attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool fine = attribute >= 0 && H5Awrite(attribute, memory_type, value) >= 0;
    if (attribute >= 0)
        H5Aclose(attribute);
    H5Sclose(space);
    return fine;
}

/* One dataset, early and contiguous, its bytes written, its place noted. */
static bool write_array(hid_t file, section_entry *section, const void *data)
{
    hsize_t dims[MYR_SECTION_MAX_RANK];
    for (int i = 0; i < section->rank; i++)
        dims[i] = section->dims[i];
    hid_t type = store_section_type(section->type), space = H5Screate_simple(section->rank, dims, NULL);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(create, H5D_CONTIGUOUS);
    H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(create, H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(create, false);
    hid_t set = H5Dcreate2(file, section->name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    bool fine = set >= 0;
    if (fine && section->n_bytes > 0)
        fine = H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
    if (fine && section->n_bytes > 0) {
        haddr_t offset = H5Dget_offset(set);
        fine = offset != HADDR_UNDEF;
        section->offset = fine ? offset : 0;
    }
    section->checksum = myr_checksum64(data ? data : "", section->n_bytes);
    fine = fine && write_number(set, "checksum", H5T_STD_U64LE, H5T_NATIVE_UINT64, &section->checksum);
    if (set >= 0)
        H5Dclose(set);
    H5Pclose(create);
    H5Sclose(space);
    return fine;
}

myr_status myr_sections_add(myr_sections_writer *writer, const char *name, myr_section_type type, int rank,
                            const size_t *dims, const void *data)
{
    section_table *contents = &writer->contents;
    section_entry section = {.type = type, .rank = rank};
    if (!store_section_name(name) || (unsigned)type >= SECTION_N_TYPES || rank < 1 || rank > MYR_SECTION_MAX_RANK ||
        contents->n_entries == SECTION_MAX_ENTRIES || !store_section_bytes(type, rank, dims, &section.n_bytes))
        return myr_fail(MYR_ERR_ARG, "%s: '%s' is no section that can be written", writer->path, name);
    strcpy(section.name, name);
    memcpy(section.dims, dims, (size_t)rank * sizeof *dims);
    errno = 0;
    store_lock();
    bool fine = write_array(writer->file, &section, data);
    store_unlock();
    if (!fine)
        return write_failed(writer, name);
    contents->entries[contents->n_entries++] = section;
    return MYR_OK;
}

static myr_status keep_fact(myr_sections_writer *writer, const char *name, const char *text, int64_t number)
{
    section_table *contents = &writer->contents;
    char *copy = text ? myr_strdup(text) : NULL;
    if (!store_section_name(name) || contents->n_facts == SECTION_MAX_ENTRIES ||
        (text && (!*text || strlen(text) >= SECTION_MAX_TEXT))) {
        free(copy);
        return myr_fail(MYR_ERR_ARG, "%s: '%s' is no attribute that can be written", writer->path, name);
    }
    if (text && !copy)
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory for '%s'", writer->path, name);
    section_fact *kept = &contents->facts[contents->n_facts++];
    *kept = (section_fact){.text = copy, .number = number};
    strcpy(kept->name, name);
    return MYR_OK;
}

myr_status myr_sections_set_text(myr_sections_writer *writer, const char *name, const char *value)
{
    myr_status status = keep_fact(writer, name, value, 0);
    if (status != MYR_OK)
        return status;
    store_lock();
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, strlen(value));
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    H5Tset_cset(type, H5T_CSET_UTF8);
    bool fine = write_number(writer->file, name, type, type, value);
    H5Tclose(type);
    store_unlock();
    return fine ? MYR_OK : write_failed(writer, name);
}

myr_status myr_sections_set_i64(myr_sections_writer *writer, const char *name, int64_t value)
{
    myr_status status = keep_fact(writer, name, NULL, value);
    if (status != MYR_OK)
        return status;
    store_lock();
    bool fine = write_number(writer->file, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
    store_unlock();
    return fine ? MYR_OK : write_failed(writer, name);
}

/* What HDF5 keeps of the table, for readers that know nothing of the trailer. */
static bool write_facts(const myr_sections_writer *writer)
{
    bool no_memory;
    int64_t schema = SECTION_SCHEMA;
    uint64_t checksum = store_table_checksum(&writer->contents, &no_memory);
    return !no_memory && write_number(writer->file, "table_checksum", H5T_STD_U64LE, H5T_NATIVE_UINT64, &checksum) &&
           write_number(writer->file, "schema_version", H5T_STD_I64LE, H5T_NATIVE_INT64, &schema);
}

static bool write_trailer(const myr_sections_writer *writer)
{
    myr_buffer table = {0};
    myr_buffer_put_i64(&table, (int64_t)writer->contents.n_entries);
    myr_buffer_put_i64(&table, (int64_t)writer->contents.n_facts);
    store_table_put(&writer->contents, &table);
    bool fine = !table.failed && store_blocks_append(writer->partial, &table);
    myr_buffer_free(&table);
    return fine;
}

myr_status myr_sections_commit(myr_sections_writer *writer)
{
    store_table_sort(&writer->contents);
    errno = 0;
    store_lock();
    bool fine = write_facts(writer);
    fine = H5Fclose(writer->file) >= 0 && fine;
    store_unlock();
    writer->file = H5I_INVALID_HID;
    fine = fine && write_trailer(writer);
    myr_status status = fine ? myr_file_commit(writer->partial, writer->path) : write_failed(writer, "the file");
    myr_sections_abandon(writer);
    return status;
}

void myr_sections_abandon(myr_sections_writer *writer)
{
    if (!writer)
        return;
    if (writer->file >= 0) {
        store_lock();
        H5Fclose(writer->file);
        store_unlock();
    }
    if (writer->partial)
        unlink(writer->partial); /* gone already after a commit */
    store_table_clear(&writer->contents);
    free(writer->path);
    free(writer->partial);
    free(writer);
}
