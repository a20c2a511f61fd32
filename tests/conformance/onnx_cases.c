/*
 * ONNX's own tests of its operators (Debian's libonnx-testdata), all that lie in Myriops' field,
 * on every backend.
 *
 * A case is run with its inputs given at run time, once more with all but the first as
 * constants, as weights are in a real network, and once with all of them as constants, which are
 * folded. --damaged: files whose results nobody knows; the program only must not crash. MYRIOPS_ONNX_DATA names another
 * folder of the same form (write_onnx_cases.py makes one). A case passes where at least one of these can be compiled
 * and none of them computes something else than ONNX; it is refused where all are, and then the reason must name an
 * operator.
 */
#include "base/alloc.h"
#include "nn/bind.h"
#include "nn/network.h"
#include "nn/onnx.h"
#include "nn/operator.h"
#include "onnx_summary.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STANDARD_DATA "/usr/share/libonnx-testdata/data"
#define LEAST_PASSED 835
#define MAX_TENSORS 16

typedef enum verdict { PASSED, REFUSED, LEFT_OUT, FAILED, N_VERDICTS } verdict;

/* A row of the table that is printed. */
typedef struct tally {
    char name[64];
    int n[N_VERDICTS];
} tally;

typedef struct test_case {
    const char *set, *name;
    onnx_summary summary;
    size_t n_inputs, n_outputs;
    myr_tensor *inputs[MAX_TENSORS], *outputs[MAX_TENSORS];
    char reason[512]; /* why it was refused, or what is wrong */
} test_case;

static tally tallies[256];
static int n_tallies, n_folded;
static bool is_damaged;
static const char *data_folder = STANDARD_DATA;

static void complain(test_case *self, const char *what)
{
    snprintf(self->reason, sizeof self->reason, "%s", what);
}

static size_t load_tensors(const test_case *self, const char *kind, myr_tensor **tensors)
{
    size_t n = 0;
    for (char path[512]; n < MAX_TENSORS; n++) {
        snprintf(path, sizeof path, "%s/%s/%s/test_data_set_0/%s_%zu.pb", data_folder, self->set, self->name, kind, n);
        if (access(path, R_OK) != 0 || myr_onnx_read_tensor(path, &tensors[n]) != MYR_OK)
            break;
    }
    return n;
}

/* ---- Comparing ---- */

static bool is_close(double got, double want, double margin)
{
    return (isnan(want) && isnan(got)) || got == want || fabs(got - want) <= margin;
}

/* Relative to the largest value. ONNX itself allows 1e-3; some of its data needs that, being rounded to few digits. */
static double tolerance(const test_case *self)
{
    if (self->summary.has_halves)
        return 1e-3;
    return strstr(self->name, "roialign") || strstr(self->name, "window") ? 1e-4 : 1e-5;
}

static bool compare(test_case *self, size_t i, const myr_tensor *got)
{
    const myr_tensor *want = self->outputs[i];
    size_t n = myr_shape_count(&want->shape);
    double largest = 0;
    char text[128];
    if (!myr_shape_equal(&got->shape, &want->shape) || got->type != want->type) {
        snprintf(self->reason, sizeof self->reason, "output %zu has another type or shape: %s", i,
                 myr_shape_text(&got->shape, text, sizeof text));
        return false;
    }
    for (size_t j = 0; j < n; j++)
        largest = isfinite(myr_tensor_real(want, j)) ? fmax(largest, fabs(myr_tensor_real(want, j))) : largest;
    double margin = want->type == MYR_TYPE_I64 ? 0 : tolerance(self) * (1 + largest);
    for (size_t j = 0; j < n; j++) {
        if (is_close(myr_tensor_real(got, j), myr_tensor_real(want, j), margin))
            continue;
        snprintf(self->reason, sizeof self->reason, "element %zu of output %zu is %g, not %g", j, i,
                 myr_tensor_real(got, j), myr_tensor_real(want, j));
        return false;
    }
    return true;
}

/* Outputs that became constants are compared and leave the graph; *places: what number each of the others has. */
static bool compare_constants(test_case *self, myr_graph *graph, size_t *places)
{
    size_t n = 0;
    for (size_t i = 0; i < graph->n_outputs && i < self->n_outputs; i++) {
        const myr_tensor *constant = graph->values[graph->outputs[i]].constant;
        if (constant && !compare(self, i, constant))
            return false;
        if (constant)
            continue;
        places[n] = i;
        graph->outputs[n++] = graph->outputs[i];
    }
    graph->n_outputs = n;
    return true;
}

