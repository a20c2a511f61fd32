/*
 * Charts: axes at round numbers, points where they belong, texts that are no markup.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buffer.h"
#include "myriops/eval.h"

#include <math.h>
#include <string.h>

static void points_lie_between_round_numbers(void **state)
{
    const double x[] = {1.2, 3, 7.1}, y[] = {0.81, 0.95, 1};
    const myr_chart chart = {.title = "a < b & c", .x_name = "x", .y_name = "y", .n = 3, .x = x, .y = y};
    myr_buffer out = {0};

    (void)state;
    assert_int_equal(myr_chart_write(&chart, &out), MYR_OK);
    myr_buffer_append(&out, "", 1);
    assert_non_null(strstr(out.data, "a &#60; b &#38; c"));
    assert_null(strstr(out.data, "a <"));
    assert_non_null(strstr(out.data, ">0.8</text>")); /* the axis begins below the least */
    assert_non_null(strstr(out.data, ">8</text>"));   /* and ends above the greatest */
    assert_non_null(strstr(out.data, "cy=\"48.0\"")); /* 1 is on top */
    assert_non_null(strstr(out.data, "<title>7.1, 1.0000</title>"));
    myr_buffer_free(&out);
}

static void what_has_no_place_is_refused(void **state)
{
    const double x[] = {1, NAN}, y[] = {INFINITY, 1}, fine[] = {2, 2};
    myr_buffer out = {0};

    (void)state;
    assert_int_equal(myr_chart_write(&(myr_chart){.title = "", .x_name = "", .y_name = ""}, &out), MYR_ERR_ARG);
    assert_int_equal(
        myr_chart_write(&(myr_chart){.title = "", .x_name = "", .y_name = "", .n = 2, .x = x, .y = fine}, &out),
        MYR_ERR_ARG);
    assert_int_equal(
        myr_chart_write(&(myr_chart){.title = "", .x_name = "", .y_name = "", .n = 2, .x = fine, .y = y}, &out),
        MYR_ERR_ARG);
    assert_int_equal(
        myr_chart_write(&(myr_chart){.title = "", .x_name = "", .y_name = "", .n = 2, .x = fine, .y = fine}, &out),
        MYR_OK); /* no width, no height */
    assert_non_null(strstr(out.data, "<polyline"));
    myr_buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(points_lie_between_round_numbers),
        cmocka_unit_test(what_has_no_place_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
