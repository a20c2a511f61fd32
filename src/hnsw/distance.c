/*
 * Distances that are reported, and the bound that spares most of them.
 *
 * Let q', v' be what the codes of query q and vector v stand for. |q' - v'| is the step times the root of the
 * code distance, and by the triangle inequality |q - v| >= |q' - v'| - |q - q'| - |v - v'|. The last two were
 * measured. Where this bound exceeds the k-th best distance, v need not be looked at; the margins below are far above
 * what rounding can do, so that the answer is the same as without the bound.
 */
#include "hnsw/graph.h"

#include <math.h>

float hnsw_distance(const myr_hnsw *graph, const float *query, const hnsw_query *facts, uint32_t node,
                    uint32_t code_distance)
{
    float vector[MOST_SPARED];
    if (facts->is_whole)
        return (float)sqrt((double)code_distance);
    if (floats_of(graph, node))
        return myr_hit_distance(graph->kernel, graph->metric, query, floats_of(graph, node), graph->dim);
    hnsw_copy_vector(graph, node, vector);
    return myr_hit_distance(graph->kernel, graph->metric, query, vector, graph->dim);
}

bool hnsw_query_of(const myr_hnsw *graph, const float *query, const float *place, uint8_t *codes, hnsw_query *facts)
{
    double residual, stretch;
    if (!hnsw_code_query(graph, query, place, codes, &residual, &stretch))
        return false;
    /* Differences are whole numbers then, and so are their squares and sums: float and double hold them. */
    bool is_whole = graph->metric == MYR_METRIC_L2 && !graph->vectors && !graph->halves && !graph->is_float &&
                    graph->scale.step == 1 && residual == 0;
    *facts = (hnsw_query){.stretch = stretch, .residual = residual, .is_whole = is_whole};
    double longest = graph->longest > graph->radius ? graph->longest : graph->radius;
    if (graph->metric != MYR_METRIC_L2)
        facts->squared = stretch * stretch * graph->kernel->dot(query, query, graph->dim) + longest * longest;
    return true;
}

double hnsw_reach(const myr_hnsw *graph, const hnsw_query *facts, float distance)
{
    /* A float distance is right to 6e-8, and codes stand for values rounded in double. */
    double away = (double)distance + fabs((double)distance) * 1e-6;
    double slack = 1e-30 + 1e-12 * (fabs((double)graph->code_min) + fabs((double)graph->code_max));
    if (graph->metric != MYR_METRIC_L2) {
        /* q.v = (|q|^2 + |v|^2 - |q - v|^2) / 2, solved for |q - v| with the longest v */
        double product = (graph->metric == MYR_METRIC_COSINE ? 1 - away : -away * facts->stretch);
        double squared = 2 * (1e-9 * (1 + facts->squared) - product) + facts->squared;
        away = squared > 0 ? sqrt(squared) : 0;
    }
    return away + facts->residual + slack;
}

void hnsw_push(const myr_hnsw *graph, const float *query, const hnsw_query *facts, uint32_t node,
               uint32_t code_distance, myr_topk *top)
{
    float distance = hnsw_distance(graph, query, facts, node, code_distance);
    if (distance > myr_topk_bound(top))
        return;
    const uint32_t *rows = graph->alias_row + graph->alias_first[node];
    size_t n = graph->alias_first[node + 1] - graph->alias_first[node];
    for (size_t i = 0; i < n && i < top->k; i++) {
        myr_hit hit = {.id = graph->ids[rows[i]], .distance = distance};
        if (top->n == top->k && !myr_hit_before(hit, top->hits[0]))
            return; /* the ids behind are greater still */
        myr_topk_push(top, hit);
    }
}