/* ---- Running ---- */

/* The first n_constant inputs, counted from the last one, become constants. */
static void give_inputs(const test_case *self, myr_graph *graph, size_t n_constant)
{
    for (size_t i = 0; i < graph->n_inputs; i++) {
        myr_value *value = &graph->values[graph->inputs[i]];
        value->type = self->inputs[i]->type;
        value->shape = self->inputs[i]->shape;
        value->is_shaped = true;
        if (graph->n_inputs - i <= n_constant)
            value->constant = myr_tensor_share(self->inputs[i]);
    }
}

static verdict run_session(test_case *self, const myr_network *network, size_t n_outputs, const size_t *places,
                           const myr_type *types)
{
    myr_session *session;
    verdict result = PASSED;
    if (myr_session_create(network, &session) != MYR_OK) {
        complain(self, myr_error_detail());
        return FAILED;
    }
    for (size_t i = 0; i < self->n_inputs; i++)
        if (myr_session_input_at(session, i))
            memcpy(myr_session_input_at(session, i), self->inputs[i]->data, myr_tensor_bytes(self->inputs[i]));
    if (myr_session_run(session) != MYR_OK) {
        complain(self, myr_error_detail());
        result = FAILED;
    }
    for (size_t i = 0; i < n_outputs && result == PASSED; i++) {
        myr_tensor got = {.type = types[i]};
        got.data = (void *)myr_session_output_at(session, i, &got.shape);
        result = compare(self, places[i], &got) ? PASSED : FAILED;
    }
    myr_session_free(session);
    return result;
}

/* Takes the graph over. */
static verdict run_graph(test_case *self, myr_graph *graph, const char *backend)
{
    size_t places[MAX_TENSORS];
    myr_type types[MAX_TENSORS];
    myr_network *network;
    if (!compare_constants(self, graph, places) || graph->n_outputs == 0) {
        verdict result = graph->n_outputs == 0 ? PASSED : FAILED;
        myr_graph_free(graph);
        return result;
    }
    size_t n_outputs = graph->n_outputs;
    for (size_t i = 0; i < n_outputs; i++)
        types[i] = graph->values[graph->outputs[i]].type;
    if (myr_network_compile(graph, &(myr_network_options){.backend = backend}, true, &network) != MYR_OK) {
        complain(self, myr_error_detail());
        return FAILED;
    }
    verdict result = run_session(self, network, n_outputs, places, types);
    myr_network_free(network);
    return result;
}

static verdict run_with(test_case *self, const char *backend, size_t n_constant)
{
    char path[512], *producer = NULL;
    myr_graph *graph = NULL;
    snprintf(path, sizeof path, "%s/%s/%s/model.onnx", data_folder, self->set, self->name);
    myr_status status = myr_onnx_read(path, &graph, &producer);
    free(producer);
    if (status == MYR_OK && graph->n_inputs > self->n_inputs) {
        complain(self, "its inputs cannot be read");
        myr_graph_free(graph);
        return FAILED;
    }
    if (status == MYR_OK) {
        give_inputs(self, graph, n_constant);
        status = myr_graph_infer(graph);
    }
    if (status == MYR_OK)
        return run_graph(self, graph, backend);
    complain(self, myr_error_detail());
    myr_graph_free(graph);
    return status == MYR_ERR_UNSUPPORTED ? REFUSED : FAILED;
}

/* Whether the reason for a refusal says which operator it is about, or which operator set. */
static bool names_operator(const test_case *self)
{
    char names[sizeof self->summary.operators], *rest = names;
    snprintf(names, sizeof names, "%s", self->summary.operators);
    for (char *name; (name = strsep(&rest, ", "));)
        if (name[0] && strstr(self->reason, name))
            return true;
    return strstr(self->reason, "operator set ") || strstr(self->reason, "element type ");
}

static verdict run_on(test_case *self, const char *backend)
{
    size_t n_constant[] = {0, self->n_inputs > 0 ? self->n_inputs - 1 : 0, self->n_inputs};
    verdict result = REFUSED;
    for (int i = 0; i < 3; i++) {
        verdict one = run_with(self, backend, n_constant[i]);
        if (one == FAILED && !is_damaged)
            return FAILED;
        n_folded += i == 2 && one == PASSED && result == REFUSED && self->n_inputs > 0;
        result = one == PASSED ? PASSED : result;
    }
    if (result == REFUSED && !names_operator(self))
        return FAILED;
    return result;
}

