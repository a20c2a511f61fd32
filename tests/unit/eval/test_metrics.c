/*
 * Metrics against values worked out by hand and published tables.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/topk.h"
#include "myriops/eval.h"

#include <math.h>
#include <stdlib.h>

static void near(double value, double wanted, double tolerance)
{
    if (!(fabs(value - wanted) <= tolerance))
        fail_msg("%.9f is not %.9f", value, wanted);
}

static void test_recall_counts(void **state)
{
    const int64_t truth[2 * 4] = {1, 2, 3, 4, 10, 11, 12, 13};
    const float distance[2 * 4] = {0, 1, 2, 2, 0, 1, 2, 3};
    /* Query 0: 4 ties with 3 at the k-th place; 9 is as near by its distance. Query 1: one of three, and 10
     * twice. */
    const myr_hit hits[2 * 3] = {{1, 0}, {4, 2}, {9, 2}, {10, 0}, {10, 0}, {99, 7}};
    myr_recall result;

    (void)state;
    assert_int_equal(myr_eval_recall(truth, distance, 4, hits, 2, 3, &result), MYR_OK);
    near(result.recall, (1.0 + 1.0 / 3.0) / 2.0, 1e-12);
    near(result.worst, 1.0 / 3.0, 1e-12);
    assert_true(result.low < result.recall && result.recall < result.high);
    assert_int_equal(myr_eval_recall(truth, NULL, 4, hits, 2, 3, &result), MYR_OK); /* ids alone */
    near(result.recall, 1.0 / 3.0, 1e-12);
    assert_int_equal(myr_eval_recall(truth, NULL, 2, hits, 2, 3, &result), MYR_ERR_ARG);
    assert_int_equal(myr_eval_recall(truth, NULL, 4, hits, 0, 3, &result), MYR_ERR_ARG);
}

static void test_recall_short_rows(void **state)
{
    const int64_t truth[3] = {5, 6, -1};
    const float distance[3] = {1, 2, INFINITY};
    const myr_hit hits[3] = {{5, 1}, {-1, INFINITY}, {-1, INFINITY}};
    myr_recall result;

    (void)state;
    assert_int_equal(myr_eval_recall(truth, distance, 3, hits, 1, 3, &result), MYR_OK);
    near(result.recall, 0.5, 1e-12);
}

/* Newcombe 1998, table I, method 3 (Wilson): 81/263, 15/148, 0/20 and 1/29. */
static void test_interval_is_wilson(void **state)
{
    static const struct {
        size_t right, n;
        double low, high;
    } rows[] = {
        {81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0.0, 0.1611}, {1, 29, 0.0061, 0.1718}};

    (void)state;
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        int64_t *truth = calloc(rows[r].n, sizeof(*truth));
        myr_hit *hits = calloc(rows[r].n, sizeof(*hits));
        myr_recall result;

        assert_true(truth != NULL && hits != NULL);
        for (size_t i = 0; i < rows[r].n; i++)
            hits[i].id = i < rows[r].right ? 0 : 1;
        assert_int_equal(myr_eval_recall(truth, NULL, 1, hits, rows[r].n, 1, &result), MYR_OK);
        near(result.low, rows[r].low, 6e-5);
        near(result.high, rows[r].high, 6e-5);
        free(truth);
        free(hits);
    }
}

static void test_retrieval(void **state)
{
    const int32_t query[4] = {1, 2, -1, 3};
    /* AP of 1 0 1 0 = (1 + 2/3) / 2; query 1: a vote of 2:2, label 7 met first; the last: nothing right. */
    const int32_t hit[4 * 4] = {1, 5, 1, -1, 7, 2, 7, 2, 1, 1, 1, 1, -1, -1, -1, -1};
    const int64_t relevant[4] = {3, 100, 0, 9};
    myr_retrieval result;

    (void)state;
    assert_int_equal(myr_eval_retrieval(query, hit, 4, 4, NULL, &result), MYR_OK);
    assert_int_equal(result.n_scored, 3);
    near(result.knn_accuracy, 1.0 / 3.0, 1e-12);
    near(result.precision, (0.5 + 0.5 + 0.0) / 3.0, 1e-12);
    near(result.map, ((1.0 + 2.0 / 3.0) / 2.0 + (0.5 + 0.5) / 2.0) / 3.0, 1e-12);
    assert_int_equal(myr_eval_retrieval(query, hit, 4, 4, relevant, &result), MYR_OK);
    near(result.map, ((1.0 + 2.0 / 3.0) / 3.0 + (0.5 + 0.5) / 4.0) / 3.0, 1e-12);
    assert_int_equal(myr_eval_retrieval(query + 2, hit, 1, 4, NULL, &result), MYR_OK);
    assert_int_equal(result.n_scored, 0);
    near(result.map, 0.0, 0.0);
    assert_int_equal(myr_eval_retrieval(query, hit, 4, 0, NULL, &result), MYR_ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recall_counts),
        cmocka_unit_test(test_recall_short_rows),
        cmocka_unit_test(test_interval_is_wilson),
        cmocka_unit_test(test_retrieval),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
