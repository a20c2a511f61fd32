/*
 * Reading ONNX with protobuf-c.
 *
 * What is not supported is gathered over the whole file and said at once, so that a
 * user learns everything about his model from one error.
 * Source: ONNX IR specification; onnx.proto.
 */
#include "nn/onnx.h"

#include "base/alloc.h"
#include "base/file.h"
#include "nn/element.h"
#include "nn/onnx_order.h"
#include "nn/onnx_tensor.h"
#include "nn/operator.h"
#include "nn/wire.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILE_BYTES (((size_t)1 << 31) - 1)
#define MAX_NESTING 24
/* Some hundred thousand are in the largest networks there are. */
#define MOST_PARTS ((size_t)1 << 22)
#define LEAST_OPSET 1
#define MOST_OPSET 21

/* A name and the value it stands for, in a search tree. */
typedef struct known_name {
    const char *name;
    int value;
    bool is_made; /* an input, a constant, or some node's output by now */
} known_name;

typedef struct reading {
    const char *path;
    myr_onnx_origin origin;
    myr_graph *graph;
    void *names; /* tree of entries */
    myr_buffer problems;
} reading;

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const known_name *)a)->name, ((const known_name *)b)->name);
}

/* More than any message shows; a file can have as many problems as it has nodes. */
#define MAX_PROBLEMS_BYTES 4096

#define SUCH_AS " (as '"

/* Whether a line already stands among the problems, which "; " separates. */
static bool is_noted(const myr_buffer *problems, const char *line)
{
    size_t length = strlen(line);
    for (const char *at = problems->data; at && (at = strstr(at, line)); at += length)
        if (at[length] == 0 || at[length] == ';' || strncmp(at + length, SUCH_AS, strlen(SUCH_AS)) == 0)
            return true;
    return false;
}

/* name: the first tensor or input it is about, or NULL. */
static void note_problem_of(reading *read, const char *kind, const char *what, const char *name)
{
    myr_buffer line = {0};
    myr_buffer_printf(&line, "%s %s", kind, what);
    if (line.data && read->problems.size < MAX_PROBLEMS_BYTES && !is_noted(&read->problems, line.data))
        myr_buffer_printf(&read->problems, "%s%s%s%s%s", read->problems.size ? "; " : "", line.data,
                          name ? SUCH_AS : "", name ? name : "", name ? "')" : "");
    myr_buffer_free(&line);
}

static void note_problem(reading *read, const char *kind, const char *what)
{
    note_problem_of(read, kind, what, NULL);
}

static myr_status no_memory(const reading *read)
{
    return myr_fail(MYR_ERR_NOMEM, "%s: no memory for the network", read->path);
}

/* The known_name of a name, made on first sight. NULL without memory. */
static known_name *find_name(reading *read, const char *name)
{
    known_name wanted = {.name = name};
    known_name **found = tfind(&wanted, &read->names, compare_entries);
    if (found)
        return *found;
    known_name *added = myr_alloc(1, sizeof *added);
    if (!added || myr_graph_add_value(read->graph, name, &added->value) != MYR_OK) {
        free(added);
        return NULL;
    }
    added->name = name;
    if (!tsearch(added, &read->names, compare_entries)) {
        free(added);
        return NULL;
    }
    return added;
}

static myr_status take_initializers(reading *read, const Onnx__GraphProto *from)
{
    for (size_t i = 0; i < from->n_initializer; i++) {
        const Onnx__TensorProto *tensor = from->initializer[i];
        const char *problem;
        if (!tensor->name)
            return myr_fail(MYR_ERR_FORMAT, "%s: a weight has no name", read->path);
        known_name *name = find_name(read, tensor->name);
        if (!name)
            return no_memory(read);
        if (name->is_made)
            return myr_fail(MYR_ERR_FORMAT, "%s: weight '%s' is there twice; the file is damaged", read->path,
                            tensor->name);
        name->is_made = true;
        myr_tensor *constant;
        myr_status status = myr_onnx_take_tensor(&read->origin, tensor, &constant, &problem);
        if (status != MYR_OK)
            return status;
        read->graph->values[name->value].constant = constant;
        if (problem)
            note_problem_of(read, "weights:", problem, tensor->name);
    }
    return MYR_OK;
}

