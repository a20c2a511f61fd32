/*
 * Walking protobuf's wire format with the descriptors of the generated code.
 * Source: protobuf.dev, "Encoding".
 */
#include "nn/wire.h"

enum { VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5 };

static bool take_varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 64 && *at < end; shift += 7) {
        uint8_t byte = *(*at)++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

myr_wire_fault myr_wire_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t n_bytes,
                              int depth, size_t *n_parts)
{
    const uint8_t *at = bytes, *end = bytes + n_bytes;
    if (depth == 0)
        return MYR_WIRE_DEEP;
    while (at < end) {
        uint64_t tag, value = 0;
        if (!take_varint(&at, end, &tag))
            return MYR_WIRE_FINE;
        unsigned kind = tag & 7;
        if (kind == VARINT || kind == LENGTH) {
            if (!take_varint(&at, end, &value))
                return MYR_WIRE_FINE;
        } else {
            value = kind == FIXED64 ? 8 : 4;
        }
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(descriptor, (unsigned)(tag >> 3));
        if ((kind == LENGTH || !field) && (*n_parts)-- == 0)
            return MYR_WIRE_MANY;
        if (kind == VARINT)
            continue;
        if ((kind != LENGTH && kind != FIXED64 && kind != FIXED32) || value > (size_t)(end - at))
            return MYR_WIRE_FINE;
        myr_wire_fault fault = MYR_WIRE_FINE;
        if (kind == LENGTH && field && field->type == PROTOBUF_C_TYPE_MESSAGE)
            fault = myr_wire_check(field->descriptor, at, value, depth - 1, n_parts);
        if (fault != MYR_WIRE_FINE)
            return fault;
        at += value;
    }
    return MYR_WIRE_FINE;
}
