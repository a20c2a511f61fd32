/*
 * The contact sheet: hostile keys stay text, pictures survive, nothing is fetched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buffer.h"
#include "myriops/eval.h"

#include <string.h>

static size_t count(const char *text, const char *part)
{
    size_t n = 0;

    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        n++;
    return n;
}

static void test_page(void **state)
{
    myr_sheet *sheet = NULL;
    myr_buffer html = {0};

    (void)state;
    assert_int_equal(myr_sheet_create("Photos & <more>", &sheet), MYR_OK);
    assert_int_equal(myr_sheet_add_hit(sheet, "early", 0.1, NULL, NULL, 0), MYR_ERR_ARG);
    assert_int_equal(myr_sheet_add_line(sheet, "recall@10 0.98"), MYR_OK);
    assert_int_equal(myr_sheet_add_query(sheet, "a\"><script>alert('x')</script>.jpg", "cat", "foobar", 6),
                     MYR_OK);
    assert_int_equal(myr_sheet_add_line(sheet, "too late"), MYR_ERR_ARG);
    assert_int_equal(
        myr_sheet_add_hit(sheet, "caf\xC3\xA9 \xFF\xC0\x80\xED\xA0\x80.jpg", 0.25, "cat", "fooba", 5),
        MYR_OK);
    assert_int_equal(myr_sheet_add_hit(sheet, "gone.jpg", 1234567.0, "dog", NULL, 0), MYR_OK);
    assert_int_equal(myr_sheet_add_query(sheet, "alone", NULL, NULL, 0), MYR_OK);
    assert_int_equal(myr_sheet_finish(sheet, &html), MYR_OK);
    assert_int_equal(myr_sheet_finish(sheet, &html), MYR_ERR_ARG);
    assert_non_null(html.data);
    assert_null(strstr(html.data, "<script"));
    assert_null(strstr(html.data, "http:"));
    assert_null(strstr(html.data, "https:"));
    assert_int_equal(count(html.data, "a&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;.jpg"), 2);
    /* test vectors of RFC 4648, section 10 */
    assert_non_null(strstr(html.data, "base64,Zm9vYmFy\">"));
    assert_non_null(strstr(html.data, "base64,Zm9vYmE=\">"));
    /* one U+FFFD for each byte that is no part of a sequence */
    assert_non_null(
        strstr(html.data,
               "caf\xC3\xA9 \xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD.jpg"));
    assert_non_null(strstr(html.data, "0.2500"));
    assert_non_null(strstr(html.data, "1.23457e+06"));
    assert_int_equal(count(html.data, "<li class=\"match\">"), 1);
    assert_int_equal(count(html.data, "no picture"), 2);
    assert_int_equal(count(html.data, "nothing found"), 1);
    assert_int_equal(count(html.data, "<section"), count(html.data, "</section>"));
    assert_int_equal(count(html.data, "<figure"), count(html.data, "</figure>"));
    assert_int_equal(count(html.data, "<li"), count(html.data, "</li>"));
    assert_int_equal(count(html.data, "<img"), count(html.data, " alt=\""));
    myr_buffer_free(&html);
    myr_sheet_free(sheet);
    myr_sheet_free(NULL);
}

static void test_sections(void **state)
{
    static const char *const names[] = {"cat", "<dog>"};
    static const double shares[] = {0.75, 7.0};
    myr_sheet_section section = {.heading = "Cluster <1>",
                                 .note = "12 & more",
                                 .caption = "a.jpg",
                                 .label = "cat",
                                 .match = "<dog>",
                                 .names = names,
                                 .shares = shares,
                                 .n_shares = 2};
    myr_sheet *sheet = NULL;
    myr_buffer html = {0};

    (void)state;
    assert_int_equal(myr_sheet_create("Clusters", &sheet), MYR_OK);
    assert_int_equal(myr_sheet_add_divider(sheet, "early"), MYR_ERR_ARG);
    assert_int_equal(myr_sheet_add_section(sheet, &(myr_sheet_section){.caption = "no heading"}), MYR_ERR_ARG);
    assert_int_equal(myr_sheet_add_section(sheet, &section), MYR_OK);
    assert_int_equal(myr_sheet_add_divider(sheet, "<nearest>"), MYR_OK);
    assert_int_equal(myr_sheet_add_hit(sheet, "b.jpg", 0.5, "<dog>", NULL, 0), MYR_OK);
    assert_int_equal(myr_sheet_add_hit(sheet, "c.jpg", 0.5, "cat", NULL, 0), MYR_OK);
    assert_int_equal(myr_sheet_add_divider(sheet, "at random"), MYR_OK);
    assert_int_equal(myr_sheet_add_hit(sheet, "d.jpg", 0.5, NULL, NULL, 0), MYR_OK);
    assert_int_equal(myr_sheet_add_summary(sheet, "known late"), MYR_OK);
    assert_int_equal(myr_sheet_set_legend(sheet, "What <this> is."), MYR_OK);
    assert_int_equal(myr_sheet_finish(sheet, &html), MYR_OK);
    assert_int_equal(myr_sheet_add_summary(sheet, "too late"), MYR_ERR_ARG);
    assert_non_null(html.data);
    assert_int_equal(count(html.data, "Cluster &lt;1&gt;"), 2);
    assert_int_equal(count(html.data, "12 &amp; more"), 1);
    assert_int_equal(count(html.data, "&lt;nearest&gt;"), 1);
    assert_int_equal(count(html.data, "<li class=\"match\">"), 1);
    assert_int_equal(count(html.data, "<b>1.</b>"), 2); /* counted anew behind a divider */
    assert_int_equal(count(html.data, "width:75.0%"), 1);
    assert_int_equal(count(html.data, "width:100.0%"), 1);
    assert_int_equal(count(html.data, "What &lt;this&gt; is."), 1);
    assert_null(strstr(html.data, "green frame"));
    assert_true(strstr(html.data, "known late") < strstr(html.data, "<section"));
    assert_int_equal(count(html.data, "<li"), count(html.data, "</li>"));
    assert_int_equal(count(html.data, "<figure"), count(html.data, "</figure>"));
    myr_buffer_free(&html);
    myr_sheet_free(sheet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_page), cmocka_unit_test(test_sections)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
