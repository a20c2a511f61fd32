/*
 * The order of a file's nodes.
 */
#ifndef MYR_NN_ONNX_ORDER_H
#define MYR_NN_ONNX_ORDER_H

#include "myriops/status.h"
#include "onnx.pb-c.h"

#include <stddef.h>

/* What a node is called in messages: many have no name. Never NULL. */
const char *myr_onnx_node_name(const Onnx__NodeProto *node);

/*
 * myr_onnx_order - places of the nodes, each behind those whose results it takes.
 *
 * ONNX wants files sorted so, but converters leave nodes at the end that belong to the front. A file that is sorted
 * keeps its order; in others a node moves only in front of the first that needs it.
 *
 *  order  [out, owned by caller]  (n_node) places in graph->node
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT (the nodes go in a circle) | MYR_ERR_NOMEM
 */
myr_status myr_onnx_order(const char *path, const Onnx__GraphProto *graph, size_t **order);

#endif
