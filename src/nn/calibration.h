/*
 * What a calibration holds, for the backends that read it and the measuring that fills it.
 */
#ifndef MYR_NN_CALIBRATION_H
#define MYR_NN_CALIBRATION_H

#include "myriops/calibration.h"

#include <stdbool.h>

typedef struct myr_range {
    char *name; /* of a value */
    float low, high;
} myr_range;

/* Convolutions one by one, or inverted residuals in one piece, which rounds less: not every processor can. */
enum { MYR_LAYER_BY_LAYER, MYR_IN_BLOCKS, MYR_N_WAYS };

struct myr_calibration {
    size_t n_ranges;
    myr_range *ranges; /* ascending by name */
    size_t n_layers;   /* convolutions that could be narrow */
    size_t n_wide;
    char **wide; /* names of the values that wide convolutions make */
    size_t n_pictures;
    double cosine[MYR_N_WAYS][MYR_PRECISION_INT8 + 1]; /* of the worst picture to f32 */
    bool is_layer_by_layer; /* what is compiled with it has no blocks; for measuring what other processors give */
};

/* The range of a value; false where it was not measured. */
bool myr_calibration_range(const myr_calibration *calibration, const char *value, float *low, float *high);
/* Ranges in the order in which they are searched. */
void myr_calibration_sort(myr_calibration *calibration);
/* Whether the convolution that makes this value stays wide. */
bool myr_calibration_is_wide(const myr_calibration *calibration, const char *value);

#endif
