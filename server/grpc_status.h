// The gRPC half of the status contract: errors as statuses with google.rpc details.
#ifndef BARAM_SERVER_GRPC_STATUS_H_
#define BARAM_SERVER_GRPC_STATUS_H_

#include <grpcpp/grpcpp.h>

#include <optional>

#include "absl/status/status.h"

namespace baram::server {

// The status to finish a call with. Details (BadRequest, ErrorInfo, RetryInfo) travel in
// grpc-status-details-bin, and grpc-retry-pushback-ms is added to the context's trailing metadata:
// a pause where a retry can work, -1 where a client's retry policy must be kept from trying.
grpc::Status ToGrpc(const absl::Status& status, grpc::CallbackServerContext& context);

// What is left of the client's time in seconds, or nothing if it named no deadline.
std::optional<double> TimeLeft(const grpc::CallbackServerContext& context);
// Whether the call's own deadline cancelled it: gRPC and the client end it then, too. A client's
// clock may be a moment ahead.
bool PastDeadline(const grpc::CallbackServerContext& context);

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_STATUS_H_
