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

typedef struct myr_names {
    size_t n;
    char **names;
} myr_names;

bool myr_names_hold(const myr_names *self, const char *name);

/* Convolutions one by one, or inverted residuals in one piece, which rounds less: with factors of bf16, or of 8 bits
 * where 8 bits are asked for. Not every processor can. */
typedef enum myr_way { MYR_LAYER_BY_LAYER, MYR_IN_BLOCKS, MYR_IN_NARROW_BLOCKS, MYR_N_WAYS } myr_way;

struct myr_calibration {
    size_t n_ranges;
    myr_range *ranges; /* ascending by name */
    size_t n_layers;   /* convolutions that could be narrow */
    myr_names wide;    /* of the values that wide convolutions make, where these go one by one */
    size_t n_pictures;
    double cosine[MYR_N_WAYS][MYR_PRECISION_INT8 + 1]; /* of the worst picture to f32 */
    bool has_narrow_blocks;                            /* with blocks in 8 bits it loses little enough */
    size_t n_blocks;                                   /* that could be narrow */
    myr_names wide_blocks;   /* those that are not: of the values that their depthwise convolutions make */
    const myr_way *only_way; /* [borrowed] what is compiled with it goes this way, for measuring all; else NULL */
};

/* The way that is fastest on this processor in a precision; calibration may be NULL. */
myr_way myr_way_choose(const myr_calibration *calibration, myr_precision precision);

/* The range of a value; false where it was not measured. */
bool myr_calibration_range(const myr_calibration *calibration, const char *value, float *low, float *high);
/* Ranges in the order in which they are searched. */
void myr_calibration_sort(myr_calibration *calibration);

#endif
