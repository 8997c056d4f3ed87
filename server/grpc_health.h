// GrpcHealth: grpc.health.v1, in bounded memory. gRPC's own service keeps the parsed request of
// each watch as long as the watch lasts, and any number of watches.
#ifndef BARAM_SERVER_GRPC_HEALTH_H_
#define BARAM_SERVER_GRPC_HEALTH_H_

#include <grpcpp/server_context.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_set>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/unread_answers.h"

namespace baram::server {

using RawHealth = grpc::health::v1::Health::WithRawCallbackMethod_Check<
    grpc::health::v1::Health::WithRawCallbackMethod_Watch<grpc::health::v1::Health::Service>>;

// Thread-safe. Must outlive the gRPC server it is registered with.
class GrpcHealth final : public RawHealth {
 public:
  // Over all connections, or one for each if there may be more. What gRPC keeps for a call can be
  // 150 KB, with much metadata: less than half of its memory, beyond which it ends calls of any
  // client. Beyond it a connection's watch makes room for that of one which has fewer.
  static constexpr size_t kLeastWatches = 1024;
  // The names are short; a longer one is not known.
  static constexpr size_t kMaxRequestBytes = 1024;

  // A Check whose answer is not read for `slow_reader_s` is ended.
  GrpcHealth(double slow_reader_s, int32_t max_connections)
      : slow_reader_s_(slow_reader_s),
        max_watches_(std::max(kLeastWatches, static_cast<size_t>(max_connections))) {}

  // `ready` is the status of "", "readiness" and the services, `live` of "liveness"; "startup"
  // stays true after the first `ready`. Watchers get what has changed.
  void Set(bool ready, bool live);
  // Ends every watch, also later ones, with UNAVAILABLE: only their clients would.
  void EndWatches();

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  // Of a name that is not known, SERVICE_UNKNOWN is all that is ever sent.
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Watch(grpc::CallbackServerContext* context,
                                                    const grpc::ByteBuffer* request) override;

 private:
  class Watcher;
  using Status = grpc::health::v1::HealthCheckResponse::ServingStatus;
  // What the status of a name depends on.
  enum class Of : uint8_t { kReady, kLive, kStarted, kNothing };

  static Of Meaning(std::string_view service);
  Status StatusOf(Of of) const;  // requires mutex_
  // Ends a watch of the connection that has most, if `peer` has fewer even with one more. Requires
  // mutex_.
  bool MakeRoom(const std::string& peer);

  const double slow_reader_s_;
  const size_t max_watches_;
  // Their own, so that probes survive floods of other calls.
  UnreadAnswers unread_{/*max_bytes=*/1 << 20};
  std::mutex mutex_;  // guards what follows, and the watchers
  bool ready_ = false, live_ = false, started_ = false;
  bool ended_ = false;
  std::unordered_set<Watcher*> watchers_;  // until gRPC has ended their calls
  size_t watching_ = 0;                    // of these, those that are not about to end
};

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_HEALTH_H_
