// What reflection answers: see the header.
#include "server/grpc_descriptions.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <grpcpp/support/status.h>

#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace baram::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using grpc::reflection::v1::ExtensionRequest;
using grpc::reflection::v1::FileDescriptorResponse;
using grpc::reflection::v1::ServerReflectionRequest;
using grpc::reflection::v1::ServerReflectionResponse;

const DescriptorPool& Linked() { return *DescriptorPool::generated_pool(); }

void SetError(grpc::StatusCode code, const std::string& sentence, ServerReflectionResponse* out) {
  out->mutable_error_response()->set_error_code(code);
  out->mutable_error_response()->set_error_message(sentence);
}

void SetUnknown(const char* what, ServerReflectionResponse* out) {
  SetError(grpc::StatusCode::NOT_FOUND, absl::StrCat("This server has no such ", what, "."), out);
}

// The file, then what it imports, directly or not, each once.
void AddFiles(const FileDescriptor& file, std::unordered_set<const FileDescriptor*>& added,
              FileDescriptorResponse* out) {
  if (!added.insert(&file).second) return;
  google::protobuf::FileDescriptorProto described;
  file.CopyTo(&described);
  out->add_file_descriptor_proto(described.SerializeAsString());
  for (int i = 0; i < file.dependency_count(); ++i) AddFiles(*file.dependency(i), added, out);
}

// `file` may be null.
void SetFile(const FileDescriptor* file, const char* what, ServerReflectionResponse* out) {
  if (file == nullptr) return SetUnknown(what, out);
  std::unordered_set<const FileDescriptor*> added;
  AddFiles(*file, added, out->mutable_file_descriptor_response());
}

const FileDescriptor* FileOf(const ExtensionRequest& wanted) {
  const Descriptor* const type = Linked().FindMessageTypeByName(wanted.containing_type());
  if (type == nullptr) return nullptr;
  const FieldDescriptor* const extension =
      Linked().FindExtensionByNumber(type, wanted.extension_number());
  return extension == nullptr ? nullptr : extension->file();
}

void SetExtensionNumbers(const std::string& name, ServerReflectionResponse* out) {
  const Descriptor* const type = Linked().FindMessageTypeByName(name);
  if (type == nullptr) return SetUnknown("message", out);
  std::vector<const FieldDescriptor*> extensions;
  Linked().FindAllExtensions(type, &extensions);
  auto* const numbers = out->mutable_all_extension_numbers_response();
  numbers->set_base_type_name(type->full_name());
  for (const FieldDescriptor* const extension : extensions) {
    numbers->add_extension_number(extension->number());
  }
}

}  // namespace

ServerReflectionResponse Describe(ServerReflectionRequest request,
                                  const std::vector<std::string>& services) {
  request.DiscardUnknownFields();
  ServerReflectionResponse response;
  response.set_valid_host(request.host());
  switch (request.message_request_case()) {
    case ServerReflectionRequest::kFileByFilename:
      SetFile(Linked().FindFileByName(request.file_by_filename()), "file", &response);
      break;
    case ServerReflectionRequest::kFileContainingSymbol:
      SetFile(Linked().FindFileContainingSymbol(request.file_containing_symbol()), "symbol",
              &response);
      break;
    case ServerReflectionRequest::kFileContainingExtension:
      SetFile(FileOf(request.file_containing_extension()), "extension", &response);
      break;
    case ServerReflectionRequest::kAllExtensionNumbersOfType:
      SetExtensionNumbers(request.all_extension_numbers_of_type(), &response);
      break;
    case ServerReflectionRequest::kListServices:
      for (const std::string& name : services) {
        response.mutable_list_services_response()->add_service()->set_name(name);
      }
      break;
    case ServerReflectionRequest::MESSAGE_REQUEST_NOT_SET:
      SetError(grpc::StatusCode::INVALID_ARGUMENT, "The request asks for nothing.", &response);
      break;
  }
  *response.mutable_original_request() = std::move(request);
  return response;
}

}  // namespace baram::server