/* The shape a value is declared with; rank 0 where none is. */
static myr_shape declared_shape(const Onnx__ValueInfoProto *info)
{
    myr_shape shape = {0};
    const Onnx__TypeProto__Tensor *tensor =
        info->type && info->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE ? info->type->tensor_type : NULL;
    if (!tensor || !tensor->shape || tensor->shape->n_dim > MYR_TENSOR_MAX_RANK)
        return shape;
    shape.rank = (int)tensor->shape->n_dim;
    for (int i = 0; i < shape.rank; i++) {
        const Onnx__TensorShapeProto__Dimension *dim = tensor->shape->dim[i];
        bool given = dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE && dim->dim_value > 0;
        shape.dims[i] = given ? dim->dim_value : -1;
    }
    return shape;
}

/* Element type an input is declared with; 0 where it is no tensor. */
static int32_t declared_type(const Onnx__ValueInfoProto *info)
{
    bool is_tensor =
        info->type && info->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE && info->type->tensor_type;
    return is_tensor ? info->type->tensor_type->elem_type : 0;
}

static bool has_too_many_dims(const Onnx__ValueInfoProto *info)
{
    return declared_type(info) != 0 && info->type->tensor_type->shape &&
           info->type->tensor_type->shape->n_dim > MYR_TENSOR_MAX_RANK;
}

/* Inputs that are no weights: files of IR version 3 list both. */
static myr_status take_inputs(reading *read, const Onnx__GraphProto *from)
{
    myr_graph *graph = read->graph;
    graph->inputs = myr_alloc(from->n_input, sizeof *graph->inputs);
    if (!graph->inputs)
        return no_memory(read);
    for (size_t i = 0; i < from->n_input; i++) {
        const Onnx__ValueInfoProto *info = from->input[i];
        if (!info->name)
            return myr_fail(MYR_ERR_FORMAT, "%s: an input has no name", read->path);
        known_name *name = find_name(read, info->name);
        if (!name)
            return no_memory(read);
        if (name->is_made)
            continue;
        name->is_made = true;
        int32_t type = declared_type(info);
        const myr_element *element = myr_element_by_number(type);
        if (!element)
            note_problem_of(read, "inputs:", "element type other than float, half, double, bool and whole numbers",
                            info->name);
        if (has_too_many_dims(info))
            note_problem_of(read, "inputs:", "more than 8 dimensions", info->name);
        graph->values[name->value].type = element ? element->type : MYR_TYPE_F32;
        graph->values[name->value].shape = declared_shape(info);
        if (graph->n_inputs == 0 && graph->values[name->value].shape.rank > 0)
            graph->file_batch = graph->values[name->value].shape.dims[0];
        graph->inputs[graph->n_inputs++] = name->value;
    }
    return MYR_OK;
}

static myr_status take_outputs(reading *read, const Onnx__GraphProto *from)
{
    myr_graph *graph = read->graph;
    graph->outputs = myr_alloc(from->n_output, sizeof *graph->outputs);
    if (!graph->outputs)
        return no_memory(read);
    for (size_t i = 0; i < from->n_output; i++) {
        known_name *name = from->output[i]->name ? find_name(read, from->output[i]->name) : NULL;
        if (!name || !name->is_made)
            return myr_fail(MYR_ERR_FORMAT, "%s: output '%s' is made by no node; the file is damaged", read->path,
                            from->output[i]->name ? from->output[i]->name : "");
        if (graph->values[name->value].shape.rank == 0)
            graph->values[name->value].shape = declared_shape(from->output[i]);
        graph->outputs[graph->n_outputs++] = name->value;
    }
    return graph->n_outputs > 0 ? MYR_OK : myr_fail(MYR_ERR_FORMAT, "%s: the graph has no output", read->path);
}

