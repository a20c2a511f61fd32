/*
 * Packing K clusters into S shards: near clusters together, no shard above 1.05 of its share.
 *
 * 1. Shard centres: k-means over the centroids, each weighing as much as its items.
 * 2. Clusters are placed, first those that lose most by not getting their nearest centre (the
 *    "regret" of capacity-constrained assignment, Martello and Toth 1990, 7.4), each in
 *    the nearest shard that has room for all of it.
 * 3. A cluster that fits nowhere is cut: its items fill the nearest shards up to an even
 *    share, not to the limit. Room up to the even share always suffices, and
 *    what is left below the limit absorbs the chance in spreading ids by their fraction.
 * 4. Clusters that share neighbours with another shard more than with their own go there (refine.c).
 */
#include "partition/pack.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PASSES = 10 };

/* Weight of a cluster among the centres: empty ones count a little, so that they have a home too. */
static double weight_of(const packing *job, size_t c)
{
    return (double)job->counts[c] + 1e-3;
}

/* First centres: the heaviest cluster, then whichever has the most weight * distance to the nearest chosen
 * (k-means++, greedy). */
static void seed_centres(packing *job)
{
    size_t n_clusters = job->router->n_clusters, dim = job->router->dim;
    size_t pick = 0;

    for (size_t c = 0; c < n_clusters; c++) {
        job->regret[c] = INFINITY;
        if (job->counts[c] > job->counts[pick])
            pick = c;
    }
    for (size_t s = 0; s < job->n_shards; s++) {
        double most = -1.0;
        const float *centre = packing_centroid(job, pick);

        memcpy(job->centres + s * dim, centre, dim * sizeof(float));
        for (size_t c = 0; c < n_clusters; c++) {
            float away = myr_partition_distance(packing_centroid(job, c), centre, dim);

            job->regret[c] = away < job->regret[c] ? away : job->regret[c];
            if (weight_of(job, c) * job->regret[c] > most) {
                most = weight_of(job, c) * job->regret[c];
                pick = c;
            }
        }
    }
}

static void find_homes(packing *job)
{
    size_t dim = job->router->dim;

    for (size_t c = 0; c < job->router->n_clusters; c++) {
        float nearest = INFINITY, second = INFINITY;

        job->home[c] = 0;
        for (size_t s = 0; s < job->n_shards; s++) {
            float away = myr_partition_distance(packing_centroid(job, c), job->centres + s * dim, dim);

            if (away < nearest) {
                second = nearest;
                nearest = away;
                job->home[c] = (uint32_t)s;
            } else if (away < second) {
                second = away;
            }
        }
        job->regret[c] = isinf(second) ? 0.0f : sqrtf(second) - sqrtf(nearest);
    }
}

static void move_centres(packing *job)
{
    size_t dim = job->router->dim;

    memset(job->sums, 0, job->n_shards * dim * sizeof(*job->sums));
    memset(job->weights, 0, job->n_shards * sizeof(*job->weights));
    for (size_t c = 0; c < job->router->n_clusters; c++) {
        const float *centroid = packing_centroid(job, c);
        double weight = weight_of(job, c);
        double *sums = job->sums + job->home[c] * dim;

        for (size_t d = 0; d < dim; d++)
            sums[d] += weight * centroid[d];
        job->weights[job->home[c]] += weight;
    }
    for (size_t s = 0; s < job->n_shards; s++) {
        for (size_t d = 0; job->weights[s] > 0.0 && d < dim; d++)
            job->centres[s * dim + d] = (float)(job->sums[s * dim + d] / job->weights[s]);
    }
}

/* Clusters above the limit come first, while all shards are empty; then by regret. */
static bool placed_before(const packing *job, uint32_t a, uint32_t b)
{
    bool big_a = job->counts[a] > job->limit, big_b = job->counts[b] > job->limit;

    if (big_a != big_b)
        return big_a;
    if (job->regret[a] != job->regret[b])
        return job->regret[a] > job->regret[b];
    return a < b;
}

static void sift_down(packing *job, size_t at, size_t n)
{
    uint32_t *order = job->order;

    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        uint32_t held = order[at];

        if (child + 1 < n && placed_before(job, order[child], order[child + 1]))
            child++;
        if (!placed_before(job, held, order[child]))
            return;
        order[at] = order[child];
        order[child] = held;
    }
}

