/*
 * HNSW: a graph in which the nearest neighbours of a vector are found in few steps.
 *
 * Distances along the way are integers on 8-bit codes, so that the same graph and
 * the same hits come out for any number of threads and any instruction set; the
 * best are measured again on the full vectors.
 */
#ifndef MYRIOPS_HNSW_H
#define MYRIOPS_HNSW_H

#include "myriops/hit.h"
#include "myriops/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct myr_pool myr_pool;
typedef struct myr_sections myr_sections;
typedef struct myr_sections_writer myr_sections_writer;
struct myr_vectors;                                /* vectors.h */
typedef struct myr_hnsw myr_hnsw;                   /* a graph; read only, shared by threads */
typedef struct myr_hnsw_searcher myr_hnsw_searcher; /* one thread's memory for searching it */

/* myr_hnsw_options.n_axes: as many as hold three quarters of the variance, where these are at most half of the values and
 * there are 256 values or more; else none. */
#define MYR_HNSW_AXES_BY_DATA (-1)

typedef struct myr_hnsw_options {
    int M;               /* links of a node on the upper levels, twice that at level 0; 2..512; 0 = 16 */
    int ef_construction; /* candidates kept while a node is linked; 0 = 200 */
    uint64_t seed;       /* of the levels */
    myr_metric metric;   /* COSINE: vectors must be of length 1; IP: of any length */
    /* The values that codes 0 and 255 stand for; values outside are clamped. Both 0: those of the vectors, by
     * myr_hnsw_fit_codes. Else code_max > code_min, or both equal when all values are. IP may widen the range. */
    float code_min, code_max;
    /* Walks measure the vectors themselves, as floats in place of codes: four times the bytes a distance, for data whose
     * values range too widely for 256 steps. L2 and COSINE; no vector longer than 6e18. */
    bool is_float;
    /* Codes are of each vector's place along so many axes, those of the greatest variance, in place of all its values:
     * much less memory for a walk over wide vectors. Rounded up to a multiple of 64, at most 1024; none where that is no
     * fewer than the values, or there are fewer than 256 vectors. 0 = none, or MYR_HNSW_AXES_BY_DATA. L2 and COSINE, not
     * with is_float; code_min and code_max are then measured. */
    int n_axes;
} myr_hnsw_options;

/*
 * myr_hnsw_fit_codes - a range of codes for whole numbers: one code for each.
 *
 * 0..255 where they lie in it, else 256 of them from the least. Codes lose nothing then, and the graph keeps no vectors
 * beside them. Where numbers are not whole, or span more, the range stays as it is.
 *
 *  code_min, code_max  [in, out] of all values; INFINITY and -INFINITY where there are none, which gives 0..255
 */
MYR_API void myr_hnsw_fit_codes(bool all_whole, float *code_min, float *code_max);

/*
 * myr_hnsw_round - values to the nearest that 16 bits hold (IEEE binary16, ties to even), in place.
 *
 * Graphs keep such vectors in half the memory, and search them as fast or faster. Values change by at most 1 in 2048
 * of themselves, or 3e-8; those beyond 65504 stay as they are, and the graph's vectors stay floats.
 */
MYR_API void myr_hnsw_round(float *values, size_t n);

/*
 * myr_hnsw_build - a graph over n vectors.
 *
 * Local. Deterministic: vectors, ids and options decide every link.
 *
 *  vectors  [in]         (n, dim) f32, finite; copied
 *  ids      [in]         (n) ascending, distinct, >= 0; copied
 *  pool     [borrowed]   NULL = this thread alone
 *  graph    [out, owned] release with myr_hnsw_free; rows keep the order given
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_LIMIT (n >= 2^31, dim > 65536, or 32760 for IP) | MYR_ERR_NOMEM. n = 0 is
 *           fine.
 * Cost:     O(n log n) distances; n * (5 * dim + 8 * M) bytes and a few more; up to dim = 4096 n * (3 * dim + 8 * M)
 *           where 16 bits hold every value (myr_hnsw_round), and n * (dim + 8 * M) where every value is one that a code
 *           stands for, such as whole numbers 0..255 under code_min = 0, code_max = 255: codes are the vectors then.
 * Source:   Malkov & Yashunin 2018, Algorithms 1 to 5.
 */
