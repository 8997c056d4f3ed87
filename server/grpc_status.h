// The gRPC half of the status contract: errors as statuses with google.rpc details.
#ifndef BARAM_SERVER_GRPC_STATUS_H_
#define BARAM_SERVER_GRPC_STATUS_H_

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"

namespace baram::server {

// The status to finish a call with. Details (BadRequest, ErrorInfo, RetryInfo) travel in
// grpc-status-details-bin, and grpc-retry-pushback-ms is added to the context's trailing metadata:
// a delay where a retry can succeed, -1 where the client's retry policy must not retry.
grpc::Status ToGrpc(const absl::Status& status, grpc::CallbackServerContext& context);

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_STATUS_H_
