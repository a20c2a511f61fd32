/*
 * Clusters against labels, and neighbours' labels, on cases small enough to count by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "myriops/eval.h"

#include <math.h>

static void near(double found, double wanted)
{
    assert_true(fabs(found - wanted) < 1e-9);
}

static void test_agreement(void **state)
{
    static const int64_t same[] = {0, 5, 3, 0}, apart[] = {2, 2, 2, 2}, mixed[] = {3, 1, 0, 4}, one[] = {7, 0},
                         none[] = {0, 0, 0, 0};
    myr_agreement found;

    (void)state;
    assert_int_equal(myr_eval_agreement(same, 2, 2, &found), MYR_OK);
    near(found.purity, 1);
    near(found.nmi, 1);
    assert_int_equal(found.n_labelled, 8);
    assert_int_equal(myr_eval_agreement(apart, 2, 2, &found), MYR_OK);
    near(found.purity, 0.5);
    near(found.nmi, 0);
    assert_int_equal(myr_eval_agreement(mixed, 2, 2, &found), MYR_OK);
    near(found.purity, 7.0 / 8);
    {
        double clusters = log(2.0), labels = -(3.0 / 8 * log(3.0 / 8) + 5.0 / 8 * log(5.0 / 8));
        double both = -(3.0 / 8 * log(3.0 / 8) + 1.0 / 8 * log(1.0 / 8) + 0.5 * log(0.5));

        near(found.nmi, 2 * (clusters + labels - both) / (clusters + labels));
    }
    assert_int_equal(myr_eval_agreement(one, 1, 2, &found), MYR_OK);
    near(found.nmi, 1); /* one cluster, one label */
    assert_int_equal(myr_eval_agreement(none, 2, 2, &found), MYR_OK);
    near(found.purity, 0);
    assert_int_equal(found.n_labelled, 0);
    assert_int_equal(myr_eval_agreement(none, 0, 2, &found), MYR_ERR_ARG);
}

static void test_study(void **state)
{
    static const int32_t first[] = {4, 9, 9, 4}, second[] = {4, 4, -1, 9};
    static const float distance[] = {0.1f, 0.5f, 0.6f, 0.7f};
    myr_label_study *study;
    myr_label_report report;
    double ap;

    (void)state;
    assert_int_equal(myr_label_study_create(MYR_METRIC_COSINE, &study), MYR_OK);
    assert_int_equal(myr_label_study_add(study, 4, first, distance, 0, 3, &ap), MYR_ERR_ARG);
    assert_int_equal(myr_label_study_add(study, 4, first, distance, 4, 3, &ap), MYR_OK);
    near(ap, (1.0 + 2.0 / 4) / 3);
    assert_int_equal(myr_label_study_add(study, 9, second, distance, 4, 1, &ap), MYR_OK);
    near(ap, 1.0 / 4);
    assert_int_equal(myr_label_study_add(study, 7, second, distance, 4, 0, &ap), MYR_OK);
    assert_true(isnan(ap));
    assert_int_equal(myr_label_study_add(study, -1, second, distance, 4, 5, &ap), MYR_OK);
    assert_true(isnan(ap));
    assert_int_equal(myr_label_study_report(study, &report), MYR_OK);
    assert_int_equal(report.n_scored, 3);
    near(report.map.mean, (0.5 + 0.25) / 2);
    near(report.precision[0].mean, 1.0 / 3);
    near(report.precision[1].mean, (0.2 + 0.1) / 3);
    near(report.precision[2].mean, (0.02 + 0.01) / 3);
    near(report.accuracy[0].mean, 1.0 / 3);
    near(report.accuracy[1].mean, 1.0 / 3); /* two votes each: 4 was met first */
    near(report.weighted[1].mean, 1.0 / 3);
    assert_true(report.map.low <= report.map.mean && report.map.mean <= report.map.high);
    assert_int_equal(report.n_rows, 3);
    assert_int_equal(report.rows[0].label, 4);
    assert_int_equal(report.rows[1].label, 7);
    assert_true(isnan(report.rows[1].map));
    near(report.rows[2].map, 0.25);
    near(report.rows[2].accuracy, 0);
    assert_int_equal(report.n_confusions, 2);
    assert_int_equal(report.confusions[0].label, 7);
    assert_int_equal(report.confusions[1].label, 9);
    assert_int_equal(report.confusions[1].taken_for, 4);
    myr_label_report_clear(&report);
    myr_label_study_free(study);
    myr_label_study_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_agreement), cmocka_unit_test(test_study)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
