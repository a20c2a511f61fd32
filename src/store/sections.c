/*
 * Sections: HDF5 holds the table, mmap gives the bytes.
 *
 * The writer makes one contiguous, page-aligned dataset a section. The reader asks HDF5 once where
 * the sections lie, copies that table, closes HDF5, and serves pointers into the mapping; each
 * place is checked against the file's size, each array against its checksum on first use.
 */
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/checksum.h"
#include "base/file.h"
#include "myriops/store.h"
#include "store/hdf5_file.h"
#include "store/hdf5_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALIGNMENT 4096
#define MAX_NAME 48
#define MAX_ENTRIES 256
#define MAX_TEXT 65536
#define SCHEMA 1

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void store_lock(void)
{
    static bool is_open;
    pthread_mutex_lock(&lock);
    if (!is_open) {
        /* After a failed write HDF5's own clean-up at exit trips over the half-closed file. We close what we open. */
        H5dont_atexit();
        is_open = true;
    }
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void store_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

/* A section's place, or an attribute of the root. */
typedef struct entry {
    char name[MAX_NAME];
    myr_section_type type;
    int rank;
    size_t dims[MYR_SECTION_MAX_RANK];
    size_t n_bytes;
    uint64_t offset, checksum;
} entry;

typedef struct fact {
    char name[MAX_NAME];
    char *text; /* [owned] NULL = a number */
    int64_t number;
} fact;

typedef struct table {
    entry entries[MAX_ENTRIES];
    fact facts[MAX_ENTRIES];
    size_t n_entries, n_facts;
} table;

struct myr_sections_writer {
    hid_t file;
    char *path, *partial;
    table contents;
};

struct myr_sections {
    char *path;
    const unsigned char *bytes; /* the mapping */
    size_t n_bytes;
    bool is_known; /* all bytes were checked when it was opened */
    table contents;
};

static const size_t type_bytes[] = {1, 4, 4, 8, 8, 4};
enum { N_TYPES = sizeof type_bytes / sizeof *type_bytes };

/* The type in the file, little-endian. */
static hid_t file_type(int type)
{
    switch (type) {
    case MYR_SECTION_U8:
        return H5T_STD_U8LE;
    case MYR_SECTION_U32:
        return H5T_STD_U32LE;
    case MYR_SECTION_I32:
        return H5T_STD_I32LE;
    case MYR_SECTION_U64:
        return H5T_STD_U64LE;
    case MYR_SECTION_I64:
        return H5T_STD_I64LE;
    default:
        return H5T_IEEE_F32LE;
    }
}

static bool good_name(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n < MAX_NAME &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == n;
}

/* Bytes of an array; false on overflow. */
static bool array_bytes(myr_section_type type, int rank, const size_t *dims, size_t *n_bytes)
{
    *n_bytes = type_bytes[type];
    for (int i = 0; i < rank; i++)
        if (!myr_mul(*n_bytes, dims[i], n_bytes))
            return false;
    return true;
}

/* Everything a reader relies on, in order, hashed. */
static uint64_t table_checksum(const table *contents, bool *failed)
{
    myr_buffer text = {0};
    for (size_t i = 0; i < contents->n_entries; i++) {
        const entry *section = &contents->entries[i];
        myr_buffer_put_text(&text, section->name);
        myr_buffer_put_i64(&text, section->type);
        myr_buffer_put_i64(&text, section->rank);
        for (int d = 0; d < section->rank; d++)
            myr_buffer_put_i64(&text, (int64_t)section->dims[d]);
        myr_buffer_put_i64(&text, (int64_t)section->offset);
        myr_buffer_put_i64(&text, (int64_t)section->checksum);
    }
    for (size_t i = 0; i < contents->n_facts; i++) {
        myr_buffer_put_text(&text, contents->facts[i].name);
        myr_buffer_put_text(&text, contents->facts[i].text);
        myr_buffer_put_i64(&text, contents->facts[i].number);
    }
    *failed = text.failed;
    uint64_t checksum = text.failed ? 0 : myr_checksum64(text.data ? text.data : "", text.size);
    myr_buffer_free(&text);
    return checksum;
}

static void clear_table(table *contents)
{
    for (size_t i = 0; i < contents->n_facts; i++)
        free(contents->facts[i].text);
    contents->n_facts = contents->n_entries = 0;
}

/* ---- writing ---- */

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
    H5Pset_alignment(access, 1, ALIGNMENT);
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
static bool write_array(hid_t file, entry *section, const void *data)
{
    hsize_t dims[MYR_SECTION_MAX_RANK];
    for (int i = 0; i < section->rank; i++)
        dims[i] = section->dims[i];
    hid_t type = file_type(section->type), space = H5Screate_simple(section->rank, dims, NULL);
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
    table *contents = &writer->contents;
    entry section = {.type = type, .rank = rank};
    if (!good_name(name) || (unsigned)type >= N_TYPES || rank < 1 || rank > MYR_SECTION_MAX_RANK ||
        contents->n_entries == MAX_ENTRIES || !array_bytes(type, rank, dims, &section.n_bytes))
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
    table *contents = &writer->contents;
    char *copy = text ? myr_strdup(text) : NULL;
    if (!good_name(name) || contents->n_facts == MAX_ENTRIES || (text && (!*text || strlen(text) >= MAX_TEXT))) {
        free(copy);
        return myr_fail(MYR_ERR_ARG, "%s: '%s' is no attribute that can be written", writer->path, name);
    }
    if (text && !copy)
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory for '%s'", writer->path, name);
    fact *kept = &contents->facts[contents->n_facts++];
    *kept = (fact){.text = copy, .number = number};
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

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b); /* both structures begin with their name */
}

