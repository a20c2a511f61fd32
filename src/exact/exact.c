/*
 * Exact search by matrix products.
 *
 * A block of queries times a tile of vectors is one GEMM in single precision. It orders nothing by itself: a vector's
 * score is q.v - |v|^2 / 2 (L2) or q.v (cosine, inner product), and one whose score is below what the k-th best hit so
 * far needs, less a bound on all rounding, cannot be among the k nearest. The few others are measured in double. So the
 * answer is the naive loop's, though the products differ from one processor to the next.
 *
 * A task is a block of queries and a part of the tiles; parts are one unless queries are few.
 */
#include "myriops/exact.h"

#include "base/alloc.h"
#include "base/pool.h"
#include "base/topk.h"
#include "kernel/kernel.h"

#include <cblas.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

enum {
    BLOCK = 1024, /* queries of one product */
    TILE = 512,   /* vectors of one product; measured: 3 % over BLOCK 256, TILE 1024 in 128 dimensions */
    STRIDE = 16,  /* scores looked at together */
    TASKS_A_THREAD = 4,
    MAX_DIM = 1 << 24, /* the bound on rounding holds below it */
};

struct myr_exact {
    const float *vectors;
    const int64_t *ids;
    size_t n, dim;
    myr_metric metric;
    const myr_kernel *kernel;
    float *halves;   /* (n) |v|^2 / 2, or 0 where the metric is not L2 */
    double *longest; /* (n_tiles) length of a tile's longest vector */
};

/* One query of a block. */
typedef struct seeker {
    const float *query;
    double squared; /* length */
    myr_topk top;
} seeker;

typedef struct search {
    const myr_exact *set;
    const float *queries;
    size_t n_queries, k;
    size_t n_parts;
    myr_hit *hits;   /* (n_queries, n_parts, k) */
    float *scores;   /* (n_threads, BLOCK, TILE) */
    seeker *seekers; /* (n_threads, BLOCK) */
} search;

static size_t count_tiles(const myr_exact *set)
{
    return (set->n + TILE - 1) / TILE;
}

/* ---- the set ---- */

/* The parallel loops are ours. */
static void use_one_blas_thread(void)
{
    openblas_set_num_threads(1);
}

static myr_status measure_tiles(void *context, size_t first, size_t last, int thread)
{
    myr_exact *set = context;
    (void)thread;
    for (size_t tile = first; tile < last; tile++) {
        size_t end = (tile + 1) * TILE < set->n ? (tile + 1) * TILE : set->n;
        double longest = 0;
        for (size_t row = tile * TILE; row < end; row++) {
            const float *vector = set->vectors + row * set->dim;
            double squared = set->kernel->dot(vector, vector, set->dim);
            if (!isfinite(squared))
                return myr_fail(MYR_ERR_ARG, "exact search: vector %zu holds a value that is not finite", row);
            longest = squared > longest ? squared : longest;
            set->halves[row] = set->metric == MYR_METRIC_L2 ? (float)fmin(squared / 2, (double)FLT_MAX) : 0;
        }
        set->longest[tile] = sqrt(longest);
    }
    return MYR_OK;
}

myr_status myr_exact_create(const float *vectors, size_t n, size_t dim, const int64_t *ids, myr_metric metric,
                            myr_pool *pool, myr_exact **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    *out = NULL;
    if (dim == 0 || (n > 0 && (!vectors || !ids)) || !myr_metric_name(metric))
        return myr_fail(MYR_ERR_ARG,
                        "exact search: vectors, their ids, at least one dimension and a metric are needed");
    if (dim >= MAX_DIM)
        return myr_fail(MYR_ERR_LIMIT, "exact search: vectors of %zu values; fewer than %d are possible", dim, MAX_DIM);
    pthread_once(&once, use_one_blas_thread);
    myr_exact *set = myr_alloc(1, sizeof *set);
    if (set) {
        *set = (myr_exact){
            .vectors = vectors, .ids = ids, .n = n, .dim = dim, .metric = metric, .kernel = myr_kernel_get()};
        set->halves = myr_alloc(n, sizeof *set->halves);
        set->longest = myr_alloc(count_tiles(set), sizeof *set->longest);
    }
    myr_status status = set && set->halves && set->longest
                            ? myr_pool_for(pool, count_tiles(set), 1, measure_tiles, set)
                            : myr_fail(MYR_ERR_NOMEM, "exact search: no memory for the lengths of %zu vectors", n);
    if (status != MYR_OK)
        myr_exact_free(set);
    else
        *out = set;
    return status;
}

