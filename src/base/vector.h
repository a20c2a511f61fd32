/*
 * Vectors of floats as such.
 */
#ifndef MYR_BASE_VECTOR_H
#define MYR_BASE_VECTOR_H

#include <stdbool.h>
#include <stddef.h>

/* Length 1, in place; zeros stay zeros. false where a value is NaN or infinite. Summed in double, in order. */
bool myr_vector_normalise(float *vector, size_t dim);

#endif