static void sort_table(table *contents)
{
    qsort(contents->entries, contents->n_entries, sizeof *contents->entries, by_name);
    qsort(contents->facts, contents->n_facts, sizeof *contents->facts, by_name);
}

myr_status myr_sections_commit(myr_sections_writer *writer)
{
    bool no_memory;
    int64_t schema = SCHEMA;
    sort_table(&writer->contents);
    uint64_t checksum = table_checksum(&writer->contents, &no_memory);
    errno = 0;
    store_lock();
    bool fine = !no_memory &&
                write_number(writer->file, "table_checksum", H5T_STD_U64LE, H5T_NATIVE_UINT64, &checksum) &&
                write_number(writer->file, "schema_version", H5T_STD_I64LE, H5T_NATIVE_INT64, &schema);
    fine = H5Fclose(writer->file) >= 0 && fine;
    store_unlock();
    writer->file = H5I_INVALID_HID;
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
    clear_table(&writer->contents);
    free(writer->path);
    free(writer->partial);
    free(writer);
}

/* ---- reading ---- */

static myr_status damaged(const myr_sections *sections, const char *name, const char *why)
{
    return myr_fail(MYR_ERR_FORMAT, "%s: %s: %s; the file is damaged, make it again", sections->path, name, why);
}

static bool read_number(hid_t object, const char *name, hid_t memory_type, void *value)
{
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0)
        return false;
    hid_t space = H5Aget_space(attribute), type = H5Aget_type(attribute);
    bool fine = H5Sget_simple_extent_npoints(space) == 1 && H5Tget_class(type) == H5T_INTEGER &&
                H5Aread(attribute, memory_type, value) >= 0;
    H5Tclose(type);
    H5Sclose(space);
    H5Aclose(attribute);
    return fine;
}

static bool read_text(hid_t object, const char *name, char **text)
{
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0)
        return false;
    hid_t space = H5Aget_space(attribute), type = H5Aget_type(attribute);
    size_t n = H5Tget_size(type);
    bool fine = H5Sget_simple_extent_npoints(space) == 1 && H5Tget_class(type) == H5T_STRING &&
                H5Tis_variable_str(type) == 0 && n > 0 && n < MAX_TEXT;
    *text = fine ? myr_alloc(n + 1, 1) : NULL;
    fine = *text && H5Aread(attribute, type, *text) >= 0;
    H5Tclose(type);
    H5Sclose(space);
    H5Aclose(attribute);
    return fine;
}

static herr_t take_attribute(hid_t file, const char *name, const H5A_info_t *info, void *context)
{
    (void)info;
    table *contents = context;
    if (strcmp(name, "table_checksum") == 0 || strcmp(name, "schema_version") == 0)
        return 0;
    fact *kept = &contents->facts[contents->n_facts];
    if (contents->n_facts == MAX_ENTRIES || !good_name(name))
        return -1;
    *kept = (fact){0};
    strcpy(kept->name, name);
    if (!read_number(file, name, H5T_NATIVE_INT64, &kept->number) && !read_text(file, name, &kept->text)) {
        free(kept->text);
        return -1;
    }
    contents->n_facts++;
    return 0;
}

