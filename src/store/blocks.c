/*
 * The trailer: written once, taken on opening, asked before a byte is used.
 */
#include "store/blocks.h"

#include "base/alloc.h"
#include "base/checksum.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NUMBER = 8, FOOTER = 4 * NUMBER, BEHIND_ROOT = 2 * NUMBER, BITS = 64 };

static const char magic[] = "MYRIOPS2";

static uint64_t number_at(const unsigned char *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static uint64_t sum_of(const unsigned char *bytes, size_t n_bytes, size_t block)
{
    size_t first = block * STORE_BLOCK, left = n_bytes - first;
    return myr_checksum64(bytes + first, left < STORE_BLOCK ? left : STORE_BLOCK);
}

static size_t blocks_of(size_t n_bytes)
{
    return n_bytes / STORE_BLOCK + (n_bytes % STORE_BLOCK != 0);
}

/* ---- writing ---- */

static void make_trailer(const unsigned char *bytes, size_t n_bytes, const myr_buffer *table, myr_buffer *trailer)
{
    myr_buffer_append(trailer, table->data, table->size);
    for (size_t i = 0; i < blocks_of(n_bytes); i++)
        myr_buffer_put_i64(trailer, (int64_t)sum_of(bytes, n_bytes, i));
    myr_buffer_put_i64(trailer, (int64_t)n_bytes);
    myr_buffer_put_i64(trailer, (int64_t)table->size);
    myr_buffer_put_i64(trailer, trailer->failed ? 0 : (int64_t)myr_checksum64(trailer->data, trailer->size));
    myr_buffer_append(trailer, magic, NUMBER);
}

static bool write_all(int file, const char *bytes, size_t n_bytes, size_t at)
{
    for (size_t done = 0; done < n_bytes;) {
        ssize_t n = pwrite(file, bytes + done, n_bytes - done, (off_t)(at + done));
        if (n < 0 && errno != EINTR)
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool append_to(int file, const myr_buffer *table)
{
    struct stat facts;
    myr_buffer trailer = {0};
    if (fstat(file, &facts) != 0)
        return false;
    size_t n_bytes = (size_t)facts.st_size;
    void *bytes = mmap(NULL, n_bytes, PROT_READ, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED)
        return false;
    make_trailer(bytes, n_bytes, table, &trailer);
    munmap(bytes, n_bytes);
    bool fine = !trailer.failed && write_all(file, trailer.data, trailer.size, n_bytes);
    if (trailer.failed)
        errno = ENOMEM;
    myr_buffer_free(&trailer);
    return fine;
}

bool store_blocks_append(const char *path, const myr_buffer *table)
{
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return false;
    bool fine = append_to(file, table);
    int reason = errno;
    fine = close(file) == 0 && fine;
    if (!fine && reason != 0)
        errno = reason;
    return fine;
}

/* ---- reading ---- */

/* The numbers of the footer, where they make a whole file. */
static bool take_numbers(const unsigned char *bytes, size_t n_bytes, store_blocks *blocks)
{
    const unsigned char *footer = bytes + n_bytes - FOOTER;
    uint64_t n = number_at(footer), n_table = number_at(footer + NUMBER), room = n_bytes - FOOTER;
    if (n == 0 || n > room || n_table > room - n || room - n - n_table != blocks_of(n) * NUMBER)
        return false;
    *blocks = (store_blocks){.bytes = bytes,
                             .n_bytes = n,
                             .n_blocks = blocks_of(n),
                             .root = number_at(footer + 2 * NUMBER),
                             .table = (const char *)bytes + n,
                             .n_table_bytes = n_table};
    return myr_checksum64(bytes + n, n_bytes - n - BEHIND_ROOT) == blocks->root;
}

myr_status store_blocks_open(const unsigned char *bytes, size_t n_bytes, store_blocks *blocks, bool *found)
{
    *blocks = (store_blocks){0};
    *found = n_bytes > FOOTER && memcmp(bytes + n_bytes - NUMBER, magic, NUMBER) == 0;
    if (!*found)
        return MYR_OK;
    if (!take_numbers(bytes, n_bytes, blocks))
        return myr_fail(MYR_ERR_FORMAT, "the checksums of its blocks are wrong themselves");
    blocks->sums = myr_alloc(blocks->n_blocks, sizeof *blocks->sums);
    blocks->checked = myr_alloc(blocks->n_blocks / BITS + 1, sizeof *blocks->checked);
    if (!blocks->sums || !blocks->checked) {
        store_blocks_free(blocks);
        return myr_fail(MYR_ERR_NOMEM, "no memory for the checksums of %zu blocks", blocks->n_blocks);
    }
    memcpy(blocks->sums, blocks->table + blocks->n_table_bytes, blocks->n_blocks * NUMBER);
    return MYR_OK;
}

void store_blocks_free(store_blocks *blocks)
{
    free(blocks->sums);
    free((void *)(uintptr_t)blocks->checked);
    blocks->sums = NULL;
    blocks->checked = NULL;
}

bool store_blocks_check(const store_blocks *blocks, size_t offset, size_t n_bytes, size_t *bad)
{
    for (size_t i = offset / STORE_BLOCK; i <= (offset + n_bytes - 1) / STORE_BLOCK; i++) {
        _Atomic uint64_t *bits = &blocks->checked[i / BITS];
        uint64_t bit = (uint64_t)1 << i % BITS;
        if (atomic_load_explicit(bits, memory_order_relaxed) & bit)
            continue;
        *bad = i;
        if (sum_of(blocks->bytes, blocks->n_bytes, i) != blocks->sums[i])
            return false;
        atomic_fetch_or_explicit(bits, bit, memory_order_relaxed);
    }
    return true;
}
