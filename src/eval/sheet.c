/*
 * The contact sheet: queries and their hits on one HTML page.
 *
 * Everything is inside the page: style, and pictures as data URIs (RFC 2397), under a
 * content policy that forbids any request. Keys come from other people's archives, so
 * every text is escaped and bytes that are not UTF-8 (RFC 3629) are replaced.
 */
#include "myriops/eval.h"

#include "base/alloc.h"
#include "base/buffer.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct myr_sheet {
    myr_buffer head;   /* [owned] up to and with the summary */
    myr_buffer body;   /* [owned] the sections */
    char *query_label; /* [owned] of the section in hand, or NULL */
    char *legend;      /* [owned] NULL = the usual one */
    size_t n_queries;
    size_t n_pictures;
    size_t n_hits;     /* of the section in hand */
    size_t n_numbered; /* of these, since the last divider */
    bool finished;
};

static const char *const style =
    ":root{color-scheme:light "
    "dark;--page:#f6f7f9;--card:#fff;--ink:#1b1f24;--soft:#5b6470;--line:#dfe3e8;--accent:#2457c5;--good:#"
    "16794a}\n"
    "@media(prefers-color-scheme:dark){:root{--page:#14171b;--card:#1d2126;--ink:#e8eaed;--soft:#9aa4b0;--"
    "line:#30363d;--accent:#8ab0ff;--good:#5fd39a}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--page);color:var(--ink);font:15px/1.45 system-ui,sans-serif}\n"
    "header,main,footer{max-width:1500px;margin:auto;padding:1.2rem clamp(.8rem,3vw,2rem)}\n"
    "h1{font-size:1.5rem;margin:0 0 .4rem}\n"
    "header ul{list-style:none;margin:0;padding:0;display:flex;flex-wrap:wrap;gap:.2rem "
    "1.4rem;color:var(--soft)}\n"
    "section{display:grid;grid-template-columns:minmax(150px,230px) "
    "1fr;gap:1.1rem;background:var(--card);border:1px solid "
    "var(--line);border-radius:12px;padding:1rem;margin:0 0 1.1rem}\n"
    "@media(max-width:640px){section{grid-template-columns:1fr}}\n"
    "figure{margin:0;min-width:0}\n"
    ".query{border-right:1px solid var(--line);padding-right:1.1rem}\n"
    "@media(max-width:640px){.query{border:0;padding:0}}\n"
    ".query h2{font-size:.78rem;letter-spacing:.06em;text-transform:uppercase;color:var(--accent);margin:0 0 "
    ".5rem}\n"
    ".hits{list-style:none;margin:0;padding:0;display:grid;grid-template-columns:repeat(auto-fill,minmax("
    "132px,1fr));gap:.9rem;align-content:start}\n"
    "@media(min-width:1000px){.hits{grid-template-columns:repeat(5,1fr)}}\n"
    "img,.none{display:block;width:100%;aspect-ratio:1;object-fit:contain;border-radius:8px;background:"
    "var(--page)}\n"
    ".none{display:grid;place-items:center;color:var(--soft);font-size:.85rem;border:1px dashed "
    "var(--soft);background:none}\n"
    ".match img,.match .none{outline:3px solid var(--good);outline-offset:-3px}\n"
    "figcaption{margin-top:.35rem;font-size:.8rem;overflow-wrap:anywhere}\n"
    "figcaption b{font-weight:600;font-variant-numeric:tabular-nums}\n"
    "figcaption span{color:var(--soft)}\n"
    ".match .label{color:var(--good);font-weight:600}\n"
    ".divider{grid-column:1/-1;color:var(--soft);font-size:.78rem;letter-spacing:.06em;text-transform:uppercase;"
    "border-bottom:1px solid var(--line);padding-bottom:.2rem}\n"
    ".note{margin:.35rem 0 0;font-size:.85rem}\n"
    ".bars{list-style:none;margin:.5rem 0 0;padding:0;font-size:.78rem}\n"
    ".bars li{position:relative;padding:.12rem .4rem;margin-bottom:.2rem;border-radius:4px;overflow:hidden;"
    "background:var(--page);display:flex;justify-content:space-between;gap:.5rem}\n"
    ".bars i{position:absolute;inset:0 auto 0 0;background:var(--accent);opacity:.22}\n"
    ".bars span{position:relative;overflow-wrap:anywhere}\n"
    ".bare .none{display:none}\n"
    "footer{color:var(--soft);font-size:.8rem;padding-top:0}\n";

