/*
 * The graph in memory, and what the files of this folder share.
 *
 * A row is a vector as given. Rows with the same bytes are one node: the first of them
 * stands for all, the others are its aliases, so that a million copies of one picture take
 * one node's links. Nodes keep the order of their first rows, hence of their smallest ids.
 *
 * Links of a node at a level end at the first NONE, or fill their place. Level 0 has a
 * fixed place of 2 M links a node; upper levels lie one behind the other, M links each.
 */
#ifndef HNSW_GRAPH_H
#define HNSW_GRAPH_H

#include "base/pool.h"
#include "base/topk.h"
#include "kernel/kernel.h"
#include "myriops/hnsw.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define NONE UINT32_MAX

enum {
    MAX_LEVEL = 15, /* levels 0..15: with M = 2 the 16th is expected only past 2^15 nodes */
    MAX_M = 512,
    MAX_LINKS = 2 * MAX_M,
    BEAMS = 4, /* that walk in turn on a thread. Measured on SIFT: 2 give 1.2 times the speed of 1, 4 1.5, 8 1.4 */
    AHEAD = 4, /* full vectors asked for before they are needed */
    MOST_OF_PRODUCT = 32760, /* dimensions: with a tail no more than MYR_CODE_MAX_DIM */
    MOST_AXES = 1024,
    MOST_SPARED = 4096, /* values of a vector that is not kept as floats: they are made anew on the stack */
};

/* guard.c: of a graph in a file that is checked as it is read. */
typedef struct hnsw_guard {
    const myr_sections *file; /* [borrowed] NULL = only the numbers are checked */
    pthread_mutex_t lock;     /* one checks the whole, others wait for it */
    atomic_bool is_known;     /* the whole was checked */
} hnsw_guard;

struct myr_hnsw {
    size_t n, dim, n_nodes;
    size_t n_axes;       /* whose values codes are of (axes.c); 0 = codes are of the vectors' own values */
    size_t n_tail;       /* values that codes have behind those of a vector (codes.c); 0 unless IP */
    size_t n_code_bytes; /* of a row */
    size_t n_upper;      /* places of M links */
    int M, ef_construction;
    int n_levels;   /* 0 without nodes */
    uint32_t entry; /* a node on the top level; NONE without nodes */
    uint64_t seed;
    myr_metric metric;
    float code_min, code_max;
    float longest; /* no vector is longer */
    float radius;  /* IP: the length that tails lend to all vectors; else 0 */
    myr_scale scale;
    bool is_float; /* codes are the vectors' values, as floats: nothing is rounded, and vectors are not kept beside */
    const myr_kernel *kernel;
    bool borrows;      /* the arrays lie in a mapped file */
    hnsw_guard *guard; /* [owned] NULL = everything was checked */

    const int64_t *ids;          /* (n) ascending */
    const uint32_t *row_node;    /* (n) */
    const uint32_t *alias_first; /* (n_nodes + 1) into alias_row */
    const uint32_t *alias_row;   /* (n) rows by node, ascending in each */
    const float *vectors;        /* (n_nodes, dim); NULL where halves or the codes say all of each */
    const uint16_t *halves;      /* (n_nodes, dim) the vectors, where 16 bits say all of each value; else NULL */
    const uint8_t *codes;        /* (n_nodes, n_code_bytes) */
    const float *axes;           /* panels of the axes (kernel.h) */
    const float *offsets;        /* (n_axes) minus the mean vector's places */
    const float *residuals;      /* (n_nodes) no vector is farther from what its codes stand for */
    const uint8_t *levels;       /* (n_nodes) */
    const uint32_t *upper_first; /* (n_nodes + 1) sum of the levels before */
    const uint32_t *links;       /* (n_nodes, 2 M) */
    const uint32_t *upper_links; /* (n_upper, M) */
};

/* Whether guard.c is to be asked before anything of the arrays is read. */
static inline bool is_guarded(const myr_hnsw *graph)
{
    return graph->guard && !atomic_load_explicit(&graph->guard->is_known, memory_order_acquire);
}

/* A node with its distance as one number that sorts by (distance, node): the low bit is free for a mark. */
static inline uint64_t key_of(uint32_t distance, uint32_t node)
{
    return (uint64_t)distance << 32 | (uint64_t)node << 1;
}

