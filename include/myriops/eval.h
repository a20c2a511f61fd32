/*
 * How good the answers are: recall against exact search, retrieval metrics where
 * labels exist, and a contact sheet to look at.
 */
#ifndef MYRIOPS_EVAL_H
#define MYRIOPS_EVAL_H

#include "myriops/hit.h"
#include "myriops/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct myr_buffer myr_buffer;

typedef struct myr_recall {
    double recall;    /* mean over the queries, in [0, 1] */
    double low, high; /* 95 % confidence interval of that mean */
    double worst;     /* lowest recall of one query */
    size_t n_queries;
    size_t k;
} myr_recall;

/*
 * myr_eval_recall - recall@k: the share of the true k nearest that was found.
 *
 * Local. A hit counts when its id is among the true k nearest, or when it is as near as
 * the k-th of them, so that any choice among equal distances is right. A repeated id counts once.
 *
 *  truth           [in]   (n_queries, k_truth) ids of the exact nearest, nearest first; -1 ends a short row
 *  truth_distance  [in]   (n_queries, k_truth) their distances, on the scale of the hits; or NULL: ids alone decide
 *  k_truth         >= k
 *  hits            [in]   (n_queries, k) ascending; id -1 ends a short row
 *  n_queries, k    >= 1
 *  result          [out]
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 * Source:   ann-benchmarks (Aumüller et al. 2020) for ties; Wilson 1927 for the interval, on the
 *           effective sample size of clustered trials (Kish 1965).
 */
MYR_API myr_status myr_eval_recall(const int64_t *truth, const float *truth_distance, size_t k_truth,
                                   const myr_hit *hits, size_t n_queries, size_t k, myr_recall *result);

typedef struct myr_retrieval {
    double knn_accuracy; /* share of queries whose label wins the vote of the k hits */
    double precision;    /* precision@k: hits with the query's label, of k */
    double map;          /* mAP@k */
    size_t n_scored;     /* queries that have a label; the means are over these */
    size_t k;
} myr_retrieval;

/*
 * myr_eval_retrieval - kNN accuracy, precision@k and mAP@k from labels.
 *
 * Local. The caller leaves the query itself out of its hits. A vote's tie goes to the label met first.
 * AP@k = 1/min(k, R) * sum over relevant ranks i of precision@i; R = items with the query's label.
 *
 *  query_label  [in]   (n_queries) label >= 0; -1 = none, not scored
 *  hit_label    [in]   (n_queries, k) labels in order of distance; -1 = none or no hit: never relevant, no vote
 *  n_relevant   [in]   (n_queries) R of each query in the whole set, or NULL: R counted among the k hits
 *  result       [out]  all 0 where no query has a label
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 * Source:   Manning, Raghavan and Schütze 2008, 8.4; Musgrave et al. 2020 for the normalisation.
 */
MYR_API myr_status myr_eval_retrieval(const int32_t *query_label, const int32_t *hit_label, size_t n_queries,
                                      size_t k, const int64_t *n_relevant, myr_retrieval *result);

/*
 * A study of labels: how well neighbours tell the label of an item, query by query.
 * Use: create, add for each query, report, free.
 */
typedef struct myr_label_study myr_label_study;

enum { MYR_STUDY_DEPTH = 100, MYR_STUDY_POINTS = 3, MYR_STUDY_VOTE = 10 };

typedef struct myr_estimate {
    double mean, low, high; /* 95 % confidence interval */
} myr_estimate;

/* Of the queries with one label. */
typedef struct myr_label_row {
    int32_t label;
    int64_t n_queries;
    double map, precision; /* mAP@MYR_STUDY_DEPTH, precision@MYR_STUDY_VOTE */
    double accuracy;       /* of the vote of MYR_STUDY_VOTE neighbours */
} myr_label_row;

/* Queries with one label that MYR_STUDY_VOTE neighbours take for another. */
typedef struct myr_confusion {
    int32_t label, taken_for; /* -1 = no neighbour has a label */
    int64_t n;
} myr_confusion;

typedef struct myr_label_report {
    size_t n_scored; /* queries that have a label */
    myr_estimate map;
    myr_estimate precision[MYR_STUDY_POINTS]; /* at 1, 10, 100 */
    myr_estimate accuracy[MYR_STUDY_POINTS];  /* of the vote of 1, 10, 20; ties go to the label met first */
    myr_estimate weighted[MYR_STUDY_POINTS];  /* the same, nearer ones weighing more */
    myr_label_row *rows;                      /* [owned] (n_rows) by label */
    size_t n_rows;
    myr_confusion *confusions; /* [owned] (n_confusions) the commonest first, ties by label */
    size_t n_confusions;
} myr_label_report;

/*
 * myr_label_study_create - Local.
 *
 *  metric  under cosine a neighbour's vote weighs exp(-distance / 0.07) (Wu et al. 2018), else 1 / its place
 */
MYR_API myr_status myr_label_study_create(myr_metric metric, myr_label_study **study);
MYR_API void myr_label_study_free(myr_label_study *study); /* NULL is fine */
/*
 * myr_label_study_add - one query.
 *
 *  label       of the query; -1 = none: not scored
 *  hit_label   [in]   (k) in order of distance, the query itself left out; -1 = none or no hit
 *  distance    [in]   (k)
 *  k           1 to MYR_STUDY_DEPTH; places behind it count as misses
 *  n_relevant  other items with its label, in the whole set
 *  ap          [out]  its average precision, as in myr_eval_retrieval; NAN where it has no label or no other has it.
 *                     Such queries count for votes and precision only.
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_label_study_add(myr_label_study *study, int32_t label, const int32_t *hit_label,
                                       const float *distance, size_t k, int64_t n_relevant, double *ap);
/* myr_label_study_report - means of all. report: release with myr_label_report_clear. */
MYR_API myr_status myr_label_study_report(myr_label_study *study, myr_label_report *report);
MYR_API void myr_label_report_clear(myr_label_report *report);

