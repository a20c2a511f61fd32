/*
 * Einsum: every letter is an index with a length; the output sums the products of the inputs over
 * all letters it does not have. "..." stands for the dimensions without a letter, aligned at the last.
 */
#include "nn/operator.h"

#include <ctype.h>
#include <string.h>

#define MAX_INPUTS 3
/* Indices: 52 letters, then those of "...". */
#define N_LETTERS 52
#define N_INDICES (N_LETTERS + MYR_TENSOR_MAX_RANK)

typedef struct term {
    int n;
    int index[MYR_TENSOR_MAX_RANK];
} term;

typedef struct equation {
    term in[MAX_INPUTS], out;
    int64_t length[N_INDICES]; /* 0 = does not occur */
} equation;

static int letter_index(char c)
{
    return c >= 'a' && c <= 'z' ? c - 'a' : c - 'A' + 26;
}

/* One term from text up to its end (comma, arrow, end); n_dots: dimensions that "..." stands for. NULL if malformed. */
static const char *read_term(const char *text, int n_dots, term *into)
{
    *into = (term){0};
    while (*text && *text != ',' && *text != '-') {
        int n = strncmp(text, "...", 3) == 0 ? n_dots : isalpha((unsigned char)*text) ? 1 : *text == ' ' ? 0 : -1;
        if (n < 0 || into->n + n > MYR_TENSOR_MAX_RANK)
            return NULL;
        if (*text == '.')
            for (int i = 0; i < n; i++)
                into->index[into->n++] = N_INDICES - n + i;
        else if (n == 1)
            into->index[into->n++] = letter_index(*text);
        text += *text == '.' ? 3 : 1;
    }
    return text;
}

/* Letters of a term, to know how many dimensions its "..." has. */
static int count_letters(const char *text)
{
    int n = 0;
    for (; *text && *text != ',' && *text != '-'; text++)
        n += isalpha((unsigned char)*text) != 0;
    return n;
}

static bool has_dots(const char *text)
{
    size_t length = strcspn(text, ",-");
    const char *dots = strchr(text, '.');
    return dots && (size_t)(dots - text) < length;
}

/* Without an arrow the output has the letters that occur once, in the order of their codes. */
static void make_output(equation *eq, const int *n_times, int n_dots)
{
    eq->out = (term){0};
    for (int i = 0; i < n_dots; i++)
        eq->out.index[eq->out.n++] = N_INDICES - n_dots + i;
    for (int k = 0; k < N_LETTERS && eq->out.n < MYR_TENSOR_MAX_RANK; k++) {
        int letter = (k + 26) % N_LETTERS; /* capitals first */
        if (n_times[letter] == 1)
            eq->out.index[eq->out.n++] = letter;
    }
}

static bool read_equation(const myr_operation *operation, equation *eq)
{
    const char *text = myr_node_text(operation->node, "equation", "");
    int n_inputs = operation->node->n_inputs, n_times[N_INDICES] = {0}, most_dots = 0;
    memset(eq, 0, sizeof *eq);
    for (int k = 0; k < n_inputs; k++) {
        const myr_shape *shape = &operation->in[k]->shape;
        int n_dots = has_dots(text) ? shape->rank - count_letters(text) : 0;
        if (n_dots < 0 || !(text = read_term(text, n_dots, &eq->in[k])) || eq->in[k].n != shape->rank)
            return false;
        most_dots = n_dots > most_dots ? n_dots : most_dots;
        for (int d = 0; d < shape->rank; d++) {
            int index = eq->in[k].index[d];
            int64_t *length = &eq->length[index], dim = shape->dims[d];
            if (n_times[index]++ > 0 && *length != dim && *length != 1 && dim != 1)
                return false;
            *length = n_times[index] > 1 && dim == 1 ? *length : dim;
        }
        if (k + 1 < n_inputs && *text++ != ',')
            return false;
    }
    if (*text == 0)
        make_output(eq, n_times, most_dots);
    else if (strncmp(text, "->", 2) != 0 || !(text = read_term(text + 2, most_dots, &eq->out)) || *text)
        return false;
    bool seen[N_INDICES] = {false};
    for (int d = 0; d < eq->out.n; d++) {
        if (n_times[eq->out.index[d]] == 0 || seen[eq->out.index[d]])
            return false;
        seen[eq->out.index[d]] = true;
    }
    return true;
}

