/*
 * Widening is exact but for f64, which is rounded.
 * Source: ONNX IR specification (numbers); safetensors format (names); IEEE 754 (binary16).
 */
#include "nn/element.h"

#include "kernel/half.h"

#include <string.h>

enum {
    FLOAT32 = 1,
    UINT8 = 2,
    INT8 = 3,
    UINT16 = 4,
    INT16 = 5,
    INT32 = 6,
    INT64 = 7,
    BOOL = 9,
    FLOAT16 = 10,
    FLOAT64 = 11,
    UINT32 = 12,
    UINT64 = 13,
    BFLOAT16 = 16
};

static const myr_element elements[] = {
    {FLOAT32, "F32", MYR_TYPE_F32, 4}, {FLOAT16, "F16", MYR_TYPE_F32, 2}, {BFLOAT16, "BF16", MYR_TYPE_F32, 2},
    {FLOAT64, "F64", MYR_TYPE_F32, 8}, {INT64, "I64", MYR_TYPE_I64, 8},   {INT32, "I32", MYR_TYPE_I64, 4},
    {BOOL, "BOOL", MYR_TYPE_I64, 1},   {UINT8, "U8", MYR_TYPE_I64, 1},    {INT8, "I8", MYR_TYPE_I64, 1},
    {UINT16, "U16", MYR_TYPE_I64, 2},  {INT16, "I16", MYR_TYPE_I64, 2},   {UINT32, "U32", MYR_TYPE_I64, 4},
    {UINT64, "U64", MYR_TYPE_I64, 8},
};
#define N_ELEMENTS (sizeof elements / sizeof *elements)

const myr_element *myr_element_by_number(int number)
{
    for (size_t i = 0; i < N_ELEMENTS; i++)
        if (elements[i].number == number)
            return &elements[i];
    return NULL;
}

const myr_element *myr_element_by_name(const char *name)
{
    for (size_t i = 0; i < N_ELEMENTS; i++)
        if (strcmp(elements[i].name, name) == 0)
            return &elements[i];
    return NULL;
}

bool myr_element_is_real(int number)
{
    const myr_element *element = myr_element_by_number(number);
    return element && element->type == MYR_TYPE_F32;
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float myr_element_bfloat16(uint16_t bits)
{
    return float_of_bits((uint32_t)bits << 16);
}

static void widen_reals(int number, const uint8_t *raw, size_t n, float *to)
{
    uint16_t half;
    double wide;
    for (size_t i = 0; i < n; i++) {
        if (number == FLOAT64) {
            memcpy(&wide, raw + i * sizeof wide, sizeof wide);
            to[i] = (float)wide;
            continue;
        }
        memcpy(&half, raw + i * sizeof half, sizeof half);
        to[i] = number == FLOAT16 ? myr_half_to_float(half) : myr_element_bfloat16(half);
    }
}

/* A whole number of so many little-endian bytes. */
static int64_t whole_number(const uint8_t *raw, size_t n_bytes, bool is_signed)
{
    uint64_t number = 0;
    for (size_t i = 0; i < n_bytes; i++)
        number |= (uint64_t)raw[i] << (8 * i);
    if (is_signed && n_bytes < 8 && number >> (8 * n_bytes - 1))
        number |= UINT64_MAX << (8 * n_bytes);
    return (int64_t)number;
}

void myr_element_widen(const myr_element *element, const void *bytes, size_t first, size_t n, myr_tensor *tensor)
{
    const uint8_t *raw = bytes;
    if (n == 0)
        return;
    if (element->number == FLOAT32) {
        memcpy((float *)tensor->data + first, raw, n * sizeof(float));
    } else if (element->type == MYR_TYPE_F32) {
        widen_reals(element->number, raw, n, (float *)tensor->data + first);
    } else {
        int64_t *numbers = (int64_t *)tensor->data + first;
        bool is_signed = element->number == INT8 || element->number == INT16 || element->number == INT32;
        for (size_t i = 0; i < n; i++, raw += element->bytes)
            numbers[i] = element->number == BOOL ? *raw != 0 : whole_number(raw, element->bytes, is_signed);
    }
}
