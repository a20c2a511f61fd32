/*
 * How well neighbours tell labels.
 *
 * Each query leaves one record: its label, what the vote made of it, and its scores. Rows of labels and confusions are
 * counted from the records, sorted by label, so that labels may be any numbers.
 */
#include "myriops/eval.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "eval/interval.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static const size_t depths[MYR_STUDY_POINTS] = {1, 10, 100}, votes[MYR_STUDY_POINTS] = {1, 10, 20};
enum { MOST_VOTES = 20, CONFUSED_AT = 1 /* place of MYR_STUDY_VOTE in depths and votes */ };

#define COSINE_TEMPERATURE 0.07

typedef struct record {
    int32_t label, taken_for;
    float ap, precision; /* ap NAN = it has no other to find */
} record;

struct myr_label_study {
    myr_metric metric;
    myr_buffer records;
    eval_mean map, precision[MYR_STUDY_POINTS], accuracy[MYR_STUDY_POINTS], weighted[MYR_STUDY_POINTS];
};

myr_status myr_label_study_create(myr_metric metric, myr_label_study **study)
{
    if (study == NULL)
        return myr_fail(MYR_ERR_ARG, "label study: nowhere to put it");
    *study = myr_alloc(1, sizeof(**study));
    if (*study == NULL)
        return myr_fail(MYR_ERR_NOMEM, "label study: no memory");
    (*study)->metric = metric;
    return MYR_OK;
}

void myr_label_study_free(myr_label_study *study)
{
    if (study == NULL)
        return;
    myr_buffer_free(&study->records);
    free(study);
}

/* The label with most weight among the first n, -1 where none has one. At most MOST_VOTES: a table would cost more. */
static int32_t winner_of(const int32_t *labels, const double *weights, size_t n)
{
    int32_t best = -1;
    double most = 0.0;

    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        bool met = false;

        for (size_t j = 0; j < i && !met; j++)
            met = labels[j] == labels[i];
        for (size_t j = i; j < n && !met && labels[i] >= 0; j++)
            sum += labels[j] == labels[i] ? weights[j] : 0.0;
        if (sum > most) {
            most = sum;
            best = labels[i];
        }
    }
    return best;
}

/* Weights are relative to the nearest, so that none of them vanishes. */
static void weigh(myr_metric metric, const float *distance, size_t n, double *weights)
{
    for (size_t i = 0; i < n; i++) {
        weights[i] = 1.0 / (double)(i + 1);
        if (metric == MYR_METRIC_COSINE && isfinite(distance[i]))
            weights[i] = exp(((double)distance[0] - (double)distance[i]) / COSINE_TEMPERATURE);
    }
}

/* Votes into the means; the label that MYR_STUDY_VOTE neighbours give. */
static int32_t vote(myr_label_study *study, int32_t label, const int32_t *hit_label, const float *distance, size_t k)
{
    double weights[MOST_VOTES], ones[MOST_VOTES];
    int32_t taken_for = -1;

    k = k < MOST_VOTES ? k : MOST_VOTES;
    weigh(study->metric, distance, k, weights);
    for (size_t i = 0; i < k; i++)
        ones[i] = 1.0;
    for (size_t p = 0; p < MYR_STUDY_POINTS; p++) {
        size_t n = votes[p] < k ? votes[p] : k;
        int32_t plain = winner_of(hit_label, ones, n);

        eval_mean_add(&study->accuracy[p], plain == label);
        eval_mean_add(&study->weighted[p], winner_of(hit_label, weights, n) == label);
        if (p == CONFUSED_AT)
            taken_for = plain;
    }
    return taken_for;
}

myr_status myr_label_study_add(myr_label_study *study, int32_t label, const int32_t *hit_label, const float *distance,
                               size_t k, int64_t n_relevant, double *ap)
{
    record one = {.label = label};
    size_t n_right = 0, possible, point = 0;
    double precisions = 0.0;

    if (study == NULL || hit_label == NULL || distance == NULL || ap == NULL || k == 0 || k > MYR_STUDY_DEPTH)
        return myr_fail(MYR_ERR_ARG, "label study: a query needs 1 to %d neighbours", MYR_STUDY_DEPTH);
    *ap = (double)NAN;
    if (label < 0)
        return MYR_OK;
    for (size_t i = 0; i < MYR_STUDY_DEPTH; i++) {
        if (i < k && hit_label[i] == label)
            precisions += (double)++n_right / (double)(i + 1);
        if (i + 1 != depths[point])
            continue;
        eval_mean_add(&study->precision[point], (double)n_right / (double)depths[point]);
        if (point == CONFUSED_AT)
            one.precision = (float)n_right / (float)depths[point];
        point++;
    }
    /* A count below what was found is a caller's mistake; the mean stays within [0, 1] all the same. */
    possible = n_relevant > (int64_t)n_right ? (size_t)n_relevant : n_right;
    possible = possible < MYR_STUDY_DEPTH ? possible : MYR_STUDY_DEPTH;
    if (possible > 0) {
        *ap = precisions / (double)possible;
        eval_mean_add(&study->map, *ap);
    }
    one.ap = (float)*ap;
    one.taken_for = vote(study, label, hit_label, distance, k);
    myr_buffer_append(&study->records, &one, sizeof(one));
    return study->records.failed ? myr_fail(MYR_ERR_NOMEM, "label study: no memory for another query") : MYR_OK;
}

