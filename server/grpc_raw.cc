// Messages of raw gRPC methods: see the header.
#include "server/grpc_raw.h"

#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/slice.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace baram::server {

grpc::ByteBuffer TakeBytes(const grpc::ByteBuffer* request) {
  grpc::ByteBuffer bytes;
  bytes.Swap(const_cast<grpc::ByteBuffer*>(request));
  return bytes;
}

absl::Status ParseSmall(grpc::ByteBuffer* bytes, size_t max_bytes,
                        google::protobuf::MessageLite* message) {
  grpc::ByteBuffer taken;
  taken.Swap(bytes);
  if (!taken.Valid()) return absl::InvalidArgumentError("The call has no message.");
  if (const size_t length = taken.Length(); length > max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "The message has ", length, " bytes, but this method takes at most ", max_bytes, "."));
  }
  grpc::ProtoBufferReader reader(&taken);
  if (!message->ParseFromZeroCopyStream(&reader)) {
    return absl::InvalidArgumentError(
        absl::StrCat("The message is not a valid ", message->GetTypeName(), "."));
  }
  return absl::OkStatus();
}

grpc::ByteBuffer ToBytes(const google::protobuf::MessageLite& message) {
  const std::string bytes = message.SerializeAsString();
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace baram::server