void myr_exact_free(myr_exact *set)
{
    if (!set)
        return;
    free(set->halves);
    free(set->longest);
    free(set);
}

/* ---- the search ---- */

/* The least score that a vector of the tile may have whose distance is at most the bound of the best so far. */
static float least_score(const myr_exact *set, const seeker *one, double longest)
{
    float bound = myr_topk_bound(&one->top);
    double length = sqrt(one->squared), size = (length + longest) * longest;
    if (isinf(bound) || !(size < (double)FLT_MAX / 4)) /* beyond it products may overflow, and tell nothing */
        return -INFINITY;
    /* dim products and sums, the half square, the difference: 2^-24 of the greatest each, or what underflows. */
    double slack = size * ((double)set->dim + 8) * 0x1.1p-24 + ((double)set->dim + 8) * 0x1p-125;
    double reach = (double)bound + fabs((double)bound) * 1e-6; /* a float distance is right to 6e-8 */
    double score = -reach;
    if (set->metric == MYR_METRIC_L2)
        score = (one->squared - reach * reach) / 2;
    else if (set->metric == MYR_METRIC_COSINE)
        score = 1 - reach;
    score -= slack + 1e-6 * slack + 1e-12 * (1 + one->squared); /* what is computed here is in double */
    return score > -(double)FLT_MAX ? nextafterf((float)score, -INFINITY) : -INFINITY;
}

/* Whether any of STRIDE scores reaches the least; one that is no number does. */
static inline bool any_reaches(const float *scores, const float *halves, float least)
{
    int n = 0;
    for (size_t i = 0; i < STRIDE; i++)
        n += !(scores[i] - halves[i] < least);
    return n > 0;
}

static void look_at(const myr_exact *set, seeker *one, const float *scores, size_t tile, size_t n)
{
    const float *halves = set->halves + tile * TILE;
    float least = least_score(set, one, set->longest[tile]), bound = myr_topk_bound(&one->top);
    for (size_t from = 0; from < n; from += STRIDE) {
        if (from + STRIDE <= n && !any_reaches(scores + from, halves + from, least))
            continue;
        for (size_t i = from; i < from + STRIDE && i < n; i++) {
            if (scores[i] - halves[i] < least)
                continue;
            size_t row = tile * TILE + i;
            myr_topk_push(&one->top, (myr_hit){.id = set->ids[row],
                                               .distance = myr_hit_distance(set->kernel, set->metric, one->query,
                                                                            set->vectors + row * set->dim, set->dim)});
            if (myr_topk_bound(&one->top) < bound) {
                bound = myr_topk_bound(&one->top);
                least = least_score(set, one, set->longest[tile]);
            }
        }
    }
}

static void multiply(const myr_exact *set, const float *queries, size_t n_queries, size_t tile, size_t n, float *scores)
{
    const float *vectors = set->vectors + tile * TILE * set->dim;
    blasint dim = (blasint)set->dim;
    if (n_queries == 1)
        cblas_sgemv(CblasRowMajor, CblasNoTrans, (blasint)n, dim, 1, vectors, dim, queries, 1, 0, scores, 1);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n_queries, (blasint)n, dim, 1, queries, dim,
                    vectors, dim, 0, scores, TILE);
}

