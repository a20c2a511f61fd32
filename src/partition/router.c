/*
 * The router as an object: life, lookups, and its arrays in and out of files.
 *
 * An id is turned into a fraction of [0, 1) with 64 bits, id * 2^64 / golden ratio: running
 * ids cover any interval evenly to a few items (three-distance theorem), so a cut
 * cluster and a hash router keep their quotas without any count being exchanged.
 */
#include "partition/router.h"

#include "base/alloc.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t fraction_of(int64_t id)
{
    return (uint64_t)id * UINT64_C(0x9E3779B97F4A7C15); /* Knuth, TAOCP 3, 6.4: 2^64 / golden ratio, odd */
}

size_t myr_router_n_clusters(size_t n_sample, size_t n_shards)
{
    size_t wanted;
    size_t most = n_sample / 40;

    if (n_shards <= 1)
        return 1;
    wanted = n_shards > MYR_ROUTER_MAX_CLUSTERS / 100 ? MYR_ROUTER_MAX_CLUSTERS : n_shards * 100;
    if (wanted > most)
        wanted = most;
    return wanted < n_shards ? n_shards : wanted;
}

myr_status myr_router_create_hash(size_t n_shards, myr_router **router)
{
    if (router == NULL || n_shards == 0 || n_shards > MYR_ROUTER_MAX_SHARDS)
        return myr_fail(MYR_ERR_ARG, "partition: %zu shards: 1 to %u are possible", n_shards,
                        MYR_ROUTER_MAX_SHARDS);
    *router = myr_alloc(1, sizeof(**router));
    if (*router == NULL)
        return myr_fail(MYR_ERR_NOMEM, "partition: no memory for a router");
    (*router)->n_shards = n_shards;
    return MYR_OK;
}

void myr_router_free(myr_router *router)
{
    if (router == NULL)
        return;
    free(router->centroids);
    free(router->norms);
    free(router->part_first);
    free(router->part_shard);
    free(router->part_bound);
    free(router->part_items);
    myr_partition_clear_copies(router);
    free(router);
}

uint32_t myr_router_part_of(const myr_router *router, uint32_t cluster, int64_t id)
{
    uint32_t part = router->part_first[cluster], last = router->part_first[cluster + 1] - 1;
    uint64_t fraction = part < last ? fraction_of(id) : 0;

    while (part < last && fraction > router->part_bound[part])
        part++;
    return part;
}

uint32_t myr_router_shard_of(const myr_router *router, uint32_t cluster, int64_t id)
{
    if (router_is_hash(router))
        return (uint32_t)(((fraction_of(id) >> 32) * router->n_shards) >> 32);
    return router->part_shard[myr_router_part_of(router, cluster, id)];
}

size_t myr_router_n_shards(const myr_router *router)
{
    return router->n_shards;
}

size_t myr_router_dim(const myr_router *router)
{
    return router->dim;
}

void myr_router_export(const myr_router *router, myr_router_view *view)
{
    *view = (myr_router_view){
        .n_shards = (uint32_t)router->n_shards,
        .n_clusters = (uint32_t)router->n_clusters,
        .dim = (uint32_t)router->dim,
        .n_parts = (uint32_t)router->n_parts,
        .centroids = router->centroids,
        .part_first = router->part_first,
        .part_shard = router->part_shard,
        .part_bound = router->part_bound,
        .part_items = router->part_items,
        .softness = router->softness,
        .spread = router->spread,
        .n_copies = (uint32_t)router->n_copies,
        .copy_first = router->copy_first,
        .copy_shard = router->copy_shard,
        .copy_items = router->copy_items,
        .copy_bound = router->copy_bound,
    };
}

static myr_status check_sizes(const myr_router_view *view)
{
    if (view->n_shards > MYR_ROUTER_MAX_SHARDS || view->n_clusters > MYR_ROUTER_MAX_CLUSTERS ||
        view->dim > MYR_ROUTER_MAX_DIM || view->n_parts > INT_MAX)
        return myr_fail(MYR_ERR_FORMAT,
                        "router: corrupted: %u shards, %u clusters, dim %u, %u parts are too many",
                        view->n_shards, view->n_clusters, view->dim, view->n_parts);
    if (view->n_clusters == 0) {
        if (view->n_shards == 0 || view->dim != 0 || view->n_parts != 0)
            return myr_fail(MYR_ERR_FORMAT, "router: corrupted: neither a hash router nor a trained one");
        return MYR_OK;
    }
    if (!(view->softness >= 0) || isinf(view->softness))
        return myr_fail(MYR_ERR_FORMAT, "router: corrupted: a softness of %g", (double)view->softness);
    if (!(view->spread >= 0) || isinf(view->spread))
        return myr_fail(MYR_ERR_FORMAT, "router: corrupted: a spread of %g", (double)view->spread);
    if (view->dim == 0 || view->centroids == NULL)
        return myr_fail(MYR_ERR_FORMAT, "router: corrupted: the centroids are missing");
    if ((view->n_shards == 0) != (view->n_parts == 0) ||
        (view->n_shards > 0 && view->n_parts < view->n_clusters))
        return myr_fail(MYR_ERR_FORMAT, "router: corrupted: %u parts for %u clusters", view->n_parts,
                        view->n_clusters);
    if (view->n_shards > 0 &&
        (view->part_first == NULL || view->part_shard == NULL || view->part_bound == NULL ||
         view->part_items == NULL))
        return myr_fail(MYR_ERR_FORMAT, "router: corrupted: the map of clusters to shards is missing");
    return MYR_OK;
}

