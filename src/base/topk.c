/*
 * The bounded heap, farthest hit on top, and the merge of sorted rows.
 */
#include "base/topk.h"

#include <math.h>
#include <string.h>

void myr_topk_init(myr_topk *top, myr_hit *room, size_t k)
{
    *top = (myr_topk){.hits = room, .k = k};
}

static void sift_down(myr_hit *hits, size_t n, size_t at)
{
    myr_hit moving = hits[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && myr_hit_before(hits[child], hits[child + 1]))
            child++;
        if (!myr_hit_before(moving, hits[child]))
            break;
        hits[at] = hits[child];
    }
    hits[at] = moving;
}

static void sift_up(myr_hit *hits, size_t at)
{
    myr_hit moving = hits[at];
    for (size_t parent; at > 0 && myr_hit_before(hits[parent = (at - 1) / 2], moving); at = parent)
        hits[at] = hits[parent];
    hits[at] = moving;
}

void myr_topk_push(myr_topk *top, myr_hit hit)
{
    if (isnan(hit.distance) || top->k == 0)
        return;
    if (top->n < top->k) {
        top->hits[top->n] = hit;
        sift_up(top->hits, top->n++);
    } else if (myr_hit_before(hit, top->hits[0])) {
        top->hits[0] = hit;
        sift_down(top->hits, top->n, 0);
    }
}

float myr_topk_bound(const myr_topk *top)
{
    return top->n < top->k || top->k == 0 ? INFINITY : top->hits[0].distance;
}

void myr_topk_finish(myr_topk *top)
{
    for (size_t n = top->n; n > 1; n--) {
        myr_hit last = top->hits[0];
        top->hits[0] = top->hits[n - 1];
        top->hits[n - 1] = last;
        sift_down(top->hits, n - 1, 0);
    }
    for (size_t i = top->n; i < top->k; i++)
        top->hits[i] = (myr_hit){.id = -1, .distance = INFINITY};
}

static bool held(const myr_hit *hits, size_t n, int64_t id)
{
    for (size_t i = 0; i < n; i++)
        if (hits[i].id == id)
            return true;
    return false;
}

/* By insertion: rows are short, and most of b falls off the end at once. */
void myr_topk_merge(myr_hit *a, size_t k, const myr_hit *b, size_t n_b)
{
    size_t n = 0;
    while (n < k && a[n].id >= 0)
        n++;
    for (size_t i = 0; i < n_b && b[i].id >= 0; i++) {
        if (n == k && !myr_hit_before(b[i], a[k - 1]))
            return;
        if (held(a, n, b[i].id))
            continue;
        size_t at = n < k ? n++ : k - 1;
        while (at > 0 && myr_hit_before(b[i], a[at - 1])) {
            a[at] = a[at - 1];
            at--;
        }
        a[at] = b[i];
    }
}

void myr_topk_join(const myr_hit *parts, size_t n_queries, size_t n_parts, size_t k, myr_hit *hits)
{
    for (size_t query = 0; query < n_queries; query++) {
        const myr_hit *rows = parts + query * n_parts * k;
        myr_topk top;
        myr_topk_init(&top, hits + query * k, k);
        for (size_t i = 0; i < n_parts * k; i++)
            if (rows[i].id >= 0)
                myr_topk_push(&top, rows[i]);
        myr_topk_finish(&top);
    }
}
