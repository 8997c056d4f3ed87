// Messages of gRPC methods that receive bytes: measured before they are parsed, and not kept.
#ifndef BARAM_SERVER_GRPC_RAW_H_
#define BARAM_SERVER_GRPC_RAW_H_

#include <google/protobuf/message_lite.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstddef>

#include "absl/status/status.h"

namespace baram::server {

// The request, which is empty afterwards: gRPC keeps the object until the end of the call. gRPC's
// callbacks get a pointer to const, but the object is not const and is not looked at again.
grpc::ByteBuffer TakeBytes(const grpc::ByteBuffer* request);

// Parses the message in `bytes`, which are released in any case. RESOURCE_EXHAUSTED if they are
// more than `max_bytes`, before anything is parsed: two bytes can take about 60 once parsed.
absl::Status ParseSmall(grpc::ByteBuffer* bytes, size_t max_bytes,
                        google::protobuf::MessageLite* message);

grpc::ByteBuffer ToBytes(const google::protobuf::MessageLite& message);

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_RAW_H_
