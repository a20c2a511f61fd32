/*
 * Every variant against the reference, bit for bit, and the reference against sums in
 * wider integers and by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "kernel/half.h"
#include "kernel/kernel.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const size_t dims[] = {1, 2, 3, 15, 16, 17, 63, 64, 65, 100, 128, 129, 960, 1280, 4097, MYR_CODE_MAX_DIM};
enum { N_DIMS = sizeof dims / sizeof *dims, N_ROWS = 19 };

static uint64_t slow_code_distance(const uint8_t *a, const uint8_t *b, size_t dim)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (uint64_t)((int64_t)a[i] - b[i]) * (uint64_t)((int64_t)a[i] - b[i]);
    return sum;
}

/* From one row to any number of rows; nothing is written behind the last. */
static void compare_codes(const myr_kernel *kernel, const uint8_t *rows, size_t from, size_t dim)
{
    const uint32_t untouched = 0x5eed;
    size_t n_bytes = myr_code_bytes(dim);
    const uint8_t *places[N_ROWS], *target = rows + from * n_bytes;
    uint32_t right[N_ROWS], distances[N_ROWS + 1];
    for (size_t r = 0; r < N_ROWS; r++) {
        places[r] = rows + r * n_bytes;
        right[r] = (uint32_t)slow_code_distance(target, places[r], dim);
        assert_int_equal(kernel->code_distance(target, places[r], n_bytes), right[r]);
    }
    for (size_t n = 0; n <= N_ROWS; n++) {
        for (size_t r = 0; r <= N_ROWS; r++)
            distances[r] = untouched;
        kernel->code_distances(target, places, n, n_bytes, distances);
        assert_memory_equal(distances, right, n * sizeof *right);
        for (size_t r = n; r <= N_ROWS; r++)
            assert_int_equal(distances[r], untouched);
    }
}

static void test_codes(void **state)
{
    (void)state;
    myr_rng rng;
    myr_rng_seed(&rng, 1);
    for (size_t d = 0; d < N_DIMS; d++) {
        size_t n_bytes = myr_code_bytes(dims[d]);
        uint8_t *rows = myr_alloc(N_ROWS, n_bytes);
        for (size_t r = 0; r < N_ROWS; r++)
            for (size_t i = 0; i < dims[d]; i++)
                rows[r * n_bytes + i] = r == 0 ? 0 : r == 1 ? 255 : (uint8_t)myr_rng_next(&rng); /* the extremes too */
        for (size_t v = 0; myr_kernel_variant(v); v++)
            for (size_t from = 0; from < 3; from++)
                compare_codes(myr_kernel_variant(v), rows, from, dims[d]);
        free(rows);
    }
}

static void test_floats(void **state)
{
    (void)state;
    myr_rng rng;
    myr_rng_seed(&rng, 2);
    for (size_t d = 0; d < N_DIMS; d++) {
        size_t dim = dims[d];
        float *a = malloc((dim + 1) * sizeof *a), *b = malloc((dim + 1) * sizeof *b);
        for (size_t i = 0; i <= dim; i++) {
            a[i] = (float)(myr_rng_unit(&rng) - 0.5) * (i % 7 == 0 ? 1e6f : 1.0f);
            b[i] = (float)(myr_rng_unit(&rng) - 0.5);
        }
        long double l2 = 0, dot = 0, size = 0;
        for (size_t i = 0; i < dim; i++) {
            l2 += ((long double)a[i + 1] - b[i + 1]) * ((long double)a[i + 1] - b[i + 1]);
            dot += (long double)a[i + 1] * b[i + 1];
            size += fabsl((long double)a[i + 1] * b[i + 1]);
        }
        const myr_kernel *reference = myr_kernel_variant(0);
        double right_l2 = reference->squared_l2(a + 1, b + 1, dim), right_dot = reference->dot(a + 1, b + 1, dim);
        assert_true(fabsl(right_l2 - l2) <= 1e-12L * l2);
        assert_true(fabsl(right_dot - dot) <= 1e-12L * size);
        for (size_t v = 1; myr_kernel_variant(v); v++) { /* unaligned on purpose */
            double got_l2 = myr_kernel_variant(v)->squared_l2(a + 1, b + 1, dim);
            double got_dot = myr_kernel_variant(v)->dot(a + 1, b + 1, dim);
            assert_memory_equal(&got_l2, &right_l2, sizeof got_l2);
            assert_memory_equal(&got_dot, &right_dot, sizeof got_dot);
        }
        free(a);
        free(b);
    }
}