/* Steps of each input along an index: several of its dimensions may have the same one (a diagonal). */
static void find_steps(const myr_operation *operation, const equation *eq, size_t steps[MAX_INPUTS][N_INDICES])
{
    memset(steps, 0, MAX_INPUTS * sizeof *steps);
    for (int k = 0; k < operation->node->n_inputs; k++) {
        const myr_shape *shape = &operation->in[k]->shape;
        size_t step = 1;
        for (int d = shape->rank - 1; d >= 0; d--) {
            steps[k][eq->in[k].index[d]] += shape->dims[d] == 1 ? 0 : step;
            step *= (size_t)shape->dims[d];
        }
    }
}

/* Indices that are summed over; false where there are more than a shape can have. */
static bool find_inner(const myr_operation *operation, const equation *eq, term *inner, myr_shape *sums)
{
    bool used[N_INDICES] = {false};
    *inner = (term){0};
    for (int d = 0; d < eq->out.n; d++)
        used[eq->out.index[d]] = true;
    for (int k = 0; k < operation->node->n_inputs; k++) {
        for (int d = 0; d < eq->in[k].n; d++) {
            int index = eq->in[k].index[d];
            if (used[index])
                continue;
            if (inner->n == MYR_TENSOR_MAX_RANK)
                return false;
            used[index] = true;
            inner->index[inner->n++] = index;
        }
    }
    *sums = (myr_shape){.rank = inner->n};
    for (int d = 0; d < inner->n; d++)
        sums->dims[d] = eq->length[inner->index[d]];
    return myr_shape_is_sane(sums);
}

static myr_status infer(const myr_operation *operation)
{
    equation eq;
    term inner;
    myr_shape sums;
    if (!read_equation(operation, &eq))
        return myr_operation_fail(operation, MYR_ERR_FORMAT, "the equation does not fit the inputs");
    if (!find_inner(operation, &eq, &inner, &sums))
        return myr_operation_fail(operation, MYR_ERR_UNSUPPORTED, "a sum over too many letters");
    myr_shape shape = {.rank = eq.out.n};
    for (int d = 0; d < eq.out.n; d++)
        shape.dims[d] = eq.length[eq.out.index[d]];
    myr_operation_shape(operation, 0, MYR_TYPE_F32, &shape);
    return myr_operation_floats(operation, operation->node->n_inputs);
}

static myr_status compute(const myr_operation *operation)
{
    equation eq;
    term inner;
    myr_shape sums;
    size_t steps[MAX_INPUTS][N_INDICES];
    if (!read_equation(operation, &eq))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "the equation does not fit the inputs");
    if (!find_inner(operation, &eq, &inner, &sums))
        return myr_operation_fail(operation, MYR_ERR_INTERNAL, "a sum over too many letters");
    find_steps(operation, &eq, steps);
    const myr_shape *out = &operation->out[0].shape;
    size_t n = myr_shape_count(out), n_sums = myr_shape_count(&sums);
    int64_t place[MYR_TENSOR_MAX_RANK] = {0}, along[MYR_TENSOR_MAX_RANK] = {0};
    for (size_t i = 0; i < n; i++, myr_shape_next(out, place)) {
        double sum = 0;
        for (size_t j = 0; j < n_sums; j++, myr_shape_next(&sums, along)) {
            double product = 1;
            for (int k = 0; k < operation->node->n_inputs; k++) {
                size_t at = 0;
                for (int d = 0; d < out->rank; d++)
                    at += (size_t)place[d] * steps[k][eq.out.index[d]];
                for (int d = 0; d < inner.n; d++)
                    at += (size_t)along[d] * steps[k][inner.index[d]];
                product *= (double)((const float *)operation->in[k]->data)[at];
            }
            sum += product;
        }
        ((float *)operation->out[0].data)[i] = (float)sum;
    }
    return MYR_OK;
}

const myr_operator myr_einsum_operators[] = {
    {"Einsum", MYR_KIND_OTHER, 1, MAX_INPUTS, 1, "equation:text ", NULL, infer, compute},
    {0},
};
