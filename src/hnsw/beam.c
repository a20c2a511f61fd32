/*
 * The walk: Algorithm 2 with one sorted, bounded pool in place of two heaps.
 *
 * The pool holds the ef nearest nodes so far, those whose links were followed marked in
 * the low bit of their keys. A step takes the nearest unmarked one and goes over its links
 * twice: first the unseen ones are listed and their codes asked for, then they are
 * measured, four at a time. The order is (distance, node), so a walk has one outcome.
 *
 * A walk mostly waits for memory: for the links of a node, then for the codes of those linked to. Several walks that
 * take turns use the time.
 */
#include "hnsw/graph.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

enum {
    LINE = 64,
    MAX_LINES = 4, /* the hardware follows where rows are longer */
    CELL = 512,    /* nodes whose bits fill a cache line */
};

myr_status hnsw_beam_init(hnsw_beam *beam, const myr_hnsw *graph, size_t room)
{
    *beam = (hnsw_beam){0};
    beam->n_cells = graph->n_nodes / CELL + 1;
    beam->seen = myr_alloc_huge(beam->n_cells, CELL / 8);
    beam->used = myr_alloc(beam->n_cells, 1);
    beam->codes = myr_alloc(1, graph->n_code_bytes);
    if (!beam->seen || !beam->used || !beam->codes || hnsw_beam_reserve(beam, room) != MYR_OK) {
        hnsw_beam_fini(beam);
        return myr_fail(MYR_ERR_NOMEM, "hnsw: no memory to search %zu nodes", graph->n_nodes);
    }
    return MYR_OK;
}

void hnsw_beam_fini(hnsw_beam *beam)
{
    free(beam->seen);
    free(beam->used);
    free(beam->codes);
    free(beam->pool);
    *beam = (hnsw_beam){0};
}

myr_status hnsw_beam_reserve(hnsw_beam *beam, size_t room)
{
    if (room <= beam->room)
        return MYR_OK;
    uint64_t *pool = myr_alloc(room, sizeof *pool);
    if (!pool)
        return myr_fail(MYR_ERR_NOMEM, "hnsw: no memory for %zu candidates", room);
    free(beam->pool);
    beam->pool = pool;
    beam->room = room;
    return MYR_OK;
}

/* No node is seen. Costs what the walk before it saw, not what the graph holds. */
static void forget(hnsw_beam *beam)
{
    for (size_t cell = 0; cell < beam->n_cells; cell++) {
        if (!beam->used[cell])
            continue;
        beam->used[cell] = 0;
        memset(beam->seen + cell * (CELL / 64), 0, CELL / 8);
    }
}

static inline bool is_seen(const hnsw_beam *beam, uint32_t node)
{
    return beam->seen[node / 64] >> node % 64 & 1;
}

static inline void see(hnsw_beam *beam, uint32_t node)
{
    beam->seen[node / 64] |= (uint64_t)1 << node % 64;
    beam->used[node / CELL] = 1;
}

static inline void fetch(const myr_hnsw *graph, const uint8_t *row)
{
    size_t n_lines = graph->n_code_bytes / LINE < MAX_LINES ? graph->n_code_bytes / LINE : MAX_LINES;
    for (size_t i = 0; i < n_lines; i++)
        __builtin_prefetch(row + i * LINE);
}

/* Into the pool, the farthest falling out. Returns the place. */
static inline size_t keep(hnsw_beam *beam, uint64_t key, size_t ef)
{
    /* By halves, without a branch to guess: low is the number of keys known to be less. */
    size_t low = 0;
    for (size_t n = beam->n; n > 0;) {
        size_t half = (n + 1) / 2;
        low += beam->pool[low + half - 1] < key ? half : 0;
        n -= half;
    }
    size_t n_behind = beam->n - low;
    if (beam->n == ef)
        n_behind--;
    else
        beam->n++;
    memmove(beam->pool + low + 1, beam->pool + low, n_behind * sizeof *beam->pool);
    beam->pool[low] = key;
    return low;
}

