/*
 * How softly a router weighs clusters, and what share of the neighbours it then finds at what cost.
 *
 * Queries whose nearest neighbours are known are routed at several softnesses; the one that reaches the recalls people
 * ask for with the fewest visits stays. Its optimum is flat: a factor of 1.4 either way costs 1 to 2 % more visits on
 * SIFT.
 */
#include "partition/router.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>

/* To the mean squared distance of a query to its centroid. On SIFT 0.16 to 0.18 is best. */
static const double softnesses[] = {0.02, 0.03, 0.045, 0.06, 0.085, 0.12, 0.17, 0.24, 0.35, 0.5, 0.7, 1};
enum { N_SOFTNESSES = sizeof softnesses / sizeof *softnesses };

static const double wishes[] = {0.9, 0.95, 0.99};
enum { N_WISHES = sizeof wishes / sizeof *wishes };

/* Of the mass: a query goes on while more than this is left. */
#define FIRST_LEFT 0.5
#define NEXT_LEFT 0.8

/* Recall at which a curve ends. */
#define ALL_BUT_NOTHING 0.9999

typedef struct trial {
    myr_router *router;
    const float *queries;
    size_t n, k;
    const uint32_t *homes; /* (n, k, MYR_ROUTER_HOMES) */
    myr_pool *pool;
    uint32_t *shards; /* (n, n_shards) */
    float *left;      /* (n, n_shards) */
    size_t *n_found;  /* (n) */
    size_t *place;    /* (n_shards) of a query's visits; n_shards = not visited */
    size_t *gain;     /* (n_shards) neighbours that the visit of each place is the first to find */
} trial;

/* How many neighbours each visit of a query is the first to find; returns how many there are. */
static size_t count_gains(const trial *all, size_t query)
{
    size_t n_shards = all->router->n_shards, n_true = 0;
    for (size_t s = 0; s < n_shards; s++) {
        all->place[s] = n_shards;
        all->gain[s] = 0;
    }
    for (size_t i = 0; i < all->n_found[query]; i++)
        all->place[all->shards[query * n_shards + i]] = i;
    for (size_t i = 0; i < all->k; i++) {
        const uint32_t *homes = all->homes + (query * all->k + i) * MYR_ROUTER_HOMES;
        size_t at = n_shards;
        bool is_there = false;
        for (size_t h = 0; h < MYR_ROUTER_HOMES; h++)
            if (homes[h] < n_shards) {
                is_there = true;
                at = all->place[homes[h]] < at ? all->place[homes[h]] : at;
            }
        n_true += is_there;
        if (at < n_shards)
            all->gain[at]++;
    }
    return n_true;
}

static void add_points(const trial *all, myr_route_curve *curve)
{
    size_t n_shards = all->router->n_shards, n_true = 0, n_home[MYR_ROUTE_POINTS] = {0},
           n_visits[MYR_ROUTE_POINTS] = {0};
    double left = FIRST_LEFT;
    *curve = (myr_route_curve){.n_queries = all->n};
    for (size_t p = 0; p < MYR_ROUTE_POINTS; p++, left *= NEXT_LEFT)
        curve->points[p].left = (float)left;
    for (size_t q = 0; q < all->n; q++) {
        n_true += count_gains(all, q);
        for (size_t i = 0; i < all->n_found[q]; i++) {
            size_t n = all->gain[i];
            for (size_t p = 0; p < MYR_ROUTE_POINTS; p++) {
                bool visits = i == 0 || all->left[q * n_shards + i] > curve->points[p].left;
                n_home[p] += visits ? n : 0;
                n_visits[p] += visits;
            }
        }
    }
    for (size_t p = 0; p < MYR_ROUTE_POINTS; p++) {
        curve->points[p].recall = n_true > 0 ? (double)n_home[p] / (double)n_true : 1;
        curve->points[p].visits = all->n > 0 ? (double)n_visits[p] / (double)all->n : 0;
    }
    while (curve->n_points < MYR_ROUTE_POINTS &&
           (curve->n_points == 0 || curve->points[curve->n_points - 1].recall < ALL_BUT_NOTHING))
        curve->n_points++;
}