static myr_status check_parts(const myr_router_view *view)
{
    if (view->part_first[0] != 0 || view->part_first[view->n_clusters] != view->n_parts)
        return myr_fail(MYR_ERR_FORMAT, "router: corrupted: the parts do not cover 0 to %u", view->n_parts);
    for (uint32_t c = 0; c < view->n_clusters; c++) {
        uint32_t first = view->part_first[c], last = view->part_first[c + 1];

        if (first >= last || last > view->n_parts)
            return myr_fail(MYR_ERR_FORMAT, "router: corrupted: cluster %u has parts %u to %u of %u", c,
                            first, last, view->n_parts);
        if (view->part_bound[last - 1] != UINT64_MAX)
            return myr_fail(MYR_ERR_FORMAT, "router: corrupted: the parts of cluster %u do not add up", c);
        for (uint32_t p = first; p < last; p++) {
            if (view->part_shard[p] >= view->n_shards)
                return myr_fail(MYR_ERR_FORMAT, "router: corrupted: cluster %u is sent to shard %u of %u", c,
                                view->part_shard[p], view->n_shards);
            if (view->part_items[p] < 0)
                return myr_fail(MYR_ERR_FORMAT, "router: corrupted: cluster %u has %lld items", c,
                                (long long)view->part_items[p]);
            if (p > first && view->part_bound[p] <= view->part_bound[p - 1])
                return myr_fail(MYR_ERR_FORMAT, "router: corrupted: the parts of cluster %u do not rise", c);
        }
    }
    return MYR_OK;
}

/* memcpy that allows NULL for no bytes. */
static void copy(void *to, const void *from, size_t n_bytes)
{
    if (n_bytes > 0)
        memcpy(to, from, n_bytes);
}

static myr_status copy_view(const myr_router_view *view, myr_router *made)
{
    size_t n_values;
    size_t n_first = view->n_parts > 0 ? (size_t)view->n_clusters + 1 : 0;

    made->n_shards = view->n_shards;
    made->n_clusters = view->n_clusters;
    made->dim = view->dim;
    made->n_parts = view->n_parts;
    if (!myr_mul(view->n_clusters, view->dim, &n_values))
        return myr_fail(MYR_ERR_FORMAT, "router: corrupted: %u centroids of dim %u", view->n_clusters,
                        view->dim);
    made->centroids = myr_alloc(n_values, sizeof(float));
    made->norms = myr_alloc(view->n_clusters, sizeof(float));
    made->part_first = myr_alloc(n_first, sizeof(uint32_t));
    made->part_shard = myr_alloc(view->n_parts, sizeof(uint32_t));
    made->part_bound = myr_alloc(view->n_parts, sizeof(uint64_t));
    made->part_items = myr_alloc(view->n_parts, sizeof(int64_t));
    made->softness = view->softness;
    made->spread = view->spread;
    if (made->centroids == NULL || made->norms == NULL || made->part_first == NULL ||
        made->part_shard == NULL || made->part_bound == NULL || made->part_items == NULL)
        return myr_fail(MYR_ERR_NOMEM, "router: no memory for %u centroids of dim %u", view->n_clusters,
                        view->dim);
    copy(made->centroids, view->centroids, n_values * sizeof(float));
    copy(made->part_first, view->part_first, n_first * sizeof(uint32_t));
    copy(made->part_shard, view->part_shard, view->n_parts * sizeof(uint32_t));
    copy(made->part_bound, view->part_bound, view->n_parts * sizeof(uint64_t));
    copy(made->part_items, view->part_items, view->n_parts * sizeof(int64_t));
    for (size_t c = 0; c < made->n_clusters; c++) {
        made->norms[c] = myr_partition_norm(made->centroids + c * made->dim, made->dim);
        if (!(made->norms[c] <= FLT_MAX / 8))
            return myr_fail(MYR_ERR_FORMAT, "router: corrupted: centroid %zu is not finite", c);
    }
    return MYR_OK;
}

myr_status myr_router_import(const myr_router_view *view, myr_router **router)
{
    myr_router *made = NULL;
    myr_status status;

    if (view == NULL || router == NULL)
        return myr_fail(MYR_ERR_ARG, "router: import: nothing to read from or to write to");
    status = check_sizes(view);
    if (status == MYR_OK && view->n_parts > 0)
        status = check_parts(view);
    if (status != MYR_OK)
        return status;
    made = myr_alloc(1, sizeof(*made));
    if (made == NULL)
        return myr_fail(MYR_ERR_NOMEM, "router: no memory for a router");
    status = copy_view(view, made);
    if (status == MYR_OK && view->copy_bound != NULL)
        status = myr_router_overlap(made, view->copy_bound, view->n_copies, view->copy_first, view->copy_shard,
                                    view->copy_items);
    if (status != MYR_OK) {
        myr_router_free(made);
        return status;
    }
    *router = made;
    return MYR_OK;
}
