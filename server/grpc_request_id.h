// The request id in the metadata of a gRPC call.
#ifndef BARAM_SERVER_GRPC_REQUEST_ID_H_
#define BARAM_SERVER_GRPC_REQUEST_ID_H_

#include <grpcpp/server_context.h>

#include <string>

#include "server/request_id.h"

namespace baram::server {

// Of the client's metadata, and of the initial metadata that echo the id.
inline constexpr char kRequestIdKey[] = "x-request-id";

// The client's id; one of ours in place of an invalid one, as with the HTTP header: proxies write
// it, and the client can't fix it. Empty without the key.
inline std::string RequestIdOf(const grpc::ServerContextBase& context) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find(kRequestIdKey);
  if (found == metadata.end()) return "";
  std::string id(found->second.data(), found->second.size());
  return IsRequestId(id) ? id : NewRequestId();
}

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_REQUEST_ID_H_
