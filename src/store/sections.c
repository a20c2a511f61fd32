/*
 * Reading sections: pointers into the mapped file.
 *
 * Where they lie is told by the table in the file's trailer, or, where nobody knows the trailer's checksum, and in
 * older files, by HDF5. Each place is checked against the file's size. What is in it is checked on opening in small
 * files, by blocks as they are touched in large ones, and section by section where the file's checksum is not known.
 */
#include "base/alloc.h"
#include "base/checksum.h"
#include "base/hdf5_lock.h"
#include "store/blocks.h"
#include "store/hdf5_file.h"
#include "store/hdf5_lock.h"
#include "store/sections_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

size_t myr_sections_eager_bytes = (size_t)16 << 20;

void store_lock(void)
{
    static bool is_open;
    myr_hdf5_lock();
    if (!is_open) {
        /* After a failed write HDF5's own clean-up at exit trips over the half-closed file. We close what we open. */
        H5dont_atexit();
        is_open = true;
    }
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void store_unlock(void)
{
    myr_hdf5_unlock();
}

struct myr_sections {
    char *path;
    const unsigned char *bytes; /* the mapping */
    size_t n_bytes;             /* of the mapping */
    store_blocks blocks;        /* where the file has their checksums */
    bool is_known;              /* all bytes were checked when it was opened */
    bool is_lazy;               /* they are when they are touched */
    section_table contents;
};

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
                H5Tis_variable_str(type) == 0 && n > 0 && n < SECTION_MAX_TEXT;
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
    section_table *contents = context;
    if (strcmp(name, "table_checksum") == 0 || strcmp(name, "schema_version") == 0)
        return 0;
    section_fact *kept = &contents->facts[contents->n_facts];
    if (contents->n_facts == SECTION_MAX_ENTRIES || !store_section_name(name))
        return -1;
    *kept = (section_fact){0};
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
    section_table *contents = context;
    section_entry *section = &contents->entries[contents->n_entries];
    if (info->type != H5L_TYPE_HARD || contents->n_entries == SECTION_MAX_ENTRIES || !store_section_name(name))
        return -1;
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0)
        return -1;
    *section = (section_entry){0};
    strcpy(section->name, name);
    hid_t space = H5Dget_space(set), type = H5Dget_type(set), create = H5Dget_create_plist(set);
    hsize_t dims[MYR_SECTION_MAX_RANK];
    int kind = 0;
    section->rank = H5Sget_simple_extent_ndims(space);
    bool fine = section->rank >= 1 && section->rank <= MYR_SECTION_MAX_RANK &&
                H5Sget_simple_extent_dims(space, dims, NULL) >= 0 && H5Pget_layout(create) == H5D_CONTIGUOUS &&
                H5Pget_external_count(create) == 0;
    while (fine && kind < SECTION_N_TYPES && H5Tequal(type, store_section_type(kind)) <= 0)
        kind++;
    fine = fine && kind < SECTION_N_TYPES;
    for (int i = 0; fine && i < section->rank; i++)
        section->dims[i] = (size_t)dims[i];
    section->type = (myr_section_type)kind;
    fine = fine && store_section_bytes(section->type, section->rank, section->dims, &section->n_bytes) &&
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
static bool read_table(const char *path, section_table *contents, uint64_t *checksum, int64_t *schema)
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
    const section_table *contents = &sections->contents;
    size_t n_bytes;
    myr_sections_bytes(sections, &n_bytes);
    for (size_t i = 0; i < contents->n_entries; i++) {
        const section_entry *section = &contents->entries[i];
        if (section->n_bytes > 0 && (section->offset % SECTION_ALIGNMENT != 0 || section->offset > n_bytes ||
                                     section->n_bytes > n_bytes - section->offset))
            return damaged(sections, section->name, "it reaches beyond the end of the file");
    }
    return MYR_OK;
}

static myr_status is_another(const myr_sections *sections)
{
    return myr_fail(MYR_ERR_FORMAT,
                    "%s: not the bytes that index.json names: damaged, or of another build; build the index again",
                    sections->path);
}