/* A dataset's type, shape, place and checksum into the table. */
static herr_t take_section(hid_t file, const char *name, const H5L_info_t *info, void *context)
{
    table *contents = context;
    entry *section = &contents->entries[contents->n_entries];
    if (info->type != H5L_TYPE_HARD || contents->n_entries == MAX_ENTRIES || !good_name(name))
        return -1;
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0)
        return -1;
    *section = (entry){0};
    strcpy(section->name, name);
    hid_t space = H5Dget_space(set), type = H5Dget_type(set), create = H5Dget_create_plist(set);
    hsize_t dims[MYR_SECTION_MAX_RANK];
    int kind = 0;
    section->rank = H5Sget_simple_extent_ndims(space);
    bool fine = section->rank >= 1 && section->rank <= MYR_SECTION_MAX_RANK &&
                H5Sget_simple_extent_dims(space, dims, NULL) >= 0 && H5Pget_layout(create) == H5D_CONTIGUOUS &&
                H5Pget_external_count(create) == 0;
    while (fine && kind < N_TYPES && H5Tequal(type, file_type(kind)) <= 0)
        kind++;
    fine = fine && kind < N_TYPES;
    for (int i = 0; fine && i < section->rank; i++)
        section->dims[i] = (size_t)dims[i];
    section->type = (myr_section_type)kind;
    fine = fine && array_bytes(section->type, section->rank, section->dims, &section->n_bytes) &&
           read_number(set, "checksum", H5T_NATIVE_UINT64, &section->checksum);
    if (fine && section->n_bytes > 0) {
        haddr_t offset = H5Dget_offset(set);
        fine = offset != HADDR_UNDEF;
        section->offset = fine ? offset : 0;
    }
    H5Pclose(create);
    H5Tclose(type);
    H5Sclose(space);
    H5Dclose(set);
    contents->n_entries += fine;
    return fine ? 0 : -1;
}

/* Ask HDF5 for the table. Called inside the lock. */
static bool read_table(const char *path, table *contents, uint64_t *checksum, int64_t *schema)
{
    hid_t file = store_file_open(path);
    if (file < 0)
        return false;
    hsize_t at = 0;
    bool fine = read_number(file, "table_checksum", H5T_NATIVE_UINT64, checksum) &&
                read_number(file, "schema_version", H5T_NATIVE_INT64, schema) &&
                H5Aiterate2(file, H5_INDEX_NAME, H5_ITER_INC, NULL, take_attribute, contents) >= 0;
    at = 0;
    fine = fine && H5Literate(file, H5_INDEX_NAME, H5_ITER_INC, &at, take_section, contents) >= 0;
    H5Fclose(file);
    return fine;
}

static myr_status map_file(myr_sections *sections)
{
    struct stat facts;
    int file = open(sections->path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &facts) != 0) {
        int reason = errno;
        if (file >= 0)
            close(file);
        return myr_fail(reason == ENOENT ? MYR_ERR_NOT_FOUND : MYR_ERR_IO, "%s: %s", sections->path, strerror(reason));
    }
    sections->n_bytes = (size_t)facts.st_size;
    void *bytes = sections->n_bytes > 0 ? mmap(NULL, sections->n_bytes, PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
    int reason = errno;
    close(file);
    if (sections->n_bytes == 0)
        return damaged(sections, "the file", "it is empty");
    if (bytes == MAP_FAILED)
        return myr_fail(MYR_ERR_IO, "%s: cannot be mapped: %s", sections->path, strerror(reason));
    sections->bytes = bytes;
    return MYR_OK;
}

static myr_status check_places(const myr_sections *sections)
{
    const table *contents = &sections->contents;
    for (size_t i = 0; i < contents->n_entries; i++) {
        const entry *section = &contents->entries[i];
        if (section->n_bytes > 0 && (section->offset % ALIGNMENT != 0 || section->offset > sections->n_bytes ||
                                     section->n_bytes > sections->n_bytes - section->offset))
            return damaged(sections, section->name, "it reaches beyond the end of the file");
    }
    return MYR_OK;
}