typedef struct myr_agreement {
    double purity; /* share of the labelled items whose label is the commonest of their cluster */
    double nmi;    /* mutual information of clusters and labels, by the mean of their entropies; 1 where both are 0 */
    int64_t n_labelled;
} myr_agreement;

/*
 * myr_eval_agreement - how well clusters agree with labels.
 *
 * Local.
 *
 *  counts  [in]   (n_clusters, n_labels) items of each label in each cluster, >= 0
 *  result  [out]  all 0 where no item has a label
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 * Source:   Manning, Raghavan and Schütze 2008, 16.3; Strehl and Ghosh 2002.
 */
MYR_API myr_status myr_eval_agreement(const int64_t *counts, size_t n_clusters, size_t n_labels,
                                      myr_agreement *result);

/*
 * The contact sheet: one HTML page that needs no network and no other file. Each query
 * stands beside its hits, each with key and distance.
 * Use: create, add_line for the summary, then for each query add_query and its add_hit calls, finish, free.
 * Texts are escaped; bytes that are not UTF-8 become U+FFFD. Pictures are JPEG bytes, copied in as
 * data URIs, best already scaled to about 256 pixels.
 */
typedef struct myr_sheet myr_sheet;

/* myr_sheet_create - title: page heading, copied. Returns MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM. */
MYR_API myr_status myr_sheet_create(const char *title, myr_sheet **sheet);
MYR_API void myr_sheet_free(myr_sheet *sheet); /* NULL is fine */

/* myr_sheet_add_line - one line under the heading ("recall@10 0.981"); before the first query only, else
 * MYR_ERR_ARG. */
MYR_API myr_status myr_sheet_add_line(myr_sheet *sheet, const char *text);
/* myr_sheet_add_summary - the same at any time before finish, for what is known only then. */
MYR_API myr_status myr_sheet_add_summary(myr_sheet *sheet, const char *text);

/*
 * myr_sheet_add_query - open the section of a query.
 *
 *  caption  [in]  file name or key
 *  label    [in]  or NULL
 *  jpeg     [in]  jpeg_bytes bytes, or NULL and 0: "no picture" is shown
 *
 * Returns:  MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM
 */
MYR_API myr_status myr_sheet_add_query(myr_sheet *sheet, const char *caption, const char *label,
                                       const void *jpeg, size_t jpeg_bytes);

/* A section that is no query: a group of pictures, a cluster. */
typedef struct myr_sheet_section {
    const char *heading;        /* "Group 1" */
    const char *note;           /* a line under the picture, or NULL */
    const char *caption;        /* file name or key of the picture */
    const char *label;          /* or NULL */
    const char *match;          /* hits of this label are marked; NULL = those of label */
    const void *jpeg;           /* jpeg_bytes bytes, or NULL and 0 */
    size_t jpeg_bytes;
    const char *const *names;   /* (n_shares) bars under it: what, */
    const double *shares;       /* and how much, 0 to 1 */
    size_t n_shares;
} myr_sheet_section;
/* myr_sheet_add_section - in place of add_query. Returns MYR_OK | MYR_ERR_ARG | MYR_ERR_NOMEM. */
MYR_API myr_status myr_sheet_add_section(myr_sheet *sheet, const myr_sheet_section *section);
/* myr_sheet_add_divider - a line of text between the hits of a section; they are counted anew. */
MYR_API myr_status myr_sheet_add_divider(myr_sheet *sheet, const char *text);
/* myr_sheet_set_legend - the sentence at the end of the page, in place of the one about hits with the query's label. */
MYR_API myr_status myr_sheet_set_legend(myr_sheet *sheet, const char *text);

/*
 * myr_sheet_add_hit - the next hit of the query opened last, nearest first. As myr_sheet_add_query.
 * A label equal to the query's is marked as a match. MYR_ERR_ARG before the first query.
 */
MYR_API myr_status myr_sheet_add_hit(myr_sheet *sheet, const char *key, double distance, const char *label,
                                     const void *jpeg, size_t jpeg_bytes);

/* myr_sheet_finish - append the whole page to html; no additions afterwards. Returns MYR_OK | MYR_ERR_NOMEM |
 * MYR_ERR_ARG (called twice). */
MYR_API myr_status myr_sheet_finish(myr_sheet *sheet, myr_buffer *html);

/*
 * myr_chart_write - a line through points, as SVG.
 *
 * Local. Axes begin and end at round numbers; each point tells its values to the mouse.
 *
 *  out  [in, out]  the text is appended
 *
 * Returns:  MYR_OK | MYR_ERR_ARG (no point, or one that is not finite) | MYR_ERR_NOMEM
 */
typedef struct myr_chart {
    const char *title, *x_name, *y_name; /* plain text */
    size_t n;
    const double *x, *y; /* (n) in the order of the line */
} myr_chart;
MYR_API myr_status myr_chart_write(const myr_chart *chart, myr_buffer *out);

#ifdef __cplusplus
}
#endif
#endif
