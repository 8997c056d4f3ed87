// PeerOf: a gRPC client's address in the form that log lines of HTTP calls use.
#ifndef BARAM_SERVER_GRPC_PEER_H_
#define BARAM_SERVER_GRPC_PEER_H_

#include <grpcpp/server_context.h>

#include <string>

#include "absl/strings/str_replace.h"

namespace baram::server {

// "10.0.0.7:51234", "[fd00::7]:51234". gRPC reports a URI: "ipv6:%5Bfd00::7%5D:51234".
inline std::string PeerOf(const grpc::ServerContextBase& context) {
  std::string peer = context.peer();
  for (const char* scheme : {"ipv4:", "ipv6:"}) {
    if (peer.starts_with(scheme)) peer.erase(0, 5);
  }
  return absl::StrReplaceAll(peer, {{"%5B", "["}, {"%5D", "]"}});
}

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_PEER_H_