/* The table as HDF5 has it. */
static myr_status ask_hdf5(myr_sections *sections)
{
    uint64_t checksum = 0;
    int64_t schema = 0;
    bool no_memory = false;
    store_lock();
    bool fine = read_table(sections->path, &sections->contents, &checksum, &schema);
    store_unlock();
    store_table_sort(&sections->contents);
    if (!fine)
        return damaged(sections, "the file", "it is no whole HDF5 file of Myriops");
    bool has_blocks = sections->blocks.sums;
    if (schema == SECTION_SCHEMA && !has_blocks)
        return damaged(sections, "the file", "its end is missing");
    if (schema != (has_blocks ? SECTION_SCHEMA : SECTION_WITHOUT_BLOCKS))
        return myr_fail(MYR_ERR_UNSUPPORTED, "%s: schema version %lld; this Myriops reads version %d", sections->path,
                        (long long)schema, SECTION_SCHEMA);
    if (store_table_checksum(&sections->contents, &no_memory) != checksum)
        return no_memory ? myr_fail(MYR_ERR_NOMEM, "%s: no memory to open it", sections->path)
                         : damaged(sections, "the table of sections", "its checksum is wrong");
    return MYR_OK;
}

/* The table as the trailer has it; the blocks of a small file are checked now. */
static myr_status ask_trailer(myr_sections *sections, uint64_t checksum)
{
    const store_blocks *blocks = &sections->blocks;
    if (blocks->root != checksum)
        return is_another(sections);
    if (!store_table_take(blocks->table, blocks->n_table_bytes, &sections->contents))
        return damaged(sections, "the table of sections", "it makes no sense");
    sections->is_lazy = true;
    if (sections->n_bytes > myr_sections_eager_bytes)
        return MYR_OK;
    myr_status status = myr_sections_touch(sections, sections->bytes, blocks->n_bytes);
    sections->is_known = status == MYR_OK;
    return status;
}

static myr_status take_table(myr_sections *sections, const uint64_t *checksum)
{
    bool has_blocks;
    if (store_blocks_open(sections->bytes, sections->n_bytes, &sections->blocks, &has_blocks) != MYR_OK)
        return damaged(sections, "the file", "the checksums at its end are wrong themselves");
    if (checksum && has_blocks)
        return ask_trailer(sections, *checksum);
    if (checksum && myr_checksum64(sections->bytes, sections->n_bytes) != *checksum)
        return is_another(sections);
    sections->is_known = checksum;
    return ask_hdf5(sections);
}

myr_status myr_sections_open(const char *path, const uint64_t *checksum, myr_sections **out)
{
    *out = NULL;
    myr_sections *sections = myr_alloc(1, sizeof *sections);
    if (!sections || !(sections->path = myr_strdup(path))) {
        free(sections);
        return myr_fail(MYR_ERR_NOMEM, "%s: no memory to open it", path);
    }
    myr_status status = map_file(sections);
    if (status == MYR_OK)
        status = take_table(sections, checksum);
    if (status == MYR_OK)
        status = check_places(sections);
    if (status != MYR_OK) {
        myr_sections_close(sections);
        return status;
    }
    *out = sections;
    return MYR_OK;
}

bool myr_sections_is_lazy(const myr_sections *sections)
{
    return sections->is_lazy && !sections->is_known;
}

const void *myr_sections_bytes(const myr_sections *sections, size_t *n_bytes)
{
    *n_bytes = sections->blocks.sums ? sections->blocks.n_bytes : sections->n_bytes;
    return sections->bytes;
}

/* The section that a byte of the file lies in. */
static const char *name_at(const myr_sections *sections, size_t offset)
{
    for (size_t i = 0; i < sections->contents.n_entries; i++) {
        const section_entry *section = &sections->contents.entries[i];
        if (offset >= section->offset && offset - section->offset < section->n_bytes)
            return section->name;
    }
    return "the file";
}