static char *copy_bytes(const ProtobufCBinaryData *bytes)
{
    char *text = myr_alloc(bytes->len + 1, 1);
    if (text && bytes->len > 0)
        memcpy(text, bytes->data, bytes->len);
    return text;
}

static myr_status take_attribute(reading *read, const Onnx__AttributeProto *from, myr_attribute *to)
{
    const char *problem = NULL;
    myr_tensor *tensor = NULL;
    myr_status status = MYR_OK;
    to->name = myr_strdup(from->name ? from->name : "");
    if (!to->name)
        return no_memory(read);
    switch (from->type) {
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT:
        to->type = MYR_ATTRIBUTE_INT;
        to->number = from->i;
        return MYR_OK;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT:
        to->type = MYR_ATTRIBUTE_FLOAT;
        to->real = from->f;
        return MYR_OK;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING:
        to->type = MYR_ATTRIBUTE_TEXT;
        to->text = copy_bytes(&from->s);
        return to->text ? MYR_OK : no_memory(read);
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS:
        to->type = MYR_ATTRIBUTE_INTS;
        to->n = from->n_ints;
        to->numbers = myr_alloc(from->n_ints, sizeof *to->numbers);
        if (to->numbers && from->n_ints)
            memcpy(to->numbers, from->ints, from->n_ints * sizeof *to->numbers);
        return to->numbers ? MYR_OK : no_memory(read);
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS:
        to->type = MYR_ATTRIBUTE_FLOATS;
        to->n = from->n_floats;
        to->reals = myr_alloc(from->n_floats, sizeof *to->reals);
        if (to->reals && from->n_floats)
            memcpy(to->reals, from->floats, from->n_floats * sizeof *to->reals);
        return to->reals ? MYR_OK : no_memory(read);
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR:
        to->type = from->t ? MYR_ATTRIBUTE_TENSOR : MYR_ATTRIBUTE_OTHER;
        if (from->t)
            status = myr_onnx_take_tensor(&read->origin, from->t, &tensor, &problem);
        if (problem)
            note_problem(read, "constants:", problem);
        if (status == MYR_OK && !tensor)
            to->type = MYR_ATTRIBUTE_OTHER;
        to->tensor = tensor;
        return status;
    default:
        to->type = MYR_ATTRIBUTE_OTHER;
        return MYR_OK;
    }
}

/* Graphs that compute in another width of float are computed in f32, so that casts between widths do nothing. */
static void widen_cast(myr_node *node)
{
    for (size_t i = 0; i < node->n_attributes; i++) {
        myr_attribute *to = &node->attributes[i];
        if (to->type == MYR_ATTRIBUTE_INT && strcmp(to->name, "to") == 0 && to->number > 0 && to->number <= INT32_MAX &&
            myr_element_is_real((int)to->number))
            to->number = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    }
}

/* Names of attribute types as the operators' tables write them. */
static const char *const type_names[] = {
    [MYR_ATTRIBUTE_INT] = "int",       [MYR_ATTRIBUTE_FLOAT] = "float",   [MYR_ATTRIBUTE_TEXT] = "text",
    [MYR_ATTRIBUTE_INTS] = "ints",     [MYR_ATTRIBUTE_FLOATS] = "floats", [MYR_ATTRIBUTE_TENSOR] = "tensor",
    [MYR_ATTRIBUTE_OTHER] = "another",
};

/* The type that an operator takes an attribute of this name in, as it stands in the list (format: operator.h), up to a
 * space; NULL where it takes none. */
static const char *wanted_type(const char *list, const char *name)
{
    size_t length = strcspn(name, ": ");
    if (name[length] != 0)
        return NULL;
    for (const char *at = list; *at; at = strchr(at, ' ') + 1)
        if (strncmp(at, name, length) == 0 && at[length] == ':')
            return at + length + 1;
    return NULL;
}

