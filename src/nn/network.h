/*
 * Networks from graphs, and sessions with any number of inputs: what the public
 * functions of model.h stand on, and what tests of single operators use.
 */
#ifndef MYR_NN_NETWORK_H
#define MYR_NN_NETWORK_H

#include "nn/graph.h"

/* The model's graph up to these outputs, bound to a batch. [owned by caller] */
myr_status myr_network_graph(const myr_model *model, int batch, const char *const *outputs, size_t n_outputs,
                             myr_graph **graph);
/* Compile a graph whose shapes are inferred; it is taken over, also on failure. fuse: run the fusing passes first. */
myr_status myr_network_compile(myr_graph *graph, const myr_network_options *options, bool fuse, myr_network **network);
/* Input i of a session, in the order of the graph's inputs. */
float *myr_session_input_at(myr_session *session, size_t i);
/* Output i with its shape. */
const float *myr_session_output_at(const myr_session *session, size_t i, myr_shape *shape);

/*
 * myr_session_profile - from now on every run is timed step by step.
 *
 * Returns:  MYR_OK | MYR_ERR_NOMEM
 * Cost:     a reading of the clock before and after each step
 */
myr_status myr_session_profile(myr_session *session);

typedef struct myr_step_time {
    const char *label; /* [borrowed] the node's name; a value's where its layout is changed */
    const char *op;    /* [borrowed] "Conv"; "layout" where only bytes are moved */
    const char *by;    /* [borrowed] who computes it: "oneDNN", "reference", ... */
    double seconds;    /* of all runs since myr_session_profile */
    double bytes;      /* that a run moves at least: the step's values and weights, once each */
} myr_step_time;

size_t myr_network_n_steps(const myr_network *network);
/* flops[i]: multiply-adds of step i in a run, times two. (myr_network_n_steps) Returns their sum. */
double myr_network_flops(const myr_network *network, double *flops);
/* Bytes that a run moves at least: of each step its values and weights, once each. */
double myr_network_bytes(const myr_network *network);
/* Step i of a session that is profiled; false out of range or without a profile. */
bool myr_session_step_time(const myr_session *session, size_t i, myr_step_time *time);

struct myr_model {
    myr_graph *graph;
    char *producer;
    myr_tensor_info *inputs, *outputs;
    size_t n_operators;
    struct myr_operator_count {
        const char *name;
        size_t n;
    } * operators; /* sorted by name */
    uint64_t n_parameters, flops;
};

#endif