/* Of the mapped file, against the one that it should have. */
static myr_status check_whole(myr_sections *sections, const uint64_t *checksum)
{
    if (!checksum)
        return MYR_OK;
    sections->is_known = myr_checksum64(sections->bytes, sections->n_bytes) == *checksum;
    return sections->is_known ? MYR_OK
                              : myr_fail(MYR_ERR_FORMAT,
                                         "%s: not the bytes that index.json names: damaged, or of another build; build "
                                         "the index again",
                                         sections->path);
}

myr_status myr_sections_open(const char *path, const uint64_t *whole, myr_sections **out)
{
    *out = NULL;
    myr_sections *sections = myr_alloc(1, sizeof *sections);
    if (!sections || !(sections->path = myr_strdup(path))) {
        free(sections);
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory to open it", path);
    }
    uint64_t checksum = 0;
    int64_t schema = 0;
    bool no_memory = false;
    myr_status status = map_file(sections);
    if (status == MYR_OK)
        status = check_whole(sections, whole);
    if (status == MYR_OK) {
        store_lock();
        bool fine = read_table(path, &sections->contents, &checksum, &schema);
        store_unlock();
        sort_table(&sections->contents);
        if (!fine)
            status = damaged(sections, "the file", "it is no whole HDF5 file of Myriops");
        else if (schema != SCHEMA)
            status = myr_fail(MYR_ERR_UNSUPPORTED, "%s: schema version %lld; this Myriops reads version %d", path,
                              (long long)schema, SCHEMA);
        else if (table_checksum(&sections->contents, &no_memory) != checksum)
            status = no_memory ? myr_fail(MYR_ERR_NOMEM, "%s: no memory to open it", path)
                               : damaged(sections, "the table of sections", "its checksum is wrong");
        else
            status = check_places(sections);
    }
    if (status != MYR_OK) {
        myr_sections_close(sections);
        return status;
    }
    *out = sections;
    return MYR_OK;
}

void myr_sections_close(myr_sections *sections)
{
    if (!sections)
        return;
    if (sections->bytes)
        munmap((void *)(uintptr_t)sections->bytes, sections->n_bytes);
    clear_table(&sections->contents);
    free(sections->path);
    free(sections);
}

myr_status myr_sections_get(const myr_sections *sections, const char *name, myr_section_type type, int rank,
                            size_t *dims, const void **data)
{
    const table *contents = &sections->contents;
    size_t i = 0;
    while (i < contents->n_entries && strcmp(contents->entries[i].name, name) != 0)
        i++;
    if (i == contents->n_entries)
        return damaged(sections, name, "the section is missing");
    const entry *section = &contents->entries[i];
    if (section->type != type || section->rank != rank)
        return damaged(sections, name, "the section has another type or shape than expected");
    const unsigned char *bytes = sections->bytes + section->offset;
    if (!sections->is_known && myr_checksum64(bytes, section->n_bytes) != section->checksum)
        return damaged(sections, name, "its checksum is wrong");
    memcpy(dims, section->dims, (size_t)rank * sizeof *dims);
    *data = bytes;
    return MYR_OK;
}

static const fact *find_fact(const myr_sections *sections, const char *name)
{
    for (size_t i = 0; i < sections->contents.n_facts; i++)
        if (strcmp(sections->contents.facts[i].name, name) == 0)
            return &sections->contents.facts[i];
    return NULL;
}

myr_status myr_sections_get_text(const myr_sections *sections, const char *name, const char **value)
{
    const fact *kept = find_fact(sections, name);
    if (!kept || !kept->text)
        return damaged(sections, name, "the text is missing");
    *value = kept->text;
    return MYR_OK;
}

myr_status myr_sections_get_i64(const myr_sections *sections, const char *name, int64_t *value)
{
    const fact *kept = find_fact(sections, name);
    if (!kept || kept->text)
        return damaged(sections, name, "the number is missing");
    *value = kept->number;
    return MYR_OK;
}

myr_status myr_file_checksum(const char *path, uint64_t *checksum)
{
    myr_sections file = {.path = (char *)(uintptr_t)path};
    myr_status status = map_file(&file);
    if (status != MYR_OK)
        return status;
    *checksum = myr_checksum64(file.bytes, file.n_bytes);
    munmap((void *)(uintptr_t)file.bytes, file.n_bytes);
    return MYR_OK;
}