static void test_quantise(void **state)
{
    (void)state;
    myr_scale scale = myr_scale_of(0, 255);
    _Alignas(64) uint8_t codes[64];
    float residual;
    float values[] = {-3, 0, 0.5f, 1.5f, 2.5f, 7, 254.5f, 255, 300};
    const uint8_t right[] = {0, 0, 0, 2, 2, 7, 254, 255, 255};
    memset(codes, 9, sizeof codes);
    assert_true(myr_quantise(&scale, values, 9, codes, &residual));
    assert_memory_equal(codes, right, 9);
    for (size_t i = 9; i < 64; i++)
        assert_int_equal(codes[i], 0);
    double sum = 9 + 4 * 0.25 + 45 * 45;
    assert_true(residual >= sqrt(sum) && residual < sqrt(sum) * (1 + 1e-6));
    assert_true(myr_quantise(&scale, (float[]){4, 5}, 2, codes, &residual));
    assert_true(residual == 0.0f); /* whole values lose nothing */

    scale = myr_scale_of(1.5f, 1.5f);
    assert_true(myr_quantise(&scale, (float[]){1.5f, FLT_MAX}, 2, codes, &residual));
    assert_int_equal(codes[0] | codes[1], 0);
    scale = myr_scale_of(0, FLT_TRUE_MIN);
    assert_true(myr_quantise(&scale, (float[]){0, FLT_TRUE_MIN}, 2, codes, &residual));
    assert_int_equal(codes[1], 255);
    scale = myr_scale_of(-FLT_MAX, FLT_MAX);
    assert_true(myr_quantise(&scale, (float[]){-FLT_MAX, FLT_MAX}, 2, codes, &residual));
    assert_true(codes[0] == 0 && codes[1] == 255);
    assert_false(myr_quantise(&scale, (float[]){0, NAN}, 2, codes, &residual));
    assert_false(myr_quantise(&scale, (float[]){-INFINITY, 0}, 2, codes, &residual));
}

/* The name a fresh process chooses under MYRIOPS_DISABLE_CPU. */
static void name_under(const char *disabled, char *name, size_t size)
{
    char command[512];
    snprintf(command, sizeof command, "MYRIOPS_DISABLE_CPU='%s' /proc/%d/exe --name", disabled, (int)getpid());
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_non_null(fgets(name, (int)size, pipe));
    assert_int_equal(pclose(pipe), 0);
}

static void test_widen(void **state)
{
    (void)state;
    enum { ALL = 1 << 16, MOST = 70 };
    static uint16_t halves[ALL + MOST];
    static float right[ALL + MOST], values[ALL + MOST];
    for (size_t i = 0; i < ALL + MOST; i++) {
        halves[i] = (uint16_t)i;
        right[i] = myr_half_to_float(halves[i]);
    }
    for (size_t v = 0; myr_kernel_variant(v); v++)
        for (size_t n = 0; n < MOST; n++) {
            size_t from = n * 997 % ALL, dim = n == 0 ? ALL : n;
            values[dim] = -7; /* must stay */
            myr_kernel_variant(v)->widen(halves + (n == 0 ? 0 : from), dim, values);
            assert_true(values[dim] == -7);
            for (size_t i = 0; i < dim; i++) {
                float expected = right[(n == 0 ? 0 : from) + i];
                if (isnan(expected) ? !isnan(values[i]) : memcmp(&values[i], &expected, sizeof expected) != 0)
                    fail_msg("%s: half %zu is %a", myr_kernel_variant(v)->name, i, (double)values[i]);
            }
        }
}

