// The messages of gRPC calls as bytes. gRPC would parse them on the threads that read connections,
// whatever they hold, and keep them until their calls end.
#ifndef BARAM_SERVER_GRPC_WIRE_H_
#define BARAM_SERVER_GRPC_WIRE_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <string>

#include "absl/status/status.h"

namespace baram::server {

// Fields with all they contain: as many as JSON may have strings, arrays and objects. Each takes up
// to a hundred bytes and microseconds, whatever it takes on the wire.
inline constexpr int kMaxParts = 1 << 18;
// More than any call without a text has to say.
inline constexpr size_t kSmallMessageBytes = 64 << 10;

// Takes the message that gRPC passes to a callback. It gets a pointer to const, but the object is
// not const, and gRPC does not look at it again.
grpc::ByteBuffer TakeMessage(const grpc::ByteBuffer* message);

// Whether ParseMessage takes a millisecond at most: the message is small, or has few fields for its
// size.
bool ParsesQuickly(const grpc::ByteBuffer& bytes, const google::protobuf::Descriptor& type);

// Parses `*from`, which is then empty. ResourceExhausted, reason BODY_TOO_LARGE: more than
// `max_bytes`. InvalidArgument, reason INVALID_BODY: more than kMaxParts, or no such message.
absl::Status ParseMessage(grpc::ByteBuffer* from, size_t max_bytes,
                          google::protobuf::Message* message);

// A string field of a message that is not parsed yet; empty if it is absent, or if it can't be
// found quickly.
std::string StringField(const grpc::ByteBuffer& bytes, int field);

grpc::ByteBuffer Serialized(const google::protobuf::Message& message);

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_WIRE_H_