/* What this node asks for that is not supported, noted. */
static void find_problems(reading *read, const myr_node *node)
{
    const myr_operator *op = node->op;
    myr_buffer text = {0};
    for (size_t i = 0; i < node->n_attributes; i++) {
        const char *name = node->attributes[i].name, *type = type_names[node->attributes[i].type];
        const char *wanted = wanted_type(op->attributes, name);
        int length = wanted ? (int)strcspn(wanted, " ") : 0;
        if (wanted && strlen(type) == (size_t)length && strncmp(wanted, type, (size_t)length) == 0)
            continue;
        myr_buffer_clear(&text);
        myr_buffer_printf(&text, "%s of %s", name, op->name);
        if (wanted)
            myr_buffer_printf(&text, " with type %s, not %.*s", type, length, wanted);
        if (text.data)
            note_problem(read, "attribute", text.data);
    }
    const char *refused = op->refuse ? op->refuse(node, read->graph->opset) : NULL;
    myr_buffer_clear(&text);
    myr_buffer_printf(&text, "%s with %s", op->name, refused ? refused : "");
    if (refused && text.data)
        note_problem(read, "operator", text.data);
    myr_buffer_free(&text);
}

static myr_status connect(reading *read, const Onnx__NodeProto *from, myr_node *node)
{
    for (size_t i = 0; i < from->n_input; i++) {
        if (from->input[i][0] == 0)
            continue;
        known_name *name = find_name(read, from->input[i]);
        if (!name)
            return no_memory(read);
        if (!name->is_made)
            return myr_fail(MYR_ERR_FORMAT,
                            "%s: node '%s' uses '%s', which no node, input or weight makes; the file is damaged",
                            read->path, node->name, from->input[i]);
        node->inputs[i] = name->value;
    }
    for (size_t i = 0; i < from->n_output; i++) {
        if (from->output[i][0] == 0)
            continue;
        known_name *name = find_name(read, from->output[i]);
        if (!name)
            return no_memory(read);
        if (name->is_made)
            return myr_fail(MYR_ERR_FORMAT, "%s: node '%s' makes '%s', which is there already; the file is damaged",
                            read->path, node->name, from->output[i]);
        name->is_made = true;
        node->outputs[i] = name->value;
    }
    return MYR_OK;
}

static bool has_right_inputs(const myr_node *node)
{
    const myr_operator *op = node->op;
    bool right = node->n_inputs >= op->least_inputs && node->n_inputs <= op->most_inputs && node->n_outputs >= 1 &&
                 node->n_outputs <= op->most_outputs && node->outputs[0] >= 0;
    int n_needed = op->most_inputs == INT32_MAX ? node->n_inputs : op->least_inputs;
    for (int i = 0; i < n_needed && right; i++)
        right = node->inputs[i] >= 0;
    return right;
}

static myr_status take_node(reading *read, const Onnx__NodeProto *from)
{
    const char *type = from->op_type ? from->op_type : "", *domain = from->domain ? from->domain : "";
    const myr_operator *op = domain[0] == 0 || strcmp(domain, "ai.onnx") == 0 ? myr_operator_find(type) : NULL;
    myr_node *node;
    if (from->n_input > INT16_MAX || from->n_output > INT16_MAX)
        return myr_fail(MYR_ERR_FORMAT, "%s: node '%s' has %zu inputs and %zu outputs, more than any has", read->path,
                        myr_onnx_node_name(from), from->n_input, from->n_output);
    myr_status status =
        myr_graph_add_node(read->graph, myr_onnx_node_name(from), (int)from->n_input, (int)from->n_output, &node);
    if (status != MYR_OK)
        return status;
    node->attributes = myr_alloc(from->n_attribute, sizeof *node->attributes);
    if (!node->attributes)
        return no_memory(read);
    for (size_t i = 0; i < from->n_attribute && status == MYR_OK; i++) {
        node->n_attributes = i + 1;
        status = take_attribute(read, from->attribute[i], &node->attributes[i]);
    }
    if (status == MYR_OK)
        status = connect(read, from, node);
    if (status != MYR_OK)
        return status;
    if (!op) {
        note_problem(read, "operator", type);
        return MYR_OK;
    }
    node->op = op;
    if (strcmp(type, "Cast") == 0)
        widen_cast(node);
    if (!has_right_inputs(node))
        return myr_fail(MYR_ERR_FORMAT,
                        "%s: node '%s' (%s) has %d inputs and %d outputs, which are not its own; the file is damaged",
                        read->path, node->name, type, node->n_inputs, node->n_outputs);
    return MYR_OK;
}