/* Against sums of fused steps by the C library, and nothing written beyond. */
static void test_project(void **state)
{
    (void)state;
    enum { MOST_DIM = 70, N_AXES = 3 * MYR_PANEL, N_VECTORS = 6 };
    static float axes[N_AXES * MOST_DIM], offsets[N_AXES], vectors[N_VECTORS][MOST_DIM], out[N_VECTORS][N_AXES + 1];
    const float *rows[N_VECTORS];
    float *places[N_VECTORS];
    myr_rng rng;
    myr_rng_seed(&rng, 5);
    for (size_t i = 0; i < sizeof axes / sizeof *axes; i++)
        axes[i] = (float)myr_rng_unit(&rng) - 0.5f;
    for (size_t i = 0; i < N_AXES; i++)
        offsets[i] = (float)myr_rng_unit(&rng);
    for (size_t v = 0; v < N_VECTORS; v++) {
        rows[v] = vectors[v];
        places[v] = out[v];
        for (size_t i = 0; i < MOST_DIM; i++)
            vectors[v][i] = (float)myr_rng_unit(&rng) * (i == 9 ? 1e12f : 1.0f);
    }
    for (size_t variant = 0; myr_kernel_variant(variant); variant++)
        for (size_t dim = 0; dim <= MOST_DIM; dim += dim < 4 ? 1 : 11)
            for (size_t n = 0; n <= N_VECTORS; n++)
                for (size_t n_axes = MYR_PANEL; n_axes <= N_AXES; n_axes += MYR_PANEL) {
                    const float *from = n % 2 ? offsets : NULL;
                    memset(out, 0xff, sizeof out);
                    myr_kernel_variant(variant)->project(axes, from, dim, n_axes, rows, n, places);
                    for (size_t v = 0; v < n; v++)
                        for (size_t axis = 0; axis < n_axes; axis++) {
                            float right = from ? from[axis] : 0;
                            for (size_t i = 0; i < dim; i++)
                                right = fmaf(vectors[v][i],
                                             axes[(axis / MYR_PANEL * dim + i) * MYR_PANEL + axis % MYR_PANEL], right);
                            if (memcmp(&out[v][axis], &right, sizeof right) != 0)
                                fail_msg("%s: dim %zu, vector %zu of %zu, axis %zu: %a, not %a",
                                         myr_kernel_variant(variant)->name, dim, v, n, axis, (double)out[v][axis],
                                         (double)right);
                        }
                    for (size_t v = 0; v < N_VECTORS; v++)
                        assert_true(isnan(out[v][v < n ? n_axes : 0]));
                }
}

static void test_choice(void **state)
{
    (void)state;
    char name[64];
    bool avx2 = myr_kernel_variant(1) != NULL, avx512 = avx2 && myr_kernel_variant(2) != NULL;
    name_under("", name, sizeof name);
    assert_string_equal(name, avx512 ? "avx512vnni" : avx2 ? "avx2" : "reference");
    name_under("avx512", name, sizeof name);
    assert_string_equal(name, avx2 ? "avx2" : "reference");
    name_under("avx2", name, sizeof name);
    assert_string_equal(name, "reference");
    name_under("sse9,avx512,avx2", name, sizeof name);
    assert_string_equal(name, "reference");
    name_under("avx51,avx", name, sizeof name);
    assert_string_equal(name, avx512 ? "avx512vnni" : avx2 ? "avx2" : "reference");
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--name") == 0)
        return printf("%s", myr_cpu_name()) < 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes), cmocka_unit_test(test_floats),  cmocka_unit_test(test_quantise),
        cmocka_unit_test(test_widen), cmocka_unit_test(test_project), cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