static inline uint32_t key_node(uint64_t key)
{
    return (uint32_t)key >> 1;
}

static inline uint32_t key_distance(uint64_t key)
{
    return (uint32_t)(key >> 32);
}

static inline const uint8_t *codes_of(const myr_hnsw *graph, uint32_t node)
{
    return graph->codes + node * graph->n_code_bytes;
}

/* Values that codes are of, without a tail. */
static inline size_t coded_values(const myr_hnsw *graph)
{
    return graph->n_axes > 0 ? graph->n_axes : graph->dim;
}

/* Bytes of a code row before the zeros that fill it up. */
static inline size_t coded_bytes(const myr_hnsw *graph)
{
    return graph->is_float ? graph->dim * sizeof(float) : coded_values(graph) + graph->n_tail;
}

/* A node's vector where it is kept as floats; else NULL. */
static inline const float *floats_of(const myr_hnsw *graph, uint32_t node)
{
    if (graph->is_float)
        return (const float *)(const void *)codes_of(graph, node);
    return graph->vectors ? graph->vectors + node * graph->dim : NULL;
}

/* What a distance of codes comes to, squared. */
static inline double squared_of(const myr_hnsw *graph, uint32_t code_distance)
{
    return graph->is_float ? (double)myr_float_of_bits(code_distance)
                           : graph->scale.step * graph->scale.step * code_distance;
}

static inline size_t room_at(const myr_hnsw *graph, int level)
{
    return level == 0 ? 2 * (size_t)graph->M : (size_t)graph->M;
}

static inline const uint32_t *links_at(const myr_hnsw *graph, uint32_t node, int level)
{
    size_t M = (size_t)graph->M;
    return level == 0 ? graph->links + node * 2 * M
                      : graph->upper_links + (graph->upper_first[node] + (size_t)level - 1) * M;
}

/* The same of a graph that is being made: its arrays are its own. */
static inline uint32_t *own_links(const myr_hnsw *graph, uint32_t node, int level)
{
    return (uint32_t *)(uintptr_t)links_at(graph, node, level);
}

static inline size_t count_links(const uint32_t *links, size_t room)
{
    size_t n = 0;
    while (n < room && links[n] != NONE)
        n++;
    return n;
}

/*
 * beam.c: the walk through the links (Algorithms 2 and 5), used to build and to search.
 */
typedef struct hnsw_beam {
    uint64_t *pool; /* (room) keys ascending; the low bit marks the nodes whose links were followed */
    size_t room, n;
    uint64_t *seen; /* a bit for each node seen in this walk, in cells of a cache line */
    uint8_t *used;  /* (n_cells) whether a cell holds any */
    size_t n_cells;
    const uint8_t *target; /* codes that distances are measured to */
    size_t next;           /* no place before it in the pool is open */
    uint32_t node;         /* whose links are followed */
    size_t n_fresh;        /* of its links, not seen before */
    uint32_t fresh[MAX_LINKS];
    const uint8_t *rows[MAX_LINKS];
    uint32_t distances[MAX_LINKS];
    uint8_t *codes;    /* (n_code_bytes) of a query */
    myr_status status; /* of a guarded graph: what a walk came upon, which then ended */
    myr_hnsw_stats stats;
} hnsw_beam;

/* room: the greatest ef to come. */
myr_status hnsw_beam_init(hnsw_beam *beam, const myr_hnsw *graph, size_t room);
void hnsw_beam_fini(hnsw_beam *beam);
myr_status hnsw_beam_reserve(hnsw_beam *beam, size_t room);
/* Down from the entry point to the nearest node found on the levels above `level`. */
uint32_t hnsw_beam_descend(hnsw_beam *beam, const myr_hnsw *graph, const uint8_t *codes, int level);
/* The ef <= room nearest nodes found from start at a level, into pool. */
void hnsw_beam_search(hnsw_beam *beam, const myr_hnsw *graph, const uint8_t *codes, int level, uint32_t start,
                      size_t ef);
/*
 * The same at level 0 for n <= BEAMS beams, each for its own target from its own start: while the links and codes of
 * one are on their way from memory, the others work. Each walk is the one it would be alone.
 */
