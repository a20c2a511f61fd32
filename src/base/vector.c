/*
 * Vectors of floats as such.
 */
#include "base/vector.h"

#include <math.h>

bool myr_vector_normalise(float *vector, size_t dim)
{
    double square = 0;
    for (size_t i = 0; i < dim; i++)
        square += (double)vector[i] * (double)vector[i];
    if (!isfinite(square))
        return false;
    double scale = square > 0 ? 1 / sqrt(square) : 1;
    for (size_t i = 0; i < dim; i++)
        vector[i] = (float)(vector[i] * scale);
    return true;
}