/* Visits where the curve crosses a recall; all shards where it does not. */
static double visits_at(const myr_route_curve *curve, double recall, size_t n_shards)
{
    for (size_t p = 0; p < curve->n_points; p++) {
        if (curve->points[p].recall < recall)
            continue;
        if (p == 0 || curve->points[p].recall <= curve->points[p - 1].recall)
            return curve->points[p].visits;
        double share = (recall - curve->points[p - 1].recall) / (curve->points[p].recall - curve->points[p - 1].recall);
        return curve->points[p - 1].visits + share * (curve->points[p].visits - curve->points[p - 1].visits);
    }
    return (double)n_shards;
}

static double cost_of(const myr_route_curve *curve, size_t n_shards)
{
    double sum = 0;
    for (size_t i = 0; i < N_WISHES; i++)
        sum += visits_at(curve, wishes[i], n_shards);
    return sum;
}

static myr_status mean_distance(const trial *all, double *mean)
{
    uint32_t *cluster = myr_alloc(all->n, sizeof *cluster);
    float *distance = myr_alloc(all->n, sizeof *distance);
    myr_status status =
        cluster && distance ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "partition: no memory for %zu queries", all->n);
    if (status == MYR_OK)
        status = myr_router_assign(all->router, all->queries, all->n, all->pool, cluster, distance);
    *mean = 0;
    for (size_t q = 0; status == MYR_OK && q < all->n; q++)
        *mean += (double)distance[q] / (double)all->n;
    free(cluster);
    free(distance);
    return status;
}

static myr_status try_all(trial *all, myr_route_curve *best)
{
    double mean, least = INFINITY;
    float chosen = 0;
    myr_status status = mean_distance(all, &mean);
    for (size_t i = 0; i < N_SOFTNESSES && status == MYR_OK; i++) {
        myr_route_curve curve;
        all->router->softness = (float)(softnesses[i] * mean);
        status = myr_router_route(all->router, all->queries, all->n, all->router->n_shards, 0, all->pool, all->shards,
                                  all->left, all->n_found);
        if (status != MYR_OK)
            break;
        add_points(all, &curve);
        double cost = cost_of(&curve, all->router->n_shards);
        if (cost < least) {
            least = cost;
            chosen = all->router->softness;
            *best = curve;
        }
    }
    all->router->softness = chosen;
    return status;
}

myr_status myr_router_calibrate(myr_router *router, const float *queries, size_t n, size_t k, const uint32_t *homes,
                                myr_pool *pool, myr_route_curve *curve)
{
    if (router == NULL || router->n_shards == 0 || curve == NULL || (n > 0 && (queries == NULL || homes == NULL)))
        return myr_fail(MYR_ERR_ARG,
                        "partition: calibrate: a packed router, queries and the homes of their neighbours are "
                        "needed");
    *curve = (myr_route_curve){0};
    if (router_is_hash(router) || n == 0)
        return MYR_OK;
    trial all = {.router = router, .queries = queries, .n = n, .k = k, .homes = homes, .pool = pool};
    all.shards = myr_alloc(n, router->n_shards * sizeof *all.shards);
    all.left = myr_alloc(n, router->n_shards * sizeof *all.left);
    all.n_found = myr_alloc(n, sizeof *all.n_found);
    all.place = myr_alloc(router->n_shards, sizeof *all.place);
    all.gain = myr_alloc(router->n_shards, sizeof *all.gain);
    myr_status status = all.shards && all.left && all.n_found && all.place && all.gain
                            ? try_all(&all, curve)
                            : myr_fail(MYR_ERR_NOMEM, "partition: calibrate: no memory for %zu queries", n);
    free(all.shards);
    free(all.left);
    free(all.n_found);
    free(all.place);
    free(all.gain);
    return status;
}
