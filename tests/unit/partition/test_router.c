/*
 * The router: caps that hold for any data, the same answer for any number of threads,
 * nearest shards against plain exact distances, and files that lie.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/pool.h"
#include "base/rng.h"
#include "myriops/partition.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 19 };

/* n vectors around n_blobs centres; the first `crowd` of them all around one. */
static float *make_blobs(size_t n, size_t n_blobs, double crowd, double spread)
{
    float *vectors = malloc(n * DIM * sizeof(*vectors));
    float *centres = malloc(n_blobs * DIM * sizeof(*centres));
    myr_rng rng;

    assert_true(vectors != NULL && centres != NULL);
    myr_rng_seed(&rng, 7);
    for (size_t i = 0; i < n_blobs * DIM; i++)
        centres[i] = (float)(myr_rng_unit(&rng) * 10.0);
    for (size_t i = 0; i < n; i++) {
        size_t blob = myr_rng_unit(&rng) < crowd ? 0 : (size_t)myr_rng_below(&rng, n_blobs);

        for (size_t d = 0; d < DIM; d++)
            vectors[i * DIM + d] = centres[blob * DIM + d] + (float)(myr_rng_unit(&rng) * spread);
    }
    free(centres);
    return vectors;
}

static int64_t *count_clusters(const uint32_t *cluster, size_t n, size_t n_clusters)
{
    int64_t *counts = calloc(n_clusters, sizeof(*counts));

    assert_non_null(counts);
    for (size_t i = 0; i < n; i++)
        counts[cluster[i]]++;
    return counts;
}

static size_t clusters_of(const myr_router *router)
{
    myr_router_view view;

    myr_router_export(router, &view);
    return view.n_clusters;
}

/* Items of the fullest shard. running: ids number the items of each cluster; else the whole set. */
static int64_t fullest(const myr_router *router, const uint32_t *cluster, size_t n, bool running)
{
    int64_t *load = calloc(myr_router_n_shards(router), sizeof(*load));
    int64_t *next = calloc(clusters_of(router) + 1, sizeof(*next));
    int64_t most = 0;

    assert_true(load != NULL && next != NULL);
    for (size_t i = 0; i < n; i++) {
        uint32_t shard = myr_router_shard_of(router, cluster[i], running ? next[cluster[i]]++ : (int64_t)i);

        assert_true(shard < myr_router_n_shards(router));
        load[shard]++;
        most = load[shard] > most ? load[shard] : most;
    }
    free(load);
    free(next);
    return most;
}

static void check_cap(const float *vectors, size_t n, size_t n_clusters, size_t n_shards)
{
    myr_router *router = NULL;
    uint32_t *cluster = malloc(n * sizeof(*cluster));
    int64_t *counts;
    /* Of a handful of items the fraction of an id can misplace two. */
    int64_t cap = (int64_t)ceil(1.05 * (double)n / (double)n_shards) + (n < 100 ? 2 : 0);

    assert_int_equal(myr_router_train(vectors, n, DIM, n_clusters, 1, NULL, &router), MYR_OK);
    assert_int_equal(myr_router_assign(router, vectors, n, NULL, cluster, NULL), MYR_OK);
    counts = count_clusters(cluster, n, clusters_of(router));
    assert_int_equal(myr_router_pack(router, counts, n_shards), MYR_OK);
    assert_true(fullest(router, cluster, n, false) <= cap);
    assert_true(fullest(router, cluster, n, true) <= cap);
    free(counts);
    free(cluster);
    myr_router_free(router);
}

static void test_cap_blobs(void **state)
{
    float *vectors = make_blobs(20000, 30, 0.0, 1.0);

    (void)state;
    check_cap(vectors, 20000, 100, 1);
    check_cap(vectors, 20000, 100, 4);
    check_cap(vectors, 20000, 100, 7);
    check_cap(vectors, 20000, 3, 8); /* fewer clusters than shards */
    free(vectors);
}

static void test_cap_crowd(void **state)
{
    float *vectors = make_blobs(40000, 30, 0.6, 0.0); /* 60 % of all points in one place */

    (void)state;
    check_cap(vectors, 40000, 100, 4);
    check_cap(vectors, 40000, 100, 8);
    free(vectors);
}

