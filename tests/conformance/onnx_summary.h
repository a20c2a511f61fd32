/*
 * What a test needs to know of a model file beyond what the reader keeps: which operators it
 * has, supported or not, and whether its case lies outside Myriops' field.
 */
#ifndef MYR_TESTS_ONNX_SUMMARY_H
#define MYR_TESTS_ONNX_SUMMARY_H

#include <stdbool.h>

typedef struct onnx_summary {
    char operators[512]; /* the different ones, in the order they first occur, with ", " between */
    const char *outside; /* the family that lies outside the field, or NULL */
    bool has_halves;     /* an input or output is half precision */
} onnx_summary;

/* false where the file cannot be read. */
bool onnx_summarise(const char *path, onnx_summary *summary);

#endif
