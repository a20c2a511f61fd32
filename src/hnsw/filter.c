/*
 * Searches that not every row may answer, and those that ask for all rows within a distance.
 *
 * Both widen the walk until it has seen enough. A filter that accepts one row in ten needs a pool ten times as long for
 * as many candidates as an unfiltered search keeps; where the accepted rows lie far from the query it takes more, and
 * the pool grows again. Rejected nodes are walked through, so that a filter never takes the graph apart. Where a scan
 * over the accepted rows is cheaper by a fixed estimate, it is made instead, and is exact: the outcome depends on the
 * graph, the filter and the query alone.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE = 2048, BLOCK = 256 };

/* ---- Filters ---- */

bool myr_accept_ids(const void *context, int64_t id)
{
    const myr_id_set *set = context;
    size_t low = 0, high = set->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (set->ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < set->n && set->ids[low] == id;
}

bool myr_accept_bitmap(const void *context, int64_t id)
{
    const myr_id_bitmap *map = context;
    return id >= 0 && (uint64_t)id < map->n && map->bits[id / 64] >> (id % 64) & 1;
}

bool myr_accept_labels(const void *context, int64_t id)
{
    const myr_label_set *set = context;
    if (id < 0 || (uint64_t)id >= set->n)
        return false;
    for (size_t i = 0; i < set->n_wanted; i++)
        if (set->labels[id] == set->wanted[i])
            return true;
    return false;
}

static bool accepts(const myr_row_filter *filter, int64_t id)
{
    return !filter || filter->accepts(filter->context, id);
}

/* Whether one of a node's rows is accepted. */
static bool accepts_node(const myr_hnsw *graph, const myr_row_filter *filter, uint32_t node)
{
    if (!filter)
        return true;
    for (uint32_t i = graph->alias_first[node]; i < graph->alias_first[node + 1]; i++)
        if (filter->accepts(filter->context, graph->ids[graph->alias_row[i]]))
            return true;
    return false;
}

/* The share of nodes that are accepted, from some of them, spread evenly. */
static double estimate_share(const myr_hnsw *graph, const myr_row_filter *filter)
{
    size_t n = graph->n_nodes < SAMPLE ? graph->n_nodes : SAMPLE, n_accepted = 0;
    if (!filter)
        return 1;
    for (size_t i = 0; i < n; i++)
        n_accepted += accepts_node(graph, filter, (uint32_t)(i * graph->n_nodes / n));
    return (double)n_accepted / (double)n;
}

/* ---- What it costs ---- */

/* Both in about nanoseconds. A walk that keeps `width` candidates follows as many nodes, of whose links about half are
 * new, and moves the pool for some of them; a scan asks the filter for every node and measures the accepted. */
static double cost_of_walk(const myr_hnsw *graph, double width)
{
    return width * (double)graph->M * (30 + (double)graph->n_code_bytes / 8 + width / 50);
}

static double cost_of_scan(const myr_hnsw *graph, double share)
{
    return (double)graph->n_nodes * (4 + share * (10 + (double)graph->n_code_bytes / 16));
}

/* ---- Hits ---- */

/* The k best, or all within a distance. */
typedef struct answer {
    const myr_hnsw *graph;
    const float *query;
    const myr_row_filter *filter;
    hnsw_query facts;
    float radius; /* NAN = the k best */
    double reach;
    myr_topk top;
    myr_hit *hits; /* within the radius */
    size_t n, room;
    bool failed;
} answer;

static void add_hit(answer *self, myr_hit hit)
{
    if (self->n == self->room) {
        size_t room = self->room ? 2 * self->room : 64;
        if (!myr_resize(&self->hits, self->room, room, sizeof *self->hits)) {
            self->failed = true;
            return;
        }
        self->room = room;
    }
    self->hits[self->n++] = hit;
}

/* Measures a node, whose accepted rows become hits where it is near enough. Whether it is. */
static bool offer(answer *self, uint32_t node, uint32_t code_distance)
{
    const myr_hnsw *graph = self->graph;
    bool by_radius = !isnan(self->radius);
    float distance = hnsw_distance(graph, self->query, &self->facts, node, code_distance);
    if (!(distance <= (by_radius ? self->radius : myr_topk_bound(&self->top))))
        return false;
    for (uint32_t i = graph->alias_first[node]; i < graph->alias_first[node + 1]; i++) {
        myr_hit hit = {.id = graph->ids[graph->alias_row[i]], .distance = distance};
        if (!accepts(self->filter, hit.id))
            continue;
        if (by_radius)
            add_hit(self, hit);
        else
            myr_topk_push(&self->top, hit);
        if (by_radius && self->filter && self->filter->first_only)
            break;
    }
    if (!by_radius)
        self->reach = hnsw_reach(graph, &self->facts, myr_topk_bound(&self->top));
    return true;
}

static void scan(answer *self, const uint8_t *codes)
{
    const myr_hnsw *graph = self->graph;
    uint32_t nodes[BLOCK], distances[BLOCK];
    const uint8_t *rows[BLOCK];
    for (uint32_t node = 0; node < graph->n_nodes;) {
        size_t n = 0;
        for (; node < graph->n_nodes && n < BLOCK; node++) {
            nodes[n] = node;
            rows[n] = codes_of(graph, node);
            n += accepts_node(graph, self->filter, node);
        }
        graph->kernel->code_distances(codes, rows, n, graph->n_code_bytes, distances);
        for (size_t i = 0; i < n; i++)
            if (!is_beyond(graph, nodes[i], distances[i], self->reach))
                offer(self, nodes[i], distances[i]);
    }
}

/* ---- Walks that grow ---- */

typedef struct tally {
    size_t n_accepted, n_beyond; /* of the pool's nodes; beyond the radius */
} tally;

/* One walk with a pool of this width, its nodes offered. */
static myr_status walk(answer *self, hnsw_beam *beam, size_t width, tally *found)
{
    const myr_hnsw *graph = self->graph;
    *found = (tally){0};
    self->n = self->top.n = 0;
    self->reach = hnsw_reach(graph, &self->facts, isnan(self->radius) ? INFINITY : self->radius);
    myr_status status = hnsw_beam_reserve(beam, width);
    if (status != MYR_OK)
        return status;
    hnsw_beam_search(beam, graph, beam->codes, 0, hnsw_beam_descend(beam, graph, beam->codes, 0), width);
    for (size_t i = 0; i < beam->n; i++) {
        uint32_t node = key_node(beam->pool[i]);
        bool is_far = is_beyond(graph, node, key_distance(beam->pool[i]), self->reach);
        if (!accepts_node(graph, self->filter, node))
            continue;
        found->n_accepted++;
        found->n_beyond += is_far || !offer(self, node, key_distance(beam->pool[i]));
    }
    return MYR_OK;
}

/* Walks until enough was seen, or scans. */
static myr_status find(answer *self, hnsw_beam *beam, size_t k, size_t ef)
{
    const myr_hnsw *graph = self->graph;
    double share = estimate_share(graph, self->filter);
    double width = (isnan(self->radius) ? 1.0 : 2.0) * (double)ef / (share > 0 ? share : 1e-9);
    while (cost_of_walk(graph, width) < cost_of_scan(graph, share) || width <= (double)ef) {
        size_t pool = width < (double)graph->n_nodes ? (size_t)width : graph->n_nodes;
        tally found;
        myr_status status = walk(self, beam, pool, &found);
        bool is_enough =
            isnan(self->radius) ? found.n_accepted >= k && 2 * found.n_accepted >= ef : found.n_beyond >= ef;
        if (status != MYR_OK || is_enough || pool == graph->n_nodes)
            return status;
        width *= 3;
    }
    self->n = self->top.n = 0;
    self->reach = hnsw_reach(graph, &self->facts, isnan(self->radius) ? INFINITY : self->radius);
    scan(self, beam->codes);
    return MYR_OK;
}

static myr_status check(const myr_hnsw_searcher *searcher, const float *query, const myr_row_filter *filter)
{
    if (!searcher || !query || (filter && !filter->accepts))
        return myr_fail(MYR_ERR_ARG, "hnsw: a search needs a searcher, a query and a filter that can be asked");
    return myr_hnsw_verify(hnsw_searcher_graph(searcher), NULL); /* a filter looks at rows everywhere */
}

static myr_status begin(answer *self, hnsw_beam *beam)
{
    beam->stats = (myr_hnsw_stats){0};
    if (!hnsw_query_of(self->graph, self->query, NULL, beam->codes, &self->facts))
        return myr_fail(MYR_ERR_ARG, "hnsw: the query holds a value that is not finite");
    return MYR_OK;
}

static void count(const hnsw_beam *beam, myr_hnsw_stats *stats)
{
    if (!stats)
        return;
    stats->n_hops += beam->stats.n_hops;
    stats->n_distances += beam->stats.n_distances;
}

myr_status myr_hnsw_search_filtered(myr_hnsw_searcher *searcher, const float *query, size_t k, size_t ef,
                                    const myr_row_filter *filter, myr_hit *hits, myr_hnsw_stats *stats)
{
    myr_status status = check(searcher, query, filter);
    if (status != MYR_OK)
        return status;
    if (!hits || k < 1 || k > ef)
        return myr_fail(MYR_ERR_ARG, "hnsw: a search needs room for hits and 1 <= k <= ef");
    hnsw_beam *beam = hnsw_searcher_beam(searcher);
    answer self = {.graph = hnsw_searcher_graph(searcher), .query = query, .filter = filter, .radius = (float)NAN};
    myr_topk_init(&self.top, hits, k);
    status = begin(&self, beam);
    if (status == MYR_OK && self.graph->n_nodes > 0)
        status = find(&self, beam, k, ef);
    if (status != MYR_OK)
        return status;
    myr_topk_finish(&self.top);
    count(beam, stats);
    return MYR_OK;
}

static int by_hit(const void *a, const void *b)
{
    const myr_hit *x = a, *y = b;
    return myr_hit_before(*x, *y) ? -1 : myr_hit_before(*y, *x);
}

myr_status myr_hnsw_search_range(myr_hnsw_searcher *searcher, const float *query, float radius, size_t ef,
                                 const myr_row_filter *filter, myr_hit **hits, size_t *n, myr_hnsw_stats *stats)
{
    *hits = NULL;
    *n = 0;
    myr_status status = check(searcher, query, filter);
    if (status != MYR_OK)
        return status;
    bool is_fine = hnsw_searcher_graph(searcher)->metric == MYR_METRIC_IP ? !isnan(radius) : radius >= 0;
    if (!is_fine || ef < 1)
        return myr_fail(MYR_ERR_ARG, "hnsw: a search within a distance needs one that is not negative, and ef >= 1");
    hnsw_beam *beam = hnsw_searcher_beam(searcher);
    answer self = {.graph = hnsw_searcher_graph(searcher), .query = query, .filter = filter, .radius = radius};
    status = begin(&self, beam);
    if (status == MYR_OK && self.graph->n_nodes > 0)
        status = find(&self, beam, 0, ef);
    if (status == MYR_OK && self.failed)
        status = myr_fail(MYR_ERR_NOMEM, "hnsw: no memory for the hits within the distance");
    if (status != MYR_OK) {
        free(self.hits);
        return status;
    }
    if (self.n > 0)
        qsort(self.hits, self.n, sizeof *self.hits, by_hit);
    *hits = self.hits;
    *n = self.n;
    count(beam, stats);
    return MYR_OK;
}