void hnsw_beams_search(hnsw_beam *beams, size_t n, const myr_hnsw *graph, const uint8_t *const *targets,
                       const uint32_t *starts, size_t ef);

/*
 * select.c: which of the candidates become links.
 *
 *  keys  (n) by the distance from a node, ascending
 *  links [in, out] (room) the n_kept first are chosen already; the rest becomes NONE
 */
void hnsw_select(const myr_hnsw *graph, uint32_t node, const uint64_t *keys, size_t n, uint32_t *links, size_t room,
                 size_t n_kept);
void hnsw_sort_keys(uint64_t *keys, size_t n);
/* Keys of n nodes by their distance to one. */
void hnsw_measure(const myr_hnsw *graph, uint32_t from, const uint32_t *nodes, size_t n, uint64_t *keys);

/*
 * axes.c: the axes of a graph that is being made, and the range of codes along them, where `wanted`
 * (myr_hnsw_options.n_axes) and its rows (n) of dim each ask for any. copy: another graph's. slack: how far the
 * rounding of sums may move the place of a vector of this squared length.
 */
myr_status hnsw_make_axes(myr_hnsw *graph, const float *const *rows, int wanted, myr_pool *pool);
myr_status hnsw_copy_axes(const myr_hnsw *from, myr_hnsw *graph);
/* Places of n <= BEAMS vectors along the axes; nothing where there are none. Several at once take half of the time. */
typedef struct hnsw_places {
    float values[BEAMS][MOST_AXES];
} hnsw_places;
static inline void hnsw_place(const myr_hnsw *graph, const float *const *vectors, size_t n, hnsw_places *places)
{
    float *out[BEAMS] = {places->values[0], places->values[1], places->values[2], places->values[3]};
    if (graph->n_axes > 0)
        graph->kernel->project(graph->axes, graph->offsets, graph->dim, graph->n_axes, vectors, n, out);
}
static inline const float *hnsw_place_of(const myr_hnsw *graph, const hnsw_places *places, size_t i)
{
    return graph->n_axes > 0 ? places->values[i] : NULL;
}
double hnsw_axes_slack(const myr_hnsw *graph, double squared);

/*
 * codes.c: a graph's kernel, range of codes and tails, from its metric, dimension, radius, code_min, code_max and
 * whether they are floats. widen: the range as wide as the tails need; before fit, of a graph that is being made.
 */
void hnsw_widen_codes(myr_hnsw *graph);
void hnsw_fit_codes(myr_hnsw *graph);
/*
 * Codes of a query times stretch, or of a vector of this squared length, and the distance from what they stand for,
 * tails and all. place: (n_axes) along the axes, where it was made already by hnsw_place; else NULL. is_exact: whether
 * that is none without the tail. False where a value is not finite.
 */
bool hnsw_code_query(const myr_hnsw *graph, const float *query, const float *place, uint8_t *codes, double *residual,
                     double *stretch);
bool hnsw_code_vector(const myr_hnsw *graph, const float *vector, const float *place, double squared, uint8_t *codes,
                      float *residual, bool *is_exact);

/*
 * The codes to measure other nodes' distances from a node with: its own, or for IP a copy in room, (n_code_bytes)
 * aligned as they are, without the tail. hnsw_tail: what a node's tail adds to such a distance to it.
 */
const uint8_t *hnsw_target(const myr_hnsw *graph, uint32_t node, uint8_t *room);
static inline uint32_t hnsw_tail(const myr_hnsw *graph, uint32_t node)
{
    const uint8_t *tail = codes_of(graph, node) + graph->dim;
    uint32_t sum = 0;
    for (size_t i = 0; i < graph->n_tail; i++)
        sum += (uint32_t)tail[i] * tail[i];
    return sum;
}

/* nodes.c: rows into nodes, aliases, codes. The graph's n, dim, metric and codes' range are set; rows are (n) of dim
 * each. */
myr_status hnsw_make_nodes(myr_hnsw *graph, const float *const *rows, myr_pool *pool);

/*
 * build.c: what a graph has before its nodes are linked.
 *
 *  old_of  (n_nodes) the node of the graph `old` that this one was, NONE = a new one; NULL = all are new
 *  order   [out, owned] (*n) the new nodes, as they are to be linked
 */