/* Before a step over a guarded graph: false ends the walk. */
static bool may_step(hnsw_beam *beam, const myr_hnsw *graph, uint32_t node, int level)
{
    beam->status = hnsw_guard_links(graph, node, level);
    const uint32_t *links = beam->status == MYR_OK ? links_at(graph, node, level) : NULL;
    size_t n = links ? count_links(links, room_at(graph, level)) : 0;
    for (size_t i = 0; i < n && beam->status == MYR_OK; i++)
        beam->status = hnsw_guard_codes(graph, links[i]);
    return beam->status == MYR_OK;
}

/* First pass: the links not seen yet. Every link is written and only the unseen are counted: no branch to guess. */
static void list_fresh(hnsw_beam *beam, const myr_hnsw *graph, int level)
{
    const uint32_t *links = links_at(graph, beam->node, level);
    uint64_t *seen = beam->seen;
    size_t room = room_at(graph, level), n = 0;
    for (size_t i = 0; i < room && links[i] != NONE; i++) {
        uint32_t link = links[i];
        beam->fresh[n] = link;
        uint64_t cell = seen[link / 64];
        n += ~cell >> link % 64 & 1;
        seen[link / 64] = cell | (uint64_t)1 << link % 64;
    }
    for (size_t i = 0; i < n; i++) {
        beam->rows[i] = codes_of(graph, beam->fresh[i]);
        fetch(graph, beam->rows[i]);
        beam->used[beam->fresh[i] / CELL] = 1;
    }
    beam->n_fresh = n;
}

static inline void fetch_links(const myr_hnsw *graph, uint32_t node, int level)
{
    const char *links = (const char *)links_at(graph, node, level);
    size_t n_bytes = room_at(graph, level) * sizeof(uint32_t);
    for (size_t i = 0; i < n_bytes && i < MAX_LINES * LINE; i += LINE)
        __builtin_prefetch(links + i);
}

/* The first place from `at` on whose links were not followed. */
static inline size_t next_open(const hnsw_beam *beam, size_t at)
{
    while (at < beam->n && beam->pool[at] & 1)
        at++;
    return at;
}

/* Turns to the nearest open node; false where there is none, or its links are damaged. */
static bool turn(hnsw_beam *beam, const myr_hnsw *graph, int level)
{
    beam->next = next_open(beam, beam->next);
    if (beam->next == beam->n)
        return false;
    beam->node = key_node(beam->pool[beam->next]);
    if (is_guarded(graph) && !may_step(beam, graph, beam->node, level))
        return false;
    beam->pool[beam->next] |= 1;
    beam->next = next_open(beam, beam->next);
    return true;
}

/* Second pass: the distances of the listed, the near ones into the pool. */
static void measure_fresh(hnsw_beam *beam, const myr_hnsw *graph, size_t ef)
{
    size_t n = beam->n_fresh;
    graph->kernel->code_distances(beam->target, beam->rows, n, graph->n_code_bytes, beam->distances);
    beam->stats.n_hops++;
    beam->stats.n_distances += n;
    for (size_t i = 0; i < n; i++) {
        uint64_t key = key_of(beam->distances[i], beam->fresh[i]);
        if (beam->n == ef && key > beam->pool[ef - 1])
            continue;
        size_t at = keep(beam, key, ef);
        beam->next = at < beam->next ? at : beam->next;
    }
}

static void walk(hnsw_beam *beam, const myr_hnsw *graph, int level, size_t ef)
{
    while (turn(beam, graph, level)) {
        list_fresh(beam, graph, level);
        if (beam->next < beam->n)
            fetch_links(graph, key_node(beam->pool[beam->next]), level);
        measure_fresh(beam, graph, ef);
    }
}