static void test_cap_equal(void **state)
{
    float *vectors = make_blobs(10000, 1, 1.0, 0.0);

    (void)state;
    check_cap(vectors, 10000, 50, 8);
    check_cap(vectors, 11, 50, 4); /* fewer vectors than clusters */
    check_cap(vectors, 3, 50, 8);  /* fewer vectors than shards */
    free(vectors);
}

static void test_hash_is_even(void **state)
{
    myr_router *router = NULL;
    uint32_t *cluster = malloc(10000 * sizeof(*cluster));
    uint32_t shards[7];
    size_t n_found = 0;

    (void)state;
    assert_int_equal(myr_router_create_hash(7, &router), MYR_OK);
    assert_int_equal(myr_router_assign(router, NULL, 10000, NULL, cluster, NULL), MYR_OK);
    assert_true(fullest(router, cluster, 10000, false) <= 1440); /* an even share is 1429 */
    assert_int_equal(myr_router_route(router, NULL, 1, 2, -1, NULL, shards, NULL, &n_found), MYR_OK);
    assert_int_equal(n_found, 7);
    assert_int_equal(shards[6], 6);
    free(cluster);
    myr_router_free(router);
    assert_int_equal(myr_router_create_hash(0, &router), MYR_ERR_ARG);
}

static void test_threads_agree(void **state)
{
    size_t n = 5003;
    float *vectors = make_blobs(n, 30, 0.0, 3.0);
    float *first_centroids = NULL;
    uint32_t *first = malloc(n * sizeof(*first)), *again = malloc(n * sizeof(*again));

    (void)state;
    for (int n_threads = 1; n_threads <= 5; n_threads += 2) {
        myr_pool *pool = NULL;
        myr_router *router = NULL;
        myr_router_view view;
        size_t bytes;

        assert_int_equal(myr_pool_create(n_threads, &pool), MYR_OK);
        assert_int_equal(myr_router_train(vectors, n, DIM, 60, 3, pool, &router), MYR_OK);
        assert_int_equal(myr_router_assign(router, vectors, n, pool, n_threads == 1 ? first : again, NULL), MYR_OK);
        myr_router_export(router, &view);
        bytes = (size_t)view.n_clusters * view.dim * sizeof(float);
        if (n_threads == 1) {
            first_centroids = malloc(bytes);
            assert_non_null(first_centroids);
            memcpy(first_centroids, view.centroids, bytes);
        } else {
            assert_memory_equal(view.centroids, first_centroids, bytes);
            assert_memory_equal(first, again, n * sizeof(*first));
        }
        myr_router_free(router);
        myr_pool_free(pool);
    }
    free(first_centroids);
    free(first);
    free(again);
    free(vectors);
}

static double exact(const float *a, const float *b)
{
    double sum = 0.0;

    for (size_t d = 0; d < DIM; d++)
        sum += ((double)a[d] - b[d]) * ((double)a[d] - b[d]);
    return sum;
}

/* Clusters and routes are right when plain double precision says so. */
static void test_against_exact(void **state)
{
    size_t n = 3000, n_shards = 6;
    float *vectors = make_blobs(n, 40, 0.0, 4.0);
    uint32_t *cluster = malloc(n * sizeof(*cluster)), *shards = malloc(n * n_shards * sizeof(*shards));
    float *distance = malloc(n * sizeof(*distance)), *left = malloc(n * n_shards * sizeof(*left));
    size_t *n_found = malloc(n * sizeof(*n_found)), n_home = 0;
    myr_router *router = NULL;
    myr_router_view view;
    int64_t *counts;

    (void)state;
    assert_int_equal(myr_router_train(vectors, n, DIM, 60, 3, NULL, &router), MYR_OK);
    assert_int_equal(myr_router_assign(router, vectors, n, NULL, cluster, distance), MYR_OK);
    counts = count_clusters(cluster, n, 60);
    assert_int_equal(myr_router_route(router, vectors, n, 2, -1, NULL, shards, left, n_found),
                     MYR_ERR_ARG); /* not packed */
    assert_int_equal(myr_router_pack(router, counts, n_shards), MYR_OK);
    assert_int_equal(myr_router_route(router, vectors, n, 2, -1, NULL, shards, left, n_found), MYR_OK);
    myr_router_export(router, &view);
    for (size_t i = 0; i < n; i++) {
        double best = INFINITY;

        for (size_t c = 0; c < 60; c++)
            best = fmin(best, exact(vectors + i * DIM, view.centroids + c * DIM));
        assert_true(exact(vectors + i * DIM, view.centroids + cluster[i] * DIM) <= best * 1.0001 + 1e-3);
        assert_true(fabs(distance[i] - best) <= best * 1e-3 + 1e-2);
        assert_int_equal(n_found[i], 2);
        assert_true(left[i * n_shards] == 1 && left[i * n_shards + 1] < 1);
        assert_true(shards[i * n_shards] != shards[i * n_shards + 1]);
        n_home += shards[i * n_shards] == myr_router_shard_of(router, cluster[i], (int64_t)i);
    }
    assert_true(n_home >= n * 8 / 10); /* the rest live in clusters that had to be cut */
    free(counts);
    free(n_found);
    free(left);
    free(distance);
    free(shards);
    free(cluster);
    free(vectors);
    myr_router_free(router);
}