myr_status hnsw_make_levels(myr_hnsw *graph, const myr_hnsw *old, const uint32_t *old_of);
myr_status hnsw_make_order(const myr_hnsw *graph, const uint32_t *old_of, uint32_t **order, size_t *n);
myr_status hnsw_check_ids(const int64_t *ids, size_t n);

/* Candidates kept while a node is linked. */
static inline size_t hnsw_build_ef(const myr_hnsw *graph)
{
    size_t ef = (size_t)(graph->ef_construction > graph->M ? graph->ef_construction : graph->M);
    return ef < graph->n_nodes ? ef : graph->n_nodes;
}

/* batch.c: links for n nodes that have none; all others have theirs. */
myr_status hnsw_link_nodes(myr_hnsw *graph, const uint32_t *order, size_t n, myr_pool *pool);

/* repair.c: links so that every node of each level is reached from the entry point. */
myr_status hnsw_repair(const myr_hnsw *graph, myr_pool *pool);

/*
 * distance.c: what is reported, and what need not be measured.
 */
/* What is known of a query, to tell from codes that a node is too far. */
typedef struct hnsw_query {
    double stretch;  /* IP: codes are those of the query times this; else 1 */
    double residual; /* of the query's own codes */
    double squared;  /* |stretch query|^2, and that of the longest vector, tail and all; 0 for L2 */
    bool is_whole;   /* code distances are the squared distances, to the last bit */
} hnsw_query;
/* Codes of the query, whose place is as for hnsw_code_query, and what goes with them; false where a value is not
 * finite. */
bool hnsw_query_of(const myr_hnsw *graph, const float *query, const float *place, uint8_t *codes, hnsw_query *facts);
/*
 * The reach of a distance: a node at squared code distance d, whose residual is r, is farther than the distance
 * where step^2 d > (reach + r)^2.
 */
double hnsw_reach(const myr_hnsw *graph, const hnsw_query *facts, float distance);
/* Whether a node at a code distance is surely beyond the reach. */
static inline bool is_beyond(const myr_hnsw *graph, uint32_t node, uint32_t code_distance, double reach)
{
    double edge = reach + (double)graph->residuals[node];
    return squared_of(graph, code_distance) > edge * edge;
}
/* The distance of a node that is reported; code_distance is the one that was measured. */
float hnsw_distance(const myr_hnsw *graph, const float *query, const hnsw_query *facts, uint32_t node,
                    uint32_t code_distance);
/* The same, and the node's rows are given to the best k. */
void hnsw_push(const myr_hnsw *graph, const float *query, const hnsw_query *facts, uint32_t node,
               uint32_t code_distance, myr_topk *top);

/* search.c: what a searcher is made of, for the other searches. */
hnsw_beam *hnsw_searcher_beam(myr_hnsw_searcher *searcher);
const myr_hnsw *hnsw_searcher_graph(const myr_hnsw_searcher *searcher);

/* graph.c: a node's vector, (dim). */
void hnsw_copy_vector(const myr_hnsw *graph, uint32_t node, float *vector);

/*
 * guard.c: what a search reads of a guarded graph, checked before. MYR_ERR_FORMAT where it is damaged.
 *
 *  links  of a node < n_nodes at a level: they are there, and so are the nodes they lead to
 *  axes   all of them, once
 *  codes  of a node: they can be measured
 *  node   its residual, vector, rows, and ids of the first n_rows
 *  row    the node of a row < n, and its vector
 */
myr_status hnsw_guard_create(const myr_sections *file, hnsw_guard **guard);
void hnsw_guard_free(hnsw_guard *guard);
myr_status hnsw_guard_links(const myr_hnsw *graph, uint32_t node, int level);
myr_status hnsw_guard_axes(const myr_hnsw *graph);
myr_status hnsw_guard_codes(const myr_hnsw *graph, uint32_t node);
myr_status hnsw_guard_node(const myr_hnsw *graph, uint32_t node, size_t n_rows);
myr_status hnsw_guard_row(const myr_hnsw *graph, size_t row);

/* check.c: the numbers, which a file has in its table; and all but reachability. */
myr_status hnsw_check_numbers(const myr_hnsw *graph);
myr_status hnsw_check_shape(const myr_hnsw *graph);

#endif