/* Heapsort, since qsort cannot see the job. */
static void sort_order(packing *job)
{
    size_t n = job->router->n_clusters;

    for (size_t c = 0; c < n; c++)
        job->order[c] = (uint32_t)c;
    for (size_t i = n / 2; i > 0; i--)
        sift_down(job, i - 1, n);
    for (size_t last = n; last > 1; last--) {
        uint32_t held = job->order[0];

        job->order[0] = job->order[last - 1];
        job->order[last - 1] = held;
        sift_down(job, 0, last - 1);
    }
}

static myr_status add_part(packing *job, uint32_t cluster, uint32_t shard, int64_t n_items)
{
    if (job->n_parts == job->room) {
        if (!myr_resize(&job->parts, job->room, job->room * 2, sizeof(*job->parts)))
            return myr_fail(MYR_ERR_NOMEM, "partition: pack: no memory for %zu parts", job->room * 2);
        job->room *= 2;
    }
    job->parts[job->n_parts++] = (part){cluster, shard, n_items};
    job->load[shard] += n_items;
    return MYR_OK;
}

int64_t myr_packing_room(const packing *job, size_t s)
{
    int64_t slack = job->limit - job->share;
    int64_t chance = (int64_t)ceil(4.0 * sqrt((double)job->cut[s]));

    return job->limit - (chance < slack ? chance : slack) - job->load[s];
}

static myr_status place(packing *job, uint32_t c)
{
    size_t dim = job->router->dim, best = job->n_shards;
    int64_t left = job->counts[c];

    for (size_t s = 0; s < job->n_shards; s++) {
        job->away[s] = myr_partition_distance(packing_centroid(job, c), job->centres + s * dim, dim);
        if (left <= myr_packing_room(job, s) && (best == job->n_shards || job->away[s] < job->away[best]))
            best = s;
    }
    if (left == 0) /* needs no room: its home is where later items belong */
        return add_part(job, c, job->home[c], 0);
    if (best < job->n_shards)
        return add_part(job, c, (uint32_t)best, left);
    while (left > 0) {
        int64_t take;
        myr_status status;

        best = job->n_shards;
        for (size_t s = 0; s < job->n_shards; s++) {
            if (job->load[s] < job->share && (best == job->n_shards || job->away[s] < job->away[best]))
                best = s;
        }
        if (best == job->n_shards)
            return myr_fail(MYR_ERR_INTERNAL, "partition: pack: %lld items of cluster %u found no room",
                            (long long)left, c);
        take = job->share - job->load[best] < left ? job->share - job->load[best] : left;
        status = add_part(job, c, (uint32_t)best, take);
        if (status != MYR_OK)
            return status;
        job->cut[best] += take;
        left -= take;
    }
    return MYR_OK;
}

static int by_cluster(const void *left, const void *right)
{
    const part *a = left, *b = right;

    if (a->cluster != b->cluster)
        return a->cluster < b->cluster ? -1 : 1;
    return a->shard < b->shard ? -1 : a->shard > b->shard;
}

/* Parts into the router's arrays; the bound of a part is the share of items up to its end, in 64 bits. */
static myr_status write_map(packing *job, myr_router *router)
{
    uint32_t *first = myr_alloc(router->n_clusters + 1, sizeof(*first));
    uint32_t *shard = myr_alloc(job->n_parts, sizeof(*shard));
    uint64_t *bound = myr_alloc(job->n_parts, sizeof(*bound));
    int64_t *items = myr_alloc(job->n_parts, sizeof(*items));
    int64_t before = 0;

    if (first == NULL || shard == NULL || bound == NULL || items == NULL) {
        free(first);
        free(shard);
        free(bound);
        free(items);
        return myr_fail(MYR_ERR_NOMEM, "partition: pack: no memory for %zu parts", job->n_parts);
    }
    qsort(job->parts, job->n_parts, sizeof(*job->parts), by_cluster);
    for (size_t p = 0; p < job->n_parts; p++) {
        const part *one = &job->parts[p];
        bool last = p + 1 == job->n_parts || job->parts[p + 1].cluster != one->cluster;

        before += one->n_items;
        shard[p] = one->shard;
        items[p] = one->n_items;
        bound[p] =
            last ? UINT64_MAX : (uint64_t)ldexp((double)before / (double)job->counts[one->cluster], 64);
        if (last) {
            before = 0;
            first[one->cluster + 1] = (uint32_t)(p + 1);
        }
    }
    free(router->part_first);
    free(router->part_shard);
    free(router->part_bound);
    free(router->part_items);
    myr_partition_clear_copies(router);
    router->part_first = first;
    router->part_shard = shard;
    router->part_bound = bound;
    router->part_items = items;
    router->softness = 0;
    router->n_parts = job->n_parts;
    router->n_shards = job->n_shards;
    return MYR_OK;
}