/* Lloyd must do better than its random start: the mean distance to the centroid falls well below the blobs'
 * spacing. */
static void test_training_finds_blobs(void **state)
{
    size_t n = 4000;
    float *vectors = make_blobs(n, 10, 0.0, 0.5), *distance = malloc(n * sizeof(*distance));
    uint32_t *cluster = malloc(n * sizeof(*cluster));
    myr_router *router = NULL;
    double sum = 0.0;

    (void)state;
    assert_int_equal(myr_router_train(vectors, n, DIM, 40, 3, NULL, &router), MYR_OK);
    assert_int_equal(myr_router_assign(router, vectors, n, NULL, cluster, distance), MYR_OK);
    for (size_t i = 0; i < n; i++)
        sum += distance[i];
    assert_true(sum / (double)n < DIM * 0.5 * 0.5 / 12.0); /* variance of a blob: 40 clusters must beat 10 */
    free(cluster);
    free(distance);
    free(vectors);
    myr_router_free(router);
}

/* The masses, in the plainest way. */
static void weigh_naively(const myr_router_view *view, const float *query, double *mass)
{
    double least = INFINITY;
    for (size_t c = 0; c < view->n_clusters; c++)
        least = fmin(least, exact(query, view->centroids + c * DIM));
    for (size_t s = 0; s < view->n_shards; s++)
        mass[s] = 0;
    for (size_t c = 0; c < view->n_clusters; c++)
        for (uint32_t p = view->part_first[c]; p < view->part_first[c + 1]; p++)
            mass[view->part_shard[p]] +=
                (double)view->part_items[p] *
                exp((least - exact(query, view->centroids + c * DIM)) / (double)view->softness);
}

static int by_distance(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (x[0] > y[0]) - (x[0] < y[0]);
}

/* The shards of the ten nearest of some vectors, those themselves left out. */
static void find_homes(const float *vectors, size_t n, const uint32_t *home, const uint32_t *copy, size_t n_queries,
                       uint32_t *homes)
{
    double(*all)[2] = malloc(n * sizeof *all);
    for (size_t q = 0; q < n_queries; q++) {
        for (size_t i = 0; i < n; i++) {
            all[i][0] = i == q ? -1 : exact(vectors + q * DIM, vectors + i * DIM);
            all[i][1] = (double)i;
        }
        qsort(all, n, sizeof *all, by_distance);
        for (size_t i = 0; i < 10; i++) {
            homes[(q * 10 + i) * MYR_ROUTER_HOMES] = home[(size_t)all[i + 1][1]];
            homes[(q * 10 + i) * MYR_ROUTER_HOMES + 1] = copy ? copy[(size_t)all[i + 1][1]] : UINT32_MAX;
        }
    }
    free(all);
}

