// Detail: reads the machine-readable facts of a gRPC status.
#ifndef BARAM_TESTS_SERVER_GRPC_DETAIL_H_
#define BARAM_TESTS_SERVER_GRPC_DETAIL_H_

#include <grpcpp/grpcpp.h>

#include <optional>
#include <string>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace baram::testing {

// The detail of type T in a status, if any.
template <typename T>
std::optional<T> Detail(const grpc::Status& status) {
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  for (const auto& any : details.details()) {
    T detail;
    if (any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

// The reason of its ErrorInfo, or "".
inline std::string Reason(const grpc::Status& status) {
  const auto info = Detail<google::rpc::ErrorInfo>(status);
  return info ? info->reason() : "";
}

}  // namespace baram::testing

#endif  // BARAM_TESTS_SERVER_GRPC_DETAIL_H_