static myr_status search_part(const search *all, size_t block, size_t part, int thread)
{
    const myr_exact *set = all->set;
    seeker *seekers = all->seekers + (size_t)thread * BLOCK;
    float *scores = all->scores + (size_t)thread * BLOCK * TILE;
    size_t first = block * BLOCK, n = all->n_queries - first < BLOCK ? all->n_queries - first : BLOCK;
    const float *queries = all->queries + first * set->dim;
    for (size_t i = 0; i < n; i++) {
        const float *query = queries + i * set->dim;
        seekers[i] = (seeker){.query = query, .squared = set->kernel->dot(query, query, set->dim)};
        if (!isfinite(seekers[i].squared))
            return myr_fail(MYR_ERR_ARG, "exact search: query %zu holds a value that is not finite", first + i);
        myr_topk_init(&seekers[i].top, all->hits + ((first + i) * all->n_parts + part) * all->k, all->k);
    }
    size_t n_tiles = count_tiles(set);
    for (size_t tile = n_tiles * part / all->n_parts; tile < n_tiles * (part + 1) / all->n_parts; tile++) {
        size_t n_rows = set->n - tile * TILE < TILE ? set->n - tile * TILE : TILE;
        multiply(set, queries, n, tile, n_rows, scores);
        for (size_t i = 0; i < n; i++)
            look_at(set, &seekers[i], scores + i * TILE, tile, n_rows);
    }
    for (size_t i = 0; i < n; i++)
        myr_topk_finish(&seekers[i].top);
    return MYR_OK;
}

static myr_status search_task(void *context, size_t first, size_t last, int thread)
{
    const search *all = context;
    myr_status status = MYR_OK;
    for (size_t task = first; status == MYR_OK && task < last; task++)
        status = search_part(all, task / all->n_parts, task % all->n_parts, thread);
    return status;
}

static myr_status run(search *all, myr_pool *pool, myr_hit *hits)
{
    size_t n_threads = (size_t)myr_pool_n_threads(pool), n_blocks = (all->n_queries + BLOCK - 1) / BLOCK, n_hits;
    if (n_threads > 1 && n_blocks < n_threads * TASKS_A_THREAD)
        all->n_parts = n_threads;
    bool fits = myr_mul(all->n_queries, all->n_parts, &n_hits) && myr_mul(n_hits, all->k, &n_hits);
    all->scores = myr_alloc_huge(n_threads * BLOCK, TILE * sizeof *all->scores);
    all->seekers = myr_alloc(n_threads * BLOCK, sizeof *all->seekers);
    if (all->n_parts > 1)
        all->hits = fits ? myr_alloc(n_hits, sizeof *all->hits) : NULL;
    if (!all->scores || !all->seekers || !all->hits)
        return myr_fail(MYR_ERR_NOMEM, "exact search: no memory for %zu queries of %zu hits", all->n_queries, all->k);
    myr_status status = myr_pool_for(pool, n_blocks * all->n_parts, 1, search_task, all);
    if (status == MYR_OK && all->n_parts > 1)
        myr_topk_join(all->hits, all->n_queries, all->n_parts, all->k, hits);
    return status;
}

myr_status myr_exact_search(const myr_exact *set, myr_pool *pool, const float *queries, size_t n_queries, size_t k,
                            myr_hit *hits)
{
    if (!set || k < 1 || (n_queries > 0 && (!queries || !hits)))
        return myr_fail(MYR_ERR_ARG, "exact search: a set, queries, room for hits and k >= 1 are needed");
    if (n_queries == 0)
        return MYR_OK;
    search all = {.set = set, .queries = queries, .n_queries = n_queries, .k = k, .n_parts = 1, .hits = hits};
    myr_status status = run(&all, pool, hits);
    if (all.n_parts > 1)
        free(all.hits);
    free(all.scores);
    free(all.seekers);
    return status;
}