/* What the curve promises is what routing then finds; masses and their order are those of the plain sum. */
static void test_calibration(void **state)
{
    size_t n = 6000, n_shards = 8, n_queries = 400, n_clusters = 150;
    float *vectors = make_blobs(n, 40, 0.0, 6.0), *left = malloc(n_queries * n_shards * sizeof *left);
    uint32_t *cluster = malloc(n * sizeof *cluster), *home = malloc(n * sizeof *home);
    uint32_t *homes = malloc(n_queries * 10 * MYR_ROUTER_HOMES * sizeof *homes),
             *shards = malloc(n_queries * n_shards * sizeof *shards);
    size_t *n_found = malloc(n_queries * sizeof *n_found), n_right = 0, n_visits = 0;
    myr_router *router = NULL;
    myr_route_curve curve;
    myr_router_view view;

    (void)state;
    assert_int_equal(myr_router_train(vectors, n, DIM, n_clusters, 3, NULL, &router), MYR_OK);
    assert_int_equal(myr_router_assign(router, vectors, n, NULL, cluster, NULL), MYR_OK);
    int64_t *counts = count_clusters(cluster, n, n_clusters);
    assert_int_equal(myr_router_calibrate(router, vectors, n_queries, 10, homes, NULL, &curve), MYR_ERR_ARG);
    assert_int_equal(myr_router_pack(router, counts, n_shards), MYR_OK);
    for (size_t i = 0; i < n; i++)
        home[i] = myr_router_shard_of(router, cluster[i], (int64_t)i);
    find_homes(vectors, n, home, NULL, n_queries, homes);
    assert_int_equal(myr_router_calibrate(router, vectors, n_queries, 10, homes, NULL, &curve), MYR_OK);
    assert_int_equal(myr_router_route(router, vectors, n_queries, n_shards, -1, NULL, shards, left, n_found), MYR_OK);
    myr_router_export(router, &view);
    assert_true(view.softness > 0);

    size_t at = 0;
    while (curve.points[at].recall < 0.95)
        at++;
    assert_true(at < curve.n_points && curve.points[at].visits < 0.7 * (double)n_shards);
    for (size_t q = 0; q < n_queries; q++) {
        double mass[8], sum = 0, before = 0;
        weigh_naively(&view, vectors + q * DIM, mass);
        for (size_t s = 0; s < n_shards; s++)
            sum += mass[s];
        for (size_t i = 0; i < n_found[q]; i++) {
            uint32_t shard = shards[q * n_shards + i];
            bool visits = i == 0 || left[q * n_shards + i] > curve.points[at].left;
            assert_true(fabs((double)left[q * n_shards + i] - (1 - before / sum)) < 1e-3);
            before += mass[shard];
            n_visits += visits;
            for (size_t j = 0; j < 10; j++)
                n_right += visits && homes[(q * 10 + j) * MYR_ROUTER_HOMES] == shard;
        }
    }
    size_t *n_enough = malloc(n_queries * sizeof *n_enough), n_stopped = 0; /* who stops there visits just as many */
    assert_int_equal(
        myr_router_route(router, vectors, n_queries, n_shards, curve.points[at].left, NULL, shards, NULL, n_enough),
        MYR_OK);
    for (size_t q = 0; q < n_queries; q++)
        n_stopped += n_enough[q];
    assert_int_equal(n_stopped, n_visits);
    free(n_enough);
    assert_true(fabs((double)n_right / (double)(n_queries * 10) - curve.points[at].recall) < 1e-9);
    assert_true(fabs((double)n_visits / (double)n_queries - curve.points[at].visits) < 1e-9);
    for (size_t i = 1; i < curve.n_points; i++)
        assert_true(curve.points[i].recall >= curve.points[i - 1].recall &&
                    curve.points[i].visits >= curve.points[i - 1].visits);
    myr_router_free(router);
    assert_int_equal(myr_router_create_hash(4, &router), MYR_OK);
    assert_int_equal(myr_router_calibrate(router, vectors, n_queries, 10, homes, NULL, &curve), MYR_OK);
    assert_int_equal(curve.n_points, 0);
    myr_router_free(router);
    free(counts);
    free(vectors);
    free(left);
    free(cluster);
    free(home);
    free(homes);
    free(shards);
    free(n_found);
}

/* Copies of a set by a bound: what a plan over ranks does, in one process. */
typedef struct copies {
    uint32_t *second, *copy;
    uint64_t *nearness, bound[8];
    uint32_t *first, *shard;
    int64_t *items;
    uint32_t n;
} copies;

