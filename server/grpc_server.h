// GrpcServer: the gRPC listener with its services, health and reflection, and its limits.
#ifndef BARAM_SERVER_GRPC_SERVER_H_
#define BARAM_SERVER_GRPC_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/steady_time.h"
#include "server/grpc_acceptor.h"
#include "server/grpc_service.h"

namespace baram::server {

// Owned by Server. Listen, Shutdown and the destructor by whoever starts and stops it; the rest
// from any thread.
class GrpcServer {
 public:
  // Binds config.grpc_listen and serves, config.max_connections at once. The error names the
  // address and what to change.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Listen(Serving& serving, Lifecycle& lifecycle,
                                                            CallLog& log, const Config& config);
  // The first step of Listen, to find out early whether it can succeed. The error is Listen's.
  static absl::StatusOr<std::unique_ptr<GrpcAcceptor>> BindListener(const Config& config);
  ~GrpcServer();

  // What grpc.health.v1 answers: `live` for "liveness", `ready` for "", "readiness" and the
  // services; "startup" is true from the first `ready` on. Also beside and after Shutdown.
  void SetHealth(bool ready, bool live);

  // From now on clients are told to make their next calls on another connection, which a balancer
  // may give to another server; whoever calls all the same is answered. From any thread.
  void SendAway() { acceptor_->SendAway(); }
  // Refuses new calls, waits for those that run, cancels them at `deadline`; returns when all have
  // ended.
  void Shutdown(SteadyTime deadline);

  // "127.0.0.1:50051", with the port that was bound.
  const std::string& address() const { return address_; }
  // Open now.
  int64_t connections() const { return acceptor_->connections(); }

 private:
  GrpcServer(Serving& serving, Lifecycle& lifecycle, CallLog& log);

  InferenceService inference_;
  OperatorService operator_;
  std::string address_;
  std::unique_ptr<GrpcAcceptor> acceptor_;  // outlives the server it feeds
  std::mutex mutex_;  // guards what follows, but for Listen and Shutdown's own use of it
  std::unique_ptr<grpc::Server> server_;
  std::optional<std::pair<bool, bool>> health_;  // as it was set last
};

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_SERVER_H_
