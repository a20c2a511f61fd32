/*
 * Means and their intervals.
 */
#include "eval/interval.h"

#include <math.h>

void eval_mean_add(eval_mean *of, double value)
{
    double step = value - of->mean;

    of->n++;
    of->mean += step / (double)of->n;
    of->squares += step * (value - of->mean);
}

void eval_mean_interval(const eval_mean *of, double most_trials, double *low, double *high)
{
    const double z = 1.959963984540054;
    double p = fmin(fmax(of->mean, 0.0), 1.0), n = (double)of->n;
    double spread = of->n > 1 ? of->squares / (n - 1) : 0.0, middle, half;

    if (spread > 0.0)
        n *= fmin(fmax(p * (1 - p) / spread, 1.0), most_trials);
    middle = (p + z * z / (2 * n)) / (1 + z * z / n);
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    *low = fmin(fmax(middle - half, 0.0), p);
    *high = fmax(fmin(middle + half, 1.0), p);
}