static int by_nearness(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static copies make_copies(const myr_router *router, const float *vectors, const uint32_t *cluster, const uint32_t *home,
                          size_t n, size_t n_wanted)
{
    myr_router_view view;
    myr_router_export(router, &view);
    copies made = {.second = malloc(n * sizeof *made.second),
                   .copy = malloc(n * sizeof *made.copy),
                   .nearness = malloc(n * sizeof *made.nearness),
                   .first = calloc(view.n_parts + 1, sizeof *made.first),
                   .shard = malloc((size_t)view.n_parts * 8 * sizeof *made.shard),
                   .items = malloc((size_t)view.n_parts * 8 * sizeof *made.items)};
    int64_t *ids = malloc(n * sizeof *ids), *counts = calloc((size_t)view.n_parts * 8, sizeof *counts);
    uint64_t *sorted = malloc(n * sizeof *sorted);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int64_t)i;
    assert_int_equal(myr_router_second(router, vectors, ids, n, home, NULL, made.second, made.nearness), MYR_OK);
    memcpy(sorted, made.nearness, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_nearness);
    for (size_t s = 0; s < 8; s++)
        made.bound[s] = sorted[n - 1 - n_wanted];
    for (size_t i = 0; i < n; i++) {
        made.copy[i] = made.nearness[i] > sorted[n - 1 - n_wanted] ? made.second[i] : UINT32_MAX;
        if (made.copy[i] != UINT32_MAX)
            counts[(size_t)myr_router_part_of(router, cluster[i], ids[i]) * 8 + made.copy[i]]++;
    }
    for (uint32_t p = 0; p < view.n_parts; p++) {
        for (uint32_t s = 0; s < 8; s++)
            if (counts[p * 8 + s] > 0) {
                made.shard[made.n] = s;
                made.items[made.n++] = counts[p * 8 + s];
            }
        made.first[p + 1] = made.n;
    }
    free(ids);
    free(counts);
    free(sorted);
    return made;
}

static void free_copies(copies *made)
{
    free(made->second);
    free(made->copy);
    free(made->nearness);
    free(made->first);
    free(made->shard);
    free(made->items);
}

/* The greedy order in the plainest way: the next shard is the one with most mass that is in none of those before. */
static void check_overlapping_route(const myr_router_view *view, const float *query, const uint32_t *shards,
                                    const float *left, size_t n_found)
{
    double sum = 0, before = 0, least = INFINITY;
    bool visited[8] = {false};
    for (uint32_t c = 0; c < view->n_clusters; c++)
        least = fmin(least, exact(query, view->centroids + c * DIM));
    for (size_t i = 0; i < n_found; i++) {
        double mass[8] = {0};
        sum = 0;
        for (uint32_t c = 0; c < view->n_clusters; c++)
            for (uint32_t p = view->part_first[c]; p < view->part_first[c + 1]; p++) {
                double weight = exp((least - exact(query, view->centroids + c * DIM)) / (double)view->softness);
                double alone = (double)view->part_items[p];
                uint32_t home = view->part_shard[p];
                sum += weight * alone;
                for (uint32_t x = view->copy_first[p]; x < view->copy_first[p + 1]; x++) {
                    double twice = (double)view->copy_items[x];
                    alone -= twice;
                    if (visited[home] || visited[view->copy_shard[x]])
                        continue;
                    mass[home] += weight * twice;
                    mass[view->copy_shard[x]] += weight * twice;
                }
                mass[home] += visited[home] ? 0 : weight * alone;
            }
        assert_true(fabs((double)left[i] - (1 - before / sum)) < 1e-3);
        for (size_t s = 0; s < 8; s++)
            assert_true(visited[s] || mass[s] <= mass[shards[i]] + 1e-4 * sum);
        assert_false(visited[shards[i]]);
        visited[shards[i]] = true;
        before += mass[shards[i]];
    }
}

