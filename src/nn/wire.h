/*
 * A look at the nesting of a protobuf message before it is unpacked: protobuf-c's
 * unpacker recurses without a limit, and a hostile file could exhaust the stack.
 */
#ifndef MYR_NN_WIRE_H
#define MYR_NN_WIRE_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

/* Whether messages in the message are nested at most `depth` deep. Damaged bytes count as shallow: unpacking finds
 * them. */
bool myr_wire_is_shallow(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t n_bytes, int depth);

#endif
