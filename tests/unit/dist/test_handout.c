/*
 * Handing out chunks: in order, once each; again where they are late; the first to finish counts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "dist/handout.h"

#include <string.h>

static const myr_manifest ten = {.n_items = 100, .chunk_items = 10, .n_chunks = 10};

static myr_handout *make(const myr_manifest *sizes, int n_ranks)
{
    myr_handout *handout = NULL;
    assert_int_equal(myr_handout_create(sizes, n_ranks, &handout), MYR_OK);
    myr_handout_forgive(handout, 0);
    return handout;
}

static bool finish(myr_handout *handout, int64_t chunk, int rank, double now_s)
{
    int losers[MYR_HANDOUT_HOLDERS], n_losers;
    return myr_handout_finish(handout, chunk, rank, now_s, losers, &n_losers);
}

static void each_chunk_once_and_in_order(void **state)
{
    (void)state;
    myr_handout *handout = make(&ten, 2);
    myr_handout_keep(handout, 0);
    myr_handout_keep(handout, 4);
    myr_handout_keep(handout, 4);
    assert_int_equal(myr_handout_left(handout), 8);
    static const int64_t wanted[] = {1, 2, 3, 5, 6, 7, 8, 9};
    for (int i = 0; i < 8; i++)
        assert_int_equal(myr_handout_next(handout, i % 2, 1), wanted[i]);
    assert_int_equal(myr_handout_next(handout, 0, 1), -1);
    for (int i = 0; i < 8; i++)
        assert_true(finish(handout, wanted[i], i % 2, 2));
    assert_int_equal(myr_handout_left(handout), 0);
    assert_int_equal(myr_handout_repeated(handout), 0);
    assert_false(finish(handout, 3, 0, 2));
    assert_false(finish(handout, -1, 0, 2));
    assert_false(finish(handout, 10, 0, 2));
    assert_int_equal(myr_handout_next(handout, 0, 1000), -1);
    myr_handout_free(handout);
}

/* 10 s a chunk of 10 items: late after 21. */
static void the_longest_late_chunk_goes_out_again(void **state)
{
    (void)state;
    int losers[MYR_HANDOUT_HOLDERS], n_losers;
    myr_handout *handout = make(&ten, 3);
    for (int i = 0; i < 8; i++)
        assert_int_equal(myr_handout_next(handout, 0, 0), i);
    for (int i = 0; i < 8; i++)
        assert_true(finish(handout, i, 0, 10));
    assert_int_equal(myr_handout_next(handout, 1, 10), 8);
    assert_int_equal(myr_handout_next(handout, 2, 11), 9);
    for (int rank = 0; rank < 3; rank++)
        myr_handout_heard(handout, rank, 30);
    assert_int_equal(myr_handout_next(handout, 0, 30.5), -1);
    assert_int_equal(myr_handout_next(handout, 0, 33), 8);  /* both are late: the longer out */
    assert_int_equal(myr_handout_next(handout, 1, 33), 9);  /* never its own */
    assert_int_equal(myr_handout_next(handout, 2, 33), -1); /* late no more: rank 0 has just begun it */
    assert_int_equal(myr_handout_repeated(handout), 2);
    assert_true(myr_handout_finish(handout, 8, 0, 40, losers, &n_losers));
    assert_true(n_losers == 1 && losers[0] == 1);
    assert_false(myr_handout_finish(handout, 8, 1, 41, losers, &n_losers));
    assert_int_equal(n_losers, 0);
    assert_true(myr_handout_finish(handout, 9, 2, 41, losers, &n_losers)); /* the first holder may win */
    assert_true(n_losers == 1 && losers[0] == 1);
    assert_int_equal(myr_handout_left(handout), 0);
    myr_handout_free(handout);
}

static void what_a_silent_rank_has_goes_out_at_once(void **state)
{
    (void)state;
    myr_handout *handout = make(&(myr_manifest){.n_items = 20, .chunk_items = 10, .n_chunks = 2}, 3);
    assert_int_equal(myr_handout_next(handout, 1, 0), 0);
    assert_int_equal(myr_handout_next(handout, 2, 0), 1);
    myr_handout_heard(handout, 2, 11);
    assert_int_equal(myr_handout_next(handout, 0, 12), 0); /* rank 1 has said nothing */
    assert_int_equal(myr_handout_next(handout, 0, 12), -1);
    assert_true(myr_handout_silence(handout, 1, 12) > MYR_HANDOUT_SILENCE_S);
    myr_handout_forgive(handout, 12);
    assert_true(myr_handout_silence(handout, 1, 12) == 0);
    assert_int_equal(myr_handout_next(handout, 0, 31), 1); /* nothing is finished, but half a minute is long */
    myr_handout_free(handout);
}

static void a_chunk_has_a_few_holders_at_most(void **state)
{
    (void)state;
    myr_handout *handout = make(&(myr_manifest){.n_items = 1, .chunk_items = 1, .n_chunks = 1}, 9);
    for (int rank = 0; rank < 9; rank++)
        assert_int_equal(myr_handout_next(handout, rank, 1000.0 * rank), rank < MYR_HANDOUT_HOLDERS ? 0 : -1);
    int losers[MYR_HANDOUT_HOLDERS], n_losers;
    assert_true(myr_handout_finish(handout, 0, 2, 9000, losers, &n_losers));
    assert_int_equal(n_losers, MYR_HANDOUT_HOLDERS - 1);
    myr_handout_free(handout);
}

/* Ranks of all speeds, some of which stop for good: every chunk is finished once, whatever happens. */
static void ranks_at_random(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        myr_manifest sizes = {.n_items = 500, .chunk_items = 32, .guided = true};
        sizes.n_chunks = myr_manifest_count_chunks(&sizes);
        enum { N = 7 };
        int64_t now_at[N], n_finished = 0;
        double ends_s[N], now_s = 0, speed[N];
        myr_handout *handout = make(&sizes, N);
        for (int rank = 0; rank < N; rank++) {
            now_at[rank] = -1;
            speed[rank] = 0.01 + (double)(myr_hash64((uint64_t)rank, seed) % 100) / 50;
        }
        for (; myr_handout_left(handout) > 0 && now_s < 1e5; now_s += 0.25) {
            for (int rank = 0; rank < N; rank++) {
                bool stopped = rank > 0 && myr_hash64((uint64_t)rank, seed + 1000) % 3 == 0 && now_s > 20;
                if (stopped)
                    continue;
                myr_handout_heard(handout, rank, now_s);
                if (now_at[rank] >= 0 && ends_s[rank] <= now_s) {
                    n_finished += finish(handout, now_at[rank], rank, now_s);
                    now_at[rank] = -1;
                }
                if (now_at[rank] < 0 && (now_at[rank] = myr_handout_next(handout, rank, now_s)) >= 0) {
                    int64_t first, n = myr_manifest_chunk(&sizes, now_at[rank], &first);
                    ends_s[rank] = now_s + (double)n * speed[rank];
                }
            }
        }
        assert_int_equal(myr_handout_left(handout), 0);
        assert_int_equal(n_finished, sizes.n_chunks);
        myr_handout_free(handout);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_chunk_once_and_in_order),
        cmocka_unit_test(the_longest_late_chunk_goes_out_again),
        cmocka_unit_test(what_a_silent_rank_has_goes_out_at_once),
        cmocka_unit_test(a_chunk_has_a_few_holders_at_most),
        cmocka_unit_test(ranks_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
