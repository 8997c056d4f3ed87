// The gRPC half of the status contract.
#include "server/grpc_status.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/errors.h"

namespace baram::server {

grpc::Status ToGrpc(const absl::Status& status, grpc::CallbackServerContext& context) {
  if (status.ok()) return grpc::Status::OK;
  const ErrorFacts facts = FactsOf(status);
  const std::string message(status.message());

  google::rpc::Status details;
  details.set_code(static_cast<int>(status.code()));
  details.set_message(message);
  if (!facts.field.empty()) {
    google::rpc::BadRequest bad_request;
    auto* violation = bad_request.add_field_violations();
    violation->set_field(facts.field);
    violation->set_description(message);
    details.add_details()->PackFrom(bad_request);
  }
  if (!facts.reason.empty()) {
    google::rpc::ErrorInfo info;
    info.set_reason(facts.reason);
    info.set_domain("baram");
    details.add_details()->PackFrom(info);
  }
  if (facts.retry_ms >= 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(facts.retry_ms / 1000);
    retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(facts.retry_ms % 1000) * 1'000'000);
    details.add_details()->PackFrom(retry);
  }
  if (facts.retry_ms >= 0 || absl::IsResourceExhausted(status)) {
    context.AddTrailingMetadata("grpc-retry-pushback-ms", absl::StrCat(facts.retry_ms));
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message,
                      details.SerializeAsString());
}

}  // namespace baram::server
