/*
 * The plan of the arena: what lives at the same time lies apart, and what does not shares.
 */
#include "base/rng.h"
#include "nn/program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static void free_nothing(void *state)
{
    (void)state;
}

static const myr_step_kind nothing = {.free = free_nothing};

static bool live_together(const myr_slot *a, const myr_slot *b)
{
    return a->kept || b->kept || (a->first <= b->last && b->first <= a->last);
}

/* Buffers of random sizes and lifetimes, some of them kept, some that no step touches. */
static void make_random(myr_program *program, size_t n, size_t n_steps, uint64_t seed)
{
    myr_rng rng;
    myr_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        int buffer;
        assert_int_equal(myr_program_add_buffer(program, 1 + myr_rng_below(&rng, 5000), &buffer), MYR_OK);
        program->buffers[i].kept = i > 0 && myr_rng_below(&rng, 50) == 0;
    }
    for (size_t i = 0; i < n_steps; i++) {
        int touched[4];
        for (int j = 0; j < 4; j++) /* near each other, as in a network, and now and then not */
            touched[j] = (int)(myr_rng_below(&rng, 20) ? (i * n / n_steps + myr_rng_below(&rng, 8)) % (n - 1)
                                                       : myr_rng_below(&rng, n - 1));
        assert_int_equal(myr_program_add_step(program, &nothing, "step", NULL, touched, 4, i), MYR_OK);
    }
}

static void buffers_that_live_together_lie_apart(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        myr_program program = {0};
        make_random(&program, 2 + seed * 17, 5 + seed * 11, seed);
        assert_int_equal(myr_program_lay_out(&program), MYR_OK);
        size_t top = 0, whole = 0;
        for (size_t i = 0; i < program.n_buffers; i++) {
            const myr_slot *a = &program.buffers[i];
            assert_int_equal(a->offset % 64, 0);
            top = a->offset + a->bytes > top ? a->offset + a->bytes : top;
            whole += a->bytes;
            for (size_t j = 0; j < i; j++) {
                const myr_slot *b = &program.buffers[j];
                bool touched = a->last >= 0 && b->last >= 0;
                if (touched && live_together(a, b))
                    assert_true(a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset);
            }
        }
        assert_int_equal(program.scratch_offset, top);
        assert_true(program.arena_bytes >= top && top <= whole);
        myr_program_clear(&program);
    }
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* A chain needs two buffers' room, however long it is. */
static void chains_take_two_places(void **state)
{
    (void)state;
    myr_program program = {0};
    int before, after;
    assert_int_equal(myr_program_add_buffer(&program, 4096, &before), MYR_OK);
    for (int i = 0; i < 400000; i++, before = after) {
        assert_int_equal(myr_program_add_buffer(&program, 4096, &after), MYR_OK);
        assert_int_equal(myr_program_add_step(&program, &nothing, "step", NULL, (int[]){before, after}, 2, 0), MYR_OK);
    }
    double start = seconds();
    assert_int_equal(myr_program_lay_out(&program), MYR_OK);
    assert_true(seconds() - start < 20); /* minutes where each is compared with all */
    assert_int_equal(program.arena_bytes, 2 * 4096);
    myr_program_clear(&program);
}

/* Too many at once to look for gaps between them: still apart. */
static void crowds_lie_apart(void **state)
{
    (void)state;
    enum { CROWD = 3000 };
    myr_program program = {0};
    static int all[CROWD];
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(myr_program_add_buffer(&program, (size_t)(i % 7 + 1) * 64, &all[i]), MYR_OK);
    assert_int_equal(myr_program_add_step(&program, &nothing, "all", NULL, all, CROWD, 0), MYR_OK);
    assert_int_equal(myr_program_lay_out(&program), MYR_OK);
    size_t whole = 0;
    for (int i = 0; i < CROWD; i++) {
        whole += program.buffers[i].bytes;
        for (int j = 0; j < i; j++)
            assert_true(program.buffers[i].offset + program.buffers[i].bytes <= program.buffers[j].offset ||
                        program.buffers[j].offset + program.buffers[j].bytes <= program.buffers[i].offset);
    }
    assert_int_equal(program.arena_bytes, whole);
    myr_program_clear(&program);
}

static void nothing_takes_nothing(void **state)
{
    (void)state;
    myr_program program = {0};
    assert_int_equal(myr_program_lay_out(&program), MYR_OK);
    assert_int_equal(program.arena_bytes, 0);
    myr_program_clear(&program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffers_that_live_together_lie_apart),
        cmocka_unit_test(chains_take_two_places),
        cmocka_unit_test(crowds_lie_apart),
        cmocka_unit_test(nothing_takes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