/* Copies of the items at boundaries: fewer visits, and the curve tells the truth of them. */
static void test_overlap(void **state)
{
    size_t n = 6000, n_shards = 8, n_queries = 400, n_clusters = 150, n_right = 0, n_visits = 0;
    float *vectors = make_blobs(n, 40, 0.0, 14.0), *left = malloc(n_queries * n_shards * sizeof *left);
    uint32_t *cluster = malloc(n * sizeof *cluster), *home = malloc(n * sizeof *home);
    uint32_t *homes = malloc(n_queries * 10 * MYR_ROUTER_HOMES * sizeof *homes);
    uint32_t *shards = malloc(n_queries * n_shards * sizeof *shards);
    size_t *n_found = malloc(n_queries * sizeof *n_found), at[2] = {0, 0};
    myr_router *router = NULL, *again = NULL;
    myr_route_curve curve[2];
    myr_router_view view;

    (void)state;
    assert_int_equal(myr_router_train(vectors, n, DIM, n_clusters, 3, NULL, &router), MYR_OK);
    assert_int_equal(myr_router_assign(router, vectors, n, NULL, cluster, NULL), MYR_OK);
    int64_t *counts = count_clusters(cluster, n, n_clusters);
    assert_int_equal(myr_router_pack(router, counts, n_shards), MYR_OK);
    for (size_t i = 0; i < n; i++)
        home[i] = myr_router_shard_of(router, cluster[i], (int64_t)i);
    find_homes(vectors, n, home, NULL, n_queries, homes);
    assert_int_equal(myr_router_calibrate(router, vectors, n_queries, 10, homes, NULL, &curve[0]), MYR_OK);
    copies made = make_copies(router, vectors, cluster, home, n, n / 5);
    for (size_t i = 0; i < n; i++)
        assert_true(made.second[i] != home[i]);
    assert_int_equal(myr_router_overlap(router, made.bound, made.n, made.first, made.shard, made.items), MYR_OK);
    find_homes(vectors, n, home, made.copy, n_queries, homes);
    assert_int_equal(myr_router_calibrate(router, vectors, n_queries, 10, homes, NULL, &curve[1]), MYR_OK);
    for (int i = 0; i < 2; i++)
        while (curve[i].points[at[i]].recall < 0.95)
            at[i]++;
    print_message("visits for recall 0.95: %.2f, with copies %.2f\n", curve[0].points[at[0]].visits,
                  curve[1].points[at[1]].visits);
    assert_true(curve[1].points[at[1]].visits < 0.9 * curve[0].points[at[0]].visits);

    myr_router_export(router, &view);
    assert_int_equal(myr_router_import(&view, &again), MYR_OK); /* as from a file */
    assert_int_equal(myr_router_route(again, vectors, n_queries, n_shards, -1, NULL, shards, left, n_found), MYR_OK);
    for (size_t q = 0; q < n_queries; q++) {
        assert_int_equal(n_found[q], n_shards);
        check_overlapping_route(&view, vectors + q * DIM, shards + q * n_shards, left + q * n_shards, n_shards);
        for (size_t j = 0; j < 10; j++) {
            bool is_found = false;
            for (size_t i = 0; i < n_shards; i++)
                for (size_t h = 0; h < MYR_ROUTER_HOMES; h++)
                    is_found = is_found || (homes[(q * 10 + j) * MYR_ROUTER_HOMES + h] == shards[q * n_shards + i] &&
                                            (i == 0 || left[q * n_shards + i] > curve[1].points[at[1]].left));
            n_right += is_found;
        }
        for (size_t i = 0; i < n_shards; i++)
            n_visits += i == 0 || left[q * n_shards + i] > curve[1].points[at[1]].left;
    }
    assert_true(fabs((double)n_right / (double)(n_queries * 10) - curve[1].points[at[1]].recall) < 1e-9);
    assert_true(fabs((double)n_visits / (double)n_queries - curve[1].points[at[1]].visits) < 1e-9);

    made.shard[0] = view.part_shard[0]; /* a part's own shard is no second one */
    made.first[1] = made.first[1] > 0 ? made.first[1] : 1;
    assert_int_equal(myr_router_overlap(router, made.bound, made.n, made.first, made.shard, made.items),
                     MYR_ERR_FORMAT);
    made.shard[0] = 8;
    assert_int_equal(myr_router_overlap(router, made.bound, made.n, made.first, made.shard, made.items),
                     MYR_ERR_FORMAT);
    made.first[1] = made.n + 1;
    assert_int_equal(myr_router_overlap(router, made.bound, made.n, made.first, made.shard, made.items),
                     MYR_ERR_FORMAT);
    assert_int_equal(myr_router_pack(router, counts, n_shards), MYR_OK); /* another map has no copies */
    myr_router_export(router, &view);
    assert_null(view.copy_bound);
    free_copies(&made);
    myr_router_free(router);
    myr_router_free(again);
    free(counts);
    free(vectors);
    free(left);
    free(cluster);
    free(home);
    free(homes);
    free(shards);
    free(n_found);
}