static myr_status take_nodes(reading *read, const Onnx__GraphProto *from)
{
    size_t *order;
    myr_status status = myr_onnx_order(read->path, from, &order);
    for (size_t i = 0; i < from->n_node && status == MYR_OK; i++)
        status = take_node(read, from->node[order[i]]);
    free(order);
    return status;
}

/* Leaves out the outputs behind a node's first that nobody reads: exporters write the mask of a Dropout that does
 * nothing. */
static myr_status drop_unread(const reading *read)
{
    myr_graph *graph = read->graph;
    int *uses = myr_graph_count_uses(graph);
    if (!uses)
        return no_memory(read);
    for (size_t i = 0; i < graph->n_nodes; i++) {
        myr_node *node = &graph->nodes[i];
        for (int j = 1; j < node->n_outputs; j++)
            if (node->outputs[j] >= 0 && uses[node->outputs[j]] == 0)
                node->outputs[j] = MYR_NO_VALUE;
    }
    free(uses);
    return MYR_OK;
}

/* What the nodes ask for that is not supported, all of it. */
static myr_status check_nodes(reading *read)
{
    myr_status status = drop_unread(read);
    for (size_t i = 0; i < read->graph->n_nodes && status == MYR_OK; i++)
        if (read->graph->nodes[i].op)
            find_problems(read, &read->graph->nodes[i]);
    return status;
}

static myr_status take_opset(reading *read, const Onnx__ModelProto *model)
{
    for (size_t i = 0; i < model->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *set = model->opset_import[i];
        if (!set->domain || set->domain[0] == 0 || strcmp(set->domain, "ai.onnx") == 0)
            read->graph->opset = set->version;
    }
    if (read->graph->opset < LEAST_OPSET || read->graph->opset > MOST_OPSET)
        return myr_fail(MYR_ERR_UNSUPPORTED,
                        "%s: operator set %lld; %d to %d are supported: export it again with one of them", read->path,
                        (long long)read->graph->opset, LEAST_OPSET, MOST_OPSET);
    return MYR_OK;
}

static myr_status take_model(reading *read, const Onnx__ModelProto *model)
{
    if (!model->graph)
        return myr_fail(MYR_ERR_FORMAT, "%s: no ONNX model: there is no graph in it", read->path);
    myr_status status = myr_graph_create(&read->graph);
    if (status == MYR_OK)
        status = take_opset(read, model);
    if (status == MYR_OK && model->graph->n_sparse_initializer > 0)
        note_problem(read, "weights:", "sparse tensors");
    if (status == MYR_OK)
        status = take_initializers(read, model->graph);
    if (status == MYR_OK)
        status = take_inputs(read, model->graph);
    if (status == MYR_OK)
        status = take_nodes(read, model->graph);
    if (status == MYR_OK)
        status = take_outputs(read, model->graph);
    if (status == MYR_OK)
        status = check_nodes(read);
    if (status == MYR_OK && read->problems.size > 0)
        status = myr_fail(MYR_ERR_UNSUPPORTED, "%s: not supported: %s", read->path, read->problems.data);
    return status;
}