static myr_status pack(packing *job, myr_router *router)
{
    myr_status status = MYR_OK;

    seed_centres(job);
    for (int i = 0; i < PASSES; i++) {
        find_homes(job);
        move_centres(job);
    }
    find_homes(job);
    sort_order(job);
    for (size_t i = 0; i < router->n_clusters && status == MYR_OK; i++)
        status = place(job, job->order[i]);
    if (status == MYR_OK)
        status = myr_packing_refine(job);
    return status == MYR_OK ? write_map(job, router) : status;
}

/* The sum of the counts, or -1 with the reason left behind. */
static int64_t total_of(const int64_t *counts, size_t n_clusters)
{
    int64_t total = 0;

    for (size_t c = 0; c < n_clusters; c++) {
        if (counts[c] < 0 || counts[c] > (INT64_MAX >> 10) - total) {
            myr_fail(MYR_ERR_ARG, "partition: pack: cluster %zu is said to have %lld items", c,
                     (long long)counts[c]);
            return -1;
        }
        total += counts[c];
    }
    return total;
}

myr_status myr_router_pack(myr_router *router, const int64_t *cluster_counts, size_t n_shards)
{
    packing job = {.router = router, .counts = cluster_counts, .n_shards = n_shards};
    size_t n_values;
    int64_t total;
    myr_status status;

    if (router == NULL || n_shards == 0)
        return myr_fail(MYR_ERR_ARG, "partition: pack: a router and at least one shard are needed");
    if (router_is_hash(router))
        return n_shards == router->n_shards
                   ? MYR_OK
                   : myr_fail(MYR_ERR_ARG, "partition: pack: this hash router has %zu shards, not %zu",
                              router->n_shards, n_shards);
    if (cluster_counts == NULL)
        return myr_fail(MYR_ERR_ARG, "partition: pack: the counts of the clusters are missing");
    if (n_shards > MYR_ROUTER_MAX_SHARDS || !myr_mul(n_shards, router->dim, &n_values))
        return myr_fail(MYR_ERR_LIMIT, "partition: pack: %zu shards: at most %u are possible", n_shards,
                        MYR_ROUTER_MAX_SHARDS);
    total = total_of(cluster_counts, router->n_clusters);
    if (total < 0)
        return MYR_ERR_ARG;
    job.share = total / (int64_t)n_shards + (total % (int64_t)n_shards != 0);
    job.limit = total / (int64_t)n_shards + total / (int64_t)n_shards / 20;
    job.limit = job.limit > job.share ? job.limit : job.share;
    job.room = router->n_clusters + n_shards;
    job.centres = myr_alloc(n_values, sizeof(*job.centres));
    job.weights = myr_alloc(n_shards, sizeof(*job.weights));
    job.sums = myr_alloc(n_values, sizeof(*job.sums));
    job.home = myr_alloc(router->n_clusters, sizeof(*job.home));
    job.regret = myr_alloc(router->n_clusters, sizeof(*job.regret));
    job.order = myr_alloc(router->n_clusters, sizeof(*job.order));
    job.away = myr_alloc(n_shards, sizeof(*job.away));
    job.load = myr_alloc(n_shards, sizeof(*job.load));
    job.cut = myr_alloc(n_shards, sizeof(*job.cut));
    job.parts = myr_alloc(job.room, sizeof(*job.parts));
    if (job.centres == NULL || job.weights == NULL || job.sums == NULL || job.home == NULL ||
        job.regret == NULL || job.order == NULL || job.away == NULL || job.load == NULL || job.cut == NULL ||
        job.parts == NULL)
        status = myr_fail(MYR_ERR_NOMEM, "partition: pack: no memory for %zu shards", n_shards);
    else
        status = pack(&job, router);
    free(job.centres);
    free(job.weights);
    free(job.sums);
    free(job.home);
    free(job.regret);
    free(job.order);
    free(job.away);
    free(job.load);
    free(job.cut);
    free(job.parts);
    return status;
}
