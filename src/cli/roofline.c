/*
 * Limits of one core beside what a network reaches: the time that its products take at the core's peak, and the time
 * that its bytes take, each layer's values and weights moved once. What is left between the longer of the two and the
 * time it takes is what could be won.
 */
#include "cli/roofline.h"

#include "base/alloc.h"
#include "nn/work.h"

#include <stdio.h>
#include <stdlib.h>

#define PEAK_S 1.0
#define BANDWIDTH_S 0.3
#define MEMORY_BYTES ((size_t)512 << 20) /* beyond any cache of one core */
#define CACHE_BYTES ((size_t)1 << 20)    /* within the second one */

myr_status myr_roofline_measure(const myr_network *network, myr_roofline *found)
{
    *found = (myr_roofline){.bytes = myr_network_bytes(network),
                            .weight_bytes = (double)myr_network_weight_bytes(network),
                            .step_flops = myr_alloc(myr_network_n_steps(network), sizeof(double))};
    if (!found->step_flops)
        return myr_fail(MYR_ERR_NOMEM, "no memory for a roofline");
    found->flops = myr_network_flops(network, found->step_flops);
    /* The core's, not the backend's: that of the fastest one. */
    myr_status status = myr_peak_measure(NULL, myr_network_precision(network), PEAK_S, &found->peak_gflops);
    if (status == MYR_OK)
        status = myr_bandwidth_measure(MEMORY_BYTES, BANDWIDTH_S, &found->memory_gb_s);
    if (status == MYR_OK)
        status = myr_bandwidth_measure(CACHE_BYTES, BANDWIDTH_S, &found->cache_gb_s);
    return status;
}

void myr_roofline_clear(myr_roofline *found)
{
    free(found->step_flops);
    found->step_flops = NULL;
}

void myr_roofline_print(const myr_roofline *limits, double runs_per_s)
{
    double gflops = limits->flops * runs_per_s / 1e9;
    printf("one core: %.0f GFLOP/s at best, %.1f GB/s of memory, %.1f GB/s of cache; this network: %.1f GFLOP/s, "
           "%.1f %% of the best\n",
           limits->peak_gflops, limits->memory_gb_s, limits->cache_gb_s, gflops, 100 * gflops / limits->peak_gflops);
    printf("a run takes %.2f ms; its products alone %.2f ms, its %.1f MB (%.1f MB of weights) %.2f ms from memory, "
           "%.2f ms "
           "from cache\n",
           1e3 / runs_per_s, limits->flops / limits->peak_gflops / 1e6, limits->bytes / 1e6, limits->weight_bytes / 1e6,
           limits->bytes / limits->memory_gb_s / 1e6, limits->bytes / limits->cache_gb_s / 1e6);
}

json_t *myr_roofline_json(const myr_roofline *limits, double runs_per_s)
{
    double gflops = limits->flops * runs_per_s / 1e9;
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "peak_gflops", limits->peak_gflops,
                     "bandwidth_gb_s", limits->memory_gb_s, "cache_gb_s", limits->cache_gb_s, "gflops", gflops,
                     "of_peak", gflops / limits->peak_gflops, "flops", limits->flops, "bytes", limits->bytes,
                     "weights_bytes", limits->weight_bytes, "ms", 1e3 / runs_per_s, "ms_of_flops",
                     limits->flops / limits->peak_gflops / 1e6, "ms_of_bytes",
                     limits->bytes / limits->memory_gb_s / 1e6, "ms_of_bytes_in_cache",
                     limits->bytes / limits->cache_gb_s / 1e6);
}

static double per_second(double of_a_run, const myr_step_time *step, size_t n_runs)
{
    return step->seconds > 0 ? of_a_run * (double)n_runs / step->seconds / 1e9 : 0;
}

void myr_roofline_print_step(const myr_roofline *limits, size_t i, const myr_step_time *step, size_t n_runs)
{
    printf("%8.1f %7.1f ", per_second(limits->step_flops[i], step, n_runs), per_second(step->bytes, step, n_runs));
}

void myr_roofline_add_step(const myr_roofline *limits, size_t i, const myr_step_time *step, size_t n_runs,
                           json_t *object)
{
    if (!object)
        return;
    json_object_set_new(object, "gflops", json_real(per_second(limits->step_flops[i], step, n_runs)));
    json_object_set_new(object, "gb_s", json_real(per_second(step->bytes, step, n_runs)));
}
