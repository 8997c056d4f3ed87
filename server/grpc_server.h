// GrpcServer: the gRPC listener with its services, health and reflection, and its limits.
#ifndef BARAM_SERVER_GRPC_SERVER_H_
#define BARAM_SERVER_GRPC_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/steady_time.h"
#include "server/grpc_acceptor.h"
#include "server/grpc_health.h"
#include "server/grpc_reflection.h"
#include "server/grpc_service.h"
#include "server/listening_sockets.h"
#include "server/unread_answers.h"

namespace baram::server {

// Owned by Server. Listen, Shutdown and the destructor are for the owner's thread; the rest is
// thread-safe.
class GrpcServer {
 public:
  // Serves the connections to `sockets`, config.max_connections at once, besides `max_closing` that
  // are being closed to make room.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Listen(ListeningSockets sockets,
                                                            Serving& serving, Lifecycle& lifecycle,
                                                            CallLog& log, const Config& config,
                                                            int32_t max_closing);
  ~GrpcServer();

  // What grpc.health.v1 answers, see GrpcHealth. May be called during and after Shutdown.
  void SetHealth(bool ready, bool live) { health_.Set(ready, live); }

  // From now on clients are asked to make their next calls on another connection, which a load
  // balancer may route to another server; calls that come here anyway are answered. Thread-safe.
  void SendAway() { acceptor_.SendAway(); }
  // Refuses new calls, ends health watches and streams of reflection, waits for other running calls
  // and cancels them at `deadline`; returns when all have ended.
  void Shutdown(SteadyTime deadline);

  // "127.0.0.1:50051", with the port actually bound.
  const std::string& address() const { return address_; }
  // Currently open.
  int64_t connections() const { return acceptor_.connections(); }

 private:
  GrpcServer(ListeningSockets sockets, Serving& serving, Lifecycle& lifecycle, CallLog& log);

  // How many of the largest answers may wait for their readers.
  static constexpr int64_t kLargestUnread = 16;

  UnreadAnswers unread_;
  InferenceService inference_;
  UnreadAnswers operator_unread_;  // its own, so that operators' calls survive the others'
  OperatorService operator_;
  GrpcHealth health_;
  GrpcReflection reflection_;
  const std::string address_;
  GrpcAcceptor acceptor_;  // outlives the server it feeds
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_SERVER_H_