MYR_API myr_status myr_hnsw_build(const float *vectors, size_t n, size_t dim, const int64_t *ids,
                                  const myr_hnsw_options *options, myr_pool *pool, myr_hnsw **graph);
MYR_API void myr_hnsw_free(myr_hnsw *graph); /* NULL is fine */
/*
 * myr_hnsw_build_rows - the same of f32, f16, u8, i8, f64 or i32 values: a file's, or memory that a myr_vectors is filled
 * in for ({.n, .dim, .element, .rows, .row_bytes}).
 *
 *  vectors  [in]  n of dim each, finite; the graph is that of the same values in f32
 *
 * Cost:     (n, dim) f32 more while it builds.
 */
MYR_API myr_status myr_hnsw_build_rows(const struct myr_vectors *vectors, const int64_t *ids,
                                       const myr_hnsw_options *options, myr_pool *pool, myr_hnsw **graph);

/*
 * myr_hnsw_add, myr_hnsw_remove - a new graph with vectors more, or less.
 *
 * Local. The graph given stays as it is: threads may search it meanwhile, and it is freed on its own. The new one is
 * compact: nothing of what was removed is left in it. Deterministic: the graph and the change decide every link, so the
 * same changes in the same order give the same bytes; other bytes than one build of all that is left gives.
 *
 *  vectors  [in]         (n, dim) f32, finite; copied. The range of codes stays the graph's: values outside are
 *                        clamped, which costs recall where they are many. Build anew then.
 *  ids      [in]         (n) ascending, distinct; to add: not in the graph; to remove: in it
 *  pool     [borrowed]   NULL = this thread alone
 *  updated  [out, owned] release with myr_hnsw_free
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOT_FOUND (an id to remove is not there) | MYR_ERR_FORMAT (a
 *           damaged graph) | MYR_ERR_LIMIT | MYR_ERR_NOMEM
 * Cost:     a copy of the graph, and: to add, the distances of a build for the new ones; to remove, about M^2 distances
 *           for each vector that had a link to one removed.
 * Source:   Singh et al. 2021 (FreshDiskANN), Algorithm 4, for what is removed.
 */
MYR_API myr_status myr_hnsw_add(const myr_hnsw *graph, const float *vectors, size_t n, const int64_t *ids,
                                myr_pool *pool, myr_hnsw **updated);
MYR_API myr_status myr_hnsw_remove(const myr_hnsw *graph, const int64_t *ids, size_t n, myr_pool *pool,
                                   myr_hnsw **updated);
/* Adds values of any type, as myr_hnsw_build_rows takes them. */
MYR_API myr_status myr_hnsw_add_rows(const myr_hnsw *graph, const struct myr_vectors *vectors, const int64_t *ids,
                                     myr_pool *pool, myr_hnsw **updated);

/*
 * myr_hnsw_check - the invariants: link bounds, no self link, no link twice, levels, entry point, every node
 * reachable from the entry point along level 0, aliases well formed, ids ascending.
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT (says which node and what) | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_hnsw_check(const myr_hnsw *graph);

/* myr_hnsw_digest - SHA-256 over codes, ids, links and options, as text; "" where the graph's file is damaged, or
 * without memory. */
MYR_API void myr_hnsw_digest(const myr_hnsw *graph, char text[65]);

typedef struct myr_hnsw_facts {
    size_t n, dim, n_axes;
    int M, ef_construction, n_levels;
    uint64_t seed;
    myr_metric metric;
    size_t n_nodes;    /* distinct vectors; n - n_nodes rows are aliases of them */
    size_t n_bytes;    /* of codes, links, vectors and what goes with them */
    double mean_links; /* a node at level 0; 0 of a graph that is not verified yet */
} myr_hnsw_facts;
MYR_API void myr_hnsw_describe(const myr_hnsw *graph, myr_hnsw_facts *facts);

