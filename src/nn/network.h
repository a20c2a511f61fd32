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