/* ---- The table ---- */

static void count(const test_case *self, verdict result)
{
    bool several = strchr(self->summary.operators, ',') != NULL;
    const char *name = several ? "(several)" : self->summary.operators;
    int i = 0;
    while (i < n_tallies && strcmp(tallies[i].name, name) != 0)
        i++;
    if (i == (int)(sizeof tallies / sizeof *tallies))
        return;
    if (i == n_tallies)
        snprintf(tallies[n_tallies++].name, sizeof tallies->name, "%.63s", name);
    tallies[i].n[result]++;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tally *)a)->name, ((const tally *)b)->name);
}

static tally print_table(void)
{
    tally sum = {.name = "all"};
    qsort(tallies, (size_t)n_tallies, sizeof *tallies, by_name);
    printf("\n%-28s %7s %8s %9s %7s\n", "operator", "passed", "refused", "left out", "failed");
    for (int i = 0; i <= n_tallies; i++) {
        const tally *row = i < n_tallies ? &tallies[i] : &sum;
        printf("%-28s %7d %8d %9d %7d\n", row->name, row->n[PASSED], row->n[REFUSED], row->n[LEFT_OUT], row->n[FAILED]);
        for (int v = 0; v < N_VERDICTS && i < n_tallies; v++)
            sum.n[v] += row->n[v];
    }
    return sum;
}

/* ---- All cases ---- */

static void run_case(const char *set, const char *name)
{
    test_case self = {.set = set, .name = name};
    char path[512];
    verdict result = PASSED;
    snprintf(path, sizeof path, "%s/%s/%s/model.onnx", data_folder, set, name);
    if (name[0] == '.' || access(path, R_OK) != 0)
        return;
    if (!onnx_summarise(path, &self.summary)) {
        result = FAILED;
        complain(&self, "the model cannot be read");
    } else if (self.summary.outside) {
        result = LEFT_OUT;
    } else {
        self.n_inputs = load_tensors(&self, "input", self.inputs);
        self.n_outputs = load_tensors(&self, "output", self.outputs);
    }
    for (const char *const *backend = myr_backend_names(); *backend && result == PASSED; backend++) {
        result = self.n_outputs > 0 ? run_on(&self, *backend) : FAILED;
        if (is_damaged)
            result = PASSED;
        if (result == FAILED)
            printf("%s/%s on %s: WRONG: %s\n", set, name, *backend, self.reason);
        if (result == REFUSED)
            printf("%s/%s is refused: %s\n", set, name, self.reason);
    }
    count(&self, result);
    for (size_t i = 0; i < MAX_TENSORS; i++) {
        myr_tensor_free(self.inputs[i]);
        myr_tensor_free(self.outputs[i]);
    }
}

int main(int argc, char **argv)
{
    static const char *const sets[] = {"node", "simple", "pytorch-converted", "pytorch-operator"};
    int n_backends = 0, n_sets = 0;
    if (getenv("MYRIOPS_ONNX_DATA"))
        data_folder = getenv("MYRIOPS_ONNX_DATA");
    is_damaged = argc > 1 && strcmp(argv[1], "--damaged") == 0;
    bool is_standard = strcmp(data_folder, STANDARD_DATA) == 0;
    while (myr_backend_names()[n_backends])
        n_backends++;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        struct dirent **entries;
        char path[256];
        snprintf(path, sizeof path, "%s/%s", data_folder, sets[i]);
        int n = scandir(path, &entries, NULL, alphasort);
        n_sets += n >= 0;
        for (int j = 0; j < n; j++) {
            run_case(sets[i], entries[j]->d_name);
            free(entries[j]);
        }
        if (n >= 0)
            free(entries);
    }
    if (n_sets == 0) {
        printf("skipped: there is no %s (apt install libonnx-testdata)\n", data_folder);
        return 77;
    }
    if (is_damaged)
        return 0;
    tally sum = print_table();
    int least = is_standard ? LEAST_PASSED : 0;
    printf("\n%d models pass on %d backends (%d of them only with all inputs constant); at least %d must.\n",
           sum.n[PASSED], n_backends, n_folded / n_backends, least);
    return sum.n[FAILED] == 0 && sum.n[PASSED] >= least ? 0 : 1;
}
