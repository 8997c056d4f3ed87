// GrpcAcceptor: accepts connections for gRPC and hands them over, limiting how many are open at
// once. gRPC itself has no such limit.
#ifndef BARAM_SERVER_GRPC_ACCEPTOR_H_
#define BARAM_SERVER_GRPC_ACCEPTOR_H_

#include <grpcpp/server_builder.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "server/http2_guard.h"
#include "server/listening_sockets.h"

namespace baram::server {

// gRPC owns the descriptors handed to it. A duplicate of each stays here, to notice when the
// connection ends: before gRPC closes its own descriptor it shuts the socket down in both
// directions, which every duplicate sees. So a connection costs two descriptors.
class GrpcAcceptor {
 public:
  explicit GrpcAcceptor(ListeningSockets listeners);
  // Call after gRPC's server has shut down. Closes what is left.
  ~GrpcAcceptor();

  // Call before the server is built: it takes its connections from here.
  void Register(grpc::ServerBuilder& builder);
  // Call after the server was built: accepts until Stop, at most `max_connections` at once. For a
  // further one the oldest that has not started a call is closed; gRPC may still be closing up to
  // `max_closing` of those. If there is none, the new one is closed without a reply, which clients
  // see as UNAVAILABLE, and so are those that break a rule of Http2Guard. For each that is closed
  // `refused` is called on this object's thread with the reason: kTooManyConnections,
  // kNoDescriptors or one of those below.
  absl::Status Start(int32_t max_connections, int32_t max_closing, const Http2Limits& limits,
                     std::function<void(const char* reason)> refused);
  // From now on each client is asked (GOAWAY) to make its next calls on another connection: clients
  // connected now at once, later ones with their first call. Running calls continue. Thread-safe;
  // takes effect soon.
  void SendAway();
  // Call before the server is shut down: refuses new connections; open ones stay open.
  void Stop();

  static constexpr char kHeadersTooLarge[] = "HEADERS_TOO_LARGE";
  static constexpr char kTooManyResets[] = "TOO_MANY_RESETS";
  static constexpr char kTooManyStreams[] = "TOO_MANY_STREAMS";
  static constexpr char kTooManyHalfSent[] = "TOO_MANY_HALF_SENT";
  static constexpr char kTooManyFrames[] = "TOO_MANY_FRAMES";

  // Currently open.
  int64_t connections() const { return connections_.load(std::memory_order_relaxed); }

 private:
  void Loop();
  void Wake() const;
  void TellAll();
  absl::Status Watch(int fd, uint32_t events) const;
  // kDone: also if nobody came. kTooMany: this connection or, for it, another was closed.
  enum class Accepted : uint8_t { kDone, kTooMany, kNoDescriptors };
  Accepted Accept(int listener);  // requires mutex_
  bool IsListener(int fd) const;
  bool MakeRoom();  // false: all have started a call
  void Forget(int duplicate);

  // -1 if the system gave none: Start fails.
  const int epoll_, wake_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> intake_;  // gRPC's
  int32_t max_connections_ = 0, max_closing_ = 0;
  Http2Limits limits_;
  std::function<void(const char* reason)> refused_;
  std::atomic<int64_t> connections_{0};
  std::atomic<bool> sending_away_{false};

  struct Watched {
    int duplicate, fd;  // ours and gRPC's
  };
  std::mutex mutex_;  // guards what follows
  bool closing_ = false;
  bool told_ = false;             // GOAWAY was requested for all that were connected
  ListeningSockets listeners_;    // empty once stopped
  std::vector<Watched> watched_;  // the oldest first

  std::thread thread_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_ACCEPTOR_H_