static myr_status unpack(const reading *read, const void *bytes, size_t n_bytes, Onnx__ModelProto **model)
{
    size_t n_parts = MOST_PARTS;
    *model = NULL;
    myr_wire_fault fault = n_bytes > 0
                               ? myr_wire_check(&onnx__model_proto__descriptor, bytes, n_bytes, MAX_NESTING, &n_parts)
                               : MYR_WIRE_FINE;
    if (fault == MYR_WIRE_DEEP)
        return myr_fail(MYR_ERR_LIMIT, "%s: its messages are nested more than %d deep", read->path, MAX_NESTING);
    if (fault == MYR_WIRE_MANY)
        return myr_fail(MYR_ERR_LIMIT, "%s: it has more than %zu nodes, names and attributes", read->path, MOST_PARTS);
    if (n_bytes == 0 || !(*model = onnx__model_proto__unpack(NULL, n_bytes, bytes)))
        return myr_fail(MYR_ERR_FORMAT, "%s: no ONNX model, or a damaged one", read->path);
    return MYR_OK;
}

/* The graph of a model, which is freed, as is what was needed for reading. status: MYR_OK where there is a model. */
static myr_status finish(reading *read, Onnx__ModelProto *model, myr_status status, myr_graph **graph, char **producer)
{
    if (status == MYR_OK)
        status = take_model(read, model);
    if (status == MYR_OK) {
        *producer = myr_strdup(model->producer_name ? model->producer_name : "");
        status = *producer ? MYR_OK : no_memory(read);
    }
    if (read->origin.external) {
        char digest[MYR_SHA256_TEXT];
        myr_sha256_finish(read->origin.external, digest);
        memcpy(read->graph->external_sha256, digest, sizeof digest);
    }
    tdestroy(read->names, free);
    myr_buffer_free(&read->problems);
    if (model)
        onnx__model_proto__free_unpacked(model, NULL);
    if (status == MYR_OK)
        *graph = read->graph;
    else
        myr_graph_free(read->graph);
    return status;
}

myr_status myr_onnx_parse(const char *name, const void *bytes, size_t n_bytes, myr_graph **graph, char **producer)
{
    reading read = {.path = name, .origin = {.path = name}};
    Onnx__ModelProto *model;
    *graph = NULL;
    *producer = NULL;
    myr_status status = unpack(&read, bytes, n_bytes, &model);
    return finish(&read, model, status, graph, producer);
}

myr_status myr_onnx_read(const char *path, myr_graph **graph, char **producer)
{
    reading read = {.path = path, .origin = {.path = path, .is_file = true}};
    Onnx__ModelProto *model = NULL;
    myr_buffer bytes = {0};
    *graph = NULL;
    *producer = NULL;
    myr_status status = myr_file_read(path, MAX_FILE_BYTES, &bytes);
    if (status == MYR_OK)
        status = unpack(&read, bytes.data, bytes.size, &model);
    myr_buffer_free(&bytes); /* what is large stands in the model now */
    return finish(&read, model, status, graph, producer);
}

myr_status myr_onnx_read_tensor(const char *path, myr_tensor **tensor)
{
    myr_onnx_origin origin = {.path = path};
    myr_buffer bytes = {0};
    const char *problem = NULL;
    *tensor = NULL;
    myr_status status = myr_file_read(path, MAX_FILE_BYTES, &bytes);
    if (status != MYR_OK)
        return status;
    Onnx__TensorProto *from = onnx__tensor_proto__unpack(NULL, bytes.size, (const uint8_t *)bytes.data);
    myr_buffer_free(&bytes);
    if (!from)
        return myr_fail(MYR_ERR_FORMAT, "%s: no ONNX tensor, or a damaged one", path);
    status = myr_onnx_take_tensor(&origin, from, tensor, &problem);
    if (problem)
        status = myr_fail(MYR_ERR_UNSUPPORTED, "%s: %s", path, problem);
    onnx__tensor_proto__free_unpacked(from, NULL);
    return status;
}