static void test_refuses_bad_values(void **state)
{
    float vectors[4 * DIM] = {0};
    uint32_t cluster[4];
    myr_router *router = NULL;
    int64_t counts[2] = {5, -1};

    (void)state;
    vectors[2 * DIM + 3] = NAN;
    assert_int_equal(myr_router_train(vectors, 4, DIM, 2, 1, NULL, &router), MYR_ERR_ARG);
    vectors[2 * DIM + 3] = INFINITY;
    assert_int_equal(myr_router_train(vectors, 4, DIM, 2, 1, NULL, &router), MYR_ERR_ARG);
    vectors[2 * DIM + 3] = 1.0f;
    assert_int_equal(myr_router_train(vectors, 0, DIM, 2, 1, NULL, &router), MYR_ERR_ARG);
    assert_int_equal(myr_router_train(vectors, 4, DIM, 0, 1, NULL, &router), MYR_ERR_ARG);
    assert_int_equal(myr_router_train(vectors, 4, DIM, 2, 1, NULL, &router), MYR_OK);
    assert_int_equal(myr_router_pack(router, counts, 2), MYR_ERR_ARG);
    counts[1] = INT64_MAX;
    assert_int_equal(myr_router_pack(router, counts, 2), MYR_ERR_ARG);
    vectors[0] = NAN;
    assert_int_equal(myr_router_assign(router, vectors, 4, NULL, cluster, NULL), MYR_ERR_ARG);
    myr_router_free(router);
    myr_router_free(NULL);
}

static void test_import(void **state)
{
    float centroids[3 * 2] = {0, 0, 1, 1, 2, 2};
    uint32_t first[4] = {0, 1, 3, 4}, shard[4] = {0, 0, 1, 1};
    uint64_t bound[4] = {UINT64_MAX, UINT64_MAX / 2, UINT64_MAX, UINT64_MAX};
    int64_t items[4] = {5, 4, 4, 6};
    const myr_router_view good = {.n_shards = 2,
                                  .n_clusters = 3,
                                  .dim = 2,
                                  .n_parts = 4,
                                  .centroids = centroids,
                                  .part_first = first,
                                  .part_shard = shard,
                                  .part_bound = bound,
                                  .part_items = items};
    myr_router_view bad = good, out;
    myr_router *router = NULL;
    float query[2] = {1.9f, 1.9f};
    uint32_t shards[2];
    size_t n_found;

    (void)state;
    assert_int_equal(myr_router_import(&good, &router), MYR_OK);
    myr_router_export(router, &out);
    assert_memory_equal(out.centroids, centroids, sizeof(centroids));
    assert_memory_equal(out.part_bound, bound, sizeof(bound));
    assert_int_equal(myr_router_route(router, query, 1, 9, -1, NULL, shards, NULL, &n_found), MYR_OK);
    assert_int_equal(n_found, 2);
    assert_int_equal(shards[0], 1);
    assert_int_equal(myr_router_shard_of(router, 1, 0), 0); /* fraction 0 */
    assert_int_equal(myr_router_shard_of(router, 1, 1), 1); /* fraction 0.618 */
    myr_router_free(router);

    shard[3] = 2;
    assert_int_equal(myr_router_import(&good, &router), MYR_ERR_FORMAT);
    shard[3] = 1;
    first[2] = 4;
    assert_int_equal(myr_router_import(&good, &router), MYR_ERR_FORMAT);
    first[2] = 900000000;
    assert_int_equal(myr_router_import(&good, &router), MYR_ERR_FORMAT);
    first[2] = 3;
    items[2] = -1;
    assert_int_equal(myr_router_import(&good, &router), MYR_ERR_FORMAT);
    items[2] = 4;
    bad.softness = NAN;
    assert_int_equal(myr_router_import(&bad, &router), MYR_ERR_FORMAT);
    bad.softness = -1;
    assert_int_equal(myr_router_import(&bad, &router), MYR_ERR_FORMAT);
    bad = good;
    bound[1] = UINT64_MAX;
    assert_int_equal(myr_router_import(&good, &router), MYR_ERR_FORMAT);
    bound[1] = UINT64_MAX / 2;
    bound[3] = 5;
    assert_int_equal(myr_router_import(&good, &router), MYR_ERR_FORMAT);
    bound[3] = UINT64_MAX;
    centroids[4] = NAN;
    assert_int_equal(myr_router_import(&good, &router), MYR_ERR_FORMAT);
    centroids[4] = 2;
    bad.n_parts = 2;
    assert_int_equal(myr_router_import(&bad, &router), MYR_ERR_FORMAT);
    bad = good;
    bad.dim = 1u << 31;
    assert_int_equal(myr_router_import(&bad, &router), MYR_ERR_FORMAT);
    bad = good;
    bad.n_clusters = 0;
    assert_int_equal(myr_router_import(&bad, &router), MYR_ERR_FORMAT);
    bad = (myr_router_view){.n_shards = 5};
    assert_int_equal(myr_router_import(&bad, &router), MYR_OK); /* a hash router */
    assert_int_equal(myr_router_n_shards(router), 5);
    myr_router_free(router);
}