myr_status myr_sections_touch(const myr_sections *sections, const void *data, size_t n_bytes)
{
    size_t bad;
    if (!myr_sections_is_lazy(sections) || n_bytes == 0)
        return MYR_OK;
    size_t offset = (size_t)((const unsigned char *)data - sections->bytes);
    if (store_blocks_check(&sections->blocks, offset, n_bytes, &bad))
        return MYR_OK;
    return myr_fail(MYR_ERR_FORMAT,
                    "%s: %s: bytes %zu to %zu are not those that were written; the file is damaged, "
                    "make it again",
                    sections->path, name_at(sections, offset > bad * STORE_BLOCK ? offset : bad * STORE_BLOCK),
                    bad * STORE_BLOCK, (bad + 1) * STORE_BLOCK - 1);
}

void myr_sections_close(myr_sections *sections)
{
    if (!sections)
        return;
    if (sections->bytes)
        munmap((void *)(uintptr_t)sections->bytes, sections->n_bytes);
    store_blocks_free(&sections->blocks);
    store_table_clear(&sections->contents);
    free(sections->path);
    free(sections);
}

myr_status myr_sections_get(const myr_sections *sections, const char *name, myr_section_type type, int rank,
                            size_t *dims, const void **data)
{
    const section_table *contents = &sections->contents;
    size_t i = 0;
    while (i < contents->n_entries && strcmp(contents->entries[i].name, name) != 0)
        i++;
    if (i == contents->n_entries)
        return damaged(sections, name, "the section is missing");
    const section_entry *section = &contents->entries[i];
    if (section->type != type || section->rank != rank)
        return damaged(sections, name, "the section has another type or shape than expected");
    const unsigned char *bytes = sections->bytes + section->offset;
    if (!sections->is_known && !sections->is_lazy && myr_checksum64(bytes, section->n_bytes) != section->checksum)
        return damaged(sections, name, "its checksum is wrong");
    memcpy(dims, section->dims, (size_t)rank * sizeof *dims);
    *data = bytes;
    return MYR_OK;
}

static const section_fact *find_fact(const myr_sections *sections, const char *name)
{
    for (size_t i = 0; i < sections->contents.n_facts; i++)
        if (strcmp(sections->contents.facts[i].name, name) == 0)
            return &sections->contents.facts[i];
    return NULL;
}

myr_status myr_sections_get_text(const myr_sections *sections, const char *name, const char **value)
{
    const section_fact *kept = find_fact(sections, name);
    if (!kept || !kept->text)
        return damaged(sections, name, "the text is missing");
    *value = kept->text;
    return MYR_OK;
}

myr_status myr_sections_get_i64(const myr_sections *sections, const char *name, int64_t *value)
{
    const section_fact *kept = find_fact(sections, name);
    if (!kept || kept->text)
        return damaged(sections, name, "the number is missing");
    *value = kept->number;
    return MYR_OK;
}

/* Of a file that was just written: of its trailer, where it has one. */
static myr_status checksum_of(myr_sections *file, bool by_blocks, uint64_t *checksum)
{
    bool has_blocks = false;
    myr_status status = map_file(file);
    if (status == MYR_OK && by_blocks &&
        store_blocks_open(file->bytes, file->n_bytes, &file->blocks, &has_blocks) != MYR_OK)
        status = damaged(file, "the file", "the checksums at its end are wrong themselves");
    if (status == MYR_OK)
        *checksum = has_blocks ? file->blocks.root : myr_checksum64(file->bytes, file->n_bytes);
    store_blocks_free(&file->blocks);
    if (file->bytes)
        munmap((void *)(uintptr_t)file->bytes, file->n_bytes);
    return status;
}

myr_status myr_sections_checksum(const char *path, uint64_t *checksum)
{
    myr_sections file = {.path = (char *)(uintptr_t)path};
    return checksum_of(&file, true, checksum);
}

myr_status myr_file_checksum(const char *path, uint64_t *checksum)
{
    myr_sections file = {.path = (char *)(uintptr_t)path};
    return checksum_of(&file, false, checksum);
}
