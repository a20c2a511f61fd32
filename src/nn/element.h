/*
 * The element types that files store, and how they are widened to those a graph
 * computes with. All are little-endian.
 */
#ifndef MYR_NN_ELEMENT_H
#define MYR_NN_ELEMENT_H

#include "nn/tensor.h"

typedef struct myr_element {
    int number;       /* in ONNX: TensorProto.DataType */
    const char *name; /* in safetensors: dtype */
    myr_type type;    /* widened to */
    size_t bytes;     /* of one element in the file */
} myr_element;

/* NULL where the type is none that is read. */
const myr_element *myr_element_by_number(int number);
const myr_element *myr_element_by_name(const char *name);

/* Whether this number of ONNX is a float of any width: such values are computed in f32. */
bool myr_element_is_real(int number);

/* Elements [first, first + n) of the tensor, which has memory, from n * bytes raw ones. */
void myr_element_widen(const myr_element *element, const void *raw, size_t first, size_t n, myr_tensor *tensor);

/* One element of 16 bits: the upper half of an f32. */
float myr_element_bfloat16(uint16_t bits);

#endif
