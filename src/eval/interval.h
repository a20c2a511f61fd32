/*
 * Means of values in [0, 1], and how far they are to be trusted.
 */
#ifndef MYR_EVAL_INTERVAL_H
#define MYR_EVAL_INTERVAL_H

#include <stddef.h>

/* A running mean (Welford 1962). Zeros at the start. */
typedef struct eval_mean {
    double mean, squares;
    size_t n;
} eval_mean;

void eval_mean_add(eval_mean *of, double value);

/*
 * The 95 % interval: Wilson's score (1927) for n_effective trials, where n_effective = p (1 - p) / variance of the
 * mean, as measured between queries; kept between one trial a query (a value in [0, 1] with mean p varies by at most p
 * (1 - p)) and most_trials of them (Kish 1965). n >= 1.
 */
void eval_mean_interval(const eval_mean *of, double most_trials, double *low, double *high);

#endif
