/*
 * The families that are left out, each by the names of its operators.
 */
#include "onnx_summary.h"

#include "base/buffer.h"
#include "base/file.h"
#include "onnx.pb-c.h"

#include <stdio.h>
#include <string.h>

/* Networks that turn a picture, or a caption, into numbers have none of these. */
static const struct family {
    const char *name, *operators; /* each with a space on both sides */
} families[] = {
    {"training", " Adagrad Adam Gradient Momentum NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss "},
    {"text", " StringNormalizer TfIdfVectorizer "},
    {"random numbers", " Bernoulli RandomNormal RandomUniform RandomNormalLike RandomUniformLike Multinomial "},
    {"sequences and optional values",
     " SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap "
     "ConcatFromSequence SplitToSequence OptionalGetElement OptionalHasElement Optional "},
    {"recurrent layers", " GRU LSTM RNN "},
    {"control flow", " If Loop Scan "},
    {"quantised layers", " ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul "
                         "QuantizeLinear "},
    {"audio", " BlackmanWindow DFT HammingWindow HannWindow MelWeightMatrix STFT "},
    {"types chosen at run time", " CastLike "},
    {"bits of unsigned numbers", " BitShift "},
    {"determinants", " Det "},
};

static const char *family_of(const char *operator)
{
    char wanted[128];
    snprintf(wanted, sizeof wanted, " %s ", operator);
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strstr(families[i].operators, wanted))
            return families[i].name;
    return NULL;
}

static void note_operator(onnx_summary *summary, const char *name)
{
    size_t length = strlen(summary->operators);
    if (!strstr(summary->operators, name) && length + strlen(name) + 3 < sizeof summary->operators)
        snprintf(summary->operators + length, sizeof summary->operators - length, "%s%s", length ? ", " : "", name);
    if (!summary->outside)
        summary->outside = family_of(name);
}

/* Of inputs and outputs, and of what Cast makes. */
static void note_type(onnx_summary *summary, int32_t type)
{
    summary->has_halves = summary->has_halves || type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16;
    /* 14 and 15 are complex, 16 is bfloat16, those above have 8 bits or fewer. */
    if (type == ONNX__TENSOR_PROTO__DATA_TYPE__STRING || type > 13)
        summary->outside = "text, complex and very short element types";
}

static void note_value(onnx_summary *summary, const Onnx__ValueInfoProto *info)
{
    const Onnx__TypeProto *type = info->type;
    if (type && type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE && type->tensor_type)
        note_type(summary, type->tensor_type->elem_type);
    else if (!summary->outside)
        summary->outside = "sequences and optional values";
}

bool onnx_summarise(const char *path, onnx_summary *summary)
{
    myr_buffer bytes = {0};
    *summary = (onnx_summary){.outside = NULL};
    if (myr_file_read(path, (size_t)1 << 30, &bytes) != MYR_OK)
        return false;
    Onnx__ModelProto *model = onnx__model_proto__unpack(NULL, bytes.size, (const uint8_t *)bytes.data);
    myr_buffer_free(&bytes);
    if (!model || !model->graph) {
        if (model)
            onnx__model_proto__free_unpacked(model, NULL);
        return false;
    }
    const Onnx__GraphProto *graph = model->graph;
    for (size_t i = 0; i < graph->n_node; i++) {
        note_operator(summary, graph->node[i]->op_type);
        for (size_t j = 0; j < graph->node[i]->n_attribute && strcmp(graph->node[i]->op_type, "Cast") == 0; j++)
            if (strcmp(graph->node[i]->attribute[j]->name, "to") == 0)
                note_type(summary, (int32_t)graph->node[i]->attribute[j]->i);
    }
    for (size_t i = 0; i < graph->n_input; i++)
        note_value(summary, graph->input[i]);
    for (size_t i = 0; i < graph->n_output; i++)
        note_value(summary, graph->output[i]);
    onnx__model_proto__free_unpacked(model, NULL);
    return true;
}