/* The vector of a row, as it was given: (dim) f32. row < n. MYR_ERR_FORMAT where the graph's file is damaged there. */
MYR_API myr_status myr_hnsw_vector(const myr_hnsw *graph, size_t row, float *vector);

/* The first row with the vector of a row: the row itself where none before it has the same. row < n. MYR_ERR_FORMAT where
 * the graph's file is damaged. */
MYR_API myr_status myr_hnsw_first_equal(const myr_hnsw *graph, size_t row, size_t *first);

MYR_API myr_status myr_hnsw_searcher_create(const myr_hnsw *graph, myr_hnsw_searcher **searcher);
MYR_API void myr_hnsw_searcher_free(myr_hnsw_searcher *searcher);

typedef struct myr_hnsw_stats {
    uint64_t n_hops;      /* nodes whose links were followed */
    uint64_t n_distances; /* code distances */
} myr_hnsw_stats;

/*
 * myr_hnsw_search - k nearest rows of a vector.
 *
 *  query    [in]   (dim) f32, finite; of length 1 where the metric is cosine
 *  k, ef    1 <= k <= ef: ef candidates are kept along the way
 *  hits     [out]  (k) ascending (distance, id); short rows end in id -1
 *  stats    [in, out]  counts are added; NULL = not wanted
 *
 * Units:    distance as the metric has it (hit.h); from the full vectors, in double, summed in a fixed order
 * Returns:  MYR_OK | MYR_ERR_ARG
 * Source:   Malkov & Yashunin 2018, Algorithms 2 and 5.
 */
MYR_API myr_status myr_hnsw_search(myr_hnsw_searcher *searcher, const float *query, size_t k, size_t ef, myr_hit *hits,
                                   myr_hnsw_stats *stats);

/*
 * myr_hnsw_search_batch - myr_hnsw_search of many queries, several in turn on this thread: hit for hit the same, and
 * about half as fast again, since one waits for memory while another works.
 *
 *  queries  [in]   (n_queries, dim) f32
 *  hits     [out]  (n_queries, k)
 */
MYR_API myr_status myr_hnsw_search_batch(myr_hnsw_searcher *searcher, const float *queries, size_t n_queries, size_t k,
                                         size_t ef, myr_hit *hits, myr_hnsw_stats *stats);

/*
 * myr_hnsw_search_all - myr_hnsw_search_batch on all threads of a pool, whose searchers live as long as the call.
 *
 *  pool     [borrowed]  NULL = this thread alone
 *  queries  [in]   (n_queries, dim) f32
 *  hits     [out]  (n_queries, k)
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_hnsw_search_all(const myr_hnsw *graph, myr_pool *pool, const float *queries, size_t n_queries,
                                       size_t k, size_t ef, myr_hit *hits);

/*
 * Filters: which rows may be hits. `accepts` is asked for ids in no particular order, some of them several times; it
 * must answer alike each time. A filter of one's own, or one of those below with its set as context.
 */
typedef struct myr_row_filter {
    bool (*accepts)(const void *context, int64_t id);
    const void *context; /* [borrowed] */
    bool first_only;     /* of rows with the same vector, the first accepted one alone; searches within a distance */
} myr_row_filter;

typedef struct myr_id_set {
    const int64_t *ids; /* (n) ascending */
    size_t n;
} myr_id_set;
MYR_API bool myr_accept_ids(const void *id_set, int64_t id);

typedef struct myr_id_bitmap {
    const uint64_t *bits; /* bit id % 64 of word id / 64; (n + 63) / 64 words */
    size_t n;             /* ids from n on are not accepted */
} myr_id_bitmap;
MYR_API bool myr_accept_bitmap(const void *id_bitmap, int64_t id);

