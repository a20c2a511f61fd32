/*
 * A look at a protobuf message before it is unpacked: protobuf-c's unpacker recurses without a limit, so that a hostile
 * file could exhaust the stack, and makes a hundred bytes of memory of two bytes in the file, so that it could exhaust
 * that too.
 */
#ifndef MYR_NN_WIRE_H
#define MYR_NN_WIRE_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

typedef enum myr_wire_fault { MYR_WIRE_FINE, MYR_WIRE_DEEP, MYR_WIRE_MANY } myr_wire_fault;

/*
 * myr_wire_check - whether messages in the message are nested at most `depth` deep, and have at most *n_parts parts
 * that take memory of their own: messages, texts, and fields that the descriptor does not know.
 *
 *  n_parts  [in, out]  what is left of it on return
 *
 * Damaged bytes count as fine: unpacking finds them.
 */
myr_wire_fault myr_wire_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t n_bytes,
                              int depth, size_t *n_parts);

#endif
