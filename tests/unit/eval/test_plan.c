/*
 * Plans: what they tell of sizes that can be reckoned by hand, that more machines never take longer, and what is
 * refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "myriops/plan.h"

#include <math.h>

static myr_plan_request some_request(void)
{
    return (myr_plan_request){.n_items = 1e8,
                              .dim = 256,
                              .M = 16,
                              .ranks = 8,
                              .threads = 4,
                              .shards = 16,
                              .code_bytes = 256,
                              .kept_value_bytes = 2,
                              .embedding_value_bytes = 4,
                              .rates = {.picture_s = 0.01,
                                        .insert_s = {50e-6, 60e-6},
                                        .search_s = {40e-6, 50e-6},
                                        .n_small = 1024,
                                        .n_large = 4096,
                                        .assign_s = 1e-9}};
}

static void sizes_and_times_add_up(void **state)
{
    myr_plan_request request = some_request();
    myr_plan plan;

    (void)state;
    assert_int_equal(myr_plan_make(&request, &plan), MYR_OK);
    assert_int_equal(plan.shards, 16);
    assert_true(fabs(plan.embed_s - 1e8 * 0.01 / 32) < 1e-6);
    assert_true(plan.embeddings_bytes > 1e8 * 1024 && plan.embeddings_bytes < 1e8 * 1200);
    /* codes 256, kept 512, links 128 and a few */
    assert_true(plan.index_bytes > 1e8 * 896 && plan.index_bytes < 1e8 * 1100);
    assert_true(fabs(plan.serve_rank_bytes * 8 - plan.index_bytes) < 1);
    /* an insertion at 6.25 million: 60 us and 5 us for each doubling past 4096 */
    double insert_s = 60e-6 + 5e-6 * log2(6.25e6 / 4096);
    assert_true(plan.graph_s >= 2 * 6.25e6 * insert_s / 4 && plan.graph_s < 2.2 * 6.25e6 * insert_s / 4);
    assert_true(fabs(plan.index_s - plan.partition_s - plan.exchange_s - plan.graph_s - plan.write_s) < 1e-6);
    assert_true(plan.visits >= 1 && plan.visits < 16 && plan.routed_qps > plan.scattered_qps);
}

/* What lies in two shards takes room and time twice, and saves visits; of one shard nothing lies in two. */
static void overlap_costs_and_saves(void **state)
{
    myr_plan_request request = some_request();
    myr_plan plain, more;

    (void)state;
    assert_int_equal(myr_plan_make(&request, &plain), MYR_OK);
    request.overlap = 0.25;
    assert_int_equal(myr_plan_make(&request, &more), MYR_OK);
    assert_true(fabs(more.index_bytes / plain.index_bytes - 1.25) < 1e-9);
    assert_true(fabs(more.shard_items / plain.shard_items - 1.25) < 1e-9);
    assert_true(more.index_s > 1.25 * plain.index_s && more.index_s < 1.6 * plain.index_s);
    assert_true(more.visits < plain.visits && more.routed_qps > plain.routed_qps);
    assert_true(more.embeddings_bytes == plain.embeddings_bytes);
    request.shards = 1;
    assert_int_equal(myr_plan_make(&request, &more), MYR_OK);
    assert_true(more.shard_items == 1e8);
}

static void more_machines_take_no_longer(void **state)
{
    myr_plan_request request = some_request();
    double last_s = INFINITY, last_bytes = INFINITY;

    (void)state;
    for (request.ranks = 1; request.ranks <= 16; request.ranks *= 2) {
        myr_plan plan;
        assert_int_equal(myr_plan_make(&request, &plan), MYR_OK);
        assert_true(plan.index_s < last_s && plan.build_rank_bytes < last_bytes);
        last_s = plan.index_s;
        last_bytes = plan.build_rank_bytes;
    }
    request.rank_bytes = last_bytes * 1.001; /* what 16 ranks need */
    request.ranks = 1;
    myr_plan plan;
    assert_int_equal(myr_plan_make(&request, &plan), MYR_OK);
    assert_int_equal(plan.least_ranks, 16);
}

static void shards_are_chosen(void **state)
{
    myr_plan_request request = some_request();
    myr_plan plan;

    (void)state;
    request.shards = 0;
    assert_int_equal(myr_plan_make(&request, &plan), MYR_OK);
    assert_int_equal(plan.shards % request.ranks, 0);
    assert_true(plan.shard_items <= 4e6 && plan.shard_items > 1e6);
    request.n_items = 10;
    assert_int_equal(myr_plan_make(&request, &plan), MYR_OK);
    assert_int_equal(plan.shards, request.ranks);
    request.n_items = 1e15;
    assert_int_equal(myr_plan_make(&request, &plan), MYR_OK);
    assert_true(isfinite(plan.index_s) && plan.index_bytes > 0);
}

static void what_makes_no_sense_is_refused(void **state)
{
    myr_plan_request request = some_request(), bad;
    myr_plan plan;

    (void)state;
    bad = request, bad.n_items = 0;
    assert_int_equal(myr_plan_make(&bad, &plan), MYR_ERR_ARG);
    bad = request, bad.n_items = NAN;
    assert_int_equal(myr_plan_make(&bad, &plan), MYR_ERR_ARG);
    bad = request, bad.ranks = 0;
    assert_int_equal(myr_plan_make(&bad, &plan), MYR_ERR_ARG);
    bad = request, bad.M = 1;
    assert_int_equal(myr_plan_make(&bad, &plan), MYR_ERR_ARG);
    bad = request, bad.overlap = 1.5;
    assert_int_equal(myr_plan_make(&bad, &plan), MYR_ERR_ARG);
    bad = request, bad.rates.assign_s = 0;
    assert_int_equal(myr_plan_make(&bad, &plan), MYR_ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_and_times_add_up),         cmocka_unit_test(overlap_costs_and_saves),
        cmocka_unit_test(more_machines_take_no_longer),   cmocka_unit_test(shards_are_chosen),
        cmocka_unit_test(what_makes_no_sense_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
