// GrpcHealth: see the header.
#include "server/grpc_health.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "server/grpc_endings.h"
#include "server/grpc_status.h"
#include "server/grpc_wire.h"

namespace baram::server {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

absl::Status TooManyWatches(size_t most) {
  constexpr int64_t kRetryMs = 10'000;
  return WithFacts(
      absl::ResourceExhaustedError(absl::StrCat(
          "This server has ", most, " health watches, its limit: use Check, or try again later.")),
      {.reason = "TOO_MANY_WATCHES", .retry_ms = kRetryMs});
}

// A Check whose answer is on its way. Owns itself until gRPC has called OnDone.
class Answered final : public grpc::ServerUnaryReactor {
 public:
  Answered(grpc::CallbackServerContext* context, const absl::Status& status, UnreadAnswers& unread,
           double slow_reader_s)
      : unread_(context) {
    unread_.Begin(unread, /*bytes=*/0, slow_reader_s);
    Finish(ToGrpc(status, *context));
  }
  void OnDone() override {
    (void)unread_.Over();
    delete this;
  }

 private:
  UnreadCall unread_;
};

}  // namespace

// A watch of one name. At most one message is on its way; after it the latest status counts. Owns
// itself until gRPC has called OnDone. gRPC calls none of the reactions within the calls made here,
// so those may hold the lock.
class GrpcHealth::Watcher final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  Watcher(GrpcHealth& health, grpc::CallbackServerContext* context, Of of)
      : health_(health), context_(context), peer_(context->peer()), of_(of) {}

  // Its connection.
  const std::string& peer() const { return peer_; }

  // Requires the mutex.
  void Advance() {
    if (writing_ || finished_) return;
    if (end_) {
      finished_ = true;
      return Finish(*end_);
    }
    const Status status = health_.StatusOf(of_);
    if (status == sent_) return;
    sent_ = status;
    HealthCheckResponse message;
    message.set_status(status);
    message_ = Serialized(message);
    writing_ = true;
    StartWrite(&message_);
  }
  // Requires the mutex. Whether it ends, or is to end.
  bool ends() const { return end_.has_value(); }
  // Requires the mutex.
  void End(const grpc::Status& status) {
    if (!end_) {
      end_ = status;
      --health_.watching_;
    }
    Advance();
  }
  // The same, if need be without the status, which waits for what the client does not read.
  // Requires the mutex.
  void CutOff(const grpc::Status& status) {
    End(status);
    if (writing_) context_->TryCancel();
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(health_.mutex_);
    writing_ = false;
    if (!ok) return End(grpc::Status::CANCELLED);
    Advance();
  }
  void OnCancel() override {
    std::lock_guard lock(health_.mutex_);
    End(grpc::Status::CANCELLED);
  }
  void OnDone() override {
    {
      std::lock_guard lock(health_.mutex_);
      health_.watchers_.erase(this);
    }
    delete this;
  }

 private:
  GrpcHealth& health_;
  grpc::CallbackServerContext* const context_;
  const std::string peer_;
  const Of of_;
  grpc::ByteBuffer message_;  // the last one
  std::optional<Status> sent_;
  std::optional<grpc::Status> end_;
  bool writing_ = false, finished_ = false;
};

void GrpcHealth::Set(bool ready, bool live) {
  std::lock_guard lock(mutex_);
  ready_ = ready;
  live_ = live;
  started_ = started_ || ready;
  for (Watcher* const watcher : watchers_) watcher->Advance();
}

void GrpcHealth::EndWatches() {
  std::lock_guard lock(mutex_);
  ended_ = true;
  const grpc::Status status(grpc::StatusCode::UNAVAILABLE, std::string(GoingDown().message()));
  for (Watcher* const watcher : watchers_) watcher->End(status);
}

grpc::ServerUnaryReactor* GrpcHealth::Check(grpc::CallbackServerContext* context,
                                            const grpc::ByteBuffer* request,
                                            grpc::ByteBuffer* response) {
  grpc::ByteBuffer bytes = TakeMessage(request);
  HealthCheckRequest question;
  absl::Status status = ParseMessage(&bytes, kMaxRequestBytes, &question);
  if (status.ok()) {
    HealthCheckResponse answer;
    {
      std::lock_guard lock(mutex_);
      answer.set_status(StatusOf(Meaning(question.service())));
    }
    if (answer.status() == HealthCheckResponse::SERVICE_UNKNOWN) {
      status = absl::NotFoundError("This server has no service of this name.");
    } else {
      *response = Serialized(answer);
    }
  }
  return new Answered(context, status, unread_, slow_reader_s_);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* GrpcHealth::Watch(grpc::CallbackServerContext* context,
                                                              const grpc::ByteBuffer* request) {
  grpc::ByteBuffer bytes = TakeMessage(request);
  HealthCheckRequest question;
  absl::Status status = ParseMessage(&bytes, kMaxRequestBytes, &question);
  if (status.ok()) {
    std::lock_guard lock(mutex_);
    if (ended_) {
      status = GoingDown();
    } else if (watching_ >= max_watches_ && !MakeRoom(context->peer())) {
      status = TooManyWatches(max_watches_);
    } else {
      auto* const watcher = new Watcher(*this, context, Meaning(question.service()));
      ++watching_;
      watchers_.insert(watcher);
      watcher->Advance();
      return watcher;
    }
  }
  return new Refused<grpc::ServerWriteReactor<grpc::ByteBuffer>>(ToGrpc(status, *context));
}

bool GrpcHealth::MakeRoom(const std::string& peer) {
  std::map<std::string_view, size_t> watches;  // by connection
  for (const Watcher* const watcher : watchers_) {
    if (!watcher->ends()) ++watches[watcher->peer()];
  }
  const auto most = std::ranges::max_element(
      watches, {}, [](const auto& connection) { return connection.second; });
  if (most == watches.end() || most->second <= watches[peer] + 1) return false;
  const auto victim = std::ranges::find_if(watchers_, [&](const Watcher* watcher) {
    return !watcher->ends() && watcher->peer() == most->first;
  });
  const absl::Status status = TooManyWatches(max_watches_);
  (*victim)->CutOff({grpc::StatusCode::RESOURCE_EXHAUSTED, std::string(status.message())});
  return true;
}

GrpcHealth::Of GrpcHealth::Meaning(std::string_view service) {
  for (const char* const name : {"", "readiness", "baram.v1.Inference", "baram.v1.Operator"}) {
    if (service == name) return Of::kReady;
  }
  if (service == "liveness") return Of::kLive;
  if (service == "startup") return Of::kStarted;
  return Of::kNothing;
}

GrpcHealth::Status GrpcHealth::StatusOf(Of of) const {
  if (of == Of::kNothing) return HealthCheckResponse::SERVICE_UNKNOWN;
  const bool serving = of == Of::kReady ? ready_ : of == Of::kLive ? live_ : started_;
  return serving ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

}  // namespace baram::server
