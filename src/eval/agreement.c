/*
 * Clusters against labels.
 */
#include "myriops/eval.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>

/* Entropy of n parts of a whole, in nats. */
static double entropy(const int64_t *parts, size_t n, double whole)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++) {
        double share = (double)parts[i] / whole;

        sum -= parts[i] > 0 ? share * log(share) : 0.0;
    }
    return sum;
}

/* I(clusters; labels) = H(clusters) + H(labels) - H(both). */
static double information(const int64_t *counts, size_t n_clusters, size_t n_labels, const int64_t *of_cluster,
                          const int64_t *of_label, double whole, double *mean)
{
    double clusters = entropy(of_cluster, n_clusters, whole), labels = entropy(of_label, n_labels, whole);

    *mean = (clusters + labels) / 2;
    return fmax(clusters + labels - entropy(counts, n_clusters * n_labels, whole), 0.0);
}

myr_status myr_eval_agreement(const int64_t *counts, size_t n_clusters, size_t n_labels, myr_agreement *result)
{
    int64_t *of_cluster, *of_label, total = 0, pure = 0;
    double mean, shared;

    if (counts == NULL || result == NULL || n_clusters == 0 || n_labels == 0)
        return myr_fail(MYR_ERR_ARG, "agreement of %zu clusters with %zu labels: give at least one of both", n_clusters,
                        n_labels);
    of_cluster = myr_alloc(n_clusters, sizeof(*of_cluster));
    of_label = myr_alloc(n_labels, sizeof(*of_label));
    if (of_cluster == NULL || of_label == NULL) {
        free(of_cluster);
        free(of_label);
        return myr_fail(MYR_ERR_NOMEM, "agreement: no memory for %zu clusters and %zu labels", n_clusters, n_labels);
    }
    for (size_t c = 0; c < n_clusters; c++) {
        int64_t most = 0;

        for (size_t l = 0; l < n_labels; l++) {
            int64_t n = counts[c * n_labels + l];

            of_cluster[c] += n;
            of_label[l] += n;
            most = n > most ? n : most;
        }
        total += of_cluster[c];
        pure += most;
    }
    *result = (myr_agreement){.n_labelled = total};
    if (total > 0) {
        shared = information(counts, n_clusters, n_labels, of_cluster, of_label, (double)total, &mean);
        result->purity = (double)pure / (double)total;
        result->nmi = mean > 0 ? fmin(shared / mean, 1.0) : 1.0;
    }
    free(of_cluster);
    free(of_label);
    return MYR_OK;
}
