// What the context of a gRPC call says, and the call's log line.
#ifndef BARAM_SERVER_GRPC_CONTEXT_H_
#define BARAM_SERVER_GRPC_CONTEXT_H_

#include <grpcpp/server_context.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "engine/steady_time.h"
#include "server/call_log.h"

namespace baram::server {

// The client's address in the form that log lines of HTTP calls use: "10.0.0.7:51234",
// "[fd00::7]:51234".
std::string PeerOf(const grpc::ServerContextBase& context);

// Of the client's metadata, and of the initial metadata that echo the id.
inline constexpr char kRequestIdKey[] = "x-request-id";
// The client's id; one of ours in place of an invalid one, as with the HTTP header: proxies write
// it, and the client can't fix it. Empty without the key.
std::string RequestIdOf(const grpc::ServerContextBase& context);

// What the client's metadata takes, as the limit on it counts: 32 bytes are added to each entry.
int64_t MetadataBytes(const grpc::ServerContextBase& context);

// The time left until the client's deadline in seconds, or nullopt if it set none.
std::optional<double> TimeLeft(const grpc::ServerContextBase& context);

// A call from its arrival to its log line. One thread at a time, except as stated.
class LoggedCall {
 public:
  // Both references and the context must outlive it. The request id is that of the metadata.
  LoggedCall(CallLog& log, const char* method, const grpc::ServerContextBase& context);

  SteadyTime arrival() const { return arrival_; }
  // Everything but the code, the error's facts and the time.
  CallRecord& record() { return record_; }
  const CallRecord& record() const { return record_; }
  // What the call ends with; the last one counts.
  void SetStatus(const absl::Status& status) { status_ = status; }
  // Call when gRPC reports the cancellation, from any thread: whether the client's deadline was the
  // cause. Decided once, since the deadline may pass before OnDone.
  bool IsCutByDeadline();
  // Call in OnDone: writes the log line. A call whose answer was not sent completely was cancelled,
  // or too late.
  void Record();

 private:
  CallLog& log_;
  const grpc::ServerContextBase& context_;
  const SteadyTime arrival_;
  CallRecord record_;
  absl::Status status_;
  enum class Cut : uint8_t { kNot, kByClient, kByDeadline };
  std::atomic<Cut> cut_{Cut::kNot};
};

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_CONTEXT_H_
