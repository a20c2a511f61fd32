/*
 * The router as sections of an HDF5 file, and as a message.
 *
 * File layout: numbers "router_version", "n_shards", "n_clusters"; unless it routes by hash,
 * "centroids" f32 (n_clusters, dim), "part_first" u32 (n_clusters + 1), "part_shard" u32 (n_parts),
 * "part_bound" u64 (n_parts), "part_items" i64 (n_parts), and as the bits of an f32 number "softness".
 * Where shards overlap (version 3), also "copy_first" u32 (n_parts + 1), "copy_shard" u32 (n_copies),
 * "copy_items" i64 (n_copies), "copy_bound" u64 (n_shards), and "spread" like "softness".
 */
#include "dist/router_file.h"

#include "myriops/store.h"

#include <string.h>

#define ROUTER_VERSION 3
#define NOT_OVERLAPPING 2 /* the version of routers without copies */

static int64_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float of_bits(int64_t number)
{
    uint32_t bits = (uint32_t)number;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static myr_status write_copies(myr_sections_writer *writer, const myr_router_view *view)
{
    size_t n_first = (size_t)view->n_parts + 1, n_copies = view->n_copies, n_shards = view->n_shards;
    myr_status status = myr_sections_add(writer, "copy_first", MYR_SECTION_U32, 1, &n_first, view->copy_first);
    if (status == MYR_OK)
        status = myr_sections_add(writer, "copy_shard", MYR_SECTION_U32, 1, &n_copies, view->copy_shard);
    if (status == MYR_OK)
        status = myr_sections_add(writer, "copy_items", MYR_SECTION_I64, 1, &n_copies, view->copy_items);
    if (status == MYR_OK)
        status = myr_sections_add(writer, "copy_bound", MYR_SECTION_U64, 1, &n_shards, view->copy_bound);
    return status == MYR_OK ? myr_sections_set_i64(writer, "spread", bits_of(view->spread)) : status;
}

myr_status myr_router_write(const char *path, const myr_router *router)
{
    myr_router_view view;
    myr_sections_writer *writer;
    myr_router_export(router, &view);
    size_t centroids[2] = {view.n_clusters, view.dim}, n_first = (size_t)view.n_clusters + 1, n_parts = view.n_parts;
    myr_status status = myr_sections_create(path, &writer);
    if (status != MYR_OK)
        return status;
    status = myr_sections_set_i64(writer, "router_version", view.copy_bound ? ROUTER_VERSION : NOT_OVERLAPPING);
    if (status == MYR_OK)
        status = myr_sections_set_i64(writer, "n_shards", view.n_shards);
    if (status == MYR_OK)
        status = myr_sections_set_i64(writer, "n_clusters", view.n_clusters);
    if (status == MYR_OK && view.n_clusters > 0) {
        status = myr_sections_add(writer, "centroids", MYR_SECTION_F32, 2, centroids, view.centroids);
        if (status == MYR_OK)
            status = myr_sections_add(writer, "part_first", MYR_SECTION_U32, 1, &n_first, view.part_first);
        if (status == MYR_OK)
            status = myr_sections_add(writer, "part_shard", MYR_SECTION_U32, 1, &n_parts, view.part_shard);
        if (status == MYR_OK)
            status = myr_sections_add(writer, "part_bound", MYR_SECTION_U64, 1, &n_parts, view.part_bound);
        if (status == MYR_OK)
            status = myr_sections_add(writer, "part_items", MYR_SECTION_I64, 1, &n_parts, view.part_items);
        if (status == MYR_OK)
            status = myr_sections_set_i64(writer, "softness", bits_of(view.softness));
        if (status == MYR_OK && view.copy_bound)
            status = write_copies(writer, &view);
    }
    if (status != MYR_OK) {
        myr_sections_abandon(writer);
        return status;
    }
    return myr_sections_commit(writer);
}

static myr_status read_copies(const char *path, const myr_sections *file, myr_router_view *view)
{
    size_t n_first, n_copies, n_items, n_bounds;
    int64_t spread = 0;
    myr_status status =
        myr_sections_get(file, "copy_first", MYR_SECTION_U32, 1, &n_first, (const void **)&view->copy_first);
    if (status == MYR_OK)
        status = myr_sections_get(file, "copy_shard", MYR_SECTION_U32, 1, &n_copies, (const void **)&view->copy_shard);
    if (status == MYR_OK)
        status = myr_sections_get(file, "copy_items", MYR_SECTION_I64, 1, &n_items, (const void **)&view->copy_items);
    if (status == MYR_OK)
        status = myr_sections_get(file, "copy_bound", MYR_SECTION_U64, 1, &n_bounds, (const void **)&view->copy_bound);
    if (status == MYR_OK)
        status = myr_sections_get_i64(file, "spread", &spread);
    if (status != MYR_OK)
        return status;
    if (n_first != (size_t)view->n_parts + 1 || n_copies > UINT32_MAX || n_items != n_copies ||
        n_bounds != view->n_shards)
        return myr_fail(MYR_ERR_FORMAT, "%s: the router's copies do not fit together; build the index again", path);
    view->n_copies = (uint32_t)n_copies;
    view->spread = of_bits(spread);
    return MYR_OK;
}

static myr_status read_arrays(const char *path, const myr_sections *file, myr_router_view *view)
{
    size_t centroids[2], n_first, n_parts, n_bounds, n_items;
    int64_t softness = 0;
    myr_status status =
        myr_sections_get(file, "centroids", MYR_SECTION_F32, 2, centroids, (const void **)&view->centroids);
    if (status == MYR_OK)
        status = myr_sections_get(file, "part_first", MYR_SECTION_U32, 1, &n_first, (const void **)&view->part_first);
    if (status == MYR_OK)
        status = myr_sections_get(file, "part_shard", MYR_SECTION_U32, 1, &n_parts, (const void **)&view->part_shard);
    if (status == MYR_OK)
        status = myr_sections_get(file, "part_bound", MYR_SECTION_U64, 1, &n_bounds, (const void **)&view->part_bound);
    if (status == MYR_OK)
        status = myr_sections_get(file, "part_items", MYR_SECTION_I64, 1, &n_items, (const void **)&view->part_items);
    if (status == MYR_OK)
        status = myr_sections_get_i64(file, "softness", &softness);
    if (status != MYR_OK)
        return status;
    view->softness = of_bits(softness);
    if (centroids[0] != view->n_clusters || centroids[1] > MYR_ROUTER_MAX_DIM || n_first != centroids[0] + 1 ||
        n_parts > UINT32_MAX || n_bounds != n_parts || n_items != n_parts)
        return myr_fail(MYR_ERR_FORMAT, "%s: the arrays of the router do not fit together; build the index again",
                        path);
    view->dim = (uint32_t)centroids[1];
    view->n_parts = (uint32_t)n_parts;
    return MYR_OK;
}

static myr_status read_router(const char *path, const myr_sections *file, myr_router **router)
{
    myr_router_view view = {0};
    int64_t version = 0, n_shards = 0, n_clusters = 0;
    myr_status status = myr_sections_get_i64(file, "router_version", &version);
    if (status == MYR_OK && version != ROUTER_VERSION && version != NOT_OVERLAPPING)
        status = myr_fail(MYR_ERR_UNSUPPORTED,
                          "%s: router version %lld; this Myriops reads version %d: build the index again", path,
                          (long long)version, ROUTER_VERSION);
    if (status == MYR_OK)
        status = myr_sections_get_i64(file, "n_shards", &n_shards);
    if (status == MYR_OK)
        status = myr_sections_get_i64(file, "n_clusters", &n_clusters);
    if (status != MYR_OK)
        return status;
    if (n_shards < 1 || n_shards > MYR_ROUTER_MAX_SHARDS || n_clusters < 0 || n_clusters > MYR_ROUTER_MAX_CLUSTERS)
        return myr_fail(MYR_ERR_FORMAT, "%s: the router's sizes make no sense; build the index again", path);
    view.n_shards = (uint32_t)n_shards;
    view.n_clusters = (uint32_t)n_clusters;
    if (n_clusters > 0)
        status = read_arrays(path, file, &view);
    if (status == MYR_OK && n_clusters > 0 && version == ROUTER_VERSION)
        status = read_copies(path, file, &view);
    return status == MYR_OK ? myr_router_import(&view, router) : status;
}

myr_status myr_router_read(const char *path, uint64_t checksum, myr_router **router)
{
    myr_sections *file = NULL;
    *router = NULL;
    myr_status status = myr_sections_open(path, &checksum, &file);
    if (status == MYR_OK)
        status = read_router(path, file, router);
    myr_sections_close(file);
    return status;
}

/* The arrays of a trained router in one message: sizes, then centroids, then the parts where it is packed. It has no
 * copies yet. */
static void put_router(const myr_router *router, myr_buffer *message)
{
    myr_router_view view;
    myr_router_export(router, &view);
    uint32_t sizes[6] = {view.n_shards, view.n_clusters, view.dim, view.n_parts};
    memcpy(&sizes[4], &view.softness, sizeof view.softness);
    memcpy(&sizes[5], &view.spread, sizeof view.spread);
    myr_buffer_append(message, sizes, sizeof sizes);
    if (view.n_clusters == 0)
        return;
    /* Wider elements first: every array stays aligned. */
    if (view.n_parts > 0)
        myr_buffer_append(message, view.part_bound, view.n_parts * sizeof *view.part_bound);
    if (view.n_parts > 0)
        myr_buffer_append(message, view.part_items, view.n_parts * sizeof *view.part_items);
    myr_buffer_append(message, view.centroids, (size_t)view.n_clusters * view.dim * sizeof *view.centroids);
    if (view.n_parts > 0) {
        myr_buffer_append(message, view.part_first, ((size_t)view.n_clusters + 1) * sizeof *view.part_first);
        myr_buffer_append(message, view.part_shard, view.n_parts * sizeof *view.part_shard);
    }
}

static myr_status take_router(const myr_buffer *message, myr_router **router)
{
    myr_cursor cursor = {.data = message->data, .size = message->size};
    uint32_t sizes[6] = {0};
    const void *head = myr_cursor_bytes(&cursor, sizeof sizes);
    if (head)
        memcpy(sizes, head, sizeof sizes);
    myr_router_view view = {.n_shards = sizes[0], .n_clusters = sizes[1], .dim = sizes[2], .n_parts = sizes[3]};
    memcpy(&view.softness, &sizes[4], sizeof view.softness);
    memcpy(&view.spread, &sizes[5], sizeof view.spread);
    if (view.n_clusters == 0)
        return myr_router_create_hash(view.n_shards, router);
    if (view.n_parts > 0)
        view.part_bound = myr_cursor_bytes(&cursor, view.n_parts * sizeof *view.part_bound);
    if (view.n_parts > 0)
        view.part_items = myr_cursor_bytes(&cursor, view.n_parts * sizeof *view.part_items);
    view.centroids = myr_cursor_bytes(&cursor, (size_t)view.n_clusters * view.dim * sizeof *view.centroids);
    if (view.n_parts > 0) {
        view.part_first = myr_cursor_bytes(&cursor, ((size_t)view.n_clusters + 1) * sizeof *view.part_first);
        view.part_shard = myr_cursor_bytes(&cursor, view.n_parts * sizeof *view.part_shard);
    }
    if (cursor.failed)
        return myr_fail(MYR_ERR_INTERNAL, "a damaged router came in from rank 0");
    return myr_router_import(&view, router);
}

myr_status myr_router_share(const myr_comm *comm, myr_router **router)
{
    myr_buffer message = {0};
    myr_status status = MYR_OK;
    if (comm->rank == 0) {
        put_router(*router, &message);
        status = message.failed ? myr_fail(MYR_ERR_NOMEM, "no memory to share the router") : MYR_OK;
    }
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK)
        status = myr_comm_share(comm, &message);
    if (status == MYR_OK)
        status = myr_comm_agree(comm, comm->rank == 0 ? MYR_OK : take_router(&message, router));
    myr_buffer_free(&message);
    return status;
}
