// gRPC contexts and log lines: see the header.
#include "server/grpc_context.h"

#include <grpc/support/time.h>

#include <chrono>

#include "absl/strings/str_replace.h"
#include "server/request_id.h"

namespace baram::server {

std::string PeerOf(const grpc::ServerContextBase& context) {
  std::string peer = context.peer();  // a URI: "ipv6:%5Bfd00::7%5D:51234"
  for (const char* scheme : {"ipv4:", "ipv6:"}) {
    if (peer.starts_with(scheme)) peer.erase(0, 5);
  }
  return absl::StrReplaceAll(peer, {{"%5B", "["}, {"%5D", "]"}});
}

std::string RequestIdOf(const grpc::ServerContextBase& context) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find(kRequestIdKey);
  if (found == metadata.end()) return "";
  std::string id(found->second.data(), found->second.size());
  return IsRequestId(id) ? id : NewRequestId();
}

int64_t MetadataBytes(const grpc::ServerContextBase& context) {
  constexpr size_t kEntryBytes = 32;
  size_t bytes = 0;
  for (const auto& [key, value] : context.client_metadata()) {
    bytes += key.size() + value.size() + kEntryBytes;
  }
  return static_cast<int64_t>(bytes);
}

std::optional<double> TimeLeft(const grpc::ServerContextBase& context) {
  // Not deadline(), which is wall-clock time: a deadline centuries ahead, as Go clients send, wraps
  // to the past.
  const gpr_timespec deadline = context.raw_deadline();
  if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0) return std::nullopt;
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  return static_cast<double>(left.tv_sec) + 1e-9 * left.tv_nsec;
}

LoggedCall::LoggedCall(CallLog& log, const char* method, const grpc::ServerContextBase& context)
    : log_(log), context_(context), arrival_(std::chrono::steady_clock::now()) {
  record_.method = method;
  record_.peer = PeerOf(context);
  record_.request_id = RequestIdOf(context);
}

// gRPC and the client also end a call at its deadline. The client's clock may be slightly ahead.
bool LoggedCall::IsCutByDeadline() {
  constexpr double kMomentS = 0.05;
  const bool late = TimeLeft(context_).value_or(1) <= kMomentS;
  Cut undecided = Cut::kNot;
  cut_.compare_exchange_strong(undecided, late ? Cut::kByDeadline : Cut::kByClient);
  return cut_.load() == Cut::kByDeadline;
}

void LoggedCall::Record() {
  // An error says why the client went without an answer, unless it is that the client has gone.
  if (context_.IsCancelled() && (status_.ok() || absl::IsCancelled(status_))) {
    status_ = IsCutByDeadline() ? absl::DeadlineExceededError("") : absl::CancelledError();
  }
  record_.code = absl::StatusCodeToString(status_.code());
  if (!status_.ok()) record_.SetError(status_);
  record_.total_s = SecondsSince(arrival_);
  log_.Record(record_);
}

}  // namespace baram::server