typedef struct myr_label_set {
    const int32_t *labels; /* (n) by id */
    size_t n;
    const int32_t *wanted; /* (n_wanted) any of these */
    size_t n_wanted;
} myr_label_set;
MYR_API bool myr_accept_labels(const void *label_set, int64_t id);

/*
 * myr_hnsw_search_filtered - k nearest of the rows that a filter accepts.
 *
 *  ef      as many accepted candidates are looked for: the walk is widened until about as many were seen. Where
 *          scanning the accepted rows is estimated to be cheaper, that is done, and is exact.
 *  filter  [borrowed]  NULL = every row
 *  hits    [out]  (k) ascending (distance, id); fewer than k accepted rows end in id -1
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM. Otherwise as myr_hnsw_search.
 */
MYR_API myr_status myr_hnsw_search_filtered(myr_hnsw_searcher *searcher, const float *query, size_t k, size_t ef,
                                            const myr_row_filter *filter, myr_hit *hits, myr_hnsw_stats *stats);

/*
 * myr_hnsw_search_range - all accepted rows within a distance, as far as they are found.
 *
 *  radius  in the units of hits, >= 0 but for IP, where minus the least product is wanted; a row at just this distance
 *          is within it
 *  ef      the walk is widened until so many accepted candidates beyond the radius were seen
 *  hits    [out, owned]  (*n) ascending (distance, id), release with free(); NULL where there are none
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_hnsw_search_range(myr_hnsw_searcher *searcher, const float *query, float radius, size_t ef,
                                         const myr_row_filter *filter, myr_hit **hits, size_t *n,
                                         myr_hnsw_stats *stats);

/*
 * myr_hnsw_search_exact - the true k nearest, by scanning all full vectors.
 *
 *  queries  [in]   (n_queries, dim) f32
 *  hits     [out]  (n_queries, k), as myr_hnsw_search gives them, distance for distance
 */
MYR_API myr_status myr_hnsw_search_exact(const myr_hnsw *graph, myr_pool *pool, const float *queries, size_t n_queries,
                                         size_t k, myr_hit *hits);

enum { MYR_CURVE_K = 10, MYR_CURVE_POINTS = 16 };

typedef struct myr_hnsw_curve {
    uint64_t n_queries;
    uint64_t n_true;                    /* nearest neighbours they have, MYR_CURVE_K each at most */
    uint64_t n_found[MYR_CURVE_POINTS]; /* of these, at each ef */
} myr_hnsw_curve;

/*
 * myr_hnsw_measure - recall@10 at several ef, with rows of the graph as queries, each left out of its own answer.
 *
 * Rows are in the graph, so the curve flatters it a little. The same for any number of threads; curves of several
 * graphs add up.
 *
 *  share  of the rows that is asked with, drawn by a hash of their ids; 65536 rows at most
 *  efs    [in] (n_efs) n_efs <= MYR_CURVE_POINTS
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_hnsw_measure(const myr_hnsw *graph, myr_pool *pool, double share, const size_t *efs,
                                    size_t n_efs, myr_hnsw_curve *curve);

/*
 * myr_hnsw_save, myr_hnsw_open - the graph as sections of a file that may hold others too.
 *
 * Names of its sections, texts and numbers begin with "hnsw_". The opened graph borrows the mapped bytes: close the
 * sections after freeing it. open checks every bound as myr_hnsw_check does, since the file may be hostile; of a lazy
 * file (store.h) it takes the numbers alone, in a millisecond whatever the size. Then a search checks what it reads
 * before it does, and everything else first checks the whole, as myr_hnsw_verify does on all threads of a pool; what is
 * damaged is MYR_ERR_FORMAT there.
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT | MYR_ERR_UNSUPPORTED (a later version) | MYR_ERR_IO | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_hnsw_save(const myr_hnsw *graph, myr_sections_writer *writer);
MYR_API myr_status myr_hnsw_open(const myr_sections *sections, myr_hnsw **graph);
MYR_API myr_status myr_hnsw_verify(const myr_hnsw *graph, myr_pool *pool);

#ifdef __cplusplus
}
#endif
#endif
