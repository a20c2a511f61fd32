/*
 * The floor everything stands on: order, messages, threads, settings, files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/checksum.h"
#include "base/config.h"
#include "base/file.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/topk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int by_order(const void *a, const void *b)
{
    const myr_hit *x = a, *y = b;
    return myr_hit_before(*x, *y) ? -1 : myr_hit_before(*y, *x);
}

static void topk_is_the_head_of_the_sort(void **state)
{
    (void)state;
    myr_rng rng;
    myr_rng_seed(&rng, 5);
    for (size_t n = 0; n < 60; n++) {
        myr_hit all[64], room[16];
        myr_topk top;
        myr_topk_init(&top, room, 16);
        for (size_t i = 0; i < n; i++) {
            all[i] = (myr_hit){.id = (int64_t)i, .distance = (float)myr_rng_below(&rng, 8)}; /* many ties */
            myr_topk_push(&top, all[i]);
        }
        myr_topk_push(&top, (myr_hit){.id = 99, .distance = NAN});
        myr_topk_finish(&top);
        qsort(all, n, sizeof *all, by_order);
        for (size_t i = 0; i < 16; i++)
            assert_int_equal(room[i].id, i < n ? all[i].id : -1);
    }
}

static void merge_keeps_order_and_drops_copies(void **state)
{
    (void)state;
    myr_hit a[4] = {{1, 0.5f}, {7, 2.0f}, {-1, INFINITY}, {-1, INFINITY}};
    const myr_hit b[4] = {{0, 0.5f}, {7, 2.0f}, {9, 2.5f}, {10, 3.0f}};
    const int64_t expected[4] = {0, 1, 7, 9};
    myr_topk_merge(a, 4, b, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(a[i].id, expected[i]);
}

/* The answers of shards that share items, merged in any order: each item once, the k nearest of all. */
static void merges_of_overlapping_rows_hold_each_item_once(void **state)
{
    (void)state;
    enum { K = 6, ROWS = 5, ITEMS = 24 };
    unsigned seed = 1;
    for (int round = 0; round < 2000; round++) {
        myr_hit rows[ROWS][K], merged[K], backwards[K];
        bool seen[ITEMS] = {false};
        for (int r = 0; r < ROWS; r++) {
            myr_topk top;
            myr_topk_init(&top, rows[r], K);
            for (int id = 0; id < ITEMS; id++) {
                seed = seed * 1664525u + 1013904223u;
                if (seed >> 30 != 0)
                    continue;
                seen[id] = true;
                myr_topk_push(&top, (myr_hit){id, (float)(id * 7 % 5)}); /* many ties */
            }
            myr_topk_finish(&top);
        }
        for (int i = 0; i < K; i++)
            merged[i] = backwards[i] = (myr_hit){-1, INFINITY};
        for (int r = 0; r < ROWS; r++) {
            myr_topk_merge(merged, K, rows[r], K);
            myr_topk_merge(backwards, K, rows[ROWS - 1 - r], K);
        }
        int at = 0;
        for (int distance = 0; distance < 5 && at < K; distance++)
            for (int id = 0; id < ITEMS && at < K; id++)
                if (seen[id] && id * 7 % 5 == distance)
                    assert_int_equal(merged[at++].id, id);
        for (int i = 0; i < K; i++) {
            assert_int_equal(merged[i].id, backwards[i].id);
            if (i >= at)
                assert_int_equal(merged[i].id, -1);
        }
    }
}

static void messages_come_back_and_damage_is_seen(void **state)
{
    (void)state;
    myr_buffer message = {0};
    myr_buffer_put_i64(&message, -5);
    myr_buffer_put_text(&message, "key");
    myr_buffer_put_text(&message, NULL);
    myr_buffer_put_text(&message, "");
    myr_cursor cursor = {.data = message.data, .size = message.size};
    assert_int_equal(myr_cursor_i64(&cursor), -5);
    assert_string_equal(myr_cursor_text(&cursor), "key");
    assert_null(myr_cursor_text(&cursor));
    assert_string_equal(myr_cursor_text(&cursor), "");
    assert_false(cursor.failed);
    assert_int_equal(cursor.at, cursor.size);
    for (size_t cut = 0; cut < message.size; cut++) {
        cursor = (myr_cursor){.data = message.data, .size = cut};
        myr_cursor_i64(&cursor);
        for (int i = 0; i < 3; i++)
            myr_cursor_text(&cursor);
        assert_true(cursor.failed);
    }
    myr_buffer_free(&message);
}

enum { N_ITEMS = 10007, GRAIN = 64, FAILS_AT = 6400 };

typedef struct visits {
    unsigned char seen[N_ITEMS];
    bool fails;
} visits;

static myr_status visit(void *context, size_t first, size_t last, int thread)
{
    visits *all = context;
    assert_true(first % GRAIN == 0 && thread < 4);
    if (all->fails && first == FAILS_AT)
        return myr_fail(MYR_ERR_LIMIT, "piece %zu", first);
    for (size_t i = first; i < last; i++)
        all->seen[i]++;
    return MYR_OK;
}

static void a_loop_visits_each_item_once(void **state)
{
    (void)state;
    static visits all;
    for (int n_threads = 1; n_threads <= 4; n_threads++) {
        myr_pool *pool = NULL;
        assert_int_equal(myr_pool_create(n_threads, &pool), MYR_OK);
        for (int round = 0; round < 50; round++) {
            memset(&all, 0, sizeof all);
            assert_int_equal(myr_pool_for(pool, N_ITEMS, GRAIN, visit, &all), MYR_OK);
            for (size_t i = 0; i < N_ITEMS; i++)
                assert_int_equal(all.seen[i], 1);
        }
        all.fails = true;
        assert_int_equal(myr_pool_for(pool, N_ITEMS, GRAIN, visit, &all), MYR_ERR_LIMIT);
        assert_string_equal(myr_error_detail(), "piece 6400");
        myr_pool_free(pool);
    }
}

static const myr_key keys[] = {
    {"ef-search", MYR_KEY_INT, "100", 1, 1000, NULL, "N", "candidates", "query", 'e'},
    {"max-bad", MYR_KEY_REAL, "0.05", 0, 1, NULL, "SHARE", "bad share", NULL, 0},
    {"format", MYR_KEY_CHOICE, "table", 0, 0, "table|json", "NAME", "output", NULL, 0},
    {"quiet", MYR_KEY_FLAG, "no", 0, 0, NULL, NULL, "less", NULL, 'q'},
    {"out", MYR_KEY_TEXT, NULL, 0, 0, NULL, "DIR", "where", NULL, 0},
};

static myr_config *fresh_config(void)
{
    myr_config *config = NULL;
    assert_int_equal(myr_config_create(keys, sizeof keys / sizeof *keys, "query", &config), MYR_OK);
    return config;
}

static void settings_are_layered(void **state)
{
    (void)state;
    char path[] = "/tmp/myriops-conf-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    const char *text = "[query]\nef-search = 7\nmax-bad = 0.5\nout = from-file\n";
    assert_int_equal(myr_file_replace(path, text, strlen(text)), MYR_OK);
    setenv("MYRIOPS_MAX_BAD", "0.25", 1);
    setenv("MYRIOPS_OUT", "from-environment", 1);
    char *arguments[] = {"--out=from-flag", "a.jpg", "-q", "--", "--b.jpg"};
    const char **operands = NULL;
    size_t n_operands = 0;
    myr_config *config = fresh_config();
    assert_int_equal(myr_config_int(config, "ef-search"), 100);
    assert_int_equal(myr_config_read_file(config, path), MYR_OK);
    assert_int_equal(myr_config_read_environment(config), MYR_OK);
    assert_int_equal(myr_config_read_arguments(config, 5, arguments, &operands, &n_operands), MYR_OK);
    assert_int_equal(myr_config_int(config, "ef-search"), 7);
    assert_true(fabs(myr_config_real(config, "max-bad") - 0.25) < 1e-12);
    assert_string_equal(myr_config_text(config, "out"), "from-flag");
    assert_true(myr_config_flag(config, "quiet"));
    assert_int_equal(n_operands, 2);
    assert_string_equal(operands[1], "--b.jpg");
    myr_buffer dump = {0};
    myr_config_dump(config, &dump);
    assert_non_null(strstr(dump.data, "environment MYRIOPS_MAX_BAD"));
    assert_non_null(strstr(dump.data, path));
    myr_buffer_free(&dump);
    free(operands);
    myr_config_free(config);
    unsetenv("MYRIOPS_MAX_BAD");
    unsetenv("MYRIOPS_OUT");
    unlink(path);
}

static void refuse_flag(char *flag, const char *word)
{
    const char **operands = NULL;
    size_t n_operands = 0;
    myr_config *config = fresh_config();
    assert_int_equal(myr_config_read_arguments(config, 1, &flag, &operands, &n_operands), MYR_ERR_ARG);
    assert_non_null(strstr(myr_error_detail(), word));
    myr_config_free(config);
}

static void bad_settings_are_named(void **state)
{
    (void)state;
    refuse_flag("--ef-serch=5", "did you mean --ef-search");
    refuse_flag("--ef-search=0", "from 1 to 1000");
    refuse_flag("--ef-search=5x", "whole number");
    refuse_flag("--max-bad=nan", "number from 0 to 1");
    refuse_flag("--format=xml", "table|json");
    refuse_flag("--out", "needs a value");
}

static void files_are_replaced_whole(void **state)
{
    (void)state;
    char folder[] = "/tmp/myriops-file-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char *deep = myr_path_join(folder, "a/b"), *path = myr_path_join(folder, "a/b/f");
    myr_buffer text = {0};
    assert_int_equal(myr_folder_create(deep), MYR_OK);
    assert_int_equal(myr_file_replace(path, "old", 3), MYR_OK);
    assert_int_equal(myr_file_replace(path, "newer", 5), MYR_OK);
    assert_int_equal(myr_file_read(path, 5, &text), MYR_OK);
    assert_string_equal(text.data, "newer");
    assert_int_equal(myr_file_read(path, 4, &text), MYR_ERR_LIMIT);
    char *partial = myr_file_partial_name(path);
    assert_false(myr_path_exists(partial));
    assert_int_equal(myr_file_replace(partial, "x", 1), MYR_OK);
    assert_int_equal(myr_folder_sweep(deep), MYR_OK);
    assert_false(myr_path_exists(partial));
    assert_true(myr_path_exists(path));
    assert_int_equal(myr_folder_create(path), MYR_ERR_IO); /* a file stands there */
    assert_int_equal(myr_file_replace("/proc/no/such", "x", 1), MYR_ERR_NOT_FOUND);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
    myr_buffer_free(&text);
    free(partial);
    free(deep);
    free(path);
}

static void hashes_match_their_standards(void **state)
{
    (void)state;
    char text[MYR_SHA256_TEXT];
    myr_sha256_text("abc", 3, text); /* FIPS 180-4, example */
    assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(myr_checksum64("", 0), 0x2d06800538d394c2u); /* XXH3-64 of nothing, xxHash's specification */
    myr_rng rng = {.state = {1, 2, 3, 4}}; /* first values of the authors' xoshiro256** */
    assert_int_equal(myr_rng_next(&rng), 11520);
    assert_int_equal(myr_rng_next(&rng), 0);
    assert_int_equal(myr_rng_next(&rng), 1509978240);
    for (int i = 0; i < 1000; i++)
        assert_in_range(myr_rng_below(&rng, 3), 0, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(topk_is_the_head_of_the_sort),
        cmocka_unit_test(merge_keeps_order_and_drops_copies),
        cmocka_unit_test(merges_of_overlapping_rows_hold_each_item_once),
        cmocka_unit_test(messages_come_back_and_damage_is_seen),
        cmocka_unit_test(a_loop_visits_each_item_once),
        cmocka_unit_test(settings_are_layered),
        cmocka_unit_test(bad_settings_are_named),
        cmocka_unit_test(files_are_replaced_whole),
        cmocka_unit_test(hashes_match_their_standards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