static myr_estimate estimate(const eval_mean *of)
{
    myr_estimate one = {.mean = of->mean};

    if (of->n > 0)
        eval_mean_interval(of, MYR_STUDY_DEPTH, &one.low, &one.high);
    return one;
}

static int by_labels(const void *left, const void *right)
{
    const record *a = left, *b = right;

    if (a->label != b->label)
        return a->label < b->label ? -1 : 1;
    return a->taken_for < b->taken_for ? -1 : a->taken_for > b->taken_for;
}

static int commonest_first(const void *left, const void *right)
{
    const myr_confusion *a = left, *b = right;

    if (a->n != b->n)
        return a->n > b->n ? -1 : 1;
    if (a->label != b->label)
        return a->label < b->label ? -1 : 1;
    return a->taken_for < b->taken_for ? -1 : a->taken_for > b->taken_for;
}

/* A label's records, which follow each other. */
static void add_row(const record *records, size_t n, myr_label_report *report)
{
    myr_label_row row = {.label = records[0].label, .n_queries = (int64_t)n};
    size_t n_possible = 0;

    for (size_t i = 0; i < n; i++) {
        row.precision += (double)records[i].precision;
        row.accuracy += records[i].taken_for == row.label;
        if (!isnan(records[i].ap)) {
            row.map += (double)records[i].ap;
            n_possible++;
        }
        if (records[i].taken_for == row.label)
            continue;
        if (i == 0 || records[i].taken_for != records[i - 1].taken_for)
            report->confusions[report->n_confusions++] =
                (myr_confusion){.label = row.label, .taken_for = records[i].taken_for};
        report->confusions[report->n_confusions - 1].n++;
    }
    row.precision /= (double)n;
    row.accuracy /= (double)n;
    row.map = n_possible > 0 ? row.map / (double)n_possible : (double)NAN;
    report->rows[report->n_rows++] = row;
}

myr_status myr_label_study_report(myr_label_study *study, myr_label_report *report)
{
    size_t n, n_rows = 0, n_confusions = 0;
    record *records;

    if (study == NULL || report == NULL)
        return myr_fail(MYR_ERR_ARG, "label study: nothing to report of, or nowhere to");
    n = study->records.size / sizeof(*records);
    *report = (myr_label_report){.n_scored = n, .map = estimate(&study->map)};
    for (size_t p = 0; p < MYR_STUDY_POINTS; p++) {
        report->precision[p] = estimate(&study->precision[p]);
        report->accuracy[p] = estimate(&study->accuracy[p]);
        report->weighted[p] = estimate(&study->weighted[p]);
    }
    if (n == 0)
        return MYR_OK;
    records = (record *)(void *)study->records.data;
    qsort(records, n, sizeof(*records), by_labels);
    for (size_t i = 0; i < n; i++) {
        bool is_new = i == 0 || records[i].label != records[i - 1].label;

        n_rows += is_new;
        n_confusions += is_new || records[i].taken_for != records[i - 1].taken_for;
    }
    report->rows = myr_alloc(n_rows, sizeof(*report->rows));
    report->confusions = myr_alloc(n_confusions, sizeof(*report->confusions));
    if (report->rows == NULL || report->confusions == NULL) {
        myr_label_report_clear(report);
        return myr_fail(MYR_ERR_NOMEM, "label study: no memory for %zu labels", n_rows);
    }
    for (size_t first = 0, last; first < n; first = last) {
        for (last = first + 1; last < n && records[last].label == records[first].label;)
            last++;
        add_row(records + first, last - first, report);
    }
    qsort(report->confusions, report->n_confusions, sizeof(*report->confusions), commonest_first);
    return MYR_OK;
}

void myr_label_report_clear(myr_label_report *report)
{
    free(report->rows);
    free(report->confusions);
    *report = (myr_label_report){0};
}