/* Length of the UTF-8 sequence at text, 0 where there is none (RFC 3629: no surrogates, no overlong forms).
 */
static size_t utf8_length(const unsigned char *text)
{
    unsigned char lead = text[0], second = text[1]; /* the NUL at the end stops every look ahead */

    if (lead < 0x80)
        return 1;
    if (lead < 0xC2 || lead > 0xF4 || (second & 0xC0) != 0x80)
        return 0;
    if (lead < 0xE0)
        return 2;
    if ((text[2] & 0xC0) != 0x80)
        return 0;
    if (lead < 0xF0)
        return (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ? 0 : 3;
    if ((text[3] & 0xC0) != 0x80 || (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F))
        return 0;
    return 4;
}

/* Text for element content and for attributes in double quotes. */
static void put_escaped(myr_buffer *out, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;

    while (*at != 0) {
        size_t length = utf8_length(at);

        if (length == 0 || (*at < 0x20 && *at != '\n' && *at != '\t') || *at == 0x7F) {
            myr_buffer_puts(out, "\xEF\xBF\xBD");
            at++;
            continue;
        }
        switch (*at) {
        case '&':
            myr_buffer_puts(out, "&amp;");
            break;
        case '<':
            myr_buffer_puts(out, "&lt;");
            break;
        case '>':
            myr_buffer_puts(out, "&gt;");
            break;
        case '"':
            myr_buffer_puts(out, "&quot;");
            break;
        case '\'':
            myr_buffer_puts(out, "&#39;");
            break;
        default:
            myr_buffer_append(out, at, length);
        }
        at += length;
    }
}

/* RFC 4648, section 4. */
static void put_base64(myr_buffer *out, const unsigned char *bytes, size_t n_bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char piece[1024];
    size_t n = 0;

    for (size_t i = 0; i < n_bytes; i += 3) {
        size_t rest = n_bytes - i;
        uint32_t bits = (uint32_t)bytes[i] << 16 | (rest > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                        (rest > 2 ? bytes[i + 2] : 0);

        piece[n++] = digits[bits >> 18];
        piece[n++] = digits[bits >> 12 & 63];
        piece[n++] = rest > 1 ? digits[bits >> 6 & 63] : '=';
        piece[n++] = rest > 2 ? digits[bits & 63] : '=';
        if (n == sizeof(piece)) {
            myr_buffer_append(out, piece, n);
            n = 0;
        }
    }
    myr_buffer_append(out, piece, n);
}

static void put_picture(myr_sheet *sheet, const char *name, const void *jpeg, size_t jpeg_bytes)
{
    myr_buffer *out = &sheet->body;

    if (jpeg == NULL || jpeg_bytes == 0) {
        myr_buffer_puts(out, "<div class=\"none\">no picture</div>");
        return;
    }
    sheet->n_pictures++;
    myr_buffer_puts(out, "<img loading=\"lazy\" alt=\"");
    put_escaped(out, name);
    myr_buffer_puts(out, "\" src=\"data:image/jpeg;base64,");
    put_base64(out, jpeg, jpeg_bytes);
    myr_buffer_puts(out, "\">");
}

static void put_label(myr_buffer *out, const char *label)
{
    if (label == NULL)
        return;
    myr_buffer_puts(out, "<br><span class=\"label\">");
    put_escaped(out, label);
    myr_buffer_puts(out, "</span>");
}

static void close_section(myr_sheet *sheet)
{
    if (sheet->n_queries > 0)
        myr_buffer_puts(&sheet->body, sheet->n_hits > 0 ? "</ol>\n</section>\n"
                                                        : "<li>nothing found</li></ol>\n</section>\n");
}

static myr_status check_memory(const myr_sheet *sheet)
{
    if (sheet->head.failed || sheet->body.failed)
        return myr_fail(MYR_ERR_NOMEM, "contact sheet: no memory beyond %zu queries; show fewer",
                        sheet->n_queries);
    return MYR_OK;
}

myr_status myr_sheet_create(const char *title, myr_sheet **sheet)
{
    myr_sheet *made;
    myr_buffer *head;

    if (title == NULL || sheet == NULL)
        return myr_fail(MYR_ERR_ARG, "contact sheet: a title is needed");
    made = myr_alloc(1, sizeof(*made));
    if (made == NULL)
        return myr_fail(MYR_ERR_NOMEM, "contact sheet: no memory");
    head = &made->head;
    myr_buffer_puts(head,
                    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src "
                    "data:; style-src 'unsafe-inline'\">\n"
                    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    put_escaped(head, title);
    myr_buffer_puts(head, "</title>\n<style>\n");
    myr_buffer_puts(head, style);
    myr_buffer_puts(head, "</style>\n</head>\n<body>\n<header>\n<h1>");
    put_escaped(head, title);
    myr_buffer_puts(head, "</h1>\n<ul>\n");
    if (check_memory(made) != MYR_OK) {
        myr_sheet_free(made);
        return MYR_ERR_NOMEM;
    }
    *sheet = made;
    return MYR_OK;
}

void myr_sheet_free(myr_sheet *sheet)
{
    if (sheet == NULL)
        return;
    myr_buffer_free(&sheet->head);
    myr_buffer_free(&sheet->body);
    free(sheet->query_label);
    free(sheet->legend);
    free(sheet);
}

myr_status myr_sheet_add_line(myr_sheet *sheet, const char *text)
{
    if (sheet == NULL || text == NULL || sheet->n_queries > 0 || sheet->finished)
        return myr_fail(MYR_ERR_ARG, "contact sheet: a summary line must come before the first query");
    return myr_sheet_add_summary(sheet, text);
}

myr_status myr_sheet_add_summary(myr_sheet *sheet, const char *text)
{
    if (sheet == NULL || text == NULL || sheet->finished)
        return myr_fail(MYR_ERR_ARG, "contact sheet: a summary needs a text, and a page that is not finished");
    myr_buffer_puts(&sheet->head, "<li>");
    put_escaped(&sheet->head, text);
    myr_buffer_puts(&sheet->head, "</li>\n");
    return check_memory(sheet);
}

static void put_shares(myr_buffer *body, const myr_sheet_section *section)
{
    if (section->n_shares == 0)
        return;
    myr_buffer_puts(body, "<ul class=\"bars\">");
    for (size_t i = 0; i < section->n_shares; i++) {
        double share = 100 * fmin(fmax(section->shares[i], 0.0), 1.0);

        myr_buffer_printf(body, "<li><i style=\"width:%.1f%%\"></i><span>", share);
        put_escaped(body, section->names[i]);
        myr_buffer_printf(body, "</span><span>%.1f %%</span></li>", share);
    }
    myr_buffer_puts(body, "</ul>");
}

/* heading NULL = a query. */
static myr_status open_section(myr_sheet *sheet, const myr_sheet_section *section)
{
    char *kept = NULL;
    myr_buffer *body;

    const char *match = section->match != NULL ? section->match : section->label;

    if (match != NULL && (kept = myr_strdup(match)) == NULL)
        return myr_fail(MYR_ERR_NOMEM, "contact sheet: no memory for a label");
    free(sheet->query_label);
    sheet->query_label = kept;
    close_section(sheet);
    sheet->n_queries++;
    sheet->n_hits = sheet->n_numbered = 0;
    body = &sheet->body;
    if (section->heading == NULL) {
        myr_buffer_printf(body, "<section aria-label=\"query %zu\">\n<figure class=\"query\"><h2>Query %zu</h2>",
                          sheet->n_queries, sheet->n_queries);
    } else {
        myr_buffer_puts(body, "<section aria-label=\"");
        put_escaped(body, section->heading);
        myr_buffer_puts(body, "\">\n<figure class=\"query\"><h2>");
        put_escaped(body, section->heading);
        myr_buffer_puts(body, "</h2>");
    }
    put_picture(sheet, section->caption, section->jpeg, section->jpeg_bytes);
    myr_buffer_puts(body, "<figcaption>");
    put_escaped(body, section->caption);
    put_label(body, section->label);
    myr_buffer_puts(body, "</figcaption>");
    if (section->note != NULL) {
        myr_buffer_puts(body, "<p class=\"note\">");
        put_escaped(body, section->note);
        myr_buffer_puts(body, "</p>");
    }
    put_shares(body, section);
    myr_buffer_puts(body, "</figure>\n<ol class=\"hits\">\n");
    return check_memory(sheet);
}

myr_status myr_sheet_add_query(myr_sheet *sheet, const char *caption, const char *label, const void *jpeg,
                               size_t jpeg_bytes)
{
    myr_sheet_section section = {.caption = caption, .label = label, .jpeg = jpeg, .jpeg_bytes = jpeg_bytes};

    if (sheet == NULL || caption == NULL || sheet->finished)
        return myr_fail(MYR_ERR_ARG,
                        "contact sheet: a query needs a caption, and a page that is not finished");
    return open_section(sheet, &section);
}

myr_status myr_sheet_add_section(myr_sheet *sheet, const myr_sheet_section *section)
{
    if (sheet == NULL || section == NULL || section->heading == NULL || section->caption == NULL ||
        (section->n_shares > 0 && (section->names == NULL || section->shares == NULL)) || sheet->finished)
        return myr_fail(MYR_ERR_ARG, "contact sheet: a section needs a heading, a caption, and a page that is not finished");
    return open_section(sheet, section);
}

myr_status myr_sheet_add_divider(myr_sheet *sheet, const char *text)
{
    if (sheet == NULL || text == NULL || sheet->n_queries == 0 || sheet->finished)
        return myr_fail(MYR_ERR_ARG, "contact sheet: a divider needs a text, and a section opened before it");
    myr_buffer_puts(&sheet->body, "<li class=\"divider\">");
    put_escaped(&sheet->body, text);
    myr_buffer_puts(&sheet->body, "</li>\n");
    sheet->n_hits++; /* the section is not empty */
    sheet->n_numbered = 0;
    return check_memory(sheet);
}

myr_status myr_sheet_set_legend(myr_sheet *sheet, const char *text)
{
    char *kept = sheet != NULL && text != NULL ? myr_strdup(text) : NULL;

    if (sheet == NULL || text == NULL)
        return myr_fail(MYR_ERR_ARG, "contact sheet: a legend needs a text");
    if (kept == NULL)
        return myr_fail(MYR_ERR_NOMEM, "contact sheet: no memory for a legend");
    free(sheet->legend);
    sheet->legend = kept;
    return MYR_OK;
}

myr_status myr_sheet_add_hit(myr_sheet *sheet, const char *key, double distance, const char *label,
                             const void *jpeg, size_t jpeg_bytes)
{
    myr_buffer *body;
    bool match;

    if (sheet == NULL || key == NULL || sheet->n_queries == 0 || sheet->finished)
        return myr_fail(MYR_ERR_ARG, "contact sheet: a hit needs a key, and a query opened before it");
    body = &sheet->body;
    sheet->n_hits++;
    sheet->n_numbered++;
    match = label != NULL && sheet->query_label != NULL && strcmp(label, sheet->query_label) == 0;
    myr_buffer_puts(body, match ? "<li class=\"match\"><figure>" : "<li><figure>");
    put_picture(sheet, key, jpeg, jpeg_bytes);
    myr_buffer_printf(body, "<figcaption><b>%zu.</b> <span>distance</span> <b>", sheet->n_numbered);
    myr_buffer_printf(body, fabs(distance) < 100.0 ? "%.4f" : "%.6g", distance);
    myr_buffer_puts(body, "</b><br>");
    put_escaped(body, key);
    put_label(body, label);
    myr_buffer_puts(body, "</figcaption></figure></li>\n");
    return check_memory(sheet);
}

myr_status myr_sheet_finish(myr_sheet *sheet, myr_buffer *html)
{
    if (sheet == NULL || html == NULL || sheet->finished)
        return myr_fail(MYR_ERR_ARG, "contact sheet: finished twice, or nowhere to write it");
    sheet->finished = true;
    close_section(sheet);
    if (sheet->n_queries == 0)
        myr_buffer_puts(&sheet->body, "<p>Nothing to show.</p>\n");
    myr_buffer_append(html, sheet->head.data, sheet->head.size);
    if (sheet->n_queries > 0 && sheet->n_pictures == 0)
        myr_buffer_puts(html, "<li>no pictures to show: imported vectors have none, others are no longer where they "
                              "were</li>\n</ul>\n</header>\n<main class=\"bare\">\n");
    else
        myr_buffer_puts(html, "</ul>\n</header>\n<main>\n");
    myr_buffer_append(html, sheet->body.data, sheet->body.size);
    myr_buffer_puts(html, "</main>\n<footer>Made by myriops " MYRIOPS_VERSION ". ");
    put_escaped(html, sheet->legend != NULL ? sheet->legend : "A green frame marks a hit with the query's label.");
    myr_buffer_puts(html, "</footer>\n</body>\n</html>\n");
    if (html->failed)
        return myr_fail(MYR_ERR_NOMEM, "contact sheet: no memory for a page of %zu queries",
                        sheet->n_queries);
    return check_memory(sheet);
}