static double distance_of(const float *a, const float *b)
{
    double sum = 0;

    for (size_t d = 0; d < DIM; d++)
        sum += ((double)a[d] - (double)b[d]) * ((double)a[d] - (double)b[d]);
    return sqrt(sum);
}

/* No shard that holds a vector within the radius is left out; most of those that hold none are. */
static void test_reach_leaves_none_out(void **state)
{
    enum { N = 6000, N_SHARDS = 12 };
    static const float radii[] = {0, 1.5f, 4, 8};
    float *vectors = make_blobs(N, 150, 0.05, 2.0);
    myr_router *router = NULL, *hash = NULL;
    uint32_t *cluster = malloc(N * sizeof(*cluster));
    uint8_t *reached = malloc(N * N_SHARDS);
    size_t n_reached[4] = {0}, n_needed[4] = {0};

    (void)state;
    assert_true(cluster != NULL && reached != NULL);
    assert_int_equal(myr_router_train(vectors, N, DIM, 150, 1, NULL, &router), MYR_OK);
    assert_int_equal(myr_router_reach(router, vectors, 1, 1, 0, NULL, reached), MYR_ERR_ARG); /* not packed */
    assert_int_equal(myr_router_assign(router, vectors, N, NULL, cluster, NULL), MYR_OK);
    int64_t *counts = count_clusters(cluster, N, clusters_of(router));
    assert_int_equal(myr_router_pack(router, counts, N_SHARDS), MYR_OK);
    for (size_t r = 0; r < sizeof radii / sizeof *radii; r++) {
        assert_int_equal(myr_router_reach(router, vectors, N, radii[r], 0, NULL, reached), MYR_OK);
        for (size_t q = 0; q < N; q += 5) {
            uint8_t needed[N_SHARDS] = {0};

            for (size_t i = 0; i < N; i++)
                if (distance_of(vectors + q * DIM, vectors + i * DIM) <= (double)radii[r])
                    needed[myr_router_shard_of(router, cluster[i], (int64_t)i)] = 1;
            for (size_t s = 0; s < N_SHARDS; s++) {
                assert_true(reached[q * N_SHARDS + s] || !needed[s]);
                n_reached[r] += reached[q * N_SHARDS + s];
                n_needed[r] += needed[s];
            }
        }
        print_message("radius %.1f: %.2f shards reached, %.2f hold something\n", (double)radii[r],
                      (double)n_reached[r] * 5 / N, (double)n_needed[r] * 5 / N);
    }
    assert_true(n_reached[0] <= N / 5 * 3); /* the crowd is cut over several shards */
    assert_true(n_reached[1] < N / 5 * N_SHARDS / 2);
    assert_int_equal(myr_router_reach(router, vectors, 1, -1, 0, NULL, reached), MYR_ERR_ARG);
    assert_int_equal(myr_router_reach(router, vectors, 1, NAN, 0, NULL, reached), MYR_ERR_ARG);
    assert_int_equal(myr_router_create_hash(N_SHARDS, &hash), MYR_OK);
    memset(reached, 0, N_SHARDS);
    assert_int_equal(myr_router_reach(hash, vectors, 1, 0, 0, NULL, reached), MYR_OK);
    for (size_t s = 0; s < N_SHARDS; s++)
        assert_int_equal(reached[s], 1);
    myr_router_free(hash);
    myr_router_free(router);
    free(counts);
    free(cluster);
    free(reached);
    free(vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cap_blobs),
        cmocka_unit_test(test_cap_crowd),
        cmocka_unit_test(test_cap_equal),
        cmocka_unit_test(test_hash_is_even),
        cmocka_unit_test(test_threads_agree),
        cmocka_unit_test(test_against_exact),
        cmocka_unit_test(test_overlap),
        cmocka_unit_test(test_calibration),
        cmocka_unit_test(test_training_finds_blobs),
        cmocka_unit_test(test_refuses_bad_values),
        cmocka_unit_test(test_import),
        cmocka_unit_test(test_reach_leaves_none_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
