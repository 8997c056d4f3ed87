// Messages as bytes: see the header.
#include "server/grpc_wire.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/slice.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors.h"

namespace baram::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

// Reads past the value of a field. The fields of a group are left to be read as if they were the
// message's own.
bool Skip(CodedInputStream& input, uint32_t tag) {
  switch (WireFormatLite::GetTagWireType(tag)) {
    case WireFormatLite::WIRETYPE_START_GROUP:
    case WireFormatLite::WIRETYPE_END_GROUP:
      return true;
    default:
      return WireFormatLite::SkipField(&input, tag);
  }
}

// Takes the fields of a message, as far as it is one, from `*left`; false once that is negative.
// No deeper than messages of this type are: without a type, bytes are a value.
bool CountParts(CodedInputStream& input, const Descriptor& type, int* left) {
  while (const uint32_t tag = input.ReadTag()) {
    if (--*left < 0) return false;
    const FieldDescriptor* const field =
        type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    const bool is_message =
        field != nullptr && field->message_type() != nullptr &&
        WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
    if (!is_message) {
      if (!Skip(input, tag)) break;
      continue;
    }
    int size = 0;
    if (!input.ReadVarintSizeAsInt(&size)) break;
    const CodedInputStream::Limit outside = input.PushLimit(size);
    if (!CountParts(input, *field->message_type(), left)) return false;
    // Whatever is no message ends the parsing; until then it counts as a value.
    if (!input.Skip(input.BytesUntilLimit())) break;
    input.PopLimit(outside);
  }
  return true;
}

bool HasAtMost(int parts, const grpc::ByteBuffer& bytes, const Descriptor& type) {
  grpc::ByteBuffer copy(bytes);  // of references: the reader wants one that is not const
  grpc::ProtoBufferReader reader(&copy);
  CodedInputStream input(&reader);
  return CountParts(input, type, &parts);
}

}  // namespace

grpc::ByteBuffer TakeMessage(const grpc::ByteBuffer* message) {
  grpc::ByteBuffer taken;
  taken.Swap(const_cast<grpc::ByteBuffer*>(message));
  return taken;
}

bool ParsesQuickly(const grpc::ByteBuffer& bytes, const Descriptor& type) {
  constexpr size_t kSmallBytes = 8 << 10, kQuickBytes = 64 << 10;
  constexpr int kFewParts = 1024;
  if (bytes.Length() <= kSmallBytes) return true;
  return bytes.Length() <= kQuickBytes && HasAtMost(kFewParts, bytes, type);
}

absl::Status ParseMessage(grpc::ByteBuffer* from, size_t max_bytes,
                          google::protobuf::Message* message) {
  grpc::ByteBuffer bytes;
  bytes.Swap(from);
  const Descriptor& type = *message->GetDescriptor();
  if (bytes.Length() > max_bytes) {
    return WithFacts(absl::ResourceExhaustedError(
                         absl::StrCat("The message has ", bytes.Length(),
                                      " bytes, but this method takes at most ", max_bytes, ".")),
                     {.reason = "BODY_TOO_LARGE"});
  }
  if (!HasAtMost(kMaxParts, bytes, type)) {
    return InvalidBody(
        absl::StrCat("The message has more than ", kMaxParts, " fields in all; send fewer."));
  }
  if (!bytes.Valid()) return absl::OkStatus();  // an empty one
  grpc::ProtoBufferReader reader(&bytes);
  if (message->ParseFromZeroCopyStream(&reader)) return absl::OkStatus();
  message->Clear();
  return InvalidBody(absl::StrCat("The message is not a ", type.full_name(),
                                  ", or has a text that is not valid UTF-8."));
}

std::string StringField(const grpc::ByteBuffer& bytes, int field) {
  grpc::ByteBuffer copy(bytes);
  grpc::ProtoBufferReader reader(&copy);
  CodedInputStream input(&reader);
  const uint32_t wanted = WireFormatLite::MakeTag(field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
  std::string value;
  for (int left = kMaxParts; left > 0; --left) {
    const uint32_t tag = input.ReadTag();
    if (tag == 0) return value;
    if (tag == wanted ? !WireFormatLite::ReadBytes(&input, &value) : !Skip(input, tag)) break;
  }
  return "";
}

grpc::ByteBuffer Serialized(const google::protobuf::Message& message) {
  const grpc::Slice slice(message.ByteSizeLong());
  message.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  return {&slice, 1};
}

}  // namespace baram::server