/* Adds a node to begin from. */
static void start_at(hnsw_beam *beam, const myr_hnsw *graph, uint32_t node, size_t ef)
{
    uint32_t distance = graph->kernel->code_distance(beam->target, codes_of(graph, node), graph->n_code_bytes);
    see(beam, node);
    beam->stats.n_distances++;
    keep(beam, key_of(distance, node), ef);
    beam->next = 0;
}

static void begin(hnsw_beam *beam, const myr_hnsw *graph, const uint8_t *target, uint32_t start, size_t ef)
{
    forget(beam);
    beam->n = 0;
    beam->status = MYR_OK;
    beam->target = target;
    start_at(beam, graph, start, ef);
}

/* Everything is reached from the entry point, but not from every node. */
static void finish(hnsw_beam *beam, const myr_hnsw *graph, int level, size_t ef)
{
    if (beam->n == ef || is_seen(beam, graph->entry) || beam->status != MYR_OK)
        return;
    start_at(beam, graph, graph->entry, ef);
    walk(beam, graph, level, ef);
}

void hnsw_beam_search(hnsw_beam *beam, const myr_hnsw *graph, const uint8_t *codes, int level, uint32_t start,
                      size_t ef)
{
    begin(beam, graph, codes, start, ef);
    walk(beam, graph, level, ef);
    finish(beam, graph, level, ef);
}

void hnsw_beams_search(hnsw_beam *beams, size_t n, const myr_hnsw *graph, const uint8_t *const *targets,
                       const uint32_t *starts, size_t ef)
{
    hnsw_beam *walking[BEAMS];
    size_t n_walking = n;
    for (size_t i = 0; i < n; i++) {
        begin(&beams[i], graph, targets[i], starts[i], ef);
        walking[i] = &beams[i];
    }
    while (n_walking > 0) {
        size_t n_left = 0;
        for (size_t i = 0; i < n_walking; i++) {
            if (!turn(walking[i], graph, 0))
                continue;
            fetch_links(graph, walking[i]->node, 0);
            walking[n_left++] = walking[i];
        }
        n_walking = n_left;
        for (size_t i = 0; i < n_walking; i++)
            list_fresh(walking[i], graph, 0);
        for (size_t i = 0; i < n_walking; i++)
            measure_fresh(walking[i], graph, ef);
    }
    for (size_t i = 0; i < n; i++)
        finish(&beams[i], graph, 0, ef);
}

/* The nearest to codes among a node and its links. */
static uint64_t step_down(hnsw_beam *beam, const myr_hnsw *graph, const uint8_t *codes, int level, uint64_t best)
{
    if (is_guarded(graph) && !may_step(beam, graph, key_node(best), level))
        return best;
    const uint32_t *links = links_at(graph, key_node(best), level);
    size_t n = count_links(links, room_at(graph, level));
    for (size_t i = 0; i < n; i++) {
        beam->rows[i] = codes_of(graph, links[i]);
        fetch(graph, beam->rows[i]);
    }
    graph->kernel->code_distances(codes, beam->rows, n, graph->n_code_bytes, beam->distances);
    beam->stats.n_hops++;
    beam->stats.n_distances += n;
    for (size_t i = 0; i < n; i++) {
        uint64_t key = key_of(beam->distances[i], links[i]);
        best = key < best ? key : best;
    }
    return best;
}

uint32_t hnsw_beam_descend(hnsw_beam *beam, const myr_hnsw *graph, const uint8_t *codes, int level)
{
    const uint8_t *row = codes_of(graph, graph->entry);
    beam->status = is_guarded(graph) ? hnsw_guard_codes(graph, graph->entry) : MYR_OK;
    if (beam->status != MYR_OK)
        return graph->entry;
    uint64_t best = key_of(graph->kernel->code_distance(codes, row, graph->n_code_bytes), graph->entry);
    beam->stats.n_distances++;
    for (int at = graph->n_levels - 1; at > level; at--) {
        for (uint64_t last = 0; last != best;) {
            last = best;
            best = step_down(beam, graph, codes, at, best);
        }
    }
    return key_node(best);
}
